//! Control frames of version 3, and who may register. A REGISTER is believed only with the vNIC's own key, if it has one,
//! and only as the answer to the challenge that was sent to the port from which it comes.

use std::{collections::VecDeque, time::Duration};

use cvsw_core::control::v3::{ControllerSession, Kind, Message, Registered};

use super::{Controller, link::Link, receive::count, vnic::Location};
use crate::mac::Mac;

/// Refused registrations that are remembered.
const KEPT: usize = 32;

/// More refusals than are remembered in this time are not all logged.
const QUIET: Duration = Duration::from_secs(60);

/// A REGISTER that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The address that it claims.
    pub mac: Mac,
    /// Datapath id of the switch.
    pub datapath_id: u64,
    /// The port.
    pub port: u16,
    /// Why.
    pub reason: &'static str,
    /// When it came last.
    pub at: Duration,
    /// How often.
    pub times: u64,
}

/// Refused registrations, the newest last.
#[derive(Debug, Default)]
pub struct Refusals(VecDeque<Refused>);

impl Refusals {
    /// All that are remembered.
    pub fn iter(&self) -> impl Iterator<Item = &Refused> {
        self.0.iter()
    }

    /// Returns whether it is worth a line in the log.
    fn note(&mut self, mut refused: Refused) -> bool {
        let same = |old: &Refused| {
            (old.mac, old.datapath_id, old.port, old.reason)
                == (refused.mac, refused.datapath_id, refused.port, refused.reason)
        };
        let known = self.0.iter().position(same).and_then(|at| self.0.remove(at));
        refused.times += known.as_ref().map_or(0, |old| old.times);
        let full = self.0.len() == KEPT;
        // Whoever invents addresses shall not fill the log.
        let flood = full && self.0.front().is_some_and(|oldest| refused.at.saturating_sub(oldest.at) < QUIET);
        if full {
            self.0.pop_front();
        }
        self.0.push_back(refused);
        known.is_none() && !flood
    }
}

impl Controller {
    /// Takes a control frame of version 3; an error names why it is not acceptable.
    pub(super) fn control_frame_3(
        &mut self,
        now: Duration,
        location: Location,
        frame: &[u8],
    ) -> Result<(), &'static str> {
        let message = Message::parse(frame).map_err(|error| error.name())?;
        let mac = Mac(message.header.mac);
        if !message.header.kind.is_for_controller() {
            return Err("type");
        }
        if mac.is_group() || mac.is_zero() {
            return Err("address");
        }
        if message.header.kind == Kind::Register {
            return self.register_3(now, location, mac, &message);
        }
        let timers = self.config.timers;
        let vnic = self.vnics.get_mut(&mac).filter(|vnic| vnic.location == location).ok_or("not_registered")?;
        let told = vnic.receive_3(now, &message, &timers)?;
        for answer in &told.orders {
            if let Some(error) = self.keys.answered(now, mac, answer) {
                vnic.note(error);
            }
        }
        if told.sa_digest.is_some_and(|digest| self.keys.differs(mac, digest)) {
            vnic.list_associations();
        }
        if let Some(listed) = &told.associations {
            self.keys.listed(now, mac, listed);
        }
        if let (Some(before), Some((_, now))) = (&told.counted, vnic.link().and_then(Link::counted)) {
            self.counters.drops.add(before, now);
        }
        told.errors.into_iter().for_each(|error| vnic.note(error));
        let took = vnic.take_round_trip();
        if let Some(epoch) = vnic.link().and_then(|link| link.session().fenced()) {
            self.outrun_at(location, epoch);
        }
        if let Some(took) = took {
            self.window.answered(took, timers.answer, 1, self.used());
        }
        self.measure();
        self.poll_keys(now);
        self.poll_vnic(now, mac);
        Ok(())
    }

    fn register_3(
        &mut self,
        now: Duration,
        location: Location,
        mac: Mac,
        message: &Message<'_>,
    ) -> Result<(), &'static str> {
        let here = self.vnics.get(&mac).is_some_and(|vnic| vnic.location == location && vnic.link().is_some());
        let result = if here {
            self.register_again(now, location, mac, message)
        } else {
            self.register_new(now, location, mac, message)
        };
        if let Err(reason) = result {
            self.refuse_register(now, location, mac, reason);
        }
        result
    }

    /// A vNIC with a session here.
    fn register_again(
        &mut self,
        now: Duration,
        location: Location,
        mac: Mac,
        message: &Message<'_>,
    ) -> Result<(), &'static str> {
        let timers = self.config.timers;
        let challenges = self.challenges(location);
        let Some(vnic) = self.vnics.get_mut(&mac) else { return Ok(()) };
        if vnic.announced_3(message) {
            self.poll_vnic(now, mac);
            return Ok(());
        }
        let registered = vnic.register_3(now, message, challenges, &timers).map_err(|error| error.name())?;
        self.use_challenge(location, registered.state.challenge);
        if registered.fresh {
            tracing::info!(vnic = %mac, "vNIC registered again, as another instance");
            self.keys.arrived(now, mac);
        }
        self.poll_keys(now);
        self.poll_vnic(now, mac);
        Ok(())
    }

    /// A vNIC that is not known at this place. With its key it has shown who it is, and takes its place at once; without
    /// one it waits until whoever holds the address is gone.
    fn register_new(
        &mut self,
        now: Duration,
        location: Location,
        mac: Mac,
        message: &Message<'_>,
    ) -> Result<(), &'static str> {
        let keys = self.config.control.keys(mac).clone();
        message.authenticate(&keys).map_err(|error| error.name())?;
        let keyed = keys.is_set();
        let answer = u64::try_from(self.config.timers.answer.as_nanos()).unwrap_or(u64::MAX);
        let mut session = ControllerSession::new(keys, self.next_epoch(), answer);
        if session.is_announcement(message) {
            return self.look_here(now, location);
        }
        let registered = first_good(self.challenges(location), |challenge| session.register(message, challenge));
        if let Some(epoch) = session.fenced() {
            self.outrun_at(location, epoch);
        }
        let registered = registered.map_err(|error| error.name())?;
        self.use_challenge(location, registered.state.challenge);
        if keyed && self.vnics.contains_key(&mac) {
            tracing::warn!(vnic = %mac, port = location.port, "vNIC has moved: it has shown its key at another port");
            self.evict(now, mac);
        }
        if !self.admit_or_claim(now, location, mac) {
            return if self.vnics.contains_key(&mac) { Err("duplicate_mac") } else { Err("not_in_configuration") };
        }
        let timers = self.config.timers;
        if let Some(vnic) = self.vnics.get_mut(&mac) {
            let link = Link::new(session, vnic.desired());
            vnic.speak_3(now, link, &registered.state, &timers);
        }
        if registered.state.associations > 0 {
            self.keys.resumed(now, mac);
        } else {
            self.keys.arrived(now, mac);
        }
        self.poll_keys(now);
        self.poll_vnic(now, mac);
        Ok(())
    }

    /// Counts and remembers a REGISTER that was refused.
    pub(super) fn refuse_register(&mut self, now: Duration, location: Location, mac: Mac, reason: &'static str) {
        count(&mut self.counters.refused_registers, reason);
        let datapath_id = self.switches.get(&location.connection).map_or(0, |switch| switch.datapath_id);
        let port = location.port;
        if self.refusals.note(Refused { mac, datapath_id, port, reason, at: now, times: 1 }) {
            tracing::warn!(vnic = %mac, switch = %format_args!("{datapath_id:016x}"), port, "REGISTER refused: {reason}");
        }
    }

    fn challenges(&self, location: Location) -> [u64; 2] {
        let port = self.switches.get(&location.connection).and_then(|switch| switch.ports.get(&location.port));
        port.map_or([0; 2], |port| port.challenges)
    }

    /// Each challenge is good once.
    fn use_challenge(&mut self, location: Location, used: u64) {
        let switch = self.switches.get_mut(&location.connection);
        if let Some(port) = switch.and_then(|switch| switch.ports.get_mut(&location.port)) {
            port.challenges = port.challenges.map(|challenge| if challenge == used { 0 } else { challenge });
        }
    }

    /// A vNIC has come up here and waits for a HELLO.
    fn look_here(&mut self, now: Duration, location: Location) -> Result<(), &'static str> {
        if let Some(switch) = self.switches.get_mut(&location.connection) {
            switch.hello_heard(now, location.port);
        }
        Ok(())
    }
}

/// The result for the first of the challenges that is the right one, else for the last one.
pub(super) fn first_good(
    [newest, older]: [u64; 2],
    mut register: impl FnMut(u64) -> Result<Registered, cvsw_core::ControlError>,
) -> Result<Registered, cvsw_core::ControlError> {
    match register(newest) {
        Err(cvsw_core::ControlError::Replayed) => register(older),
        result => result,
    }
}
