//! UDP (RFC 768).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

/// Bytes of a [`Header`].
pub const LEN: usize = 8;
/// Offset of the checksum field.
pub const CHECKSUM_OFFSET: u16 = 6;

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Source port.
    pub src: U16,
    /// Destination port.
    pub dst: U16,
    /// Bytes of header and payload.
    pub length: U16,
    /// Checksum over pseudo-header, header and payload; 0: none (over IPv4).
    pub checksum: U16,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn header_layout() {
        let header = Header::read_from_bytes(&[0x12, 0xb5, 0, 53, 0, 9, 0xab, 0xcd]).unwrap();
        assert_eq!((header.src.get(), header.dst.get()), (4789, 53));
        assert_eq!(header.length.get(), 9);
        assert_eq!(header.checksum.get(), 0xabcd);
        assert_eq!(core::mem::offset_of!(Header, checksum), usize::from(CHECKSUM_OFFSET));
        assert_eq!(size_of::<Header>(), LEN);
    }
}
