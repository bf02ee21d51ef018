//! virtio-net as a [`Nic`].

use crate::sys::{Broken, HEADER_LEN, RING, Rings};
use cvsw_core::{Frame, mtu::L2Mtu};
use cvsw_smoltcp::Nic;
use heapless::Vec;
use smoltcp::time::Instant;
use virtio_drivers::{Hal, transport::Transport};

/// Bytes of a buffer: headroom, a full frame, tailroom.
pub const BUFFER_LEN: usize = 2048;
/// Buffers: both rings full.
pub const BUFFERS: usize = 2 * RING;
/// Where a received frame's virtio header stands in its buffer: room for a VLAN tag in front of the frame.
const RX_OFFSET: usize = 52;

/// Memory of a buffer.
pub type Memory = [u8; BUFFER_LEN];

/// A buffer. Its first bytes are the driver's own: there is always room for the virtio header in front of a frame.
pub struct Buffer(&'static mut Memory);

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.0.get(HEADER_LEN..).unwrap_or_default()
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.get_mut(HEADER_LEN..).unwrap_or_default()
    }
}

/// What the interface did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Received frames whose length, as the device says, does not fit their buffer.
    pub rx_bad_length: u64,
    /// Frames that did not get into the transmit ring.
    pub tx_full: u64,
}

/// The interface.
pub struct VirtioNic<H: Hal, T: Transport> {
    rings: Rings<H, T>,
    free: Vec<&'static mut Memory, BUFFERS>,
    counters: Counters,
    broken: Option<Broken>,
}

impl<H: Hal, T: Transport> VirtioNic<H, T> {
    /// The device behind `rings`, with memory for frames.
    pub fn new(rings: Rings<H, T>, memory: &'static mut [Memory; BUFFERS]) -> Self {
        let mut nic =
            Self { rings, free: memory.iter_mut().collect(), counters: Counters::default(), broken: None };
        nic.refill();
        nic
    }

    /// The MAC address that the device was given.
    pub fn mac(&self) -> [u8; 6] {
        self.rings.mac()
    }

    /// What it did.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How the device broke the rules of virtio, if it did. It is of no use any more then.
    pub const fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Whether a received frame waits.
    pub fn has_received(&self) -> bool {
        self.broken.is_none() && self.rings.has_received()
    }

    /// Tells the device that its interrupt was seen.
    pub fn ack_interrupt(&mut self) {
        self.rings.ack_interrupt();
    }

    /// Gives the device buffers to receive into. Half of them are kept for sending.
    fn refill(&mut self) {
        while self.free.len() > BUFFERS / 2 && self.rings.wants_buffer() {
            let Some(buffer) = self.free.pop() else { return };
            if let Err(buffer) = self.rings.receive_into(buffer, RX_OFFSET) {
                self.put(buffer);
                return;
            }
        }
    }

    /// Takes back what was sent.
    fn reap(&mut self) {
        loop {
            match self.rings.sent() {
                Ok(Some(buffer)) => self.put(buffer),
                Ok(None) => return,
                Err(broken) => {
                    self.broken = Some(broken);
                    return;
                }
            }
        }
    }

    fn put(&mut self, buffer: &'static mut Memory) {
        // Never full: it has room for all there are.
        let _ = self.free.push(buffer);
    }
}

impl<H: Hal, T: Transport> Nic for VirtioNic<H, T> {
    type Buffer = Buffer;

    fn buffer_len(&self) -> usize {
        BUFFER_LEN.saturating_sub(HEADER_LEN)
    }

    fn link_mtu(&self) -> L2Mtu {
        cvsw_core::mtu::IpMtu::ETHERNET.l2()
    }

    fn receive(&mut self, _: Instant) -> Option<Frame<Buffer>> {
        if self.broken.is_some() {
            return None;
        }
        // A bad length costs its frame, not those behind it.
        for _ in 0..RING {
            let (buffer, len) = match self.rings.received() {
                Ok(received) => received?,
                Err(broken) => {
                    self.broken = Some(broken);
                    return None;
                }
            };
            // `Buffer` begins behind the room for a header; so does the frame behind its header.
            match (len, Frame::new(Buffer(buffer), RX_OFFSET, len.unwrap_or(0))) {
                (Some(_), Ok(frame)) => {
                    self.counters.rx_frames = self.counters.rx_frames.wrapping_add(1);
                    return Some(frame);
                }
                (_, frame) => {
                    self.counters.rx_bad_length = self.counters.rx_bad_length.wrapping_add(1);
                    if let Ok(frame) = frame {
                        self.recycle(frame.into_buffer());
                    }
                }
            }
        }
        None
    }

    fn allocate(&mut self, _: Instant) -> Option<Buffer> {
        if self.broken.is_none() {
            self.reap();
        }
        match self.broken {
            Some(_) => None,
            None => self.free.pop().map(Buffer),
        }
    }

    fn transmit(&mut self, _: Instant, frame: Frame<Buffer>) {
        let (start, len) = (frame.headroom(), frame.len());
        match self.rings.transmit(frame.into_buffer().0, start, len) {
            Ok(()) => self.counters.tx_frames = self.counters.tx_frames.wrapping_add(1),
            Err(buffer) => {
                self.counters.tx_full = self.counters.tx_full.wrapping_add(1);
                self.put(buffer);
            }
        }
    }

    fn recycle(&mut self, buffer: Buffer) {
        self.put(buffer.0);
        self.refill();
    }
}
