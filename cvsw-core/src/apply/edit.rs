//! Changes of header fields, with the checksums and the offload metadata that depend on them.
//!
//! Each returns whether the frame has such a field; if not, nothing was changed.

use crate::{
    flow::{Ipv4Addr, MacAddr},
    frame::{Buffer, Checksum, Frame},
    parse::{Headers, Network, PLAIN_TCP, PLAIN_UDP, Transport, parse},
    stats::DropReason,
    wire::{checksum, ethernet, ipv4::ECN_MASK, tcp, udp, vlan},
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, network_endian::U16};

/// Which end of the conversation a field belongs to.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Src,
    Dst,
}

/// New values of header fields that neither move nor uncover headers. Any number of them is one change, with one
/// update of each checksum. All-zero memory changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Rewrite {
    /// IPv4 source and destination, as in the flow key: bits to change, and their values.
    nw_mask: u64,
    nw: u64,
    /// Source and destination port: bits to change, and their values.
    tp_mask: u32,
    tp: u32,
    eth_dst: MacAddr,
    eth_src: MacAddr,
    tos: u8,
    /// Which of the above are set: `ETH_DST` to `TOS`.
    fields: u8,
    /// Number of actions that were added.
    pub(super) count: u8,
    /// [`super::Program`]'s own: here, where it lies in the first cache line of a table entry.
    pub(super) flags: u8,
}

const ETH_DST: u8 = 1;
const ETH_SRC: u8 = 2;
const NW: u8 = 4;
const TP: u8 = 8;
const TOS: u8 = 16;

impl Rewrite {
    /// Adds an Ethernet address.
    pub(super) fn set_eth(&mut self, side: Side, mac: MacAddr) {
        match side {
            Side::Dst => (self.eth_dst, self.fields) = (mac, self.fields | ETH_DST),
            Side::Src => (self.eth_src, self.fields) = (mac, self.fields | ETH_SRC),
        }
    }

    /// Adds an IPv4 address.
    pub(super) fn set_nw(&mut self, side: Side, address: Ipv4Addr) {
        let shift = side.shift(32);
        self.nw_mask |= u64::from(u32::MAX) << shift;
        self.nw = self.nw & !(u64::from(u32::MAX) << shift) | u64::from(u32::from_be_bytes(address)) << shift;
        self.fields |= NW;
    }

    /// Adds a TCP or UDP port; changed unless the TCP header's own length is wrong. The ports of SCTP cannot be.
    pub(super) fn set_tp(&mut self, side: Side, port: u16) {
        let shift = side.shift(16);
        self.tp_mask |= u32::from(u16::MAX) << shift;
        self.tp = self.tp & !(u32::from(u16::MAX) << shift) | u32::from(port) << shift;
        self.fields |= TP;
    }

    /// Adds the DSCP of IPv4 and IPv6; the ECN bits of `tos` do not count.
    pub(super) fn set_tos(&mut self, tos: u8) {
        self.tos = tos & !ECN_MASK;
        self.fields |= TOS;
    }

    /// Changes the frame. `false`: it has none of the fields.
    #[inline]
    pub(super) fn apply<B: Buffer>(&self, frame: &mut Frame<B>, headers: &Headers) -> bool {
        // A checksum to be filled in may also belong to a packet inside this one, which nothing here changes.
        let partial =
            matches!(frame.offload.checksum, Checksum::Partial { start, .. } if start == headers.transport_offset);
        let bytes = frame.bytes_mut();
        // The same for all of them; but where the headers lie at known places, the compiler knows them too.
        if *headers == PLAIN_TCP {
            self.apply_at(bytes, &PLAIN_TCP, partial)
        } else if *headers == PLAIN_UDP {
            self.apply_at(bytes, &PLAIN_UDP, partial)
        } else {
            self.apply_anywhere(bytes, headers, partial)
        }
    }

    #[inline(never)]
    fn apply_anywhere(&self, bytes: &mut [u8], headers: &Headers, partial: bool) -> bool {
        self.apply_at(bytes, headers, partial)
    }

    #[inline(always)]
    fn apply_at(&self, bytes: &mut [u8], headers: &Headers, partial: bool) -> bool {
        let eth = self.fields & (ETH_DST | ETH_SRC) != 0 && self.apply_eth(bytes);
        if self.fields & (NW | TP | TOS) == 0 {
            return eth;
        }
        let (mut network, mut pseudo_header) = (false, 0);
        match headers.network {
            Network::Ipv4 if self.fields & (NW | TOS) != 0 => {
                (network, pseudo_header) = self.apply_ipv4(bytes, headers)
            }
            Network::Ipv6 if self.fields & TOS != 0 => network = headers.set_tos(bytes, self.tos, !ECN_MASK),
            _ => {}
        }
        let transport = match headers.transport {
            _ if self.fields & (NW | TP) == 0 => false,
            Transport::Tcp => self.apply_tcp(bytes, headers, partial, pseudo_header),
            Transport::Udp => self.apply_udp(bytes, headers, partial, pseudo_header),
            // ICMP has no pseudo-header, and a later fragment no checksum.
            Transport::Icmp | Transport::Other => false,
        };
        eth | network | transport
    }

    #[inline(always)]
    fn apply_eth(&self, bytes: &mut [u8]) -> bool {
        let Ok((header, _)) = ethernet::Header::mut_from_prefix(bytes) else { return false };
        if self.fields & ETH_DST != 0 {
            header.dst = self.eth_dst;
        }
        if self.fields & ETH_SRC != 0 {
            header.src = self.eth_src;
        }
        true
    }

    /// Whether there is a field, and what the pseudo-header's sum changed by.
    #[inline(always)]
    fn apply_ipv4(&self, bytes: &mut [u8], headers: &Headers) -> (bool, u64) {
        let Some(ip) = headers.ipv4_mut(bytes) else { return (false, 0) };
        let old = u64::from(u32::from_be_bytes(ip.src)) << 32 | u64::from(u32::from_be_bytes(ip.dst));
        let new = old & !self.nw_mask | self.nw;
        (ip.src, ip.dst) = (((new >> 32) as u32).to_be_bytes(), (new as u32).to_be_bytes());
        let pseudo_header = checksum::difference32((old >> 32) as u32, (new >> 32) as u32)
            .wrapping_add(checksum::difference32(old as u32, new as u32));
        let mut difference = pseudo_header;
        if self.fields & TOS != 0 {
            let tos = ip.tos & ECN_MASK | self.tos;
            difference = difference.wrapping_add(checksum::difference16(u16::from(ip.tos), u16::from(tos)));
            ip.tos = tos;
        }
        ip.checksum.set(checksum::update(ip.checksum.get(), difference));
        (true, pseudo_header)
    }

    #[inline(always)]
    fn apply_tcp(&self, bytes: &mut [u8], headers: &Headers, partial: bool, pseudo_header: u64) -> bool {
        let applicable = self.fields & TP != 0 && headers.holds_tcp_options(bytes);
        let segment = bytes.get_mut(usize::from(headers.transport_offset)..).unwrap_or_default();
        let Ok((tcp, _)) = tcp::Header::mut_from_prefix(segment) else { return false };
        let ports = if applicable { self.apply_ports(&mut tcp.src, &mut tcp.dst) } else { 0 };
        let old = tcp.checksum.get();
        tcp.checksum.set(if partial {
            partial_checksum(old, pseudo_header)
        } else {
            checksum::update(old, ports.wrapping_add(pseudo_header))
        });
        applicable
    }

    #[inline(always)]
    fn apply_udp(&self, bytes: &mut [u8], headers: &Headers, partial: bool, pseudo_header: u64) -> bool {
        let datagram = bytes.get_mut(usize::from(headers.transport_offset)..).unwrap_or_default();
        let Ok((udp, _)) = udp::Header::mut_from_prefix(datagram) else { return false };
        let ports = self.apply_ports(&mut udp.src, &mut udp.dst);
        match udp.checksum.get() {
            old if partial => udp.checksum.set(partial_checksum(old, pseudo_header)),
            // 0 means that there is no checksum; one that comes out as 0 is sent as its other form (RFC 768).
            0 => {}
            old => udp.checksum.set(match checksum::update(old, ports.wrapping_add(pseudo_header)) {
                0 => 0xffff,
                new => new,
            }),
        }
        self.fields & TP != 0
    }

    /// What the sum of the transport header changed by.
    #[inline(always)]
    fn apply_ports(&self, src: &mut U16, dst: &mut U16) -> u64 {
        let old = u32::from(src.get()) << 16 | u32::from(dst.get());
        let new = old & !self.tp_mask | self.tp;
        src.set((new >> 16) as u16);
        dst.set(new as u16);
        checksum::difference32(old, new)
    }
}

impl Side {
    /// Of two fields of `bits` bits in one word the source is the upper one.
    const fn shift(self, bits: u32) -> u32 {
        match self {
            Self::Src => bits,
            Self::Dst => 0,
        }
    }
}

/// A checksum that is still to be filled in holds the sum of the pseudo-header, not complemented.
fn partial_checksum(sum: u16, difference: u64) -> u16 {
    checksum::fold(u64::from(sum).wrapping_add(difference))
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
    if ethertype.is_ok_and(vlan::is_tag) {
        parse_headers(frame.bytes(), headers);
    }
    Ok(true)
}

/// Out of line, so that what was parsed does not lie in the stack frame of every packet.
#[inline(never)]
fn parse_headers(bytes: &[u8], headers: &mut Headers) {
    if let Some(parsed) = parse(bytes, 0, 0) {
        *headers = parsed.headers;
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
