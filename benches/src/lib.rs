//! Workloads of the benchmarks, the same for the clock and for the instruction counter.
//!
//! A workload is one engine, one table and a burst of 32 frame buffers. Each step gives the buffers the next
//! flow numbers (two bytes per frame), hands them to the engine and puts the frames back into their buffers;
//! what that costs is measured by the workload `restore` and not subtracted.

pub mod ciphers;

use cvsw_core::{
    BURST, Config, Cvsw, Direction, Frame, Instant, Verdict,
    flow::{Action, ActionList, FlowMod, Match, Tunnel},
    key::Field,
};
use zerocopy::FromZeros;

/// Room in front of each frame, as the userspace port has it.
const HEADROOM: usize = 128;
/// First flow number (a UDP source port).
const FIRST_PORT: u16 = 1024;

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

    const fn direction(self) -> Direction {
        match self {
            Self::VxlanDecap => Direction::Rx,
            _ => Direction::Tx,
        }
    }

    fn actions(self) -> ActionList {
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
        ActionList::from_slice(list).expect("fits")
    }
}

/// One engine under load.
pub struct Workload<const FLOWS: usize, const CACHE: usize> {
    engine: Box<Cvsw<FLOWS, CACHE, 128>>,
    kind: Kind,
    frames: Vec<Frame<Box<[u8]>>>,
    verdicts: [Verdict; BURST],
    pristine: Vec<u8>,
    flows: u16,
    next: u16,
    /// Offset of the UDP source port that carries the flow number.
    port_offset: usize,
}

impl<const FLOWS: usize, const CACHE: usize> Workload<FLOWS, CACHE> {
    /// A workload of `kind` with frames of `size` bytes (inner frames for the tunnel) over `flows` flows, each
    /// with an entry of its own.
    pub fn new(kind: Kind, size: usize, flows: u16) -> Self {
        let mut engine: Box<Cvsw<FLOWS, CACHE, 128>> = Cvsw::new_box_zeroed().expect("memory");
        engine.init(&Config { hash_seed: 0x5eed_5eed_5eed_5eed, ..Config::default() });
        for number in 0..flows {
            engine.flow_mod(Instant::ZERO, &entry(kind, number)).expect("room");
        }
        let pristine = pristine(kind, size);
        let frames = (0..BURST)
            .map(|_| {
                let mut buffer = vec![0; HEADROOM + pristine.len()].into_boxed_slice();
                buffer[HEADROOM..].copy_from_slice(&pristine);
                Frame::new(buffer, HEADROOM, pristine.len()).expect("room")
            })
            .collect();
        Self {
            engine,
            kind,
            frames,
            verdicts: [Verdict::Consumed; BURST],
            pristine,
            flows,
            next: 0,
            port_offset: 14 + 20,
        }
    }

    /// Processes one burst of [`BURST`] frames.
    pub fn step(&mut self) {
        for frame in &mut self.frames {
            frame.reset(HEADROOM, self.pristine.len()).expect("room");
            if self.kind == Kind::VlanPush {
                // The push moved the addresses; everything behind them is still in place.
                frame.bytes_mut()[..16].copy_from_slice(&self.pristine[..16]);
            }
            let port = (FIRST_PORT + self.next).to_be_bytes();
            frame.bytes_mut()[self.port_offset..self.port_offset + 2].copy_from_slice(&port);
            self.next = if self.next + 1 >= self.flows { 0 } else { self.next + 1 };
        }
        if self.kind == Kind::Restore {
            std::hint::black_box(&mut self.frames);
            return;
        }
        let now = Instant::from_secs(1);
        self.engine.process_burst(now, self.kind.direction(), &mut self.frames, &mut self.verdicts);
    }

    /// Checks that the frames of the last step came out as they should.
    pub fn check(&self) {
        let grown = match self.kind {
            Kind::VlanPush => 4,
            Kind::VxlanEncap => 50,
            Kind::VxlanDecap => -50,
            Kind::Restore | Kind::Pass | Kind::Rewrite => 0,
        };
        for (frame, verdict) in self.frames.iter().zip(&self.verdicts) {
            if self.kind != Kind::Restore {
                assert_eq!(*verdict, Verdict::Forward, "{:?}", self.kind);
            }
            assert_eq!(frame.len() as isize, self.pristine.len() as isize + grown, "{:?}", self.kind);
        }
        let missed = self.engine.stats().direction(self.kind.direction()).missed;
        assert_eq!(missed == 0, self.kind != Kind::Pass, "{:?}: {missed} frames missed", self.kind);
    }
}

/// The entry of flow `number`: matched by IPv4, UDP and the source port. For `pass` it never matches.
fn entry(kind: Kind, number: u16) -> FlowMod {
    let shift = if kind == Kind::Pass { 0x8000 } else { 0 };
    FlowMod {
        matching: Match::ANY
            .with(Field::InPort, u64::from(kind.direction().in_port()))
            .with(Field::EthType, 0x0800)
            .with(Field::NwProto, 17)
            .with(Field::TpSrc, u64::from((FIRST_PORT + number) | shift)),
        actions: kind.actions(),
        ..FlowMod::default()
    }
}

/// A UDP frame of `size` bytes with correct checksums; for decapsulation, inside VXLAN.
fn pristine(kind: Kind, size: usize) -> Vec<u8> {
    let inner = udp_frame([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [10, 0, 0, 1], [10, 0, 0, 2], 4000, size, &[]);
    if kind != Kind::VxlanDecap {
        return inner;
    }
    let mut vxlan = vec![8, 0, 0, 0, 0, 0, 42, 0];
    vxlan.extend_from_slice(&inner);
    let size = 14 + 20 + 8 + vxlan.len();
    udp_frame([2, 0, 0, 1, 0, 1], [2, 0, 0, 1, 0, 2], [192, 0, 2, 1], [192, 0, 2, 2], 4789, size, &vxlan)
}

fn udp_frame(
    src_mac: [u8; 6],
    dst_mac: [u8; 6],
    src: [u8; 4],
    dst: [u8; 4],
    port: u16,
    size: usize,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = Vec::with_capacity(size);
    frame.extend_from_slice(&dst_mac);
    frame.extend_from_slice(&src_mac);
    frame.extend_from_slice(&[0x08, 0x00, 0x45, 0]);
    frame.extend_from_slice(&((size - 14) as u16).to_be_bytes());
    frame.extend_from_slice(&[0, 1, 0x40, 0, 64, 17, 0, 0]);
    frame.extend_from_slice(&src);
    frame.extend_from_slice(&dst);
    let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let checksum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend_from_slice(&FIRST_PORT.to_be_bytes());
    frame.extend_from_slice(&port.to_be_bytes());
    frame.extend_from_slice(&((size - 34) as u16).to_be_bytes());
    // UDP checksum 0: the flow number is patched into the port without another sum.
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(payload);
    frame.resize(size, 0x5a);
    frame
}
