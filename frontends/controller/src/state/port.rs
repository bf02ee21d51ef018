//! A port of a switch, and the search for vNICs there.

use std::{collections::BTreeSet, time::Duration};

use cvsw_core::openflow::{Port, PortStats};
use smol_str::SmolStr;

use super::vnic::Control;
use crate::mac::Mac;

/// Pause between the first HELLO on a port and the LIST_ENTRIES that finds a vNIC which is at work already.
const SECOND_ATTEMPT: Duration = Duration::from_millis(300);
/// HELLOs on one port are at least this far apart, whoever asks for them.
const MIN_BETWEEN_HELLOS: Duration = Duration::from_millis(200);
/// HELLOs that a port may send without ever registering. Another switch of ours behind a cable passes on the
/// HELLOs that we send to it, and would keep us busy forever.
const MAX_VAIN_HELLOS: u8 = 5;

/// A port of the switch.
#[derive(Debug)]
pub struct PortState {
    /// OpenFlow port number.
    pub number: u16,
    /// Its name.
    pub name: SmolStr,
    /// Up by configuration and link.
    pub up: bool,
    /// vNICs that are registered here: hardly ever more than one.
    pub vnics: Vec<Mac>,
    /// vNICs that registered here but are not accepted (yet).
    pub claims: BTreeSet<Mac>,
    /// Challenges of the last two HELLOs of version 3 here, the newest first; 0: none.
    pub challenges: [u64; 2],
    /// What the switch has counted here, and when it said so.
    pub traffic: Option<(Duration, PortStats)>,
    /// When to look for a vNIC again.
    look_at: Duration,
    /// How often that was done since the port appeared.
    looks: u32,
    last_hello: Option<Duration>,
    vain_hellos: u8,
}

impl PortState {
    /// A port that has appeared; it is looked at at once.
    pub fn new(now: Duration, port: &Port) -> Self {
        Self {
            number: port.number,
            name: port.name.as_str().into(),
            up: port.is_up(),
            vnics: Vec::new(),
            claims: BTreeSet::new(),
            challenges: [0; 2],
            traffic: None,
            look_at: now,
            looks: 0,
            last_hello: None,
            vain_hellos: 0,
        }
    }

    /// Starts looking for a vNIC afresh.
    pub fn look_again(&mut self, now: Duration) {
        self.look_at = now;
        self.looks = 0;
        self.vain_hellos = 0;
    }

    /// A vNIC has shown itself.
    pub fn found(&mut self) {
        self.vain_hellos = 0;
    }

    /// The next attempt to find a vNIC, if it is due: `hello` is the pause between attempts, `slow` the one for a port
    /// whose vNIC is known but not accepted. HELLO wakes a vNIC that has no session. One that has a session (the controller was
    /// restarted, or the vNIC's REGISTER was lost) refuses HELLO but answers LIST_ENTRIES, so they alternate.
    pub fn look(&mut self, now: Duration, hello: Duration, slow: Duration) -> Option<Control> {
        if !self.vnics.is_empty() || now < self.look_at {
            return None;
        }
        let control = if self.looks.is_multiple_of(2) { Control::Hello } else { Control::List };
        if control == Control::Hello {
            self.last_hello = Some(now);
        }
        let pause = match self.looks {
            0 => SECOND_ATTEMPT,
            _ if !self.claims.is_empty() => slow,
            _ => hello,
        };
        self.looks = self.looks.wrapping_add(1).max(1);
        self.look_at = now.saturating_add(pause);
        Some(control)
    }

    /// When the next attempt is due.
    pub fn next_look(&self) -> Duration {
        if self.vnics.is_empty() { self.look_at } else { Duration::MAX }
    }

    /// A HELLO came from here. Whether it is answered by one now.
    pub fn wants_hello(&mut self, now: Duration) -> bool {
        if self.vain_hellos >= MAX_VAIN_HELLOS {
            return false;
        }
        self.vain_hellos += 1;
        if self.last_hello.is_some_and(|last| now < last.saturating_add(MIN_BETWEEN_HELLOS)) {
            self.look_at = self.look_at.min(now.saturating_add(MIN_BETWEEN_HELLOS));
            self.looks = 0;
            return false;
        }
        self.last_hello = Some(now);
        true
    }
}
