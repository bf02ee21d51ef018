//! ESP in transport mode over IPv4 (RFC 4303 section 3.1.1): what lies behind the outer IPv4 header is sealed, in place.
//!
//! ```text
//! before  Ethernet | IPv4 (UDP) |                     UDP | VXLAN | inner frame
//! after   Ethernet | IPv4 (ESP) | SPI, sequence, IV | UDP | VXLAN | inner frame | padding, trailer | ICV
//! ```
//!
//! A stock peer (Linux `ip xfrm`, mode transport) understands it.

use super::{ip_payload, vxlan};
use crate::{
    crypto::{Ciphers, PacketHeader, SaTable, Suite},
    flow::{FlowKey, Ipv4Addr},
    frame::{Buffer, Checksum, Frame, GsoKind, Offload},
    parse::{Headers, Network, Transport, parse},
    stats::DropReason,
    time::Instant,
    wire::{checksum, esp, ethernet, ipv4, udp},
};
use zerocopy::FromBytes;

/// Longest headers in front of an ESP header: Ethernet with a tag, and IPv4 with options.
const OUTER_MAX: usize = 14 + 4 + 60;

/// What was sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Slot of the security association.
    pub slot: usize,
    /// Bytes of the payload in clear.
    pub bytes: usize,
}

/// Why it was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why the frame must be dropped.
    pub reason: DropReason,
    /// Slot of the security association, if one was found.
    pub slot: Option<usize>,
}

impl From<DropReason> for Refused {
    fn from(reason: DropReason) -> Self {
        Self { reason, slot: None }
    }
}

impl From<(DropReason, Option<usize>)> for Refused {
    fn from((reason, slot): (DropReason, Option<usize>)) -> Self {
        Self { reason, slot }
    }
}

/// Seals the payload of the IPv4 packet in `frame`, which `headers` describe, with the sending association `id`.
/// `headers` then describe the sealed frame. Takes one sequence number, except when the room does not suffice.
pub fn seal<B: Buffer, C: Ciphers, const SAS: usize>(
    frame: &mut Frame<B>,
    headers: &mut Headers,
    sas: &mut SaTable<SAS>,
    ciphers: &mut C,
    now: Instant,
    id: u32,
) -> Result<Done, Refused> {
    check_offload(frame.offload)?;
    let Place { payload, len, destination } = place(frame, headers)?;
    let padding = Suite::padding(len);
    let room_behind = padding.wrapping_add(esp::TRAILER_LEN);
    check_room(frame, esp::LEN, room_behind)?;
    let outbound = sas.next_outbound(ciphers, now, id, destination)?;
    let refused = |reason| Refused { reason, slot: Some(outbound.slot) };
    let grown = esp::LEN.wrapping_add(room_behind).wrapping_add(outbound.suite.icv_len());
    let total = payload.wrapping_add(len).wrapping_add(grown);
    frame.push_front(esp::LEN).map_err(|_| refused(DropReason::NoHeadroom))?;
    frame.set_len(total).map_err(|_| refused(DropReason::NoTailroom))?;
    let bytes = frame.bytes_mut();
    // The outer headers move to the front; what they leave free is for the ESP header.
    if let Some(front) = bytes.get_mut(..payload.wrapping_add(esp::LEN)) {
        front.copy_within(esp::LEN.., 0);
    }
    let protocol = replace_protocol(bytes, headers, ipv4::PROTOCOL_ESP, |length| length.checked_add(grown))
        .ok_or(refused(DropReason::FrameTooBig))?;
    let (wire, data) = esp::Header::mut_from_prefix(bytes.get_mut(payload..).unwrap_or_default())
        .map_err(|_| refused(DropReason::NoHeadroom))?;
    *wire = *outbound.header.wire();
    write_trailer(data.get_mut(len..).unwrap_or_default(), padding, protocol);
    ciphers.seal(outbound.slot, &outbound.header, data).map_err(|error| refused(error.into()))?;
    headers.transport = Transport::Other;
    frame.offload = Offload::default();
    Ok(Done { slot: outbound.slot, bytes: len })
}

/// [`vxlan::Template::encapsulate`] and [`seal`] in one: the headers are written once, where they stay. The frame that
/// leaves is the same.
#[allow(clippy::too_many_arguments, reason = "what both take")]
pub fn encapsulate_and_seal<B: Buffer, C: Ciphers, const SAS: usize>(
    frame: &mut Frame<B>,
    headers: &mut Headers,
    (template, key, ip_id): (&vxlan::Template, &FlowKey, u16),
    sas: &mut SaTable<SAS>,
    ciphers: &mut C,
    now: Instant,
    id: u32,
) -> Result<Done, Refused> {
    let tos = vxlan::prepare(frame, headers)?;
    let inner_len = frame.len();
    let len = inner_len.wrapping_add(vxlan::SEALED_HEADERS);
    let padding = Suite::padding(len);
    let room_behind = padding.wrapping_add(esp::TRAILER_LEN);
    check_room(frame, size_of::<vxlan::SealedOuter>(), room_behind)?;
    let outbound = sas.next_outbound(ciphers, now, id, template.destination())?;
    let refused = |reason| Refused { reason, slot: Some(outbound.slot) };
    let sealed = esp::LEN.wrapping_add(len).wrapping_add(room_behind).wrapping_add(outbound.suite.icv_len());
    let ip_length = u16::try_from(ipv4::LEN.wrapping_add(sealed)).map_err(|_| refused(DropReason::FrameTooBig))?;
    frame.push_front(size_of::<vxlan::SealedOuter>()).map_err(|_| refused(DropReason::NoHeadroom))?;
    let total = ethernet::LEN.wrapping_add(usize::from(ip_length));
    frame.set_len(total).map_err(|_| refused(DropReason::NoTailroom))?;
    let bytes = frame.bytes_mut();
    let (outer, _) = vxlan::SealedOuter::mut_from_prefix(bytes).map_err(|_| refused(DropReason::NoHeadroom))?;
    template.write_sealed(outer, outbound.header.wire(), (tos, ip_length, ip_id), inner_len, key);
    let start = usize::from(vxlan::OUTER_HEADERS.transport_offset).wrapping_add(esp::LEN);
    let data = bytes.get_mut(start..).unwrap_or_default();
    write_trailer(data.get_mut(len..).unwrap_or_default(), padding, ipv4::PROTOCOL_UDP);
    ciphers.seal(outbound.slot, &outbound.header, data).map_err(|error| refused(error.into()))?;
    *headers = Headers { transport: Transport::Other, ..vxlan::OUTER_HEADERS };
    frame.offload = Offload::default();
    Ok(Done { slot: outbound.slot, bytes: len })
}

/// Whether there is room for `front` bytes in front of a frame, and for `behind` bytes and the longest ICV behind it:
/// checked before a sequence number is taken, so that none is used in vain.
fn check_room<B: Buffer>(frame: &Frame<B>, front: usize, behind: usize) -> Result<(), DropReason> {
    if frame.headroom() < front {
        return Err(DropReason::NoHeadroom);
    }
    if frame.tailroom() < behind.wrapping_add(esp::MAX_ICV) {
        return Err(DropReason::NoTailroom);
    }
    Ok(())
}

/// Opens the ESP packet in `frame`, which `headers` describe; they then describe the opened frame, which is IPv4/UDP.
///
/// `watch`: the packet is only looked at; it stays possible to receive it.
pub fn open<B: Buffer, C: Ciphers, const SAS: usize>(
    frame: &mut Frame<B>,
    headers: &mut Headers,
    sas: &mut SaTable<SAS>,
    ciphers: &mut C,
    now: Instant,
    watch: bool,
) -> Result<Done, Refused> {
    check_offload(frame.offload)?;
    let (ip, packet) = ip_payload(frame.bytes(), headers, ipv4::PROTOCOL_ESP, DropReason::EspNotEsp)?;
    let payload = usize::from(headers.network_offset).wrapping_add(ip.header_len());
    if payload > OUTER_MAX {
        return Err(DropReason::EspMalformed.into());
    }
    let (wire, data) = esp::Header::read_from_prefix(packet).map_err(|_| DropReason::EspMalformed)?;
    let (destination, sealed_len) = (ip.dst, data.len());
    let inbound = sas.find_inbound(ciphers, now, wire.spi.get(), destination, wire.sequence.get())?;
    let refused = |reason| Refused { reason, slot: Some(inbound.slot) };
    let text_len = sealed_len
        .checked_sub(inbound.suite.icv_len())
        .filter(|len| *len >= esp::TRAILER_LEN && len.is_multiple_of(esp::ALIGNMENT))
        .ok_or(refused(DropReason::EspMalformed))?;
    let start = payload.wrapping_add(esp::LEN);
    let data = frame.bytes_mut().get_mut(start..start.wrapping_add(sealed_len)).unwrap_or_default();
    let header = PacketHeader::new(wire.spi.get(), inbound.sequence, inbound.extended, wire.iv);
    ciphers.open(inbound.slot, &header, data).map_err(|error| refused(error.into()))?;
    if !watch {
        sas.accept(ciphers, &inbound).map_err(refused)?;
    }
    let text = data.get(..text_len).unwrap_or_default();
    let len = check_trailer(text).map_err(refused)?;
    frame.set_len(start.wrapping_add(len)).map_err(|_| refused(DropReason::EspMalformed))?;
    move_outer(frame.bytes_mut(), payload);
    frame.pull_front(esp::LEN).map_err(|_| refused(DropReason::EspMalformed))?;
    let removed = esp::LEN.wrapping_add(sealed_len).wrapping_sub(len);
    replace_protocol(frame.bytes_mut(), headers, ipv4::PROTOCOL_UDP, |length| length.checked_sub(removed))
        .ok_or(refused(DropReason::EspMalformed))?;
    headers.transport = if len >= udp::LEN { Transport::Udp } else { Transport::Other };
    headers.transport_offset = payload as u16;
    frame.offload = Offload::default();
    Ok(Done { slot: inbound.slot, bytes: len })
}

/// Outer destination and SPI of the ESP packet `bytes`, by which [`open`] finds its association; `None`: it is none that
/// [`open`] would look for.
pub fn association_of(bytes: &[u8]) -> Option<(Ipv4Addr, u32)> {
    let parsed = parse(bytes, 0, 0)?;
    let (ip, packet) = ip_payload(bytes, &parsed.headers, ipv4::PROTOCOL_ESP, DropReason::EspNotEsp).ok()?;
    let (wire, _) = esp::Header::ref_from_prefix(packet).ok()?;
    Some((ip.dst, wire.spi.get()))
}

/// Moves the headers in front of an ESP header, `len` bytes, to its end. By way of a copy, which the compiler sees cannot
/// panic; a kernel module must not contain a `copy_within` that could.
fn move_outer(bytes: &mut [u8], len: usize) {
    let mut outer = [0; OUTER_MAX];
    let headers = bytes.get(..len).unwrap_or_default();
    for (to, from) in outer.iter_mut().zip(headers) {
        *to = *from;
    }
    let place = bytes.get_mut(esp::LEN..).and_then(|rest| rest.get_mut(..len)).unwrap_or_default();
    for (to, from) in place.iter_mut().zip(outer) {
        *to = from;
    }
}

/// Nothing may be left for others to do inside a packet that they cannot read. An encapsulation leaves nothing.
fn check_offload(offload: Offload) -> Result<(), DropReason> {
    match (offload.gso.kind, offload.checksum) {
        (GsoKind::None, Checksum::Complete | Checksum::Verified) => Ok(()),
        (GsoKind::None, Checksum::Partial { .. }) => Err(DropReason::BadOffload),
        _ => Err(DropReason::GsoUnsupported),
    }
}

/// Where the payload of an IPv4 packet is.
struct Place {
    /// Its offset from the start of the frame.
    payload: usize,
    /// Its length.
    len: usize,
    /// The packet's destination.
    destination: Ipv4Addr,
}

/// Finds what is to be sealed. Only an encapsulation of ours comes here, so the header is known to be good.
fn place<B: Buffer>(frame: &Frame<B>, headers: &Headers) -> Result<Place, DropReason> {
    let start = usize::from(headers.network_offset);
    let bytes = frame.bytes().get(start..).unwrap_or_default();
    let (ip, _) = ipv4::Header::ref_from_prefix(bytes).map_err(|_| DropReason::TunnelIpHeader)?;
    let len = usize::from(ip.total_length.get()).checked_sub(ip.header_len()).ok_or(DropReason::TunnelIpHeader)?;
    if headers.network != Network::Ipv4 || ip.header_len().wrapping_add(len) > bytes.len() {
        return Err(DropReason::TunnelIpHeader);
    }
    Ok(Place { payload: start.wrapping_add(ip.header_len()), len, destination: ip.dst })
}

/// Changes protocol and length of the IPv4 packet in `bytes`, and its checksum with them; returns the old protocol.
/// `None`, and nothing has changed, if there is no such length.
fn replace_protocol(
    bytes: &mut [u8],
    headers: &Headers,
    protocol: u8,
    length: impl FnOnce(usize) -> Option<usize>,
) -> Option<u8> {
    let ip = headers.ipv4_mut(bytes)?;
    let old_length = ip.total_length.get();
    let new_length = u16::try_from(length(old_length.into())?).ok()?;
    let old_protocol = core::mem::replace(&mut ip.protocol, protocol);
    ip.total_length.set(new_length);
    let change = checksum::difference16(old_length, new_length)
        // The protocol is the low octet of its word.
        .wrapping_add(checksum::difference16(old_protocol.into(), protocol.into()));
    ip.checksum.set(checksum::update(ip.checksum.get(), change));
    Some(old_protocol)
}

/// Writes padding and trailer at the start of `bytes`.
fn write_trailer(bytes: &mut [u8], padding: usize, next_header: u8) {
    let (pad, rest) = bytes.split_at_mut_checked(padding).unwrap_or_default();
    for (octet, value) in pad.iter_mut().zip(1..=u8::MAX) {
        *octet = value;
    }
    if let [pad_len, next, ..] = rest {
        *pad_len = padding as u8;
        *next = next_header;
    }
}

/// Length of the payload in front of padding and trailer.
fn check_trailer(text: &[u8]) -> Result<usize, DropReason> {
    let [rest @ .., pad_len, next_header] = text else { return Err(DropReason::EspMalformed) };
    let len = rest.len().checked_sub(usize::from(*pad_len)).ok_or(DropReason::EspMalformed)?;
    // RFC 4303 section 2.4: 1, 2, 3, ...
    if !rest.iter().skip(len).copied().eq(1..=*pad_len) {
        return Err(DropReason::EspMalformed);
    }
    // RFC 4303 section 2.6: another protocol, and a dummy packet (59) among them, is nothing for a tunnel.
    if *next_header != ipv4::PROTOCOL_UDP {
        return Err(DropReason::EspNextHeader);
    }
    Ok(len)
}
