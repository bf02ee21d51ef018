//! One registered vNIC: pushes its state, has it confirmed, and keeps watching it.

mod rounds;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use cvsw_core::{
    ControlError,
    control::{
        SetSa,
        v3::{Message, Registered, State},
    },
    openflow::FlowRemoved,
};

use super::{
    link::{Link, Told},
    register::first_good,
};

use crate::{
    config::Timers,
    derive::{Desired, EntryId},
    mac::Mac,
    plan::{Belief, Command, Listing},
    wheel::Wake,
};

/// A vNIC gets its full state at most once in this time, however often it registers.
const MIN_BETWEEN_FULL: Duration = Duration::from_secs(1);
/// Unanswered listings after which a vNIC counts as silent.
const SILENT_AFTER: u32 = 2;
/// Rounds after which differences that remain are an error worth showing.
const DIVERGED_AFTER: u32 = 3;
/// Pause between two probes of a vNIC that answers.
const MIN_BETWEEN_PROBES: Duration = Duration::from_secs(1);
/// Error texts that are kept for the status.
const KEPT_ERRORS: usize = 8;

/// A port of a switch connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The connection.
    pub connection: super::ConnectionId,
    /// OpenFlow port number.
    pub port: u16,
}

/// A control message to a vNIC.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// HELLO, to whoever is there.
    Hello,
    /// LIST_ENTRIES to one vNIC.
    List,
    /// A change.
    Command(Command),
}

/// The way to the vNIC.
pub trait Wire {
    /// Sends a control message to the vNIC `mac` on `port`.
    fn control(&mut self, port: u16, mac: Mac, control: &Control);
    /// Sends a control frame that is written already; `what` is its name.
    fn frame(&mut self, port: u16, mac: Mac, what: &'static str, frame: &[u8]);
    /// EtherType of control frames.
    fn ethertype(&self) -> u16;
    /// Sends a barrier request for the batch of `mac` and returns its transaction number.
    fn barrier(&mut self, mac: Mac) -> u32;
}

/// What a vNIC is doing, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not registered.
    Absent,
    /// Changes are being sent.
    Pushing,
    /// All was sent; the vNIC has not yet confirmed it.
    Verifying,
    /// The vNIC has exactly the wanted entries.
    Ready,
    /// It answers, but does not take what it is sent.
    Diverged,
    /// It does not answer.
    Silent,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Absent, Self::Pushing, Self::Verifying, Self::Ready, Self::Diverged, Self::Silent];

    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Pushing => "pushing",
            Self::Verifying => "verifying",
            Self::Ready => "ready",
            Self::Diverged => "diverged",
            Self::Silent => "silent",
        }
    }
}

#[derive(Debug)]
enum Operation {
    None,
    /// A batch of so many was sent, and its barrier is not answered.
    Batch {
        barrier: u32,
        sent: Duration,
        count: u32,
    },
    /// LIST_ENTRIES was sent.
    Listing {
        deadline: Duration,
        seen: Listing,
    },
}

/// A registered vNIC.
#[derive(Debug)]
pub struct Vnic {
    mac: Mac,
    /// Where it is.
    pub location: Location,
    desired: Arc<Desired>,
    belief: Belief,
    /// Its session, if it speaks version 3; what is about rounds, batches and listings is of version 2 only.
    link: Option<Box<Link>>,
    operation: Operation,
    outbox: VecDeque<Command>,
    /// The wanted or the believed state has changed since `outbox` was computed.
    replan: bool,
    /// A listing is due.
    verify: bool,
    /// Nothing is sent before.
    not_before: Duration,
    keepalive_at: Duration,
    settled: bool,
    /// Rounds that left differences.
    rounds: u32,
    /// Listings without an answer.
    unanswered: u32,
    full_push_at: Option<Duration>,
    /// When it registered (or was found again).
    pub since: Duration,
    /// When it was last heard.
    pub last_contact: Duration,
    /// REGISTER messages accepted.
    pub registrations: u64,
    /// Control messages sent, HELLO and LIST_ENTRIES included.
    pub sent: u64,
    errors: VecDeque<String>,
    /// It waits for its turn.
    pub(super) queued: bool,
    /// Somebody is to be told that it may have changed.
    pub(super) touched: bool,
    /// When it has something to do, if nothing happens before.
    pub(super) wake: Wake,
    /// Messages that count as unanswered.
    pub(super) counted: u32,
}

impl Vnic {
    /// A vNIC that was heard of at `location`.
    pub fn new(now: Duration, mac: Mac, location: Location, desired: Arc<Desired>) -> Self {
        Self {
            mac,
            location,
            desired,
            belief: Belief::default(),
            link: None,
            operation: Operation::None,
            outbox: VecDeque::new(),
            replan: true,
            verify: true,
            not_before: now,
            keepalive_at: now,
            settled: false,
            rounds: 0,
            unanswered: 0,
            full_push_at: None,
            since: now,
            last_contact: now,
            registrations: 0,
            sent: 0,
            errors: VecDeque::new(),
            queued: false,
            touched: false,
            wake: Wake::NEVER,
            counted: 0,
        }
    }

    /// It has sent REGISTER: it has nothing, or nothing that counts, and gets its full state.
    pub fn register(&mut self, now: Duration) {
        let allowed = match self.full_push_at {
            // It has not even begun.
            Some(planned) if planned > now => planned,
            Some(last) => now.max(last.saturating_add(MIN_BETWEEN_FULL)),
            None => now,
        };
        self.full_push_at = Some(allowed);
        self.not_before = allowed;
        self.belief = Belief::default();
        self.operation = Operation::None;
        self.since = now;
        self.registrations += 1;
        self.restart_rounds();
        self.heard(now);
    }

    /// It was found at work: it has begun to answer a listing that was asked for before it was known here. It keeps
    /// what it has, and that listing shows what it lacks.
    pub fn resume(&mut self, now: Duration, answer: Duration) {
        self.replan = false;
        self.operation = Operation::Listing { deadline: now.saturating_add(answer), seen: Listing::default() };
        self.heard(now);
    }

    /// It should have this state from now on. Returns whether that is another one.
    pub fn want(&mut self, now: Duration, desired: Arc<Desired>) -> bool {
        if Arc::ptr_eq(&self.desired, &desired) || self.desired == desired {
            return false;
        }
        self.belief.replaced(&self.desired, &desired);
        self.desired = desired;
        if let Some(link) = &mut self.link {
            link.want(&self.desired, &self.belief);
        }
        self.restart_rounds();
        self.not_before = now.max(self.full_push_at.unwrap_or(now));
        true
    }

    /// Asks it soon whether it is there.
    pub fn probe(&mut self, now: Duration) {
        if now.saturating_sub(self.last_contact) >= MIN_BETWEEN_PROBES {
            self.verify = true;
            if let Some(link) = &mut self.link {
                link.probe();
            }
        }
    }

    /// It has registered with version 3.
    pub fn speak_3(&mut self, now: Duration, mut link: Link, state: &State, timers: &Timers) {
        link.told(now, state, timers, &mut self.belief, &self.desired);
        self.link = Some(Box::new(link));
        self.registrations += 1;
        self.heard(now);
    }

    /// Its session of version 3.
    pub fn link(&self) -> Option<&Link> {
        self.link.as_deref()
    }

    /// Whether this REGISTER only says that it has come up; it then gets a HELLO.
    pub fn announced_3(&mut self, message: &Message<'_>) -> bool {
        let Some(link) = self.link.as_mut().filter(|link| link.session().is_announcement(message)) else {
            return false;
        };
        link.announced();
        true
    }

    /// It has sent another REGISTER of version 3, to one of these challenges.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn register_3(
        &mut self,
        now: Duration,
        message: &Message<'_>,
        challenges: [u64; 2],
        timers: &Timers,
    ) -> Result<Registered, ControlError> {
        let Some(link) = &mut self.link else { return Err(ControlError::NotConnected) };
        let registered = first_good(challenges, |challenge| link.register(message, challenge))?;
        if registered.fresh {
            self.belief = Belief::default();
            link.expect(&self.desired, &self.belief);
            self.since = now;
        }
        link.told(now, &registered.state, timers, &mut self.belief, &self.desired);
        self.registrations += 1;
        self.heard(now);
        Ok(registered)
    }

    /// It has sent a message of version 3, but REGISTER.
    ///
    /// # Errors
    /// The name of what is wrong.
    pub fn receive_3(
        &mut self,
        now: Duration,
        message: &Message<'_>,
        timers: &Timers,
    ) -> Result<Told, &'static str> {
        let Some(link) = &mut self.link else { return Err("not_registered") };
        let told = link.receive(now, message, timers, &mut self.belief, &self.desired)?;
        self.heard(now);
        Ok(told)
    }

    /// Asks it for its associations, if it tells of them.
    pub fn list_associations(&mut self) {
        if let Some(link) = &mut self.link {
            link.list_associations();
        }
    }

    /// Somebody looks at it.
    pub fn watch(&mut self) {
        if let Some(link) = &mut self.link {
            link.watch();
        }
    }

    /// Gives it an order about an association. `false`: it does not speak version 3 with a key.
    pub fn order(&mut self, order: &SetSa) -> bool {
        match &mut self.link {
            Some(link) if link.session().keys().is_set() => {
                link.order(order.clone());
                true
            }
            _ => false,
        }
    }

    /// It was heard.
    pub fn heard(&mut self, now: Duration) {
        self.last_contact = now;
        self.unanswered = 0;
    }

    /// One of its entries timed out.
    pub fn removed(&mut self, removed: &FlowRemoved) {
        let entry = EntryId { matching: removed.matching, priority: removed.priority };
        self.belief.expire(entry, &self.desired);
    }

    /// Does what is due. Returns how many messages were sent again, because no answer came in time.
    pub fn poll(&mut self, now: Duration, timers: &Timers, wire: &mut impl Wire) -> u64 {
        let Some(link) = &mut self.link else { return self.poll_2(now, timers, wire).into() };
        let before = link.session().repeated();
        self.sent += link.poll(now, (self.location.port, self.mac), &self.belief, &self.desired, wire);
        link.session().repeated().saturating_sub(before)
    }

    /// Messages that bring it to its state, and are on their way: that it may still answer in time.
    pub fn unanswered(&self, now: Duration, patience: Duration) -> u32 {
        match (&self.link, &self.operation) {
            (Some(link), _) => link.unanswered(),
            (None, _) if self.unanswered > 0 => 0,
            (None, Operation::Batch { sent, count, .. }) if now < sent.saturating_add(patience) => *count,
            (None, Operation::Listing { .. }) => u32::try_from(self.desired.flows.len()).unwrap_or(u32::MAX),
            (None, _) => 0,
        }
    }

    /// Whether it need not wait for a turn: it has begun, or has something to say about keys, which have room of their own.
    pub fn is_admitted(&self) -> bool {
        self.counted > 0 || self.link.as_ref().is_some_and(|link| link.has_orders())
    }

    /// When it has something to do, if nothing happens before.
    pub fn due(&self, now: Duration, timers: &Timers) -> Duration {
        let due = self.link.as_ref().map_or_else(|| self.due_2(now, timers.answer), |link| link.due(now));
        // Whatever it waits for: nobody is forgotten.
        let patience = if self.phase() == Phase::Ready { timers.keepalive } else { timers.answer };
        due.min(now.saturating_add(patience))
    }

    /// What the last answer that could be measured took; told once.
    pub fn take_round_trip(&mut self) -> Option<Duration> {
        self.link.as_mut()?.take_round_trip()
    }

    /// Notes an error for the status; the last few are kept.
    pub fn note(&mut self, error: String) {
        tracing::warn!(vnic = %self.mac, "{error}");
        if self.errors.len() == KEPT_ERRORS {
            self.errors.pop_front();
        }
        self.errors.push_back(error);
    }

    /// Errors that were noted, oldest first.
    pub fn errors(&self) -> impl Iterator<Item = &str> {
        self.errors.iter().map(String::as_str)
    }

    /// Whether it has not answered for so long that it may be gone.
    pub fn is_silent(&self) -> bool {
        self.link.as_ref().map_or(self.unanswered >= SILENT_AFTER, |link| link.is_silent())
    }

    /// The wanted state.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// What it is believed to have.
    pub const fn belief(&self) -> &Belief {
        &self.belief
    }

    /// How many of the wanted entries it has listed.
    pub fn confirmed(&self) -> usize {
        let wanted = self.desired.flows.len();
        if self.phase() == Phase::Ready && self.belief.len(&self.desired) >= wanted {
            return wanted;
        }
        self.belief.confirmed(&self.desired)
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        if let Some(link) = self.link.as_ref().filter(|link| !link.is_silent()) {
            return match () {
                () if link.is_settled() => Phase::Ready,
                () if link.has_diverged() => Phase::Diverged,
                () if link.is_pushing() => Phase::Pushing,
                () => Phase::Verifying,
            };
        }
        if self.is_silent() {
            Phase::Silent
        } else if self.settled && !self.replan {
            Phase::Ready
        } else if self.rounds >= DIVERGED_AFTER {
            Phase::Diverged
        } else if self.replan || !self.outbox.is_empty() || matches!(self.operation, Operation::Batch { .. }) {
            Phase::Pushing
        } else {
            Phase::Verifying
        }
    }
}
