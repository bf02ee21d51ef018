//! The engine as a whole: session, bursts, tunnels, the guard around control frames, counters that add up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::{
    Config, ControlError, Cvsw, Direction, DropReason, Frame, Instant, Verdict,
    control::{ControlEvent, ControlMessage, MAX_FRAME_LEN, MessageType, OffloadFlags, SessionState, VERSION_2},
    flow::{Action, ActionList, Command, FlowMod, Match, OFPP_NONE, OfpError, Tunnel, text::parse_flow},
    key::Field,
    mtu::{IpMtu, L2Mtu},
    openflow::{FlowRemoved, RemovedReason, decode_flow_mod, encode_flow_mod},
    trace::{Considered, Event, Observer},
};
use zerocopy::FromZeros;

type Engine = Cvsw<64, 64, 16>;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NOW: Instant = Instant::from_secs(1000);

fn engine() -> Box<Engine> {
    let mut engine = Engine::new_box_zeroed().expect("memory");
    engine.init(&Config { mac: MAC, hash_seed: 0x1234_5678_9abc_def0, ..Config::default() });
    engine
}

fn frame(bytes: &[u8]) -> Frame<Vec<u8>> {
    let mut buffer = vec![0xee; 128];
    buffer.extend_from_slice(bytes);
    Frame::new(buffer, 128, bytes.len()).unwrap()
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().max(60), 0);
    bytes
}

fn control(kind: MessageType, data: u16, body: &[u8]) -> Vec<u8> {
    let message = ControlMessage { dst: MAC, version: VERSION_2, kind, data, body };
    let mut out = vec![0; MAX_FRAME_LEN];
    let len = message.emit(0xabba, &mut out).unwrap();
    out.truncate(len);
    out.resize(len.max(60), 0);
    out
}

fn entry(kind: MessageType, flow: &FlowMod) -> Vec<u8> {
    let mut body = vec![0; MAX_FRAME_LEN];
    let len = encode_flow_mod(flow, 7, &mut body).unwrap();
    control(kind, 0, &body[..len])
}

fn receive(engine: &mut Engine, bytes: &[u8]) -> Verdict {
    engine.process(NOW, Direction::Rx, &mut frame(bytes))
}

/// A control frame that must be taken out of the traffic, accepted or not.
fn deliver(engine: &mut Engine, bytes: &[u8]) {
    assert_eq!(receive(engine, bytes), Verdict::Consumed);
}

fn sent(engine: &mut Engine) -> Vec<Vec<u8>> {
    let mut out = [0; MAX_FRAME_LEN];
    std::iter::from_fn(|| engine.poll_transmit(&mut out).map(|len| out[..len].to_vec())).collect()
}

fn events(engine: &mut Engine) -> Vec<ControlEvent> {
    std::iter::from_fn(|| engine.poll_event()).collect()
}

fn connect(engine: &mut Engine) {
    assert_eq!(receive(engine, &control(MessageType::Hello, 0, &[])), Verdict::Consumed);
    assert_eq!(receive(engine, &control(MessageType::SetMtu, 1450, &[])), Verdict::Consumed);
    assert_eq!(engine.session_state(), SessionState::Connected);
    sent(engine);
    events(engine);
}

fn drop_arp() -> FlowMod {
    FlowMod {
        matching: Match::ANY.with(Field::EthType, 0x0806),
        cookie: 0xc0de,
        priority: 10,
        idle_timeout: 30,
        ..FlowMod::default()
    }
}

fn flow(actions: &[Action]) -> FlowMod {
    FlowMod { actions: ActionList::from_slice(actions).unwrap(), ..FlowMod::default() }
}

fn assert_sums(engine: &Engine) {
    for direction in Direction::ALL {
        let stats = engine.stats().direction(direction);
        assert_eq!(stats.frames, stats.forwarded + stats.consumed + stats.dropped_total(), "{direction:?}");
    }
}

fn errors(engine: &Engine, error: ControlError) -> u64 {
    engine.stats().control_errors[error.index()]
}

#[test]
fn hello_register_set_connected() {
    let mut engine = engine();
    let arp = ethernet(0x0806, &[0; 28]);
    assert_eq!(engine.session_state(), SessionState::Disconnected);

    deliver(&mut engine, &control(MessageType::Hello, 0, &[]));
    assert_eq!(events(&mut engine), [ControlEvent::Session(SessionState::Connecting)]);
    let register = sent(&mut engine);
    // The exact bytes: own MAC, version 2 type 2, pad, len 0, data 0, 0xABBA.
    assert_eq!(register, [[&MAC[..], &[0x22, 0, 0, 0, 0, 0, 0xab, 0xba]].concat()]);

    deliver(&mut engine, &entry(MessageType::SetEntry, &drop_arp()));
    assert_eq!(events(&mut engine), [ControlEvent::Session(SessionState::Connected)]);
    assert_eq!(receive(&mut engine, &arp), Verdict::Drop(DropReason::Policy));

    deliver(&mut engine, &control(MessageType::SetMtu, 1400, &[]));
    deliver(&mut engine, &control(MessageType::SetMtu, 1450, &[]));
    deliver(&mut engine, &control(MessageType::SetOffload, 0x11, &[]));
    let mtu = IpMtu::new(1450).unwrap();
    assert_eq!(
        events(&mut engine),
        [ControlEvent::SetMtu(mtu), ControlEvent::SetOffload(OffloadFlags(0x11))],
        "only the latest MTU is handed out"
    );

    let all = FlowMod { command: Command::Delete, ..FlowMod::default() };
    deliver(&mut engine, &entry(MessageType::DeleteEntry, &all));
    assert_eq!(receive(&mut engine, &arp), Verdict::Forward);
    assert_eq!(engine.stats().control_accepted, 6);
    assert_sums(&engine);
}

#[test]
fn frames_bypass_the_table_until_the_first_set() {
    let mut engine = engine();
    let arp = ethernet(0x0806, &[0; 28]);
    assert_eq!(receive(&mut engine, &arp), Verdict::Forward);
    deliver(&mut engine, &control(MessageType::Hello, 0, &[]));
    assert_eq!(receive(&mut engine, &arp), Verdict::Forward);
    deliver(&mut engine, &control(MessageType::SetOffload, 0, &[]));
    deliver(&mut engine, &entry(MessageType::SetEntry, &drop_arp()));
    assert_eq!(receive(&mut engine, &arp), Verdict::Drop(DropReason::Policy));
    assert_eq!(engine.stats().direction(Direction::Rx).missed, 2);
}

#[test]
fn refused_messages_change_nothing_and_are_counted() {
    let mut engine = engine();
    let set = entry(MessageType::SetEntry, &drop_arp());
    deliver(&mut engine, &set);
    deliver(&mut engine, &control(MessageType::SetMtu, 1450, &[]));
    deliver(&mut engine, &control(MessageType::ListEntries, 0, &[]));
    assert_eq!(errors(&engine, ControlError::NotConnected), 3);
    assert!(events(&mut engine).is_empty() && sent(&mut engine).is_empty());

    connect(&mut engine);
    deliver(&mut engine, &control(MessageType::Hello, 0, &[]));
    assert_eq!(errors(&engine, ControlError::DuplicateHello), 1);
    deliver(&mut engine, &control(MessageType::Register, 0, &[]));
    assert_eq!(errors(&engine, ControlError::Type), 1);
    deliver(&mut engine, &control(MessageType::SetMtu, 67, &[]));
    deliver(&mut engine, &control(MessageType::SetOffload, 0x20, &[]));
    assert_eq!(errors(&engine, ControlError::Data), 2);
    deliver(&mut engine, &control(MessageType::SetMtu, 1450, &[1]));
    assert_eq!(errors(&engine, ControlError::Length), 1);
    deliver(&mut engine, &entry(MessageType::DeleteEntry, &drop_arp()));
    assert_eq!(errors(&engine, ControlError::Command), 1);
    deliver(&mut engine, &entry(MessageType::SetEntry, &flow(&[Action::Output { port: 1, max_len: 0 }])));
    deliver(&mut engine, &control(MessageType::SetEntry, 0, &[1, 14, 0, 8, 0, 0, 0, 0]));
    assert_eq!(errors(&engine, ControlError::FlowMod), 2);
    let mut foreign = set.clone();
    foreign[5] = 9;
    deliver(&mut engine, &foreign);
    assert_eq!(errors(&engine, ControlError::NotForUs), 1);
    let mut version = set.clone();
    version[6] = 0x43;
    deliver(&mut engine, &version);
    assert_eq!(errors(&engine, ControlError::Version), 1);
    let mut tagged = set;
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    assert_eq!(receive(&mut engine, &tagged), Verdict::Consumed);
    assert_eq!(errors(&engine, ControlError::Tagged), 1);

    assert_eq!(engine.flow_count(), 0);
    assert!(events(&mut engine).is_empty() && sent(&mut engine).is_empty());
    assert_eq!(engine.stats().control_accepted, 2);
    assert_sums(&engine);
}

#[test]
fn a_full_table_refuses_the_entry_and_keeps_the_rest() {
    let mut engine = engine();
    connect(&mut engine);
    for number in 0..65u64 {
        let matching = Match::ANY.with(Field::EthType, 0x9000 + number);
        deliver(&mut engine, &entry(MessageType::SetEntry, &FlowMod { matching, ..FlowMod::default() }));
    }
    assert_eq!((engine.flow_count(), errors(&engine, ControlError::Table)), (64, 1));
}

#[test]
fn list_entries_gives_every_entry_and_a_closing_message() {
    let mut engine = engine();
    connect(&mut engine);
    let tunnel = Tunnel { eth_dst: [2; 6], eth_src: [4; 6], dst: [1, 2, 3, 4], src: [5, 6, 7, 8], vni: 0xabcdef };
    let second = FlowMod { priority: 3, ..flow(&[Action::StripVlan, Action::SetVxlan(tunnel)]) };
    for flow in [&drop_arp(), &second] {
        deliver(&mut engine, &entry(MessageType::SetEntry, flow));
    }
    deliver(&mut engine, &control(MessageType::ListEntries, 0, &[]));
    let frames = sent(&mut engine);
    let bodies: Vec<_> = frames
        .iter()
        .map(|bytes| {
            let message = ControlMessage::parse(bytes).unwrap();
            assert_eq!((message.kind, message.dst), (MessageType::ListEntries, MAC));
            message.body.to_vec()
        })
        .collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies[2].is_empty());
    assert_eq!(decode_flow_mod(&bodies[0]).unwrap(), drop_arp());
    assert_eq!(decode_flow_mod(&bodies[1]).unwrap(), second);
    assert!(sent(&mut engine).is_empty());
}

#[test]
fn a_listing_says_what_openflow_1_0_cannot() {
    let mut engine = engine();
    connect(&mut engine);
    let odd = FlowMod { matching: Match::ANY.with_masked(Field::EthDst, 1 << 40, 1 << 40), ..FlowMod::default() };
    engine.flow_mod(NOW, &odd).unwrap();
    deliver(&mut engine, &control(MessageType::ListEntries, 0, &[]));
    let answers = sent(&mut engine);
    assert_eq!(answers.len(), 2);
    assert_eq!(decode_flow_mod(ControlMessage::parse(&answers[0]).unwrap().body), Ok(odd));
}

#[test]
fn an_entry_that_no_listing_could_say_is_refused() {
    let mut engine = engine();
    let rows = [
        (Match::ANY.with(Field::TpDst, 80), OfpError::NxmBadPrereq),
        (Match::ANY.with_masked(Field::EthType, 0x0800, 0x0f00), OfpError::NxmBadMask),
    ];
    for (matching, error) in rows {
        let flow = FlowMod { matching, ..FlowMod::default() };
        assert_eq!(engine.flow_mod(NOW, &flow), Err(error));
    }
    assert_eq!(engine.flow_count(), 0);
}

/// Reports of removals among the frames that the engine sends.
fn reports(engine: &mut Engine) -> Vec<FlowRemoved> {
    let frames = sent(engine);
    let messages = frames.iter().map(|frame| ControlMessage::parse(frame).unwrap());
    messages
        .filter(|message| message.kind == MessageType::FlowRemoved)
        .map(|message| FlowRemoved::decode(message.body).unwrap())
        .collect()
}

#[test]
fn removals_are_reported_to_the_controller() {
    let mut engine = engine();
    connect(&mut engine);
    let flows = [
        "send_flow_rem,cookie=1,idle_timeout=5,arp,actions=drop",
        "send_flow_rem,cookie=2,hard_timeout=9,tun_id=7,actions=drop",
        "cookie=3,hard_timeout=9,ip,actions=drop",
    ];
    for flow in flows {
        engine.flow_mod(NOW, &parse_flow(flow).unwrap()).unwrap();
    }
    assert_eq!(receive(&mut engine, &ethernet(0x0806, &[])), Verdict::Drop(DropReason::Policy));
    engine.tick(Instant::from_secs(1005));
    let idle = reports(&mut engine);
    assert_eq!(idle.len(), 1);
    assert_eq!((idle[0].cookie, idle[0].reason, idle[0].duration_sec), (1, RemovedReason::IdleTimeout, 5));
    assert_eq!((idle[0].packets, idle[0].bytes, idle[0].idle_timeout), (1, 60, 5));
    engine.tick(Instant::from_secs(1009));
    let hard = reports(&mut engine);
    assert_eq!(hard.len(), 1, "entry 3 did not ask for it");
    assert_eq!((hard[0].cookie, hard[0].reason), (2, RemovedReason::HardTimeout));
    assert_eq!(hard[0].matching, Match::ANY.with(Field::TunId, 7));
    engine.flow_mod(NOW, &parse_flow(flows[0]).unwrap()).unwrap();
    engine.flow_mod(NOW, &parse_flow("delete").unwrap()).unwrap();
    assert_eq!(
        reports(&mut engine).iter().map(|report| report.reason).collect::<Vec<_>>(),
        [RemovedReason::Delete]
    );
}

#[test]
fn without_a_controller_no_removal_is_reported() {
    let mut engine = engine();
    engine.flow_mod(NOW, &parse_flow("send_flow_rem,arp,actions=drop").unwrap()).unwrap();
    engine.flow_mod(NOW, &parse_flow("delete").unwrap()).unwrap();
    assert_eq!((sent(&mut engine).len(), engine.stats().removals_lost), (0, 0));
}

#[test]
fn removals_beyond_the_queue_are_counted() {
    let mut engine = engine();
    connect(&mut engine);
    for _ in 0..2 {
        for port in 0..40 {
            let flow = format!("send_flow_rem,udp,tp_dst={port},actions=drop");
            engine.flow_mod(NOW, &parse_flow(&flow).unwrap()).unwrap();
        }
        engine.flow_mod(NOW, &parse_flow("delete").unwrap()).unwrap();
    }
    assert_eq!((reports(&mut engine).len(), engine.stats().removals_lost), (64, 16));
    assert!(sent(&mut engine).is_empty());
}

#[test]
fn an_answer_that_does_not_fit_stays_queued() {
    let mut engine = engine();
    deliver(&mut engine, &control(MessageType::Hello, 0, &[]));
    assert_eq!(engine.poll_transmit(&mut [0; 13]), None);
    assert_eq!(sent(&mut engine).len(), 1);
}

#[test]
fn control_frames_from_the_vm_are_dropped() {
    let mut engine = engine();
    let hello = control(MessageType::Hello, 0, &[]);
    for tags in 0..3 {
        let mut bytes = hello.clone();
        for _ in 0..tags {
            bytes.splice(12..12, [0x81, 0, 0, 5]);
        }
        let verdict = engine.process(NOW, Direction::Tx, &mut frame(&bytes));
        assert_eq!(verdict, Verdict::Drop(DropReason::ControlFromHost), "{tags} tags");
    }
    assert_eq!(engine.session_state(), SessionState::Disconnected);
    assert_eq!(engine.stats().direction(Direction::Tx).dropped(DropReason::ControlFromHost), 3);
    assert_sums(&engine);
}

fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    let tunnel = Tunnel { eth_dst: [4; 6], eth_src: [6; 6], dst: [192, 0, 2, 1], src: [192, 0, 2, 2], vni };
    let mut sender = engine();
    sender.flow_mod(NOW, &flow(&[Action::SetVxlan(tunnel)])).unwrap();
    let mut outer = frame(inner);
    assert_eq!(sender.process(NOW, Direction::Tx, &mut outer), Verdict::Forward);
    assert_eq!(outer.len(), inner.len() + 50);
    outer.bytes().to_vec()
}

#[test]
fn a_control_frame_out_of_a_tunnel_is_dropped_not_honoured() {
    // The inner frame is no control frame for the sender's guard: it is made here, by hand.
    let inner = control(MessageType::Hello, 0, &[]);
    let carrier = vxlan(42, &ethernet(0x0806, &[0; 46]));
    let outer = [&carrier[..50], &inner[..]].concat();
    let mut engine = engine();
    engine.flow_mod(NOW, &flow(&[Action::StripVxlan(Some(42))])).unwrap();
    let mut received = frame(&outer);
    let verdict = engine.process(NOW, Direction::Rx, &mut received);
    assert_eq!(verdict, Verdict::Drop(DropReason::ControlFromTunnel));
    assert_eq!(engine.session_state(), SessionState::Disconnected);
    assert_sums(&engine);
}

#[test]
fn the_inner_frame_is_looked_up_again_when_the_entry_asks() {
    let mut engine = engine();
    let strip = [Action::StripVxlan(Some(42)), Action::Resubmit { in_port: 2 }];
    let outer_match = Match::ANY.with(Field::TunId, 0);
    engine.flow_mod(NOW, &FlowMod { matching: outer_match, ..flow(&strip) }).unwrap();
    let arp =
        FlowMod { matching: Match::ANY.with(Field::TunId, 42).with(Field::EthType, 0x0806), ..FlowMod::default() };
    engine.flow_mod(NOW, &arp).unwrap();
    assert_eq!(receive(&mut engine, &vxlan(42, &ethernet(0x0806, &[0; 46]))), Verdict::Drop(DropReason::Policy));
    assert_eq!(receive(&mut engine, &vxlan(42, &ethernet(0x88b5, &[0; 46]))), Verdict::Forward);
    assert_eq!(receive(&mut engine, &vxlan(43, &ethernet(0x88b5, &[0; 46]))), Verdict::Drop(DropReason::VxlanVni));
    assert_sums(&engine);
}

#[test]
fn endless_resubmits_end() {
    let mut engine = engine();
    engine.flow_mod(NOW, &flow(&[Action::Resubmit { in_port: 2 }])).unwrap();
    let verdict = receive(&mut engine, &ethernet(0x0800, &[0; 46]));
    assert_eq!(verdict, Verdict::Drop(DropReason::ResubmitLimit));
}

#[test]
fn a_frame_too_big_for_the_link_is_dropped_after_encapsulation() {
    let mut engine = engine();
    engine.init(&Config { link_mtu: Some(L2Mtu::new(1514)), ..Config::default() });
    let tunnel = Tunnel { vni: 1, ..Tunnel::default() };
    engine.flow_mod(NOW, &flow(&[Action::SetVxlan(tunnel)])).unwrap();
    let mut fits = frame(&ethernet(0x88b5, &[0; 1450]));
    assert_eq!(engine.process(NOW, Direction::Tx, &mut fits), Verdict::Forward);
    let mut big = frame(&ethernet(0x88b5, &[0; 1451]));
    assert_eq!(engine.process(NOW, Direction::Tx, &mut big), Verdict::Drop(DropReason::FrameTooBig));
}

#[test]
fn a_control_frame_inside_a_burst_takes_effect_between_its_neighbours() {
    let mut engine = engine();
    connect(&mut engine);
    let arp = ethernet(0x0806, &[0; 28]);
    let set = entry(MessageType::SetEntry, &drop_arp());
    let mut frames: Vec<_> = Vec::new();
    // More than one internal chunk, a control frame at 40, another kind of frame at both ends.
    for index in 0..80 {
        frames.push(frame(match index {
            40 => &set,
            0 | 79 => &[0; 13],
            _ => &arp,
        }));
    }
    let mut verdicts = vec![Verdict::Consumed; 80];
    assert_eq!(engine.process_burst(NOW, Direction::Rx, &mut frames, &mut verdicts), 80);
    for (index, verdict) in verdicts.iter().enumerate() {
        let want = match index {
            0 | 79 => Verdict::Drop(DropReason::FrameTooShort),
            40 => Verdict::Consumed,
            1..40 => Verdict::Forward,
            _ => Verdict::Drop(DropReason::Policy),
        };
        assert_eq!(*verdict, want, "frame {index}");
    }
    let entries: Vec<_> = engine.flows().collect();
    assert_eq!((entries[0].packets, entries[0].bytes), (38, 38 * 60));
    assert_sums(&engine);
}

#[test]
fn short_verdict_slices_limit_the_burst() {
    let mut engine = engine();
    let mut frames = [frame(&ethernet(1, &[])), frame(&ethernet(1, &[]))];
    let mut verdicts = [Verdict::Consumed];
    assert_eq!(engine.process_burst(NOW, Direction::Tx, &mut frames, &mut verdicts), 1);
    assert_eq!(engine.stats().direction(Direction::Tx).frames, 1);
}

#[test]
fn idle_entries_expire_by_the_callers_clock() {
    let mut engine = engine();
    engine.flow_mod(NOW, &FlowMod { idle_timeout: 2, ..drop_arp() }).unwrap();
    engine.tick(Instant::from_secs(1001));
    assert_eq!(engine.flow_count(), 1);
    let mut arp = frame(&ethernet(0x0806, &[0; 28]));
    let verdict = engine.process(Instant::from_secs(1001), Direction::Rx, &mut arp);
    assert_eq!(verdict, Verdict::Drop(DropReason::Policy));
    engine.tick(Instant::from_secs(1002));
    assert_eq!(engine.flow_count(), 1);
    engine.tick(Instant::from_secs(1003));
    assert_eq!((engine.flow_count(), engine.stats().expired), (0, 1));
}

#[test]
fn a_filter_on_an_out_port_deletes_nothing() {
    let mut engine = engine();
    engine.flow_mod(NOW, &drop_arp()).unwrap();
    let delete = FlowMod { command: Command::Delete, out_port: 3, ..FlowMod::default() };
    engine.flow_mod(NOW, &delete).unwrap();
    assert_eq!(engine.flow_count(), 1);
    engine.flow_mod(NOW, &FlowMod { out_port: OFPP_NONE, ..delete }).unwrap();
    assert_eq!(engine.flow_count(), 0);
}

#[derive(Default)]
struct Steps(Vec<String>);

impl Observer for Steps {
    const ENABLED: bool = true;
    fn event(&mut self, event: &Event<'_>) {
        self.0.push(match event {
            Event::Parsed { key, .. } => format!("parsed {:04x}", key.get(Field::EthType)),
            Event::Entry { priority, result, .. } => match result {
                Considered::Matched => format!("{priority} matched"),
                Considered::Shadowed => format!("{priority} shadowed"),
                Considered::Mismatch(field) => format!("{priority} differs in {}", field.name()),
            },
            Event::Action { effect, bytes, .. } => format!("{effect:?} {}", bytes.len()),
            Event::Verdict(verdict) => format!("{verdict:?}"),
            Event::Miss => "miss".into(),
            Event::Bypass => "bypass".into(),
        });
    }
}

#[test]
fn a_trace_tells_every_step_and_counts_nothing() {
    let mut engine = engine();
    let frame_bytes = ethernet(0x0806, &[0; 28]);
    let mut steps = Steps::default();
    assert_eq!(engine.trace(NOW, Direction::Tx, &mut frame(&frame_bytes), &mut steps), Verdict::Forward);
    assert_eq!(steps.0, ["bypass", "Forward"]);

    let high = Match::ANY.with(Field::EthType, 0x0800);
    engine.flow_mod(NOW, &FlowMod { matching: high, priority: 30, ..FlowMod::default() }).unwrap();
    let arp = Match::ANY.with(Field::EthType, 0x0806);
    let actions = [Action::SetVlanVid(5), Action::SetTpDst(1)];
    engine.flow_mod(NOW, &FlowMod { matching: arp, priority: 20, ..flow(&actions) }).unwrap();
    engine.flow_mod(NOW, &FlowMod { priority: 10, ..FlowMod::default() }).unwrap();
    let mut steps = Steps::default();
    let mut traced = frame(&frame_bytes);
    assert_eq!(engine.trace(NOW, Direction::Tx, &mut traced, &mut steps), Verdict::Forward);
    assert_eq!(
        steps.0,
        [
            "parsed 0806",
            "30 differs in dl_type",
            "20 matched",
            "10 shadowed",
            "Applied 64",
            "NotApplicable 64",
            "Forward"
        ]
    );
    assert!(engine.flows().all(|entry| entry.packets == 0));
    assert_eq!(engine.stats().direction(Direction::Tx).frames, 0);
}

#[test]
fn an_announcement_is_a_hello_with_the_own_address() {
    let mut engine = engine();
    engine.announce();
    assert_eq!(sent(&mut engine), [[&MAC[..], &[0x21, 0, 0, 0, 0, 0, 0xab, 0xba]].concat()]);
    assert_eq!(engine.session_state(), SessionState::Disconnected);
}
