//! Random packets, for property tests.

use crate::packet::{Fragment, Ipv4, Ipv6, Network, Packet, Transport};
use proptest::{collection::vec, prelude::*};

/// Any well-formed frame of the kinds that the engine knows, with and without tags, options, extension headers
/// and padding; sometimes a fragment.
pub fn packet() -> impl Strategy<Value = Packet> {
    let network =
        prop_oneof![5 => ipv4().prop_map(Network::Ipv4), 2 => ipv6().prop_map(Network::Ipv6), 1 => other()];
    (any::<[u8; 6]>(), any::<[u8; 6]>(), tags(), network, prop_oneof![3 => Just(0usize), 1 => 1..40usize])
        .prop_map(|(eth_src, eth_dst, tags, network, padding)| Packet { eth_src, eth_dst, tags, network, padding })
}

/// No tag, one, or two.
fn tags() -> impl Strategy<Value = Vec<(u16, u16)>> {
    vec((prop_oneof![Just(0x8100u16), Just(0x88a8)], any::<u16>()), 0..3)
}

/// Any IPv4 packet.
pub fn ipv4() -> impl Strategy<Value = Ipv4> {
    let options = (0..4usize).prop_map(|words| vec![1; words * 4]);
    // A first fragment holds at least the transport header, or it has no ports to look at.
    let fragment = prop_oneof![
        6 => Just(Fragment::Whole),
        1 => (3..8usize).prop_map(|units| Fragment::First { keep: units * 8 }),
        // A later one starts behind it, so that it does not hold the checksum.
        1 => (3..8usize).prop_map(|units| Fragment::Later { skip: units * 8 }),
    ];
    (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<u8>(), any::<u16>(), options, fragment, transport()).prop_map(
        |(src, dst, tos, id, options, fragment, transport)| Ipv4 {
            src,
            dst,
            tos,
            id,
            options,
            fragment,
            transport,
        },
    )
}

/// Any IPv6 packet with extension headers in any order.
pub fn ipv6() -> impl Strategy<Value = Ipv6> {
    let body = |kind: u8| (0..3usize).prop_map(move |units| (kind, vec![0; 6 + units * 8]));
    let extension = prop_oneof![body(0), body(43), body(60), Just((51, vec![0; 22])), Just((44, vec![0; 6]))];
    let transport = transport().prop_map(|mut transport| {
        if let Transport::Udp { checksum, .. } = &mut transport {
            *checksum = true;
        }
        transport
    });
    (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u8>(), vec(extension, 0..4), transport)
        .prop_map(|(src, dst, class, extensions, transport)| Ipv6 { src, dst, class, extensions, transport })
}

fn transport() -> impl Strategy<Value = Transport> {
    let payload = || vec(any::<u8>(), 0..64);
    prop_oneof![
        4 => (any::<u16>(), any::<u16>(), 0..0x200u16, payload())
            .prop_map(|(src, dst, flags, payload)| Transport::Tcp { src, dst, flags, payload }),
        4 => (any::<u16>(), any::<u16>(), any::<bool>(), payload())
            .prop_map(|(src, dst, checksum, payload)| Transport::Udp { src, dst, checksum, payload }),
        // Types below 13: later ones have a fixed length that etherparse insists on.
        2 => (0..13u8, any::<u8>(), vec(any::<u8>(), 4..64))
            .prop_map(|(kind, code, payload)| Transport::Icmp { kind, code, payload }),
        1 => (prop_oneof![Just(47u8), Just(50), Just(253)], payload())
            .prop_map(|(protocol, payload)| Transport::Other { protocol, payload }),
    ]
}

fn other() -> impl Strategy<Value = Network> {
    prop_oneof![
        (any::<u16>(), any::<[u8; 6]>(), any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(
            |(operation, sender_mac, sender, target)| Network::Arp { operation, sender_mac, sender, target }
        ),
        (prop_oneof![Just(0x88ccu16), Just(0x8847), Just(0x0600)], vec(any::<u8>(), 0..64))
            .prop_map(|(ethertype, payload)| Network::Other { ethertype, payload }),
    ]
}
