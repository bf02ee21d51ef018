//! One engine under load.

use crate::{
    packet::{MAC_OFFSET, PORT_OFFSET, udp_frame, vxlan_frame},
    traffic::{Distribution, sequence},
};
use cvsw_core::{
    BURST, Config, Cvsw, Direction, Frame, Instant, Verdict,
    flow::{Action, ActionList, FlowMod, Match, Tunnel},
    key::Field,
};
use cvsw_userspace::pool::{Buffer, HEADROOM, PoolFrame};
use zerocopy::FromZeros;

/// Bytes at the front of a frame that actions may change; all frames are at least that long.
const CHANGED: usize = 64;

/// What the entries do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing at all: the harness alone.
    Restore,
    /// No entry matches.
    Pass,
    /// Rewrite both IPv4 addresses and the UDP destination port.
    Rewrite,
    /// Set a VLAN id on untagged frames.
    VlanPush,
    /// VXLAN encapsulation.
    VxlanEncap,
    /// VXLAN decapsulation.
    VxlanDecap,
}

impl Kind {
    /// All workloads.
    pub const ALL: [Self; 6] =
        [Self::Restore, Self::Pass, Self::Rewrite, Self::VlanPush, Self::VxlanEncap, Self::VxlanDecap];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Pass => "pass",
            Self::Rewrite => "rewrite",
            Self::VlanPush => "vlan_push",
            Self::VxlanEncap => "vxlan_encap",
            Self::VxlanDecap => "vxlan_decap",
        }
    }

    /// The direction in which its frames go.
    pub const fn direction(self) -> Direction {
        match self {
            Self::VxlanDecap => Direction::Rx,
            _ => Direction::Tx,
        }
    }

    /// The actions of its entries.
    pub fn actions(self) -> ActionList {
        let tunnel = Tunnel {
            eth_dst: [2, 0, 0, 1, 0, 2],
            eth_src: [2, 0, 0, 1, 0, 1],
            dst: [192, 0, 2, 2],
            src: [192, 0, 2, 1],
            vni: 42,
        };
        let list: &[Action] = match self {
            Self::Restore | Self::Pass => &[],
            Self::Rewrite => {
                &[Action::SetNwSrc([10, 9, 9, 1]), Action::SetNwDst([10, 9, 9, 2]), Action::SetTpDst(8080)]
            }
            Self::VlanPush => &[Action::SetVlanVid(7)],
            Self::VxlanEncap => &[Action::SetVxlan(tunnel)],
            Self::VxlanDecap => &[Action::StripVxlan(Some(42))],
        };
        ActionList::from_slice(list).expect("a list is far shorter than the limit")
    }

    /// A frame before its actions; `size` is that of the frame inside, for decapsulation.
    pub fn frame(self, size: usize) -> Vec<u8> {
        if self == Self::VxlanDecap { vxlan_frame(size) } else { udp_frame(size) }
    }

    /// Bytes by which the actions make a frame longer.
    const fn growth(self) -> isize {
        match self {
            Self::VlanPush => 4,
            Self::VxlanEncap => 50,
            Self::VxlanDecap => -50,
            Self::Restore | Self::Pass | Self::Rewrite => 0,
        }
    }
}

/// A workload, as data.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What the entries do.
    pub kind: Kind,
    /// Bytes of a frame, 64 to 1,514; of the one inside, for decapsulation.
    pub size: usize,
    /// Entries of the table, and flows of the traffic: 1 to 65,536.
    pub flows: u32,
    /// Distinct masks of the entries, at most 128.
    pub masks: u32,
    /// How the frames spread over the flows.
    pub distribution: Distribution,
    /// Whether no frame is found in the cache: every one has an Ethernet source that was never seen.
    pub miss: bool,
}

/// A workload that can be run.
pub trait Load: Send {
    /// Processes one burst of [`BURST`] frames.
    fn step(&mut self);
    /// Checks that the frames of the last step came out as they should.
    fn check(&self);
    /// Look-ups that the cache answered, and those that it did not.
    fn cache_counts(&self) -> (u64, u64);
    /// Takes an entry out of the table and puts it in again, with other frames in between or not.
    fn replace_entry(&mut self, number: u16);
}

/// The workload for `setup`, with a table of 1,024, 16,384 or 65,536 entries and twice as many cache slots.
pub fn load(setup: &Setup) -> Box<dyn Load> {
    match setup.flows {
        0..=1024 => Box::new(Workload::<1024, 2048>::new(setup)),
        1025..=16_384 => Box::new(Workload::<16_384, 32_768>::new(setup)),
        _ => Box::new(Workload::<65_536, 131_072>::new(setup)),
    }
}

struct Workload<const FLOWS: usize, const CACHE: usize> {
    engine: Box<Cvsw<FLOWS, CACHE, 128>>,
    setup: Setup,
    frames: Vec<PoolFrame>,
    verdicts: [Verdict; BURST],
    pristine: Vec<u8>,
    front: [u8; CHANGED],
    sequence: Vec<u16>,
    next: usize,
    /// Frames so far.
    count: u32,
}

impl<const FLOWS: usize, const CACHE: usize> Workload<FLOWS, CACHE> {
    fn new(setup: &Setup) -> Self {
        let mut engine: Box<Cvsw<FLOWS, CACHE, 128>> = Cvsw::new_box_zeroed().expect("memory");
        engine.init(&Config { hash_seed: 0x5eed_5eed_5eed_5eed, ..Config::default() });
        for number in 0..setup.flows {
            engine.flow_mod(Instant::ZERO, &entry(setup, number as u16)).expect("room");
        }
        let pristine = setup.kind.frame(setup.size);
        let frames = (0..BURST)
            .map(|_| {
                let mut buffer = Buffer::new(HEADROOM + pristine.len());
                buffer[HEADROOM..HEADROOM + pristine.len()].copy_from_slice(&pristine);
                Frame::new(buffer, HEADROOM, pristine.len()).expect("room")
            })
            .collect();
        Self {
            engine,
            setup: *setup,
            frames,
            verdicts: [Verdict::Consumed; BURST],
            front: *pristine.first_chunk().expect("frames have 64 bytes"),
            pristine,
            sequence: sequence(setup.distribution, setup.flows),
            next: 0,
            count: 0,
        }
    }
}

impl<const FLOWS: usize, const CACHE: usize> Load for Workload<FLOWS, CACHE> {
    fn step(&mut self) {
        let numbers = &self.sequence[self.next..self.next + BURST];
        for (frame, number) in self.frames.iter_mut().zip(numbers) {
            frame.reset(HEADROOM, self.pristine.len()).expect("room");
            let front: &mut [u8; CHANGED] = frame.bytes_mut().first_chunk_mut().expect("frames have 64 bytes");
            *front = self.front;
            front[PORT_OFFSET..PORT_OFFSET + 2].copy_from_slice(&number.to_be_bytes());
            if self.setup.miss {
                front[MAC_OFFSET..MAC_OFFSET + 4].copy_from_slice(&self.count.to_be_bytes());
                self.count = self.count.wrapping_add(1);
            }
        }
        self.next = (self.next + BURST) & (self.sequence.len() - 1);
        if self.setup.kind == Kind::Restore {
            std::hint::black_box(&mut self.frames);
            return;
        }
        let now = Instant::from_secs(1);
        self.engine.process_burst(now, self.setup.kind.direction(), &mut self.frames, &mut self.verdicts);
    }

    fn check(&self) {
        let kind = self.setup.kind;
        for (frame, verdict) in self.frames.iter().zip(&self.verdicts) {
            if kind != Kind::Restore {
                assert_eq!(*verdict, Verdict::Forward, "{:?}", self.setup);
            }
            assert_eq!(frame.len() as isize, self.pristine.len() as isize + kind.growth(), "{:?}", self.setup);
        }
        let missed = self.engine.stats().direction(kind.direction()).missed;
        assert_eq!(missed > 0, kind == Kind::Pass, "{:?}: {missed} frames matched nothing", self.setup);
        let (hits, misses) = self.cache_counts();
        if self.setup.miss {
            assert_eq!(hits, 0, "{:?}: the cache knew frames that it cannot know", self.setup);
        } else {
            assert!(kind == Kind::Restore || hits > misses / 2, "{:?}: {hits} hits, {misses} misses", self.setup);
        }
    }

    fn cache_counts(&self) -> (u64, u64) {
        (self.engine.stats().cache_hits, self.engine.stats().cache_misses)
    }

    fn replace_entry(&mut self, number: u16) {
        let mut flow = entry(&self.setup, number);
        flow.command = cvsw_core::flow::Command::DeleteStrict;
        self.engine.flow_mod(Instant::ZERO, &flow).expect("a deletion always works");
        flow.command = cvsw_core::flow::Command::Add;
        self.engine.flow_mod(Instant::ZERO, &flow).expect("there is room for what was deleted");
    }
}

/// The entry of flow `number`: matched by IPv4, UDP and the source port, and with several masks by a part of the
/// destination addresses, which all frames share. For `pass` it waits for frames of the other direction.
pub fn entry(setup: &Setup, number: u16) -> FlowMod {
    let direction = setup.kind.direction();
    let in_port = if setup.kind == Kind::Pass { Direction::Rx } else { direction };
    let mut matching = Match::ANY
        .with(Field::InPort, u64::from(in_port.in_port()))
        .with(Field::EthType, 0x0800)
        .with(Field::NwProto, 17)
        .with(Field::TpSrc, u64::from(number));
    if setup.masks > 1 {
        let decap = setup.kind == Kind::VxlanDecap;
        let (ip, mac) = if decap { ([192, 0, 2, 2], 0x0200_0001_0002) } else { ([10, 0, 0, 2], 0x0200_0000_0002) };
        let mask = u32::from(number) % setup.masks;
        matching = matching
            .with_masked(Field::NwDst, u64::from(u32::from_be_bytes(ip)), u64::from(u32::MAX << (mask % 32)))
            .with_masked(Field::EthDst, mac, (1 << (mask / 32)) - 1);
    }
    FlowMod { matching, actions: setup.kind.actions(), ..FlowMod::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_does_what_it_says() {
        for kind in Kind::ALL {
            for (flows, masks) in [(1, 1), (1000, 20), (1000, 128)] {
                for miss in [false, true] {
                    let distribution = Distribution::Uniform;
                    let mut load = load(&Setup { kind, size: 64, flows, masks, distribution, miss });
                    for _ in 0..200 {
                        load.step();
                    }
                    load.replace_entry(0);
                    load.step();
                    load.check();
                }
            }
        }
    }
}
