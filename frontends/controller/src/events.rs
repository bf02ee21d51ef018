//! What happens, as a stream: each event is a difference between two looks at the controller.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::{
    mac::Mac,
    state::{
        ConnectionId, Controller,
        switch::Stage,
        vnic::{Location, Phase, Vnic},
    },
};

/// Events that are kept for listeners who come back.
const KEPT: usize = 1024;
/// Refused REGISTERs that are told of at one look.
const REFUSALS: usize = 8;

/// An event with its number and time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts from 1 since the controller's start.
    pub id: u64,
    /// Milliseconds since 1970 (UTC).
    pub unix_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum What {
    /// A switch has finished its handshake.
    SwitchConnected {
        /// Datapath id, 16 hexadecimal digits.
        switch: String,
        /// The other end of its connection.
        peer: String,
    },
    /// A switch's connection has ended.
    SwitchDisconnected {
        /// Datapath id, 16 hexadecimal digits.
        switch: String,
    },
    /// A vNIC has another state.
    VnicState {
        /// Its address.
        mac: String,
        /// Its name.
        name: String,
        /// Its network; none in quarantine.
        network: Option<String>,
        /// Before.
        from: String,
        /// Now.
        to: String,
    },
    /// A vNIC is at another port.
    VnicMoved {
        /// Its address.
        mac: String,
        /// Datapath id of its switch.
        switch: String,
        /// OpenFlow port number.
        port: u16,
    },
    /// A vNIC has registered and was not admitted.
    VnicRefused {
        /// The address that it claims.
        mac: String,
        /// Datapath id of its switch.
        switch: String,
        /// OpenFlow port number.
        port: u16,
        /// `not_in_configuration` or `address_in_use`.
        reason: String,
    },
    /// A REGISTER was not believed. That it comes again is told by `/v1/refusals` only.
    RegisterRefused {
        /// The address that it claims.
        mac: String,
        /// Datapath id of the switch.
        switch: String,
        /// OpenFlow port number.
        port: u16,
        /// Why, as in `/v1/refusals`.
        reason: String,
    },
    /// What one vNIC sends to one destination is sealed with a new key.
    KeyInUse {
        /// The network's VNI.
        vni: u32,
        /// Address of the sending vNIC.
        sender: String,
        /// Outer destination.
        destination: String,
        /// SPI of the key.
        spi: String,
    },
    /// Another desired state is in force.
    DesiredState {
        /// How many there were since the start.
        generation: u64,
    },
    /// A desired state was offered that cannot be used.
    DesiredStateRefused {
        /// Why.
        error: String,
    },
}

impl What {
    /// The type's name, as in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SwitchConnected { .. } => "switch_connected",
            Self::SwitchDisconnected { .. } => "switch_disconnected",
            Self::VnicState { .. } => "vnic_state",
            Self::VnicMoved { .. } => "vnic_moved",
            Self::VnicRefused { .. } => "vnic_refused",
            Self::RegisterRefused { .. } => "register_refused",
            Self::KeyInUse { .. } => "key_in_use",
            Self::DesiredState { .. } => "desired_state",
            Self::DesiredStateRefused { .. } => "desired_state_refused",
        }
    }
}

/// Compares the controller with what it was at the last look.
#[derive(Debug, Default)]
pub struct Reporter {
    switches: BTreeMap<ConnectionId, u64>,
    vnics: BTreeMap<Mac, (Phase, Location)>,
    claims: BTreeSet<(Mac, Location)>,
    refusals: BTreeSet<(Mac, u64, u16, &'static str)>,
    /// Keys that were taken into use.
    keys: u64,
    generation: u64,
    error: Option<String>,
}

impl Reporter {
    /// What has happened since the last look.
    pub fn news(&mut self, controller: &mut Controller) -> Vec<What> {
        let mut news = Vec::new();
        let touched: BTreeSet<_> = controller.take_touched().into_iter().collect();
        let controller = &*controller;
        self.desired(controller, &mut news);
        self.connections(controller, &mut news);
        for mac in touched {
            self.vnic(mac, controller, &mut news);
        }
        self.claims(controller, &mut news);
        self.refusals(controller, &mut news);
        self.keys(controller, &mut news);
        news
    }

    fn desired(&mut self, controller: &Controller, news: &mut Vec<What>) {
        let generation = controller.generation();
        if std::mem::replace(&mut self.generation, generation) != generation {
            news.push(What::DesiredState { generation });
        }
        let error = controller.config_error();
        if self.error.as_deref() != error {
            self.error = error.map(str::to_owned);
            news.extend(self.error.clone().map(|error| What::DesiredStateRefused { error }));
        }
    }

    fn connections(&mut self, controller: &Controller, news: &mut Vec<What>) {
        let up = controller.switches().iter().filter(|(_, switch)| switch.stage == Stage::Up);
        for (id, switch) in up {
            if self.switches.insert(*id, switch.datapath_id).is_none() {
                let peer = switch.peer.clone();
                news.push(What::SwitchConnected { switch: datapath(switch.datapath_id), peer });
            }
        }
        self.switches.retain(|id, datapath_id| {
            let there = controller.switches().contains_key(id);
            if !there {
                news.push(What::SwitchDisconnected { switch: datapath(*datapath_id) });
            }
            there
        });
    }

    fn vnic(&mut self, mac: Mac, controller: &Controller, news: &mut Vec<What>) {
        let Some(vnic) = controller.vnics().get(&mac) else { return self.gone(mac, controller, news) };
        let state = (vnic.phase(), vnic.location);
        let old = self.vnics.insert(mac, state);
        if old.is_none_or(|(_, location)| location != state.1)
            && let Some(switch) = controller.switches().get(&vnic.location.connection)
        {
            let (switch, port) = (datapath(switch.datapath_id), vnic.location.port);
            news.push(What::VnicMoved { mac: mac.to_string(), switch, port });
        }
        let before = old.map_or(Phase::Absent, |(phase, _)| phase);
        if before != state.0 {
            news.push(vnic_state(mac, vnic, before, state.0));
        }
    }

    fn gone(&mut self, mac: Mac, controller: &Controller, news: &mut Vec<What>) {
        let Some((phase, _)) = self.vnics.remove(&mac) else { return };
        let desired = controller.desired().get(&mac);
        news.push(What::VnicState {
            mac: mac.to_string(),
            name: desired.map(|desired| desired.name.to_string()).unwrap_or_default(),
            network: desired.and_then(|desired| Some(desired.network.as_ref()?.to_string())),
            from: phase.name().to_owned(),
            to: Phase::Absent.name().to_owned(),
        });
    }

    fn claims(&mut self, controller: &Controller, news: &mut Vec<What>) {
        let claims: BTreeSet<_> = controller.claims().iter().map(|(mac, claim)| (mac, claim.location)).collect();
        for (mac, location) in claims.difference(&self.claims) {
            let switch = controller.switches().get(&location.connection).map(|switch| switch.datapath_id);
            let known = controller.desired().contains_key(mac);
            news.push(What::VnicRefused {
                mac: mac.to_string(),
                switch: switch.map(datapath).unwrap_or_default(),
                port: location.port,
                reason: if known { "address_in_use" } else { "not_in_configuration" }.to_owned(),
            });
        }
        self.claims = claims;
    }

    fn refusals(&mut self, controller: &Controller, news: &mut Vec<What>) {
        let refusals = controller.refusals().iter();
        let refusals: BTreeSet<_> = refusals.map(|one| (one.mac, one.datapath_id, one.port, one.reason)).collect();
        // Whoever invents addresses shall not push the other events out.
        for (mac, switch, port, reason) in refusals.difference(&self.refusals).take(REFUSALS) {
            let (mac, switch, reason) = (mac.to_string(), datapath(*switch), (*reason).to_owned());
            news.push(What::RegisterRefused { mac, switch, port: *port, reason });
        }
        self.refusals = refusals;
    }

    fn keys(&mut self, controller: &Controller, news: &mut Vec<What>) {
        let (count, newest) = controller.keys().taken_into_use();
        let missed = count - std::mem::replace(&mut self.keys, count);
        // More than are remembered could not be told anyway.
        let missed: Vec<_> = newest.rev().take(usize::try_from(missed).unwrap_or(usize::MAX)).collect();
        news.extend(missed.into_iter().rev().map(|(id, spi)| What::KeyInUse {
            vni: id.vni,
            sender: id.sender.to_string(),
            destination: id.destination.to_string(),
            spi: format!("{spi:#010x}"),
        }));
    }
}

fn vnic_state(mac: Mac, vnic: &Vnic, from: Phase, to: Phase) -> What {
    What::VnicState {
        mac: mac.to_string(),
        name: vnic.desired().name.to_string(),
        network: vnic.desired().network.as_ref().map(ToString::to_string),
        from: from.name().to_owned(),
        to: to.name().to_owned(),
    }
}

fn datapath(id: u64) -> String {
    format!("{id:016x}")
}

/// Hands events to whoever listens.
#[derive(Debug)]
pub struct Bus {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    last: u64,
}

impl Default for Bus {
    fn default() -> Self {
        Self { kept: Mutex::default(), live: broadcast::channel(KEPT).0 }
    }
}

impl Bus {
    /// Numbers an event and hands it out.
    pub fn publish(&self, what: What) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last += 1;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let event = Arc::new(Event { id: kept.last, unix_ms, what });
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::clone(&event));
        // Nobody may be listening.
        let _ = self.live.send(event);
    }

    /// Kept events after number `after`, and all that come. Without a number: only those that come. A number from
    /// before the controller's restart: all that are kept.
    pub fn subscribe(&self, after: Option<u64>) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        let after = match after {
            None => kept.last,
            Some(after) if after > kept.last => 0,
            Some(after) => after,
        };
        (kept.events.iter().filter(|event| event.id > after).cloned().collect(), live)
    }

    /// Events so far.
    pub fn count(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_gets_what_was_missed() {
        let bus = Bus::default();
        for generation in 1..=KEPT as u64 + 5 {
            bus.publish(What::DesiredState { generation });
        }
        let ids = |after| bus.subscribe(after).0.iter().map(|event| event.id).collect::<Vec<_>>();
        let last = KEPT as u64 + 5;
        assert_eq!(ids(None), Vec::<u64>::new());
        assert_eq!(ids(Some(last - 2)), [last - 1, last]);
        assert_eq!(ids(Some(0)).len(), KEPT, "the oldest are gone");
        assert_eq!(ids(Some(last + 7)).len(), KEPT, "the number is that of another run");
        let (_, mut live) = bus.subscribe(None);
        bus.publish(What::DesiredState { generation: 0 });
        assert_eq!(live.try_recv().unwrap().id, last + 1);
        assert_eq!(bus.count(), last + 1);
    }
}
