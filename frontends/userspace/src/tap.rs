//! The `tap` backend: the interface that the VM sees.
//!
//! The tap is not persistent: the kernel removes it when the descriptor closes, however the process ends.

use crate::{
    netns,
    pool::{HEADROOM, Mempool, PoolFrame},
    port::{Capabilities, FrameVec, Port, PortCounters, PortDrop, deleted},
    super_frame::SuperFrame,
    sys::{self, EthtoolFlag, Interface, TapOffload, VNET_HEADER_LEN},
    vnet::VnetHeader,
};
use cvsw_core::{
    BURST, GsoKind,
    control::OffloadFlags,
    flow::MacAddr,
    mtu::IpMtu,
    segment::{Coalescer, HEAD_MAX},
};
use rustix::{fd::AsFd, io::Errno};
use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{BorrowedFd, OwnedFd},
};
use zerocopy::IntoBytes;

/// Features that the interface shows one by one. TSO: the VM's super-frames are cut here. GSO is the VM's kernel's own,
/// cut in software before the tap. GRO: frames towards the VM are joined here.
const FEATURES: [(u16, EthtoolFlag); 4] = [
    (OffloadFlags::CSUM, EthtoolFlag::TX_CHECKSUM),
    (OffloadFlags::TSO, EthtoolFlag::TSO),
    (OffloadFlags::GSO, EthtoolFlag::GSO),
    (OffloadFlags::GRO, EthtoolFlag::GRO),
];

/// A tap interface.
#[derive(Debug)]
pub struct Tap {
    label: String,
    fd: OwnedFd,
    interface: Interface,
    counters: PortCounters,
    /// The VM's super-frame that is being cut.
    super_frame: SuperFrame,
    /// Joins frames towards the VM; knows no groups while GRO is off.
    coalescer: Coalescer<BURST>,
    gro: bool,
    /// UDP super-frames from the VM, the successor of UFO.
    uso: bool,
}

impl Tap {
    /// Creates tap `name` in network namespace `netns` (`None`: this one), gives it `mac` (`None`: the kernel
    /// chooses) and brings it up. An interface of that name must not exist.
    pub fn create(name: &str, netns: Option<&str>, mac: Option<MacAddr>) -> io::Result<Self> {
        let (fd, interface) = netns::within(netns, || {
            let fd = sys::create_tap(name)?;
            let interface = Interface::open(name)?;
            if let Some(mac) = mac {
                interface.set_mac(mac)?;
            }
            interface.set_up()?;
            Ok((fd, interface))
        })?;
        // Kernels that take UDP super-frames from a tap are those that can also send them to one.
        let probe = TapOffload { checksum: true, uso: true, ..TapOffload::default() };
        let udp = sys::tap_set_offload(fd.as_fd(), probe).is_ok();
        sys::tap_set_offload(fd.as_fd(), TapOffload::default())?;
        let gro = interface.ethtool(EthtoolFlag::GRO)?;
        let label = netns.map_or_else(|| format!("tap:{name}"), |netns| format!("tap:{name},netns={netns}"));
        Ok(Self {
            label,
            fd,
            interface,
            counters: PortCounters::default(),
            super_frame: SuperFrame::new(),
            coalescer: Coalescer::new(udp),
            gro,
            uso: false,
        })
    }

    /// Reads one frame: an ordinary one into `frame`; of a longer one what does not fit goes straight to the large
    /// buffer. Returns the bytes read, virtio header included, and how many `frame` has room for.
    fn read(&mut self, frame: &mut PoolFrame) -> Result<(usize, usize), Errno> {
        let room = &mut frame.buffer_mut()[HEADROOM - VNET_HEADER_LEN..];
        let room_len = room.len();
        let rest = self.super_frame.buffer_mut().get_mut(room_len..).unwrap_or_default();
        let len = rustix::io::readv(&self.fd, &mut [IoSliceMut::new(room), IoSliceMut::new(rest)])?;
        Ok((len, room_len))
    }

    /// Makes what was read into `frame` a frame. `Ok(false)`: it was a super-frame, which now waits to be cut.
    fn take(&mut self, frame: &mut PoolFrame, len: usize, room_len: usize) -> Result<bool, PortDrop> {
        let mut header = [0; VNET_HEADER_LEN];
        header.copy_from_slice(&frame.buffer_mut()[HEADROOM - VNET_HEADER_LEN..HEADROOM]);
        let offload = VnetHeader::from_array(header).offload().map_err(|_| PortDrop::RxBadOffload)?;
        let frame_len = len.checked_sub(VNET_HEADER_LEN).ok_or(PortDrop::RxBadOffload)?;
        if offload.gso.kind == GsoKind::None {
            if len > room_len {
                return Err(PortDrop::RxTooBig);
            }
            frame.reset(HEADROOM, frame_len).map_err(|_| PortDrop::RxTooBig)?;
            frame.offload = offload;
            return Ok(true);
        }
        let front = &frame.buffer_mut()[HEADROOM - VNET_HEADER_LEN..];
        let front = &front[..len.min(room_len)];
        self.super_frame.buffer_mut().get_mut(..front.len()).ok_or(PortDrop::RxTooBig)?.copy_from_slice(front);
        self.super_frame.begin(VNET_HEADER_LEN, len, &offload, None, &mut self.counters)?;
        Ok(false)
    }

    /// Sends the group of frames that `first` begins, joined if there is more than one.
    fn send(&mut self, first: usize, frames: &FrameVec) -> io::Result<()> {
        let mut head = [0; HEAD_MAX];
        let mut parts = [IoSlice::new(&[]); BURST + 2];
        let joined = self.coalescer.head(first, frames, &mut head);
        let (header, members) = match joined {
            Some((_, offload)) => (VnetHeader::from(&offload), self.coalescer.members(first).count()),
            None => (VnetHeader::from(&frames[first].offload), 1),
        };
        parts[0] = IoSlice::new(header.as_bytes());
        let used = match joined {
            Some((head_len, _)) => {
                parts[1] = IoSlice::new(&head[..head_len]);
                for (part, index) in parts[2..].iter_mut().zip(self.coalescer.members(first)) {
                    *part = IoSlice::new(self.coalescer.payload(index, frames));
                }
                members + 2
            }
            None => {
                parts[1] = IoSlice::new(frames[first].bytes());
                2
            }
        };
        match rustix::io::writev(&self.fd, &parts[..used]) {
            Ok(_) => {
                let members = std::iter::once(first).chain(self.coalescer.members(first).skip(1));
                members.for_each(|index| self.counters.sent(frames[index].len()));
                self.counters.tx_super_frames += u64::from(joined.is_some());
            }
            // EIO: the VM has taken the interface down.
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::IO) => {
                self.counters.dropped(PortDrop::TxFull, members as u64);
            }
            Err(error @ Errno::BADFD) => return Err(deleted(&error.into())),
            Err(_) => self.counters.dropped(PortDrop::TxError, members as u64),
        }
        Ok(())
    }
}

impl Port for Tap {
    fn name(&self) -> &str {
        &self.label
    }

    fn rx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<usize> {
        let mut received = self.super_frame.cut(pool, frames, &mut self.counters);
        while received < BURST && !self.super_frame.is_pending() {
            let Some(mut frame) = pool.take() else {
                self.counters.rx_no_buffer += 1;
                break;
            };
            let (len, room_len) = match self.read(&mut frame) {
                Ok(read) => read,
                Err(error) => {
                    pool.put(frame);
                    match error {
                        Errno::AGAIN | Errno::INTR => break,
                        error => return Err(deleted(&error.into())),
                    }
                }
            };
            match self.take(&mut frame, len, room_len) {
                Ok(true) => {
                    self.counters.received(frame.len());
                    frames.push(frame);
                    received += 1;
                    continue;
                }
                Ok(false) => {
                    pool.put(frame);
                    received += self.super_frame.cut(pool, frames, &mut self.counters);
                }
                Err(reason) => {
                    self.counters.dropped(reason, 1);
                    pool.put(frame);
                }
            }
        }
        Ok(received)
    }

    fn tx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<()> {
        self.coalescer.plan(if self.gro { frames } else { &[] });
        for first in 0..frames.len() {
            if self.coalescer.is_first(first) {
                self.send(first, frames)?;
            }
        }
        pool.put_all(frames);
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { checksum: true, gso: true }
    }

    fn mac(&self) -> Option<MacAddr> {
        self.interface.mac().ok()
    }

    fn mtu(&self) -> Option<IpMtu> {
        self.interface.mtu().ok().and_then(|mtu| IpMtu::new(u16::try_from(mtu).unwrap_or(u16::MAX)))
    }

    fn set_mtu(&mut self, mtu: IpMtu) -> io::Result<()> {
        self.interface.set_mtu(mtu.get())
    }

    fn offload(&self) -> OffloadFlags {
        let is_on = |flag| self.interface.ethtool(flag).unwrap_or(false);
        let shown = FEATURES.iter().filter(|(_, flag)| is_on(*flag)).fold(0, |bits, (bit, _)| bits | bit);
        OffloadFlags(if self.uso { shown | OffloadFlags::UFO } else { shown })
    }

    fn set_offload(&mut self, requested: OffloadFlags) -> io::Result<OffloadFlags> {
        // The kernel refuses super-frames whose checksums it would have to fill in.
        let checksum = requested.has(OffloadFlags::CSUM);
        let wanted = TapOffload {
            checksum,
            tso: checksum && requested.has(OffloadFlags::TSO),
            uso: checksum && requested.has(OffloadFlags::UFO),
        };
        self.uso = wanted.uso && sys::tap_set_offload(self.fd.as_fd(), wanted).is_ok();
        if !self.uso {
            sys::tap_set_offload(self.fd.as_fd(), TapOffload { uso: false, ..wanted })?;
        }
        for (bit, flag) in FEATURES {
            // A refusal shows in what is read back.
            let _ = self.interface.set_ethtool(flag, requested.has(bit));
        }
        let effective = self.offload();
        self.gro = effective.has(OffloadFlags::GRO);
        Ok(effective)
    }

    fn counters(&mut self) -> PortCounters {
        self.counters
    }
}
