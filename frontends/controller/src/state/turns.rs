//! Who has something to do, and when it has its turn.
//!
//! A vNIC has something to do when it was heard, when something else is wanted of it, or when a time has come that it has
//! named itself. Nobody looks at the others.
//!
//! What brings one to its state are many messages. So only as many vNICs are at it as the [`Window`](crate::window::Window)
//! has room for, and the others wait: then what is sent is answered soon, and nobody is taken for silent who only waits in a
//! queue of ours, or of the switch. One that has begun goes on, and one that does not answer in time makes room.

use std::time::Duration;

use super::{Controller, vnic::Vnic};
use crate::{config::Timers, mac::Mac, window::Used};

/// A vNIC whose switch must be given nothing now has its turn after this.
const PAUSE: Duration = Duration::from_millis(100);
/// Changes that concern so many vNICs do not wait for others.
pub(super) const FEW: usize = 64;
/// Places in the queue that are kept when nobody waits.
const QUEUED_WHEN_IDLE: usize = 64;

impl Controller {
    /// Lets a vNIC do what is due, now or when it has its turn.
    pub(super) fn poll_vnic(&mut self, now: Duration, mac: Mac) {
        self.give_turn(now, mac, false);
        self.admit(now);
    }

    /// Something else is wanted of a vNIC: it has a turn at once, or is the last.
    pub(super) fn wanted_changed(&mut self, now: Duration, mac: Mac, at_once: bool) {
        if at_once {
            return self.give_turn(now, mac, true);
        }
        let Some(vnic) = self.vnics.get_mut(&mac) else { return };
        if !std::mem::replace(&mut vnic.queued, true) {
            self.waiting.push_back(mac);
        }
        self.touch(mac);
    }

    /// Gives a turn to those whose time has come, and to those that wait.
    pub(super) fn give_turns(&mut self, now: Duration) {
        for (taken, macs) in self.wheel.take(now) {
            for mac in macs {
                if self.vnics.get_mut(&mac).is_some_and(|vnic| taken.wakes(&mut vnic.wake)) {
                    self.give_turn(now, mac, false);
                }
            }
        }
        self.admit(now);
    }

    /// How much of the window is used, by vNICs that are brought to their state and by keys.
    pub(super) const fn used(&self) -> Used {
        Used { states: self.pushing, keys: self.keys.in_flight() }
    }

    fn admit(&mut self, now: Duration) {
        while self.window.has_room(self.used())
            && let Some(mac) = self.waiting.pop_front()
        {
            if self.vnics.get(&mac).is_some_and(|vnic| vnic.queued) {
                self.give_turn(now, mac, false);
            }
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to(QUEUED_WHEN_IDLE);
        }
    }

    /// `at_once`: even if there is no room.
    fn give_turn(&mut self, now: Duration, mac: Mac, at_once: bool) {
        let timers = self.config.timers;
        let room = at_once || self.window.has_room(self.used());
        let Some(vnic) = self.vnics.get_mut(&mac) else { return };
        if !std::mem::replace(&mut vnic.touched, true) {
            self.touched.push(mac);
        }
        let Some(switch) = self.switches.get_mut(&vnic.location.connection) else { return };
        if !switch.allowance.has_some(now) {
            // This was its turn.
            vnic.queued = false;
            return self.wheel.at(&mut vnic.wake, mac, now.saturating_add(PAUSE));
        }
        if !room && !vnic.is_admitted() {
            if !std::mem::replace(&mut vnic.queued, true) {
                self.waiting.push_back(mac);
            }
            return;
        }
        vnic.queued = false;
        self.counters.repeated += vnic.poll(now, &timers, switch);
        self.dirty.insert(vnic.location.connection);
        account(&mut self.pushing, now, &timers, vnic);
        let due = vnic.due(now, &timers);
        self.wheel.at(&mut vnic.wake, mac, due);
    }

    /// A vNIC is not here any more.
    pub(super) fn remove_vnic(&mut self, mac: Mac) -> Option<Box<Vnic>> {
        self.touch(mac);
        let vnic = self.vnics.remove(&mac)?;
        self.pushing = self.pushing.saturating_sub(vnic.counted as usize);
        Some(vnic)
    }

    /// A vNIC may be in another state than before.
    pub(super) fn touch(&mut self, mac: Mac) {
        if let Some(vnic) = self.vnics.get_mut(&mac)
            && !std::mem::replace(&mut vnic.touched, true)
        {
            self.touched.push(mac);
        }
    }

    /// vNICs that may have changed, have come or have gone, since this was asked last; perhaps some of them twice.
    pub fn take_touched(&mut self) -> Vec<Mac> {
        let touched = std::mem::take(&mut self.touched);
        for mac in &touched {
            if let Some(vnic) = self.vnics.get_mut(mac) {
                vnic.touched = false;
            }
        }
        touched
    }
}

/// Counts what a vNIC has not answered.
fn account(pushing: &mut usize, now: Duration, timers: &Timers, vnic: &mut Vnic) {
    let unanswered = vnic.unanswered(now, timers.answer);
    *pushing = pushing.saturating_sub(vnic.counted as usize).saturating_add(unanswered as usize);
    vnic.counted = unanswered;
}
