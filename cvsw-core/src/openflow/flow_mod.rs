//! `OFPT_FLOW_MOD`, and Nicira's `NXT_FLOW_MOD` for the matches that the first cannot say.

use super::{
    EncodeError, Header,
    action::{decode_actions, encode_actions},
    check_header,
    matching::{decode_match, encode_match, wire_is_exact},
    nxm,
    writer::{Writer, header},
};
use crate::{
    flow::{
        ActionList, Command, FLAG_CHECK_OVERLAP, FLAG_EMERG, FLAG_SEND_FLOW_REM, FlowMod, Match, OFPP_NONE,
        OfpError, normalize::unmet,
    },
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
    if Header::read(message).is_some_and(|header| header.kind == msg::VENDOR) {
        return decode_nxt_flow_mod(message);
    }
    check_header(message, msg::FLOW_MOD)?;
    let (fixed, actions) = OfpFlowMod::ref_from_prefix(message).map_err(|_| OfpError::BadLength)?;
    let priority = if wire_is_exact(&fixed.matching) { u16::MAX } else { fixed.priority.get() };
    let attributes = Attributes {
        cookie: fixed.cookie.get(),
        command: fixed.command.get(),
        timeouts: (fixed.idle_timeout.get(), fixed.hard_timeout.get()),
        priority,
        out_port: fixed.out_port.get(),
        flags: fixed.flags.get(),
    };
    attributes.with(decode_match(&fixed.matching), actions)
}

fn decode_nxt_flow_mod(message: &[u8]) -> Result<FlowMod, OfpError> {
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
    let matching = nxm::decode(padded.get(..len).unwrap_or_default())?;
    let attributes = Attributes {
        cookie: fixed.cookie.get(),
        command: fixed.command.get(),
        timeouts: (fixed.idle_timeout.get(), fixed.hard_timeout.get()),
        priority: fixed.priority.get(),
        out_port: fixed.out_port.get(),
        flags: fixed.flags.get(),
    };
    attributes.with(matching, actions)
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
    /// The whole change, if everything in it is in order.
    fn with(&self, matching: Match, actions: &[u8]) -> Result<FlowMod, OfpError> {
        if !actions.len().is_multiple_of(8) {
            return Err(OfpError::BadLength);
        }
        let command = match self.command {
            0 => Command::Add,
            1 => Command::Modify,
            2 => Command::ModifyStrict,
            3 => Command::Delete,
            4 => Command::DeleteStrict,
            _ => return Err(OfpError::BadCommand),
        };
        // Open vSwitch's order: a bad action is told before a bad flag.
        let actions = decode_actions(actions)?;
        self.check_flags()?;
        let deletes = matches!(command, Command::Delete | Command::DeleteStrict);
        Ok(FlowMod {
            matching,
            cookie: self.cookie,
            command,
            idle_timeout: self.timeouts.0,
            hard_timeout: self.timeouts.1,
            priority: self.priority,
            out_port: if deletes { self.out_port } else { OFPP_NONE },
            flags: self.flags,
            actions: if deletes { ActionList::new() } else { actions },
        })
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

/// Encodes a whole `OFPT_FLOW_MOD` message, or an `NXT_FLOW_MOD` if its match needs that; returns its length.
///
/// # Errors
/// `Inexpressible` for a match that neither can say, `NoRoom` if `out` is too small.
pub fn encode_flow_mod(flow_mod: &FlowMod, xid: u32, out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut writer = Writer::new(out);
    write_flow_mod(&mut writer, flow_mod, xid)?;
    Ok(writer.finish()?)
}

pub(super) fn write_flow_mod(writer: &mut Writer<'_>, flow_mod: &FlowMod, xid: u32) -> Result<(), EncodeError> {
    let Ok(matching) = encode_match(&flow_mod.matching) else { return write_nxt_flow_mod(writer, flow_mod, xid) };
    writer.put(&OfpFlowMod {
        header: header(msg::FLOW_MOD, xid),
        matching,
        cookie: U64::new(flow_mod.cookie),
        command: U16::new(flow_mod.command as u16),
        idle_timeout: U16::new(flow_mod.idle_timeout),
        hard_timeout: U16::new(flow_mod.hard_timeout),
        priority: U16::new(flow_mod.priority),
        buffer_id: U32::new(NO_BUFFER),
        out_port: U16::new(flow_mod.out_port),
        flags: U16::new(flow_mod.flags),
    })?;
    Ok(encode_actions(writer, &flow_mod.actions)?)
}

fn write_nxt_flow_mod(writer: &mut Writer<'_>, flow_mod: &FlowMod, xid: u32) -> Result<(), EncodeError> {
    let start = writer.len();
    writer.put(&NxFlowMod {
        header: header(msg::VENDOR, xid),
        vendor: U32::new(VENDOR_NICIRA),
        subtype: U32::new(NXT_FLOW_MOD),
        cookie: U64::new(flow_mod.cookie),
        command: U16::new(flow_mod.command as u16),
        idle_timeout: U16::new(flow_mod.idle_timeout),
        hard_timeout: U16::new(flow_mod.hard_timeout),
        priority: U16::new(flow_mod.priority),
        buffer_id: U32::new(NO_BUFFER),
        out_port: U16::new(flow_mod.out_port),
        flags: U16::new(flow_mod.flags),
        match_len: U16::new(0),
        pad: [0; 6],
    })?;
    let len = nxm::encode_padded(writer, &flow_mod.matching)?;
    writer.patch(start, |fixed: &mut NxFlowMod| fixed.match_len = U16::new(len))?;
    Ok(encode_actions(writer, &flow_mod.actions)?)
}

/// Whether a flow mod can carry this match, so that an entry with it can be listed.
///
/// # Errors
/// `NxmBadPrereq` for a field without its prerequisites, `NxmBadMask` for a partial mask of a field that has none.
pub(crate) fn check_match(matching: &Match) -> Result<(), OfpError> {
    let mut scratch = [0; MAX_MATCH_LEN];
    if encode_match(matching).is_ok() || nxm::encode_padded(&mut Writer::new(&mut scratch), matching).is_ok() {
        return Ok(());
    }
    Err(if unmet(matching).is_some() { OfpError::NxmBadPrereq } else { OfpError::NxmBadMask })
}

/// More than an NXM match with every field and its mask takes.
const MAX_MATCH_LEN: usize = 256;
