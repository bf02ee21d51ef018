//! Look-ups, many at a time.
//!
//! A look-up in a large table waits for memory: for a bucket per mask, then for an entry. So the look-ups of a burst go
//! through the masks together. For each mask all are hashed and all buckets are asked, then all entries that may match
//! are read, and only then does anything depend on what was read: the processor waits for all of it at once.

use super::{Entry, FlowId, FlowTable, Tuple, filter_bit, tuple_hash};
use crate::{
    flow::hash::{hash_masked, hash_masked_narrow},
    key::FlowKey,
};
use zerocopy::FromZeros;

/// Look-ups that wait for memory together; one bit each in a word.
const TOGETHER: usize = 32;

/// A look-up and what it has found so far.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'k> {
    key: &'k FlowKey,
    /// Hash under the mask that is being looked at.
    hash: u64,
    /// The best entry so far, index plus 1; 0: none.
    found: u32,
    /// Its priority; 0 without one.
    priority: u16,
}

/// A step of a look-up, by what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// One hash and one bucket: for each mask that may still win.
    Tuple,
    /// One entry of the bucket's chain, mostly a cache miss of the processor.
    Entry,
}

impl<'k> Lookup<'k> {
    /// The look-up of `key`, to be done.
    #[inline]
    pub const fn new(key: &'k FlowKey) -> Self {
        Self { key, hash: 0, found: 0, priority: 0 }
    }

    /// What was found.
    #[inline]
    pub fn found(&self) -> Option<FlowId> {
        self.found.checked_sub(1).map(FlowId)
    }
}

impl<P, const FLOWS: usize, const MASKS: usize> FlowTable<P, FLOWS, MASKS>
where
    P: Copy + FromZeros,
{
    /// The entry that applies to a frame with `key`.
    pub fn lookup(&self, key: &FlowKey) -> Option<FlowId> {
        self.lookup_with(key, |_| {})
    }

    /// [`FlowTable::lookup`] that tells `probed` what it costs.
    pub fn lookup_with(&self, key: &FlowKey, probed: impl FnMut(Probe)) -> Option<FlowId> {
        let mut lookup = Lookup::new(key);
        self.search(core::slice::from_mut(&mut lookup), probed);
        lookup.found()
    }

    /// Does all of `lookups`.
    pub fn lookup_all(&self, lookups: &mut [Lookup<'_>]) {
        self.search(lookups, |_| {});
    }

    #[inline]
    fn search(&self, lookups: &mut [Lookup<'_>], mut probed: impl FnMut(Probe)) {
        for lookups in lookups.chunks_mut(TOGETHER) {
            for &index in self.order.iter().take(self.tuple_count as usize) {
                let Some(tuple) = self.tuples.get(usize::from(index)) else { break };
                let (open, candidates) = if tuple.wide == 0 {
                    self.ask_buckets(lookups, tuple, index, hash_masked_narrow, &mut probed)
                } else {
                    self.ask_buckets(lookups, tuple, index, hash_masked, &mut probed)
                };
                if !open {
                    break;
                }
                self.ask_entries(lookups, candidates, tuple, index, &mut probed);
            }
        }
    }

    /// Whether the tuple may still win in any of `lookups`, and for which of them (as bits) its bucket may hold an entry.
    #[inline]
    fn ask_buckets(
        &self,
        lookups: &mut [Lookup<'_>],
        tuple: &Tuple,
        index: u16,
        hash: impl Fn(u64, &FlowKey, &FlowKey) -> u64,
        probed: &mut impl FnMut(Probe),
    ) -> (bool, u32) {
        let (mut open, mut candidates) = (false, 0u32);
        for (lookup, at) in lookups.iter_mut().zip(0u32..) {
            if lookup.priority > tuple.max_priority {
                continue;
            }
            open = true;
            probed(Probe::Tuple);
            lookup.hash = tuple_hash(hash(self.seed, lookup.key, &tuple.mask), index);
            let filter = self.buckets.get(Self::bucket_index(lookup.hash)).map_or(0, |bucket| bucket.filter);
            candidates |= u32::from(filter & filter_bit(lookup.hash) != 0).wrapping_shl(at);
        }
        (open, candidates)
    }

    /// Looks for an entry of the tuple in the buckets of `candidates`.
    #[inline]
    fn ask_entries(
        &self,
        lookups: &mut [Lookup<'_>],
        candidates: u32,
        tuple: &Tuple,
        index: u16,
        probed: &mut impl FnMut(Probe),
    ) {
        if candidates & candidates.wrapping_sub(1) != 0 {
            let mut read = 0;
            for lookup in each(candidates).filter_map(|at| lookups.get(at)) {
                read ^= self.first_in_bucket(lookup.hash).map_or(0, |entry| entry.hash);
            }
            core::hint::black_box(read);
        }
        for at in each(candidates) {
            let Some(lookup) = lookups.get_mut(at) else { continue };
            let key = lookup.key;
            let same = |value: &FlowKey| match tuple.wide {
                0 => key.matches_narrow(value, &tuple.mask),
                _ => key.matches(value, &tuple.mask),
            };
            let Some((entry, id)) = self.probe(index, lookup.hash, same, || probed(Probe::Entry)) else { continue };
            if lookup.found().and_then(|best| self.get(best)).is_none_or(|best| entry.beats(best)) {
                lookup.found = id.0.wrapping_add(1);
                lookup.priority = entry.priority;
            }
        }
    }

    #[inline]
    fn first_in_bucket(&self, hash: u64) -> Option<&Entry<P>> {
        let head = self.buckets.get(Self::bucket_index(hash))?.head;
        self.entries.get(head.checked_sub(1)? as usize)
    }
}

/// The numbers of the bits that are set.
#[inline]
fn each(mut bits: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lowest = bits.trailing_zeros();
        bits &= bits.checked_sub(1)?;
        Some(lowest as usize)
    })
}
