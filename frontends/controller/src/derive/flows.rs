//! The entries that a vNIC should have, made when they are asked for.
//!
//! Most entries of a network's members follow from the network alone. Fifty thousand vNICs with twenty entries of
//! 700 bytes would fill most of a gigabyte with what a network's few kilobytes say as well.

use std::sync::Arc;

use cvsw_core::flow::FlowMod;

use super::{Kind, derived_flows, drops};
use crate::config::Network;

/// Entries in the order of sending: what drops first, then from low to high priority, so that a vNIC that has only a
/// part of them sends nothing past its network.
#[derive(Clone, Debug)]
pub struct Flows(Source);

#[derive(Clone, Debug)]
enum Source {
    /// Those of the member with this index.
    Member(Arc<Network>, usize),
    /// These.
    Given(Vec<Arc<FlowMod>>),
}

impl Flows {
    /// Those of a member of `network`, by its index. Without such a member there are none.
    pub(super) const fn of_member(network: Arc<Network>, index: usize) -> Self {
        Self(Source::Member(network, index))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Member(network, index) => {
                let with = |member: &crate::config::Member| {
                    // One for each peer, to the group, from the peers, from the group, isolation.
                    network.members.len() - 1 + 4 + member.flows.len()
                };
                network.members.get(*index).map_or(0, with)
            }
            Source::Given(flows) => flows.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    pub fn iter(&self) -> std::vec::IntoIter<Arc<FlowMod>> {
        let flows = match &self.0 {
            Source::Member(network, index) => of_member(network, *index),
            Source::Given(flows) => flows.clone(),
        };
        flows.into_iter()
    }

    /// Whether they are the same because they follow from the same place of the same network.
    pub(crate) fn same_place(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Member(network, index), Source::Member(other, at)) => {
                Arc::ptr_eq(network, other) && index == at
            }
            _ => false,
        }
    }
}

impl PartialEq for Flows {
    fn eq(&self, other: &Self) -> bool {
        self.same_place(other) || (self.len() == other.len() && self.iter().eq(other.iter()))
    }
}

impl FromIterator<FlowMod> for Flows {
    fn from_iter<I: IntoIterator<Item = FlowMod>>(flows: I) -> Self {
        Self(Source::Given(in_order(flows)))
    }
}

impl IntoIterator for &Flows {
    type Item = Arc<FlowMod>;
    type IntoIter = std::vec::IntoIter<Arc<FlowMod>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn of_member(network: &Network, index: usize) -> Vec<Arc<FlowMod>> {
    let Some(member) = network.members.get(index) else { return Vec::new() };
    let extra = member.flows.iter().zip(1..);
    let extra = extra.map(|(flow, number)| FlowMod { cookie: Kind::Extra.cookie(number), ..flow.clone() });
    in_order(derived_flows(network, member).into_iter().chain(extra))
}

fn in_order(flows: impl IntoIterator<Item = FlowMod>) -> Vec<Arc<FlowMod>> {
    let mut flows: Vec<_> = flows.into_iter().map(Arc::new).collect();
    flows.sort_by_key(|flow| (!drops(flow), flow.priority));
    flows
}
