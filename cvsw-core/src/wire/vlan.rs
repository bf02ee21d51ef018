//! IEEE 802.1Q and 802.1ad tags.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

/// Bytes of a [`Header`].
pub const LEN: usize = 4;
/// Offset of the outermost tag in a frame.
pub const OFFSET: usize = 12;
/// Tag protocol identifier of a customer tag (IEEE 802.1Q).
pub const TPID: u16 = 0x8100;
/// Tag protocol identifier of a service tag (IEEE 802.1ad).
pub const TPID_SERVICE: u16 = 0x88a8;
/// VLAN id bits of a TCI.
pub const VID_MASK: u16 = 0x0fff;
/// Priority bits of a TCI.
pub const PCP_MASK: u16 = 0xe000;
/// Position of the priority bits in a TCI.
pub const PCP_SHIFT: u32 = 13;

/// A tag as it stands between the source address and the EtherType.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Tag protocol identifier: [`TPID`] or [`TPID_SERVICE`].
    pub tpid: U16,
    /// Tag control information: priority (3 bits), drop eligible (1 bit), VLAN id (12 bits).
    pub tci: U16,
}

/// Whether `ethertype` announces a tag.
pub const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, TPID | TPID_SERVICE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn header_layout() {
        let header = Header::read_from_bytes(&[0x81, 0x00, 0xb0, 0x64]).unwrap();
        assert!(is_tag(header.tpid.get()));
        assert_eq!(header.tci.get() & VID_MASK, 100);
        assert_eq!((header.tci.get() & PCP_MASK) >> PCP_SHIFT, 5);
        assert_eq!(size_of::<Header>(), LEN);
    }
}
