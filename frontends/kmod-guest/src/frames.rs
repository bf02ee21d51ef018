//! Frames made and read by etherparse, which shares no code with the engine.

use crate::topology::{PEER_MAC, VM_MAC};
use anyhow::{Context, Result, ensure};
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

/// A UDP datagram from the VM to the peer.
pub fn udp_to_peer(source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
    udp(VM_MAC, PEER_MAC, [10, 0, 0, 1], [10, 0, 0, 2], (source_port, destination_port), payload)
}

/// A UDP datagram from the peer to the VM.
pub fn udp_to_vm(source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
    udp(PEER_MAC, VM_MAC, [10, 0, 0, 2], [10, 0, 0, 1], (source_port, destination_port), payload)
}

fn udp(
    eth_src: [u8; 6],
    eth_dst: [u8; 6],
    src: [u8; 4],
    dst: [u8; 4],
    (source_port, destination_port): (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(eth_src, eth_dst).ipv4(src, dst, 64).udp(source_port, destination_port);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload).expect("a vector takes everything");
    frame
}

/// The frame's headers; an error if it is malformed or a checksum (IPv4, UDP, TCP) is wrong.
pub fn check(frame: &[u8]) -> Result<SlicedPacket<'_>> {
    let packet = SlicedPacket::from_ethernet(frame).with_context(|| format!("malformed: {frame:02x?}"))?;
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { return Ok(packet) };
    let header = ip.header().to_header();
    ensure!(header.header_checksum == header.calc_header_checksum(), "IPv4 checksum: {frame:02x?}");
    match &packet.transport {
        Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
            let expected = udp.to_header().calc_checksum_ipv4(&header, udp.payload())?;
            ensure!(udp.checksum() == expected, "UDP checksum {:04x}, not {expected:04x}", udp.checksum());
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let expected = tcp.calc_checksum_ipv4(header.source, header.destination)?;
            ensure!(tcp.checksum() == expected, "TCP checksum {:04x}, not {expected:04x}", tcp.checksum());
        }
        _ => {}
    }
    Ok(packet)
}
