//! The `af_xdp` backend: an existing interface, through an AF_XDP socket in copy mode.
//!
//! Beside [`crate::af_packet`]: the machine's own stack never sees the frames that come in, and sending needs no detour
//! through its queues. But there is no metadata: a sender on the same machine (veth) must fill in its checksums and cut its
//! super-frames (`ethtool -K PEER tx off tso off gso off`), and every frame sent passes the kernel alone.
//!
//! Frames come from receive queue 0; an interface with several must be told to use one (`ethtool -L IFACE combined 1`).

use crate::{
    netns,
    pool::{HEADROOM, Mempool, PoolFrame},
    port::{Capabilities, FrameVec, Port, PortCounters, PortDrop, deleted},
    sys::{Interface, XdpSocket},
};
use cvsw_core::{
    BURST, Checksum, GsoKind,
    flow::MacAddr,
    mtu::{IpMtu, L2Mtu},
};
use rustix::{fd::AsFd, io::Errno};
use std::{io, os::fd::BorrowedFd};

const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
/// Calls for a burst; a call sends some 32 frames.
const PUSHES: usize = 4;

/// An AF_XDP socket on one interface.
#[derive(Debug)]
pub struct AfXdp {
    label: String,
    socket: XdpSocket,
    interface: Interface,
    /// Longest frame, one 802.1Q tag included.
    max_frame: usize,
    counters: PortCounters,
    /// Frames dropped in the kernel that [`PortDrop::RxRingFull`] holds already.
    known_drops: u64,
}

impl AfXdp {
    /// Attaches to interface `name` of network namespace `netns` (`None`: this one), which has one receive queue and an
    /// MTU of at most 3,822.
    pub fn open(name: &str, netns: Option<&str>) -> io::Result<Self> {
        netns::within(netns, || {
            let interface = Interface::open(name)?;
            interface.mac()?;
            let max_frame = usize::try_from(interface.mtu()?).unwrap_or(0) + ETHERNET_HEADER + VLAN_TAG;
            if max_frame > XdpSocket::FRAME_MAX {
                let most = XdpSocket::FRAME_MAX - ETHERNET_HEADER - VLAN_TAG;
                return Err(io::Error::other(format!(
                    "the MTU of {name} is more than AF_XDP takes here ({most}): lower it, or use af_packet"
                )));
            }
            let index = u32::try_from(interface.index()?).map_err(|_| io::ErrorKind::InvalidData)?;
            let socket = XdpSocket::open(index, max_frame)?;
            let label = netns.map_or_else(|| format!("af_xdp:{name}"), |ns| format!("af_xdp:{name},netns={ns}"));
            Ok(Self { label, socket, interface, max_frame, counters: PortCounters::default(), known_drops: 0 })
        })
    }

    fn queue(&mut self, frame: &PoolFrame) -> Result<(), PortDrop> {
        if frame.len() < ETHERNET_HEADER {
            return Err(PortDrop::TxTooShort);
        }
        if frame.offload.gso.kind != GsoKind::None {
            return Err(PortDrop::TxGsoUnsupported);
        }
        if frame.len() > self.max_frame {
            return Err(PortDrop::TxTooBig);
        }
        // The vNIC completes checksums for a port that cannot; one that is left did not fit its frame.
        if matches!(frame.offload.checksum, Checksum::Partial { .. }) {
            return Err(PortDrop::TxBadChecksum);
        }
        let room = self.socket.tx_slot().ok_or(PortDrop::TxFull)?;
        room.get_mut(..frame.len()).ok_or(PortDrop::TxTooBig)?.copy_from_slice(frame.bytes());
        self.socket.tx_commit(frame.len());
        Ok(())
    }

    /// `Err` if the interface is gone; an interface that is only down comes back.
    fn survive(&self, error: io::Error) -> io::Result<()> {
        match Errno::from_io_error(&error) {
            Some(Errno::NXIO | Errno::NODEV | Errno::NETDOWN) if self.interface.index().is_err() => {
                Err(deleted(&error))
            }
            // EAGAIN, EBUSY, ENOBUFS: the frames stay in the ring for the next push.
            _ => Ok(()),
        }
    }
}

impl Port for AfXdp {
    fn name(&self) -> &str {
        &self.label
    }

    fn rx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<usize> {
        let mut received = 0;
        while received < BURST {
            let Some(bytes) = self.socket.rx_peek() else { break };
            let Some(mut frame) = pool.take() else {
                self.counters.rx_no_buffer += 1;
                break;
            };
            if frame.reset(HEADROOM, bytes.len()).is_ok() {
                frame.bytes_mut().copy_from_slice(bytes);
                self.counters.received(frame.len());
                frames.push(frame);
                received += 1;
            } else {
                self.counters.dropped(PortDrop::RxTooBig, 1);
                pool.put(frame);
            }
            self.socket.rx_release();
        }
        Ok(received)
    }

    fn tx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<()> {
        for frame in frames.iter() {
            match self.queue(frame) {
                Ok(()) => self.counters.sent(frame.len()),
                Err(reason) => self.counters.dropped(reason, 1),
            }
        }
        pool.put_all(frames);
        self.flush()
    }

    fn tx_pending(&self) -> bool {
        self.socket.tx_pending()
    }

    fn flush(&mut self) -> io::Result<()> {
        // In copy mode one call sends a limited number of frames. What remains waits for the next push.
        for _ in 0..PUSHES {
            match self.socket.tx_kick() {
                Ok(()) => {}
                Err(error) if Errno::from_io_error(&error) == Some(Errno::AGAIN) => {}
                Err(error) => return self.survive(error),
            }
            if !self.socket.tx_pending() {
                break;
            }
        }
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn poll_error(&mut self) -> io::Result<()> {
        self.interface.index().map(drop).map_err(|error| deleted(&error))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { checksum: false, gso: false }
    }

    fn mac(&self) -> Option<MacAddr> {
        self.interface.mac().ok()
    }

    fn link_mtu(&self) -> Option<L2Mtu> {
        u32::try_from(self.max_frame).ok().map(L2Mtu::new)
    }

    fn mtu(&self) -> Option<IpMtu> {
        self.interface.mtu().ok().and_then(|mtu| IpMtu::new(u16::try_from(mtu).unwrap_or(u16::MAX)))
    }

    fn counters(&mut self) -> PortCounters {
        if let Ok(drops) = self.socket.rx_drops() {
            self.counters.dropped(PortDrop::RxRingFull, drops.saturating_sub(self.known_drops));
            self.known_drops = drops;
        }
        self.counters
    }
}
