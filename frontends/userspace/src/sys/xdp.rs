//! An AF_XDP socket in copy mode with the smallest XDP program there is (Linux, Documentation/networking/af_xdp.rst).

use super::check;
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    mm::{MapFlags, ProtFlags},
    net::{
        AddressFamily, SocketFlags, SocketType, sockopt,
        xdp::{
            SocketAddrXdp, SocketAddrXdpFlags, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING,
            XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpDesc, XdpDescOptions, XdpRingOffset,
            XdpUmemReg, XdpUmemRegFlags,
        },
    },
};
use std::{
    io,
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

/// Frames in each ring.
const SLOTS: u32 = 2048;
/// What the kernel keeps free in front of every received frame (`XDP_PACKET_HEADROOM`).
const KERNEL_HEADROOM: usize = 256;
/// Sizes of a chunk that the kernel takes: half a page and a page.
const CHUNKS: [usize; 2] = [2048, 4096];

/// An AF_XDP socket on the one receive queue of an interface. Every frame that comes in there goes to the socket and to
/// nobody else.
#[derive(Debug)]
pub struct XdpSocket {
    // Dropped in this order: first nothing comes any more, then the socket goes, then its memory.
    _link: OwnedFd,
    socket: OwnedFd,
    rx: Ring<XdpDesc>,
    tx: Ring<XdpDesc>,
    fill: Ring<u64>,
    completion: Ring<u64>,
    chunks: Map,
    chunk_size: usize,
    /// Chunks for frames to send that are not on the way: addresses.
    free: Vec<u64>,
}

impl XdpSocket {
    /// The longest frame that a chunk can hold.
    pub const FRAME_MAX: usize = CHUNKS[1] - KERNEL_HEADROOM;

    /// Opens a socket on interface `index` of the calling thread's network namespace for frames of at most `frame_size`
    /// bytes, which is at most [`XdpSocket::FRAME_MAX`].
    pub fn open(index: u32, frame_size: usize) -> io::Result<Self> {
        let fits = |chunk: &&usize| frame_size + KERNEL_HEADROOM <= **chunk;
        let chunk_size = *CHUNKS.iter().find(fits).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, flags, None)?;
        let fd = socket.as_fd();
        // The first half for frames to receive, the second for frames to send.
        let chunks = Map::anonymous(2 * SLOTS as usize * chunk_size)?;
        let memory = XdpUmemReg {
            addr: chunks.start.as_ptr() as u64,
            len: chunks.len as u64,
            chunk_size: chunk_size as u32,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        sockopt::set_xdp_umem_reg(fd, memory)?;
        sockopt::set_xdp_umem_fill_ring_size(fd, SLOTS)?;
        sockopt::set_xdp_umem_completion_ring_size(fd, SLOTS)?;
        sockopt::set_xdp_rx_ring_size(fd, SLOTS)?;
        sockopt::set_xdp_tx_ring_size(fd, SLOTS)?;
        let offsets = sockopt::xdp_mmap_offsets(fd)?;
        let rx = Ring::map(fd, XDP_PGOFF_RX_RING, &offsets.rx)?;
        let tx = Ring::map(fd, XDP_PGOFF_TX_RING, &offsets.tx)?;
        let mut fill = Ring::map(fd, XDP_UMEM_PGOFF_FILL_RING, &offsets.fr)?;
        let completion = Ring::map(fd, XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr)?;
        let address = |chunk: u32| u64::from(chunk) * chunk_size as u64;
        (0..SLOTS).for_each(|chunk| fill.produce(address(chunk)));
        fill.publish();
        let free = (SLOTS..2 * SLOTS).map(address).collect();
        rustix::net::bind(fd, &SocketAddrXdp::new(SocketAddrXdpFlags::XDP_COPY, index, 0))?;
        let link = attach(index, fd)?;
        Ok(Self { _link: link, socket, rx, tx, fill, completion, chunks, chunk_size, free })
    }

    /// The oldest received frame that was not released.
    pub fn rx_peek(&self) -> Option<&[u8]> {
        let XdpDesc { addr, len, .. } = self.rx.peek()?;
        let start = usize::try_from(addr).ok()?;
        let end = start.checked_add(len as usize).filter(|end| *end <= self.chunks.len)?;
        // SAFETY: the range is inside the mapping. The chunk is ours from its descriptor's appearance in the receive
        // ring until `rx_release`, which takes `&mut self` and so ends this borrow, gives it back.
        Some(unsafe { std::slice::from_raw_parts(self.chunks.start.add(start).as_ptr(), end - start) })
    }

    /// Gives the chunk of the last [`XdpSocket::rx_peek`] back to the kernel. Without a frame there: nothing.
    pub fn rx_release(&mut self) {
        if let Some(desc) = self.rx.peek() {
            self.rx.consume();
            let chunk = self.chunk_size as u64;
            // As many chunks circulate as the fill ring has slots: there is always room.
            self.fill.produce(desc.addr / chunk * chunk);
            self.fill.publish();
        }
    }

    /// Room for the next frame to send. `None`: all chunks are on their way.
    pub fn tx_slot(&mut self) -> Option<&mut [u8]> {
        while let Some(address) = self.completion.peek() {
            self.completion.consume();
            self.free.push(address);
        }
        let start = usize::try_from(*self.free.last()?).ok()?;
        if start.checked_add(self.chunk_size)? > self.chunks.len {
            return None;
        }
        // SAFETY: the chunk is inside the mapping, and a free one belongs to us alone; the borrow of `self` keeps it so.
        Some(unsafe { std::slice::from_raw_parts_mut(self.chunks.start.add(start).as_ptr(), self.chunk_size) })
    }

    /// Queues the first `len` bytes of the room that [`XdpSocket::tx_slot`] gave; [`XdpSocket::tx_kick`] sends. Does nothing
    /// if there is none or `len` does not fit.
    pub fn tx_commit(&mut self, len: usize) {
        if len <= self.chunk_size
            && let Some(addr) = self.free.pop()
        {
            // As many chunks circulate as the ring has slots: there is always room.
            self.tx.produce(XdpDesc { addr, len: len as u32, options: XdpDescOptions::empty() });
        }
    }

    /// Lets the kernel send what is queued.
    pub fn tx_kick(&mut self) -> io::Result<()> {
        self.tx.publish();
        Ok(rustix::net::send(&self.socket, &[], rustix::net::SendFlags::DONTWAIT).map(drop)?)
    }

    /// Whether queued frames still wait for the kernel.
    pub fn tx_pending(&self) -> bool {
        self.tx.is_waiting()
    }

    /// Frames that the kernel has dropped so far since nobody took those before.
    pub fn rx_drops(&self) -> io::Result<u64> {
        let statistics = sockopt::xdp_statistics(self.socket.as_fd())?;
        let full = statistics.rx_ring_full.unwrap_or(0).max(statistics.rx_fill_ring_empty_descs.unwrap_or(0));
        Ok(statistics.rx_dropped.max(full))
    }
}

impl AsFd for XdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Memory that is unmapped at the end.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and can be used from any one thread.
unsafe impl Send for Map {}

impl Map {
    fn anonymous(len: usize) -> io::Result<Self> {
        // SAFETY: a new private mapping at an address that the kernel chooses overlaps nothing of ours.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::POPULATE,
            )?
        };
        Ok(Self { start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?, len })
    }

    fn ring(socket: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new shared mapping at an address that the kernel chooses overlaps nothing of ours.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, socket, offset)? };
        Ok(Self { start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?, len })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: exactly the range that was mapped; no slice into it outlives the borrow of its owner.
        let result = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(result.is_ok());
    }
}

/// One of the four rings, of [`SLOTS`] entries of type `T`, from the side that is ours.
#[derive(Debug)]
struct Ring<T> {
    map: Map,
    producer: usize,
    consumer: usize,
    entries: usize,
    /// Our own index: the next entry to write, or to read.
    next: u32,
    entry: PhantomData<T>,
}

impl<T: Copy> Ring<T> {
    fn map(socket: BorrowedFd<'_>, offset: u64, offsets: &XdpRingOffset) -> io::Result<Self> {
        let place = |offset: u64| usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        let (producer, consumer) = (place(offsets.producer)?, place(offsets.consumer)?);
        let entries = place(offsets.desc)?;
        let len = entries + SLOTS as usize * size_of::<T>();
        if producer + 4 > len || consumer + 4 > len {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let map = Map::ring(socket, offset, len)?;
        Ok(Self { map, producer, consumer, entries, next: 0, entry: PhantomData })
    }

    fn index(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `map` checked that the four bytes are inside the mapping; the kernel aligns them. It changes them
        // concurrently, which is what an atomic allows.
        unsafe { AtomicU32::from_ptr(self.map.start.add(offset).cast().as_ptr()) }
    }

    fn slot(&self) -> NonNull<T> {
        let slot = (self.next % SLOTS) as usize;
        // SAFETY: `slot` is below SLOTS, so the entry is inside the mapping, whose length `map` computed from SLOTS.
        unsafe { self.map.start.add(self.entries + slot * size_of::<T>()).cast() }
    }

    /// Writes the next entry. Nobody sees it before [`Ring::publish`].
    fn produce(&mut self, entry: T) {
        // SAFETY: the entry is inside the mapping and aligned by the kernel. No more entries circulate than there are
        // slots, so the kernel has read what stood here.
        unsafe { self.slot().write(entry) };
        self.next = self.next.wrapping_add(1);
    }

    fn publish(&self) {
        self.index(self.producer).store(self.next, Ordering::Release);
    }

    /// Whether the kernel has not yet read all that was published.
    fn is_waiting(&self) -> bool {
        self.index(self.consumer).load(Ordering::Relaxed) != self.index(self.producer).load(Ordering::Relaxed)
    }

    /// The oldest entry that was not consumed.
    fn peek(&self) -> Option<T> {
        if self.index(self.producer).load(Ordering::Acquire) == self.next {
            return None;
        }
        // SAFETY: inside the mapping and aligned; the producer index, read with acquire ordering, says that the kernel
        // has written it. Every bit pattern is a valid entry: integers.
        Some(unsafe { self.slot().read() })
    }

    fn consume(&mut self) {
        self.next = self.next.wrapping_add(1);
        self.index(self.consumer).store(self.next, Ordering::Release);
    }
}

/// Instruction of eBPF: opcode, registers (destination in the low half), offset, immediate (RFC 9669 section 3).
#[repr(C)]
struct Instruction(u8, u8, i16, i32);

/// Attributes of bpf(2), for the commands that are used here; each as long as the kernel needs it.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}
#[repr(C)]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instructions_count: u32,
    instructions: u64,
    license: u64,
}
#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// Commands of bpf(2).
const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_PROG_LOAD: u32 = 5;
const BPF_LINK_CREATE: u32 = 28;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;

/// Attaches a program to interface `index` that gives the frames of queue 0 to `socket`. It lives as long as the result.
fn attach(index: u32, socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let map = MapCreate { kind: BPF_MAP_TYPE_XSKMAP, key_size: 4, value_size: 4, max_entries: 1 };
    // SAFETY: the attributes hold no pointer.
    let map = unsafe { bpf(BPF_MAP_CREATE, &map) }?;
    let (key, value) = (0u32, socket.as_raw_fd());
    let entry = MapUpdate {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: (&raw const key) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    // SAFETY: the kernel reads four bytes at each of the two pointers, as the map was created.
    unsafe { bpf_without_descriptor(BPF_MAP_UPDATE_ELEM, &entry) }?;
    let program = [
        // r2 = context->rx_queue_index
        Instruction(0x61, 0x12, 16, 0),
        // r1 = the map
        Instruction(0x18, 0x11, 0, map.as_raw_fd()),
        Instruction(0, 0, 0, 0),
        // r3 = XDP_PASS, for queues that are not in the map
        Instruction(0xb7, 0x03, 0, 2),
        // return bpf_redirect_map(r1, r2, r3)
        Instruction(0x85, 0, 0, 51),
        Instruction(0x95, 0, 0, 0),
    ];
    let license = c"Apache-2.0";
    let load = ProgramLoad {
        kind: BPF_PROG_TYPE_XDP,
        instructions_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    // SAFETY: the kernel reads the instructions, so many as they are, and a zero-terminated string.
    let program = unsafe { bpf(BPF_PROG_LOAD, &load) }?;
    let link = LinkCreate { program: program.as_raw_fd() as u32, interface: index, attach_type: BPF_XDP, flags: 0 };
    // SAFETY: the attributes hold no pointer.
    unsafe { bpf(BPF_LINK_CREATE, &link) }
}

/// bpf(2) that returns a new descriptor.
///
/// # Safety
/// `T` is what `command` takes, or a beginning of it, and what its pointers point to is as the command demands.
unsafe fn bpf<T>(command: u32, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: as this function demands.
    let fd = unsafe { bpf_without_descriptor(command, attributes) }?;
    // SAFETY: the kernel made this descriptor for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2).
///
/// # Safety
/// As [`bpf`].
unsafe fn bpf_without_descriptor<T>(command: u32, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of attributes and takes the rest for zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    check(result as libc::c_int)
}
