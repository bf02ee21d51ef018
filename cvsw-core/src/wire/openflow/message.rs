//! Messages other than those about flows (sections 5.3 and 5.4).

use super::Header;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32, U64},
};

/// `ofp_phy_port`, 48 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PhyPort {
    /// Port number.
    pub port_no: U16,
    /// Ethernet address of the port.
    pub hw_addr: [u8; 6],
    /// Name, filled up with NUL.
    pub name: [u8; 16],
    /// `OFPPC_*`.
    pub config: U32,
    /// `OFPPS_*`.
    pub state: U32,
    /// Current features (`OFPPF_*`).
    pub curr: U32,
    /// Advertised features.
    pub advertised: U32,
    /// Supported features.
    pub supported: U32,
    /// The peer's features.
    pub peer: U32,
}
const _: () = assert!(size_of::<PhyPort>() == 48);

/// `ofp_switch_features`, 32 bytes; ports follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SwitchFeatures {
    /// Type `FEATURES_REPLY`.
    pub header: Header,
    /// The switch's id.
    pub datapath_id: U64,
    /// Packets that it can buffer.
    pub n_buffers: U32,
    /// Tables.
    pub n_tables: u8,
    /// Padding.
    pub pad: [u8; 3],
    /// `OFPC_*`.
    pub capabilities: U32,
    /// Bitmap of supported action types.
    pub actions: U32,
}
const _: () = assert!(size_of::<SwitchFeatures>() == 32);

/// `ofp_switch_config`, 12 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SwitchConfig {
    /// Type `SET_CONFIG` or `GET_CONFIG_REPLY`.
    pub header: Header,
    /// Fragment handling (`OFPC_FRAG_*`).
    pub flags: U16,
    /// Bytes of a missed packet that go to the controller.
    pub miss_send_len: U16,
}
const _: () = assert!(size_of::<SwitchConfig>() == 12);

/// `ofp_packet_in` without its last two padding bytes, 18 bytes; the frame follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpPacketIn {
    /// Type `PACKET_IN`.
    pub header: Header,
    /// Buffer that holds the packet; 0xffffffff: none.
    pub buffer_id: U32,
    /// Length of the whole frame.
    pub total_len: U16,
    /// Port that it came in by.
    pub in_port: U16,
    /// `ofp_packet_in_reason`: 0 no match, 1 action.
    pub reason: u8,
    /// Padding.
    pub pad: u8,
}
const _: () = assert!(size_of::<OfpPacketIn>() == 18);

/// `ofp_packet_out`, 16 bytes; actions and the frame follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpPacketOut {
    /// Type `PACKET_OUT`.
    pub header: Header,
    /// Buffer that holds the packet; 0xffffffff: it follows the actions.
    pub buffer_id: U32,
    /// Port that it is to be treated as coming from.
    pub in_port: U16,
    /// Length of the actions in bytes.
    pub actions_len: U16,
}
const _: () = assert!(size_of::<OfpPacketOut>() == 16);

/// `ofp_port_status`, 64 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpPortStatus {
    /// Type `PORT_STATUS`.
    pub header: Header,
    /// `ofp_port_reason`.
    pub reason: u8,
    /// Padding.
    pub pad: [u8; 7],
    /// The port.
    pub desc: PhyPort,
}
const _: () = assert!(size_of::<OfpPortStatus>() == 64);

/// `ofp_error_msg`, 12 bytes; data follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpErrorMsg {
    /// Type `ERROR`.
    pub header: Header,
    /// `ofp_error_type`.
    pub kind: U16,
    /// Code, whose meaning depends on the type.
    pub code: U16,
}
const _: () = assert!(size_of::<OfpErrorMsg>() == 12);

/// `ofp_vendor_header`, 12 bytes; the vendor's data follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpVendor {
    /// Type `VENDOR`.
    pub header: Header,
    /// Vendor id.
    pub vendor: U32,
}
const _: () = assert!(size_of::<OfpVendor>() == 12);

/// `ofp_stats_request` and `ofp_stats_reply`, 12 bytes; a body follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpStats {
    /// Type `STATS_REQUEST` or `STATS_REPLY`.
    pub header: Header,
    /// One of the [`stats_type`] constants.
    pub kind: U16,
    /// In a reply, bit 0: more replies follow.
    pub flags: U16,
}
const _: () = assert!(size_of::<OfpStats>() == 12);

/// `ofp_stats_types`.
pub mod stats_type {
    /// `OFPST_DESC`.
    pub const DESC: u16 = 0;
    /// `OFPST_FLOW`.
    pub const FLOW: u16 = 1;
    /// `OFPST_PORT`.
    pub const PORT: u16 = 4;
}

/// `ofp_port_stats_request`, 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpPortStatsRequest {
    /// The port; `OFPP_NONE`: all of them.
    pub port_no: U16,
    /// Zero.
    pub pad: [u8; 6],
}
const _: () = assert!(size_of::<OfpPortStatsRequest>() == 8);

/// `ofp_port_stats`, 104 bytes. A counter that the switch does not keep is all ones.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpPortStats {
    /// The port.
    pub port_no: U16,
    /// Zero.
    pub pad: [u8; 6],
    /// Packets that the switch has received.
    pub rx_packets: U64,
    /// Packets that it has sent.
    pub tx_packets: U64,
    /// Bytes received.
    pub rx_bytes: U64,
    /// Bytes sent.
    pub tx_bytes: U64,
    /// Packets dropped on receiving.
    pub rx_dropped: U64,
    /// Packets dropped on sending.
    pub tx_dropped: U64,
    /// Receive errors.
    pub rx_errors: U64,
    /// Send errors.
    pub tx_errors: U64,
    /// Frame alignment errors.
    pub rx_frame_err: U64,
    /// Overruns.
    pub rx_over_err: U64,
    /// CRC errors.
    pub rx_crc_err: U64,
    /// Collisions.
    pub collisions: U64,
}
const _: () = assert!(size_of::<OfpPortStats>() == 104);

/// `ofp_desc_stats`, 1056 bytes: strings filled up with NUL.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpDescStats {
    /// Manufacturer.
    pub mfr: [u8; 256],
    /// Hardware.
    pub hw: [u8; 256],
    /// Software.
    pub sw: [u8; 256],
    /// Serial number.
    pub serial: [u8; 32],
    /// Human-readable description of the datapath.
    pub dp: [u8; 256],
}
const _: () = assert!(size_of::<OfpDescStats>() == 1056);
