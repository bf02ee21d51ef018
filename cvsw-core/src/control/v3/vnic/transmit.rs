//! What a vNIC sends: REGISTER, answers, reports.

use super::{
    super::{
        answer::{Answer, Refusal},
        association::{SA_DIGEST, SaDigest},
        digest::TableDigest,
        message::{Header, Kind},
        report::{Counter, Listed, Page, State, Subject},
    },
    Inside, Report, VnicSession, WINDOW, Waiting, place,
};
use crate::{
    frame::NoRoom,
    openflow::{EncodeError, FlowRemoved},
    stats::ControlError,
};

impl VnicSession {
    /// Writes the next message to be sent into `out`, see [`crate::Cvsw::poll_transmit`].
    pub fn poll_transmit<I: Inside>(
        &mut self,
        report: &Report<'_, I>,
        out: &mut [u8],
    ) -> Result<Option<usize>, NoRoom> {
        if !self.enabled {
            return Ok(None);
        }
        if self.register_due {
            let len = self.register(report, out)?;
            self.register_due = false;
            self.challenge = 0;
            return Ok(Some(len));
        }
        if let Some(len) = self.transmit_answer(report, out)? {
            return Ok(Some(len));
        }
        let [first, ..] = self.waiting;
        if self.waiting_count == 0 {
            return Ok(None);
        }
        let len = if first.subject == 0 {
            self.transmit_refusal(report, &first, out)?
        } else {
            self.transmit_report(report, &first, out)?
        };
        self.waiting.rotate_left(1);
        self.waiting_count = self.waiting_count.saturating_sub(1);
        Ok(Some(len))
    }

    /// Writes the report of an entry's end.
    pub fn transmit_removal<I: Inside>(
        &mut self,
        report: &Report<'_, I>,
        removed: &FlowRemoved,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let header = self.header(report, Kind::FlowRemoved, self.epoch, self.removals.wrapping_add(1));
        let len = header.emit(report.ethertype, &self.keys, out, |room| removed.encode(0, room))?;
        self.removals = self.removals.wrapping_add(1);
        Ok(len)
    }

    const fn header<I>(&self, report: &Report<'_, I>, kind: Kind, epoch: u64, sequence: u64) -> Header {
        Header { mac: report.mac, kind, chained: false, data: 0, instance: self.instance, epoch, sequence }
    }

    #[inline(never)]
    fn register<I: Inside>(&mut self, report: &Report<'_, I>, out: &mut [u8]) -> Result<usize, NoRoom> {
        let state = self.state(report, self.challenge, out);
        let header = self.header(report, Kind::Register, self.epoch, self.executed);
        header.emit_bytes(report.ethertype, &self.keys, out, &state.to_bytes())
    }

    /// The oldest answer that is due.
    #[inline(never)]
    fn transmit_answer<I>(&mut self, report: &Report<'_, I>, out: &mut [u8]) -> Result<Option<usize>, NoRoom> {
        if self.due == 0 {
            return Ok(None);
        }
        let oldest = place(self.executed.wrapping_add(1));
        let skipped = self.due.rotate_right(oldest as u32).trailing_zeros() as usize;
        let at = oldest.wrapping_add(skipped) & WINDOW.wrapping_sub(1);
        let Some(answer) = self.memory.get(at) else { return Ok(None) };
        let kind = if answer.refused { Kind::Error } else { Kind::Ack };
        let header = self.header(report, kind, answer.epoch, answer.sequence);
        let bytes = answer.bytes.get(..usize::from(answer.len)).unwrap_or_default();
        let len = header.emit_bytes(report.ethertype, &self.keys, out, bytes)?;
        self.due &= !1u32.wrapping_shl(at as u32);
        Ok(Some(len))
    }

    /// The answer to a command that was not decided on.
    #[inline(never)]
    fn transmit_refusal<I>(
        &self,
        report: &Report<'_, I>,
        waiting: &Waiting,
        out: &mut [u8],
    ) -> Result<usize, NoRoom> {
        let error = if waiting.stale { ControlError::StaleEpoch } else { ControlError::OutOfOrder };
        // A request is no command; its answer says so by naming the one that is always there.
        let kind = Kind::from_wire(waiting.kind).filter(|kind| kind.is_command()).unwrap_or(Kind::SetEntry);
        let answer = Answer { epoch: self.epoch, executed: self.executed, ..Answer::new(kind, Refusal::of(error)) };
        let header = self.header(report, Kind::Error, waiting.epoch, waiting.sequence);
        header.emit(report.ethertype, &self.keys, out, |room| answer.emit(room))
    }

    #[inline(never)]
    fn transmit_report<I: Inside>(
        &mut self,
        report: &Report<'_, I>,
        waiting: &Waiting,
        out: &mut [u8],
    ) -> Result<usize, NoRoom> {
        let digest = match Subject::from_number(waiting.subject) {
            Some(Subject::Associations) => sa_digest(report.inside),
            _ => self.digest(report.inside, out),
        };
        let header = self.header(report, Kind::Report, waiting.epoch, waiting.sequence);
        let keys = &self.keys;
        let fill = |room: &mut [u8]| {
            let (head, items) = room.split_at_mut_checked(Page::LEN).ok_or(NoRoom)?;
            let (page, len) = match Subject::from_number(waiting.subject) {
                Some(Subject::Entries) => entries(report.inside, waiting, items),
                Some(Subject::Statistics) => statistics(report.inside, waiting.from, items),
                Some(Subject::Associations) => associations(report.inside, waiting.from, items),
                _ => {
                    let state = self.state_with(report, 0, digest).to_bytes();
                    items.get_mut(..state.len()).ok_or(NoRoom)?.copy_from_slice(&state);
                    (Page { subject: Subject::State, last: true, count: 1, next: 0, digest }, state.len())
                }
            };
            if page.count == 0 && !page.last {
                return Err(NoRoom);
            }
            head.copy_from_slice(&Page { digest, ..page }.to_bytes());
            Ok(len.saturating_add(Page::LEN))
        };
        header.emit(report.ethertype, keys, out, fill)
    }

    fn state<I: Inside>(&mut self, report: &Report<'_, I>, challenge: u64, scratch: &mut [u8]) -> State {
        let digest = self.digest(report.inside, scratch);
        self.state_with(report, challenge, digest)
    }

    fn state_with<I: Inside>(&self, report: &Report<'_, I>, challenge: u64, digest: u64) -> State {
        State {
            challenge,
            digest,
            epoch: self.epoch,
            executed: self.executed,
            entries: report.inside.entries(),
            capacity: report.inside.capacity(),
            associations: report.inside.associations(),
            mtu: report.mtu,
            offload: report.offload,
            in_force: report.in_force,
            session: report.session,
            has_key: self.keys.is_set(),
            takes_keys: report.takes_keys,
            window: WINDOW as u8,
        }
    }

    /// Digest of the table; computed again only when it has changed. Out of line, as everything that writes entries: what one
    /// of them has on the stack the others need not.
    #[inline(never)]
    fn digest<I: Inside>(&mut self, inside: &I, scratch: &mut [u8]) -> u64 {
        if !self.digest_known {
            let mut digest = TableDigest::default();
            let mut from = 0;
            while let Some((next, entry)) = inside.next_entry(from) {
                // The engine accepts no entry that cannot be written.
                let _ = digest.take(entry.parts(), scratch);
                from = next;
            }
            self.digest = digest.value();
            self.digest_known = true;
        }
        self.digest
    }
}

/// A page of entries, as many as fit.
#[inline(never)]
fn entries<I: Inside>(inside: &I, waiting: &Waiting, items: &mut [u8]) -> (Page, usize) {
    let mut page = Page { subject: Subject::Entries, last: false, count: 0, next: waiting.from, digest: 0 };
    let mut len = 0usize;
    loop {
        let Some((next, entry)) = inside.next_entry(page.next) else {
            page.last = true;
            return (page, len);
        };
        let age = waiting.since.nanos_since(entry.created());
        match Listed::emit(&entry, age, items.get_mut(len..).unwrap_or_default()) {
            Ok(more) => {
                len = len.saturating_add(more);
                page.count = page.count.saturating_add(1);
            }
            Err(EncodeError::NoRoom) => return (page, len),
            // The engine accepts no entry that cannot be said.
            Err(EncodeError::Inexpressible(_)) => {}
        }
        page.next = next;
    }
}

/// A page of associations, as many as fit.
#[inline(never)]
fn associations<I: Inside>(inside: &I, from: u32, items: &mut [u8]) -> (Page, usize) {
    let mut page = Page { subject: Subject::Associations, last: false, count: 0, next: from, digest: 0 };
    let mut len = 0usize;
    while let Some(sa) = inside.association(page.next) {
        match sa.emit(items.get_mut(len..).unwrap_or_default()) {
            Ok(more) => len = len.saturating_add(more),
            Err(NoRoom) => return (page, len),
        }
        page.count = page.count.saturating_add(1);
        page.next = page.next.saturating_add(1);
    }
    page.last = true;
    (page, len)
}

/// Digest of all associations.
#[inline(never)]
fn sa_digest<I: Inside>(inside: &I) -> u64 {
    let mut digest = SaDigest::default();
    let all = (0..).map_while(|index| inside.association(index));
    all.for_each(|sa| digest.add(sa.id, sa.spi, sa.suite, sa.direction));
    digest.value()
}

/// A page of counters that are not zero, and behind the last one the digest of the associations.
fn statistics<I: Inside>(inside: &I, from: u32, items: &mut [u8]) -> (Page, usize) {
    let mut page = Page { subject: Subject::Statistics, last: false, count: 0, next: from, digest: 0 };
    let mut len = 0usize;
    while let Some((name, value)) = inside.counter(page.next) {
        if value != 0 {
            match Counter::emit(name, value, items.get_mut(len..).unwrap_or_default()) {
                Ok(more) => len = len.saturating_add(more),
                Err(NoRoom) => return (page, len),
            }
            page.count = page.count.saturating_add(1);
        }
        page.next = page.next.saturating_add(1);
    }
    match Counter::emit([SA_DIGEST, ""], sa_digest(inside), items.get_mut(len..).unwrap_or_default()) {
        Ok(more) => {
            page.count = page.count.saturating_add(1);
            page.last = true;
            (page, len.saturating_add(more))
        }
        Err(NoRoom) => (page, len),
    }
}
