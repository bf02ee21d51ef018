//! OpenFlow 1.0 (specification 1.0.0): the structures as they lie on the wire, big-endian, without alignment.

mod action;
mod flow;
mod message;

pub use action::*;
pub use flow::*;
pub use message::*;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

/// `OFP_VERSION`.
pub const VERSION: u8 = 1;
/// Length of [`Header`] in bytes.
pub const HEADER_LEN: usize = 8;
/// `NX_VENDOR_ID`: the Nicira extensions, as Open vSwitch speaks them.
pub const VENDOR_NICIRA: u32 = 0x2320;
/// `buffer_id` of "no buffer".
pub const NO_BUFFER: u32 = 0xffff_ffff;

/// `ofp_header` (section 5.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Protocol version, 1.
    pub version: u8,
    /// One of the [`msg`] constants.
    pub kind: u8,
    /// Length of the message in bytes, this header included.
    pub length: U16,
    /// Transaction id; a reply carries its request's.
    pub xid: U32,
}
const _: () = assert!(size_of::<Header>() == HEADER_LEN);

/// `ofp_type`.
pub mod msg {
    #![allow(missing_docs, reason = "the specification's own names (section 5.1)")]
    pub const HELLO: u8 = 0;
    pub const ERROR: u8 = 1;
    pub const ECHO_REQUEST: u8 = 2;
    pub const ECHO_REPLY: u8 = 3;
    pub const VENDOR: u8 = 4;
    pub const FEATURES_REQUEST: u8 = 5;
    pub const FEATURES_REPLY: u8 = 6;
    pub const GET_CONFIG_REQUEST: u8 = 7;
    pub const GET_CONFIG_REPLY: u8 = 8;
    pub const SET_CONFIG: u8 = 9;
    pub const PACKET_IN: u8 = 10;
    pub const FLOW_REMOVED: u8 = 11;
    pub const PORT_STATUS: u8 = 12;
    pub const PACKET_OUT: u8 = 13;
    pub const FLOW_MOD: u8 = 14;
    pub const PORT_MOD: u8 = 15;
    pub const STATS_REQUEST: u8 = 16;
    pub const STATS_REPLY: u8 = 17;
    pub const BARRIER_REQUEST: u8 = 18;
    pub const BARRIER_REPLY: u8 = 19;
}
