//! Super-segments: cut into what etherparse builds packet by packet, joined again, and left apart where they must be.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::{
    BadOffload, Checksum, Frame, Gso, GsoKind, NoRoom, Offload,
    segment::{Coalescer, HEAD_MAX, Segmenter},
};
use cvsw_testkit::{checksums, hex};
use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeader, TcpOptions, UdpHeader};
use proptest::prelude::*;

const ACK: u16 = 0x10;
const PSH: u16 = 0x08;
const FIN: u16 = 0x01;
const CWR: u16 = 0x80;
const ECE: u16 = 0x40;

/// One packet of a stream, described.
#[derive(Clone, Debug)]
struct Packet {
    v6: bool,
    tcp: bool,
    tag: Option<u16>,
    port: u16,
    tos: u8,
    ttl: u8,
    id: u16,
    df: bool,
    label: u32,
    sequence: u32,
    acknowledgement: u32,
    window: u16,
    flags: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Default for Packet {
    fn default() -> Self {
        Self {
            v6: false,
            tcp: true,
            tag: None,
            port: 40000,
            tos: 0,
            ttl: 64,
            id: 100,
            df: true,
            label: 7,
            sequence: 1000,
            acknowledgement: 5,
            window: 512,
            flags: ACK,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload: (0..100).collect(),
        }
    }
}

impl Packet {
    /// The packets that a sender without offload would send for this one.
    fn cut(&self, size: usize) -> Vec<Self> {
        let count = self.payload.len().div_ceil(size);
        let cut = |(index, payload): (usize, &[u8])| {
            let mut flags = self.flags;
            if index > 0 {
                flags &= !CWR;
            }
            if index + 1 < count {
                flags &= !(PSH | FIN);
            }
            let id = self.id.wrapping_add(index as u16);
            let sequence = self.sequence.wrapping_add((index * size) as u32);
            Self { flags, id, sequence, payload: payload.to_vec(), ..self.clone() }
        };
        self.payload.chunks(size).enumerate().map(cut).collect()
    }

    /// The packet that follows this one.
    fn next(&self) -> Self {
        let sequence = self.sequence.wrapping_add(self.payload.len() as u32);
        Self { sequence, id: self.id.wrapping_add(1), ..self.clone() }
    }

    fn build(&self) -> Vec<u8> {
        let (protocol, addresses) =
            (if self.tcp { IpNumber::TCP } else { IpNumber::UDP }, ([10, 0, 0, 1], [10, 0, 0, 2]));
        let header_len = if self.tcp { 20 + self.options.len() } else { 8 };
        let len = (header_len + self.payload.len()) as u16;
        let mut v4 = Ipv4Header::new(len, self.ttl, protocol, addresses.0, addresses.1).unwrap();
        v4.dscp = (self.tos >> 2).try_into().unwrap();
        v4.ecn = (self.tos & 3).try_into().unwrap();
        v4.identification = self.id;
        v4.dont_fragment = self.df;
        v4.header_checksum = v4.calc_header_checksum();
        let v6 = Ipv6Header {
            traffic_class: self.tos,
            flow_label: self.label.try_into().unwrap(),
            payload_length: len,
            next_header: protocol,
            hop_limit: self.ttl,
            source: [0xfd; 16],
            destination: [0xfe; 16],
        };
        let transport = if self.tcp {
            let mut tcp = TcpHeader::new(self.port, 5001, self.sequence, self.window);
            tcp.acknowledgment_number = self.acknowledgement;
            [tcp.fin, tcp.syn, tcp.rst, tcp.psh] = [0, 1, 2, 3].map(|bit| self.flags & 1 << bit != 0);
            [tcp.ack, tcp.urg, tcp.ece, tcp.cwr] = [4, 5, 6, 7].map(|bit| self.flags & 1 << bit != 0);
            tcp.options = TcpOptions::try_from_slice(&self.options).unwrap();
            tcp.checksum = if self.v6 {
                tcp.calc_checksum_ipv6(&v6, &self.payload).unwrap()
            } else {
                tcp.calc_checksum_ipv4(&v4, &self.payload).unwrap()
            };
            tcp.to_bytes().to_vec()
        } else if self.v6 {
            UdpHeader::with_ipv6_checksum(self.port, 5001, &v6, &self.payload).unwrap().to_bytes().to_vec()
        } else {
            UdpHeader::with_ipv4_checksum(self.port, 5001, &v4, &self.payload).unwrap().to_bytes().to_vec()
        };
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        if let Some(tci) = self.tag {
            frame.extend([0x81, 0]);
            frame.extend(tci.to_be_bytes());
        }
        frame.extend(if self.v6 { [0x86, 0xdd] } else { [8, 0] });
        if self.v6 {
            frame.extend(v6.to_bytes());
        } else {
            frame.extend(v4.to_bytes());
        }
        frame.extend(transport);
        frame.extend(&self.payload);
        frame
    }

    fn transport_offset(&self) -> usize {
        14 + if self.tag.is_some() { 4 } else { 0 } + if self.v6 { 40 } else { 20 }
    }

    /// The super-frame with its metadata, as a sender with offloads hands it to its NIC.
    fn build_super(&self, size: usize) -> (Vec<u8>, Offload) {
        let mut bytes = self.build();
        let start = self.transport_offset();
        let (kind, offset, header_len) = match (self.tcp, self.v6) {
            (true, false) => (GsoKind::TcpV4, 16, start + 20 + self.options.len()),
            (true, true) => (GsoKind::TcpV6, 16, start + 20 + self.options.len()),
            (false, _) => (GsoKind::Udp, 6, start + 8),
        };
        let ip = if self.v6 { &bytes[start - 32..start] } else { &bytes[start - 8..start] };
        let protocol = if self.tcp { 6 } else { 17 };
        let pseudo = [ip, &[0, protocol], &((bytes.len() - start) as u16).to_be_bytes()].concat();
        let sum = pseudo.chunks(2).fold(0u32, |sum, word| sum + u32::from(word[0]) * 256 + u32::from(word[1]));
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
        bytes[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
        let checksum = Checksum::Partial { start: start as u16, offset: offset as u16 };
        let ecn = self.tcp && self.flags & CWR != 0;
        let gso = Gso { kind, size: size as u16, header_len: header_len as u16, ecn };
        (bytes, Offload { checksum, gso })
    }
}

fn cut(bytes: &[u8], offload: &Offload) -> Vec<Frame<Vec<u8>>> {
    let mut segmenter = Segmenter::new(bytes, offload).unwrap();
    let mut segments = Vec::new();
    while !segmenter.is_done() {
        let remaining = segmenter.remaining();
        let mut frame = Frame::new(vec![0xee; 3000], 64, 0).unwrap();
        segmenter.next(bytes, &mut frame).unwrap();
        assert_eq!((segmenter.remaining(), frame.headroom()), (remaining - 1, 64));
        assert_eq!(frame.offload, Offload::default());
        segments.push(frame);
    }
    segments
}

fn frame_of(bytes: &[u8]) -> Frame<Vec<u8>> {
    let mut frame = Frame::new(vec![0; 64 + bytes.len()], 64, bytes.len()).unwrap();
    frame.bytes_mut().copy_from_slice(bytes);
    frame
}

/// What goes on for `frames`: joined frames, and those that stay alone.
fn join(frames: &[Frame<Vec<u8>>]) -> Vec<Frame<Vec<u8>>> {
    let mut coalescer = Coalescer::<64>::new(true);
    coalescer.plan(frames);
    let mut joined = Vec::new();
    for first in (0..frames.len()).filter(|index| coalescer.is_first(*index)) {
        let mut frame = Frame::new(vec![0; 70_000], 64, 0).unwrap();
        let members = coalescer.members(first).count();
        assert_eq!(coalescer.join(first, frames, &mut frame).unwrap(), members > 1);
        joined.push(if members > 1 { frame } else { frames[first].clone() });
    }
    joined
}

fn joined_packets(packets: &[Packet]) -> usize {
    let frames: Vec<_> = packets.iter().map(|packet| frame_of(&packet.build())).collect();
    frames.len() - join(&frames).len()
}

fn packet(most: usize, flags: impl Strategy<Value = u16>) -> impl Strategy<Value = Packet> {
    let shape = (any::<[bool; 3]>(), prop::option::of(any::<u16>()), any::<(u8, u8, u16, u16)>(), 0..1u32 << 20);
    let option = prop_oneof![Just(vec![]), Just(vec![1, 1, 8, 10, 9, 8, 7, 6, 5, 4, 3, 2]), Just(vec![1; 40])];
    let stream = (any::<(u32, u32, u16)>(), flags, option, prop::collection::vec(any::<u8>(), 1..=most));
    (shape, stream).prop_map(|(shape, stream)| {
        let ([v6, tcp, df], tag, (tos, ttl, id, port), label) = shape;
        let ((sequence, acknowledgement, window), flags, options, payload) = stream;
        Packet {
            v6,
            tcp,
            tag,
            port,
            tos,
            ttl,
            id,
            df,
            label,
            sequence,
            acknowledgement,
            window,
            flags,
            options,
            payload,
        }
    })
}

proptest! {
    /// Every bit of every segment is what a sender without offload would send; etherparse builds that.
    #[test]
    fn segments_are_the_packets_of_a_sender_without_offload(
        packet in packet(6000, 0u16..256), size in 1usize..1500, partial: bool,
    ) {
        let size = size.max(packet.payload.len() / 40 + 1);
        let (mut bytes, mut offload) = packet.build_super(size);
        if !partial {
            (bytes, offload.checksum) = (packet.build(), Checksum::Complete);
        }
        let segments = cut(&bytes, &offload);
        let expected = packet.cut(size);
        prop_assert_eq!(segments.len(), expected.len());
        for (segment, expected) in segments.iter().zip(expected) {
            prop_assert_eq!(hex::dump(segment.bytes()), hex::dump(&expected.build()));
        }
    }

    #[test]
    fn joining_undoes_cutting(
        packet in packet(6000, (0u16..16).prop_map(|bits| {
            ACK | [PSH, FIN, CWR, ECE].iter().enumerate().fold(0, |flags, (i, flag)| flags | ((bits >> i & 1) * flag))
        })),
        size in 1usize..1500,
    ) {
        let size = size.max(packet.payload.len() / 40 + 1);
        let (bytes, offload) = packet.build_super(size);
        let segments = cut(&bytes, &offload);
        let joined = join(&segments);
        prop_assert_eq!(joined.len(), 1);
        if segments.len() > 1 {
            prop_assert_eq!(hex::dump(joined[0].bytes()), hex::dump(&bytes));
            prop_assert_eq!(joined[0].offload, offload);
        }
    }

    /// Whatever comes: each flow's frames are still there, bit by bit and in order, when the joined ones are cut.
    #[test]
    fn nothing_is_lost_changed_or_reordered_within_a_flow(
        steps in prop::collection::vec((0u16..10, 0usize..8, prop::sample::select(vec![0u16, 0, 0, PSH, CWR, ECE, 4, 2])), 1..40),
        v6: bool, tcp: bool,
    ) {
        let mut flows: Vec<_> = (0..10).map(|port| Packet { v6, tcp, port, ..Packet::default() }).collect();
        let mut frames = Vec::new();
        for (port, change, flags) in steps {
            let flow = &mut flows[usize::from(port)];
            let mut packet = Packet { flags: ACK | flags, ..flow.clone() };
            match change {
                0 => packet.payload.truncate(50),
                1 => packet.payload.clear(),
                2 => packet.sequence = packet.sequence.wrapping_sub(7),
                3 => packet.window += 1,
                _ => {}
            }
            frames.push(packet.build());
            *flow = Packet { payload: flow.payload.clone(), flags: ACK, window: flow.window, ..packet.next() };
        }
        let input: Vec<_> = frames.iter().map(|bytes| frame_of(bytes)).collect();
        let mut output = Vec::new();
        for frame in join(&input) {
            match frame.offload.gso.kind {
                GsoKind::None => output.push(frame.bytes().to_vec()),
                _ => output.extend(cut(frame.bytes(), &frame.offload).iter().map(|frame| frame.bytes().to_vec())),
            }
        }
        // Stable sorting by port keeps the order within a flow.
        let port = |bytes: &Vec<u8>| if v6 { [bytes[54], bytes[55]] } else { [bytes[34], bytes[35]] };
        frames.sort_by_key(port);
        output.sort_by_key(port);
        prop_assert_eq!(frames, output);
    }

    #[test]
    fn no_bytes_and_no_metadata_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..120), cuts: (u16, u16, u16, u8, bool),
        packet in packet(200, 0u16..256), flip in prop::option::of((0usize..120, any::<u8>())),
    ) {
        let (size, start, offset, kind, ecn) = cuts;
        let kind = [GsoKind::None, GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp][usize::from(kind) % 4];
        let gso = Gso { kind, size, header_len: start, ecn };
        let offload = Offload { checksum: Checksum::Partial { start, offset }, gso };
        let mut built = packet.build();
        if let Some((at, value)) = flip {
            let len = built.len();
            built[at % len] = value;
        }
        for bytes in [bytes, built] {
            if let Ok(mut segmenter) = Segmenter::new(&bytes, &offload) {
                let mut frame = Frame::new(vec![0; 400], 64, 0).unwrap();
                for _ in 0..=segmenter.remaining() {
                    prop_assert!(segmenter.next(&bytes, &mut frame).is_ok());
                }
                prop_assert!(segmenter.is_done());
            }
            let frames = [frame_of(&bytes), frame_of(&bytes)];
            join(&frames);
        }
    }
}

/// One change at a time, each of which must keep two segments apart.
#[test]
fn what_differs_stays_apart() {
    type Change = fn(&mut Packet);
    let changes: &[(&str, bool, Change)] = &[
        ("hole", true, |p| p.sequence += 1),
        ("overlap", true, |p| p.sequence -= 1),
        ("acknowledgement", true, |p| p.acknowledgement += 1),
        ("window", true, |p| p.window += 1),
        ("timestamp", true, |p| p.options[7] += 1),
        ("other options", true, |p| p.options = vec![1; 12]),
        ("fewer options", true, |p| p.options.clear()),
        ("SYN", true, |p| p.flags |= 2),
        ("RST", true, |p| p.flags |= 4),
        ("URG", true, |p| p.flags |= 0x20),
        ("ECE", true, |p| p.flags |= ECE),
        ("CWR behind the first", true, |p| p.flags |= CWR),
        ("no ACK", true, |p| p.flags &= !ACK),
        ("no payload", true, |p| p.payload.clear()),
        ("longer", false, |p| p.payload.push(0)),
        ("ToS", false, |p| p.tos = 0x20),
        ("ECN mark", false, |p| p.tos |= 3),
        ("time to live", false, |p| p.ttl -= 1),
        ("tag", false, |p| p.tag = Some(5)),
        ("port", false, |p| p.port += 1),
    ];
    for (v6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let first = Packet { v6, tcp, ..Packet::default() };
        assert_eq!(joined_packets(&[first.clone(), first.next()]), 1, "v6 {v6} tcp {tcp}: unchanged");
        for (what, tcp_only, change) in changes {
            let mut second = first.next();
            change(&mut second);
            if tcp || !tcp_only {
                assert_eq!(joined_packets(&[first.clone(), second]), 0, "v6 {v6} tcp {tcp}: {what}");
            }
        }
    }
    let v4 = Packet { df: false, ..Packet::default() };
    for id in [100, 102, 99] {
        assert_eq!(joined_packets(&[v4.clone(), Packet { id, ..v4.next() }]), 0, "identification {id}");
    }
    assert_eq!(joined_packets(&[v4.clone(), Packet { df: true, ..v4.next() }]), 0, "DF");
    let v6 = Packet { v6: true, ..Packet::default() };
    assert_eq!(joined_packets(&[v6.clone(), Packet { label: 8, ..v6.next() }]), 0, "flow label");
}

/// RFC 6864: the identification of a packet that may not be fragmented has no meaning.
#[test]
fn a_constant_identification_is_no_obstacle_with_df() {
    let first = Packet::default();
    assert_eq!(joined_packets(&[first.clone(), Packet { id: first.id, ..first.next() }]), 1);
}

#[test]
fn a_short_segment_or_a_pushed_one_is_the_last() {
    let first = Packet::default();
    let short = Packet { payload: vec![1; 99], ..first.next() };
    assert_eq!(joined_packets(&[first.clone(), short.clone(), short.next()]), 1);
    let pushed = Packet { flags: ACK | PSH, ..first.next() };
    assert_eq!(joined_packets(&[first.clone(), pushed.clone(), Packet { flags: ACK, ..pushed.next() }]), 1);
    let pushed_first = Packet { flags: ACK | PSH, ..first.clone() };
    assert_eq!(joined_packets(&[pushed_first.clone(), Packet { flags: ACK, ..pushed_first.next() }]), 0);
}

#[test]
fn a_wrong_checksum_keeps_a_segment_apart_and_as_it_is() {
    let first = Packet::default();
    let packets = [first.clone(), first.next(), first.next().next()];
    for damaged in 0..3 {
        for at in [24, 90] {
            let mut frames: Vec<_> = packets.iter().map(|packet| frame_of(&packet.build())).collect();
            frames[damaged].bytes_mut()[at] ^= 0x40;
            let joined = join(&frames);
            let untouched = |frame: &Frame<Vec<u8>>| frame.bytes() == frames[damaged].bytes();
            assert_eq!(joined.iter().filter(|frame| untouched(frame)).count(), 1, "segment {damaged}, byte {at}");
        }
    }
}

/// What the NIC or a sender on this machine vouches for needs no look at its bytes.
#[test]
fn vouched_checksums_are_believed() {
    let first = Packet::default();
    let mut frames = [first.clone(), first.next()].map(|packet| frame_of(&packet.build()));
    for frame in &mut frames {
        frame.bytes_mut()[90] ^= 1;
    }
    assert_eq!(join(&frames).len(), 2);
    for checksum in [Checksum::Verified, Checksum::Partial { start: 34, offset: 16 }] {
        frames.iter_mut().for_each(|frame| frame.offload.checksum = checksum);
        assert_eq!(join(&frames).len(), 1, "{checksum:?}");
    }
    frames[1].offload.checksum = Checksum::Partial { start: 36, offset: 16 };
    assert_eq!(join(&frames).len(), 2, "a partial checksum elsewhere");
}

#[test]
fn flows_are_joined_side_by_side() {
    let flows: Vec<_> = (0..8).map(|port| Packet { port, ..Packet::default() }).collect();
    let packets: Vec<_> = flows.iter().cloned().chain(flows.iter().map(Packet::next)).collect();
    assert_eq!(joined_packets(&packets), 8);
    // A ninth takes the oldest's place.
    let many: Vec<_> = (0..9).map(|port| Packet { port, ..Packet::default() }).collect();
    let packets: Vec<_> = many.iter().cloned().chain(many.iter().skip(1).map(Packet::next)).collect();
    assert_eq!(joined_packets(&packets), 8);
}

#[test]
fn joined_frames_end_at_the_limits_of_ip_and_of_udp() {
    let large = Packet { payload: vec![7; 9000], ..Packet::default() };
    let packets: Vec<_> = std::iter::successors(Some(large), |packet| Some(packet.next())).take(9).collect();
    let frames: Vec<_> = packets.iter().map(|packet| frame_of(&packet.build())).collect();
    let joined = join(&frames);
    assert_eq!(joined.iter().map(Frame::len).collect::<Vec<_>>(), [66 + 63000, 66 + 18000]);
    let small = Packet { tcp: false, payload: vec![7; 10], ..Packet::default() };
    let packets: Vec<_> = std::iter::successors(Some(small), |packet| Some(packet.next())).take(64).collect();
    assert_eq!(joined_packets(&packets), 63);
    let mut coalescer = Coalescer::<64>::new(false);
    let frames: Vec<_> = packets.iter().map(|packet| frame_of(&packet.build())).collect();
    coalescer.plan(&frames);
    assert!((0..64).all(|index| coalescer.is_first(index)), "UDP was not asked for");
}

#[test]
fn padding_is_not_payload() {
    let first = Packet { payload: vec![5; 2], options: vec![], ..Packet::default() };
    let pad = |packet: &Packet| {
        let mut bytes = packet.build();
        bytes.resize(60, 0xff);
        frame_of(&bytes)
    };
    let joined = join(&[pad(&first), pad(&first.next())]);
    assert_eq!((joined.len(), joined[0].len()), (1, 54 + 4));
    let segments = cut(joined[0].bytes(), &joined[0].offload);
    assert_eq!(segments[1].bytes(), first.next().build());
}

#[test]
fn what_is_no_super_frame_is_refused() {
    let (bytes, offload) = Packet::default().build_super(10);
    assert!(Segmenter::new(&bytes, &offload).is_ok());
    let with = |gso: Gso| Segmenter::new(&bytes, &Offload { gso, ..offload }).map(|_| ());
    for kind in [GsoKind::None, GsoKind::TcpV6, GsoKind::Udp] {
        assert_eq!(with(Gso { kind, ..offload.gso }), Err(BadOffload), "{kind:?}");
    }
    assert_eq!(with(Gso { size: 0, ..offload.gso }), Err(BadOffload));
    for len in [0, 13, 33, 60, bytes.len() - 1] {
        assert_eq!(Segmenter::new(&bytes[..len], &offload).map(|_| ()), Err(BadOffload), "{len} bytes");
    }
    let mut fragment = bytes.clone();
    fragment[20] |= 0x20;
    assert_eq!(Segmenter::new(&fragment, &offload).map(|_| ()), Err(BadOffload), "a fragment");
    let empty = Packet { payload: vec![], ..Packet::default() }.build();
    assert_eq!(Segmenter::new(&empty, &offload).map(|_| ()), Err(BadOffload), "no payload");
}

#[test]
fn too_small_a_buffer_changes_nothing() {
    let (bytes, offload) = Packet::default().build_super(60);
    let mut segmenter = Segmenter::new(&bytes, &offload).unwrap();
    let mut small = Frame::new(vec![0; 100], 0, 0).unwrap();
    assert_eq!(segmenter.next(&bytes, &mut small), Err(NoRoom));
    assert_eq!(segmenter.remaining(), 2);
    let mut frame = Frame::new(vec![0; 200], 0, 0).unwrap();
    segmenter.next(&bytes, &mut frame).unwrap();
    assert_eq!(frame.bytes(), Packet::default().cut(60)[0].build());
    assert_eq!(checksums::verify(frame.bytes()), Ok(()));
    let frames = [frame_of(&Packet::default().build()), frame_of(&Packet::default().next().build())];
    let mut coalescer = Coalescer::<2>::new(true);
    coalescer.plan(&frames);
    assert_eq!(coalescer.join(0, &frames, &mut small), Err(NoRoom));
    assert_eq!(coalescer.head(0, &frames, &mut [0; 20]), None);
    assert_eq!(coalescer.head(0, &frames, &mut [0; HEAD_MAX]).map(|(len, _)| len), Some(66));
}

/// A frame beyond the plan's capacity begins its own group: it is passed on as it is.
#[test]
fn frames_beyond_the_capacity_stay_alone() {
    let first = Packet::default();
    let frames = [first.clone(), first.next(), first.next().next()].map(|packet| frame_of(&packet.build()));
    let mut coalescer = Coalescer::<2>::new(true);
    coalescer.plan(&frames);
    assert_eq!([0, 1, 2].map(|index| coalescer.is_first(index)), [true, false, true]);
    assert_eq!(coalescer.members(0).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(coalescer.members(2).collect::<Vec<_>>(), [2]);
}

/// Towards a kernel that cuts again, datagrams without a checksum can be joined with each other, and then get one; for a
/// VM they stay as they are.
#[test]
fn datagrams_without_a_checksum_are_joined_for_transmission_only() {
    let first = Packet { tcp: false, payload: vec![1; 30], ..Packet::default() };
    let frame = |packet: &Packet, checksum: bool| {
        let mut bytes = packet.build();
        if !checksum {
            bytes[40..42].fill(0);
        }
        frame_of(&bytes)
    };
    let (second, third) = (first.next(), first.next().next());
    let frames = [frame(&first, false), frame(&second, false), frame(&third, true)];
    let mut coalescer = Coalescer::<4>::for_transmission();
    coalescer.plan(&frames);
    assert_eq!(coalescer.members(0).collect::<Vec<_>>(), [0, 1]);
    assert!(coalescer.is_first(2));
    let mut joined = Frame::new(vec![0; 200], 0, 0).unwrap();
    assert_eq!(coalescer.join(0, &frames, &mut joined), Ok(true));
    for (segment, packet) in cut(joined.bytes(), &joined.offload).iter().zip([&first, &second]) {
        assert_eq!(segment.bytes(), packet.build());
    }
    let mut for_a_vm = Coalescer::<4>::new(true);
    for_a_vm.plan(&frames);
    assert!([0, 1, 2].iter().all(|index| for_a_vm.is_first(*index)));
}

/// UDP over IPv4 without a checksum stays without one; with one, 0 is written as 0xffff (RFC 768).
#[test]
fn a_missing_udp_checksum_stays_missing() {
    let packet = Packet { tcp: false, payload: vec![1; 30], ..Packet::default() };
    let (mut bytes, mut offload) = packet.build_super(20);
    bytes[40..42].fill(0);
    offload.checksum = Checksum::Complete;
    for segment in cut(&bytes, &offload) {
        assert_eq!(segment.bytes()[40..42], [0, 0]);
    }
    let zero = (0..=u16::MAX)
        .map(|word| Packet { payload: word.to_be_bytes().to_vec(), ..packet.clone() })
        .find(|packet| packet.build()[40..42] == [0xff, 0xff])
        .expect("one of all words makes the sum zero");
    let (bytes, offload) = zero.build_super(2);
    assert_eq!(cut(&bytes, &offload)[0].bytes(), zero.build());
}
