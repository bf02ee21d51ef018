//! Random flows, for property tests. What the codecs call canonical: no bit that means nothing in its message.

use cvsw_core::flow::{
    Action, ActionList, Command, DEFAULT_PRIORITY, Field, FlowMod, MAX_ACTIONS, Match, OFPP_CONTROLLER, OFPP_NONE,
    Tunnel, normalize,
};
use proptest::{collection::vec, option, prelude::*};

/// A match that `ofp_match` can say: fields whole or not at all, addresses by prefix, prerequisites met.
pub fn openflow_match() -> impl Strategy<Value = Match> {
    let ethernet = (option::of(port()), option::of(mac()), option::of(mac()), option::of(vlan()));
    (ethernet, network(prefix().boxed(), Just(0xffff).boxed())).prop_map(|((in_port, src, dst, vlan), network)| {
        let with = |matching: Match, field, value: Option<u64>| match value {
            Some(value) => matching.with(field, value),
            None => matching,
        };
        let matching = with(network, Field::InPort, in_port.map(u64::from));
        let matching = with(with(matching, Field::EthSrc, src), Field::EthDst, dst);
        vlan.map_or(matching, |(value, mask)| matching.with_masked(Field::VlanTci, value, mask))
    })
}

/// A match that flow text can say: also partial masks, the tunnel id, TCP flags, fragments, IPv6 addresses.
pub fn text_match() -> impl Strategy<Value = Match> {
    let base = network(any::<u32>().boxed(), any::<u16>().boxed());
    let masked = |field: Field| {
        let max = field.max();
        option::of((0..=max, 1..=max)).prop_map(move |given| (field, given))
    };
    let always = vec![Field::EthSrc, Field::EthDst, Field::VlanTci, Field::TunId];
    let always: Vec<_> = always.into_iter().map(masked).collect();
    let ipv6: Vec<_> = Field::ALL[14..].iter().copied().map(masked).collect();
    let flags = option::of((0..0x1000u64, 1..0x1000u64));
    let fragment = option::of(prop::sample::select(vec![(0, 3), (1, 1), (1, 3), (3, 3), (0, 2)]));
    (option::of(port()), base, always, ipv6, flags, fragment).prop_map(
        |(in_port, base, always, ipv6, flags, frag)| {
            let mut matching = in_port.map_or(base, |port| base.with(Field::InPort, port.into()));
            let extra = [(Field::TcpFlags, flags), (Field::NwFrag, frag)];
            for (field, given) in always.into_iter().chain(ipv6).chain(extra) {
                if let Some((value, mask)) = given {
                    // Open vSwitch takes the digits that a mask begins with for a prefix length.
                    let high = matches!(field, Field::Ipv6SrcHi | Field::Ipv6DstHi);
                    let mask = if high { mask | 0xffff << 48 } else { mask };
                    matching = matching.with_masked(field, value, mask);
                }
            }
            normalize::normalize(&matching)
        },
    )
}

/// EtherType, protocol, addresses and ports that go together; `address` and `port` give masks.
fn network(address: BoxedStrategy<u32>, ports: BoxedStrategy<u16>) -> impl Strategy<Value = Match> {
    let eth_type = option::of(prop::sample::select(vec![0x0800, 0x0806, 0x8035, 0x86dd, 0x05ff, 0xabba]));
    let protocol = option::of(prop_oneof![prop::sample::select(vec![1, 6, 17, 58, 132]), any::<u8>()]);
    let addresses = ((any::<u32>(), address.clone()), (any::<u32>(), address));
    let ports = (option::of((any::<u16>(), ports.clone())), option::of((any::<u16>(), ports)));
    (eth_type, protocol, option::of(0..64u64), addresses, ports).prop_map(
        |(eth_type, protocol, dscp, (src, dst), (tp_src, tp_dst))| {
            let mut matching = Match::ANY.with_masked(Field::NwSrc, src.0.into(), src.1.into()).with_masked(
                Field::NwDst,
                dst.0.into(),
                dst.1.into(),
            );
            if let Some(eth_type) = eth_type {
                matching = matching.with(Field::EthType, eth_type);
            }
            if let Some(protocol) = protocol {
                matching = matching.with(Field::NwProto, protocol.into());
            }
            if let Some(dscp) = dscp {
                matching = matching.with_masked(Field::NwTos, dscp << 2, 0xfc);
            }
            for (field, given) in [(Field::TpSrc, tp_src), (Field::TpDst, tp_dst)] {
                if let Some((value, mask)) = given {
                    // Type and code of ICMP are octets, and without a mask.
                    let icmp = matches!(protocol, Some(1 | 58));
                    let (value, mask) = if icmp { (value & 0xff, 0xffff) } else { (value, mask) };
                    matching = matching.with_masked(field, value.into(), mask.into());
                }
            }
            normalize::normalize(&matching)
        },
    )
}

/// A mask that is a prefix.
fn prefix() -> impl Strategy<Value = u32> {
    (0..=32u32).prop_map(|len| u32::MAX.checked_shl(32 - len).unwrap_or(0))
}

fn mac() -> impl Strategy<Value = u64> {
    0..1u64 << 48
}

fn vlan() -> impl Strategy<Value = (u64, u64)> {
    let tci = 0..0x1_0000u64;
    tci.prop_flat_map(|tci| {
        let tagged = tci | 0x1000;
        prop::sample::select(vec![
            (0, 0xffff),
            (tagged, 0xffff),
            (tagged & 0x1fff, 0x1fff),
            (tagged & 0xf000, 0xf000),
        ])
    })
}

/// A physical port, or one of OpenFlow's own that a frame can be sent to.
pub fn port() -> impl Strategy<Value = u16> {
    prop_oneof![3 => 1..0xff00u16, 1 => prop::sample::select(vec![0xfff8, 0xfffa, 0xfffb, 0xfffc, 0xfffe])]
}

/// An action that Open vSwitch knows as well.
pub fn openflow_action() -> impl Strategy<Value = Action> {
    let addr = any::<[u8; 4]>;
    let mac = any::<[u8; 6]>;
    prop_oneof![
        port().prop_map(|port| Action::Output { port, max_len: 0 }),
        any::<u16>().prop_map(|max_len| Action::Output { port: OFPP_CONTROLLER, max_len }),
        (1..0xff00u16, any::<u32>()).prop_map(|(port, queue)| Action::Enqueue { port, queue }),
        (0..0x1000u16).prop_map(Action::SetVlanVid),
        (0..8u8).prop_map(Action::SetVlanPcp),
        Just(Action::StripVlan),
        mac().prop_map(Action::SetEthSrc),
        mac().prop_map(Action::SetEthDst),
        addr().prop_map(Action::SetNwSrc),
        addr().prop_map(Action::SetNwDst),
        (0..64u8).prop_map(|dscp| Action::SetNwTos(dscp << 2)),
        any::<u16>().prop_map(Action::SetTpSrc),
        any::<u16>().prop_map(Action::SetTpDst),
        (1..0xff00u16).prop_map(|in_port| Action::Resubmit { in_port }),
    ]
}

/// Any action.
pub fn action() -> impl Strategy<Value = Action> {
    let tunnel = (any::<[u8; 6]>(), any::<[u8; 6]>(), any::<[u8; 4]>(), any::<[u8; 4]>(), 0..1u32 << 24)
        .prop_map(|(eth_dst, eth_src, dst, src, vni)| Tunnel { eth_dst, eth_src, dst, src, vni });
    prop_oneof![
        14 => openflow_action(),
        1 => Just(Action::Output { port: OFPP_NONE, max_len: 0 }),
        1 => port().prop_map(|in_port| Action::Resubmit { in_port }),
        1 => tunnel.prop_map(Action::SetVxlan),
        1 => option::of(0..1u32 << 24).prop_map(Action::StripVxlan),
        1 => any::<u32>().prop_map(|sa| Action::Encrypt { sa }),
        1 => Just(Action::Decrypt),
    ]
}

/// A flow change with such a match and such actions.
pub fn flow_mod(
    matching: impl Strategy<Value = Match>,
    action: impl Strategy<Value = Action>,
) -> impl Strategy<Value = FlowMod> {
    let command = prop::sample::select(vec![
        Command::Add,
        Command::Modify,
        Command::ModifyStrict,
        Command::Delete,
        Command::DeleteStrict,
    ]);
    let timeouts = (prop_oneof![Just(0), any::<u16>()], prop_oneof![Just(0), any::<u16>()]);
    let numbers = (any::<u64>(), any::<u16>(), prop_oneof![Just(OFPP_NONE), port()], 0..4u16);
    (command, matching, timeouts, numbers, vec(action, 0..MAX_ACTIONS)).prop_map(
        |(command, matching, (idle_timeout, hard_timeout), (cookie, priority, out_port, flags), actions)| {
            let priority = if normalize::is_exact(&matching) { u16::MAX } else { priority };
            let base = FlowMod { command, matching, cookie, ..FlowMod::default() };
            match command {
                Command::Delete => FlowMod { out_port, priority: delete_priority(&matching), ..base },
                Command::DeleteStrict => FlowMod { out_port, priority, ..base },
                _ => FlowMod {
                    priority,
                    idle_timeout,
                    hard_timeout,
                    flags,
                    actions: actions.into_iter().collect::<ActionList>(),
                    ..base
                },
            }
        },
    )
}

/// The priority of a DELETE counts for nothing; this is what the codecs make it.
fn delete_priority(matching: &Match) -> u16 {
    if normalize::is_exact(matching) { u16::MAX } else { DEFAULT_PRIORITY }
}
