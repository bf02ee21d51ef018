//! [`Match`] to and from `ofp_match`, with Open vSwitch's reading of it.

use super::EncodeError;
use crate::{
    flow::{
        Field, FlowKey, Match, VLAN_PRESENT,
        normalize::{NW_TOS_MASK, VLAN_PCP_BITS, VLAN_VID_BITS, normalize, unmet},
    },
    wire::openflow::{OfpMatch, VLAN_NONE, wildcard},
};
use zerocopy::network_endian::{U16, U32};

/// Fields that `ofp_match` matches whole or not at all: wildcard bit, field, bits that count.
const WHOLE: [(u32, Field, u64); 8] = [
    (wildcard::IN_PORT, Field::InPort, 0xffff),
    (wildcard::DL_SRC, Field::EthSrc, 0xffff_ffff_ffff),
    (wildcard::DL_DST, Field::EthDst, 0xffff_ffff_ffff),
    (wildcard::DL_TYPE, Field::EthType, 0xffff),
    (wildcard::NW_TOS, Field::NwTos, NW_TOS_MASK),
    (wildcard::NW_PROTO, Field::NwProto, 0xff),
    (wildcard::TP_SRC, Field::TpSrc, 0xffff),
    (wildcard::TP_DST, Field::TpDst, 0xffff),
];

/// Address fields: shift of their count of ignored bits in the wildcards, and the field.
const PREFIXES: [(u32, Field); 2] =
    [(wildcard::NW_SRC_SHIFT, Field::NwSrc), (wildcard::NW_DST_SHIFT, Field::NwDst)];

/// Fields that OpenFlow 1.0 does not have.
const FOREIGN: [Field; 7] = [
    Field::TunId,
    Field::TcpFlags,
    Field::NwFrag,
    Field::Ipv6SrcHi,
    Field::Ipv6SrcLo,
    Field::Ipv6DstHi,
    Field::Ipv6DstLo,
];

/// Reads an `ofp_match`: unknown wildcard bits are ignored, prefix counts of 32 and more wildcard the address,
/// and fields without their prerequisites are wildcarded.
pub(super) fn decode_match(from: &OfpMatch) -> Match {
    let wildcards = from.wildcards.get();
    let mut mask = FlowKey::ZERO;
    for (bit, field, bits) in WHOLE {
        if wildcards & bit == 0 {
            mask.set(field, bits);
        }
    }
    for (shift, field) in PREFIXES {
        let ignored = (wildcards >> shift) & 0x3f;
        mask.set(field, u64::from(u32::MAX.checked_shl(ignored).unwrap_or(0)));
    }
    let (tci, tci_mask) = decode_vlan(from, wildcards);
    mask.set(Field::VlanTci, tci_mask);
    let value = FlowKey::ZERO
        .with(Field::InPort, from.in_port.get().into())
        .with(Field::EthSrc, mac_to_u64(from.dl_src))
        .with(Field::EthDst, mac_to_u64(from.dl_dst))
        .with(Field::EthType, from.dl_type.get().into())
        .with(Field::VlanTci, tci)
        .with(Field::NwTos, from.nw_tos.into())
        .with(Field::NwProto, from.nw_proto.into())
        .with(Field::NwSrc, from.nw_src.get().into())
        .with(Field::NwDst, from.nw_dst.get().into())
        .with(Field::TpSrc, from.tp_src.get().into())
        .with(Field::TpDst, from.tp_dst.get().into());
    normalize(&Match::new(value, mask))
}

/// Whether a wire match has no wildcard at all, which makes its priority the highest (section 3.4). Open
/// vSwitch decides this on the bits as sent, before it normalises.
pub(super) fn wire_is_exact(from: &OfpMatch) -> bool {
    from.wildcards.get() & wildcard::ALL == 0
}

/// `(value, mask)` of `VlanTci`.
fn decode_vlan(from: &OfpMatch, wildcards: u32) -> (u64, u64) {
    let vid_counts = wildcards & wildcard::DL_VLAN == 0;
    if vid_counts && from.dl_vlan.get() == VLAN_NONE {
        return (0, 0xffff);
    }
    let mut mask = 0;
    if vid_counts {
        mask |= VLAN_VID_BITS;
    }
    if wildcards & wildcard::DL_VLAN_PCP == 0 {
        mask |= VLAN_PCP_BITS;
    }
    let vid = u64::from(from.dl_vlan.get() & 0x0fff);
    let pcp = u64::from(from.dl_vlan_pcp & 7) << 13;
    (vid | pcp | u64::from(VLAN_PRESENT), mask)
}

/// Writes an `ofp_match`, or says which field it cannot express.
pub(super) fn encode_match(matching: &Match) -> Result<OfpMatch, EncodeError> {
    let (value, mask) = (matching.value(), matching.mask());
    let foreign = FOREIGN.into_iter().find(|&field| mask.get(field) != 0);
    if let Some(field) = foreign.or_else(|| unmet(matching)) {
        return Err(EncodeError::Inexpressible(field));
    }
    let mut wildcards = 0;
    for (bit, field, bits) in WHOLE {
        match mask.get(field) {
            0 => wildcards |= bit,
            // In a mask for all of `NwTos` the ECN bits say nothing: they are 0 in every key.
            given if given & bits == bits && value.get(field) & !bits == 0 => {}
            _ => return Err(EncodeError::Inexpressible(field)),
        }
    }
    for (shift, field) in PREFIXES {
        let given = u32::try_from(mask.get(field)).unwrap_or(0);
        if given.leading_ones().saturating_add(given.trailing_zeros()) != u32::BITS {
            return Err(EncodeError::Inexpressible(field));
        }
        // All six bits rather than 32 for a whole address, as `OFPFW_ALL` has them: the public CVSW driver takes
        // four of `nw_dst`'s bits for wildcards of tunnel ids, and must find them set.
        let ignored = if given == 0 { 0x3f } else { given.trailing_zeros() };
        wildcards |= ignored << shift;
    }
    let mut out = encode_vlan(value.get(Field::VlanTci), mask.get(Field::VlanTci))
        .ok_or(EncodeError::Inexpressible(Field::VlanTci))?;
    out.wildcards = U32::new(out.wildcards.get() | wildcards);
    out.in_port = number(value, Field::InPort);
    out.dl_src = u64_to_mac(value.get(Field::EthSrc));
    out.dl_dst = u64_to_mac(value.get(Field::EthDst));
    out.dl_type = number(value, Field::EthType);
    out.nw_tos = value.get(Field::NwTos) as u8;
    out.nw_proto = value.get(Field::NwProto) as u8;
    out.nw_src = U32::new(value.get(Field::NwSrc) as u32);
    out.nw_dst = U32::new(value.get(Field::NwDst) as u32);
    out.tp_src = number(value, Field::TpSrc);
    out.tp_dst = number(value, Field::TpDst);
    Ok(out)
}

/// An `ofp_match` with only the VLAN fields and their wildcard bits set; `None` for a partial mask.
fn encode_vlan(tci: u64, mask: u64) -> Option<OfpMatch> {
    const PRESENT: u64 = VLAN_PRESENT as u64;
    const EXACT: u64 = VLAN_VID_BITS | VLAN_PCP_BITS;
    let (vid, pcp, wildcards) = match (mask, tci & PRESENT) {
        (0, _) => (0, 0, wildcard::DL_VLAN | wildcard::DL_VLAN_PCP),
        // The priority does not count then. Leaving its bit 0 as well could make the match look exact, and that
        // changes an entry's priority.
        (EXACT, 0) if tci == 0 => (VLAN_NONE, 0, wildcard::DL_VLAN_PCP),
        (EXACT, PRESENT) => ((tci & 0x0fff) as u16, (tci >> 13) as u8, 0),
        (VLAN_VID_BITS, PRESENT) => ((tci & 0x0fff) as u16, 0, wildcard::DL_VLAN_PCP),
        (VLAN_PCP_BITS, PRESENT) => (0, (tci >> 13) as u8, wildcard::DL_VLAN),
        _ => return None,
    };
    Some(OfpMatch {
        wildcards: U32::new(wildcards),
        dl_vlan: U16::new(vid),
        dl_vlan_pcp: pcp & 7,
        ..OfpMatch::default()
    })
}

fn number(value: &FlowKey, field: Field) -> U16 {
    U16::new(value.get(field) as u16)
}

fn mac_to_u64([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn u64_to_mac(value: u64) -> [u8; 6] {
    let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
    [a, b, c, d, e, f]
}
