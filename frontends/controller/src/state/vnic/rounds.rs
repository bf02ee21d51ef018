//! Rounds with a vNIC of protocol version 2.
//!
//! Protocol version 2 acknowledges nothing, so every round is: the differences, a barrier (the switch has passed all
//! of them on), LIST_ENTRIES, and a comparison. Differences that remain are sent again, ever less often. A vNIC that
//! does not answer LIST_ENTRIES may have been restarted, so it is sent HELLO as well; it answers with REGISTER and
//! gets everything anew. There is at most one batch or one listing under way.

use std::{collections::VecDeque, time::Duration};

use cvsw_core::flow::FlowMod;

use super::{Control, DIVERGED_AFTER, Operation, SILENT_AFTER, Vnic, Wire};
use crate::{
    config::Timers,
    plan::{Command, Listing},
};

/// Commands between two barriers: few enough for the receive ring of a vNIC, many enough to keep it busy.
const BATCH: u32 = 128;
/// More entries than any vNIC has; a longer listing is refused.
const MAX_LISTING: usize = 65_536;
/// First pause before differences that remain are sent again.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Longest pause.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// How long a switch may take to answer a barrier.
const BARRIER_PATIENCE: Duration = Duration::from_secs(30);

impl Vnic {
    /// A barrier was answered. Returns how long that took, and how many messages were before it.
    pub fn barrier_passed(&mut self, now: Duration, xid: u32) -> Option<(Duration, u32)> {
        match self.operation {
            Operation::Batch { barrier, sent, count } if barrier == xid => {
                self.operation = Operation::None;
                Some((now.saturating_sub(sent), count))
            }
            _ => None,
        }
    }

    /// It has listed one entry.
    pub fn listed(&mut self, now: Duration, answer: Duration, flow: &FlowMod) {
        self.heard(now);
        let Operation::Listing { deadline, seen } = &mut self.operation else { return };
        *deadline = now.saturating_add(answer);
        seen.add(&self.belief, flow);
        if seen.len() > MAX_LISTING {
            self.operation = Operation::None;
            self.note(format!("it lists more than {MAX_LISTING} entries; the listing was given up"));
            self.verify = true;
            self.not_before = now.saturating_add(MAX_BACKOFF);
        }
    }

    /// It has listed its last entry.
    pub fn listing_ended(&mut self, now: Duration, timers: &Timers) {
        self.heard(now);
        let Operation::Listing { seen, .. } = std::mem::replace(&mut self.operation, Operation::None) else {
            return;
        };
        let credible = self.belief.learn(seen, &self.desired);
        self.verify = !credible;
        self.keepalive_at = now.saturating_add(timers.keepalive);
        self.fill_outbox();
        if self.outbox.is_empty() {
            if credible {
                self.settled = true;
                self.rounds = 0;
            }
            return;
        }
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds == DIVERGED_AFTER {
            let missing = self.outbox.len();
            self.note(format!(
                "after {DIVERGED_AFTER} attempts it still differs from the wanted state by {missing} messages"
            ));
        }
        if self.rounds > 1 {
            self.not_before = now.saturating_add(backoff(FIRST_BACKOFF, self.rounds - 2));
        }
    }

    /// Does what is due. Returns whether an answer has not come in time.
    pub(super) fn poll_2(&mut self, now: Duration, timers: &Timers, wire: &mut impl Wire) -> bool {
        let late = match &self.operation {
            Operation::Batch { sent, .. } if now < sent.saturating_add(BARRIER_PATIENCE) => return false,
            Operation::Listing { deadline, .. } if now < *deadline => return false,
            Operation::Batch { .. } => {
                self.operation = Operation::None;
                self.note("the switch does not answer BARRIER_REQUEST".to_owned());
                true
            }
            Operation::Listing { .. } => {
                self.no_answer(now, timers, wire);
                true
            }
            Operation::None => false,
        };
        if self.replan {
            self.fill_outbox();
        }
        if now < self.not_before {
            return late;
        }
        if !self.outbox.is_empty() {
            self.send_batch(now, wire);
        } else if self.verify {
            self.list(now, timers, wire);
        } else if now >= self.keepalive_at {
            // There is no way to read them back, so they are repeated: a lost frame is made good here.
            let again = [self.belief.mtu().map(Command::SetMtu), self.belief.offloads().map(Command::SetOffload)];
            for command in again.into_iter().flatten() {
                self.send(wire, &Control::Command(command));
            }
            self.list(now, timers, wire);
        }
        late
    }

    /// When there is something to do, if nothing happens before. `patience`: after it a batch makes room for others.
    pub(super) fn due_2(&self, now: Duration, patience: Duration) -> Duration {
        match &self.operation {
            Operation::Batch { sent, .. } => {
                let late = sent.saturating_add(patience);
                if now < late { late } else { sent.saturating_add(BARRIER_PATIENCE) }
            }
            Operation::Listing { deadline, .. } => *deadline,
            Operation::None if self.replan || self.verify || !self.outbox.is_empty() => self.not_before,
            Operation::None => self.keepalive_at.max(self.not_before),
        }
    }

    pub(super) fn restart_rounds(&mut self) {
        self.replan = true;
        self.rounds = 0;
    }

    fn fill_outbox(&mut self) {
        self.replan = false;
        self.outbox = self.belief.plan(&self.desired).into();
        if !self.outbox.is_empty() {
            self.settled = false;
            self.verify = true;
        }
    }

    fn send_batch(&mut self, now: Duration, wire: &mut impl Wire) {
        let mut count = 0;
        while count < BATCH
            && let Some(command) = self.outbox.pop_front()
        {
            count += 1;
            self.belief.sent(&command, &self.desired);
            self.send(wire, &Control::Command(command));
        }
        if self.outbox.is_empty() {
            // Most vNICs have nothing to be sent most of the time.
            self.outbox = VecDeque::new();
        }
        self.operation = Operation::Batch { barrier: wire.barrier(self.mac), sent: now, count };
    }

    fn list(&mut self, now: Duration, timers: &Timers, wire: &mut impl Wire) {
        self.verify = false;
        self.send(wire, &Control::List);
        self.operation =
            Operation::Listing { deadline: now.saturating_add(timers.answer), seen: Listing::default() };
    }

    fn no_answer(&mut self, now: Duration, timers: &Timers, wire: &mut impl Wire) {
        self.operation = Operation::None;
        self.unanswered = self.unanswered.saturating_add(1);
        self.verify = true;
        self.not_before = now.saturating_add(backoff(timers.answer, self.unanswered - 1));
        if self.unanswered == SILENT_AFTER {
            self.settled = false;
            self.note("it does not answer LIST_ENTRIES".to_owned());
        }
        self.send(wire, &Control::Hello);
    }

    fn send(&mut self, wire: &mut impl Wire, control: &Control) {
        self.sent += 1;
        wire.control(self.location.port, self.mac, control);
    }
}

/// `first`, doubled `times` times, at most [`MAX_BACKOFF`].
fn backoff(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1u32.checked_shl(times).unwrap_or(u32::MAX)).min(MAX_BACKOFF)
}
