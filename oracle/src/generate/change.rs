//! Random flow changes, as bytes.

use super::{IPV4, MACS, PORTS, PROTOCOLS, TOS, VIDS, nxm, one_in, pick};
use crate::wire::{NXT_FLOW_MOD_LEN, NXT_FLOW_MOD_START, fix_length};
use cvsw_core::{
    flow::{Field, FlowMod},
    openflow::{decode_flow_mod, encode_flow_mod},
};
use fastrand::Rng;

/// An OFPT_FLOW_MOD or NXT_FLOW_MOD; one in ten is malformed or asks for what a vNIC does not have.
pub fn flow_mod(rng: &mut Rng, cookie: u64) -> Vec<u8> {
    let nxm = one_in(rng, 3);
    // Entries that look up again are for one port and name the other, or most would lead to themselves.
    let last = last_action(rng);
    let forwards = last.len() > 8 && !one_in(rng, 4);
    let mut out = if nxm { NXT_FLOW_MOD_START.to_vec() } else { vec![1, 14, 0, 0, 0, 0, 0, 0] };
    if !nxm {
        out.extend(matching(rng, forwards));
    }
    out.extend(if one_in(rng, 40) { u64::MAX } else { cookie }.to_be_bytes());
    let command_at = out.len();
    let bad_flags = attributes(rng, &mut out);
    let mut broken = bad_flags;
    if nxm {
        let fields = nxm::matching(rng, forwards);
        out.extend((fields.len() as u16).to_be_bytes());
        out.extend([0; 6]);
        let padded = fields.len().next_multiple_of(8);
        out.extend(fields);
        out.resize(NXT_FLOW_MOD_LEN + padded, 0);
        fix_length(&mut out);
        // Perhaps the match is wrong: then nothing else shall be.
        broken |= decode_flow_mod(&out).is_err();
    }
    for _ in 0..pick(rng, &[0, 1, 1, 2, 2, 3, 5]) {
        action(rng, &mut out);
    }
    if !broken && one_in(rng, 12) {
        break_it(rng, &mut out, command_at);
    } else if !broken {
        out.extend(last);
    }
    fix_length(&mut out);
    if !nxm {
        drop_empty_fields(&mut out);
    }
    out
}

/// Command to flags; whether the flags are none that a vNIC takes.
fn attributes(rng: &mut Rng, out: &mut Vec<u8>) -> bool {
    let command = pick(rng, &[0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 4u16]);
    out.extend(command.to_be_bytes());
    // Idle and hard timeout: far beyond the end of the run.
    for _ in 0..2 {
        out.extend(if one_in(rng, 5) { rng.u16(10_000..) } else { 0 }.to_be_bytes());
    }
    let priority: u16 = pick(rng, &[0, 1, 2, 3, 4, 5, 100, 101, 102, 0x7fff, 0x8000, 0x8001, 0xfffe]);
    out.extend(priority.to_be_bytes());
    out.extend(u32::MAX.to_be_bytes());
    out.extend(if one_in(rng, 5) { pick(rng, &[5, 0xfffe, 0]) } else { 0xffffu16 }.to_be_bytes());
    let mut flags = 0;
    for (bit, rarity) in [(1, 8), (2, 5)] {
        if one_in(rng, rarity) {
            flags |= bit;
        }
    }
    let bad = one_in(rng, 60);
    if bad {
        flags |= pick(rng, &[4, 8, 0x10, 0x8000]);
    }
    out.extend(u16::to_be_bytes(flags));
    bad
}

/// Rewrites the match of a sound message if no field of it counts but perhaps `in_port`: see
/// [`crate::known::Known::EthernetOnly`].
fn drop_empty_fields(message: &mut [u8]) {
    let Ok(flow) = decode_flow_mod(message) else { return };
    let counts = |field: &Field| flow.matching.mask().get(*field) != 0;
    if Field::ALL.iter().filter(|field| **field != Field::InPort).any(counts) {
        return;
    }
    let mut clean = [0; 4096];
    let flow = FlowMod { matching: flow.matching, ..FlowMod::default() };
    if encode_flow_mod(&flow, 0, &mut clean).is_ok() {
        message[8..48].copy_from_slice(&clean[8..48]);
    }
}

/// An `ofp_match`: mostly fields that go together, sometimes any.
fn matching(rng: &mut Rng, forwards: bool) -> Vec<u8> {
    let mut wildcards = 0x003f_ffffu32;
    let mut take = |rng: &mut Rng, bit: u32, rarity: u32| {
        if one_in(rng, rarity) {
            wildcards &= !bit;
        }
    };
    let kind = rng.u32(..10);
    let (ethertype, protocol) = match kind {
        0..=1 => (0x0800, 6),
        2..=3 => (0x0800, 17),
        4 => (0x0800, 1),
        5 => (0x0806, rng.u8(..4)),
        6 => (0x86dd, pick(rng, &PROTOCOLS)),
        7 => (0x0800, pick(rng, &PROTOCOLS)),
        _ => (
            pick(rng, &[0x0800, 0x0806, 0x8035, 0x86dd, 0x05ff, 0x0000, 0x8100, 0x88a8, 0x88cc, 0x0600]),
            pick(rng, &PROTOCOLS),
        ),
    };
    // Most matches name little, so that most frames meet some entry.
    let rare = pick(rng, &[1, 4, 4]);
    take(rng, 1, 4);
    take(rng, 2, 4 * rare);
    take(rng, 4, 8 * rare);
    take(rng, 8, 6 * rare);
    take(rng, 0x10, if kind < 8 { rare } else { 3 });
    take(rng, 0x20, if kind < 8 { 2 * rare } else { 3 });
    take(rng, 0x40, 4 * rare);
    take(rng, 0x80, 4 * rare);
    take(rng, 1 << 20, 6 * rare);
    take(rng, 1 << 21, 5 * rare);
    for shift in [8, 14] {
        if one_in(rng, 3 * rare) {
            let ignored = pick(rng, &[0, 0, 0, 1, 8, 16, 24, 31, 32, 33, 63]);
            wildcards = wildcards & !(0x3f << shift) | ignored << shift;
        }
    }
    if one_in(rng, 12) {
        // No wildcard at all: the rule about the highest priority.
        wildcards = 0;
    }
    if one_in(rng, 30) {
        wildcards |= pick(rng, &[1 << 22, 1 << 31, 0xffc0_0000]);
    }
    if forwards {
        wildcards &= !1;
    }
    let vlan = if one_in(rng, 3) { 0xffff } else { pick(rng, &VIDS) | if one_in(rng, 10) { 0x1000 } else { 0 } };
    let mut out = wildcards.to_be_bytes().to_vec();
    let port = if forwards { 1 } else { pick(rng, &[1u16, 1, 2, 2, 5, 0xfffe]) };
    out.extend(port.to_be_bytes());
    out.extend(pick(rng, &MACS));
    out.extend(pick(rng, &MACS));
    out.extend(u16::to_be_bytes(vlan));
    out.extend([pick(rng, &[0, 3, 7, 9]), pick(rng, &[0, 0, 1])]);
    out.extend(u16::to_be_bytes(ethertype));
    out.extend([pick(rng, &TOS), protocol, 0, pick(rng, &[0, 0, 7])]);
    out.extend(pick(rng, &IPV4));
    out.extend(pick(rng, &IPV4));
    // A type or code above 255 is listed wrongly by the switch.
    let most = if matches!(protocol, 1 | 58) { 0xff } else { 0xffff };
    out.extend((pick(rng, &PORTS) & most).to_be_bytes());
    out.extend((pick(rng, &PORTS) & most).to_be_bytes());
    out
}

/// Sometimes a drop (which a switch must be told in other words, so that it stands in sound messages only) or a
/// second look-up.
fn last_action(rng: &mut Rng) -> Vec<u8> {
    match rng.u32(..20) {
        0 => vec![0, 0, 0, 8, 0xff, 0xff, 0, 0],
        1..=2 => {
            let port = pick(rng, &[2, 2, 2, 1, 0xfff8u16]).to_be_bytes();
            let (subtype, table) = pick(rng, &[(1, 0), (1, 0), (14, 0), (14, 0xff)]);
            vec![0xff, 0xff, 0, 16, 0, 0, 0x23, 0x20, 0, subtype, port[0], port[1], table, 0, 0, 0]
        }
        _ => Vec::new(),
    }
}

fn action(rng: &mut Rng, out: &mut Vec<u8>) {
    let kind = rng.u16(1..=10);
    let number = |number: u16| {
        let [hi, lo] = number.to_be_bytes();
        [hi, lo, 0, 0]
    };
    let argument = match kind {
        1 => number(pick(rng, &VIDS)),
        2 => [pick(rng, &[0, 3, 7]), 0, 0, 0],
        3 => [0; 4],
        4 | 5 => {
            out.extend([0, kind as u8, 0, 16]);
            out.extend(pick(rng, &MACS));
            out.extend([0; 6]);
            return;
        }
        6 | 7 => pick(rng, &IPV4),
        8 => [pick(rng, &TOS) & 0xfc, 0, 0, 0],
        _ => number(pick(rng, &PORTS)),
    };
    out.extend([0, kind as u8, 0, 8]);
    out.extend(argument);
}

/// Makes one thing wrong with a message.
fn break_it(rng: &mut Rng, message: &mut Vec<u8>, command_at: usize) {
    match rng.u32(..12) {
        // The command.
        0 => message[command_at..command_at + 2].copy_from_slice(&pick(rng, &[5, 255, 0x0100u16]).to_be_bytes()),
        // Cut short, inside the fixed part or the actions.
        1 => message.truncate(rng.usize(8..message.len())),
        2 => message.extend(vec![0; rng.usize(1..9)]),
        // Actions with a wrong length, type, vendor or argument.
        3 => message.extend([0, 0, 0, 8, 0, 1]),
        4 => message.extend([0, 3, 0, pick(rng, &[0, 4, 7, 12, 16, 24, 255]), 0, 0, 0, 0]),
        5 => message.extend([0, pick(rng, &[12, 13, 50]), 0, 8, 0, 0, 0, 0]),
        6 => message.extend([0xff, 0xff, 0, 8, 0, 0, 0x23, pick(rng, &[0x20, 0x21])]),
        7 => message.extend([0xff, 0xff, 0, 16, 0, 0, 0x23, 0x20, 0, pick(rng, &[0, 1, 0xf0]), 0, 1, 0, 0, 0, 0]),
        8 => message.extend([0, 1, 0, 8, 0x10 | rng.u8(..16), rng.u8(..), 0, 0]),
        9 => message.extend([0, 2, 0, 8, rng.u8(8..), 0, 0, 0]),
        10 => message.extend([0, 8, 0, 8, rng.u8(..) | 1, 0, 0, 0]),
        _ => message.extend([0, 4, 0, 8, 2, 0, 0, 0]),
    }
    fix_length(message);
}
