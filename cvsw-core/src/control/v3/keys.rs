//! The keys of a vNIC's control channel: AES-CMAC tags (RFC 4493) and AES key wrap (RFC 3394).
//!
//! Both keys are derived from the one that the operator gives to vNIC and controller, so that neither is used for two
//! purposes. Without the feature `control-keys` no key can be given, and nothing is ever authenticated.

use zerocopy::{FromZeros, Immutable, KnownLayout};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::wire::control3::TAG_LEN;

/// Bytes of a control key.
pub const CONTROL_KEY_LEN: usize = 16;
/// Bytes that wrapping adds to key material.
pub const WRAP_OVERHEAD: usize = 8;
/// What wrapping works on: key material is filled up with zeros to a multiple of it.
pub const WRAP_BLOCK: usize = 8;

/// The derived keys. All-zero: none is set. Wiped when dropped, never printed.
#[derive(Clone, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub struct ControlKeys {
    authentication: [u8; CONTROL_KEY_LEN],
    wrapping: [u8; CONTROL_KEY_LEN],
    set: bool,
}

/// A tag is wrong, a wrapped key is damaged or was wrapped with another key, or there is no key at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NotAuthentic;

/// In constant time.
impl PartialEq for ControlKeys {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |keys: &Self| keys.authentication.into_iter().chain(keys.wrapping);
        let difference = bytes(self).zip(bytes(other)).fold(0, |sum, (a, b)| sum | (a ^ b));
        core::hint::black_box(difference) == 0 && self.set == other.set
    }
}

impl Drop for ControlKeys {
    fn drop(&mut self) {
        self.authentication.zeroize();
        self.wrapping.zeroize();
        self.set = false;
    }
}

impl ZeroizeOnDrop for ControlKeys {}

impl core::fmt::Debug for ControlKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ControlKeys").field("set", &self.set).finish_non_exhaustive()
    }
}

impl ControlKeys {
    /// No key: nothing is authenticated.
    pub const NONE: Self =
        Self { authentication: [0; CONTROL_KEY_LEN], wrapping: [0; CONTROL_KEY_LEN], set: false };

    /// Whether there is a key.
    pub const fn is_set(&self) -> bool {
        self.set
    }
}

#[cfg(feature = "control-keys")]
mod with_aes {
    use super::{CONTROL_KEY_LEN, ControlKeys, NotAuthentic, TAG_LEN, WRAP_BLOCK, WRAP_OVERHEAD};
    use aes::{Aes128, cipher::KeyInit};
    use aes_kw::AesKw;
    use cmac::{Cmac, Mac};
    use zeroize::Zeroizing;

    impl ControlKeys {
        /// The keys that follow from the operator's key (NIST SP 800-108r1, counter mode with CMAC).
        pub fn derive(key: &[u8; CONTROL_KEY_LEN]) -> Self {
            let subkey = |label| derived(key, label);
            Self { authentication: *subkey(b"CVSW3 tag"), wrapping: *subkey(b"CVSW3 wrap"), set: true }
        }

        /// The tag of a message.
        ///
        /// # Errors
        /// Only without a key.
        pub fn tag(&self, message: &[u8]) -> Result<[u8; TAG_LEN], NotAuthentic> {
            Ok(self.mac(message)?.finalize().into_bytes().into())
        }

        /// Whether `tag` is the message's, compared in constant time.
        ///
        /// # Errors
        /// It is not.
        pub fn verify(&self, message: &[u8], tag: &[u8; TAG_LEN]) -> Result<(), NotAuthentic> {
            self.mac(message)?.verify(tag.into()).map_err(|_| NotAuthentic)
        }

        fn mac(&self, message: &[u8]) -> Result<Cmac<Aes128>, NotAuthentic> {
            if !self.set {
                return Err(NotAuthentic);
            }
            let mut mac = Cmac::<Aes128>::new((&self.authentication).into());
            mac.update(message);
            Ok(mac)
        }

        /// Wraps key material whose length is a multiple of [`WRAP_BLOCK`] and returns the length of the result.
        ///
        /// # Errors
        /// Without a key, for another length, or if `out` is too short.
        pub fn wrap(&self, material: &[u8], out: &mut [u8]) -> Result<usize, NotAuthentic> {
            if !self.set || material.len() < 2usize.saturating_mul(WRAP_BLOCK) {
                return Err(NotAuthentic);
            }
            self.wrapper().wrap_key(material, out).map(<[u8]>::len).map_err(|_| NotAuthentic)
        }

        /// Unwraps key material and returns its length.
        ///
        /// # Errors
        /// Without a key, if anything was changed on the way, or if `out` is too short. `out` then holds zeros.
        #[inline(never)] // so that a kernel module can name, and argue, what refers to a panic
        pub fn unwrap(&self, wrapped: &[u8], out: &mut [u8]) -> Result<usize, NotAuthentic> {
            if !self.set || wrapped.len() < 2usize.saturating_mul(WRAP_BLOCK).saturating_add(WRAP_OVERHEAD) {
                return Err(NotAuthentic);
            }
            self.wrapper().unwrap_key(wrapped, out).map(<[u8]>::len).map_err(|_| NotAuthentic)
        }

        fn wrapper(&self) -> AesKw<Aes128> {
            AesKw::new((&self.wrapping).into())
        }
    }

    /// CMAC(key, counter 1 || label || 0 || length in bits), the only block that is needed.
    fn derived(key: &[u8; CONTROL_KEY_LEN], label: &[u8]) -> Zeroizing<[u8; CONTROL_KEY_LEN]> {
        let mut mac = Cmac::<Aes128>::new(key.into());
        mac.update(&1u32.to_be_bytes());
        mac.update(label);
        mac.update(&[0]);
        mac.update(&128u32.to_be_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }

    #[cfg(test)]
    mod tests {
        #![allow(
            clippy::unwrap_used,
            clippy::indexing_slicing,
            clippy::arithmetic_side_effects,
            clippy::string_slice
        )]
        use super::*;
        use std::vec::Vec;

        fn hex(text: &str) -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        }

        fn raw(authentication: &str, wrapping: &str) -> ControlKeys {
            let key = |text: &str| hex(text).try_into().unwrap();
            ControlKeys { authentication: key(authentication), wrapping: key(wrapping), set: true }
        }

        const KEY: &str = "2b7e151628aed2a6abf7158809cf4f3c";
        const WRAP_KEY: &str = "000102030405060708090a0b0c0d0e0f";

        /// RFC 4493 section 4.
        #[test]
        fn rfc_4493() {
            let message = hex(
                "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
            );
            let rows = [
                (0, "bb1d6929e95937287fa37d129b756746"),
                (16, "070a16b46b4d4144f79bdd9dd04a287c"),
                (40, "dfa66747de9ae63030ca32611497c827"),
                (64, "51f0bebf7e3b9d92fc49741779363cfe"),
            ];
            let keys = raw(KEY, KEY);
            for (len, tag) in rows {
                let tag: [u8; 16] = hex(tag).try_into().unwrap();
                assert_eq!(keys.tag(&message[..len]), Ok(tag));
                assert_eq!(keys.verify(&message[..len], &tag), Ok(()));
                for bit in 0..128 {
                    let mut forged = tag;
                    forged[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(keys.verify(&message[..len], &forged), Err(NotAuthentic));
                }
            }
        }

        /// RFC 3394 section 4.1: 128 bits of key data with a 128-bit key.
        #[test]
        fn rfc_3394() {
            let keys = raw(KEY, WRAP_KEY);
            let data = hex("00112233445566778899aabbccddeeff");
            let wrapped = hex("1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5");
            let mut out = [0; 24];
            assert_eq!(keys.wrap(&data, &mut out), Ok(24));
            assert_eq!(out[..], wrapped);
            assert_eq!(keys.unwrap(&wrapped, &mut out), Ok(16));
            assert_eq!(out[..16], data);
            for at in 0..wrapped.len() {
                let mut damaged = wrapped.clone();
                damaged[at] ^= 0x10;
                let mut out = [0xee; 16];
                assert_eq!(keys.unwrap(&damaged, &mut out), Err(NotAuthentic));
                assert_eq!(out, [0; 16], "nothing of a key that is not authentic");
            }
            for len in [0, 8, 15, 23] {
                assert_eq!(keys.unwrap(&wrapped[..len], &mut out), Err(NotAuthentic));
                assert_eq!(keys.wrap(&data[..len.min(15)], &mut out), Err(NotAuthentic));
            }
        }

        #[test]
        fn the_derived_keys_differ() {
            let keys = ControlKeys::derive(&[7; 16]);
            assert!(keys.authentication != keys.wrapping && keys.authentication != [7; 16]);
            assert!(keys.authentication != ControlKeys::derive(&[8; 16]).authentication);
        }

        #[test]
        fn no_key_authenticates_nothing() {
            let mut out = [0; 24];
            assert_eq!(ControlKeys::NONE.tag(b"x"), Err(NotAuthentic));
            assert_eq!(ControlKeys::NONE.verify(b"x", &[0; 16]), Err(NotAuthentic));
            assert_eq!(ControlKeys::NONE.wrap(&[1; 16], &mut out), Err(NotAuthentic));
            assert_eq!(ControlKeys::NONE.unwrap(&[1; 24], &mut out), Err(NotAuthentic));
        }

        #[test]
        fn debug_output_holds_no_key() {
            assert_eq!(std::format!("{:?}", raw(KEY, KEY)), "ControlKeys { set: true, .. }");
        }
    }
}

#[cfg(not(feature = "control-keys"))]
#[allow(clippy::unused_self, reason = "the same face with and without the feature")]
impl ControlKeys {
    /// There is no key without the feature `control-keys`.
    ///
    /// # Errors
    /// Always.
    pub const fn tag(&self, _: &[u8]) -> Result<[u8; TAG_LEN], NotAuthentic> {
        Err(NotAuthentic)
    }

    /// There is no key without the feature `control-keys`.
    ///
    /// # Errors
    /// Always.
    pub const fn verify(&self, _: &[u8], _: &[u8; TAG_LEN]) -> Result<(), NotAuthentic> {
        Err(NotAuthentic)
    }

    /// There is no key without the feature `control-keys`.
    ///
    /// # Errors
    /// Always.
    pub const fn wrap(&self, _: &[u8], _: &mut [u8]) -> Result<usize, NotAuthentic> {
        Err(NotAuthentic)
    }

    /// There is no key without the feature `control-keys`.
    ///
    /// # Errors
    /// Always.
    pub const fn unwrap(&self, _: &[u8], _: &mut [u8]) -> Result<usize, NotAuthentic> {
        Err(NotAuthentic)
    }
}
