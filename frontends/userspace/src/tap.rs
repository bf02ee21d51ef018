//! The `tap` backend: the interface that the VM sees.
//!
//! The tap is not persistent: the kernel removes it when the descriptor closes, however the process ends.

use crate::{
    netns,
    pool::{HEADROOM, Mempool},
    port::{Capabilities, FrameVec, Port, PortCounters, PortDrop, deleted},
    sys::{self, EthtoolFlag, Interface, VNET_HEADER_LEN},
    vnet::VnetHeader,
};
use cvsw_core::{BURST, control::OffloadFlags, flow::MacAddr, mtu::IpMtu};
use rustix::{fd::AsFd, io::Errno};
use std::{
    io::{self, IoSlice},
    os::fd::{BorrowedFd, OwnedFd},
};
use zerocopy::IntoBytes;

/// Features that can be switched. TSO and UFO stay off: super-segments from the VM would have to be cut before the
/// wire, which this port does not do. GSO is the kernel's own, cut in software before the tap. GRO is the flag that
/// the VM's kernel consults; frames that come one system call at a time give it little to join.
const FEATURES: [(u16, EthtoolFlag); 3] = [
    (OffloadFlags::CSUM, EthtoolFlag::TX_CHECKSUM),
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
        let label = netns.map_or_else(|| format!("tap:{name}"), |netns| format!("tap:{name},netns={netns}"));
        Ok(Self { label, fd, interface, counters: PortCounters::default() })
    }
}

impl Port for Tap {
    fn name(&self) -> &str {
        &self.label
    }

    fn rx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<usize> {
        let mut received = 0;
        while received < BURST {
            let Some(mut frame) = pool.take() else {
                self.counters.rx_no_buffer += 1;
                break;
            };
            let room = &mut frame.buffer_mut()[HEADROOM - VNET_HEADER_LEN..];
            let room_len = room.len();
            let len = match rustix::io::read(&self.fd, room) {
                Ok(len) => len,
                Err(error) => {
                    pool.put(frame);
                    match error {
                        Errno::AGAIN | Errno::INTR => break,
                        error => return Err(deleted(&error.into())),
                    }
                }
            };
            let mut header = [0; VNET_HEADER_LEN];
            header.copy_from_slice(&frame.buffer_mut()[HEADROOM - VNET_HEADER_LEN..HEADROOM]);
            // The kernel cuts what does not fit without a word; the pool's tailroom makes that detectable.
            let result = if len >= room_len {
                Err(PortDrop::RxTooBig)
            } else {
                VnetHeader::from_array(header).offload().map_err(|_| PortDrop::RxBadOffload)
            };
            match (result, len.checked_sub(VNET_HEADER_LEN)) {
                (Ok(offload), Some(len)) if frame.reset(HEADROOM, len).is_ok() => {
                    frame.offload = offload;
                    self.counters.received(len);
                    frames.push(frame);
                    received += 1;
                }
                (result, _) => {
                    self.counters.dropped(result.err().unwrap_or(PortDrop::RxTooBig), 1);
                    pool.put(frame);
                }
            }
        }
        Ok(received)
    }

    fn tx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<()> {
        for frame in frames.drain(..) {
            let header = VnetHeader::from(&frame.offload);
            let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(frame.bytes())];
            match rustix::io::writev(&self.fd, &parts) {
                Ok(_) => self.counters.sent(frame.len()),
                // EIO: the VM has taken the interface down.
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::IO) => {
                    self.counters.dropped(PortDrop::TxFull, 1);
                }
                Err(error @ Errno::BADFD) => return Err(deleted(&error.into())),
                Err(_) => self.counters.dropped(PortDrop::TxError, 1),
            }
            pool.put(frame);
        }
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
        OffloadFlags(FEATURES.iter().filter(|(_, flag)| is_on(*flag)).fold(0, |bits, (bit, _)| bits | bit))
    }

    fn set_offload(&mut self, requested: OffloadFlags) -> io::Result<OffloadFlags> {
        sys::tap_set_checksum_offload(self.fd.as_fd(), requested.has(OffloadFlags::CSUM))?;
        for (bit, flag) in FEATURES {
            // A refusal shows in what is read back.
            let _ = self.interface.set_ethtool(flag, requested.has(bit));
        }
        Ok(self.offload())
    }

    fn counters(&mut self) -> PortCounters {
        self.counters
    }
}
