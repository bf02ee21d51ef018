//! Several controllers share the switches: which of them are this one's, and until when.
//!
//! Every switch connects to every controller. Until a switch is given to this controller with [`Controller::own`],
//! it stands by: the handshake is done, the controller asks for the role of a slave and sends nothing else. What it
//! owns it loses when it is told so ([`Controller::disown`]), and by itself when the lease that it holds in the store
//! is not known to last any longer. So a controller that was stopped for a while knows, before it does anything else,
//! that others may have taken its switches over.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cvsw_core::openflow::{Message, Role, RoleMessage};

use super::{
    ConnectionId, Controller, SESSION_BITS,
    switch::{Purpose, Stage, Switch},
    vnic::{Location, Vnic},
};

/// What is owned.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    /// Datapath ids, with the epoch since which they are ours.
    switches: BTreeMap<u64, u64>,
    /// The lease lasts until then.
    until: Duration,
    /// What is added to an epoch, so that it is above those of controllers without a store.
    above: u64,
    /// A switch of ours with a vNIC that obeys a higher epoch, and that epoch without `above`.
    outrun: Option<(u64, u64)>,
}

impl Ownership {
    /// The epoch since which this switch is ours.
    pub(super) fn epoch(&self, datapath_id: u64) -> Option<u64> {
        self.switches.get(&datapath_id).copied()
    }
}

impl Controller {
    /// From now on only those switches are managed that are given to it. Call it before any switch connects. `above`
    /// is added to the epochs of [`Controller::own`].
    pub fn stand_by(&mut self, above: u64) {
        self.ownership = Some(Ownership { above, ..Ownership::default() });
    }

    /// Datapath ids of the switches that are connected, managed or not.
    pub fn datapaths(&self) -> BTreeSet<u64> {
        let known = self.switches.values().filter(|switch| matches!(switch.stage, Stage::Up | Stage::Standby));
        known.map(|switch| switch.datapath_id).collect()
    }

    /// The switches that are this controller's, with the epochs since which they are.
    pub fn owned(&self) -> BTreeMap<u64, u64> {
        self.ownership.as_ref().map(|ownership| ownership.switches.clone()).unwrap_or_default()
    }

    /// The lease lasts until then.
    pub fn lease_lasts(&mut self, until: Duration) {
        if let Some(ownership) = &mut self.ownership {
            ownership.until = until;
        }
    }

    /// A switch is this controller's from now on. `epoch` is higher than that of any controller which had it before.
    pub fn own(&mut self, now: Duration, datapath_id: u64, epoch: u64) {
        let Some(ownership) = self.ownership.as_mut().filter(|ownership| now < ownership.until) else { return };
        // It may be used for the other switches as well: who was given this one has all of them at that revision.
        let epoch_now = self.epoch.max(ownership.above.saturating_add(epoch));
        let before = ownership.switches.insert(datapath_id, epoch);
        self.set_epoch(epoch_now);
        if before.is_some_and(|before| before != epoch) {
            // It was lost and won again before anybody noticed; somebody else may have had it in between.
            self.retire_switch(now, datapath_id);
        }
        tracing::info!(datapath = %format_args!("{datapath_id:016x}"), epoch, "the switch is ours");
        let greeting = self.greeting();
        self.switches.values_mut().for_each(|switch| switch.greeting = greeting);
        let of_switch = self.switches.values_mut().filter(|switch| switch.datapath_id == datapath_id);
        for switch in of_switch.filter(|switch| switch.stage == Stage::Standby) {
            ask_for_role(switch, Role::Master);
            // Its ports may have changed since it said hello.
            switch.stage = Stage::Features;
            switch.connected_at = now;
            switch.send(&Message::FeaturesRequest, Purpose::Protocol("FEATURES_REQUEST"));
            self.dirty.insert(switch.id);
        }
    }

    /// A vNIC at `location` has shown that it obeys an epoch higher than ours.
    pub(super) fn outrun_at(&mut self, location: Location, epoch: u64) {
        let datapath_id = self.switches.get(&location.connection).map(|switch| switch.datapath_id);
        if let Some((ownership, datapath_id)) = self.ownership.as_mut().zip(datapath_id)
            && ownership.epoch(datapath_id).is_some()
        {
            ownership.outrun = Some((datapath_id, (epoch >> SESSION_BITS).saturating_sub(ownership.above)));
        }
    }

    /// A switch of ours with a vNIC that obeys a higher epoch than ours, and that epoch; told once. It comes from a
    /// switch of another controller. With [`Controller::raise_epoch`] it can be managed here.
    pub fn take_outrun(&mut self) -> Option<(u64, u64)> {
        self.ownership.as_mut()?.outrun.take()
    }

    /// The epoch becomes this one. The caller has made sure that the switches were ours at that revision of the store.
    pub fn raise_epoch(&mut self, now: Duration, epoch: u64) {
        let Some(ownership) = self.ownership.as_ref().filter(|ownership| now < ownership.until) else { return };
        let epoch_now = self.epoch.max(ownership.above.saturating_add(epoch));
        self.set_epoch(epoch_now);
        let greeting = self.greeting();
        self.switches.values_mut().for_each(|switch| switch.greeting = greeting);
        tracing::info!(epoch, "the epoch is higher now, for a vNIC that came from a switch of another controller");
        // They begin anew, in a session of the new epoch.
        let fenced = |vnic: &Vnic| vnic.link().is_some_and(|link| link.session().fenced().is_some());
        let fenced: Vec<_> = self.vnics.iter().filter(|(_, vnic)| fenced(vnic)).map(|(mac, _)| *mac).collect();
        fenced.into_iter().for_each(|mac| self.evict(now, mac));
    }

    /// A switch is not this controller's any more.
    pub fn disown(&mut self, now: Duration, datapath_id: u64) {
        let Some(ownership) = &mut self.ownership else { return };
        if ownership.switches.remove(&datapath_id).is_none() {
            return;
        }
        tracing::warn!(datapath = %format_args!("{datapath_id:016x}"), "the switch is not ours any more");
        self.retire_switch(now, datapath_id);
    }

    /// Gives everything up when the lease is over. To be called before anything else is done.
    pub(super) fn check_lease(&mut self, now: Duration) {
        let Some(ownership) = &self.ownership else { return };
        if now < ownership.until || ownership.switches.is_empty() {
            return;
        }
        tracing::error!("the lease in the store was not renewed in time: every switch is given up");
        for datapath_id in self.owned().into_keys() {
            self.disown(now, datapath_id);
        }
    }

    /// Whether a switch that has just said who it is may be managed; else it stands by from now on.
    pub(super) fn may_manage(&mut self, id: ConnectionId, datapath_id: u64) -> bool {
        let Some(ownership) = &self.ownership else { return true };
        if ownership.epoch(datapath_id).is_some() {
            return true;
        }
        if let Some(switch) = self.switches.get_mut(&id) {
            switch.datapath_id = datapath_id;
            stand_by(switch);
            self.dirty.insert(id);
        }
        false
    }

    fn retire_switch(&mut self, now: Duration, datapath_id: u64) {
        let of_switch = self.switches.values().filter(|switch| switch.datapath_id == datapath_id);
        let ids: Vec<_> = of_switch.map(|switch| switch.id).collect();
        for id in ids {
            self.retire(now, id);
        }
    }

    /// Lets go of a connection's vNICs without a word to them.
    fn retire(&mut self, now: Duration, id: ConnectionId) {
        let Some(switch) = self.switches.get_mut(&id) else { return };
        let ports = std::mem::take(&mut switch.ports);
        // Whoever has it now has said other things in the meantime.
        drop(switch.take_outgoing());
        stand_by(switch);
        self.dirty.insert(id);
        for port in ports.into_values() {
            self.forget_port(now, id, &port, true);
        }
    }
}

fn stand_by(switch: &mut Switch) {
    switch.stage = Stage::Standby;
    ask_for_role(switch, Role::Slave);
}

fn ask_for_role(switch: &mut Switch, role: Role) {
    let data = RoleMessage { reply: false, role }.to_bytes();
    let message = Message::Vendor { vendor: RoleMessage::VENDOR, data: &data };
    switch.send(&message, Purpose::Protocol("NXT_ROLE_REQUEST"));
}
