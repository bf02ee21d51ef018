//! TCP (RFC 9293).

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

/// Bytes of a [`Header`], options excluded.
pub const LEN: usize = 20;
/// Offset of the checksum field.
pub const CHECKSUM_OFFSET: u16 = 16;
/// Flag bits of [`Header::offset_flags`], the reserved ones included, as Open vSwitch matches them.
pub const FLAGS_MASK: u16 = 0x0fff;

/// The fixed part of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Source port.
    pub src: U16,
    /// Destination port.
    pub dst: U16,
    /// Sequence number.
    pub sequence: U32,
    /// Acknowledgement number.
    pub acknowledgement: U32,
    /// Header length in 32-bit words (4 bits) and flags (12 bits).
    pub offset_flags: U16,
    /// Receive window.
    pub window: U16,
    /// Checksum over pseudo-header, header and payload.
    pub checksum: U16,
    /// Urgent pointer.
    pub urgent: U16,
}

impl Header {
    /// Length in bytes, options included, as the header says; not checked.
    pub const fn header_len(&self) -> usize {
        let [high, _] = self.offset_flags.to_bytes();
        (high as usize >> 4).wrapping_mul(4)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn header_layout() {
        let bytes = [0, 80, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 0xff, 0xff, 0xab, 0xcd, 0, 3];
        let header = Header::ref_from_bytes(&bytes).unwrap();
        assert_eq!((header.src.get(), header.dst.get()), (80, 8080));
        assert_eq!((header.sequence.get(), header.acknowledgement.get()), (1, 2));
        assert_eq!(header.offset_flags.get() & FLAGS_MASK, 0x012);
        assert_eq!(header.header_len(), LEN);
        assert_eq!(header.window.get(), 0xffff);
        assert_eq!(header.checksum.get(), 0xabcd);
        assert_eq!(header.urgent.get(), 3);
        assert_eq!(core::mem::offset_of!(Header, checksum), usize::from(CHECKSUM_OFFSET));
        assert_eq!(size_of::<Header>(), LEN);
    }
}
