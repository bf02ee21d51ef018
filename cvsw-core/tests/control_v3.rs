//! Protocol version 3: both ends over a channel that loses, doubles, reorders and forges, and the bytes of the book.

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
    Config, ControlError, Cvsw, Frame, Instant, NoRoom, Verdict,
    control::{
        ControlMessage, ETHERTYPE, MAX_FRAME_LEN, MessageType, SaAnswer, SaCommand, SaResult, SessionState, SetSa,
        v3::{
            Answer, ControlKeys, ControllerSession, Counter, Event, Header, Kind, Listed, ListedSa, Message,
            Outgoing, Page, Reason, Refusal, Request, SA_DIGEST, SaDigest, State, Subject, hello,
        },
    },
    crypto::{KeyMaterial, Portable, SaConfig, Suite},
    flow::{Direction, FlowMod, OfpError, text::parse_flow},
    openflow::{FlowRemoved, RemovedReason, encode_flow_mod},
};
use cvsw_testkit::{ends, hex};
use proptest::prelude::*;
use zerocopy::FromZeros;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const INSTANCE: u64 = 0x1122_3344_5566_7788;
const EPOCH: u64 = 5;
const CHALLENGE: u64 = 0x0bad_cafe_0bad_cafe;

/// The control key of the book.
fn keys() -> ControlKeys {
    ControlKeys::derive(&core::array::from_fn(|index| index as u8))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 500, ..ProptestConfig::default() })]

    /// Whatever happens on the way, the vNIC is what its commands make of it at any time, and as wanted in the end.
    #[test]
    fn it_converges(program in prop::collection::vec(any::<u8>(), 0..400)) {
        ends::converge(&program);
    }
}

/// Nothing but losses: one frame of two.
#[test]
fn losses_only_cost_time() {
    for keyed in [false, true] {
        let mut ends = ends::Ends::new(keyed);
        ends.run(&[9, 255, 9, 13, 9, 26, 9, 39], 2);
        assert!(ends.is_converged());
        assert!(ends.duplicates() > 0, "answers were lost, so commands came again");
        assert!(ends.elapsed() < 100_000_000_000, "the losses went on all the time: {} ns", ends.elapsed());
    }
}

/// Without any disturbance, no command is sent twice.
#[test]
fn a_good_channel_costs_nothing() {
    let mut ends = ends::Ends::new(true);
    ends.run(&[], 0);
    assert_eq!(ends.duplicates(), 0);
    assert!(ends.elapsed() < 3_000_000_000, "{} ns", ends.elapsed());
}

/// A vNIC and whoever talks to it.
struct Talk {
    engine: Box<Cvsw<4, 16, 4, 4>>,
    ciphers: Portable<4>,
    keys: ControlKeys,
}

impl Talk {
    fn new(keys: ControlKeys) -> Self {
        let mut engine = Cvsw::new_box_zeroed().unwrap();
        engine.init(&Config { mac: MAC, ..Config::default() });
        engine.enable_version_3(INSTANCE, keys.clone());
        Self { engine, ciphers: Portable::new(), keys }
    }

    /// Delivers a frame from the network; returns why it was refused, if it was.
    fn deliver(&mut self, frame: &[u8]) -> Option<ControlError> {
        let before = self.engine.stats().control_errors;
        let mut bytes = frame.to_vec();
        let mut held = Frame::new(&mut bytes[..], 0, frame.len()).unwrap();
        let verdict = self.engine.process_with(&mut self.ciphers, Instant::ZERO, Direction::Rx, &mut held);
        assert_eq!(verdict, Verdict::Consumed);
        let after = self.engine.stats().control_errors;
        ControlError::ALL.iter().copied().find(|error| after[error.index()] != before[error.index()])
    }

    fn send(&mut self, header: Header, payload: &[u8]) -> Option<ControlError> {
        self.deliver(&frame(&self.keys, header, payload))
    }

    fn answers(&mut self) -> Vec<Vec<u8>> {
        let mut out = [0; MAX_FRAME_LEN];
        std::iter::from_fn(|| self.engine.poll_transmit(&mut out).map(|len| out[..len].to_vec())).collect()
    }

    fn answer(&mut self) -> (Header, Answer) {
        let frames = self.answers();
        let [frame] = &frames[..] else { panic!("{} frames", frames.len()) };
        let message = Message::parse(frame).unwrap();
        message.authenticate(&self.keys).unwrap();
        (message.header, Answer::parse(message.header.kind, message.payload).unwrap())
    }
}

fn frame(keys: &ControlKeys, header: Header, payload: &[u8]) -> Vec<u8> {
    let mut out = [0; MAX_FRAME_LEN];
    let len = header.emit_bytes(ETHERTYPE, keys, &mut out, payload).unwrap();
    out[..len].to_vec()
}

const fn header(kind: Kind, sequence: u64, data: u16) -> Header {
    Header { mac: MAC, kind, chained: false, data, instance: INSTANCE, epoch: EPOCH, sequence }
}

fn flow(text: &str) -> Vec<u8> {
    encoded(&parse_flow(text).unwrap())
}

fn encoded(flow: &FlowMod) -> Vec<u8> {
    let mut out = [0; MAX_FRAME_LEN];
    let len = encode_flow_mod(flow, 0, &mut out).unwrap();
    out[..len].to_vec()
}

#[test]
fn each_command_counts_once_and_in_its_turn() {
    for keys in [ControlKeys::NONE, keys()] {
        let mut talk = Talk::new(keys);
        assert_eq!(talk.send(header(Kind::SetMtu, 2, 1400), &[]), Some(ControlError::OutOfOrder));
        let (answered, answer) = talk.answer();
        assert_eq!((answered.sequence, answer.refusal), (2, Some(Refusal::Control(Reason::OutOfOrder))));
        assert_eq!((answer.epoch, answer.executed), (0, 0), "nothing was taken");

        assert_eq!(talk.send(header(Kind::SetMtu, 1, 1450), &[]), None);
        let (answered, answer) = talk.answer();
        assert_eq!((answered.kind, answered.sequence, answer.refusal), (Kind::Ack, 1, None));
        assert_eq!((answer.epoch, answer.executed), (EPOCH, 1));
        assert_eq!(talk.engine.session_state(), SessionState::Connected);

        // The same number with other contents: answered from memory, not carried out.
        assert_eq!(talk.send(header(Kind::SetMtu, 1, 1300), &[]), None);
        assert_eq!(talk.answer(), (answered, answer));
        assert_eq!(talk.engine.control_status().duplicates, 1);
        for sequence in 2..40 {
            assert_eq!(talk.send(header(Kind::SetMtu, sequence, 1450), &[]), None);
            assert_eq!(talk.answer().0.sequence, sequence);
        }
        assert_eq!(talk.send(header(Kind::SetMtu, 1, 1300), &[]), Some(ControlError::Replayed));
        assert_eq!(talk.answers(), Vec::<Vec<u8>>::new());
    }
}

#[test]
fn a_controller_that_was_replaced_changes_nothing() {
    let mut talk = Talk::new(keys());
    assert_eq!(talk.send(header(Kind::SetMtu, 1, 1450), &[]), None);
    talk.answers();
    let newer = Header { epoch: EPOCH + 1, ..header(Kind::SetMtu, 1, 1400) };
    assert_eq!(talk.send(newer, &[]), None);
    talk.answers();
    assert_eq!(talk.send(header(Kind::SetEntry, 2, 0), &flow("arp,actions=drop")), Some(ControlError::StaleEpoch));
    let (_, answer) = talk.answer();
    assert_eq!(answer.refusal, Some(Refusal::Control(Reason::StaleEpoch)));
    assert_eq!((answer.epoch, answer.executed, talk.engine.flow_count()), (EPOCH + 1, 1, 0));
    // Requests as well: it shall learn that it was replaced.
    let request = Request { subject: Subject::State, from: 0 }.to_bytes();
    assert_eq!(talk.send(header(Kind::Get, 9, 0), &request), Some(ControlError::StaleEpoch));
    assert_eq!(talk.answer().1.refusal, Some(Refusal::Control(Reason::StaleEpoch)));
}

#[test]
fn an_earlier_life_is_over() {
    let mut talk = Talk::new(keys());
    let recorded = frame(&talk.keys, header(Kind::SetMtu, 1, 1450), &[]);
    assert_eq!(talk.deliver(&recorded), None);
    talk.engine.init(&Config { mac: MAC, ..Config::default() });
    talk.engine.enable_version_3(INSTANCE + 1, keys());
    talk.answers();
    assert_eq!(talk.deliver(&recorded), Some(ControlError::Instance));
    let answers = talk.answers();
    assert_eq!(Message::parse(&answers[0]).unwrap().header.kind, Kind::Register, "it says who it is now");
}

#[test]
fn with_a_key_nothing_else_is_believed() {
    let mut talk = Talk::new(keys());
    let version_2 = |kind, data| {
        let mut out = [0; 64];
        let len = ControlMessage { dst: MAC, version: 2, kind, data, body: &[] }.emit(ETHERTYPE, &mut out).unwrap();
        out[..len].to_vec()
    };
    for kind in [MessageType::Hello, MessageType::SetMtu, MessageType::ListEntries, MessageType::SetSa] {
        assert_eq!(talk.deliver(&version_2(kind, 0)), Some(ControlError::Downgrade));
    }
    assert_eq!(talk.deliver(&version_2(MessageType::Hello, 3)), None, "that of a controller that speaks both");
    let unsealed = frame(&ControlKeys::NONE, header(Kind::SetMtu, 1, 1450), &[]);
    assert_eq!(talk.deliver(&unsealed), Some(ControlError::Unauthenticated));
    let other = ControlKeys::derive(&[9; 16]);
    assert_eq!(talk.deliver(&frame(&other, header(Kind::SetMtu, 1, 1450), &[])), Some(ControlError::Tag));
    let good = frame(&talk.keys, header(Kind::SetMtu, 1, 1450), &[]);
    for bit in 0..8 * good.len() {
        let mut forged = good.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        if forged[12..14] == good[12..14] {
            talk.deliver(&forged);
        }
    }
    let status = talk.engine.control_status();
    assert_eq!((status.epoch, status.executed), (0, 0));
    assert_eq!(talk.engine.session_state(), SessionState::Disconnected);
    assert_eq!(talk.answers(), Vec::<Vec<u8>>::new(), "and nothing is answered");
    assert_eq!(talk.deliver(&good), None);
}

/// Without a key a sealed message is refused: nobody shall believe to be protected.
#[test]
fn without_a_key_no_tag_is_taken_for_one() {
    let mut talk = Talk::new(ControlKeys::NONE);
    let sealed = frame(&keys(), header(Kind::SetMtu, 1, 1450), &[]);
    assert_eq!(talk.deliver(&sealed), Some(ControlError::Unauthenticated));
}

#[test]
fn a_chain_stops_at_its_first_error() {
    let mut talk = Talk::new(keys());
    for slot in 0..4u64 {
        let entry = flow(&format!("priority={},arp,actions=drop", slot + 1));
        assert_eq!(talk.send(header(Kind::SetEntry, slot + 1, 0), &entry), None);
    }
    talk.answers();
    let full = Header { chained: true, ..header(Kind::SetEntry, 5, 0) };
    assert_eq!(talk.send(full, &flow("priority=9,cookie=77,arp,actions=drop")), Some(ControlError::Table));
    let (answered, answer) = talk.answer();
    assert_eq!(answered.kind, Kind::Error);
    assert_eq!(answer.refusal, Some(OfpError::TableFull.into()));
    assert_eq!((answer.priority, answer.cookie), (9, 77), "it names the entry");
    let delete = flow("delete,arp");
    let chained = Header { chained: true, ..header(Kind::DeleteEntry, 6, 0) };
    assert_eq!(talk.send(chained, &delete), Some(ControlError::Skipped));
    assert_eq!(talk.answer().1.refusal, Some(Refusal::Control(Reason::Skipped)));
    let next = Header { sequence: 7, ..chained };
    assert_eq!(talk.send(next, &delete), Some(ControlError::Skipped));
    talk.answers();
    assert_eq!(talk.engine.flow_count(), 4);
    assert_eq!(talk.send(header(Kind::DeleteEntry, 8, 0), &delete), None);
    assert_eq!((talk.answer().1.refusal, talk.engine.flow_count()), (None, 0));
}

#[test]
fn malformed_commands_are_answered_and_change_nothing() {
    let mut talk = Talk::new(keys());
    let rows: [(Kind, u16, Vec<u8>, Refusal); 7] = [
        (Kind::SetMtu, 67, vec![], Refusal::Control(Reason::Data)),
        (Kind::SetMtu, 1450, vec![0], Refusal::Control(Reason::Length)),
        (Kind::SetOffload, 0x20, vec![], Refusal::Control(Reason::Data)),
        (Kind::SetEntry, 0, vec![1, 14], OfpError::BadLength.into()),
        (Kind::SetEntry, 0, flow("delete,arp"), Refusal::Control(Reason::Command)),
        (Kind::DeleteEntry, 0, flow("arp,actions=drop"), Refusal::Control(Reason::Command)),
        (Kind::SetSa, 0, vec![0; 5], Refusal::Control(Reason::Length)),
    ];
    for (index, (kind, data, payload, expected)) in rows.into_iter().enumerate() {
        assert!(talk.send(header(kind, index as u64 + 1, data), &payload).is_some());
        let (answered, answer) = talk.answer();
        assert_eq!((answered.sequence, answer.command), (index as u64 + 1, kind));
        assert_eq!(answer.refusal, Some(expected), "{kind:?}");
    }
    assert_eq!(talk.engine.flow_count(), 0);
}

fn add_sa(suite: Suite) -> SetSa {
    let key = KeyMaterial::new(suite, &vec![0xab; suite.key_material_len()]).unwrap();
    let config = SaConfig::new(7, Direction::Rx, 0x100 + suite as u32, [192, 0, 2, 1]);
    SetSa { transaction: 3, command: SaCommand::Add(config, key) }
}

#[test]
fn keys_travel_wrapped_or_not_at_all() {
    let keys = keys();
    for suite in Suite::ALL {
        let set_sa = add_sa(suite);
        let mut wrapped = [0; 256];
        let len = set_sa.emit_wrapped(&keys, &mut wrapped).unwrap();
        assert!(!wrapped[..len].windows(8).any(|bytes| bytes == [0xab; 8]), "{suite:?}: the key is in clear");
        let SetSa { transaction: 3, command: SaCommand::Add(config, key) } =
            SetSa::parse_wrapped(&keys, &wrapped[..len]).unwrap()
        else {
            panic!()
        };
        assert_eq!((config.spi, key.suite(), key.cipher_key()[0]), (0x100 + suite as u32, suite, 0xab));
        assert!(key.mac_key().iter().all(|byte| *byte == 0xab));

        let mut talk = Talk::new(keys.clone());
        assert_eq!(talk.send(header(Kind::SetSa, 1, 0), &wrapped[..len]), None);
        let (_, answer) = talk.answer();
        let about = answer.association.unwrap();
        assert_eq!(
            (answer.refusal, about.result, about.association.unwrap().1),
            (None, SaResult::Done, config.spi)
        );

        let mut damaged = wrapped;
        damaged[len - 1] ^= 1;
        assert_eq!(talk.send(header(Kind::SetSa, 2, 0), &damaged[..len]), Some(ControlError::KeyWrap));
        assert_eq!(talk.answer().1.refusal, Some(Refusal::Control(Reason::Key)));
        let mut clear = [0; 256];
        let len = set_sa.emit(&mut clear).unwrap();
        assert_eq!(talk.send(header(Kind::SetSa, 3, 0), &clear[..len]), Some(ControlError::KeyWrap));
        talk.answers();
        assert_eq!(talk.engine.sas().count(), 1);
    }
}

#[test]
fn an_association_that_is_refused_says_why() {
    let mut talk = Talk::new(ControlKeys::NONE);
    let mut payload = [0; 256];
    let len = add_sa(Suite::Aes128Gcm).emit(&mut payload).unwrap();
    assert_eq!(talk.send(header(Kind::SetSa, 1, 0), &payload[..len]), Some(ControlError::KeysRefused));
    let (_, answer) = talk.answer();
    assert_eq!(answer.refusal, Some(Refusal::Association(SaResult::KeysRefused)));
}

/// Entries come in pages that fit, with their counters, and so do the statistics.
#[test]
fn everything_can_be_read() {
    let mut engine: Box<Cvsw<64, 16, 64, 4>> = Cvsw::new_box_zeroed().unwrap();
    engine.init(&Config { mac: MAC, ..Config::default() });
    engine.enable_version_3(INSTANCE, keys());
    for slot in 0..40 {
        let text = format!(
            "priority={slot},in_port=NET,arp,actions=mod_dl_src:02:00:00:00:00:01,mod_dl_dst:02:00:00:00:00:02"
        );
        engine.flow_mod(Instant::ZERO, &parse_flow(&text).unwrap()).unwrap();
    }
    let mut arp = [0u8; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    assert_eq!(
        engine.process(Instant::ZERO, Direction::Rx, &mut Frame::new(&mut arp[..], 0, 60).unwrap()),
        Verdict::Forward
    );
    let keys = keys();
    let mut session: ControllerSession = ControllerSession::new(keys.clone(), EPOCH, 1);
    let mut out = [0; MAX_FRAME_LEN];
    let mut exchange = |engine: &mut Cvsw<64, 16, 64, 4>, frame: &[u8]| -> Vec<u8> {
        let mut bytes = frame.to_vec();
        let len = bytes.len();
        let now = Instant::from_secs(3);
        let _ = engine.process(now, Direction::Rx, &mut Frame::new(&mut bytes[..], 0, len).unwrap());
        let len = engine.poll_transmit(&mut out).unwrap();
        out[..len].to_vec()
    };
    let mut frame = [0; 64];
    let len = hello(ETHERTYPE, MAC, EPOCH, CHALLENGE, &mut frame).unwrap();
    let register = exchange(&mut engine, &frame[..len]);
    let registered = session.register(&Message::parse(&register).unwrap(), CHALLENGE).unwrap();
    assert_eq!((registered.state.entries, registered.state.capacity, registered.fresh), (40, 64, true));

    let (mut priorities, mut names, mut packets) = (Vec::new(), Vec::new(), 0);
    for subject in [Subject::Entries, Subject::Statistics] {
        let (mut from, mut pages) = (0, 0);
        loop {
            assert!(session.ask(Request { subject, from }));
            let Some(Outgoing::Request { sequence, request }) = session.poll(Instant::ZERO) else { panic!() };
            let kind = if subject == Subject::Entries { Kind::ListEntries } else { Kind::Get };
            let len = session
                .header(MAC, kind, sequence, false, 0)
                .emit_bytes(ETHERTYPE, &keys, &mut frame[..], &request.to_bytes())
                .unwrap_or_else(|NoRoom| panic!());
            let answer = exchange(&mut engine, &frame[..len]);
            let message = Message::parse(&answer).unwrap();
            let Event::Page(page, mut items) = session.receive(Instant::ZERO, &message).unwrap() else { panic!() };
            assert_eq!(page.digest, registered.state.digest);
            let mut count = 0;
            while !items.is_empty() {
                count += 1;
                items = if subject == Subject::Entries {
                    let (listed, rest) = Listed::parse(items).unwrap();
                    assert_eq!(listed.age, 3_000_000_000);
                    packets += listed.packets;
                    priorities.push(listed.flow.priority);
                    rest
                } else {
                    let (counter, rest) = Counter::parse(items).unwrap();
                    names.push((counter.name.to_owned(), counter.value));
                    rest
                };
            }
            assert_eq!(count, page.count);
            (from, pages) = (page.next, pages + 1);
            if page.last {
                break;
            }
        }
        assert!(subject == Subject::Statistics || pages > 1, "a page is at most one frame");
    }
    priorities.sort_unstable();
    assert_eq!((priorities, packets), ((0..40).collect(), 1));
    assert!(names.contains(&("rx_forwarded".to_owned(), 1)), "{names:?}");
    assert_eq!(
        names.last(),
        Some(&(SA_DIGEST.to_owned(), SaDigest::default().value())),
        "an empty table has one, too"
    );
}

/// More associations than fit a page, and the same digest in the statistics, in the pages, and of what was listed.
#[test]
fn associations_are_listed_page_by_page() {
    let mut engine: Box<Cvsw<4, 16, 4, 128>> = Cvsw::new_box_zeroed().unwrap();
    engine.init(&Config { mac: MAC, ..Config::default() });
    engine.enable_version_3(INSTANCE, keys());
    let mut ciphers = Box::new(Portable::<128>::new());
    let mut digest = SaDigest::default();
    for number in 0..100u32 {
        let suite = Suite::ALL[number as usize % Suite::ALL.len()];
        let direction = if number % 3 == 0 { Direction::Tx } else { Direction::Rx };
        let (id, spi) = (1000 + number, 5000 + number);
        let config = SaConfig::new(id, direction, spi, [192, 0, 2, 1]);
        let key = KeyMaterial::new(suite, &vec![7; suite.key_material_len()]).unwrap();
        engine.add_sa(&mut *ciphers, Instant::ZERO, &config, &key).unwrap();
        digest.add(id, spi, suite, direction);
    }
    let keys = keys();
    let mut session: ControllerSession = ControllerSession::new(keys.clone(), EPOCH, 1);
    let mut frame = [0; 64];
    let len = hello(ETHERTYPE, MAC, EPOCH, CHALLENGE, &mut frame).unwrap();
    let mut out = [0; MAX_FRAME_LEN];
    let mut exchange = |frame: &[u8]| -> Vec<u8> {
        let (mut bytes, len) = (frame.to_vec(), frame.len());
        let mut frame = Frame::new(&mut bytes[..], 0, len).unwrap();
        let _ = engine.process_with(&mut *ciphers, Instant::ZERO, Direction::Rx, &mut frame);
        let len = engine.poll_transmit(&mut out).unwrap();
        out[..len].to_vec()
    };
    let register = exchange(&frame[..len]);
    session.register(&Message::parse(&register).unwrap(), CHALLENGE).unwrap();
    let (mut listed, mut pages, mut from) = (Vec::new(), 0, 0);
    loop {
        assert!(session.ask(Request { subject: Subject::Associations, from }));
        let Some(Outgoing::Request { sequence, request }) = session.poll(Instant::ZERO) else { panic!() };
        let header = session.header(MAC, Kind::Get, sequence, false, 0);
        let len = header.emit_bytes(ETHERTYPE, &keys, &mut frame[..], &request.to_bytes()).unwrap();
        let answer = exchange(&frame[..len]);
        let message = Message::parse(&answer).unwrap();
        let Event::Page(page, mut items) = session.receive(Instant::ZERO, &message).unwrap() else { panic!() };
        assert_eq!(page.digest, digest.value());
        while !items.is_empty() {
            let (sa, rest) = ListedSa::parse(items).unwrap();
            listed.push(sa);
            items = rest;
        }
        (from, pages) = (page.next, pages + 1);
        if page.last {
            break;
        }
    }
    assert!(pages > 1 && listed.len() == 100, "{pages} pages");
    let mut again = SaDigest::default();
    listed.iter().for_each(|sa| again.add(sa.id, sa.spi, sa.suite, sa.direction));
    assert_eq!(again, digest);
}

/// Another challenge, another key, another instance: no REGISTER.
#[test]
fn a_register_must_answer_our_challenge() {
    let mut talk = Talk::new(keys());
    let mut out = [0; 64];
    let len = hello(ETHERTYPE, [0xff; 6], EPOCH, CHALLENGE, &mut out).unwrap();
    assert_eq!(talk.deliver(&out[..len]), None);
    let answers = talk.answers();
    let message = Message::parse(&answers[0]).unwrap();
    let session = |keys| ControllerSession::<16>::new(keys, EPOCH, 1);
    assert_eq!(session(keys()).register(&message, CHALLENGE ^ 1), Err(ControlError::Replayed));
    assert_eq!(session(keys()).register(&message, 0), Err(ControlError::Replayed));
    assert_eq!(session(ControlKeys::NONE).register(&message, CHALLENGE), Err(ControlError::Unauthenticated));
    assert_eq!(session(ControlKeys::derive(&[1; 16])).register(&message, CHALLENGE), Err(ControlError::Tag));
    assert!(session(keys()).register(&message, CHALLENGE).unwrap().fresh);
}

/// The frames of the book: each is what the page says, and what this code writes.
#[test]
fn documented_frames() {
    let page = include_str!("../../docs/src/protocol-v3.md");
    let documented: Vec<Vec<u8>> =
        page.split("```hex\n").skip(1).map(|block| hex::bytes(block.split("```").next().unwrap())).collect();
    let frames = book();
    let all: String = frames.iter().map(|frame| hex::dump(frame) + "\n").collect();
    assert!(documented == frames, "the page must have these frames:\n{all}");
    for expected in &frames {
        let message = Message::parse(expected).unwrap();
        let keyed = if message.is_sealed() { keys() } else { ControlKeys::NONE };
        assert_eq!(message.authenticate(&keyed), Ok(()));
    }
}

/// Each type has an example.
#[test]
fn the_book_has_every_type() {
    let kinds: Vec<Kind> = book().iter().map(|frame| Message::parse(frame).unwrap().header.kind).collect();
    for kind in (0..16).filter_map(Kind::from_wire) {
        assert!(kinds.contains(&kind), "{kind:?}");
    }
}

fn book() -> Vec<Vec<u8>> {
    let mut hello_frame = [0; 64];
    let len = hello(ETHERTYPE, [0xff; 6], EPOCH, CHALLENGE, &mut hello_frame).unwrap();
    let entry = parse_flow("priority=100,cookie=7,in_port=HOST,arp,actions=drop").unwrap();
    let mut digest = cvsw_core::control::v3::TableDigest::default();
    digest.add(&entry, &mut [0; 1304]).unwrap();
    let state = State {
        challenge: CHALLENGE,
        digest: 0,
        epoch: 0,
        executed: 0,
        entries: 0,
        capacity: 16384,
        associations: 0,
        mtu: 0,
        offload: None,
        session: SessionState::Connecting,
        has_key: true,
        in_force: Some(0x15),
        takes_keys: true,
        window: 32,
    };
    let answer = |command, refusal| Answer { epoch: EPOCH, executed: 1, ..Answer::new(command, refusal) };
    let payload = |answer: Answer| {
        let mut out = [0; 64];
        let len = answer.emit(&mut out).unwrap();
        out[..len].to_vec()
    };
    let mut wrapped = [0; 256];
    let key: Vec<u8> = (1..=20).collect();
    let config = SaConfig::new(7, Direction::Rx, 0x1234, [192, 0, 2, 1]);
    let set_sa = SetSa {
        transaction: 9,
        command: SaCommand::Add(config, KeyMaterial::new(Suite::Aes128Gcm, &key).unwrap()),
    };
    let wrapped_len = set_sa.emit_wrapped(&keys(), &mut wrapped).unwrap();
    let about = SaAnswer {
        transaction: 9,
        operation: 1,
        id: 7,
        result: SaResult::Done,
        association: Some((cvsw_core::crypto::SaState::Active, 0x1234, 0)),
        generation: 0,
    };
    let page = Page { subject: Subject::Entries, last: true, count: 1, next: 1, digest: digest.value() };
    let counters = [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 120, 0, 0, 0, 61, 0x1d, 0xcd, 0x65, 0];
    let listing = [&page.to_bytes()[..], &counters, &encoded(&entry)].concat();
    let listed = ListedSa {
        id: 7,
        spi: 0x1234,
        destination: [192, 0, 2, 1],
        suite: Suite::Aes128Gcm,
        direction: Direction::Rx,
        extended: false,
        state: cvsw_core::crypto::SaState::Active,
    };
    let mut sa_digest = SaDigest::default();
    sa_digest.add(listed.id, listed.spi, listed.suite, listed.direction);
    let page = Page { subject: Subject::Associations, last: true, count: 1, next: 1, digest: sa_digest.value() };
    let mut associations = [&page.to_bytes()[..], &[0; ListedSa::LEN]].concat();
    listed.emit(&mut associations[Page::LEN..]).unwrap();
    let now = State {
        challenge: 0,
        digest: digest.value(),
        epoch: EPOCH,
        executed: 6,
        entries: 1,
        associations: 1,
        mtu: 1450,
        offload: Some(0x3),
        session: SessionState::Connected,
        in_force: Some(0x1),
        ..state
    };
    let page = Page { subject: Subject::State, last: true, count: 1, next: 1, digest: digest.value() };
    let state_report = [&page.to_bytes()[..], &now.to_bytes()].concat();
    let page = Page { subject: Subject::Statistics, last: true, count: 2, next: 2, digest: digest.value() };
    let mut counters_report = page.to_bytes().to_vec();
    for (parts, value) in [(["rx_", "forwarded"], 2), ([SA_DIGEST, ""], sa_digest.value())] {
        let mut item = [0; 64];
        let len = Counter::emit(parts, value, &mut item).unwrap();
        counters_report.extend(&item[..len]);
    }
    let removed = FlowRemoved {
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
    let mut removal = [0; 256];
    let removal_len = removed.encode(0, &mut removal).unwrap();
    let get = |subject| Request { subject, from: 0 }.to_bytes();
    let keys = keys();
    vec![
        hello_frame[..len].to_vec(),
        frame(&keys, Header { epoch: 0, ..header(Kind::Register, 0, 0) }, &state.to_bytes()),
        frame(&keys, header(Kind::SetMtu, 1, 1450), &[]),
        frame(&keys, header(Kind::Ack, 1, 0), &payload(answer(Kind::SetMtu, None))),
        frame(&ControlKeys::NONE, header(Kind::SetMtu, 1, 1450), &[]),
        frame(&keys, Header { chained: true, ..header(Kind::SetEntry, 2, 0) }, &encoded(&entry)),
        frame(
            &keys,
            header(Kind::Error, 2, 0),
            &payload(Answer {
                executed: 2,
                ..answer(Kind::SetEntry, Some(OfpError::TableFull.into())).about(&entry)
            }),
        ),
        frame(&keys, header(Kind::SetOffload, 4, 3), &[]),
        frame(&keys, header(Kind::DeleteEntry, 5, 0), &encoded(&parse_flow("delete").unwrap())),
        frame(
            &keys,
            Header { epoch: EPOCH - 1, ..header(Kind::Error, 9, 0) },
            &payload(Answer { executed: 5, ..answer(Kind::SetMtu, Some(Refusal::Control(Reason::StaleEpoch))) }),
        ),
        frame(&keys, header(Kind::FlowRemoved, 1, 0), &removal[..removal_len]),
        frame(&keys, header(Kind::SetSa, 3, 0), &wrapped[..wrapped_len]),
        frame(
            &keys,
            header(Kind::Ack, 3, 0),
            &payload(Answer { executed: 3, association: Some(about), ..answer(Kind::SetSa, None) }),
        ),
        frame(&keys, header(Kind::ListEntries, 1, 0), &Request { subject: Subject::Entries, from: 0 }.to_bytes()),
        frame(&keys, header(Kind::Report, 1, 0), &listing),
        frame(&keys, header(Kind::Get, 3, 0), &get(Subject::Statistics)),
        frame(&keys, header(Kind::Report, 3, 0), &counters_report),
        frame(&keys, header(Kind::Get, 4, 0), &get(Subject::State)),
        frame(&keys, header(Kind::Report, 4, 0), &state_report),
        frame(&keys, header(Kind::Get, 2, 0), &get(Subject::Associations)),
        frame(&keys, header(Kind::Report, 2, 0), &associations),
    ]
}
