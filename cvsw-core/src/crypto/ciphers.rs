//! The interface to what computes the ciphers.

use super::{KeyMaterial, SharedSa};
use crate::wire::esp;
use zerocopy::{IntoBytes, network_endian::U32};

/// Most bytes that are sealed or opened at once: no IP packet is longer.
pub const MAX_DATA: usize = u16::MAX as usize;

/// Computes the ciphers and holds the keys: the one place where a front-end can put something faster than
/// [`super::Portable`] (a hardware-backed library, the kernel's crypto API).
///
/// A key lives in a *slot*, the number of its security association in the engine's table; the engine never shows the
/// key again. Every implementation must
///
/// - build the nonce itself, from the salt of the key material and the packet's IV,
/// - compare integrity check values in constant time,
/// - wipe a key when it is removed, replaced or dropped,
/// - never panic, whatever it is given.
pub trait Ciphers {
    /// Puts a key into a slot, in place of what was there. On error nothing has changed.
    ///
    /// # Errors
    /// [`CipherError::NoSlot`], [`CipherError::Unsupported`].
    fn install(&mut self, slot: usize, key: &KeyMaterial) -> Result<(), CipherError>;

    /// Wipes the key in a slot, if there is one.
    fn remove(&mut self, slot: usize);

    /// Encrypts `data` in place. Its last [`super::Suite::icv_len`] bytes are room for the integrity check value,
    /// what stands before them is the plaintext.
    ///
    /// # Errors
    /// [`CipherError::NoKey`]; [`CipherError::Length`] if `data` is shorter than the ICV or longer than
    /// [`MAX_DATA`]. `data` is then unspecified.
    fn seal(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError>;

    /// Checks and decrypts `data` in place, which is what `seal` made.
    ///
    /// # Errors
    /// As for `seal`, and [`CipherError::Forged`] if the integrity check value is wrong. `data` is then unspecified
    /// and must not be used.
    fn open(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError>;

    /// What the engines of one vNIC share of their associations, slot by slot, where there are several: the same memory for
    /// all of them, for as long as there are associations. `None`, the default: an engine has its associations for itself.
    fn shared(&self) -> Option<&[SharedSa]> {
        None
    }
}

/// Why a cipher operation did not take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CipherError {
    /// There is no slot with this number.
    NoSlot,
    /// The suite is not implemented here.
    Unsupported,
    /// The slot holds no key.
    NoKey,
    /// The data is too short or too long.
    Length,
    /// The packet is not what the holder of the key has sent.
    Forged,
}

impl core::fmt::Display for CipherError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoSlot => "the cipher implementation has no slot of this number",
            Self::Unsupported => "the cipher implementation does not know this suite",
            Self::NoKey => "the slot holds no key",
            Self::Length => "the data is too short or too long",
            Self::Forged => "the integrity check value is wrong",
        })
    }
}

impl core::error::Error for CipherError {}

/// What is authenticated beside the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHeader {
    /// The bytes in front of the ciphertext.
    wire: esp::Header,
    /// High half of an extended sequence number, which is authenticated but not sent.
    sequence_high: Option<u32>,
}

impl PacketHeader {
    /// The header of packet number `sequence` of the association `spi`. `extended`: the sequence number has 64
    /// bits; else its high half does not count.
    pub const fn new(spi: u32, sequence: u64, extended: bool, iv: [u8; 8]) -> Self {
        let sequence_high = if extended { Some((sequence >> 32) as u32) } else { None };
        Self { wire: esp::Header { spi: U32::new(spi), sequence: U32::new(sequence as u32), iv }, sequence_high }
    }

    /// The header as it is sent.
    pub(crate) const fn wire(&self) -> &esp::Header {
        &self.wire
    }

    /// The packet's initialization vector.
    pub const fn iv(&self) -> [u8; 8] {
        self.wire.iv
    }

    /// Writes the additional authenticated data of the AEAD suites into `out` and returns it: SPI and the whole
    /// sequence number, 8 or 12 bytes (RFC 4106 section 5).
    pub fn aad<'a>(&self, out: &'a mut [u8; 12]) -> &'a [u8] {
        let [s0, s1, s2, s3] = self.wire.spi.to_bytes();
        let [l0, l1, l2, l3] = self.wire.sequence.to_bytes();
        match self.sequence_high.map(u32::to_be_bytes) {
            Some([h0, h1, h2, h3]) => {
                *out = [s0, s1, s2, s3, h0, h1, h2, h3, l0, l1, l2, l3];
                out
            }
            None => {
                *out = [s0, s1, s2, s3, l0, l1, l2, l3, 0, 0, 0, 0];
                out.get(..8).unwrap_or_default()
            }
        }
    }

    /// What a separate MAC sums before the ciphertext: the header as it is sent (RFC 4303 section 2.8).
    pub fn mac_prefix(&self) -> &[u8] {
        self.wire.as_bytes()
    }

    /// What a separate MAC sums behind the ciphertext: the high half of an extended sequence number
    /// (RFC 4303 section 2.2.1), else nothing.
    pub fn mac_suffix<'a>(&self, out: &'a mut [u8; 4]) -> &'a [u8] {
        match self.sequence_high {
            Some(high) => {
                *out = high.to_be_bytes();
                out
            }
            None => &[],
        }
    }
}

/// Ciphers that live elsewhere (in a static: an implementation with many slots is too large to be moved about).
impl<C: Ciphers + ?Sized> Ciphers for &mut C {
    fn install(&mut self, slot: usize, key: &KeyMaterial) -> Result<(), CipherError> {
        (**self).install(slot, key)
    }

    fn remove(&mut self, slot: usize) {
        (**self).remove(slot);
    }

    fn seal(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        (**self).seal(slot, header, data)
    }

    fn open(&mut self, slot: usize, header: &PacketHeader, data: &mut [u8]) -> Result<(), CipherError> {
        (**self).open(slot, header, data)
    }

    fn shared(&self) -> Option<&[SharedSa]> {
        (**self).shared()
    }
}

/// No cipher at all: installs nothing, and everything that demands encryption is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCiphers;

impl Ciphers for NoCiphers {
    fn install(&mut self, _: usize, _: &KeyMaterial) -> Result<(), CipherError> {
        Err(CipherError::Unsupported)
    }

    fn remove(&mut self, _: usize) {}

    fn seal(&mut self, _: usize, _: &PacketHeader, _: &mut [u8]) -> Result<(), CipherError> {
        Err(CipherError::NoKey)
    }

    fn open(&mut self, _: usize, _: &PacketHeader, _: &mut [u8]) -> Result<(), CipherError> {
        Err(CipherError::NoKey)
    }
}
