//! Properties of the codecs: what goes in comes out, and nothing panics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::{
    flow::{
        FlowMod, OfpError,
        text::{DisplayAction, DisplayFlow, DisplayMatch, parse_flow, parse_match},
    },
    openflow::{
        EncodeError, ErrorMessage, Features, FlowRemoved, FlowStats, FlowStatsEntries, FlowStatsRequest, Message,
        PacketIn, PacketOut, Port, PortName, PortReason, PortStatus, Ports, RemovedReason, StatsReply,
        StatsRequest, SwitchConfig, decode_flow_mod, encode_flow_mod, message_len,
    },
};
use cvsw_testkit::flow::{action, flow_mod, openflow_action, openflow_match, port, text_match};
use proptest::{collection::vec, option, prelude::*};

/// Room for every message made here.
const ROOM: usize = 4096;

/// Encodes, checks the framing, decodes.
fn through(message: &Message<'_>, xid: u32) -> (Vec<u8>, usize) {
    let mut bytes = vec![0; ROOM];
    let len = message.encode(xid, &mut bytes).unwrap();
    bytes.truncate(len);
    assert_eq!(message_len(&bytes), Some(Ok(len)));
    assert_eq!(bytes[4..8], xid.to_be_bytes());
    (bytes, len)
}

fn any_port() -> impl Strategy<Value = Port> {
    (any::<u16>(), any::<[u8; 6]>(), any::<[u8; 16]>(), any::<[u32; 6]>()).prop_map(
        |(number, mac, name, [config, state, current, advertised, supported, peer])| Port {
            number,
            mac,
            name: PortName(name),
            config,
            state,
            current,
            advertised,
            supported,
            peer,
        },
    )
}

fn flow_stats() -> impl Strategy<Value = FlowStats> {
    (flow_mod(openflow_match(), action()), any::<u8>(), any::<[u32; 2]>(), any::<[u64; 2]>()).prop_map(
        |(flow, table_id, [duration_sec, duration_nsec], [packets, bytes])| FlowStats {
            table_id,
            matching: flow.matching,
            duration_sec,
            duration_nsec,
            priority: flow.priority,
            idle_timeout: flow.idle_timeout,
            hard_timeout: flow.hard_timeout,
            cookie: flow.cookie,
            packets,
            bytes,
            actions: flow.actions,
        },
    )
}

/// Messages without a body of their own or with plain bytes.
fn simple_message(data: &[u8], [a, b]: [u16; 2], which: u8) -> Message<'_> {
    match which {
        0 => Message::Hello { version: 1 },
        1 => Message::Error(ErrorMessage { kind: a, code: b, data }),
        2 => Message::EchoRequest(data),
        3 => Message::EchoReply(data),
        4 => Message::Vendor { vendor: u32::from(a), data },
        5 => Message::FeaturesRequest,
        6 => Message::GetConfigRequest,
        7 => Message::GetConfigReply(SwitchConfig { flags: a, miss_send_len: b }),
        8 => Message::SetConfig(SwitchConfig { flags: a, miss_send_len: b }),
        9 => {
            let buffer_id = (a > 9).then_some(u32::from(a));
            Message::PacketIn(PacketIn { buffer_id, total_len: b, in_port: a, reason: 1, data })
        }
        10 => Message::StatsRequest(StatsRequest::Desc),
        11 => Message::StatsRequest(StatsRequest::Other { kind: 3, body: data }),
        12 => Message::StatsReply(StatsReply::Other { kind: 0, more: a > b, body: data }),
        13 => Message::BarrierRequest,
        _ => Message::BarrierReply,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn flow_mod_through_bytes(flow in flow_mod(openflow_match(), action()), xid: u32) {
        let mut bytes = [0; ROOM];
        let len = encode_flow_mod(&flow, xid, &mut bytes).unwrap();
        prop_assert_eq!(decode_flow_mod(&bytes[..len]), Ok(flow.clone()));
        let (message, _) = through(&Message::FlowMod(flow.clone()), xid);
        prop_assert_eq!(&message[..], &bytes[..len]);
        prop_assert_eq!(Message::decode(&message), Ok(Message::FlowMod(flow.clone())));
        for short in 0..len {
            prop_assert_eq!(encode_flow_mod(&flow, xid, &mut vec![0; short]), Err(EncodeError::NoRoom));
            prop_assert_eq!(decode_flow_mod(&bytes[..short]), Err(OfpError::BadLength));
        }
    }

    #[test]
    fn flow_mod_through_text(flow in flow_mod(text_match(), action())) {
        for text in [format!("{}", DisplayFlow(&flow)), format!("{:#}", DisplayFlow(&flow))] {
            let again = parse_flow(&text);
            prop_assert_eq!(again.as_ref(), Ok(&flow), "{}", text);
        }
    }

    #[test]
    fn match_and_action_through_text(matching in text_match(), action in action()) {
        let text = format!("{}", DisplayMatch(&matching));
        prop_assert_eq!(parse_match(&text).map(|flow| flow.matching), Ok(matching), "{}", text);
        let text = format!("actions={:#}", DisplayAction(&action));
        prop_assert_eq!(parse_flow(&text).map(|flow| flow.actions[..] == [action]), Ok(true), "{}", text);
    }

    #[test]
    fn simple_messages(data in vec(any::<u8>(), 0..64), numbers: [u16; 2], which in 0..15_u8, xid: u32) {
        let message = simple_message(&data, numbers, which);
        let (bytes, len) = through(&message, xid);
        prop_assert_eq!(Message::decode(&bytes), Ok(message.clone()));
        prop_assert_eq!(message.encode(xid, &mut vec![0; len - 1]), Err(EncodeError::NoRoom));
        prop_assert_eq!(Message::decode(&bytes[..len - 1]), Err(OfpError::BadLength));
    }

    #[test]
    fn packet_out(
        buffer_id in option::of(0..u32::MAX),
        in_port in port(),
        list in vec(openflow_action(), 0..16),
        data in vec(any::<u8>(), 0..64),
        xid: u32,
    ) {
        let actions = list.into_iter().collect();
        let message = Message::PacketOut(PacketOut { buffer_id, in_port, actions, data: &data });
        let (bytes, _) = through(&message, xid);
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn ports(ports in vec(any_port(), 0..5), datapath_id: u64, numbers: [u32; 3], n_tables: u8) {
        let mut list = Vec::new();
        for port in &ports {
            let reason = PortReason::Modify;
            let message = Message::PortStatus(PortStatus { reason, port: *port });
            let (bytes, _) = through(&message, 1);
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
            list.extend_from_slice(&bytes[16..]);
        }
        let [n_buffers, capabilities, actions] = numbers;
        let ports_view = Ports::new(&list).unwrap();
        let features = Features { datapath_id, n_buffers, n_tables, capabilities, actions, ports: ports_view };
        let message = Message::FeaturesReply(features);
        let (bytes, _) = through(&message, 2);
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
        prop_assert_eq!(ports_view.iter().collect::<Vec<_>>(), ports);
    }

    #[test]
    fn statistics(entries in vec(flow_stats(), 0..4), more: bool, matching in openflow_match(), table_id: u8) {
        let request = FlowStatsRequest { matching, table_id, out_port: 0xffff };
        let message = Message::StatsRequest(StatsRequest::Flow(request));
        let (bytes, _) = through(&message, 3);
        prop_assert_eq!(Message::decode(&bytes), Ok(message));

        let mut body = Vec::new();
        for entry in &entries {
            let mut bytes = vec![0; ROOM];
            let len = entry.encode(&mut bytes).unwrap();
            body.extend_from_slice(&bytes[..len]);
        }
        let message = Message::StatsReply(StatsReply::Flow { more, entries: FlowStatsEntries(&body) });
        let mut bytes = vec![0; 8192];
        let len = message.encode(4, &mut bytes).unwrap();
        prop_assert_eq!(Message::decode(&bytes[..len]), Ok(message));
        prop_assert_eq!(FlowStatsEntries(&body).collect::<Result<Vec<_>, _>>(), Ok(entries.clone()));
        if !body.is_empty() {
            let cut = FlowStatsEntries(&body[..body.len() - 1]).last();
            prop_assert_eq!(cut, Some(Err(OfpError::BadLength)));
        }
        for entry in entries {
            let removed = FlowRemoved {
                matching: entry.matching,
                cookie: entry.cookie,
                priority: entry.priority,
                reason: RemovedReason::HardTimeout,
                duration_sec: entry.duration_sec,
                duration_nsec: entry.duration_nsec,
                idle_timeout: entry.idle_timeout,
                packets: entry.packets,
                bytes: entry.bytes,
            };
            let (bytes, _) = through(&Message::FlowRemoved(removed), 5);
            prop_assert_eq!(Message::decode(&bytes), Ok(Message::FlowRemoved(removed)));
        }
    }

    #[test]
    fn damaged_messages_are_judged_without_a_panic(
        flow in flow_mod(openflow_match(), action()),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = vec![0; ROOM];
        let len = encode_flow_mod(&flow, 0, &mut bytes).unwrap();
        bytes.truncate(len);
        for (at, byte) in damage {
            let at = at.index(len);
            bytes[at] = byte;
        }
        if let Ok(flow) = decode_flow_mod(&bytes) {
            settles(&flow);
        }
    }

    #[test]
    fn random_messages_are_judged_without_a_panic(mut bytes in vec(any::<u8>(), 8..200), kind in 0..22_u8) {
        bytes[0] = 1;
        bytes[1] = kind;
        let len = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        if let Ok(message) = Message::decode(&bytes) {
            if let Message::StatsReply(StatsReply::Flow { entries, .. }) = &message {
                prop_assert!(entries.count() <= bytes.len());
            }
            let (again, _) = through(&message, 0);
            prop_assert_eq!(Message::decode(&again), Ok(message));
        }
    }

    #[test]
    fn random_text_is_judged_without_a_panic(
        pieces in vec(prop_oneof![
            prop::sample::select(vec![
                "ip", "tcp", "nw_src=", "tp_dst", "10.0.0.0/8", "80", "0x", "=", ":", ",", " ", "(", ")", "/", "*",
                "actions=", "output:1", "set_vxlan(", "vni=1", "strip_vxlan", "drop", "delete ", "priority=",
                "dl_src=02:00:00:00:00:01", "tcp_flags=+", "-syn", "é", "resubmit(,0)", "controller(max_len=",
            ]).prop_map(str::to_owned),
            ".{0,8}",
        ], 0..24),
    ) {
        let line = pieces.concat();
        match parse_flow(&line) {
            Ok(flow) => {
                let text = DisplayFlow(&flow).to_string();
                prop_assert_eq!(parse_flow(&text), Ok(flow), "{}", text);
            }
            Err(error) => {
                prop_assert!(line.get(error.offset..error.offset + error.len).is_some(), "{:?} in {:?}", error, line);
                prop_assert!(!error.expected.is_empty());
            }
        }
    }
}

/// What was decoded encodes to something that decodes to the same, and reads the same as text.
fn settles(flow: &FlowMod) {
    let mut bytes = [0; ROOM];
    let len = encode_flow_mod(flow, 0, &mut bytes).unwrap();
    assert_eq!(decode_flow_mod(&bytes[..len]).as_ref(), Ok(flow));
}
