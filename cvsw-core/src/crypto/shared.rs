//! What several engines share of a security association: the sequence numbers, the anti-replay window, and what its
//! limits are judged by. Each of them exists once and is changed by single atomic operations, so any number of processors
//! may use an association at the same time without a lock.

use super::{
    ReplayWindow,
    window::{MAX_WINDOW, extend, is_inside},
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use zerocopy::FromZeros;

/// One association, as far as all engines of a vNIC share it. Lives where the front-end says ([`super::Ciphers::shared`]),
/// in the slot of its key. All-zero memory belongs to no association.
///
/// `Relaxed` suffices throughout: that a number is used once follows from the order of changes of one variable alone, and
/// an association is added and removed while nobody uses any of the engines ([`crate::Cvsw::follow`]).
#[derive(Debug, FromZeros)]
#[repr(C, align(64))]
pub struct SharedSa {
    /// Tells the association that this belongs to from those that had the slot before it; 0: none.
    serial: AtomicU64,
    /// Sending: the last sequence number used.
    sequence: AtomicU64,
    /// Packets and bytes sealed or opened, counted only where there is a limit of them.
    packets: AtomicU64,
    bytes: AtomicU64,
    window: SharedWindow,
}

impl SharedSa {
    /// Begins anew, for the association `serial`.
    pub(super) fn begin(&self, serial: u64, sequence: u64, window: &ReplayWindow) {
        self.end();
        self.sequence.store(sequence, Relaxed);
        self.packets.store(0, Relaxed);
        self.bytes.store(0, Relaxed);
        self.window.begin(window);
        self.serial.store(serial, Relaxed);
    }

    /// Belongs to no association any more.
    pub(super) fn end(&self) {
        self.serial.store(0, Relaxed);
    }

    /// Whether this belongs to the association `serial`.
    pub(super) fn is_of(&self, serial: u64) -> bool {
        serial != 0 && self.serial.load(Relaxed) == serial
    }

    /// The last sequence number used.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence.load(Relaxed)
    }

    /// The next sequence number up to `last`, for the caller alone; `None`: there is none left, for anybody.
    pub(super) fn take_number(&self, last: u64) -> Option<u64> {
        let taken =
            self.sequence.fetch_update(Relaxed, Relaxed, |used| used.checked_add(1).filter(|it| *it <= last));
        taken.ok()?.checked_add(1)
    }

    /// Counts a packet for the limits.
    pub(super) fn count(&self, bytes: u64) {
        self.packets.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Packets and bytes that were counted.
    pub(super) fn counted(&self) -> (u64, u64) {
        (self.packets.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// The anti-replay window.
    pub(super) const fn window(&self) -> &SharedWindow {
        &self.window
    }
}

/// Numbers of one block: those that one atomic operation can mark.
const BLOCK: u64 = 32;
/// One block more than the largest window has: two numbers in one place lie further apart than any window is wide.
const BLOCKS: u64 = MAX_WINDOW as u64 / BLOCK + 1;

/// A [`ReplayWindow`] for several processors without a lock. Each place of the ring holds which block of numbers it stands
/// for (its round, in the upper half) and which of them have been seen; so one compare-and-swap finds a number to be new
/// and marks it, and a place never goes back to an older block: a number is accepted at most once, whatever the
/// interleaving.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub(super) struct SharedWindow {
    highest: AtomicU64,
    size: AtomicU64,
    places: [AtomicU64; BLOCKS as usize],
}

impl SharedWindow {
    fn begin(&self, like: &ReplayWindow) {
        let last = like.highest();
        let (newest, _, bit) = place(last);
        self.size.store(like.size().into(), Relaxed);
        self.highest.store(last, Relaxed);
        for (index, place) in (0..BLOCKS).zip(&self.places) {
            let back = newest.wrapping_add(BLOCKS).wrapping_sub(index) % BLOCKS;
            // Of the newest block, only the numbers up to the last one.
            let seen = if back == 0 { bit | bit.wrapping_sub(1) } else { u32::MAX };
            // Before the first block there is a round that ends where the first begins.
            let round = (last / BLOCK).checked_sub(back).map_or(u32::MAX, |block| (block / BLOCKS) as u32);
            place.store(word(round, seen), Relaxed);
        }
    }

    /// The highest number accepted.
    pub(super) fn highest(&self) -> u64 {
        self.highest.load(Relaxed)
    }

    /// As [`ReplayWindow::is_fresh`]. Another processor may accept the number meanwhile.
    pub(super) fn is_fresh(&self, sequence: u64) -> bool {
        let (index, round, bit) = place(sequence);
        let there = self.places.get(index as usize);
        self.is_inside(sequence) && there.is_some_and(|there| marked(there.load(Relaxed), round, bit).is_some())
    }

    /// Marks `sequence`, whose packet was found authentic, as seen. `false`: it has been seen already, by whomever, or is
    /// too old by now.
    #[must_use = "a packet that was seen already must be dropped"]
    pub(super) fn accept(&self, sequence: u64) -> bool {
        let (index, round, bit) = place(sequence);
        let Some(there) = self.places.get(index as usize).filter(|_| self.is_inside(sequence)) else {
            return false;
        };
        let accepted = there.fetch_update(Relaxed, Relaxed, |word| marked(word, round, bit)).is_ok();
        if accepted {
            self.highest.fetch_max(sequence, Relaxed);
        }
        accepted
    }

    /// As [`ReplayWindow::extend`].
    pub(super) fn extend(&self, low: u32) -> Option<u64> {
        extend(self.highest(), self.size.load(Relaxed), low)
    }

    fn is_inside(&self, sequence: u64) -> bool {
        is_inside(self.highest(), self.size.load(Relaxed), sequence)
    }
}

/// Index, round and bit of a number. Rounds are compared modulo 2^32, in which there are 2^43 numbers: no packet takes the
/// window that far, since only 32 bits of its number are sent ([`ReplayWindow::extend`]).
const fn place(sequence: u64) -> (u64, u32, u32) {
    let block = sequence / BLOCK;
    (block % BLOCKS, (block / BLOCKS) as u32, 1 << (sequence % BLOCK))
}

const fn word(round: u32, seen: u32) -> u64 {
    (round as u64) << 32 | seen as u64
}

/// `there` with a number marked; `None` if it is marked already, or the place stands for a newer block.
fn marked(there: u64, round: u32, bit: u32) -> Option<u64> {
    let seen = there as u32;
    match round.wrapping_sub((there >> 32) as u32) as i32 {
        0 if seen & bit == 0 => Some(word(round, seen | bit)),
        1.. => Some(word(round, bit)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
    use super::*;
    use crate::crypto::MIN_WINDOW;
    use proptest::prelude::*;
    use std::{boxed::Box, sync::Barrier, thread, vec::Vec};

    fn shared(size: u16, last: u64) -> (ReplayWindow, Box<SharedSa>) {
        let window = ReplayWindow::new(size, last).unwrap();
        let shared = SharedSa::new_box_zeroed().unwrap();
        shared.begin(1, last, &window);
        (window, shared)
    }

    fn walk() -> impl Strategy<Value = (u64, Vec<i64>)> {
        let start = prop_oneof![0..5u64, any::<u64>(), Just(u64::MAX - 5000), 4_294_964_000..5_000_000_000u64];
        let step = prop_oneof![8 => -70..70i64, 3 => -2500..2500i64, 1 => -100_000..100_000i64];
        (start, prop::collection::vec(step, 1..400))
    }

    proptest! {
        /// One processor sees the window that [`ReplayWindow`] is, wherever a packet can take it.
        #[test]
        fn alone_it_is_the_other_window(
            size in MIN_WINDOW..=MAX_WINDOW,
            (start, steps) in walk(),
            behind in prop_oneof![0..3000u64, 0..(1u64 << 32)],
        ) {
            let last = start.saturating_sub(behind);
            let (mut window, shared) = shared(size, last);
            let mut at = start;
            for step in steps {
                at = at.saturating_add_signed(step);
                let fresh = window.is_fresh(at);
                prop_assert_eq!(shared.window().is_fresh(at), fresh, "{} at {}", at, window.highest());
                prop_assert_eq!(shared.window().extend(at as u32), window.extend(at as u32));
                prop_assert_eq!(shared.window().accept(at), fresh, "{} at {}", at, window.highest());
                if fresh {
                    window.accept(at);
                }
                prop_assert_eq!(shared.window().highest(), window.highest());
            }
        }
    }

    /// Runs `one` on so many threads at once and returns what they returned.
    fn at_once<T: Send>(threads: usize, one: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let barrier = Barrier::new(threads);
        let run = |index| {
            barrier.wait();
            one(index)
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|index| scope.spawn(move || run(index))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn every_number_is_taken_once() {
        const LAST: u64 = 30_000;
        let (_, shared) = shared(MIN_WINDOW, 0);
        let taken = at_once(4, |_| core::iter::from_fn(|| shared.take_number(LAST)).collect::<Vec<_>>());
        let mut taken: Vec<_> = taken.into_iter().flatten().collect();
        taken.sort_unstable();
        assert!(taken.into_iter().eq(1..=LAST));
        assert_eq!((shared.sequence(), shared.take_number(LAST)), (LAST, None));
    }

    /// Every packet comes to every processor, in an order of its own: one of them gets it.
    #[test]
    fn every_number_is_accepted_once() {
        const ROUND: u64 = 1000;
        for round in 0..100 {
            let first = round * ROUND + 1;
            let (_, shared) = shared(1024, first - 1);
            let accepted = at_once(4, |thread| {
                // 7, 11, 13 and 17 have no divisor in common with 1000.
                let stride = [7, 11, 13, 17].get(thread).copied().unwrap();
                let numbers = (0..ROUND).map(|index| first + index * stride % ROUND);
                numbers.filter(|number| shared.window().accept(*number)).collect::<Vec<_>>()
            });
            let mut accepted: Vec<_> = accepted.into_iter().flatten().collect();
            accepted.sort_unstable();
            assert!(accepted.into_iter().eq(first..first + ROUND), "round {round}");
        }
    }

    #[test]
    fn nobody_s_memory_gives_nothing() {
        let nothing = SharedSa::new_box_zeroed().unwrap();
        assert!(!nothing.is_of(0) && !nothing.is_of(1));
        assert!(!nothing.window().is_fresh(1) && !nothing.window().accept(1) && !nothing.window().accept(u64::MAX));
        let (_, mut used) = shared(64, u64::MAX - 1);
        assert_eq!((used.take_number(u64::MAX), used.take_number(u64::MAX)), (Some(u64::MAX), None));
        assert!(used.is_of(1) && !used.is_of(2));
        used.end();
        assert!(!used.is_of(1) && !used.is_of(0));
        used.zero();
        assert_eq!(used.sequence(), 0);
    }
}
