//! ESP through the engine: what one end seals, the other opens; everything else is dropped and counted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use cvsw_core::{
    Checksum, Direction, DropReason, Frame, Gso, GsoKind, Offload, Verdict,
    crypto::{NoCiphers, Portable, SaConfig, SaCounters, Suite},
    flow::text::parse_flow,
    tunnel::esp::association_of,
};
use cvsw_testkit::{
    checksums,
    ciphers::key,
    esp::{self, OUTER_LEN, RECEIVER, SLOTS, SPI, TAILROOM, config},
    hex,
    packet::Packet,
};
use proptest::prelude::*;

type End = esp::End<Portable<SLOTS>>;

/// What VXLAN puts between the outer IPv4 header and the inner frame.
const UDP_VXLAN: usize = 16;

fn inner(payload: usize) -> Vec<u8> {
    Packet::udp4([10, 0, 0, 1], 1000, [10, 0, 0, 2], 2000, &vec![0x77; payload]).build()
}

fn pair(suite: Suite) -> [End; 2] {
    End::pair(&config(Direction::Tx, SPI), &key(suite, 1))
}

/// A pair whose receiver drops what is not ESP.
fn closed_pair(suite: Suite) -> [End; 2] {
    let [sender, mut receiver] = pair(suite);
    receiver.engine.flow_mod(receiver.now, &parse_flow("priority=0,actions=drop").unwrap()).unwrap();
    [sender, receiver]
}

#[test]
fn opens_what_it_sealed() {
    for suite in Suite::ALL {
        for extended_sequence in [false, suite.is_authenticated()] {
            let base = SaConfig { extended_sequence, ..config(Direction::Tx, SPI) };
            let [mut sender, mut receiver] = End::pair(&base, &key(suite, 1));
            for len in (0..70).chain([511, 512, 1400, 1472, 4000, 8999, 9000]) {
                let frame = inner(len);
                let sealed = sender.send(&frame).unwrap();
                assert_eq!(checksums::verify(&sealed), Ok(()), "{suite}\n{}", hex::dump(&sealed));
                assert_eq!(association_of(&sealed), Some((RECEIVER, SPI)));
                assert_eq!(association_of(&frame), None);
                let plain = UDP_VXLAN + frame.len();
                assert_eq!(sealed.len(), OUTER_LEN + plain + suite.overhead(plain));
                assert_eq!(receiver.receive(&sealed), Ok(frame), "{suite}, {len}");
            }
            assert_eq!(sender.counters(SPI), receiver.counters(SPI));
            assert_eq!(receiver.counters(SPI).packets, 77);
        }
    }
}

#[test]
fn every_length_comes_back() {
    esp::check_every_length::<Portable<SLOTS>>();
}

/// The outside of a sealed packet, byte by byte.
#[test]
fn on_the_wire() {
    let [mut sender, mut receiver] = pair(Suite::Aes128Gcm);
    let first = sender.send(&inner(1)).unwrap();
    let second = sender.send(&inner(1)).unwrap();
    // 43 bytes of inner frame, 16 of UDP and VXLAN, 16 of ESP, 3 of padding, 2 of trailer, 16 of ICV, 20 of IPv4.
    let expected = hex::bytes(
        "020000010002 020000010001 0800
         45 00 0074  0000 4000  40 32 b654  c0000201 c0000202
         00001001 00000001 0000000000000001",
    );
    assert_eq!(hex::dump(&first[..50]), hex::dump(&expected));
    assert_eq!(first.len(), 14 + 0x74);
    assert_eq!(second[34..50], hex::bytes("00001001 00000002 0000000000000002"));
    assert_ne!(first[50..], second[50..], "same plaintext, other nonce");
    assert_eq!(receiver.receive(&second), Ok(inner(1)));
    assert_eq!(receiver.receive(&first), Ok(inner(1)), "order does not matter");
}

proptest! {
    /// Any frame, any room, any suite: it fits or is dropped for want of room, and what fits comes back.
    #[test]
    fn any_length_and_any_room(
        suite in prop::sample::select(Suite::ALL.to_vec()),
        len in 0..9000usize,
        headroom in 40..90usize,
        tailroom in 0..30usize,
    ) {
        let [mut sender, mut receiver] = pair(suite);
        let frame = inner(len);
        let sealed = sender.pass(Direction::Tx, &frame, headroom, tailroom);
        let behind = Suite::padding(UDP_VXLAN + frame.len()) + 2 + 16;
        if headroom < 50 + 16 {
            prop_assert_eq!(sealed, Err(DropReason::NoHeadroom));
        } else if tailroom < behind {
            prop_assert_eq!(sealed, Err(DropReason::NoTailroom));
            prop_assert_eq!(sender.sa(SPI).config.last_sequence, 0, "no number used in vain");
        } else {
            let opened = receiver.pass(Direction::Rx, &sealed.unwrap(), 0, 0);
            prop_assert_eq!(opened, Ok(frame));
        }
    }

    /// No bytes behind an ESP header are forwarded that were not sealed.
    #[test]
    fn garbage_is_dropped(data in prop::collection::vec(any::<u8>(), 0..200), known: bool) {
        let [mut sender, mut receiver] = pair(Suite::Aes128CtrHmacSha256);
        let mut packet = sender.send(&inner(0)).unwrap();
        let spi = if known { SPI } else { SPI + 1 };
        packet.truncate(OUTER_LEN);
        packet.extend(spi.to_be_bytes());
        packet.extend(&data);
        set_ip_length(&mut packet);
        prop_assert!(receiver.receive(&packet).is_err());
        prop_assert_eq!(receiver.counters(SPI).packets, 0);
    }
}

/// Sets the IPv4 length to the frame's, with its checksum.
fn set_ip_length(packet: &mut [u8]) {
    let len = (packet.len() - 14) as u16;
    packet[16..18].copy_from_slice(&len.to_be_bytes());
    packet[24..26].fill(0);
    let sum = packet[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn every_flipped_bit_is_noticed() {
    for suite in Suite::ALL.into_iter().filter(|suite| suite.is_authenticated()) {
        let [mut sender, mut receiver] = closed_pair(suite);
        let sealed = sender.send(&inner(3)).unwrap();
        let mut refused = SaCounters::default();
        for bit in 14 * 8..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let result = receiver.receive(&damaged);
            let reason = result.map(|_| panic!("{suite}: bit {bit} may be changed")).unwrap_err();
            match bit / 8 {
                // The header checksum covers these.
                14..34 => assert_ne!(reason, DropReason::EspAuth),
                34..38 => assert_eq!(reason, DropReason::EspNoSa, "SPI"),
                // Bit 0 of the sequence number makes it 0, which is never sent.
                41 if bit % 8 == 0 => {
                    assert_eq!(reason, DropReason::EspReplay);
                    refused.replayed += 1;
                }
                _ => {
                    assert_eq!(reason, DropReason::EspAuth, "{suite}: bit {bit}");
                    refused.auth_failed += 1;
                }
            }
        }
        assert_eq!(receiver.counters(SPI), refused);
        assert_eq!(receiver.receive(&sealed), Ok(inner(3)), "the window was left alone");
        assert_eq!(receiver.receive(&sealed), Err(DropReason::EspReplay));
    }
}

#[test]
fn truncated_packets_are_dropped() {
    for suite in Suite::ALL {
        let [mut sender, mut receiver] = closed_pair(suite);
        let sealed = sender.send(&inner(5)).unwrap();
        for len in OUTER_LEN..sealed.len() {
            let mut cut = sealed[..len].to_vec();
            assert_eq!(receiver.receive(&cut), Err(DropReason::Policy), "not even an IPv4 packet");
            set_ip_length(&mut cut);
            assert!(receiver.receive(&cut).is_err(), "{suite}: {len}");
        }
        assert_eq!(receiver.counters(SPI).packets, 0);
        assert_eq!(receiver.receive(&sealed), Ok(inner(5)));
    }
}

/// What cannot be sealed because of the association, and what cannot be opened.
#[test]
fn fails_closed() {
    let frame = inner(9);
    let mut without = End::new(&[esp::ENCAP, esp::DECAP]);
    assert_eq!(without.send(&frame), Err(DropReason::EspNoSa));

    let [mut sender, mut receiver] = pair(Suite::Aes128Gcm);
    let sealed = sender.send(&frame).unwrap();
    assert_eq!(without.receive(&sealed), Err(DropReason::EspNoSa));
    without.add(&config(Direction::Rx, SPI), &key(Suite::Aes128Gcm, 2)).unwrap();
    assert_eq!(without.receive(&sealed), Err(DropReason::EspAuth), "another key");
    assert_eq!(without.send(&frame), Err(DropReason::EspNoSa), "an association for receiving");

    // The same SPI towards somebody else.
    let elsewhere = SaConfig { destination: [192, 0, 2, 9], ..config(Direction::Rx, SPI) };
    let mut other = End::new(&[esp::DECAP]);
    other.add(&elsewhere, &key(Suite::Aes128Gcm, 1)).unwrap();
    assert_eq!(other.receive(&sealed), Err(DropReason::EspNoSa));
    let mut wrong = End::new(&[esp::ENCAP]);
    wrong.add(&SaConfig { direction: Direction::Tx, ..elsewhere }, &key(Suite::Aes128Gcm, 1)).unwrap();
    assert_eq!(wrong.send(&frame), Err(DropReason::EspDestination));
    assert_eq!(wrong.sa(SPI).config.last_sequence, 0);

    // An engine that is run without its ciphers.
    for (end, direction, bytes) in [(&mut sender, Direction::Tx, &frame), (&mut receiver, Direction::Rx, &sealed)] {
        let mut frame = Frame::new([&[0; 128][..], bytes, &[0; 32]].concat(), 128, bytes.len()).unwrap();
        assert_eq!(end.engine.process(end.now, direction, &mut frame), Verdict::Drop(DropReason::EspNoKey));
        let mut frame = Frame::new([&[0; 128][..], bytes, &[0; 32]].concat(), 128, bytes.len()).unwrap();
        let verdict = end.engine.process_with(&mut NoCiphers, end.now, direction, &mut frame);
        assert_eq!(verdict, Verdict::Drop(DropReason::EspNoKey));
    }

    receiver.engine.remove_sa(&mut receiver.ciphers, esp::SA).unwrap();
    assert_eq!(receiver.receive(&sealed), Err(DropReason::EspNoSa));
    let drops = receiver.engine.stats().direction(Direction::Rx);
    assert_eq!((drops.dropped(DropReason::EspNoSa), drops.dropped(DropReason::EspNoKey)), (1, 2));
}

#[test]
fn only_esp_can_be_opened() {
    let mut end = End::new(&["in_port=NET,actions=decrypt,strip_vxlan"]);
    end.add(&config(Direction::Rx, SPI), &key(Suite::Aes128Gcm, 1)).unwrap();
    assert_eq!(end.receive(&inner(20)), Err(DropReason::EspNotEsp));
    assert_eq!(end.receive(&[0; 60]), Err(DropReason::EspNotEsp));
    let [mut sender, _] = pair(Suite::Aes128Gcm);
    let sealed = sender.send(&inner(20)).unwrap();
    let mut fragment = sealed.clone();
    fragment[20..22].copy_from_slice(&0x2000u16.to_be_bytes());
    set_ip_length(&mut fragment);
    assert_eq!(end.receive(&fragment), Err(DropReason::TunnelFragment));
    assert_eq!(end.receive(&sealed), Ok(inner(20)));
}

/// Authentic packets with something else inside than a padded UDP datagram.
#[test]
fn odd_insides() {
    use cvsw_core::crypto::{Ciphers, PacketHeader};
    let [mut sender, mut receiver] = pair(Suite::Aes128Gcm);
    let outer = sender.send(&inner(0)).unwrap()[..OUTER_LEN].to_vec();
    let mut ciphers = Portable::<1>::new();
    ciphers.install(0, &key(Suite::Aes128Gcm, 1)).unwrap();
    let datagram = [0x55; 12];
    let cases: [(&[u8], DropReason); 7] = [
        (&[1, 2, 2, 17], DropReason::TunnelUdpLength), // good padding, no datagram
        (&[9, 9, 2, 17], DropReason::EspMalformed),    // RFC 4303 section 2.4: 1, 2
        (&[2, 1, 2, 17], DropReason::EspMalformed),
        (&[1, 2, 255, 17], DropReason::EspMalformed), // more padding than packet
        (&[1, 2, 2, 59], DropReason::EspNextHeader),  // dummy packet
        (&[1, 2, 2, 4], DropReason::EspNextHeader),   // tunnel mode
        (&[0, 17], DropReason::EspMalformed),         // not aligned
    ];
    for ((trailer, reason), sequence) in cases.into_iter().zip(100u64..) {
        let header = PacketHeader::new(SPI, sequence, false, [7; 8]);
        let mut data = [&datagram, trailer, &[0; 16]].concat();
        ciphers.seal(0, &header, &mut data).unwrap();
        let head = [SPI.to_be_bytes(), (sequence as u32).to_be_bytes(), [7; 4], [7; 4]].concat();
        let mut packet = [outer.clone(), head, data].concat();
        set_ip_length(&mut packet);
        assert_eq!(receiver.receive(&packet), Err(reason), "{trailer:?}");
    }
    // The misaligned one is refused before it is authenticated.
    assert_eq!(receiver.counters(SPI).malformed, 6);
    assert_eq!(receiver.counters(SPI).packets, 1, "the one that only VXLAN objects to");
}

#[test]
fn offload_metadata() {
    let [mut sender, mut receiver] = pair(Suite::Aes128Gcm);
    let frame_of =
        |bytes: &[u8]| Frame::new([&[0; 128][..], bytes, &[0; TAILROOM]].concat(), 128, bytes.len()).unwrap();
    // A checksum left for later is filled in before anybody else could do it.
    let bytes = inner(100);
    let mut frame = frame_of(&bytes);
    frame.bytes_mut()[40..42].copy_from_slice(&pseudo_sum(&bytes).to_be_bytes());
    frame.offload.checksum = Checksum::Partial { start: 34, offset: 6 };
    let verdict = sender.engine.process_with(&mut sender.ciphers, sender.now, Direction::Tx, &mut frame);
    assert_eq!((verdict, frame.offload), (Verdict::Forward, Offload::default()));
    let sealed = frame.bytes().to_vec();
    // A super-segment of ESP packets, and a checksum to be filled in inside a sealed packet, cannot be.
    let gso = Gso { kind: GsoKind::Udp, size: 500, header_len: 42, ecn: false };
    let mut frame = frame_of(&sealed);
    frame.offload.gso = gso;
    let verdict = receiver.engine.process_with(&mut receiver.ciphers, receiver.now, Direction::Rx, &mut frame);
    assert_eq!(verdict, Verdict::Drop(DropReason::GsoUnsupported));
    let mut frame = frame_of(&sealed);
    frame.offload.checksum = Checksum::Partial { start: 34, offset: 6 };
    let verdict = receiver.engine.process_with(&mut receiver.ciphers, receiver.now, Direction::Rx, &mut frame);
    assert_eq!(verdict, Verdict::Drop(DropReason::BadOffload));
    assert_eq!(receiver.receive(&sealed), Ok(bytes.clone()));
    // Nor can a super-segment be sealed.
    let mut frame = frame_of(&bytes);
    frame.offload.gso = gso;
    let verdict = sender.engine.process_with(&mut sender.ciphers, sender.now, Direction::Tx, &mut frame);
    assert_eq!(verdict, Verdict::Drop(DropReason::GsoUnsupported));
}

/// The sum of a UDP/IPv4 pseudo-header, which a sender with checksum offload leaves in the field.
fn pseudo_sum(frame: &[u8]) -> u16 {
    let words = [&frame[26..34], &[0, 17], &frame[38..40]].concat();
    let sum = words.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The largest frame of every suite fills the underlay's MTU, and one byte more does not fit.
#[test]
fn largest_frame_fits_to_the_byte() {
    use cvsw_core::{crypto::vxlan_mtu, mtu::IpMtu};
    for suite in Suite::ALL {
        for underlay in (576..600).chain(1490..1510).chain([9000, 9001, 9002, 9003]) {
            let underlay = IpMtu::new(underlay).unwrap();
            let inner_mtu = vxlan_mtu(underlay, Some(suite)).unwrap().get();
            let [mut sender, mut receiver] = pair(suite);
            sender.engine.set_link_mtu(Some(underlay.l2()));
            let largest = inner(usize::from(inner_mtu) - 28);
            let sealed = sender.send(&largest).unwrap();
            assert!(
                sealed.len() <= underlay.l2().get() as usize && sealed.len() + 4 > underlay.l2().get() as usize
            );
            assert_eq!(receiver.receive(&sealed), Ok(largest), "{suite}, {underlay:?}");
            let larger = inner(usize::from(inner_mtu) - 27);
            assert_eq!(sender.send(&larger), Err(DropReason::FrameTooBig), "{suite}, {underlay:?}");
        }
    }
}

/// Whatever an action list does between and around encapsulation and encryption.
#[test]
fn other_actions_around() {
    let [_, mut receiver] = pair(Suite::Aes256Gcm);
    let tunnel =
        "set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,eth_src=02:00:00:01:00:01,eth_dst=02:00:00:01:00:02)";
    for (before, between, after, tagged) in [
        ("mod_nw_tos:184,", "", "", false),
        ("", "mod_vlan_vid:5,", "", true),
        ("", "", ",mod_vlan_vid:5", true),
        ("", "mod_nw_src:192.0.2.77,", ",mod_dl_dst:02:00:00:00:00:99", false),
        // The ports are out of reach, inside.
        ("", "", ",mod_tp_dst:9", false),
        ("", "", ",mod_nw_tos:8", false),
    ] {
        let mut sender =
            End::new(&[&format!("in_port=HOST,actions={before}{tunnel},{between}encrypt(sa=7){after}")]);
        let mut fresh = End::new(&[esp::DECAP]);
        std::mem::swap(&mut receiver, &mut fresh);
        sender.add(&config(Direction::Tx, SPI), &key(Suite::Aes256Gcm, 1)).unwrap();
        receiver.add(&config(Direction::Rx, SPI), &key(Suite::Aes256Gcm, 1)).unwrap();
        let sealed = sender.send(&inner(30)).unwrap();
        assert_eq!(checksums::verify(&sealed), Ok(()));
        assert_eq!(sealed[12..14] == [0x81, 0], tagged);
        let opened = receiver.receive(&sealed).unwrap();
        let tos = if before.is_empty() { 0 } else { 184 };
        assert_eq!((opened[15], &opened[26..]), (tos, &inner(30)[26..]), "{before} {between} {after}");
    }
}

/// A decrypted packet can be looked up before and after its decapsulation.
#[test]
fn resubmit_after_decryption() {
    let flows = [
        "priority=9,in_port=NET,ip,nw_proto=50,actions=decrypt,resubmit:NET",
        "priority=8,in_port=NET,udp,tp_dst=4789,actions=strip_vxlan,resubmit:NET",
        "priority=7,in_port=NET,tun_id=42,udp,tp_dst=2000,actions=mod_tp_dst:2001",
        "priority=0,actions=drop",
    ];
    assert!(flows.iter().all(|flow| parse_flow(flow).is_ok()));
    let [mut sender, _] = pair(Suite::Aes128Gcm);
    let mut receiver = End::new(&flows);
    receiver
        .add(&SaConfig { destination: RECEIVER, ..config(Direction::Rx, SPI) }, &key(Suite::Aes128Gcm, 1))
        .unwrap();
    assert!(receiver.engine.require_encryption(42, true));
    let sealed = sender.send(&inner(7)).unwrap();
    let opened = receiver.receive(&sealed).unwrap();
    assert_eq!(opened[36..38], 2001u16.to_be_bytes());
    assert_eq!(checksums::verify(&opened), Ok(()));
}
