//! Other controllers, on whose switches members of the same networks are.
//!
//! The controller that manages a channel's sender makes its keys. What a receiver on another one's switch has to do it
//! writes to that one, which passes it on to the vNIC and writes back what the vNIC says; so a sender changes over only when
//! every receiver has acknowledged the new key, wherever it is. Each controller tells every other who is on its switches.
//!
//! Notes are written in order and may get lost only with the session of one of both ends; then both begin anew. What a vNIC has
//! not been told yet when it goes elsewhere is told by whoever has it then: keys are made anew, and what it was to lose is
//! remembered.

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use cvsw_core::{
    control::{SaAnswer, SaCommand, SetSa},
    flow::Direction,
};

use super::{
    ChannelId, Keys,
    channel::is_spi,
    courier::{Courier, Order},
    note::Note,
};
use crate::mac::Mac;

/// How long another controller may take with an order; it repeats it to the vNIC by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everybody else.
#[derive(Debug, Default)]
pub(super) struct Peers {
    controllers: BTreeMap<Arc<str>, Peer>,
    away: BTreeMap<Mac, Away>,
    /// Couriers that there have been, so that no two number their orders alike.
    couriers: u32,
}

/// Another controller.
#[derive(Debug)]
struct Peer {
    /// Another one than before: it knows nothing of what it was told.
    session: String,
    outbox: VecDeque<Note>,
}

/// A vNIC on a switch of another controller.
#[derive(Debug)]
struct Away {
    /// Everybody who says so, in the order of epochs; there is one at least. Letters of two controllers may be read in another
    /// order than they were written: so the last one is believed, and the one before it if that one takes it back.
    claims: Vec<Claim>,
    courier: Courier,
}

/// That a vNIC is on a switch of this controller.
#[derive(Debug)]
struct Claim {
    at: Arc<str>,
    /// Of that controller when it said so.
    epoch: u64,
    /// The vNIC had just been started.
    fresh: bool,
}

impl Away {
    /// The claim that is believed.
    fn believed(&self) -> Option<&Claim> {
        self.claims.last()
    }

    /// Whether it is on a switch of this controller.
    fn is_at(&self, name: &Arc<str>) -> bool {
        self.believed().is_some_and(|claim| claim.at == *name)
    }
}

impl Peers {
    /// Whether this vNIC is on a switch of another controller.
    pub fn have(&self, mac: Mac) -> bool {
        self.away.contains_key(&mac)
    }

    /// Gives it something to do, if it is there.
    pub fn push(&mut self, mac: Mac, order: Order) -> bool {
        let Some(away) = self.away.get_mut(&mac) else { return false };
        away.courier.push(order);
        true
    }

    /// Writes what is due to it; returns when there is more to be written.
    pub fn poll(&mut self, now: Duration, mac: Mac) -> Option<Duration> {
        let away = self.away.get_mut(&mac)?;
        let peer = self.controllers.get_mut(&away.claims.last()?.at)?;
        let orders = away.courier.poll(now, PATIENCE, usize::MAX).into_iter();
        peer.outbox.extend(orders.map(|order| Note::Order { mac, order }));
        away.courier.due(now)
    }

    /// A controller says that it has a vNIC. Returns whether it is believed.
    fn claim(&mut self, mac: Mac, claim: Claim) -> bool {
        let away = self.away.entry(mac).or_insert_with(|| Away { claims: Vec::new(), courier: Courier::default() });
        away.claims.retain(|other| other.at != claim.at);
        let at = away.claims.partition_point(|other| other.epoch <= claim.epoch);
        away.claims.insert(at, claim);
        at + 1 == away.claims.len()
    }

    /// A controller has a vNIC no more.
    fn unclaim(&mut self, mac: Mac, name: &Arc<str>) {
        if let Some(away) = self.away.get_mut(&mac) {
            away.claims.retain(|claim| claim.at != *name);
        }
    }

    /// Whatever a vNIC elsewhere has not been told yet it is not told any more. Returns the associations that it was to lose.
    pub fn recall(&mut self, mac: Mac) -> Vec<u32> {
        let Some(away) = self.away.get_mut(&mac) else { return Vec::new() };
        self.couriers = self.couriers.wrapping_add(1);
        std::mem::replace(&mut away.courier, Courier::far(self.couriers)).removals()
    }

    /// Whether there is nobody else.
    pub fn are_none(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Tells everybody.
    pub fn tell(&mut self, note: &Note) {
        for peer in self.controllers.values_mut() {
            peer.outbox.push_back(note.clone());
        }
    }

    /// Tells one of them, if it is there.
    fn write(&mut self, name: &Arc<str>, note: Note) {
        if let Some(peer) = self.controllers.get_mut(name) {
            peer.outbox.push_back(note);
        }
    }

    /// Tells the controller that gave an order what came of it.
    pub fn answer(&mut self, (name, transaction): (Arc<str>, u32), mac: Mac, answer: &SaAnswer) {
        self.write(&name, Note::Answer { mac, answer: SaAnswer { transaction, ..*answer } });
    }
}

impl Keys {
    /// These other controllers are alive: names, and a text for each that another life of it has not.
    pub fn meet(&mut self, now: Duration, alive: &BTreeMap<String, String>) {
        let gone = |name: &Arc<str>, peer: &Peer| alive.get(&**name) != Some(&peer.session);
        let known = self.peers.controllers.iter();
        let gone: Vec<_> =
            known.filter(|(name, peer)| gone(name, peer)).map(|(name, _)| Arc::clone(name)).collect();
        for name in gone {
            self.peers.controllers.remove(&name);
            self.guests.controllers_changed(now);
            let claimed = |away: &Away| away.claims.iter().any(|claim| claim.at == name);
            let lost = self.peers.away.iter().filter(|(_, away)| claimed(away)).map(|(mac, _)| *mac);
            for mac in lost.collect::<Vec<_>>() {
                self.gone(now, mac, &name, true);
            }
        }
        for (name, session) in alive {
            if !self.peers.controllers.contains_key(&**name) {
                let here = self.couriers.keys().filter(|mac| self.encrypted.contains_key(mac));
                let outbox = here.map(|mac| Note::Here { mac: *mac, fresh: false, epoch: self.epoch }).collect();
                self.guests.controllers_changed(now);
                self.peers.controllers.insert(name.as_str().into(), Peer { session: session.clone(), outbox });
            }
        }
    }

    /// Controllers that there is something to be written to.
    pub fn addressees(&self) -> impl Iterator<Item = &Arc<str>> {
        self.peers.controllers.iter().filter(|(_, peer)| !peer.outbox.is_empty()).map(|(name, _)| name)
    }

    /// What is to be written to a controller, in order, `most` notes at most.
    pub fn take_notes(&mut self, name: &str, most: usize) -> Vec<Note> {
        let outbox = self.peers.controllers.get_mut(name).map(|peer| &mut peer.outbox);
        outbox.map(|outbox| outbox.drain(..outbox.len().min(most)).collect()).unwrap_or_default()
    }

    /// Another controller has written.
    pub fn noted(&mut self, now: Duration, from: &str, note: Note) {
        let Some(from) = self.peers.controllers.get_key_value(from).map(|(name, _)| Arc::clone(name)) else {
            return;
        };
        match note {
            Note::Here { mac, fresh, epoch } => {
                if self.peers.claim(mac, Claim { at: from, epoch, fresh }) {
                    self.is_away(now, mac);
                }
            }
            Note::Gone { mac, at_work } => self.gone(now, mac, &from, at_work),
            Note::Lost { mac, spi } => self.lost_by(now, mac, spi),
            Note::Had { mac, destination, spis } => self.inherit(now, mac, destination, spis),
            Note::Order { mac, order } => self.pass_on(from, mac, order),
            Note::Answer { mac, answer } => {
                let away = self.peers.away.get_mut(&mac).filter(|away| away.is_at(&from));
                // It only passes on what is not a reason to try again.
                if let Some(Ok(Some(order))) = away.map(|away| away.courier.answered(now, &answer)) {
                    self.couriers_due.soon(mac);
                    self.carried_out(now, mac, order, &answer);
                }
            }
        }
    }

    /// A vNIC is on another switch of another controller than before, or has begun anew there.
    fn is_away(&mut self, now: Duration, mac: Mac) {
        let removals = self.peers.recall(mac);
        // If it is here, too, it has moved away and we have not noticed, or here and they have not: who is right will be seen.
        if !self.couriers.contains_key(&mac) {
            self.settle_away(now, mac);
        }
        self.take_all_away(mac, removals);
    }

    /// From now on a vNIC is managed by the controller that is believed to have it.
    pub(super) fn settle_away(&mut self, now: Duration, mac: Mac) {
        let claim = self.peers.away.get(&mac).and_then(Away::believed);
        let Some((at, fresh)) = claim.map(|claim| (Arc::clone(&claim.at), claim.fresh)) else { return };
        for id in self.channels_of(mac).into_iter().filter(|id| id.sender == mac) {
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            let (spis, unclear) = channel.hand_over(now, fresh);
            self.channels_due.soon(id);
            for spi in &spis {
                self.used.remove(spi);
            }
            if unclear && let Some(one) = spis.first() {
                let spis = [*one, spis.get(1).copied().unwrap_or(0)];
                self.peers.write(&at, Note::Had { mac, destination: id.destination, spis });
            }
        }
        self.receiver_came(now, mac, fresh);
    }

    /// A controller does not have a vNIC any more, if it had it.
    fn gone(&mut self, now: Duration, mac: Mac, name: &Arc<str>, at_work: bool) {
        let was_there = self.peers.away.get(&mac).is_some_and(|away| away.is_at(name));
        self.peers.unclaim(mac, name);
        if !was_there {
            return;
        }
        if self.peers.away.get(&mac).is_some_and(|away| !away.claims.is_empty()) {
            return self.is_away(now, mac);
        }
        let removals = self.peers.recall(mac);
        self.peers.away.remove(&mac);
        if !self.couriers.contains_key(&mac) {
            self.missing(now, mac, at_work);
        }
        self.take_all_away(mac, removals);
    }

    /// Another controller had a vNIC before. If somebody else has it by now, this is for nobody.
    fn inherit(&mut self, now: Duration, sender: Mac, destination: Ipv4Addr, spis: [u32; 2]) {
        let Some(vni) = self.encrypted.get(&sender).copied().filter(|_| self.couriers.contains_key(&sender)) else {
            return;
        };
        let id = ChannelId { vni, sender, destination };
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.inherit(now, spis.into_iter().filter(|spi| is_spi(*spi)));
            self.channels_due.soon(id);
        }
    }

    /// Another controller wants something of a vNIC on one of our switches: only what receivers have to do.
    fn pass_on(&mut self, from: Arc<str>, mac: Mac, order: SetSa) {
        let receives = match &order.command {
            SaCommand::Add(config, _) => config.direction == Direction::Rx,
            SaCommand::Remove { id } | SaCommand::Query { id } => is_spi(*id),
            SaCommand::Require { .. } | SaCommand::Flush => false,
        };
        let from = (from, order.transaction);
        if let Some(courier) = self.couriers.get_mut(&mac)
            && receives
            && !courier.has(&from)
        {
            courier.push(Order { command: order.command, channel: None, from: Some(from) });
            self.couriers_due.soon(mac);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_that_claim_a_vnic_the_one_that_does_not_take_it_back_has_it() {
        let (now, mac) = (Duration::ZERO, Mac([2, 0, 0, 0, 0, 1]));
        let here = |epoch| Note::Here { mac, fresh: false, epoch };
        let gone = Note::Gone { mac, at_work: true };
        // It has moved from c2 to c0; letters of different writers may be read in any order, and c0's epoch be the lower one.
        let moves = [
            [("c2", here(6)), ("c0", here(1)), ("c2", gone.clone())],
            [("c0", here(1)), ("c2", here(6)), ("c2", gone.clone())],
            [("c2", here(6)), ("c2", gone.clone()), ("c0", here(1))],
        ];
        for notes in moves {
            let mut keys = Keys::default();
            let alive = ["c0", "c2"].map(|name| (name.to_owned(), "session".to_owned()));
            keys.meet(now, &BTreeMap::from(alive));
            notes.into_iter().for_each(|(from, note)| keys.noted(now, from, note));
            assert!(keys.peers.away[&mac].is_at(&"c0".into()));
            keys.noted(now, "c0", gone.clone());
            assert!(!keys.peers.have(mac));
            // Whoever is out of the cluster has nothing.
            keys.noted(now, "c0", here(7));
            keys.meet(now, &BTreeMap::new());
            assert!(!keys.peers.have(mac));
        }
    }
}
