//! What became of a command: the payload of ACK and ERROR.

use super::message::Kind;
use crate::{
    control::keys::{SaAnswer, SaResult},
    flow::{FlowMod, OfpError},
    frame::NoRoom,
    openflow::error_name,
    stats::ControlError,
    wire::{control3 as wire, sa::ANSWER_LEN},
};
use zerocopy::{
    FromBytes, IntoBytes,
    network_endian::{U16, U64},
};

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Refusal {
    /// An OpenFlow error, as type and code ([`OfpError::wire`]).
    OpenFlow(u16, u16),
    /// An error of the control protocol.
    Control(Reason),
    /// A command about a security association could not be carried out.
    Association(SaResult),
}

/// Errors of the control protocol that a controller is told. What is not authentic is not answered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u16)]
pub enum Reason {
    /// Another controller with a higher epoch has taken over.
    StaleEpoch = 1,
    /// A command before this one has not arrived.
    OutOfOrder,
    /// The command before this one was refused, and this one is chained to it.
    Skipped,
    /// The payload is too short, too long, or not of its form.
    Length,
    /// A value out of its range.
    Data,
    /// SET_ENTRY with a DELETE command, or DELETE_ENTRY with another one.
    Command,
    /// A key that is not wrapped, or not by this vNIC's control key.
    Key,
    /// The vNIC takes no keys.
    KeysRefused,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::StaleEpoch,
        Self::OutOfOrder,
        Self::Skipped,
        Self::Length,
        Self::Data,
        Self::Command,
        Self::Key,
        Self::KeysRefused,
    ];

    /// The snake_case name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StaleEpoch => "stale_epoch",
            Self::OutOfOrder => "out_of_order",
            Self::Skipped => "skipped",
            Self::Length => "length",
            Self::Data => "data",
            Self::Command => "command",
            Self::Key => "key",
            Self::KeysRefused => "keys_refused",
        }
    }
}

impl Refusal {
    /// How the refusal is answered; `None`: not at all.
    pub const fn of(error: ControlError) -> Option<Self> {
        Some(Self::Control(match error {
            ControlError::StaleEpoch => Reason::StaleEpoch,
            ControlError::OutOfOrder => Reason::OutOfOrder,
            ControlError::Skipped => Reason::Skipped,
            ControlError::Length => Reason::Length,
            ControlError::Data => Reason::Data,
            ControlError::Command => Reason::Command,
            ControlError::KeyWrap => Reason::Key,
            ControlError::KeysRefused => Reason::KeysRefused,
            _ => return None,
        }))
    }

    const fn to_wire(self) -> (u8, u16, u16) {
        match self {
            Self::OpenFlow(kind, code) => (1, kind, code),
            Self::Control(reason) => (2, 0, reason as u16),
            Self::Association(result) => (3, 0, result as u16),
        }
    }

    fn from_wire(class: u8, kind: u16, code: u16) -> Option<Self> {
        match (class, kind) {
            (1, _) => Some(Self::OpenFlow(kind, code)),
            (2, 0) => Reason::ALL.into_iter().find(|reason| *reason as u16 == code).map(Self::Control),
            (3, 0) => SaResult::ALL.into_iter().find(|result| *result as u16 == code).map(Self::Association),
            _ => None,
        }
    }
}

impl From<OfpError> for Refusal {
    fn from(error: OfpError) -> Self {
        let (kind, code) = error.wire();
        Self::OpenFlow(kind, code)
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::OpenFlow(kind, code) => write!(f, "{} (type {kind}, code {code})", error_name(*kind, *code)),
            Self::Control(reason) => f.write_str(reason.name()),
            Self::Association(result) => f.write_str(result.name()),
        }
    }
}

/// The answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Type of the command.
    pub command: Kind,
    /// Why it was refused; `None`: it was carried out.
    pub refusal: Option<Refusal>,
    /// Priority of the entry that the command is about, else 0.
    pub priority: u16,
    /// Its cookie, else 0.
    pub cookie: u64,
    /// The vNIC's epoch.
    pub epoch: u64,
    /// The last command of that epoch that it has decided on.
    pub executed: u64,
    /// About the association, in the answer to a SET_SA that was read.
    pub association: Option<SaAnswer>,
}

impl Answer {
    /// The answer to a command of this type, carried out or not.
    pub const fn new(command: Kind, refusal: Option<Refusal>) -> Self {
        Self { command, refusal, priority: 0, cookie: 0, epoch: 0, executed: 0, association: None }
    }

    /// The same, about an entry.
    pub const fn about(mut self, flow: &FlowMod) -> Self {
        self.priority = flow.priority;
        self.cookie = flow.cookie;
        self
    }

    /// ACK or ERROR.
    pub const fn kind(&self) -> Kind {
        if self.refusal.is_some() { Kind::Error } else { Kind::Ack }
    }

    /// Reads the payload of an ACK or ERROR, `kind`.
    ///
    /// # Errors
    /// `Length` for another length, `Data` for a type that is no command, a class or code that is not known, or an ACK
    /// with one.
    pub fn parse(kind: Kind, payload: &[u8]) -> Result<Self, ControlError> {
        let (fixed, rest) = wire::Answer::ref_from_prefix(payload).map_err(|_| ControlError::Length)?;
        let command = Kind::from_wire(fixed.command).filter(|kind| kind.is_command()).ok_or(ControlError::Data)?;
        let refusal = match (fixed.class, fixed.kind.get(), fixed.code.get()) {
            (0, 0, 0) => None,
            (class, kind, code) => Some(Refusal::from_wire(class, kind, code).ok_or(ControlError::Data)?),
        };
        let association = match rest {
            [] => None,
            rest if command == Kind::SetSa => Some(SaAnswer::parse(rest)?),
            _ => return Err(ControlError::Length),
        };
        let answer = Self {
            command,
            refusal,
            priority: fixed.priority.get(),
            cookie: fixed.cookie.get(),
            epoch: fixed.epoch.get(),
            executed: fixed.executed.get(),
            association,
        };
        if answer.kind() == kind { Ok(answer) } else { Err(ControlError::Data) }
    }

    /// Writes the payload; returns its length.
    ///
    /// # Errors
    /// `NoRoom`; 64 bytes are always enough.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let (class, kind, code) = self.refusal.map_or((0, 0, 0), Refusal::to_wire);
        let fixed = wire::Answer {
            command: self.command as u8,
            class,
            kind: U16::new(kind),
            code: U16::new(code),
            priority: U16::new(self.priority),
            cookie: U64::new(self.cookie),
            epoch: U64::new(self.epoch),
            executed: U64::new(self.executed),
        };
        let (head, rest) = out.split_at_mut_checked(size_of::<wire::Answer>()).ok_or(NoRoom)?;
        fixed.write_to(head).map_err(|_| NoRoom)?;
        let Some(association) = &self.association else { return Ok(size_of::<wire::Answer>()) };
        rest.get_mut(..ANSWER_LEN).ok_or(NoRoom)?.copy_from_slice(&association.to_bytes());
        Ok(size_of::<wire::Answer>().saturating_add(ANSWER_LEN))
    }
}
