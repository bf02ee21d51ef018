//! `OFPT_FLOW_MOD`.

use super::{
    EncodeError,
    action::{decode_actions, encode_actions},
    check_header,
    matching::{decode_match, encode_match, wire_is_exact},
    writer::{Writer, header},
};
use crate::{
    flow::{ActionList, Command, FLAG_CHECK_OVERLAP, FLAG_EMERG, FLAG_SEND_FLOW_REM, FlowMod, OFPP_NONE, OfpError},
    wire::openflow::{NO_BUFFER, OfpFlowMod, msg},
};
use zerocopy::{
    FromBytes,
    network_endian::{U16, U32, U64},
};

/// Decodes a whole `OFPT_FLOW_MOD` message (header included; `message` is exactly as long as its header says).
///
/// Follows the specification with Open vSwitch's reading: fields without their prerequisites are wildcarded,
/// and a match without any wildcard gets priority 65535. `buffer_id` is ignored: a vNIC buffers nothing. So are
/// the `out_port` of a command that is no DELETE, and the actions of a DELETE (but they must be well-formed).
///
/// # Errors
/// - `BadVersion`, `BadMessageType`, `BadLength`: the header is not that of an OpenFlow 1.0 FLOW_MOD, or the
///   message is not as long as it says, or its action list is not a multiple of 8 bytes.
/// - `BadCommand`: unknown command.
/// - `BadEmergTimeout`, `TableFull`: an emergency entry with and without timeouts; there is no room for any.
/// - `Unsupported`: an unknown flag.
/// - `BadActionType` (this includes the Geneve, NVGRE, STT and SCLP actions of the CVSW protocol),
///   `BadActionLength`, `BadActionVendor`, `BadActionVendorType`, `BadArgument`, `TooManyActions`: the actions.
pub fn decode_flow_mod(message: &[u8]) -> Result<FlowMod, OfpError> {
    check_header(message, msg::FLOW_MOD)?;
    let (fixed, actions) = OfpFlowMod::ref_from_prefix(message).map_err(|_| OfpError::BadLength)?;
    if !actions.len().is_multiple_of(8) {
        return Err(OfpError::BadLength);
    }
    let command = match fixed.command.get() {
        0 => Command::Add,
        1 => Command::Modify,
        2 => Command::ModifyStrict,
        3 => Command::Delete,
        4 => Command::DeleteStrict,
        _ => return Err(OfpError::BadCommand),
    };
    // Open vSwitch's order: a bad action is told before a bad flag.
    let actions = decode_actions(actions)?;
    let flags = fixed.flags.get();
    let (idle_timeout, hard_timeout) = (fixed.idle_timeout.get(), fixed.hard_timeout.get());
    if flags & FLAG_EMERG != 0 && (idle_timeout != 0 || hard_timeout != 0) {
        return Err(OfpError::BadEmergTimeout);
    }
    if flags & FLAG_EMERG != 0 {
        return Err(OfpError::TableFull);
    }
    if flags & !(FLAG_SEND_FLOW_REM | FLAG_CHECK_OVERLAP) != 0 {
        return Err(OfpError::Unsupported);
    }
    let deletes = matches!(command, Command::Delete | Command::DeleteStrict);
    Ok(FlowMod {
        matching: decode_match(&fixed.matching),
        cookie: fixed.cookie.get(),
        command,
        idle_timeout,
        hard_timeout,
        priority: if wire_is_exact(&fixed.matching) { u16::MAX } else { fixed.priority.get() },
        out_port: if deletes { fixed.out_port.get() } else { OFPP_NONE },
        flags,
        actions: if deletes { ActionList::new() } else { actions },
    })
}

/// Encodes a whole `OFPT_FLOW_MOD` message; returns its length.
///
/// # Errors
/// `Inexpressible` for a match that `ofp_match` cannot say, `NoRoom` if `out` is too small.
pub fn encode_flow_mod(flow_mod: &FlowMod, xid: u32, out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut writer = Writer::new(out);
    write_flow_mod(&mut writer, flow_mod, xid)?;
    Ok(writer.finish()?)
}

pub(super) fn write_flow_mod(writer: &mut Writer<'_>, flow_mod: &FlowMod, xid: u32) -> Result<(), EncodeError> {
    writer.put(&OfpFlowMod {
        header: header(msg::FLOW_MOD, xid),
        matching: encode_match(&flow_mod.matching)?,
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
