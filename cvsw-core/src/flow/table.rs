//! The flow table: a tuple-space classifier with fixed capacity.
//!
//! Entries with the same mask form a *tuple*. A look-up (`search`) visits tuples in order of their highest priority,
//! does one hash probe in each, and stops as soon as no later tuple can win. So its cost grows with the number of
//! distinct masks, not of entries; inserting and removing one entry touches one hash chain and never rebuilds
//! anything.
//!
//! All tuples share one array of hash buckets (`FLOWS` of them, so chains hold one entry on average). A bucket
//! carries a 32-bit filter of the hashes in its chain: a probe that finds nothing mostly ends there, without
//! touching an entry.
//!
//! Of several matching entries the one with the highest priority wins; among equals (undefined in OpenFlow)
//! the one that was added first.

mod change;
mod replica;
mod search;
mod timeout;

use super::matching::Match;
use crate::{key::FlowKey, time::Instant};
use zerocopy::FromZeros;

pub use search::{Lookup, Probe};
pub use timeout::RemovalReason;

/// Index of an entry; valid as long as the entry is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromZeros)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(transparent)]
pub struct FlowId(pub(crate) u32);

impl FlowId {
    #[inline]
    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The table. `P` is what an entry carries beside its OpenFlow attributes (the compiled actions).
#[derive(FromZeros)]
#[repr(C)]
pub struct FlowTable<P, const FLOWS: usize, const MASKS: usize> {
    entries: [Entry<P>; FLOWS],
    buckets: [Bucket; FLOWS],
    tuples: [Tuple; MASKS],
    /// Indices into `tuples`, by descending `max_priority`; the first `tuple_count` are in use.
    order: [u16; MASKS],
    /// For each entry the second (of the caller's clock) at which its timeouts must be looked at; 0: never.
    deadlines: [u32; FLOWS],
    tuple_count: u32,
    /// Entries in use.
    count: u32,
    /// Entries that were ever in use: those behind are untouched memory.
    touched: u32,
    /// First free entry below `touched`, index plus 1; 0: none.
    free: u32,
    /// Entries that have a timeout.
    timed: u32,
    _pad: u32,
    generation: u64,
    sequence: u64,
    seed: u64,
}

/// A table entry, in whole cache lines of the processor: what a cache hit touches comes first (the counters
/// and the front of the payload), then the actions' rest, then what a probe compares.
#[derive(Clone, Copy, Debug, FromZeros)]
#[repr(C, align(64))]
pub struct Entry<P> {
    /// Frames that the entry was applied to.
    pub packets: u64,
    /// Bytes of those frames, before the actions.
    pub bytes: u64,
    /// When a frame last used the entry (or when it was added).
    pub last_used: Instant,
    /// What the entry carries.
    pub payload: P,
    /// When it was added.
    pub created: Instant,
    hash: u64,
    /// Next entry in the chain (or in the free list), index plus 1; 0: last.
    next: u32,
    tuple: u16,
    /// OpenFlow priority.
    pub priority: u16,
    value: FlowKey,
    /// The controller's cookie.
    pub cookie: u64,
    /// Number of the insertion: earlier entries win among equal priorities.
    sequence: u64,
    /// Seconds; 0: none.
    pub idle_timeout: u16,
    /// Seconds; 0: none.
    pub hard_timeout: u16,
    /// `OFPFF_*` bits.
    pub flags: u16,
    in_use: u16,
}

#[derive(Clone, Copy, FromZeros)]
#[repr(C)]
struct Bucket {
    /// First entry of the chain, index plus 1; 0: empty.
    head: u32,
    /// One bit for each entry of the chain, chosen by its hash.
    filter: u32,
}

#[derive(Clone, Copy, FromZeros)]
#[repr(C)]
struct Tuple {
    mask: FlowKey,
    /// Entries with this mask.
    count: u32,
    /// No entry of the tuple has a higher priority (one may have been removed: it is an upper bound).
    max_priority: u16,
    /// 1 if the mask has words that only IPv6 uses.
    wide: u16,
}

impl<P, const FLOWS: usize, const MASKS: usize> FlowTable<P, FLOWS, MASKS>
where
    P: Copy + FromZeros,
{
    /// Checked when a table of this size is reset for the first time.
    pub const VALID: () = assert!(
        FLOWS.is_power_of_two() && FLOWS <= 1 << 20 && MASKS >= 1 && MASKS <= u16::MAX as usize,
        "FLOWS must be a power of two up to 2^20, MASKS between 1 and 65535"
    );

    /// Memory per entry in bytes: the entry, its bucket and its deadline.
    pub const FLOW_BYTES: usize = size_of::<Entry<P>>() + size_of::<Bucket>() + size_of::<u32>();

    /// Empties the table and keys its hash.
    pub fn reset(&mut self, seed: u64) {
        let () = Self::VALID;
        let generation = self.generation;
        self.zero();
        self.seed = seed;
        self.generation = generation.wrapping_add(1);
    }

    /// Number of entries.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no entry.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of distinct masks in use.
    pub const fn masks(&self) -> usize {
        self.tuple_count as usize
    }

    /// Changes with every change of the table; never 0 after [`FlowTable::reset`].
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The entry with this id.
    #[inline]
    pub fn get(&self, id: FlowId) -> Option<&Entry<P>> {
        self.entries.get(id.index()).filter(|entry| entry.in_use != 0)
    }

    /// Reads the front of an entry. The value means nothing: the point is that the processor has it in its cache then.
    #[inline]
    pub fn touch(&self, id: FlowId) -> u64 {
        self.entries.get(id.index()).map_or(0, |entry| entry.packets)
    }

    /// What the entry carries.
    #[inline]
    pub fn payload(&self, id: FlowId) -> Option<&P> {
        self.entries.get(id.index()).map(|entry| &entry.payload)
    }

    /// Counts one frame of `bytes` bytes for the entry.
    #[inline]
    pub fn hit(&mut self, id: FlowId, now: Instant, bytes: usize) {
        if let Some(entry) = self.entries.get_mut(id.index()) {
            entry.packets = entry.packets.wrapping_add(1);
            entry.bytes = entry.bytes.wrapping_add(bytes as u64);
            entry.last_used = now;
        }
    }

    /// Every entry, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &Entry<P>)> {
        self.entries
            .iter()
            .zip(0u32..)
            .take(self.touched as usize)
            .filter(|(entry, _)| entry.in_use != 0)
            .map(|(entry, index)| (FlowId(index), entry))
    }

    /// The first entry at or behind index `from`: for listings that go on later.
    pub fn next_from(&self, from: u32) -> Option<(FlowId, &Entry<P>)> {
        self.entries
            .get(from as usize..self.touched as usize)?
            .iter()
            .zip(from..)
            .find(|(entry, _)| entry.in_use != 0)
            .map(|(entry, index)| (FlowId(index), entry))
    }

    /// The entry's match.
    pub fn matching(&self, entry: &Entry<P>) -> Match {
        self.tuples.get(usize::from(entry.tuple)).map_or(Match::ANY, |tuple| Match::new(entry.value, tuple.mask))
    }

    /// First entry of tuple `index` in the chain of `hash` whose value satisfies `same`.
    #[inline]
    fn probe(
        &self,
        index: u16,
        hash: u64,
        same: impl Fn(&FlowKey) -> bool,
        mut touched: impl FnMut(),
    ) -> Option<(&Entry<P>, FlowId)> {
        let bucket = self.buckets.get(Self::bucket_index(hash))?;
        if bucket.filter & filter_bit(hash) == 0 {
            return None;
        }
        let mut link = bucket.head;
        while let Some(position) = link.checked_sub(1) {
            let entry = self.entries.get(position as usize)?;
            touched();
            if entry.hash == hash && entry.tuple == index && same(&entry.value) {
                return Some((entry, FlowId(position)));
            }
            link = entry.next;
        }
        None
    }

    #[inline]
    const fn bucket_index(hash: u64) -> usize {
        hash as usize & FLOWS.wrapping_sub(1)
    }
}

impl<P> Entry<P> {
    /// Whether this entry goes before `other` if both match.
    const fn beats(&self, other: &Self) -> bool {
        self.priority > other.priority || (self.priority == other.priority && self.sequence < other.sequence)
    }

    /// Order of evaluation: ascending in this key is the order in which entries are considered.
    pub(crate) const fn rank(&self) -> (core::cmp::Reverse<u16>, u64) {
        (core::cmp::Reverse(self.priority), self.sequence)
    }
}

/// Tuples share buckets: the tuple's number makes equal masked keys of two tuples differ.
#[inline]
const fn tuple_hash(hash: u64, tuple: u16) -> u64 {
    hash ^ (tuple as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline]
const fn filter_bit(hash: u64) -> u32 {
    1 << (hash >> 59)
}
