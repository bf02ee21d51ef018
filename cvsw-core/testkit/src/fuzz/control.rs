//! Control sessions: any sequence of messages to one engine.

use super::{Engine, MAC, SAS, engine};
use cvsw_core::{
    Frame, Instant, Verdict,
    control::{ControlMessage, ETHERTYPE, HEADER_LEN, MAX_FRAME_LEN, MessageType, SessionState, SetSa},
    crypto::Portable,
    flow::{Direction, FlowMod},
};

/// Most answers to one message: HELLO, REGISTER, and a listing of the full table with its end.
const MAX_ANSWERS: usize = 16 + 3;

/// Feeds messages to an engine. The input is a sequence of `kind, flags, data (2), length (1)` and that many bytes
/// of body; flag 1 addresses another vNIC, 2 broadcasts, 4 comes from the host, 8 cuts the frame short, 16 says a
/// wrong length, 32 takes version and type from `data`,
/// 64 lets the engine take keys in clear from now on.
pub fn control(data: &[u8]) {
    let mut engine = engine(&[]);
    let mut ciphers = Portable::new();
    let mut rest = data;
    while let Some((&[kind, flags, data_hi, data_lo, len], behind)) = rest.split_first_chunk::<5>() {
        let (body, behind) = behind.split_at(behind.len().min(usize::from(len)));
        rest = behind;
        let frame = message(kind, flags, [data_hi, data_lo], body);
        codec_agrees_with_itself(&frame);
        if flags & 64 != 0 {
            engine.accept_keys_in_clear(true);
        }
        deliver(&mut engine, &mut ciphers, flags, &frame);
    }
}

fn message(kind: u8, flags: u8, data: [u8; 2], body: &[u8]) -> Vec<u8> {
    let mut frame = match flags & 3 {
        0 => MAC.to_vec(),
        1 => vec![0x02, 0, 0, 0, 0x02, 0x02],
        _ => vec![0xff; 6],
    };
    let version_and_type = if flags & 32 == 0 { 0x20 | (kind % 11) } else { kind };
    let len = u16::try_from(body.len()).expect("at most 255") + u16::from(flags & 16);
    frame.extend([version_and_type, 0]);
    frame.extend(len.to_be_bytes());
    frame.extend(data);
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.extend(body);
    if flags & 8 != 0 {
        frame.truncate(frame.len().saturating_sub(usize::from(kind)).max(HEADER_LEN));
    }
    frame
}

fn codec_agrees_with_itself(frame: &[u8]) {
    let Ok(message) = ControlMessage::parse(frame) else { return };
    let mut copy = vec![0; frame.len()];
    let len = message.emit(ETHERTYPE, &mut copy).expect("no longer than what was parsed");
    assert_eq!(ControlMessage::parse(&copy[..len]), Ok(message));
    assert_eq!(frame[..len], copy[..len]);
    if let Ok(set_sa) = SetSa::parse(message.body) {
        let mut copy = vec![0; message.body.len()];
        assert_eq!(set_sa.emit(&mut copy), Ok(message.body.len()));
        // A window of 0 stands for the default one.
        copy[20..22].copy_from_slice(&message.body[20..22]);
        assert_eq!(copy, message.body);
    }
}

fn deliver(engine: &mut Engine, ciphers: &mut Portable<SAS>, flags: u8, frame: &[u8]) {
    let direction = if flags & 4 == 0 { Direction::Rx } else { Direction::Tx };
    let before = state(engine);
    let mut buffer = frame.to_vec();
    let mut held = Frame::new(&mut buffer[..], 0, frame.len()).expect("the frame fills its buffer");
    let verdict = engine.process_with(ciphers, Instant::ZERO, direction, &mut held);
    let after = state(engine);
    let answers = drain(engine);
    match direction {
        Direction::Tx => assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?} for a frame from the host"),
        Direction::Rx => assert_eq!(verdict, Verdict::Consumed),
    }
    assert_eq!(after.accepted + after.refused, before.accepted + before.refused + u64::from(flags & 4 == 0));
    if after.accepted == before.accepted {
        assert_eq!((after.session, &after.flows), (before.session, &before.flows), "a refused message changed it");
        assert_eq!(after.sas, before.sas, "a refused message changed the associations");
        // A SET_SA to a vNIC that takes no keys is counted as refused, and answered.
        let keys = ControlMessage::parse(frame).is_ok_and(|message| message.kind == MessageType::SetSa);
        assert!(answers == 0 || (keys && answers == 1), "a refused message was answered");
    }
    assert_eq!(buffer, frame, "a control frame was edited");
}

struct State {
    session: SessionState,
    flows: Vec<FlowMod>,
    sas: Vec<(u32, u32)>,
    accepted: u64,
    refused: u64,
}

fn state(engine: &Engine) -> State {
    State {
        session: engine.session_state(),
        flows: engine.flows().map(|entry| entry.flow).collect(),
        sas: engine.sas().map(|sa| (sa.config.id, sa.config.spi)).collect(),
        accepted: engine.stats().control_accepted,
        refused: engine.stats().control_errors.iter().sum(),
    }
}

/// Takes everything out that the engine wants done; returns how much it was.
fn drain(engine: &mut Engine) -> usize {
    let mut count = 0;
    while engine.poll_event().is_some() {
        count += 1;
        assert!(count <= 3, "events do not end");
    }
    let mut out = [0; MAX_FRAME_LEN];
    let mut answers = 0;
    while let Some(len) = engine.poll_transmit(&mut out) {
        answers += 1;
        assert!(answers <= MAX_ANSWERS, "answers do not end");
        assert_eq!(out[12..14], ETHERTYPE.to_be_bytes());
        ControlMessage::parse(&out[..len]).expect("the engine's own message");
    }
    count + answers
}
