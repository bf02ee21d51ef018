//! The time since the start, from the processor's counter.

use crate::sys;
use smoltcp::time::Instant;

/// Frequency of the interval timer.
const PIT_HZ: u64 = 1_193_182;
/// Timer counts to measure for: 10 ms.
const SPAN: u16 = 11_932;

/// A clock that starts at 0.
pub struct Clock {
    start: u64,
    hz: u64,
}

impl Clock {
    /// Measures the processor's counter against the interval timer. Being interrupted by the host in the middle of a
    /// reading would spoil it, so the median of three measurements counts.
    pub fn start() -> Self {
        let start = sys::time_stamp();
        sys::pit_start();
        let mut measured = [0; 3].map(|_: u64| measure());
        measured.sort_unstable();
        Self { start, hz: measured[1].max(1) }
    }

    /// The time now.
    pub fn now(&self) -> Instant {
        let ticks = u128::from(sys::time_stamp().saturating_sub(self.start));
        let micros = ticks.saturating_mul(1_000_000).checked_div(u128::from(self.hz)).unwrap_or(0);
        Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// Counts of the processor's counter per second.
    pub const fn hz(&self) -> u64 {
        self.hz
    }
}

fn measure() -> u64 {
    let (first_stamp, first_count) = (sys::time_stamp(), sys::pit_read());
    loop {
        let (stamp, count) = (sys::time_stamp(), sys::pit_read());
        // It counts down and wraps.
        let passed = first_count.wrapping_sub(count);
        if passed >= SPAN {
            let ticks = stamp.saturating_sub(first_stamp);
            return ticks.saturating_mul(PIT_HZ).checked_div(u64::from(passed)).unwrap_or(0);
        }
    }
}
