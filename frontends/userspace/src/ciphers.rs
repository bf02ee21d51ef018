//! Ciphers for processes with a C library: AES-GCM of AWS-LC, the rest in portable Rust. Each is the faster one of the two
//! for its suites.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use cvsw_core::crypto::{CipherError, Ciphers, KeyMaterial, MAX_DATA, PacketHeader, Portable, Suite};

/// Bytes of the integrity check value.
const ICV_LEN: usize = 16;

/// Ciphers for `SLOTS` security associations.
#[derive(Debug)]
pub struct FastCiphers<const SLOTS: usize = 64> {
    /// Keys of the GCM suites; the others are in `portable`. AWS-LC wipes them when they are freed.
    gcm: [Option<Gcm>; SLOTS],
    portable: Portable<SLOTS>,
}

struct Gcm {
    key: LessSafeKey,
    salt: [u8; Suite::SALT_LEN],
}

impl std::fmt::Debug for Gcm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gcm").finish_non_exhaustive()
    }
}

impl<const SLOTS: usize> FastCiphers<SLOTS> {
    /// Ciphers without any key.
    pub const fn new() -> Self {
        Self { gcm: [const { None }; SLOTS], portable: Portable::new() }
    }

    fn gcm(&self, slot: usize) -> Option<&Gcm> {
        self.gcm.get(slot)?.as_ref()
    }
}

impl<const SLOTS: usize> Default for FastCiphers<SLOTS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const SLOTS: usize> Ciphers for FastCiphers<SLOTS> {
    fn install(&mut self, slot: usize, key: &KeyMaterial) -> Result<(), CipherError> {
        let place = self.gcm.get_mut(slot).ok_or(CipherError::NoSlot)?;
        let algorithm = match key.suite() {
            Suite::Aes128Gcm => &AES_128_GCM,
            Suite::Aes256Gcm => &AES_256_GCM,
            _ => {
                self.portable.install(slot, key)?;
                *place = None;
                return Ok(());
            }
        };
        let unbound = UnboundKey::new(algorithm, key.cipher_key()).map_err(|_| CipherError::Unsupported)?;
        *place = Some(Gcm { key: LessSafeKey::new(unbound), salt: key.salt() });
        self.portable.remove(slot);
        Ok(())
    }

    fn remove(&mut self, slot: usize) {
        if let Some(place) = self.gcm.get_mut(slot) {
            *place = None;
        }
        self.portable.remove(slot);
    }

    fn seal(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        let Some(gcm) = self.gcm(slot) else { return self.portable.seal(slot, header, data) };
        checked_len(data)?;
        seal(&gcm.key, gcm.nonce(header), header.aad(&mut [0; 12]), data)
    }

    fn open(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        let Some(gcm) = self.gcm(slot) else { return self.portable.open(slot, header, data) };
        checked_len(data)?;
        open(&gcm.key, gcm.nonce(header), header.aad(&mut [0; 12]), data)
    }
}

impl Gcm {
    /// RFC 4106 section 4: the salt and the IV.
    fn nonce(&self, header: &PacketHeader) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let (salt, iv) = nonce.split_at_mut(Suite::SALT_LEN);
        salt.copy_from_slice(&self.salt);
        iv.copy_from_slice(&header.iv());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The last 16 bytes of `data` are room for the ICV.
fn seal(key: &LessSafeKey, nonce: Nonce, aad: &[u8], data: &mut [u8]) -> Result<(), CipherError> {
    let (text, icv) = data.split_last_chunk_mut::<ICV_LEN>().ok_or(CipherError::Length)?;
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), text).map_err(|_| CipherError::Length)?;
    *icv = tag.as_ref().try_into().map_err(|_| CipherError::Length)?;
    Ok(())
}

fn open(key: &LessSafeKey, nonce: Nonce, aad: &[u8], data: &mut [u8]) -> Result<(), CipherError> {
    key.open_in_place(nonce, Aad::from(aad), data).map(drop).map_err(|_| CipherError::Forged)
}

fn checked_len(data: &[u8]) -> Result<(), CipherError> {
    if (ICV_LEN..=MAX_DATA).contains(&data.len()) { Ok(()) } else { Err(CipherError::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bare(LessSafeKey);

    impl cvsw_testkit::ciphers::Gcm for Bare {
        fn new(key: &[u8]) -> Self {
            let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
            Self(LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap()))
        }

        fn seal(&self, iv: [u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) {
            seal(&self.0, Nonce::assume_unique_for_key(iv), aad, data).unwrap();
        }

        fn open(&self, iv: [u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> bool {
            open(&self.0, Nonce::assume_unique_for_key(iv), aad, data).is_ok()
        }
    }

    #[test]
    fn published_gcm() {
        cvsw_testkit::ciphers::check_gcm::<Bare>();
    }

    #[test]
    fn as_every_implementation() {
        cvsw_testkit::ciphers::check(&mut FastCiphers::<3>::new(), 3);
    }

    #[test]
    fn every_length_comes_back() {
        cvsw_testkit::esp::check_every_length::<FastCiphers<{ cvsw_testkit::esp::SLOTS }>>();
    }

    #[test]
    fn debug_output_holds_no_key() {
        let mut ciphers = FastCiphers::<1>::new();
        for suite in Suite::ALL {
            let material = vec![0xab; suite.key_material_len()];
            ciphers.install(0, &KeyMaterial::new(suite, &material).unwrap()).unwrap();
            let text = format!("{ciphers:?}").to_lowercase();
            for key in ["171, 171", "abab", "ab, ab"] {
                assert!(!text.contains(key), "{text}");
            }
        }
    }
}
