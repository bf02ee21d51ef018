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
//! How a [`SetSa`] travels is the business of [`mod@clear`], which a later protocol version replaces.

pub mod clear;
mod courier;
mod log;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use cvsw_core::{
    control::{SaAnswer, SaCommand, SetSa},
    crypto::{FIRST_SPI, KeyMaterial, MAX_KEY_MATERIAL, SaConfig, SaState, Suite},
    flow::Direction,
};
use zeroize::Zeroizing;

use crate::{
    config::{Config, Network},
    mac::Mac,
};
use courier::{Courier, Order};
pub use log::KeyLog;

/// A vNIC that comes makes new keys necessary; this long others may come, too.
const SETTLE: Duration = Duration::from_millis(300);
/// How long receivers keep the old association: packets sealed with it are under way.
const GRACE: Duration = Duration::from_secs(3);

/// Id of the sending association for an outer destination: the address itself, so that flows can name it before there is
/// a key, and another controller names it alike.
pub fn sending_id(destination: Ipv4Addr) -> u32 {
    destination.into()
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

#[derive(Debug)]
struct Channel {
    suite: Suite,
    rotate: Option<Duration>,
    source: Ipv4Addr,
    receivers: BTreeSet<Mac>,
    current: Option<Generation>,
    next: Option<Generation>,
    /// Receivers lose these associations at that time.
    old: Vec<(u32, Duration)>,
    /// A new key is due then.
    rekey_at: Option<Duration>,
    rotations: u64,
    packets: u64,
}

/// One key.
#[derive(Debug)]
struct Generation {
    spi: u32,
    key: KeyMaterial,
    since: Duration,
    /// Receivers that have not acknowledged it.
    pending: BTreeSet<Mac>,
    /// The sender was told.
    switching: bool,
}

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
    /// Keys that were replaced.
    pub rotations: u64,
    /// Packets sealed with the key in use, as of the last question.
    pub packets: u64,
}

/// All keys.
#[derive(Debug, Default)]
pub struct Keys {
    channels: BTreeMap<ChannelId, Channel>,
    /// Everybody who is here, in encrypted networks or not.
    couriers: BTreeMap<Mac, Courier>,
    /// Members of encrypted networks, with the network's VNI.
    encrypted: BTreeMap<Mac, u32>,
    next_query: Duration,
    log: Option<KeyLog>,
}

impl Keys {
    /// Notes every key for a dissector from now on, see [`KeyLog`].
    pub fn log_to(&mut self, log: KeyLog) {
        self.log = Some(log);
    }

    /// Takes over a configuration. Channels that stay keep their keys; another suite is taken over
    /// like a new key.
    pub fn configure(&mut self, now: Duration, config: &Config) {
        let mut old = std::mem::take(&mut self.channels);
        let before = std::mem::take(&mut self.encrypted);
        for network in &config.networks {
            let Some(suite) = network.cipher else { continue };
            self.encrypted.extend(network.members.iter().map(|member| (member.mac, network.vni)));
            for (id, source, receivers) in channels(network) {
                let mut channel = old.remove(&id).unwrap_or_else(|| Channel::new(suite));
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
            }
        }
        for (id, channel) in old {
            self.dissolve(id, &channel);
        }
        for (mac, courier) in &mut self.couriers {
            let (old, new) = (before.get(mac), self.encrypted.get(mac));
            if old == new {
                continue;
            }
            let order = |command| Order { command, channel: None };
            match old {
                Some(vni) => courier.push(order(SaCommand::Require { vni: *vni, on: false })),
                None => courier.push(order(SaCommand::Flush)),
            }
            if let Some(vni) = new {
                courier.push(order(SaCommand::Require { vni: *vni, on: true }));
            }
        }
    }

    /// A vNIC has come, or has started anew.
    pub fn arrived(&mut self, now: Duration, mac: Mac) {
        let mut courier = Courier::default();
        if let Some(vni) = self.encrypted.get(&mac) {
            for command in [SaCommand::Flush, SaCommand::Require { vni: *vni, on: true }] {
                courier.push(Order { command, channel: None });
            }
        }
        self.couriers.insert(mac, courier);
        for (id, channel) in &mut self.channels {
            if id.sender == mac || channel.receivers.contains(&mac) {
                channel.rekey(now);
            }
        }
    }

    /// A vNIC has gone.
    pub fn left(&mut self, mac: Mac) {
        self.couriers.remove(&mac);
        for channel in self.channels.values_mut() {
            if let Some(next) = &mut channel.next {
                next.pending.remove(&mac);
            }
        }
    }

    /// Replaces every key in use.
    pub fn rotate(&mut self, now: Duration) {
        for channel in self.channels.values_mut().filter(|channel| channel.current.is_some()) {
            channel.rekey_at.get_or_insert(now);
        }
    }

    /// A vNIC has answered. Returns what is wrong, if something is.
    pub fn answered(&mut self, now: Duration, mac: Mac, answer: &SaAnswer) -> Option<String> {
        let courier = self.couriers.get_mut(&mac)?;
        if courier.restarted(answer.generation) {
            self.arrived(now, mac);
            return None;
        }
        let order = match courier.answered(now, answer) {
            Ok(order) => order?,
            Err(why) => return Some(why),
        };
        let channel = self.channels.get_mut(&order.channel?)?;
        match order.command {
            SaCommand::Add(config, _) => channel.acknowledged(now, mac, &config),
            SaCommand::Query { .. } => channel.reported(now, mac == order.channel?.sender, answer),
            _ => {}
        }
        None
    }

    /// Does what is due; `timeout` is how long a vNIC may take to answer, `query` the pause between two questions.
    /// Returns what is to be sent.
    pub fn poll(&mut self, now: Duration, timeout: Duration, query: Duration) -> Vec<(Mac, SetSa)> {
        let ask = now >= self.next_query;
        if ask {
            self.next_query = now.saturating_add(query);
        }
        let ids: Vec<_> = self.channels.keys().copied().collect();
        for id in ids {
            self.advance(now, id, ask);
        }
        let polled = self
            .couriers
            .iter_mut()
            .flat_map(|(mac, courier)| courier.poll(now, timeout).into_iter().map(|message| (*mac, message)));
        polled.collect()
    }

    /// Every channel.
    pub fn status(&self, now: Duration) -> Vec<ChannelStatus> {
        let status = |(id, channel): (&ChannelId, &Channel)| ChannelStatus {
            id: *id,
            suite: channel.suite,
            key: channel.current.as_ref().map(|key| (key.spi, now.saturating_sub(key.since))),
            keying: channel.next.is_some() || channel.rekey_at.is_some(),
            possible: self.couriers.contains_key(&id.sender)
                && channel.receivers.iter().any(|mac| self.couriers.contains_key(mac)),
            rotations: channel.rotations,
            packets: channel.packets,
        };
        self.channels.iter().map(status).collect()
    }

    /// Whether every channel that can have a key has one that is up to date.
    pub fn complete(&self, now: Duration) -> bool {
        self.status(now).iter().all(|channel| !channel.possible || (channel.key.is_some() && !channel.keying))
    }

    /// The channel is no longer wanted.
    fn dissolve(&mut self, id: ChannelId, channel: &Channel) {
        if let Some(courier) = self.couriers.get_mut(&id.sender) {
            let id = sending_id(id.destination);
            courier.push(Order { command: SaCommand::Remove { id }, channel: None });
        }
        self.withdraw(channel, &channel.receivers);
    }

    /// These vNICs no longer receive in the channel.
    fn withdraw(&mut self, channel: &Channel, receivers: &BTreeSet<Mac>) {
        for mac in receivers {
            if let Some(courier) = self.couriers.get_mut(mac) {
                let remove = |spi| Order { command: SaCommand::Remove { id: spi }, channel: None };
                channel.spis().for_each(|spi| courier.push(remove(spi)));
            }
        }
    }

    /// Takes one channel as far as it can go. `ask`: its vNICs are asked how it is.
    fn advance(&mut self, now: Duration, id: ChannelId, ask: bool) {
        let sender_here = self.couriers.contains_key(&id.sender);
        let used: BTreeSet<u32> = self.channels.values().flat_map(Channel::spis).collect();
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let here: Vec<Mac> =
            channel.receivers.iter().filter(|mac| self.couriers.contains_key(mac)).copied().collect();
        let mut push = |mac: &Mac, command| {
            if let Some(courier) = self.couriers.get_mut(mac) {
                courier.push(Order { command, channel: Some(id) });
            }
        };
        if let Some(current) = channel.current.as_ref().filter(|_| ask && channel.next.is_none()) {
            push(&id.sender, SaCommand::Query { id: sending_id(id.destination) });
            here.iter().for_each(|mac| push(mac, SaCommand::Query { id: current.spi }));
        }
        // A new key that is on its way is young enough.
        let rotation = channel.rotate.zip(channel.current.as_ref().filter(|_| channel.next.is_none()));
        if rotation.is_some_and(|(every, key)| now.saturating_sub(key.since) >= every) {
            channel.rekey_at.get_or_insert(now);
        }
        let due = channel.rekey_at.is_some_and(|at| now >= at);
        if due && channel.next.is_none() && sender_here && !here.is_empty() {
            match Generation::new(now, channel.suite, &here, &used) {
                Ok(key) => {
                    if let Some(log) = &mut self.log {
                        log.note(channel.source, id.destination, key.spi, &key.key);
                    }
                    for mac in &here {
                        push(mac, SaCommand::Add(key.config(Direction::Rx, id), key.key.clone()));
                    }
                    channel.next = Some(key);
                    channel.rekey_at = None;
                }
                Err(error) => tracing::error!("the system gave no random numbers for a key: {error}"),
            }
        }
        if let Some(next) = channel.next.as_mut().filter(|next| next.pending.is_empty() && !next.switching) {
            next.switching = true;
            push(&id.sender, SaCommand::Add(next.config(Direction::Tx, id), next.key.clone()));
        }
        let (gone, kept) = std::mem::take(&mut channel.old).into_iter().partition(|(_, at)| now >= *at);
        channel.old = kept;
        let gone: Vec<(u32, Duration)> = gone;
        for (spi, _) in gone {
            channel.receivers.iter().for_each(|mac| push(mac, SaCommand::Remove { id: spi }));
        }
    }
}

impl Channel {
    const fn new(suite: Suite) -> Self {
        Self {
            suite,
            rotate: None,
            source: Ipv4Addr::UNSPECIFIED,
            receivers: BTreeSet::new(),
            current: None,
            next: None,
            old: Vec::new(),
            rekey_at: None,
            rotations: 0,
            packets: 0,
        }
    }

    /// A new key is due soon, and one that is on its way is not good enough.
    fn rekey(&mut self, now: Duration) {
        self.rekey_at = Some(now.saturating_add(SETTLE));
        if let Some(next) = self.next.take() {
            self.old.push((next.spi, now.saturating_add(GRACE)));
        }
    }

    /// The vNIC `mac` has this association now.
    fn acknowledged(&mut self, now: Duration, mac: Mac, config: &SaConfig) {
        let Some(next) = self.next.as_mut().filter(|next| next.spi == config.spi) else { return };
        if config.direction == Direction::Rx {
            next.pending.remove(&mac);
            return;
        }
        let previous = std::mem::replace(&mut self.current, self.next.take());
        if let Some(previous) = previous {
            self.old.push((previous.spi, now.saturating_add(GRACE)));
            self.rotations += 1;
        }
        self.packets = 0;
        if let Some(current) = &mut self.current {
            current.since = now;
        }
    }

    /// A vNIC has said how its association is.
    fn reported(&mut self, now: Duration, sender: bool, answer: &SaAnswer) {
        match answer.association {
            Some((SaState::Active, spi, packets)) => {
                if sender && self.current.as_ref().is_some_and(|current| current.spi == spi) {
                    self.packets = packets;
                }
            }
            // It is near its end, or has come to it; or the vNIC has lost it.
            Some(_) | None => {
                self.rekey_at.get_or_insert(now);
            }
        }
    }

    fn spis(&self) -> impl Iterator<Item = u32> + '_ {
        let keys = self.current.iter().chain(&self.next).map(|key| key.spi);
        keys.chain(self.old.iter().map(|(spi, _)| *spi))
    }
}

impl Generation {
    /// A new key.
    fn new(now: Duration, suite: Suite, receivers: &[Mac], used: &BTreeSet<u32>) -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; MAX_KEY_MATERIAL]);
        getrandom::fill(&mut *bytes)?;
        let material = bytes.get(..suite.key_material_len()).unwrap_or_default();
        let key = KeyMaterial::new(suite, material).map_err(|_| getrandom::Error::UNEXPECTED)?;
        let spi = loop {
            let spi = getrandom::u32()?;
            // Below 0x1000000 no sending association has its id.
            if (FIRST_SPI..0x0100_0000).contains(&spi) && !used.contains(&spi) {
                break spi;
            }
        };
        Ok(Self { spi, key, since: now, pending: receivers.iter().copied().collect(), switching: false })
    }

    fn config(&self, direction: Direction, id: ChannelId) -> SaConfig {
        let name = match direction {
            Direction::Tx => sending_id(id.destination),
            Direction::Rx => self.spi,
        };
        SaConfig::new(name, direction, self.spi, id.destination.octets())
    }
}

/// The channels of a network: outer source and receivers of each.
fn channels(network: &Network) -> impl Iterator<Item = (ChannelId, Ipv4Addr, BTreeSet<Mac>)> {
    network.members.iter().flat_map(move |sender| {
        let peers = move || network.members.iter().filter(move |peer| peer.mac != sender.mac);
        let id = move |destination| ChannelId { vni: network.vni, sender: sender.mac, destination };
        let unicast =
            peers().map(move |peer| (id(peer.underlay_ip), sender.underlay_ip, BTreeSet::from([peer.mac])));
        let group = (id(network.group), sender.underlay_ip, peers().map(|peer| peer.mac).collect());
        unicast.chain([group])
    })
}
