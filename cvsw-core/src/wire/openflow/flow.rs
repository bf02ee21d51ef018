//! Matches, flow changes and flow reports (sections 5.2.3, 5.3.3, 5.3.5, 5.4.3).

use super::Header;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32, U64},
};

/// `ofp_match`, 40 bytes (section 5.2.3).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpMatch {
    /// [`wildcard`] bits.
    pub wildcards: U32,
    /// Ingress port.
    pub in_port: U16,
    /// Ethernet source.
    pub dl_src: [u8; 6],
    /// Ethernet destination.
    pub dl_dst: [u8; 6],
    /// VLAN id; 0xffff ([`VLAN_NONE`]) for untagged frames.
    pub dl_vlan: U16,
    /// VLAN priority.
    pub dl_vlan_pcp: u8,
    /// Padding.
    pub pad1: u8,
    /// EtherType; 0x05ff for 802.3 frames without one.
    pub dl_type: U16,
    /// ToS octet (upper six bits).
    pub nw_tos: u8,
    /// IP protocol, or the low octet of the ARP opcode.
    pub nw_proto: u8,
    /// Padding.
    pub pad2: [u8; 2],
    /// IPv4 source.
    pub nw_src: U32,
    /// IPv4 destination.
    pub nw_dst: U32,
    /// Transport source port, or ICMP type.
    pub tp_src: U16,
    /// Transport destination port, or ICMP code.
    pub tp_dst: U16,
}
const _: () = assert!(size_of::<OfpMatch>() == 40);

/// `dl_vlan` of frames without a tag (`OFP_VLAN_NONE`).
pub const VLAN_NONE: u16 = 0xffff;

/// `ofp_flow_wildcards`.
pub mod wildcard {
    #![allow(missing_docs, reason = "the specification's own names (section 5.2.3)")]
    pub const IN_PORT: u32 = 1 << 0;
    pub const DL_VLAN: u32 = 1 << 1;
    pub const DL_SRC: u32 = 1 << 2;
    pub const DL_DST: u32 = 1 << 3;
    pub const DL_TYPE: u32 = 1 << 4;
    pub const NW_PROTO: u32 = 1 << 5;
    pub const TP_SRC: u32 = 1 << 6;
    pub const TP_DST: u32 = 1 << 7;
    /// Number of low bits of `nw_src` that do not count, six bits wide; 32 and more: none counts.
    pub const NW_SRC_SHIFT: u32 = 8;
    /// As [`NW_SRC_SHIFT`], for `nw_dst`.
    pub const NW_DST_SHIFT: u32 = 14;
    pub const DL_VLAN_PCP: u32 = 1 << 20;
    pub const NW_TOS: u32 = 1 << 21;
    /// All bits that have a meaning.
    pub const ALL: u32 = (1 << 22) - 1;
}

/// `ofp_flow_mod`, 72 bytes; actions follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpFlowMod {
    /// Type `FLOW_MOD`.
    pub header: Header,
    /// Which frames.
    pub matching: OfpMatch,
    /// Opaque number of the controller.
    pub cookie: U64,
    /// `ofp_flow_mod_command`.
    pub command: U16,
    /// Seconds; 0: never.
    pub idle_timeout: U16,
    /// Seconds; 0: never.
    pub hard_timeout: U16,
    /// Higher wins.
    pub priority: U16,
    /// Buffered packet to apply to; 0xffffffff: none.
    pub buffer_id: U32,
    /// Filter of DELETE commands; `OFPP_NONE`: no filter.
    pub out_port: U16,
    /// `OFPFF_*`.
    pub flags: U16,
}
const _: () = assert!(size_of::<OfpFlowMod>() == 72);

/// `ofp_flow_removed`, 88 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpFlowRemoved {
    /// Type `FLOW_REMOVED`.
    pub header: Header,
    /// Which frames.
    pub matching: OfpMatch,
    /// Opaque number of the controller.
    pub cookie: U64,
    /// The entry's priority.
    pub priority: U16,
    /// `ofp_flow_removed_reason`: 0 idle timeout, 1 hard timeout, 2 deleted.
    pub reason: u8,
    /// Padding.
    pub pad: u8,
    /// Seconds that the entry lived.
    pub duration_sec: U32,
    /// Nanoseconds beyond `duration_sec`.
    pub duration_nsec: U32,
    /// The entry's idle timeout.
    pub idle_timeout: U16,
    /// Padding.
    pub pad2: [u8; 2],
    /// Packets that it was applied to.
    pub packet_count: U64,
    /// Bytes of those packets.
    pub byte_count: U64,
}
const _: () = assert!(size_of::<OfpFlowRemoved>() == 88);

/// `ofp_flow_stats_request`, 44 bytes; the body of a stats request of type FLOW.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpFlowStatsRequest {
    /// Entries that this match contains.
    pub matching: OfpMatch,
    /// Table; 0xff: all.
    pub table_id: u8,
    /// Padding.
    pub pad: u8,
    /// Entries that output to this port; `OFPP_NONE`: no filter.
    pub out_port: U16,
}
const _: () = assert!(size_of::<OfpFlowStatsRequest>() == 44);

/// `ofp_flow_stats`, 88 bytes; actions follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OfpFlowStats {
    /// Length of this entry in bytes, actions included.
    pub length: U16,
    /// Table of the entry.
    pub table_id: u8,
    /// Padding.
    pub pad: u8,
    /// Which frames.
    pub matching: OfpMatch,
    /// Seconds that the entry has lived.
    pub duration_sec: U32,
    /// Nanoseconds beyond `duration_sec`.
    pub duration_nsec: U32,
    /// The entry's priority.
    pub priority: U16,
    /// The entry's idle timeout.
    pub idle_timeout: U16,
    /// The entry's hard timeout.
    pub hard_timeout: U16,
    /// Padding.
    pub pad2: [u8; 6],
    /// Opaque number of the controller.
    pub cookie: U64,
    /// Packets that it was applied to.
    pub packet_count: U64,
    /// Bytes of those packets.
    pub byte_count: U64,
}
const _: () = assert!(size_of::<OfpFlowStats>() == 88);

/// Subtype of a Nicira message: a flow change with an extensible match.
pub const NXT_FLOW_MOD: u32 = 13;

/// `nx_flow_mod`, 48 bytes; the match follows, padded to a multiple of 8 bytes, then the actions.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct NxFlowMod {
    /// Type `VENDOR`.
    pub header: Header,
    /// Vendor id: Nicira.
    pub vendor: U32,
    /// [`NXT_FLOW_MOD`].
    pub subtype: U32,
    /// Opaque number of the controller.
    pub cookie: U64,
    /// `ofp_flow_mod_command`.
    pub command: U16,
    /// Seconds; 0: never.
    pub idle_timeout: U16,
    /// Seconds; 0: never.
    pub hard_timeout: U16,
    /// Higher wins.
    pub priority: U16,
    /// Buffered packet to apply to; 0xffffffff: none.
    pub buffer_id: U32,
    /// Filter of DELETE commands; `OFPP_NONE`: no filter.
    pub out_port: U16,
    /// `OFPFF_*`.
    pub flags: U16,
    /// Length of the match in bytes, its padding not included.
    pub match_len: U16,
    /// Padding.
    pub pad: [u8; 6],
}
const _: () = assert!(size_of::<NxFlowMod>() == 48);

/// Subtype of a Nicira message: an entry's end, with an extensible match.
pub const NXT_FLOW_REMOVED: u32 = 14;

/// `nx_flow_removed`, 56 bytes; the match follows, padded to a multiple of 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct NxFlowRemoved {
    /// Type `VENDOR`.
    pub header: Header,
    /// Vendor id: Nicira.
    pub vendor: U32,
    /// [`NXT_FLOW_REMOVED`].
    pub subtype: U32,
    /// Opaque number of the controller.
    pub cookie: U64,
    /// The entry's priority.
    pub priority: U16,
    /// `ofp_flow_removed_reason`.
    pub reason: u8,
    /// Table plus 1; 0: not said.
    pub table_id: u8,
    /// Seconds that the entry lived.
    pub duration_sec: U32,
    /// Nanoseconds beyond `duration_sec`.
    pub duration_nsec: U32,
    /// The entry's idle timeout.
    pub idle_timeout: U16,
    /// Length of the match in bytes, its padding not included.
    pub match_len: U16,
    /// Packets that it was applied to.
    pub packet_count: U64,
    /// Bytes of those packets.
    pub byte_count: U64,
}
const _: () = assert!(size_of::<NxFlowRemoved>() == 56);
