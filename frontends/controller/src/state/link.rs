//! A vNIC that speaks version 3 of the control protocol: the core's session and its way to the wanted state, with the
//! plan that makes differences good.

mod associations;
mod greeting;
mod message;
mod statistics;
mod work;

use std::time::Duration;

use cvsw_core::{
    Instant,
    control::{
        MAX_FRAME_LEN, OffloadFlags, SaAnswer, SetSa,
        v3::{
            Answer, ControllerSession, Convergence, Event, Known, Listed, ListedSa, Message, Page, Reason, Refusal,
            Registered, State, Step, Subject, TableDigest, Wanted,
        },
    },
    mtu::IpMtu,
    openflow::{RemovedReason, decode_flow_mod, encode_flow_mod},
};

use super::{
    counted::Counted,
    vnic::{Control, Wire},
};
use crate::{
    config::Timers,
    derive::{Desired, EntryId},
    mac::Mac,
    plan::{Belief, Command, Listing},
};

use message::describe;
use statistics::Statistics;
use work::{Sent, Work};

/// Repetitions without an answer after which a vNIC counts as silent.
const SILENT_AFTER: u32 = 2;
/// Rounds after which differences that remain are an error worth showing.
const DIVERGED_AFTER: u32 = 3;

/// A session with a few commands under way: more would only wait, since many vNICs are brought to their state at once.
pub type Session = ControllerSession<8>;

/// What a vNIC has told, for whoever asked.
#[derive(Debug, Default)]
pub struct Told {
    /// Its counters have come: those before.
    pub counted: Option<Counted>,
    /// Answers to SET_SA.
    pub orders: Vec<SaAnswer>,
    /// The digest of its security associations.
    pub sa_digest: Option<u64>,
    /// All of them, because they were asked for.
    pub associations: Option<Vec<ListedSa>>,
    /// What is wrong.
    pub errors: Vec<String>,
}

/// The session with one vNIC.
#[derive(Debug)]
pub struct Link {
    session: Session,
    convergence: Convergence,
    wanted: Wanted,
    /// Boxed, and here only while there is something: most vNICs have nothing under way most of the time.
    work: Option<Box<Work>>,
    next_token: u32,
    /// What is sent next depends on what was sent last.
    chained: bool,
    /// The plan has to be made when nothing of the last one is under way.
    replan: bool,
    /// It has said that it has come up, and waits for a HELLO.
    greet: bool,
    /// The last HELLO.
    greeted_at: Option<Duration>,
    /// HELLOs since it was heard.
    vain_hellos: u8,
    statistics: Statistics,
    /// What it said last about itself.
    state: Option<State>,
}

fn instant(now: Duration) -> Instant {
    Instant::from_nanos(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Link {
    /// A session whose vNIC has just registered.
    pub fn new(session: Session, desired: &Desired) -> Self {
        Self {
            session,
            convergence: Convergence::default(),
            wanted: wanted(desired, &Belief::default()),
            work: None,
            next_token: 0,
            chained: false,
            replan: false,
            statistics: Statistics::default(),
            state: None,
            greet: false,
            greeted_at: None,
            vain_hellos: 0,
        }
    }

    /// The session.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Takes a REGISTER of this vNIC. What was under way in an earlier life of it is void.
    ///
    /// # Errors
    /// See [`ControllerSession::register`].
    pub fn register(
        &mut self,
        message: &Message<'_>,
        challenge: u64,
    ) -> Result<Registered, cvsw_core::ControlError> {
        let registered = self.session.register(message, challenge)?;
        (self.greet, self.vain_hellos) = (false, 0);
        if registered.fresh {
            self.convergence = Convergence::default();
            self.work = None;
            self.replan = false;
            self.statistics = Statistics::default();
        }
        Ok(registered)
    }

    /// Another state is wanted.
    pub fn want(&mut self, desired: &Desired, belief: &Belief) {
        self.expect(desired, belief);
        if self.convergence.wanted_changed() {
            self.replan = true;
        }
    }

    /// What it said last about itself.
    pub const fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The wanted state, without the entries whose time is up, is what it should tell.
    pub fn expect(&mut self, desired: &Desired, belief: &Belief) {
        self.wanted = wanted(desired, belief);
    }

    /// Asks it soon whether it is there.
    pub fn probe(&mut self) {
        self.convergence.check();
    }

    fn work(&mut self) -> &mut Work {
        self.work.get_or_insert_default()
    }

    /// Gives it an order about an association, unless it has this one already.
    pub fn order(&mut self, order: SetSa) {
        let under_way =
            |(_, sent): &(u32, Sent)| matches!(sent, Sent::Order(o) if o.transaction == order.transaction);
        let work = self.work();
        if !work.sent.iter().any(under_way) && work.orders.iter().all(|o| o.transaction != order.transaction) {
            work.orders.push_back(Box::new(order));
        }
    }

    /// Whether it has not answered for so long that it may be gone.
    pub const fn is_silent(&self) -> bool {
        self.session.unheard() >= SILENT_AFTER
    }

    /// Whether it has said that it is as wanted.
    pub fn is_settled(&self) -> bool {
        self.convergence.is_settled() && !self.replan
    }

    /// Whether something is being sent.
    pub fn is_pushing(&self) -> bool {
        self.replan || self.convergence.is_pushing()
    }

    /// Whether it answers and does not take what it is sent.
    pub const fn has_diverged(&self) -> bool {
        self.convergence.rounds() >= DIVERGED_AFTER
    }

    /// It has told its state, in REGISTER or because it was asked.
    pub fn told(&mut self, now: Duration, state: &State, timers: &Timers, belief: &mut Belief, desired: &Desired) {
        self.state = Some(*state);
        let known = self.convergence.told(instant(now), state, &self.wanted, nanos(timers.keepalive));
        if known != Known::Nothing {
            belief.parameters(IpMtu::new(state.mtu), state.offload.map(OffloadFlags));
        }
        match known {
            Known::Empty => belief.replace(Listing::default(), desired),
            Known::Wanted => belief.replace_with_wanted(),
            Known::Listing => self.work().listed = Listing::default(),
            Known::Listed | Known::Nothing => {}
        }
        self.replan |= matches!(known, Known::Empty | Known::Wanted) && self.convergence.is_pushing();
        if state.epoch < self.session.epoch() {
            // It obeys another controller until it hears of us.
            self.convergence.check();
        }
    }

    /// Takes a message of the vNIC, but REGISTER.
    ///
    /// # Errors
    /// The name of what is wrong. Nothing has changed then.
    pub fn receive(
        &mut self,
        now: Duration,
        message: &Message<'_>,
        timers: &Timers,
        belief: &mut Belief,
        desired: &Desired,
    ) -> Result<Told, &'static str> {
        let mut told = Told::default();
        let event = self.session.receive(instant(now), message).map_err(|error| error.name())?;
        self.vain_hellos = 0;
        match event {
            Event::Nothing => {}
            Event::Answered { token, answer } => self.answered(token, &answer, (belief, desired), &mut told),
            Event::Page(page, items) if page.subject == Subject::Statistics => {
                told.counted = self.counters(now, &page, items, timers, &mut told.sa_digest)?;
            }
            Event::Page(page, items) if page.subject == Subject::Associations => {
                told.associations = self.association_page(&page, items)?;
            }
            Event::Page(page, items) => self.page(&page, items, belief, desired)?,
            Event::State(state) => self.told(now, &state, timers, belief, desired),
            Event::Removed(removed) => {
                let entry = EntryId { matching: removed.matching, priority: removed.priority };
                if removed.reason == RemovedReason::Delete {
                    belief.forget(entry, desired);
                } else {
                    belief.expire(entry, desired);
                    self.expect(desired, belief);
                }
                self.convergence.check();
            }
            Event::Fenced(epoch) => {
                let epoch = epoch >> super::SESSION_BITS;
                told.errors.push(format!("another controller, with epoch {epoch}, has taken it over"));
            }
        }
        Ok(told)
    }

    fn answered(
        &mut self,
        token: u32,
        answer: &Answer,
        (belief, desired): (&mut Belief, &Desired),
        told: &mut Told,
    ) {
        let Some(work) = &mut self.work else { return };
        let Some(at) = work.sent.iter().position(|(sent, _)| *sent == token) else { return };
        let Some((_, sent)) = work.sent.remove(at) else { return };
        match sent {
            Sent::Order(_) => match (answer.association, answer.refusal) {
                (Some(about), _) => told.orders.push(about),
                // It could not even read it; the keys' own patience repeats it.
                (None, Some(refusal)) => told.errors.push(format!("it refuses SET_SA: {refusal}")),
                (None, None) => told.errors.push("it acknowledges SET_SA without an answer".to_owned()),
            },
            Sent::Command(command) => match answer.refusal {
                None => belief.acknowledged(&command, desired),
                Some(refusal) => {
                    // The rest of the plan was chained to it; what is missing is found by the next comparison.
                    work.outbox.clear();
                    self.chained = false;
                    if refusal != Refusal::Control(Reason::Skipped) {
                        told.errors.push(format!("it refuses {}: {refusal}", describe(&command)));
                    }
                }
            },
        }
    }

    fn page(
        &mut self,
        page: &Page,
        mut items: &[u8],
        belief: &mut Belief,
        desired: &Desired,
    ) -> Result<(), &'static str> {
        let mut flows = Vec::with_capacity(page.count.into());
        while !items.is_empty() {
            let (entry, rest) = Listed::parse(items).map_err(|error| error.name())?;
            flows.push(entry.flow);
            items = rest;
        }
        match self.convergence.page(page) {
            Known::Listing => self.work().listed = Listing::default(),
            known => {
                let listed = &mut self.work().listed;
                flows.iter().for_each(|flow| listed.add(belief, flow));
                if known == Known::Listed {
                    belief.replace(std::mem::take(listed), desired);
                    self.replan = true;
                }
            }
        }
        Ok(())
    }

    /// Messages that bring it to its state, and that it has not answered; none if it does not answer at all.
    pub fn unanswered(&self) -> u32 {
        if self.session.unheard() > 0 {
            return 0;
        }
        let sent = self.work.iter().flat_map(|work| &work.sent);
        let commands = sent.filter(|(_, sent)| matches!(sent, Sent::Command(_))).count();
        u32::try_from(commands).unwrap_or(u32::MAX).saturating_add(self.session.is_asking().into())
    }

    /// Whether it has orders that are not carried out.
    pub fn has_orders(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.has_orders())
    }

    /// What the last answer that could be measured took; told once.
    pub const fn take_round_trip(&mut self) -> Option<Duration> {
        match self.session.take_sample() {
            Some(nanos) => Some(Duration::from_nanos(nanos)),
            None => None,
        }
    }

    /// When there is something to do, if nothing happens before.
    pub fn due(&self, now: Duration) -> Duration {
        let after = |nanos| now.saturating_add(Duration::from_nanos(nanos));
        let hello = self.hello_at();
        let counters = self.is_settled().then_some(self.statistics.due);
        let later = self.convergence.next_step(instant(now)).map(after).into_iter().chain(hello).chain(counters);
        // What is past waits for an answer.
        let later = later.filter(|at| *at > now);
        later.chain(self.session.next_timeout(instant(now)).map(after)).min().unwrap_or(Duration::MAX)
    }

    /// Does what is due. Returns how many messages were sent.
    pub fn poll(
        &mut self,
        now: Duration,
        place: (u16, Mac),
        belief: &Belief,
        desired: &Desired,
        wire: &mut impl Wire,
    ) -> u64 {
        let (port, mac) = place;
        self.submit_orders();
        if self.convergence.step(instant(now)) == Step::Push {
            self.push(belief, desired);
        }
        // When the last command is answered, the next step is to ask.
        match self.convergence.step(instant(now)) {
            Step::Nothing if self.asks_for_associations() => self.ask_for_associations(),
            Step::Nothing if now >= self.statistics.due => self.ask_for_counters(),
            Step::Nothing | Step::Push => {}
            Step::Ask(request) => drop(self.session.ask(request)),
        }
        let mut count = 0;
        while let Some(outgoing) = self.session.poll(instant(now)) {
            let mut frame = [0; MAX_FRAME_LEN];
            let (what, written) = self.write(&outgoing, mac, wire.ethertype(), &mut frame);
            match written {
                Ok(len) => wire.frame(port, mac, what, &frame[..len]),
                Err(error) => tracing::error!(vnic = %mac, "{what} could not be written: {error}"),
            }
            count += 1;
        }
        if self.takes_hello(now) {
            wire.control(port, mac, &Control::Hello);
            count += 1;
        }
        self.work.take_if(|work| work.is_nothing());
        count
    }

    fn submit_orders(&mut self) {
        while self.session.has_room() {
            let Some(order) = self.work.as_mut().and_then(|work| work.orders.pop_front()) else { break };
            // Whether it is carried out says nothing about the plan, and the other way round.
            self.submit(Sent::Order(order), false);
            self.chained = false;
        }
    }

    fn push(&mut self, belief: &Belief, desired: &Desired) {
        if self.replan && !self.work.as_ref().is_some_and(|work| work.plan_is_under_way()) {
            self.replan = false;
            self.chained = false;
            let outbox = &mut self.work.get_or_insert_default().outbox;
            *outbox = belief.plan(desired).into();
            if !outbox.iter().any(|command| matches!(command, Command::Set(_) | Command::Delete(_))) {
                self.convergence.listing_is_acceptable();
            }
        }
        while !self.replan && self.session.has_room() {
            let Some(command) = self.work.as_mut().and_then(|work| work.outbox.pop_front()) else { break };
            self.submit(Sent::Command(command), self.chained);
            self.chained = true;
        }
        let all_is_sent = self.work.as_ref().is_none_or(|work| work.outbox.is_empty());
        if !self.replan && all_is_sent && self.session.is_idle() {
            self.convergence.pushed();
        }
    }

    fn submit(&mut self, sent: Sent, chained: bool) {
        let token = self.next_token;
        self.next_token = token.wrapping_add(1);
        if self.session.submit(token, chained).is_some() {
            self.work().sent.push_back((token, sent));
        }
    }
}

/// What the core's convergence compares. Entries are taken as a vNIC will have them: as they are after a journey.
fn wanted(desired: &Desired, belief: &Belief) -> Wanted {
    let mut digest = TableDigest::default();
    let mut scratch = [0; MAX_FRAME_LEN];
    let mut entries = 0u32;
    for flow in &desired.flows {
        if belief.has_expired(&flow) {
            continue;
        }
        entries = entries.saturating_add(1);
        let arrived = encode_flow_mod(&flow, 0, &mut scratch)
            .ok()
            .and_then(|len| decode_flow_mod(scratch.get(..len).unwrap_or_default()).ok());
        // An entry that cannot be written is refused by the configuration's check.
        let _ = digest.add(arrived.as_ref().unwrap_or(&flow), &mut scratch);
    }
    Wanted {
        digest: digest.value(),
        entries,
        mtu: desired.mtu.map(IpMtu::get),
        offload: desired.offloads.map(|flags| flags.0),
    }
}
