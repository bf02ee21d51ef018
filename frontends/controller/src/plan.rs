//! From what a vNIC is believed to have to what it should have. Pure.

use std::{collections::HashMap, collections::HashSet, sync::Arc};

use cvsw_core::{control::OffloadFlags, flow::FlowMod, mtu::IpMtu};

use crate::derive::{Desired, EntryId, drops};

/// One control message to a vNIC that changes its state.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// SET_MTU.
    SetMtu(IpMtu),
    /// SET_OFFLOAD.
    SetOffload(OffloadFlags),
    /// SET_ENTRY with an ADD, which also replaces an entry with the same priority and match.
    Set(Arc<FlowMod>),
    /// DELETE_ENTRY with a DELETE_STRICT of this entry.
    Delete(Arc<FlowMod>),
}

/// What a vNIC is believed to have: what was sent to it, corrected by what it listed.
#[derive(Debug, Default)]
pub struct Belief {
    mtu: Option<IpMtu>,
    offloads: Option<OffloadFlags>,
    flows: HashMap<EntryId, Held>,
}

#[derive(Debug)]
struct Held {
    flow: Arc<FlowMod>,
    /// The vNIC itself has listed it since it was sent.
    confirmed: bool,
}

impl Belief {
    /// The MTU that was last sent.
    pub const fn mtu(&self) -> Option<IpMtu> {
        self.mtu
    }

    /// The offloads that were last sent.
    pub const fn offloads(&self) -> Option<OffloadFlags> {
        self.offloads
    }

    /// The differences, make before break: parameters, then additions and changes in the wanted order, then deletions.
    pub fn plan(&self, desired: &Desired) -> Vec<Command> {
        let mut commands = Vec::new();
        commands.extend(desired.mtu.filter(|mtu| self.mtu != Some(*mtu)).map(Command::SetMtu));
        commands.extend(desired.offloads.filter(|flags| self.offloads != Some(*flags)).map(Command::SetOffload));
        let mut wanted = HashSet::with_capacity(desired.flows.len());
        for flow in &desired.flows {
            let id = EntryId::of(flow);
            if !self.flows.get(&id).is_some_and(|held| same_entry(&held.flow, flow)) {
                commands.push(Command::Set(Arc::clone(flow)));
            }
            wanted.insert(id);
        }
        let mut surplus: Vec<_> = self.flows.iter().filter(|(id, _)| !wanted.contains(id)).collect();
        // A fixed order: what encapsulates goes before what drops, so that the last to go is isolation.
        surplus.sort_by_key(|(id, held)| (drops(&held.flow), std::cmp::Reverse(id.priority), held.flow.cookie));
        commands.extend(surplus.into_iter().map(|(_, held)| Command::Delete(Arc::clone(&held.flow))));
        commands
    }

    /// A command was sent.
    pub fn sent(&mut self, command: &Command) {
        match command {
            Command::SetMtu(mtu) => self.mtu = Some(*mtu),
            Command::SetOffload(flags) => self.offloads = Some(*flags),
            Command::Set(flow) => {
                self.flows.insert(EntryId::of(flow), Held { flow: Arc::clone(flow), confirmed: false });
            }
            Command::Delete(flow) => {
                self.flows.remove(&EntryId::of(flow));
            }
        }
    }

    /// The vNIC has listed all its entries. Returns whether the listing is credible.
    ///
    /// An entry that the vNIC had listed before and that is missing now was lost, or only its answer was: such an
    /// entry stays believed but unconfirmed, the result is `false`, and the next listing decides. Sending it again
    /// at once would reset its counters for nothing.
    pub fn learn(&mut self, listing: Vec<FlowMod>) -> bool {
        let mut credible = true;
        let mut listed: HashMap<_, _> = listing.into_iter().map(|flow| (EntryId::of(&flow), flow)).collect();
        self.flows.retain(|id, held| match listed.remove(id) {
            Some(flow) => {
                if !same_entry(&held.flow, &flow) {
                    held.flow = Arc::new(flow);
                }
                held.confirmed = true;
                true
            }
            None if held.confirmed => {
                held.confirmed = false;
                credible = false;
                true
            }
            None => false,
        });
        let surplus = listed.into_iter().map(|(id, flow)| (id, Held { flow: Arc::new(flow), confirmed: true }));
        self.flows.extend(surplus);
        credible
    }

    /// How many of the wanted entries the vNIC has listed.
    pub fn confirmed(&self, desired: &Desired) -> usize {
        let confirmed = |flow: &&Arc<FlowMod>| {
            self.flows.get(&EntryId::of(flow)).is_some_and(|held| held.confirmed && same_entry(&held.flow, flow))
        };
        desired.flows.iter().filter(confirmed).count()
    }
}

/// Whether two entries with the same priority and match are the same in every other respect that matters.
/// "No action" and "output to no port" both drop.
fn same_entry(a: &FlowMod, b: &FlowMod) -> bool {
    a.cookie == b.cookie
        && a.idle_timeout == b.idle_timeout
        && a.hard_timeout == b.hard_timeout
        && (a.actions == b.actions || (drops(a) && drops(b)))
}
