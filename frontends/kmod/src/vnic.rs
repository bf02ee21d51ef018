//! One vNIC: the engine of the kernel's size, and what the shim asks of it.

use crate::{
    ciphers::{KernelCiphers, SAS},
    sys::Memory,
};
use cvsw_core::{
    Checksum, Config, Cvsw, Direction, DropReason, Frame, Instant, Stats, Verdict,
    control::{
        ControlEvent,
        v3::{CONTROL_KEY_LEN, ControlKeys},
    },
    flow::{FlowMod, OfpError},
    mtu::{IpMtu, L2Mtu},
    openflow::decode_flow_mod_into,
    trace::{Considered, Effect, Event, Observer},
};
use heapless::Vec;

/// 1024 entries, 1024 cache slots, 128 masks: about 0.7 megabytes per lane.
pub type Engine = Cvsw<1024, 1024, 128, SAS>;

/// A lane: an engine and its ciphers.
#[repr(C)]
pub struct Vnic {
    /// The engine.
    pub engine: Engine,
    /// Its ciphers, with the keys of all lanes.
    pub ciphers: KernelCiphers,
}

/// Most frames in one call: bounds the stack that their views need.
pub const BURST: usize = 2;

/// A frame of the shim: `struct cvsw_frame`.
#[repr(C)]
pub struct KernelFrame {
    /// Headroom, frame and tailroom.
    pub memory: Memory,
    /// Where the frame lies, and what became of it.
    pub meta: Meta,
}

/// The part of `struct cvsw_frame` that the engine writes back.
#[repr(C)]
pub struct Meta {
    /// Offset of the frame in its memory.
    pub head: u32,
    /// Its length in bytes.
    pub len: u32,
    /// [`FORWARD`], [`CONSUMED`], or [`DROP`] and the reason's index.
    pub verdict: u16,
    /// 1: somebody vouches for the transport checksum.
    pub verified: u16,
}

/// The frame goes on in its direction.
pub const FORWARD: u16 = 0;
/// The frame was a control message.
pub const CONSUMED: u16 = 1;
/// The frame is dropped; the reason's index is added.
pub const DROP: u16 = 0x100;

/// What stands in front of a listed flow.
const FLOW_COUNTERS_LEN: usize = 24;

/// `CVSW_CONTROL_MAX` of the shim: a control frame that did not fit would stay queued for ever.
const _: () = assert!(cvsw_core::control::MAX_FRAME_LEN <= 1536);
/// `CVSW_ANSWER_MAX` of the shim.
const _: () = assert!(cvsw_core::path_mtu::ANSWER_MAX <= 1536);
/// `CVSW_SAS` of the shim.
const _: () = assert!(SAS == 256);

/// Configures a zeroed engine.
pub fn init(vnic: &mut Vnic, mac: [u8; 6], hash_seed: u64, generation: u64, link_mtu: u32) {
    let link_mtu = Some(L2Mtu::new(link_mtu));
    vnic.engine.init(&Config { mac, hash_seed, link_mtu, ..Config::default() });
    vnic.engine.set_boot_generation(generation);
}

/// Holds the VM to an MTU.
pub fn set_mtu(vnic: &mut Vnic, mtu: u32) {
    let mtu = u16::try_from(mtu).ok().and_then(IpMtu::new);
    vnic.engine.set_mtu(mtu);
}

/// Processes at most [`BURST`] frames and writes each one's place and verdict back.
pub fn burst(vnic: &mut Vnic, now: Instant, direction: Direction, frames: &mut [KernelFrame]) {
    let mut views: Vec<Frame<&mut Memory>, BURST> = Vec::new();
    let mut metas: Vec<&mut Meta, BURST> = Vec::new();
    for KernelFrame { memory, meta } in frames {
        meta.verdict = code(Verdict::Drop(DropReason::FrameTooShort));
        let Ok(mut view) = Frame::new(memory, meta.head as usize, meta.len as usize) else { continue };
        if meta.verified != 0 {
            view.offload.checksum = Checksum::Verified;
        }
        if views.push(view).is_err() || metas.push(meta).is_err() {
            break;
        }
    }
    let mut verdicts = [Verdict::Consumed; BURST];
    vnic.engine.process_burst_with(&mut vnic.ciphers, now, direction, &mut views, &mut verdicts);
    for ((view, meta), verdict) in views.iter().zip(metas.iter_mut()).zip(verdicts) {
        (meta.head, meta.len) = (view.headroom() as u32, view.len() as u32);
        meta.verified = u16::from(view.offload.checksum == Checksum::Verified);
        meta.verdict = code(verdict);
    }
}

/// Takes one control frame from the network.
pub fn control(vnic: &mut Vnic, now: Instant, frame: &mut KernelFrame) {
    let KernelFrame { memory, meta } = frame;
    // The shim's frames lie within their memory.
    let Ok(mut view) = Frame::new(memory, meta.head as usize, meta.len as usize) else { return };
    meta.verdict = code(vnic.engine.process_with(&mut vnic.ciphers, now, Direction::Rx, &mut view));
}

/// Believes only version 3 with this key from now on; `false`, and nothing has changed, if it is none. `instance` is a
/// random number, not 0.
pub fn control_key(vnic: &mut Vnic, instance: u64, key: &[u8]) -> bool {
    let Ok(key) = <&[u8; CONTROL_KEY_LEN]>::try_from(key) else { return false };
    if key.iter().all(|byte| *byte == 0) {
        return false;
    }
    vnic.engine.enable_version_3(instance, ControlKeys::derive(key));
    true
}

/// How a vNIC is controlled: `struct cvsw_control_status`.
#[repr(C)]
pub struct Status {
    version: u32,
    version_3: u32,
    authenticated: u32,
    pad: u32,
    instance: u64,
    epoch: u64,
    executed: u64,
    duplicates: u64,
}

impl Status {
    /// Of this vNIC.
    pub fn of(vnic: &Vnic) -> Self {
        let status = vnic.engine.control_status();
        Self {
            version: status.version.into(),
            version_3: status.version_3.into(),
            authenticated: status.authenticated.into(),
            pad: 0,
            instance: status.instance,
            epoch: status.epoch,
            executed: status.executed,
            duplicates: status.duplicates,
        }
    }
}

/// The verdict as the shim sees it.
pub const fn code(verdict: Verdict) -> u16 {
    match verdict {
        Verdict::Forward => FORWARD,
        Verdict::Consumed => CONSUMED,
        Verdict::Drop(reason) => DROP.wrapping_add(reason.index() as u16),
    }
}

/// An event as the shim sees it: what (1 session, 2 MTU, 3 offloads), and its argument.
pub fn event(event: ControlEvent) -> (u32, u32) {
    match event {
        ControlEvent::Session(state) => (1, state as u32),
        ControlEvent::SetMtu(mtu) => (2, mtu.get().into()),
        ControlEvent::SetOffload(flags) => (3, flags.0.into()),
    }
}

/// Carries out an `OFPT_FLOW_MOD` message of the local administrator.
pub fn flow_mod(vnic: &mut Vnic, now: Instant, message: &[u8]) -> Result<(), OfpError> {
    let mut flow = FlowMod::default();
    decode_flow_mod_into(message, &mut flow)?;
    vnic.engine.flow_mod(now, &flow)
}

/// Writes the first entry at or behind index `from`: its packets, bytes and age in nanoseconds (three numbers of
/// eight bytes in native order), then the flow mod that would create it. Returns the length, and the index to go on from.
pub fn next_flow(vnic: &Vnic, now: Instant, from: u32, out: &mut [u8]) -> Option<(usize, u32)> {
    let (next, entry) = vnic.engine.next_flow(from)?;
    let (counters, message) = out.split_at_mut_checked(FLOW_COUNTERS_LEN)?;
    let numbers = [entry.packets(), entry.bytes(), now.nanos_since(entry.created())];
    for (to, number) in counters.as_chunks_mut().0.iter_mut().zip(numbers) {
        *to = number.to_ne_bytes();
    }
    let len = entry.encode(0, message).ok()?;
    Some((len.saturating_add(FLOW_COUNTERS_LEN), next))
}

/// Writes the name of counter `index`, ended by a zero byte; cut if it does not fit. False: no such counter.
pub fn counter_name(stats: &Stats, index: usize, out: &mut [u8]) -> bool {
    let Some((parts, _)) = stats.counter(index) else { return false };
    out.fill(0);
    let room = out.len().saturating_sub(1);
    for (to, from) in out.iter_mut().take(room).zip(parts.iter().flat_map(|part| part.bytes())) {
        *to = from;
    }
    true
}

/// One step of a trace: `struct cvsw_step`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Step {
    /// 1 look-up, 2 table not active, 3 entry chosen, 4 no entry matched, 5 action.
    pub kind: u8,
    /// Of an action: 0 applied, 1 the frame has no such field, 2 dropped.
    pub effect: u8,
    /// Of an entry.
    pub priority: u16,
    /// Of a dropping action: the reason's index.
    pub argument: u32,
    /// Of an entry.
    pub cookie: u64,
}

/// Writes steps into the shim's memory, as many as fit.
pub struct Steps<'a> {
    steps: &'a mut [Step],
    count: usize,
}

impl<'a> Steps<'a> {
    /// None yet.
    pub const fn new(steps: &'a mut [Step]) -> Self {
        Self { steps, count: 0 }
    }

    /// How many were written.
    pub const fn count(&self) -> usize {
        self.count
    }

    fn push(&mut self, step: Step) {
        if let Some(slot) = self.steps.get_mut(self.count) {
            *slot = step;
            self.count = self.count.saturating_add(1);
        }
    }
}

impl Observer for Steps<'_> {
    const ENABLED: bool = true;

    fn event(&mut self, event: &Event<'_>) {
        let step = match *event {
            Event::Parsed { .. } => Step { kind: 1, ..Step::default() },
            Event::Bypass => Step { kind: 2, ..Step::default() },
            Event::Entry { priority, cookie, result: Considered::Matched, .. } => {
                Step { kind: 3, priority, cookie, ..Step::default() }
            }
            Event::Miss => Step { kind: 4, ..Step::default() },
            Event::Action { effect, .. } => {
                let (effect, argument) = match effect {
                    Effect::Applied => (0, 0),
                    Effect::NotApplicable => (1, 0),
                    Effect::Dropped(reason) => (2, reason.index() as u32),
                };
                Step { kind: 5, effect, argument, ..Step::default() }
            }
            _ => return,
        };
        self.push(step);
    }
}

/// Traces one frame; counts and changes nothing but the frame.
pub fn trace(vnic: &mut Vnic, now: Instant, direction: Direction, frame: &mut KernelFrame, steps: &mut Steps<'_>) {
    let KernelFrame { memory, meta } = frame;
    meta.verdict = code(Verdict::Drop(DropReason::FrameTooShort));
    let Ok(mut view) = Frame::new(memory, meta.head as usize, meta.len as usize) else { return };
    let verdict = vnic.engine.trace_with(&mut vnic.ciphers, now, direction, &mut view, steps);
    (meta.head, meta.len) = (view.headroom() as u32, view.len() as u32);
    meta.verdict = code(verdict);
}
