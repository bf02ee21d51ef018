//! One switch: OpenFlow messages in, OpenFlow messages out. No I/O.

use std::sync::Arc;

use cvsw_core::{
    Instant,
    flow::{Action, Command, FlowMod},
    openflow::{
        Features, FlowStatsEntries, Header, Message, PacketIn, Port, PortName, PortReason, PortStatus, Ports,
        StatsReply,
    },
};

use crate::vnic::{Seen, Vnic};

/// Room for what a PACKET_IN has around a control frame.
const PACKET_IN: usize = 32;
/// Longest message that does not grow with its contents.
const SHORT: usize = 128;

/// A switch and the vNICs on its ports.
pub struct Switch {
    datapath_id: u64,
    /// Port number, vNIC, and what others may see of it; by port number, from 1.
    ports: Vec<(Vnic, Arc<Seen>)>,
    flows: Vec<FlowMod>,
}

impl Switch {
    /// A switch with these vNICs on its ports 1, 2 and so on.
    pub const fn new(datapath_id: u64, ports: Vec<(Vnic, Arc<Seen>)>) -> Self {
        Self { datapath_id, ports, flows: Vec::new() }
    }

    /// The vNICs.
    pub fn vnics(&self) -> impl Iterator<Item = &Vnic> {
        self.ports.iter().map(|(vnic, _)| vnic)
    }

    /// Its own flow entries.
    pub fn flows(&self) -> &[FlowMod] {
        &self.flows
    }

    /// What a new connection begins with.
    pub fn greet(out: &mut Vec<u8>) {
        push(out, 0, &Message::Hello { version: 1 }, SHORT);
    }

    /// A whole message from the controller.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn received(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let message = Message::decode(bytes).map_err(|error| error.to_string())?;
        let xid = Header::read(bytes).map_or(0, |header| header.xid);
        match message {
            Message::FeaturesRequest => self.features(xid, out),
            Message::EchoRequest(data) => push(out, xid, &Message::EchoReply(data), SHORT + data.len()),
            Message::BarrierRequest => push(out, xid, &Message::BarrierReply, SHORT),
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

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<u8>) {
        for (number, (vnic, seen)) in (1..).zip(&mut self.ports) {
            vnic.tick(now, seen, |frame| packet_in(out, number, frame));
        }
    }

    fn deliver(&mut self, now: Instant, number: u16, frame: &[u8], out: &mut Vec<u8>) {
        let Some((vnic, seen)) = self.ports.get_mut(usize::from(number).wrapping_sub(1)) else { return };
        vnic.deliver(now, &mut frame.to_vec(), seen, |frame| packet_in(out, number, frame));
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
        let mut switch = Switch::new(7, vec![(Vnic::new(mac(3), 1).unwrap(), Arc::clone(&seen))]);
        let mut tell = |message: &Message<'_>| {
            let (mut bytes, mut out) = (Vec::new(), Vec::new());
            push(&mut bytes, 5, message, 512);
            switch.received(Instant::ZERO, &bytes, &mut out).unwrap();
            out
        };
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
    }
}
