//! How many messages to vNICs may be unanswered: a congestion window.
//!
//! It follows delay as that of LEDBAT does (RFC 6817): as long as answers come soon more may be under way, and fewer when
//! they take longer. So whoever is the slowest (the vNICs, their switches, what is between, or this controller, in whose
//! receive queue answers may wait) always has something to do, and what waits there is done in a fraction of the time after
//! which a message is taken for lost. What is not sent yet waits where it costs nothing and can still change.
//!
//! One window is for all vNICs. What one does not answer in time counts no longer, so that those that are silent keep
//! nobody waiting.

use std::time::Duration;

/// Messages that may be unanswered at first, ...
const FIRST: f64 = 256.0;
/// ... at least, ...
const LEAST: f64 = 64.0;
/// ... and at most.
const MOST: f64 = 16_384.0;
/// An answer should take this part of the time for which it is waited.
const PATIENCE_PARTS: u32 = 4;
/// An answer that comes at once, or takes twice as long as it should or more, changes the window by so many messages.
const GAIN: f64 = 0.25;
/// This part of it is for keys, whatever else there is to do.
const KEYS_PART: usize = 8;

/// A congestion window.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    limit: f64,
}

/// What is unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Messages that bring vNICs to their state.
    pub states: usize,
    /// Messages about keys.
    pub keys: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { limit: FIRST }
    }
}

impl Window {
    const fn limit(&self) -> usize {
        // At most MOST.
        self.limit as usize
    }

    /// Whether there is room for another vNIC to be brought to its state.
    pub const fn has_room(&self, used: Used) -> bool {
        used.states < self.limit()
    }

    /// How many messages about keys may be unanswered: states go first, and there is always room for some keys.
    pub fn for_keys(&self, used: Used) -> usize {
        self.limit().saturating_sub(used.states).max(self.limit() / KEYS_PART)
    }

    /// So many messages were answered after this time; `patience` is how long that is waited for. `used` is what was
    /// unanswered: a window that is not used says nothing about a larger one.
    pub fn answered(&mut self, took: Duration, patience: Duration, messages: usize, used: Used) {
        let target = patience / PATIENCE_PARTS;
        let off = 1.0 - took.as_secs_f64() / target.as_secs_f64().max(1e-3);
        let is_used = (used.states + used.keys) as f64 >= self.limit / 2.0;
        let grows = if off > 0.0 && !is_used { 0.0 } else { off.max(-1.0) * GAIN * messages as f64 };
        self.limit = (self.limit + grows).clamp(LEAST, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const MS: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_secs(1);

    fn used(states: usize) -> Used {
        Used { states, keys: 0 }
    }

    /// A server that takes `each` for a message, behind a way of `delay`; the window is always used. Returns the longest time
    /// that an answer took in the second half, and how many came.
    fn drive(window: &mut Window, each: Duration, delay: Duration, time: Duration) -> (Duration, u32) {
        let mut under_way: VecDeque<(Duration, Duration)> = VecDeque::new();
        let (mut now, mut free_at, mut count, mut longest) = (Duration::ZERO, Duration::ZERO, 0, Duration::ZERO);
        while now < time {
            while under_way.len() < window.limit() {
                free_at = free_at.max(now + delay) + each;
                under_way.push_back((now, free_at));
            }
            let in_flight = under_way.len();
            let (sent, answered) = under_way.pop_front().expect("there is room for one at least");
            now = now.max(answered);
            window.answered(now - sent, PATIENCE, 1, used(in_flight));
            count += 1;
            if now > time / 2 {
                longest = longest.max(now - sent);
            }
        }
        (longest, count)
    }

    #[test]
    fn the_slowest_is_kept_busy_and_nothing_waits_long() {
        for (each, delay) in [(MS / 100, MS), (MS / 4, MS), (MS / 2, MS), (MS / 10, MS * 50)] {
            let time = Duration::from_secs(100);
            let (longest, count) = drive(&mut Window::default(), each, delay, time);
            assert!(longest < PATIENCE / 2, "{each:?} {delay:?}: {longest:?}");
            let possible = time.as_secs_f64() / each.as_secs_f64();
            assert!(f64::from(count) > possible * 0.9, "{each:?} {delay:?}: {count} of {possible}");
        }
    }

    #[test]
    fn it_stays_within_its_bounds_and_grows_only_if_it_is_used() {
        let mut window = Window::default();
        (0..10_000).for_each(|_| window.answered(MS, PATIENCE, 1, used(1)));
        assert_eq!(window.limit(), FIRST as usize, "one that is not used does not grow");
        (0..100_000).for_each(|_| window.answered(MS, PATIENCE, 1, used(1 << 20)));
        assert_eq!(window.limit(), MOST as usize);
        (0..100_000).for_each(|_| window.answered(PATIENCE, PATIENCE, 1, used(1)));
        assert_eq!(window.limit(), LEAST as usize);
    }

    #[test]
    fn states_go_before_keys_which_always_have_some_room() {
        let window = Window::default();
        let all = FIRST as usize;
        assert!(window.has_room(Used { states: all - 1, keys: all }));
        assert!(!window.has_room(Used { states: all, keys: 0 }));
        assert_eq!(window.for_keys(used(0)), all);
        assert_eq!(window.for_keys(used(all / 2)), all / 2);
        assert_eq!(window.for_keys(used(all * 2)), all / KEYS_PART);
    }
}
