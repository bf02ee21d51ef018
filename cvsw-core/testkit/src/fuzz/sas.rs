//! Security associations: any sequence of operations at both ends, with packets under way between them.

use crate::{
    ciphers::key,
    esp::{DECAP, ENCAP, End, RECEIVER, SA, SLOTS, config},
    packet::Packet,
};
use arbitrary::{Result, Unstructured};
use cvsw_core::{
    Direction, DropReason, Instant,
    crypto::{KeyMaterial, Lifetime, Portable, SaConfig, SaError, SaEventKind, Suite},
};
use std::collections::{BTreeMap, BTreeSet};

/// Runs the operations that `data` encodes. Whatever they are: no number is sent twice with one key, no packet is
/// received twice, and what arrives is what was sent.
pub fn sas(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut world = World {
        sender: End::new(&[ENCAP]),
        receiver: End::new(&[DECAP]),
        frame: Packet::udp4([10, 0, 0, 1], 1, [10, 0, 0, 2], 2, b"x").build(),
        under_way: Vec::new(),
        sent: BTreeSet::new(),
        received: BTreeMap::new(),
        raised: BTreeSet::new(),
        generation: 0,
    };
    while !input.is_empty() && world.step(&mut input).is_ok() {
        world.check();
    }
}

struct World {
    sender: End<Portable<SLOTS>>,
    receiver: End<Portable<SLOTS>>,
    frame: Vec<u8>,
    /// Sealed packets, of which any may arrive at any time, also several times.
    under_way: Vec<Vec<u8>>,
    /// SPI and sequence number of every packet sealed. A key here belongs to its SPI for ever.
    sent: BTreeSet<(u32, u32)>,
    /// Per SPI, the sequence numbers received since the association was added.
    received: BTreeMap<u32, BTreeSet<u32>>,
    /// SPI, direction's index and kind of the events of the associations that there are.
    raised: BTreeSet<(u32, usize, SaEventKind)>,
    generation: u64,
}

/// As many SPIs as the table remembers, so that none is forgotten.
const SPIS: u32 = SLOTS as u32;

fn material(spi: u32) -> KeyMaterial {
    key(Suite::Aes128CtrHmacSha256, spi as u8)
}

impl World {
    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let spi = 0x1000 + input.int_in_range(0..=SPIS - 1)?;
        match input.int_in_range(0..=9u8)? {
            0..=2 => self.send(),
            3..=5 => self.arrive(input)?,
            6 => self.add(Direction::Tx, self.config(input, Direction::Tx, spi)?),
            7 => self.add(Direction::Rx, self.config(input, Direction::Rx, spi)?),
            8 => self.remove(if input.arbitrary()? { spi } else { SA }),
            _ => self.time_passes(input)?,
        }
        Ok(())
    }

    fn config(&self, input: &mut Unstructured<'_>, direction: Direction, spi: u32) -> Result<SaConfig> {
        let limit = |input: &mut Unstructured<'_>| -> Result<_> {
            Ok(Lifetime {
                packets: *input.choose(&[0, 0, 1, 3])?,
                bytes: *input.choose(&[0, 0, 100])?,
                seconds: *input.choose(&[0, 0, 2])?,
            })
        };
        // Receiving associations have ids of their own, so that there can be several.
        let id = if direction == Direction::Tx { SA } else { spi };
        Ok(SaConfig {
            id,
            window: *input.choose(&[32, 64, 2048])?,
            last_sequence: *input.choose(&[0, 0, 0, 1, 5, u64::from(u32::MAX) - 2])?,
            soft: limit(input)?,
            hard: limit(input)?,
            ..config(direction, spi)
        })
    }

    fn add(&mut self, direction: Direction, config: SaConfig) {
        let spi = config.spi;
        let end = if direction == Direction::Tx { &mut self.sender } else { &mut self.receiver };
        let before: Vec<_> = end.engine.sas().map(|sa| sa.config.spi).collect();
        match end.add(&config, &material(spi)) {
            Ok(()) => {
                self.raised.retain(|(raised, at, _)| *at != direction.index() || *raised != spi);
                if direction == Direction::Rx {
                    // Everything up to the given number counts as received.
                    self.received.insert(spi, BTreeSet::new());
                }
            }
            Err(error) => {
                let after: Vec<_> = end.engine.sas().map(|sa| sa.config.spi).collect();
                assert_eq!(before, after, "{error:?}");
                match error {
                    SaError::Duplicate => assert!(before.contains(&spi)),
                    SaError::SequenceReuse => assert_eq!(direction, Direction::Tx),
                    other => panic!("{other:?} for {config:?}"),
                }
            }
        }
    }

    fn remove(&mut self, id: u32) {
        for end in [&mut self.sender, &mut self.receiver] {
            let exists = end.engine.sas().any(|sa| sa.config.id == id);
            let result = end.engine.remove_sa(&mut end.ciphers, id);
            assert_eq!(result, if exists { Ok(()) } else { Err(SaError::NotFound) });
        }
    }

    fn send(&mut self) {
        let exists = self.sender.engine.sas().count() > 0;
        match self.sender.send(&self.frame) {
            Ok(sealed) => {
                let id = identity(&sealed);
                assert!(self.sent.insert(id), "{id:x?} was used before");
                self.under_way.push(sealed);
            }
            Err(DropReason::EspNoSa) => assert!(!exists),
            Err(DropReason::EspExhausted | DropReason::EspExpired | DropReason::EspStale) => assert!(exists),
            Err(other) => panic!("{other}"),
        }
    }

    fn arrive(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let Ok(packet) = input.choose(&self.under_way) else { return Ok(()) };
        let mut packet = packet.clone();
        let damaged = input.ratio(1, 4u8)?;
        if damaged {
            let at = input.int_in_range(50..=packet.len() - 1)?;
            packet[at] ^= 0x10;
        }
        let (spi, sequence) = identity(&packet);
        let exists = self.receiver.engine.sas().any(|sa| sa.config.spi == spi);
        match self.receiver.receive(&packet) {
            Ok(inner) => {
                assert!(exists && !damaged && inner == self.frame);
                let seen = self.received.get_mut(&spi).expect("it was added");
                assert!(seen.insert(sequence), "{spi:#x} {sequence} came twice");
            }
            Err(DropReason::EspNoSa) => assert!(!exists),
            Err(DropReason::EspAuth) => assert!(exists && damaged),
            Err(DropReason::EspReplay | DropReason::EspExpired) => assert!(exists),
            Err(other) => panic!("{other}"),
        }
        Ok(())
    }

    fn time_passes(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let now =
            Instant::from_nanos(self.sender.now.as_nanos() + u64::from(input.int_in_range(0..=3u8)?) * 500_000_000);
        for end in [&mut self.sender, &mut self.receiver] {
            end.now = now;
            end.engine.tick(now);
        }
        if input.ratio(1, 4u8)? {
            self.generation += 1;
            self.sender.engine.set_boot_generation(self.generation);
        }
        Ok(())
    }

    fn check(&mut self) {
        for (end, direction) in [(&mut self.sender, Direction::Tx), (&mut self.receiver, Direction::Rx)] {
            let associations: Vec<_> = end.engine.sas().collect();
            assert!(associations.len() <= SLOTS);
            assert!(associations.iter().all(|sa| sa.config.direction == direction));
            assert!(associations.iter().all(|sa| sa.config.destination == RECEIVER));
            for (spi, kind) in end.events() {
                assert!(associations.iter().any(|sa| sa.config.spi == spi), "{kind:?} of nobody");
                assert!(self.raised.insert((spi, direction.index(), kind)), "{kind:?} of {spi:#x} twice");
            }
        }
    }
}

/// SPI and sequence number of a sealed packet.
fn identity(packet: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().expect("four bytes"));
    (word(34), word(38))
}
