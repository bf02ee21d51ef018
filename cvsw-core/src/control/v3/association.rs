//! The security associations of a vNIC, as it tells of them: what each is for, never its key.

use super::digest::{EMPTY, hash};
use crate::{
    crypto::{SaState, SaStatus, Suite},
    flow::Direction,
    frame::NoRoom,
    stats::ControlError,
    wire::control3 as wire,
};
use zerocopy::{FromBytes, IntoBytes, network_endian::U32};

/// Name of the item among the statistics that has the digest of all associations.
pub const SA_DIGEST: &str = "sa_digest";

const SENDS: u8 = 1;
const EXTENDED: u8 = 2;

/// States by their number, from 1, as in the answer to SET_SA.
const STATES: [SaState; 5] =
    [SaState::Active, SaState::Aging, SaState::Expired, SaState::Exhausted, SaState::Stale];

/// An association in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedSa {
    /// Its id.
    pub id: u32,
    /// Its security parameters index.
    pub spi: u32,
    /// Outer destination of its packets.
    pub destination: [u8; 4],
    /// Its suite.
    pub suite: Suite,
    /// Whether it sends or receives.
    pub direction: Direction,
    /// Whether it has 64-bit sequence numbers.
    pub extended: bool,
    /// Whether it can be used.
    pub state: SaState,
}

impl From<&SaStatus> for ListedSa {
    fn from(status: &SaStatus) -> Self {
        Self {
            id: status.config.id,
            spi: status.config.spi,
            destination: status.config.destination,
            suite: status.suite,
            direction: status.config.direction,
            extended: status.config.extended_sequence,
            state: status.state,
        }
    }
}

impl ListedSa {
    /// Bytes of it.
    pub const LEN: usize = size_of::<wire::Association>();

    /// Reads the association at the front of a page's items; returns what is behind it.
    ///
    /// # Errors
    /// `Length` if it is cut off, `Data` for an unknown suite, state or flag.
    pub fn parse(items: &[u8]) -> Result<(Self, &[u8]), ControlError> {
        let (item, rest) = wire::Association::ref_from_prefix(items).map_err(|_| ControlError::Length)?;
        let state = usize::from(item.state).checked_sub(1).and_then(|index| STATES.get(index));
        if item.flags & !(SENDS | EXTENDED) != 0 || item.pad != 0 {
            return Err(ControlError::Data);
        }
        let listed = Self {
            id: item.id.get(),
            spi: item.spi.get(),
            destination: item.destination,
            suite: Suite::from_number(item.suite).ok_or(ControlError::Data)?,
            direction: if item.flags & SENDS != 0 { Direction::Tx } else { Direction::Rx },
            extended: item.flags & EXTENDED != 0,
            state: *state.ok_or(ControlError::Data)?,
        };
        Ok((listed, rest))
    }

    /// Writes it; returns its length.
    ///
    /// # Errors
    /// `NoRoom`.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let number = STATES.iter().zip(1..).find_map(|(state, number)| (*state == self.state).then_some(number));
        let flag = |on: bool, bit| if on { bit } else { 0 };
        let item = wire::Association {
            id: U32::new(self.id),
            spi: U32::new(self.spi),
            destination: self.destination,
            suite: self.suite as u8,
            flags: flag(self.direction == Direction::Tx, SENDS) | flag(self.extended, EXTENDED),
            state: number.unwrap_or(0),
            pad: 0,
        };
        item.write_to_prefix(out).map_err(|_| NoRoom)?;
        Ok(Self::LEN)
    }
}

/// The digest of a table of associations, under construction; [`Default`] is that of an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaDigest(u64);

impl Default for SaDigest {
    fn default() -> Self {
        Self(EMPTY)
    }
}

impl SaDigest {
    /// Takes an association in: its id, SPI, suite and direction.
    pub fn add(&mut self, id: u32, spi: u32, suite: Suite, direction: Direction) {
        let [a, b, c, d] = id.to_be_bytes();
        let [e, f, g, h] = spi.to_be_bytes();
        let sends = u8::from(direction == Direction::Tx);
        self.0 = self.0.wrapping_add(hash(&[a, b, c, d, e, f, g, h, suite as u8, sends]));
    }

    /// The digest.
    pub const fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    use super::*;

    fn listed() -> ListedSa {
        ListedSa {
            id: 7,
            spi: 0xf000_1234,
            destination: [192, 0, 2, 1],
            suite: Suite::Aes128Gcm,
            direction: Direction::Rx,
            extended: false,
            state: SaState::Active,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for suite in Suite::ALL {
            for (direction, extended) in [(Direction::Tx, true), (Direction::Rx, false)] {
                for state in STATES {
                    let sa = ListedSa { suite, direction, extended, state, ..listed() };
                    let mut out = [0; 20];
                    assert_eq!(sa.emit(&mut out), Ok(ListedSa::LEN));
                    assert_eq!(ListedSa::parse(&out), Ok((sa, &[0; 4][..])));
                }
            }
        }
        assert_eq!(listed().emit(&mut [0; 15]), Err(NoRoom));
    }

    #[test]
    fn what_is_none_is_refused() {
        let mut good = [0; ListedSa::LEN];
        listed().emit(&mut good).unwrap();
        assert_eq!(ListedSa::parse(&good[..15]), Err(ControlError::Length));
        for (at, wrong) in [(12, 0), (12, 7), (13, 4), (14, 0), (14, 6), (15, 1)] {
            let mut bytes = good;
            bytes[at] = wrong;
            assert_eq!(ListedSa::parse(&bytes), Err(ControlError::Data), "{at}");
        }
    }

    #[test]
    fn everything_but_the_order_counts() {
        let one = (7, 8, Suite::Aes128Gcm, Direction::Rx);
        let all = [
            one,
            (8, 8, Suite::Aes128Gcm, Direction::Rx),
            (7, 9, Suite::Aes128Gcm, Direction::Rx),
            (7, 8, Suite::Aes256Gcm, Direction::Rx),
            (7, 8, Suite::Aes128Gcm, Direction::Tx),
        ];
        let digest = |all: &[(u32, u32, Suite, Direction)]| {
            let mut digest = SaDigest::default();
            all.iter().for_each(|(id, spi, suite, direction)| digest.add(*id, *spi, *suite, *direction));
            digest.value()
        };
        let single: std::collections::BTreeSet<_> = all.iter().map(|sa| digest(&[*sa])).collect();
        assert_eq!(single.len(), all.len());
        let reversed: std::vec::Vec<_> = all.iter().rev().copied().collect();
        assert_eq!(digest(&all), digest(&reversed));
        assert_eq!(digest(&[]), 0x726f_db47_dd0e_0e31);
        assert_ne!(digest(&[one, one]), digest(&[]));
    }
}
