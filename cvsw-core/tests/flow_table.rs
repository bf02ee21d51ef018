//! The flow table against the naive model: random operation sequences over a small universe of fields, so that
//! identical, containing and overlapping matches occur often.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::{
    Instant,
    flow::{Action, ActionList, Command, FlowMod, FlowTable, Match, OFPP_NONE, OfpError, RemovalReason},
    key::{Field, FlowKey},
};
use cvsw_testkit::model::{Model, apply_to_table, compare, payload_of};
use proptest::prelude::*;
use zerocopy::FromZeros;

const FLOWS: usize = 32;
const MASKS: usize = 6;
type Table = FlowTable<u64, FLOWS, MASKS>;

fn table(seed: u64) -> Box<Table> {
    let mut table = Table::new_box_zeroed().expect("memory");
    table.reset(seed);
    table
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a few dozen at a time")]
enum Step {
    Change(FlowMod),
    Frame(FlowKey, u64),
    Wait(u64),
}

fn key() -> impl Strategy<Value = FlowKey> {
    (1u64..3, 0u64..3, 0u64..3, 0u64..4).prop_map(|(port, src, dst, tp)| {
        FlowKey::ZERO
            .with(Field::InPort, port)
            .with(Field::NwSrc, src)
            .with(Field::Ipv6DstLo, dst)
            .with(Field::TpDst, tp)
    })
}

fn matching() -> impl Strategy<Value = Match> {
    let bits = prop_oneof![Just(0u64), Just(u64::MAX)];
    (key(), bits.clone(), bits.clone(), bits, prop_oneof![Just(0u64), Just(2), Just(3)]).prop_map(
        |(key, port, src, dst, tp)| {
            Match::ANY
                .with_masked(Field::InPort, key.get(Field::InPort), port & Field::InPort.max())
                .with_masked(Field::NwSrc, key.get(Field::NwSrc), src & Field::NwSrc.max())
                .with_masked(Field::Ipv6DstLo, key.get(Field::Ipv6DstLo), dst)
                .with_masked(Field::TpDst, key.get(Field::TpDst), tp)
        },
    )
}

fn change() -> impl Strategy<Value = FlowMod> {
    let command = prop_oneof![
        6 => Just(Command::Add),
        2 => Just(Command::Modify),
        2 => Just(Command::ModifyStrict),
        1 => Just(Command::Delete),
        3 => Just(Command::DeleteStrict),
    ];
    let out_port = prop_oneof![9 => Just(OFPP_NONE), 1 => Just(1u16)];
    let numbers = (0u16..4, 0u64..9, 0u16..3, 0u16..3, 0u16..8, 0u16..999);
    (matching(), command, numbers, out_port).prop_map(|(matching, command, numbers, out_port)| {
        let (priority, cookie, idle_timeout, hard_timeout, flags, action) = numbers;
        FlowMod {
            matching,
            cookie,
            command,
            idle_timeout,
            hard_timeout,
            priority,
            out_port,
            flags: if flags == 7 { 2 } else { flags & 1 },
            actions: ActionList::from_slice(&[Action::SetTpDst(action)]).unwrap(),
        }
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => change().prop_map(Step::Change),
        5 => (key(), 60u64..1500).prop_map(|(key, len)| Step::Frame(key, len)),
        1 => (0u64..1_500_000_000).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_model(seed: u64, steps in steps()) {
        let mut real = table(seed);
        let mut model = Model::new(FLOWS, MASKS);
        let mut now = Instant::from_secs(100);
        for step in steps {
            match step {
                Step::Change(change) => {
                    let got = apply_to_table(&mut real, now, &change);
                    prop_assert_eq!(got, model.apply(now, &change), "{:?}", change);
                }
                Step::Frame(key, bytes) => {
                    let got = real.lookup(&key);
                    let payload = got.and_then(|id| real.get(id)).map(|entry| entry.payload);
                    let want = model.lookup(&key).map(|entry| payload_of(&entry.flow.actions));
                    prop_assert_eq!(payload, want);
                    if let Some(id) = got {
                        real.hit(id, now, bytes as usize);
                    }
                    model.hit(&key, now, bytes);
                }
                Step::Wait(nanos) => {
                    now = Instant::from_nanos(now.as_nanos() + nanos);
                    real.expire(now, |_, _, _| {});
                    model.expire(now);
                }
            }
            if let Err(difference) = compare(&real, &model) {
                return Err(TestCaseError::fail(difference));
            }
        }
    }
}

#[test]
fn a_full_table_refuses_and_changes_nothing() {
    let mut real = table(7);
    let flow = |number: u64| FlowMod { matching: Match::ANY.with(Field::NwSrc, number), ..FlowMod::default() };
    for number in 0..FLOWS as u64 {
        assert_eq!(real.add(Instant::ZERO, &flow(number), &number), Ok(()));
    }
    let generation = real.generation();
    assert_eq!(real.add(Instant::ZERO, &flow(1000), &0), Err(OfpError::TableFull));
    assert_eq!((real.len(), real.generation()), (FLOWS, generation));
    // Replacing still works, and a deleted entry's room can be used again.
    assert_eq!(real.add(Instant::ZERO, &flow(3), &99), Ok(()));
    real.delete_strict(&flow(4), |_, _| {});
    assert_eq!(real.add(Instant::ZERO, &flow(1000), &5), Ok(()));
    let id = real.lookup(&FlowKey::ZERO.with(Field::NwSrc, 1000)).unwrap();
    assert_eq!(real.get(id).unwrap().payload, 5);
    assert!(real.lookup(&FlowKey::ZERO.with(Field::NwSrc, 4)).is_none());
}

#[test]
fn one_mask_too_many_is_refused() {
    let mut real = table(7);
    let flow = |bits: u32| FlowMod {
        matching: Match::ANY.with_masked(Field::NwSrc, 0, (1 << bits) - 1),
        ..FlowMod::default()
    };
    for bits in 1..=MASKS as u32 {
        assert_eq!(real.add(Instant::ZERO, &flow(bits), &0), Ok(()));
    }
    assert_eq!(real.add(Instant::ZERO, &flow(20), &0), Err(OfpError::TableFull));
    assert_eq!((real.len(), real.masks()), (MASKS, MASKS));
    real.delete_strict(&flow(1), |_, _| {});
    assert_eq!(real.masks(), MASKS - 1);
    assert_eq!(real.add(Instant::ZERO, &flow(20), &0), Ok(()));
}

#[test]
fn timeouts_end_at_the_second() {
    let mut real = table(1);
    let at = |nanos: u64| Instant::from_nanos(5_500_000_000 + nanos);
    let flow = FlowMod { hard_timeout: 2, idle_timeout: 1, ..FlowMod::default() };
    real.add(at(0), &flow, &0).unwrap();
    let id = real.lookup(&FlowKey::ZERO).unwrap();
    real.hit(id, at(900_000_000), 1);
    let mut reasons = Vec::new();
    real.expire(at(1_899_999_999), |_, _, reason| reasons.push(reason));
    assert!(reasons.is_empty() && real.len() == 1);
    real.hit(id, at(1_899_999_999), 1);
    real.expire(at(1_999_999_999), |_, _, reason| reasons.push(reason));
    assert!(reasons.is_empty());
    real.expire(at(2_000_000_000), |_, _, reason| reasons.push(reason));
    assert_eq!(reasons, [RemovalReason::HardTimeout]);
    assert!(real.is_empty());
}
