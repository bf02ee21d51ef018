//! Idle and hard timeouts.

use super::{Entry, FlowId, FlowTable};
use crate::{flow::Match, time::Instant};
use zerocopy::FromZeros;

/// Why an entry left the table (`ofp_flow_removed_reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum RemovalReason {
    /// `OFPRR_IDLE_TIMEOUT`.
    IdleTimeout = 0,
    /// `OFPRR_HARD_TIMEOUT`.
    HardTimeout = 1,
    /// `OFPRR_DELETE`.
    Delete = 2,
}

impl<P, const FLOWS: usize, const MASKS: usize> FlowTable<P, FLOWS, MASKS>
where
    P: Copy + FromZeros,
{
    /// Removes the entries whose time is up; `removed` sees each just before it goes.
    ///
    /// Costs a pass over 4 bytes per entry if any entry has a timeout, nothing otherwise.
    pub fn expire(&mut self, now: Instant, mut removed: impl FnMut(&Match, &Entry<P>, RemovalReason)) {
        if self.timed == 0 {
            return;
        }
        let second = seconds(now);
        for index in 0..self.touched {
            let due = self.deadlines.get(index as usize).is_some_and(|at| *at != 0 && *at <= second);
            if !due {
                continue;
            }
            let id = FlowId(index);
            let Some(entry) = self.get(id) else { continue };
            match entry.expired(now) {
                Some(reason) => {
                    removed(&self.matching(entry), entry, reason);
                    self.remove(id);
                }
                None => self.schedule(id),
            }
        }
    }

    /// Starts (or stops) watching an entry's timeouts.
    pub(super) fn set_timed(&mut self, id: FlowId, watch: bool) {
        let Some(deadline) = self.deadlines.get_mut(id.index()) else { return };
        if *deadline != 0 {
            *deadline = 0;
            self.timed = self.timed.wrapping_sub(1);
        }
        let timed = self.get(id).is_some_and(|entry| entry.idle_timeout != 0 || entry.hard_timeout != 0);
        if watch && timed {
            self.schedule(id);
            self.timed = self.timed.wrapping_add(1);
        }
    }

    fn schedule(&mut self, id: FlowId) {
        let Some(at) = self.get(id).map(Entry::deadline) else { return };
        if let Some(deadline) = self.deadlines.get_mut(id.index()) {
            *deadline = at;
        }
    }
}

impl<P> Entry<P> {
    fn expired(&self, now: Instant) -> Option<RemovalReason> {
        let over = |since: Instant, timeout: u16| timeout != 0 && now.secs_since(since) >= u64::from(timeout);
        if over(self.created, self.hard_timeout) {
            Some(RemovalReason::HardTimeout)
        } else if over(self.last_used, self.idle_timeout) {
            Some(RemovalReason::IdleTimeout)
        } else {
            None
        }
    }

    /// The second at which a timeout can be over; never 0.
    fn deadline(&self) -> u32 {
        let at = |since: Instant, timeout: u16| match timeout {
            0 => u32::MAX,
            timeout => seconds(since).saturating_add(u32::from(timeout)),
        };
        at(self.created, self.hard_timeout).min(at(self.last_used, self.idle_timeout)).max(1)
    }
}

fn seconds(at: Instant) -> u32 {
    u32::try_from(at.secs_since(Instant::ZERO)).unwrap_or(u32::MAX)
}
