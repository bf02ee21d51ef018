//! The fixed pool of packet buffers.

use crate::port::FrameVec;
use cvsw_core::{BURST, Frame};
use std::ops::{Deref, DerefMut};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Free bytes in front of every received frame: outer Ethernet, 802.1Q, IPv4, UDP and VXLAN headers are 54
/// bytes; the rest is for later headers and for the virtio header that a backend may read in front.
pub const HEADROOM: usize = 128;
/// Bytes of a buffer unless an MTU asks for more: headroom, an untagged 1,500-byte-MTU frame and its tunnel
/// trailer, in whole cache lines.
pub const DEFAULT_BUFFER_SIZE: usize = 2304;
/// Buffers of a pool unless told otherwise: 16 bursts.
pub const DEFAULT_BUFFERS: usize = 512;
/// Bytes behind a full-size frame: two 802.1Q tags and a cipher's trailer.
const TAILROOM: usize = 64;
const ETHERNET_HEADER: usize = 14;

/// The memory of one buffer: whole cache lines of the processor, so that a frame's headers lie in as few of them as they
/// can, and ciphers read whole ones.
#[derive(Clone, Debug)]
pub struct Buffer(Box<[Line]>);

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Buffer {
    /// Zeroed memory of at least `len` bytes.
    pub fn new(len: usize) -> Self {
        Self(vec![Line([0; 64]); len.div_ceil(size_of::<Line>())].into_boxed_slice())
    }
}

impl AsRef<[u8]> for Buffer {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl AsMut<[u8]> for Buffer {
    #[inline]
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut()
    }
}

/// A frame in a buffer of a pool.
pub type PoolFrame = Frame<Buffer>;

/// A fixed number of equal buffers. Whoever takes one gives it back; nothing is allocated while packets flow.
#[derive(Debug)]
pub struct Mempool {
    free: Vec<PoolFrame>,
    /// The burst that came back last, which the next one takes as a whole: buffers that the processor still has in its
    /// cache, and nothing is moved (Bonwick's magazine).
    magazine: FrameVec,
    capacity: usize,
    buffer_size: usize,
}

impl Mempool {
    /// A pool of `capacity` buffers of `buffer_size` bytes (headroom included).
    pub fn new(capacity: usize, buffer_size: usize) -> Self {
        let buffer_size = buffer_size.max(HEADROOM);
        let free = (0..capacity).map(|_| new_frame(buffer_size)).collect();
        Self { free, magazine: FrameVec::with_capacity(BURST), capacity, buffer_size }
    }

    /// The buffer size that holds every frame of an interface with this IP MTU.
    pub fn buffer_size_for(ip_mtu: usize) -> usize {
        (HEADROOM + ETHERNET_HEADER + ip_mtu + TAILROOM).next_multiple_of(64).max(DEFAULT_BUFFER_SIZE)
    }

    /// Makes every buffer at least `buffer_size` bytes long: free ones now, those in use when they come back.
    /// For a changed MTU, never on the packet path.
    pub fn grow(&mut self, buffer_size: usize) {
        if buffer_size <= self.buffer_size {
            return;
        }
        self.buffer_size = buffer_size;
        for frame in self.free.iter_mut().chain(&mut self.magazine) {
            *frame = new_frame(buffer_size);
        }
    }

    /// Takes a buffer; its frame is empty and stands at [`HEADROOM`]. `None`: all are in use.
    pub fn take(&mut self) -> Option<PoolFrame> {
        self.magazine.pop().or_else(|| self.free.pop())
    }

    /// Takes `count` buffers at once, behind those that are in `frames`; as many as there are. Returns their number.
    pub fn take_burst(&mut self, count: usize, frames: &mut FrameVec) -> usize {
        if frames.is_empty() && self.magazine.len() == count {
            std::mem::swap(frames, &mut self.magazine);
            return count;
        }
        let before = frames.len();
        frames.extend(std::iter::from_fn(|| self.take()).take(count));
        frames.len() - before
    }

    /// Gives a buffer back.
    pub fn put(&mut self, mut frame: PoolFrame) {
        if self.available() >= self.capacity {
            return;
        }
        if frame.buffer_mut().len() < self.buffer_size || frame.reset(HEADROOM, 0).is_err() {
            frame = new_frame(self.buffer_size);
        }
        // A buffer that was taken for a moment completes the magazine again.
        let incomplete = (1..BURST).contains(&self.magazine.len());
        if incomplete { &mut self.magazine } else { &mut self.free }.push(frame);
    }

    /// Gives all of `frames` back.
    pub fn put_all(&mut self, frames: &mut FrameVec) {
        let room = self.capacity.saturating_sub(self.available());
        let size = self.buffer_size;
        let clean = |frame: &mut PoolFrame| frame.buffer_mut().len() >= size && frame.reset(HEADROOM, 0).is_ok();
        if self.magazine.is_empty() && frames.len() <= room && frames.iter_mut().all(clean) {
            std::mem::swap(frames, &mut self.magazine);
        } else {
            frames.drain(..).for_each(|frame| self.put(frame));
        }
    }

    /// Buffers that are not in use.
    pub fn available(&self) -> usize {
        self.free.len() + self.magazine.len()
    }

    /// Buffers in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of each buffer, headroom included.
    pub fn buffer_size(&self) -> usize {
        self.buffer_size
    }
}

fn new_frame(buffer_size: usize) -> PoolFrame {
    Frame::new(Buffer::new(buffer_size), HEADROOM, 0).expect("a buffer is never smaller than its headroom")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_clean() {
        let mut pool = Mempool::new(2, DEFAULT_BUFFER_SIZE);
        let mut frame = pool.take().unwrap();
        frame.reset(0, 100).unwrap();
        frame.offload.gso.size = 9;
        let _other = pool.take().unwrap();
        assert!(pool.take().is_none());
        pool.put(frame);
        let frame = pool.take().unwrap();
        assert_eq!((frame.headroom(), frame.len()), (HEADROOM, 0));
        assert_eq!(frame.offload, cvsw_core::Offload::default());
    }

    #[test]
    fn bursts_are_taken_and_given_back_like_single_buffers() {
        let mut pool = Mempool::new(5, DEFAULT_BUFFER_SIZE);
        let mut frames = FrameVec::new();
        assert_eq!((pool.take_burst(2, &mut frames), pool.take_burst(8, &mut frames)), (2, 3));
        assert_eq!((frames.len(), pool.available()), (5, 0));
        for frame in &mut frames {
            frame.reset(3, 70).unwrap();
            frame.offload.gso.size = 9;
        }
        pool.put_all(&mut frames);
        assert_eq!((frames.len(), pool.available()), (0, 5));
        for _ in 0..5 {
            let frame = pool.take().unwrap();
            assert_eq!((frame.headroom(), frame.len()), (HEADROOM, 0));
            assert_eq!(frame.offload, cvsw_core::Offload::default());
            frames.push(frame);
        }
        // One foreign buffer is too many, and a small one is replaced.
        frames.push(new_frame(DEFAULT_BUFFER_SIZE));
        frames[0] = new_frame(HEADROOM);
        pool.put_all(&mut frames);
        assert_eq!(pool.available(), 5);
        assert!(
            std::iter::from_fn(|| pool.take()).all(|mut frame| frame.buffer_mut().len() == DEFAULT_BUFFER_SIZE)
        );
    }

    #[test]
    fn a_grown_pool_has_no_small_buffer_left() {
        let mut pool = Mempool::new(2, DEFAULT_BUFFER_SIZE);
        let small = pool.take().unwrap();
        pool.grow(Mempool::buffer_size_for(9000));
        pool.put(small);
        for _ in 0..2 {
            let mut frame = pool.take().unwrap();
            assert!(frame.set_len(9000 + 14 + 8).is_ok());
        }
    }

    #[test]
    fn a_foreign_buffer_does_not_make_the_pool_larger() {
        let mut pool = Mempool::new(1, DEFAULT_BUFFER_SIZE);
        pool.put(new_frame(DEFAULT_BUFFER_SIZE));
        assert_eq!(pool.available(), 1);
    }

    #[test]
    fn the_default_size_is_enough_for_ethernet() {
        assert_eq!(Mempool::buffer_size_for(1500), DEFAULT_BUFFER_SIZE);
        assert!(Mempool::buffer_size_for(65535) >= 65535 + 14 + HEADROOM);
    }
}
