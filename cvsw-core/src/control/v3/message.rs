//! The frame of version 3: the 14-byte header, an envelope, a payload, and a tag if there is a key.

use super::keys::{ControlKeys, NotAuthentic};
use crate::{
    flow::MacAddr,
    frame::NoRoom,
    stats::ControlError,
    wire::{
        control::{CONTROL_HEADER_LEN, ControlHeader, types},
        control3::{ENVELOPE_LEN, Envelope, FLAG_AUTHENTICATED, FLAG_CHAINED, TAG_LEN},
    },
};
use zerocopy::{
    FromBytes, IntoBytes,
    network_endian::{U16, U64},
};

/// Protocol version 3.
pub const VERSION_3: u8 = 3;

/// Type of a message of version 3. Those from a vNIC have even numbers: seen as a source MAC address, the first octet of
/// the header then has no group bit. No type goes both ways, so a message that is sent back to its sender means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Kind {
    /// Controller to vNIC: who is there? The payload is a challenge.
    Hello = types::HELLO,
    /// vNIC to controller: a [`super::State`], with the challenge.
    Register = types::REGISTER,
    /// Command: an OFPT_FLOW_MOD (or NXT_FLOW_MOD) that adds or modifies.
    SetEntry = types::SET_ENTRY,
    /// Command: one that deletes.
    DeleteEntry = types::DELETE_ENTRY,
    /// Command: `data` is the IP MTU.
    SetMtu = types::SET_MTU,
    /// Command: `data` holds the offload features.
    SetOffload = types::SET_OFFLOAD,
    /// Request for a page of entries.
    ListEntries = types::LIST_ENTRIES,
    /// vNIC to controller: an OFPT_FLOW_REMOVED (or NXT_FLOW_REMOVED).
    FlowRemoved = types::FLOW_REMOVED,
    /// Command: about a security association; keys in it are wrapped.
    SetSa = types::SET_SA,
    /// vNIC to controller: a command was carried out.
    Ack = 10,
    /// Request for statistics, or for the state.
    Get = 11,
    /// vNIC to controller: a command was refused and changed nothing.
    Error = 12,
    /// vNIC to controller: what a request asked for.
    Report = 14,
}

impl Kind {
    /// Every type.
    pub const ALL: [Self; 13] = [
        Self::Hello,
        Self::Register,
        Self::SetEntry,
        Self::DeleteEntry,
        Self::SetMtu,
        Self::SetOffload,
        Self::ListEntries,
        Self::FlowRemoved,
        Self::SetSa,
        Self::Ack,
        Self::Get,
        Self::Error,
        Self::Report,
    ];

    /// The type with this number.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether a controller receives it.
    pub const fn is_for_controller(self) -> bool {
        matches!(self, Self::Register | Self::FlowRemoved | Self::Ack | Self::Error | Self::Report)
    }

    /// Whether it changes a vNIC, in the order of its sequence number.
    pub const fn is_command(self) -> bool {
        matches!(self, Self::SetEntry | Self::DeleteEntry | Self::SetMtu | Self::SetOffload | Self::SetSa)
    }
}

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The vNIC's MAC address, in both directions; in HELLO it may be broadcast.
    pub mac: MacAddr,
    /// What it is.
    pub kind: Kind,
    /// Of a command: to be carried out only if the one before it was.
    pub chained: bool,
    /// MTU or feature bits, else 0.
    pub data: u16,
    /// The vNIC's instance.
    pub instance: u64,
    /// The controller's epoch.
    pub epoch: u64,
    /// Number of the command or request.
    pub sequence: u64,
}

/// A message whose form is right. Nothing in it may be believed before [`Message::authenticate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its header.
    pub header: Header,
    /// What is behind the envelope, without the tag.
    pub payload: &'a [u8],
    /// What the tag covers, and the tag.
    sealed: Option<(&'a [u8], &'a [u8; TAG_LEN])>,
}

impl<'a> Message<'a> {
    /// Parses a frame whose EtherType position already holds the control EtherType. Padding behind it is ignored.
    ///
    /// # Errors
    /// `Short` below 14 bytes, `Version`, `Type`; `Length` for unknown flags, or if the body exceeds the frame or does
    /// not hold envelope and tag; `Data` for the flag "chained" where it means nothing.
    pub fn parse(frame: &'a [u8]) -> Result<Self, ControlError> {
        let (header, rest) = ControlHeader::ref_from_prefix(frame).map_err(|_| ControlError::Short)?;
        if header.version_type >> 4 != VERSION_3 {
            return Err(ControlError::Version);
        }
        let kind = Kind::from_wire(header.version_type & 0x0f).ok_or(ControlError::Type)?;
        let flags = header.pad;
        if flags & !(FLAG_AUTHENTICATED | FLAG_CHAINED) != 0 {
            return Err(ControlError::Length);
        }
        let chained = flags & FLAG_CHAINED != 0;
        if chained && !kind.is_command() {
            return Err(ControlError::Data);
        }
        let len = usize::from(header.len.get());
        let body = rest.get(..len).ok_or(ControlError::Length)?;
        let (body, sealed) = if flags & FLAG_AUTHENTICATED == 0 {
            (body, None)
        } else {
            let (body, tag) = body.split_last_chunk().ok_or(ControlError::Length)?;
            let covered = frame.get(..CONTROL_HEADER_LEN.saturating_add(body.len())).ok_or(ControlError::Length)?;
            (body, Some((covered, tag)))
        };
        let (envelope, payload) = Envelope::ref_from_prefix(body).map_err(|_| ControlError::Length)?;
        let header = Header {
            mac: header.dst,
            kind,
            chained,
            data: header.data.get(),
            instance: envelope.instance.get(),
            epoch: envelope.epoch.get(),
            sequence: envelope.sequence.get(),
        };
        Ok(Self { header, payload, sealed })
    }

    /// Whether it has a tag.
    pub const fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Whether it may be believed by who has these keys: the tag must be right. Without keys there must be none, so
    /// that nobody believes to be protected who is not.
    ///
    /// # Errors
    /// `Unauthenticated` if the tag is missing (or nobody can check it), `Tag` if it is wrong.
    pub fn authenticate(&self, keys: &ControlKeys) -> Result<(), ControlError> {
        match self.sealed {
            Some((covered, tag)) if keys.is_set() => keys.verify(covered, tag).map_err(|_| ControlError::Tag),
            None if !keys.is_set() => Ok(()),
            _ => Err(ControlError::Unauthenticated),
        }
    }
}

impl Header {
    /// Writes a message, without padding, and returns its length. `payload` writes the payload to the front of the
    /// bytes that it gets and returns its length. There is a tag if there is a key and `self` is no HELLO.
    ///
    /// # Errors
    /// Those of `payload`, and `NoRoom`.
    pub fn emit<E: From<NoRoom>>(
        &self,
        ethertype: u16,
        keys: &ControlKeys,
        out: &mut [u8],
        payload: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let sealed = keys.is_set() && self.kind != Kind::Hello;
        let (head, rest) = out.split_at_mut_checked(CONTROL_HEADER_LEN).ok_or(NoRoom)?;
        let (envelope, rest) = rest.split_at_mut_checked(ENVELOPE_LEN).ok_or(NoRoom)?;
        let tag_len = if sealed { TAG_LEN } else { 0 };
        let room = rest.len().checked_sub(tag_len).ok_or(NoRoom)?;
        let payload_len = payload(rest.get_mut(..room).ok_or(NoRoom)?)?;
        let body_len = ENVELOPE_LEN.saturating_add(payload_len).saturating_add(tag_len);
        let flags = if sealed { FLAG_AUTHENTICATED } else { 0 } | if self.chained { FLAG_CHAINED } else { 0 };
        let header = ControlHeader {
            dst: self.mac,
            version_type: VERSION_3 << 4 | self.kind as u8,
            pad: flags,
            len: U16::new(u16::try_from(body_len).map_err(|_| NoRoom)?),
            data: U16::new(self.data),
            ethertype: U16::new(ethertype),
        };
        header.write_to(head).map_err(|_| NoRoom)?;
        let fields = Envelope {
            instance: U64::new(self.instance),
            epoch: U64::new(self.epoch),
            sequence: U64::new(self.sequence),
        };
        fields.write_to(envelope).map_err(|_| NoRoom)?;
        let len = CONTROL_HEADER_LEN.saturating_add(body_len);
        if sealed {
            let (covered, tag) =
                out.get_mut(..len).and_then(<[u8]>::split_last_chunk_mut::<TAG_LEN>).ok_or(NoRoom)?;
            *tag = keys.tag(covered).map_err(|NotAuthentic| NoRoom)?;
        }
        Ok(len)
    }

    /// The same for a payload that is there already.
    ///
    /// # Errors
    /// `NoRoom`.
    pub fn emit_bytes(
        &self,
        ethertype: u16,
        keys: &ControlKeys,
        out: &mut [u8],
        payload: &[u8],
    ) -> Result<usize, NoRoom> {
        self.emit(ethertype, keys, out, |room| {
            room.get_mut(..payload.len()).ok_or(NoRoom)?.copy_from_slice(payload);
            Ok(payload.len())
        })
    }
}
