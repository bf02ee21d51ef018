//! IPv4 (RFC 791).

use super::checksum;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

/// Bytes of a [`Header`], options excluded.
pub const LEN: usize = 20;
/// First byte of a header without options: version 4, five 32-bit words.
pub const VERSION_IHL: u8 = 0x45;
/// Don't-fragment bit of [`Header::fragment`].
pub const DONT_FRAGMENT: u16 = 0x4000;
/// More-fragments bit of [`Header::fragment`].
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// Offset bits of [`Header::fragment`], in units of 8 bytes.
pub const OFFSET_MASK: u16 = 0x1fff;
/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of IGMP.
pub const PROTOCOL_IGMP: u8 = 2;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// Protocol number of ESP (RFC 4303).
pub const PROTOCOL_ESP: u8 = 50;
/// Protocol number of SCTP.
pub const PROTOCOL_SCTP: u8 = 132;
/// The ECN bits of the ToS octet (RFC 3168).
pub const ECN_MASK: u8 = 0x03;

/// The fixed part of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Version (4 bits) and header length in 32-bit words (4 bits).
    pub version_ihl: u8,
    /// Type of service: DSCP (6 bits) and ECN (2 bits).
    pub tos: u8,
    /// Bytes of the packet, header included.
    pub total_length: U16,
    /// Identification, for reassembly.
    pub identification: U16,
    /// Flags (3 bits) and fragment offset (13 bits).
    pub fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Checksum of the header.
    pub checksum: U16,
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
}

impl Header {
    /// Bytes of the header with its options, as it says itself; below [`LEN`] it is malformed.
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0x0f).wrapping_mul(4)
    }

    /// Sets the ToS octet and updates the checksum.
    pub fn set_tos(&mut self, tos: u8) {
        let difference = checksum::difference16(u16::from(self.tos), u16::from(tos));
        self.tos = tos;
        self.checksum.set(checksum::update(self.checksum.get(), difference));
    }

    /// Whether the packet is a fragment (first or later).
    pub fn is_fragment(&self) -> bool {
        self.fragment.get() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Whether the packet is a fragment other than the first.
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.get() & OFFSET_MASK != 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn header_layout() {
        let bytes = [
            0x46, 0xb9, 0x00, 0x1c, 0x12, 0x34, 0x20, 0x00, 64, 17, 0xab, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2, //
        ];
        let header = Header::ref_from_bytes(&bytes).unwrap();
        assert_eq!(header.header_len(), 24);
        assert_eq!(header.tos, 0xb9);
        assert_eq!(header.total_length.get(), 28);
        assert_eq!(header.identification.get(), 0x1234);
        assert!(header.is_fragment());
        assert!(!header.is_later_fragment());
        assert_eq!((header.ttl, header.protocol), (64, PROTOCOL_UDP));
        assert_eq!(header.checksum.get(), 0xabcd);
        assert_eq!((header.src, header.dst), ([10, 0, 0, 1], [10, 0, 0, 2]));
        assert_eq!(size_of::<Header>(), LEN);
    }

    #[test]
    fn dont_fragment_is_no_fragment() {
        let mut bytes = [0; LEN];
        let header = Header::mut_from_bytes(&mut bytes).unwrap();
        header.fragment.set(DONT_FRAGMENT);
        assert!(!header.is_fragment());
        header.fragment.set(185);
        assert!(header.is_fragment() && header.is_later_fragment());
    }
}
