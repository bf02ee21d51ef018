//! A VM is held to its MTU: MSS options, and the answers to packets that are too big.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::{
    Checksum, Config, Cvsw, Direction, DropReason, Frame, Instant, Verdict, mtu::IpMtu, path_mtu::ANSWER_MAX,
    trace::NoTrace,
};
use cvsw_testkit::{
    checksums, hex,
    packet::{DST_MAC, Network, Packet, SRC_MAC, Transport},
};
use etherparse::{
    Icmpv4Type, Icmpv6Type, NetHeaders, PacketHeaders, TcpHeader, TcpOptions, TransportHeader, icmpv4, icmpv6,
};
use zerocopy::FromZeros;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const A6: [u8; 16] = [0xfd; 16];
const B6: [u8; 16] = [0xfc; 16];
type Engine = Cvsw<4, 4, 4, 1>;

fn engine(mtu: u16) -> Box<Engine> {
    let mut engine: Box<Engine> = Cvsw::new_box_zeroed().unwrap();
    engine.init(&Config::default());
    engine.set_mtu(IpMtu::new(mtu));
    engine
}

fn pass(engine: &mut Engine, now: Instant, direction: Direction, bytes: &[u8]) -> (Verdict, Frame<Vec<u8>>) {
    let mut frame = Frame::new(vec![0; 128 + bytes.len()], 128, bytes.len()).unwrap();
    frame.bytes_mut().copy_from_slice(bytes);
    (engine.process(now, direction, &mut frame), frame)
}

/// What a trace says of a frame, and makes of it.
fn traced(engine: &mut Engine, direction: Direction, bytes: &[u8]) -> (Verdict, Frame<Vec<u8>>) {
    let mut frame = Frame::new(vec![0; 128 + bytes.len()], 128, bytes.len()).unwrap();
    frame.bytes_mut().copy_from_slice(bytes);
    (engine.trace(Instant::ZERO, direction, &mut frame, &mut NoTrace), frame)
}

/// A trace says of each frame what the packet path does with it, answers nothing, and uses up no answer.
#[test]
fn a_trace_tells_what_becomes_of_large_packets() {
    let udp = |v6: bool, len: usize| {
        let builder = etherparse::PacketBuilder::ethernet2(SRC_MAC, DST_MAC);
        let mut bytes = Vec::new();
        let payload = vec![0; len];
        let written = if v6 {
            builder.ipv6(A6, B6, 64).udp(1, 2).write(&mut bytes, &payload)
        } else {
            builder.ipv4(A, B, 64).udp(1, 2).write(&mut bytes, &payload)
        };
        written.unwrap();
        bytes
    };
    let mut fragmentable = udp(false, 1500);
    fragmentable[20] &= !0x40;
    let frames = [
        udp(false, 1422),
        udp(false, 1423),
        udp(true, 1402),
        udp(true, 1403),
        fragmentable,
        syn(false, &mss(9000)),
    ];
    let mut verdicts = Vec::new();
    for frame in &frames {
        for direction in [Direction::Tx, Direction::Rx] {
            let mut engine = engine(1450);
            let (verdict, made) = traced(&mut engine, direction, frame);
            assert_eq!(answer(&mut engine), None);
            let (expected, passed) = pass(&mut engine, Instant::ZERO, direction, frame);
            assert_eq!((verdict, hex::dump(made.bytes())), (expected, hex::dump(passed.bytes())));
            verdicts.push(verdict);
        }
    }
    let dropped = |index: &usize| verdicts[*index] == Verdict::Drop(DropReason::PacketTooBig);
    assert_eq!((0..verdicts.len()).filter(dropped).collect::<Vec<_>>(), [2, 6], "{verdicts:?}");
}

fn answer(engine: &mut Engine) -> Option<Vec<u8>> {
    let mut out = [0; ANSWER_MAX];
    let len = engine.poll_host(&mut out)?;
    Some(out[..len].to_vec())
}

/// A SYN whose options are `options`, over IPv4 or IPv6.
fn syn(v6: bool, options: &[u8]) -> Vec<u8> {
    let mut tcp = TcpHeader::new(40000, 80, 1, 1000);
    tcp.syn = true;
    tcp.options = TcpOptions::try_from_slice(options).unwrap();
    let builder = etherparse::PacketBuilder::ethernet2(SRC_MAC, DST_MAC);
    let mut bytes = Vec::new();
    if v6 {
        builder.ipv6(A6, B6, 64).tcp_header(tcp).write(&mut bytes, &[]).unwrap();
    } else {
        builder.ipv4(A, B, 64).tcp_header(tcp).write(&mut bytes, &[]).unwrap();
    }
    bytes
}

fn mss(value: u16) -> Vec<u8> {
    [&[2, 4][..], &value.to_be_bytes()].concat()
}

/// At even and odd places among the options, both ways: what comes out is what etherparse builds with the lower value.
#[test]
fn a_large_mss_is_lowered_and_the_checksum_with_it() {
    for (v6, limit) in [(false, 1410u16), (true, 1390)] {
        for (before, behind) in [(&[][..], &[][..]), (&[1, 1, 1], &[1]), (&[4, 2], &[3, 3, 7, 1, 1, 1])] {
            let with = |value| syn(v6, &[before, &mss(value), behind].concat());
            for direction in [Direction::Tx, Direction::Rx] {
                for value in [limit - 1, limit, limit + 1, 1460, 8960, 0xffff] {
                    let (verdict, frame) = pass(&mut engine(1450), Instant::ZERO, direction, &with(value));
                    assert_eq!(verdict, Verdict::Forward);
                    assert_eq!(
                        hex::dump(frame.bytes()),
                        hex::dump(&with(value.min(limit))),
                        "{direction:?} {value}"
                    );
                }
            }
        }
    }
}

#[test]
fn tagged_syns_and_those_behind_ipv4_options_are_clamped_too() {
    let plain = syn(false, &mss(1460));
    let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
    let (_, frame) = pass(&mut engine(1450), Instant::ZERO, Direction::Tx, &tagged);
    assert_eq!(&frame.bytes()[60..62], &1410u16.to_be_bytes());
    assert_eq!(checksums::verify(frame.bytes()), Ok(()));
}

#[test]
fn nothing_else_is_touched() {
    let untouched = [
        syn(false, &[]),
        syn(false, &[1, 1, 1, 0, 2, 4, 0xff, 0xff]),
        syn(false, &[5, 0, 2, 4, 0xff, 0xff, 1, 1]),
        syn(false, &[2, 3, 0xff, 1]),
        Packet::tcp4(A, 1, B, 2, &mss(9000)).build(),
        Packet::udp4(A, 1, B, 2, &[0xff; 40]).build(),
        Packet::arp(A, B).build(),
    ];
    for bytes in untouched {
        let (verdict, frame) = pass(&mut engine(1450), Instant::ZERO, Direction::Tx, &bytes);
        assert_eq!((verdict, hex::dump(frame.bytes())), (Verdict::Forward, hex::dump(&bytes)));
    }
    let mut off = engine(1450);
    off.set_mtu(None);
    let bytes = syn(false, &mss(9000));
    assert_eq!(pass(&mut off, Instant::ZERO, Direction::Tx, &bytes).1.bytes(), bytes);
    let large = with_df(Packet::udp4(A, 1, B, 2, &[7; 4000]));
    assert_eq!(pass(&mut off, Instant::ZERO, Direction::Tx, &large).0, Verdict::Forward);
}

/// An unfinished checksum does not cover the options yet.
#[test]
fn an_unfinished_checksum_stays_as_it_is() {
    let mut bytes = syn(false, &mss(1460));
    bytes[50..52].copy_from_slice(&[0x12, 0x34]);
    let mut frame = Frame::new(bytes.clone(), 0, bytes.len()).unwrap();
    frame.offload.checksum = Checksum::Partial { start: 34, offset: 16 };
    assert_eq!(engine(1450).process(Instant::ZERO, Direction::Tx, &mut frame), Verdict::Forward);
    assert_eq!((&frame.bytes()[50..52], &frame.bytes()[56..58]), (&[0x12, 0x34][..], &1410u16.to_be_bytes()[..]));
}

/// A packet with the don't-fragment bit.
fn with_df(packet: Packet) -> Vec<u8> {
    let mut bytes = packet.build();
    bytes[20] |= 0x40;
    bytes[24..26].fill(0);
    let sum = bytes[14..34].chunks(2).fold(0u32, |sum, word| sum + u32::from(word[0]) * 256 + u32::from(word[1]));
    bytes[24..26].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    assert_eq!(checksums::verify(&bytes), Ok(()));
    bytes
}

fn udp6(len: usize) -> Packet {
    Packet::ip6(A6, B6, Transport::Udp { src: 1, dst: 2, checksum: true, payload: vec![9; len] })
}

/// RFC 1191 section 4: type 3, code 4, the MTU in the low half of the second word, header and more of what was sent.
#[test]
fn ipv4_is_answered_with_fragmentation_needed() {
    let mut engine = engine(1450);
    let sent = with_df(Packet::udp4(A, 1, B, 2, &[9; 1423]));
    assert_eq!(pass(&mut engine, Instant::ZERO, Direction::Tx, &sent).0, Verdict::Drop(DropReason::PacketTooBig));
    let bytes = answer(&mut engine).expect("an answer");
    assert_eq!(checksums::verify(&bytes), Ok(()));
    assert_eq!((&bytes[..6], &bytes[6..12]), (&SRC_MAC[..], &DST_MAC[..]));
    let headers = PacketHeaders::from_ethernet_slice(&bytes).unwrap();
    let (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Icmpv4(icmp))) = (headers.net, headers.transport)
    else {
        panic!("{}", hex::dump(&bytes))
    };
    assert_eq!((ip.source, ip.destination, bytes.len()), (B, A, 14 + 576));
    let header = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1450 };
    assert_eq!(icmp.icmp_type, Icmpv4Type::DestinationUnreachable(header));
    assert_eq!(bytes[42..], sent[14..14 + 548]);
    assert_eq!(answer(&mut engine), None);
    let fits = with_df(Packet::udp4(A, 1, B, 2, &[9; 1422]));
    assert_eq!(pass(&mut engine, Instant::ZERO, Direction::Tx, &fits).0, Verdict::Forward);
    // From the network the VM gets whatever comes: its peer was clamped, or its own interface refuses.
    assert_eq!(pass(&mut engine, Instant::ZERO, Direction::Rx, &sent).0, Verdict::Forward);
    assert_eq!(engine.stats().too_big_answered, 1);
}

/// RFC 4443 section 3.2: type 2, the MTU, and as much of the packet as fits 1280 bytes. A tag goes back with it.
#[test]
fn ipv6_is_answered_with_packet_too_big() {
    for (mtu, told) in [(1450, 1450), (1000, 1280)] {
        let mut engine = engine(mtu);
        let sent = udp6(1403).tagged(0x8100, 7).build();
        assert_eq!(
            pass(&mut engine, Instant::ZERO, Direction::Tx, &sent).0,
            Verdict::Drop(DropReason::PacketTooBig)
        );
        let bytes = answer(&mut engine).expect("an answer");
        assert_eq!(checksums::verify(&bytes), Ok(()));
        let headers = PacketHeaders::from_ethernet_slice(&bytes).unwrap();
        let (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Icmpv6(icmp))) = (headers.net, headers.transport)
        else {
            panic!("{}", hex::dump(&bytes))
        };
        assert_eq!((ip.source, ip.destination, bytes.len()), (B6, A6, 18 + 1280));
        assert_eq!(icmp.icmp_type, Icmpv6Type::PacketTooBig { mtu: told });
        assert_eq!(icmpv6::TYPE_PACKET_TOO_BIG, 2);
        assert_eq!((&bytes[12..16], &bytes[66..]), (&[0x81, 0, 0, 7][..], &sent[18..18 + 1232]));
        let fits = udp6(usize::from(told as u16) - 48).build();
        assert_eq!(pass(&mut engine, Instant::ZERO, Direction::Tx, &fits).0, Verdict::Forward);
    }
}

#[test]
fn some_packets_are_dropped_without_an_answer_and_some_are_left_alone() {
    let big = vec![3u8; 3000];
    let icmp = |kind, payload: &[u8]| Transport::Icmp { kind, code: 0, payload: payload.to_vec() };
    let silent = [
        ("an error message", with_df(Packet::ip4(A, B, icmp(3, &big)))),
        ("an ICMPv6 error message", Packet::ip6(A6, B6, icmp(1, &big)).build()),
        ("multicast", with_df(Packet::udp4(A, 1, [224, 0, 0, 1], 2, &big))),
        ("broadcast", with_df(Packet::udp4(A, 1, [255; 4], 2, &big))),
        ("no source", with_df(Packet::udp4([0; 4], 1, B, 2, &big))),
        ("multicast", Packet::ip6(A6, [0xff; 16], icmp(128, &big)).build()),
        ("no source", Packet::ip6([0; 16], B6, icmp(128, &big)).build()),
    ];
    for (what, bytes) in silent {
        let mut engine = engine(1450);
        let verdict = pass(&mut engine, Instant::ZERO, Direction::Tx, &bytes).0;
        assert_eq!(verdict, Verdict::Drop(DropReason::PacketTooBig), "{what}");
        assert_eq!((answer(&mut engine), engine.stats().too_big_answered), (None, 0), "{what}");
    }
    let mut pong = engine(1450);
    let ping = with_df(Packet::ip4(A, B, icmp(8, &big)));
    assert_eq!(pass(&mut pong, Instant::ZERO, Direction::Tx, &ping).0, Verdict::Drop(DropReason::PacketTooBig));
    assert!(answer(&mut pong).is_some(), "a ping is answered");
    let left_alone = [
        Packet::udp4(A, 1, B, 2, &big).build(),
        Packet::new(Network::Other { ethertype: 0x88b5, payload: big.clone() }).build(),
    ];
    for bytes in left_alone {
        assert_eq!(pass(&mut engine(1450), Instant::ZERO, Direction::Tx, &bytes).0, Verdict::Forward);
    }
}

#[test]
fn answers_are_limited_by_room_and_by_rate() {
    let mut engine = engine(1450);
    let sent = with_df(Packet::udp4(A, 1, B, 2, &[9; 2000]));
    let mut now = Instant::ZERO;
    // Four wait at most.
    (0..6).for_each(|_| drop(pass(&mut engine, now, Direction::Tx, &sent)));
    assert_eq!((0..6).filter(|_| answer(&mut engine).is_some()).count(), 4);
    // Ten at once, of which six were used up; then one each ten milliseconds.
    let mut answers = |now| {
        let mut count = 0;
        for _ in 0..50 {
            drop(pass(&mut engine, now, Direction::Tx, &sent));
            count += u32::from(answer(&mut engine).is_some());
        }
        count
    };
    assert_eq!(answers(now), 4);
    assert_eq!(answers(now), 0);
    now = Instant::from_nanos(30_000_000);
    assert_eq!(answers(now), 3);
    now = Instant::from_nanos(3_000_000_000);
    assert_eq!(answers(now), 10);
    assert_eq!(engine.stats().direction(Direction::Tx).dropped(DropReason::PacketTooBig), 206);
}
