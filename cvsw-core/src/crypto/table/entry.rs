//! One association inside the table.

use crate::{
    crypto::{Ciphers, Lifetime, ReplayWindow, SaCounters, SaEventKind, SaState, SharedSa, Suite},
    stats::DropReason,
    time::Instant,
};
use zerocopy::{FromZeros, Immutable, KnownLayout};

/// Where an association is shared ([`Ciphers::shared`]), sequence number, window and what limits are judged by are those of
/// the [`SharedSa`], and what stands here is this engine's part of them.
#[derive(Clone, Debug, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Sa {
    /// Sending: the last sequence number used.
    pub(super) sequence: u64,
    /// Sending: the last one that was used before the association was added.
    pub(super) before: u64,
    /// Receiving, shared: the highest sequence number accepted.
    pub(super) highest: u64,
    /// What the [`SharedSa`] knows it by; 0: it is not shared.
    pub(super) serial: u64,
    pub(super) counters: SaCounters,
    pub(super) soft: Lifetime,
    pub(super) hard: Lifetime,
    pub(super) created: Instant,
    pub(super) generation: u64,
    pub(super) window: ReplayWindow,
    pub(super) extended: bool,
    /// Discriminant of the [`Suite`].
    pub(super) suite: u8,
    /// Kinds of events that have happened, as bits.
    pub(super) happened: u8,
    /// Those of them that nobody has fetched.
    pub(super) pending: u8,
    /// The window as configured.
    pub(super) window_size: u16,
    pub(super) _pad: [u8; 2],
}

/// How far an association has come: what its limits are judged by.
pub(super) struct Used {
    /// Sending: the last sequence number.
    sequence: u64,
    /// Packets sealed or opened.
    packets: u64,
    bytes: u64,
}

impl Sa {
    /// The last sequence number that may be sent.
    const fn last_sequence(&self) -> u64 {
        if self.extended { u64::MAX } else { u32::MAX as u64 }
    }

    /// The last sequence number that may be sent before the limit of packets is reached.
    fn last_within_limit(&self) -> u64 {
        match self.hard.packets {
            0 => self.last_sequence(),
            packets => self.before.saturating_add(packets).min(self.last_sequence()),
        }
    }

    /// What all engines share of this association, `Some(None)` if it is this engine's alone; `None`: it is not what it was
    /// added with, and must not be used.
    #[inline]
    pub(super) fn shared<'a, C: Ciphers>(&self, ciphers: &'a C, slot: usize) -> Option<Option<&'a SharedSa>> {
        match ciphers.shared() {
            None if self.serial == 0 => Some(None),
            None => None,
            Some(shared) => shared.get(slot).filter(|shared| shared.is_of(self.serial)).map(Some),
        }
    }

    /// The next sequence number.
    #[inline(always)]
    pub(super) fn take_number(&mut self, now: Instant, eventful: &mut u32) -> Result<u64, DropReason> {
        if self.note_limits(now, self.used(), eventful) {
            return Err(DropReason::EspExpired);
        }
        let next = self.sequence.checked_add(1).filter(|next| *next <= self.last_sequence());
        self.sequence = next.ok_or_else(|| self.at_its_end(eventful))?;
        Ok(self.sequence)
    }

    /// The next sequence number of all engines. Out of line, as its twin for receiving: its stack is not the cipher's.
    #[inline(never)]
    pub(super) fn take_shared_number(
        &mut self,
        shared: &SharedSa,
        now: Instant,
        eventful: &mut u32,
    ) -> Result<u64, DropReason> {
        if self.note_limits(now, self.used_by_all(shared), eventful) {
            return Err(DropReason::EspExpired);
        }
        // Another engine may reach the limit meanwhile.
        let next = shared.take_number(self.last_within_limit());
        self.sequence = next.ok_or_else(|| self.at_its_end(eventful))?;
        Ok(self.sequence)
    }

    /// The whole sequence number of a packet with this `low` half that is neither replayed nor too old.
    #[inline(always)]
    pub(super) fn fresh_number(
        &mut self,
        now: Instant,
        suite: Suite,
        low: u32,
        eventful: &mut u32,
    ) -> Result<u64, DropReason> {
        if self.note_limits(now, self.used(), eventful) {
            return Err(DropReason::EspExpired);
        }
        let sequence = if self.extended { self.window.extend(low) } else { Some(low.into()) };
        let is_fresh = |sequence: &u64| !suite.is_authenticated() || self.window.is_fresh(*sequence);
        sequence.filter(is_fresh).ok_or(DropReason::EspReplay)
    }

    /// The same by the window of all engines.
    #[inline(never)]
    pub(super) fn fresh_shared_number(
        &mut self,
        shared: &SharedSa,
        now: Instant,
        suite: Suite,
        low: u32,
        eventful: &mut u32,
    ) -> Result<u64, DropReason> {
        if self.note_limits(now, self.used_by_all(shared), eventful) {
            return Err(DropReason::EspExpired);
        }
        let window = shared.window();
        let sequence = if self.extended { window.extend(low) } else { Some(low.into()) };
        let is_fresh = |sequence: &u64| !suite.is_authenticated() || window.is_fresh(*sequence);
        sequence.filter(is_fresh).ok_or(DropReason::EspReplay)
    }

    /// How far this engine knows the association to have come. A sequence number that was taken is a packet for the
    /// limits, also when the packet then could not be sealed: whoever gives a key a number of packets reckons with as many
    /// sequence numbers.
    #[inline(always)]
    pub(super) fn used(&self) -> Used {
        let SaCounters { packets, bytes, .. } = self.counters;
        Used { sequence: self.sequence, packets: packets.max(self.sequence.wrapping_sub(self.before)), bytes }
    }

    /// How far it has come on all engines.
    fn used_by_all(&self, shared: &SharedSa) -> Used {
        let (packets, bytes) = shared.counted();
        let sequence = shared.sequence();
        Used { sequence, packets: packets.max(sequence.wrapping_sub(self.before)), bytes }
    }

    /// There is no sequence number left: why.
    #[cold]
    #[inline(never)]
    fn at_its_end(&mut self, eventful: &mut u32) -> DropReason {
        let (kind, reason) = if self.last_within_limit() < self.last_sequence() {
            (SaEventKind::HardLimit, DropReason::EspExpired)
        } else {
            (SaEventKind::Exhausted, DropReason::EspExhausted)
        };
        self.raise(kind, eventful);
        reason
    }

    /// Raises the events that are due and says whether a hard limit is reached.
    #[inline(always)]
    pub(super) fn note_limits(&mut self, now: Instant, used: Used, eventful: &mut u32) -> bool {
        let Used { sequence, packets, bytes } = used;
        let seconds = now.secs_since(self.created);
        let left = self.last_sequence().saturating_sub(sequence);
        let aging = left < self.last_sequence() / 4;
        if aging || self.soft.is_over(packets, bytes, seconds) {
            self.raise(SaEventKind::SoftLimit, eventful);
        }
        let over = self.hard.is_over(packets, bytes, seconds);
        if over {
            self.raise(SaEventKind::HardLimit, eventful);
        }
        over
    }

    #[cold]
    #[inline(never)]
    pub(super) fn raise(&mut self, kind: SaEventKind, eventful: &mut u32) {
        let bit = kind as u8;
        if self.happened & bit != 0 {
            return;
        }
        self.happened |= bit;
        if self.pending == 0 {
            *eventful = eventful.saturating_add(1);
        }
        self.pending |= bit;
    }

    pub(super) fn state(&self, stale: bool) -> SaState {
        let has = |kind: SaEventKind| self.happened & kind as u8 != 0;
        match () {
            () if stale => SaState::Stale,
            () if has(SaEventKind::HardLimit) => SaState::Expired,
            () if has(SaEventKind::Exhausted) => SaState::Exhausted,
            () if has(SaEventKind::SoftLimit) => SaState::Aging,
            () => SaState::Active,
        }
    }
}
