//! What the differential tester (`cargo xtask oracle`) found and Open vSwitch decided, one small test each.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::{
    Config, Cvsw, Direction, DropReason, Frame, Instant, Verdict,
    flow::{KEEP_COOKIE, OfpError, text::parse_flow},
    openflow::{decode_flow_mod, encode_flow_mod},
};
use cvsw_testkit::packet::{Fragment, Ipv4, Ipv6, Network, Packet, Transport};
use zerocopy::FromZeros;

type Engine = Cvsw<64, 64, 16>;

/// An engine with these flows.
fn engine(flows: &[&str]) -> Box<Engine> {
    let mut engine = Engine::new_box_zeroed().unwrap();
    engine.init(&Config::default());
    for flow in flows {
        change(&mut engine, flow).unwrap();
    }
    engine
}

fn change(engine: &mut Engine, flow: &str) -> Result<(), OfpError> {
    engine.flow_mod(Instant::ZERO, &parse_flow(flow).unwrap())
}

/// What becomes of a frame from the network.
fn send(engine: &mut Engine, bytes: &[u8]) -> (Verdict, Vec<u8>) {
    let mut frame = Frame::new([&[0; 32], bytes].concat(), 32, bytes.len()).unwrap();
    let verdict = engine.process(Instant::ZERO, Direction::Rx, &mut frame);
    (verdict, frame.bytes().to_vec())
}

const DROPPED: Verdict = Verdict::Drop(DropReason::Policy);

#[test]
fn an_identical_entry_is_no_overlap() {
    let mut engine = engine(&["priority=7,ip,actions=drop"]);
    assert_eq!(change(&mut engine, "check_overlap,priority=7,tcp,actions=drop"), Err(OfpError::Overlap));
    assert_eq!(change(&mut engine, "check_overlap,priority=7,ip,actions=strip_vlan"), Ok(()));
    assert_eq!(engine.flow_count(), 1);
}

#[test]
fn the_cookie_of_all_ones_keeps_cookies_and_adds_nothing() {
    let mut engine = engine(&["modify cookie=0xffffffffffffffff,arp,actions=drop"]);
    change(&mut engine, "modify_strict cookie=0xffffffffffffffff,arp,actions=drop").unwrap();
    assert_eq!(engine.flow_count(), 0);
    change(&mut engine, "cookie=5,ip,actions=drop").unwrap();
    for command in ["modify", "modify_strict", "add"] {
        change(&mut engine, &format!("{command} cookie=0xffffffffffffffff,ip,actions=strip_vlan")).unwrap();
        assert_eq!(engine.flows().map(|entry| entry.flow.cookie).collect::<Vec<_>>(), [5], "{command}");
    }
    change(&mut engine, "cookie=0xffffffffffffffff,arp,actions=drop").unwrap();
    assert!(engine.flows().any(|entry| entry.flow.cookie == KEEP_COOKIE));
}

/// A UDP packet from port 1 to port 2, or a fragment of one.
fn udp(fragment: Fragment) -> Vec<u8> {
    let transport = Transport::Udp { src: 1, dst: 2, checksum: true, payload: vec![7; 24] };
    let (src, dst) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let network = Network::Ipv4(Ipv4 { src, dst, tos: 0, id: 3, options: Vec::new(), fragment, transport });
    Packet { eth_src: [2; 6], eth_dst: [4; 6], tags: Vec::new(), network, padding: 0 }.build()
}

#[test]
fn no_fragment_has_ports_to_match_on() {
    let flows = ["priority=2,udp,tp_dst=2,actions=drop", "priority=1,udp,tp_dst=0,actions=mod_tp_dst:9"];
    let mut engine = engine(&flows);
    assert_eq!(send(&mut engine, &udp(Fragment::Whole)).0, DROPPED);
    // The first fragment has a header to change nevertheless.
    let (verdict, bytes) = send(&mut engine, &udp(Fragment::First { keep: 16 }));
    assert_eq!((verdict, &bytes[36..38]), (Verdict::Forward, &[0, 9][..]));
    let later = udp(Fragment::Later { skip: 16 });
    assert_eq!(send(&mut engine, &later), (Verdict::Forward, later));
}

#[test]
fn a_tcp_header_of_wrong_length_has_no_ports() {
    for words in [4, 6] {
        let transport = Transport::Tcp { src: 1, dst: 2, flags: 2, payload: vec![0; 2] };
        let network = Network::Ipv4(Ipv4 {
            src: [10, 0, 0, 1],
            dst: [10, 0, 0, 2],
            tos: 0,
            id: 3,
            options: Vec::new(),
            fragment: Fragment::Whole,
            transport,
        });
        // The padding is no part of the header.
        let packet = Packet { eth_src: [2; 6], eth_dst: [4; 6], tags: Vec::new(), network, padding: 9 };
        let mut bytes = packet.build();
        let flows = ["priority=2,tcp,tp_dst=2,actions=drop", "priority=1,tcp,tp_dst=0,actions=mod_tp_dst:9"];
        let mut engine = engine(&flows);
        assert_eq!(send(&mut engine, &bytes).0, DROPPED);
        bytes[46] = words << 4;
        assert_eq!(send(&mut engine, &bytes), (Verdict::Forward, bytes));
    }
}

#[test]
fn an_ipv6_packet_with_cut_extension_headers_is_not_changed() {
    let extensions = vec![(0, vec![0; 6])];
    let transport = Transport::Other { protocol: 253, payload: Vec::new() };
    let network = Network::Ipv6(Ipv6 { src: [1; 16], dst: [2; 16], class: 0, extensions, transport });
    let packet = Packet { eth_src: [2; 6], eth_dst: [4; 6], tags: Vec::new(), network, padding: 0 };
    let mut bytes = packet.build();
    let mut engine = engine(&["ipv6,actions=mod_nw_tos:4"]);
    assert_eq!(send(&mut engine, &bytes).1[14..16], [0x60, 0x40]);
    // The hop-by-hop header now says that it has 16 bytes, of which 8 are there.
    bytes[14 + 40 + 1] = 1;
    assert_eq!(send(&mut engine, &bytes), (Verdict::Forward, bytes));
}

#[test]
fn keep_the_port_means_the_port_of_arrival() {
    let mut engine = engine(&[
        "priority=2,in_port=NET,dl_dst=04:04:04:04:04:04,actions=resubmit:HOST",
        "priority=2,in_port=HOST,actions=mod_dl_dst:06:00:00:00:00:00,resubmit:IN_PORT",
        "priority=1,in_port=NET,actions=drop",
    ]);
    assert_eq!(send(&mut engine, &udp(Fragment::Whole)).0, DROPPED);
}

#[test]
fn a_bad_action_is_told_before_a_bad_flag() {
    let flow = parse_flow("actions=mod_nw_tos:4").unwrap();
    let mut bytes = [0; 80];
    assert_eq!(encode_flow_mod(&flow, 0, &mut bytes), Ok(80));
    let rows = [
        (0x10, 4, Err(OfpError::BadFlags)),
        (0x10, 5, Err(OfpError::BadArgument)),
        (4, 4, Err(OfpError::TableFull)),
        (4, 5, Err(OfpError::BadArgument)),
        (0, 4, Ok(())),
    ];
    for (flags, tos, expected) in rows {
        (bytes[71], bytes[76]) = (flags, tos);
        assert_eq!(decode_flow_mod(&bytes).map(drop), expected, "flags {flags} tos {tos}");
    }
    // An emergency entry with a timeout has an error of its own.
    (bytes[59], bytes[71], bytes[76]) = (1, 4, 4);
    assert_eq!(decode_flow_mod(&bytes).map(drop), Err(OfpError::BadEmergTimeout));
}
