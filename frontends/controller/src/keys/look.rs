//! What there is, for people: channels, and how many in which state.

use std::{collections::BTreeMap, net::Ipv4Addr, ops::Bound, time::Duration};

use cvsw_core::crypto::Suite;
use cvsw_trace::{Association, Known};

use super::{Channel, ChannelId, Keys};
use crate::{config::Network, mac::Mac};

/// A channel, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// Which one.
    pub id: ChannelId,
    /// Its suite.
    pub suite: Suite,
    /// SPI and age of the key in use.
    pub key: Option<(u32, Duration)>,
    /// A new key is on its way, or due.
    pub keying: bool,
    /// Whether its sender and at least one receiver are there.
    pub possible: bool,
    /// Its sender is on a switch of another controller, whose business it is.
    pub elsewhere: bool,
    /// Keys that were replaced.
    pub rotations: u64,
    /// Packets sealed with the key in use, as of the last question.
    pub packets: u64,
}

impl ChannelStatus {
    /// All states.
    pub const STATES: [&str; 4] = ["encrypted", "keying", "waiting", "elsewhere"];

    /// In one word: `encrypted`; `keying`: a (new) key is on its way; `waiting`: one end is absent, nothing passes;
    /// `elsewhere`: another controller knows.
    pub const fn state(&self) -> &'static str {
        match (self.possible, &self.key) {
            (false, _) if self.elsewhere => "elsewhere",
            (false, _) => "waiting",
            (true, Some(_)) if !self.keying => "encrypted",
            (true, _) => "keying",
        }
    }
}

impl Keys {
    /// Every channel.
    pub fn iter(&self, now: Duration) -> impl Iterator<Item = ChannelStatus> {
        self.channels.iter().map(move |(id, channel)| self.status(now, *id, channel))
    }

    /// The channels behind this one, in the order of networks, senders and destinations.
    pub fn iter_after(&self, now: Duration, after: ChannelId) -> impl Iterator<Item = ChannelStatus> {
        let range = self.channels.range((Bound::Excluded(after), Bound::Unbounded));
        range.map(move |(id, channel)| self.status(now, *id, channel))
    }

    /// The channels of a network, or of one sender in it; those behind `after`, if there is one.
    pub fn iter_in(
        &self,
        now: Duration,
        vni: u32,
        sender: Option<Mac>,
        after: Option<ChannelId>,
    ) -> impl Iterator<Item = ChannelStatus> {
        let first = ChannelId { vni, sender: sender.unwrap_or(Mac([0; 6])), destination: Ipv4Addr::UNSPECIFIED };
        let wanted = move |id: &ChannelId| id.vni == vni && sender.is_none_or(|sender| id.sender == sender);
        let from = after.filter(|after| *after >= first).map_or(Bound::Included(first), Bound::Excluded);
        let range = self.channels.range((from, Bound::Unbounded)).take_while(move |(id, _)| wanted(id));
        range.map(move |(id, channel)| self.status(now, *id, channel))
    }

    /// The channels in which this vNIC sends.
    pub fn iter_of(&self, now: Duration, sender: Mac) -> impl Iterator<Item = ChannelStatus> {
        let vni = self.encrypted.get(&sender).into_iter();
        vni.flat_map(move |vni| self.iter_in(now, *vni, Some(sender), None))
    }

    /// Whether this vNIC opens what is sent in this channel.
    pub fn receives(&self, id: ChannelId, mac: Mac) -> bool {
        self.channels.get(&id).is_some_and(|channel| channel.receivers.contains(&mac))
    }

    /// With what a packet to `destination` with this SPI is sealed, in the network of this vNIC; the controller has the key
    /// no more.
    pub fn association(&self, mac: Mac, destination: Ipv4Addr, spi: u32) -> Association {
        let network = self.encrypted.get(&mac).and_then(|vni| self.networks.get(vni));
        let of_sender = |network: &Network, sender| {
            let id = ChannelId { vni: network.vni, sender, destination };
            let channel = self.channels.get(&id)?;
            let (state, given) = channel.stage(spi, mac)?;
            Some(Known {
                vni: id.vni,
                sender: sender.to_string(),
                suite: channel.suite.to_string(),
                state,
                here: given && channel.receivers.contains(&mac) && self.is_reachable(mac),
            })
        };
        let known =
            network.and_then(|network| network.members.iter().find_map(|sender| of_sender(network, sender.mac)));
        Association { spi: format!("{spi:#010x}"), destination: destination.to_string(), known }
    }

    fn status(&self, now: Duration, id: ChannelId, channel: &Channel) -> ChannelStatus {
        ChannelStatus {
            id,
            suite: channel.suite,
            key: channel.current.as_ref().map(|key| (key.spi, now.saturating_sub(key.since))),
            keying: channel.next.is_some() || channel.rekey_at.is_some(),
            possible: self.couriers.contains_key(&id.sender)
                && channel.receivers.iter().any(|mac| self.is_reachable(*mac)),
            elsewhere: !self.couriers.contains_key(&id.sender) && self.peers.have(id.sender),
            rotations: channel.rotations,
            packets: channel.packets,
        }
    }

    /// Messages that were sent again, because no answer to them came in time.
    pub const fn repeated(&self) -> u64 {
        self.repeated
    }

    /// How many channels there are in each state, as far as it has been looked at what has happened to them.
    pub const fn states(&self) -> &BTreeMap<&'static str, usize> {
        &self.states
    }

    /// Whether it has been looked at everything that has happened.
    pub fn is_quiet(&self) -> bool {
        self.channels_due.waiting() == 0
    }

    /// Whether every channel that can have a key has one that is up to date.
    pub fn complete(&self) -> bool {
        self.is_quiet() && !self.states.contains_key("keying")
    }

    /// Counts a channel as what it is now.
    pub(super) fn count(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get(&id) else { return };
        let (before, state) = (channel.counted, self.status(Duration::ZERO, id, channel).state());
        if before == state {
            return;
        }
        self.count_no_more(before);
        *self.states.entry(state).or_default() += 1;
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.counted = state;
        }
    }

    /// What was counted as `before` is so no more.
    pub(super) fn count_no_more(&mut self, before: &'static str) {
        if let Some(count) = self.states.get_mut(before) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.states.remove(before);
            }
        }
    }
}
