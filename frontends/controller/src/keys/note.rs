//! What controllers write to each other about keys, as bytes.

use std::net::Ipv4Addr;

use cvsw_core::{
    control::{SaAnswer, SetSa},
    crypto::MAX_KEY_MATERIAL,
};

use crate::mac::Mac;

/// Kind, address, length of the body.
const HEAD: usize = 1 + 6 + 2;
/// Bytes of a SET_SA without its key.
const COMMAND: usize = 24;
/// Bytes of the longest note.
pub const LONGEST: usize = HEAD + COMMAND + MAX_KEY_MATERIAL;

/// Something that one controller tells another about a vNIC.
#[derive(Clone, Debug)]
pub enum Note {
    /// It is on one of the writer's switches; `fresh`: it has just been started, and has no association.
    Here {
        /// Its address.
        mac: Mac,
        /// It has no association.
        fresh: bool,
        /// The writer's epoch: whoever has it later has a higher one.
        epoch: u64,
    },
    /// It is not on the writer's switches any more.
    Gone {
        /// Its address.
        mac: Mac,
        /// It may be at work all the same, and be heard of soon.
        at_work: bool,
    },
    /// It is on one of the writer's switches, and has lost this association.
    Lost {
        /// Its address.
        mac: Mac,
        /// The association's SPI.
        spi: u32,
    },
    /// It is on one of the reader's switches; the writer had it before, and does not know which of these keys it sends with.
    /// Receivers may have all of them.
    Had {
        /// Its address.
        mac: Mac,
        /// What it sends to this outer address, ...
        destination: Ipv4Addr,
        /// ... it seals with one of these. 0: there is none.
        spis: [u32; 2],
    },
    /// It is on the reader's switch and shall do this.
    Order {
        /// Its address.
        mac: Mac,
        /// What.
        order: SetSa,
    },
    /// It has answered an order of the reader's.
    Answer {
        /// Its address.
        mac: Mac,
        /// What it said.
        answer: SaAnswer,
    },
}

/// Bytes that are no note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

const HERE: u8 = 1;
const GONE: u8 = 2;
const ORDER: u8 = 3;
const ANSWER: u8 = 4;
const LOST: u8 = 5;
const HAD: u8 = 6;

impl Note {
    /// Appends it: kind (1 byte), address (6), length of the body (2, big-endian), body. At most [`LONGEST`] bytes, and
    /// nothing if it cannot be said.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut room = zeroize::Zeroizing::new([0; LONGEST]);
        let (kind, mac, len) = match self {
            Self::Here { mac, fresh, epoch } => {
                room[0] = u8::from(*fresh);
                room[1..9].copy_from_slice(&epoch.to_be_bytes());
                (HERE, mac, 9)
            }
            Self::Gone { mac, at_work } => {
                room[0] = u8::from(*at_work);
                (GONE, mac, 1)
            }
            Self::Lost { mac, spi } => {
                room[..4].copy_from_slice(&spi.to_be_bytes());
                (LOST, mac, 4)
            }
            Self::Had { mac, destination, spis: [one, other] } => {
                room[..4].copy_from_slice(&destination.octets());
                room[4..8].copy_from_slice(&one.to_be_bytes());
                room[8..12].copy_from_slice(&other.to_be_bytes());
                (HAD, mac, 12)
            }
            Self::Order { mac, order } => match order.emit(&mut *room) {
                Ok(len) => (ORDER, mac, len),
                Err(_) => return,
            },
            Self::Answer { mac, answer } => {
                let bytes = answer.to_bytes();
                room[..bytes.len()].copy_from_slice(&bytes);
                (ANSWER, mac, bytes.len())
            }
        };
        out.push(kind);
        out.extend(mac.0);
        out.extend(u16::try_from(len).unwrap_or(0).to_be_bytes());
        out.extend(&room[..len]);
    }

    /// Reads the note at the front; returns what is behind it.
    ///
    /// # Errors
    /// There is none.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let (&kind, rest) = bytes.split_first().ok_or(Malformed)?;
        let (mac, rest) = rest.split_first_chunk().ok_or(Malformed)?;
        let (len, rest) = rest.split_first_chunk().ok_or(Malformed)?;
        let (body, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into()).ok_or(Malformed)?;
        let mac = Mac(*mac);
        let note = match (kind, body) {
            (HERE, [fresh @ (0 | 1), epoch @ ..]) => {
                let epoch = epoch.try_into().map_err(|_| Malformed)?;
                Self::Here { mac, fresh: *fresh == 1, epoch: u64::from_be_bytes(epoch) }
            }
            (GONE, [at_work @ (0 | 1)]) => Self::Gone { mac, at_work: *at_work == 1 },
            (LOST, &[a, b, c, d]) => Self::Lost { mac, spi: u32::from_be_bytes([a, b, c, d]) },
            (HAD, body) => {
                let (destination, spis) = body.split_first_chunk::<4>().ok_or(Malformed)?;
                let &[a, b, c, d, e, f, g, h] = spis else { return Err(Malformed) };
                let spis = [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])];
                Self::Had { mac, destination: (*destination).into(), spis }
            }
            (ORDER, body) => Self::Order { mac, order: SetSa::parse(body).map_err(|_| Malformed)? },
            (ANSWER, body) => Self::Answer { mac, answer: SaAnswer::parse(body).map_err(|_| Malformed)? },
            _ => return Err(Malformed),
        };
        Ok((note, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cvsw_core::{
        control::{SaCommand, SaResult},
        crypto::{KeyMaterial, SaConfig, SaState, Suite},
        flow::Direction,
    };
    use proptest::prelude::*;

    fn notes() -> Vec<Note> {
        let mac = Mac([2, 0, 0, 0, 1, 7]);
        let config = SaConfig::new(0xf000_1234, Direction::Rx, 0xf000_1234, [192, 0, 2, 1]);
        let orders = Suite::ALL.map(|suite| {
            let key = KeyMaterial::new(suite, &vec![7; suite.key_material_len()]).unwrap();
            SetSa { transaction: 9, command: SaCommand::Add(config, key) }
        });
        let answer = SaAnswer {
            transaction: 9,
            operation: 1,
            id: 0xf000_1234,
            result: SaResult::Done,
            association: Some((SaState::Active, 0xf000_1234, 5)),
            generation: 77,
        };
        let others = [
            Note::Here { mac, fresh: true, epoch: 7 << 40 },
            Note::Here { mac, fresh: false, epoch: 1 },
            Note::Gone { mac, at_work: true },
            Note::Lost { mac, spi: 0xf000_1234 },
            Note::Had { mac, destination: [192, 0, 2, 1].into(), spis: [0xf000_1234, 0] },
            Note::Answer { mac, answer },
        ];
        orders.map(|order| Note::Order { mac, order }).into_iter().chain(others).collect()
    }

    #[test]
    fn notes_are_read_as_they_were_written() {
        let mut bytes = Vec::new();
        for note in notes() {
            let before = bytes.len();
            note.write(&mut bytes);
            assert!(bytes.len() - before <= LONGEST);
        }
        let mut rest = &bytes[..];
        for written in notes() {
            let (read, behind) = Note::read(rest).unwrap();
            let mut again = Vec::new();
            read.write(&mut again);
            assert_eq!(again, rest[..rest.len() - behind.len()]);
            assert_eq!(format!("{read:?}"), format!("{written:?}"));
            rest = behind;
        }
        assert!(rest.is_empty());
        for cut in 0..HEAD {
            assert_eq!(Note::read(&bytes[..cut]).err(), Some(Malformed));
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_note_or_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..8) {
            let bytes = [&[kind], &bytes[..]].concat();
            if let Ok((note, rest)) = Note::read(&bytes) {
                let mut again = Vec::new();
                note.write(&mut again);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - rest.len()]);
            }
        }
    }
}
