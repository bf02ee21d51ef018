//! SET_SA: delivery of keys over protocol version 2.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use cvsw_core::{
    Config, ControlError, Cvsw, Direction, Frame, Instant, Verdict,
    control::{
        ControlMessage, ETHERTYPE, MAX_FRAME_LEN, MessageType, SaAnswer, SaCommand, SaResult, SetSa, VERSION_2,
    },
    crypto::{KeyMaterial, NoCiphers, Portable, SaConfig, SaState, Suite},
};
use zerocopy::FromZeros;

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
const NOW: Instant = Instant::from_secs(1);

struct Vnic {
    engine: Box<Cvsw<16, 16, 8, 4>>,
    ciphers: Portable<4>,
}

impl Vnic {
    fn new(accept: bool) -> Self {
        let mut engine: Box<Cvsw<16, 16, 8, 4>> = Cvsw::new_box_zeroed().unwrap();
        engine.init(&Config { mac: MAC, ..Config::default() });
        engine.set_boot_generation(77);
        engine.accept_keys_in_clear(accept);
        let mut vnic = Self { engine, ciphers: Portable::new() };
        vnic.receive(MessageType::Hello, &[]);
        vnic.answer();
        vnic
    }

    fn receive(&mut self, kind: MessageType, body: &[u8]) {
        let message = ControlMessage { dst: MAC, version: VERSION_2, kind, data: 0, body };
        let mut bytes = vec![0; 14 + body.len()];
        message.emit(ETHERTYPE, &mut bytes).unwrap();
        let len = bytes.len();
        let mut frame = Frame::new(bytes, 0, len).unwrap();
        let verdict = self.engine.process_with(&mut self.ciphers, NOW, Direction::Rx, &mut frame);
        assert_eq!(verdict, Verdict::Consumed);
    }

    fn answer(&mut self) -> Option<(MessageType, Vec<u8>)> {
        let mut out = [0; MAX_FRAME_LEN];
        let len = self.engine.poll_transmit(&mut out)?;
        let message = ControlMessage::parse(&out[..len]).unwrap();
        assert_eq!(message.dst, MAC);
        Some((message.kind, message.body.to_vec()))
    }

    fn ask(&mut self, transaction: u32, command: SaCommand) -> SaAnswer {
        self.receive(MessageType::SetSa, &body(transaction, command));
        let (kind, body) = self.answer().expect("an answer");
        assert_eq!(kind, MessageType::SaAnswer);
        let answer = SaAnswer::parse(&body).unwrap();
        assert_eq!((answer.transaction, answer.generation), (transaction, 77));
        assert_eq!(answer.to_bytes(), body[..]);
        assert_eq!(self.answer(), None);
        answer
    }

    fn refused(&self, error: ControlError) -> u64 {
        self.engine.stats().control_errors[error.index()]
    }
}

fn body(transaction: u32, command: SaCommand) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    let len = SetSa { transaction, command }.emit(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

fn add(id: u32, direction: Direction, spi: u32) -> SaCommand {
    let key = KeyMaterial::new(Suite::Aes128Gcm, &[7; 20]).unwrap();
    SaCommand::Add(SaConfig::new(id, direction, spi, [192, 0, 2, 2]), key)
}

/// The bytes of the book, for ADD and its answer.
#[test]
fn as_documented() {
    let key = [[0x11; 16].as_slice(), &[0x22; 4]].concat();
    let expected =
        [&[1, 1, 1, 0, 0, 0, 0, 9, 0xc0, 0, 2, 2, 0, 0, 0x10, 1, 192, 0, 2, 2, 4, 0, 0, 20][..], &key].concat();
    let config = SaConfig::new(0xc000_0202, Direction::Tx, 0x1001, [192, 0, 2, 2]);
    let key = KeyMaterial::new(Suite::Aes128Gcm, &key).unwrap();
    assert_eq!(body(9, SaCommand::Add(config, key)), expected);
    let answer = SaAnswer {
        transaction: 9,
        operation: 1,
        id: 0xc000_0202,
        result: SaResult::Done,
        association: Some((SaState::Active, 0x1001, 5)),
        generation: 0x0102_0304_0506_0708,
    };
    let expected =
        [1, 0, 1, 0, 0, 0, 0, 9, 0xc0, 0, 2, 2, 0, 0, 0x10, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 5];
    assert_eq!(answer.to_bytes(), expected);
}

#[test]
fn keys_are_taken_only_if_told_to() {
    let mut vnic = Vnic::new(false);
    for command in [add(1, Direction::Rx, 300), SaCommand::Flush, SaCommand::Require { vni: 42, on: false }] {
        assert_eq!(vnic.ask(1, command).result, SaResult::KeysRefused);
    }
    assert_eq!((vnic.engine.sas().count(), vnic.refused(ControlError::KeysRefused)), (0, 3));
}

#[test]
fn add_ask_replace_remove() {
    let mut vnic = Vnic::new(true);
    let active = |spi| Some((SaState::Active, spi, 0));
    for (command, result, association) in [
        (add(1, Direction::Rx, 300), SaResult::Done, active(300)),
        (add(1, Direction::Rx, 300), SaResult::Present, active(300)),
        (add(1, Direction::Tx, 301), SaResult::Refused, active(300)),
        (add(2, Direction::Rx, 301), SaResult::Done, active(301)),
        (add(3, Direction::Tx, 302), SaResult::Done, active(302)),
        (add(3, Direction::Tx, 303), SaResult::Done, active(303)),
        (add(4, Direction::Rx, 304), SaResult::Done, active(304)),
        (add(5, Direction::Rx, 305), SaResult::Full, None),
        (SaCommand::Query { id: 3 }, SaResult::Done, active(303)),
        (SaCommand::Remove { id: 2 }, SaResult::Done, None),
        (SaCommand::Remove { id: 2 }, SaResult::NotFound, None),
        (SaCommand::Query { id: 2 }, SaResult::NotFound, None),
        (SaCommand::Require { vni: 42, on: true }, SaResult::Done, None),
    ] {
        let answer = vnic.ask(6, command.clone());
        assert_eq!((answer.result, answer.association), (result, association), "{command:?}");
    }
    assert_eq!(vnic.engine.encrypted_only().collect::<Vec<_>>(), [42]);
    assert_eq!(vnic.ask(7, SaCommand::Flush).result, SaResult::Done);
    assert_eq!(vnic.engine.sas().count(), 0);
}

#[test]
fn malformed_bodies_change_nothing() {
    let good = body(1, add(1, Direction::Rx, 300));
    let change = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    for (bytes, error) in [
        (good[..23].to_vec(), ControlError::Length),
        (good[..43].to_vec(), ControlError::Length),
        ([&good[..], &[0]].concat(), ControlError::Length),
        (change(0, 9), ControlError::Data),
        (change(1, 7), ControlError::Data),
        (change(1, 2), ControlError::Data),
        (change(2, 4), ControlError::Data),
        (change(3, 1), ControlError::Length),
        // A key where none belongs.
        (change(0, 2), ControlError::Length),
    ] {
        let mut vnic = Vnic::new(true);
        vnic.receive(MessageType::SetSa, &bytes);
        assert_eq!((vnic.refused(error), vnic.engine.sas().count()), (1, 0), "{bytes:02x?}");
        assert_eq!(vnic.answer(), None);
    }
}

#[test]
fn answers_that_wait_are_bounded() {
    let mut vnic = Vnic::new(true);
    for id in 0..40 {
        vnic.receive(MessageType::SetSa, &body(id, SaCommand::Query { id }));
    }
    assert_eq!(vnic.refused(ControlError::Busy), 8);
    let answers: Vec<_> = std::iter::from_fn(|| vnic.answer()).collect();
    let transactions: Vec<_> = answers.iter().map(|(_, body)| SaAnswer::parse(body).unwrap().transaction).collect();
    assert_eq!(transactions, (0..32).collect::<Vec<_>>());
}

/// Without ciphers a key is refused in words, not dropped silently.
#[test]
fn without_ciphers() {
    let mut vnic = Vnic::new(true);
    let bytes = {
        let body = body(1, add(1, Direction::Rx, 300));
        let message =
            ControlMessage { dst: MAC, version: VERSION_2, kind: MessageType::SetSa, data: 0, body: &body };
        let mut bytes = vec![0; 14 + body.len()];
        message.emit(ETHERTYPE, &mut bytes).unwrap();
        bytes
    };
    let len = bytes.len();
    let mut frame = Frame::new(bytes, 0, len).unwrap();
    let verdict = vnic.engine.process_with(&mut NoCiphers, NOW, Direction::Rx, &mut frame);
    assert_eq!(verdict, Verdict::Consumed);
    let (_, body) = vnic.answer().unwrap();
    assert_eq!(SaAnswer::parse(&body).unwrap().result, SaResult::Unsupported);
}
