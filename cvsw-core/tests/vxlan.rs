//! VXLAN encapsulation and decapsulation: identity of the pair, every refusal, offload metadata, ECN.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

mod support;

use cvsw_core::{
    Checksum, DropReason, Frame, Gso, GsoKind, Offload,
    apply::{Next, Program},
    flow::{Action, PORT_NET, RESUBMIT_IN_PORT},
    parse::parse,
    trace::NoTrace,
};
use cvsw_testkit::{
    checksums, hex,
    packet::{Fragment, Network, Packet, Transport},
    program::run,
    strategy,
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use support::{HEADROOM, TUNNEL, changed, frame, observed, partial, run_on};

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const ENCAP: Action = Action::SetVxlan(TUNNEL);
const DECAP: Action = Action::StripVxlan(Some(42));
const OVERHEAD: usize = 50;

fn inner() -> Vec<u8> {
    Packet::udp4(A, 1000, B, 53, b"query").build()
}

/// The tunnel packet around [`inner`], as another implementation would send it.
fn outer() -> Packet {
    Packet::vxlan([192, 0, 2, 1], [192, 0, 2, 2], 42, &inner())
}

fn refusal(bytes: &[u8]) -> DropReason {
    let mut frame = frame(bytes);
    match run_on(&[DECAP], &mut frame) {
        Next::Drop(reason) => {
            assert_eq!(frame.bytes(), bytes, "a refused frame was changed");
            reason
        }
        next => panic!("{next:?}\n{}", hex::dump(bytes)),
    }
}

/// Every byte of an encapsulation, written out (RFC 7348 section 5).
#[test]
fn outer_headers_byte_by_byte() {
    let bytes = changed(&[ENCAP], &inner());
    let expected = "
        0200 0001 0002  0200 0001 0001  0800
        45 00 0053  4321 4000  40 11 7375  c0000201  c0000202
        ffff 12b5 003f 0000
        08 000000 00002a 00";
    let mut expected = hex::bytes(expected);
    // The source port is a hash; its range is fixed, its value is not.
    assert!(u16::from_be_bytes([bytes[34], bytes[35]]) >= 49152);
    expected[34..36].copy_from_slice(&bytes[34..36]);
    assert_eq!(hex::dump(&bytes[..OVERHEAD]), hex::dump(&expected));
    assert_eq!(bytes[OVERHEAD..], inner());
    assert_eq!(checksums::verify(&bytes), Ok(()));
}

#[test]
fn identification_counts() {
    let program = Program::compile(&[ENCAP]).expect("valid");
    let mut ip_id = 0xffff;
    for expected in [0xffff, 0, 1u16] {
        let mut frame = frame(&inner());
        let parsed = parse(frame.bytes(), 1, 0).expect("Ethernet");
        assert_eq!(run(&program, &mut ip_id, &mut frame, &parsed, &mut NoTrace), Next::Forward);
        assert_eq!(frame.bytes()[18..20], expected.to_be_bytes());
        assert_eq!(checksums::verify(frame.bytes()), Ok(()));
    }
}

#[test]
fn source_ports_follow_the_flow() {
    let port = |packet: &Packet| {
        let bytes = changed(&[ENCAP], &packet.build());
        u16::from_be_bytes([bytes[34], bytes[35]])
    };
    // The same for all packets of a flow: payload, TCP flags and IP identification do not matter.
    let mut other_id = Packet::tcp4(A, 1, B, 2, b"other");
    other_id.ipv4_mut().id = 7;
    let Transport::Tcp { flags, .. } = &mut other_id.ipv4_mut().transport else { panic!("TCP") };
    *flags = 0x011;
    assert_eq!(port(&Packet::tcp4(A, 1, B, 2, b"")), port(&other_id));
    // The same for all fragments of a packet.
    let whole = Packet::udp4(A, 1, B, 2, &[0; 64]);
    let first = whole.clone().fragment(Fragment::First { keep: 32 });
    assert_eq!(port(&first), port(&whole.fragment(Fragment::Later { skip: 32 })));
    // Spread over flows: 1,000 of them use most of as many ports (16,384 to choose from).
    let ports: BTreeSet<u16> = (0..1000).map(|sport| port(&Packet::udp4(A, sport, B, 53, b""))).collect();
    assert!(ports.len() > 930, "{} ports", ports.len());
    let v6 = |last: u8| {
        let mut address = [0xfd; 16];
        address[15] = last;
        port(&Packet::ping6(address, [0xfe; 16], 1, 1))
    };
    let ports: BTreeSet<u16> = (0..=255).map(v6).collect();
    assert!(ports.len() > 240, "{} ports", ports.len());
}

#[test]
fn tos_goes_out_with_ecn() {
    let mut packet = Packet::udp4(A, 1, B, 2, b"");
    packet.ipv4_mut().tos = 0xba;
    assert_eq!(changed(&[ENCAP], &packet.build())[15], 0xba);
    let tagged = packet.tagged(0x8100, 5);
    assert_eq!(changed(&[ENCAP], &tagged.build())[15], 0xba);
    let mut v6 = Packet::ping6([0xfd; 16], [0xfe; 16], 1, 1);
    let Network::Ipv6(ip) = &mut v6.network else { panic!("IPv6") };
    ip.class = 0x2b;
    assert_eq!(changed(&[ENCAP], &v6.build())[15], 0x2b);
    assert_eq!(changed(&[ENCAP], &Packet::arp(A, B).build())[15], 0);
}

#[test]
fn congestion_marks_come_in() {
    let carried = |inner_tos: u8, outer_tos: u8| {
        let mut inner = Packet::udp4(A, 1, B, 2, b"data");
        inner.ipv4_mut().tos = inner_tos;
        let mut outer = Packet::vxlan([192, 0, 2, 1], [192, 0, 2, 2], 42, &inner.build());
        outer.ipv4_mut().tos = outer_tos;
        outer.build()
    };
    // The inner DSCP stays; the mark is merged (RFC 6040, figure 4), and the inner checksum fits.
    for (inner_tos, outer_tos, expected) in
        [(0xb8, 0x20, 0xb8), (0xb8, 0x22, 0xb8), (0xb8, 0x01, 0xb8), (0xba, 0x01, 0xb9), (0xba, 0x03, 0xbb)]
    {
        let after = changed(&[DECAP], &carried(inner_tos, outer_tos));
        assert_eq!(after[15], expected, "inner {inner_tos:#x}, outer {outer_tos:#x}");
        assert_eq!(checksums::verify(&after), Ok(()));
    }
    assert_eq!(refusal(&carried(0xb8, 0x03)), DropReason::TunnelEcn);
    // ARP has no place for a mark and no need of one.
    let mut arp = Packet::vxlan([192, 0, 2, 1], [192, 0, 2, 2], 42, &Packet::arp(A, B).build());
    arp.ipv4_mut().tos = 3;
    assert_eq!(changed(&[DECAP], &arp.build()), Packet::arp(A, B).build());
}

#[test]
fn padding_and_tags_of_the_outer_frame_go_away() {
    let mut padded = outer();
    padded.padding = 20;
    assert_eq!(changed(&[DECAP], &padded.build()), inner());
    assert_eq!(changed(&[DECAP], &outer().tagged(0x8100, 7).build()), inner());
    let mut options = outer();
    options.ipv4_mut().options = vec![1; 8];
    assert_eq!(changed(&[DECAP], &options.build()), inner());
}

#[test]
fn any_vni_without_demand() {
    let mut frame = frame(&Packet::vxlan([192, 0, 2, 1], [192, 0, 2, 2], 0xff_ffff, &inner()).build());
    let actions = [Action::StripVxlan(None), Action::Resubmit { in_port: RESUBMIT_IN_PORT }];
    assert_eq!(
        run_on(&actions, &mut frame),
        Next::Resubmit { in_port: RESUBMIT_IN_PORT, tun_id: 0xff_ffff, decrypted: false }
    );
    assert_eq!(frame.bytes(), inner());
}

#[test]
fn actions_behind_a_decapsulation_see_the_inner_frame() {
    let actions = [DECAP, Action::SetTpDst(5353), Action::SetVlanVid(9)];
    let expected = Packet::udp4(A, 1000, B, 5353, b"query").tagged(0x8100, 9).build();
    assert_eq!(changed(&actions, &outer().build()), expected);
}

#[test]
fn actions_behind_an_encapsulation_see_the_outer_frame() {
    let actions = [ENCAP, Action::SetNwDst([192, 0, 2, 9]), Action::SetNwTos(0x20), Action::SetVlanVid(9)];
    let bytes = changed(&actions, &inner());
    assert_eq!(bytes[12..18], [0x81, 0, 0, 9, 8, 0]);
    assert_eq!((bytes[19], &bytes[34..38]), (0x20, &[192, 0, 2, 9][..]));
    assert_eq!(bytes[54..], inner());
    assert_eq!(checksums::verify(&bytes), Ok(()));
}

#[test]
fn a_frame_moves_from_one_tunnel_to_another() {
    let bytes = changed(&[DECAP, ENCAP, Action::Resubmit { in_port: PORT_NET }][..2], &outer().build());
    assert_eq!(bytes[OVERHEAD..], inner());
    assert_eq!(bytes[34..36], changed(&[ENCAP], &inner())[34..36], "hash of the inner flow");
}

/// What may be wrong with a tunnel packet, each with its own reason.
#[test]
fn refusals() {
    let good = outer().build();
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        refusal(&bytes)
    };
    // Changes an IPv4 header word and keeps the checksum right, so that the change itself is found.
    let word = |bytes: &mut Vec<u8>, at: usize, value: u16| {
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        bytes[24..26].fill(0);
        let checksum = etherparse::checksum::Sum16BitWords::new().add_slice(&bytes[14..34]).ones_complement();
        bytes[24..26].copy_from_slice(&checksum.to_ne_bytes());
    };
    assert_eq!(refusal(&Packet::arp(A, B).build()), DropReason::TunnelNotUdp);
    assert_eq!(refusal(&Packet::tcp4(A, 1, B, 4789, b"").build()), DropReason::TunnelNotUdp);
    assert_eq!(refusal(&Packet::ping6([0xfd; 16], [0xfe; 16], 1, 1).build()), DropReason::TunnelNotUdp);
    assert_eq!(damaged(&|bytes| bytes.truncate(60)), DropReason::TunnelIpHeader);
    assert_eq!(damaged(&|bytes| bytes[14] = 0x44), DropReason::TunnelIpHeader);
    assert_eq!(damaged(&|bytes| word(bytes, 14, 0x6500)), DropReason::TunnelIpHeader);
    assert_eq!(damaged(&|bytes| bytes[22] ^= 1), DropReason::TunnelIpChecksum);
    assert_eq!(damaged(&|bytes| word(bytes, 20, 0x2000)), DropReason::TunnelFragment);
    assert_eq!(damaged(&|bytes| word(bytes, 20, 0x0001)), DropReason::TunnelFragment);
    assert_eq!(damaged(&|bytes| bytes[39] += 1), DropReason::TunnelUdpLength);
    assert_eq!(damaged(&|bytes| bytes[38..40].fill(0)), DropReason::TunnelUdpLength);
    assert_eq!(damaged(&|bytes| bytes[38..40].copy_from_slice(&[0, 7])), DropReason::TunnelUdpLength);
    assert_eq!(damaged(&|bytes| word(bytes, 16, 27)), DropReason::TunnelUdpLength);
    assert_eq!(damaged(&|bytes| bytes[41] = 1), DropReason::TunnelUdpChecksum);
    assert_eq!(damaged(&|bytes| bytes[37] = 0xb4), DropReason::TunnelPort);
    assert_eq!(damaged(&|bytes| bytes[42] = 0xf7), DropReason::VxlanFlags);
    assert_eq!(damaged(&|bytes| bytes[48] = 43), DropReason::VxlanVni);
    assert_eq!(damaged(&|bytes| bytes[38..40].copy_from_slice(&[0, 15])), DropReason::TunnelInnerTooShort);
    assert_eq!(damaged(&|bytes| bytes[38..40].copy_from_slice(&[0, 29])), DropReason::TunnelInnerTooShort);
}

/// Reserved bits are ignored, and the shortest inner frame is an Ethernet header.
#[test]
fn tolerated() {
    let mut bytes = outer().build();
    bytes[42] = 0xff;
    bytes[43..46].fill(0xff);
    bytes[49] = 0xff;
    assert_eq!(changed(&[DECAP], &bytes), inner());
    let shortest = Packet::vxlan([192, 0, 2, 1], [192, 0, 2, 2], 42, &inner()[..14]).build();
    assert_eq!(changed(&[DECAP], &shortest), inner()[..14]);
}

#[test]
fn outer_udp_checksum_is_verified() {
    let mut packet = outer();
    let Transport::Udp { checksum, .. } = &mut packet.ipv4_mut().transport else { panic!("UDP") };
    *checksum = true;
    let good = packet.build();
    assert_eq!(changed(&[DECAP], &good), inner());
    let mut bad = good;
    *bad.last_mut().expect("bytes") ^= 1;
    assert_eq!(refusal(&bad), DropReason::TunnelUdpChecksum);
    // Not again what the NIC has verified; and that says nothing of the inner frame.
    let mut verified = frame(&bad);
    verified.offload.checksum = Checksum::Verified;
    assert_eq!(run_on(&[DECAP], &mut verified), Next::Forward);
    assert_eq!(verified.offload, Offload::default());
}

#[test]
fn a_partial_checksum_is_completed_before_encapsulation() {
    for packet in [Packet::udp4(A, 1, B, 2, b"odd"), Packet::tcp4(A, 1, B, 2, b"odd").tagged(0x8100, 3)] {
        let whole = packet.build();
        let mut frame = partial(&whole);
        assert_eq!(run_on(&[ENCAP], &mut frame), Next::Forward);
        assert_eq!(frame.bytes()[OVERHEAD..], whole);
        assert_eq!(frame.offload, Offload::default());
    }
    let mut outside = frame(&inner());
    outside.offload.checksum = Checksum::Partial { start: 40, offset: 16 };
    assert_eq!(run_on(&[ENCAP], &mut outside), Next::Drop(DropReason::BadOffload));
}

/// Linux on the same machine sends tunnel packets whose inner or outer checksum is still to be filled in.
#[test]
fn a_partial_checksum_is_followed_through_decapsulation() {
    let whole = Packet::tcp4(A, 1, B, 2, b"data").build();
    let inner_partial = partial(&whole);
    let bytes = Packet::vxlan([192, 0, 2, 1], [192, 0, 2, 2], 42, inner_partial.bytes()).build();
    let mut outer_frame = frame(&bytes);
    outer_frame.offload.checksum = Checksum::Partial { start: 84, offset: 16 };
    assert_eq!(run_on(&[DECAP], &mut outer_frame), Next::Forward);
    assert_eq!(outer_frame.offload.checksum, Checksum::Partial { start: 34, offset: 16 });
    assert_eq!(outer_frame.complete_checksum(), Ok(()));
    assert_eq!(outer_frame.bytes(), whole);

    let mut with_checksum = outer();
    let Transport::Udp { checksum, .. } = &mut with_checksum.ipv4_mut().transport else { panic!("UDP") };
    *checksum = true;
    let mut outer_partial = partial(&with_checksum.build());
    assert_eq!(run_on(&[DECAP], &mut outer_partial), Next::Forward);
    assert_eq!(outer_partial.offload.checksum, Checksum::Complete);
    assert_eq!(outer_partial.bytes(), inner());

    let mut nonsense = frame(&bytes);
    nonsense.offload.checksum = Checksum::Partial { start: 44, offset: 0 };
    assert_eq!(run_on(&[DECAP], &mut nonsense), Next::Drop(DropReason::BadOffload));
}

#[test]
fn super_segments_are_refused() {
    let gso = Gso { kind: GsoKind::TcpV4, size: 1400, header_len: 54, ecn: false };
    for (action, bytes) in [(ENCAP, inner()), (DECAP, outer().build())] {
        let mut frame = frame(&bytes);
        frame.offload.gso = gso;
        let (next, steps) = observed(&[action], &mut frame);
        assert_eq!(next, Next::Drop(DropReason::GsoUnsupported));
        assert_eq!(steps.len(), 1);
    }
}

#[test]
fn encapsulation_needs_room_and_a_length_that_fits() {
    for room in [0, 49, 50] {
        let buffer = [&vec![0; room][..], &inner()].concat();
        let mut frame = Frame::new(buffer, room, inner().len()).expect("fits");
        let expected = if room < OVERHEAD { Next::Drop(DropReason::NoHeadroom) } else { Next::Forward };
        assert_eq!(run_on(&[ENCAP], &mut frame), expected, "{room} bytes");
    }
    // The outer IPv4 length has 16 bits: 36 bytes of it are headers.
    for (len, expected) in [(65_499, Next::Forward), (65_500, Next::Drop(DropReason::FrameTooBig))] {
        let mut frame = Frame::new(vec![0; HEADROOM + len], HEADROOM, len).expect("fits");
        assert_eq!(run_on(&[ENCAP], &mut frame), expected, "{len} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn there_and_back(packet in strategy::packet(), cut in prop_oneof![3 => Just(usize::MAX), 1 => 14..60usize]) {
        let mut bytes = packet.build();
        bytes.truncate(cut);
        let mut frame = frame(&bytes);
        prop_assert_eq!(run_on(&[ENCAP], &mut frame), Next::Forward);
        prop_assert_eq!(frame.headroom(), HEADROOM - OVERHEAD);
        prop_assert_eq!(run_on(&[DECAP], &mut frame), Next::Forward);
        prop_assert_eq!(frame.bytes(), bytes);
        prop_assert_eq!(frame.headroom(), HEADROOM);
    }

    /// A damaged tunnel packet is refused or yields a frame; never a panic, never bytes from outside.
    #[test]
    fn damaged_tunnel_packets_are_survived(
        damage in proptest::collection::vec((14..70usize, any::<u8>()), 1..4),
        cut in prop_oneof![2 => Just(usize::MAX), 1 => 14..100usize],
    ) {
        let mut bytes = outer().build();
        for (at, value) in damage {
            bytes[at] = value;
        }
        bytes.truncate(cut);
        let mut frame = frame(&bytes);
        if run_on(&[Action::StripVxlan(None)], &mut frame) == Next::Forward {
            prop_assert!(frame.len() >= 14 && frame.len() <= bytes.len() - OVERHEAD);
        }
    }
}
