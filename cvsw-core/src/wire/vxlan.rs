//! VXLAN (RFC 7348).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U32};

/// Bytes of a [`Header`].
pub const LEN: usize = 8;
/// UDP destination port (IANA).
pub const PORT: u16 = 4789;
/// The I bit of [`Header::flags`]: there is a VNI.
pub const FLAG_VNI: u8 = 0x08;
/// Largest VNI.
pub const VNI_MAX: u32 = 0x00ff_ffff;

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Flags; bits other than [`FLAG_VNI`] are ignored on receipt.
    pub flags: u8,
    /// Reserved: zero when sent, ignored on receipt.
    pub reserved: [u8; 3],
    /// VXLAN network identifier (24 bits) and a reserved octet.
    pub vni_reserved: U32,
}

impl Header {
    /// A header with `vni`, of which the low 24 bits count.
    pub const fn new(vni: u32) -> Self {
        Self { flags: FLAG_VNI, reserved: [0; 3], vni_reserved: U32::new(vni << 8) }
    }

    /// The VXLAN network identifier.
    pub fn vni(&self) -> u32 {
        self.vni_reserved.get() >> 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_layout() {
        let header = Header::new(0x12_3456);
        assert_eq!(header.as_bytes(), [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        assert_eq!(header.vni(), 0x12_3456);
        assert_eq!(size_of::<Header>(), LEN);
    }
}
