//! Version 3: any bytes as messages, any bytes to a vNIC with a key, both ends over any channel.

use super::{MAC, SAS, engine};
use cvsw_core::{
    Frame, Instant, NoRoom, Verdict,
    control::{
        ETHERTYPE, MAX_FRAME_LEN, SetSa,
        v3::{Answer, ControlKeys, Counter, Kind, Listed, ListedSa, Message, Page, Request, State},
    },
    crypto::Portable,
    flow::Direction,
};

const KEY: [u8; 16] = [0x77; 16];
const INSTANCE: u64 = 0x0102_0304_0506_0708;

/// Whatever is understood is written again as it was, and the parts of a payload likewise.
pub fn control3_codec(data: &[u8]) {
    let Ok(message) = Message::parse(data) else { return };
    let mut copy = vec![0; data.len() + 64];
    let none = ControlKeys::NONE;
    let ethertype = u16::from_be_bytes([data[12], data[13]]);
    let len = message.header.emit_bytes(ethertype, &none, &mut copy, message.payload).expect("room");
    let again = Message::parse(&copy[..len]).expect("our own message");
    assert_eq!((again.header, again.payload), (message.header, message.payload));
    payload(message.header.kind, message.payload);
}

fn payload(kind: Kind, payload: &[u8]) {
    let mut out = vec![0; payload.len() + 64];
    if let Ok(request) = Request::parse(payload) {
        assert_eq!(request.to_bytes(), payload);
    }
    if let Ok(state) = State::parse(payload) {
        // Offloads without their flag mean nothing.
        assert_eq!(State::parse(&state.to_bytes()), Ok(state));
    }
    if let Ok(answer) = Answer::parse(kind, payload) {
        let len = answer.emit(&mut out).expect("room");
        assert_eq!(Answer::parse(kind, &out[..len]), Ok(answer));
    }
    if let Ok((page, items)) = Page::parse(payload) {
        assert_eq!(page.to_bytes(), payload[..Page::LEN]);
        let mut rest = items;
        while let Ok((_, behind)) = Listed::parse(rest) {
            assert!(behind.len() < rest.len());
            rest = behind;
        }
        rest = items;
        while let Ok((sa, behind)) = ListedSa::parse(rest) {
            let len = sa.emit(&mut out).expect("room");
            assert_eq!(out[..len], rest[..len]);
            rest = behind;
        }
        rest = items;
        while let Ok((counter, behind)) = Counter::parse(rest) {
            let len = Counter::emit([counter.name, ""], counter.value, &mut out).expect("room");
            assert_eq!(out[..len], rest[..len]);
            rest = behind;
        }
    }
    for keys in [ControlKeys::NONE, ControlKeys::derive(&KEY)] {
        if let Ok(set_sa) = SetSa::parse_wrapped(&keys, payload) {
            let mut out = [0; 256];
            let len = set_sa.emit_wrapped(&keys, &mut out).expect("room");
            assert!(SetSa::parse_wrapped(&keys, &out[..len]).is_ok());
        }
    }
}

/// A vNIC with a key takes any frames. The input is a sequence of `flags, length` and that many bytes; flag 1: they are a
/// payload, sealed with the right key as the next command of type `flags >> 4`; 2: with the number after the next; else
/// they are the whole frame.
pub fn control3_vnic(data: &[u8]) {
    let keys = ControlKeys::derive(&KEY);
    let mut engine = engine(&[]);
    let mut ciphers = Portable::<SAS>::new();
    engine.enable_version_3(INSTANCE, keys.clone());
    let mut rest = data;
    while let Some((&[flags, len], behind)) = rest.split_first_chunk::<2>() {
        let (bytes, behind) = behind.split_at(behind.len().min(usize::from(len)));
        rest = behind;
        let before = engine.control_status();
        let flows: Vec<_> = engine.flows().map(|entry| entry.flow).collect();
        let sequence = before.executed + 1 + u64::from(flags & 2);
        let mut frame = if flags & 1 == 1 { sealed(&keys, flags >> 4, sequence, bytes) } else { bytes.to_vec() };
        if frame.len() >= 14 {
            frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
        }
        let len = frame.len();
        let mut held = Frame::new(&mut frame[..], 0, len).expect("the frame fills its buffer");
        let verdict = engine.process_with(&mut ciphers, Instant::ZERO, Direction::Rx, &mut held);
        let after = engine.control_status();
        let unchanged = flows.iter().eq(engine.flows().map(|entry| entry.flow).collect::<Vec<_>>().iter());
        if after.executed == before.executed || after.executed == 0 {
            assert!(unchanged, "the table changed without a command: {verdict:?}");
        } else {
            assert_eq!(
                (verdict, flags & 3),
                (Verdict::Consumed, 1),
                "only the next command with a right tag counts"
            );
            assert_eq!(after.executed, before.executed + 1);
        }
        let mut out = [0; MAX_FRAME_LEN];
        for answers in 0.. {
            let Some(len) = engine.poll_transmit(&mut out) else { break };
            assert!(answers < 64, "answers do not end");
            let message = Message::parse(&out[..len]).expect("the engine's own message");
            assert_eq!(message.authenticate(&keys), Ok(()));
            assert!(message.header.kind.is_for_controller());
        }
    }
}

fn sealed(keys: &ControlKeys, kind: u8, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let kind = Kind::from_wire(kind).unwrap_or(Kind::SetEntry);
    let header = cvsw_core::control::v3::Header {
        mac: MAC,
        kind,
        chained: false,
        data: u16::from(payload.first().copied().unwrap_or(0)) << 3,
        instance: INSTANCE,
        epoch: 5,
        sequence,
    };
    let mut out = vec![0; 64 + payload.len()];
    let len = header.emit_bytes(ETHERTYPE, keys, &mut out, payload).map_err(|NoRoom| "room").expect("room");
    out.truncate(len);
    out
}
