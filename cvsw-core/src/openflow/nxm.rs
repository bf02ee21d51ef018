//! Nicira's extensible match (NXM): a list of fields, each with a header that names it, a value, and perhaps a mask.
//!
//! It says what `ofp_match` cannot: tunnel ids, IPv6 addresses, TCP flags, fragments, and masks of any shape.

use super::{EncodeError, writer::Writer};
use crate::flow::{
    Field, FlowKey, Match, OfpError,
    normalize::{ETH_ARP, ETH_IP, ETH_IPV6, ETH_RARP, IP_ICMP, IP_ICMPV6, IP_SCTP, IP_TCP, IP_UDP, NW_TOS_MASK},
};

/// A field as NXM names it.
struct Entry {
    /// Class (upper half of the header) and number.
    name: (u16, u8),
    /// Bytes of its value.
    len: u8,
    /// Whether it may have a mask.
    maskable: bool,
    /// The key's field; the upper half of an IPv6 address.
    field: Field,
    /// Bits of the value that may be set.
    bits: u128,
    needs: Needs,
}

/// Bit of `NwFrag` that says "not the first one".
const FRAGMENT_LATER: u64 = 2;

/// What a match must name before a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Ipv4,
    Ip,
    Arp,
    Ipv6,
    /// IPv4 or IPv6 with this protocol, and not a later fragment.
    Over(u8),
    Icmp,
    Icmpv6,
}

impl Needs {
    /// Whether what is needed is there: among the fields in front, which `mask` holds.
    fn met_by(self, value: &FlowKey, mask: &FlowKey) -> bool {
        let exact = |field: Field| (mask.get(field) == field.max()).then(|| value.get(field));
        let eth_type = exact(Field::EthType);
        let is = |types: &[u16]| types.iter().any(|wanted| eth_type == Some(u64::from(*wanted)));
        let later = value.get(Field::NwFrag) & mask.get(Field::NwFrag) & FRAGMENT_LATER != 0;
        let protocol = |wanted: u8| exact(Field::NwProto) == Some(u64::from(wanted));
        match self {
            Self::Nothing => true,
            Self::Ipv4 => is(&[ETH_IP]),
            Self::Ipv6 => is(&[ETH_IPV6]),
            Self::Ip => is(&[ETH_IP, ETH_IPV6]),
            Self::Arp => is(&[ETH_ARP, ETH_RARP]),
            Self::Over(wanted) => is(&[ETH_IP, ETH_IPV6]) && protocol(wanted) && !later,
            Self::Icmp => is(&[ETH_IP]) && protocol(IP_ICMP),
            Self::Icmpv6 => is(&[ETH_IPV6]) && protocol(IP_ICMPV6),
        }
    }
}

/// Class of the fields that OpenFlow 1.0 has as well.
const NXM_OF: u16 = 0x0000;
/// Class of Nicira's fields.
const NXM_NX: u16 = 0x0001;
/// Class of OpenFlow 1.2's, for what has no other name.
const OXM_OF: u16 = 0x8000;

const fn entry(name: (u16, u8), len: u8, maskable: bool, field: Field, bits: u128, needs: Needs) -> Entry {
    Entry { name, len, maskable, field, bits, needs }
}

/// All fields, those that others need first.
const ENTRIES: [Entry; 27] = [
    entry((NXM_OF, 0), 2, false, Field::InPort, 0xffff, Needs::Nothing),
    entry((NXM_OF, 1), 6, true, Field::EthDst, 0xffff_ffff_ffff, Needs::Nothing),
    entry((NXM_OF, 2), 6, true, Field::EthSrc, 0xffff_ffff_ffff, Needs::Nothing),
    entry((NXM_OF, 3), 2, false, Field::EthType, 0xffff, Needs::Nothing),
    entry((NXM_OF, 4), 2, true, Field::VlanTci, 0xffff, Needs::Nothing),
    entry((NXM_OF, 6), 1, false, Field::NwProto, 0xff, Needs::Ip),
    entry((NXM_OF, 15), 2, false, Field::NwProto, 0xff, Needs::Arp),
    entry((NXM_OF, 5), 1, false, Field::NwTos, NW_TOS_MASK as u128, Needs::Ip),
    entry((NXM_OF, 7), 4, true, Field::NwSrc, 0xffff_ffff, Needs::Ipv4),
    entry((NXM_OF, 8), 4, true, Field::NwDst, 0xffff_ffff, Needs::Ipv4),
    entry((NXM_OF, 16), 4, true, Field::NwSrc, 0xffff_ffff, Needs::Arp),
    entry((NXM_OF, 17), 4, true, Field::NwDst, 0xffff_ffff, Needs::Arp),
    entry((NXM_NX, 19), 16, true, Field::Ipv6SrcHi, u128::MAX, Needs::Ipv6),
    entry((NXM_NX, 20), 16, true, Field::Ipv6DstHi, u128::MAX, Needs::Ipv6),
    entry((NXM_OF, 9), 2, true, Field::TpSrc, 0xffff, Needs::Over(IP_TCP)),
    entry((NXM_OF, 10), 2, true, Field::TpDst, 0xffff, Needs::Over(IP_TCP)),
    entry((NXM_OF, 11), 2, true, Field::TpSrc, 0xffff, Needs::Over(IP_UDP)),
    entry((NXM_OF, 12), 2, true, Field::TpDst, 0xffff, Needs::Over(IP_UDP)),
    entry((OXM_OF, 17), 2, true, Field::TpSrc, 0xffff, Needs::Over(IP_SCTP)),
    entry((OXM_OF, 18), 2, true, Field::TpDst, 0xffff, Needs::Over(IP_SCTP)),
    entry((NXM_OF, 13), 1, false, Field::TpSrc, 0xff, Needs::Icmp),
    entry((NXM_OF, 14), 1, false, Field::TpDst, 0xff, Needs::Icmp),
    entry((NXM_NX, 21), 1, false, Field::TpSrc, 0xff, Needs::Icmpv6),
    entry((NXM_NX, 22), 1, false, Field::TpDst, 0xff, Needs::Icmpv6),
    entry((NXM_NX, 34), 2, true, Field::TcpFlags, 0x0fff, Needs::Over(IP_TCP)),
    // Behind the ports, which a later fragment must not be said to have.
    entry((NXM_NX, 26), 1, true, Field::NwFrag, 3, Needs::Ip),
    entry((NXM_NX, 16), 8, true, Field::TunId, 0xffff_ffff, Needs::Nothing),
];

impl Entry {
    /// The lower half of an IPv6 address.
    const fn low_half(&self) -> Option<Field> {
        match self.field {
            Field::Ipv6SrcHi => Some(Field::Ipv6SrcLo),
            Field::Ipv6DstHi => Some(Field::Ipv6DstLo),
            _ => None,
        }
    }

    fn get(&self, key: &FlowKey) -> u128 {
        let value = u128::from(key.get(self.field));
        self.low_half().map_or(value, |low| value << 64 | u128::from(key.get(low)))
    }

    fn set(&self, key: &mut FlowKey, value: u128) {
        match self.low_half() {
            Some(low) => {
                key.set(self.field, (value >> 64) as u64);
                key.set(low, value as u64);
            }
            None => key.set(self.field, value as u64),
        }
    }

    /// The mask of a whole field, as the rest of the engine writes it.
    fn whole(&self) -> u128 {
        match self.field {
            Field::NwTos | Field::NwFrag | Field::TcpFlags => self.bits,
            Field::Ipv6SrcHi | Field::Ipv6DstHi => u128::MAX,
            field => u128::from(field.max()),
        }
    }

    /// The header in front of the value.
    fn header(&self, masked: bool) -> [u8; 4] {
        let (class, number) = self.name;
        let [class_hi, class_lo] = class.to_be_bytes();
        let len = if masked { self.len.wrapping_mul(2) } else { self.len };
        [class_hi, class_lo, number << 1 | u8::from(masked), len]
    }
}

/// Reads a match of exactly `bytes`.
///
/// # Errors
/// `NxmInvalid` if it is cut off, `NxmBadType` for a field that is not known or has the wrong length, `NxmBadMask`,
/// `NxmBadWildcards` for a value bit under a zero mask bit, `NxmBadValue`, `NxmBadPrereq`, `NxmDupType`.
pub(super) fn decode(bytes: &[u8]) -> Result<Match, OfpError> {
    let mut matching = Match::ANY;
    decode_into(bytes, &mut matching)?;
    Ok(matching)
}

/// The same into a match that is there already, in place of what it said.
pub(super) fn decode_into(mut bytes: &[u8], matching: &mut Match) -> Result<(), OfpError> {
    *matching = Match::ANY;
    while !bytes.is_empty() {
        let (header, rest) = bytes.split_first_chunk::<4>().ok_or(OfpError::NxmInvalid)?;
        let &[class_hi, class_lo, number, len] = header;
        let (payload, rest) = rest.split_at_checked(len.into()).ok_or(OfpError::NxmInvalid)?;
        let masked = number & 1 != 0;
        let name = (u16::from_be_bytes([class_hi, class_lo]), number >> 1);
        let entry = ENTRIES.iter().find(|entry| entry.name == name).ok_or(OfpError::NxmBadType)?;
        if entry.header(masked) != *header {
            return Err(OfpError::NxmBadType);
        }
        let (value, mask) = payload.split_at_checked(entry.len.into()).ok_or(OfpError::NxmBadType)?;
        take(matching, entry, number_of(value), masked.then(|| number_of(mask)))?;
        bytes = rest;
    }
    Ok(())
}

/// Takes one field more into the match.
fn take(matching: &mut Match, entry: &Entry, value: u128, mask: Option<u128>) -> Result<(), OfpError> {
    if !entry.needs.met_by(matching.value(), matching.mask()) {
        return Err(OfpError::NxmBadPrereq);
    }
    if entry.get(matching.mask()) != 0 {
        return Err(OfpError::NxmDupType);
    }
    let all = u128::MAX >> 128u32.saturating_sub(u32::from(entry.len).saturating_mul(8));
    let given = mask.unwrap_or(all);
    if given != all && !entry.maskable {
        return Err(OfpError::NxmBadMask);
    }
    if value & !given != 0 {
        return Err(OfpError::NxmBadWildcards);
    }
    if value & !entry.bits != 0 {
        return Err(OfpError::NxmBadValue);
    }
    let (mut new_value, mut new_mask) = (*matching.value(), *matching.mask());
    entry.set(&mut new_value, value);
    entry.set(&mut new_mask, if given & entry.bits == entry.bits { entry.whole() } else { given & entry.bits });
    *matching = Match::new(new_value, new_mask);
    Ok(())
}

/// Writes a match and its padding; returns its length without that.
pub(super) fn encode_padded(writer: &mut Writer<'_>, matching: &Match) -> Result<u16, EncodeError> {
    let before = writer.len();
    encode(writer, matching)?;
    let len = writer.len().saturating_sub(before);
    let padding = len.next_multiple_of(8).saturating_sub(len);
    writer.bytes([0; 8].get(..padding).unwrap_or_default())?;
    u16::try_from(len).map_err(|_| EncodeError::NoRoom)
}

/// Writes a match without its padding.
fn encode(writer: &mut Writer<'_>, matching: &Match) -> Result<(), EncodeError> {
    say(matching, |entry, value, mask| {
        writer.bytes(&entry.header(mask.is_some()))?;
        let start = 16usize.saturating_sub(entry.len.into());
        writer.bytes(value.to_be_bytes().get(start..).unwrap_or_default())?;
        if let Some(mask) = mask {
            writer.bytes(mask.to_be_bytes().get(start..).unwrap_or_default())?;
        }
        Ok(())
    })
}

/// Whether a match can be written.
pub(super) fn is_expressible(matching: &Match) -> bool {
    say(matching, |_, _, _| Ok(())).is_ok()
}

/// Gives `put` every field that a match names, in order: the field, its value, and its mask unless that is whole.
fn say(
    matching: &Match,
    mut put: impl FnMut(&Entry, u128, Option<u128>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let mut said = FlowKey::ZERO;
    for entry in &ENTRIES {
        let (value, mask) = (entry.get(matching.value()), entry.get(matching.mask()));
        if mask == 0 || !entry.needs.met_by(matching.value(), &said) {
            continue;
        }
        let whole = mask & entry.bits == entry.bits;
        if value & !entry.bits != 0 || !(whole || entry.maskable) || mask & entry.bits == 0 {
            return Err(EncodeError::Inexpressible(entry.field));
        }
        entry.set(&mut said, mask);
        put(entry, value, (!whole).then_some(mask & entry.bits))?;
    }
    match Field::ALL.into_iter().find(|field| said.get(*field) != matching.mask().get(*field)) {
        Some(field) => Err(EncodeError::Inexpressible(field)),
        None => Ok(()),
    }
}

fn number_of(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}
