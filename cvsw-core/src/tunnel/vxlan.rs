//! VXLAN over IPv4 (RFC 7348).

use super::{ecn, ip_payload};
use crate::{
    flow::{Field, FlowKey, Ipv4Addr, Tunnel, hash::hash_key},
    frame::{Buffer, Checksum, Frame, GsoKind, Offload},
    parse::{Headers, Network, Transport, parse},
    stats::DropReason,
    wire::{checksum, esp, ethernet, ipv4, udp, vxlan},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

/// Bytes that an encapsulation adds in front of a frame.
pub const OVERHEAD: usize = size_of::<Outer>();

/// Where the headers of a frame are after [`Template::encapsulate`].
pub const OUTER_HEADERS: Headers = Headers {
    tagged: false,
    network: Network::Ipv4,
    transport: Transport::Udp,
    network_offset: ethernet::LEN as u16,
    transport_offset: (ethernet::LEN + ipv4::LEN) as u16,
};

/// Time to live of encapsulated packets.
const TTL: u8 = 64;
/// The first of the 2^14 UDP source ports that carry the flow's hash (RFC 7348 section 5, RFC 6335).
const FIRST_SOURCE_PORT: u16 = 0xc000;

/// The headers in front of the inner frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Outer {
    ethernet: ethernet::Header,
    ip: ipv4::Header,
    udp: udp::Header,
    vxlan: vxlan::Header,
}

/// The same with ESP in transport mode: what stands behind its header will be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SealedOuter {
    ethernet: ethernet::Header,
    ip: ipv4::Header,
    esp: esp::Header,
    udp: udp::Header,
    vxlan: vxlan::Header,
}

/// Bytes in front of the inner frame that are sealed with it.
pub(super) const SEALED_HEADERS: usize = udp::LEN + size_of::<vxlan::Header>();

/// An encapsulation, compiled: the outer headers with everything filled in that all packets share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Template {
    outer: Outer,
    /// Sum of the IPv4 header without the fields that [`Template::encapsulate`] patches.
    ip_sum: U16,
}

impl Template {
    /// The template for `tunnel`, of whose VNI the low 24 bits count.
    pub fn new(tunnel: &Tunnel) -> Self {
        let ip = ipv4::Header {
            version_ihl: ipv4::VERSION_IHL,
            tos: 0,
            total_length: U16::ZERO,
            identification: U16::ZERO,
            fragment: U16::new(ipv4::DONT_FRAGMENT),
            ttl: TTL,
            protocol: ipv4::PROTOCOL_UDP,
            checksum: U16::ZERO,
            src: tunnel.src,
            dst: tunnel.dst,
        };
        let outer = Outer {
            ethernet: ethernet::Header {
                dst: tunnel.eth_dst,
                src: tunnel.eth_src,
                ethertype: U16::new(ethernet::ETHERTYPE_IPV4),
            },
            ip,
            udp: udp::Header { src: U16::ZERO, dst: U16::new(vxlan::PORT), length: U16::ZERO, checksum: U16::ZERO },
            vxlan: vxlan::Header::new(tunnel.vni),
        };
        Self { outer, ip_sum: U16::new(checksum::sum(ip.as_bytes())) }
    }

    /// The tunnel that the template was made for.
    pub fn tunnel(&self) -> Tunnel {
        let Outer { ethernet, ip, vxlan, .. } = &self.outer;
        Tunnel { eth_dst: ethernet.dst, eth_src: ethernet.src, dst: ip.dst, src: ip.src, vni: vxlan.vni() }
    }

    /// Puts the outer headers in front of `frame`, which `headers` and `key` describe. `ip_id` becomes the
    /// IPv4 identification.
    ///
    /// A checksum that was left for later is filled in first: what looks at the outer packet cannot find it.
    pub fn encapsulate<B: Buffer>(
        &self,
        frame: &mut Frame<B>,
        headers: &Headers,
        key: &FlowKey,
        ip_id: u16,
    ) -> Result<(), DropReason> {
        let tos = prepare(frame, headers)?;
        frame.push_front(OVERHEAD).map_err(|_| DropReason::NoHeadroom)?;
        let ip_length = frame.len().wrapping_sub(ethernet::LEN);
        let ip_length = u16::try_from(ip_length).map_err(|_| DropReason::FrameTooBig)?;
        let Ok((outer, _)) = Outer::mut_from_prefix(frame.bytes_mut()) else {
            return Err(DropReason::NoHeadroom);
        };
        *outer = self.outer;
        self.patch_ip(&mut outer.ip, tos, ip_length, ip_id);
        outer.udp.src.set(source_port(key));
        outer.udp.length.set(ip_length.wrapping_sub(ipv4::LEN as u16));
        frame.offload = Offload::default();
        Ok(())
    }

    /// The destination of the outer packet.
    pub(super) const fn destination(&self) -> Ipv4Addr {
        self.outer.ip.dst
    }

    /// Writes the outer headers of a packet whose VXLAN part is `inner_len` bytes of an inner frame and will be sealed:
    /// Ethernet, IPv4 with protocol ESP, `esp`, UDP and VXLAN. `ip_length` is that of the sealed packet.
    #[inline(always)]
    pub(super) fn write_sealed(
        &self,
        out: &mut SealedOuter,
        esp: &esp::Header,
        (tos, ip_length, ip_id): (u8, u16, u16),
        inner_len: usize,
        key: &FlowKey,
    ) {
        let Outer { ethernet, ip, udp, vxlan } = self.outer;
        *out = SealedOuter { ethernet, ip, esp: *esp, udp, vxlan };
        self.patch_ip(&mut out.ip, tos, ip_length, ip_id);
        let change = checksum::difference16(ipv4::PROTOCOL_UDP.into(), ipv4::PROTOCOL_ESP.into());
        out.ip.protocol = ipv4::PROTOCOL_ESP;
        out.ip.checksum.set(checksum::update(out.ip.checksum.get(), change));
        out.udp.src.set(source_port(key));
        // The packet's length fits 16 bits, so this part of it does.
        out.udp.length.set(SEALED_HEADERS.wrapping_add(inner_len) as u16);
    }

    /// Fills in what differs from packet to packet, and the checksum.
    #[inline]
    fn patch_ip(&self, ip: &mut ipv4::Header, tos: u8, length: u16, ip_id: u16) {
        ip.tos = tos;
        ip.total_length.set(length);
        ip.identification.set(ip_id);
        let sum = [u16::from(tos), length, ip_id].map(u64::from);
        let sum = sum.iter().fold(u64::from(self.ip_sum.get()), |sum, word| sum.wrapping_add(*word));
        ip.checksum.set(!checksum::fold(sum));
    }
}

/// What an encapsulation begins with: nothing may be left for others to do inside. Returns the frame's ToS octet.
#[inline]
pub(super) fn prepare<B: Buffer>(frame: &mut Frame<B>, headers: &Headers) -> Result<u8, DropReason> {
    if frame.offload.gso.kind != GsoKind::None {
        return Err(DropReason::GsoUnsupported);
    }
    frame.complete_checksum().map_err(|_| DropReason::BadOffload)?;
    Ok(headers.tos(frame.bytes()).unwrap_or(0))
}

/// Removes the outer headers, and what lies behind the outer UDP datagram, from `frame`, which `headers`
/// describe, and returns the VNI. With `demanded`, another VNI is refused. On error the frame is unchanged.
pub fn decapsulate<B: Buffer>(
    frame: &mut Frame<B>,
    headers: &Headers,
    demanded: Option<u32>,
) -> Result<u32, DropReason> {
    if frame.offload.gso.kind != GsoKind::None {
        return Err(DropReason::GsoUnsupported);
    }
    // A checksum that is still to be filled in was never on a wire that could have damaged the packet.
    let verify = frame.offload.checksum == Checksum::Complete;
    let Inner { start, end, vni, tos } = inspect(frame.bytes(), headers, verify, demanded)?;
    let checksum = inner_checksum(frame.offload.checksum, headers, start)?;
    merge_congestion(frame.bytes_mut().get_mut(start..end).unwrap_or_default(), tos)?;
    let too_short = |_| DropReason::TunnelInnerTooShort;
    frame.set_len(end).map_err(too_short)?;
    frame.pull_front(start).map_err(too_short)?;
    frame.offload = Offload { checksum, ..Offload::default() };
    Ok(vni)
}

/// UDP source port of a flow: the same for all its packets, fragments included, and spread evenly over flows,
/// so that the underlay can balance by it.
#[inline]
fn source_port(key: &FlowKey) -> u16 {
    /// Any number: nothing is kept under these hashes, so nobody gains from two that are equal.
    const SEED: u64 = 0x5f10_3c8e_a29b_d647;
    let &[dst, src, addresses, transport, flags, ipv6 @ ..] = key.words();
    // Only the first fragment has ports; without them all fragments of a packet stay on one path.
    let whole = flags & key_bits(Field::NwFrag) == 0;
    let transport = if whole { transport } else { transport & !PORTS };
    let [src_hi, src_lo, dst_hi, dst_lo] = ipv6;
    let words = [dst & !key_bits(Field::InPort), src, addresses, transport, 0, src_hi, src_lo, dst_hi, dst_lo];
    FIRST_SOURCE_PORT | (hash_key(SEED, &FlowKey(words)) >> 50) as u16
}

/// The ports in their key word.
const PORTS: u64 = key_bits(Field::TpSrc) | key_bits(Field::TpDst);

/// The bits of `field` in its key word.
const fn key_bits(field: Field) -> u64 {
    let (_, shift, _) = field.place();
    field.max() << shift
}

/// Where the inner frame is, and what the outer headers say about it.
struct Inner {
    /// Offset of the inner frame's first byte.
    start: usize,
    /// Offset behind its last byte.
    end: usize,
    vni: u32,
    /// ToS octet of the outer packet.
    tos: u8,
}

/// Checks the outer headers, from the outside inwards. `verify`: the UDP checksum too.
fn inspect(bytes: &[u8], headers: &Headers, verify: bool, demanded: Option<u32>) -> Result<Inner, DropReason> {
    let ip_start = usize::from(headers.network_offset);
    let (ip, datagram) = ip_payload(bytes, headers, ipv4::PROTOCOL_UDP, DropReason::TunnelNotUdp)?;
    let (udp, _) = udp::Header::ref_from_prefix(datagram).map_err(|_| DropReason::TunnelUdpLength)?;
    let length = usize::from(udp.length.get());
    let payload = datagram.get(udp::LEN..length).ok_or(DropReason::TunnelUdpLength)?;
    if verify && udp.checksum.get() != 0 {
        let pseudo = checksum::pseudo_header_v4(ip.src, ip.dst, ip.protocol, udp.length.get());
        let sum = checksum::sum(datagram.get(..length).unwrap_or_default());
        if checksum::add(pseudo, sum) != 0xffff {
            return Err(DropReason::TunnelUdpChecksum);
        }
    }
    if udp.dst.get() != vxlan::PORT {
        return Err(DropReason::TunnelPort);
    }
    let (vxlan, inner) = vxlan::Header::ref_from_prefix(payload).map_err(|_| DropReason::TunnelInnerTooShort)?;
    if vxlan.flags & vxlan::FLAG_VNI == 0 {
        return Err(DropReason::VxlanFlags);
    }
    let vni = vxlan.vni();
    if demanded.is_some_and(|demanded| demanded != vni) {
        return Err(DropReason::VxlanVni);
    }
    if inner.len() < ethernet::LEN {
        return Err(DropReason::TunnelInnerTooShort);
    }
    let end = ip_start.wrapping_add(ip.header_len()).wrapping_add(length);
    Ok(Inner { start: end.wrapping_sub(inner.len()), end, vni, tos: ip.tos })
}

/// State of the inner frame's checksum, of which the inner frame starts at `start`.
fn inner_checksum(outer: Checksum, headers: &Headers, start: usize) -> Result<Checksum, DropReason> {
    match outer {
        // What the NIC vouches for is the outermost checksum.
        Checksum::Complete | Checksum::Verified => Ok(Checksum::Complete),
        Checksum::Partial { start: at, .. } if at == headers.transport_offset => Ok(Checksum::Complete),
        // The sender on this machine left the inner checksum to be filled in (Linux does).
        Checksum::Partial { start: at, offset } => match usize::from(at).checked_sub(start) {
            Some(at) => Ok(Checksum::Partial { start: at as u16, offset }),
            None => Err(DropReason::BadOffload),
        },
    }
}

/// Merges the congestion mark of the outer `tos` into the inner frame.
fn merge_congestion(inner: &mut [u8], tos: u8) -> Result<(), DropReason> {
    // Most outer packets carry no mark that can change the inner one.
    if matches!(tos & ipv4::ECN_MASK, ecn::NOT_ECT | ecn::ECT_0) {
        return Ok(());
    }
    let Some(parsed) = parse(inner, 0, 0) else { return Ok(()) };
    let Some(inner_tos) = parsed.headers.tos(inner) else { return Ok(()) };
    let mark = ecn::decapsulate(inner_tos, tos).ok_or(DropReason::TunnelEcn)?;
    parsed.headers.set_tos(inner, mark, ipv4::ECN_MASK);
    Ok(())
}
