//! Match fields.

use super::{
    TextError,
    scan::{Pair, Token},
    value::{masked_ipv4, masked_ipv6, masked_mac, masked_number, number, port},
};
use crate::flow::{
    Field, FlowKey, Match, VLAN_PRESENT,
    normalize::{
        ETH_ARP, ETH_IP, ETH_IPV6, ETH_RARP, IP_ICMP, IP_ICMPV6, IP_SCTP, IP_TCP, IP_UDP, NW_TOS_MASK,
        VLAN_PCP_BITS, VLAN_VID_BITS, unmet,
    },
};

/// Words that stand for an EtherType, and perhaps an IP protocol. Printing takes the first that fits.
pub(super) const PROTOCOLS: [(&str, u16, Option<u8>); 12] = [
    ("ip", ETH_IP, None),
    ("icmp", ETH_IP, Some(IP_ICMP)),
    ("tcp", ETH_IP, Some(IP_TCP)),
    ("udp", ETH_IP, Some(IP_UDP)),
    ("sctp", ETH_IP, Some(IP_SCTP)),
    ("arp", ETH_ARP, None),
    ("rarp", ETH_RARP, None),
    ("ipv6", ETH_IPV6, None),
    ("icmp6", ETH_IPV6, Some(IP_ICMPV6)),
    ("tcp6", ETH_IPV6, Some(IP_TCP)),
    ("udp6", ETH_IPV6, Some(IP_UDP)),
    ("sctp6", ETH_IPV6, Some(IP_SCTP)),
];

const PRESENT: u64 = VLAN_PRESENT as u64;

/// `TcpFlags` by bit number.
const TCP_FLAGS: [&str; 9] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];

/// All bits of `TcpFlags`.
const TCP_FLAGS_MAX: u64 = 0xfff;

/// Values of `ip_frag`: word, value, mask.
pub(super) const FRAGMENTS: [(&str, u64, u64); 5] =
    [("no", 0, 3), ("yes", 1, 1), ("first", 1, 3), ("later", 3, 3), ("not_later", 0, 2)];

/// What a field's spelling demands of the rest of the match, beyond the field's own prerequisites.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Ip,
    Arp,
    Protocol(u8),
    Icmp,
}

/// A match under construction.
#[derive(Default)]
pub(super) struct MatchBuilder<'a> {
    value: FlowKey,
    mask: FlowKey,
    /// Where each field was named last, and what that spelling needs.
    named: [Option<(Token<'a>, Needs)>; Field::ALL.len()],
}

impl<'a> MatchBuilder<'a> {
    /// Takes one match field, or complains about an unknown name.
    pub fn take(&mut self, pair: &Pair<'a>) -> Result<(), TextError> {
        let name = pair.key.text;
        if let Some(&(_, eth_type, protocol)) = PROTOCOLS.iter().find(|(word, _, _)| *word == name) {
            pair.no_value()?;
            self.set(pair, Field::EthType, (eth_type.into(), 0xffff), Needs::Nothing)?;
            return protocol.map_or(Ok(()), |protocol| {
                self.set(pair, Field::NwProto, (protocol.into(), 0xff), Needs::Nothing)
            });
        }
        let (field, needs) = field_of(name)
            .ok_or_else(|| pair.key.error("the name of a match field, an attribute, or \"actions=\""))?;
        let value = pair.value()?;
        if value.text == "*" {
            return Ok(());
        }
        match field {
            Field::Ipv6SrcHi => self.set_ipv6(pair, [Field::Ipv6SrcHi, Field::Ipv6SrcLo], value),
            Field::Ipv6DstHi => self.set_ipv6(pair, [Field::Ipv6DstHi, Field::Ipv6DstLo], value),
            _ => self.set(pair, field, parse_value(name, field, value)?, needs),
        }
    }

    fn set_ipv6(&mut self, pair: &Pair<'a>, [high, low]: [Field; 2], value: Token<'a>) -> Result<(), TextError> {
        let (value, mask) = masked_ipv6(value)?;
        self.set(pair, high, ((value >> 64) as u64, (mask >> 64) as u64), Needs::Nothing)?;
        self.set(pair, low, (value as u64, mask as u64), Needs::Nothing)
    }

    fn set(
        &mut self,
        pair: &Pair<'a>,
        field: Field,
        (value, mask): (u64, u64),
        needs: Needs,
    ) -> Result<(), TextError> {
        let (old_value, old_mask) = (self.value.get(field), self.mask.get(field));
        if (old_value ^ value) & old_mask & mask != 0 {
            return Err(pair.error("nothing that contradicts an earlier field"));
        }
        if mask == 0 {
            return Ok(());
        }
        self.value.set(field, old_value | (value & mask));
        self.mask.set(field, old_mask | mask);
        if let Some(slot) = self.named.get_mut(field as usize) {
            *slot = Some((pair.whole(), needs));
        }
        Ok(())
    }

    /// The match, if every field has its prerequisites.
    pub fn finish(self) -> Result<Match, TextError> {
        let matching = Match::new(self.value, self.mask);
        if let Some(field) = unmet(&matching) {
            let named = self.named.get(field as usize).copied().flatten();
            let (token, _) = named.unwrap_or((Token::default(), Needs::Nothing));
            return Err(token.error(prerequisite(field)));
        }
        for (token, needs) in self.named.into_iter().flatten() {
            if !needs.met_by(&matching) {
                return Err(token.error(needs.expected()));
            }
        }
        Ok(matching)
    }
}

impl Needs {
    fn met_by(self, matching: &Match) -> bool {
        let is = |field: Field, value: u64| {
            matching.mask().get(field) == field.max() && matching.value().get(field) == value
        };
        match self {
            Self::Nothing => true,
            Self::Ip => is(Field::EthType, ETH_IP.into()),
            Self::Arp => is(Field::EthType, ETH_ARP.into()) || is(Field::EthType, ETH_RARP.into()),
            Self::Protocol(protocol) => is(Field::NwProto, protocol.into()),
            Self::Icmp => is(Field::NwProto, IP_ICMP.into()) || is(Field::NwProto, IP_ICMPV6.into()),
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Arp => "\"arp\" or \"rarp\" in the same match, which this field needs",
            Self::Ip => "\"ip\" in the same match, which this field needs",
            Self::Protocol(IP_TCP) => "\"tcp\" in the same match, which this field needs",
            Self::Protocol(IP_UDP) => "\"udp\" in the same match, which this field needs",
            Self::Protocol(IP_SCTP) => "\"sctp\" in the same match, which this field needs",
            Self::Protocol(_) => "\"icmp6\" in the same match, which this field needs",
            Self::Icmp => "\"icmp\" in the same match, which this field needs",
        }
    }
}

/// What a field whose prerequisites are not met was missing.
const fn prerequisite(field: Field) -> &'static str {
    match field {
        Field::NwSrc | Field::NwDst => "\"ip\", \"arp\" or \"rarp\" in the same match, which an address needs",
        Field::NwProto => "\"ip\", \"ipv6\" or \"arp\" in the same match, which this field needs",
        Field::TpSrc | Field::TpDst => {
            "\"tcp\", \"udp\", \"sctp\" or \"icmp\" in the same match, which this field needs"
        }
        Field::TcpFlags => "\"tcp\" in the same match, which this field needs",
        Field::Ipv6SrcHi | Field::Ipv6SrcLo | Field::Ipv6DstHi | Field::Ipv6DstLo => {
            "\"ipv6\" in the same match, which an IPv6 address needs"
        }
        _ => "\"ip\" or \"ipv6\" in the same match, which this field needs",
    }
}

/// The field that a name means, and what that spelling needs.
fn field_of(name: &str) -> Option<(Field, Needs)> {
    Some(match name {
        "in_port" => (Field::InPort, Needs::Nothing),
        "dl_src" | "eth_src" => (Field::EthSrc, Needs::Nothing),
        "dl_dst" | "eth_dst" => (Field::EthDst, Needs::Nothing),
        "dl_type" | "eth_type" => (Field::EthType, Needs::Nothing),
        "dl_vlan" | "dl_vlan_pcp" | "vlan_tci" | "vlan_vid" | "vlan_pcp" => (Field::VlanTci, Needs::Nothing),
        "nw_src" => (Field::NwSrc, Needs::Nothing),
        "nw_dst" => (Field::NwDst, Needs::Nothing),
        "ip_src" => (Field::NwSrc, Needs::Ip),
        "ip_dst" => (Field::NwDst, Needs::Ip),
        "arp_spa" => (Field::NwSrc, Needs::Arp),
        "arp_tpa" => (Field::NwDst, Needs::Arp),
        "nw_proto" | "ip_proto" => (Field::NwProto, Needs::Nothing),
        "arp_op" => (Field::NwProto, Needs::Arp),
        "nw_tos" | "ip_dscp" => (Field::NwTos, Needs::Nothing),
        "tp_src" => (Field::TpSrc, Needs::Nothing),
        "tp_dst" => (Field::TpDst, Needs::Nothing),
        "tcp_src" => (Field::TpSrc, Needs::Protocol(IP_TCP)),
        "tcp_dst" => (Field::TpDst, Needs::Protocol(IP_TCP)),
        "udp_src" => (Field::TpSrc, Needs::Protocol(IP_UDP)),
        "udp_dst" => (Field::TpDst, Needs::Protocol(IP_UDP)),
        "sctp_src" => (Field::TpSrc, Needs::Protocol(IP_SCTP)),
        "sctp_dst" => (Field::TpDst, Needs::Protocol(IP_SCTP)),
        "icmp_type" => (Field::TpSrc, Needs::Icmp),
        "icmp_code" => (Field::TpDst, Needs::Icmp),
        "icmpv6_type" => (Field::TpSrc, Needs::Protocol(IP_ICMPV6)),
        "icmpv6_code" => (Field::TpDst, Needs::Protocol(IP_ICMPV6)),
        "tun_id" | "tunnel_id" => (Field::TunId, Needs::Nothing),
        "tcp_flags" => (Field::TcpFlags, Needs::Nothing),
        "ip_frag" | "nw_frag" => (Field::NwFrag, Needs::Nothing),
        "ipv6_src" => (Field::Ipv6SrcHi, Needs::Nothing),
        "ipv6_dst" => (Field::Ipv6DstHi, Needs::Nothing),
        _ => return None,
    })
}

/// Value and mask of a field.
fn parse_value(name: &str, field: Field, token: Token<'_>) -> Result<(u64, u64), TextError> {
    let exact = |max: u64| Ok((number(token, max)?, field.max()));
    match name {
        "dl_vlan" if token.text.eq_ignore_ascii_case("0xffff") || token.text == "65535" => return Ok((0, 0xffff)),
        "dl_vlan" => return Ok((number(token, 0xfff)? | PRESENT, VLAN_VID_BITS)),
        "vlan_vid" => return vlan_vid(token),
        "dl_vlan_pcp" | "vlan_pcp" => return Ok(((number(token, 7)? << 13) | PRESENT, VLAN_PCP_BITS)),
        "ip_dscp" => return Ok((number(token, 0x3f)? << 2, NW_TOS_MASK)),
        "icmp_type" | "icmp_code" | "icmpv6_type" | "icmpv6_code" => return exact(0xff),
        _ => {}
    }
    match field {
        Field::InPort => Ok((port(token)?.into(), field.max())),
        Field::EthSrc | Field::EthDst => masked_mac(token),
        Field::NwSrc | Field::NwDst => masked_ipv4(token),
        Field::NwTos => match number(token, 0xff)? {
            tos if tos & !NW_TOS_MASK == 0 => Ok((tos, NW_TOS_MASK)),
            _ => Err(token.error("a ToS octet without its two ECN bits (a multiple of 4)")),
        },
        Field::TcpFlags => tcp_flags(token),
        Field::NwFrag => match FRAGMENTS.iter().find(|(word, ..)| *word == token.text) {
            Some(&(_, value, mask)) => Ok((value, mask)),
            None => Err(token.error("no, yes, first, later or not_later")),
        },
        Field::EthType | Field::NwProto => exact(field.max()),
        _ => masked_number(token, field.max()),
    }
}

/// The VLAN id as OpenFlow 1.2 writes it, with a bit that says "there is a tag": `0x1005`, `0x1000/0x1000`; 0 for none.
fn vlan_vid(token: Token<'_>) -> Result<(u64, u64), TextError> {
    match masked_number(token, VLAN_VID_BITS)? {
        (0, VLAN_VID_BITS) => Ok((0, 0xffff)),
        (value, mask) if value & PRESENT != 0 => Ok((value, mask)),
        _ => Err(token.error("0 for no tag, or a VLAN id with the bit 0x1000 (0x1005 for VLAN 5)")),
    }
}

/// `0x12/0x3f`, signed names (`+syn-ack`: set, and not set; the others do not matter), or all that are set (`syn|ack`).
fn tcp_flags(token: Token<'_>) -> Result<(u64, u64), TextError> {
    const EXPECTED: &str = "TCP flags as +syn-ack or syn|ack (fin syn rst psh ack urg ece cwr ns) or as a number";
    let bits = |name: &str| {
        let unnamed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let bits = match unnamed {
            Some(digits) => u64::from_str_radix(digits, 16).ok().filter(|bits| *bits <= TCP_FLAGS_MAX),
            None => TCP_FLAGS.iter().position(|flag| *flag == name).map(|bit| 1 << bit),
        };
        bits.ok_or_else(|| token.error(EXPECTED))
    };
    if token.text.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') {
        let value = token.text.split('|').try_fold(0, |value, name| Ok(value | bits(name)?))?;
        return Ok((value, TCP_FLAGS_MAX));
    }
    if !token.text.starts_with(['+', '-']) {
        return masked_number(token, TCP_FLAGS_MAX);
    }
    let (mut value, mut mask) = (0, 0);
    let mut rest = token.text;
    while let Some(sign) = rest.chars().next() {
        let names = rest.strip_prefix(sign).unwrap_or_default();
        let len = names.find(['+', '-']).unwrap_or(names.len());
        let (name, tail) = names.split_at_checked(len).unwrap_or((names, ""));
        let bits = bits(name)?;
        mask |= bits;
        if sign == '+' {
            value |= bits;
        }
        rest = tail;
    }
    Ok((value, mask))
}
