//! One message of every kind, and what both judges say about it.

use std::collections::BTreeSet;

use cvsw_core::{
    flow::{Action, ActionList, OFPP_NONE, text::parse_flow},
    openflow::{
        ErrorMessage, Features, FlowRemoved, FlowStatsEntries, FlowStatsRequest, Message, PacketIn, PacketOut,
        Port, PortName, PortReason, PortStats, PortStatsEntries, PortStatus, Ports, RemovedReason, Role,
        RoleMessage, StatsReply, StatsRequest, SwitchConfig,
    },
};

use super::{Folder, capture, encode, listed, ofp_print, path, run};

/// A message with what Open vSwitch says about it, and Wireshark.
type Judged = (Message<'static>, &'static str, &'static str);

/// What a switch and a controller say to each other before there is work, and about ports.
fn meeting() -> Vec<Judged> {
    let port = Port {
        number: 3,
        mac: [2, 0, 0, 0, 0, 3],
        name: PortName::new("tap3"),
        config: Port::CONFIG_DOWN,
        ..Port::default()
    };
    let status = Message::PortStatus(PortStatus { reason: PortReason::Delete, port });
    let list = encode(&status)[16..].to_vec();
    let ports = Ports::new(list.leak()).unwrap();
    let features = Features { datapath_id: 0x1234, n_tables: 254, ports, ..Features::default() };
    let config = SwitchConfig { flags: 1, miss_send_len: 128 };
    let refused = encode(&Message::BarrierRequest).leak();
    let role = |reply| {
        let data = Vec::from(RoleMessage { reply, role: Role::Master }.to_bytes()).leak();
        Message::Vendor { vendor: RoleMessage::VENDOR, data }
    };
    vec![
        (Message::Hello { version: 1 }, "OFPT_HELLO (xid=0x9):\n version bitmap: 0x01", "OFPT_HELLO (0)"),
        (
            Message::Error(ErrorMessage { kind: 2, code: 4, data: refused }),
            "OFPT_ERROR (xid=0x9): OFPBAC_BAD_OUT_PORT",
            "OFPT_ERROR (1)",
        ),
        (Message::EchoRequest(&[1, 2]), "OFPT_ECHO_REQUEST (xid=0x9): 2 bytes of payload", "OFPT_ECHO_REQUEST (2)"),
        (Message::EchoReply(&[1, 2]), "OFPT_ECHO_REPLY (xid=0x9): 2 bytes of payload", "OFPT_ECHO_REPLY (3)"),
        (role(false), "NXT_ROLE_REQUEST (xid=0x9): role=primary", "OFPT_VENDOR (4)"),
        (role(true), "NXT_ROLE_REPLY (xid=0x9): role=primary", "OFPT_VENDOR (4)"),
        (Message::FeaturesRequest, "OFPT_FEATURES_REQUEST (xid=0x9):", "OFPT_FEATURES_REQUEST (5)"),
        (
            Message::FeaturesReply(features),
            "dpid:0000000000001234\nn_tables:254, n_buffers:0\ncapabilities: 0\n 3(tap3): addr:02:00:00:00:00:03\n     config:     PORT_DOWN",
            "OFPT_FEATURES_REPLY (6)",
        ),
        (Message::GetConfigRequest, "OFPT_GET_CONFIG_REQUEST (xid=0x9):", "OFPT_GET_CONFIG_REQUEST (7)"),
        (
            Message::GetConfigReply(config),
            "OFPT_GET_CONFIG_REPLY (xid=0x9): frags=drop miss_send_len=128",
            "OFPT_GET_CONFIG_REPLY (8)",
        ),
        (
            Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 0xffff }),
            "OFPT_SET_CONFIG (xid=0x9): frags=normal miss_send_len=65535",
            "OFPT_SET_CONFIG (9)",
        ),
        (status, "OFPT_PORT_STATUS (xid=0x9): DEL: 3(tap3): addr:02:00:00:00:00:03", "OFPT_PORT_STATUS (12)"),
        (Message::BarrierRequest, "OFPT_BARRIER_REQUEST (xid=0x9):", "OFPT_BARRIER_REQUEST (18)"),
        (Message::BarrierReply, "OFPT_BARRIER_REPLY (xid=0x9):", "OFPT_BARRIER_REPLY (19)"),
    ]
}

/// Packets, flows and what is counted.
fn work() -> Vec<Judged> {
    const FRAME: &[u8] = &[0xff; 60];
    let listed = listed();
    let removed = FlowRemoved {
        matching: listed.matching,
        cookie: 0xabc,
        priority: 7,
        reason: RemovedReason::IdleTimeout,
        duration_sec: 3,
        duration_nsec: 250_000_000,
        idle_timeout: 60,
        packets: 5,
        bytes: 300,
    };
    let request = FlowStatsRequest { matching: listed.matching, table_id: 0xff, out_port: OFPP_NONE };
    let mut entry = vec![0; 256];
    let len = listed.encode(&mut entry).unwrap();
    entry.truncate(len);
    let flows = StatsReply::Flow { more: false, entries: FlowStatsEntries(entry.leak()) };
    let port = PortStats {
        port: 3,
        rx_packets: 1,
        tx_packets: 2,
        rx_bytes: 3,
        tx_bytes: 4,
        rx_dropped: 5,
        tx_dropped: 6,
        rx_errors: 7,
        tx_errors: 8,
    };
    let ports = StatsReply::Port { more: false, entries: PortStatsEntries(Vec::from(port.encode()).leak()) };
    let mut actions = ActionList::new();
    actions.push(Action::Output { port: 3, max_len: 0 }).unwrap();
    let packet_out = PacketOut { buffer_id: None, in_port: OFPP_NONE, actions, data: FRAME };
    let packet_in = PacketIn { buffer_id: Some(7), total_len: 60, in_port: 3, reason: 1, data: FRAME };
    let flow = parse_flow("cookie=0xabc,priority=7,dl_type=0xabba,actions=CONTROLLER:128").unwrap();
    vec![
        (
            Message::PacketIn(packet_in),
            "OFPT_PACKET_IN (xid=0x9): total_len=60 in_port=3 (via action) data_len=60 buffer=0x00000007",
            "OFPT_PACKET_IN (10)",
        ),
        (
            Message::FlowRemoved(removed),
            "reason=idle cookie:0xabc duration3.250s idle60 pkts5 bytes300",
            "OFPT_FLOW_REMOVED (11)",
        ),
        (
            Message::PacketOut(packet_out),
            "OFPT_PACKET_OUT (xid=0x9): in_port=ANY actions=output:3 data_len=60",
            "OFPT_PACKET_OUT (13)",
        ),
        (
            Message::FlowMod(flow),
            "OFPT_FLOW_MOD (xid=0x9): ADD priority=7,dl_type=0xabba cookie:0xabc actions=CONTROLLER:128",
            "OFPT_FLOW_MOD (14)",
        ),
        (Message::StatsRequest(StatsRequest::Desc), "OFPST_DESC request (xid=0x9):", "OFPT_STATS_REQUEST (16)"),
        (
            Message::StatsRequest(StatsRequest::Flow(request)),
            "OFPST_FLOW request (xid=0x9): udp,tp_dst=4789",
            "OFPT_STATS_REQUEST (16)",
        ),
        (
            Message::StatsRequest(StatsRequest::Port(OFPP_NONE)),
            "OFPST_PORT request (xid=0x9): port_no=ANY",
            "OFPT_STATS_REQUEST (16)",
        ),
        (
            Message::StatsReply(flows),
            "cookie=0xabc, duration=3.250s, table=0, n_packets=5, n_bytes=300, idle_timeout=60, priority=7,udp,tp_dst=4789 actions=CONTROLLER:128",
            "OFPT_STATS_REPLY (17)",
        ),
        (
            Message::StatsReply(ports),
            "port  3: rx pkts=1, bytes=3, drop=5, errs=7, frame=0, over=0, crc=0\n           tx pkts=2, bytes=4, drop=6, errs=8, coll=0",
            "OFPT_STATS_REPLY (17)",
        ),
    ]
}

/// Which kind of message this is, of all that there are: whoever adds one finds this list, and adds it above as well.
fn kind(message: &Message<'_>) -> usize {
    match message {
        Message::Hello { .. } => 0,
        Message::Error(_) => 1,
        Message::EchoRequest(_) => 2,
        Message::EchoReply(_) => 3,
        Message::Vendor { .. } => 4,
        Message::FeaturesRequest => 5,
        Message::FeaturesReply(_) => 6,
        Message::GetConfigRequest => 7,
        Message::GetConfigReply(_) => 8,
        Message::SetConfig(_) => 9,
        Message::PacketIn(_) => 10,
        Message::FlowRemoved(_) => 11,
        Message::PortStatus(_) => 12,
        Message::PacketOut(_) => 13,
        Message::FlowMod(_) => 14,
        Message::StatsRequest(_) => 15,
        Message::StatsReply(_) => 16,
        Message::BarrierRequest => 17,
        Message::BarrierReply => 18,
    }
}

/// How many [`kind`]s there are.
const KINDS: usize = 19;

#[test]
fn both_judges_read_every_message() {
    let messages = [meeting(), work()].concat();
    let kinds: BTreeSet<usize> = messages.iter().map(|(message, ..)| kind(message)).collect();
    assert_eq!(kinds, (0..KINDS).collect(), "there is one of each kind");
    for (message, expected, _) in &messages {
        let printed = ofp_print(message);
        assert!(printed.contains(expected), "{message:?}:\n{printed}");
        assert_eq!(&Message::decode(&encode(message)).unwrap(), message);
    }
    let folder = Folder::new("tshark-all");
    let bytes: Vec<_> = messages.iter().map(|(message, ..)| encode(message)).collect();
    let pcap = capture(&folder, &bytes);
    let dissected = run("tshark", &["-r", path(&pcap), "-d", "tcp.port==6653,openflow", "-V", "-O", "openflow_v1"]);
    let mut rest = dissected.as_str();
    for (_, _, name) in &messages {
        let line = format!("Type: {name}");
        let at = rest.find(&line).unwrap_or_else(|| panic!("no {line:?} (in this order) in\n{dissected}"));
        rest = &rest[at + line.len()..];
    }
    assert!(!dissected.contains("Malformed"), "{dissected}");
}
