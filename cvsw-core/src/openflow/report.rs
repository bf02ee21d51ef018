//! What a switch reports about flows: statistics and removals.

use super::{
    EncodeError,
    action::{decode_actions, encode_actions},
    matching::{decode_match, encode_match},
    port_stats::PortStatsEntries,
    writer::{Writer, header},
};
use crate::{
    flow::{ActionList, Match, OfpError},
    frame::NoRoom,
    wire::openflow::{OfpFlowStats, OfpFlowStatsRequest, OfpPortStatsRequest, OfpStats, msg, stats_type},
};
use zerocopy::{
    FromBytes,
    network_endian::{U16, U32, U64},
};

/// A statistics request (`OFPT_STATS_REQUEST`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum StatsRequest<'a> {
    /// `OFPST_DESC`.
    Desc,
    /// `OFPST_FLOW`.
    Flow(FlowStatsRequest),
    /// `OFPST_PORT`: this port, or with `OFPP_NONE` all of them.
    Port(u16),
    /// Any other type, not interpreted.
    Other {
        /// `ofp_stats_types`.
        kind: u16,
        /// What follows.
        body: &'a [u8],
    },
}

/// Which flows to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlowStatsRequest {
    /// Entries that this match contains.
    pub matching: Match,
    /// Table; 0xff: all.
    pub table_id: u8,
    /// Entries that output to this port; `OFPP_NONE`: no filter.
    pub out_port: u16,
}

/// One part of a statistics reply (`OFPT_STATS_REPLY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsReply<'a> {
    /// `OFPST_FLOW`.
    Flow {
        /// Another reply follows (`OFPSF_REPLY_MORE`).
        more: bool,
        /// The flows.
        entries: FlowStatsEntries<'a>,
    },
    /// `OFPST_PORT`.
    Port {
        /// Another reply follows (`OFPSF_REPLY_MORE`).
        more: bool,
        /// The ports.
        entries: PortStatsEntries<'a>,
    },
    /// Any other type, not interpreted (`OFPST_DESC`: see [`crate::wire::openflow::OfpDescStats`]).
    Other {
        /// `ofp_stats_types`.
        kind: u16,
        /// Another reply follows.
        more: bool,
        /// What follows.
        body: &'a [u8],
    },
}

/// `OFPSF_REPLY_MORE`.
const MORE: u16 = 1;

/// The entries of a flow statistics reply, still as bytes. Iterating ends after the first error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStatsEntries<'a>(pub &'a [u8]);

impl Iterator for FlowStatsEntries<'_> {
    type Item = Result<FlowStats, OfpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = split_entry(self.0);
        self.0 = entry.map_or(&[], |(_, _, rest)| rest);
        Some(entry.and_then(|(fixed, actions, _)| FlowStats::from_wire(fixed, actions)))
    }
}

/// The first entry's fixed part and actions, and what follows it.
fn split_entry(bytes: &[u8]) -> Result<(&OfpFlowStats, &[u8], &[u8]), OfpError> {
    let (fixed, _) = OfpFlowStats::ref_from_prefix(bytes).map_err(|_| OfpError::BadLength)?;
    let (entry, rest) = bytes.split_at_checked(fixed.length.get().into()).ok_or(OfpError::BadLength)?;
    let (fixed, actions) = OfpFlowStats::ref_from_prefix(entry).map_err(|_| OfpError::BadLength)?;
    Ok((fixed, actions, rest))
}

/// One flow with its counters (`ofp_flow_stats`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlowStats {
    /// Table.
    pub table_id: u8,
    /// Which frames.
    pub matching: Match,
    /// Seconds that the entry has lived.
    pub duration_sec: u32,
    /// Nanoseconds beyond `duration_sec`.
    pub duration_nsec: u32,
    /// Priority.
    pub priority: u16,
    /// Seconds; 0: never.
    pub idle_timeout: u16,
    /// Seconds; 0: never.
    pub hard_timeout: u16,
    /// Opaque number of the controller.
    pub cookie: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Actions.
    pub actions: ActionList,
}

impl FlowStats {
    fn from_wire(fixed: &OfpFlowStats, actions: &[u8]) -> Result<Self, OfpError> {
        Ok(Self {
            table_id: fixed.table_id,
            matching: decode_match(&fixed.matching),
            duration_sec: fixed.duration_sec.get(),
            duration_nsec: fixed.duration_nsec.get(),
            priority: fixed.priority.get(),
            idle_timeout: fixed.idle_timeout.get(),
            hard_timeout: fixed.hard_timeout.get(),
            cookie: fixed.cookie.get(),
            packets: fixed.packet_count.get(),
            bytes: fixed.byte_count.get(),
            actions: decode_actions(actions)?,
        })
    }

    /// Writes the entry as it stands in a reply; returns its length.
    ///
    /// # Errors
    /// As [`super::encode_flow_mod`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut writer = Writer::new(out);
        writer.put(&OfpFlowStats {
            length: U16::new(0),
            table_id: self.table_id,
            pad: 0,
            matching: encode_match(&self.matching)?,
            duration_sec: U32::new(self.duration_sec),
            duration_nsec: U32::new(self.duration_nsec),
            priority: U16::new(self.priority),
            idle_timeout: U16::new(self.idle_timeout),
            hard_timeout: U16::new(self.hard_timeout),
            pad2: [0; 6],
            cookie: U64::new(self.cookie),
            packet_count: U64::new(self.packets),
            byte_count: U64::new(self.bytes),
        })?;
        encode_actions(&mut writer, self.actions.iter().copied())?;
        let len = u16::try_from(writer.len()).map_err(|_| EncodeError::NoRoom)?;
        writer.patch(0, |entry: &mut OfpFlowStats| entry.length = U16::new(len))?;
        Ok(writer.len())
    }
}

pub(super) fn decode_request(message: &[u8]) -> Result<StatsRequest<'_>, OfpError> {
    let (fixed, body) = OfpStats::ref_from_prefix(message).map_err(|_| OfpError::BadLength)?;
    Ok(match fixed.kind.get() {
        stats_type::DESC if body.is_empty() => StatsRequest::Desc,
        stats_type::DESC => return Err(OfpError::BadLength),
        stats_type::FLOW => {
            let request = OfpFlowStatsRequest::ref_from_bytes(body).map_err(|_| OfpError::BadLength)?;
            StatsRequest::Flow(FlowStatsRequest {
                matching: decode_match(&request.matching),
                table_id: request.table_id,
                out_port: request.out_port.get(),
            })
        }
        stats_type::PORT => {
            let request = OfpPortStatsRequest::ref_from_bytes(body).map_err(|_| OfpError::BadLength)?;
            StatsRequest::Port(request.port_no.get())
        }
        kind => StatsRequest::Other { kind, body },
    })
}

pub(super) fn decode_reply(message: &[u8]) -> Result<StatsReply<'_>, OfpError> {
    let (fixed, body) = OfpStats::ref_from_prefix(message).map_err(|_| OfpError::BadLength)?;
    let more = fixed.flags.get() & MORE != 0;
    Ok(match fixed.kind.get() {
        stats_type::FLOW => StatsReply::Flow { more, entries: FlowStatsEntries(body) },
        stats_type::PORT => StatsReply::Port { more, entries: PortStatsEntries(body) },
        kind => StatsReply::Other { kind, more, body },
    })
}

pub(super) fn encode_request(
    writer: &mut Writer<'_>,
    request: &StatsRequest<'_>,
    xid: u32,
) -> Result<(), EncodeError> {
    match request {
        StatsRequest::Desc => fixed(writer, msg::STATS_REQUEST, xid, stats_type::DESC, false)?,
        StatsRequest::Flow(request) => {
            fixed(writer, msg::STATS_REQUEST, xid, stats_type::FLOW, false)?;
            writer.put(&OfpFlowStatsRequest {
                matching: encode_match(&request.matching)?,
                table_id: request.table_id,
                pad: 0,
                out_port: U16::new(request.out_port),
            })?;
        }
        StatsRequest::Port(port) => {
            fixed(writer, msg::STATS_REQUEST, xid, stats_type::PORT, false)?;
            writer.put(&OfpPortStatsRequest { port_no: U16::new(*port), pad: [0; 6] })?;
        }
        StatsRequest::Other { kind, body } => {
            fixed(writer, msg::STATS_REQUEST, xid, *kind, false)?;
            writer.bytes(body)?;
        }
    }
    Ok(())
}

pub(super) fn encode_reply(writer: &mut Writer<'_>, reply: &StatsReply<'_>, xid: u32) -> Result<(), NoRoom> {
    let (kind, more, body) = match *reply {
        StatsReply::Flow { more, entries } => (stats_type::FLOW, more, entries.0),
        StatsReply::Port { more, entries } => (stats_type::PORT, more, entries.0),
        StatsReply::Other { kind, more, body } => (kind, more, body),
    };
    fixed(writer, msg::STATS_REPLY, xid, kind, more)?;
    writer.bytes(body)
}

fn fixed(writer: &mut Writer<'_>, kind: u8, xid: u32, stats: u16, more: bool) -> Result<(), NoRoom> {
    let flags = U16::new(if more { MORE } else { 0 });
    writer.put(&OfpStats { header: header(kind, xid), kind: U16::new(stats), flags })
}
