//! The cost model of the classifier, counted and not timed: masks looked at and entries touched per look-up.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::{
    Instant,
    flow::{FlowMod, FlowTable, Match, OfpError, table::Probe},
    key::{Field, FlowKey},
};
use zerocopy::FromZeros;

const FLOWS: usize = 16_384;
const MASKS: usize = 128;
type Table = FlowTable<u64, FLOWS, MASKS>;

/// Entries that one look-up may touch, however the keys were chosen: chains are as long as those of a random hash,
/// and of 16,384 random chains with one entry on average the longest has 7 or 8.
const LONGEST_CHAIN: usize = 12;

fn table(seed: u64) -> Box<Table> {
    let mut table = Table::new_box_zeroed().expect("memory");
    table.reset(seed);
    table
}

fn add(table: &mut Table, matching: Match, priority: u16) -> Result<(), OfpError> {
    table.add(Instant::ZERO, &FlowMod { matching, priority, ..FlowMod::default() }, &0)
}

/// Masks looked at and entries touched by one look-up, and whether there was an entry.
fn cost(table: &Table, key: &FlowKey) -> (usize, usize, bool) {
    let (mut tuples, mut entries) = (0, 0);
    let found = table.lookup_with(key, |probe| match probe {
        Probe::Tuple => tuples += 1,
        Probe::Entry => entries += 1,
    });
    (tuples, entries, found.is_some())
}

/// Flow `number`, under one of `masks` masks: its port, and the first bits of an address that all share.
fn spread(number: u64, masks: u64) -> Match {
    let mask = u64::from(u32::MAX) << (number % masks) & u64::from(u32::MAX);
    Match::ANY.with(Field::TpSrc, number).with_masked(Field::NwDst, 0x0a00_0002, mask)
}

fn frame(port: u64) -> FlowKey {
    FlowKey::ZERO.with(Field::TpSrc, port).with(Field::NwDst, 0x0a00_0002)
}

#[test]
fn cost_grows_with_masks_not_with_flows() {
    for flows in [100, 1000, 10_000] {
        let mut table = table(1);
        (0..flows).for_each(|number| add(&mut table, spread(number, 20), 1).expect("room"));
        let mut touched = 0;
        for port in 0..flows {
            let (tuples, entries, found) = cost(&table, &frame(port));
            assert!(found && tuples <= 20 && entries <= LONGEST_CHAIN, "{port}: {tuples} masks, {entries} entries");
            touched += entries;
        }
        // One entry to find. A third of an entry more is before it in its chain; half of one more is in the chains
        // of the other 19 masks, from which the buckets' filters keep nearly all probes away.
        assert!(touched as u64 <= flows * 2, "{flows} flows: {touched} entries touched");
        // A frame without an entry mostly touches none.
        let idle: usize = (flows..2 * flows).map(|port| cost(&table, &frame(port)).1).sum();
        assert!((idle as u64) < flows, "{flows} flows: {idle} entries touched in vain");
    }
}

#[test]
fn a_match_ends_the_search_before_masks_of_lower_priority() {
    let mut table = table(2);
    for number in 0..20u64 {
        add(&mut table, spread(number, 20), 100 - number as u16).expect("room");
    }
    for port in 0..20 {
        assert_eq!(cost(&table, &frame(port)).0 as u64, port + 1, "only the masks before its own");
    }
}

#[test]
fn masks_are_bounded() {
    let mut table = table(3);
    let one_more = |number: u64| Match::ANY.with_masked(Field::EthSrc, 0, number + 1);
    for number in 0..MASKS as u64 {
        add(&mut table, one_more(number), 1).expect("room");
    }
    assert_eq!(add(&mut table, one_more(MASKS as u64), 1), Err(OfpError::TableFull));
    assert_eq!(cost(&table, &frame(0).with(Field::EthSrc, u64::MAX)), (MASKS, 0, false));
}

/// Keys that a sender (or a careless controller) might choose: structured, equal in all but a few bits, and such
/// that one factor of the hash's products would be zero if it depended on nothing secret.
#[test]
fn chosen_keys_fall_into_no_common_bucket() {
    const PUBLIC_CONSTANT: u64 = 0x9e37_79b9_7f4a_7c15;
    let exact = Field::ALL.into_iter().fold(Match::ANY, |matching, field| matching.with(field, 0));
    let patterns: [fn(u64) -> FlowKey; 6] = [
        |number| FlowKey::ZERO.with(Field::TpDst, number),
        |number| FlowKey::ZERO.with(Field::NwSrc, number << 18),
        |number| FlowKey::ZERO.with(Field::EthDst, number << 34).with(Field::EthSrc, number << 34),
        |number| FlowKey::ZERO.with(Field::Ipv6SrcHi, number << 50).with(Field::Ipv6DstLo, number),
        |number| {
            FlowKey::ZERO
                .with(Field::EthSrc, PUBLIC_CONSTANT >> 16)
                .with(Field::EthType, PUBLIC_CONSTANT)
                .with(Field::EthDst, number)
        },
        |number| FlowKey::ZERO.with(Field::NwSrc, number).with(Field::NwDst, !number),
    ];
    for (index, pattern) in patterns.into_iter().enumerate() {
        for seed in [0x0123_4567_89ab_cdef, 0xfeed_beef_dead_f00d] {
            let mut table = table(seed);
            for number in 0..FLOWS as u64 {
                add(&mut table, Match::new(pattern(number), *exact.mask()), 1).expect("room");
            }
            let longest = (0..FLOWS as u64).map(|number| cost(&table, &pattern(number)).1).max();
            assert!(longest <= Some(LONGEST_CHAIN), "pattern {index}: a chain of {longest:?}");
        }
    }
}
