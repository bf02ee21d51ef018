//! Whole-frame checksum verification, by etherparse.

use crate::packet::VXLAN_PORT;
use etherparse::{
    Ipv4Slice, Ipv6Slice, LinkExtSlice, NetSlice, SlicedPacket, TransportSlice, UdpSlice, checksum::Sum16BitWords,
};

/// Recomputes every checksum of an Ethernet frame: IPv4 header, TCP, UDP, ICMP, ICMPv6, and those of the frame
/// inside when the UDP destination port is VXLAN's. The error says which is wrong.
///
/// Fragments are checked up to their IPv4 header. A frame that etherparse cannot parse is an error.
pub fn verify(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| format!("etherparse: {error}"))?;
    match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            expect("IPv4 header", header.header_checksum, header.calc_header_checksum())?;
            if !ip.is_payload_fragmented() {
                verify_transport_v4(ip, packet.transport.as_ref())?;
            }
        }
        Some(NetSlice::Ipv6(ip)) if !ip.is_payload_fragmented() => {
            verify_transport_v6(ip, packet.transport.as_ref())?;
        }
        _ => {}
    }
    match &packet.transport {
        Some(TransportSlice::Udp(udp)) if udp.destination_port() == VXLAN_PORT => verify_inner(udp),
        _ => Ok(()),
    }
}

/// EtherTypes of the tags and the payload, for tests that follow a frame through tag changes.
pub fn ethertypes(frame: &[u8]) -> Vec<u16> {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return Vec::new() };
    let inner = packet.link_exts.iter().filter_map(|ext| match ext {
        LinkExtSlice::Vlan(tag) => Some(tag.ether_type().0),
        _ => None,
    });
    [u16::from_be_bytes([frame[12], frame[13]])].into_iter().chain(inner).collect()
}

fn expect(what: &str, found: u16, computed: u16) -> Result<(), String> {
    if found == computed {
        Ok(())
    } else {
        Err(format!("{what} checksum is {found:#06x}, should be {computed:#06x}"))
    }
}

fn verify_inner(udp: &UdpSlice<'_>) -> Result<(), String> {
    let inner = udp.payload().get(8..).ok_or("no VXLAN header")?;
    verify(inner).map_err(|error| format!("inner {error}"))
}

fn verify_transport_v4(ip: &Ipv4Slice<'_>, transport: Option<&TransportSlice<'_>>) -> Result<(), String> {
    let (src, dst) = (ip.header().source(), ip.header().destination());
    match transport {
        Some(TransportSlice::Tcp(tcp)) => {
            expect("TCP", tcp.checksum(), tcp.calc_checksum_ipv4(src, dst).map_err(|e| e.to_string())?)
        }
        Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
            let header = udp.to_header();
            let computed = header.calc_checksum_ipv4_raw(src, dst, udp.payload()).map_err(|e| e.to_string())?;
            expect("UDP", udp.checksum(), computed)
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            expect("ICMP sum", 0, Sum16BitWords::new().add_slice(icmp.slice()).ones_complement())
        }
        _ => Ok(()),
    }
}

fn verify_transport_v6(ip: &Ipv6Slice<'_>, transport: Option<&TransportSlice<'_>>) -> Result<(), String> {
    let (src, dst) = (ip.header().source(), ip.header().destination());
    match transport {
        Some(TransportSlice::Tcp(tcp)) => {
            expect("TCP", tcp.checksum(), tcp.calc_checksum_ipv6(src, dst).map_err(|e| e.to_string())?)
        }
        Some(TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let computed = header.calc_checksum_ipv6_raw(src, dst, udp.payload()).map_err(|e| e.to_string())?;
            expect("UDP", udp.checksum(), computed)
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            if icmp.is_checksum_valid(src, dst) {
                Ok(())
            } else {
                Err("ICMPv6 checksum is wrong".into())
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::verify;
    use crate::packet::Packet;

    #[test]
    fn good_frames_pass() {
        for packet in Packet::samples() {
            let frame = packet.build();
            assert_eq!(verify(&frame), Ok(()), "{packet:?}");
        }
    }

    #[test]
    fn every_damaged_address_byte_is_noticed() {
        let good = Packet::tcp4([10, 0, 0, 1], 1, [10, 0, 0, 2], 2, b"data").build();
        for at in 26..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x01;
            assert!(verify(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_damaged_inner_frame_is_noticed() {
        let inner = Packet::udp4([10, 0, 0, 1], 1, [10, 0, 0, 2], 2, b"data").build();
        let mut outer = Packet::vxlan([192, 0, 2, 1], [192, 0, 2, 2], 42, &inner).build();
        assert_eq!(verify(&outer), Ok(()));
        *outer.last_mut().expect("bytes") ^= 1;
        assert!(verify(&outer).is_err_and(|error| error.starts_with("inner UDP")));
    }
}
