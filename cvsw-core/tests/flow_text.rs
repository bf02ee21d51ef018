//! Flow text against hand-made flows, and its errors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::flow::{
    Action, Command, Field, FlowMod, Match, OFPP_CONTROLLER, OFPP_NONE, OFPP_NORMAL, RESUBMIT_IN_PORT, Tunnel,
    text::{DisplayFlow, TextError, parse_flow, parse_match},
};

/// The match and the actions of a line.
fn parsed(line: &str) -> (Match, Vec<Action>) {
    match parse_flow(line) {
        Ok(flow) => (flow.matching, flow.actions.to_vec()),
        Err(error) => panic!("{line}: {error}"),
    }
}

fn matching(line: &str) -> Match {
    parsed(&format!("{line},actions=drop")).0
}

fn actions(list: &str) -> Vec<Action> {
    parsed(&format!("actions={list}")).1
}

#[test]
fn a_flow_from_the_documentation() {
    let flow =
        parse_flow("priority=100,in_port=HOST,ip,nw_src=10.0.0.0/24,actions=mod_nw_dst:10.1.1.1,mod_tp_dst:8080")
            .unwrap();
    let expected = Match::ANY.with(Field::InPort, 1).with(Field::EthType, 0x0800).with_masked(
        Field::NwSrc,
        0x0a00_0000,
        0xffff_ff00,
    );
    assert_eq!((flow.priority, flow.matching, flow.command), (100, expected, Command::Add));
    assert_eq!(flow.actions[..], [Action::SetNwDst([10, 1, 1, 1]), Action::SetTpDst(8080)]);
    assert_eq!(
        DisplayFlow(&flow).to_string(),
        "priority=100,ip,in_port=1,nw_src=10.0.0.0/24 actions=mod_nw_dst:10.1.1.1,mod_tp_dst:8080",
    );
    assert_eq!(
        format!("{:#}", DisplayFlow(&flow)),
        "priority=100,ip,in_port=HOST,nw_src=10.0.0.0/24 actions=mod_nw_dst:10.1.1.1,mod_tp_dst:8080",
    );
}

#[test]
fn attributes() {
    let line =
        "cookie=0x1f idle_timeout=10\thard_timeout=20 send_flow_rem check_overlap table=0 priority=0x10 actions=";
    let flow = parse_flow(line).unwrap();
    let expected =
        FlowMod { cookie: 0x1f, idle_timeout: 10, hard_timeout: 20, flags: 3, priority: 16, ..FlowMod::default() };
    assert_eq!(flow, expected);
    let dumped =
        " cookie=0x0, duration=6.3s, table=0, n_packets=1, n_bytes=60, idle_age=3, priority=5,arp actions=drop";
    assert_eq!(parse_flow(dumped).unwrap().priority, 5);
}

#[test]
fn every_spelling_of_a_field() {
    let ip = Match::ANY.with(Field::EthType, 0x0800);
    let tcp = ip.with(Field::NwProto, 6);
    let udp = ip.with(Field::NwProto, 17);
    let icmp = ip.with(Field::NwProto, 1);
    let arp = Match::ANY.with(Field::EthType, 0x0806);
    let ipv6 = Match::ANY.with(Field::EthType, 0x86dd);
    let vlan = |value: u64, mask: u64| Match::ANY.with_masked(Field::VlanTci, value, mask);
    let rows: [(&str, Match); 44] = [
        ("in_port=HOST", Match::ANY.with(Field::InPort, 1)),
        ("in_port=net", Match::ANY.with(Field::InPort, 2)),
        ("in_port=7", Match::ANY.with(Field::InPort, 7)),
        ("in_port=LOCAL", Match::ANY.with(Field::InPort, 0xfffe)),
        ("in_port=*", Match::ANY),
        ("dl_src=02:00:00:00:00:01", Match::ANY.with(Field::EthSrc, 0x0200_0000_0001)),
        ("eth_src=2:0:0:0:0:1", Match::ANY.with(Field::EthSrc, 0x0200_0000_0001)),
        ("dl_dst=02:00:00:00:00:01", Match::ANY.with(Field::EthDst, 0x0200_0000_0001)),
        (
            "eth_dst=01:00:00:00:00:00/01:00:00:00:00:00",
            Match::ANY.with_masked(Field::EthDst, 0x0100_0000_0000, 0x0100_0000_0000),
        ),
        ("dl_type=0xabba", Match::ANY.with(Field::EthType, 0xabba)),
        ("eth_type=2048", ip),
        ("ip", ip),
        ("arp", arp),
        ("rarp", Match::ANY.with(Field::EthType, 0x8035)),
        ("ipv6", ipv6),
        ("tcp", tcp),
        ("udp", udp),
        ("icmp", icmp),
        ("tcp6", ipv6.with(Field::NwProto, 6)),
        ("icmp6,icmpv6_type=135", ipv6.with(Field::NwProto, 58).with(Field::TpSrc, 135)),
        ("dl_vlan=5", vlan(0x1005, 0x1fff)),
        ("dl_vlan=0", vlan(0x1000, 0x1fff)),
        ("dl_vlan=0xffff", vlan(0, 0xffff)),
        ("dl_vlan_pcp=3", vlan(0x7000, 0xf000)),
        ("dl_vlan=5,dl_vlan_pcp=3", vlan(0x7005, 0xffff)),
        ("vlan_tci=0x1000/0x1000", vlan(0x1000, 0x1000)),
        ("ip,nw_src=10.1.2.3", ip.with(Field::NwSrc, 0x0a01_0203)),
        ("ip,ip_src=10.1.2.3/16", ip.with_masked(Field::NwSrc, 0x0a01_0000, 0xffff_0000)),
        ("ip,nw_dst=10.1.2.3/255.0.0.255", ip.with_masked(Field::NwDst, 0x0a00_0003, 0xff00_00ff)),
        ("nw_dst=10.0.0.0/0", Match::ANY),
        ("ip_dst=1.2.3.4 ip", ip.with(Field::NwDst, 0x0102_0304)),
        ("arp,arp_spa=10.0.0.1,arp_tpa=10.0.0.2,arp_op=1", {
            arp.with(Field::NwSrc, 0x0a00_0001).with(Field::NwDst, 0x0a00_0002).with(Field::NwProto, 1)
        }),
        ("ip,nw_proto=50", ip.with(Field::NwProto, 50)),
        ("ip,nw_tos=184", ip.with_masked(Field::NwTos, 0xb8, 0xfc)),
        ("ip,ip_dscp=46", ip.with_masked(Field::NwTos, 0xb8, 0xfc)),
        ("tcp,tp_src=1,tp_dst=0x50", tcp.with(Field::TpSrc, 1).with(Field::TpDst, 80)),
        ("tcp,tcp_src=1,tcp_dst=2", tcp.with(Field::TpSrc, 1).with(Field::TpDst, 2)),
        ("udp,udp_src=1,udp_dst=2", udp.with(Field::TpSrc, 1).with(Field::TpDst, 2)),
        ("udp,tp_dst=0x1000/0xf000", udp.with_masked(Field::TpDst, 0x1000, 0xf000)),
        ("icmp,icmp_type=8,icmp_code=0", icmp.with(Field::TpSrc, 8).with(Field::TpDst, 0)),
        ("tun_id=42", Match::ANY.with(Field::TunId, 42)),
        ("tunnel_id=0x2a/0xff", Match::ANY.with_masked(Field::TunId, 0x2a, 0xff)),
        ("tcp,tcp_flags=+syn-ack", tcp.with_masked(Field::TcpFlags, 0x02, 0x12)),
        ("ip,ip_frag=later", ip.with_masked(Field::NwFrag, 3, 3)),
    ];
    for (text, expected) in rows {
        assert_eq!(matching(text), expected, "{text}");
    }
}

#[test]
fn ipv6_addresses() {
    let prefix = matching("ipv6,ipv6_src=2001:db8::/32,ipv6_dst=::1");
    let expected = Match::ANY
        .with(Field::EthType, 0x86dd)
        .with_masked(Field::Ipv6SrcHi, 0x2001_0db8_0000_0000, 0xffff_ffff_0000_0000)
        .with(Field::Ipv6DstHi, 0)
        .with(Field::Ipv6DstLo, 1);
    assert_eq!(prefix, expected);
}

#[test]
fn every_action() {
    let output = |port: u16| Action::Output { port, max_len: 0 };
    let controller = |max_len: u16| Action::Output { port: OFPP_CONTROLLER, max_len };
    let tunnel = Tunnel {
        eth_dst: [2, 0, 0, 0, 0, 2],
        eth_src: [2, 0, 0, 0, 0, 1],
        dst: [192, 0, 2, 2],
        src: [192, 0, 2, 1],
        vni: 42,
    };
    let rows: [(&str, &[Action]); 18] = [
        ("drop", &[]),
        ("", &[]),
        ("output:3,4,output=5,NET,LOCAL", &[output(3), output(4), output(5), output(2), output(0xfffe)]),
        ("NORMAL", &[output(OFPP_NORMAL)]),
        ("output:NONE", &[output(OFPP_NONE)]),
        (
            "CONTROLLER,controller:128,controller(max_len=7),output:CONTROLLER",
            &[controller(0xffff), controller(128), controller(7), controller(0xffff)],
        ),
        (
            "enqueue:1:2,enqueue(3,4)",
            &[Action::Enqueue { port: 1, queue: 2 }, Action::Enqueue { port: 3, queue: 4 }],
        ),
        (
            "mod_vlan_vid:4095,mod_vlan_pcp:7,strip_vlan",
            &[Action::SetVlanVid(4095), Action::SetVlanPcp(7), Action::StripVlan],
        ),
        ("mod_dl_src:02:00:00:00:00:01", &[Action::SetEthSrc([2, 0, 0, 0, 0, 1])]),
        ("mod_dl_dst:02:00:00:00:00:01", &[Action::SetEthDst([2, 0, 0, 0, 0, 1])]),
        (
            "mod_nw_src=1.2.3.4 mod_nw_dst(5.6.7.8)",
            &[Action::SetNwSrc([1, 2, 3, 4]), Action::SetNwDst([5, 6, 7, 8])],
        ),
        ("mod_nw_tos:184", &[Action::SetNwTos(184)]),
        ("mod_tp_src:1,mod_tp_dst:65535", &[Action::SetTpSrc(1), Action::SetTpDst(65535)]),
        (
            "resubmit:NET,resubmit(HOST),resubmit(2,0),resubmit(,0)",
            &[
                Action::Resubmit { in_port: 2 },
                Action::Resubmit { in_port: 1 },
                Action::Resubmit { in_port: 2 },
                Action::Resubmit { in_port: RESUBMIT_IN_PORT },
            ],
        ),
        (
            "set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,eth_src=02:00:00:00:00:01,eth_dst=02:00:00:00:00:02)",
            &[Action::SetVxlan(tunnel)],
        ),
        (
            "set_vxlan( eth_dst=02:00:00:00:00:02 eth_src=02:00:00:00:00:01, dst=192.0.2.2, src=192.0.2.1, vni=0x2a )",
            &[Action::SetVxlan(tunnel)],
        ),
        ("strip_vxlan(vni=42),strip_vxlan", &[Action::StripVxlan(Some(42)), Action::StripVxlan(None)]),
        ("decrypt,encrypt(sa=4294967295)", &[Action::Decrypt, Action::Encrypt { sa: u32::MAX }]),
    ];
    for (text, expected) in rows {
        assert_eq!(actions(text), expected, "{text}");
    }
}

#[test]
fn commands() {
    let command = |line: &str| parse_flow(line).unwrap().command;
    assert_eq!(command("add ip actions=drop"), Command::Add);
    assert_eq!(command("modify ip actions=drop"), Command::Modify);
    assert_eq!(command("modify_strict,ip,actions=drop"), Command::ModifyStrict);
    assert_eq!(command("delete ip,out_port=3"), Command::Delete);
    let strict = parse_flow("delete_strict priority=7,ip").unwrap();
    assert_eq!((strict.command, strict.priority), (Command::DeleteStrict, 7));
    let delete = parse_match("ip,nw_src=10.0.0.0/24,out_port=3").unwrap();
    assert_eq!((delete.command, delete.out_port, delete.actions.len()), (Command::Delete, 3, 0));
    assert_eq!(parse_match("").unwrap().matching, Match::ANY);
}

#[test]
fn a_match_without_wildcards_has_the_highest_priority() {
    let exact = "priority=5,in_port=1,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,dl_vlan=5,dl_vlan_pcp=0,\
                 tcp,nw_src=1.2.3.4,nw_dst=5.6.7.8,nw_tos=0,tp_src=1";
    assert_eq!(parse_flow(&format!("{exact},actions=drop")).unwrap().priority, 5);
    assert_eq!(parse_flow(&format!("{exact},tp_dst=2,actions=drop")).unwrap().priority, 65535);
}

#[test]
fn errors_point_at_the_place() {
    let rows = [
        ("ip", 2, "", "actions="),
        ("", 0, "", "actions="),
        ("priority=70000,actions=drop", 9, "70000", "0 to 65535"),
        ("priority=010,actions=drop", 9, "010", "0 to 65535"),
        ("priority=+1,actions=drop", 9, "+1", "0 to 65535"),
        ("priority,actions=drop", 8, "", "value"),
        ("ip,priority=1,priority=1,actions=drop", 14, "priority=1", "once"),
        ("bogus=1,actions=drop", 0, "bogus", "match field"),
        ("ip,nw_src=10.0.0,actions=drop", 10, "10.0.0", "IPv4"),
        ("ip,nw_src=10.0.0.0/33,actions=drop", 19, "33", "0 to 32"),
        ("dl_src=02:00:00:00:00,actions=drop", 7, "02:00:00:00:00", "Ethernet"),
        ("dl_vlan=4096,actions=drop", 8, "4096", "4095"),
        ("dl_vlan=0xffff,dl_vlan_pcp=1,actions=drop", 15, "dl_vlan_pcp=1", "contradicts"),
        ("tcp,udp,actions=drop", 4, "udp", "contradicts"),
        ("tcp=1,actions=drop", 4, "1", "no value"),
        ("in_port=1,tp_dst=80,actions=drop", 10, "tp_dst=80", "\"tcp\""),
        ("ip,tp_dst=80,actions=drop", 3, "tp_dst=80", "\"tcp\""),
        ("nw_src=10.0.0.1,actions=drop", 0, "nw_src=10.0.0.1", "\"ip\""),
        ("udp,tcp_dst=80,actions=drop", 4, "tcp_dst=80", "\"tcp\""),
        ("tcp,icmp_type=8,actions=drop", 4, "icmp_type=8", "\"icmp\""),
        ("ip,arp_op=1,actions=drop", 3, "arp_op=1", "\"rarp\""),
        ("ip,nw_tos=3,actions=drop", 10, "3", "ECN"),
        ("table=1,actions=drop", 6, "1", "table"),
        ("out_port=1,actions=drop", 0, "out_port", "delete"),
        ("in_port=eth0,actions=drop", 8, "eth0", "HOST"),
        ("actions=bogus:3", 8, "bogus", "action"),
        ("actions=drop,output:1", 8, "drop", "alone"),
        ("actions=output:1,drop", 17, "drop", "alone"),
        ("actions=output", 14, "", "value"),
        ("actions=mod_vlan_vid:4096", 21, "4096", "4095"),
        ("actions=mod_nw_tos:3", 19, "3", "ECN"),
        ("actions=set_vxlan", 8, "set_vxlan", "vni=N"),
        ("actions=encrypt", 8, "encrypt", "encrypt(sa=ID)"),
        ("actions=encrypt(7)", 16, "7", "sa=ID"),
        ("actions=encrypt(sa=4294967296)", 19, "4294967296", "2^32"),
        ("actions=decrypt(sa=7)", 16, "sa=7", "no value"),
        ("actions=set_vxlan(vni=42)", 8, "set_vxlan(vni=42)", "all five"),
        ("actions=set_vxlan(vni=16777216)", 22, "16777216", "16777215"),
        ("actions=set_vxlan(vni=42", 24, "", "\")\""),
        ("actions=output:1)", 16, ")", "without"),
        ("actions=strip_vxlan(7)", 20, "7", "vni=N"),
        ("actions=strip_vxlan(vni=1)x", 26, "x", "comma"),
        ("actions:drop", 7, "", "="),
        ("=3,actions=drop", 0, "=", "name"),
        ("delete ip,actions=drop", 10, "actions", "delete"),
        ("delete ip,priority=3", 10, "priority", "delete_strict"),
        ("ip,nw_src=é,actions=drop", 10, "é", "IPv4"),
    ];
    for (line, offset, text, expected) in rows {
        let error = parse_flow(line).expect_err(line);
        assert_eq!(error.offset, offset, "{line}: {error:?}");
        assert_eq!(&line[error.offset..error.offset + error.len], text, "{line}: {error:?}");
        assert!(error.expected.contains(expected), "{line}: {error:?}");
    }
    let error = TextError { offset: 8, len: 4, expected: "a port" };
    assert_eq!(error.to_string(), "column 9: expected a port");
}

#[test]
fn a_seventeenth_action_is_too_many() {
    let list = ["strip_vlan"; 17].join(",");
    let error = parse_flow(&format!("actions={list}")).unwrap_err();
    assert_eq!((error.offset, error.expected), (8 + 16 * 11, "at most 16 actions"));
}
