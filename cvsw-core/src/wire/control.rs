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

/// Message types that versions 2 and 3 share.
pub mod types {
    /// HELLO.
    pub const HELLO: u8 = 1;
    /// REGISTER.
    pub const REGISTER: u8 = 2;
    /// SET_ENTRY.
    pub const SET_ENTRY: u8 = 3;
    /// DELETE_ENTRY.
    pub const DELETE_ENTRY: u8 = 4;
    /// SET_MTU.
    pub const SET_MTU: u8 = 5;
    /// SET_OFFLOAD.
    pub const SET_OFFLOAD: u8 = 6;
    /// LIST_ENTRIES.
    pub const LIST_ENTRIES: u8 = 7;
    /// FLOW_REMOVED.
    pub const FLOW_REMOVED: u8 = 8;
    /// SET_SA.
    pub const SET_SA: u8 = 9;
}
