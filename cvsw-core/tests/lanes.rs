//! Several engines with the same security associations behave as one engine would: no sequence number is used twice, no
//! packet is accepted twice, limits and counters are those of all of them together.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use cvsw_core::{
    Direction, DropReason, Instant,
    crypto::{
        CipherError, Ciphers, KeyMaterial, Lifetime, PacketHeader, Portable, SaConfig, SaError, SaEventKind,
        SaState, SharedSa, Suite,
    },
    flow::text::parse_flow,
};
use cvsw_testkit::{
    ciphers::key,
    esp::{DECAP, ENCAP, End, OUTER_LEN, SA, SLOTS, SPI, config},
    packet::Packet,
};
use proptest::prelude::*;
use std::{
    cell::RefCell,
    collections::BTreeSet,
    rc::Rc,
    sync::{Arc, Barrier, Mutex},
    thread,
};
use zerocopy::FromZeros;

const SUITE: Suite = Suite::Aes128Gcm;

/// Ciphers of one lane. Keys and what must exist once are those of all lanes.
#[derive(Clone, Default)]
struct Lane {
    keys: Arc<Mutex<Portable<SLOTS>>>,
    shared: Shared,
}

#[derive(Clone)]
struct Shared(Arc<[SharedSa]>);

impl Default for Shared {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| SharedSa::new_zeroed()).collect())
    }
}

impl Ciphers for Lane {
    fn install(&mut self, slot: usize, key: &KeyMaterial) -> Result<(), CipherError> {
        self.keys.lock().unwrap().install(slot, key)
    }

    fn remove(&mut self, slot: usize) {
        self.keys.lock().unwrap().remove(slot);
    }

    fn seal(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        self.keys.lock().unwrap().seal(slot, header, data)
    }

    fn open(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        self.keys.lock().unwrap().open(slot, header, data)
    }

    fn shared(&self) -> Option<&[SharedSa]> {
        Some(&self.shared.0)
    }
}

/// A vNIC with several lanes, the first of which is the vNIC.
struct Lanes<C>(Vec<End<C>>);

impl<C: Ciphers + Default + Clone> Lanes<C> {
    fn new(count: usize) -> Self {
        let mut lanes: Vec<_> = (0..count).map(|_| End::<C>::new(&[])).collect();
        let ciphers = lanes[0].ciphers.clone();
        lanes.iter_mut().for_each(|lane| lane.ciphers = ciphers.clone());
        let mut this = Self(lanes);
        for flow in [ENCAP, DECAP] {
            this.change(|first| first.engine.flow_mod(first.now, &parse_flow(flow).unwrap()).unwrap());
        }
        this
    }

    /// Changes the vNIC while nobody uses it.
    fn change<T>(&mut self, change: impl FnOnce(&mut End<C>) -> T) -> T {
        let [first, replicas @ ..] = &mut self.0[..] else { panic!("no lane") };
        replicas.iter_mut().for_each(|replica| first.engine.gather(&mut replica.engine));
        let result = change(first);
        replicas.iter_mut().for_each(|replica| replica.engine.follow(&first.engine));
        result
    }

    fn add(&mut self, config: &SaConfig, key: &KeyMaterial) -> Result<(), SaError> {
        self.change(|first| first.add(config, key))
    }
}

fn inner() -> Vec<u8> {
    Packet::udp4([10, 0, 0, 1], 1000, [10, 0, 0, 2], 2000, b"data").build()
}

/// SPI and low half of the sequence number.
fn identity(sealed: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_be_bytes(sealed[at..at + 4].try_into().unwrap());
    (word(OUTER_LEN), word(OUTER_LEN + 4))
}

/// What is done to a vNIC.
#[derive(Clone, Debug)]
enum Step {
    Send { lane: usize },
    Arrive { lane: usize, packet: usize, damaged: bool },
    Add { direction: Direction, spi: u32, last: u64, window: u16, soft: Lifetime, hard: Lifetime, extended: bool },
    Remove { id: u32 },
    Pass { seconds: u64 },
    Generation { number: u64 },
}

const SPIS: u32 = SLOTS as u32;

fn step() -> impl Strategy<Value = Step> {
    let limit = || {
        let packets = prop::sample::select(vec![0, 0, 0, 1, 3, 7]);
        let bytes = prop::sample::select(vec![0, 0, 0, 100, 300]);
        let seconds = prop::sample::select(vec![0, 0, 5]);
        (packets, bytes, seconds).prop_map(|(packets, bytes, seconds)| Lifetime { packets, bytes, seconds })
    };
    let spi = || (0..SPIS).prop_map(|index| SPI + index);
    let last = prop::sample::select(vec![0, 0, 1, 5, u64::from(u32::MAX) - 3, 1 << 40]);
    let window = prop::sample::select(vec![32u16, 64, 2048]);
    let add = (any::<bool>(), spi(), last, window, limit(), limit(), any::<bool>());
    prop_oneof![
        12 => (0..3usize).prop_map(|lane| Step::Send { lane }),
        16 => (0..3usize, any::<prop::sample::Index>(), prop::bool::weighted(0.1))
            .prop_map(|(lane, packet, damaged)| Step::Arrive { lane, packet: packet.index(1 << 20), damaged }),
        4 => add.prop_map(|(sends, spi, last, window, soft, hard, extended)| {
            let direction = if sends { Direction::Tx } else { Direction::Rx };
            // The other numbers cannot be told in 32 bits.
            let last = if extended { last } else { last.min(u64::from(u32::MAX)) };
            Step::Add { direction, spi, last, window, soft, hard, extended }
        }),
        1 => prop_oneof![spi(), Just(SA)].prop_map(|id| Step::Remove { id }),
        2 => (0..3u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => (0..3u64).prop_map(|number| Step::Generation { number }),
    ]
}

/// The same vNIC with three lanes, and with one engine that has its associations for itself.
struct World {
    lanes: Lanes<Lane>,
    one: End<Portable<SLOTS>>,
    under_way: Vec<Vec<u8>>,
    /// A key belongs to its SPI for ever. The sequence numbers, whole.
    sent: BTreeSet<(u32, u64)>,
}

impl World {
    fn new() -> Self {
        let (lanes, one) = (Lanes::new(3), End::new(&[ENCAP, DECAP]));
        Self { lanes, one, under_way: Vec::new(), sent: BTreeSet::new() }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Send { lane } => {
                let sealed = self.lanes.0[*lane].send(&inner());
                let expected = self.one.send(&inner());
                // The IP identification is each engine's own.
                let esp = |sealed: &Vec<u8>| sealed[OUTER_LEN..].to_vec();
                assert_eq!(sealed.as_ref().map(esp), expected.as_ref().map(esp));
                if let Ok(sealed) = sealed {
                    let whole = self.one.engine.sas().find(|sa| sa.config.direction == Direction::Tx).unwrap();
                    assert!(self.sent.insert((identity(&sealed).0, whole.config.last_sequence)));
                    self.under_way.push(sealed);
                }
            }
            Step::Arrive { lane, packet, damaged } => {
                let Some(packet) = packet.checked_rem(self.under_way.len()) else { return };
                let mut packet = self.under_way[packet].clone();
                *packet.last_mut().unwrap() ^= u8::from(*damaged);
                assert_eq!(self.lanes.0[*lane].receive(&packet), self.one.receive(&packet));
            }
            Step::Add { direction, spi, last, window, soft, hard, extended } => {
                let id = if *direction == Direction::Tx { SA } else { *spi };
                let base = config(*direction, *spi);
                let config = SaConfig {
                    id,
                    last_sequence: *last,
                    window: *window,
                    soft: *soft,
                    hard: *hard,
                    extended_sequence: *extended,
                    ..base
                };
                let key = key(SUITE, *spi as u8);
                assert_eq!(self.lanes.add(&config, &key), self.one.add(&config, &key));
            }
            Step::Remove { id } => {
                let removed = self.lanes.change(|first| first.engine.remove_sa(&mut first.ciphers, *id));
                assert_eq!(removed, self.one.engine.remove_sa(&mut self.one.ciphers, *id));
            }
            Step::Pass { seconds } => {
                let now = Instant::from_nanos(self.one.now.as_nanos() + seconds * 1_000_000_000);
                self.lanes.0.iter_mut().for_each(|lane| lane.now = now);
                self.one.now = now;
                self.lanes.change(|first| first.engine.tick(now));
                self.one.engine.tick(now);
            }
            Step::Generation { number } => {
                self.lanes.change(|first| first.engine.set_boot_generation(*number));
                self.one.engine.set_boot_generation(*number);
            }
        }
    }

    /// What the vNIC says about its associations.
    fn check(&mut self) {
        let (ours, events) = self.lanes.change(|first| (describe(first), first.events()));
        assert_eq!(ours, describe(&self.one));
        let sorted = |mut events: Vec<(u32, SaEventKind)>| {
            events.sort_unstable();
            events
        };
        assert_eq!(sorted(events), sorted(self.one.events()));
    }
}

fn describe<C>(end: &End<C>) -> String {
    end.engine.sas().map(|sa| format!("{sa:?}\n")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn lanes_are_as_one(steps in prop::collection::vec((step(), prop::bool::weighted(0.2)), 1..200)) {
        let mut world = World::new();
        for (step, look) in steps {
            world.run(&step);
            if look {
                world.check();
            }
        }
        world.check();
    }
}

/// Ciphers that let something else happen while they compute.
#[derive(Clone, Default)]
struct Interrupted {
    lane: Lane,
    by: Rc<RefCell<Option<Interruption>>>,
}

type Interruption = Box<dyn FnOnce()>;

impl Interrupted {
    fn interrupt(&self) {
        let by = self.by.borrow_mut().take();
        if let Some(by) = by {
            by();
        }
    }
}

impl Ciphers for Interrupted {
    fn install(&mut self, slot: usize, key: &KeyMaterial) -> Result<(), CipherError> {
        self.lane.install(slot, key)
    }

    fn remove(&mut self, slot: usize) {
        self.lane.remove(slot);
    }

    fn seal(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        self.interrupt();
        self.lane.seal(slot, header, data)
    }

    fn open(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        self.interrupt();
        self.lane.open(slot, header, data)
    }

    fn shared(&self) -> Option<&[SharedSa]> {
        self.lane.shared()
    }
}

/// The first lane does something, and while its cipher computes, the second one does `meanwhile`.
fn interleave<T: 'static>(
    lanes: Lanes<Interrupted>,
    first: impl FnOnce(&mut End<Interrupted>) -> T,
    meanwhile: impl FnOnce(&mut End<Interrupted>) -> T + 'static,
) -> (Lanes<Interrupted>, T, T) {
    let mut lanes = lanes.0;
    let mut second = lanes.pop().unwrap();
    let returned = Rc::new(RefCell::new(None));
    let by = {
        let returned = Rc::clone(&returned);
        move || {
            let result = meanwhile(&mut second);
            *returned.borrow_mut() = Some((second, result));
        }
    };
    *lanes[0].ciphers.by.borrow_mut() = Some(Box::new(by));
    let result = first(&mut lanes[0]);
    let (second, other) = returned.borrow_mut().take().unwrap();
    lanes.push(second);
    (Lanes(lanes), result, other)
}

fn two_lanes(base: &SaConfig) -> Lanes<Interrupted> {
    let mut lanes = Lanes::<Interrupted>::new(2);
    lanes.add(base, &key(SUITE, 1)).unwrap();
    lanes
}

#[test]
fn a_packet_that_two_lanes_open_at_once_is_received_once() {
    let [mut sender, _] = End::<Portable<SLOTS>>::pair(&config(Direction::Tx, SPI), &key(SUITE, 1));
    let sealed = sender.send(&inner()).unwrap();
    let (again, lanes) = (sealed.clone(), two_lanes(&config(Direction::Rx, SPI)));
    let (mut lanes, first, second) =
        interleave(lanes, |lane| lane.receive(&sealed), move |lane| lane.receive(&again));
    assert_eq!((first, second), (Err(DropReason::EspReplay), Ok(inner())));
    let counters = lanes.change(|first| first.counters(SPI));
    assert_eq!((counters.packets, counters.replayed), (1, 1));
}

/// While one lane opens a packet, another one receives so many newer ones that it is too old.
#[test]
fn a_packet_that_became_too_old_is_not_received() {
    let base = SaConfig { window: 32, ..config(Direction::Tx, SPI) };
    let [mut sender, _] = End::<Portable<SLOTS>>::pair(&base, &key(SUITE, 1));
    let old = sender.send(&inner()).unwrap();
    let newer: Vec<_> = (0..32).map(|_| sender.send(&inner()).unwrap()).collect();
    let lanes = two_lanes(&SaConfig { direction: Direction::Rx, ..base });
    let (_, first, second) = interleave(
        lanes,
        |lane| lane.receive(&old),
        move |lane| newer.iter().try_for_each(|packet| lane.receive(packet).map(drop)).map(|()| inner()),
    );
    assert_eq!((first, second), (Err(DropReason::EspReplay), Ok(inner())));
}

#[test]
fn two_lanes_seal_with_numbers_of_their_own_up_to_the_limit() {
    let hard = Lifetime { packets: 3, ..Lifetime::UNLIMITED };
    let lanes = two_lanes(&SaConfig { hard, last_sequence: 10, ..config(Direction::Tx, SPI) });
    let both = |lanes| {
        let (lanes, first, second) = interleave(lanes, |lane| lane.send(&inner()), |lane| lane.send(&inner()));
        let number = |sealed: Result<Vec<u8>, _>| sealed.map(|sealed| identity(&sealed).1);
        (lanes, (number(first), number(second)))
    };
    let (lanes, numbers) = both(lanes);
    assert_eq!(numbers, (Ok(11), Ok(12)));
    let (mut lanes, numbers) = both(lanes);
    assert_eq!(numbers, (Ok(13), Err(DropReason::EspExpired)), "the limit's last packet was under way");
    assert_eq!(lanes.0[0].send(&inner()), Err(DropReason::EspExpired));
    lanes.change(|first| {
        assert_eq!((first.state(SPI), first.counters(SPI).packets), (SaState::Expired, 3));
        assert_eq!(first.events(), [(SPI, SaEventKind::HardLimit)]);
        first.engine.remove_sa(&mut first.ciphers, SA).unwrap();
        assert_eq!(first.add(&config(Direction::Tx, SPI), &key(SUITE, 1)), Err(SaError::SequenceReuse));
    });
    assert_eq!(lanes.0[1].send(&inner()), Err(DropReason::EspNoSa));
}

/// A packet that could not be sealed has used its number up: a limit of packets is one of numbers.
#[test]
fn a_number_in_vain_counts() {
    let hard = Lifetime { packets: 3, ..Lifetime::UNLIMITED };
    let [mut sender, _] =
        End::<Portable<SLOTS>>::pair(&SaConfig { hard, ..config(Direction::Tx, SPI) }, &key(SUITE, 1));
    sender.send(&inner()).unwrap();
    sender.ciphers.remove(0);
    assert_eq!(sender.send(&inner()), Err(DropReason::EspNoKey));
    sender.ciphers.install(0, &key(SUITE, 1)).unwrap();
    sender.send(&inner()).unwrap();
    assert_eq!(sender.send(&inner()), Err(DropReason::EspExpired));
    assert_eq!((sender.counters(SPI).packets, sender.sa(SPI).config.last_sequence), (2, 3));
}

/// What a replica has sent counts when the association ends, also if nobody has gathered it.
#[test]
fn an_spi_ends_where_all_lanes_have_come() {
    let mut lanes = two_lanes(&config(Direction::Tx, SPI));
    for _ in 0..3 {
        lanes.0[1].send(&inner()).unwrap();
    }
    let first = &mut lanes.0[0];
    first.engine.remove_sa(&mut first.ciphers, SA).unwrap();
    let again = |last_sequence| SaConfig { last_sequence, ..config(Direction::Tx, SPI) };
    assert_eq!(first.add(&again(2), &key(SUITE, 1)), Err(SaError::SequenceReuse));
    first.add(&again(3), &key(SUITE, 1)).unwrap();
    assert_eq!(identity(&first.send(&inner()).unwrap()), (SPI, 4));
}

/// An association is used with what it was added with, or not at all.
#[test]
fn nothing_is_used_that_does_not_belong_together() {
    // A lane that has not followed a change.
    let mut lanes = two_lanes(&config(Direction::Tx, SPI));
    lanes.0[1].send(&inner()).unwrap();
    lanes.0[0].add(&config(Direction::Tx, SPI + 1), &key(SUITE, 2)).unwrap();
    assert_eq!(lanes.0[1].send(&inner()), Err(DropReason::EspNoSa));
    lanes.change(|_| ());
    assert_eq!(identity(&lanes.0[1].send(&inner()).unwrap()), (SPI + 1, 1));
    // Other memory for what is shared.
    lanes.0[1].ciphers.lane.shared = Shared::default();
    assert_eq!(lanes.0[1].send(&inner()), Err(DropReason::EspNoSa));
    // Ciphers that share nothing, and too little.
    let mut lanes = two_lanes(&config(Direction::Tx, SPI));
    let mut alone = Portable::<SLOTS>::new();
    alone.install(0, &key(SUITE, 1)).unwrap();
    let End { engine, now, .. } = lanes.0.pop().unwrap();
    let mut alone = End { engine, ciphers: alone, now };
    assert_eq!(alone.send(&inner()), Err(DropReason::EspNoSa));
    let mut end = End::<Lane>::new(&[ENCAP]);
    end.ciphers.shared = Shared(Arc::new([]));
    let error = end.add(&config(Direction::Tx, SPI), &key(SUITE, 1));
    assert_eq!(error, Err(SaError::Cipher(CipherError::NoSlot)));
    assert_eq!(end.engine.sas().count(), 0);
    // An association that the first has for itself is not its replicas'.
    let mut first = End::<Portable<SLOTS>>::new(&[ENCAP]);
    first.add(&config(Direction::Tx, SPI), &key(SUITE, 1)).unwrap();
    let mut replica = End::<Portable<SLOTS>>::new(&[]);
    replica.ciphers.install(0, &key(SUITE, 1)).unwrap();
    replica.engine.follow(&first.engine);
    assert_eq!(replica.send(&inner()), Err(DropReason::EspNoSa));
}

/// Four processors at once: all of them seal, then each of them receives everything.
#[test]
fn processors_at_once() {
    const LANES: usize = 4;
    const PACKETS: usize = 250;
    let mut sender = Lanes::<Lane>::new(LANES);
    let mut receiver = Lanes::<Lane>::new(LANES);
    sender.add(&config(Direction::Tx, SPI), &key(SUITE, 1)).unwrap();
    receiver.add(&config(Direction::Rx, SPI), &key(SUITE, 1)).unwrap();
    let sealed: Vec<Vec<u8>> =
        at_once(&mut sender, |lane, _| (0..PACKETS).map(|_| lane.send(&inner()).unwrap()).collect());
    let numbers: BTreeSet<_> = sealed.iter().map(|sealed| identity(sealed)).collect();
    assert!(numbers.into_iter().eq((1..=(LANES * PACKETS) as u32).map(|number| (SPI, number))));
    let received = at_once(&mut receiver, |lane, at| {
        let (behind, front) = sealed.split_at(at * PACKETS / 2);
        let results = front.iter().chain(behind).map(|sealed| lane.receive(sealed));
        results.filter(|result| result.as_ref() == Ok(&inner())).map(Result::unwrap).collect()
    });
    assert_eq!(received.len(), LANES * PACKETS);
    let counted = |lanes: &mut Lanes<Lane>| lanes.change(|first| (first.counters(SPI), first.sa(SPI).config));
    let ((sent, tx), (got, rx)) = (counted(&mut sender), counted(&mut receiver));
    let all = (LANES * PACKETS) as u64;
    assert_eq!((sent.packets, got.packets, got.replayed), (all, all, all * (LANES as u64 - 1)));
    assert_eq!((sent.bytes, tx.last_sequence), (got.bytes, rx.last_sequence));
    assert_eq!(tx.last_sequence, all);
}

/// Runs every lane on a thread of its own and collects what they return.
fn at_once(lanes: &mut Lanes<Lane>, one: impl Fn(&mut End<Lane>, usize) -> Vec<Vec<u8>> + Sync) -> Vec<Vec<u8>> {
    let barrier = Barrier::new(lanes.0.len());
    let (barrier, one) = (&barrier, &one);
    thread::scope(|scope| {
        let run = |(at, lane)| {
            scope.spawn(move || {
                barrier.wait();
                one(lane, at)
            })
        };
        let threads: Vec<_> = lanes.0.iter_mut().enumerate().map(run).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}
