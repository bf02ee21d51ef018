//! Receive offload: which frames of a burst can travel on as one, and the headers of that one.

use super::{Layout, flag};
use crate::{
    frame::{Buffer, Checksum, Frame, Gso, GsoKind, NoRoom, Offload},
    parse::{Network, Transport},
    wire::{checksum, ipv4, ipv6, tcp},
};
use zerocopy::FromBytes;

/// Longest headers of a joined frame: Ethernet, one tag, IPv6, and TCP with all its options.
pub const HEAD_MAX: usize = 14 + 4 + ipv6::LEN + 60;

/// Flows of one burst that can be joined side by side; the oldest makes room for one more.
const FLOWS: usize = 8;
/// Most datagrams in one UDP super-frame (`UDP_GRO_CNT_MAX` of Linux).
const DATAGRAMS_MAX: u16 = 64;
/// Flags that a segment in the middle of a stream does not have.
const UNUSUAL: u16 = flag::SYN | flag::RST | flag::URG;
/// Flags that end what is joined: the receiver should have it now.
const LAST: u16 = flag::PSH | flag::FIN;

/// Finds the frames of a burst, at most `N`, that continue each other: in-order segments of a TCP stream, datagrams of
/// equal size of a UDP flow.
///
/// First [`Coalescer::plan`]. Then, for each frame that [`Coalescer::is_first`], either pass it on as it is, or, when
/// there are more in its group, pass on the joined one: [`Coalescer::head`] writes its headers, and its payload is that
/// of all [`Coalescer::members`] in order; [`Coalescer::join`] does both into one buffer. Frames of one flow keep their
/// order; frames of different flows may overtake each other.
///
/// Two segments are joined if their checksums are right and their headers differ in nothing but lengths, checksums,
/// IPv4 identification (which must go up by one, or stay in packets that may not be fragmented, RFC 6864) and sequence
/// number, and if the later one is not longer than the first. One that is shorter, or has PSH or FIN, is the last.
/// Segments with SYN, RST or URG, IPv4 options or IPv6 extension headers, without payload, or with CWR behind the first,
/// are never joined.
#[derive(Clone, Debug, Default)]
pub struct Coalescer<const N: usize> {
    members: heapless::Vec<Member, N>,
    udp: Udp,
}

/// Which UDP datagrams can be joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Udp {
    #[default]
    None,
    WithChecksum,
    All,
}

/// One frame of the burst.
#[derive(Clone, Copy, Debug)]
struct Member {
    layout: Option<Layout>,
    /// The next frame of its group.
    next: Option<usize>,
    /// Whether it begins a group (of one, mostly).
    first: bool,
}

/// A group that may still grow.
#[derive(Clone, Copy, Debug)]
struct Open {
    first: usize,
    last: usize,
    /// Payload bytes of the first, and of all.
    size: usize,
    total: usize,
    count: u16,
    /// Whether the checksum of the first is known to be right; it does not matter until there is a second.
    verified: bool,
}

/// A frame with what is known of it.
#[derive(Clone, Copy)]
struct Segment<'a> {
    bytes: &'a [u8],
    offload: &'a Offload,
    layout: Layout,
}

impl<const N: usize> Coalescer<N> {
    /// `udp`: join UDP datagrams too, if what the frames are for understands [`GsoKind::Udp`].
    pub fn new(udp: bool) -> Self {
        let udp = if udp { Udp::WithChecksum } else { Udp::None };
        Self { members: heapless::Vec::new(), udp }
    }

    /// For frames on their way out, to be cut again by the kernel or the NIC before the wire: UDP datagrams over IPv4
    /// without a checksum, as tunnels send them (RFC 7348 section 5), are joined too. Cutting gives them one.
    pub fn for_transmission() -> Self {
        Self { members: heapless::Vec::new(), udp: Udp::All }
    }

    /// Finds the groups among the first `N` of `frames` and forgets those of the burst before.
    pub fn plan<B: Buffer>(&mut self, frames: &[Frame<B>]) {
        self.members.clear();
        let mut open = [None::<Open>; FLOWS];
        let mut victim = 0usize;
        for (index, frame) in frames.iter().enumerate() {
            let layout = Layout::of(frame.bytes());
            if self.members.push(Member { layout, next: None, first: true }).is_err() {
                return;
            }
            let Some(layout) = layout else { continue };
            let segment = Segment { bytes: frame.bytes(), offload: &frame.offload, layout };
            let slot = open.iter_mut().find(|slot| {
                slot.as_ref()
                    .and_then(|group| self.segment(frames, group.first))
                    .is_some_and(|first| first.same_flow(&segment))
            });
            let mut begins = segment.is_joinable(self.udp) && !segment.is_last();
            if let Some(slot) = slot {
                // Whatever the flow sends, it ends the group unless it joins it.
                let mut group = slot.take();
                if let Some(group) = &mut group
                    && self.take(frames, group, &segment, index)
                {
                    begins = false;
                    let full = layout.transport == Transport::Udp && group.count >= DATAGRAMS_MAX;
                    if !full && !segment.is_last() && segment.payload().len() == group.size {
                        *slot = Some(*group);
                    }
                }
            }
            if begins {
                let size = segment.payload().len();
                let group = Open { first: index, last: index, size, total: size, count: 1, verified: false };
                let free = open.iter().position(Option::is_none).unwrap_or(victim);
                victim = free.wrapping_add(1) % FLOWS;
                if let Some(slot) = open.get_mut(free) {
                    *slot = Some(group);
                }
            }
        }
    }

    /// Whether frame `index` begins a group; the others are passed on with the first of theirs.
    pub fn is_first(&self, index: usize) -> bool {
        self.members.get(index).is_none_or(|member| member.first)
    }

    /// The frames of the group that frame `first` begins, in order.
    pub fn members(&self, first: usize) -> impl Iterator<Item = usize> + '_ {
        core::iter::successors(Some(first), |index| self.members.get(*index)?.next)
    }

    /// The payload of frame `index`, which a joined frame takes over.
    pub fn payload<'a, B: Buffer>(&self, index: usize, frames: &'a [Frame<B>]) -> &'a [u8] {
        self.segment(frames, index).map_or(&[], |segment| segment.payload())
    }

    /// Writes the headers of the frame that stands for the group of frame `first` into `out`, and returns their length
    /// and its metadata: the checksum is left to be filled in by whoever needs it. `None` if it is the only one of its
    /// group, or if `out` is shorter than [`HEAD_MAX`] and too short.
    pub fn head<B: Buffer>(&self, first: usize, frames: &[Frame<B>], out: &mut [u8]) -> Option<(usize, Offload)> {
        self.members.get(first)?.next?;
        let segment = self.segment(frames, first)?;
        let layout = &segment.layout;
        let header = segment.bytes.get(..layout.payload)?;
        let out = out.get_mut(..header.len())?;
        out.copy_from_slice(header);
        let (mut total, mut last) = (0usize, first);
        for index in self.members(first) {
            total = total.saturating_add(self.payload(index, frames).len());
            last = index;
        }
        let mut kind = GsoKind::Udp;
        let mut ecn = false;
        if let Some(end) = self.segment(frames, last)?.tcp() {
            let (tcp, _) = tcp::Header::mut_from_prefix(out.get_mut(layout.transport_offset..)?).ok()?;
            let flags = tcp.offset_flags.get();
            tcp.offset_flags.set(flags | end.offset_flags.get() & LAST);
            ecn = flags & flag::CWR != 0;
            kind = if layout.network == Network::Ipv4 { GsoKind::TcpV4 } else { GsoKind::TcpV6 };
        }
        let pseudo = layout.set_lengths(out, total, 0)?;
        layout.set_checksum(out, pseudo);
        let start = u16::try_from(layout.transport_offset).ok()?;
        let size = u16::try_from(segment.payload().len()).ok()?;
        let gso = Gso { kind, size, header_len: u16::try_from(layout.payload).ok()?, ecn };
        Some((
            layout.payload,
            Offload { checksum: Checksum::Partial { start, offset: layout.checksum_offset() }, gso },
        ))
    }

    /// Writes the frame that stands for the group of frame `first` to the place where `out` begins. `false`, and
    /// nothing is written, if it is the only one of its group.
    ///
    /// # Errors
    /// `NoRoom` if it does not fit.
    pub fn join<A: Buffer, B: Buffer>(
        &self,
        first: usize,
        frames: &[Frame<A>],
        out: &mut Frame<B>,
    ) -> Result<bool, NoRoom> {
        let mut head = [0; HEAD_MAX];
        let Some((head_len, offload)) = self.head(first, frames, &mut head) else { return Ok(false) };
        let payloads = || self.members(first).map(|index| self.payload(index, frames));
        let total = payloads().fold(head_len, |sum, payload| sum.saturating_add(payload.len()));
        out.set_len(total)?;
        out.offload = offload;
        let mut room = out.bytes_mut();
        for part in core::iter::once(head.get(..head_len).unwrap_or_default()).chain(payloads()) {
            let (here, behind) = room.split_at_mut_checked(part.len()).ok_or(NoRoom)?;
            here.copy_from_slice(part);
            room = behind;
        }
        Ok(true)
    }

    fn segment<'a, B: Buffer>(&self, frames: &'a [Frame<B>], index: usize) -> Option<Segment<'a>> {
        let frame = frames.get(index)?;
        Some(Segment { bytes: frame.bytes(), offload: &frame.offload, layout: self.members.get(index)?.layout? })
    }

    /// Lets `segment`, frame `index`, join `group` if it continues it.
    fn take<B: Buffer>(
        &mut self,
        frames: &[Frame<B>],
        group: &mut Open,
        segment: &Segment<'_>,
        index: usize,
    ) -> bool {
        let (Some(first), Some(last)) = (self.segment(frames, group.first), self.segment(frames, group.last))
        else {
            return false;
        };
        let len = segment.payload().len();
        let packet = segment.layout.payload.saturating_sub(segment.layout.network_offset);
        let fits = packet.saturating_add(group.total).saturating_add(len) <= usize::from(u16::MAX);
        let continues = fits
            && len <= group.size
            && segment.is_joinable(self.udp)
            && first.has_headers_of(segment, group.total)
            && last.identification_before(segment)
            && (group.verified || first.is_valid())
            && segment.is_valid();
        if !continues {
            return false;
        }
        if let Some(member) = self.members.get_mut(group.last) {
            member.next = Some(index);
        }
        if let Some(member) = self.members.get_mut(index) {
            member.first = false;
        }
        group.verified = true;
        group.last = index;
        group.total = group.total.saturating_add(len);
        group.count = group.count.saturating_add(1);
        true
    }
}

impl<'a> Segment<'a> {
    fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.layout.payload..self.layout.end).unwrap_or_default()
    }

    fn transport_header(&self) -> &'a [u8] {
        self.bytes.get(self.layout.transport_offset..self.layout.payload).unwrap_or_default()
    }

    fn tcp(&self) -> Option<&'a tcp::Header> {
        if self.layout.transport != Transport::Tcp {
            return None;
        }
        tcp::Header::ref_from_prefix(self.transport_header()).ok().map(|(tcp, _)| tcp)
    }

    fn network_header(&self) -> &'a [u8] {
        self.bytes.get(self.layout.network_offset..self.layout.transport_offset).unwrap_or_default()
    }

    fn ipv4(&self) -> Option<&'a ipv4::Header> {
        if self.layout.network != Network::Ipv4 {
            return None;
        }
        ipv4::Header::ref_from_prefix(self.network_header()).ok().map(|(ip, _)| ip)
    }

    /// Source and destination address, behind each other.
    fn addresses(&self) -> &'a [u8] {
        let range = if self.layout.network == Network::Ipv4 { 12..20 } else { 8..40 };
        self.network_header().get(range).unwrap_or_default()
    }

    /// Whether both have the same addresses and ports.
    fn same_flow(&self, other: &Self) -> bool {
        (self.layout.network, self.layout.transport) == (other.layout.network, other.layout.transport)
            && self.transport_header().first_chunk::<4>() == other.transport_header().first_chunk::<4>()
            && self.addresses() == other.addresses()
    }

    /// Whether it could be part of something larger, apart from its checksum.
    fn is_joinable(&self, udp: Udp) -> bool {
        let header = self.network_header();
        let plain_ip = match self.ipv4() {
            Some(ip) => {
                ip.version_ihl == ipv4::VERSION_IHL && header.len() == ipv4::LEN && checksum::sum(header) == 0xffff
            }
            None => header.len() == ipv6::LEN && header.first().is_some_and(|first| first >> 4 == 6),
        };
        let plain_transport = match self.tcp() {
            Some(tcp) => tcp.offset_flags.get() & UNUSUAL == 0,
            None => match udp {
                Udp::None => false,
                Udp::WithChecksum => !self.is_without_checksum(),
                Udp::All => true,
            },
        };
        plain_ip && plain_transport && self.offload.gso.kind == GsoKind::None && !self.payload().is_empty()
    }

    /// Whether it is a UDP datagram without a checksum, which only IPv4 allows (RFC 768, RFC 8200 section 8.1).
    fn is_without_checksum(&self) -> bool {
        self.layout.network == Network::Ipv4
            && self.layout.transport == Transport::Udp
            && matches!(self.transport_header(), [.., 0, 0])
    }

    /// Whether nothing may be joined behind it.
    fn is_last(&self) -> bool {
        self.tcp().is_some_and(|tcp| tcp.offset_flags.get() & LAST != 0)
    }

    /// Whether `later`, of the same flow, has the headers that follow after `sent` bytes of payload.
    fn has_headers_of(&self, later: &Self, sent: usize) -> bool {
        let link = |segment: &Self| segment.bytes.get(..segment.layout.network_offset);
        if link(self) != link(later) {
            return false;
        }
        let same_network = match (self.ipv4(), later.ipv4()) {
            (Some(a), Some(b)) => (a.tos, a.ttl, a.fragment) == (b.tos, b.ttl, b.fragment),
            _ => {
                // Class and flow label; hop limit.
                let fields = |segment: &Self| {
                    let header = segment.network_header();
                    (header.first_chunk::<4>(), header.get(7))
                };
                fields(self) == fields(later)
            }
        };
        let options = |segment: &Self| segment.transport_header().get(tcp::LEN..);
        same_network
            && match (self.tcp(), later.tcp()) {
                (Some(a), Some(b)) => {
                    let changed = a.offset_flags.get() & !flag::CWR ^ b.offset_flags.get();
                    changed & !LAST == 0
                        && b.sequence.get() == a.sequence.get().wrapping_add(sent as u32)
                        && (a.acknowledgement, a.window, a.urgent) == (b.acknowledgement, b.window, b.urgent)
                        && options(self) == options(later)
                }
                // Cutting gives all of them a checksum or none.
                (None, None) => self.is_without_checksum() == later.is_without_checksum(),
                _ => false,
            }
    }

    /// Whether the IPv4 identification of `later` may follow this one's.
    fn identification_before(&self, later: &Self) -> bool {
        let (Some(a), Some(b)) = (self.ipv4(), later.ipv4()) else { return true };
        let step = b.identification.get().wrapping_sub(a.identification.get());
        step == 1 || step == 0 && a.fragment.get() & ipv4::DONT_FRAGMENT != 0
    }

    /// Whether its checksum is right, or will be.
    fn is_valid(&self) -> bool {
        match self.offload.checksum {
            Checksum::Verified => true,
            Checksum::Partial { start, offset } => {
                usize::from(start) == self.layout.transport_offset && offset == self.layout.checksum_offset()
            }
            Checksum::Complete if self.is_without_checksum() => true,
            Checksum::Complete => {
                let datagram = self.bytes.get(self.layout.transport_offset..self.layout.end).unwrap_or_default();
                let pseudo = self.layout.pseudo_header(self.bytes);
                pseudo.is_some_and(|pseudo| checksum::add(pseudo, checksum::sum(datagram)) == 0xffff)
            }
        }
    }
}
