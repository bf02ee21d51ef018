//! The parser against hand-written frames, random well-formed ones, and etherparse on damaged ones.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::{
    flow::{Field, FlowKey, VLAN_PRESENT},
    parse::{Network, Parsed, Transport, parse},
};
use cvsw_testkit::{
    hex,
    packet::{self, Fragment, Packet},
    strategy,
};
use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

const IN_PORT: u16 = 1;
const TUN_ID: u32 = 0x00ab_cdef;

fn parsed(bytes: &[u8]) -> Parsed {
    parse(bytes, IN_PORT, TUN_ID).expect("an Ethernet header")
}

/// The key of a frame with no more than Ethernet fields.
fn ethernet_key(dst: u64, src: u64, ethertype: u16) -> FlowKey {
    FlowKey::ZERO
        .with(Field::InPort, IN_PORT.into())
        .with(Field::TunId, TUN_ID.into())
        .with(Field::EthDst, dst)
        .with(Field::EthSrc, src)
        .with(Field::EthType, ethertype.into())
}

/// Addresses and a first byte that all hand-written frames share.
const ADDRESSES: &str = "02 00 00 00 00 02   02 00 00 00 00 01";

fn hand_key(ethertype: u16) -> FlowKey {
    ethernet_key(0x0200_0000_0002, 0x0200_0000_0001, ethertype)
}

fn frame(rest: &str) -> Vec<u8> {
    hex::bytes(&format!("{ADDRESSES} {rest}"))
}

#[test]
fn tagged_udp_with_ip_options_and_padding() {
    let bytes = frame(
        "8100 b064  0800
         4600 0023 1234 4000 40 11 0000 0a000001 c0000203  01010100   # options
         03e8 0035 000b 0000 616263
         000000                                                     # padding",
    );
    let parsed = parsed(&bytes);
    let expected = hand_key(0x0800)
        .with(Field::VlanTci, u64::from(0xb064 | VLAN_PRESENT))
        .with(Field::NwSrc, 0x0a00_0001)
        .with(Field::NwDst, 0xc000_0203)
        .with(Field::NwProto, 17)
        .with(Field::TpSrc, 1000)
        .with(Field::TpDst, 53);
    assert_eq!(parsed.key, expected);
    let headers = parsed.headers;
    assert!(headers.tagged);
    assert_eq!((headers.network, headers.network_offset), (Network::Ipv4, 18));
    assert_eq!((headers.transport, headers.transport_offset), (Transport::Udp, 42));
}

#[test]
fn ecn_bits_are_not_part_of_the_tos() {
    let bytes = frame("0800  45bb 0014 0000 0000 40 fd 0000 0a000001 0a000002");
    assert_eq!(parsed(&bytes).key.get(Field::NwTos), 0xb8);
}

#[test]
fn tcp_flags_have_twelve_bits() {
    let bytes = frame(
        "0800  4500 0028 0000 0000 40 06 0000 0a000001 0a000002
         0050 1f90 00000000 00000000 5a12 ffff 0000 0000",
    );
    let parsed = parsed(&bytes);
    assert_eq!(parsed.key.get(Field::TcpFlags), 0xa12);
    assert_eq!(parsed.headers.transport, Transport::Tcp);
}

#[test]
fn inner_tag_is_the_ethertype() {
    let bytes = frame("88a8 0064  8100 00c8  0800  4500 0014 0000 0000 40 11 0000 0a000001 0a000002");
    let parsed = parsed(&bytes);
    assert_eq!(parsed.key, hand_key(0x8100).with(Field::VlanTci, u64::from(0x0064 | VLAN_PRESENT)));
    assert_eq!((parsed.headers.network, parsed.headers.network_offset), (Network::Other, 18));
}

#[test]
fn tag_without_ethertype_behind_it_is_no_tag() {
    for bytes in [frame("8100"), frame("8100 0064"), frame("8100 0064 08")] {
        let parsed = parsed(&bytes);
        assert_eq!(parsed.key, hand_key(0x8100));
        assert!(!parsed.headers.tagged);
    }
}

#[test]
fn length_frames() {
    // Spanning tree: LLC without SNAP.
    assert_eq!(parsed(&frame("0026 424203 0000000000")).key, hand_key(0x05ff));
    // SNAP with OUI 0 carries an EtherType; ARP here, whose payload is found.
    let arp = frame("0024 aaaa03 000000 0806  0001 0800 0604 0001 020000000001 0a000001 000000000000 0a000002");
    let snap = parsed(&arp);
    assert_eq!(snap.key.get(Field::EthType), 0x0806);
    assert_eq!(snap.key.get(Field::NwDst), 0x0a00_0002);
    assert_eq!(snap.headers.network_offset, 22);
    // Another OUI, a type below 0x600, a cut-off header.
    for bytes in ["0008 aaaa03 00000c 2000", "0008 aaaa03 000000 05ff", "0007 aaaa03 000000 08"] {
        assert_eq!(parsed(&frame(bytes)).key, hand_key(0x05ff), "{bytes}");
    }
    // Tagged.
    let tagged = parsed(&frame("8100 0001 0008 aaaa03 000000 88cc"));
    assert_eq!(tagged.key.get(Field::EthType), 0x88cc);
    assert_eq!(tagged.headers.network_offset, 26);
}

#[test]
fn arp_fields() {
    let arp = |operation: &str| {
        frame(&format!("0806  0001 0800 0604 {operation} 020000000001 0a000001 000000000000 0a000002"))
    };
    let addresses = |key: FlowKey| key.with(Field::NwSrc, 0x0a00_0001).with(Field::NwDst, 0x0a00_0002);
    assert_eq!(parsed(&arp("0002")).key, addresses(hand_key(0x0806)).with(Field::NwProto, 2));
    assert_eq!(parsed(&arp("00ff")).key.get(Field::NwProto), 255);
    assert_eq!(parsed(&arp("0102")).key, addresses(hand_key(0x0806)));
    assert_eq!(parsed(&arp("0001")).headers.network, Network::Arp);
    // Not Ethernet and IPv4, and cut off by one byte.
    let mut other = arp("0001");
    other[14..20].copy_from_slice(&[0, 1, 0x86, 0xdd, 6, 16]);
    assert_eq!(parsed(&other).key, hand_key(0x0806));
    let whole = arp("0001");
    assert_eq!(parsed(&whole[..whole.len() - 1]).key, hand_key(0x0806));
}

#[test]
fn malformed_ipv4_has_no_fields() {
    let good = "4500 001c 0000 0000 40 11 0000 0a000001 0a000002 03e8 0035 0008 0000";
    assert_eq!(parsed(&frame(&format!("0800 {good}"))).key.get(Field::TpDst), 53);
    for (what, bad) in [
        ("header length 4 words", good.replacen("45", "44", 1)),
        ("header longer than the packet", good.replacen("45", "48", 1)),
        ("total length beyond the frame", good.replacen("001c", "001d", 1)),
        ("total length within the header", good.replacen("001c", "0013", 1)),
        ("cut off", good.split_at(46).0.to_owned()),
    ] {
        let parsed = parsed(&frame(&format!("0800 {bad}")));
        assert_eq!(parsed.key, hand_key(0x0800), "{what}");
        assert_eq!(parsed.headers.network, Network::Other, "{what}");
    }
}

#[test]
fn truncated_transport_has_no_ports() {
    for (protocol, len) in [("06", 19), ("11", 7), ("01", 7), ("84", 11)] {
        let text = format!("0800  4500 {:04x} 0000 0000 40 {protocol} 0000 0a000001 0a000002", 20 + len);
        let mut bytes = frame(&text);
        bytes.extend(vec![0x11; len]);
        // What lies behind the packet does not help.
        bytes.extend(vec![0x22; 40]);
        let parsed = parsed(&bytes);
        assert_eq!(parsed.key.get(Field::NwSrc), 0x0a00_0001, "{protocol}");
        assert_eq!((parsed.key.get(Field::TpSrc), parsed.key.get(Field::TpDst)), (0, 0), "{protocol}");
        assert_eq!(parsed.headers.transport, Transport::Other, "{protocol}");
    }
}

#[test]
fn sctp_and_igmp_can_be_matched_but_not_changed() {
    let sctp = frame("0800  4500 0020 0000 0000 40 84 0000 0a000001 0a000002  0b59 0035 00000000 00000000");
    let parsed_sctp = parsed(&sctp);
    assert_eq!((parsed_sctp.key.get(Field::TpSrc), parsed_sctp.key.get(Field::TpDst)), (2905, 53));
    assert_eq!(parsed_sctp.headers.transport, Transport::Other);
    let igmp = frame("0800  4500 001c 0000 0000 01 02 0000 0a000001 e0000001  16 01 0000 ef010203");
    let parsed_igmp = parsed(&igmp);
    assert_eq!((parsed_igmp.key.get(Field::TpSrc), parsed_igmp.key.get(Field::TpDst)), (0x16, 1));
    assert_eq!(parsed_igmp.headers.transport, Transport::Other);
}

#[test]
fn ipv6_fragments_and_broken_chains() {
    let ip6 = |next: &str, rest: &str| {
        let len = hex::bytes(rest).len();
        let addresses = "fd000000000000000000000000000001 fd000000000000000000000000000002";
        frame(&format!("86dd  60000000 {len:04x} {next} 40 {addresses} {rest}"))
    };
    let fields = |bytes: &[u8]| {
        let key = parsed(bytes).key;
        (key.get(Field::NwProto), key.get(Field::NwFrag), key.get(Field::TpDst))
    };
    let udp = "03e8 0035 0008 0000";
    assert_eq!(fields(&ip6("11", udp)), (17, 0, 53));
    assert_eq!(fields(&ip6("2c", &format!("11 00 0001 00000000 {udp}"))), (17, 1, 0), "first fragment");
    assert_eq!(fields(&ip6("2c", &format!("11 00 0008 00000000 {udp}"))), (44, 3, 0), "later fragment");
    assert_eq!(fields(&ip6("2c", &format!("11 00 0000 00000000 {udp}"))), (17, 0, 53), "atomic fragment");
    // A header that says it is longer than the packet, and one that is cut off.
    assert_eq!(fields(&ip6("00", &format!("11 02 000000000000 {udp}"))), (0, 0, 0));
    assert_eq!(fields(&ip6("00", "11 00 0000")), (0, 0, 0));
    let broken = parsed(&ip6("00", "11 00 0000"));
    assert_eq!(broken.headers.network, Network::Other);
    assert_eq!(broken.key.get(Field::Ipv6DstLo), 2);
    // The walk is bounded.
    let chain = |count: usize| format!("{} 11 00 000000000000 {udp}", "00 00 000000000000".repeat(count));
    assert_eq!(fields(&ip6("00", &chain(15))), (17, 0, 53));
    assert_eq!(fields(&ip6("00", &chain(16))), (0, 0, 0));
}

#[test]
fn shorter_than_ethernet_is_nothing() {
    assert_eq!(parse(&[0; 13], 1, 0), None);
    assert_eq!(parse(&[], 1, 0), None);
    assert!(parse(&[0; 14], 1, 0).is_some());
}

/// What the key of `packet` must be, told from the description alone.
fn expected_key(packet: &Packet) -> FlowKey {
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let ethertype = match &packet.network {
        packet::Network::Ipv4(_) => 0x0800,
        packet::Network::Ipv6(_) => 0x86dd,
        packet::Network::Arp { .. } => 0x0806,
        packet::Network::Other { ethertype, .. } => *ethertype,
    };
    let key = ethernet_key(number(&packet.eth_dst), number(&packet.eth_src), ethertype);
    let key = match packet.tags[..] {
        [] => key,
        [(_, tci)] => key.with(Field::VlanTci, u64::from(tci | VLAN_PRESENT)),
        [(_, tci), (inner, _), ..] => {
            return key.with(Field::VlanTci, u64::from(tci | VLAN_PRESENT)).with(Field::EthType, inner.into());
        }
    };
    match &packet.network {
        packet::Network::Ipv4(ip) => {
            let key = key
                .with(Field::NwSrc, number(&ip.src))
                .with(Field::NwDst, number(&ip.dst))
                .with(Field::NwTos, u64::from(ip.tos & 0xfc))
                .with(Field::NwProto, ip.transport.protocol(false).into());
            match ip.fragment {
                Fragment::Whole => with_transport(key, &ip.transport),
                Fragment::First { .. } => with_transport(key.with(Field::NwFrag, 1), &ip.transport)
                    .with(Field::TpSrc, 0)
                    .with(Field::TpDst, 0),
                Fragment::Later { .. } => key.with(Field::NwFrag, 3),
            }
        }
        packet::Network::Ipv6(ip) => {
            let key = key
                .with(Field::Ipv6SrcHi, number(&ip.src[..8]))
                .with(Field::Ipv6SrcLo, number(&ip.src[8..]))
                .with(Field::Ipv6DstHi, number(&ip.dst[..8]))
                .with(Field::Ipv6DstLo, number(&ip.dst[8..]))
                .with(Field::NwTos, u64::from(ip.class & 0xfc))
                .with(Field::NwProto, ip.transport.protocol(true).into());
            with_transport(key, &ip.transport)
        }
        packet::Network::Arp { operation, sender, target, .. } => key
            .with(Field::NwSrc, number(sender))
            .with(Field::NwDst, number(target))
            .with(Field::NwProto, if *operation < 256 { u64::from(*operation) } else { 0 }),
        packet::Network::Other { .. } => key,
    }
}

fn with_transport(key: FlowKey, transport: &packet::Transport) -> FlowKey {
    let ports = |src: u16, dst: u16| key.with(Field::TpSrc, src.into()).with(Field::TpDst, dst.into());
    match transport {
        packet::Transport::Tcp { src, dst, flags, .. } => {
            ports(*src, *dst).with(Field::TcpFlags, u64::from(flags & 0x1ff))
        }
        packet::Transport::Udp { src, dst, .. } => ports(*src, *dst),
        packet::Transport::Icmp { kind, code, .. } => ports((*kind).into(), (*code).into()),
        packet::Transport::Other { .. } => key,
    }
}

/// etherparse's view of a frame with at most one tag, as far as it accepts it, against ours.
fn agree_with_etherparse(bytes: &[u8]) -> Result<(), TestCaseError> {
    // The tag type of old QinQ equipment: a tag for etherparse, not for Open vSwitch, nor for us.
    const DOUBLE_TAG_9100: [u8; 2] = [0x91, 0x00];
    if [12, 16].iter().any(|at| bytes.get(*at..at + 2) == Some(&DOUBLE_TAG_9100)) {
        return Ok(());
    }
    let Ok(theirs) = SlicedPacket::from_ethernet(bytes) else { return Ok(()) };
    let tags = theirs.link_exts.iter().filter(|ext| matches!(ext, LinkExtSlice::Vlan(_))).count();
    if tags != theirs.link_exts.len() || tags > 1 {
        return Ok(());
    }
    let ours = parsed(bytes);
    prop_assert_eq!(ours.headers.tagged, tags == 1);
    match &theirs.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            prop_assert_eq!(ours.headers.network, Network::Ipv4);
            prop_assert_eq!(ours.key.get(Field::NwSrc), u64::from(header.source_addr().to_bits()));
            prop_assert_eq!(ours.key.get(Field::NwDst), u64::from(header.destination_addr().to_bits()));
            prop_assert_eq!(ours.key.get(Field::NwProto), u64::from(header.protocol().0));
            prop_assert_eq!(ours.key.get(Field::NwFrag) != 0, header.is_fragmenting_payload());
        }
        Some(NetSlice::Ipv6(ip)) => {
            prop_assert_eq!(ours.headers.network, Network::Ipv6);
            let hi = u128::from(ours.key.get(Field::Ipv6SrcHi));
            let lo = u128::from(ours.key.get(Field::Ipv6SrcLo));
            prop_assert_eq!(hi << 64 | lo, ip.header().source_addr().to_bits());
        }
        _ => {}
    }
    let ports = (ours.key.get(Field::TpSrc) as u16, ours.key.get(Field::TpDst) as u16);
    match &theirs.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            prop_assert_eq!(ours.headers.transport, Transport::Tcp);
            prop_assert_eq!(ports, (tcp.source_port(), tcp.destination_port()));
            let offset = usize::from(ours.headers.transport_offset);
            prop_assert_eq!(&bytes[offset..][..tcp.header_slice().len()], tcp.header_slice());
        }
        Some(TransportSlice::Udp(udp)) => {
            prop_assert_eq!(ours.headers.transport, Transport::Udp);
            prop_assert_eq!(ports, (udp.source_port(), udp.destination_port()));
        }
        // ICMPv4 inside IPv6 is no ICMP for Open vSwitch, nor for us.
        Some(TransportSlice::Icmpv4(icmp)) if matches!(theirs.net, Some(NetSlice::Ipv4(_))) => {
            prop_assert_eq!(ours.headers.transport, Transport::Icmp);
            prop_assert_eq!(ports, (icmp.type_u8().into(), icmp.code_u8().into()));
        }
        _ => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_packets_have_the_expected_key(packet in strategy::packet()) {
        let bytes = packet.build();
        prop_assert_eq!(parsed(&bytes).key, expected_key(&packet), "{}", hex::dump(&bytes));
    }

    #[test]
    fn etherparse_agrees_on_damaged_packets(
        packet in strategy::packet(),
        cut in prop_oneof![2 => Just(usize::MAX), 1 => 14..100usize],
        damage in proptest::collection::vec((12..60usize, any::<u8>()), 0..3),
    ) {
        let mut bytes = packet.build();
        bytes.truncate(cut);
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        agree_with_etherparse(&bytes)?;
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
        prop_assert_eq!(parse(&bytes, 2, 0).is_some(), bytes.len() >= 14);
    }
}
