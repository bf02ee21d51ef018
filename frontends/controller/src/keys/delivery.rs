//! By which way a vNIC gets what it is to do: by its courier here, by another controller, or when it is there again.

use std::{collections::BTreeSet, time::Duration};

use cvsw_core::control::{SaCommand, SetSa};

use super::{
    ChannelId, Keys,
    channel::Channel,
    courier::{Courier, Order},
};
use crate::mac::Mac;

/// Old associations that are remembered of one vNIC that is not here.
const MISSED: usize = 256;

impl Keys {
    /// What a courier had sent is not waited for any longer. Returns the associations that the vNIC was to lose, and has not
    /// said that it has.
    pub(super) fn replace_courier(&mut self, mac: Mac, courier: Option<Courier>) -> Vec<u32> {
        let old = match courier {
            Some(courier) => self.couriers.insert(mac, Box::new(courier)),
            None => self.couriers.remove(&mac),
        };
        self.in_flight = self.in_flight.saturating_sub(old.as_ref().map_or(0, |old| old.in_flight()));
        let elsewhere = self.peers.recall(mac);
        old.map(|old| old.removals()).into_iter().flatten().chain(elsewhere).collect()
    }

    /// Sends what one vNIC is to be sent now.
    pub(super) fn dispatch(
        &mut self,
        now: Duration,
        timeout: Duration,
        mac: Mac,
        limit: usize,
        messages: &mut Vec<(Mac, SetSa)>,
    ) {
        let Some(courier) = self.couriers.get_mut(&mac) else {
            let due = self.peers.poll(now, mac);
            return due.into_iter().for_each(|at| self.couriers_due.at(mac, at));
        };
        let before = courier.in_flight();
        let room = limit.saturating_sub(self.in_flight);
        messages.extend(courier.poll(now, timeout, room).into_iter().map(|message| (mac, message)));
        self.in_flight = self.in_flight.saturating_sub(before) + courier.in_flight();
        self.repeated += courier.take_repeated();
        if courier.has_more(now) {
            self.couriers_due.soon(mac);
        }
        if let Some(at) = courier.due(now) {
            self.couriers_due.at(mac, at);
        }
    }

    /// These vNICs no longer receive in the channel.
    pub(super) fn withdraw(&mut self, channel: &Channel, receivers: &BTreeSet<Mac>) {
        for mac in receivers {
            for spi in channel.spis() {
                self.take_away(*mac, spi);
            }
        }
    }

    /// A receiver loses an association: now, or when it comes back.
    pub(super) fn take_away(&mut self, mac: Mac, spi: u32) {
        if self.is_reachable(mac) {
            return self.order(mac, None, SaCommand::Remove { id: spi });
        }
        let missed = self.missed.entry(mac).or_default();
        if missed.len() < MISSED {
            missed.insert(spi);
        }
    }

    /// The same with these, now that it is elsewhere.
    pub(super) fn take_all_away(&mut self, mac: Mac, spis: Vec<u32>) {
        spis.into_iter().for_each(|spi| self.take_away(mac, spi));
    }

    /// Gives a vNIC something to do, if it is here or on a switch of another controller.
    pub(super) fn order(&mut self, mac: Mac, channel: Option<ChannelId>, command: SaCommand) {
        let order = Order { command, channel, from: None };
        let taken = match self.couriers.get_mut(&mac) {
            Some(courier) => {
                courier.push(order);
                true
            }
            None => self.peers.push(mac, order),
        };
        if taken {
            self.couriers_due.soon(mac);
        }
    }

    /// Whether a vNIC is here, or on a switch of another controller.
    pub(super) fn is_reachable(&self, mac: Mac) -> bool {
        self.couriers.contains_key(&mac) || self.peers.have(mac)
    }
}
