//! ICMP (RFC 792) and ICMPv6 (RFC 4443): the part that all messages share.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

/// Bytes of a [`Header`].
pub const LEN: usize = 8;

/// The first eight bytes of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Message type.
    pub kind: u8,
    /// Code within the type.
    pub code: u8,
    /// Checksum: over the message (ICMP), and the IPv6 pseudo-header too (ICMPv6).
    pub checksum: U16,
    /// Depends on the type.
    pub rest: [u8; 4],
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn header_layout() {
        let header = Header::read_from_bytes(&[8, 1, 0xab, 0xcd, 0, 1, 0, 2]).unwrap();
        assert_eq!((header.kind, header.code), (8, 1));
        assert_eq!(header.checksum.get(), 0xabcd);
        assert_eq!(header.rest, [0, 1, 0, 2]);
        assert_eq!(size_of::<Header>(), LEN);
    }
}
