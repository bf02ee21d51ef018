//! One switch: OpenFlow messages in, OpenFlow messages out. No I/O.

use std::{collections::BTreeMap, sync::Arc};

use cvsw_core::{
    Instant,
    flow::{Action, Command, FlowMod},
    openflow::{
        ErrorMessage, Features, FlowStatsEntries, Header, Message, PacketIn, Port, PortName, PortReason,
        PortStatsEntries, PortStatus, Ports, Role, RoleMessage, StatsReply, StatsRequest,
    },
};

use crate::vnic::{Seen, Vnic};

/// Room for what a PACKET_IN has around a control frame.
const PACKET_IN: usize = 32;
/// Longest message that does not grow with its contents.
const SHORT: usize = 128;
/// `OFPET_BAD_REQUEST` and `OFPBRC_EPERM`: what a slave is told.
const REFUSED: (u16, u16) = (1, 5);

/// A connection to a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// A switch and the vNICs on its ports.
pub struct Switch {
    datapath_id: u64,
    /// Port number, vNIC, and what others may see of it; by port number, from 1.
    ports: Vec<(Vnic, Arc<Seen>)>,
    flows: Vec<FlowMod>,
    connections: BTreeMap<ConnectionId, Role>,
    next_connection: u64,
    refused: u64,
}

impl Switch {
    /// A switch with these vNICs on its ports 1, 2 and so on.
    pub const fn new(datapath_id: u64, ports: Vec<(Vnic, Arc<Seen>)>) -> Self {
        Self { datapath_id, ports, flows: Vec::new(), connections: BTreeMap::new(), next_connection: 0, refused: 0 }
    }

    /// The vNICs.
    pub fn vnics(&self) -> impl Iterator<Item = &Vnic> {
        self.ports.iter().map(|(vnic, _)| vnic)
    }

    /// Its own flow entries.
    pub fn flows(&self) -> &[FlowMod] {
        &self.flows
    }

    /// The number of the connection whose controller is the master here.
    pub fn master(&self) -> Option<u64> {
        self.connections.iter().find(|(_, role)| **role == Role::Master).map(|(id, _)| id.0)
    }

    /// Messages that came from slaves, which may only ask.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// A connection was made.
    pub fn connected(&mut self, out: &mut Vec<u8>) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.connections.insert(id, Role::Other);
        push(out, 0, &Message::Hello { version: 1 }, SHORT);
        id
    }

    /// A connection has ended.
    pub fn disconnected(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
    }

    /// A whole message from the controller at `id`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let message = Message::decode(bytes).map_err(|error| error.to_string())?;
        let xid = Header::read(bytes).map_or(0, |header| header.xid);
        let changes = matches!(message, Message::FlowMod(_) | Message::PacketOut(_) | Message::SetConfig(_));
        if changes && self.connections.get(&id) == Some(&Role::Slave) {
            self.refused += 1;
            let (kind, code) = REFUSED;
            let data = bytes.get(..bytes.len().min(64)).unwrap_or_default();
            push(out, xid, &Message::Error(ErrorMessage { kind, code, data }), SHORT);
            return Ok(());
        }
        match message {
            Message::Vendor { vendor, data } => self.role(xid, id, RoleMessage::read(vendor, data), out),
            Message::FeaturesRequest => self.features(xid, out),
            Message::EchoRequest(data) => push(out, xid, &Message::EchoReply(data), SHORT + data.len()),
            Message::BarrierRequest => push(out, xid, &Message::BarrierReply, SHORT),
            Message::StatsRequest(StatsRequest::Port(_)) => {
                let reply = StatsReply::Port { more: false, entries: PortStatsEntries(&[]) };
                push(out, xid, &Message::StatsReply(reply), SHORT);
            }
            Message::StatsRequest(_) => {
                let reply = StatsReply::Flow { more: false, entries: FlowStatsEntries(&[]) };
                push(out, xid, &Message::StatsReply(reply), SHORT);
            }
            Message::FlowMod(flow) => self.change(flow),
            Message::PacketOut(packet) => {
                if let Some(Action::Output { port, .. }) = packet.actions.first() {
                    self.deliver(now, *port, packet.data, out);
                }
            }
            Message::Error(error) => return Err(format!("ERROR type {} code {}", error.kind, error.code)),
            _ => {}
        }
        Ok(())
    }

    /// Time has passed. What the vNICs say goes to the controller at `id`, if it may hear it.
    pub fn tick(&mut self, now: Instant, id: ConnectionId, out: &mut Vec<u8>) {
        if self.connections.get(&id) == Some(&Role::Slave) {
            return;
        }
        for (number, (vnic, seen)) in (1..).zip(&mut self.ports) {
            vnic.tick(now, seen, |frame| packet_in(out, number, frame));
        }
    }

    fn deliver(&mut self, now: Instant, number: u16, frame: &[u8], out: &mut Vec<u8>) {
        let Some((vnic, seen)) = self.ports.get_mut(usize::from(number).wrapping_sub(1)) else { return };
        vnic.deliver(now, &mut frame.to_vec(), seen, |frame| packet_in(out, number, frame));
    }

    /// A master is the only one; who was it before becomes a slave.
    fn role(&mut self, xid: u32, id: ConnectionId, message: Option<RoleMessage>, out: &mut Vec<u8>) {
        let Some(RoleMessage { reply: false, role }) = message else { return };
        if role == Role::Master {
            self.connections.values_mut().for_each(|role| *role = Role::Slave);
        }
        self.connections.insert(id, role);
        let data = RoleMessage { reply: true, role }.to_bytes();
        push(out, xid, &Message::Vendor { vendor: RoleMessage::VENDOR, data: &data }, SHORT);
    }

    fn change(&mut self, flow: FlowMod) {
        self.flows.retain(|old| old.priority != flow.priority || old.matching != flow.matching);
        if flow.command == Command::Add {
            self.flows.push(flow);
        }
    }

    fn features(&self, xid: u32, out: &mut Vec<u8>) {
        let numbers = (1..).take(self.ports.len());
        let ports: Vec<u8> = numbers.flat_map(wire_port).collect();
        let Ok(ports) = Ports::new(&ports) else { return };
        let features = Features { datapath_id: self.datapath_id, ports, n_tables: 1, ..Features::default() };
        push(out, xid, &Message::FeaturesReply(features), SHORT + ports.as_bytes().len());
    }
}

fn packet_in(out: &mut Vec<u8>, in_port: u16, frame: &[u8]) {
    let total_len = u16::try_from(frame.len()).unwrap_or(u16::MAX);
    let packet = PacketIn { buffer_id: None, total_len, in_port, reason: 1, data: frame };
    push(out, 0, &Message::PacketIn(packet), PACKET_IN + frame.len());
}

/// Appends a message that takes at most `room` bytes.
fn push(out: &mut Vec<u8>, xid: u32, message: &Message<'_>, room: usize) {
    let start = out.len();
    out.resize(start + room, 0);
    let len = message.encode(xid, &mut out[start..]).expect("the room is enough and the message can be said");
    out.truncate(start + len);
}

/// The wire form of a port: that of a FEATURES_REPLY has no other maker, so it is cut out of a PORT_STATUS.
fn wire_port(number: u16) -> Vec<u8> {
    let port = Port { number, name: PortName::new(&format!("sim{number}")), ..Port::default() };
    let mut out = Vec::new();
    push(&mut out, 0, &Message::PortStatus(PortStatus { reason: PortReason::Add, port }), SHORT);
    out.split_off(16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::mac;
    use cvsw_core::openflow::{PacketOut, message_len};
    use std::sync::atomic::Ordering;

    fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut all = Vec::new();
        while let Some(Ok(len)) = message_len(bytes) {
            let (message, rest) = bytes.split_at(len);
            all.push(message);
            bytes = rest;
        }
        assert_eq!(bytes, b"", "whole messages");
        all
    }

    #[test]
    fn a_switch_shows_its_ports_and_passes_frames_both_ways() {
        let seen = Arc::new(Seen::default());
        let mut switch = Switch::new(7, vec![(Vnic::new(mac(3), 1, None).unwrap(), Arc::clone(&seen))]);
        let (one, two) = (switch.connected(&mut Vec::new()), switch.connected(&mut Vec::new()));
        let mut tell_as = |id, message: &Message<'_>| {
            let (mut bytes, mut out) = (Vec::new(), Vec::new());
            push(&mut bytes, 5, message, 512);
            switch.received(Instant::ZERO, id, &bytes, &mut out).unwrap();
            out
        };
        let mut tell = |message: &Message<'_>| tell_as(one, message);
        let out = tell(&Message::FeaturesRequest);
        let Ok(Message::FeaturesReply(features)) = Message::decode(messages(&out)[0]) else { panic!("{out:?}") };
        assert_eq!((features.datapath_id, features.ports.iter().map(|port| port.number).collect()), (7, vec![1]));

        let mut actions = cvsw_core::flow::ActionList::new();
        actions.push(Action::Output { port: 1, max_len: 0 }).unwrap();
        let hello = [[0xff; 6].as_slice(), &[0x21, 0, 0, 0, 0, 0, 0xab, 0xba]].concat();
        let packet = |data| {
            Message::PacketOut(PacketOut { buffer_id: None, in_port: 0xffff, actions: actions.clone(), data })
        };
        let out = tell(&packet(&hello));
        let Ok(Message::PacketIn(answer)) = Message::decode(messages(&out)[0]) else { panic!("{out:?}") };
        assert_eq!((answer.in_port, &answer.data[..7]), (1, &[&mac(3).0[..], &[0x22]].concat()[..]));

        let set_mtu = [&mac(3).0[..], &[0x25, 0, 0, 0, 0x05, 0x14, 0xab, 0xba]].concat();
        tell(&packet(&set_mtu));
        assert_eq!(seen.mtu.load(Ordering::Relaxed), 1300);

        let master = RoleMessage { reply: false, role: Role::Master }.to_bytes();
        tell_as(two, &Message::Vendor { vendor: RoleMessage::VENDOR, data: &master });
        let set_mtu = [&mac(3).0[..], &[0x25, 0, 0, 0, 0x05, 0x78, 0xab, 0xba]].concat();
        let out = tell_as(one, &packet(&set_mtu));
        let Ok(Message::Error(error)) = Message::decode(messages(&out)[0]) else { panic!("{out:?}") };
        assert_eq!((error.kind, error.code), REFUSED);
        assert_eq!(seen.mtu.load(Ordering::Relaxed), 1300, "a slave changes nothing");
        tell_as(two, &packet(&set_mtu));
        assert_eq!(seen.mtu.load(Ordering::Relaxed), 1400);
        assert_eq!((switch.refused(), switch.master()), (1, Some(1)));
        switch.disconnected(two);
        assert_eq!(switch.master(), None);
    }
}
