//! What is due when, for many things that look after themselves: a timer wheel without a rim.

use std::{collections::BTreeMap, time::Duration};

/// How finely times are told apart.
const GRAIN: Duration = Duration::from_millis(100);

/// When something is to be woken, as it knows itself; see [`Wheel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake(u32);

impl Default for Wake {
    fn default() -> Self {
        Self::NEVER
    }
}

impl Wake {
    /// It sleeps.
    pub const NEVER: Self = Self(u32::MAX);

    /// Whether what was put in for this time, and is taken out, is to be woken then; from then on it sleeps.
    pub fn wakes(self, wake: &mut Self) -> bool {
        let wakes = *wake == self;
        if wakes {
            *wake = Self::NEVER;
        }
        wakes
    }
}

/// Keys by time. Whoever has a key also has a [`Wake`], with which it is known whether it is in the wheel already: what is
/// to be woken earlier than was said before is put in once more, and its later entry means nothing when it comes.
#[derive(Debug)]
pub struct Wheel<K> {
    slots: BTreeMap<u32, Vec<K>>,
}

impl<K> Default for Wheel<K> {
    fn default() -> Self {
        Self { slots: BTreeMap::new() }
    }
}

impl<K> Wheel<K> {
    /// `key` is to be woken at this time, if not earlier.
    pub fn at(&mut self, wake: &mut Wake, key: K, time: Duration) {
        let slot = slot(time.saturating_add(GRAIN.saturating_sub(Duration::from_nanos(1))));
        if slot < wake.0 {
            *wake = Wake(slot);
            self.slots.entry(slot).or_default().push(key);
        }
    }

    /// Takes what was put in for times up to now, and when that was: it counts if [`Wake::wakes`] says so.
    pub fn take(&mut self, now: Duration) -> Vec<(Wake, Vec<K>)> {
        let later = self.slots.split_off(&slot(now).saturating_add(1));
        let due = std::mem::replace(&mut self.slots, later);
        due.into_iter().map(|(slot, keys)| (Wake(slot), keys)).collect()
    }
}

/// A controller that runs for thirteen years has used them up; from then on everything is due at once.
fn slot(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / GRAIN.as_millis()).unwrap_or(u32::MAX).min(u32::MAX - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_woken_once_at_its_earliest_time_and_never_before() {
        let seconds = Duration::from_secs;
        let mut wheel = Wheel::default();
        let mut wakes = [Wake::NEVER; 3];
        let woken = |wheel: &mut Wheel<usize>, wakes: &mut [Wake; 3], now| {
            let mut woken = Vec::new();
            for (taken, keys) in wheel.take(now) {
                woken.extend(keys.into_iter().filter(|key| taken.wakes(&mut wakes[*key])));
            }
            woken
        };
        for (key, time) in [(0, 5), (0, 3), (0, 4), (1, 4)] {
            wheel.at(&mut wakes[key], key, seconds(time));
        }
        wheel.at(&mut wakes[2], 2, Duration::from_millis(3_001));
        assert!(woken(&mut wheel, &mut wakes, Duration::from_millis(2_999)).is_empty());
        assert_eq!(woken(&mut wheel, &mut wakes, seconds(3)), [0]);
        wheel.at(&mut wakes[0], 0, seconds(5));
        assert_eq!(woken(&mut wheel, &mut wakes, Duration::from_millis(3_100)), [2]);
        assert_eq!(woken(&mut wheel, &mut wakes, seconds(4)), [1], "the other one was woken for that time before");
        assert_eq!(woken(&mut wheel, &mut wakes, seconds(9)), [0], "once, though it is in there twice");
        assert!(wheel.slots.is_empty());
    }
}
