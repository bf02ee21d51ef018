//! Actions (section 5.2.4), the Nicira vendor action, and the extension actions of the CVSW protocol.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

/// Types of actions.
pub mod action_type {
    #![allow(missing_docs, reason = "the specification's own names (section 5.2.4)")]
    pub const OUTPUT: u16 = 0;
    pub const SET_VLAN_VID: u16 = 1;
    pub const SET_VLAN_PCP: u16 = 2;
    pub const STRIP_VLAN: u16 = 3;
    pub const SET_DL_SRC: u16 = 4;
    pub const SET_DL_DST: u16 = 5;
    pub const SET_NW_SRC: u16 = 6;
    pub const SET_NW_DST: u16 = 7;
    pub const SET_NW_TOS: u16 = 8;
    pub const SET_TP_SRC: u16 = 9;
    pub const SET_TP_DST: u16 = 10;
    pub const ENQUEUE: u16 = 11;
    pub const VENDOR: u16 = 0xffff;
    /// CVSW extension: encapsulate in VXLAN.
    pub const SET_VXLAN: u16 = 0x1001;
    /// CVSW extension: decapsulate VXLAN.
    pub const STRIP_VXLAN: u16 = 0x1002;
    /// CVSW extension: seal in ESP; the argument is the id of the security association.
    pub const ENCRYPT: u16 = 0x1101;
    /// CVSW extension: open ESP.
    pub const DECRYPT: u16 = 0x1102;
}

/// Subtype of `NXAST_RESUBMIT`.
pub const NXAST_RESUBMIT: u16 = 1;
/// Subtype of `NXAST_RESUBMIT_TABLE`.
pub const NXAST_RESUBMIT_TABLE: u16 = 14;

/// `ofp_action_header`: the first four bytes of every action.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ActionHeader {
    /// One of the [`action_type`] constants.
    pub kind: U16,
    /// Length of the action in bytes, this header included; a multiple of 8.
    pub len: U16,
}
const _: () = assert!(size_of::<ActionHeader>() == 4);

/// Every 8-byte action: the header and four bytes whose meaning the type decides. A 16-bit argument lies in
/// the first two bytes, an 8-bit one in the first; OUTPUT has a port and a length; SET_NW_* an address.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ShortAction {
    /// Type and length 8.
    pub header: ActionHeader,
    /// The argument.
    pub argument: [u8; 4],
}
const _: () = assert!(size_of::<ShortAction>() == 8);

/// `ofp_action_dl_addr`: SET_DL_SRC and SET_DL_DST.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DlAddrAction {
    /// Type and length 16.
    pub header: ActionHeader,
    /// Ethernet address.
    pub addr: [u8; 6],
    /// Padding.
    pub pad: [u8; 6],
}
const _: () = assert!(size_of::<DlAddrAction>() == 16);

/// `ofp_action_enqueue`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EnqueueAction {
    /// Type and length 16.
    pub header: ActionHeader,
    /// Port that the queue belongs to.
    pub port: U16,
    /// Padding.
    pub pad: [u8; 6],
    /// Queue on that port.
    pub queue: U32,
}
const _: () = assert!(size_of::<EnqueueAction>() == 16);

/// `ofp_action_vendor_header`: the first eight bytes of a vendor action.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct VendorAction {
    /// Type `VENDOR`.
    pub header: ActionHeader,
    /// Vendor id.
    pub vendor: U32,
}
const _: () = assert!(size_of::<VendorAction>() == 8);

/// `nx_action_resubmit`: Nicira's NXAST_RESUBMIT and NXAST_RESUBMIT_TABLE.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ResubmitAction {
    /// Type `VENDOR`, length 16, vendor Nicira.
    pub vendor: VendorAction,
    /// [`NXAST_RESUBMIT`] or [`NXAST_RESUBMIT_TABLE`].
    pub subtype: U16,
    /// `in_port` of the second look-up.
    pub in_port: U16,
    /// In NXAST_RESUBMIT_TABLE the table; 255: the current one.
    pub table: u8,
    /// Padding.
    pub pad: [u8; 3],
}
const _: () = assert!(size_of::<ResubmitAction>() == 16);

/// Tunnel action of the CVSW protocol.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TunnelAction {
    /// Type and length 64.
    pub header: ActionHeader,
    /// Outer Ethernet destination.
    pub eth_dst: [u8; 6],
    /// Outer Ethernet source.
    pub eth_src: [u8; 6],
    /// Outer IPv4 destination.
    pub dst: [u8; 4],
    /// Rest of a 16-byte address field; zero for IPv4.
    pub dst_rest: [u8; 12],
    /// Outer IPv4 source.
    pub src: [u8; 4],
    /// Rest of a 16-byte address field; zero for IPv4.
    pub src_rest: [u8; 12],
    /// Upper half of the tunnel id; padding for VXLAN.
    pub id_high: [u8; 4],
    /// Tunnel id; the VNI for VXLAN.
    pub id: U32,
    /// Padding.
    pub pad: [u8; 8],
}
const _: () = assert!(size_of::<TunnelAction>() == 64);
