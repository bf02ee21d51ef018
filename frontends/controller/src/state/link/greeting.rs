//! HELLOs to a vNIC that says nothing, which may have been started anew, or that has said that it waits for one.

use std::time::Duration;

use super::Link;

/// Pause between two HELLOs to a silent vNIC, which may have been started anew.
const HELLO_PAUSE: Duration = Duration::from_secs(2);
/// The pause grows to this while it says nothing at all.
const MAX_HELLO_PAUSE: Duration = Duration::from_secs(30);

impl Link {
    /// It has announced itself: it waits for a HELLO, perhaps as another instance.
    pub const fn announced(&mut self) {
        self.greet = true;
    }

    /// Whether it is sent a HELLO now, which is then noted.
    pub(super) fn takes_hello(&mut self, now: Duration) -> bool {
        let due = self.session.fenced().is_none() && self.hello_at().is_some_and(|at| now >= at);
        if due {
            self.greet = false;
            self.greeted_at = Some(now);
            self.vain_hellos = self.vain_hellos.saturating_add(1);
        }
        due
    }

    /// When a HELLO is due: ever less often if nothing comes back, but soon if it has said itself that it waits for one.
    pub(super) fn hello_at(&self) -> Option<Duration> {
        let doublings = if self.greet { 0 } else { self.vain_hellos.into() };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let pause = HELLO_PAUSE.saturating_mul(factor).min(MAX_HELLO_PAUSE);
        let due = self.greeted_at.map_or(Duration::ZERO, |at| at.saturating_add(pause));
        (self.greet || self.is_silent()).then_some(due)
    }
}
