//! The vNIC's side of version 3.
//!
//! Commands are carried out one by one in the order of their numbers, each exactly once: one that comes again is
//! answered from memory, one that overtook others is refused and comes again. A command of a higher epoch with the
//! number 1, or any request of it, makes its controller the only one that counts. Requests have no order. Nothing is
//! believed, and nothing but HELLO is answered, before its tag was checked, if there is a key.

mod transmit;

use super::{
    answer::{Answer, Refusal},
    association::ListedSa,
    keys::ControlKeys,
    message::{Header, Kind, Message},
    report::{Request, Subject},
};
use crate::{
    control::{SessionState, TableEntry, keys::SaAnswer},
    flow::MacAddr,
    stats::ControlError,
    time::Instant,
};
use zerocopy::FromZeros;

/// Answers that are remembered: a controller never has more commands unanswered.
pub const WINDOW: usize = 32;
/// Requests and refusals that can wait to be answered: as many as a burst has frames.
const WAITING: usize = 32;
/// Bytes of the longest answer.
const ANSWER_MAX: usize = 64;
/// HELLO's payload.
const CHALLENGE_LEN: usize = 8;

/// What a session reads of its engine.
pub trait Inside {
    /// The first entry at or behind an index, with the index to go on from.
    fn next_entry(&self, from: u32) -> Option<(u32, TableEntry<'_>)>;
    /// Entries in the table.
    fn entries(&self) -> u32;
    /// Entries that fit.
    fn capacity(&self) -> u32;
    /// Security associations.
    fn associations(&self) -> u32;
    /// A security association by its index, from 0.
    fn association(&self, index: u32) -> Option<ListedSa>;
    /// A counter by its index: the parts of its name, and its value.
    fn counter(&self, index: u32) -> Option<([&'static str; 2], u64)>;
}

/// How a vNIC is controlled, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ControlStatus {
    /// Protocol version of the last controller that was heard; 0: none was.
    pub version: u8,
    /// Whether version 3 is spoken at all.
    pub version_3: bool,
    /// Whether there is a control key, so that nothing else is believed.
    pub authenticated: bool,
    /// This vNIC's instance.
    pub instance: u64,
    /// The highest epoch that was heard.
    pub epoch: u64,
    /// The last command of it that was decided on.
    pub executed: u64,
    /// Commands that came again and were answered from memory.
    pub duplicates: u64,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// All is done.
    Nothing,
    /// A controller is looking for vNICs.
    Hello,
    /// It is to be carried out now; then comes [`VnicSession::answer`].
    Command,
}

/// What a message of a vNIC says beside what the session knows.
pub struct Report<'a, I> {
    /// The vNIC's address.
    pub mac: MacAddr,
    /// EtherType of control frames.
    pub ethertype: u16,
    /// Its engine.
    pub inside: &'a I,
    /// State of the session.
    pub session: SessionState,
    /// The MTU that was set last; 0: none.
    pub mtu: u16,
    /// The offloads that were set last.
    pub offload: Option<u16>,
    /// The offloads that are in force, if the front-end has said so.
    pub in_force: Option<u16>,
    /// Whether keys of security associations are taken.
    pub takes_keys: bool,
}

/// An answer, and which command it is to.
#[derive(Clone, Copy, Debug, FromZeros)]
#[repr(C)]
struct Remembered {
    sequence: u64,
    epoch: u64,
    len: u8,
    refused: bool,
    bytes: [u8; ANSWER_MAX],
}

/// Something to be answered that leaves no trace: a request, or a command that is refused without a decision.
#[derive(Clone, Copy, Debug, FromZeros)]
#[repr(C)]
struct Waiting {
    epoch: u64,
    sequence: u64,
    since: Instant,
    /// Type of the message.
    kind: u8,
    /// Of a request.
    subject: u8,
    /// Of a command: whether it is stale (else it is out of order).
    stale: bool,
    from: u32,
}

/// The session. All-zero memory is one that does not speak version 3.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct VnicSession {
    keys: ControlKeys,
    enabled: bool,
    register_due: bool,
    /// A command was taken that is not answered yet: [`Kind`] of it.
    under_way: u8,
    /// The last command was carried out, so that one may be chained to it.
    last_done: bool,
    digest_known: bool,
    waiting_count: u8,
    /// The last message that was believed was of version 3.
    active: bool,
    /// Places in `memory` whose answers are to be sent.
    due: u32,
    instance: u64,
    epoch: u64,
    executed: u64,
    challenge: u64,
    digest: u64,
    removals: u64,
    duplicates: u64,
    memory: [Remembered; WINDOW],
    waiting: [Waiting; WAITING],
}

const _: () = assert!(WINDOW.is_power_of_two() && WINDOW == u32::BITS as usize, "one bit per remembered answer");

/// The place of a command's answer.
const fn place(sequence: u64) -> usize {
    (sequence as usize) & WINDOW.wrapping_sub(1)
}

impl VnicSession {
    /// Speaks version 3 from now on, as the instance with this number (a random one that no earlier life had), and
    /// with these keys believes nothing else. Starts anew.
    pub fn enable(&mut self, instance: u64, keys: ControlKeys) {
        self.zero();
        self.keys = keys;
        self.instance = instance;
        self.enabled = true;
    }

    /// Whether version 3 is spoken.
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether nothing is believed that is not authenticated.
    pub const fn has_key(&self) -> bool {
        self.keys.is_set()
    }

    /// The keys.
    pub const fn keys(&self) -> &ControlKeys {
        &self.keys
    }

    /// Whether the controller speaks version 3: reports go out as it is.
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// A message of version 2 was believed.
    pub const fn version_2_spoken(&mut self) {
        self.active = false;
    }

    /// The flow table has changed, or may have.
    pub const fn table_changed(&mut self) {
        self.digest_known = false;
    }

    /// Says, at the next opportunity, that this vNIC is here.
    pub const fn announce(&mut self) {
        self.register_due = true;
    }

    /// For people; `version` is left to the caller.
    pub const fn status(&self, version: u8) -> ControlStatus {
        ControlStatus {
            version,
            version_3: self.enabled,
            authenticated: self.keys.is_set(),
            instance: self.instance,
            epoch: self.epoch,
            executed: self.executed,
            duplicates: self.duplicates,
        }
    }

    /// Takes a message addressed to this vNIC.
    ///
    /// # Errors
    /// Why it is refused. Nothing has changed then; where an answer is due it is queued.
    pub fn receive(&mut self, now: Instant, message: &Message<'_>) -> Result<Taken, ControlError> {
        if !self.enabled {
            return Err(ControlError::Version);
        }
        let Header { kind, instance, epoch, .. } = message.header;
        if kind.is_for_controller() {
            return Err(ControlError::Type);
        }
        if kind == Kind::Hello {
            return self.hello(message);
        }
        message.authenticate(&self.keys)?;
        if instance != self.instance {
            // It knows an earlier life of this vNIC: let it look again.
            self.register_due = true;
            return Err(ControlError::Instance);
        }
        if epoch < self.epoch {
            return Err(self.wait(now, message, None, ControlError::StaleEpoch));
        }
        self.active = true;
        if kind.is_command() { self.command(now, message) } else { self.request(now, message) }
    }

    fn hello(&mut self, message: &Message<'_>) -> Result<Taken, ControlError> {
        let challenge: [u8; CHALLENGE_LEN] = message.payload.try_into().map_err(|_| ControlError::Length)?;
        if message.is_sealed() {
            return Err(ControlError::Unauthenticated);
        }
        self.challenge = u64::from_be_bytes(challenge);
        self.register_due = true;
        Ok(Taken::Hello)
    }

    fn request(&mut self, now: Instant, message: &Message<'_>) -> Result<Taken, ControlError> {
        let request = Request::parse(message.payload)?;
        if (message.header.kind == Kind::ListEntries) != (request.subject == Subject::Entries) {
            return Err(ControlError::Data);
        }
        if usize::from(self.waiting_count) == WAITING {
            return Err(ControlError::Busy);
        }
        if message.header.epoch > self.epoch {
            // So that a controller that takes over and finds all well has fenced off the one before.
            self.adopt(message.header.epoch);
        }
        self.wait(now, message, Some(request), ControlError::Busy);
        Ok(Taken::Nothing)
    }

    fn command(&mut self, now: Instant, message: &Message<'_>) -> Result<Taken, ControlError> {
        let Header { kind, epoch, sequence, chained, .. } = message.header;
        let (executed, last_done) = if epoch == self.epoch { (self.executed, self.last_done) } else { (0, true) };
        if sequence <= executed {
            return self.again(epoch, sequence);
        }
        if sequence != executed.saturating_add(1) {
            return Err(self.wait(now, message, None, ControlError::OutOfOrder));
        }
        if epoch != self.epoch {
            self.adopt(epoch);
        }
        self.executed = sequence;
        self.under_way = kind as u8;
        if chained && !last_done {
            self.refuse(ControlError::Skipped);
            return Err(ControlError::Skipped);
        }
        Ok(Taken::Command)
    }

    /// From now on only the controller with this epoch counts.
    const fn adopt(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.executed = 0;
        self.due = 0;
        self.last_done = true;
    }

    /// A command that was decided on already.
    fn again(&mut self, epoch: u64, sequence: u64) -> Result<Taken, ControlError> {
        let place = place(sequence);
        match self.memory.get(place) {
            Some(old) if old.sequence == sequence && old.epoch == epoch && old.len > 0 => {
                self.due |= 1u32.wrapping_shl(place as u32);
                self.duplicates = self.duplicates.wrapping_add(1);
                Ok(Taken::Nothing)
            }
            _ => Err(ControlError::Replayed),
        }
    }

    /// Queues something to be answered, if there is room; whoever asks will ask again. Returns the error.
    fn wait(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        request: Option<Request>,
        error: ControlError,
    ) -> ControlError {
        if let Some(place) = self.waiting.get_mut(usize::from(self.waiting_count)) {
            let Header { kind, epoch, sequence, .. } = message.header;
            let (subject, from) = request.map_or((0, 0), |request| (request.subject as u8, request.from));
            let stale = error == ControlError::StaleEpoch;
            *place = Waiting { epoch, sequence, since: now, kind: kind as u8, subject, stale, from };
            self.waiting_count = self.waiting_count.saturating_add(1);
        }
        error
    }

    /// The command under way is refused for this reason.
    pub fn refuse(&mut self, error: ControlError) {
        if let Some(kind) = Kind::from_wire(self.under_way) {
            self.answer(Answer::new(kind, Refusal::of(error)));
        }
    }

    /// The command under way, about an association, was carried out or not.
    pub fn answer_association(&mut self, answer: &SaAnswer) {
        use crate::control::SaResult;
        let refusal = match answer.result {
            SaResult::Done => None,
            result => Some(Refusal::Association(result)),
        };
        self.answer(Answer { association: Some(*answer), ..Answer::new(Kind::SetSa, refusal) });
    }

    /// Type of the command under way.
    pub fn under_way(&self) -> Option<Kind> {
        Kind::from_wire(self.under_way).filter(|kind| kind.is_command())
    }

    /// The command under way was carried out, or refused: remembers the answer, and queues it.
    pub fn answer(&mut self, answer: Answer) {
        if self.under_way == 0 {
            return;
        }
        self.under_way = 0;
        self.last_done = answer.refusal.is_none();
        let answer = Answer { epoch: self.epoch, executed: self.executed, ..answer };
        let place = place(self.executed);
        if let Some(slot) = self.memory.get_mut(place) {
            let len = answer.emit(&mut slot.bytes).unwrap_or(0);
            (slot.sequence, slot.epoch) = (self.executed, self.epoch);
            (slot.len, slot.refused) = (len as u8, answer.refusal.is_some());
            self.due |= 1u32.wrapping_shl(place as u32);
        }
    }
}
