//! The controller as a machine without I/O and without a clock: messages and time in, messages out.
//!
//! Feed it with [`Controller::connected`], [`Controller::received`], [`Controller::disconnected`],
//! [`Controller::tick`] (several times a second) and [`Controller::reconfigure`]; after each of them write what
//! [`Controller::take_outgoing`] gives to the connections, and close those that [`Controller::take_closing`] names.
//! Time is the time since any fixed origin.

mod allowance;
pub mod counted;
mod counters;
pub mod link;
mod ownership;
mod peers;
mod port;
mod receive;
mod register;
mod registry;
pub mod switch;
mod turns;
pub mod vnic;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    config::{Config, Diagnostic, Network},
    derive::{self, Desired},
    keys::{self, KeyLog, Keys},
    mac::Mac,
    wheel::Wheel,
    window::Window,
};
use allowance::Allowance;
pub use counters::{Counters, Drops, Sums, Traffic};
use cvsw_core::{control::SaCommand, flow::FlowMod};
use ownership::Ownership;
pub use register::{Refusals, Refused};
pub use registry::{Claim, Claims};
use switch::{Greeting, Purpose, Stage, Switch};
use vnic::{Location, Vnic};

/// Low bits of an epoch in messages, which count our sessions.
pub const SESSION_BITS: u32 = 24;

/// A connection of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// The controller.
#[derive(Debug)]
pub struct Controller {
    config: Config,
    desired: BTreeMap<Mac, Arc<Desired>>,
    switches: BTreeMap<ConnectionId, Switch>,
    /// Boxed: half of a tree is room for more.
    vnics: BTreeMap<Mac, Box<Vnic>>,
    claims: Claims,
    refusals: Refusals,
    /// A vNIC obeys the controller with the highest.
    epoch: u64,
    /// Sessions of version 3 that were begun.
    sessions: u64,
    keys: Keys,
    /// How much may be unanswered, ...
    window: Window,
    /// ... how much of what brings vNICs to their state is, ...
    pushing: usize,
    /// ... and who waits for a turn.
    waiting: VecDeque<Mac>,
    /// When vNICs have something to do.
    wheel: Wheel<Mac>,
    /// vNICs that may have changed.
    touched: Vec<Mac>,
    /// Which switches are ours, if others may have some; `None`: all.
    ownership: Option<Ownership>,
    counters: Counters,
    generation: u64,
    config_error: Option<String>,
    warnings: Vec<Diagnostic>,
    next_connection: u64,
    /// Connections that may have something to be written.
    dirty: BTreeSet<ConnectionId>,
    closing: Vec<(ConnectionId, String)>,
}

/// A vNIC's entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flows {
    /// Those that it should have, and whether it has listed them.
    pub wanted: Vec<(Arc<FlowMod>, bool)>,
    /// Those that it is believed to have and should not.
    pub surplus: Vec<Arc<FlowMod>>,
}

impl Controller {
    /// A controller with a configuration.
    pub fn new(config: Config, warnings: Vec<Diagnostic>) -> Self {
        let mut keys = Keys::default();
        keys.configure(Duration::ZERO, &config);
        Self {
            desired: wanted(&config),
            keys,
            config,
            switches: BTreeMap::new(),
            vnics: BTreeMap::new(),
            claims: Claims::default(),
            refusals: Refusals::default(),
            epoch: 1,
            sessions: 0,
            window: Window::default(),
            pushing: 0,
            waiting: VecDeque::new(),
            wheel: Wheel::default(),
            touched: Vec::new(),
            ownership: None,
            counters: Counters::default(),
            generation: 1,
            config_error: None,
            warnings,
            next_connection: 0,
            dirty: BTreeSet::new(),
            closing: Vec::new(),
        }
    }

    /// This controller's epoch: not 0, and higher than that of every controller before. Set it before any switch connects.
    pub const fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.keys.set_epoch(epoch);
    }

    /// This controller's epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Registrations that were refused.
    pub const fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    fn greeting(&self) -> Greeting {
        let control = &self.config.control;
        Greeting {
            epoch: self.epoch << SESSION_BITS,
            version_2: !control.require,
            version_3: control.offers_version_3(),
        }
    }

    /// An epoch for a new session: higher than those of every controller before, and of every earlier session of ours, so
    /// that a command which was under way in one is not taken for one of another.
    fn next_epoch(&mut self) -> u64 {
        self.sessions = (self.sessions + 1).min((1 << SESSION_BITS) - 1);
        self.epoch << SESSION_BITS | self.sessions
    }

    /// A switch has connected from `peer`.
    pub fn connected(&mut self, now: Duration, peer: String) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let greeting = self.greeting();
        let allowance = Allowance::new(now, self.config.control_rate);
        self.switches.insert(id, Switch::new(now, id, peer, self.config.ethertype, greeting, allowance));
        self.dirty.insert(id);
        id
    }

    /// A connection has ended.
    pub fn disconnected(&mut self, now: Duration, id: ConnectionId) {
        let Some(switch) = self.switches.remove(&id) else { return };
        let (received, sent) = self.counters.gone_messages;
        self.counters.gone_messages = (received + switch.received, sent + switch.sent);
        tracing::info!(peer = %switch.peer, datapath = %format_args!("{:016x}", switch.datapath_id), "switch disconnected");
        for port in switch.ports.into_values() {
            self.forget_port(now, id, &port, true);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) {
        self.check_lease(now);
        let timers = self.config.timers;
        let mut late = Vec::new();
        for (id, switch) in &mut self.switches {
            match switch.poll_liveness(now, timers.echo) {
                Some(why) => late.push((*id, why)),
                None => {
                    switch.poll_discovery(now, timers.hello, timers.keepalive);
                    switch.poll_traffic(now);
                }
            }
            self.dirty.insert(*id);
        }
        for (id, why) in late {
            self.close(now, id, why.to_owned());
        }
        self.relocate_silent(now);
        self.give_turns(now);
        self.poll_keys(now);
    }

    /// Replaces every key in use, without a gap.
    pub fn rotate_keys(&mut self, now: Duration) {
        self.check_lease(now);
        self.keys.rotate(now);
        self.poll_keys(now);
    }

    /// Notes every key for a dissector from now on.
    pub fn log_keys(&mut self, log: KeyLog) {
        self.keys.log_to(log);
    }

    /// The keys of encrypted networks.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Sends what the keys want sent.
    fn poll_keys(&mut self, now: Duration) {
        let timers = self.config.timers;
        let room = self.window.for_keys(self.used());
        for (mac, message) in self.keys.poll(now, timers.answer, timers.keepalive, room) {
            let Some(vnic) = self.vnics.get_mut(&mac) else { continue };
            if vnic.order(&message) {
                self.poll_vnic(now, mac);
                continue;
            }
            let location = vnic.location;
            if !self.config.keys_in_clear && matches!(message.command, SaCommand::Add(..)) {
                // Everything but a key may be read by anyone.
                continue;
            }
            if let Some(switch) = self.switches.get_mut(&location.connection) {
                keys::clear::send(switch, location, mac, &message);
                self.dirty.insert(location.connection);
            }
        }
    }

    /// A vNIC has answered a SET_SA.
    fn keys_answered(
        &mut self,
        now: Duration,
        location: Location,
        mac: Mac,
        body: &[u8],
    ) -> Result<(), &'static str> {
        let answer = keys::clear::read(body)?;
        let Some(vnic) = self.vnics.get_mut(&mac).filter(|vnic| vnic.location == location) else { return Ok(()) };
        vnic.heard(now);
        if let Some(error) = self.keys.answered(now, mac, &answer) {
            vnic.note(error);
        }
        self.measure();
        self.poll_keys(now);
        Ok(())
    }

    /// Takes over how long an answer about keys has taken.
    pub(super) fn measure(&mut self) {
        if let Some(took) = self.keys.take_round_trip() {
            self.window.answered(took, self.config.timers.answer, 1, self.used());
        }
    }

    /// Control messages that were sent again, because no answer to them came in time.
    pub const fn repeated(&self) -> u64 {
        self.counters.repeated + self.keys.repeated()
    }

    /// Takes over another configuration. Only the differences are sent, those of many vNICs by the next
    /// [`Controller::tick`], to be called at once and with its own time: what takes this long is not to be taken for the
    /// time that vNICs take to answer.
    ///
    /// # Errors
    /// A text that says which setting cannot change while the controller runs. Nothing has changed then.
    pub fn reconfigure(&mut self, now: Duration, config: Config, warnings: Vec<Diagnostic>) -> Result<(), String> {
        self.check_lease(now);
        if let Some(why) = self.cannot_become(&config) {
            return Err(why);
        }
        let same_switch_flows = derive::switch_flows(&config) == derive::switch_flows(&self.config);
        let same_control_keys = config.control == self.config.control;
        let members = self.adopt(config);
        self.keys.configure(now, &self.config);
        self.warnings = warnings;
        self.config_error = None;
        self.generation += 1;
        let greeting = self.greeting();
        for switch in self.switches.values_mut() {
            switch.greeting = greeting;
            switch.allowance.set_rate(self.config.control_rate);
        }
        if !same_control_keys {
            self.drop_sessions_with_other_keys(now);
        }
        if !same_switch_flows {
            for switch in self.switches.values_mut().filter(|switch| switch.stage == Stage::Up) {
                install(switch, &self.config);
            }
        }
        let few = members.len() <= turns::FEW;
        for mac in members {
            let Some(vnic) = self.vnics.get_mut(&mac) else { continue };
            let desired = self.desired.get(&mac).cloned();
            let desired = desired.unwrap_or_else(|| Arc::new(derive::quarantine(vnic.desired().name.clone())));
            if vnic.want(now, desired) {
                self.wanted_changed(now, mac, few);
            }
        }
        let claimed: Vec<_> = self.claims.macs().filter(|mac| !self.vnics.contains_key(mac)).collect();
        for mac in claimed {
            self.promote(now, mac);
        }
        Ok(())
    }

    /// Makes the configuration the one in force. Networks that did not change stay what they are, and so does the wanted
    /// state of their members. Returns the members, past and present, of the others.
    fn adopt(&mut self, mut config: Config) -> BTreeSet<Mac> {
        let old = std::mem::take(&mut self.config.networks);
        let by_name: HashMap<&str, &Arc<Network>> = old.iter().map(|network| (&*network.name, network)).collect();
        for network in &mut config.networks {
            let same = |old: &&&Arc<Network>| Arc::ptr_eq(old, network) || **old == network;
            if let Some(same) = by_name.get(&*network.name).filter(same) {
                *network = Arc::clone(same);
            }
        }
        let before: HashSet<_> = old.iter().map(Arc::as_ptr).collect();
        let after: HashSet<_> = config.networks.iter().map(Arc::as_ptr).collect();
        let mut members = BTreeSet::new();
        for gone in old.iter().filter(|network| !after.contains(&Arc::as_ptr(network))) {
            for member in &gone.members {
                self.desired.remove(&member.mac);
                members.insert(member.mac);
            }
        }
        for new in config.networks.iter().filter(|network| !before.contains(&Arc::as_ptr(network))) {
            self.desired.extend(derive::of_network(new).map(|(mac, desired)| (mac, Arc::new(desired))));
            members.extend(new.members.iter().map(|member| member.mac));
        }
        self.config = config;
        members
    }

    /// Why this configuration cannot replace the present one while the controller runs; `None`: it can.
    pub fn cannot_become(&self, config: &Config) -> Option<String> {
        let (old, new) = (self.config.ethertype, config.ethertype);
        (old != new).then(|| {
            format!(
                "ethertype cannot change from {old:#06x} to {new:#06x} while vNICs are managed: put it back, or restart the controller"
            )
        })
    }

    /// Whoever has another key now, or has to have one, must show it.
    fn drop_sessions_with_other_keys(&mut self, now: Duration) {
        let control = &self.config.control;
        let wrong = |mac: Mac, vnic: &Vnic| match vnic.link() {
            Some(link) => link.session().keys() != control.keys(mac),
            None => control.refuses_version_2(mac),
        };
        let wrong = self.vnics.iter().filter(|(mac, vnic)| wrong(**mac, vnic)).map(|(mac, _)| *mac);
        let wrong: Vec<_> = wrong.collect();
        for mac in wrong {
            tracing::info!(vnic = %mac, "its control key has changed: it has to register again");
            self.evict(now, mac);
        }
    }

    /// A configuration was offered that cannot be used.
    pub fn refuse_configuration(&mut self, error: String) {
        self.config_error = Some(error);
    }

    /// What is to be written, per connection.
    pub fn take_outgoing(&mut self) -> Vec<(ConnectionId, Vec<u8>)> {
        let take = |id: ConnectionId| Some((id, self.switches.get_mut(&id)?.take_outgoing()));
        let all = std::mem::take(&mut self.dirty).into_iter().filter_map(take);
        all.filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    /// Connections that are to be closed, with the reason.
    pub fn take_closing(&mut self) -> Vec<(ConnectionId, String)> {
        std::mem::take(&mut self.closing)
    }

    /// The configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Counters.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Addresses of all vNICs that are wanted, or in quarantine, in order.
    pub fn macs(&self) -> impl Iterator<Item = Mac> {
        let all: BTreeSet<_> = self.desired.keys().chain(self.vnics.keys()).copied().collect();
        all.into_iter()
    }

    /// What a vNIC should have; in quarantine, what it should have there.
    pub fn desired_of(&self, mac: Mac) -> Option<Arc<Desired>> {
        let wanted = self.desired.get(&mac).cloned();
        wanted.or_else(|| self.vnics.get(&mac).map(|vnic| Arc::new(vnic.desired().clone())))
    }

    /// What a vNIC should have, and has.
    pub fn flows_of(&self, mac: Mac) -> Option<Flows> {
        let desired = self.desired_of(mac)?;
        let belief = self.vnics.get(&mac).map(|vnic| vnic.belief());
        let with_state = |flow: Arc<FlowMod>| {
            let confirmed = belief.is_some_and(|belief| belief.has_confirmed(&flow));
            (flow, confirmed)
        };
        Some(Flows {
            wanted: desired.flows.iter().map(with_state).collect(),
            surplus: belief.map(|belief| belief.surplus(&desired)).unwrap_or_default(),
        })
    }

    /// Somebody looks at this vNIC: its counters are asked for more often for a while.
    pub fn watch(&mut self, now: Duration, mac: Mac) {
        if let Some(vnic) = self.vnics.get_mut(&mac) {
            vnic.watch();
            self.poll_vnic(now, mac);
        }
    }

    /// OpenFlow messages received and sent since the start.
    pub fn message_totals(&self) -> (u64, u64) {
        let add = |(received, sent): (u64, u64), switch: &Switch| (received + switch.received, sent + switch.sent);
        self.switches.values().fold(self.counters.gone_messages, add)
    }

    pub(crate) const fn switches(&self) -> &BTreeMap<ConnectionId, Switch> {
        &self.switches
    }

    pub(crate) const fn vnics(&self) -> &BTreeMap<Mac, Box<Vnic>> {
        &self.vnics
    }

    pub(crate) const fn desired(&self) -> &BTreeMap<Mac, Arc<Desired>> {
        &self.desired
    }

    pub(crate) const fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn config_error(&self) -> Option<&str> {
        self.config_error.as_deref()
    }

    pub(crate) fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    fn close(&mut self, now: Duration, id: ConnectionId, why: String) {
        if let Some(switch) = self.switches.get(&id) {
            tracing::warn!(peer = %switch.peer, "closing the connection: {why}");
            self.closing.push((id, why));
        }
        self.disconnected(now, id);
    }
}

fn wanted(config: &Config) -> BTreeMap<Mac, Arc<Desired>> {
    derive::desired(config).into_iter().map(|(mac, desired)| (mac, Arc::new(desired))).collect()
}

/// Gives a switch its flows, and asks for those of an earlier controller's that it should not have any more. An ADD
/// replaces an equal entry in place, so that control frames are never without a backstop.
fn install(switch: &mut Switch, config: &Config) {
    use cvsw_core::flow::{Match, OFPP_CONTROLLER, OFPP_NORMAL};
    use cvsw_core::openflow::{FlowStatsRequest, Message, StatsRequest};
    for flow in derive::switch_flows(config) {
        let what = switch_flow_name(&flow);
        switch.send(&Message::FlowMod(flow), Purpose::SwitchFlow(what));
    }
    // Two filtered requests instead of one for everything: a foreign entry with actions that we cannot read would
    // hide the entries behind it.
    for out_port in [OFPP_CONTROLLER, OFPP_NORMAL] {
        let request = FlowStatsRequest { matching: Match::ANY, table_id: 0xff, out_port };
        switch.send(&Message::StatsRequest(StatsRequest::Flow(request)), Purpose::Protocol("STATS_REQUEST"));
    }
    switch.send(&Message::BarrierRequest, Purpose::Protocol("BARRIER_REQUEST"));
}

fn switch_flow_name(flow: &FlowMod) -> &'static str {
    if flow.cookie == derive::Kind::Backstop.cookie(0) { "backstop" } else { "forwarding" }
}
