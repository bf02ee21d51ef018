//! What the VMs of a world send each other, through their vNICs' engines: every frame is numbered, and what became of
//! it is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cvsw_controller::Mac;
use cvsw_core::{DropReason, Frame, Instant, Verdict, flow::Direction};

use super::world::{Nic, World};

const BROADCAST: Mac = Mac([0xff; 6]);
/// An EtherType for experiments (IEEE 802), which no flow looks at.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
const ROOM: usize = 128;
const IPV4_PROTOCOL: usize = 14 + 9;
const ESP: u8 = 50;
/// What a packet may take from vNIC to vNIC: less than the controller waits before receivers lose an old key.
const SLOWEST_NANOS: u64 = 1_000_000_000;

/// Traffic between all VMs, with what happened to it.
#[derive(Default)]
pub struct Traffic {
    /// Frames sent, and what was lost or got through.
    pub sent: u64,
    pub delivered: u64,
    /// Packets that were in clear on the wire.
    pub clear: u64,
    /// Losses by place and reason.
    pub lost: BTreeMap<(&'static str, DropReason), u64>,
    /// SPIs that were on the wire, by sender and outer destination.
    pub spis: BTreeMap<(Mac, [u8; 4]), BTreeSet<u32>>,
    flying: Vec<Flying>,
    number: u64,
}

/// A packet on the wire.
struct Flying {
    due: u64,
    from: Mac,
    to: Mac,
    packet: Vec<u8>,
    inside: Vec<u8>,
}

/// What is on the wire at the end of a test arrives in this time.
const ARRIVAL: Duration = Duration::from_secs(2);

/// Waits for what is on the wire, and gives back what happened since the traffic began or the last call.
pub fn take_traffic(world: &mut World) -> Traffic {
    world.run(ARRIVAL);
    world.traffic.replace(Traffic::default()).unwrap()
}

/// Everything that was sent arrived, as ESP.
pub fn assert_nothing_lost(traffic: &Traffic) {
    assert!(traffic.sent > 100 && traffic.delivered > 100, "{} sent", traffic.sent);
    assert_eq!((traffic.lost.len(), traffic.clear), (0, 0), "{:?}", traffic.lost);
}

impl Traffic {
    /// Losses of every kind.
    pub fn losses(&self) -> u64 {
        self.lost.values().sum()
    }

    /// Everybody sends one frame to everybody else, and one to all; what is due arrives.
    pub fn step(&mut self, now: Instant, mut nics: Vec<&mut Nic>) {
        let macs: Vec<Mac> = nics.iter().map(|nic| nic.mac).collect();
        // Before its vNIC has its entries a VM is on the underlay; the first entry is about the network's side.
        nics.retain(|nic| nic.engine.flows().count() > 1);
        for nic in &mut nics {
            let own = nic.mac;
            for to in macs.iter().copied().filter(|mac| *mac != own).chain([BROADCAST]) {
                self.send(now, nic, to);
            }
        }
        let nanos = now.nanos_since(Instant::ZERO);
        let (due, later) = std::mem::take(&mut self.flying).into_iter().partition(|packet| packet.due <= nanos);
        self.flying = later;
        let due: Vec<Flying> = due;
        for packet in due {
            for nic in nics.iter_mut().filter(|nic| nic.mac != packet.from) {
                if packet.to == nic.mac || packet.to == BROADCAST {
                    self.receive(now, nic, &packet);
                }
            }
        }
    }

    fn send(&mut self, now: Instant, nic: &mut Nic, to: Mac) {
        self.number += 1;
        self.sent += 1;
        let inside = [&to.0[..], &nic.mac.0, &ETHERTYPE, &self.number.to_be_bytes(), &[0; 38]].concat();
        let packet = match process(now, nic, Direction::Tx, &inside) {
            Ok(packet) => packet,
            Err(reason) => {
                *self.lost.entry(("sending", reason)).or_default() += 1;
                return;
            }
        };
        if packet[IPV4_PROTOCOL] == ESP {
            let spi = u32::from_be_bytes(packet[34..38].try_into().unwrap());
            self.spis.entry((nic.mac, packet[30..34].try_into().unwrap())).or_default().insert(spi);
        } else {
            self.clear += 1;
        }
        // Some overtake others.
        let due = now.nanos_since(Instant::ZERO) + self.number % 7 * (SLOWEST_NANOS / 6);
        self.flying.push(Flying { due, from: nic.mac, to, packet, inside });
    }

    fn receive(&mut self, now: Instant, nic: &mut Nic, packet: &Flying) {
        match process(now, nic, Direction::Rx, &packet.packet) {
            Ok(frame) => {
                assert_eq!(frame, packet.inside, "{} got something else than was sent", nic.mac);
                self.delivered += 1;
            }
            Err(reason) => *self.lost.entry(("receiving", reason)).or_default() += 1,
        }
    }
}

fn process(now: Instant, nic: &mut Nic, direction: Direction, bytes: &[u8]) -> Result<Vec<u8>, DropReason> {
    let mut frame = Frame::new([&[0; ROOM][..], bytes, &[0; ROOM]].concat(), ROOM, bytes.len()).unwrap();
    match nic.engine.process_with(&mut *nic.ciphers, now, direction, &mut frame) {
        Verdict::Forward => Ok(frame.bytes().to_vec()),
        Verdict::Drop(reason) => Err(reason),
        Verdict::Consumed => panic!("there is no control frame here"),
    }
}
