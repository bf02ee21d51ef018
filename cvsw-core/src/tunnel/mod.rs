//! Encapsulation templates and decapsulation; sealing and opening.

pub mod ecn;
pub mod esp;
pub mod vxlan;

use crate::{
    parse::{Headers, Network},
    stats::DropReason,
    wire::{checksum, ethernet, ipv4},
};
use zerocopy::FromBytes;

/// The outer IPv4 header and its payload, if that is whole and of `protocol`; else `other` is the reason to drop it,
/// or what is wrong with the header.
fn ip_payload<'a>(
    bytes: &'a [u8],
    headers: &Headers,
    protocol: u8,
    other: DropReason,
) -> Result<(&'a ipv4::Header, &'a [u8]), DropReason> {
    let start = usize::from(headers.network_offset);
    if headers.network != Network::Ipv4 {
        // The parser leaves out malformed headers; the EtherType in front says what it was meant to be.
        let ethertype = bytes.get(..start).and_then(<[u8]>::last_chunk).copied().map(u16::from_be_bytes);
        let meant_ipv4 = ethertype == Some(ethernet::ETHERTYPE_IPV4);
        return Err(if meant_ipv4 { DropReason::TunnelIpHeader } else { other });
    }
    let packet = bytes.get(start..).unwrap_or_default();
    let (ip, _) = ipv4::Header::ref_from_prefix(packet).map_err(|_| DropReason::TunnelIpHeader)?;
    let header_len = ip.header_len();
    let header = packet.get(..header_len).ok_or(DropReason::TunnelIpHeader)?;
    let payload = packet.get(header_len..usize::from(ip.total_length.get())).ok_or(DropReason::TunnelIpHeader)?;
    if ip.version_ihl >> 4 != 4 {
        return Err(DropReason::TunnelIpHeader);
    }
    if ip.protocol != protocol {
        return Err(other);
    }
    // The sum over a header without options, of known length, is a few instructions without a loop.
    let sum = header.first_chunk::<{ ipv4::LEN }>().filter(|fixed| fixed.len() == header_len);
    if sum.map_or_else(|| checksum::sum(header), |fixed| checksum::sum(fixed)) != 0xffff {
        return Err(DropReason::TunnelIpChecksum);
    }
    if ip.is_fragment() {
        return Err(DropReason::TunnelFragment);
    }
    Ok((ip, payload))
}
