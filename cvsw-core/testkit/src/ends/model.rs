//! What a vNIC is after a list of commands, naively.

use cvsw_core::{
    control::{SaCommand, SetSa},
    crypto::{KeyMaterial, SaConfig, Suite},
    flow::{Action, ActionList, Direction, FlowMod, text::parse_flow},
};
use std::collections::BTreeMap;

/// The network that may not travel in clear.
pub const VNI: u32 = 42;
/// Entries that a controller may want.
pub const SLOTS: u16 = 12;

/// A command of a controller.
#[derive(Clone, Debug)]
pub enum Command {
    /// SET_MTU.
    Mtu(u16),
    /// SET_OFFLOAD.
    Offload(u16),
    /// SET_ENTRY.
    Set(FlowMod),
    /// DELETE_ENTRY.
    Delete(FlowMod),
    /// SET_SA.
    Sa(SetSa),
}

/// The entry of a slot in one of its variants, each with its own priority, which names it.
pub fn entry(slot: u16, variant: u16) -> FlowMod {
    let text =
        format!("priority={},in_port=NET,ip,nw_dst=10.0.{slot}.0/24,actions=mod_tp_dst:{}", slot + 1, variant + 1);
    parse_flow(&text).expect("a flow")
}

/// An entry that every vNIC refuses: it has no such port.
pub fn impossible() -> FlowMod {
    let mut actions = ActionList::new();
    actions.push(Action::Output { port: 7, max_len: 0 }).expect("room");
    FlowMod { priority: 1000, actions, ..FlowMod::default() }
}

/// How a controller begins: nothing in clear, and a key.
pub fn protection() -> [Command; 3] {
    let config = SaConfig::new(0x0a00_0001, Direction::Tx, 0x1234, [10, 0, 0, 1]);
    let key = KeyMaterial::new(Suite::Aes128Gcm, &[7; 20]).expect("20 bytes");
    let sa = |command| Command::Sa(SetSa { transaction: 1, command });
    [
        sa(SaCommand::Flush),
        sa(SaCommand::Require { vni: VNI, on: true }),
        sa(SaCommand::Add(SaConfig { last_sequence: 0, ..config }, key)),
    ]
}

/// A vNIC.
#[derive(Debug, Default)]
pub struct Model {
    /// Entries by priority.
    pub flows: BTreeMap<u16, FlowMod>,
    pub encrypted_only: bool,
    pub associations: usize,
    mtu: u16,
    offload: Option<u16>,
    pub last_done: bool,
}

impl Model {
    /// MTU and offloads.
    pub const fn parameters(&self) -> (u16, Option<u16>) {
        (self.mtu, self.offload)
    }

    /// Carries a command out, if it can be.
    pub fn apply(&mut self, command: &Command, chained: bool) {
        if chained && !self.last_done {
            return;
        }
        self.last_done = true;
        match command {
            Command::Mtu(mtu) => self.mtu = *mtu,
            Command::Offload(offload) => self.offload = Some(*offload),
            Command::Set(flow) if flow.priority > SLOTS => self.last_done = false,
            Command::Set(flow) => drop(self.flows.insert(flow.priority, flow.clone())),
            Command::Delete(flow) => drop(self.flows.remove(&flow.priority)),
            Command::Sa(SetSa { command, .. }) => match command {
                SaCommand::Flush => self.associations = 0,
                SaCommand::Require { on, .. } => self.encrypted_only = *on,
                // The sequence numbers of a sending association that was flushed are not given again.
                SaCommand::Add(..) if self.associations > 0 => self.last_done = false,
                SaCommand::Add(..) => self.associations = 1,
                _ => {}
            },
        }
    }
}
