//! The 14-byte header of a CVSW control frame, at the place of the Ethernet header (`docs/src/protocol-v2.md`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

/// Header of a control frame; all numbers big-endian.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ControlHeader {
    /// Destination address; in REGISTER the sender's own.
    pub dst: [u8; 6],
    /// Version in the high nibble, message type in the low one.
    pub version_type: u8,
    /// Zero.
    pub pad: u8,
    /// Length of the body in bytes, without this header and without Ethernet padding.
    pub len: U16,
    /// MTU or offload bits, else zero.
    pub data: U16,
    /// EtherType of control frames.
    pub ethertype: U16,
}

/// Length of [`ControlHeader`] in bytes.
pub const CONTROL_HEADER_LEN: usize = 14;
const _: () = assert!(size_of::<ControlHeader>() == CONTROL_HEADER_LEN);
