//! Removals that the controller has not been told of yet.

use crate::openflow::FlowRemoved;
use zerocopy::FromZeros;

/// Most removals that wait. A front-end polls after every burst and tick, so only a mass removal fills this.
const ROOM: usize = 64;
const _: () = assert!(ROOM.is_power_of_two(), "positions wrap by a mask");

/// A queue of bounded length; what does not fit is counted.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub(super) struct Removals {
    slots: [FlowRemoved; ROOM],
    first: u32,
    count: u32,
    lost: u64,
}

const fn wrap(position: u32) -> usize {
    position as usize & ROOM.wrapping_sub(1)
}

impl Removals {
    /// Queues a removal, or counts it as lost.
    pub fn push(&mut self, removed: &FlowRemoved) {
        let end = wrap(self.first.wrapping_add(self.count));
        match self.slots.get_mut(end) {
            Some(slot) if (self.count as usize) < ROOM => {
                *slot = *removed;
                self.count = self.count.wrapping_add(1);
            }
            _ => self.lost = self.lost.wrapping_add(1),
        }
    }

    /// Whether none waits.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The oldest one.
    pub fn first(&self) -> Option<&FlowRemoved> {
        self.slots.get(self.first as usize).filter(|_| self.count != 0)
    }

    /// The oldest one has been told.
    pub fn pop(&mut self) {
        if let Some(left) = self.count.checked_sub(1) {
            self.count = left;
            self.first = wrap(self.first.wrapping_add(1)) as u32;
        }
    }

    /// Removals lost since the last call.
    pub fn take_lost(&mut self) -> u64 {
        core::mem::take(&mut self.lost)
    }
}
