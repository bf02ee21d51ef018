//! Security associations for the local administrator: what a SET_SA says, with limits that one cannot have, and lists.

use crate::vnic::Vnic;
use cvsw_core::{
    Direction, Instant,
    control::{SaCommand, SaResult, SetSa},
    crypto::{Lifetime, SaConfig, SaError, SaEvent, SaState, SaStatus},
};
use zerocopy::{Immutable, IntoBytes};

/// What an association may have beside what a SET_SA says: seven numbers of eight bytes in native order.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Limits {
    last_sequence: u64,
    soft: [u64; 3],
    hard: [u64; 3],
}

/// An association as it is listed, in native byte order. Never its key.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub struct Listed {
    id: u32,
    spi: u32,
    destination: [u8; 4],
    suite: u8,
    /// 1: it sends.
    sends: u8,
    extended: u8,
    /// Index of the state, in the order of [`STATES`].
    state: u8,
    window: u32,
    reserved: u32,
    last_sequence: u64,
    soft: [u64; 3],
    hard: [u64; 3],
    /// Packets, bytes, and packets dropped: replayed, forged, malformed, exhausted, expired, stale.
    counters: [u64; 8],
    /// Nanoseconds since it was added.
    age: u64,
}

const STATES: [SaState; 5] =
    [SaState::Active, SaState::Aging, SaState::Expired, SaState::Exhausted, SaState::Stale];

/// Something that happened to an association: `struct cvsw_sa_news`.
#[repr(C)]
pub struct SaNews {
    id: u32,
    spi: u32,
    kind: u32,
    receives: u32,
}

impl From<SaEvent> for SaNews {
    fn from(SaEvent { id, spi, direction, kind }: SaEvent) -> Self {
        Self { id, spi, kind: kind as u32, receives: u32::from(direction == Direction::Rx) }
    }
}

/// Carries out the body of a SET_SA; returns the number of its [`SaResult`], or `None` if it is malformed.
pub fn set(vnic: &mut Vnic, now: Instant, body: &[u8], limits: Option<&Limits>) -> Option<u32> {
    let Vnic { engine, ciphers } = vnic;
    let result = match SetSa::parse(body).ok()?.command {
        SaCommand::Add(config, key) => engine.add_sa(ciphers, now, &limited(config, limits), &key),
        SaCommand::Remove { id } => engine.remove_sa(ciphers, id),
        SaCommand::Require { vni, on: true } if !engine.require_encryption(vni, true) => Err(SaError::Full),
        SaCommand::Require { vni, on } => {
            let _ = engine.require_encryption(vni, on);
            Ok(())
        }
        SaCommand::Flush => loop {
            let id = engine.sas().next().map(|sa| sa.config.id);
            match id.map(|id| engine.remove_sa(ciphers, id)) {
                Some(Ok(())) => {}
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
        },
        // There are lists for that.
        SaCommand::Query { .. } => return None,
    };
    Some(result.map_or_else(SaResult::from, |()| SaResult::Done) as u32)
}

fn limited(config: SaConfig, limits: Option<&Limits>) -> SaConfig {
    let Some(limits) = limits else { return config };
    let lifetime = |[packets, bytes, seconds]: [u64; 3]| Lifetime { packets, bytes, seconds };
    SaConfig {
        last_sequence: limits.last_sequence,
        soft: lifetime(limits.soft),
        hard: lifetime(limits.hard),
        ..config
    }
}

/// Writes association number `index` of those that there are ([`Listed`]); returns the length.
pub fn list(vnic: &Vnic, now: Instant, index: u32, out: &mut [u8]) -> Option<usize> {
    let SaStatus { config, suite, state, counters, created } = vnic.engine.sas().nth(index as usize)?;
    let numbers = |Lifetime { packets, bytes, seconds }: Lifetime| [packets, bytes, seconds];
    let listed = Listed {
        id: config.id,
        spi: config.spi,
        destination: config.destination,
        suite: suite as u8,
        sends: u8::from(config.direction == Direction::Tx),
        extended: u8::from(config.extended_sequence),
        state: STATES.iter().position(|known| *known == state).unwrap_or(0) as u8,
        window: config.window.into(),
        reserved: 0,
        last_sequence: config.last_sequence,
        soft: numbers(config.soft),
        hard: numbers(config.hard),
        counters: [
            counters.packets,
            counters.bytes,
            counters.replayed,
            counters.auth_failed,
            counters.malformed,
            counters.exhausted,
            counters.expired,
            counters.stale,
        ],
        age: now.nanos_since(created),
    };
    listed.write_to_prefix(out).ok()?;
    Some(size_of::<Listed>())
}
