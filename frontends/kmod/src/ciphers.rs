//! The engine's ciphers in the kernel: its crypto API, and the portable ones as the last resort.
//!
//! The kernel's transforms cannot be made while the vNIC is locked. So a new key is kept as it came, works at once with the
//! portable ciphers, and the shim makes the transforms of it in its work item, if the kernel has any.
//!
//! Keys lie in one place for all lanes of a vNIC, which only read them; they come and go while all lanes are locked.
//! Sequence numbers and anti-replay windows are beside them, once for all lanes, and change by atomic operations.

use crate::sys::{self, Crypt, Place, Scratch, Transforms, Way};
use cvsw_core::crypto::{
    CipherError, Ciphers, KeyMaterial, MAX_DATA, MAX_KEY_MATERIAL, PacketHeader, Portable, SharedSa, Suite,
};
use zeroize::Zeroize;

/// Security associations of one vNIC, as many as the userspace port has. `CVSW_SAS` of the shim.
pub const SAS: usize = 256;

/// What all lanes of one vNIC share: the memory of `cvsw_shared_size`.
#[repr(C)]
pub struct Shared {
    /// Sequence numbers, anti-replay windows and limits.
    pub sas: [SharedSa; SAS],
    /// The keys.
    pub keys: Keys,
}

/// The keys of one vNIC. All zeros but for `portable`, each of which is [`NOTHING_EXPANDED`], is none.
#[repr(C)]
pub struct Keys {
    /// Where the shim keeps what it makes of them.
    pub transforms: Transforms,
    stored: [Stored; SAS],
    /// The keys expanded, each by itself.
    pub portable: [Portable<1>; SAS],
}

/// The ciphers of one lane. All zeros: without a place for keys, nothing can be installed.
#[repr(C)]
pub struct KernelCiphers {
    place: Place,
    scratch: Scratch,
    /// Packets that the portable ciphers computed.
    portable_packets: u64,
}

/// A key as it came. All zeros: none.
#[derive(Clone, Copy, Zeroize)]
#[repr(C)]
struct Stored {
    suite: u8,
    material: [u8; MAX_KEY_MATERIAL],
}

/// A key for the shim, to make transforms of: `struct cvsw_key_material`.
#[derive(Default)]
#[repr(C)]
pub struct KeyCopy {
    cipher_key: [u8; 32],
    mac_key: [u8; 32],
    cipher_key_len: u32,
    mac_key_len: u32,
    /// 1: AES-GCM; 0: AES-CTR, with HMAC if there is a key for it.
    gcm: u32,
}

/// What one packet is computed with beside the key: `struct cvsw_packet`.
#[repr(C)]
pub struct Packet {
    /// Salt, IV, and the number of the first block of AES-CTR. AES-GCM takes the first 12 bytes.
    counter_block: [u8; 16],
    aad: [u8; 12],
    aad_len: u32,
    mac_prefix: [u8; 16],
    mac_suffix: [u8; 4],
    mac_suffix_len: u32,
    icv_len: u32,
}

/// What each of `portable` is at first, to be copied: too large for a kernel stack.
pub static NOTHING_EXPANDED: Portable<1> = Portable::new();

impl Keys {
    /// Puts a key into a slot.
    fn install(&mut self, slot: usize, key: &KeyMaterial) -> Result<(), CipherError> {
        self.remove(slot);
        let stored = self.stored.get_mut(slot).ok_or(CipherError::NoSlot)?;
        let salt = key.salt();
        let parts = key.cipher_key().iter().chain(&salt).chain(key.mac_key());
        for (to, from) in stored.material.iter_mut().zip(parts) {
            *to = *from;
        }
        stored.suite = key.suite() as u8;
        if let Some(portable) = self.portable.get_mut(slot) {
            portable.install(0, key)?;
        }
        self.transforms.want(slot);
        Ok(())
    }

    fn remove(&mut self, slot: usize) {
        let Some(stored) = self.stored.get_mut(slot).filter(|stored| stored.suite != 0) else { return };
        stored.zeroize();
        self.transforms.retire(slot);
        if let Some(portable) = self.portable.get_mut(slot) {
            portable.remove(0);
        }
    }

    /// Forgets every key.
    pub fn wipe(&mut self) {
        for slot in 0..SAS {
            self.remove(slot);
        }
    }

    /// The key in a slot, for the shim. `false`: there is none.
    pub fn copy_key(&self, slot: usize, to: &mut KeyCopy) -> bool {
        let Some(key) = self.key(slot) else { return false };
        for (to, from) in to.cipher_key.iter_mut().zip(key.cipher_key()) {
            *to = *from;
        }
        for (to, from) in to.mac_key.iter_mut().zip(key.mac_key()) {
            *to = *from;
        }
        to.cipher_key_len = key.suite().cipher_key_len() as u32;
        to.mac_key_len = key.suite().mac_key_len() as u32;
        to.gcm = u32::from(matches!(key.suite(), Suite::Aes128Gcm | Suite::Aes256Gcm));
        true
    }

    fn stored_suite(&self, slot: usize) -> Result<Suite, CipherError> {
        let stored = self.stored.get(slot).ok_or(CipherError::NoKey)?;
        Suite::from_number(stored.suite).ok_or(CipherError::NoKey)
    }

    fn key(&self, slot: usize) -> Option<KeyMaterial> {
        let suite = self.stored_suite(slot).ok()?;
        let material = self.stored.get(slot)?.material.get(..suite.key_material_len())?;
        KeyMaterial::new(suite, material).ok()
    }

    fn salt(&self, slot: usize, suite: Suite) -> [u8; Suite::SALT_LEN] {
        let material = self.stored.get(slot).and_then(|stored| stored.material.get(suite.cipher_key_len()..));
        material.and_then(<[u8]>::first_chunk).copied().unwrap_or_default()
    }
}

impl KernelCiphers {
    /// With the keys that lie at `place`. `scratch` is what this lane computes with.
    pub const fn new(place: Place, scratch: Scratch) -> Self {
        Self { place, scratch, portable_packets: 0 }
    }

    /// Where the keys are.
    pub const fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    /// The keys of the vNIC, if there is a place for them.
    pub fn keys(&self) -> Option<&Keys> {
        self.place.keys()
    }

    /// For the self-test: makes the transforms of all keys now, and computes by `way` only from now on.
    pub fn prepare(&mut self, way: Way) {
        sys::prepare(self, way);
    }

    /// Packets that the portable ciphers computed.
    pub const fn portable_packets(&self) -> u64 {
        self.portable_packets
    }

    /// Seals or opens: with the kernel's transforms, or without if there are none (yet).
    fn crypt(
        &mut self,
        slot: usize,
        header: &PacketHeader,
        data: &mut [u8],
        operation: Crypt,
    ) -> Result<(), CipherError> {
        let suite = self.keys().ok_or(CipherError::NoKey)?.stored_suite(slot)?;
        if data.len() > MAX_DATA || data.len() < suite.icv_len() {
            return Err(CipherError::Length);
        }
        if data.is_empty() {
            return Ok(());
        }
        match self.crypt_by_kernel(slot, header, data, operation) {
            Err(CipherError::NoKey) => self.crypt_portably(slot, header, data, operation),
            done => done,
        }
    }

    #[inline(never)]
    fn crypt_by_kernel(
        &mut self,
        slot: usize,
        header: &PacketHeader,
        data: &mut [u8],
        operation: Crypt,
    ) -> Result<(), CipherError> {
        let keys = self.keys().ok_or(CipherError::NoKey)?;
        let suite = keys.stored_suite(slot)?;
        let salt = keys.salt(slot, suite);
        self.scratch.crypt(slot, &Packet::new(suite, salt, header), data, operation)
    }

    #[cold]
    #[inline(never)]
    fn crypt_portably(
        &mut self,
        slot: usize,
        header: &PacketHeader,
        data: &mut [u8],
        operation: Crypt,
    ) -> Result<(), CipherError> {
        self.portable_packets = self.portable_packets.wrapping_add(1);
        let portable = self.keys().and_then(|keys| keys.portable.get(slot)).ok_or(CipherError::NoKey)?;
        match operation {
            Crypt::Seal => portable.seal_shared(0, header, data),
            Crypt::Open => portable.open_shared(0, header, data),
        }
    }
}

/// Keys change only for those functions of `sys` that the shim calls with all lanes locked: elsewhere none is installed, and
/// none is removed.
impl Ciphers for KernelCiphers {
    fn install(&mut self, slot: usize, key: &KeyMaterial) -> Result<(), CipherError> {
        self.place.keys_mut().ok_or(CipherError::Unsupported)?.install(slot, key)
    }

    fn remove(&mut self, slot: usize) {
        if let Some(keys) = self.place.keys_mut() {
            keys.remove(slot);
        }
    }

    fn seal(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        self.crypt(slot, header, data, Crypt::Seal)
    }

    fn open(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        self.crypt(slot, header, data, Crypt::Open)
    }

    fn shared(&self) -> Option<&[SharedSa]> {
        // Without a place for keys there is none for numbers either.
        Some(self.place.sas())
    }
}

impl Packet {
    /// RFC 3686 section 4: nonce, IV, and a block counter that starts at 1; RFC 4106 section 4: salt and IV.
    fn new(suite: Suite, [s0, s1, s2, s3]: [u8; 4], header: &PacketHeader) -> Self {
        let [i0, i1, i2, i3, i4, i5, i6, i7] = header.iv();
        let mut aad = [0; 12];
        let aad_len = header.aad(&mut aad).len() as u32;
        let mut mac_suffix = [0; 4];
        let mac_suffix_len = header.mac_suffix(&mut mac_suffix).len() as u32;
        Self {
            counter_block: [s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, i6, i7, 0, 0, 0, 1],
            aad,
            aad_len,
            mac_prefix: header.mac_prefix().first_chunk().copied().unwrap_or_default(),
            mac_suffix,
            mac_suffix_len,
            icv_len: suite.icv_len() as u32,
        }
    }
}
