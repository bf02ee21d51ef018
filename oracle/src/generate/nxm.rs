//! Random NXM matches.

use super::{IPV4, MACS, PORTS, PROTOCOLS, TOS, VIDS, one_in, pick};
use fastrand::Rng;

/// The fields of a match, without padding; one in eight has something wrong with it.
pub fn matching(rng: &mut Rng, forwards: bool) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = Vec::new();
    if forwards {
        fields.push(field(0, 0, &[0, 1], None));
    } else if one_in(rng, 4) {
        fields.push(field(0, 0, &[0, pick(rng, &[1, 2, 5])], None));
    }
    ethernet(rng, &mut fields);
    match rng.u32(..6) {
        0 => {}
        1 => arp(rng, &mut fields),
        kind => ip(rng, &mut fields, kind >= 4),
    }
    if one_in(rng, 8) {
        let mask = pick(rng, &[[0; 8], [0, 0, 0, 0, 0, 0, 0, 7], [0xff; 8], [0, 0, 0, 0, 0xff, 0, 0, 0]]);
        let id = pick(rng, &[0, 0, 0, 5]);
        fields.push(if one_in(rng, 2) {
            field(1, 16, &[0, 0, 0, 0, 0, 0, 0, id & mask[7]], Some(&mask))
        } else {
            field(1, 16, &[0, 0, 0, 0, 0, 0, 0, id], None)
        });
    }
    if one_in(rng, 8) {
        break_it(rng, &mut fields);
    }
    let mut bytes = fields.concat();
    if one_in(rng, 60) {
        bytes.truncate(rng.usize(..=bytes.len()));
    }
    bytes
}

/// One field: class, number, value, mask.
fn field(class: u16, number: u8, value: &[u8], mask: Option<&[u8]>) -> Vec<u8> {
    let mask = mask.unwrap_or_default();
    let [hi, lo] = class.to_be_bytes();
    let header = [hi, lo, number << 1 | u8::from(!mask.is_empty()), (value.len() + mask.len()) as u8];
    [&header, value, mask].concat()
}

/// A field with a random mask, or without one.
fn masked(rng: &mut Rng, class: u16, number: u8, value: &[u8], masks: &[&[u8]]) -> Vec<u8> {
    if one_in(rng, 2) {
        return field(class, number, value, None);
    }
    let mask = pick(rng, masks);
    let value: Vec<u8> = value.iter().zip(mask).map(|(value, mask)| value & mask).collect();
    field(class, number, &value, Some(mask))
}

fn ethernet(rng: &mut Rng, fields: &mut Vec<Vec<u8>>) {
    const MASKS: [&[u8]; 4] = [&[1, 0, 0, 0, 0, 0], &[0xff, 0xff, 0xff, 0, 0, 0], &[0, 0, 0, 0, 0, 3], &[0xff; 6]];
    for number in [1, 2] {
        if one_in(rng, 6) {
            let mac = pick(rng, &MACS);
            fields.push(masked(rng, 0, number, &mac, &MASKS));
        }
    }
    if one_in(rng, 4) {
        let tci = pick(rng, &VIDS) | pick(rng, &[0x1000, 0x1000, 0x7000, 0]);
        const MASKS: [&[u8]; 5] = [&[0x1f, 0xff], &[0xf0, 0], &[0x10, 0], &[0, 1], &[0xff, 0xff]];
        fields.push(masked(rng, 0, 4, &tci.to_be_bytes(), &MASKS));
    }
}

const ADDRESS_MASKS: [&[u8]; 5] =
    [&[0xff, 0xff, 0xff, 0], &[0xff, 0, 0, 0], &[0, 0, 0, 0xff], &[0x80, 0, 0, 0], &[0; 4]];

fn arp(rng: &mut Rng, fields: &mut Vec<Vec<u8>>) {
    fields.push(field(0, 3, &pick(rng, &[0x0806u16, 0x0806, 0x8035]).to_be_bytes(), None));
    if one_in(rng, 3) {
        fields.push(field(0, 15, &[0, pick(rng, &[1, 2, 3])], None));
    }
    for number in [16, 17] {
        if one_in(rng, 3) {
            let address = pick(rng, &IPV4);
            fields.push(masked(rng, 0, number, &address, &ADDRESS_MASKS));
        }
    }
}

fn ip(rng: &mut Rng, fields: &mut Vec<Vec<u8>>, v6: bool) {
    fields.push(field(0, 3, if v6 { &[0x86, 0xdd] } else { &[8, 0] }, None));
    if one_in(rng, 5) {
        fields.push(field(0, 5, &[pick(rng, &TOS) & 0xfc], None));
    }
    if one_in(rng, 4) {
        let (value, mask) = pick(rng, &[(0, 3), (1, 1), (1, 3), (3, 3), (0, 2), (0, 1), (1, 0xff)]);
        fields.push(field(1, 26, &[value], Some(&[mask])));
    }
    addresses(rng, fields, v6);
    let protocol = pick(rng, &PROTOCOLS);
    if one_in(rng, 4) {
        return;
    }
    fields.push(field(0, 6, &[protocol], None));
    let (class, first, octets) = match protocol {
        6 => (0, 9, false),
        17 => (0, 11, false),
        132 => (0x8000, 17, false),
        1 if !v6 => (0, 13, true),
        58 if v6 => (1, 21, true),
        _ => return,
    };
    for number in [first, first + 1] {
        if one_in(rng, 3) {
            let port = pick(rng, &PORTS).to_be_bytes();
            const MASKS: [&[u8]; 4] = [&[0xff, 0], &[0, 0xff], &[0xff, 0xfe], &[0x80, 0]];
            fields.push(match octets {
                true => field(class, number, &port[1..], None),
                false => masked(rng, class, number, &port, &MASKS),
            });
        }
    }
    if protocol == 6 && one_in(rng, 3) {
        const MASKS: [&[u8]; 4] = [&[0, 2], &[0, 0x12], &[1, 0], &[0x0f, 0xff]];
        let flags = pick(rng, &[0x0002u16, 0x0012, 0x0100, 0x0004]);
        fields.push(masked(rng, 1, 34, &flags.to_be_bytes(), &MASKS));
    }
}

fn addresses(rng: &mut Rng, fields: &mut Vec<Vec<u8>>, v6: bool) {
    for second in [0, 1] {
        if !one_in(rng, 4) {
            continue;
        }
        if v6 {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
            address[15] = rng.u8(1..4);
            const MASKS: [&[u8]; 4] = [
                &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                &[0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
                &[0xff; 16],
            ];
            fields.push(masked(rng, 1, 19 + second, &address, &MASKS));
        } else {
            let address = pick(rng, &IPV4);
            fields.push(masked(rng, 0, 7 + second, &address, &ADDRESS_MASKS));
        }
    }
}

/// Makes one thing wrong.
fn break_it(rng: &mut Rng, fields: &mut Vec<Vec<u8>>) {
    let any = rng.usize(..fields.len().max(1));
    match rng.u32(..9) {
        0 => fields.reverse(),
        1 => fields.extend(fields.get(any).cloned()),
        // A register, which a vNIC does not have; a field that nobody has; a mask where none may be.
        2 => fields.push(field(7, 3, &[0; 4], None)),
        3 => fields.push(field(0, 40, &[0; 2], None)),
        4 => fields.insert(0, field(0, 0, &[0, 1], Some(&[0, 0xff]))),
        // A bit outside the mask; a value out of range; a wrong length.
        5 => fields.insert(0, field(0, 1, &[1, 0, 0, 0, 0, 1], Some(&[1, 0, 0, 0, 0, 0]))),
        6 => fields.extend([field(0, 3, &[8, 0], None), field(0, 5, &[3], None)]),
        7 => fields.push(field(0, 2, &[0; 5], None)),
        _ if any < fields.len() => {
            fields.remove(any);
        }
        _ => {}
    }
}
