//! A virtio device that lies, below the image's network driver.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has found something"
)]

use cvsw_smoltcp::Nic;
use cvsw_unikernel::{
    nic::{BUFFER_LEN, BUFFERS, Memory, VirtioNic},
    sys::{Broken, HEADER_LEN, RING, Rings},
};
use smoltcp::time::Instant;
use std::{cell::RefCell, collections::VecDeque, ptr::NonNull, rc::Rc};
use virtio_drivers::{
    BufferDirection, Hal, PhysAddr, Result,
    transport::{DeviceStatus, DeviceType, InterruptStatus, Transport},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const RX: u16 = 0;
const TX: u16 = 1;

/// The test's own memory, as a machine's: physical and virtual addresses are the same.
struct Host;

// SAFETY: pages are allocated zeroed, with their alignment, and live as long as the test.
unsafe impl Hal for Host {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let pages = Box::leak(vec![Page([0; 4096]); pages].into_boxed_slice());
        let start = NonNull::from(pages).cast::<u8>();
        (start.as_ptr() as PhysAddr, start)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::dangling()
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// A page of memory: only its size and place count.
#[derive(Clone)]
#[repr(align(4096))]
struct Page(#[allow(dead_code, reason = "reached through its address only")] [u8; 4096]);

/// One ring as the device sees it (virtio 1.x section 2.7).
#[derive(Clone, Copy, Default)]
struct Ring {
    descriptors: u64,
    driver: u64,
    device: u64,
    seen: u16,
    used: u16,
}

impl Ring {
    /// The next buffer that the driver offers: descriptor, address, length.
    fn next(&mut self) -> Option<(u16, u64, u32)> {
        // SAFETY: the driver said that its ring of `RING` entries is here.
        let (offered, id) = unsafe {
            let ring = self.driver as *const u16;
            (ring.add(1).read_volatile(), ring.add(2 + usize::from(self.seen) % RING).read_volatile())
        };
        if offered == self.seen {
            return None;
        }
        self.seen = self.seen.wrapping_add(1);
        // SAFETY: a descriptor of 16 bytes in the table of `RING` entries.
        let (address, len) = unsafe {
            let descriptor = (self.descriptors + 16 * u64::from(id)) as *const u64;
            (descriptor.read_volatile(), descriptor.add(1).cast::<u32>().read_volatile())
        };
        Some((id, address, len))
    }

    /// Says that descriptor `id` was used, and `len` bytes of it.
    fn give(&mut self, id: u32, len: u32) {
        // SAFETY: the used ring of `RING` entries: flags, index, pairs of descriptor and length.
        unsafe {
            let ring = self.device as *mut u16;
            let entry = ring.add(2).cast::<u32>().add(2 * (usize::from(self.used) % RING));
            entry.write_volatile(id);
            entry.add(1).write_volatile(len);
            self.used = self.used.wrapping_add(1);
            ring.add(1).write_volatile(self.used);
        }
    }
}

/// The device, shared between driver and test.
#[derive(Clone, Default)]
struct Device(Rc<RefCell<[Ring; 2]>>);

impl Device {
    fn ring<T>(&self, queue: u16, work: impl FnOnce(&mut Ring) -> T) -> T {
        work(&mut self.0.borrow_mut()[usize::from(queue)])
    }

    /// Receives `frame` into the next buffer and claims `len` bytes, header included. Whether there was a buffer.
    fn receive(&self, frame: &[u8], len: u32) -> bool {
        self.ring(RX, |ring| {
            let Some((id, address, room)) = ring.next() else { return false };
            let start = address as *mut u8;
            for (at, byte) in frame.iter().take(room as usize - HEADER_LEN).enumerate() {
                // SAFETY: inside the buffer that the driver offered.
                unsafe { start.add(HEADER_LEN + at).write_volatile(*byte) };
            }
            ring.give(u32::from(id), len);
            true
        })
    }
}

impl Transport for Device {
    fn device_type(&self) -> DeviceType {
        DeviceType::Network
    }
    fn read_device_features(&mut self) -> u64 {
        1 << 32 // VIRTIO_F_VERSION_1
    }
    fn write_driver_features(&mut self, _: u64) {}
    fn max_queue_size(&mut self, _: u16) -> u32 {
        256
    }
    fn notify(&mut self, _: u16) {}
    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::empty()
    }
    fn set_status(&mut self, _: DeviceStatus) {}
    fn set_guest_page_size(&mut self, _: u32) {}
    fn requires_legacy_layout(&self) -> bool {
        false
    }
    fn queue_set(&mut self, queue: u16, size: u32, descriptors: u64, driver: u64, device: u64) {
        assert_eq!(size as usize, RING);
        self.ring(queue, |ring| *ring = Ring { descriptors, driver, device, ..Ring::default() });
    }
    fn queue_unset(&mut self, _: u16) {}
    fn queue_used(&mut self, _: u16) -> bool {
        false
    }
    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }
    fn read_config_generation(&self) -> u32 {
        0
    }
    fn read_config_space<T: FromBytes + IntoBytes>(&self, _: usize) -> Result<T> {
        Ok(T::new_zeroed())
    }
    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> Result<()> {
        Ok(())
    }
}

fn nic() -> (Device, VirtioNic<Host, Device>) {
    let device = Device::default();
    let memory: &'static mut [Memory; BUFFERS] = Box::leak(Box::new([[0; BUFFER_LEN]; BUFFERS]));
    let nic = VirtioNic::new(Rings::new(device.clone()).unwrap(), memory);
    (device, nic)
}

const NOW: Instant = Instant::ZERO;

#[test]
fn frames_go_through_unchanged() {
    let (device, mut nic) = nic();
    for round in 0..1000_usize {
        let frame: Vec<u8> = (0..60 + round % 1455).map(|at| (at * round) as u8).collect();
        assert!(device.receive(&frame, (HEADER_LEN + frame.len()) as u32), "no buffer in round {round}");
        let received = nic.receive(NOW).unwrap();
        assert!(received.bytes() == frame, "round {round}");
        nic.transmit(NOW, received);
        let (id, address, len) = device.ring(TX, Ring::next).expect("a frame to send");
        // SAFETY: what the driver offered.
        let sent = unsafe { std::slice::from_raw_parts(address as *const u8, len as usize) };
        assert_eq!(sent[..HEADER_LEN], [0; HEADER_LEN], "the virtio header");
        assert!(sent[HEADER_LEN..] == frame, "round {round}");
        device.ring(TX, |ring| ring.give(u32::from(id), 0));
        let buffer = nic.allocate(NOW).unwrap();
        nic.recycle(buffer);
    }
    assert_eq!((nic.counters().rx_frames, nic.counters().tx_frames), (1000, 1000));
}

#[test]
fn bad_lengths_cost_their_frame_only() {
    let (device, mut nic) = nic();
    let room = (BUFFER_LEN - HEADER_LEN) as u32;
    let bad = [0, 1, HEADER_LEN as u32 - 1, room + 1, BUFFER_LEN as u32 + 1, 65_536, u32::MAX];
    for round in 0..500 {
        for len in bad {
            assert!(device.receive(&[1; 60], len), "no buffer in round {round}");
        }
        assert!(device.receive(&[2; 60], 72));
        let frame = nic.receive(NOW).expect("the good frame behind the bad ones");
        assert_eq!(frame.bytes(), [2; 60]);
        nic.recycle(frame.into_buffer());
        assert!(nic.receive(NOW).is_none());
    }
    assert_eq!(nic.counters().rx_bad_length, 500 * bad.len() as u64);
    assert_eq!(nic.counters().rx_frames, 500);
    assert_eq!(nic.broken(), None);
}

#[test]
fn a_buffer_that_the_device_does_not_have_ends_it() {
    for id in [64, 65_535, 65_536 + 64] {
        let (device, mut nic) = nic();
        device.ring(RX, |ring| ring.give(id, 72));
        assert!(nic.receive(NOW).is_none());
        assert_eq!(nic.broken(), Some(Broken::Receive(id as u16)));
        assert!(nic.allocate(NOW).is_none() && nic.receive(NOW).is_none() && !nic.has_received());
    }
    let (device, mut nic) = nic();
    device.ring(TX, |ring| ring.give(3, 0));
    assert!(nic.allocate(NOW).is_none());
    assert_eq!(nic.broken(), Some(Broken::Transmit(3)));
}

#[test]
fn the_same_buffer_twice_ends_it_too() {
    let (device, mut nic) = nic();
    let (id, ..) = device.ring(RX, Ring::next).unwrap();
    device.ring(RX, |ring| ring.give(u32::from(id), 72));
    let held = nic.receive(NOW);
    device.ring(RX, |ring| ring.give(u32::from(id), 72));
    assert!(nic.receive(NOW).is_none());
    assert_eq!(nic.broken(), Some(Broken::Receive(id)));
    assert!(held.is_some());
}

#[test]
fn a_device_that_sends_nothing_does_not_take_all_buffers() {
    let (device, mut nic) = nic();
    let mut held = VecDeque::new();
    while let Some(buffer) = nic.allocate(NOW) {
        let frame = cvsw_core::Frame::new(buffer, 100, 60).unwrap();
        nic.transmit(NOW, frame);
        held.push_back(());
        assert!(held.len() <= 10 * BUFFERS, "frames are neither sent nor refused");
        if nic.counters().tx_full > 0 {
            break;
        }
    }
    // Receiving goes on.
    assert!(device.receive(&[7; 60], 72));
    assert_eq!(nic.receive(NOW).map(|frame| frame.len()), Some(60));
}
