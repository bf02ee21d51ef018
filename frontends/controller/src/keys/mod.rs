//! Keys of encrypted networks: who needs which, made of the system's randomness, exchanged without losing a packet.
//!
//! A *channel* is what one vNIC sends to one outer address: to a peer, or to the network's group, whose key all
//! other members of the network share. Each channel has a key of its own, and only its sender seals with it, so no
//! two vNICs ever use the same nonces. A key is exchanged in this order: every receiver gets the new association beside the
//! old one and acknowledges it; the sender replaces its association; after a while the receivers lose the old one.
//!
//! Where a vNIC starts anew, every key that it had is replaced, those that it only received with too: its anti-replay
//! windows are gone. A vNIC that is absent gets no key, and the others nothing for it: what they send there is dropped.
//!
//! A vNIC that was at work before it came here (another controller's, or an earlier life of this one's) keeps what it has
//! until there is a new key in its place: it is asked which one it sends with, and then that is exchanged like any other.
//!
//! How a [`SetSa`] travels is the business of [`mod@clear`], which a later protocol version replaces.

mod agenda;
mod audit;
mod channel;
pub mod clear;
mod courier;
mod delivery;
mod log;
mod look;
pub mod note;
mod peers;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    net::Ipv4Addr,
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use cvsw_core::control::{SaAnswer, SaCommand, SetSa};

use crate::{
    config::{Config, Network},
    mac::Mac,
};
use agenda::Agenda;
use audit::Guests;
pub use channel::SHARES;
use channel::{Channel, Generation};
use courier::{Courier, Order};
pub use log::KeyLog;
pub use look::ChannelStatus;
use note::Note;
use peers::Peers;

/// Channels and vNICs that are taken care of at once, so that a new key for everybody does not keep everything else
/// waiting.
const AT_ONCE: usize = 512;
/// Channels whose vNICs are asked at once ...
const QUESTIONS: usize = 300;
/// ... and the pause until the next ones are.
const QUESTIONS_PAUSE: Duration = Duration::from_millis(100);
/// Pause before another attempt to make a key.
const NO_KEY_PAUSE: Duration = Duration::from_secs(1);
/// Keys taken into use that are remembered.
const NEWS: usize = 1024;

/// Id of the sending association for an outer destination: the address itself, so that flows can name it before there is
/// a key, and another controller names it alike.
pub fn sending_id(destination: Ipv4Addr) -> u32 {
    destination.into()
}

/// What there is a key for: each vNIC of an encrypted network with an outer destination, and its receivers.
pub fn ways(config: &Config) -> impl Iterator<Item = (Mac, Ipv4Addr, BTreeSet<Mac>)> {
    let encrypted = config.networks.iter().filter(|network| network.cipher.is_some());
    let ways = encrypted.flat_map(|network| channel::of_network(network));
    ways.map(|(id, _, receivers)| (id.sender, id.destination, receivers))
}

/// What one vNIC sends to one outer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelId {
    /// The network.
    pub vni: u32,
    /// The sending vNIC.
    pub sender: Mac,
    /// Outer destination.
    pub destination: Ipv4Addr,
}

/// All keys.
#[derive(Debug, Default)]
pub struct Keys {
    /// Boxed: half of a tree is room for more.
    channels: BTreeMap<ChannelId, Box<Channel>>,
    /// Channels that have something to do.
    channels_due: Agenda<ChannelId>,
    /// Everybody who is here, in encrypted networks or not.
    couriers: BTreeMap<Mac, Box<Courier>>,
    /// Couriers that have something to do.
    couriers_due: Agenda<Mac>,
    /// Encrypted networks by VNI.
    networks: BTreeMap<u32, Arc<Network>>,
    /// Members of encrypted networks, with the network's VNI.
    encrypted: BTreeMap<Mac, u32>,
    /// SPIs that somebody may have, ...
    used: HashSet<u32>,
    /// ... and of which share new ones are.
    share: u8,
    /// Of this controller.
    epoch: u64,
    /// Old associations of receivers that were not here when they should have lost them.
    missed: BTreeMap<Mac, BTreeSet<u32>>,
    peers: Peers,
    guests: Guests,
    /// Messages that were sent once and are not answered.
    in_flight: usize,
    /// What the answer that came last has taken.
    round_trip: Option<Duration>,
    repeated: u64,
    /// Channels by state.
    states: BTreeMap<&'static str, usize>,
    questions: Questions,
    news: VecDeque<(ChannelId, u32)>,
    taken_into_use: u64,
    log: Option<KeyLog>,
}

/// Where the round is in which every vNIC is asked how its associations are.
#[derive(Debug, Default)]
struct Questions {
    round_at: Duration,
    /// The last channel of this round that had its turn; none: there is no round under way.
    last: Option<ChannelId>,
    next_at: Duration,
}

impl Keys {
    /// Notes every key for a dissector from now on, see [`KeyLog`].
    pub fn log_to(&mut self, log: KeyLog) {
        self.log = Some(log);
    }

    /// Takes over a configuration. Networks that stay what they are keep their keys, and so do channels of others, if
    /// they stay; another suite is taken over like a new key.
    pub fn configure(&mut self, now: Duration, config: &Config) {
        let encrypted = config.networks.iter().filter(|network| network.cipher.is_some());
        let wanted: BTreeMap<_, _> = encrypted.map(|network| (network.vni, Arc::clone(network))).collect();
        let before = std::mem::replace(&mut self.networks, wanted.clone());
        let same = |vni: &u32| match (before.get(vni), wanted.get(vni)) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old == new,
            _ => false,
        };
        let changed: BTreeSet<u32> = before.keys().chain(wanted.keys()).copied().filter(|vni| !same(vni)).collect();
        let members = |networks: &BTreeMap<u32, Arc<Network>>| {
            let changed = changed.iter().filter_map(|vni| networks.get(vni));
            let members =
                changed.flat_map(|network| network.members.iter().map(|member| (member.mac, network.vni)));
            members.collect::<BTreeMap<_, _>>()
        };
        let (was, is) = (members(&before), members(&wanted));
        self.encrypted.retain(|mac, _| !was.contains_key(mac));
        self.encrypted.extend(&is);
        for vni in &changed {
            self.reshape(now, *vni, wanted.get(vni));
        }
        let macs: BTreeSet<_> = was.keys().chain(is.keys()).copied().collect();
        for mac in macs {
            let (old, new) = (was.get(&mac), is.get(&mac));
            if old == new || !self.couriers.contains_key(&mac) {
                continue;
            }
            self.order(mac, None, old.map_or(SaCommand::Flush, |vni| SaCommand::Require { vni: *vni, on: false }));
            if let Some(vni) = new {
                self.order(mac, None, SaCommand::Require { vni: *vni, on: true });
                self.peers.tell(&Note::Here { mac, fresh: false, epoch: self.epoch });
            }
        }
    }

    /// The channels of a network become what it wants; `None`: it is encrypted no more.
    fn reshape(&mut self, now: Duration, vni: u32, network: Option<&Arc<Network>>) {
        let first = ChannelId { vni, sender: Mac([0; 6]), destination: Ipv4Addr::UNSPECIFIED };
        let ids: Vec<_> = self.channels.range(first..).map(|(id, _)| *id).take_while(|id| id.vni == vni).collect();
        let take = |id: ChannelId| Some((id, self.channels.remove(&id)?));
        let mut old: BTreeMap<_, _> = ids.into_iter().filter_map(take).collect();
        for (network, suite) in network.iter().filter_map(|network| Some((network, network.cipher?))) {
            for (id, source, receivers) in channel::of_network(network) {
                let mut channel = old.remove(&id).unwrap_or_else(|| Box::new(Channel::new(suite)));
                let left = channel.receivers.difference(&receivers).copied().collect();
                self.withdraw(&channel, &left);
                if channel.suite != suite || channel.receivers != receivers {
                    channel.suite = suite;
                    channel.receivers = receivers;
                    channel.rekey(now);
                }
                channel.source = source;
                channel.rotate = network.rotate;
                self.channels.insert(id, channel);
                self.channels_due.soon(id);
            }
        }
        for (id, channel) in old {
            self.dissolve(id, &channel);
        }
    }

    /// This controller's epoch: higher than that of whoever has managed any of the vNICs before that come from now on.
    pub const fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Of which share of all SPIs new ones are: no two controllers have the same at a time.
    pub const fn set_share(&mut self, share: u8) {
        self.share = share;
    }

    /// A vNIC has come that was at work before: nothing is taken from it before it has something else in its place.
    pub fn resumed(&mut self, now: Duration, mac: Mac) {
        let removals = self.replace_courier(mac, Some(Courier::default()));
        let Some(vni) = self.encrypted.get(&mac).copied() else { return };
        self.guests.arrived(now, mac);
        self.order(mac, None, SaCommand::Require { vni, on: true });
        self.take_all_away(mac, removals);
        self.receiver_came(now, mac, false);
        for id in self.channels_of(mac).into_iter().filter(|id| id.sender == mac) {
            let question = self.channels.get_mut(&id).map(|channel| channel.learn(now, id));
            self.channels_due.soon(id);
            question.into_iter().for_each(|question| self.order(mac, Some(id), question));
        }
        self.peers.tell(&Note::Here { mac, fresh: false, epoch: self.epoch });
    }

    /// A vNIC has come, or has started anew: it has no key.
    pub fn arrived(&mut self, now: Duration, mac: Mac) {
        self.replace_courier(mac, Some(Courier::default()));
        let Some(vni) = self.encrypted.get(&mac).copied() else { return };
        self.guests.arrived(now, mac);
        self.order(mac, None, SaCommand::Flush);
        self.order(mac, None, SaCommand::Require { vni, on: true });
        self.receiver_came(now, mac, true);
        for id in self.channels_of(mac).into_iter().filter(|id| id.sender == mac) {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.forget(now);
                channel.rekey(now);
                self.channels_due.soon(id);
            }
        }
        self.peers.tell(&Note::Here { mac, fresh: true, epoch: self.epoch });
    }

    /// A receiver has come, to a switch of ours or of another controller's; `fresh`: it has no key.
    fn receiver_came(&mut self, now: Duration, mac: Mac, fresh: bool) {
        self.look_at_channels_of(mac);
        for spi in self.missed.remove(&mac).filter(|_| !fresh).unwrap_or_default() {
            self.order(mac, None, SaCommand::Remove { id: spi });
        }
        for id in self.channels_of(mac).into_iter().filter(|id| id.sender != mac) {
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            let question = if fresh {
                channel.rekey(now);
                None
            } else {
                channel.joined(now)
            };
            self.channels_due.soon(id);
            question.into_iter().for_each(|question| self.order(mac, Some(id), question));
        }
    }

    /// A vNIC has gone. `at_work`: only its switch was lost, or it is on its way to another port; it may go on with what it
    /// has.
    pub fn left(&mut self, now: Duration, mac: Mac, at_work: bool) {
        let removals = self.replace_courier(mac, None);
        self.guests.left(mac);
        self.look_at_channels_of(mac);
        if self.peers.have(mac) {
            // Another controller has said so before we have noticed.
            self.settle_away(now, mac);
        } else {
            self.missing(now, mac, at_work);
        }
        self.take_all_away(mac, removals);
        if self.encrypted.contains_key(&mac) {
            self.peers.tell(&Note::Gone { mac, at_work });
        }
    }

    /// Nobody knows where a vNIC is.
    fn missing(&mut self, now: Duration, mac: Mac, at_work: bool) {
        self.look_at_channels_of(mac);
        for id in self.channels_of(mac).into_iter().filter(|id| id.sender != mac) {
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            channel.missing(now, mac, at_work);
            self.channels_due.soon(id);
        }
    }

    /// Whatever a vNIC sends or receives may be in another state now.
    fn look_at_channels_of(&mut self, mac: Mac) {
        for id in self.channels_of(mac) {
            self.channels_due.soon(id);
        }
    }

    /// Replaces every key in use.
    pub fn rotate(&mut self, now: Duration) {
        for (id, channel) in self.channels.iter_mut().filter(|(_, channel)| channel.current.is_some()) {
            channel.rekey_at.get_or_insert(now);
            self.channels_due.soon(*id);
        }
    }

    /// A vNIC has answered. Returns what is wrong, if something is.
    pub fn answered(&mut self, now: Duration, mac: Mac, answer: &SaAnswer) -> Option<String> {
        let courier = self.couriers.get_mut(&mac)?;
        if courier.restarted(answer.generation) {
            self.arrived(now, mac);
            return None;
        }
        self.couriers_due.soon(mac);
        let before = courier.in_flight();
        self.round_trip = courier.waited(now, answer.transaction);
        let answered = courier.answered(now, answer);
        self.in_flight = self.in_flight.saturating_sub(before) + courier.in_flight();
        let order = match answered {
            Ok(order) => order?,
            Err(why) => return Some(why),
        };
        self.carried_out(now, mac, order, answer);
        None
    }

    /// A vNIC has done what was ordered.
    fn carried_out(&mut self, now: Duration, mac: Mac, order: Order, answer: &SaAnswer) {
        if let Some(from) = order.from {
            self.guests.carried_out(mac, &order.command, answer.association.is_some());
            return self.peers.answer(from, mac, answer);
        }
        let Some(id) = order.channel else { return self.guest_answered(mac, &order.command, answer) };
        let Some(channel) = self.channels.get_mut(&id) else { return };
        match order.command {
            SaCommand::Add(config, _) if channel.acknowledged(now, mac, &config) => {
                self.taken_into_use += 1;
                self.news.push_back((id, config.spi));
                self.news.drain(..self.news.len().saturating_sub(NEWS));
            }
            SaCommand::Query { .. } => self.used.extend(channel.reported(now, mac == id.sender, answer)),
            _ => {}
        }
        if channel.has_news() {
            self.channels_due.soon(id);
        }
    }

    /// Does what is due; `timeout` is how long a vNIC may take to answer, `query` the pause between two questions, and
    /// `limit` how many messages may be unanswered. Returns what is to be sent. When there is much to do, it is done in
    /// several calls.
    pub fn poll(&mut self, now: Duration, timeout: Duration, query: Duration, limit: usize) -> Vec<(Mac, SetSa)> {
        let mut messages = Vec::new();
        // What comes too late is not waited for any longer, and makes room.
        for mac in self.couriers_due.take_late(now) {
            self.dispatch(now, timeout, mac, limit, &mut messages);
        }
        // What could not be sent now would only wait here, with its keys.
        if self.couriers_due.waiting() < AT_ONCE {
            self.ask(now, query);
            for id in self.channels_due.take(now, AT_ONCE) {
                self.advance(now, id);
            }
        }
        while self.in_flight < limit && messages.len() < AT_ONCE {
            let Some(mac) = self.couriers_due.next() else { break };
            self.dispatch(now, timeout, mac, limit, &mut messages);
        }
        messages
    }

    /// Messages that were sent once and are not answered.
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// What the answer that came last has taken; told once.
    pub const fn take_round_trip(&mut self) -> Option<Duration> {
        self.round_trip.take()
    }

    /// How many keys were taken into use so far, and the newest of them, oldest first: channels and SPIs.
    pub fn taken_into_use(&self) -> (u64, impl DoubleEndedIterator<Item = (ChannelId, u32)>) {
        (self.taken_into_use, self.news.iter().copied())
    }

    /// The channel is no longer wanted.
    fn dissolve(&mut self, id: ChannelId, channel: &Channel) {
        // Elsewhere it is for others to say.
        if self.couriers.contains_key(&id.sender) {
            self.order(id.sender, None, SaCommand::Remove { id: sending_id(id.destination) });
        }
        self.withdraw(channel, &channel.receivers);
        for spi in channel.spis() {
            self.used.remove(&spi);
        }
        self.count_no_more(channel.counted);
    }

    /// The channels in which this vNIC sends or receives.
    fn channels_of(&self, mac: Mac) -> Vec<ChannelId> {
        let network = self.encrypted.get(&mac).and_then(|vni| self.networks.get(vni));
        network.map(|network| channel::of_member(network, mac)).unwrap_or_default()
    }

    /// Asks the vNICs of some channels how their associations are: all in turn, a few at a time.
    fn ask(&mut self, now: Duration, pause: Duration) {
        let from = match self.questions.last {
            _ if now < self.questions.next_at => return,
            None if now < self.questions.round_at => return,
            None => {
                self.questions.round_at = now.saturating_add(pause);
                Bound::Unbounded
            }
            Some(last) => Bound::Excluded(last),
        };
        self.questions.next_at = now.saturating_add(QUESTIONS_PAUSE);
        let some = self.channels.range((from, Bound::Unbounded)).take(QUESTIONS);
        let questions: Vec<_> = some.map(|(id, channel)| (*id, channel.questions(*id, &self.couriers))).collect();
        let more = questions.len() == QUESTIONS;
        self.questions.last = questions.last().map(|(id, _)| *id).filter(|_| more);
        for (id, questions) in questions {
            questions.into_iter().for_each(|(mac, command)| self.order(mac, Some(id), command));
            // Once for each sender.
            if self.networks.get(&id.vni).is_some_and(|network| network.group == id.destination) {
                self.ask_about_guests(id.sender);
            }
        }
    }

    /// Takes one channel as far as it can go.
    fn advance(&mut self, now: Duration, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let mut orders = Vec::new();
        if channel.wants_key(now) && self.couriers.contains_key(&id.sender) {
            let is_here = |mac: &&Mac| self.couriers.contains_key(mac) || self.peers.have(**mac);
            let here: Vec<_> = channel.receivers.iter().filter(is_here).copied().collect();
            if !here.is_empty() && !channel.is_patient(now, here.len()) {
                match Generation::new(channel.suite, &here, self.share, &self.used) {
                    Ok(key) => {
                        if let Some(log) = &mut self.log {
                            log.note(channel.source, id.destination, key.spi, &key.key);
                        }
                        self.used.insert(key.spi);
                        orders = channel.begin(id, key, &here);
                    }
                    Err(error) => {
                        tracing::error!("no key could be made: {error}");
                        self.channels_due.at(id, now.saturating_add(NO_KEY_PAUSE));
                    }
                }
            }
        }
        orders.extend(channel.switch(id).map(|command| (id.sender, command)));
        let mut old = Vec::new();
        for spi in channel.take_old(now) {
            self.used.remove(&spi);
            old.extend(channel.receivers.iter().map(|mac| (*mac, spi)));
        }
        if let Some(at) = channel.due(now) {
            self.channels_due.at(id, at);
        }
        self.count(id);
        orders.into_iter().for_each(|(mac, command)| self.order(mac, Some(id), command));
        old.into_iter().for_each(|(mac, spi)| self.take_away(mac, spi));
    }
}
