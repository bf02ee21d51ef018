//! A match: field values and the mask that says which bits count.

use crate::key::{Field, FlowKey};
use zerocopy::{FromZeros, Immutable, KnownLayout};

/// Which frames an entry applies to. Kept canonical: `value` never has a bit outside `mask`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromZeros, Immutable, KnownLayout)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub struct Match {
    value: FlowKey,
    mask: FlowKey,
}

impl Match {
    /// Matches every frame.
    pub const ANY: Self = Self { value: FlowKey::ZERO, mask: FlowKey::ZERO };

    /// A match from a value and a mask; value bits outside the mask are dropped.
    pub fn new(value: FlowKey, mask: FlowKey) -> Self {
        Self { value: value.masked(&mask), mask }
    }

    /// The same match with `field` required to equal `value`.
    #[must_use]
    pub fn with(self, field: Field, value: u64) -> Self {
        self.with_masked(field, value, field.max())
    }

    /// The same match with the bits `mask` of `field` required to equal those of `value`.
    #[must_use]
    pub fn with_masked(mut self, field: Field, value: u64, mask: u64) -> Self {
        self.mask.set(field, mask);
        self.value.set(field, value & mask);
        self
    }

    /// The values; 0 where the mask is 0.
    pub const fn value(&self) -> &FlowKey {
        &self.value
    }

    /// The mask: 1 bits must match.
    pub const fn mask(&self) -> &FlowKey {
        &self.mask
    }

    /// Whether a frame with `key` matches.
    pub fn covers(&self, key: &FlowKey) -> bool {
        key.matches(&self.value, &self.mask)
    }

    /// Whether every frame that matches `other` also matches `self` (OpenFlow's non-strict test).
    pub fn contains(&self, other: &Self) -> bool {
        self.mask.masked(&other.mask) == self.mask && other.value.masked(&self.mask) == self.value
    }

    /// Whether some frame could match both (OpenFlow's CHECK_OVERLAP test, priorities aside).
    pub fn overlaps(&self, other: &Self) -> bool {
        let common = self.mask.masked(&other.mask);
        self.value.masked(&common) == other.value.masked(&common)
    }
}
