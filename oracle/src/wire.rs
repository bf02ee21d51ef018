//! OpenFlow bytes of the tester itself: what it sends to the switch, and how flow changes are dressed for a switch
//! that has ports.

use anyhow::{Context, Result};
use cvsw_core::{
    flow::{Action, ActionList, Command, Field, FlowMod, Match, OFPP_NONE, text::DisplayFlow},
    openflow::{Message, decode_flow_mod},
};

/// Port that every forwarded frame leaves by.
pub const PORT_OUT: u16 = 3;
/// Port that swallows: stands for `OFPP_NONE`, which Open vSwitch refuses in an action.
pub const PORT_SINK: u16 = 4;

/// EtherType of the frame that says "everything before me is done".
pub const MARKER_TYPE: u16 = 0x88b6;
/// That frame.
pub const MARKER: [u8; 60] = {
    let mut frame = [0; 60];
    let [hi, lo] = MARKER_TYPE.to_be_bytes();
    [frame[0], frame[6], frame[12], frame[13]] = [0x02, 0x06, hi, lo];
    frame
};

/// Length of an OFPT_FLOW_MOD without actions.
pub const FLOW_MOD_LEN: usize = 72;
/// Length of an NXT_FLOW_MOD without match and actions.
pub const NXT_FLOW_MOD_LEN: usize = 48;
/// Vendor id of Nicira.
const NICIRA: [u8; 4] = [0, 0, 0x23, 0x20];
/// OFPT_VENDOR.
const VENDOR: u8 = 4;
/// OFPT_STATS_REQUEST.
const STATS_REQUEST: u8 = 16;

/// Whether a message is an NXT_FLOW_MOD and no OFPT_FLOW_MOD.
pub fn is_nxt(message: &[u8]) -> bool {
    message.get(1) == Some(&VENDOR)
}

/// Where the actions of a flow change begin.
pub fn actions_at(message: &[u8]) -> usize {
    match message.get(40..42) {
        Some(&[hi, lo]) if is_nxt(message) => {
            NXT_FLOW_MOD_LEN + usize::from(u16::from_be_bytes([hi, lo])).next_multiple_of(8)
        }
        _ => FLOW_MOD_LEN,
    }
}

/// Header of an NXT_FLOW_MOD up to its cookie.
pub const NXT_FLOW_MOD_START: [u8; 16] = [1, VENDOR, 0, 0, 0, 0, 0, 0, 0, 0, 0x23, 0x20, 0, 0, 0, 13];

/// OXM field `packet_type` 0, padded: how Open vSwitch lists the match of all Ethernet frames, which are all that we
/// have.
const ANY_ETHERNET_FRAME: [u8; 8] = [0x80, 0, 0x58, 4, 0, 0, 0, 0];

/// NXST_FLOW request for everything: unlike OFPST_FLOW it lists matches of every kind.
pub fn list_request(xid: u32) -> Vec<u8> {
    let mut message = vec![1, STATS_REQUEST, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    message.extend(NICIRA);
    message.extend([0; 8]);
    // out_port: any; no match; all tables.
    message.extend([0xff, 0xff, 0, 0, 0xff, 0, 0, 0]);
    set_xid(&mut message, xid);
    fix_length(&mut message);
    message
}

/// The entries of an NXST_FLOW reply, without its statistics header.
pub fn read_list(body: &[u8]) -> Result<Vec<Listed>> {
    const FIXED: usize = 48;
    let mut rest = body.get(12..).context("a listing without a header")?;
    let mut list = Vec::new();
    while !rest.is_empty() {
        let len = u16_at(rest, 0)?;
        let (entry, behind) = rest.split_at_checked(len.into()).context("a listing that is cut off")?;
        rest = behind;
        // The same match and actions as a change, which our own codec reads.
        let mut change = NXT_FLOW_MOD_START.to_vec();
        change.extend(entry.get(24..32).context("a short entry")?);
        change.extend([0, 0]);
        change.extend(entry.get(14..18).context("a short entry")?);
        change.extend(entry.get(12..14).context("a short entry")?);
        change.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
        change.extend(u16_at(entry, 18)?.to_be_bytes());
        change.extend([0; 6]);
        change.extend(entry.get(FIXED..).context("a short entry")?);
        if let Some(slot) = change.get_mut(40..56)
            && slot.get(8..) == Some(&ANY_ETHERNET_FRAME)
        {
            let others = u16_at(entry, 18)?.saturating_sub(8);
            slot[..2].copy_from_slice(&others.to_be_bytes());
            change.drain(48..56);
        }
        fix_length(&mut change);
        let flow =
            decode_flow_mod(&change).map_err(|error| anyhow::anyhow!("{error} in the listing: {change:02x?}"))?;
        list.push(Listed::from_switch(&flow, u64_at(entry, 32)?, u64_at(entry, 40)?));
    }
    Ok(list)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let field = bytes.get(at..at + 2).context("a listing that is cut off")?;
    Ok(u16::from_be_bytes(field.try_into()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    let field = bytes.get(at..at + 8).context("a listing that is cut off")?;
    Ok(u64::from_be_bytes(field.try_into()?))
}

/// A message as bytes.
pub fn encode(message: &Message<'_>, xid: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let len = message.encode(xid, &mut bytes).expect("the tester's own messages fit and can be said");
    bytes.truncate(len);
    bytes
}

/// Transaction id of a message.
pub fn xid(message: &[u8]) -> u32 {
    message.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Sets the transaction id of a message.
pub fn set_xid(message: &mut [u8], xid: u32) {
    if let Some(field) = message.get_mut(4..8) {
        field.copy_from_slice(&xid.to_be_bytes());
    }
}

/// Sets the length field of a message to its length.
pub fn fix_length(message: &mut [u8]) {
    let len = (message.len() as u16).to_be_bytes();
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&len);
    }
}

/// The flow that lets the marker through, above all that a case may hold.
pub fn marker_flow(command: Command) -> Vec<u8> {
    let mut actions = ActionList::new();
    if command == Command::Add {
        let _ = actions.push(Action::Output { port: PORT_OUT, max_len: 0 });
    }
    let matching = Match::ANY.with(Field::EthType, MARKER_TYPE.into());
    encode(&Message::FlowMod(FlowMod { command, matching, priority: u16::MAX, actions, ..FlowMod::default() }), 0)
}

/// The change for a switch with ports. A vNIC's entry forwards in the frame's direction; a switch's entry must say
/// where to: an output is added behind the other actions, unless they drop or look up again. A malformed change
/// stays as it is.
pub fn for_switch(change: &[u8]) -> Vec<u8> {
    let Ok(flow) = decode_flow_mod(change) else { return change.to_vec() };
    let deletes = matches!(flow.command, Command::Delete | Command::DeleteStrict);
    let (fixed, mut actions) = change.split_at(actions_at(change));
    let mut dressed = fixed.to_vec();
    let mut open = !deletes && !actions.is_empty();
    while let Some(&[kind_hi, kind_lo, len_hi, len_lo, port_hi, port_lo, ..]) = actions.first_chunk::<8>() {
        let (action, rest) = actions.split_at(u16::from_be_bytes([len_hi, len_lo]).into());
        actions = rest;
        match u16::from_be_bytes([kind_hi, kind_lo]) {
            0 if u16::from_be_bytes([port_hi, port_lo]) == OFPP_NONE => {
                dressed.extend(output(PORT_SINK));
                open = false;
            }
            0xffff => {
                dressed.extend(action);
                open = false;
            }
            _ => dressed.extend(action),
        }
    }
    if open {
        dressed.extend(output(PORT_OUT));
    }
    fix_length(&mut dressed);
    dressed
}

fn output(port: u16) -> [u8; 8] {
    let [hi, lo] = port.to_be_bytes();
    [0, 0, 0, 8, hi, lo, 0, 0]
}

/// An entry as both sides can list it. Ordered, so that listings can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Priority.
    pub priority: u16,
    /// Match.
    pub matching: Match,
    /// Cookie.
    pub cookie: u64,
    /// Idle and hard timeout.
    pub timeouts: (u16, u16),
    /// Actions, as a vNIC has them.
    pub actions: Vec<Action>,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Listed {
    /// An entry of the switch, undressed.
    fn from_switch(flow: &FlowMod, packets: u64, bytes: u64) -> Self {
        let actions = flow.actions.iter().filter_map(|action| match *action {
            Action::Output { port: PORT_OUT, .. } => None,
            Action::Output { port: PORT_SINK, .. } => Some(Action::Output { port: OFPP_NONE, max_len: 0 }),
            other => Some(other),
        });
        Self {
            priority: flow.priority,
            matching: flow.matching,
            cookie: flow.cookie,
            timeouts: (flow.idle_timeout, flow.hard_timeout),
            actions: actions.collect(),
            packets,
            bytes,
        }
    }

    /// An entry of the engine.
    pub fn from_entry(entry: &cvsw_core::FlowEntry) -> Self {
        let flow = &entry.flow;
        Self {
            priority: flow.priority,
            matching: flow.matching,
            cookie: flow.cookie,
            timeouts: (flow.idle_timeout, flow.hard_timeout),
            actions: flow.actions.to_vec(),
            packets: entry.packets,
            bytes: entry.bytes,
        }
    }

    /// Order of listings: priority, then match.
    pub fn sort_key(&self) -> (u16, [u64; cvsw_core::flow::KEY_WORDS], [u64; cvsw_core::flow::KEY_WORDS]) {
        (self.priority, *self.matching.mask().words(), *self.matching.value().words())
    }
}

impl std::fmt::Display for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flow = FlowMod {
            priority: self.priority,
            matching: self.matching,
            cookie: self.cookie,
            idle_timeout: self.timeouts.0,
            hard_timeout: self.timeouts.1,
            actions: self.actions.iter().copied().take(16).collect(),
            ..FlowMod::default()
        };
        write!(f, "packets={} bytes={} {}", self.packets, self.bytes, DisplayFlow(&flow))
    }
}
