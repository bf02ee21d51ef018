//! The functions that the C shim calls (`module/cvsw.h`). All `unsafe` of this front-end is here.
//!
//! What every function relies on, and the shim guarantees:
//! - an `engine` pointer comes from `vzalloc(cvsw_engine_size())` (zeroed, page-aligned, as large as [`Engine`]),
//!   and whoever calls holds the vNIC's lock, so nobody else uses the engine meanwhile;
//! - a buffer is readable and writable for the length that is passed beside it, and belongs to the caller alone.

#![allow(clippy::missing_safety_doc, reason = "the contract is the same for all and stands above")]

use crate::vnic::{self, Engine, KernelFrame, Step, Steps};
use core::{panic::PanicInfo, ptr::NonNull, slice};
use cvsw_core::{Direction, Instant};

unsafe extern "C" {
    /// Logs, then stops the machine's current task as a kernel bug; declared as returning for objtool's sake.
    safe fn cvsw_panicked();
}

/// Never linked in: the build refuses an object that refers to `core::panicking`.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        cvsw_panicked();
    }
}

/// A buffer of the shim: the first two members of `struct cvsw_frame`.
#[repr(C)]
pub struct Memory {
    start: NonNull<u8>,
    size: u32,
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the shim's buffers are `size` bytes long, initialised, and nobody else's during the call.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.size as usize) }
    }
}

impl AsMut<[u8]> for Memory {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; `&mut self` makes this the only view.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.size as usize) }
    }
}

/// Bytes of an engine.
#[unsafe(no_mangle)]
pub extern "C" fn cvsw_engine_size() -> usize {
    const { assert!(align_of::<Engine>() <= 4096) };
    size_of::<Engine>()
}

/// Makes an engine of zeroed memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_init(engine: &mut Engine, mac: &[u8; 6], seed: u64, link_mtu: u32) {
    vnic::init(engine, *mac, seed, link_mtu);
}

/// The lower device's address or largest frame changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_set_link(engine: &mut Engine, mac: &[u8; 6], link_mtu: u32) {
    engine.set_mac(*mac);
    engine.set_link_mtu(Some(cvsw_core::mtu::L2Mtu::new(link_mtu)));
}

/// Queues a HELLO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_announce(engine: &mut Engine) {
    engine.announce();
}

/// Processes `count` frames; `receive` is 0 for frames from the host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_burst(
    engine: &mut Engine,
    now: u64,
    receive: u32,
    frames: *mut KernelFrame,
    count: u32,
) {
    // SAFETY: the shim passes `count` frames that it filled in.
    let frames = unsafe { slice::from_raw_parts_mut(frames, count as usize) };
    for part in frames.chunks_mut(vnic::BURST) {
        vnic::burst(engine, Instant::from_nanos(now), direction(receive), part);
    }
}

/// Writes the next control frame to be sent; returns its length, 0 if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_poll_transmit(engine: &mut Engine, out: *mut u8, size: u32) -> u32 {
    // SAFETY: the shim passes a buffer of `size` bytes.
    let out = unsafe { slice::from_raw_parts_mut(out, size as usize) };
    engine.poll_transmit(out).map_or(0, |len| len as u32)
}

/// The next event's kind, 0 if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_poll_event(engine: &mut Engine, argument: &mut u32) -> u32 {
    engine.poll_event().map_or(0, |event| {
        let (kind, value) = vnic::event(event);
        *argument = value;
        kind
    })
}

/// Lets time pass.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_tick(engine: &mut Engine, now: u64) {
    engine.tick(Instant::from_nanos(now));
}

/// 0, or the OpenFlow error `type << 16 | code` plus `1 << 31`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_flow_mod(engine: &mut Engine, now: u64, message: *const u8, len: u32) -> u32 {
    // SAFETY: the shim passes a buffer of `len` bytes.
    let message = unsafe { slice::from_raw_parts(message, len as usize) };
    match vnic::flow_mod(engine, Instant::from_nanos(now), message) {
        Ok(()) => 0,
        Err(error) => {
            let (kind, code) = error.wire();
            1 << 31 | u32::from(kind) << 16 | u32::from(code)
        }
    }
}

/// Writes the flow at or behind `*cursor` ([`vnic::next_flow`]) and moves the cursor; 0: there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_next_flow(
    engine: &Engine,
    now: u64,
    cursor: &mut u32,
    out: *mut u8,
    size: u32,
) -> u32 {
    // SAFETY: the shim passes a buffer of `size` bytes.
    let out = unsafe { slice::from_raw_parts_mut(out, size as usize) };
    vnic::next_flow(engine, Instant::from_nanos(now), *cursor, out).map_or(0, |(len, next)| {
        *cursor = next;
        len as u32
    })
}

/// Number of flows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_flow_count(engine: &Engine) -> u32 {
    engine.flow_count() as u32
}

/// State of the control session: 0 disconnected, 1 connecting, 2 connected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_session(engine: &Engine) -> u32 {
    engine.session_state() as u32
}

/// Writes the name of counter `index`; false if there is none of that index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_counter_name(engine: &Engine, index: u32, out: *mut u8, size: u32) -> bool {
    // SAFETY: the shim passes a buffer of `size` bytes.
    vnic::counter_name(engine.stats(), index as usize, unsafe { slice::from_raw_parts_mut(out, size as usize) })
}

/// Writes the first `count` counters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_counters(engine: &Engine, out: *mut u64, count: u32) {
    // SAFETY: the shim passes an array of `count` numbers.
    let out = unsafe { slice::from_raw_parts_mut(out, count as usize) };
    for (slot, (_, value)) in out.iter_mut().zip(vnic::counters(engine.stats())) {
        *slot = value;
    }
}

/// Traces one frame; returns how many of the `room` steps were written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_trace(
    engine: &mut Engine,
    now: u64,
    receive: u32,
    frame: &mut KernelFrame,
    steps: *mut Step,
    room: u32,
) -> u32 {
    // SAFETY: the shim passes an array of `room` zeroed steps.
    let mut steps = Steps::new(unsafe { slice::from_raw_parts_mut(steps, room as usize) });
    vnic::trace(engine, Instant::from_nanos(now), direction(receive), frame, &mut steps);
    steps.count() as u32
}

const fn direction(receive: u32) -> Direction {
    if receive == 0 { Direction::Tx } else { Direction::Rx }
}
