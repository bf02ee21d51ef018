//! `OFPT_FLOW_MOD`, and Nicira's `NXT_FLOW_MOD` for the matches that the first cannot say.

use super::{
    EncodeError, Header,
    action::{encode_actions, read_actions},
    check_header,
    matching::{decode_match, encode_match, wire_is_exact},
    nxm,
    writer::{Writer, header},
};
use crate::{
    flow::{
        Action, Command, FLAG_CHECK_OVERLAP, FLAG_EMERG, FLAG_SEND_FLOW_REM, FlowMod, Match, OFPP_NONE, OfpError,
        normalize::unmet,
    },
    frame::NoRoom,
    wire::openflow::{NO_BUFFER, NXT_FLOW_MOD, NxFlowMod, OfpFlowMod, OfpVendor, VENDOR_NICIRA, msg},
};
use zerocopy::{
    FromBytes,
    network_endian::{U16, U32, U64},
};

/// Decodes a whole `OFPT_FLOW_MOD` or `NXT_FLOW_MOD` message (header included; `message` is exactly as long as its
/// header says).
///
/// Follows the specification with Open vSwitch's reading. In an `OFPT_FLOW_MOD`, fields without their prerequisites
/// are wildcarded, and a match without any wildcard gets priority 65535; in an `NXT_FLOW_MOD` the first is an error
/// and the second does not happen. `buffer_id` is ignored: a vNIC buffers nothing. So are the `out_port` of a command
/// that is no DELETE, and the actions of a DELETE (but they must be well-formed).
///
/// # Errors
/// - `BadVersion`, `BadMessageType`, `BadLength`: the header is not that of an OpenFlow 1.0 flow mod, or the message
///   is not as long as it says, or its action list is not a multiple of 8 bytes.
/// - `BadVendor`, `BadSubtype`: another vendor's message, or another one of Nicira's.
/// - `NxmInvalid` and the other `Nxm` errors: the match of an `NXT_FLOW_MOD`.
/// - `BadCommand`: unknown command.
/// - `BadEmergTimeout`, `TableFull`: an emergency entry with and without timeouts; there is no room for any.
/// - `BadFlags`: an unknown flag.
/// - `BadActionType` (this includes the Geneve, NVGRE, STT and SCLP actions of the CVSW protocol),
///   `BadActionLength`, `BadActionVendor`, `BadActionVendorType`, `BadArgument`, `TooManyActions`: the actions.
pub fn decode_flow_mod(message: &[u8]) -> Result<FlowMod, OfpError> {
    let mut flow = FlowMod::default();
    decode_flow_mod_into(message, &mut flow)?;
    Ok(flow)
}

/// The same into a flow mod that is there already, for callers with little stack. What it says after an error means
/// nothing.
///
/// # Errors
/// Those of [`decode_flow_mod`].
pub fn decode_flow_mod_into(message: &[u8], flow: &mut FlowMod) -> Result<(), OfpError> {
    if Header::read(message).is_some_and(|header| header.kind == msg::VENDOR) {
        decode_nxt_flow_mod(message, flow)
    } else {
        decode_ofpt_flow_mod(message, flow)
    }
}

// Out of line, as the other: what one message's match has on the stack the other's need not.
#[inline(never)]
fn decode_ofpt_flow_mod(message: &[u8], flow: &mut FlowMod) -> Result<(), OfpError> {
    check_header(message, msg::FLOW_MOD)?;
    let (fixed, actions) = OfpFlowMod::ref_from_prefix(message).map_err(|_| OfpError::BadLength)?;
    flow.matching = decode_match(&fixed.matching);
    let attributes = Attributes {
        cookie: fixed.cookie.get(),
        command: fixed.command.get(),
        timeouts: (fixed.idle_timeout.get(), fixed.hard_timeout.get()),
        priority: if wire_is_exact(&fixed.matching) { u16::MAX } else { fixed.priority.get() },
        out_port: fixed.out_port.get(),
        flags: fixed.flags.get(),
    };
    attributes.with(actions, flow)
}

#[inline(never)]
fn decode_nxt_flow_mod(message: &[u8], flow: &mut FlowMod) -> Result<(), OfpError> {
    check_header(message, msg::VENDOR)?;
    let (vendor, _) = OfpVendor::ref_from_prefix(message).map_err(|_| OfpError::BadLength)?;
    if vendor.vendor.get() != VENDOR_NICIRA {
        return Err(OfpError::BadVendor);
    }
    let subtype = message.get(size_of::<OfpVendor>()..).and_then(<[u8]>::first_chunk);
    if *subtype.ok_or(OfpError::BadLength)? != NXT_FLOW_MOD.to_be_bytes() {
        return Err(OfpError::BadSubtype);
    }
    let (fixed, rest) = NxFlowMod::ref_from_prefix(message).map_err(|_| OfpError::BadLength)?;
    if !rest.len().is_multiple_of(8) {
        return Err(OfpError::BadLength);
    }
    let len = usize::from(fixed.match_len.get());
    let (padded, actions) = rest.split_at_checked(len.next_multiple_of(8)).ok_or(OfpError::NxmInvalid)?;
    nxm::decode_into(padded.get(..len).unwrap_or_default(), &mut flow.matching)?;
    let attributes = Attributes {
        cookie: fixed.cookie.get(),
        command: fixed.command.get(),
        timeouts: (fixed.idle_timeout.get(), fixed.hard_timeout.get()),
        priority: fixed.priority.get(),
        out_port: fixed.out_port.get(),
        flags: fixed.flags.get(),
    };
    attributes.with(actions, flow)
}

/// What both messages have in their fixed part.
struct Attributes {
    cookie: u64,
    command: u16,
    /// Idle and hard.
    timeouts: (u16, u16),
    priority: u16,
    out_port: u16,
    flags: u16,
}

impl Attributes {
    /// Completes a change that has its match, if everything in it is in order.
    fn with(&self, actions: &[u8], flow: &mut FlowMod) -> Result<(), OfpError> {
        if !actions.len().is_multiple_of(8) {
            return Err(OfpError::BadLength);
        }
        flow.command = match self.command {
            0 => Command::Add,
            1 => Command::Modify,
            2 => Command::ModifyStrict,
            3 => Command::Delete,
            4 => Command::DeleteStrict,
            _ => return Err(OfpError::BadCommand),
        };
        // Open vSwitch's order: a bad action is told before a bad flag.
        read_actions(actions, &mut flow.actions)?;
        self.check_flags()?;
        flow.cookie = self.cookie;
        (flow.idle_timeout, flow.hard_timeout) = self.timeouts;
        flow.priority = self.priority;
        flow.out_port = OFPP_NONE;
        flow.flags = self.flags;
        if matches!(flow.command, Command::Delete | Command::DeleteStrict) {
            flow.out_port = self.out_port;
            flow.actions.clear();
        }
        Ok(())
    }

    fn check_flags(&self) -> Result<(), OfpError> {
        match self.flags {
            flags if flags & FLAG_EMERG != 0 && self.timeouts != (0, 0) => Err(OfpError::BadEmergTimeout),
            flags if flags & FLAG_EMERG != 0 => Err(OfpError::TableFull),
            flags if flags & !(FLAG_SEND_FLOW_REM | FLAG_CHECK_OVERLAP) != 0 => Err(OfpError::BadFlags),
            _ => Ok(()),
        }
    }
}

/// What a flow mod says, wherever its parts lie.
pub(crate) struct Parts<'a, A> {
    pub matching: &'a Match,
    pub cookie: u64,
    pub command: Command,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub priority: u16,
    pub out_port: u16,
    pub flags: u16,
    /// In the order of execution.
    pub actions: A,
}

impl FlowMod {
    pub(crate) fn parts(&self) -> Parts<'_, impl Iterator<Item = Action> + '_> {
        Parts {
            matching: &self.matching,
            cookie: self.cookie,
            command: self.command,
            idle_timeout: self.idle_timeout,
            hard_timeout: self.hard_timeout,
            priority: self.priority,
            out_port: self.out_port,
            flags: self.flags,
            actions: self.actions.iter().copied(),
        }
    }
}

impl<A: Iterator<Item = Action>> Parts<'_, A> {
    /// As [`encode_flow_mod`].
    pub(crate) fn encode(self, xid: u32, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut writer = Writer::new(out);
        self.write(&mut writer, xid)?;
        Ok(writer.finish()?)
    }

    fn write(self, writer: &mut Writer<'_>, xid: u32) -> Result<(), EncodeError> {
        if !self.put_fixed(writer, xid)? {
            self.put_nxt(writer, xid)?;
        }
        Ok(encode_actions(writer, self.actions)?)
    }

    /// The fixed part of an `OFPT_FLOW_MOD`; `false`, and nothing is written, if it cannot say the match.
    #[inline(never)]
    fn put_fixed(&self, writer: &mut Writer<'_>, xid: u32) -> Result<bool, NoRoom> {
        let Ok(matching) = encode_match(self.matching) else { return Ok(false) };
        writer.put(&OfpFlowMod {
            header: header(msg::FLOW_MOD, xid),
            matching,
            cookie: U64::new(self.cookie),
            command: U16::new(self.command as u16),
            idle_timeout: U16::new(self.idle_timeout),
            hard_timeout: U16::new(self.hard_timeout),
            priority: U16::new(self.priority),
            buffer_id: U32::new(NO_BUFFER),
            out_port: U16::new(self.out_port),
            flags: U16::new(self.flags),
        })?;
        Ok(true)
    }

    /// The fixed part of an `NXT_FLOW_MOD`, and the match.
    fn put_nxt(&self, writer: &mut Writer<'_>, xid: u32) -> Result<(), EncodeError> {
        let start = writer.len();
        writer.put(&NxFlowMod {
            header: header(msg::VENDOR, xid),
            vendor: U32::new(VENDOR_NICIRA),
            subtype: U32::new(NXT_FLOW_MOD),
            cookie: U64::new(self.cookie),
            command: U16::new(self.command as u16),
            idle_timeout: U16::new(self.idle_timeout),
            hard_timeout: U16::new(self.hard_timeout),
            priority: U16::new(self.priority),
            buffer_id: U32::new(NO_BUFFER),
            out_port: U16::new(self.out_port),
            flags: U16::new(self.flags),
            match_len: U16::new(0),
            pad: [0; 6],
        })?;
        let len = nxm::encode_padded(writer, self.matching)?;
        Ok(writer.patch(start, |fixed: &mut NxFlowMod| fixed.match_len = U16::new(len))?)
    }
}

/// Encodes a whole `OFPT_FLOW_MOD` message, or an `NXT_FLOW_MOD` if its match needs that; returns its length.
///
/// # Errors
/// `Inexpressible` for a match that neither can say, `NoRoom` if `out` is too small.
pub fn encode_flow_mod(flow_mod: &FlowMod, xid: u32, out: &mut [u8]) -> Result<usize, EncodeError> {
    flow_mod.parts().encode(xid, out)
}

pub(super) fn write_flow_mod(writer: &mut Writer<'_>, flow_mod: &FlowMod, xid: u32) -> Result<(), EncodeError> {
    flow_mod.parts().write(writer, xid)
}

/// Whether a flow mod can carry this match, so that an entry with it can be listed.
///
/// # Errors
/// `NxmBadPrereq` for a field without its prerequisites, `NxmBadMask` for a partial mask of a field that has none.
#[inline(never)]
pub(crate) fn check_match(matching: &Match) -> Result<(), OfpError> {
    if encode_match(matching).is_ok() || nxm::is_expressible(matching) {
        return Ok(());
    }
    Err(if unmet(matching).is_some() { OfpError::NxmBadPrereq } else { OfpError::NxmBadMask })
}
