//! Networks whose frames may not travel in clear.

use zerocopy::{FromZeros, Immutable, KnownLayout};

/// Most networks that can be marked "encrypted only".
pub const MAX_ENCRYPTED_ONLY: usize = 64;

/// A set of VNIs. All-zero memory is the empty set.
#[derive(Clone, Debug, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub struct EncryptedOnly {
    len: u32,
    vnis: [u32; MAX_ENCRYPTED_ONLY],
}

impl EncryptedOnly {
    /// Whether frames of `vni` must be encrypted.
    #[inline]
    pub fn contains(&self, vni: u32) -> bool {
        self.len > 0 && self.vnis().any(|other| other == vni)
    }

    /// Adds or removes `vni`. `false`, and nothing is changed, if the set is full.
    pub fn set(&mut self, vni: u32, on: bool) -> bool {
        let at = self.vnis().position(|other| other == vni);
        match (at, on) {
            (None, true) => match self.vnis.get_mut(self.len as usize) {
                Some(slot) => {
                    *slot = vni;
                    self.len = self.len.wrapping_add(1);
                    true
                }
                None => false,
            },
            (Some(at), false) => {
                self.len = self.len.wrapping_sub(1);
                let last = self.vnis.get(self.len as usize).copied().unwrap_or(0);
                if let Some(slot) = self.vnis.get_mut(at) {
                    *slot = last;
                }
                true
            }
            _ => true,
        }
    }

    /// The members, in no particular order.
    pub fn vnis(&self) -> impl Iterator<Item = u32> + '_ {
        self.vnis.iter().take(self.len as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set() {
        let mut set = EncryptedOnly::new_zeroed();
        assert!(!set.contains(0));
        assert!((0..64).all(|vni| set.set(vni, true)) && set.set(5, true));
        assert!(!set.set(64, true), "full");
        assert!(set.set(0, false) && set.set(0, false) && !set.contains(0) && set.contains(63));
        assert!(set.set(64, true) && set.contains(64));
        assert_eq!(set.vnis().count(), 64);
    }
}
