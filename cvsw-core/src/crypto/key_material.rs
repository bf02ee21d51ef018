//! Secret key material.

use super::Suite;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Most bytes of key material that a suite has.
pub const MAX_KEY_MATERIAL: usize = 68;

/// Keys and salt of one security association. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct KeyMaterial {
    suite: Suite,
    /// AES key, salt, HMAC key; zeros behind.
    bytes: [u8; MAX_KEY_MATERIAL],
}

/// Key material of the wrong length for its suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BadKeyLength {
    /// What the suite wants, in bytes ([`Suite::key_material_len`]).
    pub expected: usize,
    /// What was given, in bytes.
    pub given: usize,
}

impl core::fmt::Display for BadKeyLength {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes of key material, the suite wants {}", self.given, self.expected)
    }
}

impl core::error::Error for BadKeyLength {}

impl KeyMaterial {
    /// Key material for `suite`: AES key, 4 bytes of salt, HMAC key if the suite has one, in this order.
    ///
    /// # Errors
    /// [`BadKeyLength`] unless it is exactly [`Suite::key_material_len`] bytes.
    pub fn new(suite: Suite, material: &[u8]) -> Result<Self, BadKeyLength> {
        let mut this = Self { suite, bytes: [0; MAX_KEY_MATERIAL] };
        match this.bytes.get_mut(..suite.key_material_len()) {
            Some(bytes) if bytes.len() == material.len() => {
                bytes.copy_from_slice(material);
                Ok(this)
            }
            _ => Err(BadKeyLength { expected: suite.key_material_len(), given: material.len() }),
        }
    }

    /// The suite that it is for.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The AES key.
    pub fn cipher_key(&self) -> &[u8] {
        self.bytes.get(..self.suite.cipher_key_len()).unwrap_or_default()
    }

    /// The salt: first bytes of every nonce.
    pub fn salt(&self) -> [u8; Suite::SALT_LEN] {
        let salt = self.bytes.get(self.suite.cipher_key_len()..).and_then(<[u8]>::first_chunk);
        salt.copied().unwrap_or_default()
    }

    /// The HMAC key; empty if the suite has none.
    pub fn mac_key(&self) -> &[u8] {
        let end = self.suite.key_material_len();
        self.bytes.get(end.saturating_sub(self.suite.mac_key_len())..end).unwrap_or_default()
    }
}

impl Drop for KeyMaterial {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl ZeroizeOnDrop for KeyMaterial {}

impl core::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeyMaterial").field("suite", &self.suite).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    use super::*;

    fn counting<const N: usize>() -> [u8; N] {
        core::array::from_fn(|index| index as u8 + 1)
    }

    #[test]
    fn parts_in_order() {
        let bytes = counting::<MAX_KEY_MATERIAL>();
        for suite in Suite::ALL {
            let key = KeyMaterial::new(suite, &bytes[..suite.key_material_len()]).unwrap();
            let (cipher, rest) = bytes.split_at(suite.cipher_key_len());
            assert_eq!(key.cipher_key(), cipher);
            assert_eq!(key.salt(), rest[..4]);
            assert_eq!(key.mac_key(), &rest[4..4 + suite.mac_key_len()]);
        }
    }

    #[test]
    fn other_lengths_are_refused() {
        for suite in Suite::ALL {
            for given in [0, 16, suite.key_material_len() - 1, suite.key_material_len() + 1, 1000] {
                let error = KeyMaterial::new(suite, &std::vec![1; given]).unwrap_err();
                assert_eq!(error, BadKeyLength { expected: suite.key_material_len(), given });
            }
        }
    }

    #[test]
    fn debug_output_holds_no_key() {
        let key = KeyMaterial::new(Suite::Aes128Gcm, &[0xab; 20]).unwrap();
        assert_eq!(std::format!("{key:?}"), "KeyMaterial { suite: Aes128Gcm, .. }");
    }
}
