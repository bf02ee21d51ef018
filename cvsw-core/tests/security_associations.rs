//! Security associations over time: limits, new keys, restored VMs, and networks that may not travel in clear.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use cvsw_core::{
    Direction, DropReason, Frame, Instant, Verdict,
    crypto::{
        CipherError, KeyMaterial, Lifetime, MAX_ENCRYPTED_ONLY, NoCiphers, Portable, SaConfig, SaError,
        SaEventKind, SaState, Suite,
    },
    flow::text::parse_flow,
};
use cvsw_testkit::{
    ciphers::key,
    esp::{self, SA, SLOTS, SPI, VNI, config},
    packet::Packet,
};
use std::collections::VecDeque;

type End = esp::End<Portable<SLOTS>>;

const SUITE: Suite = Suite::Aes128Gcm;
const SOFT: (u32, SaEventKind) = (SPI, SaEventKind::SoftLimit);
const HARD: (u32, SaEventKind) = (SPI, SaEventKind::HardLimit);
/// A network that is not marked.
const OPEN_ENCAP: &str = "in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,\
                          eth_src=02:00:00:01:00:01,eth_dst=02:00:00:01:00:02)";
const OPEN_DECAP: &str = "in_port=NET,udp,tp_dst=4789,actions=strip_vxlan(vni=42)";

fn inner() -> Vec<u8> {
    Packet::udp4([10, 0, 0, 1], 1000, [10, 0, 0, 2], 2000, b"data").build()
}

fn pair(base: &SaConfig) -> [End; 2] {
    End::pair(base, &key(SUITE, 1))
}

#[test]
fn the_last_sequence_number_is_the_last() {
    let last = u64::from(u32::MAX);
    let [mut sender, mut receiver] = pair(&SaConfig { last_sequence: last - 2, ..config(Direction::Tx, SPI) });
    for _ in 0..2 {
        let sealed = sender.send(&inner()).unwrap();
        assert_eq!(receiver.receive(&sealed), Ok(inner()));
    }
    assert_eq!(sender.events(), [SOFT], "little is left");
    assert_eq!(sender.state(SPI), SaState::Aging);
    for _ in 0..3 {
        assert_eq!(sender.send(&inner()), Err(DropReason::EspExhausted));
    }
    assert_eq!(sender.events(), [(SPI, SaEventKind::Exhausted)]);
    assert_eq!(sender.state(SPI), SaState::Exhausted);
    assert_eq!((sender.counters(SPI).exhausted, sender.sa(SPI).config.last_sequence), (3, last));
    assert_eq!(receiver.events(), []);
}

#[test]
fn extended_sequence_numbers_go_on() {
    for suite in Suite::ALL.into_iter().filter(|suite| suite.is_authenticated()) {
        let border = 5u64 << 32;
        let base = SaConfig { extended_sequence: true, last_sequence: border - 40, ..config(Direction::Tx, SPI) };
        let [mut sender, mut receiver] = End::pair(&base, &key(suite, 1));
        let sealed: Vec<_> = (0..80).map(|_| sender.send(&inner()).unwrap()).collect();
        assert_eq!(sender.sa(SPI).config.last_sequence, border + 40);
        // Newest first: across the border and back.
        for packet in sealed.iter().rev() {
            assert_eq!(receiver.receive(packet), Ok(inner()), "{suite}");
        }
        for packet in &sealed {
            assert_eq!(receiver.receive(packet), Err(DropReason::EspReplay), "{suite}");
        }
        assert_eq!((receiver.counters(SPI).packets, receiver.counters(SPI).replayed), (80, 80));
        assert_eq!(receiver.sa(SPI).config.last_sequence, border + 40);
    }
    let end = u64::MAX - 1;
    let base = SaConfig { extended_sequence: true, last_sequence: end, ..config(Direction::Tx, SPI) };
    let [mut sender, mut receiver] = pair(&base);
    assert_eq!(receiver.receive(&sender.send(&inner()).unwrap()), Ok(inner()));
    assert_eq!(sender.send(&inner()), Err(DropReason::EspExhausted));
}

#[test]
fn the_window_has_its_configured_size() {
    for window in [32, 1024, 2048] {
        let [mut sender, mut receiver] = pair(&SaConfig { window, ..config(Direction::Tx, SPI) });
        let sealed: Vec<_> = (0..=window).map(|_| sender.send(&inner()).unwrap()).collect();
        let (old, rest) = sealed.split_first().unwrap();
        assert_eq!(receiver.receive(sealed.last().unwrap()), Ok(inner()));
        assert_eq!(receiver.receive(old), Err(DropReason::EspReplay), "just outside");
        assert_eq!(receiver.receive(&rest[0]), Ok(inner()), "just inside");
    }
}

#[test]
fn limits_in_packets_and_bytes() {
    let len = (8 + 8 + inner().len()) as u64;
    for (soft, hard) in [
        (Lifetime { packets: 3, ..Lifetime::UNLIMITED }, Lifetime { packets: 5, ..Lifetime::UNLIMITED }),
        (
            Lifetime { bytes: 3 * len, ..Lifetime::UNLIMITED },
            Lifetime { bytes: 4 * len + 1, ..Lifetime::UNLIMITED },
        ),
    ] {
        let [mut sender, mut receiver] = pair(&SaConfig { soft, hard, ..config(Direction::Tx, SPI) });
        let mut sealed = Vec::new();
        for count in 0..5 {
            let expected: &[_] = if count == 3 { &[SOFT] } else { &[] };
            sealed.push(sender.send(&inner()).unwrap());
            assert_eq!(sender.events(), expected, "{count}");
        }
        assert_eq!(sender.send(&inner()), Err(DropReason::EspExpired));
        assert_eq!(sender.send(&inner()), Err(DropReason::EspExpired));
        assert_eq!(sender.events(), [HARD]);
        assert_eq!((sender.state(SPI), sender.counters(SPI).expired), (SaState::Expired, 2));
        // The receiver counts the same way.
        assert!(sealed.iter().all(|packet| receiver.receive(packet) == Ok(inner())));
        assert_eq!(receiver.receive(&sealed[0]), Err(DropReason::EspExpired));
        assert_eq!(receiver.events(), [SOFT, HARD]);
    }
}

#[test]
fn limits_in_seconds() {
    let soft = Lifetime { seconds: 60, ..Lifetime::UNLIMITED };
    let hard = Lifetime { seconds: 90, ..Lifetime::UNLIMITED };
    let [mut sender, mut receiver] = pair(&SaConfig { soft, hard, ..config(Direction::Tx, SPI) });
    let start = sender.now;
    let at = |seconds: u64| Instant::from_nanos(start.as_nanos() + seconds * 1_000_000_000);
    for end in [&mut sender, &mut receiver] {
        for (seconds, expected) in [(59, None), (60, Some(SOFT)), (89, None), (90, Some(HARD)), (91, None)] {
            end.engine.tick(at(seconds));
            assert_eq!(end.events(), Vec::from_iter(expected), "{seconds}");
        }
    }
    sender.now = at(89);
    let sealed = sender.send(&inner()).unwrap();
    sender.now = at(90);
    receiver.now = at(90);
    assert_eq!(sender.send(&inner()), Err(DropReason::EspExpired));
    assert_eq!(receiver.receive(&sealed), Err(DropReason::EspExpired));
}

/// The sender changes its key in the middle of the traffic; packets of both keys are under way.
#[test]
fn a_new_key_loses_no_packet() {
    let [mut sender, mut receiver] = pair(&config(Direction::Tx, SPI));
    let mut under_way = VecDeque::new();
    let mut received = 0;
    for round in 0..20u32 {
        let spi = SPI + round + 1;
        let new_key = key(SUITE, round as u8 + 2);
        // First the receiver, under an id of its own, then the sender, then without the old one.
        receiver.add(&SaConfig { id: 100 + round, ..config(Direction::Rx, spi) }, &new_key).unwrap();
        for _ in 0..10 {
            under_way.push_back(sender.send(&inner()).unwrap());
        }
        sender.add(&config(Direction::Tx, spi), &new_key).unwrap();
        assert_eq!(sender.engine.sas().count(), 1);
        for _ in 0..10 {
            under_way.push_back(sender.send(&inner()).unwrap());
        }
        while under_way.len() > 5 {
            let packet = under_way.pop_front().unwrap();
            assert_eq!(receiver.receive(&packet), Ok(inner()));
            received += 1;
        }
        let old = receiver.sa(spi - 1).config.id;
        receiver.engine.remove_sa(&mut receiver.ciphers, old).unwrap();
        assert_eq!(receiver.engine.sas().count(), 1);
    }
    assert_eq!(received + under_way.len(), 400);
}

#[test]
fn what_an_association_must_be() {
    let mut end = End::new(&[]);
    let base = config(Direction::Rx, SPI);
    let refused = |end: &mut End, config: &SaConfig, suite| {
        let before = end.engine.sas().count();
        let error = end.add(config, &key(suite, 1)).unwrap_err();
        assert_eq!(end.engine.sas().count(), before);
        error
    };
    for spi in [0, 1, 255] {
        assert_eq!(refused(&mut end, &SaConfig { spi, ..base }, SUITE), SaError::ReservedSpi);
    }
    for window in [0, 31, 2049] {
        assert_eq!(refused(&mut end, &SaConfig { window, ..base }, SUITE), SaError::BadWindow);
    }
    let extended = SaConfig { extended_sequence: true, ..base };
    let error = refused(&mut end, &extended, Suite::Aes128CtrUnauthenticated);
    assert_eq!(error, SaError::ExtendedUnauthenticated);
    // No window where it would mean nothing.
    end.add(&SaConfig { window: 0, ..base }, &key(Suite::Aes256CtrUnauthenticated, 1)).unwrap();
    end.add(&SaConfig { id: 8, direction: Direction::Tx, window: 0, ..base }, &key(SUITE, 1)).unwrap();
    assert_eq!(end.engine.sas().count(), 2);

    assert_eq!(refused(&mut end, &base, SUITE), SaError::Duplicate);
    assert_eq!(refused(&mut end, &SaConfig { id: 9, ..base }, SUITE), SaError::Duplicate, "another id");
    assert_eq!(refused(&mut end, &SaConfig { id: 8, spi: 999, ..base }, SUITE), SaError::OtherDirection);
    for (id, spi) in [(20, 1020), (21, 1021)] {
        end.add(&SaConfig { id, spi, ..base }, &key(SUITE, 1)).unwrap();
    }
    assert_eq!(refused(&mut end, &SaConfig { id: 22, spi: 1022, ..base }, SUITE), SaError::Full);
    end.add(&SaConfig { id: 20, spi: 1022, ..base }, &key(SUITE, 1)).expect("in place of another");

    let now = end.now;
    let error = end.engine.add_sa(&mut NoCiphers, now, &SaConfig { id: 20, spi: 2000, ..base }, &key(SUITE, 1));
    assert_eq!(error, Err(SaError::Cipher(CipherError::Unsupported)));
    assert_eq!(end.sa(1022).config.id, 20, "the old one is still there");
    assert_eq!(end.engine.remove_sa(&mut end.ciphers, 99), Err(SaError::NotFound));
    end.engine.remove_sa(&mut end.ciphers, 21).unwrap();
    assert_eq!(end.engine.remove_sa(&mut end.ciphers, 21), Err(SaError::NotFound));
}

/// A key that was delivered twice, or comes back, must not start its nonces again.
#[test]
fn a_sender_does_not_start_again() {
    let base = config(Direction::Tx, SPI);
    let [mut sender, _] = pair(&base);
    for _ in 0..3 {
        sender.send(&inner()).unwrap();
    }
    assert_eq!(sender.add(&base, &key(SUITE, 1)), Err(SaError::Duplicate));
    assert_eq!(sender.sa(SPI).config.last_sequence, 3);
    sender.engine.remove_sa(&mut sender.ciphers, SA).unwrap();
    assert_eq!(sender.add(&base, &key(SUITE, 1)), Err(SaError::SequenceReuse));
    assert_eq!(sender.add(&SaConfig { last_sequence: 2, ..base }, &key(SUITE, 1)), Err(SaError::SequenceReuse));
    sender.add(&SaConfig { last_sequence: 3, ..base }, &key(SUITE, 1)).unwrap();
    let sealed = sender.send(&inner()).unwrap();
    assert_eq!(sealed[38..42], 4u32.to_be_bytes());
    // Replaced by a new key, it may not come back either.
    sender.add(&config(Direction::Tx, SPI + 1), &key(SUITE, 2)).unwrap();
    assert_eq!(sender.add(&base, &key(SUITE, 1)), Err(SaError::SequenceReuse));
}

#[test]
fn a_restored_vm_does_not_send_with_old_keys() {
    let [mut sender, mut receiver] = pair(&config(Direction::Tx, SPI));
    let sealed = sender.send(&inner()).unwrap();
    sender.engine.set_boot_generation(0);
    assert_eq!(sender.events(), [], "the same generation");
    for end in [&mut sender, &mut receiver] {
        end.engine.set_boot_generation(0xfeed);
    }
    assert_eq!(sender.events(), [(SPI, SaEventKind::StaleGeneration)]);
    assert_eq!(sender.send(&inner()), Err(DropReason::EspStale));
    assert_eq!((sender.state(SPI), sender.counters(SPI).stale), (SaState::Stale, 1));
    // Receiving uses up nothing.
    assert_eq!(receiver.events(), []);
    assert_eq!(receiver.receive(&sealed), Ok(inner()));
    // With a new key it goes on.
    sender.add(&config(Direction::Tx, SPI + 1), &key(SUITE, 2)).unwrap();
    receiver.add(&SaConfig { id: 8, ..config(Direction::Rx, SPI + 1) }, &key(SUITE, 2)).unwrap();
    assert_eq!(receiver.receive(&sender.send(&inner()).unwrap()), Ok(inner()));
    assert_eq!(sender.state(SPI + 1), SaState::Active);
}

#[test]
fn encrypted_only() {
    let mut clear = End::new(&[OPEN_ENCAP, OPEN_DECAP]);
    let packet = clear.send(&inner()).unwrap();
    assert_eq!(clear.receive(&packet), Ok(inner()));
    assert!(clear.engine.require_encryption(VNI, true));
    assert_eq!(clear.send(&inner()), Err(DropReason::ClearTextRefused));
    assert_eq!(clear.receive(&packet), Err(DropReason::ClearTextRefused));
    assert_eq!(clear.engine.encrypted_only().collect::<Vec<_>>(), [VNI]);
    assert!(clear.engine.require_encryption(VNI, false));
    assert_eq!(clear.receive(&packet), Ok(inner()));

    let [mut sender, mut receiver] = pair(&config(Direction::Tx, SPI));
    for end in [&mut sender, &mut receiver] {
        assert!(end.engine.require_encryption(VNI, true));
    }
    receiver.engine.flow_mod(receiver.now, &parse_flow(OPEN_DECAP).unwrap()).unwrap();
    assert_eq!(receiver.receive(&sender.send(&inner()).unwrap()), Ok(inner()));
    assert_eq!(receiver.receive(&packet), Err(DropReason::ClearTextRefused));

    for vni in 0..MAX_ENCRYPTED_ONLY as u32 {
        assert!(clear.engine.require_encryption(1000 + vni, true));
    }
    assert!(!clear.engine.require_encryption(5, true), "full");
}

/// One layer of encryption is good for one layer of decapsulation.
#[test]
fn a_tunnel_inside_a_tunnel_is_in_clear() {
    let mut clear = End::new(&[OPEN_ENCAP]);
    let nested = clear.send(&inner()).unwrap();
    let [mut sender, _] = pair(&config(Direction::Tx, SPI));
    let sealed = sender.send(&nested).unwrap();
    let mut receiver = End::new(&["in_port=NET,ip,nw_proto=50,actions=decrypt,strip_vxlan,strip_vxlan"]);
    receiver.add(&config(Direction::Rx, SPI), &key(SUITE, 1)).unwrap();
    assert!(receiver.engine.require_encryption(VNI, true));
    assert_eq!(receiver.receive(&sealed), Err(DropReason::ClearTextRefused));
}

/// A trace shows what would happen, and nothing happens; but no number is used twice.
#[test]
fn a_trace_leaves_no_trace() {
    let [mut sender, mut receiver] = pair(&config(Direction::Tx, SPI));
    let framed = |bytes: &[u8]| Frame::new([&[0; 128][..], bytes, &[0; 32]].concat(), 128, bytes.len()).unwrap();
    let mut frame = framed(&inner());
    let verdict = sender.engine.trace_with(&mut sender.ciphers, sender.now, Direction::Tx, &mut frame, &mut Silent);
    assert_eq!(verdict, Verdict::Forward);
    assert_eq!((frame.bytes()[41], sender.counters(SPI).packets), (1, 0));
    let sealed = sender.send(&inner()).unwrap();
    assert_eq!(sealed[38..42], 2u32.to_be_bytes());
    for _ in 0..3 {
        let mut frame = framed(&sealed);
        let (now, ciphers) = (receiver.now, &mut receiver.ciphers);
        let verdict = receiver.engine.trace_with(ciphers, now, Direction::Rx, &mut frame, &mut Silent);
        assert_eq!((verdict, frame.bytes()), (Verdict::Forward, &inner()[..]));
    }
    assert_eq!(receiver.counters(SPI).packets, 0);
    assert_eq!(receiver.receive(&sealed), Ok(inner()));
    let mut frame = framed(&sealed);
    let (now, ciphers) = (receiver.now, &mut receiver.ciphers);
    let verdict = receiver.engine.trace_with(ciphers, now, Direction::Rx, &mut frame, &mut Silent);
    assert_eq!(verdict, Verdict::Drop(DropReason::EspReplay));
    assert_eq!(receiver.counters(SPI).replayed, 0);
}

/// An observer that wants to be told, unlike [`NoTrace`].
struct Silent;

impl cvsw_core::trace::Observer for Silent {
    const ENABLED: bool = true;
    fn event(&mut self, _: &cvsw_core::trace::Event<'_>) {}
}

#[test]
fn keys_are_not_printed() {
    let material = KeyMaterial::new(SUITE, &[0xab; 20]).unwrap();
    let mut end = End::new(&[]);
    end.add(&config(Direction::Tx, SPI), &material).unwrap();
    let status: Vec<_> = end.engine.sas().collect();
    let text = format!("{material:?} {:?} {status:?}", end.ciphers);
    assert!(!text.contains("171") && !text.to_lowercase().contains("ab, "), "{text}");
}
