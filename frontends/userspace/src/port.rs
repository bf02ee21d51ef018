//! The port: where bursts of frames come from and go to.
//!
//! A port moves bytes and never looks into them. What it cannot carry it counts under one [`PortDrop`] reason;
//! nothing is lost silently.

use crate::pool::{Mempool, PoolFrame};
use cvsw_core::{
    control::OffloadFlags,
    flow::MacAddr,
    mtu::{IpMtu, L2Mtu},
};
use std::{io, os::fd::BorrowedFd};

/// A burst of frames. Give it room for [`cvsw_core::BURST`] once and it never allocates.
pub type FrameVec = Vec<PoolFrame>;

macro_rules! port_drops {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// Why a port dropped a frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum PortDrop { $($(#[$doc])* $variant,)+ }

        impl PortDrop {
            /// All reasons, in counter order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// Number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// The stable snake_case name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

port_drops! {
    /// The kernel's receive ring was full: this process was too slow.
    RxRingFull = "rx_ring_full",
    /// A received frame is longer than the ring's slots or the pool's buffers.
    RxTooBig = "rx_too_big",
    /// A received frame carries offload metadata that we do not know, or that do not fit it.
    RxBadOffload = "rx_bad_offload",
    /// The transmit side took no more frames: full ring, or the interface is down.
    TxFull = "tx_full",
    /// The frame is longer than the interface takes.
    TxTooBig = "tx_too_big",
    /// The frame is shorter than an Ethernet header.
    TxTooShort = "tx_too_short",
    /// The frame's unfinished checksum lies outside the frame.
    TxBadChecksum = "tx_bad_checksum",
    /// A super-segment for a port that takes none.
    TxGsoUnsupported = "tx_gso_unsupported",
    /// The operating system refused the frame.
    TxError = "tx_error",
}

/// Counters of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames received and handed on.
    pub rx_frames: u64,
    /// Bytes of those frames.
    pub rx_bytes: u64,
    /// Super-frames received; the frames that they were cut into are among [`PortCounters::rx_frames`].
    pub rx_super_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes of those frames.
    pub tx_bytes: u64,
    /// Super-frames sent; the frames that were joined into them are among [`PortCounters::tx_frames`].
    pub tx_super_frames: u64,
    /// Times that the pool had no buffer for a received frame; the frame waits in the kernel.
    pub rx_no_buffer: u64,
    drops: [u64; PortDrop::COUNT],
}

impl PortCounters {
    /// Counts a received frame of `len` bytes.
    pub fn received(&mut self, len: usize) {
        self.rx_frames += 1;
        self.rx_bytes += len as u64;
    }

    /// Counts a sent frame of `len` bytes.
    pub fn sent(&mut self, len: usize) {
        self.tx_frames += 1;
        self.tx_bytes += len as u64;
    }

    /// Counts `frames` dropped frames.
    pub fn dropped(&mut self, reason: PortDrop, frames: u64) {
        self.drops[reason as usize] += frames;
    }

    /// Frames dropped for `reason`.
    pub fn drops(&self, reason: PortDrop) -> u64 {
        self.drops[reason as usize]
    }
}

/// Offload metadata that a port carries onwards when it transmits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Frames with an unfinished checksum ([`cvsw_core::Checksum::Partial`]).
    pub checksum: bool,
    /// Super-segments.
    pub gso: bool,
}

/// A port: a source and a sink of bursts.
///
/// Middleware (a capturing or fault-injecting port) implements the same trait around another port.
pub trait Port {
    /// The port as its user named it, for messages and statistics.
    fn name(&self) -> &str;

    /// Appends the frames that are waiting, at most [`cvsw_core::BURST`], never blocks. Returns their number.
    ///
    /// An error means that the port is gone for good (the interface was deleted).
    fn rx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<usize>;

    /// Sends all of `frames` and leaves it empty, never blocks. A frame that cannot be sent now is dropped and
    /// counted: a full transmit ring is congestion, and a queue here would only add delay. Buffers go to `pool`.
    ///
    /// An error means that the port is gone for good.
    fn tx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<()>;

    /// Whether frames that were handed over still wait for another push ([`Port::flush`]).
    fn tx_pending(&self) -> bool {
        false
    }

    /// Pushes frames that the kernel has not taken yet.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The descriptor that becomes readable when frames wait. `None`: poll me.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>>;

    /// The descriptor reported an error condition, or nothing for a while. Clears it, or returns the error if the port is gone for
    /// good.
    fn poll_error(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether no frame will ever come again (end of a capture file).
    fn finished(&self) -> bool {
        false
    }

    /// What can be left unfinished in transmitted frames.
    fn capabilities(&self) -> Capabilities;

    /// The interface's MAC address, if there is an interface.
    fn mac(&self) -> Option<MacAddr> {
        None
    }

    /// The longest frame that the port takes, with room for one 802.1Q tag. `None`: no limit.
    fn link_mtu(&self) -> Option<L2Mtu> {
        None
    }

    /// The IP MTU that the interface shows now, if there is one.
    fn mtu(&self) -> Option<IpMtu> {
        None
    }

    /// Sets the IP MTU of the interface.
    fn set_mtu(&mut self, _mtu: IpMtu) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The offload features that are in force now.
    fn offload(&self) -> OffloadFlags {
        OffloadFlags(0)
    }

    /// Sets the offload features of the interface. Returns those that are in force afterwards: a feature that
    /// cannot be honoured stays off.
    fn set_offload(&mut self, _requested: OffloadFlags) -> io::Result<OffloadFlags> {
        Ok(OffloadFlags(0))
    }

    /// The last call: brings everything that was sent to its destination.
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The counters, brought up to date.
    fn counters(&mut self) -> PortCounters;
}

/// The error of a port whose interface was deleted.
pub(crate) fn deleted(cause: &io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, format!("the interface was deleted ({cause})"))
}
