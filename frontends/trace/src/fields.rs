//! Fields of a flow key in words.

use cvsw_core::flow::{Direction, Field, FlowKey, Match, VLAN_PRESENT};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A field's `ovs-ofctl` name and its value.
pub type Named = (&'static str, String);

const VLAN_ID: u64 = 0x0fff;
const VLAN_PRIORITY_SHIFT: u32 = 13;

/// The fields of a frame: those that every frame has, and the others where they are not zero.
pub fn of_key(key: &FlowKey) -> Vec<Named> {
    Field::ALL
        .into_iter()
        .filter(|field| !is_low_half(*field))
        .filter(|field| always_shown(*field) || key.get(*field) != 0 || is_ipv6(*field) && wide(key, *field) != 0)
        .map(|field| (field.name(), value(field, key)))
        .collect()
}

/// What a match demands of `field`.
pub fn demanded(matching: &Match, field: Field) -> String {
    let text = value(field, matching.value());
    let mask = matching.mask().get(field);
    match field {
        Field::VlanTci => demanded_vlan(matching.value().get(field), mask),
        field if is_ipv6(field) => {
            let mask = wide(matching.mask(), field);
            if mask == u128::MAX { text } else { format!("{text}/{}", mask.leading_ones()) }
        }
        field if mask == field.max() => text,
        Field::NwSrc | Field::NwDst if mask.count_ones() == (mask as u32).leading_ones() => {
            format!("{text}/{}", mask.count_ones())
        }
        Field::NwSrc | Field::NwDst | Field::EthSrc | Field::EthDst => {
            format!("{text}/{}", value(field, matching.mask()))
        }
        _ => format!("{text}/{mask:#x}"),
    }
}

/// The value of `field` in a key.
pub fn value(field: Field, key: &FlowKey) -> String {
    let value = key.get(field);
    match field {
        Field::InPort => match u16::try_from(value) {
            Ok(port) if port == Direction::Tx.in_port() => "HOST".to_owned(),
            Ok(port) if port == Direction::Rx.in_port() => "NET".to_owned(),
            _ => value.to_string(),
        },
        Field::EthDst | Field::EthSrc => {
            let [_, _, octets @ ..] = value.to_be_bytes();
            octets.map(|octet| format!("{octet:02x}")).join(":")
        }
        Field::EthType => format!("{value:#06x}"),
        Field::VlanTci => vlan(value),
        Field::NwSrc | Field::NwDst => Ipv4Addr::from_bits(value as u32).to_string(),
        Field::TcpFlags => format!("{value:#05x}"),
        Field::NwFrag => match value {
            0 => "no".to_owned(),
            1 => "first".to_owned(),
            _ => "later".to_owned(),
        },
        Field::Ipv6SrcHi | Field::Ipv6SrcLo | Field::Ipv6DstHi | Field::Ipv6DstLo => {
            Ipv6Addr::from_bits(wide(key, field)).to_string()
        }
        Field::NwProto | Field::NwTos | Field::TpSrc | Field::TpDst | Field::TunId => value.to_string(),
    }
}

fn vlan(tci: u64) -> String {
    if tci & u64::from(VLAN_PRESENT) == 0 {
        return "untagged".to_owned();
    }
    format!("id {} priority {}", tci & VLAN_ID, tci >> VLAN_PRIORITY_SHIFT)
}

fn demanded_vlan(tci: u64, mask: u64) -> String {
    let (id, priority) = (tci & VLAN_ID, tci >> VLAN_PRIORITY_SHIFT);
    let present = u64::from(VLAN_PRESENT);
    match (mask & VLAN_ID, mask >> VLAN_PRIORITY_SHIFT) {
        _ if tci & mask & present == 0 => "untagged".to_owned(),
        (0, 0) => "tagged".to_owned(),
        (VLAN_ID, 0) => format!("id {id}"),
        (0, _) => format!("priority {priority}"),
        _ => vlan(tci),
    }
}

const fn always_shown(field: Field) -> bool {
    matches!(field, Field::InPort | Field::EthDst | Field::EthSrc | Field::EthType)
}

const fn is_low_half(field: Field) -> bool {
    matches!(field, Field::Ipv6SrcLo | Field::Ipv6DstLo)
}

const fn is_ipv6(field: Field) -> bool {
    matches!(field, Field::Ipv6SrcHi | Field::Ipv6SrcLo | Field::Ipv6DstHi | Field::Ipv6DstLo)
}

/// Both halves of the IPv6 address that `field` is a half of.
fn wide(key: &FlowKey, field: Field) -> u128 {
    let (high, low) = match field {
        Field::Ipv6SrcHi | Field::Ipv6SrcLo => (Field::Ipv6SrcHi, Field::Ipv6SrcLo),
        _ => (Field::Ipv6DstHi, Field::Ipv6DstLo),
    };
    u128::from(key.get(high)) << 64 | u128::from(key.get(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demands_in_words() {
        let any = Match::ANY;
        let nw = any.with_masked(Field::NwSrc, 0x0a00_0000, 0xff00_0000);
        assert_eq!(demanded(&nw, Field::NwSrc), "10.0.0.0/8");
        let hole = any.with_masked(Field::NwSrc, 0x0a00_0001, 0xff00_0001);
        assert_eq!(demanded(&hole, Field::NwSrc), "10.0.0.1/255.0.0.1");
        let mac = any.with_masked(Field::EthDst, 1 << 40, 1 << 40);
        assert_eq!(demanded(&mac, Field::EthDst), "01:00:00:00:00:00/01:00:00:00:00:00");
        assert_eq!(demanded(&any.with(Field::VlanTci, 0), Field::VlanTci), "untagged");
        assert_eq!(demanded(&any.with_masked(Field::VlanTci, 0x1005, 0x1fff), Field::VlanTci), "id 5");
        assert_eq!(demanded(&any.with_masked(Field::VlanTci, 0x7000, 0xf000), Field::VlanTci), "priority 3");
        assert_eq!(demanded(&any.with(Field::InPort, 2), Field::InPort), "NET");
        let v6 = any.with(Field::Ipv6DstHi, 0x2001_0db8 << 32);
        assert_eq!(demanded(&v6, Field::Ipv6DstLo), "2001:db8::/64");
    }
}
