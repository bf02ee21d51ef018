//! The engine.

use crate::{
    control::{ControlEvent, ETHERTYPE},
    flow::{Direction, FlowMod, MacAddr, OfpError},
    frame::{Buffer, Frame},
    mtu::L2Mtu,
    stats::Stats,
    time::Instant,
    trace::Observer,
    verdict::Verdict,
};
use zerocopy::{FromZeros, Immutable, KnownLayout};

/// Frames that front-ends should hand over in one call.
pub const BURST: usize = 32;

/// Look-ups that one frame may cause (the first and those by resubmit).
pub const MAX_LOOKUPS: usize = 4;

/// What an engine must be told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The vNIC's MAC address: control messages are addressed to it, REGISTER carries it.
    pub mac: MacAddr,
    /// EtherType of control frames.
    pub ethertype: u16,
    /// Largest frame that the lower device takes; larger ones are dropped as `frame_too_big`. `None`: no limit.
    pub link_mtu: Option<L2Mtu>,
    /// Secret random number that keys the hash functions of table and cache, so that a sender cannot aim at
    /// one bucket.
    pub hash_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { mac: [0; 6], ethertype: ETHERTYPE, link_mtu: None, hash_seed: 0 }
    }
}

/// One vNIC's engine. `FLOWS`: table entries (a power of two). `CACHE`: exact-match cache slots (a power of
/// two). `MASKS`: distinct masks in the table.
///
/// All-zero memory is an engine that was not initialised: take one from [`FromZeros::new_zeroed`] (or
/// `new_box_zeroed` with std, a zeroed allocation in the kernel, a static on bare metal) and call
/// [`Cvsw::init`].
#[derive(FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cvsw<const FLOWS: usize = 1024, const CACHE: usize = 1024, const MASKS: usize = 128> {
    stats: Stats,
}

impl<const FLOWS: usize, const CACHE: usize, const MASKS: usize> Cvsw<FLOWS, CACHE, MASKS> {
    /// Configures a zeroed engine, or resets a used one.
    pub fn init(&mut self, _config: &Config) {
        unimplemented!()
    }

    /// Processes one frame.
    pub fn process<B: Buffer>(&mut self, _now: Instant, _direction: Direction, _frame: &mut Frame<B>) -> Verdict {
        unimplemented!()
    }

    /// Processes frames; `verdicts` gets one verdict per frame and must be at least as long as `frames`
    /// (frames without a verdict slot are not touched). Returns the number of frames processed.
    pub fn process_burst<B: Buffer>(
        &mut self,
        _now: Instant,
        _direction: Direction,
        _frames: &mut [Frame<B>],
        _verdicts: &mut [Verdict],
    ) -> usize {
        unimplemented!()
    }

    /// Processes one frame, tells `observer` every step, and counts nothing. Control frames change nothing.
    pub fn trace<B: Buffer, O: Observer>(
        &mut self,
        _now: Instant,
        _direction: Direction,
        _frame: &mut Frame<B>,
        _observer: &mut O,
    ) -> Verdict {
        unimplemented!()
    }

    /// Writes the next control frame that is to be sent to the network into `out` and returns its length.
    /// Call until `None` after each burst and tick. `out` must hold [`crate::control::MAX_FRAME_LEN`] bytes.
    pub fn poll_transmit(&mut self, _out: &mut [u8]) -> Option<usize> {
        unimplemented!()
    }

    /// The next thing to be done outside. Call until `None` after each burst and tick.
    pub fn poll_event(&mut self) -> Option<ControlEvent> {
        unimplemented!()
    }

    /// Lets time pass: expires entries. Call about once a second, or more often.
    pub fn tick(&mut self, _now: Instant) {
        unimplemented!()
    }

    /// Changes the flow table locally (not by a controller) and makes it active.
    pub fn flow_mod(&mut self, _now: Instant, _flow_mod: &FlowMod) -> Result<(), OfpError> {
        unimplemented!()
    }

    /// Every entry of the table as an ADD, with its counters.
    pub fn flows(&self) -> impl Iterator<Item = FlowEntry> + '_ {
        core::iter::empty()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}

/// A table entry, as listed.
#[derive(Clone, Debug)]
pub struct FlowEntry {
    /// The entry as the ADD that would create it.
    pub flow: FlowMod,
    /// Frames that it was applied to.
    pub packets: u64,
    /// Bytes of those frames, before its actions.
    pub bytes: u64,
    /// When it was added.
    pub created: Instant,
    /// When it was last applied (or added).
    pub last_used: Instant,
}
