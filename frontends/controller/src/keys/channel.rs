//! One channel: its receivers, its key, and the one that comes next.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::Ipv4Addr,
    time::Duration,
};

use cvsw_core::{
    control::{SaAnswer, SaCommand},
    crypto::{KeyMaterial, MAX_KEY_MATERIAL, SaConfig, SaState, Suite},
    flow::Direction,
};
use zeroize::Zeroizing;

use super::{ChannelId, sending_id};
use crate::{config::Network, mac::Mac};

/// A vNIC that comes makes new keys necessary; this long others may come, too.
const SETTLE: Duration = Duration::from_millis(300);
/// How long receivers keep the old association: packets sealed with it are under way.
const GRACE: Duration = Duration::from_secs(3);
/// How long a new key waits for receivers that are not here but may be at work with the old one.
const PATIENCE: Duration = Duration::from_secs(10);
/// SPIs are from here on: reserved addresses (RFC 1112, class E), so that none of them is the id of a sending association.
const SPIS: u32 = 0xf000_0000;
/// Low bits of an SPI, which are drawn; those above say which controller has drawn them.
const DRAWN_BITS: u32 = 22;
/// Controllers that can draw SPIs at the same time.
pub const SHARES: u8 = 64;
/// A free SPI is drawn at most so often: with fewer than 4 million keys in use it is found long before.
const SPI_DRAWS: usize = 1000;

/// A channel.
#[derive(Debug)]
pub struct Channel {
    pub suite: Suite,
    pub rotate: Option<Duration>,
    pub source: Ipv4Addr,
    pub receivers: BTreeSet<Mac>,
    pub current: Option<InUse>,
    /// Boxed: most channels have none most of the time.
    pub next: Option<Box<Generation>>,
    /// Receivers lose these associations at that time.
    old: Vec<(u32, Duration)>,
    /// A new key is due then.
    pub rekey_at: Option<Duration>,
    /// The sender was at work when it came, and has not said yet which key it uses.
    learning: bool,
    /// Receivers that have not come yet are waited for until then.
    awaited: Option<Duration>,
    pub rotations: u64,
    pub packets: u64,
    /// The state as which it is counted; empty: not yet.
    pub counted: &'static str,
}

/// The key in use: what has to be known of it when it has been delivered. It may have been another controller's.
#[derive(Clone, Copy, Debug)]
pub struct InUse {
    pub spi: u32,
    pub since: Duration,
}

/// One key on its way.
#[derive(Debug)]
pub struct Generation {
    pub spi: u32,
    pub key: KeyMaterial,
    /// Receivers that have not acknowledged it.
    pub pending: BTreeSet<Mac>,
    /// The sender was told.
    switching: bool,
}

impl Channel {
    pub const fn new(suite: Suite) -> Self {
        Self {
            suite,
            rotate: None,
            source: Ipv4Addr::UNSPECIFIED,
            receivers: BTreeSet::new(),
            current: None,
            next: None,
            old: Vec::new(),
            rekey_at: None,
            learning: false,
            awaited: None,
            rotations: 0,
            packets: 0,
            counted: "",
        }
    }

    /// A new key is due soon, and one that is on its way is not good enough.
    pub fn rekey(&mut self, now: Duration) {
        self.rekey_at = Some(now.saturating_add(SETTLE));
        // The sender may have it already: then it is exchanged when that is known.
        if self.next.as_ref().is_some_and(|next| !next.switching) {
            self.drop_next(now);
        }
    }

    /// The vNIC `mac` has this association now. Returns whether it is the sender, which uses it from now on.
    pub fn acknowledged(&mut self, now: Duration, mac: Mac, config: &SaConfig) -> bool {
        let Some(next) = self.next.as_mut().filter(|next| next.spi == config.spi) else { return false };
        if config.direction == Direction::Rx {
            next.pending.remove(&mac);
            return false;
        }
        self.next = None;
        if let Some(previous) = self.current.replace(InUse { spi: config.spi, since: now }) {
            self.old.push((previous.spi, now.saturating_add(GRACE)));
            self.rotations += 1;
        }
        self.packets = 0;
        true
    }

    /// The sender has come and was at work before: it is asked which key it uses, and gets no other until it has said so.
    /// Returns the question.
    pub fn learn(&mut self, now: Duration, id: ChannelId) -> SaCommand {
        self.learning = true;
        if self.next.is_some() {
            // It may have changed over to it, or not; there was a reason for another one.
            self.rekey_at.get_or_insert(now);
            self.drop_next(now);
        }
        SaCommand::Query { id: sending_id(id.destination) }
    }

    /// The sender has started anew: it uses no key.
    pub fn forget(&mut self, now: Duration) {
        self.learning = false;
        self.drop_next(now);
    }

    /// The next key is not used any more, and its receivers lose it.
    fn drop_next(&mut self, now: Duration) {
        self.old.extend(self.next.take().map(|next| (next.spi, now.saturating_add(GRACE))));
    }

    /// The sender is another controller's now, and so are its keys; `fresh`: it has none. Returns the SPIs that are not ours
    /// to look after any more, and whether it is not known which of them it uses.
    pub fn hand_over(&mut self, now: Duration, fresh: bool) -> (Vec<u32>, bool) {
        let until = now.saturating_add(GRACE);
        let (current, next) = (self.current.take().map(|current| current.spi), self.next.take());
        let unclear = self.learning || next.is_some();
        (self.learning, self.awaited, self.rekey_at) = (false, None, None);
        // The one that it may use is removed by whoever replaces it.
        let (used, unused) = match next {
            Some(next) if next.switching => (current.into_iter().chain([next.spi]).collect(), None),
            next => (Vec::from_iter(current), next.map(|next| next.spi)),
        };
        let (kept, removed) = if fresh { (Vec::new(), used) } else { (used, Vec::new()) };
        self.old.extend(removed.into_iter().chain(unused).map(|spi| (spi, until)));
        (kept, unclear)
    }

    /// These keys of an earlier controller's may be at receivers: they lose them, except the one that the sender uses. If that
    /// is not known yet, it is when it has answered.
    pub fn inherit(&mut self, now: Duration, spis: impl Iterator<Item = u32>) {
        let next = self.next.as_ref().map(|next| next.spi);
        let others = spis.filter(|spi| !self.uses(*spi) && next != Some(*spi));
        let others: Vec<_> = others.map(|spi| (spi, now.saturating_add(GRACE))).collect();
        self.old.extend(others);
    }

    /// A receiver has come and was at work before. Returns what it is asked.
    pub fn joined(&mut self, now: Duration) -> Option<SaCommand> {
        if self.next.is_some() {
            // It does not get this key any more.
            self.rekey(now);
        }
        self.current.map(|current| SaCommand::Query { id: current.spi })
    }

    /// Nobody knows where a receiver is. If it may be at work, others do not get a key that it has not before it had a chance
    /// to turn up.
    pub fn missing(&mut self, now: Duration, mac: Mac, at_work: bool) {
        if at_work {
            self.awaited = Some(now.saturating_add(PATIENCE));
        }
        if self.next.as_ref().is_some_and(|next| next.pending.contains(&mac)) {
            self.rekey(now);
        }
    }

    /// Whether this is the SPI of the key in use.
    pub fn uses(&self, spi: u32) -> bool {
        self.current.is_some_and(|current| current.spi == spi)
    }

    /// Whether nothing is being exchanged, or is to be.
    pub fn is_calm(&self) -> bool {
        self.next.is_none() && self.old.is_empty() && self.rekey_at.is_none() && !self.learning
    }

    /// What those of its vNICs are asked that are `here`, to see how their associations are; nothing while they get another
    /// key. Those on other controllers' switches are not asked all the time: that would be a message each through the store.
    pub fn questions<T>(&self, id: ChannelId, here: &BTreeMap<Mac, T>) -> Vec<(Mac, SaCommand)> {
        let idle = self.next.is_none() && !self.learning;
        let Some(current) = self.current.filter(|_| idle) else { return Vec::new() };
        let sender = (id.sender, SaCommand::Query { id: sending_id(id.destination) });
        let receivers = self.receivers.iter().filter(|mac| here.contains_key(mac));
        let receivers = receivers.map(|mac| (*mac, SaCommand::Query { id: current.spi }));
        [sender].into_iter().chain(receivers).collect()
    }

    /// Whether a new key is to be made now, if there are vNICs for it.
    pub fn wants_key(&mut self, now: Duration) -> bool {
        // A new key that is on its way is young enough.
        let rotation = self.rotate.zip(self.current.as_ref().filter(|_| self.next.is_none()));
        if rotation.is_some_and(|(every, key)| now.saturating_sub(key.since) >= every) {
            self.rekey_at.get_or_insert(now);
        }
        self.next.is_none() && !self.learning && self.rekey_at.is_some_and(|at| now >= at)
    }

    /// Whether it waits for more receivers than these.
    pub fn is_patient(&self, now: Duration, here: usize) -> bool {
        self.awaited.is_some_and(|until| now < until) && here < self.receivers.len()
    }

    /// Whether something is to be done, or is another state, after what was heard: not while other receivers lack the new key,
    /// for one.
    pub fn has_news(&self) -> bool {
        self.next.as_ref().is_none_or(|next| next.pending.is_empty())
    }

    /// This is the next key; returns what its receivers have to do.
    pub fn begin(&mut self, id: ChannelId, key: Generation, here: &[Mac]) -> Vec<(Mac, SaCommand)> {
        let add = |mac: &Mac| (*mac, SaCommand::Add(key.config(Direction::Rx, id), key.key.clone()));
        let orders = here.iter().map(add).collect();
        self.next = Some(Box::new(key));
        self.rekey_at = None;
        self.awaited = None;
        orders
    }

    /// What the sender has to do when every receiver has the next key, once.
    pub fn switch(&mut self, id: ChannelId) -> Option<SaCommand> {
        let next = self.next.as_mut().filter(|next| next.pending.is_empty() && !next.switching)?;
        next.switching = true;
        Some(SaCommand::Add(next.config(Direction::Tx, id), next.key.clone()))
    }

    /// Keys that receivers need not have any longer.
    pub fn take_old(&mut self, now: Duration) -> Vec<u32> {
        if self.learning {
            return Vec::new();
        }
        let (gone, kept) = std::mem::take(&mut self.old).into_iter().partition(|(_, at)| now >= *at);
        self.old = kept;
        let gone: Vec<(u32, Duration)> = gone;
        gone.into_iter().map(|(spi, _)| spi).collect()
    }

    /// When there is something to do next, if nothing happens before.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        let rotation = self.rotate.zip(self.current.as_ref()).map(|(every, key)| key.since.saturating_add(every));
        let old = self.old.iter().map(|(_, at)| *at);
        // What is past waits for a vNIC.
        rotation.into_iter().chain(self.rekey_at).chain(self.awaited).chain(old).filter(|at| *at > now).min()
    }

    /// A vNIC has said how its association is. Returns the SPI of a key that was not known before.
    pub fn reported(&mut self, now: Duration, sender: bool, answer: &SaAnswer) -> Option<u32> {
        let learning = sender && std::mem::take(&mut self.learning);
        match answer.association {
            Some((_, spi, _)) if learning && self.current.is_none_or(|current| current.spi != spi) => {
                // It is replaced by one of ours as soon as everybody who may use it is here.
                self.rekey_at = Some(now.saturating_add(SETTLE));
                self.awaited = Some(now.saturating_add(PATIENCE));
                let previous = self.current.replace(InUse { spi, since: now });
                self.old.retain(|(old, _)| *old != spi);
                self.old.extend(previous.map(|previous| (previous.spi, now.saturating_add(GRACE))));
                return Some(spi);
            }
            Some((SaState::Active, spi, packets)) => {
                if sender && self.current.is_some_and(|current| current.spi == spi) {
                    self.packets = packets;
                }
            }
            // It is near its end, or has come to it; or the vNIC has lost it.
            Some(_) | None => {
                self.rekey_at.get_or_insert(now);
            }
        }
        None
    }

    /// In one word, where the key with this SPI is in its life, and whether the receiver `mac` has been given it.
    pub fn stage(&self, spi: u32, mac: Mac) -> Option<(&'static str, bool)> {
        if self.uses(spi) {
            return Some(("in_use", true));
        }
        if let Some(next) = self.next.as_ref().filter(|next| next.spi == spi) {
            return Some(("coming", !next.pending.contains(&mac)));
        }
        self.old.iter().any(|(old, _)| *old == spi).then_some(("leaving", true))
    }

    pub fn spis(&self) -> impl Iterator<Item = u32> + '_ {
        let keys = self.current.map(|key| key.spi).into_iter().chain(self.next.as_ref().map(|key| key.spi));
        keys.chain(self.old.iter().map(|(spi, _)| *spi))
    }
}

impl Generation {
    /// A new key. `share`: the part of all SPIs that this controller draws from, so that no two draw the same one.
    ///
    /// # Errors
    /// The system gives no random numbers, or nearly every SPI is in use.
    pub fn new(suite: Suite, receivers: &[Mac], share: u8, used: &HashSet<u32>) -> Result<Self, getrandom::Error> {
        // With the first SPI that is tried: that is one system call.
        let mut bytes = Zeroizing::new([0; MAX_KEY_MATERIAL + 4]);
        getrandom::fill(&mut *bytes)?;
        let number = bytes.last_chunk().map_or(0, |number| u32::from_be_bytes(*number));
        let material = bytes.get(..suite.key_material_len()).unwrap_or_default();
        let key = KeyMaterial::new(suite, material).map_err(|_| getrandom::Error::UNEXPECTED)?;
        let first = SPIS | u32::from(share % SHARES) << DRAWN_BITS;
        let drawn = |number: u32| first | number & ((1 << DRAWN_BITS) - 1);
        let more = (1..SPI_DRAWS).map(|_| getrandom::u32().map(drawn));
        let mut draws = [Ok(drawn(number))].into_iter().chain(more);
        let free = |spi: &u32| !used.contains(spi);
        let spi = draws.find(|spi| spi.as_ref().map_or(true, free)).ok_or(getrandom::Error::UNEXPECTED)??;
        Ok(Self { spi, key, pending: receivers.iter().copied().collect(), switching: false })
    }

    fn config(&self, direction: Direction, id: ChannelId) -> SaConfig {
        let name = match direction {
            Direction::Tx => sending_id(id.destination),
            Direction::Rx => self.spi,
        };
        SaConfig::new(name, direction, self.spi, id.destination.octets())
    }
}

/// Whether this is an SPI, and so the id of a receiving association.
pub const fn is_spi(id: u32) -> bool {
    id >= SPIS
}

/// The channels of a network: outer source and receivers of each.
pub fn of_network(network: &Network) -> impl Iterator<Item = (ChannelId, Ipv4Addr, BTreeSet<Mac>)> {
    network.members.iter().flat_map(move |sender| {
        let peers = move || network.members.iter().filter(move |peer| peer.mac != sender.mac);
        let id = move |destination| ChannelId { vni: network.vni, sender: sender.mac, destination };
        let unicast =
            peers().map(move |peer| (id(peer.underlay_ip), sender.underlay_ip, BTreeSet::from([peer.mac])));
        let group = (id(network.group), sender.underlay_ip, peers().map(|peer| peer.mac).collect());
        unicast.chain([group])
    })
}

/// The channels in which this member sends or receives.
pub fn of_member(network: &Network, mac: Mac) -> Vec<ChannelId> {
    let Some(member) = network.members.iter().find(|member| member.mac == mac) else { return Vec::new() };
    let id = |sender, destination| ChannelId { vni: network.vni, sender, destination };
    let peers = network.members.iter().filter(|peer| peer.mac != mac);
    let with = |peer: &crate::config::Member| {
        [id(mac, peer.underlay_ip), id(peer.mac, member.underlay_ip), id(peer.mac, network.group)]
    };
    peers.flat_map(with).chain([id(mac, network.group)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cvsw_core::control::SaResult;

    #[test]
    fn a_key_that_a_sender_comes_back_without_is_made_again() {
        let (sender, receiver) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let id = ChannelId { vni: 42, sender, destination: Ipv4Addr::new(192, 0, 2, 2) };
        let (now, old) = (Duration::from_secs(9), SPIS + 7);
        let mut channel = Channel::new(Suite::Aes128Gcm);
        channel.receivers = BTreeSet::from([receiver]);
        channel.current = Some(InUse { spi: old, since: Duration::ZERO });
        let next = Generation::new(Suite::Aes128Gcm, &[receiver], 0, &HashSet::from([old])).unwrap();
        channel.begin(id, next, &[receiver]);
        assert!(!channel.wants_key(now), "it is on its way");
        let question = channel.learn(now, id);
        assert!(matches!(question, SaCommand::Query { id } if id == u32::from_be_bytes([192, 0, 2, 2])));
        assert!(!channel.wants_key(now), "it has not answered");
        let answer = SaAnswer {
            transaction: 1,
            operation: 4,
            id: u32::from_be_bytes([192, 0, 2, 2]),
            result: SaResult::Done,
            association: Some((SaState::Active, old, 3)),
            generation: 1,
        };
        assert_eq!(channel.reported(now, true, &answer), None, "it has what it had");
        assert!(channel.wants_key(now));
    }
}
