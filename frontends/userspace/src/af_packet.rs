//! The `af_packet` backend: an existing interface, through memory-mapped packet rings.
//!
//! - 802.1Q tags that the kernel keeps beside the frame are put back in.
//! - A sender on the same machine (veth) may leave checksums unfinished or send super-frames. The virtio header
//!   tells; the metadata goes into [`cvsw_core::Frame::offload`]. Super-frames are cut into the frames that a wire
//!   would have carried. One that does not fit its slot costs a system call; turn off `tso` and `gso` at such a sender
//!   if that matters.
//! - The largest frame follows from the interface's MTU at the time of opening; start anew after raising it.
//! - Transmitted frames are complete, since the peer may be a switch in userspace that ignores metadata. Those of a burst
//!   that continue each other (TCP segments, datagrams of one size, tunnel packets) go to the kernel as one super-frame in
//!   one call, and the kernel cuts it again before the interface. That is sure only if the interface offers no checksum
//!   offload when it is opened (`ethtool -K IFACE tx off`): a veth that offers it would pass the super-frame on as it is.

use crate::{
    netns,
    pool::{HEADROOM, Mempool, PoolFrame},
    port::{Capabilities, FrameVec, Port, PortCounters, PortDrop, deleted},
    super_frame::{SuperFrame, insert_tag},
    sys::{self, EthtoolFlag, Interface, PacketRing, RxSlot, VNET_HEADER_LEN},
    vnet::VnetHeader,
};
use cvsw_core::{
    BURST, Checksum, GsoKind,
    flow::MacAddr,
    mtu::{IpMtu, L2Mtu},
    segment::{Coalescer, HEAD_MAX},
};
use rustix::{fd::AsFd, io::Errno};
use std::{
    io::{self, IoSlice},
    os::fd::{BorrowedFd, OwnedFd},
};
use zerocopy::IntoBytes;

const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
/// Memory for each ring, unless its fewest slots need more.
const RING_BYTES: usize = 4 << 20;
const SLOTS: std::ops::RangeInclusive<usize> = 64..=2048;

/// A packet socket with rings on one interface.
#[derive(Debug)]
pub struct AfPacket {
    label: String,
    ring: PacketRing,
    /// Sends super-frames.
    sender: OwnedFd,
    /// Finds frames to be joined. `None`: the interface might let super-frames out.
    coalescer: Option<Box<Coalescer<BURST>>>,
    /// Whether frames wait in the transmit ring for the kernel to be told.
    queued: bool,
    interface: Interface,
    /// Longest frame, one 802.1Q tag included.
    max_frame: usize,
    counters: PortCounters,
    /// The super-frame that is being cut.
    super_frame: SuperFrame,
}

impl AfPacket {
    /// Attaches to interface `name` of network namespace `netns` (`None`: this one). The interface should have
    /// no address of its own: its kernel stack sees the same frames.
    pub fn open(name: &str, netns: Option<&str>) -> io::Result<Self> {
        netns::within(netns, || {
            let interface = Interface::open(name)?;
            interface.mac()?;
            let mtu = usize::try_from(interface.mtu()?).unwrap_or(0);
            let max_frame = mtu + ETHERNET_HEADER + VLAN_TAG;
            let slots = (RING_BYTES / max_frame.next_power_of_two()).clamp(*SLOTS.start(), *SLOTS.end());
            let ring = PacketRing::open(interface.index()?, slots, max_frame)?;
            let offloads = interface.ethtool(EthtoolFlag::TX_CHECKSUM).unwrap_or(true);
            let sender = sys::packet_sender(interface.index()?)?;
            let label =
                netns.map_or_else(|| format!("af_packet:{name}"), |ns| format!("af_packet:{name},netns={ns}"));
            Ok(Self {
                label,
                ring,
                sender,
                coalescer: (!offloads).then(|| Box::new(Coalescer::for_transmission())),
                queued: false,
                interface,
                max_frame,
                counters: PortCounters::default(),
                super_frame: SuperFrame::new(),
            })
        })
    }

    /// Copies one frame into the transmit ring.
    fn queue(&mut self, frame: &PoolFrame) -> Result<(), PortDrop> {
        check_transmit(frame, self.max_frame)?;
        let slot = self.ring.tx_slot().ok_or(PortDrop::TxFull)?;
        let len = VNET_HEADER_LEN + frame.len();
        let (header, body) = slot.get_mut(..len).ok_or(PortDrop::TxTooBig)?.split_at_mut(VNET_HEADER_LEN);
        header.copy_from_slice(VnetHeader::from(&frame.offload).as_bytes());
        body.copy_from_slice(frame.bytes());
        self.ring.tx_commit(len);
        self.queued = true;
        Ok(())
    }

    /// Queues one frame, or counts why not.
    fn send_alone(&mut self, frame: &PoolFrame) {
        match self.queue(frame) {
            Ok(()) => self.counters.sent(frame.len()),
            Err(reason) => self.counters.dropped(reason, 1),
        }
    }

    /// Sends `frames`, those that continue each other as one.
    fn send_groups(&mut self, coalescer: &mut Coalescer<BURST>, frames: &FrameVec) -> io::Result<()> {
        coalescer.plan(frames);
        for first in 0..frames.len() {
            if coalescer.is_first(first) && !self.send_joined(coalescer, first, frames)? {
                coalescer.members(first).for_each(|index| self.send_alone(&frames[index]));
            }
        }
        Ok(())
    }

    /// Sends the group of frames that `first` begins as one. `false`: it is alone, or the kernel does not take it so.
    fn send_joined(&mut self, coalescer: &Coalescer<BURST>, first: usize, frames: &FrameVec) -> io::Result<bool> {
        let mut head = [0; HEAD_MAX];
        let Some((head_len, offload)) = coalescer.head(first, frames, &mut head) else { return Ok(false) };
        // The first is the longest.
        if check_transmit(&frames[first], self.max_frame).is_err() {
            return Ok(false);
        }
        if self.queued {
            // What stands before it on the way stays before it.
            self.flush()?;
        }
        let header = VnetHeader::from(&offload);
        let mut parts = [IoSlice::new(&[]); BURST + 2];
        parts[0] = IoSlice::new(header.as_bytes());
        parts[1] = IoSlice::new(&head[..head_len]);
        let mut members = 0;
        for (part, index) in parts[2..].iter_mut().zip(coalescer.members(first)) {
            *part = IoSlice::new(coalescer.payload(index, frames));
            members += 1;
        }
        match rustix::io::writev(&self.sender, &parts[..members + 2]) {
            Ok(_) => {
                coalescer.members(first).for_each(|index| self.counters.sent(frames[index].len()));
                self.counters.tx_super_frames += 1;
                Ok(true)
            }
            Err(
                error @ (Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::NXIO | Errno::NODEV | Errno::NETDOWN),
            ) => {
                self.counters.dropped(PortDrop::TxFull, members as u64);
                self.survive(error.into()).map(|()| true)
            }
            Err(_) => Ok(false),
        }
    }

    /// `Err` if the interface is gone; an interface that is only down comes back.
    fn survive(&self, error: io::Error) -> io::Result<()> {
        match Errno::from_io_error(&error) {
            Some(Errno::NXIO | Errno::NODEV | Errno::NETDOWN) => match self.interface.index() {
                Ok(_) => Ok(()),
                Err(_) => Err(deleted(&error)),
            },
            // EAGAIN, ENOBUFS: the frames stay in the ring for the next push.
            _ => Ok(()),
        }
    }
}

impl Port for AfPacket {
    fn name(&self) -> &str {
        &self.label
    }

    fn rx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<usize> {
        let mut received = self.super_frame.cut(pool, frames, &mut self.counters);
        while received < BURST && !self.super_frame.is_pending() {
            let Some(slot) = self.ring.rx_peek() else { break };
            if is_super(&slot) {
                let result = begin(&mut self.super_frame, &self.ring, &slot, &mut self.counters);
                result.unwrap_or_else(|reason| self.counters.dropped(reason, 1));
                self.ring.rx_release();
                received += self.super_frame.cut(pool, frames, &mut self.counters);
                continue;
            }
            let Some(mut frame) = pool.take() else {
                self.counters.rx_no_buffer += 1;
                break;
            };
            match fill(&mut frame, &slot) {
                Ok(()) => {
                    self.counters.received(frame.len());
                    frames.push(frame);
                    received += 1;
                }
                Err(reason) => {
                    self.counters.dropped(reason, 1);
                    pool.put(frame);
                }
            }
            self.ring.rx_release();
        }
        Ok(received)
    }

    fn tx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<()> {
        if self.ring.tx_slot().is_none() {
            // The kernel still holds the oldest frames; one push, no waiting.
            self.flush()?;
        }
        match self.coalescer.take() {
            Some(mut coalescer) => {
                let sent = self.send_groups(&mut coalescer, frames);
                self.coalescer = Some(coalescer);
                sent?;
            }
            None => frames.iter().for_each(|frame| self.send_alone(frame)),
        }
        pool.put_all(frames);
        if self.queued { self.flush() } else { Ok(()) }
    }

    fn tx_pending(&self) -> bool {
        self.ring.tx_pending()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.queued = false;
        self.ring.tx_kick().or_else(|error| self.survive(error))
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ring.as_fd())
    }

    fn poll_error(&mut self) -> io::Result<()> {
        self.ring.take_error().or_else(|error| self.survive(error))?;
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
        if let Ok(drops) = self.ring.take_rx_drops() {
            self.counters.dropped(PortDrop::RxRingFull, drops);
        }
        self.counters
    }
}

/// Whether a received frame needs more than a copy out of its slot.
fn is_super(slot: &RxSlot<'_>) -> bool {
    let gso = VnetHeader::from_array(slot.vnet).offload().is_ok_and(|offload| offload.gso.kind != GsoKind::None);
    gso || slot.whole_waits
}

/// Copies a super-frame out of the ring, or from behind it, and begins to cut it.
fn begin(
    super_frame: &mut SuperFrame,
    ring: &PacketRing,
    slot: &RxSlot<'_>,
    counters: &mut PortCounters,
) -> Result<(), PortDrop> {
    let room = super_frame.buffer_mut();
    let mut vnet = slot.vnet;
    let end = if slot.whole_waits {
        let len = ring.rx_whole(room).map_err(|_| PortDrop::RxTooBig)?;
        vnet.copy_from_slice(&room[..VNET_HEADER_LEN]);
        len
    } else {
        let end = VNET_HEADER_LEN + slot.bytes.len();
        room.get_mut(VNET_HEADER_LEN..end).ok_or(PortDrop::RxTooBig)?.copy_from_slice(slot.bytes);
        end
    };
    let offload = VnetHeader::from_array(vnet).offload().map_err(|_| PortDrop::RxBadOffload)?;
    // Also an ordinary frame that is longer than the interface's MTU says.
    if end != VNET_HEADER_LEN + slot.len || offload.gso.kind == GsoKind::None {
        return Err(PortDrop::RxTooBig);
    }
    super_frame.begin(VNET_HEADER_LEN, end, &offload, slot.vlan, counters)
}

/// Copies a received frame out of the ring.
fn fill(frame: &mut PoolFrame, slot: &RxSlot<'_>) -> Result<(), PortDrop> {
    let mut offload = VnetHeader::from_array(slot.vnet).offload().map_err(|_| PortDrop::RxBadOffload)?;
    if slot.len > slot.bytes.len() {
        return Err(PortDrop::RxTooBig);
    }
    frame.reset(HEADROOM, slot.len).map_err(|_| PortDrop::RxTooBig)?;
    frame.bytes_mut().copy_from_slice(slot.bytes);
    if let Some(tag) = slot.vlan {
        insert_tag(frame, tag).map_err(|_| PortDrop::RxTooBig)?;
        // The kernel's offset does not count the tag that it took out.
        if let Checksum::Partial { start, .. } = &mut offload.checksum {
            *start = start.saturating_add(tag.len() as u16);
        }
    }
    frame.offload = offload;
    Ok(())
}

/// What the kernel would refuse without saying which frame it was.
fn check_transmit(frame: &PoolFrame, max_frame: usize) -> Result<(), PortDrop> {
    if frame.len() < ETHERNET_HEADER {
        return Err(PortDrop::TxTooShort);
    }
    if frame.offload.gso.kind != GsoKind::None {
        return Err(PortDrop::TxGsoUnsupported);
    }
    if frame.len() > max_frame {
        return Err(PortDrop::TxTooBig);
    }
    match frame.offload.checksum {
        Checksum::Partial { start, offset } if usize::from(start) + usize::from(offset) + 2 > frame.len() => {
            Err(PortDrop::TxBadChecksum)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(slot: &RxSlot<'_>) -> Result<PoolFrame, PortDrop> {
        let mut frame = Mempool::new(1, 2304).take().unwrap();
        fill(&mut frame, slot).map(|()| frame)
    }

    fn slot<'a>(vnet: [u8; VNET_HEADER_LEN], bytes: &'a [u8], len: usize, vlan: Option<[u8; 4]>) -> RxSlot<'a> {
        RxSlot { vnet, bytes, len, vlan, whole_waits: false }
    }

    #[test]
    fn a_tag_that_was_taken_out_shifts_the_metadata_when_it_goes_back() {
        let checksum = Checksum::Partial { start: 34, offset: 16 };
        let offload = cvsw_core::Offload { checksum, ..cvsw_core::Offload::default() };
        let mut vnet = [0; VNET_HEADER_LEN];
        vnet.copy_from_slice(VnetHeader::from(&offload).as_bytes());
        let bytes: Vec<u8> = (0..100).collect();
        let frame = filled(&slot(vnet, &bytes, 100, Some([0x81, 0, 0xe0, 7]))).unwrap();
        let expected = [&bytes[..12], &[0x81, 0, 0xe0, 7], &bytes[12..]].concat();
        assert_eq!(frame.bytes(), expected);
        assert_eq!(frame.offload.checksum, Checksum::Partial { start: 38, offset: 16 });
    }

    #[test]
    fn odd_slots_are_refused_or_copied_never_a_panic() {
        let vnet = [0; VNET_HEADER_LEN];
        let vlan = Some([0x81, 0, 0, 7]);
        assert!(matches!(filled(&slot(vnet, &[1; 50], 51, None)), Err(PortDrop::RxTooBig)));
        assert!(matches!(filled(&slot(vnet, &[1; 4000], 4000, vlan)), Err(PortDrop::RxTooBig)));
        assert!(matches!(filled(&slot([0xff; VNET_HEADER_LEN], &[1; 60], 60, vlan)), Err(PortDrop::RxBadOffload)));
        for len in 0..14 {
            let frame = filled(&slot(vnet, &[1; 14][..len], len, vlan)).unwrap();
            assert_eq!(frame.len(), len + 4);
        }
    }
}
