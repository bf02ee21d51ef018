//! Ethernet II and IEEE 802.3 headers, and the LLC/SNAP header that may follow the latter (RFC 1042).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

/// Bytes of a [`Header`].
pub const LEN: usize = 14;
/// Values of [`Header::ethertype`] below this are the payload length of an IEEE 802.3 frame.
pub const ETHERTYPE_MIN: u16 = 0x0600;
/// EtherType that matches see for an IEEE 802.3 frame without one (OpenFlow 1.0, `OFP_DL_TYPE_NOT_ETH_TYPE`).
pub const ETHERTYPE_NONE: u16 = 0x05ff;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of reverse ARP.
pub const ETHERTYPE_RARP: u16 = 0x8035;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Destination, source, EtherType (IEEE 802.3-2018, clause 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Destination address.
    pub dst: [u8; 6],
    /// Source address.
    pub src: [u8; 6],
    /// EtherType, or the payload length of an IEEE 802.3 frame.
    pub ethertype: U16,
}

/// LLC and SNAP header behind an IEEE 802.3 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Snap {
    /// DSAP, SSAP and control: [`Snap::LLC`] when a SNAP header follows.
    pub llc: [u8; 3],
    /// Organisation: zero when `ethertype` is an EtherType.
    pub oui: [u8; 3],
    /// Protocol of the payload.
    pub ethertype: U16,
}

impl Snap {
    /// DSAP 0xaa, SSAP 0xaa, unnumbered information.
    pub const LLC: [u8; 3] = [0xaa, 0xaa, 0x03];

    /// The EtherType that the header carries, if it carries one.
    pub fn carried_ethertype(&self) -> Option<u16> {
        let ethertype = self.ethertype.get();
        (self.llc == Self::LLC && self.oui == [0; 3] && ethertype >= ETHERTYPE_MIN).then_some(ethertype)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn header_layout() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x08, 0x06];
        let header = Header::ref_from_bytes(&bytes).unwrap();
        assert_eq!(header.dst, [1, 2, 3, 4, 5, 6]);
        assert_eq!(header.src, [7, 8, 9, 10, 11, 12]);
        assert_eq!(header.ethertype.get(), ETHERTYPE_ARP);
        assert_eq!(size_of::<Header>(), LEN);
    }

    #[test]
    fn snap_layout() {
        let ip = Snap::read_from_bytes(&[0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0]).unwrap();
        assert_eq!(ip.carried_ethertype(), Some(ETHERTYPE_IPV4));
        let other_oui = Snap::read_from_bytes(&[0xaa, 0xaa, 3, 0, 0, 1, 0x08, 0]).unwrap();
        assert_eq!(other_oui.carried_ethertype(), None);
        let length = Snap::read_from_bytes(&[0xaa, 0xaa, 3, 0, 0, 0, 0x05, 0xff]).unwrap();
        assert_eq!(length.carried_ethertype(), None);
    }
}
