//! OpenFlow 1.0 messages: bytes to and from the data types of [`crate::flow`].

use crate::{
    flow::{FlowMod, OfpError},
    frame::NoRoom,
};

/// Decodes a whole `OFPT_FLOW_MOD` message (header included).
pub fn decode_flow_mod(_message: &[u8]) -> Result<FlowMod, OfpError> {
    unimplemented!()
}

/// Encodes a whole `OFPT_FLOW_MOD` message; returns its length.
pub fn encode_flow_mod(_flow_mod: &FlowMod, _xid: u32, _out: &mut [u8]) -> Result<usize, NoRoom> {
    unimplemented!()
}
