//! Other controllers, on whose switches members of the same networks are.
//!
//! The controller that manages a channel's sender makes its keys. What a receiver on another one's switch has to do it
//! writes to that one, which passes it on to the vNIC and writes back what the vNIC says; so a sender changes over only when
//! every receiver has acknowledged the new key, wherever it is. Each controller tells every other who is on its switches.
//!
//! Notes are written in order and may get lost only with the session of one of both ends; then both begin anew.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use cvsw_core::{
    control::{SaAnswer, SaCommand, SetSa},
    flow::Direction,
};

use super::{
    Keys,
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
    at: Arc<str>,
    /// That one's epoch when it said so. Letters of two controllers may be read in another order than they were written.
    epoch: u64,
    courier: Courier,
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
        let peer = self.controllers.get_mut(&away.at)?;
        let orders = away.courier.poll(now, PATIENCE, usize::MAX).into_iter();
        peer.outbox.extend(orders.map(|order| Note::Order { mac, order }));
        away.courier.due(now)
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

    /// Tells the controller that gave an order what came of it.
    pub fn answer(&mut self, (name, transaction): (Arc<str>, u32), mac: Mac, answer: &SaAnswer) {
        if let Some(peer) = self.controllers.get_mut(&name) {
            peer.outbox.push_back(Note::Answer { mac, answer: SaAnswer { transaction, ..*answer } });
        }
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
            let lost = self.peers.away.iter().filter(|(_, away)| away.at == name).map(|(mac, _)| *mac);
            for mac in lost.collect::<Vec<_>>() {
                self.gone(now, mac, true);
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
            Note::Here { mac, fresh, epoch } => self.is_away(now, mac, (from, epoch), fresh),
            Note::Gone { mac, at_work } => {
                if self.peers.away.get(&mac).is_some_and(|away| away.at == from) {
                    self.gone(now, mac, at_work);
                }
            }
            Note::Lost { mac, spi } => self.lost_by(now, mac, spi),
            Note::Order { mac, order } => self.pass_on(from, mac, order),
            Note::Answer { mac, answer } => {
                let away = self.peers.away.get_mut(&mac).filter(|away| away.at == from);
                // It only passes on what is not a reason to try again.
                if let Some(Ok(Some(order))) = away.map(|away| away.courier.answered(now, &answer)) {
                    self.couriers_due.soon(mac);
                    self.carried_out(now, mac, order, &answer);
                }
            }
        }
    }

    /// A vNIC is on a switch of another controller.
    fn is_away(&mut self, now: Duration, mac: Mac, (at, epoch): (Arc<str>, u64), fresh: bool) {
        if self.peers.away.get(&mac).is_some_and(|away| away.epoch > epoch) {
            return;
        }
        self.peers.couriers = self.peers.couriers.wrapping_add(1);
        let courier = Courier::far(self.peers.couriers);
        self.peers.away.insert(mac, Away { at, epoch, courier });
        if self.couriers.contains_key(&mac) {
            // It has moved away and we have not noticed, or here and they have not: who is right will be seen.
            return;
        }
        for id in self.channels_of(mac) {
            if id.sender == mac
                && let Some(channel) = self.channels.get_mut(&id)
            {
                for spi in channel.hand_over(now, fresh) {
                    self.used.remove(&spi);
                }
                self.channels_due.soon(id);
            }
        }
        self.receiver_came(now, mac, fresh);
    }

    /// It is there no more.
    fn gone(&mut self, now: Duration, mac: Mac, at_work: bool) {
        self.peers.away.remove(&mac);
        if !self.couriers.contains_key(&mac) {
            self.missing(now, mac, at_work);
        }
    }

    /// Another controller wants something of a vNIC on one of our switches: only what receivers have to do.
    fn pass_on(&mut self, from: Arc<str>, mac: Mac, order: SetSa) {
        let receives = match &order.command {
            SaCommand::Add(config, _) => config.direction == Direction::Rx,
            SaCommand::Remove { .. } | SaCommand::Query { .. } => true,
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
