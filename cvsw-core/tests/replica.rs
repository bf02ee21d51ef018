//! Several engines for one vNIC behave as one would.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use cvsw_core::{Config, Cvsw, Direction, DropReason, Frame, Instant, Verdict, flow::text::parse_flow};
use cvsw_testkit::packet::Packet;
use zerocopy::FromZeros;

type Engine = Cvsw<64, 64, 16>;

const SECOND: u64 = 1_000_000_000;

fn engine(seed: u64) -> Box<Engine> {
    let mut engine = Engine::new_box_zeroed().unwrap();
    engine.init(&Config { mac: [2, 0, 0, 0, 0, 1], hash_seed: seed, ..Config::default() });
    engine
}

fn change(first: &mut Engine, replica: &mut Engine, now: Instant, flow: &str) {
    first.gather(replica);
    first.flow_mod(now, &parse_flow(flow).unwrap()).unwrap();
    replica.follow(first);
}

fn send(engine: &mut Engine, now: Instant, port: u16) -> Verdict {
    let mut bytes = Packet::udp4([10, 0, 0, 1], 1, [10, 0, 0, 2], port, b"x").build();
    let len = bytes.len();
    let mut frame = Frame::new(&mut bytes[..], 0, len).unwrap();
    engine.process(now, Direction::Tx, &mut frame)
}

#[test]
fn a_replica_follows_every_change() {
    let (mut first, mut replica) = (engine(1), engine(2));
    replica.follow(&first);
    let dropped = Verdict::Drop(DropReason::Policy);
    assert_eq!(send(&mut replica, Instant::ZERO, 7), Verdict::Forward);
    change(&mut first, &mut replica, Instant::ZERO, "udp,tp_dst=7,actions=drop");
    for engine in [&mut first, &mut replica] {
        assert_eq!((send(engine, Instant::ZERO, 7), send(engine, Instant::ZERO, 8)), (dropped, Verdict::Forward));
    }
    for port in 10..40 {
        change(&mut first, &mut replica, Instant::ZERO, &format!("priority=9,udp,tp_dst={port},actions=drop"));
    }
    assert!((10..40).all(|port| send(&mut replica, Instant::ZERO, port) == dropped));
    first.gather(&mut replica);
    first
        .flow_mod(
            Instant::ZERO,
            &cvsw_core::flow::FlowMod { command: cvsw_core::flow::Command::Delete, ..Default::default() },
        )
        .unwrap();
    replica.follow(&first);
    assert_eq!(send(&mut replica, Instant::ZERO, 7), Verdict::Forward, "also what its cache knew is forgotten");
    assert_eq!(replica.flow_count(), 0);
}

#[test]
fn what_a_replica_counts_is_counted_once() {
    let (mut first, mut replica) = (engine(1), engine(2));
    change(&mut first, &mut replica, Instant::ZERO, "udp,actions=drop");
    for (engine, times) in [(&mut first, 3), (&mut replica, 5)] {
        assert!((0..times).all(|_| send(engine, Instant::ZERO, 7) == Verdict::Drop(DropReason::Policy)));
    }
    for _ in 0..2 {
        first.gather(&mut replica);
        assert_eq!(first.flows().next().unwrap().packets, 8);
    }
    change(&mut first, &mut replica, Instant::ZERO, "priority=3,tcp,actions=drop");
    first.gather(&mut replica);
    assert_eq!(first.flows().map(|flow| flow.packets).sum::<u64>(), 8, "a change counts nothing twice");
}

/// An entry in use on another processor is not idle, and one that is idle everywhere goes everywhere.
#[test]
fn idle_is_idle_everywhere() {
    let at = |seconds: u64| Instant::from_nanos(seconds * SECOND);
    let (mut first, mut replica) = (engine(1), engine(2));
    change(&mut first, &mut replica, at(0), "idle_timeout=5,udp,actions=drop");
    for second in 1..20 {
        assert_eq!(send(&mut replica, at(second), 7), Verdict::Drop(DropReason::Policy));
        first.gather(&mut replica);
        first.tick(at(second));
        replica.follow(&first);
    }
    assert_eq!((first.flow_count(), replica.flow_count()), (1, 1));
    first.gather(&mut replica);
    first.tick(at(30));
    replica.follow(&first);
    assert_eq!((first.flow_count(), replica.flow_count()), (0, 0));
}
