//! `struct virtio_net_hdr` (virtio 1.2 section 5.1.6) to and from a frame's offload metadata.
//!
//! Linux puts it, in native byte order, in front of every frame of a tap with `IFF_VNET_HDR` and of a packet
//! socket with `PACKET_VNET_HDR`.

use crate::sys::VNET_HEADER_LEN;
use cvsw_core::{Checksum, Gso, GsoKind, Offload};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The header.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VnetHeader {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

const _: () = assert!(size_of::<VnetHeader>() == VNET_HEADER_LEN);

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// A kind of super-segment that [`GsoKind`] does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownGso;

impl VnetHeader {
    /// The header in `bytes`.
    pub fn from_array(bytes: [u8; VNET_HEADER_LEN]) -> Self {
        zerocopy::transmute!(bytes)
    }

    /// Metadata of a received frame.
    pub fn offload(&self) -> Result<Offload, UnknownGso> {
        let checksum = if self.flags & NEEDS_CSUM != 0 {
            Checksum::Partial { start: self.csum_start, offset: self.csum_offset }
        } else if self.flags & DATA_VALID != 0 {
            Checksum::Verified
        } else {
            Checksum::Complete
        };
        let kind = match self.gso_type & !GSO_ECN {
            GSO_NONE => return Ok(Offload { checksum, gso: Gso::default() }),
            GSO_TCPV4 => GsoKind::TcpV4,
            GSO_TCPV6 => GsoKind::TcpV6,
            GSO_UDP_L4 => GsoKind::Udp,
            _ => return Err(UnknownGso),
        };
        let ecn = self.gso_type & GSO_ECN != 0;
        Ok(Offload { checksum, gso: Gso { kind, size: self.gso_size, header_len: self.hdr_len, ecn } })
    }
}

impl From<&Offload> for VnetHeader {
    fn from(offload: &Offload) -> Self {
        let mut header = Self::default();
        match offload.checksum {
            Checksum::Complete => {}
            Checksum::Verified => header.flags = DATA_VALID,
            Checksum::Partial { start, offset } => {
                (header.flags, header.csum_start, header.csum_offset) = (NEEDS_CSUM, start, offset);
            }
        }
        let gso = &offload.gso;
        header.gso_type = match gso.kind {
            GsoKind::None => return header,
            GsoKind::TcpV4 => GSO_TCPV4,
            GsoKind::TcpV6 => GSO_TCPV6,
            GsoKind::Udp => GSO_UDP_L4,
        };
        header.gso_type |= if gso.ecn { GSO_ECN } else { 0 };
        (header.hdr_len, header.gso_size) = (gso.header_len, gso.size);
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let checksums = [Checksum::Complete, Checksum::Verified, Checksum::Partial { start: 34, offset: 16 }];
        let kinds = [GsoKind::None, GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp];
        for (checksum, kind) in checksums.into_iter().flat_map(|c| kinds.map(|k| (c, k))) {
            let gso = match kind {
                GsoKind::None => Gso::default(),
                kind => Gso { kind, size: 1400, header_len: 54, ecn: kind == GsoKind::TcpV4 },
            };
            let offload = Offload { checksum, gso };
            assert_eq!(VnetHeader::from(&offload).offload(), Ok(offload));
        }
    }

    #[test]
    fn layout_is_that_of_the_kernel() {
        let offload = Offload {
            checksum: Checksum::Partial { start: 34, offset: 6 },
            gso: Gso { kind: GsoKind::Udp, size: 1000, header_len: 42, ecn: false },
        };
        let mut expected = vec![1, 5];
        for field in [42u16, 1000, 34, 6] {
            expected.extend(field.to_ne_bytes());
        }
        assert_eq!(VnetHeader::from(&offload).as_bytes(), expected);
    }

    #[test]
    fn udp_fragmentation_offload_is_unknown() {
        let mut bytes = [0; VNET_HEADER_LEN];
        bytes[1] = 3;
        assert_eq!(VnetHeader::from_array(bytes).offload(), Err(UnknownGso));
    }
}
