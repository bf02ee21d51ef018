//! From what a vNIC is believed to have to what it should have. Pure.
//!
//! Of a vNIC that has said that it has what is wanted, a belief keeps just that: its entries follow from the wanted state.
//! Of one that is not so far it keeps two fingerprints for each entry instead of a copy: one of what makes it this entry,
//! one of everything else that matters. Only entries that are not wanted are kept whole, since they have to be named when
//! they are deleted.

mod fingerprint;

use std::{cell::LazyCell, cmp::Reverse, sync::Arc};

use cvsw_core::{control::OffloadFlags, flow::FlowMod, mtu::IpMtu, openflow};

use crate::derive::{Desired, EntryId, drops};
use fingerprint::{ByIdentity, Held, Identities, Identity, Kept};

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

/// What a vNIC is believed to have: what was sent to it, corrected by what it listed or told. Everything that changes it
/// is told what is wanted, which must be the same until [`Belief::replaced`] says that it is not.
#[derive(Debug)]
pub struct Belief {
    mtu: Option<IpMtu>,
    offloads: Option<OffloadFlags>,
    /// Its entries. `None`: those that are wanted and whose time is not up, each confirmed. What most vNICs have most of the
    /// time costs nothing.
    held: Option<ByIdentity<Held>>,
    /// Boxed: most vNICs have none most of the time.
    exceptions: Option<Box<Exceptions>>,
}

impl Default for Belief {
    fn default() -> Self {
        Self { mtu: None, offloads: None, held: Some(ByIdentity::default()), exceptions: None }
    }
}

/// Entries that are where they are not wanted, or are not where they are wanted.
#[derive(Debug, Default)]
struct Exceptions {
    /// Entries that it has and that are not wanted.
    strays: ByIdentity<Kept>,
    /// Wanted entries whose time was up.
    expired: ByIdentity<Held>,
}

impl Exceptions {
    fn has_expired(&self, flow: &FlowMod) -> bool {
        let Self { expired, .. } = self;
        !expired.is_empty() && expired.get(&Identity::of_flow(flow)).is_some_and(|expired| expired.is(flow))
    }
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
        let known = belief.held.as_ref().is_some_and(|held| held.contains_key(&id));
        if !known && let Some(kept) = Kept::new(flow) {
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

    /// The vNIC, which should have `desired`, has acknowledged a command.
    pub fn acknowledged(&mut self, command: &Command, desired: &Desired) {
        self.carried_out(command, true, desired);
    }

    /// The vNIC has told its parameters.
    pub const fn parameters(&mut self, mtu: Option<IpMtu>, offloads: Option<OffloadFlags>) {
        self.mtu = mtu;
        self.offloads = offloads;
    }

    /// The vNIC, which should have `desired`, has exactly these entries.
    pub fn replace(&mut self, listing: Listing, desired: &Desired) {
        self.held = Some(listing.entries.into_iter().collect());
        self.keep_strays(listing.news, desired);
    }

    /// The vNIC has exactly the entries that are wanted, without those whose time was up.
    pub fn replace_with_wanted(&mut self) {
        self.held = None;
        self.retain_exceptions(|_| false, |_| true);
    }

    /// An entry is not there any more.
    pub fn forget(&mut self, entry: EntryId, desired: &Desired) {
        let id = Identity::of(&entry);
        self.spell_out(desired).remove(&id);
        self.retain_exceptions(|stray| *stray != id, |_| true);
    }

    /// An entry's time was up. That is how it was wanted: it is not sent again, unless another one is wanted in its
    /// place, or the vNIC begins anew.
    pub fn expire(&mut self, entry: EntryId, desired: &Desired) {
        let id = Identity::of(&entry);
        let held = self.spell_out(desired).remove(&id);
        self.retain_exceptions(|stray| *stray != id, |_| true);
        if let Some(held) = held {
            self.exceptions.get_or_insert_default().expired.insert(id, held);
        }
    }

    /// How many of the wanted entries were there, and their time was up.
    pub fn expired(&self, desired: &Desired) -> usize {
        if self.exceptions.is_none() {
            return 0;
        }
        desired.flows.iter().filter(|flow| self.has_expired(flow)).count()
    }

    /// Whether this entry was there, and its time was up.
    pub fn has_expired(&self, flow: &FlowMod) -> bool {
        self.exceptions.as_ref().is_some_and(|exceptions| exceptions.has_expired(flow))
    }

    /// The differences, make before break: parameters, then additions and changes in the wanted order, then deletions.
    pub fn plan(&self, desired: &Desired) -> Vec<Command> {
        let mut commands = Vec::new();
        commands.extend(desired.mtu.filter(|mtu| self.mtu != Some(*mtu)).map(Command::SetMtu));
        commands.extend(desired.offloads.filter(|flags| self.offloads != Some(*flags)).map(Command::SetOffload));
        if let Some(held) = &self.held {
            let is_held = |flow: &FlowMod| held.get(&Identity::of_flow(flow)).is_some_and(|held| held.is(flow));
            let missing = desired.flows.iter().filter(|flow| !self.has_expired(flow) && !is_held(flow));
            commands.extend(missing.map(Command::Set));
        }
        commands.extend(self.surplus(desired).into_iter().map(Command::Delete));
        commands
    }

    /// A command was sent to the vNIC, which should have `desired`.
    pub fn sent(&mut self, command: &Command, desired: &Desired) {
        self.carried_out(command, false, desired);
    }

    fn carried_out(&mut self, command: &Command, confirmed: bool, desired: &Desired) {
        match command {
            Command::SetMtu(mtu) => self.mtu = Some(*mtu),
            Command::SetOffload(flags) => self.offloads = Some(*flags),
            Command::Set(flow) => {
                let id = Identity::of_flow(flow);
                let held = self.spell_out(desired);
                if held.is_empty() {
                    // More will follow: a table that grows leaves holes of all sizes behind.
                    held.reserve(desired.flows.len());
                }
                held.insert(id, Held::new(flow, confirmed));
                self.retain_exceptions(|stray| *stray != id, |expired| *expired != id);
            }
            Command::Delete(flow) => self.forget(EntryId::of(flow), desired),
        }
    }

    /// Another state is wanted from now on: keeps whole what is not wanted any more.
    pub fn replaced(&mut self, old: &Desired, new: &Desired) {
        if old.flows == new.flows {
            return;
        }
        let wanted = identities(new);
        let held = self.spell_out(old);
        let gone = old.flows.iter().map(|flow| (Identity::of_flow(&flow), flow));
        let gone = gone.filter(|(id, _)| held.contains_key(id) && !wanted.contains(id));
        let gone: Vec<_> = gone.filter_map(|(id, flow)| Some((id, Kept::new(&flow)?))).collect();
        if !gone.is_empty() {
            self.exceptions.get_or_insert_default().strays.extend(gone);
        }
        // One that is not wanted now may be wanted again later.
        self.retain_exceptions(|stray| !wanted.contains(stray), |expired| wanted.contains(expired));
    }

    /// The vNIC, which should have `desired`, has listed all its entries. Returns whether the listing is credible.
    ///
    /// An entry that the vNIC had listed before and that is missing now was lost, or only its answer was: such an
    /// entry stays believed but unconfirmed, the result is `false`, and the next listing decides. Sending it again
    /// at once would reset its counters for nothing. One that has a timeout has expired: the report of it was lost.
    pub fn learn(&mut self, listing: Listing, desired: &Desired) -> bool {
        let mut credible = true;
        let mut listed: ByIdentity<_> = listing.entries.into_iter().collect();
        let timed = LazyCell::new(|| identities_of(desired, is_timed));
        let held = self.spell_out(desired);
        let mut expired = Vec::new();
        held.retain(|id, held| match listed.remove(id) {
            Some(now) => {
                *held = now;
                true
            }
            None if held.is_confirmed() && timed.contains(id) => {
                expired.push((*id, *held));
                false
            }
            None if held.is_confirmed() => {
                held.doubt();
                credible = false;
                true
            }
            None => false,
        });
        held.extend(listed);
        held.shrink_to_fit();
        if !expired.is_empty() {
            self.exceptions.get_or_insert_default().expired.extend(expired);
        }
        self.keep_strays(listing.news, desired);
        credible
    }

    /// Whether the vNIC has listed exactly this entry, which is wanted.
    pub fn has_confirmed(&self, flow: &FlowMod) -> bool {
        match &self.held {
            None => !self.has_expired(flow),
            Some(held) => {
                let held = held.get(&Identity::of_flow(flow));
                held.is_some_and(|held| held.is_confirmed() && held.is(flow))
            }
        }
    }

    /// How many of the wanted entries the vNIC has listed.
    pub fn confirmed(&self, desired: &Desired) -> usize {
        match &self.held {
            None => desired.flows.len().saturating_sub(self.expired(desired)),
            Some(_) => desired.flows.iter().filter(|flow| self.has_confirmed(flow)).count(),
        }
    }

    /// Entries that it is believed to have.
    pub fn len(&self, desired: &Desired) -> usize {
        self.held.as_ref().map_or_else(|| self.confirmed(desired), |held| held.len())
    }

    /// Entries that are not wanted, in the order of deletion: what encapsulates goes before what drops, so that the
    /// last to go is isolation.
    pub fn surplus(&self, desired: &Desired) -> Vec<Arc<FlowMod>> {
        let Some(Exceptions { strays, .. }) = self.exceptions.as_deref() else { return Vec::new() };
        if strays.is_empty() {
            return Vec::new();
        }
        let wanted = identities(desired);
        let surplus = strays.iter().filter(|(id, _)| !wanted.contains(*id));
        let mut surplus: Vec<_> = surplus.filter_map(|(_, kept)| kept.flow()).map(Arc::new).collect();
        surplus.sort_by_key(|flow| (drops(flow), Reverse(flow.priority), flow.cookie, Identity::of_flow(flow)));
        surplus
    }

    /// The entries one by one, since they will not be those that are wanted.
    fn spell_out(&mut self, desired: &Desired) -> &mut ByIdentity<Held> {
        self.held.get_or_insert_with(|| {
            let expired = |flow: &FlowMod| self.exceptions.as_ref().is_some_and(|odd| odd.has_expired(flow));
            let there = desired.flows.iter().filter(|flow| !expired(flow));
            there.map(|flow| (Identity::of_flow(&flow), Held::new(&flow, true))).collect()
        })
    }

    /// Keeps those strays, old and new, that are there and are not wanted.
    fn keep_strays(&mut self, news: Vec<(Identity, Kept)>, desired: &Desired) {
        if !news.is_empty() {
            self.exceptions.get_or_insert_default().strays.extend(news);
        }
        let Some(exceptions) = &mut self.exceptions else { return };
        let wanted = identities(desired);
        exceptions
            .strays
            .retain(|id, _| self.held.as_ref().is_some_and(|held| held.contains_key(id)) && !wanted.contains(id));
        self.retain_exceptions(|_| true, |_| true);
    }

    /// Keeps only these strays and expired entries.
    fn retain_exceptions(&mut self, stray: impl Fn(&Identity) -> bool, expired: impl Fn(&Identity) -> bool) {
        if let Some(exceptions) = &mut self.exceptions {
            exceptions.strays.retain(|id, _| stray(id));
            exceptions.expired.retain(|id, _| expired(id));
            if exceptions.strays.is_empty() && exceptions.expired.is_empty() {
                self.exceptions = None;
            }
        }
    }
}

fn identities(desired: &Desired) -> Identities {
    identities_of(desired, |_| true)
}

fn identities_of(desired: &Desired, which: impl Fn(&FlowMod) -> bool) -> Identities {
    desired.flows.iter().filter(|flow| which(flow)).map(|flow| Identity::of_flow(&flow)).collect()
}

/// Whether an entry ends by itself.
pub const fn is_timed(flow: &FlowMod) -> bool {
    flow.idle_timeout != 0 || flow.hard_timeout != 0
}

#[cfg(test)]
mod tests;
