//! OpenFlow messages against hand-made vectors of the specification's structures.

use cvsw_core::{
    flow::{Action, Command, Field, FlowMod, Match, OfpError, Tunnel, VLAN_PRESENT},
    openflow::{
        EncodeError, ErrorMessage, Header, Message, PacketOut, SwitchConfig, decode_flow_mod, encode_flow_mod,
        message_len,
    },
};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Wildcards: dl_src 0x4, dl_dst 0x8, tp_src 0x40, nw_src 32 << 8, nw_dst 8 << 14, pcp 1 << 20, tos 1 << 21.
/// `priority=100,tcp,in_port=1,dl_vlan=5,nw_dst=10.0.0.0/24,tp_dst=80 actions=mod_nw_dst:10.1.1.1,output:NONE`.
const FLOW_MOD: &str = "
    01 0e 0058 00000007
    0032204c 0001 000000000000 000000000000 0005 00 00 0800 00 06 0000 00000000 0a000000 0000 0050
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
