//! OpenFlow 1.0's two rules about whole matches: fields without their prerequisites do not count, and a match
//! without wildcards has the highest priority.

use super::matching::Match;
use crate::key::{Field, FlowKey, VLAN_PRESENT};

/// EtherType of IPv4.
pub const ETH_IP: u16 = 0x0800;
/// EtherType of ARP.
pub const ETH_ARP: u16 = 0x0806;
/// EtherType of reverse ARP.
pub const ETH_RARP: u16 = 0x8035;
/// EtherType of IPv6.
pub const ETH_IPV6: u16 = 0x86dd;

/// IP protocol of ICMP.
pub const IP_ICMP: u8 = 1;
/// IP protocol of TCP.
pub const IP_TCP: u8 = 6;
/// IP protocol of UDP.
pub const IP_UDP: u8 = 17;
/// IP protocol of ICMPv6.
pub const IP_ICMPV6: u8 = 58;
/// IP protocol of SCTP.
pub const IP_SCTP: u8 = 132;

/// Which groups of fields a match may name, given its EtherType and IP protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Allowed {
    ip: bool,
    nw_proto: bool,
    nw_addr: bool,
    ipv6_addr: bool,
    ports: bool,
    tcp: bool,
}

impl Allowed {
    fn of(matching: &Match) -> Self {
        let exact = |field: Field| {
            let known = matching.mask().get(field) == field.max();
            known.then(|| matching.value().get(field))
        };
        let eth_type = exact(Field::EthType).and_then(|value| u16::try_from(value).ok());
        let proto = exact(Field::NwProto).and_then(|value| u8::try_from(value).ok());
        let transport = matches!(proto, Some(IP_TCP | IP_UDP | IP_SCTP));
        let tcp = proto == Some(IP_TCP);
        match eth_type {
            Some(ETH_IP) => Self {
                ip: true,
                nw_proto: true,
                nw_addr: true,
                ipv6_addr: false,
                ports: transport || proto == Some(IP_ICMP),
                tcp,
            },
            Some(ETH_IPV6) => Self {
                ip: true,
                nw_proto: true,
                nw_addr: false,
                ipv6_addr: true,
                ports: transport || proto == Some(IP_ICMPV6),
                tcp,
            },
            Some(ETH_ARP | ETH_RARP) => Self { nw_proto: true, nw_addr: true, ..Self::default() },
            _ => Self::default(),
        }
    }

    fn allows(self, field: Field) -> bool {
        match field {
            Field::InPort | Field::EthDst | Field::EthSrc | Field::EthType | Field::VlanTci | Field::TunId => true,
            Field::NwSrc | Field::NwDst => self.nw_addr,
            Field::NwProto => self.nw_proto,
            Field::NwTos | Field::NwFrag => self.ip,
            Field::TpSrc | Field::TpDst => self.ports,
            Field::TcpFlags => self.tcp,
            Field::Ipv6SrcHi | Field::Ipv6SrcLo | Field::Ipv6DstHi | Field::Ipv6DstLo => self.ipv6_addr,
        }
    }
}

/// The first field (in key order) that `matching` names although its prerequisites are not met, for example
/// `TpDst` without an IP protocol that has ports.
pub fn unmet(matching: &Match) -> Option<Field> {
    let allowed = Allowed::of(matching);
    Field::ALL.into_iter().find(|&field| matching.mask().get(field) != 0 && !allowed.allows(field))
}

/// The match without the fields whose prerequisites are not met, as Open vSwitch normalises it (OpenFlow 1.0
/// section 3.4: such fields are ignored).
#[must_use]
pub fn normalize(matching: &Match) -> Match {
    let allowed = Allowed::of(matching);
    let mut mask = FlowKey::ZERO;
    for field in Field::ALL {
        if allowed.allows(field) {
            mask.set(field, matching.mask().get(field));
        }
    }
    Match::new(*matching.value(), mask)
}

/// Whether no field that `ofp_match` can name is wildcarded, not even in part. OpenFlow 1.0 (section 3.4)
/// gives such an entry the highest priority, whatever its message says.
pub fn is_exact(matching: &Match) -> bool {
    const FIELDS: [Field; 10] = [
        Field::InPort,
        Field::EthDst,
        Field::EthSrc,
        Field::EthType,
        Field::NwSrc,
        Field::NwDst,
        Field::NwProto,
        Field::TpSrc,
        Field::TpDst,
        Field::VlanTci,
    ];
    let mask = matching.mask();
    FIELDS.into_iter().all(|field| mask.get(field) == field.max())
        && mask.get(Field::NwTos) & NW_TOS_MASK == NW_TOS_MASK
}

/// The bits of the ToS octet that OpenFlow 1.0 matches and sets (the DSCP).
pub const NW_TOS_MASK: u64 = 0xfc;
/// Mask of the VLAN id in `VlanTci`, with [`VLAN_PRESENT`].
pub const VLAN_VID_BITS: u64 = 0x0fff | VLAN_PRESENT as u64;
/// Mask of the VLAN priority in `VlanTci`, with [`VLAN_PRESENT`].
pub const VLAN_PCP_BITS: u64 = 0xe000 | VLAN_PRESENT as u64;
