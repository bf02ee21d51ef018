//! What each message of a switch, and each control frame of a vNIC, causes. All of it is hostile until decoded.

use std::{collections::BTreeMap, time::Duration};

use cvsw_core::{
    control::{ControlMessage, MessageType, v3::VERSION_3},
    openflow::{
        ErrorMessage, Features, FlowRemoved, FlowStatsEntries, Header, Message, PacketIn, Port, PortReason,
        PortStatus, RemovedReason, StatsReply, SwitchConfig, decode_flow_mod,
    },
};

use super::{
    ConnectionId, Controller, install,
    switch::{Purpose, Stage, deletion},
    vnic::Location,
};
use crate::{
    derive::{self, EntryId},
    mac::Mac,
};

/// Offset of the EtherType of an untagged frame.
const ETHERTYPE_AT: usize = 12;
/// Offset of version and type in a control frame.
const VERSION_AT: usize = 6;

impl Controller {
    /// A whole OpenFlow message has arrived.
    pub fn received(&mut self, now: Duration, id: ConnectionId, bytes: &[u8]) {
        self.check_lease(now);
        let Some(switch) = self.switches.get_mut(&id) else { return };
        switch.heard(now);
        let stage = switch.stage;
        self.dirty.insert(id);
        let xid = Header::read(bytes).map_or(0, |header| header.xid);
        match (stage, Message::decode(bytes)) {
            (_, Err(error)) => {
                count(&mut self.counters.bad_openflow, error.name());
                tracing::debug!(connection = id.0, "a message could not be decoded: {error}");
                if matches!(stage, Stage::Hello | Stage::Features) {
                    self.close(now, id, format!("a message of the handshake could not be decoded: {error}"));
                }
            }
            (_, Ok(Message::EchoRequest(data))) => switch.send_as(xid, &Message::EchoReply(data)),
            (_, Ok(Message::Error(error))) => self.failed(id, xid, &error),
            (Stage::Hello, Ok(message)) => self.hello(now, id, &message),
            (Stage::Features, Ok(Message::FeaturesReply(features))) => self.features(now, id, &features),
            // Whoever manages it takes care of what it says.
            (Stage::Features | Stage::Standby, Ok(_)) => {}
            (Stage::Up, Ok(message)) => self.at_work(now, id, xid, message),
        }
    }

    fn hello(&mut self, now: Duration, id: ConnectionId, message: &Message<'_>) {
        // The version in force is the lower of both sides', and ours is the lowest there is.
        if !matches!(message, Message::Hello { .. }) {
            return self.close(now, id, "its first message is not an OpenFlow HELLO".to_owned());
        }
        if let Some(switch) = self.switches.get_mut(&id) {
            switch.stage = Stage::Features;
            switch.send(&Message::FeaturesRequest, Purpose::Protocol("FEATURES_REQUEST"));
        }
    }

    fn features(&mut self, now: Duration, id: ConnectionId, features: &Features<'_>) {
        let datapath_id = features.datapath_id;
        let same = |other: &&mut super::Switch| {
            other.id != id && matches!(other.stage, Stage::Up | Stage::Standby) && other.datapath_id == datapath_id
        };
        if let Some(other) = self.switches.values_mut().find(same) {
            // Whoever is there stays, if it shows that it is there; the other one will try again.
            other.probe(now);
            self.dirty.insert(other.id);
            self.counters.duplicate_datapaths += 1;
            let why = format!(
                "another connection has its datapath id {datapath_id:016x}: let each switch have its own id and one connection"
            );
            return self.close(now, id, why);
        }
        if !self.may_manage(id, datapath_id) {
            return;
        }
        let timers = self.config.timers;
        let Some(switch) = self.switches.get_mut(&id) else { return };
        switch.stage = Stage::Up;
        switch.datapath_id = datapath_id;
        tracing::info!(peer = %switch.peer, datapath = %format_args!("{datapath_id:016x}"), "switch connected");
        let config = SwitchConfig { flags: 0, miss_send_len: u16::MAX };
        switch.send(&Message::SetConfig(config), Purpose::Protocol("SET_CONFIG"));
        install(switch, &self.config);
        for port in features.ports.iter() {
            switch.port_seen(now, &port);
        }
        switch.poll_discovery(now, timers.hello, timers.keepalive);
    }

    fn failed(&mut self, id: ConnectionId, xid: u32, error: &ErrorMessage<'_>) {
        let Some(switch) = self.switches.get_mut(&id) else { return };
        let (text, mac) = switch.failed(xid, error);
        if let Some(vnic) = mac.and_then(|mac| self.vnics.get_mut(&mac)) {
            vnic.note(text);
        }
    }

    fn at_work(&mut self, now: Duration, id: ConnectionId, xid: u32, message: Message<'_>) {
        match message {
            Message::PacketIn(packet) => self.packet_in(now, id, &packet),
            Message::BarrierReply => self.barrier_reply(now, id, xid),
            Message::PortStatus(status) => self.port_status(now, id, &status),
            Message::StatsReply(StatsReply::Flow { entries, .. }) => self.remove_stale(id, entries),
            Message::StatsReply(StatsReply::Port { entries, .. }) => {
                if let Some(switch) = self.switches.get_mut(&id) {
                    switch.counted(now, entries, &mut self.counters.traffic);
                }
            }
            // Answers that nobody waits for, and reports that nobody asked for.
            _ => {}
        }
    }

    fn barrier_reply(&mut self, now: Duration, id: ConnectionId, xid: u32) {
        let Some(switch) = self.switches.get_mut(&id) else { return };
        if let Some(mac) = switch.barrier_passed(xid) {
            let used = self.used();
            if let Some(vnic) = self.vnics.get_mut(&mac)
                && let Some((took, count)) = vnic.barrier_passed(now, xid)
            {
                self.window.answered(took, self.config.timers.answer, count as usize, used);
            }
            self.poll_vnic(now, mac);
        }
    }

    fn port_status(&mut self, now: Duration, id: ConnectionId, status: &PortStatus) {
        let timers = self.config.timers;
        let Some(switch) = self.switches.get_mut(&id) else { return };
        match status.reason {
            PortReason::Add | PortReason::Modify => {
                switch.port_seen(now, &status.port);
                switch.poll_discovery(now, timers.hello, timers.keepalive);
            }
            PortReason::Delete => {
                if let Some(port) = switch.ports.remove(&status.port.number) {
                    self.forget_port(now, id, &port, false);
                }
            }
        }
    }

    /// Removes entries of an earlier controller from the switch.
    fn remove_stale(&mut self, id: ConnectionId, entries: FlowStatsEntries<'_>) {
        let wanted: Vec<_> = derive::switch_flows(&self.config).iter().map(EntryId::of).collect();
        let Some(switch) = self.switches.get_mut(&id) else { return };
        for entry in entries {
            let Ok(entry) = entry else {
                return switch.note("the switch's flows cannot all be read; stale ones may remain".to_owned());
            };
            let key = EntryId { priority: entry.priority, matching: entry.matching };
            if derive::is_ours(entry.cookie) && !wanted.contains(&key) {
                let flow = cvsw_core::flow::FlowMod {
                    matching: entry.matching,
                    priority: entry.priority,
                    ..Default::default()
                };
                switch.send(&Message::FlowMod(deletion(&flow)), Purpose::SwitchFlow("removal of a stale one"));
            }
        }
    }

    fn packet_in(&mut self, now: Duration, id: ConnectionId, packet: &PacketIn<'_>) {
        if let Err(reason) = self.control_frame(now, id, packet) {
            count(&mut self.counters.bad_control, reason);
            tracing::debug!(connection = id.0, port = packet.in_port, "frame refused: {reason}");
        }
    }

    /// Takes a frame from a port; an error names why it is not an acceptable control frame.
    fn control_frame(
        &mut self,
        now: Duration,
        id: ConnectionId,
        packet: &PacketIn<'_>,
    ) -> Result<(), &'static str> {
        let ethertype = self.config.ethertype.to_be_bytes();
        if packet.data.get(ETHERTYPE_AT..ETHERTYPE_AT + 2) != Some(&ethertype) {
            return Err("other_ethertype");
        }
        if packet.data.len() < usize::from(packet.total_len) {
            return Err("truncated");
        }
        if packet.in_port == 0 || packet.in_port > Port::MAX {
            return Err("in_port");
        }
        let Some(switch) = self.switches.get_mut(&id) else { return Ok(()) };
        let number = packet.in_port;
        if !switch.ports.contains_key(&number) {
            // It is new, and its PORT_STATUS has not come yet.
            switch.port_seen(now, &Port { number, ..Port::default() });
        }
        if packet.data.get(VERSION_AT).is_some_and(|octet| octet >> 4 == VERSION_3) && switch.greeting.version_3 {
            return self.control_frame_3(now, Location { connection: id, port: number }, packet.data);
        }
        let message = ControlMessage::parse(packet.data).map_err(|error| error.name())?;
        if message.kind == MessageType::Hello {
            switch.hello_heard(now, number);
            return Ok(());
        }
        let mac = Mac(message.dst);
        if mac.is_group() || mac.is_zero() {
            return Err("address");
        }
        if let Some(port) = switch.ports.get_mut(&number) {
            port.found();
        }
        let location = Location { connection: id, port: number };
        if self.config.control.refuses_version_2(mac) {
            self.refuse_register(now, location, mac, "downgrade");
            return Err("downgrade");
        }
        if self.vnics.get(&mac).is_some_and(|vnic| vnic.location == location && vnic.link().is_some()) {
            if message.kind != MessageType::Register {
                return Err("other_version");
            }
            // It was started anew, and speaks version 2 now.
            self.evict(now, mac);
        }
        match message.kind {
            MessageType::Register if message.body.is_empty() => self.register(now, location, mac),
            MessageType::Register => return Err("length"),
            MessageType::ListEntries => self.listing(now, location, mac, message.body)?,
            MessageType::FlowRemoved => self.flow_removed(now, location, mac, message.body)?,
            MessageType::SaAnswer => self.keys_answered(now, location, mac, message.body)?,
            _ => return Err("type"),
        }
        Ok(())
    }

    /// An entry that asked for it has left a vNIC's table: by a timeout, or by a command of ours.
    fn flow_removed(
        &mut self,
        now: Duration,
        location: Location,
        mac: Mac,
        body: &[u8],
    ) -> Result<(), &'static str> {
        let removed = FlowRemoved::decode(body).map_err(|_| "flow_removed")?;
        let Some(vnic) = self.answered(now, location, mac) else { return Ok(()) };
        vnic.heard(now);
        if removed.reason != RemovedReason::Delete {
            vnic.removed(&removed);
            let (cookie, packets, lived) = (removed.cookie, removed.packets, removed.duration_sec);
            tracing::info!(vnic = %mac, cookie, packets, lived, "an entry timed out: {:?}", removed.reason);
        }
        self.poll_vnic(now, mac);
        Ok(())
    }

    fn listing(&mut self, now: Duration, location: Location, mac: Mac, body: &[u8]) -> Result<(), &'static str> {
        let flow = match body {
            [] => None,
            body => Some(decode_flow_mod(body).map_err(|_| "flow_mod")?),
        };
        let timers = self.config.timers;
        if let Some(vnic) = self.answered(now, location, mac) {
            match flow {
                Some(flow) => vnic.listed(now, timers.answer, &flow),
                None => vnic.listing_ended(now, &timers),
            }
            self.poll_vnic(now, mac);
        }
        Ok(())
    }
}

pub(super) fn count(counters: &mut BTreeMap<&'static str, u64>, reason: &'static str) {
    *counters.entry(reason).or_default() += 1;
}
