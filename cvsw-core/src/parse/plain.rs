//! The parser's short way for what nearly every frame is: TCP or UDP over IPv4, without a tag, without IP options, whole.
//!
//! With every offset known, the flow key is a handful of loads at fixed places. Anything unusual about a frame sends it
//! the long way, [`super::parse_into`]; for what is taken here both say the same.

use super::{Headers, Network, Parsed, Transport};
use crate::{
    key::FlowKey,
    wire::{ethernet, ipv4, tcp, udp},
};

/// Where TCP or UDP is in a plain frame.
const TRANSPORT_OFFSET: usize = ethernet::LEN + ipv4::LEN;
/// Bytes that are looked at. A frame on a wire is never shorter (IEEE 802.3: 60).
const LOOKED_AT: usize = TRANSPORT_OFFSET + tcp::LEN;
/// IPv4's first two bytes behind its EtherType, the second one (ToS) being anything.
const IPV4_WITHOUT_OPTIONS: u32 = (ethernet::ETHERTYPE_IPV4 as u32) << 8 | ipv4::VERSION_IHL as u32;

/// Where the headers of a plain frame with UDP are.
pub(crate) const PLAIN_UDP: Headers = Headers {
    tagged: false,
    network: Network::Ipv4,
    transport: Transport::Udp,
    network_offset: ethernet::LEN as u16,
    transport_offset: TRANSPORT_OFFSET as u16,
};
/// Where the headers of a plain frame with TCP are.
pub(crate) const PLAIN_TCP: Headers = Headers { transport: Transport::Tcp, ..PLAIN_UDP };

/// Parses a plain frame that entered at `in_port`, outside any tunnel. `false`, and `parsed` unchanged: it is none.
#[inline]
pub(crate) fn parse_plain(parsed: &mut Parsed, bytes: &[u8], in_port: u16) -> bool {
    let Some(front) = bytes.first_chunk::<LOOKED_AT>() else { return false };
    let [
        d0,
        d1,
        d2,
        d3,
        d4,
        d5,
        s0,
        s1,
        s2,
        s3,
        s4,
        s5,
        t0,
        t1,
        version_ihl,
        tos,
        l0,
        l1,
        _,
        _,
        f0,
        f1,
        _,
        protocol,
        _,
        _,
        a0,
        a1,
        a2,
        a3,
        a4,
        a5,
        a6,
        a7,
        p0,
        p1,
        p2,
        p3,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        o0,
        o1,
        _,
        _,
        _,
        _,
        _,
        _,
    ] = *front;
    let start = u32::from_be_bytes([0, t0, t1, version_ihl]);
    let fragment = u16::from_be_bytes([f0, f1]) & (ipv4::MORE_FRAGMENTS | ipv4::OFFSET_MASK);
    let payload = usize::from(u16::from_be_bytes([l0, l1])).wrapping_sub(ipv4::LEN);
    let room = bytes.len().wrapping_sub(TRANSPORT_OFFSET);
    if start != IPV4_WITHOUT_OPTIONS || fragment != 0 || payload > room {
        return false;
    }
    let (headers, flags) = match protocol {
        ipv4::PROTOCOL_UDP if payload >= udp::LEN => (PLAIN_UDP, 0),
        ipv4::PROTOCOL_TCP => {
            let offset_flags = u16::from_be_bytes([o0, o1]);
            let header_len = usize::from(offset_flags >> 12).wrapping_mul(4);
            if header_len < tcp::LEN || header_len > payload {
                return false;
            }
            (PLAIN_TCP, u64::from(offset_flags & tcp::FLAGS_MASK) << 16)
        }
        _ => return false,
    };
    let ports = u64::from(u32::from_be_bytes([p0, p1, p2, p3])) << 16;
    parsed.key = FlowKey([
        u64::from_be_bytes([d0, d1, d2, d3, d4, d5, 0, 0]) | u64::from(in_port),
        u64::from_be_bytes([s0, s1, s2, s3, s4, s5, t0, t1]),
        u64::from_be_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
        ports | u64::from(protocol) << 8 | u64::from(tos & !ipv4::ECN_MASK),
        flags,
        0,
        0,
        0,
        0,
    ]);
    parsed.headers = headers;
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
    use super::*;
    use crate::parse::parse_into;
    use cvsw_testkit::packet::{Fragment, Ipv4, Packet, Transport};
    use proptest::{collection::vec, prelude::*};
    use std::vec::Vec;

    fn both(bytes: &[u8]) -> (Option<Parsed>, Option<Parsed>) {
        let (mut short, mut long) = (Parsed::default(), Parsed::default());
        let is_plain = parse_plain(&mut short, bytes, 2);
        assert!(is_plain || short == Parsed::default(), "a frame that is not plain changes nothing");
        let is_frame = parse_into(&mut long, bytes, 2, 0);
        (is_plain.then_some(short), is_frame.then_some(long))
    }

    fn packets() -> impl Strategy<Value = Packet> {
        let udp = (any::<(u16, u16)>(), vec(any::<u8>(), 0..64)).prop_map(|((src, dst), payload)| Transport::Udp {
            src,
            dst,
            checksum: true,
            payload,
        });
        let tcp = (any::<(u16, u16)>(), 0..512u16, vec(any::<u8>(), 0..64))
            .prop_map(|((src, dst), flags, payload)| Transport::Tcp { src, dst, flags, payload });
        (any::<([u8; 4], [u8; 4], u8)>(), prop_oneof![udp, tcp], 0..30usize).prop_map(
            |((src, dst, tos), transport, padding)| {
                let mut packet = Packet::ip4(src, dst, transport);
                let Ipv4 { tos: octet, fragment, .. } = packet.ipv4_mut();
                (*octet, *fragment) = (tos, Fragment::Whole);
                Packet { padding, ..packet }
            },
        )
    }

    proptest! {
        /// Whole packets of at least the length that is looked at go the short way.
        #[test]
        fn ordinary_frames_are_plain(packet in packets()) {
            let bytes = packet.build();
            let (short, long) = both(&bytes);
            prop_assert_eq!(short.is_some(), bytes.len() >= LOOKED_AT);
            prop_assert!(short.is_none() || short == long);
        }

        /// Whatever is done to a frame: either it is not plain, or both ways say the same.
        #[test]
        fn agrees_with_the_long_way(
            packet in packets(),
            changes in vec((0..60usize, any::<u8>()), 0..4),
            cut in 0..120usize,
        ) {
            let mut bytes: Vec<u8> = packet.build();
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(cut.max(14));
            let (short, long) = both(&bytes);
            prop_assert!(short.is_none() || short == long, "{:?} {:?}", short, long);
        }
    }
}
