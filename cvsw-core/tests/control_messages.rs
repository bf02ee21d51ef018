//! Control frames against hand-made bytes of protocol version 2.

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
    ControlError, NoRoom,
    control::{ControlMessage, ETHERTYPE, MessageType, OffloadFlags},
    flow::{FlowMod, text::parse_flow},
    openflow::{FlowRemoved, RemovedReason, encode_flow_mod},
};
use cvsw_testkit::hex;
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn message(kind: MessageType, data: u16, body: &[u8]) -> ControlMessage<'_> {
    ControlMessage { dst: MAC, version: 2, kind, data, body }
}

#[test]
fn every_type_has_its_bytes() {
    let rows: [(ControlMessage<'_>, &[u8]); 8] = [
        (message(MessageType::Hello, 0, &[]), &[0x21, 0, 0, 0, 0, 0, 0xab, 0xba]),
        (message(MessageType::Register, 0, &[]), &[0x22, 0, 0, 0, 0, 0, 0xab, 0xba]),
        (message(MessageType::SetEntry, 0, &[7, 8]), &[0x23, 0, 0, 2, 0, 0, 0xab, 0xba, 7, 8]),
        (message(MessageType::DeleteEntry, 0, &[9]), &[0x24, 0, 0, 1, 0, 0, 0xab, 0xba, 9]),
        (message(MessageType::SetMtu, 1450, &[]), &[0x25, 0, 0, 0, 0x05, 0xaa, 0xab, 0xba]),
        (message(MessageType::SetOffload, 0x1f, &[]), &[0x26, 0, 0, 0, 0, 0x1f, 0xab, 0xba]),
        (message(MessageType::ListEntries, 0, &[]), &[0x27, 0, 0, 0, 0, 0, 0xab, 0xba]),
        (message(MessageType::FlowRemoved, 0, &[7]), &[0x28, 0, 0, 1, 0, 0, 0xab, 0xba, 7]),
    ];
    for (message, tail) in rows {
        let bytes = [&MAC[..], tail].concat();
        let mut out = [0; 64];
        let len = message.emit(ETHERTYPE, &mut out).unwrap();
        assert_eq!(&out[..len], &bytes[..]);
        assert_eq!(ControlMessage::parse(&bytes), Ok(message));
        assert_eq!(message.emit(ETHERTYPE, &mut out[..len - 1]), Err(NoRoom));
    }
}

/// The frames of the documentation are what it says they are.
#[test]
fn documented_frames() {
    let page = include_str!("../../docs/src/protocol-v2.md");
    let frames: Vec<Vec<u8>> =
        page.split("```hex\n").skip(1).map(|block| hex::bytes(block.split("```").next().unwrap())).collect();
    let set_entry = parse_flow(
        "priority=100,in_port=HOST,dl_dst=02:00:00:00:00:02,actions=set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,\
         eth_src=02:00:00:01:00:01,eth_dst=02:00:00:01:00:02)",
    )
    .unwrap();
    let flow_mod = |flow: &FlowMod, xid: u32| {
        let mut body = vec![0; 256];
        let len = encode_flow_mod(flow, xid, &mut body).unwrap();
        body.truncate(len);
        body
    };
    let entry = flow_mod(&set_entry, 7);
    let removed = {
        let report = FlowRemoved {
            matching: parse_flow("arp,actions=drop").unwrap().matching,
            cookie: 5,
            priority: 7,
            reason: RemovedReason::IdleTimeout,
            duration_sec: 61,
            duration_nsec: 500_000_000,
            idle_timeout: 60,
            packets: 2,
            bytes: 120,
        };
        let mut body = vec![0; 256];
        let len = report.encode(0, &mut body).unwrap();
        body.truncate(len);
        body
    };
    let everything = flow_mod(&parse_flow("delete").unwrap(), 8);
    let expected = [
        ControlMessage { dst: [0xff; 6], ..message(MessageType::Hello, 0, &[]) },
        message(MessageType::Register, 0, &[]),
        message(MessageType::Hello, 0, &[]),
        message(MessageType::SetMtu, 1450, &[]),
        message(MessageType::SetOffload, OffloadFlags::CSUM | OffloadFlags::TSO, &[]),
        message(MessageType::SetEntry, 0, &entry),
        message(MessageType::DeleteEntry, 0, &everything),
        message(MessageType::FlowRemoved, 0, &removed),
    ];
    assert_eq!(frames.len(), expected.len());
    for (frame, expected) in frames.iter().zip(expected) {
        assert_eq!(ControlMessage::parse(frame), Ok(expected));
        assert_eq!(frame[12..14], ETHERTYPE.to_be_bytes());
        assert_eq!(frame.len(), 14 + expected.body.len());
    }
}

#[test]
fn padding_is_ignored() {
    let mut frame = [&MAC[..], &[0x23, 0, 0, 2, 0, 0, 0xab, 0xba, 7, 8]].concat();
    frame.resize(60, 0);
    assert_eq!(ControlMessage::parse(&frame), Ok(message(MessageType::SetEntry, 0, &[7, 8])));
}

#[test]
fn malformed_frames_are_refused_by_reason() {
    let good = [&MAC[..], &[0x23, 0, 0, 2, 0, 0, 0xab, 0xba, 7, 8]].concat();
    let with = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        ControlMessage::parse(&frame).unwrap_err()
    };
    assert_eq!(ControlMessage::parse(&good[..13]), Err(ControlError::Short));
    assert_eq!(with(6, 0x13), ControlError::Version);
    assert_eq!(with(6, 0x33), ControlError::Version);
    assert_eq!(with(6, 0x20), ControlError::Type);
    assert_eq!(with(6, 0x2b), ControlError::Type);
    assert_eq!(with(7, 1), ControlError::Length);
    assert_eq!(with(9, 3), ControlError::Length);
    assert_eq!(ControlMessage::parse(&good[..15]), Err(ControlError::Length));
}

proptest! {
    #[test]
    fn round_trip(
        dst: [u8; 6],
        kind in prop::sample::select(vec![
            MessageType::Hello, MessageType::Register, MessageType::SetEntry, MessageType::DeleteEntry,
            MessageType::SetMtu, MessageType::SetOffload, MessageType::ListEntries, MessageType::FlowRemoved,
        ]),
        data: u16,
        ethertype: u16,
        body in prop::collection::vec(any::<u8>(), 0..200),
        padding in 0..60_usize,
    ) {
        let message = ControlMessage { dst, version: 2, kind, data, body: &body };
        let mut out = [0; 300];
        let len = message.emit(ethertype, &mut out).unwrap();
        prop_assert_eq!(&out[12..14], &ethertype.to_be_bytes());
        prop_assert_eq!(ControlMessage::parse(&out[..len + padding]), Ok(message));
    }

    #[test]
    fn random_bytes_parse_to_what_they_say(frame in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(message) = ControlMessage::parse(&frame) {
            let mut out = [0; 100];
            let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
            let len = message.emit(ethertype, &mut out).unwrap();
            prop_assert_eq!(&out[..len], &frame[..len]);
        }
    }
}
