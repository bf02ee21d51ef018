//! Targets without atomic operations on 64 bits: no association can be shared there, and nothing here is ever called.

use super::ReplayWindow;

/// There is none on this target.
#[derive(Debug)]
pub enum SharedSa {}

impl SharedSa {
    pub(super) const fn begin(&self, _: u64, _: u64, _: &ReplayWindow) {
        match *self {}
    }

    pub(super) const fn end(&self) {
        match *self {}
    }

    pub(super) const fn is_of(&self, _: u64) -> bool {
        match *self {}
    }

    pub(super) const fn sequence(&self) -> u64 {
        match *self {}
    }

    pub(super) const fn take_number(&self, _: u64) -> Option<u64> {
        match *self {}
    }

    pub(super) const fn count(&self, _: u64) {
        match *self {}
    }

    pub(super) const fn counted(&self) -> (u64, u64) {
        match *self {}
    }

    pub(super) const fn window(&self) -> &Self {
        self
    }

    pub(super) const fn is_fresh(&self, _: u64) -> bool {
        match *self {}
    }

    pub(super) const fn accept(&self, _: u64) -> bool {
        match *self {}
    }

    pub(super) const fn extend(&self, _: u32) -> Option<u64> {
        match *self {}
    }
}
