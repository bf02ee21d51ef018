//! The frame: the caller's buffer with headroom and tailroom, and what the NIC said about it.

use crate::wire::{checksum, udp};

/// Memory that can hold a frame: a slice of a pool, a boxed slice, an skb's linear area.
///
/// Implemented for everything that is `AsRef<[u8]> + AsMut<[u8]>`.
pub trait Buffer: AsRef<[u8]> + AsMut<[u8]> {}
impl<T: AsRef<[u8]> + AsMut<[u8]>> Buffer for T {}

/// What is known about a frame's transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Checksum {
    /// The checksum field is filled in; nobody has verified it.
    #[default]
    Complete,
    /// The checksum field is filled in and the sender or the NIC vouches for it
    /// (Linux `CHECKSUM_UNNECESSARY`, virtio `VIRTIO_NET_HDR_F_DATA_VALID`).
    Verified,
    /// The field holds only the pseudo-header sum and is to be filled later
    /// (Linux `CHECKSUM_PARTIAL`, virtio `VIRTIO_NET_HDR_F_NEEDS_CSUM`).
    Partial {
        /// Offset of the first summed byte from the start of the frame.
        start: u16,
        /// Offset of the 16-bit checksum field from `start`.
        offset: u16,
    },
}

/// Kind of a super-segment (a frame that stands for several, to be cut before the wire).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum GsoKind {
    /// An ordinary frame.
    #[default]
    None,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams of equal size (USO, Linux `UDP_SEGMENT`).
    Udp,
}

/// Segmentation metadata of a super-segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Gso {
    /// What the super-segment is made of.
    pub kind: GsoKind,
    /// Transport payload bytes per segment (the MSS); 0 for an ordinary frame.
    pub size: u16,
    /// Length of all headers (Ethernet to transport) in bytes.
    pub header_len: u16,
    /// TCP ECN: CWR belongs to the first segment only.
    pub ecn: bool,
}

/// Per-frame offload metadata, as virtio-net's header carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Offload {
    /// State of the transport checksum.
    pub checksum: Checksum,
    /// Segmentation metadata.
    pub gso: Gso,
}

/// There was too little room in front of or behind the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoRoom;

/// The offload metadata does not fit the frame: the checksum to be filled lies outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BadOffload;

/// A frame inside a buffer: `headroom | bytes | tailroom`.
///
/// Encapsulation grows the frame into its headroom in place, decapsulation gives the room back; the
/// bytes are never copied.
#[derive(Clone, Debug)]
pub struct Frame<B> {
    buffer: B,
    head: usize,
    len: usize,
    /// What the NIC or the stack said about the frame.
    pub offload: Offload,
}

impl<B: Buffer> Frame<B> {
    /// A frame of `len` bytes that starts `headroom` bytes into `buffer`.
    ///
    /// `NoRoom` if the buffer is shorter than that.
    pub fn new(buffer: B, headroom: usize, len: usize) -> Result<Self, NoRoom> {
        match headroom.checked_add(len) {
            Some(end) if end <= buffer.as_ref().len() => {
                Ok(Self { buffer, head: headroom, len, offload: Offload::default() })
            }
            _ => Err(NoRoom),
        }
    }

    /// The frame's length in bytes, Ethernet header included, frame check sequence not.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the frame has no byte at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Free bytes in front of the frame.
    pub fn headroom(&self) -> usize {
        self.head
    }

    /// Free bytes behind the frame.
    pub fn tailroom(&self) -> usize {
        self.buffer.as_ref().len().saturating_sub(self.head.saturating_add(self.len))
    }

    /// The frame's bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self.buffer.as_ref().get(self.head..).and_then(|rest| rest.get(..self.len)) {
            Some(bytes) => bytes,
            None => nothing(),
        }
    }

    /// The frame's bytes, to be changed in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self.buffer.as_mut().get_mut(self.head..).and_then(|rest| rest.get_mut(..self.len)) {
            Some(bytes) => bytes,
            None => nothing_mut(),
        }
    }

    /// Grows the frame by `count` bytes at its front; the new bytes hold whatever the headroom held.
    pub fn push_front(&mut self, count: usize) -> Result<(), NoRoom> {
        self.head = self.head.checked_sub(count).ok_or(NoRoom)?;
        self.len = self.len.wrapping_add(count);
        Ok(())
    }

    /// Removes `count` bytes at the front.
    pub fn pull_front(&mut self, count: usize) -> Result<(), NoRoom> {
        self.len = self.len.checked_sub(count).ok_or(NoRoom)?;
        self.head = self.head.wrapping_add(count);
        Ok(())
    }

    /// Sets the frame's length: cuts its tail, or grows into the tailroom (new bytes are unspecified).
    pub fn set_len(&mut self, len: usize) -> Result<(), NoRoom> {
        match self.head.checked_add(len) {
            Some(end) if end <= self.buffer.as_ref().len() => {
                self.len = len;
                Ok(())
            }
            _ => Err(NoRoom),
        }
    }

    /// Fills in a transport checksum that was left for later ([`Checksum::Partial`]), in software; does
    /// nothing for other frames. Front-ends call it when the device below cannot do it.
    ///
    /// A UDP checksum that comes out as 0 is written as 0xffff (RFC 768). On error nothing is changed.
    pub fn complete_checksum(&mut self) -> Result<(), BadOffload> {
        let Checksum::Partial { start, offset } = self.offload.checksum else { return Ok(()) };
        let summed = self.bytes_mut().get_mut(usize::from(start)..).ok_or(BadOffload)?;
        // The field takes part in the sum: it holds the sum of the pseudo-header.
        let computed = !checksum::sum(summed);
        let field = summed.get_mut(usize::from(offset)..).and_then(<[u8]>::first_chunk_mut).ok_or(BadOffload)?;
        let computed = if offset == udp::CHECKSUM_OFFSET && computed == 0 { 0xffff } else { computed };
        *field = computed.to_be_bytes();
        self.offload.checksum = Checksum::Complete;
        Ok(())
    }

    /// Gives the buffer back.
    pub fn into_buffer(self) -> B {
        self.buffer
    }

    /// The whole buffer, headroom and tailroom included, for a driver that reads into it.
    /// Follow with [`Frame::reset`].
    pub fn buffer_mut(&mut self) -> &mut B {
        &mut self.buffer
    }

    /// Re-places the frame in its buffer and forgets its offload metadata.
    pub fn reset(&mut self, headroom: usize, len: usize) -> Result<(), NoRoom> {
        match headroom.checked_add(len) {
            Some(end) if end <= self.buffer.as_ref().len() => {
                self.head = headroom;
                self.len = len;
                self.offload = Offload::default();
                Ok(())
            }
            _ => Err(NoRoom),
        }
    }
}

/// The bytes of a frame whose buffer was exchanged for a shorter one. Cold, so that the compiler expects the others.
#[cold]
const fn nothing<'a>() -> &'a [u8] {
    &[]
}

#[cold]
const fn nothing_mut<'a>() -> &'a mut [u8] {
    &mut []
}
