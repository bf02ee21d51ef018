//! Compilation and execution of header-changing actions: against a naive reference that changes the packet's
//! description and lets etherparse build it anew, checksums and all.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unreachable,
    reason = "a test may fail loudly"
)]

mod support;

use cvsw_core::{
    Checksum, DropReason, Frame, Gso, GsoKind, Offload,
    apply::{Next, Program},
    flow::{Action, OFPP_NONE, OFPP_NORMAL, OfpError, PORT_HOST, PORT_NET, RESUBMIT_IN_PORT, Tunnel},
    parse::parse,
    trace::{Effect, NoTrace},
};
use cvsw_testkit::{
    checksums, hex,
    packet::{Fragment, Network, Packet, Transport},
    program::run,
    strategy,
};
use proptest::{collection::vec, prelude::*};
use support::{HEADROOM, TUNNEL, changed, frame, observed, partial, run_on};

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const DROP: Action = Action::Output { port: OFPP_NONE, max_len: 0 };

#[test]
fn compile_refuses_what_no_vnic_can_do() {
    let refused = |actions: &[Action]| Program::compile(actions).expect_err("should be refused");
    let output = |port| Action::Output { port, max_len: 0 };
    assert_eq!(refused(&[output(OFPP_NORMAL)]), OfpError::BadOutPort);
    assert_eq!(refused(&[output(1)]), OfpError::BadOutPort);
    assert_eq!(refused(&[Action::Enqueue { port: 1, queue: 0 }]), OfpError::BadOutPort);
    assert_eq!(refused(&[Action::Resubmit { in_port: 3 }]), OfpError::BadOutPort);
    assert_eq!(refused(&[Action::SetVlanVid(0x1000)]), OfpError::BadArgument);
    assert_eq!(refused(&[Action::SetVlanPcp(8)]), OfpError::BadArgument);
    assert_eq!(refused(&[Action::SetNwTos(0x01)]), OfpError::BadArgument);
    assert_eq!(refused(&[Action::SetVxlan(Tunnel { vni: 1 << 24, ..TUNNEL })]), OfpError::BadArgument);
    assert_eq!(refused(&[Action::StripVxlan(Some(1 << 24))]), OfpError::BadArgument);
    assert_eq!(refused(&[Action::Resubmit { in_port: PORT_NET }, Action::StripVlan]), OfpError::BadArgument);
    assert_eq!(refused(&[Action::SetVxlan(TUNNEL), Action::SetVxlan(TUNNEL)]), OfpError::TooManyActions);
    assert_eq!(refused(&[Action::StripVlan; 17]), OfpError::TooManyActions);
    // An action behind a drop is checked all the same.
    assert_eq!(refused(&[DROP, Action::SetVlanVid(0xffff)]), OfpError::BadArgument);
}

/// Encryption protects an encapsulation of the same list; decryption comes before everything of a tunnel.
#[test]
fn compile_refuses_tunnel_actions_in_senseless_order() {
    const ENCAP: Action = Action::SetVxlan(TUNNEL);
    const STRIP: Action = Action::StripVxlan(None);
    const ENCRYPT: Action = Action::Encrypt { sa: 7 };
    const DECRYPT: Action = Action::Decrypt;
    for refused in [
        &[ENCRYPT][..],
        &[ENCRYPT, ENCAP],
        &[STRIP, ENCRYPT],
        &[DECRYPT, ENCRYPT],
        &[ENCAP, STRIP, ENCRYPT],
        &[ENCAP, ENCRYPT, ENCRYPT],
        &[ENCAP, ENCRYPT, STRIP],
        &[ENCAP, ENCRYPT, DECRYPT],
        &[ENCAP, DECRYPT],
        &[STRIP, DECRYPT],
        &[DECRYPT, DECRYPT],
        &[DECRYPT, STRIP, DECRYPT],
    ] {
        assert_eq!(Program::compile(refused), Err(OfpError::BadArgument), "{refused:?}");
    }
    for accepted in [
        &[ENCAP, ENCRYPT][..],
        &[Action::SetTpDst(1), ENCAP, Action::SetVlanVid(1), ENCRYPT, Action::SetVlanPcp(1)],
        &[DECRYPT],
        &[DECRYPT, STRIP, STRIP],
        &[DECRYPT, STRIP, ENCAP, ENCRYPT, Action::Resubmit { in_port: PORT_NET }],
        &[Action::StripVlan, DECRYPT, Action::SetTpDst(1), STRIP],
    ] {
        let program = Program::compile(accepted).expect("in order");
        assert_eq!(program.actions(), accepted);
    }
}

#[test]
fn compile_accepts_limits() {
    for actions in [
        &[Action::SetVlanVid(0xfff), Action::SetVlanPcp(7), Action::SetNwTos(0xfc)][..],
        &[Action::SetVxlan(Tunnel { vni: 0xff_ffff, ..TUNNEL }), Action::Resubmit { in_port: PORT_HOST }],
        &[Action::StripVxlan(Some(0xff_ffff)), Action::SetVxlan(TUNNEL), Action::Resubmit { in_port: PORT_NET }],
        &[DROP, Action::StripVlan, Action::Resubmit { in_port: RESUBMIT_IN_PORT }],
        &[Action::StripVlan; 16],
        &[],
    ] {
        let program = Program::compile(actions).expect("within limits");
        assert_eq!(program.actions(), actions);
    }
}

#[test]
fn no_action_drops() {
    let mut frame = frame(&Packet::arp(A, B).build());
    assert_eq!(run_on(&[], &mut frame), Next::Drop(DropReason::Policy));
}

#[test]
fn output_to_none_drops_there() {
    let bytes = Packet::udp4(A, 1, B, 2, b"").build();
    let mut frame = frame(&bytes);
    let actions = [Action::SetTpDst(9), Action::Output { port: OFPP_NONE, max_len: 7 }, Action::SetTpDst(10)];
    let (next, steps) = observed(&actions, &mut frame);
    assert_eq!(next, Next::Drop(DropReason::Policy));
    let effects: Vec<_> = steps.iter().map(|(action, effect, _)| (*action, *effect)).collect();
    assert_eq!(effects, [(actions[0], Effect::Applied), (actions[1], Effect::Dropped(DropReason::Policy))]);
}

#[test]
fn resubmit_names_port_and_tunnel() {
    let bytes = Packet::udp4(A, 1, B, 2, b"").build();
    for in_port in [RESUBMIT_IN_PORT, PORT_HOST, PORT_NET] {
        let program = Program::compile(&[Action::Resubmit { in_port }]).expect("valid");
        let parsed = parse(&bytes, PORT_NET, 77).expect("Ethernet");
        let next = run(&program, &mut 0, &mut frame(&bytes), &parsed, &mut NoTrace);
        assert_eq!(next, Next::Resubmit { in_port, tun_id: 77, decrypted: false });
    }
}

#[test]
fn actions_without_their_field_change_nothing() {
    let arp = Packet::arp(A, B).build();
    let ping = Packet::ping4(A, B, 1, 1).build();
    let qinq = Packet::udp4(A, 1, B, 2, b"").tagged(0x8100, 5).tagged(0x88a8, 6).build();
    let mut later = Packet::udp4(A, 1, B, 2, &[7; 64]).fragment(Fragment::Later { skip: 32 }).build();
    later.extend([0; 3]);
    for (bytes, action) in [
        (&arp, Action::StripVlan),
        (&arp, Action::SetNwSrc(B)),
        (&arp, Action::SetNwTos(0x20)),
        (&arp, Action::SetTpSrc(1)),
        (&ping, Action::SetTpDst(1)),
        (&qinq, Action::SetNwDst(A)),
        (&qinq, Action::SetTpDst(1)),
        (&later, Action::SetTpSrc(1)),
    ] {
        let mut frame = frame(bytes);
        let (next, steps) = observed(&[action], &mut frame);
        assert_eq!(next, Next::Forward);
        assert_eq!(steps, [(action, Effect::NotApplicable, bytes.clone())]);
    }
}

#[test]
fn order_decides() {
    let bytes = Packet::udp4(A, 1, B, 2, b"").tagged(0x8100, 0x6005).build();
    let tagged_again = changed(&[Action::StripVlan, Action::SetVlanPcp(1)], &bytes);
    assert_eq!(tagged_again[12..16], [0x81, 0x00, 0x20, 0x00]);
    let stripped = changed(&[Action::SetVlanPcp(1), Action::StripVlan], &bytes);
    assert_eq!(stripped[12..14], [0x08, 0x00]);
}

#[test]
fn tag_keeps_what_is_not_set() {
    // Priority 3, drop eligible, id 5, service tag.
    let bytes = Packet::udp4(A, 1, B, 2, b"").tagged(0x88a8, 0x7005).build();
    assert_eq!(changed(&[Action::SetVlanVid(0xabc)], &bytes)[12..16], [0x88, 0xa8, 0x7a, 0xbc]);
    assert_eq!(changed(&[Action::SetVlanPcp(4)], &bytes)[12..16], [0x88, 0xa8, 0x90, 0x05]);
}

#[test]
fn ecn_bits_stay() {
    let mut packet = Packet::udp4(A, 1, B, 2, b"");
    packet.ipv4_mut().tos = 0xff;
    assert_eq!(changed(&[Action::SetNwTos(0x20)], &packet.build())[15], 0x23);
}

#[test]
fn absent_udp_checksum_stays_absent() {
    let mut packet = Packet::udp4(A, 1, B, 2, b"abc");
    let Transport::Udp { checksum, .. } = &mut packet.ipv4_mut().transport else { unreachable!() };
    *checksum = false;
    let after = changed(&[Action::SetNwSrc([1, 2, 3, 4]), Action::SetTpDst(99)], &packet.build());
    assert_eq!(after[40..42], [0, 0]);
}

/// Some source port makes the checksum come out as zero, which must be sent as 0xffff.
#[test]
fn udp_checksum_zero_is_sent_as_ffff() {
    let bytes = Packet::udp4(A, 1, B, 2, b"abc").build();
    let found = (0..=u16::MAX).map(|port| changed(&[Action::SetTpSrc(port)], &bytes)).find(|after| {
        assert_ne!(after[40..42], [0, 0]);
        after[40..42] == [0xff, 0xff]
    });
    assert_eq!(checksums::verify(&found.expect("one of all ports")), Ok(()));
}

/// The same when the checksum is filled in by software.
#[test]
fn completed_udp_checksum_zero_is_sent_as_ffff() {
    let left = partial(&Packet::udp4(A, 1, B, 2, b"abc").build());
    let found = (0..=u16::MAX).map(|port| {
        let mut frame = left.clone();
        frame.bytes_mut()[34..36].copy_from_slice(&port.to_be_bytes());
        frame.complete_checksum().expect("inside");
        frame.bytes().to_vec()
    });
    let found: Vec<_> = found.filter(|bytes| [[0, 0], [0xff, 0xff]].contains(&[bytes[40], bytes[41]])).collect();
    assert_eq!(found.len(), 1, "one of all ports");
    assert_eq!(checksums::verify(&found[0]), Ok(()));
    assert_eq!(found[0][40..42], [0xff, 0xff]);
}

#[test]
fn tags_need_headroom() {
    let bytes = Packet::arp(A, B).build();
    for room in 0..5 {
        let buffer = [&vec![0; room][..], &bytes].concat();
        let mut frame = Frame::new(buffer, room, bytes.len()).expect("fits");
        let expected = if room < 4 { Next::Drop(DropReason::NoHeadroom) } else { Next::Forward };
        assert_eq!(run_on(&[Action::SetVlanVid(1)], &mut frame), expected, "{room} bytes");
    }
}

#[test]
fn offload_metadata_follows_the_tag() {
    let bytes = Packet::tcp4(A, 1, B, 2, b"data").build();
    let gso = Gso { kind: GsoKind::TcpV4, size: 1448, header_len: 54, ecn: false };
    let mut tagged = partial(&bytes);
    tagged.offload.gso = gso;
    assert_eq!(run_on(&[Action::SetVlanVid(5)], &mut tagged), Next::Forward);
    let moved =
        Offload { checksum: Checksum::Partial { start: 38, offset: 16 }, gso: Gso { header_len: 58, ..gso } };
    assert_eq!(tagged.offload, moved);
    assert_eq!(run_on(&[Action::StripVlan], &mut tagged), Next::Forward);
    assert_eq!(tagged.offload, Offload { checksum: Checksum::Partial { start: 34, offset: 16 }, gso });
}

#[test]
fn offload_metadata_outside_the_frame_is_a_drop() {
    let bytes = Packet::arp(A, B).tagged(0x8100, 1).build();
    let mut frame = frame(&bytes);
    frame.offload.checksum = Checksum::Partial { start: 3, offset: 0 };
    assert_eq!(run_on(&[Action::StripVlan], &mut frame), Next::Drop(DropReason::BadOffload));
}

#[test]
fn complete_checksum_refuses_a_field_outside() {
    let bytes = Packet::udp4(A, 1, B, 2, b"").build();
    for (start, offset) in [(43, 0), (42, 0), (34, 7), (34, 8), (34, u16::MAX), (u16::MAX, u16::MAX)] {
        let mut frame = frame(&bytes);
        frame.offload.checksum = Checksum::Partial { start, offset };
        assert!(frame.complete_checksum().is_err(), "{start} {offset}");
        assert_eq!(frame.bytes(), bytes);
    }
}

/// A header-changing action.
fn edit() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0..0x1000u16).prop_map(Action::SetVlanVid),
        (0..8u8).prop_map(Action::SetVlanPcp),
        Just(Action::StripVlan),
        any::<[u8; 6]>().prop_map(Action::SetEthSrc),
        any::<[u8; 6]>().prop_map(Action::SetEthDst),
        any::<[u8; 4]>().prop_map(Action::SetNwSrc),
        any::<[u8; 4]>().prop_map(Action::SetNwDst),
        (0..64u8).prop_map(|dscp| Action::SetNwTos(dscp << 2)),
        any::<u16>().prop_map(Action::SetTpSrc),
        any::<u16>().prop_map(Action::SetTpDst),
    ]
}

/// The naive reference: changes the description.
fn change(packet: &mut Packet, action: Action) {
    let set_tci = |packet: &mut Packet, value: u16, mask: u16| {
        if packet.tags.is_empty() {
            packet.tags.push((0x8100, 0));
        }
        packet.tags[0].1 = packet.tags[0].1 & !mask | value;
    };
    match action {
        Action::SetEthSrc(mac) => packet.eth_src = mac,
        Action::SetEthDst(mac) => packet.eth_dst = mac,
        Action::SetVlanVid(vid) => set_tci(packet, vid, 0x0fff),
        Action::SetVlanPcp(pcp) => set_tci(packet, u16::from(pcp) << 13, 0xe000),
        Action::StripVlan if !packet.tags.is_empty() => drop(packet.tags.remove(0)),
        // Behind two tags nothing is looked at.
        _ if packet.tags.len() > 1 => {}
        _ => change_network(&mut packet.network, action),
    }
}

fn change_network(network: &mut Network, action: Action) {
    let (transport, later) = match network {
        Network::Ipv4(ip) => {
            match action {
                Action::SetNwSrc(address) => ip.src = address,
                Action::SetNwDst(address) => ip.dst = address,
                Action::SetNwTos(tos) => ip.tos = ip.tos & 3 | tos,
                _ => {}
            }
            (&mut ip.transport, matches!(ip.fragment, Fragment::Later { .. }))
        }
        Network::Ipv6(ip) => {
            if let Action::SetNwTos(tos) = action {
                ip.class = ip.class & 3 | tos;
            }
            (&mut ip.transport, false)
        }
        _ => return,
    };
    if let Transport::Tcp { src, dst, .. } | Transport::Udp { src, dst, .. } = transport
        && !later
    {
        match action {
            Action::SetTpSrc(port) => *src = port,
            Action::SetTpDst(port) => *dst = port,
            _ => {}
        }
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => edit(),
        1 => any::<u16>().prop_map(|max_len| Action::Output { port: OFPP_NONE, max_len }),
        1 => proptest::option::of(0..0x100_0000u32).prop_map(Action::StripVxlan),
    ]
}

fn offload() -> impl Strategy<Value = Offload> {
    let number = || prop_oneof![0..80u16, any::<u16>()];
    let checksum = prop_oneof![
        Just(Checksum::Complete),
        Just(Checksum::Verified),
        (number(), number()).prop_map(|(start, offset)| Checksum::Partial { start, offset }),
    ];
    let kind = prop_oneof![3 => Just(GsoKind::None), 1 => Just(GsoKind::TcpV4)];
    (checksum, kind, number(), number()).prop_map(|(checksum, kind, size, header_len)| Offload {
        checksum,
        gso: Gso { kind, size, header_len, ecn: false },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn edits_equal_the_packet_built_anew(packet in strategy::packet(), actions in vec(edit(), 1..8)) {
        let mut reference = packet.clone();
        actions.iter().for_each(|action| change(&mut reference, *action));
        let after = changed(&actions, &packet.build());
        prop_assert_eq!(hex::dump(&after), hex::dump(&reference.build()));
    }

    #[test]
    fn edits_of_partial_checksums_equal_the_packet_built_anew(
        ip in strategy::ipv4(),
        tagged: bool,
        actions in vec(edit(), 1..8),
    ) {
        let mut packet = Packet::new(Network::Ipv4(ip)).fragment(Fragment::Whole);
        if tagged {
            packet = packet.tagged(0x8100, 5);
        }
        match &mut packet.ipv4_mut().transport {
            Transport::Tcp { .. } => {}
            Transport::Udp { checksum, .. } => *checksum = true,
            other => *other = Transport::Udp { src: 1, dst: 2, checksum: true, payload: vec![3] },
        }
        let mut frame = partial(&packet.build());
        prop_assert_eq!(run_on(&actions, &mut frame), Next::Forward);
        prop_assert_eq!(frame.complete_checksum(), Ok(()));
        prop_assert_eq!(frame.offload.checksum, Checksum::Complete);
        actions.iter().for_each(|action| change(&mut packet, *action));
        prop_assert_eq!(hex::dump(frame.bytes()), hex::dump(&packet.build()));
    }

    #[test]
    fn programs_keep_their_actions(
        before in vec(action(), 0..7),
        tunnel in any::<([u8; 6], [u8; 6], [u8; 4], [u8; 4], u32)>(),
        after in vec(action(), 0..7),
        resubmit: bool,
    ) {
        let (eth_dst, eth_src, dst, src, vni) = tunnel;
        let mut actions = before;
        actions.push(Action::SetVxlan(Tunnel { eth_dst, eth_src, dst, src, vni: vni & 0xff_ffff }));
        actions.extend(after);
        if resubmit {
            actions.push(Action::Resubmit { in_port: PORT_NET });
        }
        let program = Program::compile(&actions).expect("valid");
        prop_assert_eq!(&program.actions()[..], &actions[..]);
    }

    #[test]
    fn any_bytes_are_survived(
        bytes in vec(any::<u8>(), 14..200),
        ethertype in prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x8100), any::<u16>()],
        mut actions in vec(action(), 0..8),
        encap: bool,
        offload in offload(),
        headroom in prop_oneof![Just(HEADROOM), 0..8usize],
    ) {
        let mut bytes = bytes;
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        if encap {
            actions.push(Action::SetVxlan(TUNNEL));
        }
        let buffer = [&vec![0; headroom][..], &bytes].concat();
        let mut frame = Frame::new(buffer, headroom, bytes.len()).expect("fits");
        frame.offload = offload;
        match run_on(&actions, &mut frame) {
            Next::Forward => prop_assert!(frame.len() >= 14),
            Next::Drop(_) => {}
            next => prop_assert!(false, "{:?}", next),
        }
    }
}

/// Actions that only rewrite header fields.
fn rewrites() -> impl Strategy<Value = Vec<Action>> {
    let one = prop_oneof![
        any::<[u8; 6]>().prop_map(Action::SetEthSrc),
        any::<[u8; 6]>().prop_map(Action::SetEthDst),
        any::<[u8; 4]>().prop_map(Action::SetNwSrc),
        any::<[u8; 4]>().prop_map(Action::SetNwDst),
        any::<u8>().prop_map(|tos| Action::SetNwTos(tos & 0xfc)),
        any::<u16>().prop_map(Action::SetTpSrc),
        any::<u16>().prop_map(Action::SetTpDst),
    ];
    vec(one, 1..8)
}

proptest! {
    /// Rewrites run as one change, with one update of each checksum; a trace runs them one by one. Bit for bit the
    /// result is the same, also for wrong checksums, and the trace's is the one compared with the reference above.
    #[test]
    fn rewrites_at_once_are_rewrites_one_by_one(
        packet in strategy::packet(),
        actions in rewrites(),
        damage in any::<[u8; 4]>(),
        damaged: bool,
    ) {
        let mut bytes = packet.build();
        if damaged {
            // Both checksums, among them 0 and 0xffff, which are the same number and not the same bytes.
            for (at, byte) in [24, 25, 40, 41].into_iter().zip(damage) {
                if let Some(place) = bytes.get_mut(at) {
                    *place = if byte < 0x60 { 0 } else { 0xff };
                }
            }
        }
        let (mut at_once, mut one_by_one) = (frame(&bytes), frame(&bytes));
        prop_assert_eq!(run_on(&actions, &mut at_once), Next::Forward);
        prop_assert_eq!(observed(&actions, &mut one_by_one).0, Next::Forward);
        prop_assert_eq!(at_once.bytes(), one_by_one.bytes());
        prop_assert_eq!(at_once.offload, one_by_one.offload);
    }
}
