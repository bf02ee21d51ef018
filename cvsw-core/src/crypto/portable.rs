//! The ciphers of RustCrypto.

use super::{CipherError, Ciphers, KeyMaterial, MAX_DATA, PacketHeader, Suite};
use aes::cipher::{BlockCipherEncrypt, BlockSizeUser, InnerIvInit, StreamCipherCore, consts::U16};
use aes_gcm::{AeadInOut, AesGcm, KeyInit, aead};
use block::{Aes128, Aes256};
use ctr::{CtrCore, flavors::Ctr32BE};
use hmac::{Hmac, Mac};
use sha2::Sha256;

#[cfg(not(feature = "small-stack"))]
mod block {
    pub type Aes128 = aes::Aes128;
    pub type Aes256 = aes::Aes256;
}

#[cfg(feature = "small-stack")]
mod block {
    use crate::crypto::one_block::OneBlock;
    pub type Aes128 = OneBlock<aes::Aes128>;
    pub type Aes256 = OneBlock<aes::Aes256>;
}

type Aes128Gcm = AesGcm<Aes128, aead::consts::U12>;
type Aes256Gcm = AesGcm<Aes256, aead::consts::U12>;

/// Ciphers in portable Rust, for `SLOTS` security associations: no allocation, no std. On x86-64 and AArch64
/// they find the processor's AES, carry-less multiplication and SHA instructions at run time.
#[derive(Debug)]
pub struct Portable<const SLOTS: usize> {
    slots: [Option<Key>; SLOTS],
}

impl<const SLOTS: usize> Portable<SLOTS> {
    /// Ciphers without any key.
    pub const fn new() -> Self {
        Self { slots: [const { None }; SLOTS] }
    }

    /// As [`Ciphers::seal`]. A key is only read, so several processors may use it at the same time.
    ///
    /// # Errors
    /// As there.
    pub fn seal_shared(&self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        self.key(slot)?.apply(Way::Seal, header, data)
    }

    /// As [`Ciphers::open`], for several processors.
    ///
    /// # Errors
    /// As there.
    pub fn open_shared(&self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        self.key(slot)?.apply(Way::Open, header, data)
    }

    fn key(&self, slot: usize) -> Result<&Key, CipherError> {
        self.slots.get(slot).and_then(Option::as_ref).ok_or(CipherError::NoKey)
    }
}

impl<const SLOTS: usize> Default for Portable<SLOTS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const SLOTS: usize> Ciphers for Portable<SLOTS> {
    fn install(&mut self, slot: usize, key: &KeyMaterial) -> Result<(), CipherError> {
        let slot = self.slots.get_mut(slot).ok_or(CipherError::NoSlot)?;
        // Expanded where it will lie; the parts wipe themselves.
        *slot = None;
        let expanded = match key.suite() {
            Suite::Aes128Gcm => expand(slot, key, Cipher::Gcm128),
            Suite::Aes256Gcm => expand(slot, key, Cipher::Gcm256),
            Suite::Aes128CtrHmacSha256 | Suite::Aes128CtrUnauthenticated => {
                expand(slot, key, |aes| Cipher::Ctr128(aes, None))
            }
            Suite::Aes256CtrHmacSha256 | Suite::Aes256CtrUnauthenticated => {
                expand(slot, key, |aes| Cipher::Ctr256(aes, None))
            }
        };
        let complete = expanded.and_then(|()| expand_mac(slot, key));
        if complete.is_err() {
            *slot = None;
        }
        complete
    }

    fn remove(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = None;
        }
    }

    fn seal(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        self.seal_shared(slot, header, data)
    }

    fn open(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        self.open_shared(slot, header, data)
    }
}

/// Which way data goes through a cipher.
#[derive(Clone, Copy)]
enum Way {
    Seal,
    Open,
}

/// Everything that can be computed once per key. The parts wipe themselves when dropped.
struct Key {
    salt: [u8; Suite::SALT_LEN],
    cipher: Cipher,
}

#[allow(clippy::large_enum_variant, reason = "there is no allocator to box the larger ones with")]
enum Cipher {
    Gcm128(Aes128Gcm),
    Gcm256(Aes256Gcm),
    Ctr128(Aes128, Option<Hmac<Sha256>>),
    Ctr256(Aes256, Option<Hmac<Sha256>>),
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    fn apply(&self, way: Way, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        // With this limit the ciphers' 32-bit block counters cannot wrap.
        if data.len() > MAX_DATA {
            return Err(CipherError::Length);
        }
        let salt = self.salt;
        match &self.cipher {
            Cipher::Gcm128(gcm) => apply_gcm_to_packet(gcm, way, salt, header, data),
            Cipher::Gcm256(gcm) => apply_gcm_to_packet(gcm, way, salt, header, data),
            Cipher::Ctr128(aes, hmac) => apply_ctr(aes, hmac.as_ref(), way, salt, header, data),
            Cipher::Ctr256(aes, hmac) => apply_ctr(aes, hmac.as_ref(), way, salt, header, data),
        }
    }
}

/// Puts the key that `whole` makes of the expanded AES key into a slot. Out of line, as everything that expands a key: what one
/// suite has on the stack the others need not.
#[inline(never)]
fn expand<A: KeyInit>(
    slot: &mut Option<Key>,
    material: &KeyMaterial,
    whole: impl FnOnce(A) -> Cipher,
) -> Result<(), CipherError> {
    let aes = A::new_from_slice(material.cipher_key()).map_err(|_| CipherError::Unsupported)?;
    *slot = Some(Key { salt: material.salt(), cipher: whole(aes) });
    Ok(())
}

/// Takes the MAC's key in, if the suite has one.
#[inline(never)]
fn expand_mac(slot: &mut Option<Key>, material: &KeyMaterial) -> Result<(), CipherError> {
    if let Some(Key { cipher: Cipher::Ctr128(_, mac) | Cipher::Ctr256(_, mac), .. }) = slot
        && !material.mac_key().is_empty()
    {
        *mac = Some(Hmac::new_from_slice(material.mac_key()).map_err(|_| CipherError::Unsupported)?);
    }
    Ok(())
}

/// The salt and the packet's IV: RFC 4106 section 4, and RFC 3686 section 4 in front of the block counter.
fn nonce(salt: [u8; 4], header: &PacketHeader) -> [u8; 12] {
    let [s0, s1, s2, s3] = salt;
    let [i0, i1, i2, i3, i4, i5, i6, i7] = header.iv();
    [s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, i6, i7]
}

/// Nonce and authenticated data of a packet. Out of line, as the other mode: each needs its own stack, not the sum.
#[inline(never)]
fn apply_gcm_to_packet<G>(
    gcm: &G,
    way: Way,
    salt: [u8; 4],
    header: &PacketHeader,
    data: &mut [u8],
) -> Result<(), CipherError>
where
    G: AeadInOut<NonceSize = aead::consts::U12, TagSize = U16>,
{
    apply_gcm(gcm, way, nonce(salt, header), header.aad(&mut [0; 12]), data)
}

/// The last 16 bytes of `data` are the ICV.
#[inline(always)]
fn apply_gcm<G>(gcm: &G, way: Way, nonce: [u8; 12], aad: &[u8], data: &mut [u8]) -> Result<(), CipherError>
where
    G: AeadInOut<NonceSize = aead::consts::U12, TagSize = U16>,
{
    let (text, icv) = data.split_last_chunk_mut::<16>().ok_or(CipherError::Length)?;
    let nonce = nonce.into();
    match way {
        Way::Seal => {
            let tag = gcm.encrypt_inout_detached(&nonce, aad, text.into()).map_err(|_| CipherError::Length)?;
            *icv = tag.into();
            Ok(())
        }
        Way::Open => {
            let tag = (*icv).into();
            gcm.decrypt_inout_detached(&nonce, aad, text.into(), &tag).map_err(|_| CipherError::Forged)
        }
    }
}

/// The last 16 bytes of `data` are the ICV, if there is an `hmac`.
#[inline(never)]
fn apply_ctr<A>(
    aes: &A,
    hmac: Option<&Hmac<Sha256>>,
    way: Way,
    salt: [u8; 4],
    header: &PacketHeader,
    data: &mut [u8],
) -> Result<(), CipherError>
where
    A: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    // RFC 3686 section 4: the nonce, and a block counter that starts at 1.
    let [n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11] = nonce(salt, header);
    let first_block = [n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, 0, 0, 0, 1];
    let Some(hmac) = hmac else { return apply_keystream(aes, first_block, data) };
    let (text, icv) = data.split_last_chunk_mut::<16>().ok_or(CipherError::Length)?;
    match way {
        Way::Seal => {
            apply_keystream(aes, first_block, text)?;
            sign(hmac, header, text, icv)?;
        }
        Way::Open => {
            verify(hmac, header, text, icv)?;
            apply_keystream(aes, first_block, text)?;
        }
    }
    Ok(())
}

#[inline(never)]
fn sign(
    hmac: &Hmac<Sha256>,
    header: &PacketHeader,
    ciphertext: &[u8],
    icv: &mut [u8; 16],
) -> Result<(), CipherError> {
    let full = mac(hmac, header, ciphertext).finalize().into_bytes();
    // RFC 4868 section 2.1.1: the first half of the hash.
    *icv = *full.first_chunk().ok_or(CipherError::Unsupported)?;
    Ok(())
}

#[inline(never)]
fn verify(
    hmac: &Hmac<Sha256>,
    header: &PacketHeader,
    ciphertext: &[u8],
    icv: &[u8; 16],
) -> Result<(), CipherError> {
    mac(hmac, header, ciphertext).verify_truncated_left(icv).map_err(|_| CipherError::Forged)
}

#[inline(always)] // into the stack frame of its caller, not on top of it
fn mac(keyed: &Hmac<Sha256>, header: &PacketHeader, ciphertext: &[u8]) -> Hmac<Sha256> {
    let mut mac = keyed.clone();
    mac.update(header.mac_prefix());
    mac.update(ciphertext);
    mac.update(header.mac_suffix(&mut [0; 4]));
    mac
}

/// Never an error with at most [`MAX_DATA`] bytes; said so without a panic, which a kernel module must not contain.
#[inline(never)]
fn apply_keystream<A>(aes: &A, first_block: [u8; 16], data: &mut [u8]) -> Result<(), CipherError>
where
    A: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    CtrCore::<&A, Ctr32BE>::inner_iv_init(aes, &first_block.into())
        .try_apply_keystream_partial(data.into())
        .map_err(|_| CipherError::Length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    use super::*;
    use cvsw_testkit::ciphers::{Gcm, check_gcm};
    use std::vec::Vec;

    impl Gcm for Cipher {
        fn new(key: &[u8]) -> Self {
            match key.len() {
                16 => Self::Gcm128(Aes128Gcm::new_from_slice(key).unwrap()),
                _ => Self::Gcm256(Aes256Gcm::new_from_slice(key).unwrap()),
            }
        }

        fn seal(&self, iv: [u8; 12], aad: &[u8], data: &mut [u8]) {
            gcm(self, Way::Seal, iv, aad, data).unwrap();
        }

        fn open(&self, iv: [u8; 12], aad: &[u8], data: &mut [u8]) -> bool {
            gcm(self, Way::Open, iv, aad, data).is_ok()
        }
    }

    fn gcm(cipher: &Cipher, way: Way, iv: [u8; 12], aad: &[u8], data: &mut [u8]) -> Result<(), CipherError> {
        match cipher {
            Cipher::Gcm128(gcm) => apply_gcm(gcm, way, iv, aad, data),
            Cipher::Gcm256(gcm) => apply_gcm(gcm, way, iv, aad, data),
            Cipher::Ctr128(..) | Cipher::Ctr256(..) => Err(CipherError::Unsupported),
        }
    }

    #[test]
    fn published_gcm() {
        check_gcm::<Cipher>();
    }

    /// RFC 4868 section 2.7.2.1, AUTH256-1, whose message is shorter than an ESP header.
    #[test]
    fn rfc_4868_auth256_1() {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&[0x0b; 32]).unwrap();
        mac.update(b"Hi There");
        let full = mac.finalize().into_bytes();
        assert_eq!(full[..16], bytes("198a607eb44bfbc69903a0f1cf2bbdc5"));
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap()).collect()
    }

    const PLAIN: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                         30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";

    /// NIST SP 800-38A, F.5.1 and F.5.5; their counter starts elsewhere than ESP's.
    #[test]
    fn sp_800_38a() {
        let start: [u8; 16] = core::array::from_fn(|index| 0xf0 + index as u8);
        let mut data = bytes(PLAIN);
        apply_keystream(
            &Aes128::new_from_slice(&bytes("2b7e151628aed2a6abf7158809cf4f3c")).unwrap(),
            start,
            &mut data,
        )
        .unwrap();
        let f51 = "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff\
                   5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee";
        assert_eq!(data, bytes(f51));

        let key = bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let mut data = bytes(PLAIN);
        apply_keystream(&Aes256::new_from_slice(&key).unwrap(), start, &mut data).unwrap();
        let f55 = "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5\
                   2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6";
        assert_eq!(data, bytes(f55));
    }

    #[test]
    fn debug_output_holds_no_key() {
        let mut ciphers = Portable::<1>::new();
        ciphers.install(0, &KeyMaterial::new(Suite::Aes128Gcm, &[0xab; 20]).unwrap()).unwrap();
        assert_eq!(std::format!("{ciphers:?}"), "Portable { slots: [Some(Key { .. })] }");
    }
}
