//! Who is where: registrations, addresses that two vNICs claim, ports that come and go.
//!
//! One address has one holder. Another vNIC that registers with it is only noted (a claim), and the holder is asked
//! whether it is still there. It loses its place when its port or its switch goes, or when it does not answer: then
//! the newest claim is admitted. So a live vNIC cannot be evicted by a forged REGISTER, and a migrated one is taken
//! over as soon as its old self is silent. A vNIC that the configuration does not know is a claim as well, admitted
//! when a later configuration knows it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    ConnectionId, Controller,
    port::PortState,
    vnic::{Location, Vnic},
};
use crate::mac::Mac;

/// Claims that are kept in all.
const MAX_CLAIMS: usize = 4096;
/// Claims that are kept of one port.
const MAX_CLAIMS_PER_PORT: usize = 16;

/// A vNIC that registered but was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where it is.
    pub location: Location,
    /// When it was first heard there.
    pub since: Duration,
}

/// All claims.
#[derive(Debug, Default)]
pub struct Claims {
    by_mac: BTreeMap<Mac, Vec<Claim>>,
    count: usize,
}

impl Claims {
    /// Addresses that are claimed.
    pub fn macs(&self) -> impl Iterator<Item = Mac> {
        self.by_mac.keys().copied()
    }

    /// All claims.
    pub fn iter(&self) -> impl Iterator<Item = (Mac, Claim)> {
        self.by_mac.iter().flat_map(|(mac, claims)| claims.iter().map(|claim| (*mac, *claim)))
    }

    /// Notes a claim. `None`: there are too many. `Some(false)`: it was known.
    fn add(&mut self, mac: Mac, claim: Claim) -> Option<bool> {
        if self.by_mac.get(&mac).is_some_and(|claims| claims.iter().any(|c| c.location == claim.location)) {
            return Some(false);
        }
        if self.count >= MAX_CLAIMS {
            return None;
        }
        self.by_mac.entry(mac).or_default().push(claim);
        self.count += 1;
        Some(true)
    }

    fn remove(&mut self, mac: Mac, location: Location) {
        if let Some(claims) = self.by_mac.get_mut(&mac) {
            let before = claims.len();
            claims.retain(|claim| claim.location != location);
            self.count -= before - claims.len();
            if claims.is_empty() {
                self.by_mac.remove(&mac);
            }
        }
    }

    fn newest(&self, mac: Mac) -> Option<Claim> {
        self.by_mac.get(&mac)?.iter().max_by_key(|claim| claim.since).copied()
    }
}

impl Controller {
    /// A vNIC has sent REGISTER.
    pub(super) fn register(&mut self, now: Duration, location: Location, mac: Mac) {
        if let Some(vnic) = self.vnics.get_mut(&mac)
            && vnic.location == location
        {
            tracing::info!(vnic = %mac, "vNIC registered again: it gets its full state");
            vnic.register(now);
            self.keys.arrived(now, mac);
            self.poll_vnic(now, mac);
        } else if self.admit_or_claim(now, location, mac) {
            if let Some(vnic) = self.vnics.get_mut(&mac) {
                vnic.register(now);
            }
            self.keys.arrived(now, mac);
            self.poll_vnic(now, mac);
        }
    }

    /// A vNIC has answered LIST_ENTRIES. Returns it, if it is known (now) at this place.
    pub(super) fn answered(&mut self, now: Duration, location: Location, mac: Mac) -> Option<&mut Vnic> {
        let answer = self.config.timers.answer;
        let known = self.vnics.get(&mac).is_some_and(|vnic| vnic.location == location);
        if !known && self.admit_or_claim(now, location, mac) {
            tracing::info!(vnic = %mac, "found a vNIC that is at work already: only what differs is sent");
            if let Some(vnic) = self.vnics.get_mut(&mac) {
                vnic.resume(now, answer);
            }
            self.keys.resumed(now, mac);
        }
        self.vnics.get_mut(&mac).map(|vnic| &mut **vnic).filter(|vnic| vnic.location == location)
    }

    /// Admits the newest claim of an address that has no holder, if the configuration knows the address.
    pub(super) fn promote(&mut self, now: Duration, mac: Mac) {
        if !self.desired.contains_key(&mac) {
            return;
        }
        let Some(claim) = self.claims.newest(mac) else { return };
        self.forget_claim(mac, claim.location);
        if self.config.control.refuses_version_2(mac) {
            // Let it register anew, with version 3.
            if let Some(port) = self.port_mut(claim.location) {
                port.look_again(now);
            }
        } else {
            self.register(now, claim.location, mac);
        }
    }

    /// A port has gone, and with it who was there. `at_work`: the port is there, and we do not see it any more.
    pub(super) fn forget_port(&mut self, now: Duration, connection: ConnectionId, port: &PortState, at_work: bool) {
        for mac in &port.claims {
            self.claims.remove(*mac, Location { connection, port: port.number });
        }
        for mac in &port.vnics {
            tracing::info!(vnic = %mac, port = %port.name, "vNIC has gone with its port");
            self.remove_vnic(*mac);
            self.keys.left(now, *mac, at_work);
            self.promote(now, *mac);
        }
    }

    /// vNICs that do not answer lose their place to another that claims their address.
    pub(super) fn relocate_silent(&mut self, now: Duration) {
        // Claims are few, vNICs are not.
        let silent = |mac: &Mac| self.vnics.get(mac).is_some_and(|vnic| vnic.is_silent());
        let lost: Vec<_> = self.claims.macs().filter(silent).collect();
        for mac in lost {
            tracing::warn!(vnic = %mac, "vNIC is silent where it was and has registered elsewhere: it has moved");
            self.evict(now, mac);
            self.promote(now, mac);
        }
    }

    /// A vNIC loses its place.
    pub(super) fn evict(&mut self, now: Duration, mac: Mac) {
        if let Some(old) = self.remove_vnic(mac)
            && let Some(port) = self.port_mut(old.location)
        {
            port.vnics.retain(|other| *other != mac);
            port.look_again(now);
        }
        self.keys.left(now, mac, true);
    }

    /// Makes the vNIC `mac` a known one at `location` and returns `true`, and the caller tells the keys; or notes a claim, if it is known elsewhere
    /// or the configuration does not know it.
    pub(super) fn admit_or_claim(&mut self, now: Duration, location: Location, mac: Mac) -> bool {
        let desired = match self.desired.get(&mac) {
            Some(desired) if !self.vnics.contains_key(&mac) => Arc::clone(desired),
            _ => {
                self.claim(now, location, mac);
                return false;
            }
        };
        let Some(port) = self.port_mut(location) else { return false };
        if !port.vnics.contains(&mac) {
            port.vnics.push(mac);
        }
        self.forget_claim(mac, location);
        tracing::info!(vnic = %mac, name = %desired.name, port = location.port, "vNIC found");
        self.vnics.insert(mac, Box::new(Vnic::new(now, mac, location, desired)));
        true
    }

    fn claim(&mut self, now: Duration, location: Location, mac: Mac) {
        let Some(port) = self.port_mut(location) else { return };
        if port.claims.len() >= MAX_CLAIMS_PER_PORT && !port.claims.contains(&mac) {
            self.counters.claims_refused += 1;
            return;
        }
        match self.claims.add(mac, Claim { location, since: now }) {
            None => {
                self.counters.claims_refused += 1;
                return;
            }
            Some(false) => {}
            Some(true) if self.vnics.contains_key(&mac) => {
                tracing::warn!(vnic = %mac, port = location.port, "a second vNIC registers with this address; the first is asked whether it is still there");
            }
            Some(true) => {
                tracing::warn!(vnic = %mac, port = location.port, "a vNIC that the configuration does not know has registered; it gets nothing: add a member with this mac");
            }
        }
        if let Some(port) = self.port_mut(location) {
            port.claims.insert(mac);
        }
        if let Some(holder) = self.vnics.get_mut(&mac) {
            holder.probe(now);
            self.poll_vnic(now, mac);
        }
    }

    fn forget_claim(&mut self, mac: Mac, location: Location) {
        self.claims.remove(mac, location);
        if let Some(port) = self.port_mut(location) {
            port.claims.remove(&mac);
        }
    }

    fn port_mut(&mut self, location: Location) -> Option<&mut PortState> {
        self.switches.get_mut(&location.connection)?.port_mut(location.port)
    }
}
