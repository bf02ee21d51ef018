//! The fixed pool of packet buffers.

use crate::port::FrameVec;
use cvsw_core::Frame;

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

/// A frame in a buffer of a pool.
pub type PoolFrame = Frame<Box<[u8]>>;

/// A fixed number of equal buffers. Whoever takes one gives it back; nothing is allocated while packets flow.
#[derive(Debug)]
pub struct Mempool {
    free: Vec<PoolFrame>,
    capacity: usize,
    buffer_size: usize,
}

impl Mempool {
    /// A pool of `capacity` buffers of `buffer_size` bytes (headroom included).
    pub fn new(capacity: usize, buffer_size: usize) -> Self {
        let buffer_size = buffer_size.max(HEADROOM);
        Self { free: (0..capacity).map(|_| new_frame(buffer_size)).collect(), capacity, buffer_size }
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
        for frame in &mut self.free {
            *frame = new_frame(buffer_size);
        }
    }

    /// Takes a buffer; its frame is empty and stands at [`HEADROOM`]. `None`: all are in use.
    pub fn take(&mut self) -> Option<PoolFrame> {
        self.free.pop()
    }

    /// Gives a buffer back.
    pub fn put(&mut self, mut frame: PoolFrame) {
        if self.free.len() >= self.capacity {
            return;
        }
        if frame.buffer_mut().len() < self.buffer_size || frame.reset(HEADROOM, 0).is_err() {
            frame = new_frame(self.buffer_size);
        }
        self.free.push(frame);
    }

    /// Gives all of `frames` back.
    pub fn put_all(&mut self, frames: &mut FrameVec) {
        for frame in frames.drain(..) {
            self.put(frame);
        }
    }

    /// Buffers that are not in use.
    pub fn available(&self) -> usize {
        self.free.len()
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
    let buffer = vec![0; buffer_size].into_boxed_slice();
    Frame::new(buffer, HEADROOM, 0).expect("a buffer is never smaller than its headroom")
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
