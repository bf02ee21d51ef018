//! The control frame, protocol version 2 (bytes in `docs/` and in the table of [`ControlMessage`]).

use crate::{
    flow::MacAddr,
    frame::NoRoom,
    stats::ControlError,
    wire::control::{CONTROL_HEADER_LEN, ControlHeader, types},
};
use zerocopy::{FromBytes, IntoBytes, network_endian::U16};

/// Default EtherType of control frames.
pub const ETHERTYPE: u16 = 0xabba;
/// Length of the control header in bytes.
pub const HEADER_LEN: usize = CONTROL_HEADER_LEN;
/// Longest control frame that a vNIC sends: one that lists an entry in version 3. What must fit is headers, envelope, head of
/// the page, counters, flow mod (with every NXM field and its mask below 256 bytes), actions, and tag.
pub const MAX_FRAME_LEN: usize = 1400;
const _: () = assert!(14 + 24 + 16 + 24 + 256 + crate::flow::MAX_ACTIONS * 64 + 16 <= MAX_FRAME_LEN);
/// Protocol version 2.
pub const VERSION_2: u8 = 2;

/// Type of a control message (low nibble of the octet at offset 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum MessageType {
    /// "I speak this protocol", either way.
    Hello = types::HELLO,
    /// vNIC to controller: the MAC address is in DST.
    Register = types::REGISTER,
    /// Controller to vNIC: an OFPT_FLOW_MOD that adds or modifies.
    SetEntry = types::SET_ENTRY,
    /// Controller to vNIC: an OFPT_FLOW_MOD with DELETE or DELETE_STRICT.
    DeleteEntry = types::DELETE_ENTRY,
    /// Controller to vNIC: `data` is the IP MTU.
    SetMtu = types::SET_MTU,
    /// Controller to vNIC: `data` holds [`OffloadFlags`].
    SetOffload = types::SET_OFFLOAD,
    /// Request (empty body) from the controller; answered by one message per entry and a closing empty one.
    ListEntries = types::LIST_ENTRIES,
    /// vNIC to controller: an OFPT_FLOW_REMOVED (or NXT_FLOW_REMOVED), for an entry with SEND_FLOW_REM.
    FlowRemoved = types::FLOW_REMOVED,
    /// Controller to vNIC, ours: a [`super::SetSa`].
    SetSa = types::SET_SA,
    /// vNIC to controller, ours: a [`super::SaAnswer`]. Even, as REGISTER: seen as a source MAC address, the first
    /// octet of the header then has no group bit.
    SaAnswer = 10,
}

impl MessageType {
    /// Every type.
    const ALL: [Self; 10] = [
        Self::Hello,
        Self::Register,
        Self::SetEntry,
        Self::DeleteEntry,
        Self::SetMtu,
        Self::SetOffload,
        Self::ListEntries,
        Self::FlowRemoved,
        Self::SetSa,
        Self::SaAnswer,
    ];

    fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Offload features of SET_OFFLOAD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OffloadFlags(pub u16);

impl OffloadFlags {
    /// Features that need [`OffloadFlags::CSUM`]: the headers of every segment change, and with them the checksum.
    pub const NEED_CSUM: u16 = Self::TSO | Self::UFO;
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
    /// The body: an OFPT_FLOW_MOD, what belongs to SET_SA and its answer, or empty.
    pub body: &'a [u8],
}

impl<'a> ControlMessage<'a> {
    /// Parses a frame whose EtherType position already holds the control EtherType.
    /// Padding behind the body is ignored.
    ///
    /// # Errors
    /// `Short` below 14 bytes, `Version` for any version but 2, `Type` for an unknown type, `Length` if the pad
    /// octet is not zero or the body exceeds the frame. Whether a body or `data` belongs to the type is for the
    /// session to say.
    pub fn parse(frame: &'a [u8]) -> Result<Self, ControlError> {
        let (header, rest) = ControlHeader::ref_from_prefix(frame).map_err(|_| ControlError::Short)?;
        let version = header.version_type >> 4;
        if version != VERSION_2 {
            return Err(ControlError::Version);
        }
        let kind = MessageType::from_wire(header.version_type & 0x0f).ok_or(ControlError::Type)?;
        if header.pad != 0 {
            return Err(ControlError::Length);
        }
        let body = rest.get(..usize::from(header.len.get())).ok_or(ControlError::Length)?;
        Ok(Self { dst: header.dst, version, kind, data: header.data.get(), body })
    }

    /// Writes the frame (no padding); returns its length.
    ///
    /// # Errors
    /// `NoRoom` if `out` is too small, or the body longer than 65,535 bytes.
    pub fn emit(&self, ethertype: u16, out: &mut [u8]) -> Result<usize, NoRoom> {
        let (header, rest) = out.split_at_mut_checked(HEADER_LEN).ok_or(NoRoom)?;
        rest.get_mut(..self.body.len()).ok_or(NoRoom)?.copy_from_slice(self.body);
        let header_len = self.emit_header(ethertype, header)?;
        Ok(header_len.saturating_add(self.body.len()))
    }

    /// Writes the 14-byte header for a body that already stands (or will stand) behind it.
    ///
    /// # Errors
    /// As [`ControlMessage::emit`].
    pub fn emit_header(&self, ethertype: u16, header: &mut [u8]) -> Result<usize, NoRoom> {
        let fields = ControlHeader {
            dst: self.dst,
            version_type: (self.version << 4) | self.kind as u8,
            pad: 0,
            len: U16::new(u16::try_from(self.body.len()).map_err(|_| NoRoom)?),
            data: U16::new(self.data),
            ethertype: U16::new(ethertype),
        };
        fields.write_to_prefix(header).map_err(|_| NoRoom)?;
        Ok(HEADER_LEN)
    }
}
