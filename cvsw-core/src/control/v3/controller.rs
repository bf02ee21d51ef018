//! The controller's side of version 3, for one vNIC: commands under way, repeated with ever longer pauses until each is
//! answered, and one request at a time.
//!
//! # Repetition
//!
//! How long an answer may take is measured ([`RoundTrip`]). If it does not come, only the oldest command is repeated: the
//! others may well be on their way, behind it. When that one is answered, the newest is repeated as well. It finds out what
//! became of those between: either the vNIC lacks one and says so, and then all from there on are sent again; or it
//! answers, and then what is still unanswered has lost its answer. So a channel that has become slow costs two messages,
//! and one that has lost a window full costs two round trips. Where losses go on, everything is repeated at once.
//!
//! The session keeps numbers and times only. What a command says is the caller's: [`ControllerSession::poll`] names the
//! command by the caller's token, and the caller writes it ([`ControllerSession::header`]), again and again if need be.

mod flight;

use super::{
    answer::{Answer, Reason, Refusal},
    keys::ControlKeys,
    message::{Header, Kind, Message},
    report::{Page, Request, State, Subject},
    round_trip::RoundTrip,
};
use crate::{flow::MacAddr, frame::NoRoom, openflow::FlowRemoved, stats::ControlError, time::Instant};
use flight::{Asked, Attempts, InFlight, numbered};
use heapless::Deque;

/// A session with a vNIC. `WINDOW`: commands that may be unanswered, at most the vNIC's
/// ([`State::window`]).
#[derive(Debug)]
pub struct ControllerSession<const WINDOW: usize = 16> {
    keys: ControlKeys,
    epoch: u64,
    /// 0: it has not registered.
    instance: u64,
    /// Number of the next command.
    next: u64,
    window: Deque<InFlight, WINDOW>,
    request: Option<Asked>,
    next_request: u64,
    round_trip: RoundTrip,
    /// When something was answered last: the timer began anew (RFC 6298, 5.3).
    answered_at: Instant,
    /// The oldest command was repeated, and no command was answered since.
    probing: bool,
    /// What the last answer took, until somebody asks.
    sample: Option<u64>,
    /// Messages that were sent again, in this session.
    repeated: u64,
    /// Repetitions since it was last heard.
    unheard: u32,
    removals_seen: u64,
    /// The challenge that was answered last.
    used_challenge: u64,
    fenced: Option<u64>,
}

/// A message that is to be written and sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// The command with this token, as number `sequence`.
    Command {
        /// Its number.
        sequence: u64,
        /// The caller's name for it.
        token: u32,
        /// To be carried out only if the one before it was.
        chained: bool,
    },
    /// This request.
    Request {
        /// Its number.
        sequence: u64,
        /// What is asked for.
        request: Request,
    },
}

/// What a message of the vNIC means.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "transient, and there is no allocator to box it with")]
pub enum Event<'a> {
    /// Nothing new.
    Nothing,
    /// The command with this token was decided on. It will not be sent again.
    Answered {
        /// The caller's name for it.
        token: u32,
        /// What became of it.
        answer: Answer,
    },
    /// The page that was asked for, and its items.
    Page(Page, &'a [u8]),
    /// The state that was asked for.
    State(State),
    /// An entry has left the table.
    Removed(FlowRemoved),
    /// Another controller, with this epoch, has taken over. Nothing is sent any more.
    Fenced(u64),
}

/// What a REGISTER means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// What the vNIC has.
    pub state: State,
    /// It is another instance than before, or the first: what was under way is void.
    pub fresh: bool,
}

/// Writes a HELLO with a challenge that is not 0 to `mac`, which may be broadcast; returns its length.
///
/// # Errors
/// `NoRoom`.
pub fn hello(ethertype: u16, mac: MacAddr, epoch: u64, challenge: u64, out: &mut [u8]) -> Result<usize, NoRoom> {
    let header = Header { mac, kind: Kind::Hello, chained: false, data: 0, instance: 0, epoch, sequence: 0 };
    header.emit_bytes(ethertype, &ControlKeys::NONE, out, &challenge.to_be_bytes())
}

impl<const WINDOW: usize> ControllerSession<WINDOW> {
    /// A session with a vNIC that has not registered. `epoch` is not 0 and higher than that of any controller before.
    /// An answer is waited for at least `timeout` nanoseconds; longer if answers take longer.
    pub const fn new(keys: ControlKeys, epoch: u64, timeout: u64) -> Self {
        Self {
            keys,
            epoch,
            instance: 0,
            next: 1,
            window: Deque::new(),
            request: None,
            next_request: 1,
            round_trip: RoundTrip::new(timeout),
            answered_at: Instant::ZERO,
            probing: false,
            sample: None,
            repeated: 0,
            unheard: 0,
            removals_seen: 0,
            used_challenge: 0,
            fenced: None,
        }
    }

    /// Takes a REGISTER that answers `challenge`. Each challenge is good for one REGISTER: so a late one of an earlier life
    /// of the vNIC cannot bring that life back, and no command's number is ever used for two.
    ///
    /// # Errors
    /// Those of [`Message::authenticate`]; `Replayed` for the answer to another challenge; `Data` if what it says is
    /// not acceptable; `StaleEpoch` if another controller with a higher epoch has it.
    pub fn register(&mut self, message: &Message<'_>, challenge: u64) -> Result<Registered, ControlError> {
        message.authenticate(&self.keys)?;
        let state = State::parse(message.payload)?;
        if challenge == 0 || state.challenge != challenge || challenge == self.used_challenge {
            return Err(ControlError::Replayed);
        }
        let instance = message.header.instance;
        if message.header.kind != Kind::Register || instance == 0 || usize::from(state.window) < WINDOW {
            return Err(ControlError::Data);
        }
        if state.epoch > self.epoch {
            self.fenced = Some(state.epoch);
            return Err(ControlError::StaleEpoch);
        }
        self.used_challenge = challenge;
        self.heard();
        let fresh = instance != self.instance;
        if fresh {
            self.instance = instance;
            self.next = 1;
            self.removals_seen = 0;
            self.forget();
        }
        if state.epoch == self.epoch && state.executed >= self.next {
            // Somebody has used our epoch; its numbers are taken.
            self.next = state.executed.saturating_add(1);
            self.forget();
        }
        Ok(Registered { state, fresh })
    }

    /// Whether a REGISTER says that a vNIC has come up: it answers no challenge. Send it a HELLO.
    pub fn is_announcement(&self, message: &Message<'_>) -> bool {
        let state = message.authenticate(&self.keys).and_then(|()| State::parse(message.payload));
        message.header.kind == Kind::Register && state.is_ok_and(|state| state.challenge == 0)
    }

    fn forget(&mut self) {
        self.window.clear();
        self.request = None;
        self.probing = false;
    }

    /// The keys.
    pub const fn keys(&self) -> &ControlKeys {
        &self.keys
    }

    /// The epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The vNIC's instance; 0 before it has registered.
    pub const fn instance(&self) -> u64 {
        self.instance
    }

    /// Whether another command may be given to it.
    pub fn has_room(&self) -> bool {
        self.instance != 0 && self.fenced.is_none() && !self.window.is_full()
    }

    /// Whether every command is answered, and no request under way.
    pub fn is_idle(&self) -> bool {
        self.window.is_empty() && self.request.is_none()
    }

    /// Whether a request is under way.
    pub const fn is_asking(&self) -> bool {
        self.request.is_some()
    }

    /// Messages that were sent in the last `within` nanoseconds, and are not answered.
    pub fn in_flight(&self, now: Instant, within: u64) -> u32 {
        let young = |sent: Instant| now.nanos_since(sent) < within;
        let commands = self.window.iter().filter(|command| command.is_under_way() && young(command.sent)).count();
        let request = self.request.is_some_and(|asked| asked.attempts != Attempts::None && young(asked.last.1));
        (commands as u32).saturating_add(request.into())
    }

    /// What answers take.
    pub const fn round_trip(&self) -> &RoundTrip {
        &self.round_trip
    }

    /// What the last answer that could be measured took, in nanoseconds; told once.
    pub const fn take_sample(&mut self) -> Option<u64> {
        self.sample.take()
    }

    /// Messages that were sent again.
    pub const fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Repetitions since the vNIC was last heard.
    pub const fn unheard(&self) -> u32 {
        self.unheard
    }

    /// The epoch of the controller that has taken over.
    pub const fn fenced(&self) -> Option<u64> {
        self.fenced
    }

    /// Takes a command, which [`ControllerSession::poll`] then names. `chained`: to be carried out only if the one
    /// before it was. Returns its number; `None` if there is no room.
    pub fn submit(&mut self, token: u32, chained: bool) -> Option<u64> {
        if !self.has_room() {
            return None;
        }
        let sequence = self.next;
        let command = InFlight {
            token,
            sent: Instant::ZERO,
            attempts: Some(Attempts::None),
            chained,
            due: true,
            tail: false,
        };
        self.window.push_back(command).ok()?;
        self.next = self.next.saturating_add(1);
        Some(sequence)
    }

    /// Asks for something; `false` if a request is under way.
    pub fn ask(&mut self, request: Request) -> bool {
        if self.request.is_some() || self.instance == 0 || self.fenced.is_some() {
            return false;
        }
        let number = (self.next_request, Instant::ZERO);
        self.request = Some(Asked { request, first: number, last: number, attempts: Attempts::None });
        true
    }

    /// The next message to be sent now. Call until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Outgoing> {
        if self.instance == 0 || self.fenced.is_some() {
            return None;
        }
        self.find_overdue(now);
        let due = numbered(&mut self.window, self.next).find(|(_, command)| command.is_due());
        if let Some((sequence, command)) = due {
            command.due = false;
            command.sent = now;
            self.repeated = self.repeated.saturating_add((command.attempts != Some(Attempts::None)).into());
            command.attempts = command.attempts.map(Attempts::and_one);
            let InFlight { token, chained, .. } = *command;
            return Some(Outgoing::Command { sequence, token, chained });
        }
        let timeout = self.round_trip.timeout();
        let answered_at = self.answered_at;
        let asked = self.request.as_mut()?;
        if asked.attempts != Attempts::None {
            if now.nanos_since(asked.last.1.max(answered_at)) < timeout {
                return None;
            }
            self.unheard = self.unheard.saturating_add(1);
            self.repeated = self.repeated.saturating_add(1);
            if self.window.is_empty() {
                // Else the commands keep the time.
                self.round_trip.expired();
            }
        }
        let sequence = self.next_request;
        self.next_request = sequence.wrapping_add(1);
        asked.last = (sequence, now);
        if asked.attempts == Attempts::None {
            asked.first = asked.last;
        }
        asked.attempts = asked.attempts.and_one();
        Some(Outgoing::Request { sequence, request: asked.request })
    }

    /// When [`ControllerSession::poll`] has something to send (again), if nothing comes before: nanoseconds from `now`.
    pub fn next_timeout(&self, now: Instant) -> Option<u64> {
        if self.instance == 0 || self.fenced.is_some() {
            return None;
        }
        let left = |sent: Instant, attempts| match attempts {
            Some(Attempts::None) => 0,
            _ => self.round_trip.timeout().saturating_sub(self.waited(now, sent)),
        };
        let due = self.window.iter().any(InFlight::is_due).then_some(0);
        let command = self.window.iter().find(|command| !command.is_answered()).map(|c| left(c.sent, c.attempts));
        let request = self.request.map(|asked| left(asked.last.1, Some(asked.attempts)));
        due.into_iter().chain(command).chain(request).min()
    }

    /// How long an answer to what was sent at this time has been waited for.
    fn waited(&self, now: Instant, sent: Instant) -> u64 {
        now.nanos_since(sent.max(self.answered_at))
    }

    /// If the oldest command is overdue, it is repeated; and all of them, if the same has happened before, the vNIC was
    /// heard since, and nothing says that it is slow: then much is lost.
    fn find_overdue(&mut self, now: Instant) {
        let timeout = self.round_trip.timeout();
        let lossy = self.round_trip.is_late() && self.unheard == 0;
        let answered_at = self.answered_at;
        let Some(oldest) = self.window.iter_mut().find(|command| !command.is_answered()) else { return };
        if !oldest.is_under_way() || now.nanos_since(oldest.sent.max(answered_at)) < timeout {
            return;
        }
        oldest.due = true;
        self.probing = !lossy;
        if lossy {
            self.window.iter_mut().for_each(|command| command.due = true);
        }
        self.unheard = self.unheard.saturating_add(1);
        self.round_trip.expired();
    }

    /// Header of a message to the vNIC `mac`; write it with [`ControllerSession::keys`].
    pub const fn header(&self, mac: MacAddr, kind: Kind, sequence: u64, chained: bool, data: u16) -> Header {
        Header { mac, kind, chained, data, instance: self.instance, epoch: self.epoch, sequence }
    }

    /// Takes a message of the vNIC, but REGISTER.
    ///
    /// # Errors
    /// Why it is not believed or not understood. Nothing has changed then.
    pub fn receive<'a>(&mut self, now: Instant, message: &Message<'a>) -> Result<Event<'a>, ControlError> {
        message.authenticate(&self.keys)?;
        if self.instance == 0 || message.header.instance != self.instance {
            return Err(ControlError::Instance);
        }
        let event = match message.header.kind {
            kind @ (Kind::Ack | Kind::Error) => self.answered(now, message, &Answer::parse(kind, message.payload)?),
            Kind::Report => self.reported(now, message)?,
            Kind::FlowRemoved => self.removed(message)?,
            _ => return Err(ControlError::Type),
        };
        self.heard();
        Ok(event)
    }

    /// It is there: what was lost is repeated without the long pauses that a silent vNIC gets.
    fn heard(&mut self) {
        self.unheard = 0;
        self.round_trip.heard();
    }

    /// An answer has come to what was sent at this time.
    fn measured(&mut self, now: Instant, sent: Instant) {
        let nanos = now.nanos_since(sent);
        self.round_trip.measured(nanos);
        self.sample = Some(nanos);
    }

    fn answered<'a>(&mut self, now: Instant, message: &Message<'a>, answer: &Answer) -> Event<'a> {
        match answer.refusal {
            Some(Refusal::Control(Reason::StaleEpoch)) => {
                if answer.epoch <= self.epoch {
                    return Event::Nothing;
                }
                self.fenced = Some(answer.epoch);
                return Event::Fenced(answer.epoch);
            }
            Some(Refusal::Control(Reason::OutOfOrder)) => {
                self.fill_gap(now, answer);
                return Event::Nothing;
            }
            _ => {}
        }
        if message.header.epoch != self.epoch {
            return Event::Nothing;
        }
        let sequence = message.header.sequence;
        let mut commands = numbered(&mut self.window, self.next);
        let Some((_, command)) = commands.find(|(number, _)| *number == sequence) else { return Event::Nothing };
        let InFlight { token, sent, tail, .. } = *command;
        let Some(attempts) = command.attempts.take() else { return Event::Nothing };
        drop(commands);
        self.answered_at = now;
        if attempts == Attempts::One {
            self.measured(now, sent);
        }
        self.find_lost(sent, attempts, tail);
        while self.window.front().is_some_and(InFlight::is_answered) {
            self.window.pop_front();
        }
        Event::Answered { token, answer: *answer }
    }

    /// What the answer to a command that was sent at `sent` says about the others.
    fn find_lost(&mut self, sent: Instant, attempts: Attempts, tail: bool) {
        let probing = core::mem::replace(&mut self.probing, false);
        if tail {
            // Answers come in the order of the commands, but for a few.
            for command in self.window.iter_mut().filter(|command| command.is_under_way() && command.sent < sent) {
                command.due = true;
            }
        } else if probing && attempts == Attempts::Several {
            let newest = self.window.iter_mut().rev().find(|command| command.is_under_way());
            if let Some(newest) = newest {
                (newest.due, newest.tail) = (true, true);
            }
        }
    }

    /// The vNIC lacks a command: all from there on are sent again, but for those that were sent just now, which it cannot
    /// have had when it said so.
    fn fill_gap(&mut self, now: Instant, answer: &Answer) {
        let executed = if answer.epoch == self.epoch { answer.executed } else { 0 };
        let just_now = self.round_trip.smoothed().unwrap_or(self.round_trip.expected()) / 2;
        let commands = numbered(&mut self.window, self.next).filter(|(number, _)| *number > executed);
        for (_, command) in commands {
            command.due |= now.nanos_since(command.sent) >= just_now;
        }
    }

    fn reported<'a>(&mut self, now: Instant, message: &Message<'a>) -> Result<Event<'a>, ControlError> {
        let (page, items) = Page::parse(message.payload)?;
        let expected = |asked: &Asked| {
            message.header.epoch == self.epoch
                && (asked.first.0..=asked.last.0).contains(&message.header.sequence)
                && asked.attempts != Attempts::None
                && asked.request.subject == page.subject
        };
        let Some(Asked { first, last, .. }) = self.request.filter(expected) else { return Ok(Event::Nothing) };
        let event = match page.subject {
            Subject::State => Event::State(State::parse(items)?),
            _ => Event::Page(page, items),
        };
        self.request = None;
        self.answered_at = now;
        if let Some((_, sent)) = [first, last].into_iter().find(|(number, _)| *number == message.header.sequence) {
            self.measured(now, sent);
        }
        Ok(event)
    }

    fn removed<'a>(&mut self, message: &Message<'a>) -> Result<Event<'a>, ControlError> {
        let removed = FlowRemoved::decode(message.payload).map_err(|_| ControlError::FlowMod)?;
        if message.header.sequence <= self.removals_seen {
            return Ok(Event::Nothing);
        }
        self.removals_seen = message.header.sequence;
        Ok(Event::Removed(removed))
    }
}
