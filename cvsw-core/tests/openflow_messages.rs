//! OpenFlow messages against hand-made vectors of the specification's structures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use cvsw_core::{
    flow::{Action, Command, Field, FlowMod, Match, OfpError, Tunnel, VLAN_PRESENT},
    openflow::{
        EncodeError, ErrorMessage, Header, Message, PacketOut, SwitchConfig, decode_flow_mod, encode_flow_mod,
        message_len,
    },
};
use cvsw_testkit::hex::bytes as hex;

/// Wildcards: dl_src 0x4, dl_dst 0x8, tp_src 0x40, nw_src 63 << 8, nw_dst 8 << 14, pcp 1 << 20, tos 1 << 21.
/// `priority=100,tcp,in_port=1,dl_vlan=5,nw_dst=10.0.0.0/24,tp_dst=80 actions=mod_nw_dst:10.1.1.1,output:NONE`.
const FLOW_MOD: &str = "
    01 0e 0058 00000007
    00323f4c 0001 000000000000 000000000000 0005 00 00 0800 00 06 0000 00000000 0a000000 0000 0050
    0000000000000abc 0000 003c 0000 0064 ffffffff ffff 0001
    0007 0008 0a010101
    0000 0008 ffff 0000";

fn flow_mod() -> FlowMod {
    let mut flow = FlowMod {
        matching: Match::ANY
            .with(Field::InPort, 1)
            .with(Field::EthType, 0x0800)
            .with_masked(Field::VlanTci, u64::from(5 | VLAN_PRESENT), 0x1fff)
            .with(Field::NwProto, 6)
            .with_masked(Field::NwDst, 0x0a00_0000, 0xffff_ff00)
            .with(Field::TpDst, 80),
        cookie: 0xabc,
        command: Command::Add,
        idle_timeout: 60,
        priority: 100,
        flags: 1,
        ..FlowMod::default()
    };
    flow.actions.push(Action::SetNwDst([10, 1, 1, 1])).unwrap();
    flow.actions.push(Action::Output { port: 0xffff, max_len: 0 }).unwrap();
    flow
}

#[test]
fn flow_mod_both_ways() {
    let bytes = hex(FLOW_MOD);
    assert_eq!(decode_flow_mod(&bytes), Ok(flow_mod()));
    let mut out = [0; 256];
    let len = encode_flow_mod(&flow_mod(), 7, &mut out).unwrap();
    assert_eq!(&out[..len], &bytes[..]);
    assert_eq!(encode_flow_mod(&flow_mod(), 7, &mut out[..len - 1]), Err(EncodeError::NoRoom));
}

#[test]
fn control_connection_messages() {
    let mut out = [0; 128];
    let mut check = |message: Message<'_>, bytes: &str| {
        let bytes = hex(bytes);
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
        let len = message.encode(9, &mut out).unwrap();
        assert_eq!(&out[..len], &bytes[..]);
        assert_eq!(message_len(&bytes), Some(Ok(bytes.len())));
    };
    check(Message::Hello { version: 1 }, "0100 0008 00000009");
    check(Message::EchoRequest(&[1, 2]), "0102 000a 00000009 0102");
    check(Message::FeaturesRequest, "0105 0008 00000009");
    check(Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 0xffff }), "0109 000c 00000009 0000 ffff");
    check(Message::Error(ErrorMessage { kind: 2, code: 4, data: &[7] }), "0101 000d 00000009 0002 0004 07");
    let mut packet_out = PacketOut { buffer_id: None, in_port: 0xffff, actions: Default::default(), data: &[0xaa] };
    packet_out.actions.push(Action::Output { port: 3, max_len: 0 }).unwrap();
    check(Message::PacketOut(packet_out), "010d 0019 00000009 ffffffff ffff 0008 0000 0008 0003 0000 aa");
    check(Message::BarrierRequest, "0112 0008 00000009");
}

#[test]
fn a_newer_hello_is_understood() {
    let hello = hex("06 00 0010 00000001 0001 0008 00000070");
    assert_eq!(Message::decode(&hello), Ok(Message::Hello { version: 6 }));
    assert_eq!(Header::read(&hello).unwrap().xid, 1);
}

#[test]
fn stream_framing() {
    assert_eq!(message_len(&[1, 0, 0]), None);
    assert_eq!(message_len(&[1, 0, 0, 7]), Some(Err(OfpError::BadLength)));
    assert_eq!(message_len(&[1, 0, 0xff, 0xff]), Some(Ok(0xffff)));
}

#[test]
fn tunnel_actions() {
    let tunnel = Tunnel {
        eth_dst: [2, 0, 0, 0, 0, 2],
        eth_src: [2, 0, 0, 0, 0, 1],
        dst: [192, 0, 2, 2],
        src: [192, 0, 2, 1],
        vni: 42,
    };
    let mut flow = FlowMod::default();
    for action in [Action::SetVxlan(tunnel), Action::StripVxlan(None), Action::StripVxlan(Some(42))] {
        flow.actions.push(action).unwrap();
    }
    let mut out = [0; 256];
    let len = encode_flow_mod(&flow, 0, &mut out).unwrap();
    let actions =
        hex("1001 0040 020000000002 020000000001 c0000202000000000000000000000000 c0000201000000000000000000000000
         00000000 0000002a 0000000000000000
         1002 0008 00000000
         1002 0040 000000000000 000000000000 00000000000000000000000000000000 00000000000000000000000000000000
         00000000 0000002a 0000000000000000");
    assert_eq!(&out[72..len], &actions[..]);
    assert_eq!(decode_flow_mod(&out[..len]), Ok(flow));
}

#[test]
fn cipher_actions() {
    let mut flow = FlowMod::default();
    for action in [Action::Encrypt { sa: 0x0102_0304 }, Action::Decrypt] {
        flow.actions.push(action).unwrap();
    }
    let mut out = [0; 256];
    let len = encode_flow_mod(&flow, 0, &mut out).unwrap();
    assert_eq!(&out[72..len], &hex("1101 0008 01020304  1102 0008 00000000")[..]);
    assert_eq!(decode_flow_mod(&out[..len]), Ok(flow));
    for (actions, error) in [
        ("1101 0010 01020304 0000000000000000", OfpError::BadActionLength),
        ("1102 0010 00000000 0000000000000000", OfpError::BadActionLength),
        ("1102 0008 00000001", OfpError::BadArgument),
        ("1100 0008 00000000", OfpError::BadActionType),
        ("1103 0008 00000000", OfpError::BadActionType),
    ] {
        assert_eq!(decode_flow_mod(&with_actions(actions)), Err(error), "{actions}");
    }
}

/// A FLOW_MOD with these actions.
fn with_actions(actions: &str) -> Vec<u8> {
    let mut message = hex(FLOW_MOD);
    message.truncate(72);
    message.extend_from_slice(&hex(actions));
    let len = message.len() as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
    message
}

#[test]
fn wrong_headers_are_refused_with_their_error() {
    let with = |at: usize, byte: u8| {
        let mut message = hex(FLOW_MOD);
        message[at] = byte;
        decode_flow_mod(&message)
    };
    assert!(with(7, 9).is_ok(), "the transaction id is free");
    let rows = [
        (0, 4, OfpError::BadVersion),
        (1, 13, OfpError::BadMessageType),
        (3, 0x50, OfpError::BadLength),
        (3, 0x60, OfpError::BadLength),
        (57, 5, OfpError::BadCommand),
        (56, 1, OfpError::BadCommand),
        (71, 4, OfpError::BadEmergTimeout),
        (71, 8, OfpError::BadFlags),
        (70, 0x80, OfpError::BadFlags),
    ];
    for (at, byte, error) in rows {
        assert_eq!(with(at, byte), Err(error), "byte {at} = {byte}");
    }
    let mut emergency = hex(FLOW_MOD);
    emergency[59] = 0;
    emergency[71] = 4;
    assert_eq!(decode_flow_mod(&emergency), Err(OfpError::TableFull));
    assert_eq!(decode_flow_mod(&hex("01 0e 0008 00000000")), Err(OfpError::BadLength));
    assert_eq!(decode_flow_mod(&[]), Err(OfpError::BadLength));
    assert_eq!(decode_flow_mod(&with_actions("0003 0008 000000")), Err(OfpError::BadLength));
}

#[test]
fn wrong_actions_are_refused_with_their_error() {
    let rows = [
        ("0003 0000 00000000", OfpError::BadActionLength),
        ("0003 0004 00000000", OfpError::BadActionLength),
        ("0003 000c 00000000 0000000000000000", OfpError::BadActionLength),
        ("0003 0010 00000000", OfpError::BadActionLength),
        ("0003 0010 00000000 0000000000000000", OfpError::BadActionLength),
        ("0004 0008 02000000", OfpError::BadActionLength),
        ("000b 0008 00010000", OfpError::BadActionLength),
        ("000c 0008 00000000", OfpError::BadActionType),
        ("1000 0008 00000000", OfpError::BadActionType),
        ("0001 0008 10000000", OfpError::BadArgument),
        ("0002 0008 08000000", OfpError::BadArgument),
        ("0008 0008 03000000", OfpError::BadArgument),
        ("ffff 0008 00000001", OfpError::BadActionVendor),
        ("ffff 0008 00002320", OfpError::BadActionLength),
        ("ffff 0010 00002320 0002 0001 00000000", OfpError::BadActionVendorType),
        ("ffff 0018 00002320 0001 0001 00000000 0000000000000000", OfpError::BadActionLength),
        ("ffff 0010 00002320 000e 0001 01 000000", OfpError::BadArgument),
        ("1001 0008 00000000", OfpError::BadActionLength),
        ("1002 0010 00000000 0000000000000000", OfpError::BadActionLength),
    ];
    for (actions, error) in rows {
        assert_eq!(decode_flow_mod(&with_actions(actions)), Err(error), "{actions}");
    }
    // NVGRE, STT, Geneve and VXLAN over SCLP, set and strip, in both lengths.
    for kind in 0x1003..=0x100a_u16 {
        let [short, long] = [(8_u16, 4), (64, 60)].map(|(len, rest)| {
            let body = "00".repeat(rest);
            decode_flow_mod(&with_actions(&format!("{kind:04x} {len:04x} {body}")))
        });
        assert_eq!((short, long), (Err(OfpError::BadActionType), Err(OfpError::BadActionType)), "{kind:#x}");
    }
    let strips = "0003 0008 00000000".repeat(17);
    assert_eq!(decode_flow_mod(&with_actions(&strips)), Err(OfpError::TooManyActions));
    // A DELETE's actions do nothing, but they must be actions.
    let mut delete = with_actions("000c 0008 00000000");
    delete[57] = 3;
    assert_eq!(decode_flow_mod(&delete), Err(OfpError::BadActionType));
}

#[test]
fn tunnel_actions_that_are_not_for_ipv4_or_not_24_bits() {
    let set = |dst_rest: &str, src_rest: &str, id: &str| {
        let text = format!(
            "1001 0040 020000000002 020000000001 c0000202 {dst_rest} c0000201 {src_rest} ffffffff {id} ffffffffffffffff"
        );
        decode_flow_mod(&with_actions(&text)).map(|flow| flow.actions[0])
    };
    let zero = "000000000000000000000000";
    let rest = "000000000000000000000001";
    assert!(matches!(set(zero, zero, "00ffffff"), Ok(Action::SetVxlan(Tunnel { vni: 0xff_ffff, .. }))));
    assert_eq!(set(zero, zero, "01000000"), Err(OfpError::BadArgument));
    assert_eq!(set(rest, zero, "00000001"), Err(OfpError::BadArgument));
    assert_eq!(set(zero, rest, "00000001"), Err(OfpError::BadArgument));
}

/// The match of a FLOW_MOD whose 40 bytes of match are these.
fn with_match(text: &str) -> FlowMod {
    let mut message = hex(FLOW_MOD);
    message[8..48].copy_from_slice(&hex(text));
    decode_flow_mod(&message).unwrap()
}

#[test]
fn wildcards_as_open_vswitch_reads_them() {
    let tail = "0007 010203040506 0708090a0b0c";
    let ip = Match::ANY.with(Field::EthType, 0x0800);
    // Only dl_type counts; every prefix count from 32 to 63 wildcards the whole address.
    let wildcards = |bits: u32| format!("{:08x} {tail}", 0x003f_ffff & !bits);
    let rest = "0005 03 00 0800 ff 11 0000 01020304 05060708 0009 000a";
    assert_eq!(with_match(&format!("{} {rest}", wildcards(0x10))).matching, ip);
    let thirty_two = 0x10 | (0x1f << 8) | (0x1f << 14);
    assert_eq!(with_match(&format!("{} {rest}", wildcards(thirty_two))).matching, ip);
    // Unknown bits do not count.
    assert_eq!(with_match(&format!("ffffffff {tail} {rest}")).matching, Match::ANY);
    // ECN bits are no part of nw_tos.
    let tos = with_match(&format!("{} {rest}", wildcards(0x10 | 1 << 21))).matching;
    assert_eq!(tos, ip.with_masked(Field::NwTos, 0xfc, 0xfc));
    // VLAN id and priority, alone and together; the reserved id for untagged frames.
    let vlan = |value: u64, mask: u64| Match::ANY.with_masked(Field::VlanTci, value, mask);
    assert_eq!(with_match(&format!("{} {rest}", wildcards(2))).matching, vlan(0x1005, 0x1fff));
    assert_eq!(with_match(&format!("{} {rest}", wildcards(1 << 20))).matching, vlan(0x7000, 0xf000));
    assert_eq!(with_match(&format!("{} {rest}", wildcards(2 | 1 << 20))).matching, vlan(0x7005, 0xffff));
    let untagged = rest.replacen("0005", "ffff", 1);
    assert_eq!(with_match(&format!("{} {untagged}", wildcards(2))).matching, vlan(0, 0xffff));
    assert_eq!(with_match(&format!("{} {untagged}", wildcards(2 | 1 << 20))).matching, vlan(0, 0xffff));
}

#[test]
fn fields_without_their_prerequisites_are_wildcarded() {
    let all = "00000000 0007 010203040506 0708090a0b0c 0005 03 00";
    let fields = "10 0000 01020304 05060708 0009 000a";
    let mask_of = |eth_type: &str, proto: &str| {
        let text = format!("{all} {eth_type} b8 {proto} {}", &fields[3..]);
        let matching = with_match(&text).matching;
        [Field::NwTos, Field::NwProto, Field::NwSrc, Field::TpSrc].map(|field| matching.mask().get(field) != 0)
    };
    assert_eq!(mask_of("0800", "06"), [true, true, true, true]);
    assert_eq!(mask_of("0800", "01"), [true, true, true, true]);
    assert_eq!(mask_of("0800", "32"), [true, true, true, false]);
    assert_eq!(mask_of("0806", "01"), [false, true, true, false]);
    assert_eq!(mask_of("86dd", "11"), [true, true, false, true]);
    assert_eq!(mask_of("88cc", "11"), [false, false, false, false]);
}

#[test]
fn a_match_without_wildcards_has_the_highest_priority() {
    let exact = "00000000 0001 020000000001 020000000002 0005 00 00 0800 00 06 0000 01020304 05060708 0009 000a";
    assert_eq!(with_match(exact).priority, 65535);
    let one_wildcard = exact.replacen("00000000", "00000080", 1);
    assert_eq!(with_match(&one_wildcard).priority, 100);
}

#[test]
fn matches_that_openflow_1_0_cannot_say_go_as_nxm() {
    let ip = Match::ANY.with(Field::EthType, 0x0800);
    let rows = [
        (Match::ANY.with(Field::TunId, 42), "0001 20 08 000000000000002a"),
        (Match::ANY.with_masked(Field::EthDst, 1 << 40, 1 << 40), "0000 03 0c 010000000000 010000000000"),
        (Match::ANY.with_masked(Field::VlanTci, 0x1000, 0x1000), "0000 09 04 1000 1000"),
        (Match::ANY.with_masked(Field::VlanTci, 0x0005, 0xffff), "0000 08 02 0005"),
        (ip.with_masked(Field::NwSrc, 0x0a00_0001, 0xff00_00ff), "0000 06 02 0800  0000 0f 08 0a000001 ff0000ff"),
        (ip.with_masked(Field::NwFrag, 1, 3), "0000 06 02 0800  0001 34 01 01"),
    ];
    for (matching, fields) in rows {
        let flow = FlowMod { matching, ..FlowMod::default() };
        let mut out = [0; 256];
        let len = encode_flow_mod(&flow, 9, &mut out).unwrap();
        let fields = hex(fields);
        assert_eq!(out[..24], hex("01 04 0000 00000009 00002320 0000000d 0000000000000000").patched(2, len));
        assert_eq!(out[40..42], (fields.len() as u16).to_be_bytes());
        assert_eq!(out[48..48 + fields.len()], fields);
        assert_eq!(len, 48 + fields.len().next_multiple_of(8));
        assert_eq!(decode_flow_mod(&out[..len]), Ok(flow));
    }
    let whole_tos = FlowMod { matching: ip.with(Field::NwTos, 0xb8), ..FlowMod::default() };
    assert_eq!(encode_flow_mod(&whole_tos, 0, &mut [0; 256]), Ok(72));
}

#[test]
fn matches_that_nxm_cannot_say() {
    let ip = Match::ANY.with(Field::EthType, 0x0800);
    let rows = [
        (ip.with_masked(Field::NwTos, 0x01, 0xff), Field::NwTos),
        (ip.with(Field::TpDst, 80), Field::TpDst),
        (Match::ANY.with_masked(Field::EthType, 0x0800, 0x0f00), Field::EthType),
        (Match::ANY.with(Field::TcpFlags, 2), Field::TcpFlags),
    ];
    for (matching, field) in rows {
        let flow = FlowMod { matching, ..FlowMod::default() };
        assert_eq!(encode_flow_mod(&flow, 0, &mut [0; 256]), Err(EncodeError::Inexpressible(field)), "{field:?}");
    }
}

/// Bytes with a 16-bit number put in.
trait Patched {
    fn patched(self, at: usize, number: usize) -> Self;
}

impl Patched for Vec<u8> {
    fn patched(mut self, at: usize, number: usize) -> Self {
        self[at..at + 2].copy_from_slice(&(number as u16).to_be_bytes());
        self
    }
}

#[test]
fn nxm_matches_are_refused_with_their_error() {
    let decode = |fields: &str| {
        let fields = hex(fields);
        let mut message = hex("01 04 0000 00000009 00002320 0000000d 0000000000000000 0000 0000 0000 8000");
        message.extend(hex("ffffffff ffff 0000 0000 000000000000"));
        message.extend_from_slice(&fields);
        message.resize(48 + fields.len().next_multiple_of(8), 0);
        let len = message.len();
        decode_flow_mod(&message.patched(2, len).patched(40, fields.len())).map(|flow| flow.matching)
    };
    let rows = [
        ("0000 02 06 0102030405", OfpError::NxmInvalid),
        ("0000 02", OfpError::NxmInvalid),
        ("0000 02 05 0102030405", OfpError::NxmBadType),
        ("0001 00 04 00000001", OfpError::NxmBadType),
        ("0000 0a 01 04", OfpError::NxmBadPrereq),
        ("0000 06 02 0800  0000 12 02 0050", OfpError::NxmBadPrereq),
        ("0000 06 02 0800  0000 06 02 0800", OfpError::NxmDupType),
        ("0000 06 02 0800  0000 0a 01 03", OfpError::NxmBadValue),
        ("0000 07 04 0800 ff00", OfpError::NxmBadMask),
        ("0000 03 0c 010000000001 010000000000", OfpError::NxmBadWildcards),
        ("0001 20 08 0000000100000000", OfpError::NxmBadValue),
    ];
    for (fields, error) in rows {
        assert_eq!(decode(fields), Err(error), "{fields}");
    }
    let tcp = Match::ANY.with(Field::EthType, 0x86dd).with(Field::NwProto, 6);
    let syn = "0000 06 02 86dd  0000 0c 01 06  0001 45 04 0002 0012  0000 13 04 0000 ff00";
    let expected = tcp.with_masked(Field::TcpFlags, 2, 0x12).with_masked(Field::TpSrc, 0, 0xff00);
    assert_eq!(decode(syn), Ok(expected));
    let mut other = hex("01 04 0010 00000009 00002320 0000000c");
    assert_eq!(decode_flow_mod(&other), Err(OfpError::BadSubtype));
    other[11] = 0x21;
    assert_eq!(decode_flow_mod(&other), Err(OfpError::BadVendor));
}

#[test]
fn everything_wildcarded_is_ofpfw_all() {
    let mut out = [0; 72];
    encode_flow_mod(&FlowMod::default(), 0, &mut out).unwrap();
    assert_eq!(out[8..12], 0x003f_ffff_u32.to_be_bytes());
}

#[test]
fn meaningless_fields_are_ignored() {
    let mut message = hex(FLOW_MOD);
    message[68..70].copy_from_slice(&3_u16.to_be_bytes());
    message[64..68].copy_from_slice(&5_u32.to_be_bytes());
    assert_eq!(decode_flow_mod(&message), Ok(flow_mod()), "out_port and buffer_id of an ADD");
    message[57] = 3;
    let delete = decode_flow_mod(&message).unwrap();
    assert_eq!((delete.out_port, delete.actions.len()), (3, 0));
}
