//! IPv6 and the extension headers that can be walked over (RFC 8200, RFC 4302).

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

/// Bytes of a [`Header`].
pub const LEN: usize = 40;
/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next header: authentication.
pub const AUTHENTICATION: u8 = 51;
/// Next header: ICMPv6.
pub const ICMPV6: u8 = 58;
/// Next header: destination options.
pub const DESTINATION: u8 = 60;

/// The fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Version (4 bits), traffic class (8 bits), flow label (20 bits).
    pub version_class_label: U32,
    /// Bytes that follow this header.
    pub payload_length: U16,
    /// Type of the next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
}

impl Header {
    /// Traffic class: DSCP (6 bits) and ECN (2 bits).
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_label.get() >> 20) as u8
    }

    /// Sets the traffic class.
    pub fn set_traffic_class(&mut self, class: u8) {
        let rest = self.version_class_label.get() & 0xf00f_ffff;
        self.version_class_label.set(rest | u32::from(class) << 20);
    }
}

/// The first eight bytes of an extension header; all of them are at least that long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Extension {
    /// Type of the next header.
    pub next_header: u8,
    /// Length, in units that depend on the type.
    pub length: u8,
    /// Of a fragment header: offset in 8 bytes (13 bits), reserved (2 bits), more fragments (1 bit).
    pub fragment: U16,
    /// The rest.
    pub rest: [u8; 4],
}

impl Extension {
    /// Offset bits of [`Extension::fragment`].
    pub const OFFSET_MASK: u16 = 0xfff8;

    /// Whether a next header of type `kind` is an extension header that can be walked over.
    pub const fn is_kind(kind: u8) -> bool {
        matches!(kind, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
    }

    /// Bytes of the whole extension header, which has type `kind`.
    pub fn len(&self, kind: u8) -> usize {
        let length = usize::from(self.length);
        match kind {
            FRAGMENT => 8,
            AUTHENTICATION => length.wrapping_mul(4).wrapping_add(8),
            _ => length.wrapping_mul(8).wrapping_add(8),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn header_layout() {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&[0x6b, 0x81, 0x23, 0x45, 0x05, 0xdc, 17, 63]);
        bytes[8] = 0xfd;
        bytes[39] = 1;
        let header = Header::mut_from_bytes(&mut bytes).unwrap();
        assert_eq!(header.traffic_class(), 0xb8);
        header.set_traffic_class(0x03);
        assert_eq!(header.version_class_label.get(), 0x6031_2345);
        assert_eq!(header.payload_length.get(), 1500);
        assert_eq!((header.next_header, header.hop_limit), (17, 63));
        assert_eq!((header.src[0], header.dst[15]), (0xfd, 1));
        assert_eq!(size_of::<Header>(), LEN);
    }

    #[test]
    fn extension_lengths() {
        let extension = Extension::read_from_bytes(&[6, 4, 0x12, 0x39, 0, 0, 0, 0]).unwrap();
        assert_eq!(extension.len(HOP_BY_HOP), 40);
        assert_eq!(extension.len(AUTHENTICATION), 24);
        assert_eq!(extension.len(FRAGMENT), 8);
        assert!(Extension::is_kind(FRAGMENT) && !Extension::is_kind(17));
        assert_eq!(extension.fragment.get() & Extension::OFFSET_MASK, 0x1238);
    }
}
