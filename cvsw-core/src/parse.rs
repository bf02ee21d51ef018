//! Frame bytes to flow key and header offsets, once per header stack.

use crate::key::FlowKey;

/// Network layer found in a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Network {
    /// None that we parse, or a malformed one.
    #[default]
    Other,
    /// ARP for IPv4 over Ethernet.
    Arp,
    /// IPv4 with a complete header.
    Ipv4,
    /// IPv6 with a complete header.
    Ipv6,
}

/// Transport layer found in a frame (never set for later fragments).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Transport {
    /// None that we parse, a truncated one, or a later fragment.
    #[default]
    Other,
    /// TCP with a complete 20-byte header.
    Tcp,
    /// UDP with a complete header.
    Udp,
    /// ICMP (or ICMPv6) with at least type, code and checksum.
    Icmp,
}

/// Where the headers of a frame are. Offsets are from the start of the frame, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Headers {
    /// Whether an 802.1Q tag follows the Ethernet addresses.
    pub tagged: bool,
    /// Network layer.
    pub network: Network,
    /// Transport layer.
    pub transport: Transport,
    /// Offset of the network header (or of the payload, if it is none we know).
    pub network_offset: u16,
    /// Offset of the transport header; meaningful unless `transport` is `Other`.
    pub transport_offset: u16,
}

/// A parsed frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Parsed {
    /// What matches see.
    pub key: FlowKey,
    /// Where the headers are.
    pub headers: Headers,
}

/// Parses a frame. `None` if it is shorter than an Ethernet header; anything else that is malformed only
/// leaves the fields above it zero, as Open vSwitch does.
pub fn parse(_bytes: &[u8], _in_port: u16, _tun_id: u32) -> Option<Parsed> {
    unimplemented!()
}
