//! Super-segments: one large frame that stands for several, cut before the wire and joined behind it.
//!
//! A VM that may send TCP super-frames of 64 KiB passes them through its vNIC with one system call instead of 45, and
//! takes joined ones with as few. On the wire every packet is as small as its MTU demands, so [`Segmenter`] cuts
//! (segmentation offload: TSO for TCP, USO for UDP) and [`Coalescer`] joins (receive offload: GRO). Neither allocates.
//!
//! What is cut and what is joined follows Linux (`tcp_gso_segment`, `tcp_gro_receive`), so that `cut` and `join` undo
//! each other and a VM that forwards a joined frame sends what its sender sent.

mod cut;
mod join;

pub use cut::Segmenter;
pub use join::{Coalescer, HEAD_MAX};

use crate::{
    key::Field,
    parse::{Network, Transport, parse},
    wire::{checksum, ipv4, ipv6, tcp, udp},
};
use zerocopy::FromBytes;

/// TCP flags, in the low bits of [`tcp::Header::offset_flags`] (RFC 9293 section 3.1, RFC 3168).
pub(crate) mod flag {
    pub const FIN: u16 = 0x01;
    pub const SYN: u16 = 0x02;
    pub const RST: u16 = 0x04;
    pub const PSH: u16 = 0x08;
    pub const URG: u16 = 0x20;
    pub const CWR: u16 = 0x80;
}

/// Where headers and payload of a whole (not fragmented) TCP or UDP packet are, in bytes from the start of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) network: Network,
    pub(crate) transport: Transport,
    pub(crate) network_offset: usize,
    pub(crate) transport_offset: usize,
    /// First byte behind the headers.
    pub(crate) payload: usize,
    /// First byte behind the packet; Ethernet padding may follow.
    pub(crate) end: usize,
}

impl Layout {
    /// `None` if `bytes` is anything else.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let parsed = parse(bytes, 0, 0)?;
        if parsed.key.get(Field::NwFrag) != 0 {
            return None;
        }
        let headers = parsed.headers;
        let network_offset = usize::from(headers.network_offset);
        let transport_offset = usize::from(headers.transport_offset);
        let packet = bytes.get(network_offset..)?;
        let packet_len = match headers.network {
            Network::Ipv4 => usize::from(ipv4::Header::ref_from_prefix(packet).ok()?.0.total_length.get()),
            Network::Ipv6 => {
                let header = ipv6::Header::ref_from_prefix(packet).ok()?.0;
                usize::from(header.payload_length.get()).saturating_add(ipv6::LEN)
            }
            Network::Arp | Network::Other => return None,
        };
        let end = network_offset.saturating_add(packet_len);
        let transport = bytes.get(transport_offset..end)?;
        let header_len = match headers.transport {
            Transport::Tcp if headers.holds_tcp_options(bytes) => {
                tcp::Header::ref_from_prefix(transport).ok()?.0.header_len()
            }
            // A datagram that ends before its packet does has bytes behind it that no copy would keep.
            Transport::Udp => {
                let length = udp::Header::ref_from_prefix(transport).ok()?.0.length.get();
                if usize::from(length) != transport.len() {
                    return None;
                }
                udp::LEN
            }
            _ => return None,
        };
        Some(Self {
            network: headers.network,
            transport: headers.transport,
            network_offset,
            transport_offset,
            payload: transport_offset.saturating_add(header_len),
            end,
        })
    }

    /// Bytes of the transport header.
    fn transport_header_len(&self) -> usize {
        self.payload.saturating_sub(self.transport_offset)
    }

    /// Writes the lengths of a packet with `payload_len` bytes of payload into its headers, which begin `head`, adds
    /// `id_step` to the identification of an IPv4 packet and fills in its header checksum. Returns the sum of the
    /// pseudo-header. `None`, and nothing is sure, if the packet were longer than IP allows or `head` is too short.
    fn set_lengths(&self, head: &mut [u8], payload_len: usize, id_step: u16) -> Option<u16> {
        let datagram_len = u16::try_from(self.transport_header_len().checked_add(payload_len)?).ok()?;
        let network_len = u16::try_from(self.transport_offset.checked_sub(self.network_offset)?).ok()?;
        let pseudo = match self.network {
            Network::Ipv4 => {
                let header = head.get_mut(self.network_offset..self.transport_offset)?;
                let (ip, _) = ipv4::Header::mut_from_prefix(header).ok()?;
                ip.total_length.set(network_len.checked_add(datagram_len)?);
                ip.identification.set(ip.identification.get().wrapping_add(id_step));
                ip.checksum.set(0);
                let pseudo = checksum::pseudo_header_v4(ip.src, ip.dst, ip.protocol, datagram_len);
                let sum = checksum::sum(header);
                let (ip, _) = ipv4::Header::mut_from_prefix(header).ok()?;
                ip.checksum.set(!sum);
                pseudo
            }
            Network::Ipv6 => {
                let (ip, _) = ipv6::Header::mut_from_prefix(head.get_mut(self.network_offset..)?).ok()?;
                let extensions = network_len.checked_sub(ipv6::LEN as u16)?;
                ip.payload_length.set(extensions.checked_add(datagram_len)?);
                checksum::pseudo_header_v6(&ip.src, &ip.dst, self.protocol(), datagram_len)
            }
            Network::Arp | Network::Other => return None,
        };
        if self.transport == Transport::Udp {
            let (udp, _) = udp::Header::mut_from_prefix(head.get_mut(self.transport_offset..)?).ok()?;
            udp.length.set(datagram_len);
        }
        Some(pseudo)
    }

    /// The sum of the pseudo-header of the packet that begins `bytes`.
    fn pseudo_header(&self, bytes: &[u8]) -> Option<u16> {
        let packet = bytes.get(self.network_offset..)?;
        let length = u16::try_from(self.end.checked_sub(self.transport_offset)?).ok()?;
        Some(match self.network {
            Network::Ipv4 => {
                let (ip, _) = ipv4::Header::ref_from_prefix(packet).ok()?;
                checksum::pseudo_header_v4(ip.src, ip.dst, ip.protocol, length)
            }
            Network::Ipv6 => {
                let (ip, _) = ipv6::Header::ref_from_prefix(packet).ok()?;
                checksum::pseudo_header_v6(&ip.src, &ip.dst, self.protocol(), length)
            }
            Network::Arp | Network::Other => return None,
        })
    }

    fn protocol(&self) -> u8 {
        if self.transport == Transport::Tcp { ipv4::PROTOCOL_TCP } else { ipv4::PROTOCOL_UDP }
    }

    /// Offset of the checksum field in the transport header.
    fn checksum_offset(&self) -> u16 {
        if self.transport == Transport::Tcp { tcp::CHECKSUM_OFFSET } else { udp::CHECKSUM_OFFSET }
    }

    /// Writes the transport checksum field of the packet that begins `bytes`.
    fn set_checksum(&self, bytes: &mut [u8], checksum: u16) {
        let at = self.transport_offset.saturating_add(usize::from(self.checksum_offset()));
        if let Some(field) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *field = checksum.to_be_bytes();
        }
    }
}
