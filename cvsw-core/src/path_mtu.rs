//! Keeping a VM's packets within its vNIC's MTU: the MSS of TCP connections is clamped, and a packet that is too big is
//! answered as a router would answer it.
//!
//! A VM mostly knows its MTU from its interface. One that was given another there, that forwards for others, or whose MTU
//! was just lowered learns the right one at once, instead of sending into a hole.
//!
//! - In the SYN segments of TCP connections, in both directions, an MSS option above what the MTU has room for is lowered
//!   (RFC 9293 section 3.7.1, RFC 6691).
//! - An IPv4 packet from the VM that is larger than the MTU and may not be fragmented is answered with *fragmentation
//!   needed* (RFC 792, RFC 1191), an IPv6 packet with *packet too big* (RFC 8201, RFC 4443). The answers come from the
//!   address that the packet was for, since a vNIC has none of its own, and are limited to [`RATE`] a second.

use crate::{
    frame::{Buffer, Checksum, Frame, GsoKind},
    mtu::IpMtu,
    parse::{Headers, Network, Transport, parse},
    segment::{Layout, flag},
    time::Instant,
    wire::{checksum, ethernet, icmp, ipv4, ipv6, tcp},
};
use zerocopy::{FromBytes, FromZeros, IntoBytes, network_endian::U16};

/// Answers a second, in the long run.
pub const RATE: u64 = 100;
/// Answers that may follow each other at once.
const TOKENS: u16 = 10;
/// Answers that wait to be fetched.
const PENDING: usize = 4;
/// Longest answer: an IPv6 packet of the smallest MTU, in a tagged frame.
pub const ANSWER_MAX: usize = 14 + 4 + IPV6_MIN_MTU;
/// Every IPv6 link carries packets of this size (RFC 8200 section 5); an error message is no longer (RFC 4443).
const IPV6_MIN_MTU: usize = 1280;
/// Every IPv4 host takes packets of this size; an error message is no longer (RFC 1812 section 4.3.2.3).
const IPV4_ERROR_MAX: usize = 576;
/// Longest frame that is looked at for an MSS option: a SYN has no payload to speak of.
const SYN_MAX: usize = 14 + 4 + ipv6::LEN + 60 + 64;
const NANOS_PER_TOKEN: u64 = 1_000_000_000 / RATE;

/// The MTU that a vNIC enforces, and the answers that wait. All-zero is one without a limit.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct PathMtu {
    refilled: Instant,
    /// 0: none.
    mtu: u16,
    /// Answers that were given lately, 0 at rest.
    spent: u16,
    waiting: u16,
    reserved: u16,
    pending: [Answer; PENDING],
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It fits, or it is left to other checks: a packet that may be fragmented, or no IP packet.
    Fits,
    /// It is too big, and an answer is on its way.
    Answered,
    /// It is too big, and no answer is due: too many of late, or to this kind of packet.
    Unanswered,
}

/// A packet that is too big.
struct Excess<'a> {
    headers: Headers,
    /// From its network header to the end of the frame.
    packet: &'a [u8],
    /// Its length, as it says.
    len: usize,
    /// Whether its sender can be told.
    answerable: bool,
    /// What it may have.
    mtu: usize,
}

#[derive(Debug, FromZeros)]
#[repr(C)]
struct Answer {
    bytes: [u8; ANSWER_MAX],
    len: u16,
}

impl PathMtu {
    /// Enforces `mtu` from now on.
    pub fn set(&mut self, mtu: Option<IpMtu>) {
        self.mtu = mtu.map_or(0, IpMtu::get);
    }

    /// Enforces what `first` does.
    pub const fn follow(&mut self, first: &Self) {
        self.mtu = first.mtu;
    }

    /// Whether there is anything to enforce.
    #[inline]
    pub const fn is_set(&self) -> bool {
        self.mtu != 0
    }

    /// Looks at a frame of the VM: lowers an MSS that is too large, answers a packet that is too big.
    #[inline]
    pub fn inspect<B: Buffer>(&mut self, now: Instant, frame: &mut Frame<B>) -> Fit {
        if frame.len() <= SYN_MAX {
            self.clamp(frame);
            return Fit::Fits;
        }
        if self.may_fit(frame) { Fit::Fits } else { self.refuse(now, frame.bytes()) }
    }

    /// Whether [`PathMtu::inspect`] would refuse a frame of the VM. Answers nothing.
    pub fn refuses<B: Buffer>(&self, frame: &Frame<B>) -> bool {
        frame.len() > SYN_MAX && !self.may_fit(frame) && self.excess(frame.bytes()).is_some()
    }

    /// Whether a frame's length says that it fits, or that it will be cut.
    #[inline]
    fn may_fit<B: Buffer>(&self, frame: &Frame<B>) -> bool {
        let fits = frame.len() <= usize::from(self.mtu).saturating_add(ethernet::LEN);
        fits || frame.offload.gso.kind != GsoKind::None
    }

    /// Lowers the MSS option of a SYN segment to what the MTU has room for.
    #[inline]
    pub fn clamp<B: Buffer>(&self, frame: &mut Frame<B>) {
        if frame.len() <= SYN_MAX && may_be_syn(frame.bytes()) {
            let partial = matches!(frame.offload.checksum, Checksum::Partial { .. });
            clamp_syn(frame.bytes_mut(), self.mtu, partial);
        }
    }

    /// Writes the next answer, a frame for the VM, into `out` and returns its length. In a buffer shorter than
    /// [`ANSWER_MAX`] one that does not fit is dropped.
    pub fn poll(&mut self, out: &mut [u8]) -> Option<usize> {
        let last = self.waiting.checked_sub(1)?;
        self.waiting = last;
        let answer = self.pending.get(usize::from(last))?;
        let bytes = answer.bytes.get(..usize::from(answer.len))?;
        out.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(bytes.len())
    }

    /// What is too big about a frame that is longer than the MTU allows; `None`: nothing, or it may be fragmented.
    fn excess<'a>(&self, bytes: &'a [u8]) -> Option<Excess<'a>> {
        let headers = parse(bytes, 0, 0)?.headers;
        let packet = bytes.get(usize::from(headers.network_offset)..)?;
        let mtu = usize::from(self.mtu);
        let (len, answerable, mtu) = match headers.network {
            Network::Ipv4 => {
                let (ip, _) = ipv4::Header::ref_from_prefix(packet).ok()?;
                if ip.fragment.get() & ipv4::DONT_FRAGMENT == 0 {
                    return None;
                }
                (usize::from(ip.total_length.get()), can_answer_v4(ip), mtu)
            }
            Network::Ipv6 => {
                let (ip, _) = ipv6::Header::ref_from_prefix(packet).ok()?;
                let len = usize::from(ip.payload_length.get()).saturating_add(ipv6::LEN);
                (len, can_answer_v6(ip), mtu.max(IPV6_MIN_MTU))
            }
            Network::Arp | Network::Other => return None,
        };
        (len > mtu).then_some(Excess { headers, packet, len, answerable, mtu })
    }

    /// A frame that is longer than the MTU allows.
    #[cold]
    fn refuse(&mut self, now: Instant, bytes: &[u8]) -> Fit {
        let Some(excess) = self.excess(bytes) else { return Fit::Fits };
        let Excess { headers, packet, len, answerable, mtu } = excess;
        let is_error = headers.transport == Transport::Icmp && is_icmp_error(bytes, &headers);
        if !answerable || is_error || !self.take_token(now) {
            return Fit::Unanswered;
        }
        let packet = packet.get(..len).unwrap_or(packet);
        let Some(slot) = self.pending.get_mut(usize::from(self.waiting)) else { return Fit::Unanswered };
        match write_answer(&mut slot.bytes, bytes, &headers, packet, mtu as u16) {
            Some(len) => slot.len = len,
            None => return Fit::Unanswered,
        }
        self.waiting = self.waiting.saturating_add(1);
        Fit::Answered
    }

    fn take_token(&mut self, now: Instant) -> bool {
        let back = now.nanos_since(self.refilled).checked_div(NANOS_PER_TOKEN).unwrap_or(0);
        if back > 0 {
            self.spent = self.spent.saturating_sub(u16::try_from(back).unwrap_or(u16::MAX));
            self.refilled = now;
        }
        let left = self.spent < TOKENS;
        if left {
            self.spent = self.spent.saturating_add(1);
        }
        left
    }
}

/// Whether the sender of a packet can be told (RFC 1122 section 3.2.2): one station to one station, and the packet the
/// first or only fragment.
fn can_answer_v4(ip: &ipv4::Header) -> bool {
    let station = |address: [u8; 4]| (1..224).contains(&address[0]) && address[0] != 127;
    station(ip.src) && station(ip.dst) && !ip.is_later_fragment()
}

fn can_answer_v6(ip: &ipv6::Header) -> bool {
    let station = |address: [u8; 16]| address[0] != 0xff && address != [0; 16];
    station(ip.src) && station(ip.dst)
}

/// Whether a frame with an ICMP message has one that reports an error, which nobody may answer.
fn is_icmp_error(bytes: &[u8], headers: &Headers) -> bool {
    let kind = bytes.get(usize::from(headers.transport_offset)).copied().unwrap_or(0);
    match headers.network {
        Network::Ipv6 => kind < 128,
        _ => matches!(kind, 3 | 4 | 5 | 11 | 12),
    }
}

/// Writes the answer to `packet` of the frame `bytes`: a frame back to its sender. Returns its length.
fn write_answer(out: &mut [u8], bytes: &[u8], headers: &Headers, packet: &[u8], mtu: u16) -> Option<u16> {
    let network_offset = usize::from(headers.network_offset);
    let link = bytes.get(..network_offset)?;
    let v6 = headers.network == Network::Ipv6;
    let (header_len, most) = if v6 { (ipv6::LEN, IPV6_MIN_MTU) } else { (ipv4::LEN, IPV4_ERROR_MAX) };
    let quoted = packet.get(..packet.len().min(most.checked_sub(header_len)?.checked_sub(icmp::LEN)?))?;
    let message_len = icmp::LEN.checked_add(quoted.len())?;
    let len = network_offset.checked_add(header_len)?.checked_add(message_len)?;
    let (to, rest) = out.get_mut(..len)?.split_at_mut_checked(network_offset)?;
    to.copy_from_slice(link);
    to.get_mut(..6)?.copy_from_slice(link.get(6..12)?);
    to.get_mut(6..12)?.copy_from_slice(link.get(..6)?);
    let (ip, message) = rest.split_at_mut_checked(header_len)?;
    let (header, quote) = message.split_at_mut_checked(icmp::LEN)?;
    quote.copy_from_slice(quoted);
    let (icmp, _) = icmp::Header::mut_from_prefix(header).ok()?;
    let [mtu_high, mtu_low] = mtu.to_be_bytes();
    *icmp = icmp::Header {
        kind: if v6 { 2 } else { 3 },
        code: if v6 { 0 } else { 4 },
        checksum: U16::ZERO,
        rest: [0, 0, mtu_high, mtu_low],
    };
    let message_sum = checksum::sum(message);
    let message_len = u16::try_from(message_len).ok()?;
    let pseudo = if v6 {
        let (sent, _) = ipv6::Header::ref_from_prefix(packet).ok()?;
        let mut answer = *sent;
        answer.set_traffic_class(0);
        answer.version_class_label.set(0x6000_0000);
        answer.payload_length.set(message_len);
        (answer.next_header, answer.hop_limit) = (ipv6::ICMPV6, 255);
        (answer.src, answer.dst) = (sent.dst, sent.src);
        ip.copy_from_slice(answer.as_bytes());
        checksum::pseudo_header_v6(&answer.src, &answer.dst, ipv6::ICMPV6, message_len)
    } else {
        let (sent, _) = ipv4::Header::ref_from_prefix(packet).ok()?;
        let mut answer = ipv4::Header {
            version_ihl: ipv4::VERSION_IHL,
            tos: 0,
            total_length: U16::new(message_len.checked_add(ipv4::LEN as u16)?),
            identification: U16::ZERO,
            fragment: U16::new(ipv4::DONT_FRAGMENT),
            ttl: 64,
            protocol: ipv4::PROTOCOL_ICMP,
            checksum: U16::ZERO,
            src: sent.dst,
            dst: sent.src,
        };
        answer.checksum.set(!checksum::sum(answer.as_bytes()));
        ip.copy_from_slice(answer.as_bytes());
        0
    };
    let (icmp, _) = icmp::Header::mut_from_prefix(message).ok()?;
    icmp.checksum.set(!checksum::add(message_sum, pseudo));
    u16::try_from(len).ok()
}

/// A quick look that passes every SYN segment and little else.
#[inline]
fn may_be_syn(bytes: &[u8]) -> bool {
    match bytes.get(12..14) {
        // Without options, which is the rule, the flags have their place.
        Some([8, 0]) if bytes.get(14) == Some(&ipv4::VERSION_IHL) => {
            bytes.get(23) == Some(&ipv4::PROTOCOL_TCP) && bytes.get(47).is_some_and(|flags| flags & 2 != 0)
        }
        Some([0x86, 0xdd]) if bytes.get(20) == Some(&ipv4::PROTOCOL_TCP) => {
            bytes.get(67).is_some_and(|flags| flags & 2 != 0)
        }
        Some([8, 0] | [0x86, 0xdd] | [0x81, 0] | [0x88, 0xa8]) => true,
        _ => false,
    }
}

/// Lowers the MSS option if the frame `bytes` is a SYN segment. `partial`: its checksum is still to be filled in.
fn clamp_syn(bytes: &mut [u8], mtu: u16, partial: bool) {
    let Some(layout) = Layout::of(bytes).filter(|layout| layout.transport == Transport::Tcp) else { return };
    let network_len = if layout.network == Network::Ipv4 { ipv4::LEN } else { ipv6::LEN };
    let limit = mtu.saturating_sub(network_len as u16).saturating_sub(tcp::LEN as u16);
    let Some(header) = bytes.get_mut(layout.transport_offset..layout.payload) else { return };
    let Ok((tcp, options)) = tcp::Header::mut_from_prefix(header) else { return };
    if tcp.offset_flags.get() & flag::SYN == 0 {
        return;
    }
    let Some((at, value)) = mss_option(options) else { return };
    let old = u16::from_be_bytes(*value);
    if old <= limit {
        return;
    }
    *value = limit.to_be_bytes();
    if !partial {
        // The sum does not care about byte order; at an odd offset the two octets belong to different words.
        let (old, new) = if at & 1 == 0 { (old, limit) } else { (old.swap_bytes(), limit.swap_bytes()) };
        tcp.checksum.set(checksum::update(tcp.checksum.get(), checksum::difference16(old, new)));
    }
}

/// The value of the MSS option, and its offset among the options. `None` if there is none, or what is before it is
/// malformed.
fn mss_option(options: &mut [u8]) -> Option<(usize, &mut [u8; 2])> {
    let mut at = 0usize;
    loop {
        match options.get(at..)? {
            [0, ..] | [] => return None,
            [1, ..] => at = at.saturating_add(1),
            [2, 4, _, _, ..] => break,
            [_, len, ..] if *len >= 2 => at = at.saturating_add(usize::from(*len)),
            _ => return None,
        }
    }
    let at = at.saturating_add(2);
    Some((at, options.get_mut(at..)?.first_chunk_mut()?))
}
