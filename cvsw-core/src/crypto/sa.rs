//! Security associations as the outside sees them.

use super::{CipherError, DEFAULT_WINDOW, Suite};
use crate::{flow::Ipv4Addr, key::Direction, time::Instant};
use zerocopy::{FromZeros, Immutable, KnownLayout};

/// Smallest SPI that may be used: 0 is for local use, 1 to 255 are reserved (RFC 4303 section 2.1).
pub const FIRST_SPI: u32 = 256;

/// How long an association may be used; 0 in a field: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub struct Lifetime {
    /// Packets opened, or sequence numbers taken for sealing. Where several processors share the association: that many
    /// numbers to the last one; for opening, up to a packet per processor more.
    pub packets: u64,
    /// Bytes sealed or opened: the IP packets' payloads, in clear. Ends with the packet that reaches the limit, or, where
    /// several processors share the association, with one on each of them.
    pub bytes: u64,
    /// Seconds since the association was added.
    pub seconds: u64,
}

impl Lifetime {
    /// No limit at all.
    pub const UNLIMITED: Self = Self { packets: 0, bytes: 0, seconds: 0 };

    /// Whether packets or bytes are limited.
    pub(super) const fn counts(&self) -> bool {
        self.packets | self.bytes != 0
    }

    /// Whether one of the limits is reached.
    pub(super) const fn is_over(&self, packets: u64, bytes: u64, seconds: u64) -> bool {
        self.packets != 0 && packets >= self.packets
            || self.bytes != 0 && bytes >= self.bytes
            || self.seconds != 0 && seconds >= self.seconds
    }
}

/// What an association is to be. The suite comes with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SaConfig {
    /// The name by which `encrypt(sa=ID)` and reports refer to it.
    pub id: u32,
    /// [`Direction::Tx`]: it seals; [`Direction::Rx`]: it opens.
    pub direction: Direction,
    /// Security parameters index, at least [`FIRST_SPI`]. The receiver's choice.
    pub spi: u32,
    /// Outer IPv4 destination of its packets. Packets for other destinations are refused.
    pub destination: Ipv4Addr,
    /// 64-bit sequence numbers (ESN, RFC 4303 section 2.2.1) instead of 32-bit ones. Both ends must agree.
    pub extended_sequence: bool,
    /// Sequence numbers that the anti-replay window spans ([`super::MIN_WINDOW`] to [`super::MAX_WINDOW`]).
    /// Meaningless for sending and for suites without authentication.
    pub window: u16,
    /// The last sequence number that was already sent, or the highest one accepted, with this key; 0 with a fresh one.
    /// A sender who keeps a key over a restart must say here how far it went, or nonces are used twice and the key is
    /// lost; a receiver who does not can be fed the old packets again.
    pub last_sequence: u64,
    /// When to ask for a new key ([`SaEventKind::SoftLimit`]).
    pub soft: Lifetime,
    /// When to stop.
    pub hard: Lifetime,
}

impl SaConfig {
    /// An association with 32-bit sequence numbers, the default window and no limits.
    pub const fn new(id: u32, direction: Direction, spi: u32, destination: Ipv4Addr) -> Self {
        Self {
            id,
            direction,
            spi,
            destination,
            extended_sequence: false,
            window: DEFAULT_WINDOW,
            last_sequence: 0,
            soft: Lifetime::UNLIMITED,
            hard: Lifetime::UNLIMITED,
        }
    }
}

/// Why the table of associations refused a change. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SaError {
    /// The SPI is below [`FIRST_SPI`].
    ReservedSpi,
    /// The window is smaller or larger than allowed.
    BadWindow,
    /// Extended sequence numbers with a suite without authentication, which cannot protect them.
    ExtendedUnauthenticated,
    /// An association with this SPI and destination (and direction) is there already. Its key was delivered twice, or
    /// two keys were given one SPI.
    Duplicate,
    /// The id belongs to an association of the other direction.
    OtherDirection,
    /// This SPI was used for sending to this destination before, up to a higher sequence number than the new
    /// association says: with the same key, nonces would be used twice.
    SequenceReuse,
    /// No free place.
    Full,
    /// No association has this id.
    NotFound,
    /// The cipher implementation refused the key.
    Cipher(CipherError),
}

impl core::fmt::Display for SaError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::ReservedSpi => "the SPI is below 256, which is reserved",
            Self::BadWindow => "the anti-replay window must span 32 to 2048 packets",
            Self::ExtendedUnauthenticated => "extended sequence numbers need a suite with authentication",
            Self::Duplicate => "an association with this SPI and destination exists already",
            Self::OtherDirection => "the id belongs to an association of the other direction",
            Self::SequenceReuse => "this SPI has already sent to this destination; use a new SPI with a new key",
            Self::Full => "the table of associations is full",
            Self::NotFound => "there is no association with this id",
            Self::Cipher(error) => return error.fmt(f),
        })
    }
}

impl core::error::Error for SaError {}

/// What happened to an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SaEvent {
    /// Its id.
    pub id: u32,
    /// Its SPI.
    pub spi: u32,
    /// Its direction.
    pub direction: Direction,
    /// What happened.
    pub kind: SaEventKind,
}

/// What can happen to an association; each at most once in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum SaEventKind {
    /// A soft limit is reached, or three quarters of the sequence numbers are used: it is time for a new key.
    SoftLimit = 1,
    /// A hard limit is reached: nothing is sealed or opened any more.
    HardLimit = 2,
    /// The last sequence number was used: nothing is sealed any more.
    Exhausted = 4,
    /// The VM was restored or cloned: nothing is sealed any more.
    StaleGeneration = 8,
}

impl SaEventKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::SoftLimit, Self::HardLimit, Self::Exhausted, Self::StaleGeneration];

    /// The snake_case name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SoftLimit => "soft_limit",
            Self::HardLimit => "hard_limit",
            Self::Exhausted => "exhausted",
            Self::StaleGeneration => "stale_generation",
        }
    }
}

/// Whether an association works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SaState {
    /// It does.
    Active,
    /// A soft limit was reached; it works and wants to be replaced.
    Aging,
    /// A hard limit was reached.
    Expired,
    /// It has no sequence number left to send with.
    Exhausted,
    /// It is from before the VM was restored or cloned, and may not send.
    Stale,
}

impl SaState {
    /// The snake_case name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Aging => "aging",
            Self::Expired => "expired",
            Self::Exhausted => "exhausted",
            Self::Stale => "stale",
        }
    }
}

/// Counters of one association.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub struct SaCounters {
    /// Packets sealed, or opened and found authentic.
    pub packets: u64,
    /// Bytes of their payloads, in clear.
    pub bytes: u64,
    /// Packets dropped as replayed or too old.
    pub replayed: u64,
    /// Packets dropped because their integrity check value was wrong.
    pub auth_failed: u64,
    /// Packets dropped because their padding, length or next header was wrong.
    pub malformed: u64,
    /// Packets dropped for want of a sequence number.
    pub exhausted: u64,
    /// Packets dropped because a hard limit was reached.
    pub expired: u64,
    /// Packets dropped because the VM was restored or cloned.
    pub stale: u64,
}

impl SaCounters {
    /// Adds what `other` has, which is 0 afterwards.
    pub(super) fn take(&mut self, other: &mut Self) {
        let add = |to: &mut u64, from: &mut u64| *to = to.wrapping_add(core::mem::take(from));
        add(&mut self.packets, &mut other.packets);
        add(&mut self.bytes, &mut other.bytes);
        add(&mut self.replayed, &mut other.replayed);
        add(&mut self.auth_failed, &mut other.auth_failed);
        add(&mut self.malformed, &mut other.malformed);
        add(&mut self.exhausted, &mut other.exhausted);
        add(&mut self.expired, &mut other.expired);
        add(&mut self.stale, &mut other.stale);
    }
}

/// An association, as listed.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SaStatus {
    /// What it was asked to be; `last_sequence` is how far it has come (the last number sent or the highest one
    /// accepted).
    pub config: SaConfig,
    /// How it protects.
    pub suite: Suite,
    /// Whether it works.
    pub state: SaState,
    /// Its counters.
    pub counters: SaCounters,
    /// When it was added.
    pub created: Instant,
}
