//! What is below the engine: a driver that owns the buffers.

use cvsw_core::{Buffer, Frame, mtu::L2Mtu};
use smoltcp::time::Instant;

/// Free bytes in front of a frame that the stack sends: outer Ethernet, IPv4, UDP and VXLAN headers and a VLAN tag
/// are 54 bytes; the rest is for a cipher's headers and for the header that a driver may put in front.
pub const HEADROOM: usize = 128;

/// Free bytes behind the longest frame that the stack sends: a cipher's padding and tag.
pub const TAILROOM: usize = 64;

/// A driver below the engine. Frames move up and down as owned buffers; whoever has a buffer passes it on or gives
/// it back, none is ever copied or lost.
///
/// All buffers are equally long: [`Nic::buffer_len`].
pub trait Nic {
    /// A buffer: a slice of a pool, a boxed slice, an index with memory behind it.
    type Buffer: Buffer;

    /// Length of every buffer in bytes. At least [`HEADROOM`] + 14 + 576 + [`TAILROOM`], and as much more as the
    /// largest MTU is to have.
    fn buffer_len(&self) -> usize;

    /// Longest frame that the link takes.
    fn link_mtu(&self) -> L2Mtu;

    /// The next received frame, if there is one. It may stand anywhere in its buffer.
    fn receive(&mut self, timestamp: Instant) -> Option<Frame<Self::Buffer>>;

    /// A buffer for a frame that is to be sent. `None`: none is free, or the transmit queue is full.
    fn allocate(&mut self, timestamp: Instant) -> Option<Self::Buffer>;

    /// Sends a frame whose buffer came from [`Nic::allocate`].
    fn transmit(&mut self, timestamp: Instant, frame: Frame<Self::Buffer>);

    /// Takes back a buffer that came from [`Nic::receive`] or [`Nic::allocate`] and is not needed.
    fn recycle(&mut self, buffer: Self::Buffer);
}
