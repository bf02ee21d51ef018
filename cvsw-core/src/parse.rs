//! Frame bytes to flow key and header offsets, once per header stack.

mod plain;

use crate::{
    key::{FlowKey, VLAN_PRESENT},
    wire::{
        arp,
        ethernet::{self, Snap},
        icmp, ipv4, ipv6, tcp, udp, vlan,
    },
};
use zerocopy::{FromBytes, FromZeros};

pub(crate) use plain::{PLAIN_TCP, PLAIN_UDP, parse_plain};

/// Network layer found in a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(u8)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Network {
    /// None that we parse, or a malformed one.
    #[default]
    Other,
    /// ARP for IPv4 over Ethernet.
    Arp,
    /// IPv4 with a complete header.
    Ipv4,
    /// IPv6 with a complete header and complete extension headers.
    Ipv6,
}

/// Transport layer found in a frame (never set for later fragments).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(u8)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Transport {
    /// None that we parse, a truncated one, or a later fragment.
    #[default]
    Other,
    /// TCP with a complete 20-byte header.
    Tcp,
    /// UDP with a complete header.
    Udp,
    /// ICMP (or ICMPv6) with at least type, code and checksum.
    Icmp,
}

/// Where the headers of a frame are. Offsets are from the start of the frame, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(C)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Headers {
    /// Whether an 802.1Q tag follows the Ethernet addresses.
    pub tagged: bool,
    /// Network layer.
    pub network: Network,
    /// Transport layer.
    pub transport: Transport,
    /// Offset of the network header (or of the payload, if it is none we know).
    pub network_offset: u16,
    /// Offset of the transport header; meaningful unless `transport` is `Other`.
    pub transport_offset: u16,
}

impl Headers {
    /// The IPv4 header of the frame `bytes`, to be changed; `None` if it has none.
    pub(crate) fn ipv4_mut<'a>(&self, bytes: &'a mut [u8]) -> Option<&'a mut ipv4::Header> {
        if self.network != Network::Ipv4 {
            return None;
        }
        let (header, _) = ipv4::Header::mut_from_prefix(bytes.get_mut(usize::from(self.network_offset)..)?).ok()?;
        Some(header)
    }

    /// The IPv6 header of the frame `bytes`, to be changed; `None` if it has none.
    pub(crate) fn ipv6_mut<'a>(&self, bytes: &'a mut [u8]) -> Option<&'a mut ipv6::Header> {
        if self.network != Network::Ipv6 {
            return None;
        }
        let (header, _) = ipv6::Header::mut_from_prefix(bytes.get_mut(usize::from(self.network_offset)..)?).ok()?;
        Some(header)
    }

    /// Whether the TCP header of the frame `bytes` is as long as its length field says: at least 20 bytes, and
    /// inside the IP packet.
    pub(crate) fn holds_tcp_options(&self, bytes: &[u8]) -> bool {
        let Some(packet) = bytes.get(usize::from(self.network_offset)..) else { return false };
        let packet_len = match self.network {
            Network::Ipv4 => ipv4::Header::ref_from_prefix(packet).map_or(0, |(ip, _)| ip.total_length.get()),
            Network::Ipv6 => ipv6::Header::ref_from_prefix(packet)
                .map_or(0, |(ip, _)| ip.payload_length.get().saturating_add(ipv6::LEN as u16)),
            Network::Arp | Network::Other => 0,
        };
        let start = usize::from(self.transport_offset.saturating_sub(self.network_offset));
        let segment = packet.get(start..usize::from(packet_len)).unwrap_or_default();
        let Ok((tcp, _)) = tcp::Header::ref_from_prefix(segment) else { return false };
        (tcp::LEN..=segment.len()).contains(&tcp.header_len())
    }

    /// ToS octet or traffic class of the frame `bytes`; `None` unless it is IP.
    pub(crate) fn tos(&self, bytes: &[u8]) -> Option<u8> {
        let rest = bytes.get(usize::from(self.network_offset)..)?;
        match self.network {
            Network::Ipv4 => ipv4::Header::ref_from_prefix(rest).ok().map(|(header, _)| header.tos),
            Network::Ipv6 => ipv6::Header::ref_from_prefix(rest).ok().map(|(header, _)| header.traffic_class()),
            Network::Arp | Network::Other => None,
        }
    }

    /// Sets the bits `mask` of the ToS octet or traffic class, and the IPv4 header checksum with them.
    /// `false`, and nothing is changed, unless the frame is IP.
    pub(crate) fn set_tos(&self, bytes: &mut [u8], value: u8, mask: u8) -> bool {
        if let Some(header) = self.ipv4_mut(bytes) {
            header.set_tos(header.tos & !mask | value & mask);
            true
        } else if let Some(header) = self.ipv6_mut(bytes) {
            header.set_traffic_class(header.traffic_class() & !mask | value & mask);
            true
        } else {
            false
        }
    }

    /// The headers after a VLAN tag was put in front of them (`tagged`) or removed.
    #[must_use]
    pub(crate) fn with_tag(mut self, tagged: bool) -> Self {
        let moved = |offset: u16| {
            let len = vlan::LEN as u16;
            if tagged { offset.checked_add(len) } else { offset.checked_sub(len) }
        };
        self.tagged = tagged;
        self.network_offset = moved(self.network_offset).unwrap_or(self.network_offset);
        match moved(self.transport_offset) {
            Some(offset) => self.transport_offset = offset,
            None => self.transport = Transport::Other,
        }
        self
    }
}

/// A parsed frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(C)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Parsed {
    /// What matches see.
    pub key: FlowKey,
    /// Where the headers are.
    pub headers: Headers,
}

/// Parses a frame that entered at `in_port` out of tunnel `tun_id` (0: none). `None` if it is shorter than an
/// Ethernet header; anything else that is malformed only leaves the fields above it zero.
///
/// The rules are those of Open vSwitch's `flow_extract`, so that a flow means the same here and there: one
/// 802.1Q or 802.1ad tag is taken (an inner tag is the EtherType of the payload), bytes behind the IP packet are
/// padding, an IP packet longer than its frame has no fields at all, and IP version nibbles are not looked at.
pub fn parse(bytes: &[u8], in_port: u16, tun_id: u32) -> Option<Parsed> {
    let mut parsed = Parsed::default();
    parse_into(&mut parsed, bytes, in_port, tun_id).then_some(parsed)
}

/// [`parse`] into the caller's memory. If the frame is too short the answer is `false`, and `parsed` unchanged.
#[inline(never)]
pub(crate) fn parse_into(parsed: &mut Parsed, bytes: &[u8], in_port: u16, tun_id: u32) -> bool {
    let Some((header, mut rest)) = bytes.split_first_chunk::<{ ethernet::LEN }>() else { return false };
    // Two overlapping loads make the first two words of the key: dst and in_port, src and EtherType.
    let [dst @ .., _, _, _, _, _, _] = header;
    let [_, _, _, _, _, _, src @ ..] = header;
    let dst = u64::from_be_bytes(*dst) & !LOW_16 | u64::from(in_port);
    let mut src = u64::from_be_bytes(*src);
    let mut ethertype = src as u16;
    let mut offset = ethernet::LEN;
    let mut tci = 0;
    if vlan::is_tag(ethertype)
        && let Some((&[tci_hi, tci_lo, type_hi, type_lo], behind)) = rest.split_first_chunk()
    {
        tci = u64::from(u16::from_be_bytes([tci_hi, tci_lo]) | VLAN_PRESENT);
        ethertype = u16::from_be_bytes([type_hi, type_lo]);
        offset = ethernet::LEN.wrapping_add(vlan::LEN);
        rest = behind;
    }
    if ethertype < ethernet::ETHERTYPE_MIN {
        (ethertype, offset, rest) = length_frame(offset, rest);
    }
    src = src & !LOW_16 | u64::from(ethertype);
    let (above, ipv6) = match ethertype {
        ethernet::ETHERTYPE_IPV4 => (parse_ipv4(offset, rest), [0; 4]),
        ethernet::ETHERTYPE_IPV6 => parse_ipv6(offset, rest),
        ethernet::ETHERTYPE_ARP | ethernet::ETHERTYPE_RARP => (parse_arp(rest), [0; 4]),
        _ => (Above::default(), [0; 4]),
    };
    let [src_hi, src_lo, dst_hi, dst_lo] = ipv6;
    let (transport, flags) = (tci << 48 | above.transport_word, u64::from(tun_id) << 32 | above.flags_word);
    parsed.key = FlowKey([dst, src, above.addresses, transport, flags, src_hi, src_lo, dst_hi, dst_lo]);
    parsed.headers = Headers {
        tagged: tci != 0,
        network: above.network,
        transport: above.transport,
        network_offset: offset as u16,
        transport_offset: above.transport_offset,
    };
    true
}

/// What stands above the Ethernet header: words of the key (see [`crate::key::Field::place`]) and where it is.
#[derive(Clone, Copy, Default)]
struct Above {
    network: Network,
    transport: Transport,
    transport_offset: u16,
    /// Word 2: IPv4 (or ARP) source and destination.
    addresses: u64,
    /// Word 3 without the tag: ports, protocol, ToS.
    transport_word: u64,
    /// Word 4 without the tunnel: TCP flags, fragment state.
    flags_word: u64,
}

impl Above {
    fn set_addresses(&mut self, src: [u8; 4], dst: [u8; 4]) {
        self.addresses = u64::from(u32::from_be_bytes(src)) << 32 | u64::from(u32::from_be_bytes(dst));
    }

    /// The setters below must be called once each at most: they only set bits.
    fn set_proto_tos_frag(&mut self, proto: u8, tos: u8, frag: u8) {
        self.transport_word |= u64::from(proto) << 8 | u64::from(tos);
        self.flags_word |= u64::from(frag) << 8;
    }

    fn set_ports(&mut self, src: u16, dst: u16) {
        self.transport_word |= u64::from(src) << 32 | u64::from(dst) << 16;
    }

    fn set_tcp_flags(&mut self, flags: u16) {
        self.flags_word |= u64::from(flags) << 16;
    }

    /// Matches see no ports in any fragment, not even in the first (OpenFlow 1.0 section 3.4); so all fragments of
    /// a packet meet the same entry. Actions still find them.
    fn hide_ports(&mut self, fragment: u8) {
        if fragment != 0 {
            self.transport_word &= !(u64::from(u32::MAX) << 16);
        }
    }
}

/// The bits of EtherType and in_port in their key words.
const LOW_16: u64 = 0xffff;

/// Most extension headers of an IPv6 packet that are walked over. A packet with more has no fields above its
/// addresses; real ones have at most one of each kind.
const MAX_EXTENSIONS: usize = 16;

/// EtherType, payload offset and payload of an IEEE 802.3 frame.
#[cold]
fn length_frame(offset: usize, rest: &[u8]) -> (u16, usize, &[u8]) {
    if let Ok((snap, behind)) = Snap::ref_from_prefix(rest)
        && let Some(ethertype) = snap.carried_ethertype()
    {
        return (ethertype, offset.wrapping_add(size_of::<Snap>()), behind);
    }
    (ethernet::ETHERTYPE_NONE, offset, rest)
}

fn parse_arp(rest: &[u8]) -> Above {
    let mut above = Above::default();
    if let Ok((arp, _)) = arp::Header::ref_from_prefix(rest)
        && arp.kind == arp::Header::ETHERNET_IPV4
    {
        above.network = Network::Arp;
        above.set_addresses(arp.sender_ip, arp.target_ip);
        // Only an opcode of 8 bits can be matched; a larger one reads as 0.
        above.set_proto_tos_frag(u8::try_from(arp.operation.get()).unwrap_or(0), 0, 0);
    }
    above
}

#[inline]
fn parse_ipv4(offset: usize, rest: &[u8]) -> Above {
    let mut above = Above::default();
    let Ok((ip, _)) = ipv4::Header::ref_from_prefix(rest) else { return above };
    let header_len = ip.header_len();
    if header_len < ipv4::LEN {
        return above;
    }
    let Some(payload) = rest.get(header_len..usize::from(ip.total_length.get())) else { return above };
    above.network = Network::Ipv4;
    above.set_addresses(ip.src, ip.dst);
    let fragment = fragment_state(ip.is_fragment(), ip.is_later_fragment());
    above.set_proto_tos_frag(ip.protocol, ip.tos & !ipv4::ECN_MASK, fragment);
    if fragment != FRAGMENT_LATER {
        let kind = match ip.protocol {
            ipv4::PROTOCOL_TCP => Upper::Tcp,
            ipv4::PROTOCOL_UDP => Upper::Udp,
            ipv4::PROTOCOL_ICMP => Upper::Icmp,
            ipv4::PROTOCOL_IGMP => Upper::Igmp,
            ipv4::PROTOCOL_SCTP => Upper::Sctp,
            _ => return above,
        };
        parse_transport(&mut above, kind, offset.wrapping_add(header_len), payload);
        above.hide_ports(fragment);
    }
    above
}

/// What stands above the Ethernet header, and the words of the addresses.
#[inline(never)]
fn parse_ipv6(offset: usize, rest: &[u8]) -> (Above, [u64; 4]) {
    let mut above = Above::default();
    let Ok((ip, behind)) = ipv6::Header::ref_from_prefix(rest) else { return (above, [0; 4]) };
    let Some(payload) = behind.get(..usize::from(ip.payload_length.get())) else { return (above, [0; 4]) };
    let (src, dst) = (u128::from_be_bytes(ip.src), u128::from_be_bytes(ip.dst));
    let addresses = [(src >> 64) as u64, src as u64, (dst >> 64) as u64, dst as u64];
    // A packet whose extension headers are cut off keeps its addresses to match on, and nothing to change.
    let Some((protocol, fragment, skipped)) = skip_extensions(ip.next_header, payload) else {
        return (above, addresses);
    };
    above.network = Network::Ipv6;
    above.set_proto_tos_frag(protocol, ip.traffic_class() & !ipv4::ECN_MASK, fragment);
    let kind = match protocol {
        ipv4::PROTOCOL_TCP => Upper::Tcp,
        ipv4::PROTOCOL_UDP => Upper::Udp,
        ipv6::ICMPV6 => Upper::Icmp,
        ipv4::PROTOCOL_SCTP => Upper::Sctp,
        _ => return (above, addresses),
    };
    let payload = payload.get(skipped..).unwrap_or_default();
    parse_transport(&mut above, kind, offset.wrapping_add(ipv6::LEN).wrapping_add(skipped), payload);
    above.hide_ports(fragment);
    (above, addresses)
}

/// Walks over extension headers: protocol above them, fragment state, bytes walked over. A later fragment ends
/// the walk with protocol [`ipv6::FRAGMENT`]. `None` if a header is cut off.
fn skip_extensions(mut protocol: u8, payload: &[u8]) -> Option<(u8, u8, usize)> {
    let mut rest = payload;
    let mut fragment = 0;
    for _ in 0..=MAX_EXTENSIONS {
        let header = ipv6::Extension::ref_from_prefix(rest);
        let kind = protocol;
        if !ipv6::Extension::is_kind(kind) {
            return Some((protocol, fragment, payload.len().wrapping_sub(rest.len())));
        }
        let (header, _) = header.ok()?;
        protocol = header.next_header;
        rest = rest.get(header.len(kind)..)?;
        if kind == ipv6::FRAGMENT && header.fragment.get() != 0 {
            let later = header.fragment.get() & ipv6::Extension::OFFSET_MASK != 0;
            fragment = fragment_state(true, later);
            if later {
                return Some((ipv6::FRAGMENT, fragment, payload.len().wrapping_sub(rest.len())));
            }
        }
    }
    None
}

/// `FLOW_NW_FRAG_ANY | FLOW_NW_FRAG_LATER` of Open vSwitch.
const FRAGMENT_LATER: u8 = 3;

#[inline]
fn fragment_state(any: bool, later: bool) -> u8 {
    u8::from(any) | u8::from(later) << 1
}

/// Kinds of transport header, by what the key takes from them.
#[derive(Clone, Copy)]
enum Upper {
    Tcp,
    Udp,
    Icmp,
    Igmp,
    Sctp,
}

/// Smallest SCTP packet that has ports: common header (RFC 9260).
const SCTP_LEN: usize = 12;

#[inline]
fn parse_transport(above: &mut Above, kind: Upper, offset: usize, payload: &[u8]) {
    // An offset beyond 65535 needs a super-segment full of IPv6 extension headers; it has no ports then.
    let Ok(offset) = u16::try_from(offset) else { return };
    above.transport_offset = offset;
    match kind {
        Upper::Tcp => {
            let Ok((tcp, _)) = tcp::Header::ref_from_prefix(payload) else { return };
            above.transport = Transport::Tcp;
            if (tcp::LEN..=payload.len()).contains(&tcp.header_len()) {
                above.set_ports(tcp.src.get(), tcp.dst.get());
                above.set_tcp_flags(tcp.offset_flags.get() & tcp::FLAGS_MASK);
            }
        }
        Upper::Udp => {
            let Ok((udp, _)) = udp::Header::ref_from_prefix(payload) else { return };
            above.transport = Transport::Udp;
            above.set_ports(udp.src.get(), udp.dst.get());
        }
        Upper::Icmp | Upper::Igmp => {
            let Ok((icmp, _)) = icmp::Header::ref_from_prefix(payload) else { return };
            if matches!(kind, Upper::Icmp) {
                above.transport = Transport::Icmp;
            }
            above.set_ports(u16::from(icmp.kind), u16::from(icmp.code));
        }
        // Ports to match on, but no header that an action could change (its CRC32c has no incremental form here).
        Upper::Sctp => {
            if let Some(&[src_hi, src_lo, dst_hi, dst_lo, ..]) = payload.first_chunk::<SCTP_LEN>() {
                above.set_ports(u16::from_be_bytes([src_hi, src_lo]), u16::from_be_bytes([dst_hi, dst_lo]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Field;

    /// The words that the parser builds have every field where [`Field::place`] says.
    #[test]
    fn words_agree_with_place() {
        let mut above = Above::default();
        above.set_addresses([10, 0, 0, 1], [192, 0, 2, 3]);
        above.set_proto_tos_frag(17, 0xb8, 3);
        above.set_ports(0x1234, 0x5678);
        above.set_tcp_flags(0xabc);
        let key = FlowKey([0, 0, above.addresses, above.transport_word, above.flags_word, 0, 0, 0, 0]);
        let expected = FlowKey::ZERO
            .with(Field::NwSrc, 0x0a00_0001)
            .with(Field::NwDst, 0xc000_0203)
            .with(Field::NwProto, 17)
            .with(Field::NwTos, 0xb8)
            .with(Field::NwFrag, 3)
            .with(Field::TpSrc, 0x1234)
            .with(Field::TpDst, 0x5678)
            .with(Field::TcpFlags, 0xabc);
        assert_eq!(key, expected);
    }
}
