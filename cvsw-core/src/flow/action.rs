//! Actions as data: what an entry does to a frame, before compilation.

use heapless::Vec;

/// Most actions in one entry. A longer list is refused with `OFPBAC_TOO_MANY`.
pub const MAX_ACTIONS: usize = 16;

/// A 48-bit Ethernet address.
pub type MacAddr = [u8; 6];
/// An IPv4 address, in network byte order.
pub type Ipv4Addr = [u8; 4];

/// The outer addresses and the id of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tunnel {
    /// Outer Ethernet destination.
    pub eth_dst: MacAddr,
    /// Outer Ethernet source.
    pub eth_src: MacAddr,
    /// Outer IPv4 destination.
    pub dst: Ipv4Addr,
    /// Outer IPv4 source.
    pub src: Ipv4Addr,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
}

/// One action. The order of a list is the order of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// `OFPAT_OUTPUT`. An engine accepts only `OFPP_NONE`, which means drop; the other ports exist for the
    /// flows that a controller gives to a virtual switch.
    Output {
        /// OpenFlow port number.
        port: u16,
        /// Bytes to send to the controller, for `OFPP_CONTROLLER`.
        max_len: u16,
    },
    /// `OFPAT_ENQUEUE`: never accepted by an engine.
    Enqueue {
        /// OpenFlow port number.
        port: u16,
        /// Queue on that port.
        queue: u32,
    },
    /// `OFPAT_SET_VLAN_VID`: sets the VLAN id (12 bits), pushing a tag on an untagged frame.
    SetVlanVid(u16),
    /// `OFPAT_SET_VLAN_PCP`: sets the priority (3 bits), pushing a tag with VLAN id 0 on an untagged frame.
    SetVlanPcp(u8),
    /// `OFPAT_STRIP_VLAN`: removes the outermost 802.1Q tag, if any.
    StripVlan,
    /// `OFPAT_SET_DL_SRC`.
    SetEthSrc(MacAddr),
    /// `OFPAT_SET_DL_DST`.
    SetEthDst(MacAddr),
    /// `OFPAT_SET_NW_SRC` (IPv4 only).
    SetNwSrc(Ipv4Addr),
    /// `OFPAT_SET_NW_DST` (IPv4 only).
    SetNwDst(Ipv4Addr),
    /// `OFPAT_SET_NW_TOS`: the DSCP bits of the ToS octet (mask 0xfc); the ECN bits stay.
    SetNwTos(u8),
    /// `OFPAT_SET_TP_SRC` (TCP and UDP, not in later fragments).
    SetTpSrc(u16),
    /// `OFPAT_SET_TP_DST` (TCP and UDP, not in later fragments).
    SetTpDst(u16),
    /// 0x1001 `SET_VXLAN`, the paper's TUNNEL_ENCAP.
    SetVxlan(Tunnel),
    /// 0x1002 `STRIP_VXLAN`, the paper's TUNNEL_DECAP; with a VNI, another VNI is a counted drop.
    StripVxlan(Option<u32>),
    /// 0x1101 `ENCRYPT`: seals the tunnel packet that an earlier `SetVxlan` made, in ESP (RFC 4303).
    Encrypt {
        /// Id of the sending security association. Without it the frame is dropped.
        sa: u32,
    },
    /// 0x1102 `DECRYPT`: opens an ESP packet with the security association that its SPI and destination name.
    Decrypt,
    /// `NXAST_RESUBMIT`: looks the frame (as it is now) up again, as if it came in from `in_port`
    /// ([`RESUBMIT_IN_PORT`]: the port that it arrived at). Must be the last action.
    Resubmit {
        /// The `in_port` of the second look-up.
        in_port: u16,
    },
}

/// `OFPP_IN_PORT`: in [`Action::Resubmit`], the port that the frame arrived at.
pub const RESUBMIT_IN_PORT: u16 = 0xfff8;
/// `OFPP_NONE`: in [`Action::Output`], "drop".
pub const OFPP_NONE: u16 = 0xffff;
/// `OFPP_CONTROLLER`.
pub const OFPP_CONTROLLER: u16 = 0xfffd;
/// `OFPP_NORMAL`.
pub const OFPP_NORMAL: u16 = 0xfffa;

/// An entry's actions, in order.
pub type ActionList = Vec<Action, MAX_ACTIONS>;
