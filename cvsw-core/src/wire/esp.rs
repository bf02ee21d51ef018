//! ESP, the Encapsulating Security Payload (RFC 4303), as the counter-mode suites lay it out.
//!
//! ```text
//! SPI (4) | sequence number (4) | IV (8) | ciphertext of (payload | padding | pad length (1) | next header (1)) | ICV
//! ```

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U32};

/// Bytes of a [`Header`].
pub const LEN: usize = 16;
/// Bytes behind the padding: its length and the next header.
pub const TRAILER_LEN: usize = 2;
/// The trailer ends on a multiple of this many bytes (RFC 4303 section 2.4).
pub const ALIGNMENT: usize = 4;
/// Longest integrity check value of the suites that there are.
pub const MAX_ICV: usize = 16;

/// What stands in front of the ciphertext: the ESP header and the explicit initialization vector that all
/// counter-mode suites have (RFC 3686 section 2.1, RFC 4106 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Security parameters index.
    pub spi: U32,
    /// Low 32 bits of the sequence number.
    pub sequence: U32,
    /// Initialization vector.
    pub iv: [u8; 8],
}
const _: () = assert!(size_of::<Header>() == LEN);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn header_layout() {
        let bytes = [0, 0, 0x10, 1, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8];
        let header = Header::ref_from_bytes(&bytes).unwrap();
        assert_eq!(header.spi.get(), 0x1001);
        assert_eq!(header.sequence.get(), 7);
        assert_eq!(header.iv, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
