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

    /// An entry is not there any more.
    pub fn forget(&mut self, entry: EntryId) {
        self.flows.remove(&entry);
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

#[cfg(test)]
mod tests {
    use super::*;
    use cvsw_core::flow::{Action, ActionList, Field, Match};
    use proptest::prelude::*;

    fn flow(port: u16, priority: u16, action: Option<u16>) -> FlowMod {
        let mut actions = ActionList::new();
        if let Some(port) = action {
            actions.push(Action::SetTpDst(port)).unwrap();
        }
        let matching = Match::ANY.with(Field::InPort, port.into());
        FlowMod { matching, priority, actions, ..FlowMod::default() }
    }

    fn desired(flows: Vec<FlowMod>, mtu: u16) -> Desired {
        Desired {
            network: None,
            name: String::new(),
            mtu: IpMtu::new(mtu),
            offloads: Some(OffloadFlags(1)),
            flows: flows.into_iter().map(Arc::new).collect(),
        }
    }

    fn carry_out(belief: &mut Belief, commands: &[Command]) {
        commands.iter().for_each(|command| belief.sent(command));
    }

    #[test]
    fn only_differences_and_make_before_break() {
        let mut belief = Belief::default();
        let old = desired(vec![flow(1, 5, None), flow(1, 6, Some(80)), flow(2, 6, Some(80))], 1450);
        let all = belief.plan(&old);
        assert_eq!(all.len(), 5);
        assert!(matches!(all[..2], [Command::SetMtu(_), Command::SetOffload(_)]));
        carry_out(&mut belief, &all);
        assert_eq!(belief.plan(&old), []);

        let new = desired(vec![flow(1, 6, Some(81)), flow(3, 6, None), flow(2, 6, Some(80))], 1400);
        let gone = Arc::new(flow(1, 5, None));
        let expected = [
            Command::SetMtu(IpMtu::new(1400).unwrap()),
            Command::Set(Arc::new(flow(1, 6, Some(81)))),
            Command::Set(Arc::new(flow(3, 6, None))),
            Command::Delete(gone),
        ];
        assert_eq!(belief.plan(&new), expected);
    }

    #[test]
    fn one_listing_that_lacks_a_confirmed_entry_is_not_believed() {
        let mut belief = Belief::default();
        let wanted = desired(vec![flow(1, 5, None), flow(2, 5, None)], 1450);
        let commands = belief.plan(&wanted);
        carry_out(&mut belief, &commands);
        assert_eq!(belief.confirmed(&wanted), 0);
        assert!(belief.learn(vec![flow(1, 5, None)]), "the other one was never confirmed");
        assert_eq!((belief.confirmed(&wanted), belief.plan(&wanted).len()), (1, 1));
        let commands = belief.plan(&wanted);
        carry_out(&mut belief, &commands);
        assert!(belief.learn(vec![flow(1, 5, None), flow(2, 5, None)]));
        assert_eq!(belief.confirmed(&wanted), 2);

        assert!(!belief.learn(vec![flow(1, 5, None)]), "perhaps only the answer was lost");
        assert_eq!(belief.plan(&wanted), []);
        assert!(belief.learn(vec![flow(1, 5, None)]));
        assert_eq!(belief.plan(&wanted), [Command::Set(Arc::new(flow(2, 5, None)))]);
    }

    #[test]
    fn ways_to_say_drop_are_one() {
        let mut output_none = flow(1, 5, None);
        output_none.actions.push(Action::Output { port: cvsw_core::flow::OFPP_NONE, max_len: 0 }).unwrap();
        let mut belief = Belief::default();
        belief.learn(vec![output_none]);
        let wanted = Desired { mtu: None, offloads: None, ..desired(vec![flow(1, 5, None)], 1450) };
        assert_eq!(belief.plan(&wanted), []);
    }

    fn flows() -> impl Strategy<Value = Vec<FlowMod>> {
        let one = (1..4u16, 1..4u16, prop::option::of(1..3u16));
        prop::collection::vec(one, 0..8).prop_map(|list| {
            // One entry per identity, as in any table.
            let map: HashMap<_, _> =
                list.into_iter().map(|(port, priority, action)| ((port, priority), action)).collect();
            map.into_iter().map(|((port, priority), action)| flow(port, priority, action)).collect()
        })
    }

    proptest! {
        /// From any state to any other: the plan leads there, and nothing is left to plan.
        #[test]
        fn the_plan_leads_to_the_wanted_state(before in flows(), wanted in flows()) {
            let mut belief = Belief::default();
            belief.learn(before.clone());
            let wanted = desired(wanted, 1450);
            let commands = belief.plan(&wanted);
            let mut table: HashMap<EntryId, FlowMod> = before.iter().map(|flow| (EntryId::of(flow), flow.clone())).collect();
            for command in &commands {
                match command {
                    Command::Set(flow) => drop(table.insert(EntryId::of(flow), FlowMod::clone(flow))),
                    Command::Delete(flow) => prop_assert!(table.remove(&EntryId::of(flow)).is_some()),
                    Command::SetMtu(_) | Command::SetOffload(_) => {}
                }
            }
            let expected: HashMap<EntryId, FlowMod> =
                wanted.flows.iter().map(|flow| (EntryId::of(flow), FlowMod::clone(flow))).collect();
            prop_assert_eq!(table, expected);
            let first_delete = commands.iter().position(|c| matches!(c, Command::Delete(_))).unwrap_or(commands.len());
            prop_assert!(commands[first_delete..].iter().all(|c| matches!(c, Command::Delete(_))));
            carry_out(&mut belief, &commands);
            prop_assert_eq!(belief.plan(&wanted), vec![]);
        }
    }
}
