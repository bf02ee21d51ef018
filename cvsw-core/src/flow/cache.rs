//! The exact-match cache in front of the classifier: two-way set-associative, invalidated as a whole by the
//! table's generation number.
//!
//! A look-up of an IPv4 frame touches one cache line of the processor, since the words that only IPv6 uses lie
//! apart; a second one if another key was used more recently in the same set.

use super::table::FlowId;
use crate::key::{FlowKey, NARROW_WORDS, WIDE_WORDS};
use zerocopy::FromZeros;

/// A cache from whole keys to entries. `SLOTS` is a power of two; slots `2n` and `2n + 1` are a set.
///
/// Twice as many slots as there are flows at a time let about one look-up in twenty miss; as many, one in seven.
#[derive(FromZeros)]
#[repr(C)]
pub struct FlowCache<const SLOTS: usize> {
    slots: [Slot; SLOTS],
    /// Of each slot the key's words that only IPv6 uses; meaningful if [`Slot::wide`] is set.
    wide: [[u64; WIDE_WORDS]; SLOTS],
}

/// Memory of one slot in bytes.
pub const SLOT_BYTES: usize = size_of::<Slot>() + size_of::<[u64; WIDE_WORDS]>();

#[derive(Clone, Copy, FromZeros)]
#[repr(C, align(64))]
struct Slot {
    /// Generation of the table when the slot was filled; 0 never occurs, so zeroed slots miss.
    generation: u64,
    narrow: [u64; NARROW_WORDS],
    /// Entry index plus 1; 0 remembers that no entry matches.
    entry: u32,
    /// Whether the key has words that only IPv6 uses.
    wide: u32,
    _pad: u64,
}

impl<const SLOTS: usize> FlowCache<SLOTS> {
    /// Checked when an engine with this cache is initialised.
    pub const VALID: () = assert!(SLOTS.is_power_of_two(), "the cache size must be a power of two");

    /// Reads the slots in which a key with this hash may be. The value means nothing: the point is that the processor has
    /// them in its cache then.
    #[inline]
    pub fn touch(&self, hash: u64) -> u64 {
        let first = Self::index(hash);
        let generation = |index: usize| self.slots.get(index).map_or(0, |slot| slot.generation);
        generation(first) ^ generation(first ^ 1)
    }

    /// What the table answered for `key` in this `generation`: `Some(None)` is a remembered miss. `wide`:
    /// `FlowKey::is_wide`, which whoever hashed the key knows.
    #[inline]
    pub fn get(&self, hash: u64, key: &FlowKey, wide: bool, generation: u64) -> Option<Option<FlowId>> {
        let first = Self::index(hash);
        match self.probe(first, key, wide, generation) {
            None => self.second(first ^ 1, key, wide, generation),
            found => found,
        }
    }

    /// Out of line: a set mostly answers with its more recent slot.
    #[inline(never)]
    fn second(&self, index: usize, key: &FlowKey, wide: bool, generation: u64) -> Option<Option<FlowId>> {
        self.probe(index, key, wide, generation)
    }

    /// Remembers the table's answer, in place of the less recent one of the two in the set.
    pub fn put(&mut self, hash: u64, key: &FlowKey, generation: u64, entry: Option<FlowId>) {
        let first = Self::index(hash);
        let (narrow, words) = key.split();
        let wide = u32::from(key.is_wide());
        let entry = entry.map_or(0, |id| id.0.wrapping_add(1));
        let new = Slot { generation, narrow: *narrow, entry, wide, _pad: 0 };
        let old_wide = self.slots.get(first).is_some_and(|slot| slot.wide != 0);
        replace(&mut self.slots, first, new);
        // Mostly there is nothing to keep in the other array, and its memory stays untouched.
        if old_wide || wide != 0 {
            replace(&mut self.wide, first, *words);
        }
    }

    #[inline]
    fn probe(&self, index: usize, key: &FlowKey, wide: bool, generation: u64) -> Option<Option<FlowId>> {
        let slot = self.slots.get(index)?;
        let (narrow, words) = key.split();
        let difference = narrow.iter().zip(&slot.narrow).fold(0, |difference, (a, b)| difference | (a ^ b));
        if (difference | (slot.generation ^ generation) | u64::from(slot.wide ^ u32::from(wide))) != 0
            || (wide && self.wide.get(index) != Some(words))
        {
            return None;
        }
        Some(slot.entry.checked_sub(1).map(FlowId))
    }

    /// The first slot of the set; the other one is `^ 1`.
    #[inline]
    const fn index(hash: u64) -> usize {
        (hash >> 32) as usize & SLOTS.wrapping_sub(1) & !1
    }
}

/// Puts `new` at `first` and moves what was there to the other place of the set.
fn replace<T: Copy>(places: &mut [T], first: usize, new: T) {
    let Some(old) = places.get(first).copied() else { return };
    if let Some(second) = places.get_mut(first ^ 1) {
        *second = old;
    }
    if let Some(place) = places.get_mut(first) {
        *place = new;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::key::Field;

    fn cache() -> std::boxed::Box<FlowCache<8>> {
        FlowCache::new_box_zeroed().unwrap()
    }

    fn get(cache: &FlowCache<8>, key: &FlowKey, generation: u64) -> Option<Option<FlowId>> {
        cache.get(0, key, key.is_wide(), generation)
    }

    fn key(port: u64) -> FlowKey {
        FlowKey::ZERO.with(Field::TpSrc, port)
    }

    #[test]
    fn remembers_two_keys_of_one_set_and_forgets_the_older() {
        let mut cache = cache();
        for port in 1..=3 {
            cache.put(0, &key(port), 7, Some(FlowId(port as u32)));
        }
        assert_eq!(get(&cache, &key(3), 7), Some(Some(FlowId(3))));
        assert_eq!(get(&cache, &key(2), 7), Some(Some(FlowId(2))));
        assert_eq!(get(&cache, &key(1), 7), None);
    }

    #[test]
    fn remembers_misses_and_forgets_old_generations() {
        let mut cache = cache();
        assert_eq!(get(&cache, &FlowKey::ZERO, 1), None, "zeroed slots know nothing");
        cache.put(0, &FlowKey::ZERO, 1, None);
        assert_eq!(get(&cache, &FlowKey::ZERO, 1), Some(None));
        assert_eq!(get(&cache, &FlowKey::ZERO, 2), None);
    }

    #[test]
    fn every_word_counts() {
        for field in Field::ALL {
            let mut cache = cache();
            let key = FlowKey::ZERO.with(field, 1);
            cache.put(0, &key, 1, Some(FlowId(0)));
            assert_eq!(get(&cache, &key, 1), Some(Some(FlowId(0))));
            assert_eq!(get(&cache, &FlowKey::ZERO.with(field, 2), 1), None, "{field:?}");
            assert_eq!(get(&cache, &FlowKey::ZERO, 1), None, "{field:?}");
            let mut cache = self::cache();
            cache.put(0, &FlowKey::ZERO, 1, Some(FlowId(0)));
            assert_eq!(get(&cache, &key, 1), None, "{field:?}");
        }
    }

    #[test]
    fn slot_is_a_line() {
        assert_eq!(size_of::<Slot>(), 64);
        assert_eq!(size_of::<FlowCache<1024>>(), 1024 * SLOT_BYTES);
    }
}
