//! The anti-replay window (RFC 4303 section 3.4.3), with 64-bit sequence numbers inside.

use zerocopy::{FromZeros, Immutable, KnownLayout};

/// Sequence numbers that a window spans unless told otherwise.
pub const DEFAULT_WINDOW: u16 = 1024;
/// Smallest window (RFC 4303 section 3.4.3).
pub const MIN_WINDOW: u16 = 32;
/// Largest window.
pub const MAX_WINDOW: u16 = 2048;

const BLOCK_BITS: u64 = 64;
/// One block more than the largest window has, so that the block of the newest number can be cleared as a whole
/// when it is first entered (the ring of RFC 6479).
const BLOCKS: u64 = MAX_WINDOW as u64 / BLOCK_BITS + 1;

/// Which sequence numbers have been seen. All-zero memory is a window that takes nothing; see [`ReplayWindow::new`].
#[derive(Clone, Debug, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReplayWindow {
    /// The highest number seen, 0 at first.
    highest: u64,
    /// Numbers that the window spans, `highest` included.
    size: u64,
    /// A ring: the bit of a number is found by its value, not by its distance from `highest`.
    blocks: [u64; BLOCKS as usize],
}

impl ReplayWindow {
    /// A window of `size` numbers, in which everything up to `last` counts as seen. `None` unless `size` is from
    /// [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub fn new(size: u16, last: u64) -> Option<Self> {
        if !(MIN_WINDOW..=MAX_WINDOW).contains(&size) {
            return None;
        }
        let mut this = Self { highest: last, size: size.into(), blocks: [u64::MAX; BLOCKS as usize] };
        let (block, bit) = place(last);
        if let Some(word) = this.blocks.get_mut(block) {
            // Of its own block, only the numbers up to `last`.
            *word = bit | bit.wrapping_sub(1);
        }
        Some(this)
    }

    /// The highest number accepted so far; 0: none.
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// Numbers that the window spans.
    pub const fn size(&self) -> u16 {
        self.size as u16
    }

    /// Whether `sequence` is new: right of the window, or inside it and not yet seen. 0 is never sent.
    pub fn is_fresh(&self, sequence: u64) -> bool {
        let (block, bit) = place(sequence);
        is_inside(self.highest, self.size, sequence)
            && (sequence > self.highest || self.blocks.get(block).is_some_and(|word| word & bit == 0))
    }

    /// Marks `sequence`, which is fresh and whose packet was found authentic, as seen.
    pub fn accept(&mut self, sequence: u64) {
        if sequence > self.highest {
            let old = self.highest / BLOCK_BITS;
            let entered = (sequence / BLOCK_BITS).wrapping_sub(old).min(BLOCKS);
            for block in 1..=entered {
                let index = old.wrapping_add(block) % BLOCKS;
                if let Some(word) = self.blocks.get_mut(index as usize) {
                    *word = 0;
                }
            }
            self.highest = sequence;
        }
        let (block, bit) = place(sequence);
        if let Some(word) = self.blocks.get_mut(block) {
            *word |= bit;
        }
    }

    /// The extended sequence number of which a packet carries the `low` half: the one nearest to the window
    /// (RFC 4303 appendix A2.2). `None` if that would lie before the first or behind the last number there is.
    pub fn extend(&self, low: u32) -> Option<u64> {
        extend(self.highest, self.size, low)
    }
}

/// [`ReplayWindow::extend`], for a window of `size` numbers up to `highest`.
pub(super) fn extend(highest: u64, size: u64, low: u32) -> Option<u64> {
    let (high, top) = (highest >> 32, highest as u32);
    let bottom = top.wrapping_sub((size as u32).wrapping_sub(1));
    let high = if bottom <= top {
        // The window lies in one subspace of 2^32 numbers.
        if low >= bottom { high } else { high.checked_add(1)? }
    } else if low >= bottom {
        // It spans two of them, and this is the older one.
        high.checked_sub(1)?
    } else {
        high
    };
    (high <= u64::from(u32::MAX)).then_some(high << 32 | u64::from(low))
}

/// Whether `sequence` lies in a window of `size` numbers up to `highest`, or right of it. 0 is never sent.
#[inline]
pub(super) const fn is_inside(highest: u64, size: u64, sequence: u64) -> bool {
    match highest.checked_sub(sequence) {
        _ if sequence == 0 => false,
        None => size > 0,
        Some(age) => age < size,
    }
}

/// Block and bit of a number.
const fn place(sequence: u64) -> (usize, u64) {
    ((sequence / BLOCK_BITS % BLOCKS) as usize, 1 << (sequence % BLOCK_BITS))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeSet, vec::Vec};

    /// The window by its definition.
    struct Naive {
        seen: BTreeSet<u64>,
        size: u64,
        last: u64,
    }

    impl Naive {
        fn offer(&mut self, sequence: u64) -> bool {
            let highest = self.highest();
            let inside = highest.checked_sub(sequence).is_none_or(|age| age < self.size);
            let fresh = sequence > self.last && inside && !self.seen.contains(&sequence);
            fresh && self.seen.insert(sequence)
        }

        fn highest(&self) -> u64 {
            self.seen.last().copied().unwrap_or(self.last)
        }
    }

    fn offer(window: &mut ReplayWindow, sequence: u64) -> bool {
        let fresh = window.is_fresh(sequence);
        if fresh {
            window.accept(sequence);
        }
        fresh
    }

    /// Walks around a moving point, with jumps of all sizes, from anywhere in the number space.
    fn walk() -> impl Strategy<Value = (u64, Vec<i64>)> {
        let start = prop_oneof![0..5u64, any::<u64>(), Just(u64::MAX - 5000), 4_294_964_000..5_000_000_000u64];
        let step = prop_oneof![8 => -70..70i64, 3 => -2500..2500i64, 1 => -100_000..100_000i64];
        (start, prop::collection::vec(step, 1..400))
    }

    proptest! {
        #[test]
        fn behaves_as_defined(
            size in MIN_WINDOW..=MAX_WINDOW,
            (start, steps) in walk(),
            behind in prop_oneof![Just(None), (0..3000u64).prop_map(Some)],
        ) {
            let last = behind.map_or(0, |behind| start.saturating_sub(behind));
            let mut window = ReplayWindow::new(size, last).unwrap();
            let mut naive = Naive { seen: BTreeSet::new(), size: size.into(), last };
            let mut at = start;
            for step in steps {
                at = at.saturating_add_signed(step);
                prop_assert_eq!(offer(&mut window, at), naive.offer(at), "{} at {}", at, window.highest());
                prop_assert_eq!(window.highest(), naive.highest());
            }
        }

        /// Every number inside the window or up to 2^32 - size behind it comes back from its low half.
        #[test]
        fn extends_what_is_near(
            size in MIN_WINDOW..=MAX_WINDOW,
            highest: u64,
            distance in prop_oneof![0..5000u64, 0..(1u64 << 32)],
            older: bool,
        ) {
            let window = ReplayWindow::new(size, highest).unwrap();
            let ahead = (1u64 << 32) - u64::from(size);
            let sequence = if older {
                window.highest().checked_sub(distance % u64::from(size))
            } else {
                window.highest().checked_add(distance.min(ahead))
            };
            prop_assume!(sequence.is_some());
            prop_assert_eq!(window.extend(sequence.unwrap() as u32), sequence);
        }
    }

    #[test]
    fn sizes_within_limits_only() {
        for size in [0, 1, 31, 2049, u16::MAX] {
            assert!(ReplayWindow::new(size, 0).is_none(), "{size}");
        }
        assert_eq!(ReplayWindow::new(DEFAULT_WINDOW, 0).unwrap().size(), 1024);
    }

    #[test]
    fn zeroed_memory_takes_nothing() {
        let window = ReplayWindow::new_zeroed();
        assert!(!window.is_fresh(0) && !window.is_fresh(1) && !window.is_fresh(u64::MAX));
    }

    /// What lies before the first number, and behind the last one, is refused, not wrapped.
    #[test]
    fn no_number_beyond_the_ends() {
        let mut window = ReplayWindow::new(64, 0).unwrap();
        assert_eq!(window.extend(5), Some(5));
        assert_eq!(window.extend(u32::MAX), None);
        window.accept(u64::MAX);
        assert_eq!(window.extend(u32::MAX), Some(u64::MAX));
        assert_eq!(window.extend(0), None);
        assert!(!window.is_fresh(u64::MAX));
    }
}
