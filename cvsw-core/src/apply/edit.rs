//! Changes of header fields, with the checksums and the offload metadata that depend on them.
//!
//! Each returns whether the frame has the field; if not, nothing was changed.

use crate::{
    flow::{Ipv4Addr, MacAddr},
    frame::{Buffer, Checksum, Frame},
    parse::{Headers, Transport, parse},
    stats::DropReason,
    wire::{checksum, ethernet, tcp, udp, vlan},
};
use zerocopy::{FromBytes, IntoBytes, network_endian::U16};

/// Which end of the conversation a field belongs to.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Src,
    Dst,
}

/// Sets an Ethernet address.
pub(super) fn set_eth<B: Buffer>(frame: &mut Frame<B>, side: Side, mac: MacAddr) -> bool {
    let Ok((header, _)) = ethernet::Header::mut_from_prefix(frame.bytes_mut()) else { return false };
    match side {
        Side::Src => header.src = mac,
        Side::Dst => header.dst = mac,
    }
    true
}

/// Sets the bits `mask` of the outermost tag's TCI, pushing an 802.1Q tag with an otherwise zero TCI on an
/// untagged frame.
pub(super) fn set_vlan<B: Buffer>(
    frame: &mut Frame<B>,
    headers: &mut Headers,
    value: u16,
    mask: u16,
) -> Result<bool, DropReason> {
    if !headers.tagged {
        move_checksum_start(frame, true)?;
        frame.push_front(vlan::LEN).map_err(|_| DropReason::NoHeadroom)?;
        let bytes = frame.bytes_mut();
        // Both addresses move to the new front; `push_front` and the parser guarantee the length.
        if let Some(front) = bytes.get_mut(..vlan::OFFSET.wrapping_add(vlan::LEN)) {
            front.copy_within(vlan::LEN.., 0);
            let tag = vlan::Header { tpid: U16::new(vlan::TPID), tci: U16::ZERO };
            let _ = tag.write_to_suffix(front);
        }
        *headers = headers.with_tag(true);
    }
    let tag = frame.bytes_mut().get_mut(vlan::OFFSET..).and_then(|rest| vlan::Header::mut_from_prefix(rest).ok());
    let Some((tag, _)) = tag else { return Ok(false) };
    tag.tci.set(tag.tci.get() & !mask | value & mask);
    Ok(true)
}

/// Removes the outermost tag.
pub(super) fn strip_vlan<B: Buffer>(frame: &mut Frame<B>, headers: &mut Headers) -> Result<bool, DropReason> {
    if !headers.tagged {
        return Ok(false);
    }
    move_checksum_start(frame, false)?;
    if let Some(front) = frame.bytes_mut().get_mut(..vlan::OFFSET.wrapping_add(vlan::LEN)) {
        front.copy_within(..vlan::OFFSET, vlan::LEN);
    }
    frame.pull_front(vlan::LEN).map_err(|_| DropReason::FrameTooShort)?;
    *headers = headers.with_tag(false);
    // Behind an outer tag there may be an inner one, with headers that have not been parsed yet.
    let ethertype = ethernet::Header::ref_from_prefix(frame.bytes()).map(|(header, _)| header.ethertype.get());
    if ethertype.is_ok_and(vlan::is_tag)
        && let Some(parsed) = parse(frame.bytes(), 0, 0)
    {
        *headers = parsed.headers;
    }
    Ok(true)
}

/// Sets an IPv4 address.
pub(super) fn set_nw<B: Buffer>(frame: &mut Frame<B>, headers: &Headers, side: Side, new: Ipv4Addr) -> bool {
    let Some(ip) = headers.ipv4_mut(frame.bytes_mut()) else { return false };
    let field = match side {
        Side::Src => &mut ip.src,
        Side::Dst => &mut ip.dst,
    };
    let difference = checksum::difference32(u32::from_be_bytes(*field), u32::from_be_bytes(new));
    *field = new;
    ip.checksum.set(checksum::update(ip.checksum.get(), difference));
    update_transport_checksum(frame, headers, difference, Covered::ByPseudoHeader);
    true
}

/// Sets a TCP or UDP port, unless the TCP header's own length is wrong. The ports of SCTP cannot be changed.
pub(super) fn set_tp<B: Buffer>(frame: &mut Frame<B>, headers: &Headers, side: Side, new: u16) -> bool {
    match headers.transport {
        Transport::Udp => {}
        Transport::Tcp if headers.holds_tcp_options(frame.bytes()) => {}
        _ => return false,
    }
    // TCP and UDP have the ports at the same place.
    let rest = frame.bytes_mut().get_mut(usize::from(headers.transport_offset)..).unwrap_or_default();
    let Ok((ports, _)) = <[U16; 2]>::mut_from_prefix(rest) else { return false };
    let [src, dst] = ports;
    let field = match side {
        Side::Src => src,
        Side::Dst => dst,
    };
    let difference = checksum::difference16(field.get(), new);
    field.set(new);
    update_transport_checksum(frame, headers, difference, Covered::ByTransportHeader);
    true
}

/// Where a changed field enters the transport checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Covered {
    ByPseudoHeader,
    ByTransportHeader,
}

/// Updates the TCP or UDP checksum after a field that it covers changed. ICMP has no pseudo-header, and a
/// later fragment no checksum.
fn update_transport_checksum<B: Buffer>(
    frame: &mut Frame<B>,
    headers: &Headers,
    difference: u16,
    covered: Covered,
) {
    let field_offset = match headers.transport {
        Transport::Tcp => tcp::CHECKSUM_OFFSET,
        Transport::Udp => udp::CHECKSUM_OFFSET,
        Transport::Icmp | Transport::Other => return,
    };
    // A checksum to be filled in may also belong to a packet inside this one, which nothing here changes.
    let partial =
        matches!(frame.offload.checksum, Checksum::Partial { start, .. } if start == headers.transport_offset);
    let field_start = usize::from(headers.transport_offset).wrapping_add(usize::from(field_offset));
    let field = frame.bytes_mut().get_mut(field_start..).and_then(|rest| U16::mut_from_prefix(rest).ok());
    let Some((field, _)) = field else { return };
    match (field.get(), covered, headers.transport) {
        // The field holds the sum of the pseudo-header, not yet complemented.
        (old, Covered::ByPseudoHeader, _) if partial => field.set(checksum::add(old, difference)),
        (_, Covered::ByTransportHeader, _) if partial => {}
        // 0 means that there is no UDP checksum; one that comes out as 0 is sent as its other form (RFC 768).
        (0, _, Transport::Udp) => {}
        (old, _, Transport::Udp) => field.set(match checksum::update(old, difference) {
            0 => 0xffff,
            new => new,
        }),
        (old, _, _) => field.set(checksum::update(old, difference)),
    }
}

/// Moves what the offload metadata points at when a tag is put in front of it (`tagged`) or removed.
fn move_checksum_start<B: Buffer>(frame: &mut Frame<B>, tagged: bool) -> Result<(), DropReason> {
    let len = vlan::LEN as u16;
    let moved = |at: u16| if tagged { at.checked_add(len) } else { at.checked_sub(len) };
    if let Checksum::Partial { start, .. } = &mut frame.offload.checksum {
        *start = moved(*start).ok_or(DropReason::BadOffload)?;
    }
    let header_len = &mut frame.offload.gso.header_len;
    if *header_len != 0 {
        *header_len = moved(*header_len).ok_or(DropReason::BadOffload)?;
    }
    Ok(())
}
