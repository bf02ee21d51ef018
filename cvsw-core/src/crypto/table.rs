//! The table of security associations.

use super::{
    CipherError, Ciphers, FIRST_SPI, KeyMaterial, MIN_WINDOW, PacketHeader, ReplayWindow, SaConfig, SaError,
    SaEvent, SaEventKind, SaStatus, Suite,
};
use crate::{flow::Ipv4Addr, key::Direction, stats::DropReason, time::Instant};
use entry::Sa;
use zerocopy::{FromZeros, Immutable, KnownLayout};

mod entry;
mod replica;

/// Security associations of one engine; keys are elsewhere ([`Ciphers`]). The slot of an association, its place
/// in the table, is the slot of its key. All-zero memory is an empty table.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct SaTable<const SAS: usize> {
    /// What look-ups compare, apart from the rest so that a search stays in a few cache lines.
    tags: [Tag; SAS],
    sas: [Sa; SAS],
    /// Slot of the last association found with this id modulo `SAS`.
    by_id: [u16; SAS],
    /// Slot of the last association found with this SPI modulo `SAS`.
    by_spi: [u16; SAS],
    /// Sending associations that are gone, as a ring: none of their sequence numbers may come again.
    retired: [Retired; SAS],
    retired_next: u32,
    /// Associations with events that nobody has fetched.
    eventful: u32,
    generation: u64,
    /// Goes up with every change of what the table's copies have from it.
    revision: u64,
}

/// What an association is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
struct Tag {
    id: u32,
    spi: u32,
    destination: Ipv4Addr,
    use_: Use,
}

impl Tag {
    fn of(config: &SaConfig) -> Self {
        Self { id: config.id, spi: config.spi, destination: config.destination, use_: config.direction.into() }
    }
}

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[repr(u32)]
enum Use {
    Free = 0,
    Sends,
    Receives,
}

impl From<Direction> for Use {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Tx => Self::Sends,
            Direction::Rx => Self::Receives,
        }
    }
}

/// A sending association that is gone.
#[derive(Clone, Copy, Debug, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
struct Retired {
    spi: u32,
    destination: Ipv4Addr,
    sequence: u64,
}

/// What a packet is to be sealed with.
#[derive(Clone, Copy, Debug)]
pub struct Outbound {
    /// Place of the association and of its key.
    pub slot: usize,
    /// How it protects.
    pub suite: Suite,
    /// SPI, sequence number and IV of this packet, which no other packet will get.
    pub header: PacketHeader,
}

/// What a packet is to be opened with.
#[derive(Clone, Copy, Debug)]
pub struct Inbound {
    /// Place of the association and of its key.
    pub slot: usize,
    /// How it protects.
    pub suite: Suite,
    /// The packet's whole sequence number.
    pub sequence: u64,
    /// Whether its high half is authenticated too.
    pub extended: bool,
}

impl<const SAS: usize> SaTable<SAS> {
    /// Proof that the capacity is usable.
    pub const VALID: () = assert!(SAS > 0 && SAS <= u16::MAX as usize);

    /// Adds an association and gives its key to `ciphers`. If there is one with this id and direction, the new one
    /// takes its place at once (a new key for the sender).
    ///
    /// # Errors
    /// See [`SaError`]. Nothing has changed then.
    pub fn add<C: Ciphers>(
        &mut self,
        ciphers: &mut C,
        now: Instant,
        config: &SaConfig,
        key: &KeyMaterial,
    ) -> Result<(), SaError> {
        let () = Self::VALID;
        let slot = self.admit(config, key.suite())?;
        if ciphers.shared().is_some_and(|shared| slot >= shared.len()) {
            return Err(SaError::Cipher(CipherError::NoSlot));
        }
        ciphers.install(slot, key).map_err(SaError::Cipher)?;
        self.enter(ciphers, now, slot, config, key.suite());
        Ok(())
    }

    /// Whether an association may be added, and its slot. Out of line, as [`SaTable::enter`]: neither's association and window
    /// are on the stack while the key is expanded.
    #[inline(never)]
    fn admit(&self, config: &SaConfig, suite: Suite) -> Result<usize, SaError> {
        check(config, suite)?;
        self.place_for(&Tag::of(config), config)
    }

    /// Puts an association that was admitted, and whose key is installed, into its slot.
    #[inline(never)]
    fn enter<C: Ciphers>(&mut self, ciphers: &C, now: Instant, slot: usize, config: &SaConfig, suite: Suite) {
        // The slot is empty then: what is not said below is 0.
        self.retire(ciphers, slot);
        if let (Some(tag), Some(sa)) = (self.tags.get_mut(slot), self.sas.get_mut(slot)) {
            *tag = Tag::of(config);
            sa.sequence = if tag.use_ == Use::Sends { config.last_sequence } else { 0 };
            sa.before = sa.sequence;
            sa.soft = config.soft;
            sa.hard = config.hard;
            sa.created = now;
            sa.generation = self.generation;
            let (size, last) = window(config, suite);
            // Never `None`, and if it were: the empty window takes nothing.
            if let Some(window) = ReplayWindow::new(size, last) {
                sa.window = window;
            }
            sa.extended = config.extended_sequence;
            sa.suite = suite as u8;
            sa.window_size = config.window;
            if let Some(shared) = ciphers.shared().and_then(|shared| shared.get(slot)) {
                shared.begin(self.revision, sa.sequence, &sa.window);
                sa.serial = self.revision;
            }
        }
    }

    /// Removes an association, and its key from `ciphers`.
    ///
    /// # Errors
    /// [`SaError::NotFound`].
    pub fn remove<C: Ciphers>(&mut self, ciphers: &mut C, id: u32) -> Result<(), SaError> {
        let is_it = |tag: &Tag| tag.use_ != Use::Free && tag.id == id;
        let slot = self.tags.iter().position(is_it).ok_or(SaError::NotFound)?;
        ciphers.remove(slot);
        self.retire(ciphers, slot);
        Ok(())
    }

    /// Removes all associations, and their keys from `ciphers`.
    pub fn remove_all<C: Ciphers>(&mut self, ciphers: &mut C) {
        for slot in 0..SAS {
            if self.tags.get(slot).is_some_and(|tag| tag.use_ != Use::Free) {
                ciphers.remove(slot);
                self.retire(ciphers, slot);
            }
        }
    }

    /// The generation of the VM, see [`SaTable::set_generation`].
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// All associations, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = SaStatus> + '_ {
        self.tags.iter().zip(&self.sas).filter_map(|(tag, sa)| {
            let direction = match tag.use_ {
                Use::Free => return None,
                Use::Sends => Direction::Tx,
                Use::Receives => Direction::Rx,
            };
            Some(SaStatus {
                config: SaConfig {
                    id: tag.id,
                    direction,
                    spi: tag.spi,
                    destination: tag.destination,
                    extended_sequence: sa.extended,
                    window: sa.window_size,
                    last_sequence: if tag.use_ == Use::Sends {
                        sa.sequence
                    } else {
                        sa.window.highest().max(sa.highest)
                    },
                    soft: sa.soft,
                    hard: sa.hard,
                },
                suite: Suite::from_number(sa.suite)?,
                state: sa.state(tag.use_ == Use::Sends && sa.generation != self.generation),
                counters: sa.counters,
                created: sa.created,
            })
        })
    }

    /// The generation of the VM, as the hypervisor gives it. When it changes, the VM was restored or cloned, and
    /// associations added before no longer send: another VM may be sending with the same numbers.
    pub fn set_generation(&mut self, generation: u64) {
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        self.revision = self.revision.wrapping_add(1);
        for (tag, sa) in self.tags.iter().zip(&mut self.sas) {
            if tag.use_ == Use::Sends && sa.generation != generation {
                sa.raise(SaEventKind::StaleGeneration, &mut self.eventful);
            }
        }
    }

    /// Lets time pass: limits in seconds are reached also without traffic.
    pub fn tick(&mut self, now: Instant) {
        for (tag, sa) in self.tags.iter().zip(&mut self.sas) {
            if tag.use_ != Use::Free {
                sa.note_limits(now, sa.used(), &mut self.eventful);
            }
        }
    }

    /// The next event that nobody has fetched.
    pub fn poll_event(&mut self) -> Option<SaEvent> {
        if self.eventful == 0 {
            return None;
        }
        let (tag, sa) = self.tags.iter().zip(&mut self.sas).find(|(_, sa)| sa.pending != 0)?;
        let kind = SaEventKind::ALL.into_iter().find(|kind| sa.pending & *kind as u8 != 0)?;
        sa.pending &= !(kind as u8);
        if sa.pending == 0 {
            self.eventful = self.eventful.saturating_sub(1);
        }
        let direction = if tag.use_ == Use::Receives { Direction::Rx } else { Direction::Tx };
        Some(SaEvent { id: tag.id, spi: tag.spi, direction, kind })
    }

    /// The next sequence number of the sending association `id`, for a packet to `destination`.
    ///
    /// # Errors
    /// The reason for which the packet must be dropped, and the slot whose counters it concerns, if any.
    // Inlined, so that the header is not written in small pieces and read back in large ones, for which a processor waits.
    #[inline(always)]
    pub fn next_outbound<C: Ciphers>(
        &mut self,
        ciphers: &C,
        now: Instant,
        id: u32,
        destination: Ipv4Addr,
    ) -> Result<Outbound, (DropReason, Option<usize>)> {
        let slot = self.find(id, |tables| &mut tables.by_id, |tag| tag.use_ == Use::Sends && tag.id == id);
        let slot = slot.ok_or((DropReason::EspNoSa, None))?;
        let refused = |reason| (reason, Some(slot));
        let (Some(tag), Some(sa)) = (self.tags.get(slot), self.sas.get_mut(slot)) else {
            return Err((DropReason::EspNoSa, None));
        };
        if tag.destination != destination {
            return Err(refused(DropReason::EspDestination));
        }
        if sa.generation != self.generation {
            return Err(refused(DropReason::EspStale));
        }
        let sequence = match sa.shared(ciphers, slot).ok_or(refused(DropReason::EspNoSa))? {
            None => sa.take_number(now, &mut self.eventful),
            Some(shared) => sa.take_shared_number(shared, now, &mut self.eventful),
        };
        let sequence = sequence.map_err(refused)?;
        let suite = Suite::from_number(sa.suite).ok_or(refused(DropReason::EspNoSa))?;
        // RFC 4106 section 3.1: the sequence number is a unique IV, and nothing random can come twice.
        let header = PacketHeader::new(tag.spi, sequence, sa.extended, sequence.to_be_bytes());
        Ok(Outbound { slot, suite, header })
    }

    /// The association that opens a packet with this SPI, destination and low half of the sequence number, if that
    /// is neither replayed nor too old.
    ///
    /// # Errors
    /// As for [`SaTable::next_outbound`].
    pub fn find_inbound<C: Ciphers>(
        &mut self,
        ciphers: &C,
        now: Instant,
        spi: u32,
        destination: Ipv4Addr,
        low: u32,
    ) -> Result<Inbound, (DropReason, Option<usize>)> {
        let is_it = |tag: &Tag| tag.use_ == Use::Receives && tag.spi == spi && tag.destination == destination;
        let slot = self.find(spi, |tables| &mut tables.by_spi, is_it).ok_or((DropReason::EspNoSa, None))?;
        let refused = |reason| (reason, Some(slot));
        let sa = self.sas.get_mut(slot).ok_or((DropReason::EspNoSa, None))?;
        let suite = Suite::from_number(sa.suite).ok_or(refused(DropReason::EspNoSa))?;
        let sequence = match sa.shared(ciphers, slot).ok_or(refused(DropReason::EspNoSa))? {
            None => sa.fresh_number(now, suite, low, &mut self.eventful),
            Some(shared) => sa.fresh_shared_number(shared, now, suite, low, &mut self.eventful),
        };
        let sequence = sequence.map_err(refused)?;
        Ok(Inbound { slot, suite, sequence, extended: sa.extended })
    }

    /// Marks a packet that was found authentic as seen.
    ///
    /// # Errors
    /// [`DropReason::EspReplay`]: another engine that shares the association has accepted the packet since
    /// [`SaTable::find_inbound`], or so many newer ones that it is too old.
    pub fn accept<C: Ciphers>(&mut self, ciphers: &C, inbound: &Inbound) -> Result<(), DropReason> {
        let sa = self.sas.get_mut(inbound.slot).ok_or(DropReason::EspNoSa)?;
        if !inbound.suite.is_authenticated() {
            return Ok(());
        }
        match sa.shared(ciphers, inbound.slot).ok_or(DropReason::EspNoSa)? {
            None => sa.window.accept(inbound.sequence),
            Some(shared) if shared.window().accept(inbound.sequence) => {
                sa.highest = sa.highest.max(inbound.sequence);
            }
            Some(_) => return Err(DropReason::EspReplay),
        }
        Ok(())
    }

    /// Counts a packet with `bytes` of payload.
    pub fn count<C: Ciphers>(&mut self, ciphers: &C, slot: usize, bytes: usize) {
        let Some(sa) = self.sas.get_mut(slot) else { return };
        sa.counters.packets = sa.counters.packets.wrapping_add(1);
        sa.counters.bytes = sa.counters.bytes.wrapping_add(bytes as u64);
        if let Some(Some(shared)) = sa.shared(ciphers, slot)
            && (sa.soft.counts() || sa.hard.counts())
        {
            shared.count(bytes as u64);
        }
    }

    /// Counts a packet that was dropped.
    pub fn count_drop(&mut self, slot: usize, reason: DropReason) {
        let Some(Sa { counters, .. }) = self.sas.get_mut(slot) else { return };
        let counter = match reason {
            DropReason::EspReplay => &mut counters.replayed,
            DropReason::EspAuth => &mut counters.auth_failed,
            DropReason::EspMalformed | DropReason::EspNextHeader => &mut counters.malformed,
            DropReason::EspExhausted => &mut counters.exhausted,
            DropReason::EspExpired => &mut counters.expired,
            DropReason::EspStale => &mut counters.stale,
            _ => return,
        };
        *counter = counter.wrapping_add(1);
    }

    /// The slot of the association that `is_it` describes: where one with this number was last found, else by
    /// looking at all of them.
    #[inline]
    fn find(
        &mut self,
        number: u32,
        hints: impl Fn(&mut Self) -> &mut [u16; SAS],
        is_it: impl Fn(&Tag) -> bool,
    ) -> Option<usize> {
        let at = (number as usize).checked_rem(SAS)?;
        let slot = usize::from(*hints(self).get(at)?);
        if self.tags.get(slot).is_some_and(&is_it) {
            return Some(slot);
        }
        let slot = self.tags.iter().position(is_it)?;
        if let Some(hint) = hints(self).get_mut(at) {
            *hint = slot as u16;
        }
        Some(slot)
    }

    /// The slot for a new association.
    fn place_for(&self, tag: &Tag, config: &SaConfig) -> Result<usize, SaError> {
        let same_wire =
            |other: &Tag| other.use_ == tag.use_ && other.spi == tag.spi && other.destination == tag.destination;
        if self.tags.iter().any(same_wire) {
            return Err(SaError::Duplicate);
        }
        let gone = |gone: &Retired| gone.spi == tag.spi && gone.destination == tag.destination;
        if tag.use_ == Use::Sends
            && self.retired.iter().any(|retired| gone(retired) && retired.sequence > config.last_sequence)
        {
            return Err(SaError::SequenceReuse);
        }
        if let Some(slot) = self.tags.iter().position(|other| other.use_ != Use::Free && other.id == tag.id) {
            let same_use = self.tags.get(slot).is_some_and(|other| other.use_ == tag.use_);
            return if same_use { Ok(slot) } else { Err(SaError::OtherDirection) };
        }
        self.tags.iter().position(|other| other.use_ == Use::Free).ok_or(SaError::Full)
    }

    /// Empties a slot.
    fn retire<C: Ciphers>(&mut self, ciphers: &C, slot: usize) {
        let (Some(tag), Some(sa)) = (self.tags.get_mut(slot), self.sas.get_mut(slot)) else { return };
        self.revision = self.revision.wrapping_add(1);
        if let Some(shared) = ciphers.shared().and_then(|shared| shared.get(slot)) {
            if shared.is_of(sa.serial) {
                sa.sequence = sa.sequence.max(shared.sequence());
            }
            shared.end();
        }
        if sa.pending != 0 {
            self.eventful = self.eventful.saturating_sub(1);
        }
        if tag.use_ == Use::Sends && sa.sequence > 0 {
            let same = |other: &Retired| other.spi == tag.spi && other.destination == tag.destination;
            let at = self.retired.iter().position(same).unwrap_or_else(|| {
                let next = (self.retired_next as usize).checked_rem(SAS).unwrap_or(0);
                self.retired_next = self.retired_next.wrapping_add(1);
                next
            });
            if let Some(retired) = self.retired.get_mut(at) {
                *retired = Retired { spi: tag.spi, destination: tag.destination, sequence: sa.sequence };
            }
        }
        tag.zero();
        sa.zero();
    }
}

/// Checks a configuration by itself.
fn check(config: &SaConfig, suite: Suite) -> Result<(), SaError> {
    if config.spi < FIRST_SPI {
        return Err(SaError::ReservedSpi);
    }
    if config.extended_sequence && !suite.is_authenticated() {
        return Err(SaError::ExtendedUnauthenticated);
    }
    let (size, last) = window(config, suite);
    ReplayWindow::new(size, last).map(|_| ()).ok_or(SaError::BadWindow)
}

/// Size of its window, and the last number that counts as seen.
fn window(config: &SaConfig, suite: Suite) -> (u16, u64) {
    let used = config.direction == Direction::Rx && suite.is_authenticated();
    if used { (config.window, config.last_sequence) } else { (MIN_WINDOW, 0) }
}

impl From<CipherError> for DropReason {
    /// Why a packet is dropped whose sealing or opening failed.
    fn from(error: CipherError) -> Self {
        match error {
            CipherError::Forged => Self::EspAuth,
            CipherError::Length => Self::EspMalformed,
            CipherError::NoSlot | CipherError::Unsupported | CipherError::NoKey => Self::EspNoKey,
        }
    }
}
