//! What a controller does next to make a vNIC equal to what it should be.
//!
//! ```text
//!            REGISTER or state says
//!   equal ---------------------------> settled --(after a while)--> ask for the state
//!   empty table, or parameters only -> push what differs -> all answered -> ask for the state
//!   anything else -------------------> list the entries -> push what differs -> ...
//! ```
//!
//! Which commands make the difference good, and in which order, is the caller's plan: what protects goes before what
//! forwards, what is added before what is deleted.

use super::report::{Page, Request, State, Subject};
use crate::time::Instant;

/// What a vNIC should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Digest of its entries ([`super::TableDigest`]).
    pub digest: u64,
    /// Their number.
    pub entries: u32,
    /// Its MTU; `None`: any.
    pub mtu: Option<u16>,
    /// Its offloads; `None`: any.
    pub offload: Option<u16>,
}

impl Wanted {
    fn parameters_are_met_by(&self, state: &State) -> bool {
        self.mtu.is_none_or(|mtu| mtu == state.mtu)
            && self.offload.is_none_or(|wanted| state.offload == Some(wanted))
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Send this request.
    Ask(Request),
    /// Send the plan's next commands; [`Convergence::pushed`] when all are answered.
    Push,
}

/// What is known of the vNIC's entries, for whoever makes the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing new.
    Nothing,
    /// It has none.
    Empty,
    /// It has exactly the wanted ones; only parameters may differ.
    Wanted,
    /// A listing begins (anew).
    Listing,
    /// Those that were listed.
    Listed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It has to be asked for its state.
    Asking,
    /// It has to be asked for its state, to confirm what was pushed.
    Confirming,
    Listing {
        from: u32,
        digest: u64,
    },
    Pushing,
    Settled,
}

/// The way of one vNIC to its wanted state.
#[derive(Clone, Copy, Debug)]
pub struct Convergence {
    phase: Phase,
    /// Times that something differed although all was pushed.
    rounds: u32,
    not_before: Instant,
    check_at: Instant,
    /// A table with this digest was listed and has nothing that differs in what matters.
    acceptable: Option<u64>,
    listed: u64,
}

/// Pause before the second round, in nanoseconds; it doubles from there.
const FIRST_PAUSE: u64 = 100_000_000;
/// Longest pause between two rounds.
const LONGEST_PAUSE: u64 = 30_000_000_000;

impl Default for Convergence {
    fn default() -> Self {
        Self {
            phase: Phase::Asking,
            rounds: 0,
            not_before: Instant::ZERO,
            check_at: Instant::ZERO,
            acceptable: None,
            listed: 0,
        }
    }
}

impl Convergence {
    /// Whether the vNIC has said that it is as wanted.
    pub fn is_settled(&self) -> bool {
        self.phase == Phase::Settled
    }

    /// Whether what differs is being sent.
    pub fn is_pushing(&self) -> bool {
        self.phase == Phase::Pushing
    }

    /// How often something differed although everything had been sent.
    pub const fn rounds(&self) -> u32 {
        self.rounds
    }

    /// The vNIC has told its state. While something is being pushed or listed it says nothing that will still be true
    /// in the end. `period`: nanoseconds until it is asked again, if all is well.
    pub fn told(&mut self, now: Instant, state: &State, wanted: &Wanted, period: u64) -> Known {
        if matches!(self.phase, Phase::Pushing | Phase::Listing { .. }) {
            return Known::Nothing;
        }
        let same_table = (state.digest == wanted.digest && state.entries == wanted.entries)
            || self.acceptable == Some(state.digest);
        if same_table && wanted.parameters_are_met_by(state) {
            self.phase = Phase::Settled;
            self.rounds = 0;
            self.check_at = after(now, period);
            return Known::Wanted;
        }
        if self.phase == Phase::Confirming {
            self.not_before = after(now, FIRST_PAUSE.saturating_mul(1 << self.rounds.min(16)).min(LONGEST_PAUSE));
            self.rounds = self.rounds.saturating_add(1);
        }
        if same_table || state.entries == 0 {
            self.phase = Phase::Pushing;
            return if same_table { Known::Wanted } else { Known::Empty };
        }
        self.phase = Phase::Listing { from: 0, digest: 0 };
        Known::Listing
    }

    /// A page of entries has come. `Listing`: they are of another table than those before, which must be forgotten,
    /// and so must these; `Nothing`: the page is good, and more are to come.
    pub fn page(&mut self, page: &Page) -> Known {
        let Phase::Listing { from, digest } = self.phase else { return Known::Nothing };
        if from != 0 && digest != page.digest {
            self.phase = Phase::Listing { from: 0, digest: 0 };
            return Known::Listing;
        }
        if page.last {
            self.listed = page.digest;
            self.phase = Phase::Pushing;
            return Known::Listed;
        }
        self.phase = Phase::Listing { from: page.next, digest: page.digest };
        Known::Nothing
    }

    /// What was listed differs from what is wanted in nothing that matters: the digest differs all the same.
    pub const fn listing_is_acceptable(&mut self) {
        self.acceptable = Some(self.listed);
    }

    /// Every command of the plan is answered.
    pub fn pushed(&mut self) {
        if self.phase == Phase::Pushing {
            self.phase = Phase::Confirming;
        }
    }

    /// Something else is wanted now. Returns whether what the vNIC has is known, so that a plan can be made at once.
    pub fn wanted_changed(&mut self) -> bool {
        self.acceptable = None;
        self.rounds = 0;
        self.not_before = Instant::ZERO;
        let known = matches!(self.phase, Phase::Settled | Phase::Pushing | Phase::Confirming);
        if known {
            self.phase = Phase::Pushing;
        }
        known
    }

    /// Something may have changed in the vNIC, or it should show that it is there: its state is asked for soon.
    pub fn check(&mut self) {
        if self.phase == Phase::Settled {
            self.phase = Phase::Asking;
        }
    }

    /// What to do now.
    pub fn step(&self, now: Instant) -> Step {
        if now < self.not_before {
            return Step::Nothing;
        }
        match self.phase {
            Phase::Asking | Phase::Confirming => Step::Ask(Request { subject: Subject::State, from: 0 }),
            Phase::Listing { from, .. } => Step::Ask(Request { subject: Subject::Entries, from }),
            Phase::Pushing => Step::Push,
            Phase::Settled if now >= self.check_at => Step::Ask(Request { subject: Subject::State, from: 0 }),
            Phase::Settled => Step::Nothing,
        }
    }

    /// When there will be something to do that is not to be done now: nanoseconds from `now`. `None`: nothing but an
    /// answer leads on.
    pub fn next_step(&self, now: Instant) -> Option<u64> {
        let left = |at: Instant| at.nanos_since(now);
        if now < self.not_before {
            return Some(left(self.not_before));
        }
        (self.phase == Phase::Settled && now < self.check_at).then(|| left(self.check_at))
    }
}

const fn after(now: Instant, nanos: u64) -> Instant {
    Instant::from_nanos(now.as_nanos().saturating_add(nanos))
}
