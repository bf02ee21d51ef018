//! The control frame, protocol version 2 (bytes in `docs/` and in the table of [`ControlMessage`]).

use crate::{flow::MacAddr, frame::NoRoom, stats::ControlError};

/// Default EtherType of control frames.
pub const ETHERTYPE: u16 = 0xabba;
/// Length of the control header in bytes.
pub const HEADER_LEN: usize = 14;
/// Longest control frame that a version-2 vNIC sends or accepts: header, 72-byte flow mod, and the actions.
pub const MAX_FRAME_LEN: usize = 14 + 72 + crate::flow::MAX_ACTIONS * 64;
/// Protocol version 2.
pub const VERSION_2: u8 = 2;

/// Type of a control message (low nibble of the octet at offset 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum MessageType {
    /// "I speak this protocol", either way.
    Hello = 1,
    /// vNIC to controller: the MAC address is in DST.
    Register = 2,
    /// Controller to vNIC: an OFPT_FLOW_MOD that adds or modifies.
    SetEntry = 3,
    /// Controller to vNIC: an OFPT_FLOW_MOD with DELETE or DELETE_STRICT.
    DeleteEntry = 4,
    /// Controller to vNIC: `data` is the IP MTU.
    SetMtu = 5,
    /// Controller to vNIC: `data` holds [`OffloadFlags`].
    SetOffload = 6,
    /// Request (empty body) from the controller; answered by one message per entry and a closing empty one.
    ListEntries = 7,
}

/// Offload features of SET_OFFLOAD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OffloadFlags(pub u16);

impl OffloadFlags {
    /// Transmit and receive checksum offload.
    pub const CSUM: u16 = 1 << 0;
    /// TCP segmentation offload.
    pub const TSO: u16 = 1 << 1;
    /// UDP fragmentation (segmentation) offload.
    pub const UFO: u16 = 1 << 2;
    /// Generic segmentation offload.
    pub const GSO: u16 = 1 << 3;
    /// Generic receive offload.
    pub const GRO: u16 = 1 << 4;
    /// All bits that have a meaning.
    pub const ALL: u16 = 0x1f;
    /// `(bit, lower-case name)` of every feature.
    pub const NAMES: [(u16, &'static str); 5] =
        [(Self::CSUM, "csum"), (Self::TSO, "tso"), (Self::UFO, "ufo"), (Self::GSO, "gso"), (Self::GRO, "gro")];

    /// Whether `bit` is on.
    pub const fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }
}

/// A control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlMessage<'a> {
    /// DST: the vNIC's MAC or broadcast; in REGISTER the sender's own MAC.
    pub dst: MacAddr,
    /// Protocol version (high nibble at offset 6).
    pub version: u8,
    /// Message type.
    pub kind: MessageType,
    /// MTU or feature bits, else 0.
    pub data: u16,
    /// The body: an OFPT_FLOW_MOD, or empty.
    pub body: &'a [u8],
}

impl<'a> ControlMessage<'a> {
    /// Parses a frame whose EtherType position already holds the control EtherType.
    /// Padding behind the body is ignored.
    pub fn parse(_frame: &'a [u8]) -> Result<Self, ControlError> {
        unimplemented!()
    }

    /// Writes the frame (no padding); returns its length.
    pub fn emit(&self, _ethertype: u16, _out: &mut [u8]) -> Result<usize, NoRoom> {
        unimplemented!()
    }

    /// Writes the 14-byte header for a body that already stands (or will stand) behind it.
    pub fn emit_header(&self, _ethertype: u16, _header: &mut [u8]) -> Result<usize, NoRoom> {
        unimplemented!()
    }
}
