//! Delivery of security associations over protocol version 2: SET_SA and its answer, an extension of ours.
//!
//! The keys travel in clear, so a vNIC takes them only when it was told to ([`crate::Cvsw::accept_keys_in_clear`]).
//! The session only carries these messages; another delivery can take this module's place.

use crate::{
    crypto::{DEFAULT_WINDOW, KeyMaterial, SaConfig, SaError, SaState, Suite},
    flow::Direction,
    frame::NoRoom,
    stats::ControlError,
    wire::sa as wire,
};
use zerocopy::{
    FromBytes, IntoBytes,
    network_endian::{U16, U32, U64},
};

/// A SET_SA.
#[derive(Clone, Debug)]
pub struct SetSa {
    /// Chosen by the controller; comes back in the answer.
    pub transaction: u32,
    /// What is to be done.
    pub command: SaCommand,
}

/// What a controller wants with a vNIC's associations.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "transient, and there is no allocator to box it with")]
pub enum SaCommand {
    /// Add one, or replace the sending one with this id. Lifetimes are the controller's business and not sent.
    Add(SaConfig, KeyMaterial),
    /// Remove the one with this id.
    Remove {
        /// The id.
        id: u32,
    },
    /// Report about the one with this id.
    Query {
        /// The id.
        id: u32,
    },
    /// Set whether frames of a network may travel encrypted only.
    Require {
        /// The network.
        vni: u32,
        /// Whether encryption is required.
        on: bool,
    },
    /// Remove all.
    Flush,
}

/// What became of a [`SetSa`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaAnswer {
    /// Of the command.
    pub transaction: u32,
    /// Operation number of the command.
    pub operation: u8,
    /// Id in the command.
    pub id: u32,
    /// Whether it was carried out.
    pub result: SaResult,
    /// State, SPI and packets of the association with this id, if there is one now.
    pub association: Option<(SaState, u32, u64)>,
    /// Boot generation of the vNIC: another one than before means that it was restarted.
    pub generation: u64,
}

/// Whether a [`SetSa`] was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum SaResult {
    /// It was.
    Done = 0,
    /// The vNIC takes no keys in clear.
    KeysRefused,
    /// An association with this id, direction and SPI is there already (the answer to the first message was lost).
    Present,
    /// No association has this id.
    NotFound,
    /// No room.
    Full,
    /// The vNIC cannot compute this suite.
    Unsupported,
    /// Anything else, see [`SaError`].
    Refused,
}

impl SaResult {
    /// All results.
    pub const ALL: [Self; 7] = [
        Self::Done,
        Self::KeysRefused,
        Self::Present,
        Self::NotFound,
        Self::Full,
        Self::Unsupported,
        Self::Refused,
    ];

    /// The snake_case name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::KeysRefused => "keys_refused",
            Self::Present => "present",
            Self::NotFound => "not_found",
            Self::Full => "full",
            Self::Unsupported => "unsupported",
            Self::Refused => "refused",
        }
    }
}

impl From<SaError> for SaResult {
    fn from(error: SaError) -> Self {
        match error {
            SaError::Full => Self::Full,
            SaError::NotFound => Self::NotFound,
            SaError::Cipher(_) => Self::Unsupported,
            _ => Self::Refused,
        }
    }
}

impl SetSa {
    /// Reads the body of a SET_SA.
    ///
    /// # Errors
    /// `Length` if the body is not as long as it says, or holds a key where none belongs; `Data` for an unknown
    /// operation, suite or flag, or a key of the wrong length for its suite.
    pub fn parse(body: &[u8]) -> Result<Self, ControlError> {
        let (command, key) = wire::Command::ref_from_prefix(body).map_err(|_| ControlError::Length)?;
        if key.len() != usize::from(command.key_len.get()) || command.pad != 0 {
            return Err(ControlError::Length);
        }
        let id = command.id.get();
        let on = command.flags & wire::FLAG_ON != 0;
        let parsed = match command.operation {
            wire::operation::ADD => return Self::parse_add(command, key),
            wire::operation::REMOVE => SaCommand::Remove { id },
            wire::operation::QUERY => SaCommand::Query { id },
            wire::operation::REQUIRE => SaCommand::Require { vni: id, on },
            wire::operation::FLUSH => SaCommand::Flush,
            _ => return Err(ControlError::Data),
        };
        let flags = if matches!(parsed, SaCommand::Require { .. }) { wire::FLAG_ON } else { 0 };
        if !key.is_empty() {
            return Err(ControlError::Length);
        }
        let message = Self { transaction: command.transaction.get(), command: parsed };
        // What has no meaning here must not be there, so that it can get one later.
        let plain = message.header();
        if command.flags & !flags != 0 || plain.as_bytes() != command.as_bytes() {
            return Err(ControlError::Data);
        }
        Ok(message)
    }

    fn parse_add(command: &wire::Command, key: &[u8]) -> Result<Self, ControlError> {
        let suite = Suite::from_number(command.suite).ok_or(ControlError::Data)?;
        let key = KeyMaterial::new(suite, key).map_err(|_| ControlError::Data)?;
        if command.flags & !(wire::FLAG_ON | wire::FLAG_EXTENDED) != 0 {
            return Err(ControlError::Data);
        }
        let direction = if command.flags & wire::FLAG_ON != 0 { Direction::Tx } else { Direction::Rx };
        let config = SaConfig {
            extended_sequence: command.flags & wire::FLAG_EXTENDED != 0,
            window: match command.window.get() {
                0 => DEFAULT_WINDOW,
                window => window,
            },
            ..SaConfig::new(command.id.get(), direction, command.spi.get(), command.destination)
        };
        Ok(Self { transaction: command.transaction.get(), command: SaCommand::Add(config, key) })
    }

    /// Writes the body; returns its length.
    ///
    /// # Errors
    /// `NoRoom`; 24 bytes and [`crate::crypto::MAX_KEY_MATERIAL`] are always enough.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let (header, rest) = out.split_at_mut_checked(wire::COMMAND_LEN).ok_or(NoRoom)?;
        self.header().write_to(header).map_err(|_| NoRoom)?;
        let SaCommand::Add(_, key) = &self.command else { return Ok(wire::COMMAND_LEN) };
        let mut len = 0usize;
        for part in [key.cipher_key(), &key.salt(), key.mac_key()] {
            let end = len.saturating_add(part.len());
            rest.get_mut(len..end).ok_or(NoRoom)?.copy_from_slice(part);
            len = end;
        }
        Ok(wire::COMMAND_LEN.saturating_add(len))
    }

    fn header(&self) -> wire::Command {
        let mut header = wire::Command {
            operation: self.command.operation(),
            suite: 0,
            flags: 0,
            pad: 0,
            transaction: U32::new(self.transaction),
            id: U32::new(self.command.id()),
            spi: U32::ZERO,
            destination: [0; 4],
            window: U16::ZERO,
            key_len: U16::ZERO,
        };
        match &self.command {
            SaCommand::Add(config, key) => {
                header.suite = key.suite() as u8;
                header.flags = match config.direction {
                    Direction::Tx => wire::FLAG_ON,
                    Direction::Rx => 0,
                };
                if config.extended_sequence {
                    header.flags |= wire::FLAG_EXTENDED;
                }
                header.spi = U32::new(config.spi);
                header.destination = config.destination;
                header.window = U16::new(config.window);
                header.key_len = U16::new(key.suite().key_material_len() as u16);
            }
            SaCommand::Require { on: true, .. } => header.flags = wire::FLAG_ON,
            _ => {}
        }
        header
    }
}

impl SaCommand {
    /// The number in the message.
    pub const fn operation(&self) -> u8 {
        match self {
            Self::Add(..) => wire::operation::ADD,
            Self::Remove { .. } => wire::operation::REMOVE,
            Self::Query { .. } => wire::operation::QUERY,
            Self::Require { .. } => wire::operation::REQUIRE,
            Self::Flush => wire::operation::FLUSH,
        }
    }

    /// The id (or VNI) in the message.
    pub const fn id(&self) -> u32 {
        match self {
            Self::Add(config, _) => config.id,
            Self::Remove { id } | Self::Query { id } | Self::Require { vni: id, .. } => *id,
            Self::Flush => 0,
        }
    }
}

/// States by their number in an answer, from 1.
const STATES: [SaState; 5] =
    [SaState::Active, SaState::Aging, SaState::Expired, SaState::Exhausted, SaState::Stale];

impl SaAnswer {
    /// Reads the body of an answer.
    ///
    /// # Errors
    /// `Length` if the body has another length, `Data` for an unknown result or state.
    pub fn parse(body: &[u8]) -> Result<Self, ControlError> {
        let answer = wire::Answer::ref_from_bytes(body).map_err(|_| ControlError::Length)?;
        let result = SaResult::ALL.into_iter().find(|result| *result as u8 == answer.result);
        let association = match usize::from(answer.state).checked_sub(1) {
            None => None,
            Some(index) => {
                let state = STATES.get(index).copied().ok_or(ControlError::Data)?;
                Some((state, answer.spi.get(), answer.packets.get()))
            }
        };
        Ok(Self {
            transaction: answer.transaction.get(),
            operation: answer.operation,
            id: answer.id.get(),
            result: result.ok_or(ControlError::Data)?,
            association,
            generation: answer.generation.get(),
        })
    }

    /// The body.
    pub fn to_bytes(&self) -> [u8; wire::ANSWER_LEN] {
        let (state, spi, packets) = self.association.map_or((0, 0, 0), |(state, spi, packets)| {
            let number = STATES.iter().zip(1..).find_map(|(known, number)| (*known == state).then_some(number));
            (number.unwrap_or(0), spi, packets)
        });
        let answer = wire::Answer {
            operation: self.operation,
            result: self.result as u8,
            state,
            pad: 0,
            transaction: U32::new(self.transaction),
            id: U32::new(self.id),
            spi: U32::new(spi),
            generation: U64::new(self.generation),
            packets: U64::new(packets),
        };
        zerocopy::transmute!(answer)
    }
}
