//! How many control messages a switch is given, so that a large change leaves it time for what else it has to do.

use std::time::Duration;

/// So much of what is allowed may come at once.
const BURST: Duration = Duration::from_millis(250);

/// An allowance of messages per second, as the time up to which it is used up (GCRA, the algorithm of ITU-T I.371 annex A).
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// What one message takes.
    each: Duration,
    used_up_to: Duration,
}

impl Allowance {
    /// So many messages per second (at least 1), from now on.
    pub fn new(now: Duration, rate: u32) -> Self {
        Self { each: Duration::from_secs(1) / rate.max(1), used_up_to: now }
    }

    /// Another number of messages per second.
    pub fn set_rate(&mut self, rate: u32) {
        self.each = Duration::from_secs(1) / rate.max(1);
    }

    /// A message was sent. What must not wait is sent even if nothing is left; it is missing later.
    pub const fn spend(&mut self) {
        self.used_up_to = self.used_up_to.saturating_add(self.each);
    }

    /// Whether something is left.
    pub fn has_some(&mut self, now: Duration) -> bool {
        self.used_up_to = self.used_up_to.max(now);
        !self.is_used_up(now)
    }

    /// The same, for whoever only looks.
    pub fn is_used_up(&self, now: Duration) -> bool {
        self.used_up_to >= now.saturating_add(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let start = Duration::from_secs(100);
        let mut allowance = Allowance::new(Duration::ZERO, 1000);
        let take = |allowance: &mut Allowance, now| {
            let mut count = 0;
            while allowance.has_some(now) {
                allowance.spend();
                count += 1;
            }
            count
        };
        assert_eq!(take(&mut allowance, start), 250, "a long silence saves up no more than a burst");
        assert_eq!(take(&mut allowance, start), 0);
        assert!(allowance.is_used_up(start));
        assert_eq!(take(&mut allowance, start + Duration::from_millis(100)), 100);
        allowance.spend();
        assert_eq!(take(&mut allowance, start + Duration::from_millis(110)), 9, "it was overdrawn by one");
        allowance.set_rate(10);
        assert_eq!(
            take(&mut allowance, start + Duration::from_millis(1_110)),
            3,
            "a burst, however long it was quiet"
        );
    }
}
