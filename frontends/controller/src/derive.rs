//! The state that a vNIC should have, computed from the configuration. Pure.
//!
//! # Priorities
//!
//! | priority | match | action |
//! |---|---|---|
//! | 30000 | from the host to a peer's address | encapsulate to that peer's underlay address |
//! | 30000 | from the network, VXLAN to the own underlay address | decapsulate, checking the VNI |
//! | 29000 | from the network, VXLAN to the network's group | decapsulate, checking the VNI |
//! | 2 | from the host, anything else (broadcast, multicast, unknown) | encapsulate to the group |
//! | 1 | from the network, anything else | drop: isolation |
//!
//! In a network with a cipher every encapsulation is followed by `encrypt`, whose association is named by the outer
//! destination, and what is decapsulated is ESP, by `decrypt` and then as above.
//!
//! A switch gets priority 65535 for control frames to the controller, and priority 1 for ordinary forwarding.
//! Extra flows keep the priority they were written with (`ovs-ofctl`'s default is 32768, above all of these).
//!
//! # Cookies
//!
//! Every entry that the controller makes, on vNICs and switches, has the cookie `43565357 KK NNNNNN` (hexadecimal):
//! "CVSW" in ASCII, the [`Kind`], and a number: the VNI, or for extra flows the position in the file from 1.

mod flows;

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use cvsw_core::{
    control::OffloadFlags,
    flow::{
        Action, ActionList, Field, FlowMod, Match, OFPP_CONTROLLER, OFPP_NONE, OFPP_NORMAL, PORT_HOST, PORT_NET,
        Tunnel,
    },
    mtu::IpMtu,
};
use smol_str::SmolStr;

use crate::{
    config::{Config, Forwarding, Member, Network},
    keys::sending_id,
    mac::Mac,
};
pub use flows::Flows;

/// UDP destination port of VXLAN (RFC 7348 section 5).
pub const VXLAN_PORT: u16 = 4789;
/// IP protocol number of ESP (RFC 4303 section 2).
const ESP: u64 = 50;

/// High 32 bits of every cookie: "CVSW".
pub const COOKIE_MAGIC: u64 = 0x4356_5357_0000_0000;

const PRIORITY_UNICAST: u16 = 30_000;
const PRIORITY_GROUP: u16 = 29_000;
const PRIORITY_UNKNOWN: u16 = 2;
const PRIORITY_ISOLATION: u16 = 1;
/// On switches.
const PRIORITY_FORWARDING: u16 = 1;

/// What an entry is for; bits 24 to 31 of its cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Host to a peer.
    EncapUnicast = 1,
    /// Host to the group.
    EncapGroup = 2,
    /// Network to the own underlay address.
    DecapUnicast = 3,
    /// Network to the group.
    DecapGroup = 4,
    /// Network, anything else.
    Isolation = 5,
    /// Everything, on a vNIC that was removed from the configuration.
    Quarantine = 6,
    /// From the configuration's `flows`.
    Extra = 0x10,
    /// On a switch: control frames to the controller.
    Backstop = 0xf0,
    /// On a switch: ordinary forwarding.
    Forwarding = 0xf1,
}

impl Kind {
    /// The cookie of an entry of this kind; `number` has 24 bits.
    pub const fn cookie(self, number: u32) -> u64 {
        COOKIE_MAGIC | (self as u64) << 24 | (number & 0x00ff_ffff) as u64
    }
}

/// Whether an entry with this cookie was made by a CVSW controller.
pub const fn is_ours(cookie: u64) -> bool {
    cookie >> 32 == COOKIE_MAGIC >> 32
}

/// What makes an entry one entry: OpenFlow replaces an entry by another with the same priority and match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// The priority.
    pub priority: u16,
    /// The match.
    pub matching: Match,
}

impl EntryId {
    /// The identity of an entry.
    pub const fn of(flow: &FlowMod) -> Self {
        Self { priority: flow.priority, matching: flow.matching }
    }
}

/// The state that one vNIC should have.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Name of its network; `None` for a vNIC in quarantine.
    pub network: Option<SmolStr>,
    /// Its name.
    pub name: SmolStr,
    /// Its MTU; `None`: leave it.
    pub mtu: Option<IpMtu>,
    /// Its offloads; `None`: leave them.
    pub offloads: Option<OffloadFlags>,
    /// Its entries.
    pub flows: Flows,
}

/// The wanted state of every member.
pub fn desired(config: &Config) -> BTreeMap<Mac, Desired> {
    config.networks.iter().flat_map(of_network).collect()
}

/// The wanted state of every member of one network.
pub fn of_network(network: &Arc<Network>) -> impl Iterator<Item = (Mac, Desired)> {
    let of_member = |(index, member): (usize, &Member)| {
        let desired = Desired {
            network: Some(network.name.clone()),
            name: member.name.clone(),
            mtu: Some(network.mtu),
            offloads: Some(member.offloads),
            flows: Flows::of_member(Arc::clone(network), index),
        };
        (member.mac, desired)
    };
    network.members.iter().enumerate().map(of_member)
}

/// The state of a vNIC whose member was removed from the configuration: it would pass frames unencapsulated if its
/// table were empty, so it drops everything (control frames never reach the table).
pub fn quarantine(name: SmolStr) -> Desired {
    let drop_from = |port: u16| FlowMod {
        matching: Match::ANY.with(Field::InPort, port.into()),
        priority: u16::MAX,
        cookie: Kind::Quarantine.cookie(0),
        ..FlowMod::default()
    };
    let flows = [drop_from(PORT_HOST), drop_from(PORT_NET)].into_iter().collect();
    Desired { network: None, name, mtu: None, offloads: None, flows }
}

/// The entries that follow from a member's place in its network, without its extra ones.
pub fn derived_flows(network: &Network, member: &Member) -> Vec<FlowMod> {
    let peers = network.members.iter().filter(|peer| peer.mac != member.mac);
    let mut flows: Vec<_> = peers.map(|peer| encap_unicast(network, member, peer)).collect();
    flows.push(encap_group(network, member));
    flows.push(decap(network, Some(member.underlay_mac), member.underlay_ip, PRIORITY_UNICAST, Kind::DecapUnicast));
    flows.push(decap(network, None, network.group, PRIORITY_GROUP, Kind::DecapGroup));
    flows.push(isolation(network));
    flows
}

/// The entries that every switch should have: control frames go to the controller and nowhere else, and ordinary
/// frames are forwarded.
pub fn switch_flows(config: &Config) -> Vec<FlowMod> {
    let to = |port, max_len| one_action(Action::Output { port, max_len });
    let backstop = FlowMod {
        matching: Match::ANY.with(Field::EthType, config.ethertype.into()),
        priority: u16::MAX,
        cookie: Kind::Backstop.cookie(0),
        actions: to(OFPP_CONTROLLER, u16::MAX),
        ..FlowMod::default()
    };
    let forwarding = FlowMod {
        priority: PRIORITY_FORWARDING,
        cookie: Kind::Forwarding.cookie(0),
        actions: to(OFPP_NORMAL, 0),
        ..FlowMod::default()
    };
    match config.forwarding {
        Forwarding::Normal => vec![backstop, forwarding],
        Forwarding::None => vec![backstop],
    }
}

/// The Ethernet address of an IPv4 multicast group (RFC 1112 section 6.4).
pub const fn group_mac(group: Ipv4Addr) -> Mac {
    let [_, b, c, d] = group.octets();
    Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d])
}

/// Whether an entry drops what it matches.
pub(crate) fn drops(flow: &FlowMod) -> bool {
    flow.actions.iter().all(|action| matches!(action, Action::Output { port: OFPP_NONE, .. }))
}

fn one_action(action: Action) -> ActionList {
    let mut list = ActionList::new();
    // An empty list takes one action.
    let _ = list.push(action);
    list
}

fn encap(network: &Network, member: &Member, dst: Ipv4Addr, eth_dst: Mac) -> ActionList {
    let set_vxlan = Action::SetVxlan(Tunnel {
        eth_dst: eth_dst.0,
        eth_src: member.underlay_mac.0,
        dst: dst.octets(),
        src: member.underlay_ip.octets(),
        vni: network.vni,
    });
    let encrypt = network.cipher.map(|_| Action::Encrypt { sa: sending_id(dst) });
    [set_vxlan].into_iter().chain(encrypt).collect()
}

fn encap_unicast(network: &Network, member: &Member, peer: &Member) -> FlowMod {
    FlowMod {
        matching: from(PORT_HOST).with(Field::EthDst, mac_value(peer.mac)),
        priority: PRIORITY_UNICAST,
        cookie: Kind::EncapUnicast.cookie(network.vni),
        actions: encap(network, member, peer.underlay_ip, peer.underlay_mac),
        ..FlowMod::default()
    }
}

fn encap_group(network: &Network, member: &Member) -> FlowMod {
    FlowMod {
        matching: from(PORT_HOST),
        priority: PRIORITY_UNKNOWN,
        cookie: Kind::EncapGroup.cookie(network.vni),
        actions: encap(network, member, network.group, group_mac(network.group)),
        ..FlowMod::default()
    }
}

fn decap(network: &Network, eth_dst: Option<Mac>, dst: Ipv4Addr, priority: u16, kind: Kind) -> FlowMod {
    let packet = from(PORT_NET).with(Field::EthType, 0x0800).with(Field::NwDst, u32::from(dst).into());
    let matching = match network.cipher {
        Some(_) => packet.with(Field::NwProto, ESP),
        None => packet.with(Field::NwProto, 17).with(Field::TpDst, VXLAN_PORT.into()),
    };
    let decrypt = network.cipher.map(|_| Action::Decrypt);
    FlowMod {
        matching: eth_dst.map_or(matching, |mac| matching.with(Field::EthDst, mac_value(mac))),
        priority,
        cookie: kind.cookie(network.vni),
        actions: decrypt.into_iter().chain([Action::StripVxlan(Some(network.vni))]).collect(),
        ..FlowMod::default()
    }
}

fn isolation(network: &Network) -> FlowMod {
    FlowMod {
        matching: from(PORT_NET),
        priority: PRIORITY_ISOLATION,
        cookie: Kind::Isolation.cookie(network.vni),
        ..FlowMod::default()
    }
}

fn from(port: u16) -> Match {
    Match::ANY.with(Field::InPort, port.into())
}

fn mac_value(mac: Mac) -> u64 {
    mac.0.iter().fold(0, |value, octet| value << 8 | u64::from(*octet))
}
