//! Any smoltcp device as a [`Nic`], at the price of one copy each way.

use crate::nic::{HEADROOM, Nic};
use cvsw_core::{Frame, mtu::L2Mtu};
use heapless::Vec;
use smoltcp::{
    phy::{Device, Medium, RxToken, TxToken},
    time::Instant,
};

/// Buffers that are in use at once: a received frame, the answer to it, a control frame.
const BUFFERS: usize = 3;

/// The device does not carry Ethernet frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NotEthernet;

impl core::fmt::Display for NotEthernet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the device does not carry Ethernet frames: a CVSW needs Medium::Ethernet")
    }
}

impl core::error::Error for NotEthernet {}

/// What a [`PhyNic`] could not carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PhyNicCounters {
    /// Received frames that are longer than a buffer behind its headroom.
    pub rx_too_big: u64,
    /// Frames that the device had no room for when they were to be sent.
    pub tx_full: u64,
}

/// A smoltcp device with buffers of its own.
#[derive(Debug)]
pub struct PhyNic<'b, P> {
    phy: P,
    free: Vec<&'b mut [u8], BUFFERS>,
    buffer_len: usize,
    counters: PhyNicCounters,
}

impl<'b, P: Device> PhyNic<'b, P> {
    /// The device `phy` with the caller's memory for frames; all buffers count as long as the shortest one.
    ///
    /// # Errors
    /// `NotEthernet` for a device of another medium.
    pub fn new(phy: P, buffers: [&'b mut [u8]; BUFFERS]) -> Result<Self, NotEthernet> {
        if phy.capabilities().medium != Medium::Ethernet {
            return Err(NotEthernet);
        }
        let buffer_len = buffers.iter().map(|buffer| buffer.len()).min().unwrap_or(0);
        Ok(Self { phy, free: Vec::from_array(buffers), buffer_len, counters: PhyNicCounters::default() })
    }

    /// The device.
    pub const fn phy(&self) -> &P {
        &self.phy
    }

    /// The device, to be changed.
    pub const fn phy_mut(&mut self) -> &mut P {
        &mut self.phy
    }

    /// What could not be carried.
    pub const fn counters(&self) -> PhyNicCounters {
        self.counters
    }
}

impl<'b, P: Device> Nic for PhyNic<'b, P> {
    type Buffer = &'b mut [u8];

    fn buffer_len(&self) -> usize {
        self.buffer_len
    }

    fn link_mtu(&self) -> L2Mtu {
        L2Mtu::new(u32::try_from(self.phy.capabilities().max_transmission_unit).unwrap_or(u32::MAX))
    }

    fn receive(&mut self, timestamp: Instant) -> Option<Frame<&'b mut [u8]>> {
        let buffer = self.free.pop()?;
        let Some((token, _)) = self.phy.receive(timestamp) else {
            self.recycle(buffer);
            return None;
        };
        let len = token.consume(|bytes| {
            let room = buffer.get_mut(HEADROOM..)?.get_mut(..bytes.len())?;
            room.copy_from_slice(bytes);
            Some(bytes.len())
        });
        let Some(len) = len else {
            self.counters.rx_too_big = self.counters.rx_too_big.wrapping_add(1);
            // An empty frame: the engine counts it as too short, and the next one is not held up.
            return Frame::new(buffer, HEADROOM.min(self.buffer_len), 0).ok();
        };
        Frame::new(buffer, HEADROOM, len).ok()
    }

    fn allocate(&mut self, _timestamp: Instant) -> Option<&'b mut [u8]> {
        self.free.pop()
    }

    fn transmit(&mut self, timestamp: Instant, frame: Frame<&'b mut [u8]>) {
        match self.phy.transmit(timestamp) {
            Some(token) => token.consume(frame.len(), |room| room.copy_from_slice(frame.bytes())),
            None => self.counters.tx_full = self.counters.tx_full.wrapping_add(1),
        }
        self.recycle(frame.into_buffer());
    }

    fn recycle(&mut self, buffer: &'b mut [u8]) {
        // Never full: every buffer came out of it.
        let _ = self.free.push(buffer);
    }
}
