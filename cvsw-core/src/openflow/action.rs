//! Action lists to and from bytes.

use super::writer::Writer;
use crate::{
    flow::{Action, ActionList, OFPP_CONTROLLER, OfpError, Tunnel},
    frame::NoRoom,
    wire::openflow::{
        ActionHeader, DlAddrAction, EnqueueAction, NXAST_RESUBMIT, NXAST_RESUBMIT_TABLE, ResubmitAction,
        ShortAction, TunnelAction, VENDOR_NICIRA, VendorAction, action_type as kind,
    },
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

/// Reads a whole action list.
pub(super) fn decode_actions(bytes: &[u8]) -> Result<ActionList, OfpError> {
    let mut actions = ActionList::new();
    read_actions(bytes, &mut actions)?;
    Ok(actions)
}

/// The same into a list that is there already, in place of what it held.
pub(super) fn read_actions(mut bytes: &[u8], actions: &mut ActionList) -> Result<(), OfpError> {
    actions.clear();
    while !bytes.is_empty() {
        let (header, _) = ActionHeader::ref_from_prefix(bytes).map_err(|_| OfpError::BadActionLength)?;
        let len = usize::from(header.len.get());
        if len < size_of::<ShortAction>() || !len.is_multiple_of(8) {
            return Err(OfpError::BadActionLength);
        }
        let (one, rest) = bytes.split_at_checked(len).ok_or(OfpError::BadActionLength)?;
        actions.push(decode_action(header.kind.get(), one)?).map_err(|_| OfpError::TooManyActions)?;
        bytes = rest;
    }
    Ok(())
}

/// Reads one action, whose bytes are exactly those that its length field says.
fn decode_action(action_type: u16, bytes: &[u8]) -> Result<Action, OfpError> {
    Ok(match action_type {
        kind::SET_DL_SRC => Action::SetEthSrc(view::<DlAddrAction>(bytes)?.addr),
        kind::SET_DL_DST => Action::SetEthDst(view::<DlAddrAction>(bytes)?.addr),
        kind::ENQUEUE => {
            let action = view::<EnqueueAction>(bytes)?;
            Action::Enqueue { port: action.port.get(), queue: action.queue.get() }
        }
        kind::VENDOR => return decode_vendor(bytes),
        kind::SET_VXLAN => Action::SetVxlan(decode_tunnel(view(bytes)?)?),
        kind::STRIP_VXLAN if bytes.len() == size_of::<ShortAction>() => Action::StripVxlan(None),
        kind::STRIP_VXLAN => Action::StripVxlan(Some(vni(view(bytes)?)?)),
        kind::ENCRYPT => Action::Encrypt { sa: u32::from_be_bytes(view::<ShortAction>(bytes)?.argument) },
        kind::DECRYPT => match view::<ShortAction>(bytes)?.argument {
            [0, 0, 0, 0] => Action::Decrypt,
            _ => return Err(OfpError::BadArgument),
        },
        kind::OUTPUT..=kind::SET_TP_DST => return decode_short(action_type, view(bytes)?),
        _ => return Err(OfpError::BadActionType),
    })
}

/// Reads an 8-byte action of the specification.
fn decode_short(action_type: u16, action: &ShortAction) -> Result<Action, OfpError> {
    let argument = action.argument;
    let [a, b, c, d] = argument;
    let number = u16::from_be_bytes([a, b]);
    Ok(match action_type {
        kind::OUTPUT => {
            // The length means something for OFPP_CONTROLLER only.
            let max_len = if number == OFPP_CONTROLLER { u16::from_be_bytes([c, d]) } else { 0 };
            Action::Output { port: number, max_len }
        }
        kind::SET_VLAN_VID if number <= 0x0fff => Action::SetVlanVid(number),
        kind::SET_VLAN_PCP if a <= 7 => Action::SetVlanPcp(a),
        kind::STRIP_VLAN => Action::StripVlan,
        kind::SET_NW_SRC => Action::SetNwSrc(argument),
        kind::SET_NW_DST => Action::SetNwDst(argument),
        kind::SET_NW_TOS if a & 0x03 == 0 => Action::SetNwTos(a),
        kind::SET_TP_SRC => Action::SetTpSrc(number),
        kind::SET_TP_DST => Action::SetTpDst(number),
        kind::SET_VLAN_VID | kind::SET_VLAN_PCP | kind::SET_NW_TOS => return Err(OfpError::BadArgument),
        _ => return Err(OfpError::BadActionType),
    })
}

fn decode_vendor(bytes: &[u8]) -> Result<Action, OfpError> {
    let (vendor, _) = VendorAction::ref_from_prefix(bytes).map_err(|_| OfpError::BadActionLength)?;
    if vendor.vendor.get() != VENDOR_NICIRA {
        return Err(OfpError::BadActionVendor);
    }
    let (action, rest) = ResubmitAction::ref_from_prefix(bytes).map_err(|_| OfpError::BadActionLength)?;
    match (action.subtype.get(), action.table) {
        (NXAST_RESUBMIT | NXAST_RESUBMIT_TABLE, _) if !rest.is_empty() => Err(OfpError::BadActionLength),
        // There is one table, number 0.
        (NXAST_RESUBMIT, _) | (NXAST_RESUBMIT_TABLE, 0 | 0xff) => {
            Ok(Action::Resubmit { in_port: action.in_port.get() })
        }
        (NXAST_RESUBMIT_TABLE, _) => Err(OfpError::BadArgument),
        _ => Err(OfpError::BadActionVendorType),
    }
}

fn decode_tunnel(action: &TunnelAction) -> Result<Tunnel, OfpError> {
    // The format has no address family: what goes beyond four bytes is an IPv6 address, not an IPv4 one.
    if action.dst_rest != [0; 12] || action.src_rest != [0; 12] {
        return Err(OfpError::BadArgument);
    }
    Ok(Tunnel {
        eth_dst: action.eth_dst,
        eth_src: action.eth_src,
        dst: action.dst,
        src: action.src,
        vni: vni(action)?,
    })
}

fn vni(action: &TunnelAction) -> Result<u32, OfpError> {
    let id = action.id.get();
    if id < 1 << 24 { Ok(id) } else { Err(OfpError::BadArgument) }
}

fn view<T: FromBytes + KnownLayout + Immutable + Unaligned>(bytes: &[u8]) -> Result<&T, OfpError> {
    T::ref_from_bytes(bytes).map_err(|_| OfpError::BadActionLength)
}

/// Writes an action list.
pub(super) fn encode_actions(
    writer: &mut Writer<'_>,
    mut actions: impl Iterator<Item = Action>,
) -> Result<(), NoRoom> {
    actions.try_for_each(|action| encode_action(writer, &action))
}

fn encode_action(writer: &mut Writer<'_>, action: &Action) -> Result<(), NoRoom> {
    match *action {
        Action::Output { port, max_len } => {
            let ([a, b], [c, d]) = (port.to_be_bytes(), max_len.to_be_bytes());
            short(writer, kind::OUTPUT, [a, b, c, d])
        }
        Action::Enqueue { port, queue } => writer.put(&EnqueueAction {
            header: header::<EnqueueAction>(kind::ENQUEUE),
            port: U16::new(port),
            pad: [0; 6],
            queue: U32::new(queue),
        }),
        Action::SetVlanVid(vid) => short_number(writer, kind::SET_VLAN_VID, vid),
        Action::SetVlanPcp(pcp) => short(writer, kind::SET_VLAN_PCP, [pcp, 0, 0, 0]),
        Action::StripVlan => short(writer, kind::STRIP_VLAN, [0; 4]),
        Action::SetEthSrc(addr) => dl_addr(writer, kind::SET_DL_SRC, addr),
        Action::SetEthDst(addr) => dl_addr(writer, kind::SET_DL_DST, addr),
        Action::SetNwSrc(addr) => short(writer, kind::SET_NW_SRC, addr),
        Action::SetNwDst(addr) => short(writer, kind::SET_NW_DST, addr),
        Action::SetNwTos(tos) => short(writer, kind::SET_NW_TOS, [tos, 0, 0, 0]),
        Action::SetTpSrc(port) => short_number(writer, kind::SET_TP_SRC, port),
        Action::SetTpDst(port) => short_number(writer, kind::SET_TP_DST, port),
        Action::SetVxlan(ref tunnel) => encode_tunnel(writer, kind::SET_VXLAN, tunnel),
        Action::StripVxlan(None) => short(writer, kind::STRIP_VXLAN, [0; 4]),
        Action::StripVxlan(Some(vni)) => {
            encode_tunnel(writer, kind::STRIP_VXLAN, &Tunnel { vni, ..Tunnel::default() })
        }
        Action::Encrypt { sa } => short(writer, kind::ENCRYPT, sa.to_be_bytes()),
        Action::Decrypt => short(writer, kind::DECRYPT, [0; 4]),
        Action::Resubmit { in_port } => writer.put(&ResubmitAction {
            vendor: VendorAction {
                header: header::<ResubmitAction>(kind::VENDOR),
                vendor: U32::new(VENDOR_NICIRA),
            },
            subtype: U16::new(NXAST_RESUBMIT),
            in_port: U16::new(in_port),
            table: 0,
            pad: [0; 3],
        }),
    }
}

fn header<T: IntoBytes>(action_type: u16) -> ActionHeader {
    ActionHeader { kind: U16::new(action_type), len: U16::new(size_of::<T>() as u16) }
}

fn short(writer: &mut Writer<'_>, action_type: u16, argument: [u8; 4]) -> Result<(), NoRoom> {
    writer.put(&ShortAction { header: header::<ShortAction>(action_type), argument })
}

fn short_number(writer: &mut Writer<'_>, action_type: u16, number: u16) -> Result<(), NoRoom> {
    let [a, b] = number.to_be_bytes();
    short(writer, action_type, [a, b, 0, 0])
}

fn dl_addr(writer: &mut Writer<'_>, action_type: u16, addr: [u8; 6]) -> Result<(), NoRoom> {
    writer.put(&DlAddrAction { header: header::<DlAddrAction>(action_type), addr, pad: [0; 6] })
}

fn encode_tunnel(writer: &mut Writer<'_>, action_type: u16, tunnel: &Tunnel) -> Result<(), NoRoom> {
    writer.put(&TunnelAction {
        header: header::<TunnelAction>(action_type),
        eth_dst: tunnel.eth_dst,
        eth_src: tunnel.eth_src,
        dst: tunnel.dst,
        dst_rest: [0; 12],
        src: tunnel.src,
        src_rest: [0; 12],
        id_high: [0; 4],
        id: U32::new(tunnel.vni),
        pad: [0; 8],
    })
}
