//! The functions that the C shim calls and those that it has for us (`module/cvsw.h`). All `unsafe` of this front-end is
//! here.
//!
//! What every function relies on, and the shim guarantees:
//! - a `vnic` pointer comes from `vzalloc(cvsw_engine_size())` (zeroed, page-aligned, as large as [`Vnic`]) and
//!   `cvsw_engine_init`, and whoever calls holds the lane's lock, so nobody else uses the engine meanwhile;
//! - a `shared` pointer comes from `vzalloc(cvsw_shared_size())` and `cvsw_shared_init`, and lives longer than every
//!   engine that was given it; the functions that say so are called with the locks of all lanes;
//! - a buffer is readable and writable for the length that is passed beside it, and belongs to the caller alone.

#![allow(clippy::missing_safety_doc, reason = "the contract is the same for all and stands above")]

use crate::{
    ciphers::{self, KernelCiphers, KeyCopy, Keys, Packet, Shared},
    sa::{self, Limits, SaNews},
    selftest,
    vnic::{self, KernelFrame, Status, Step, Steps, Vnic},
};
use core::{
    ffi::c_void,
    panic::PanicInfo,
    ptr::{self, NonNull},
    slice,
};
use cvsw_core::{
    Direction, Instant,
    control::{ETHERTYPE, control_kind},
    crypto::{CipherError, Portable, SharedSa},
};
use zerocopy::FromZeros;

unsafe extern "C" {
    /// Logs, then stops the machine's current task as a kernel bug; declared as returning for objtool's sake.
    safe fn cvsw_panicked();
    /// A key lies in a slot: transforms are to be made of it.
    fn cvsw_keys_want(keys: *mut c_void, slot: u32);
    /// A slot's key is gone: so must be its transforms.
    fn cvsw_keys_retire(keys: *mut c_void, slot: u32);
    /// Seals or opens in place. 0, `-ENOKEY`: there are no transforms, or `-EBADMSG`: forged.
    fn cvsw_keys_crypt(scratch: *mut c_void, slot: u32, open: u32, packet: &Packet, data: *mut u8, len: u32)
    -> i32;
    /// Makes all transforms that are wanted, and uses only those of one way from then on.
    fn cvsw_keys_prepare(keys: *mut c_void, way: u32, ciphers: *const c_void);
}

const ENOKEY: i32 = -126;
const EBADMSG: i32 = -74;

/// Never linked in: the build refuses an object that refers to `core::panicking`.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        cvsw_panicked();
    }
}

/// What is to be done with a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Crypt {
    Seal = 0,
    Open = 1,
}

/// Ciphers, for the self-test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The kernel's, with vector registers.
    Fast = 1,
    /// The kernel's that need no vector registers.
    Generic = 2,
    /// Ours.
    Portable = 3,
}

/// The kernel's transforms of one vNIC's keys: `struct cvsw_keys`. All zeros: there are none.
#[repr(transparent)]
pub struct Transforms(*mut c_void);

impl Transforms {
    /// A key lies in `slot`.
    pub fn want(&mut self, slot: usize) {
        if !self.0.is_null() {
            // SAFETY: not null, so it came from `cvsw_engine_init`, and the shim keeps it as long as the engine.
            unsafe { cvsw_keys_want(self.0, slot as u32) }
        }
    }

    /// The key in `slot` is gone.
    pub fn retire(&mut self, slot: usize) {
        if !self.0.is_null() {
            // SAFETY: as above.
            unsafe { cvsw_keys_retire(self.0, slot as u32) }
        }
    }
}

/// What one lane computes with: `struct cvsw_scratch`. All zeros: it cannot.
#[repr(transparent)]
pub struct Scratch(*mut c_void);

impl Scratch {
    /// Seals or opens `data` with the key in `slot`; [`CipherError::NoKey`] and nothing done if there are no transforms.
    pub fn crypt(&mut self, slot: usize, packet: &Packet, data: &mut [u8], what: Crypt) -> Result<(), CipherError> {
        if self.0.is_null() {
            return Err(CipherError::NoKey);
        }
        // SAFETY: as above, `&mut self` is the lane's only view, and `data` is `len` bytes that nobody else uses. It lies in an skb or in memory of `kmalloc`, as
        // the kernel's ciphers demand: the engine gets no other frames.
        let result = unsafe {
            cvsw_keys_crypt(self.0, slot as u32, what as u32, packet, data.as_mut_ptr(), data.len() as u32)
        };
        match result {
            0 => Ok(()),
            ENOKEY => Err(CipherError::NoKey),
            EBADMSG => Err(CipherError::Forged),
            // The kernel's ciphers could not: nobody may see the data.
            _ => Err(CipherError::Unsupported),
        }
    }
}

/// For the self-test: makes the transforms of all keys now, and computes by `way` only from then on.
pub fn prepare(ciphers: &mut KernelCiphers, way: Way) {
    let transforms = ciphers.keys().map_or(ptr::null_mut(), |keys| keys.transforms.0);
    if !transforms.is_null() {
        // SAFETY: as for [`Transforms`]; the shim reads keys with `cvsw_key_of` during the call, and nobody else does.
        unsafe { cvsw_keys_prepare(transforms, way as u32, (&raw const *ciphers).cast()) }
    }
}

/// Where the lanes of a vNIC find what they share. All zeros: nowhere.
#[repr(C)]
pub struct Place {
    shared: Option<NonNull<Shared>>,
    /// All lanes are locked: nobody else looks at the keys.
    exclusive: bool,
}

impl Place {
    /// The keys, to be read.
    pub fn keys(&self) -> Option<&Keys> {
        // SAFETY: initialised memory that lives longer than the lane; keys change only in [`Place::keys_mut`].
        self.shared.map(|shared| unsafe { &(*shared.as_ptr()).keys })
    }

    /// The keys, to be changed; `None` unless all lanes are locked.
    pub fn keys_mut(&mut self) -> Option<&mut Keys> {
        // SAFETY: as above, and with the locks of all lanes held, whose code alone looks at the keys, nobody else does.
        // `&mut self` makes this the only view of this lane.
        self.shared.filter(|_| self.exclusive).map(|shared| unsafe { &mut (*shared.as_ptr()).keys })
    }

    /// What associations share, slot by slot.
    pub fn sas(&self) -> &[SharedSa] {
        // SAFETY: as above; all of it changes by atomic operations only, through shared references.
        self.shared.map_or(&[], |shared| unsafe { &(*shared.as_ptr()).sas })
    }
}

/// Runs what may change keys, for functions that the shim calls with the locks of all lanes.
fn exclusively<T>(vnic: &mut Vnic, change: impl FnOnce(&mut Vnic) -> T) -> T {
    vnic.ciphers.place().exclusive = true;
    let result = change(vnic);
    vnic.ciphers.place().exclusive = false;
    result
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

/// Bytes of what the lanes of a vNIC share.
#[unsafe(no_mangle)]
pub extern "C" fn cvsw_shared_size() -> usize {
    const { assert!(align_of::<Shared>() <= 4096) };
    size_of::<Shared>()
}

/// Makes zeroed memory one without associations and keys. `keys` is where the shim makes transforms of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_shared_init(shared: *mut Shared, keys: *mut c_void) {
    for slot in 0..ciphers::SAS {
        // SAFETY: memory of the right size, nobody else's yet; within the array, and nothing there that would have to be
        // dropped.
        unsafe {
            let place = (&raw mut (*shared).keys.portable).cast::<Portable<1>>().add(slot);
            ptr::copy_nonoverlapping(&raw const ciphers::NOTHING_EXPANDED, place, 1);
        }
    }
    // SAFETY: as above.
    unsafe { (*shared).keys.transforms = Transforms(keys) };
}

/// Wipes all keys: the last call, when there is no engine left that uses them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_shared_end(shared: &mut Shared) {
    shared.keys.wipe();
}

/// Bytes of an engine.
#[unsafe(no_mangle)]
pub extern "C" fn cvsw_engine_size() -> usize {
    const { assert!(align_of::<Vnic>() <= 4096) };
    size_of::<Vnic>()
}

/// Makes an engine of zeroed memory. `generation` is random: keys never outlive the engine. `scratch` is the lane's alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_init(
    vnic: &mut Vnic,
    shared: NonNull<Shared>,
    scratch: *mut c_void,
    mac: &[u8; 6],
    seed: u64,
    generation: u64,
    link_mtu: u32,
) {
    vnic.ciphers = KernelCiphers::new(Place { shared: Some(shared), exclusive: false }, Scratch(scratch));
    vnic::init(vnic, *mac, seed, generation, link_mtu);
}

/// Wipes what the engine knows, a control key among it: the last call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_end(vnic: &mut Vnic) {
    vnic.engine.zero();
}

/// Takes over what a replica counted, with the locks of all lanes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_gather(first: &mut Vnic, replica: &mut Vnic) {
    first.engine.gather(&mut replica.engine);
}

/// Makes a replica process frames as the first engine does, with the locks of all lanes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_follow(replica: &mut Vnic, first: &Vnic) {
    replica.engine.follow(&first.engine);
}

/// Whether a frame is a control frame, well-formed or not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_frame_is_control(bytes: *const u8, len: u32) -> bool {
    // SAFETY: the shim passes a buffer of `len` bytes.
    control_kind(unsafe { slice::from_raw_parts(bytes, len as usize) }, ETHERTYPE).is_some()
}

/// The lower device's address or largest frame changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_set_link(vnic: &mut Vnic, mac: &[u8; 6], link_mtu: u32) {
    vnic.engine.set_mac(*mac);
    vnic.engine.set_link_mtu(Some(cvsw_core::mtu::L2Mtu::new(link_mtu)));
}

/// The VM is held to this MTU from now on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_set_mtu(vnic: &mut Vnic, mtu: u32) {
    vnic::set_mtu(vnic, mtu);
}

/// Queues a HELLO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_announce(vnic: &mut Vnic) {
    vnic.engine.announce();
}

/// Takes one control frame from the network, with the locks of all lanes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_control(vnic: &mut Vnic, now: u64, frame: &mut KernelFrame) {
    exclusively(vnic, |vnic| vnic::control(vnic, Instant::from_nanos(now), frame));
}

/// Sets the key of the control channel; `false` if it is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_control_key(vnic: &mut Vnic, instance: u64, key: *const u8, len: u32) -> bool {
    // SAFETY: the shim passes a buffer of `len` bytes.
    vnic::control_key(vnic, instance, unsafe { slice::from_raw_parts(key, len as usize) })
}

/// Writes how the vNIC is controlled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_control_status(vnic: &Vnic, to: &mut Status) {
    *to = Status::of(vnic);
}

/// Processes `count` frames; `receive` is 0 for frames from the host. None of them is a control frame from the network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_burst(
    vnic: &mut Vnic,
    now: u64,
    receive: u32,
    frames: *mut KernelFrame,
    count: u32,
) {
    // SAFETY: the shim passes `count` frames that it filled in.
    let frames = unsafe { slice::from_raw_parts_mut(frames, count as usize) };
    for part in frames.chunks_mut(vnic::BURST) {
        vnic::burst(vnic, Instant::from_nanos(now), direction(receive), part);
    }
}

/// Writes the next control frame to be sent; returns its length, 0 if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_poll_transmit(vnic: &mut Vnic, out: *mut u8, size: u32) -> u32 {
    // SAFETY: the shim passes a buffer of `size` bytes.
    let out = unsafe { slice::from_raw_parts_mut(out, size as usize) };
    vnic.engine.poll_transmit(out).map_or(0, |len| len as u32)
}

/// Writes the next frame that the engine itself has for the host; returns its length, 0 if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_poll_host(vnic: &mut Vnic, out: *mut u8, size: u32) -> u32 {
    // SAFETY: the shim passes a buffer of `size` bytes.
    let out = unsafe { slice::from_raw_parts_mut(out, size as usize) };
    vnic.engine.poll_host(out).map_or(0, |len| len as u32)
}

/// The next event's kind, 0 if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_poll_event(vnic: &mut Vnic, argument: &mut u32) -> u32 {
    vnic.engine.poll_event().map_or(0, |event| {
        let (kind, value) = vnic::event(event);
        *argument = value;
        kind
    })
}

/// The next event of a security association; `false` if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_poll_sa(vnic: &mut Vnic, news: &mut SaNews) -> bool {
    vnic.engine.poll_sa_event().map(|event| *news = SaNews::from(event)).is_some()
}

/// Lets time pass.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_tick(vnic: &mut Vnic, now: u64) {
    vnic.engine.tick(Instant::from_nanos(now));
}

/// 0, or the OpenFlow error `type << 16 | code` plus `1 << 31`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_flow_mod(vnic: &mut Vnic, now: u64, message: *const u8, len: u32) -> u32 {
    // SAFETY: the shim passes a buffer of `len` bytes.
    let message = unsafe { slice::from_raw_parts(message, len as usize) };
    match vnic::flow_mod(vnic, Instant::from_nanos(now), message) {
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
    vnic: &Vnic,
    now: u64,
    cursor: &mut u32,
    out: *mut u8,
    size: u32,
) -> u32 {
    // SAFETY: the shim passes a buffer of `size` bytes.
    let out = unsafe { slice::from_raw_parts_mut(out, size as usize) };
    vnic::next_flow(vnic, Instant::from_nanos(now), *cursor, out).map_or(0, |(len, next)| {
        *cursor = next;
        len as u32
    })
}

/// Carries out the body of a SET_SA for the local administrator, with the locks of all lanes: a result's number, or
/// `u32::MAX` if it is malformed. `limits` may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_set_sa(
    vnic: &mut Vnic,
    now: u64,
    body: *const u8,
    len: u32,
    limits: *const Limits,
) -> u32 {
    // SAFETY: the shim passes a buffer of `len` bytes, and null or limits, which any bytes are.
    let (body, limits) = unsafe {
        (slice::from_raw_parts(body, len as usize), (!limits.is_null()).then(|| limits.read_unaligned()))
    };
    exclusively(vnic, |vnic| sa::set(vnic, Instant::from_nanos(now), body, limits.as_ref())).unwrap_or(u32::MAX)
}

/// Writes association number `*cursor` ([`sa::Listed`]) and moves the cursor; 0: there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_next_sa(
    vnic: &Vnic,
    now: u64,
    cursor: &mut u32,
    out: *mut u8,
    size: u32,
) -> u32 {
    // SAFETY: the shim passes a buffer of `size` bytes.
    let out = unsafe { slice::from_raw_parts_mut(out, size as usize) };
    sa::list(vnic, Instant::from_nanos(now), *cursor, out).map_or(0, |len| {
        *cursor = cursor.saturating_add(1);
        len as u32
    })
}

/// Writes the networks that may not travel in clear; returns how many of the `room` numbers were written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_encrypted_only(vnic: &Vnic, out: *mut u32, room: u32) -> u32 {
    // SAFETY: the shim passes an array of `room` numbers.
    let out = unsafe { slice::from_raw_parts_mut(out, room as usize) };
    out.iter_mut().zip(vnic.engine.encrypted_only()).map(|(to, vni)| *to = vni).count() as u32
}

/// Whether keys are taken from control messages, where they travel in clear.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_accept_keys(vnic: &mut Vnic, on: u32) {
    vnic.engine.accept_keys_in_clear(on != 0);
}

/// Copies a key, to make transforms of it; `false` if there is none in this slot.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_key(vnic: &Vnic, slot: u32, to: &mut KeyCopy) -> bool {
    vnic.ciphers.keys().is_some_and(|keys| keys.copy_key(slot as usize, to))
}

/// As [`cvsw_engine_key`], without an engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_key_of(ciphers: &KernelCiphers, slot: u32, to: &mut KeyCopy) -> bool {
    ciphers.keys().is_some_and(|keys| keys.copy_key(slot as usize, to))
}

/// Packets that the portable ciphers computed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_portable_packets(vnic: &Vnic) -> u64 {
    vnic.ciphers.portable_packets()
}

/// Computes known answers with keys that nobody else uses and a buffer of `kmalloc`. 0 if all are right, else
/// `way << 16 | number` of the wrong one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_selftest(
    shared: NonNull<Shared>,
    scratch: *mut c_void,
    buffer: *mut u8,
    size: u32,
) -> u32 {
    // SAFETY: the shim passes a buffer of `size` bytes.
    let buffer = unsafe { slice::from_raw_parts_mut(buffer, size as usize) };
    let mut ciphers = KernelCiphers::new(Place { shared: Some(shared), exclusive: true }, Scratch(scratch));
    match selftest::run(&mut ciphers, buffer) {
        Ok(()) => 0,
        Err(fault) => (fault.way as u32) << 16 | fault.vector,
    }
}

/// Number of flows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_flow_count(vnic: &Vnic) -> u32 {
    vnic.engine.flow_count() as u32
}

/// State of the control session: 0 disconnected, 1 connecting, 2 connected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_session(vnic: &Vnic) -> u32 {
    vnic.engine.session_state() as u32
}

/// Writes the name of counter `index`; false if there is none of that index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_counter_name(vnic: &Vnic, index: u32, out: *mut u8, size: u32) -> bool {
    // SAFETY: the shim passes a buffer of `size` bytes.
    let out = unsafe { slice::from_raw_parts_mut(out, size as usize) };
    vnic::counter_name(vnic.engine.stats(), index as usize, out)
}

/// Adds to the first `count` counters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_counters(vnic: &Vnic, out: *mut u64, count: u32) {
    // SAFETY: the shim passes an array of `count` numbers.
    let out = unsafe { slice::from_raw_parts_mut(out, count as usize) };
    for (index, slot) in out.iter_mut().enumerate() {
        let Some((_, value)) = vnic.engine.stats().counter(index) else { break };
        *slot = slot.wrapping_add(value);
    }
}

/// Traces one frame; returns how many of the `room` steps were written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cvsw_engine_trace(
    vnic: &mut Vnic,
    now: u64,
    receive: u32,
    frame: &mut KernelFrame,
    steps: *mut Step,
    room: u32,
) -> u32 {
    // SAFETY: the shim passes an array of `room` zeroed steps.
    let mut steps = Steps::new(unsafe { slice::from_raw_parts_mut(steps, room as usize) });
    vnic::trace(vnic, Instant::from_nanos(now), direction(receive), frame, &mut steps);
    steps.count() as u32
}

const fn direction(receive: u32) -> Direction {
    if receive == 0 { Direction::Tx } else { Direction::Rx }
}
