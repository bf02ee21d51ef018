//! The exact-match cache in front of the classifier: direct-mapped, one probe, invalidated as a whole by the
//! table's generation number.

use super::table::FlowId;
use crate::key::FlowKey;
use zerocopy::FromZeros;

/// A direct-mapped cache from whole keys to entries. `SLOTS` is a power of two.
#[derive(FromZeros)]
#[repr(C)]
pub struct FlowCache<const SLOTS: usize> {
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy, FromZeros)]
#[repr(C)]
struct Slot {
    /// Generation of the table when the slot was filled; 0 never occurs, so zeroed slots miss.
    generation: u64,
    key: FlowKey,
    /// Entry index plus 1; 0 remembers that no entry matches.
    entry: u32,
    _pad: u32,
}

impl<const SLOTS: usize> FlowCache<SLOTS> {
    /// Checked when an engine with this cache is initialised.
    pub const VALID: () = assert!(SLOTS.is_power_of_two(), "the cache size must be a power of two");

    /// What the table answered for `key` in this `generation`: `Some(None)` is a remembered miss.
    #[inline]
    pub fn get(&self, hash: u64, key: &FlowKey, generation: u64) -> Option<Option<FlowId>> {
        let slot = self.slots.get(Self::index(hash))?;
        (slot.generation == generation && slot.key == *key).then(|| slot.entry.checked_sub(1).map(FlowId))
    }

    /// Remembers the table's answer, in place of whatever shared the slot.
    #[inline]
    pub fn put(&mut self, hash: u64, key: &FlowKey, generation: u64, entry: Option<FlowId>) {
        if let Some(slot) = self.slots.get_mut(Self::index(hash)) {
            *slot = Slot { generation, key: *key, entry: entry.map_or(0, |id| id.0.wrapping_add(1)), _pad: 0 };
        }
    }

    #[inline]
    const fn index(hash: u64) -> usize {
        (hash >> 32) as usize & SLOTS.wrapping_sub(1)
    }
}
