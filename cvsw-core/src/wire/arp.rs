//! ARP for IPv4 over Ethernet (RFC 826).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

/// Bytes of a [`Header`].
pub const LEN: usize = 28;
/// Operation: request.
pub const REQUEST: u16 = 1;
/// Operation: reply.
pub const REPLY: u16 = 2;

/// An ARP packet for 6-byte hardware and 4-byte protocol addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Hardware type, protocol type, hardware and protocol address length: [`Header::ETHERNET_IPV4`].
    pub kind: [u8; 6],
    /// Operation.
    pub operation: U16,
    /// Sender hardware address.
    pub sender_mac: [u8; 6],
    /// Sender protocol address.
    pub sender_ip: [u8; 4],
    /// Target hardware address.
    pub target_mac: [u8; 6],
    /// Target protocol address.
    pub target_ip: [u8; 4],
}

impl Header {
    /// The `kind` of IPv4 over Ethernet.
    pub const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0, 6, 4];
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn header_layout() {
        let bytes = [
            0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2, //
        ];
        let header = Header::ref_from_bytes(&bytes).unwrap();
        assert_eq!(header.kind, Header::ETHERNET_IPV4);
        assert_eq!(header.operation.get(), REPLY);
        assert_eq!(header.sender_mac, [2, 0, 0, 0, 0, 1]);
        assert_eq!(header.sender_ip, [10, 0, 0, 1]);
        assert_eq!(header.target_mac, [2, 0, 0, 0, 0, 2]);
        assert_eq!(header.target_ip, [10, 0, 0, 2]);
        assert_eq!(size_of::<Header>(), LEN);
    }
}
