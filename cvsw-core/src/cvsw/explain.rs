//! The trace: the packet path for one frame with every step reported, and nothing counted.

use super::Cvsw;
use crate::{
    control::control_kind,
    crypto::{Ciphers, NoCiphers},
    flow::{Direction, Field, FlowId, FlowKey, Match},
    frame::{Buffer, Frame},
    parse::parse_into,
    stats::DropReason,
    time::Instant,
    trace::{Considered, Event, Observer},
    verdict::Verdict,
};

/// Most entries that a trace reports per look-up.
pub const MAX_CONSIDERED: usize = 256;

impl<const FLOWS: usize, const CACHE: usize, const MASKS: usize, const SAS: usize> Cvsw<FLOWS, CACHE, MASKS, SAS> {
    /// As [`Cvsw::trace_with`], without ciphers.
    pub fn trace<B: Buffer, O: Observer>(
        &mut self,
        now: Instant,
        direction: Direction,
        frame: &mut Frame<B>,
        observer: &mut O,
    ) -> Verdict {
        self.trace_with(&mut NoCiphers, now, direction, frame, observer)
    }

    /// Processes one frame, tells `observer` every step, and counts nothing. Control frames change nothing.
    ///
    /// A sealed packet uses up a sequence number, so that no other packet can get the same one; an opened packet can
    /// still be received afterwards.
    pub fn trace_with<B: Buffer, C: Ciphers, O: Observer>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        direction: Direction,
        frame: &mut Frame<B>,
        observer: &mut O,
    ) -> Verdict {
        let ip_id = self.ip_id;
        let verdict = self.trace_steps(ciphers, now, direction, frame, observer);
        self.ip_id = ip_id;
        observer.event(&Event::Verdict(verdict));
        verdict
    }

    fn trace_steps<B: Buffer, C: Ciphers, O: Observer>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        direction: Direction,
        frame: &mut Frame<B>,
        observer: &mut O,
    ) -> Verdict {
        if control_kind(frame.bytes(), self.ethertype).is_some() {
            return match direction {
                Direction::Tx => Verdict::Drop(DropReason::ControlFromHost),
                Direction::Rx => Verdict::Consumed,
            };
        }
        if direction == Direction::Tx && self.path_mtu.is_set() {
            if self.path_mtu.refuses(frame) {
                return Verdict::Drop(DropReason::PacketTooBig);
            }
            self.path_mtu.clamp(frame);
        }
        let verdict = self.trace_look_up(ciphers, now, direction, frame, observer);
        if direction == Direction::Rx && self.path_mtu.is_set() && verdict == Verdict::Forward {
            self.path_mtu.clamp(frame);
        }
        verdict
    }

    fn trace_look_up<B: Buffer, C: Ciphers, O: Observer>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        direction: Direction,
        frame: &mut Frame<B>,
        observer: &mut O,
    ) -> Verdict {
        if !self.active {
            observer.event(&Event::Bypass);
            return self.leave(direction, frame);
        }
        let [work, ..] = &mut self.work;
        if !parse_into(&mut work.parsed, frame.bytes(), direction.in_port(), 0) {
            return Verdict::Drop(DropReason::FrameTooShort);
        }
        match self.consider(direction, 0, observer) {
            Some(id) => self.execute(ciphers, now, direction, frame, 0, id, observer),
            None => self.leave(direction, frame),
        }
    }

    /// A look-up of what was parsed into this place of the scratch, which reports the entries it considers: in order of priority down to the chosen one, then the
    /// ones that would match as well.
    pub(super) fn consider<O: Observer>(
        &self,
        direction: Direction,
        slot: usize,
        observer: &mut O,
    ) -> Option<FlowId> {
        let parsed = &self.work.get(slot)?.parsed;
        let key = &parsed.key;
        observer.event(&Event::Parsed { direction, key, headers: &parsed.headers });
        let chosen = self.table.lookup(key);
        let mut last = None;
        let mut passed = false;
        for _ in 0..MAX_CONSIDERED {
            let next = self
                .table
                .iter()
                .filter(|(_, entry)| last.is_none_or(|last| entry.rank() > last))
                .filter(|(_, entry)| !passed || self.table.matching(entry).covers(key))
                .min_by_key(|(_, entry)| entry.rank());
            let Some((id, entry)) = next else { break };
            last = Some(entry.rank());
            let matching = self.table.matching(entry);
            let result = match mismatch(key, &matching) {
                Some(field) => Considered::Mismatch(field),
                None if Some(id) == chosen => Considered::Matched,
                None => Considered::Shadowed,
            };
            passed |= result == Considered::Matched;
            let (priority, cookie) = (entry.priority, entry.cookie);
            observer.event(&Event::Entry { priority, cookie, matching: &matching, result });
        }
        if chosen.is_none() {
            observer.event(&Event::Miss);
        }
        chosen
    }
}

/// The first field in which a frame differs from a match.
fn mismatch(key: &FlowKey, matching: &Match) -> Option<Field> {
    Field::ALL
        .into_iter()
        .find(|field| (key.get(*field) ^ matching.value().get(*field)) & matching.mask().get(*field) != 0)
}
