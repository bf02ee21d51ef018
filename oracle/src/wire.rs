//! OpenFlow bytes of the tester itself: what it sends to the switch, and how flow changes are dressed for a switch
//! that has ports.

use cvsw_core::{
    flow::{Action, ActionList, Command, Field, FlowMod, Match, OFPP_NONE, text::DisplayFlow},
    openflow::{FlowStats, Message, decode_flow_mod},
};

/// Port that every forwarded frame leaves by.
pub const PORT_OUT: u16 = 3;
/// Port that swallows: stands for `OFPP_NONE`, which Open vSwitch refuses in an action.
pub const PORT_SINK: u16 = 4;

/// EtherType of the frame that says "everything before me is done".
const MARKER_TYPE: u16 = 0x88b6;
/// That frame.
pub const MARKER: [u8; 60] = {
    let mut frame = [0; 60];
    let [hi, lo] = MARKER_TYPE.to_be_bytes();
    [frame[0], frame[6], frame[12], frame[13]] = [0x02, 0x06, hi, lo];
    frame
};

/// Length of an OFPT_FLOW_MOD without actions.
pub const FLOW_MOD_LEN: usize = 72;

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
    let (fixed, mut actions) = change.split_at(FLOW_MOD_LEN);
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
    pub fn from_stats(stats: FlowStats) -> Self {
        let actions = stats.actions.iter().filter_map(|action| match *action {
            Action::Output { port: PORT_OUT, .. } => None,
            Action::Output { port: PORT_SINK, .. } => Some(Action::Output { port: OFPP_NONE, max_len: 0 }),
            other => Some(other),
        });
        Self {
            priority: stats.priority,
            matching: stats.matching,
            cookie: stats.cookie,
            timeouts: (stats.idle_timeout, stats.hard_timeout),
            actions: actions.collect(),
            packets: stats.packets,
            bytes: stats.bytes,
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
