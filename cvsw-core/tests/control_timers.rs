//! The controller's session of version 3 and its timer, over a channel that takes its time: what is repeated, and how
//! often, against a clock that only this test moves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{cmp::Reverse, collections::BinaryHeap};

use cvsw_core::{
    Config, Cvsw, Frame, Instant,
    control::{
        ETHERTYPE, MAX_FRAME_LEN,
        v3::{ControlKeys, ControllerSession, Event, Kind, Message, Outgoing, Request, RoundTrip, Subject, hello},
    },
    crypto::Portable,
    flow::Direction,
};
use proptest::prelude::*;
use zerocopy::FromZeros;

type Engine = Cvsw<4, 16, 4, 4>;

const MS: u64 = 1_000_000;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// What an answer is waited for at least.
const TIMEOUT: u64 = 1000 * MS;
/// Pause between two looks of the controller.
const TICK: u64 = 100 * MS;

/// A channel, the same both ways.
#[derive(Clone, Copy, Debug)]
struct Channel {
    /// What it takes, in nanoseconds.
    delay: u64,
    /// What it takes more, at most: messages may overtake each other.
    jitter: u64,
    /// Of so many messages one is lost; 0: none.
    loss: u64,
}

/// A frame: when it arrives, a number that keeps their order, whether it is for the vNIC, and its bytes.
type UnderWay = (u64, u64, bool, Vec<u8>);

/// A session, a vNIC, and what is between them.
struct Pair {
    now: u64,
    session: ControllerSession<16>,
    engine: Box<Engine>,
    channel: Channel,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    random: u64,
    number: u64,
    lost: u64,
    answered: u64,
}

impl Pair {
    /// They have met already.
    fn new(seed: u64) -> Self {
        let keys = ControlKeys::derive(&[3; 16]);
        let mut engine = Engine::new_box_zeroed().unwrap();
        engine.init(&Config { mac: MAC, ..Config::default() });
        engine.enable_version_3(77, keys.clone());
        let mut pair = Self {
            now: 0,
            session: ControllerSession::new(keys, 5, TIMEOUT),
            engine,
            channel: Channel { delay: 0, jitter: 0, loss: 0 },
            under_way: BinaryHeap::new(),
            random: seed,
            number: 0,
            lost: 0,
            answered: 0,
        };
        let mut frame = [0; MAX_FRAME_LEN];
        let len = hello(ETHERTYPE, [0xff; 6], 5, 9, &mut frame).unwrap();
        pair.reach_vnic(&frame[..len]);
        let Reverse((.., register)) = pair.under_way.pop().unwrap();
        pair.session.register(&Message::parse(&register).unwrap(), 9).unwrap();
        pair
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if below == 0 { 0 } else { (self.random >> 33) % below }
    }

    fn put(&mut self, to_vnic: bool, frame: &[u8]) {
        if self.channel.loss > 0 && self.random(self.channel.loss) == 0 {
            self.lost += 1;
            return;
        }
        let arrives = self.now + self.channel.delay + self.random(self.channel.jitter);
        self.number += 1;
        self.under_way.push(Reverse((arrives, self.number, to_vnic, frame.to_vec())));
    }

    fn reach_vnic(&mut self, frame: &[u8]) {
        let mut bytes = frame.to_vec();
        let mut held = Frame::new(&mut bytes[..], 0, frame.len()).unwrap();
        let now = Instant::from_nanos(self.now);
        let _ = self.engine.process_with(&mut Portable::<4>::new(), now, Direction::Rx, &mut held);
        while self.engine.poll_event().is_some() {}
        let mut out = [0; MAX_FRAME_LEN];
        while let Some(len) = self.engine.poll_transmit(&mut out) {
            let frame = out[..len].to_vec();
            self.put(false, &frame);
        }
    }

    fn reach_controller(&mut self, frame: &[u8]) {
        let now = Instant::from_nanos(self.now);
        match self.session.receive(now, &Message::parse(frame).unwrap()).unwrap() {
            Event::Answered { answer, .. } => {
                assert_eq!(answer.refusal, None);
                self.answered += 1;
            }
            Event::State(_) => self.answered += 1,
            _ => {}
        }
    }

    /// Sends what is to be sent: `commands` more commands, as far as there is room.
    fn send(&mut self, commands: &mut u64) {
        let now = Instant::from_nanos(self.now);
        while *commands > 0 && self.session.submit(1000 + *commands as u32, false).is_some() {
            *commands -= 1;
        }
        while let Some(outgoing) = self.session.poll(now) {
            let mut frame = [0; MAX_FRAME_LEN];
            let (header, payload) = match outgoing {
                Outgoing::Command { sequence, token, chained } => {
                    (self.session.header(MAC, Kind::SetMtu, sequence, chained, token as u16 % 500 + 600), [0; 8])
                }
                Outgoing::Request { sequence, request } => {
                    (self.session.header(MAC, Kind::Get, sequence, false, 0), request.to_bytes())
                }
            };
            let payload = if header.kind == Kind::Get { &payload[..] } else { &[] };
            let len = header.emit_bytes(ETHERTYPE, self.session.keys(), &mut frame, payload).unwrap();
            let frame = frame[..len].to_vec();
            self.put(true, &frame);
        }
    }

    /// Has so many commands carried out, and asks for the state. Returns what that took; `None`: more than `limit`.
    fn run(&mut self, channel: Channel, commands: u64, limit: u64) -> Option<u64> {
        self.channel = channel;
        let wanted = self.answered + commands + 1;
        self.session.ask(Request { subject: Subject::State, from: 0 });
        let took = self.finish(commands, limit);
        assert!(took.is_none() || self.answered == wanted, "each is answered once");
        took
    }

    /// Goes on until everything is answered, with so many more commands.
    fn finish(&mut self, mut commands: u64, limit: u64) -> Option<u64> {
        let start = self.now;
        while commands > 0 || !self.session.is_idle() {
            if self.now - start > limit {
                return None;
            }
            self.send(&mut commands);
            let tick = (self.now / TICK + 1) * TICK;
            match self.under_way.peek() {
                Some(Reverse((arrives, ..))) if *arrives <= tick => {
                    let Reverse((arrives, _, to_vnic, frame)) = self.under_way.pop().unwrap();
                    self.now = self.now.max(arrives);
                    if to_vnic { self.reach_vnic(&frame) } else { self.reach_controller(&frame) }
                }
                _ => self.now = tick,
            }
        }
        Some(self.now - start)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// However slow a channel is that loses nothing, and however it changes: few messages are sent twice.
    #[test]
    fn slowness_is_not_loss(
        channels in prop::collection::vec((1..8_000u64, 0..500u64), 1..5),
        commands in 1..120u64,
        seed: u64,
    ) {
        let mut pair = Pair::new(seed);
        for (delay, jitter) in channels {
            let before = pair.session.repeated();
            let channel = Channel { delay: delay * MS, jitter: jitter * MS, loss: 0 };
            let jitter = jitter * MS;
            // Where a message was overtaken the vNIC lacks it: all behind it are sent again.
            let gaps = if jitter == 0 { 0 } else { 16 * (2 + commands) };
            prop_assert!(pair.run(channel, commands, 10_000_000 * MS).is_some());
            // The oldest, after 1, 2, 4, 8 and 16 times the timeout; the request, the same; and the newest, after each.
            let repeated = pair.session.repeated() - before;
            prop_assert!(repeated <= 16 + gaps, "{repeated} of {commands} at {channel:?}");
        }
    }

    /// Whatever is lost and overtaken, everything is carried out once, and it costs a bounded number of messages.
    #[test]
    fn losses_are_made_good(delay in 0..300u64, jitter in 0..100u64, loss in 2..30u64, commands in 1..120u64, seed: u64) {
        let mut pair = Pair::new(seed);
        let channel = Channel { delay: delay * MS, jitter: jitter * MS, loss };
        let took = pair.run(channel, commands, 5_000_000 * MS);
        prop_assert!(took.is_some(), "{} answered, {:?}", pair.answered, pair.session);
        let status = pair.engine.control_status();
        prop_assert_eq!(status.executed, commands);
        // Each loss, and each that was overtaken, may cause all of a window to be sent once more.
        let repeated = pair.session.repeated();
        prop_assert!(repeated <= 16 * (pair.lost + commands + 4), "{repeated}, {} lost", pair.lost);
    }
}

/// A channel that was fast and becomes slow: the oldest and the newest are repeated, and no other.
#[test]
fn a_window_that_comes_late_costs_two_messages() {
    let mut pair = Pair::new(1);
    pair.run(Channel { delay: MS, jitter: 0, loss: 0 }, 30, 10_000 * MS).unwrap();
    assert_eq!(pair.session.repeated(), 0);
    pair.run(Channel { delay: 700 * MS, jitter: 0, loss: 0 }, 16, 20_000 * MS).unwrap();
    assert!((1..=3).contains(&pair.session.repeated()), "{}", pair.session.repeated());
    let before = pair.session.repeated();
    assert!(pair.session.round_trip().smoothed().unwrap() > 100 * MS);
    pair.run(Channel { delay: 700 * MS, jitter: 0, loss: 0 }, 160, 60_000 * MS).unwrap();
    assert_eq!(pair.session.repeated(), before, "it has been learned");
}

/// A window full that is lost is made good by one pause and two round trips.
#[test]
fn a_window_that_is_lost_comes_soon() {
    let mut pair = Pair::new(1);
    let good = Channel { delay: 5 * MS, jitter: 0, loss: 0 };
    pair.run(good, 10, 10_000 * MS).unwrap();
    pair.channel.loss = 1;
    let mut commands = 16;
    pair.send(&mut commands);
    assert_eq!((commands, pair.lost), (0, 16));
    assert_eq!(pair.session.in_flight(Instant::from_nanos(pair.now), 1), 16);
    pair.channel = good;
    let took = pair.finish(0, 10_000 * MS).unwrap();
    assert!(took <= TIMEOUT + TICK + 2 * 3 * 5 * MS, "{took}");
    assert!(pair.session.repeated() <= 2 * 16, "{}", pair.session.repeated());
}

/// RFC 6298, by hand.
#[test]
fn the_timer_follows_what_is_measured() {
    let mut timer = RoundTrip::new(100);
    assert_eq!((timer.timeout(), timer.smoothed()), (100, None));
    timer.measured(800);
    assert_eq!((timer.smoothed(), timer.timeout()), (Some(800), 800 + 4 * 400));
    timer.measured(1600);
    // RTTVAR = 3/4 * 400 + 1/4 * 800, SRTT = 7/8 * 800 + 1/8 * 1600.
    assert_eq!((timer.smoothed(), timer.timeout()), (Some(900), 900 + 4 * 500));
    timer.expired();
    timer.expired();
    assert_eq!(timer.timeout(), 4 * 2900);
    (0..20).for_each(|_| timer.expired());
    assert_eq!(timer.timeout(), 64 * 2900);
    timer.heard();
    assert_eq!((timer.timeout(), timer.is_late()), (2900, true));
    timer.measured(900);
    assert!(!timer.is_late());
    timer.measured(u64::MAX);
    assert_eq!(timer.timeout(), 60_000 * MS, "whoever it is that takes so long");
    timer.expired();
    assert_eq!(timer.timeout(), 60_000 * MS, "nor does the pause grow beyond");
    (0..2000).for_each(|_| timer.measured(8));
    assert_eq!(timer.timeout(), 100, "never shorter than this");
}
