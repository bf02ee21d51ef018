//! What this controller and others, with which it shares the switches, write to each other ([`crate::keys::note`]).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Controller;
use crate::keys::note::Note;

impl Controller {
    /// These other controllers are alive: the name of each, and a text that another life of it has not. They are told of
    /// the vNICs here.
    pub fn meet(&mut self, now: Duration, alive: &BTreeMap<String, String>) {
        self.check_lease(now);
        self.keys.meet(now, alive);
        self.poll_keys(now);
    }

    /// Another controller has written.
    pub fn noted(&mut self, now: Duration, from: &str, notes: Vec<Note>) {
        self.check_lease(now);
        notes.into_iter().for_each(|note| self.keys.noted(now, from, note));
        self.poll_keys(now);
    }

    /// Controllers that there is something to be written to.
    pub fn addressees(&self) -> Vec<Arc<str>> {
        self.keys.addressees().cloned().collect()
    }

    /// What is to be written to a controller, in order, `most` notes at most.
    pub fn take_notes(&mut self, now: Duration, name: &str, most: usize) -> Vec<Note> {
        self.check_lease(now);
        self.keys.take_notes(name, most)
    }

    /// Of which share of all SPIs new keys are: no two controllers have the same at a time.
    pub const fn set_share(&mut self, share: u8) {
        self.keys.set_share(share);
    }
}
