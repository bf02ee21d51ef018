//! From what a vNIC is believed to have to what it should have. Pure.
//!
//! Of an entry that is wanted, a belief keeps two fingerprints instead of a copy: one of what makes it this entry, one
//! of everything else that matters. Its text can be had from the wanted state at any time. Only entries that are not
//! wanted are kept whole, since they have to be named when they are deleted.

mod fingerprint;

use std::{cell::LazyCell, cmp::Reverse, collections::HashMap, collections::HashSet, sync::Arc};

use cvsw_core::{control::OffloadFlags, flow::FlowMod, mtu::IpMtu, openflow};

use crate::derive::{Desired, EntryId, drops};
use fingerprint::{Held, Identity, Kept};

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
    held: HashMap<Identity, Held>,
    /// The entries of `held` that are not wanted.
    strays: HashMap<Identity, Kept>,
    /// Wanted entries whose time was up.
    expired: HashMap<Identity, Held>,
}

/// What a vNIC has listed so far.
#[derive(Debug, Default)]
pub struct Listing {
    entries: Vec<(Identity, Held)>,
    /// Those that the belief did not have.
    news: Vec<(Identity, Kept)>,
}

impl Listing {
    /// One more entry of a vNIC that is believed to have `belief`.
    pub fn add(&mut self, belief: &Belief, flow: &FlowMod) {
        let id = Identity::of_flow(flow);
        if !belief.held.contains_key(&id)
            && let Some(kept) = Kept::new(flow)
        {
            self.news.push((id, kept));
        }
        self.entries.push((id, Held::new(flow, true)));
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
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

    /// The vNIC has acknowledged a command.
    pub fn acknowledged(&mut self, command: &Command) {
        self.sent(command);
        if let Command::Set(flow) = command {
            self.held.insert(Identity::of_flow(flow), Held::new(flow, true));
        }
    }

    /// The vNIC has told its parameters.
    pub const fn parameters(&mut self, mtu: Option<IpMtu>, offloads: Option<OffloadFlags>) {
        self.mtu = mtu;
        self.offloads = offloads;
    }

    /// The vNIC, which should have `desired`, has exactly these entries.
    pub fn replace(&mut self, listing: Listing, desired: &Desired) {
        self.held = listing.entries.into_iter().collect();
        self.strays.extend(listing.news);
        let wanted = identities(desired);
        self.strays.retain(|id, _| self.held.contains_key(id) && !wanted.contains(id));
    }

    /// An entry is not there any more.
    pub fn forget(&mut self, entry: EntryId) {
        let id = Identity::of(&entry);
        self.held.remove(&id);
        self.strays.remove(&id);
    }

    /// An entry's time was up. That is how it was wanted: it is not sent again, unless another one is wanted in its
    /// place, or the vNIC begins anew.
    pub fn expire(&mut self, entry: EntryId) {
        let id = Identity::of(&entry);
        self.strays.remove(&id);
        if let Some(held) = self.held.remove(&id) {
            self.expired.insert(id, held);
        }
    }

    /// How many of the wanted entries were there, and their time was up.
    pub fn expired(&self, desired: &Desired) -> usize {
        if self.expired.is_empty() {
            return 0;
        }
        desired.flows.iter().filter(|flow| self.has_expired(flow)).count()
    }

    /// Whether this entry was there, and its time was up.
    pub fn has_expired(&self, flow: &FlowMod) -> bool {
        !self.expired.is_empty()
            && self.expired.get(&Identity::of_flow(flow)).is_some_and(|expired| expired.is(flow))
    }

    /// The differences, make before break: parameters, then additions and changes in the wanted order, then deletions.
    pub fn plan(&self, desired: &Desired) -> Vec<Command> {
        let mut commands = Vec::new();
        commands.extend(desired.mtu.filter(|mtu| self.mtu != Some(*mtu)).map(Command::SetMtu));
        commands.extend(desired.offloads.filter(|flags| self.offloads != Some(*flags)).map(Command::SetOffload));
        for flow in &desired.flows {
            if !self.has_expired(&flow) && !self.held(&flow).is_some_and(|held| held.is(&flow)) {
                commands.push(Command::Set(flow));
            }
        }
        commands.extend(self.surplus(desired).into_iter().map(Command::Delete));
        commands
    }

    /// A command was sent.
    pub fn sent(&mut self, command: &Command) {
        match command {
            Command::SetMtu(mtu) => self.mtu = Some(*mtu),
            Command::SetOffload(flags) => self.offloads = Some(*flags),
            Command::Set(flow) => {
                let id = Identity::of_flow(flow);
                self.held.insert(id, Held::new(flow, false));
                self.strays.remove(&id);
                self.expired.remove(&id);
            }
            Command::Delete(flow) => self.forget(EntryId::of(flow)),
        }
    }

    /// Another state is wanted from now on: keeps whole what is not wanted any more.
    pub fn replaced(&mut self, old: &Desired, new: &Desired) {
        let wanted = identities(new);
        for flow in &old.flows {
            let id = Identity::of_flow(&flow);
            if self.held.contains_key(&id)
                && !wanted.contains(&id)
                && let Some(kept) = Kept::new(&flow)
            {
                self.strays.insert(id, kept);
            }
        }
        self.strays.retain(|id, _| !wanted.contains(id));
        // One that is not wanted now may be wanted again later.
        self.expired.retain(|id, _| wanted.contains(id));
    }

    /// The vNIC, which should have `desired`, has listed all its entries. Returns whether the listing is credible.
    ///
    /// An entry that the vNIC had listed before and that is missing now was lost, or only its answer was: such an
    /// entry stays believed but unconfirmed, the result is `false`, and the next listing decides. Sending it again
    /// at once would reset its counters for nothing. One that has a timeout has expired: the report of it was lost.
    pub fn learn(&mut self, listing: Listing, desired: &Desired) -> bool {
        let mut credible = true;
        let mut listed: HashMap<_, _> = listing.entries.into_iter().collect();
        let timed = LazyCell::new(|| identities_of(desired, is_timed));
        let Self { held, expired, .. } = self;
        held.retain(|id, held| match listed.remove(id) {
            Some(now) => {
                *held = now;
                true
            }
            None if held.is_confirmed() && timed.contains(id) => {
                expired.insert(*id, *held);
                false
            }
            None if held.is_confirmed() => {
                held.doubt();
                credible = false;
                true
            }
            None => false,
        });
        self.held.extend(listed);
        self.strays.extend(listing.news);
        if !self.strays.is_empty() {
            let wanted = identities(desired);
            self.strays.retain(|id, _| self.held.contains_key(id) && !wanted.contains(id));
        }
        self.held.shrink_to_fit();
        self.strays.shrink_to_fit();
        credible
    }

    /// Whether the vNIC has listed exactly this entry.
    pub fn has_confirmed(&self, flow: &FlowMod) -> bool {
        self.held(flow).is_some_and(|held| held.is_confirmed() && held.is(flow))
    }

    /// How many of the wanted entries the vNIC has listed.
    pub fn confirmed(&self, desired: &Desired) -> usize {
        desired.flows.iter().filter(|flow| self.has_confirmed(flow)).count()
    }

    /// Entries that it is believed to have.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether it is believed to have none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Entries that are not wanted, in the order of deletion: what encapsulates goes before what drops, so that the
    /// last to go is isolation.
    pub fn surplus(&self, desired: &Desired) -> Vec<Arc<FlowMod>> {
        if self.strays.is_empty() {
            return Vec::new();
        }
        let wanted = identities(desired);
        let surplus = self.strays.iter().filter(|(id, _)| !wanted.contains(*id));
        let mut surplus: Vec<_> = surplus.filter_map(|(_, kept)| kept.flow()).map(Arc::new).collect();
        surplus.sort_by_key(|flow| (drops(flow), Reverse(flow.priority), flow.cookie, Identity::of_flow(flow)));
        surplus
    }

    fn held(&self, flow: &FlowMod) -> Option<Held> {
        self.held.get(&Identity::of_flow(flow)).copied()
    }
}

fn identities(desired: &Desired) -> HashSet<Identity> {
    identities_of(desired, |_| true)
}

fn identities_of(desired: &Desired, which: impl Fn(&FlowMod) -> bool) -> HashSet<Identity> {
    desired.flows.iter().filter(|flow| which(flow)).map(|flow| Identity::of_flow(&flow)).collect()
}

/// Whether an entry ends by itself.
pub const fn is_timed(flow: &FlowMod) -> bool {
    flow.idle_timeout != 0 || flow.hard_timeout != 0
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
            flows: flows.into_iter().collect(),
        }
    }

    fn learn(belief: &mut Belief, flows: Vec<FlowMod>, wanted: &Desired) -> bool {
        let mut listing = Listing::default();
        flows.iter().for_each(|flow| listing.add(belief, flow));
        belief.learn(listing, wanted)
    }

    fn carry_out(belief: &mut Belief, commands: &[Command]) {
        commands.iter().for_each(|command| belief.sent(command));
    }

    #[test]
    fn an_entry_whose_time_is_up_is_not_sent_again() {
        let timed = FlowMod { hard_timeout: 5, ..flow(1, 6, Some(80)) };
        let rest = || flow(2, 6, None);
        let wanted = desired(vec![timed.clone(), rest()], 1450);
        let full = || {
            let mut belief = Belief::default();
            let commands = belief.plan(&wanted);
            carry_out(&mut belief, &commands);
            assert!(learn(&mut belief, vec![timed.clone(), rest()], &wanted));
            belief
        };
        let mut belief = full();
        belief.expire(EntryId::of(&timed));
        assert_eq!((belief.plan(&wanted), belief.expired(&wanted)), (Vec::new(), 1));

        // The report of it was lost, and a listing shows that it is gone.
        let mut other = full();
        assert!(learn(&mut other, vec![rest()], &wanted), "that is no reason to ask again");
        assert_eq!((other.plan(&wanted), other.expired(&wanted)), (Vec::new(), 1));

        // Another entry in its place is sent; and so is the same one, when it was not wanted for a while.
        let changed = desired(vec![FlowMod { hard_timeout: 6, ..timed.clone() }, rest()], 1450);
        assert_eq!(belief.plan(&changed).len(), 1);
        let without = desired(vec![rest()], 1450);
        belief.replaced(&wanted, &without);
        belief.replaced(&without, &wanted);
        assert_eq!(belief.plan(&wanted), [Command::Set(Arc::new(timed))]);
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
        belief.replaced(&old, &new);
        let gone = Arc::new(flow(1, 5, None));
        let expected = [
            Command::SetMtu(IpMtu::new(1400).unwrap()),
            Command::Set(Arc::new(flow(3, 6, None))),
            Command::Set(Arc::new(flow(1, 6, Some(81)))),
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
        assert!(learn(&mut belief, vec![flow(1, 5, None)], &wanted), "the other one was never confirmed");
        assert_eq!((belief.confirmed(&wanted), belief.plan(&wanted).len()), (1, 1));
        let commands = belief.plan(&wanted);
        carry_out(&mut belief, &commands);
        assert!(learn(&mut belief, vec![flow(1, 5, None), flow(2, 5, None)], &wanted));
        assert_eq!(belief.confirmed(&wanted), 2);

        assert!(!learn(&mut belief, vec![flow(1, 5, None)], &wanted), "perhaps only the answer was lost");
        assert_eq!(belief.plan(&wanted), []);
        assert!(learn(&mut belief, vec![flow(1, 5, None)], &wanted));
        assert_eq!(belief.plan(&wanted), [Command::Set(Arc::new(flow(2, 5, None)))]);
    }

    #[test]
    fn what_is_acknowledged_or_told_is_confirmed() {
        let mut belief = Belief::default();
        let wanted = desired(vec![flow(1, 5, None), flow(2, 5, None)], 1450);
        belief.plan(&wanted).iter().for_each(|command| belief.acknowledged(command));
        assert_eq!((belief.plan(&wanted), belief.confirmed(&wanted)), (vec![], 2));
        let mut listing = Listing::default();
        [flow(2, 5, None), flow(9, 5, None)].iter().for_each(|flow| listing.add(&belief, flow));
        belief.replace(listing, &wanted);
        belief.parameters(None, Some(OffloadFlags(1)));
        let expected = [
            Command::SetMtu(IpMtu::new(1450).unwrap()),
            Command::Set(Arc::new(flow(1, 5, None))),
            Command::Delete(Arc::new(flow(9, 5, None))),
        ];
        assert_eq!(belief.plan(&wanted), expected);
    }

    #[test]
    fn ways_to_say_drop_are_one() {
        let mut output_none = flow(1, 5, None);
        output_none.actions.push(Action::Output { port: cvsw_core::flow::OFPP_NONE, max_len: 0 }).unwrap();
        let mut belief = Belief::default();
        let wanted = Desired { mtu: None, offloads: None, ..desired(vec![flow(1, 5, None)], 1450) };
        learn(&mut belief, vec![output_none], &wanted);
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
            let wanted = desired(wanted, 1450);
            learn(&mut belief, before.clone(), &wanted);
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
                wanted.flows.iter().map(|flow| (EntryId::of(&flow), FlowMod::clone(&flow))).collect();
            prop_assert_eq!(table, expected);
            let first_delete = commands.iter().position(|c| matches!(c, Command::Delete(_))).unwrap_or(commands.len());
            prop_assert!(commands[first_delete..].iter().all(|c| matches!(c, Command::Delete(_))));
            carry_out(&mut belief, &commands);
            prop_assert_eq!(belief.plan(&wanted), vec![]);
        }
    }
}
