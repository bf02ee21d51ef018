//! An entry's end: `OFPT_FLOW_REMOVED`, and Nicira's `NXT_FLOW_REMOVED` for the matches that the first cannot say.

use super::{
    EncodeError, Header, check_header,
    matching::{decode_match, encode_match},
    nxm,
    writer::{Writer, header},
};
use crate::{
    flow::{Match, OfpError},
    wire::openflow::{NXT_FLOW_REMOVED, NxFlowRemoved, OfpFlowRemoved, VENDOR_NICIRA, msg},
};
use zerocopy::{
    FromBytes, FromZeros,
    network_endian::{U16, U32, U64},
};

/// Why an entry was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum RemovedReason {
    /// No packet for its idle timeout.
    IdleTimeout = 0,
    /// Its hard timeout.
    HardTimeout = 1,
    /// A DELETE command.
    Delete = 2,
}

/// An entry's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlowRemoved {
    /// Which frames.
    pub matching: Match,
    /// Opaque number of the controller.
    pub cookie: u64,
    /// Priority.
    pub priority: u16,
    /// Why.
    pub reason: RemovedReason,
    /// Seconds that the entry lived.
    pub duration_sec: u32,
    /// Nanoseconds beyond `duration_sec`.
    pub duration_nsec: u32,
    /// Its idle timeout in seconds.
    pub idle_timeout: u16,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl FlowRemoved {
    /// Decodes a whole `OFPT_FLOW_REMOVED` or `NXT_FLOW_REMOVED` message.
    ///
    /// # Errors
    /// `BadVersion`, `BadMessageType`, `BadLength` (or an `Nxm` error) for anything else, `BadMessageType` for an
    /// unknown reason.
    pub fn decode(message: &[u8]) -> Result<Self, OfpError> {
        if Header::read(message).is_some_and(|header| header.kind == msg::VENDOR) {
            return Self::decode_nxt(message);
        }
        check_header(message, msg::FLOW_REMOVED)?;
        Self::from_wire(OfpFlowRemoved::ref_from_bytes(message).map_err(|_| OfpError::BadLength)?)
    }

    /// Encodes a whole `OFPT_FLOW_REMOVED` message, or an `NXT_FLOW_REMOVED` if the match needs that; returns its
    /// length.
    ///
    /// # Errors
    /// As [`super::encode_flow_mod`].
    pub fn encode(&self, xid: u32, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut writer = Writer::new(out);
        self.write(&mut writer, xid)?;
        Ok(writer.finish()?)
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>, xid: u32) -> Result<(), EncodeError> {
        let Ok(matching) = encode_match(&self.matching) else { return self.write_nxt(writer, xid) };
        Ok(writer.put(&OfpFlowRemoved {
            header: header(msg::FLOW_REMOVED, xid),
            matching,
            cookie: U64::new(self.cookie),
            priority: U16::new(self.priority),
            reason: self.reason as u8,
            pad: 0,
            duration_sec: U32::new(self.duration_sec),
            duration_nsec: U32::new(self.duration_nsec),
            idle_timeout: U16::new(self.idle_timeout),
            pad2: [0; 2],
            packet_count: U64::new(self.packets),
            byte_count: U64::new(self.bytes),
        })?)
    }

    fn write_nxt(&self, writer: &mut Writer<'_>, xid: u32) -> Result<(), EncodeError> {
        let start = writer.len();
        writer.put(&NxFlowRemoved {
            header: header(msg::VENDOR, xid),
            vendor: U32::new(VENDOR_NICIRA),
            subtype: U32::new(NXT_FLOW_REMOVED),
            cookie: U64::new(self.cookie),
            priority: U16::new(self.priority),
            reason: self.reason as u8,
            table_id: 0,
            duration_sec: U32::new(self.duration_sec),
            duration_nsec: U32::new(self.duration_nsec),
            idle_timeout: U16::new(self.idle_timeout),
            match_len: U16::new(0),
            packet_count: U64::new(self.packets),
            byte_count: U64::new(self.bytes),
        })?;
        let len = nxm::encode_padded(writer, &self.matching)?;
        Ok(writer.patch(start, |fixed: &mut NxFlowRemoved| fixed.match_len = U16::new(len))?)
    }

    fn decode_nxt(message: &[u8]) -> Result<Self, OfpError> {
        check_header(message, msg::VENDOR)?;
        let (fixed, rest) = NxFlowRemoved::ref_from_prefix(message).map_err(|_| OfpError::BadLength)?;
        if fixed.vendor.get() != VENDOR_NICIRA || fixed.subtype.get() != NXT_FLOW_REMOVED {
            return Err(OfpError::BadMessageType);
        }
        let matching = rest.get(..fixed.match_len.get().into()).ok_or(OfpError::BadLength)?;
        Ok(Self {
            matching: nxm::decode(matching)?,
            cookie: fixed.cookie.get(),
            priority: fixed.priority.get(),
            reason: RemovedReason::from_wire(fixed.reason)?,
            duration_sec: fixed.duration_sec.get(),
            duration_nsec: fixed.duration_nsec.get(),
            idle_timeout: fixed.idle_timeout.get(),
            packets: fixed.packet_count.get(),
            bytes: fixed.byte_count.get(),
        })
    }

    pub(super) fn from_wire(fixed: &OfpFlowRemoved) -> Result<Self, OfpError> {
        Ok(Self {
            matching: decode_match(&fixed.matching),
            cookie: fixed.cookie.get(),
            priority: fixed.priority.get(),
            reason: RemovedReason::from_wire(fixed.reason)?,
            duration_sec: fixed.duration_sec.get(),
            duration_nsec: fixed.duration_nsec.get(),
            idle_timeout: fixed.idle_timeout.get(),
            packets: fixed.packet_count.get(),
            bytes: fixed.byte_count.get(),
        })
    }
}

impl RemovedReason {
    const fn from_wire(number: u8) -> Result<Self, OfpError> {
        match number {
            0 => Ok(Self::IdleTimeout),
            1 => Ok(Self::HardTimeout),
            2 => Ok(Self::Delete),
            _ => Err(OfpError::BadMessageType),
        }
    }
}
