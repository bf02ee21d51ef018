//! Whole messages.

use super::{
    EncodeError, FlowRemoved, Header, Port, PortReason, PortStatus, Ports, StatsReply, StatsRequest,
    action::{decode_actions, encode_actions},
    decode_flow_mod,
    flow_mod::write_flow_mod,
    report,
    writer::{Writer, header},
};
use crate::{
    flow::{ActionList, FlowMod, OfpError},
    wire::openflow::{
        self as wire, NO_BUFFER, OfpErrorMsg, OfpFlowRemoved, OfpPacketIn, OfpPacketOut, OfpPortStatus, OfpVendor,
        SwitchFeatures, msg,
    },
};
use zerocopy::{
    FromBytes, Immutable, KnownLayout, Unaligned,
    network_endian::{U16, U32, U64},
};

/// An OpenFlow 1.0 message. The transaction id is in the [`Header`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nothing is allocated; messages live on the stack, one at a time")]
pub enum Message<'a> {
    /// `OFPT_HELLO`.
    Hello {
        /// Highest version that the sender speaks; the session's is the lower of both sides'.
        version: u8,
    },
    /// `OFPT_ERROR`.
    Error(ErrorMessage<'a>),
    /// `OFPT_ECHO_REQUEST` with the data that the reply must carry.
    EchoRequest(&'a [u8]),
    /// `OFPT_ECHO_REPLY`.
    EchoReply(&'a [u8]),
    /// `OFPT_VENDOR`.
    Vendor {
        /// Vendor id.
        vendor: u32,
        /// What follows.
        data: &'a [u8],
    },
    /// `OFPT_FEATURES_REQUEST`.
    FeaturesRequest,
    /// `OFPT_FEATURES_REPLY`.
    FeaturesReply(Features<'a>),
    /// `OFPT_GET_CONFIG_REQUEST`.
    GetConfigRequest,
    /// `OFPT_GET_CONFIG_REPLY`.
    GetConfigReply(SwitchConfig),
    /// `OFPT_SET_CONFIG`.
    SetConfig(SwitchConfig),
    /// `OFPT_PACKET_IN`.
    PacketIn(PacketIn<'a>),
    /// `OFPT_FLOW_REMOVED`.
    FlowRemoved(FlowRemoved),
    /// `OFPT_PORT_STATUS`.
    PortStatus(PortStatus),
    /// `OFPT_PACKET_OUT`.
    PacketOut(PacketOut<'a>),
    /// `OFPT_FLOW_MOD`.
    FlowMod(FlowMod),
    /// `OFPT_STATS_REQUEST`.
    StatsRequest(StatsRequest<'a>),
    /// `OFPT_STATS_REPLY`.
    StatsReply(StatsReply<'a>),
    /// `OFPT_BARRIER_REQUEST`.
    BarrierRequest,
    /// `OFPT_BARRIER_REPLY`.
    BarrierReply,
}

/// `ofp_error_msg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ErrorMessage<'a> {
    /// `ofp_error_type`.
    pub kind: u16,
    /// Code of that type; [`super::error_name`] names the pair.
    pub code: u16,
    /// Usually the first 64 bytes of the offending message.
    pub data: &'a [u8],
}

/// `ofp_switch_features`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features<'a> {
    /// The switch's id.
    pub datapath_id: u64,
    /// Packets that it can buffer.
    pub n_buffers: u32,
    /// Tables.
    pub n_tables: u8,
    /// `OFPC_*`.
    pub capabilities: u32,
    /// Bitmap of supported action types.
    pub actions: u32,
    /// Ports.
    pub ports: Ports<'a>,
}

/// `ofp_switch_config`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SwitchConfig {
    /// Fragment handling: 0 normal, 1 drop, 2 reassemble.
    pub flags: u16,
    /// Bytes of a missed packet that go to the controller; 0xffff: all.
    pub miss_send_len: u16,
}

/// `ofp_packet_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PacketIn<'a> {
    /// Buffer that holds the packet.
    pub buffer_id: Option<u32>,
    /// Length of the whole frame, of which `data` may be only the start.
    pub total_len: u16,
    /// Port that it came in by.
    pub in_port: u16,
    /// 0 no match, 1 action.
    pub reason: u8,
    /// The frame.
    pub data: &'a [u8],
}

/// `ofp_packet_out`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PacketOut<'a> {
    /// Buffer that holds the packet; `None`: it is `data`.
    pub buffer_id: Option<u32>,
    /// Port that it is to be treated as coming from; `OFPP_NONE` for none.
    pub in_port: u16,
    /// What to do with it.
    pub actions: ActionList,
    /// The frame.
    pub data: &'a [u8],
}

impl<'a> Message<'a> {
    /// Decodes a whole message: exactly the bytes that its length field counts (see [`super::message_len`]).
    ///
    /// # Errors
    /// `BadVersion` (in anything but HELLO), `BadMessageType` (this includes PORT_MOD and the queue messages,
    /// which neither side of CVSW uses), `BadLength`, and for flow changes those of [`decode_flow_mod`].
    pub fn decode(message: &'a [u8]) -> Result<Self, OfpError> {
        let header = Header::read(message).ok_or(OfpError::BadLength)?;
        if usize::from(header.length) != message.len() {
            return Err(OfpError::BadLength);
        }
        if header.kind == msg::HELLO && header.version != 0 {
            return Ok(Self::Hello { version: header.version });
        }
        if header.version != wire::VERSION {
            return Err(OfpError::BadVersion);
        }
        let body = message.get(wire::HEADER_LEN..).unwrap_or_default();
        Ok(match header.kind {
            msg::ERROR => {
                let (fixed, data) = prefix::<OfpErrorMsg>(message)?;
                Self::Error(ErrorMessage { kind: fixed.kind.get(), code: fixed.code.get(), data })
            }
            msg::ECHO_REQUEST => Self::EchoRequest(body),
            msg::ECHO_REPLY => Self::EchoReply(body),
            msg::VENDOR => {
                let (fixed, data) = prefix::<OfpVendor>(message)?;
                Self::Vendor { vendor: fixed.vendor.get(), data }
            }
            msg::FEATURES_REQUEST => empty(body, Self::FeaturesRequest)?,
            msg::FEATURES_REPLY => Self::FeaturesReply(decode_features(message)?),
            msg::GET_CONFIG_REQUEST => empty(body, Self::GetConfigRequest)?,
            msg::GET_CONFIG_REPLY => Self::GetConfigReply(decode_config(message)?),
            msg::SET_CONFIG => Self::SetConfig(decode_config(message)?),
            msg::PACKET_IN => Self::PacketIn(decode_packet_in(message)?),
            msg::FLOW_REMOVED => Self::FlowRemoved(FlowRemoved::from_wire(whole::<OfpFlowRemoved>(message)?)?),
            msg::PORT_STATUS => Self::PortStatus(decode_port_status(whole(message)?)?),
            msg::PACKET_OUT => Self::PacketOut(decode_packet_out(message)?),
            msg::FLOW_MOD => Self::FlowMod(decode_flow_mod(message)?),
            msg::STATS_REQUEST => Self::StatsRequest(report::decode_request(message)?),
            msg::STATS_REPLY => Self::StatsReply(report::decode_reply(message)?),
            msg::BARRIER_REQUEST => empty(body, Self::BarrierRequest)?,
            msg::BARRIER_REPLY => empty(body, Self::BarrierReply)?,
            _ => return Err(OfpError::BadMessageType),
        })
    }

    /// Encodes the message; returns its length.
    ///
    /// # Errors
    /// `NoRoom` if `out` is too small, `Inexpressible` for a match that OpenFlow 1.0 cannot say.
    pub fn encode(&self, xid: u32, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut writer = Writer::new(out);
        self.write(&mut writer, xid)?;
        Ok(writer.finish()?)
    }

    fn write(&self, writer: &mut Writer<'_>, xid: u32) -> Result<(), EncodeError> {
        match self {
            Self::Hello { version } => {
                writer.put(&wire::Header { version: *version, ..header(msg::HELLO, xid) })?;
            }
            Self::Error(error) => {
                let (kind, code) = (U16::new(error.kind), U16::new(error.code));
                writer.put(&OfpErrorMsg { header: header(msg::ERROR, xid), kind, code })?;
                writer.bytes(error.data)?;
            }
            Self::EchoRequest(data) => bare(writer, msg::ECHO_REQUEST, xid, data)?,
            Self::EchoReply(data) => bare(writer, msg::ECHO_REPLY, xid, data)?,
            Self::Vendor { vendor, data } => {
                writer.put(&OfpVendor { header: header(msg::VENDOR, xid), vendor: U32::new(*vendor) })?;
                writer.bytes(data)?;
            }
            Self::FeaturesRequest => bare(writer, msg::FEATURES_REQUEST, xid, &[])?,
            Self::FeaturesReply(features) => write_features(writer, features, xid)?,
            Self::GetConfigRequest => bare(writer, msg::GET_CONFIG_REQUEST, xid, &[])?,
            Self::GetConfigReply(config) => write_config(writer, msg::GET_CONFIG_REPLY, config, xid)?,
            Self::SetConfig(config) => write_config(writer, msg::SET_CONFIG, config, xid)?,
            Self::PacketIn(packet) => write_packet_in(writer, packet, xid)?,
            Self::FlowRemoved(removed) => removed.write(writer, xid)?,
            Self::PortStatus(status) => writer.put(&OfpPortStatus {
                header: header(msg::PORT_STATUS, xid),
                reason: status.reason as u8,
                pad: [0; 7],
                desc: status.port.to_wire(),
            })?,
            Self::PacketOut(packet) => write_packet_out(writer, packet, xid)?,
            Self::FlowMod(flow_mod) => write_flow_mod(writer, flow_mod, xid)?,
            Self::StatsRequest(request) => report::encode_request(writer, request, xid)?,
            Self::StatsReply(reply) => report::encode_reply(writer, reply, xid)?,
            Self::BarrierRequest => bare(writer, msg::BARRIER_REQUEST, xid, &[])?,
            Self::BarrierReply => bare(writer, msg::BARRIER_REPLY, xid, &[])?,
        }
        Ok(())
    }
}

fn prefix<T: FromBytes + KnownLayout + Immutable + Unaligned>(message: &[u8]) -> Result<(&T, &[u8]), OfpError> {
    T::ref_from_prefix(message).map_err(|_| OfpError::BadLength)
}

fn whole<T: FromBytes + KnownLayout + Immutable + Unaligned>(message: &[u8]) -> Result<&T, OfpError> {
    T::ref_from_bytes(message).map_err(|_| OfpError::BadLength)
}

fn empty<'a>(body: &[u8], message: Message<'a>) -> Result<Message<'a>, OfpError> {
    if body.is_empty() { Ok(message) } else { Err(OfpError::BadLength) }
}

fn buffer(id: U32) -> Option<u32> {
    (id.get() != NO_BUFFER).then(|| id.get())
}

fn decode_features(message: &[u8]) -> Result<Features<'_>, OfpError> {
    let (fixed, ports) = prefix::<SwitchFeatures>(message)?;
    Ok(Features {
        datapath_id: fixed.datapath_id.get(),
        n_buffers: fixed.n_buffers.get(),
        n_tables: fixed.n_tables,
        capabilities: fixed.capabilities.get(),
        actions: fixed.actions.get(),
        ports: Ports::new(ports)?,
    })
}

fn decode_config(message: &[u8]) -> Result<SwitchConfig, OfpError> {
    let fixed = whole::<wire::SwitchConfig>(message)?;
    Ok(SwitchConfig { flags: fixed.flags.get(), miss_send_len: fixed.miss_send_len.get() })
}

fn decode_packet_in(message: &[u8]) -> Result<PacketIn<'_>, OfpError> {
    let (fixed, data) = prefix::<OfpPacketIn>(message)?;
    Ok(PacketIn {
        buffer_id: buffer(fixed.buffer_id),
        total_len: fixed.total_len.get(),
        in_port: fixed.in_port.get(),
        reason: fixed.reason,
        data,
    })
}

fn decode_port_status(fixed: &OfpPortStatus) -> Result<PortStatus, OfpError> {
    let reason = match fixed.reason {
        0 => PortReason::Add,
        1 => PortReason::Delete,
        2 => PortReason::Modify,
        _ => return Err(OfpError::BadMessageType),
    };
    Ok(PortStatus { reason, port: Port::from_wire(&fixed.desc) })
}

fn decode_packet_out(message: &[u8]) -> Result<PacketOut<'_>, OfpError> {
    let (fixed, rest) = prefix::<OfpPacketOut>(message)?;
    let (actions, data) = rest.split_at_checked(fixed.actions_len.get().into()).ok_or(OfpError::BadLength)?;
    Ok(PacketOut {
        buffer_id: buffer(fixed.buffer_id),
        in_port: fixed.in_port.get(),
        actions: decode_actions(actions)?,
        data,
    })
}

fn bare(writer: &mut Writer<'_>, kind: u8, xid: u32, body: &[u8]) -> Result<(), EncodeError> {
    writer.put(&header(kind, xid))?;
    Ok(writer.bytes(body)?)
}

fn write_features(writer: &mut Writer<'_>, features: &Features<'_>, xid: u32) -> Result<(), EncodeError> {
    writer.put(&SwitchFeatures {
        header: header(msg::FEATURES_REPLY, xid),
        datapath_id: U64::new(features.datapath_id),
        n_buffers: U32::new(features.n_buffers),
        n_tables: features.n_tables,
        pad: [0; 3],
        capabilities: U32::new(features.capabilities),
        actions: U32::new(features.actions),
    })?;
    Ok(writer.bytes(features.ports.as_bytes())?)
}

fn write_config(writer: &mut Writer<'_>, kind: u8, config: &SwitchConfig, xid: u32) -> Result<(), EncodeError> {
    Ok(writer.put(&wire::SwitchConfig {
        header: header(kind, xid),
        flags: U16::new(config.flags),
        miss_send_len: U16::new(config.miss_send_len),
    })?)
}

fn write_packet_in(writer: &mut Writer<'_>, packet: &PacketIn<'_>, xid: u32) -> Result<(), EncodeError> {
    writer.put(&OfpPacketIn {
        header: header(msg::PACKET_IN, xid),
        buffer_id: U32::new(packet.buffer_id.unwrap_or(NO_BUFFER)),
        total_len: U16::new(packet.total_len),
        in_port: U16::new(packet.in_port),
        reason: packet.reason,
        pad: 0,
    })?;
    Ok(writer.bytes(packet.data)?)
}

fn write_packet_out(writer: &mut Writer<'_>, packet: &PacketOut<'_>, xid: u32) -> Result<(), EncodeError> {
    let start = writer.len();
    writer.put(&OfpPacketOut {
        header: header(msg::PACKET_OUT, xid),
        buffer_id: U32::new(packet.buffer_id.unwrap_or(NO_BUFFER)),
        in_port: U16::new(packet.in_port),
        actions_len: U16::new(0),
    })?;
    let before = writer.len();
    encode_actions(writer, packet.actions.iter().copied())?;
    let len = u16::try_from(writer.len().saturating_sub(before)).map_err(|_| EncodeError::NoRoom)?;
    writer.patch(start, |fixed: &mut OfpPacketOut| fixed.actions_len = U16::new(len))?;
    Ok(writer.bytes(packet.data)?)
}
