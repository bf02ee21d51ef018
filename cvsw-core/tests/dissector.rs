//! What the engine emits, dissected by tshark with all checksum checks on.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::{
    Frame,
    apply::{Next, Program},
    flow::{Action, Tunnel},
    parse::parse,
    trace::NoTrace,
};
use cvsw_testkit::{packet::Packet, program::run, tshark::Capture};

const TUNNEL: Tunnel = Tunnel {
    eth_dst: [0x02, 0, 0, 1, 0, 2],
    eth_src: [0x02, 0, 0, 1, 0, 1],
    dst: [192, 0, 2, 2],
    src: [192, 0, 2, 1],
    vni: 0x12_3456,
};

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

fn processed(actions: &[Action], bytes: &[u8]) -> Vec<u8> {
    let mut frame = Frame::new([&[0; 64][..], bytes].concat(), 64, bytes.len()).expect("fits");
    let program = Program::compile(actions).expect("valid");
    let parsed = parse(bytes, 1, 0).expect("Ethernet");
    assert_eq!(run(&program, &mut 1, &mut frame, &parsed, &mut NoTrace), Next::Forward);
    frame.bytes().to_vec()
}

/// tshark's values of `*.checksum.status`.
const GOOD: &str = "1";
const NOT_PRESENT: &str = "3";

const HEALTH: [&str; 6] = [
    "ip.checksum.status",
    "tcp.checksum.status",
    "udp.checksum.status",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
    "_ws.malformed",
];

/// Every checksum present and right (or absent, for UDP), and nothing malformed.
fn assert_healthy(frames: &[Vec<u8>], name: &str) {
    let capture = Capture::write(name, frames);
    let dissected = capture.dissect(&HEALTH);
    assert_eq!(dissected.len(), frames.len());
    let mut seen = 0;
    for (frame, fields) in frames.iter().zip(dissected) {
        let [checksums @ .., malformed] = &fields[..] else { panic!("{fields:?}") };
        assert!(malformed.is_empty(), "malformed: {frame:02x?}");
        for (field, values) in HEALTH.iter().zip(checksums) {
            for value in values {
                let absent = *field == "udp.checksum.status" && value == NOT_PRESENT;
                assert!(value == GOOD || absent, "{field} is {value}: {frame:02x?}");
                seen += 1;
            }
        }
    }
    assert!(seen > frames.len(), "tshark looked at {seen} checksums only");
}

#[test]
fn a_damaged_frame_is_noticed() {
    let mut bad = Packet::udp4(A, 1, B, 2, b"x").build();
    bad[42] ^= 1;
    let capture = Capture::write("damaged", &[bad]);
    assert_eq!(capture.dissect(&["udp.checksum.status"]), [[["0"]]]);
}

#[test]
fn encapsulated_frames() {
    let frames: Vec<_> =
        Packet::samples().iter().map(|packet| processed(&[Action::SetVxlan(TUNNEL)], &packet.build())).collect();
    assert_healthy(&frames, "encapsulated");
    let capture = Capture::write("tunnel", &frames);
    let fields =
        ["eth.dst", "ip.dst", "ip.flags.df", "ip.ttl", "udp.dstport", "udp.srcport", "vxlan.vni", "vxlan.flags"];
    for values in capture.dissect(&fields) {
        let outermost: Vec<&str> = values.iter().map(|values| values[0].as_str()).collect();
        let [eth_dst, ip_dst, df, ttl, dst_port, src_port, vni, flags] = outermost[..] else {
            panic!("{values:?}")
        };
        assert_eq!((eth_dst, ip_dst, df, ttl), ("02:00:00:01:00:02", "192.0.2.2", "1", "64"));
        assert_eq!((dst_port, vni, flags), ("4789", "1193046", "0x0800"));
        assert!(src_port.parse::<u16>().is_ok_and(|port| port >= 49152), "{src_port}");
    }
}

#[test]
fn rewritten_frames() {
    let lists = [
        vec![Action::SetNwSrc([172, 16, 255, 255]), Action::SetNwDst([203, 0, 113, 7]), Action::SetNwTos(0xb8)],
        vec![Action::SetTpSrc(65535), Action::SetTpDst(1), Action::SetEthSrc([2, 0, 0, 0, 0, 9])],
        vec![Action::SetVlanVid(4094), Action::SetVlanPcp(7), Action::SetNwDst([0, 0, 0, 0])],
        vec![Action::StripVlan, Action::StripVlan, Action::SetNwSrc([255, 255, 255, 255]), Action::SetTpDst(0)],
    ];
    let frames: Vec<_> = Packet::samples()
        .iter()
        .flat_map(|packet| lists.iter().map(|actions| processed(actions, &packet.build())))
        .collect();
    assert_healthy(&frames, "rewritten");
}

#[test]
fn the_fields_are_where_they_belong() {
    let actions = [
        Action::SetVlanVid(100),
        Action::SetVlanPcp(5),
        Action::SetNwSrc([172, 16, 0, 1]),
        Action::SetNwDst([172, 16, 0, 2]),
        Action::SetNwTos(0xb8),
        Action::SetTpSrc(1111),
        Action::SetTpDst(2222),
        Action::SetEthSrc([2, 0, 0, 0, 0, 9]),
        Action::SetEthDst([2, 0, 0, 0, 0, 8]),
    ];
    let capture = Capture::write("fields", &[processed(&actions, &Packet::tcp4(A, 1, B, 2, b"data").build())]);
    let fields = [
        ("vlan.id", "100"),
        ("vlan.priority", "5"),
        ("ip.src", "172.16.0.1"),
        ("ip.dst", "172.16.0.2"),
        ("ip.dsfield", "0xb8"),
        ("tcp.srcport", "1111"),
        ("tcp.dstport", "2222"),
        ("eth.src", "02:00:00:00:00:09"),
        ("eth.dst", "02:00:00:00:00:08"),
    ];
    let (names, expected): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    assert_eq!(capture.dissect(&names).concat().concat(), expected);
}
