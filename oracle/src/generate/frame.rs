//! Random frames: valid ones, odd ones, broken ones.

use super::{IPV4, MACS, PORTS, TOS, VIDS, one_in, pick};
use crate::wire::MARKER_TYPE;
use cvsw_core::{key::Field, parse::parse};
use cvsw_testkit::packet::{Fragment, Ipv4, Ipv6, Network, Packet, Transport};
use fastrand::Rng;

/// A frame; one in six is damaged.
pub fn frame(rng: &mut Rng) -> Vec<u8> {
    let network = match rng.u32(..12) {
        0..=7 => Network::Ipv4(ipv4(rng)),
        8 => Network::Arp {
            operation: pick(rng, &[1, 2, 3, 0x0101]),
            sender_mac: pick(rng, &MACS),
            sender: pick(rng, &IPV4),
            target: pick(rng, &IPV4),
        },
        9..=10 => Network::Ipv6(ipv6(rng)),
        _ => Network::Other {
            ethertype: pick(rng, &[0x88cc, 0x8847, 0x0600, 0x05ff, 0x0000, 0x8035, 0x0040]),
            payload: bytes(rng, 60),
        },
    };
    let tags = match rng.u32(..10) {
        0..=5 => Vec::new(),
        6..=8 => vec![tag(rng)],
        _ => vec![tag(rng), tag(rng)],
    };
    let padding = if one_in(rng, 3) { rng.usize(1..30) } else { 0 };
    let packet = Packet { eth_src: pick(rng, &MACS), eth_dst: pick(rng, &MACS), tags, network, padding };
    let mut frame = packet.build();
    if one_in(rng, 6) {
        damage(rng, &mut frame);
    }
    if is_marker(&frame) { self::frame(rng) } else { frame }
}

/// Whether the tester's own flow would let the frame through.
fn is_marker(frame: &[u8]) -> bool {
    parse(frame, 1, 0).is_some_and(|parsed| parsed.key.get(Field::EthType) == u64::from(MARKER_TYPE))
}

fn tag(rng: &mut Rng) -> (u16, u16) {
    let tci = pick(rng, &VIDS) | pick(rng, &[0, 0x1000, 0x6000, 0xe000]);
    (pick(rng, &[0x8100, 0x8100, 0x88a8]), tci)
}

fn ipv4(rng: &mut Rng) -> Ipv4 {
    let fragment = match rng.u32(..10) {
        0 => Fragment::First { keep: rng.usize(0..5) * 8 },
        1 => Fragment::Later { skip: rng.usize(1..5) * 8 },
        _ => Fragment::Whole,
    };
    Ipv4 {
        src: pick(rng, &IPV4),
        dst: pick(rng, &IPV4),
        tos: pick(rng, &TOS),
        id: rng.u16(..),
        options: if one_in(rng, 6) { vec![1; rng.usize(1..11) * 4] } else { Vec::new() },
        fragment,
        transport: transport(rng),
    }
}

fn ipv6(rng: &mut Rng) -> Ipv6 {
    let mut extensions = Vec::new();
    for _ in 0..pick(rng, &[0, 0, 0, 1, 2]) {
        let kind = pick(rng, &[0, 43, 60, 51, 44]);
        let length = if kind == 44 { 6 } else { 6 + rng.usize(..3) * 8 };
        // An authentication header counts in other units.
        extensions.push((kind, vec![0; if kind == 51 { 22 } else { length }]));
    }
    let address = |rng: &mut Rng| {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        address[15] = rng.u8(1..4);
        address
    };
    Ipv6 { src: address(rng), dst: address(rng), class: pick(rng, &TOS), extensions, transport: transport(rng) }
}

fn transport(rng: &mut Rng) -> Transport {
    let (src, dst) = (pick(rng, &PORTS), pick(rng, &PORTS));
    let payload = bytes(rng, 48);
    match rng.u32(..10) {
        0..=3 => Transport::Tcp { src, dst, flags: rng.u16(..0x200), payload },
        4..=7 => Transport::Udp { src, dst, checksum: !one_in(rng, 4), payload },
        8 => Transport::Icmp { kind: pick(rng, &[0, 1, 8, 53]), code: pick(rng, &[0, 1, 8]), payload },
        _ => Transport::Other { protocol: pick(rng, &[1, 2, 6, 17, 47, 58, 132]), payload },
    }
}

fn bytes(rng: &mut Rng, max: usize) -> Vec<u8> {
    (0..rng.usize(..max)).map(|_| rng.u8(..)).collect()
}

/// Cuts a frame off, or changes one of its header bytes. Addresses and EtherTypes stay, so that it is still met.
fn damage(rng: &mut Rng, frame: &mut Vec<u8>) {
    match rng.u32(..4) {
        0 => frame.truncate(rng.usize(14..=frame.len())),
        1 => frame.extend(bytes(rng, 20)),
        _ => {
            let end = frame.len().min(60);
            if end > 14 {
                frame[rng.usize(14..end)] = rng.u8(..);
            }
        }
    }
}
