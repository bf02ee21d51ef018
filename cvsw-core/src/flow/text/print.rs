//! Printing.

use super::{
    fields::{FRAGMENTS, PROTOCOLS},
    value::PORT_NAMES,
};
use crate::flow::{
    Action, Command, Field, FlowMod, MacAddr, Match, OFPP_CONTROLLER, OFPP_NONE, RESUBMIT_IN_PORT, Tunnel,
    VLAN_PRESENT,
    normalize::{
        ETH_ARP, ETH_IP, ETH_IPV6, ETH_RARP, IP_ICMP, IP_ICMPV6, NW_TOS_MASK, VLAN_PCP_BITS, VLAN_VID_BITS,
    },
};
use core::{
    fmt::{self, Display, Formatter},
    net,
};

/// Displays a flow as text that [`super::parse_flow`] reads back, and `ovs-ofctl` too unless it holds a tunnel
/// or cipher action or an output to `NONE`. With `{:#}`, ports 1 and 2 are `HOST` and `NET`, which `ovs-ofctl` does not
/// know.
#[derive(Clone, Copy, Debug)]
pub struct DisplayFlow<'a>(pub &'a FlowMod);

/// Displays a match in flow syntax; nothing for one that matches everything. `{:#}` as in [`DisplayFlow`].
#[derive(Clone, Copy, Debug)]
pub struct DisplayMatch<'a>(pub &'a Match);

/// Displays one action in flow syntax. `{:#}` as in [`DisplayFlow`].
#[derive(Clone, Copy, Debug)]
pub struct DisplayAction<'a>(pub &'a Action);

impl Display for DisplayFlow<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let flow = self.0;
        let deletes = matches!(flow.command, Command::Delete | Command::DeleteStrict);
        f.write_str(match flow.command {
            Command::Add => "",
            Command::Modify => "modify ",
            Command::ModifyStrict => "modify_strict ",
            Command::Delete => "delete ",
            Command::DeleteStrict => "delete_strict ",
        })?;
        let mut list = List { f, started: false };
        if flow.cookie != 0 {
            list.item(format_args!("cookie={:#x}", flow.cookie))?;
        }
        if deletes && flow.out_port != OFPP_NONE {
            let port = Port { number: flow.out_port, sides: list.f.alternate() };
            list.item(format_args!("out_port={port}"))?;
        }
        if !deletes {
            attributes(&mut list, flow)?;
        }
        if flow.command != Command::Delete {
            list.item(format_args!("priority={}", flow.priority))?;
        }
        fields(&mut list, &flow.matching)?;
        if deletes { Ok(()) } else { actions(&mut list, &flow.actions) }
    }
}

impl Display for DisplayMatch<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fields(&mut List { f, started: false }, self.0)
    }
}

impl Display for DisplayAction<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sides = f.alternate();
        match *self.0 {
            Action::Output { port: OFPP_CONTROLLER, max_len } => write!(f, "CONTROLLER:{max_len}"),
            Action::Output { port, .. } => write!(f, "output:{}", Port { number: port, sides }),
            Action::Enqueue { port, queue } => write!(f, "enqueue:{}:{queue}", Port { number: port, sides }),
            Action::SetVlanVid(vid) => write!(f, "mod_vlan_vid:{vid}"),
            Action::SetVlanPcp(pcp) => write!(f, "mod_vlan_pcp:{pcp}"),
            Action::StripVlan => f.write_str("strip_vlan"),
            Action::SetEthSrc(addr) => write!(f, "mod_dl_src:{}", Mac(addr)),
            Action::SetEthDst(addr) => write!(f, "mod_dl_dst:{}", Mac(addr)),
            Action::SetNwSrc(addr) => write!(f, "mod_nw_src:{}", net::Ipv4Addr::from(addr)),
            Action::SetNwDst(addr) => write!(f, "mod_nw_dst:{}", net::Ipv4Addr::from(addr)),
            Action::SetNwTos(tos) => write!(f, "mod_nw_tos:{tos}"),
            Action::SetTpSrc(port) => write!(f, "mod_tp_src:{port}"),
            Action::SetTpDst(port) => write!(f, "mod_tp_dst:{port}"),
            Action::SetVxlan(ref tunnel) => set_vxlan(f, tunnel),
            Action::StripVxlan(None) => f.write_str("strip_vxlan"),
            Action::StripVxlan(Some(vni)) => write!(f, "strip_vxlan(vni={vni})"),
            Action::Encrypt { sa } => write!(f, "encrypt(sa={sa})"),
            Action::Decrypt => f.write_str("decrypt"),
            // Open vSwitch does not read `resubmit:IN_PORT`.
            Action::Resubmit { in_port: RESUBMIT_IN_PORT } => f.write_str("resubmit(,0)"),
            Action::Resubmit { in_port } => write!(f, "resubmit:{}", Port { number: in_port, sides }),
        }
    }
}

fn set_vxlan(f: &mut Formatter<'_>, tunnel: &Tunnel) -> fmt::Result {
    let (src, dst) = (net::Ipv4Addr::from(tunnel.src), net::Ipv4Addr::from(tunnel.dst));
    let (eth_src, eth_dst) = (Mac(tunnel.eth_src), Mac(tunnel.eth_dst));
    write!(f, "set_vxlan(vni={},src={src},dst={dst},eth_src={eth_src},eth_dst={eth_dst})", tunnel.vni)
}

/// Items with commas between them.
struct List<'a, 'f> {
    f: &'a mut Formatter<'f>,
    started: bool,
}

impl List<'_, '_> {
    fn item(&mut self, item: impl Display) -> fmt::Result {
        if self.started {
            self.f.write_str(",")?;
        }
        self.started = true;
        let alternate = self.f.alternate();
        if alternate { write!(self.f, "{item:#}") } else { write!(self.f, "{item}") }
    }
}

fn attributes(list: &mut List<'_, '_>, flow: &FlowMod) -> fmt::Result {
    if flow.idle_timeout != 0 {
        list.item(format_args!("idle_timeout={}", flow.idle_timeout))?;
    }
    if flow.hard_timeout != 0 {
        list.item(format_args!("hard_timeout={}", flow.hard_timeout))?;
    }
    if flow.flags & crate::flow::FLAG_SEND_FLOW_REM != 0 {
        list.item("send_flow_rem")?;
    }
    if flow.flags & crate::flow::FLAG_CHECK_OVERLAP != 0 {
        list.item("check_overlap")?;
    }
    Ok(())
}

fn actions(list: &mut List<'_, '_>, actions: &[Action]) -> fmt::Result {
    list.f.write_str(if list.started { " actions=" } else { "actions=" })?;
    list.started = false;
    if actions.is_empty() {
        return list.f.write_str("drop");
    }
    actions.iter().try_for_each(|action| list.item(DisplayAction(action)))
}

fn fields(list: &mut List<'_, '_>, matching: &Match) -> fmt::Result {
    let exact = |field: Field| (matching.mask().get(field) == field.max()).then(|| matching.value().get(field));
    let (eth_type, protocol) = (exact(Field::EthType), exact(Field::NwProto));
    let word = |with: Option<u64>| {
        PROTOCOLS
            .iter()
            .find(|(_, eth, proto)| eth_type == Some(u64::from(*eth)) && with == proto.map(u64::from))
            .map(|(word, ..)| *word)
    };
    let whole = protocol.and_then(|protocol| word(Some(protocol)));
    if let Some(word) = whole.or_else(|| word(None)) {
        list.item(word)?;
    } else if let Some(eth_type) = eth_type {
        list.item(format_args!("dl_type={eth_type:#06x}"))?;
    }
    let said = [eth_type.and(Some(Field::EthType)), whole.and(Some(Field::NwProto))];
    for field in Field::ALL {
        if matching.mask().get(field) != 0 && !said.contains(&Some(field)) {
            one_field(list, matching, field, name(field, matching, eth_type, protocol))?;
        }
    }
    Ok(())
}

/// The name of a field, by the protocol that it belongs to.
fn name(field: Field, matching: &Match, eth_type: Option<u64>, protocol: Option<u64>) -> &'static str {
    let is = |eth: u16, proto: Option<u8>| {
        eth_type == Some(eth.into()) && (proto.is_none() || protocol == proto.map(u64::from))
    };
    let arp = is(ETH_ARP, None) || is(ETH_RARP, None);
    // An ICMP type or code is an octet; `ofp_match` has room for more, which then matches nothing.
    let octet = matching.mask().get(field) == field.max() && matching.value().get(field) <= 0xff;
    match field {
        Field::NwSrc if arp => "arp_spa",
        Field::NwDst if arp => "arp_tpa",
        Field::NwProto if arp => "arp_op",
        Field::TpSrc if octet && is(ETH_IP, Some(IP_ICMP)) => "icmp_type",
        Field::TpDst if octet && is(ETH_IP, Some(IP_ICMP)) => "icmp_code",
        Field::TpSrc if octet && is(ETH_IPV6, Some(IP_ICMPV6)) => "icmpv6_type",
        Field::TpDst if octet && is(ETH_IPV6, Some(IP_ICMPV6)) => "icmpv6_code",
        _ => field.name(),
    }
}

fn one_field(list: &mut List<'_, '_>, matching: &Match, field: Field, name: &str) -> fmt::Result {
    let (value, mask) = (matching.value().get(field), matching.mask().get(field));
    match field {
        Field::InPort if mask == field.max() => {
            let port = Port { number: value as u16, sides: list.f.alternate() };
            list.item(format_args!("{name}={port}"))
        }
        Field::EthSrc | Field::EthDst if mask == field.max() => {
            list.item(format_args!("{name}={}", Mac::of(value)))
        }
        Field::EthSrc | Field::EthDst => list.item(format_args!("{name}={}/{}", Mac::of(value), Mac::of(mask))),
        Field::NwSrc | Field::NwDst => ipv4(list, name, value as u32, mask as u32),
        Field::VlanTci => vlan(list, value, mask),
        Field::NwTos if mask & NW_TOS_MASK == NW_TOS_MASK => list.item(format_args!("{name}={value}")),
        Field::TcpFlags if mask & 0xfff == 0xfff => list.item(format_args!("{name}={value:#05x}")),
        Field::NwFrag => match FRAGMENTS.iter().find(|(_, v, m)| (*v, *m) == (value, mask & 3)) {
            Some((word, ..)) => list.item(format_args!("{name}={word}")),
            None => list.item(format_args!("{name}={value:#x}/{mask:#x}")),
        },
        Field::Ipv6SrcHi | Field::Ipv6DstHi => ipv6(list, matching, name, field),
        Field::Ipv6SrcLo if matching.mask().get(Field::Ipv6SrcHi) == 0 => {
            ipv6(list, matching, name, Field::Ipv6SrcHi)
        }
        Field::Ipv6DstLo if matching.mask().get(Field::Ipv6DstHi) == 0 => {
            ipv6(list, matching, name, Field::Ipv6DstHi)
        }
        // Said together with the high half.
        Field::Ipv6SrcLo | Field::Ipv6DstLo => Ok(()),
        _ if mask == field.max() => list.item(format_args!("{name}={value}")),
        _ => list.item(format_args!("{name}={value:#x}/{mask:#x}")),
    }
}

fn ipv4(list: &mut List<'_, '_>, name: &str, value: u32, mask: u32) -> fmt::Result {
    let value = net::Ipv4Addr::from(value);
    let len = mask.leading_ones();
    match len.saturating_add(mask.trailing_zeros()) {
        _ if len == u32::BITS => list.item(format_args!("{name}={value}")),
        u32::BITS => list.item(format_args!("{name}={value}/{len}")),
        _ => list.item(format_args!("{name}={value}/{}", net::Ipv4Addr::from(mask))),
    }
}

/// Prints both halves of an IPv6 address; `high` is the field of the upper one.
fn ipv6(list: &mut List<'_, '_>, matching: &Match, name: &str, high: Field) -> fmt::Result {
    let low = if high == Field::Ipv6SrcHi { Field::Ipv6SrcLo } else { Field::Ipv6DstLo };
    let join = |get: &dyn Fn(Field) -> u64| (u128::from(get(high)) << 64) | u128::from(get(low));
    let value = net::Ipv6Addr::from(join(&|field| matching.value().get(field)));
    let mask = join(&|field| matching.mask().get(field));
    let len = mask.leading_ones();
    match len.saturating_add(mask.trailing_zeros()) {
        _ if len == u128::BITS => list.item(format_args!("{name}={value}")),
        u128::BITS => list.item(format_args!("{name}={value}/{len}")),
        _ => list.item(format_args!("{name}={value}/{}", net::Ipv6Addr::from(mask))),
    }
}

fn vlan(list: &mut List<'_, '_>, tci: u64, mask: u64) -> fmt::Result {
    const PRESENT: u64 = VLAN_PRESENT as u64;
    const EXACT: u64 = VLAN_VID_BITS | VLAN_PCP_BITS;
    let (vid, pcp) = (tci & 0xfff, tci >> 13);
    match (mask, tci & PRESENT) {
        (EXACT, 0) => list.item(format_args!("vlan_tci={tci:#06x}")),
        (EXACT, _) => list.item(format_args!("dl_vlan={vid},dl_vlan_pcp={pcp}")),
        (VLAN_VID_BITS, PRESENT) => list.item(format_args!("dl_vlan={vid}")),
        (VLAN_PCP_BITS, PRESENT) => list.item(format_args!("dl_vlan_pcp={pcp}")),
        _ => list.item(format_args!("vlan_tci={tci:#06x}/{mask:#06x}")),
    }
}

struct Mac(MacAddr);

impl Mac {
    const fn of(number: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = number.to_be_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl Display for Mac {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// A port by name if it is a reserved one, or with `sides` a side of the vNIC.
struct Port {
    number: u16,
    sides: bool,
}

impl Display for Port {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let named = PORT_NAMES.iter().find(|&&(_, number)| number == self.number);
        match named.filter(|_| self.sides || self.number >= RESERVED) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.number),
        }
    }
}

/// Smallest port number with a name of OpenFlow's.
const RESERVED: u16 = 0xfff8;
