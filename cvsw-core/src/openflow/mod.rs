//! OpenFlow 1.0 messages: bytes to and from the data types of [`crate::flow`], without allocation.
//!
//! A byte stream is cut by [`message_len`], a whole message is read by [`Message::decode`] and written by
//! [`Message::encode`]. Inside a control frame the body is one `OFPT_FLOW_MOD`, or Nicira's `NXT_FLOW_MOD`:
//! [`decode_flow_mod`] and [`encode_flow_mod`].
//!
//! The codec judges form and range. Which ports, queues and lists an engine accepts is the engine's business:
//! the same codec serves the flows that a controller gives to a virtual switch.

mod action;
mod error_name;
mod flow_mod;
mod matching;
mod message;
mod nxm;
mod port;
mod port_stats;
mod removed;
mod report;
mod role;
mod writer;

pub use error_name::error_name;
pub(crate) use flow_mod::{Parts, check_match};
pub use flow_mod::{decode_flow_mod, decode_flow_mod_into, encode_flow_mod};
pub use message::{ErrorMessage, Features, Message, PacketIn, PacketOut, SwitchConfig};
pub use port::{Port, PortName, PortReason, PortStatus, Ports};
pub use port_stats::{PortStats, PortStatsEntries};
pub use removed::{FlowRemoved, RemovedReason};
pub use report::{FlowStats, FlowStatsEntries, FlowStatsRequest, StatsReply, StatsRequest};
pub use role::{Role, RoleMessage};

use crate::{
    flow::{Field, OfpError},
    frame::NoRoom,
    wire::openflow as wire,
};
use zerocopy::FromBytes;

/// Why a message could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum EncodeError {
    /// The buffer is too small, or the message would exceed 65,535 bytes.
    NoRoom,
    /// The match names this field in a way that the message cannot say: a field without its prerequisites (a
    /// port without an IP protocol that has ports), a partial mask of a field that has none (EtherType, IP
    /// protocol, ToS, `in_port`); in `ofp_match` (statistics, FLOW_REMOVED) also a partial mask of anything but
    /// an IPv4 prefix, or a field that OpenFlow 1.0 does not have.
    Inexpressible(Field),
}

impl From<NoRoom> for EncodeError {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

impl core::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoRoom => f.write_str("the OpenFlow message does not fit its buffer"),
            Self::Inexpressible(field) => {
                write!(f, "OpenFlow cannot express this match on {}; match it whole or not at all", field.name())
            }
        }
    }
}

impl core::error::Error for EncodeError {}

/// What every message starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// Protocol version; 1 except in HELLO.
    pub version: u8,
    /// `ofp_type`.
    pub kind: u8,
    /// Length of the whole message in bytes.
    pub length: u16,
    /// Transaction id; a reply carries its request's.
    pub xid: u32,
}

impl Header {
    /// Reads the first eight bytes; `None` if there are fewer.
    pub fn read(message: &[u8]) -> Option<Self> {
        let (header, _) = wire::Header::ref_from_prefix(message).ok()?;
        Some(Self {
            version: header.version,
            kind: header.kind,
            length: header.length.get(),
            xid: header.xid.get(),
        })
    }
}

/// Length of the message that a stream's next bytes begin: `None` until the length field has arrived, an error
/// ([`OfpError::BadLength`]; the stream cannot go on) if it is below eight.
pub fn message_len(prefix: &[u8]) -> Option<Result<usize, OfpError>> {
    let &[_, _, high, low, ..] = prefix else { return None };
    let length = usize::from(u16::from_be_bytes([high, low]));
    Some(if length < wire::HEADER_LEN { Err(OfpError::BadLength) } else { Ok(length) })
}

/// Checks version, type and length of a whole message.
fn check_header(message: &[u8], kind: u8) -> Result<(), OfpError> {
    let header = Header::read(message).ok_or(OfpError::BadLength)?;
    if header.version != wire::VERSION {
        return Err(OfpError::BadVersion);
    }
    if header.kind != kind {
        return Err(OfpError::BadMessageType);
    }
    if usize::from(header.length) != message.len() {
        return Err(OfpError::BadLength);
    }
    Ok(())
}
