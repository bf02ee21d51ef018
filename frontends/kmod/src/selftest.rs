//! Known answers, computed before the module does anything else: by the kernel's fast ciphers, by its others, and by the
//! portable ones. A module that computes one of them wrongly is not loaded.

use crate::{ciphers::KernelCiphers, sys::Way};
use cvsw_core::crypto::{CipherError, Ciphers, KeyMaterial, MAX_KEY_MATERIAL, PacketHeader, Suite};
use vectors::{MAC_VECTORS, MacVector, VECTORS, Vector};

/// The same published vectors that every other cipher implementation of the project is tested with.
#[expect(dead_code, reason = "where they come from is for people")]
#[path = "../../../cvsw-core/testkit/src/ciphers/vectors.rs"]
mod vectors;

/// Bytes that the test needs for a packet. Not on the stack: the kernel's ciphers may not work there.
pub const BUFFER: usize = 256;

/// What is wrong, for the kernel's log.
#[derive(Clone, Copy)]
pub struct Fault {
    /// Number of the vector, from 1; those of the MAC follow the others.
    pub vector: u32,
    /// Which ciphers.
    pub way: Way,
}

/// Computes everything. `buffer` has at least [`BUFFER`] bytes.
pub fn run(ciphers: &mut KernelCiphers, buffer: &mut [u8]) -> Result<(), Fault> {
    for way in [Way::Fast, Way::Generic, Way::Portable] {
        let mut number = 0u32;
        let mut judge = |ok: bool| {
            number = number.wrapping_add(1);
            if ok { Ok(()) } else { Err(Fault { vector: number, way }) }
        };
        for vector in VECTORS {
            let installed = install(ciphers, way, vector.suite, 0, vector.key);
            judge(installed.and_then(|()| packet(ciphers, vector, buffer)).is_some())?;
        }
        for vector in MAC_VECTORS {
            for suite in [Suite::Aes128CtrHmacSha256, Suite::Aes256CtrHmacSha256] {
                let front = suite.cipher_key_len().saturating_add(Suite::SALT_LEN);
                let installed = install(ciphers, way, suite, front, vector.key);
                judge(installed.and_then(|()| mac(ciphers, vector, buffer)).is_some())?;
            }
        }
    }
    ciphers.remove(0);
    Ok(())
}

/// Seals, compares, opens, compares, and opens once more with one bit changed.
#[inline(never)]
fn packet(ciphers: &mut KernelCiphers, vector: &Vector, buffer: &mut [u8]) -> Option<()> {
    let mut text = [0; BUFFER];
    let plain_len = bytes(vector.plain, &mut text)?;
    let plain = text.get(..plain_len)?;
    let mut expected = [0; BUFFER];
    let sealed_len = bytes(vector.sealed, &mut expected)?;
    let sealed = expected.get(..sealed_len)?;
    let header = PacketHeader::new(vector.spi, vector.sequence, vector.extended, vector.iv.to_be_bytes());
    let data = buffer.get_mut(..sealed_len)?;
    data.fill(0);
    fill(data, plain);
    ciphers.seal(0, &header, data).ok()?;
    same(data, sealed)?;
    ciphers.open(0, &header, data).ok()?;
    same(data.get(..plain_len)?, plain)?;
    if vector.suite.is_authenticated() {
        refuses_changed(ciphers, &header, sealed, data)?;
    }
    Some(())
}

/// The integrity check value of a message whose ciphertext is known, not its text.
#[inline(never)]
fn mac(ciphers: &mut KernelCiphers, vector: &MacVector, buffer: &mut [u8]) -> Option<()> {
    let mut message = [0; BUFFER];
    let len = bytes(vector.message, &mut message)?;
    let icv = bytes(vector.icv, message.get_mut(len..)?)?;
    let (front, sealed) = message.get(..len.checked_add(icv)?)?.split_first_chunk::<16>()?;
    let [p0, p1, p2, p3, s0, s1, s2, s3, iv @ ..] = *front;
    let sequence = u32::from_be_bytes([s0, s1, s2, s3]);
    let header = PacketHeader::new(u32::from_be_bytes([p0, p1, p2, p3]), sequence.into(), false, iv);
    let data = buffer.get_mut(..sealed.len())?;
    fill(data, sealed);
    ciphers.open(0, &header, data).ok()?;
    refuses_changed(ciphers, &header, sealed, data)
}

fn refuses_changed(
    ciphers: &mut KernelCiphers,
    header: &PacketHeader,
    sealed: &[u8],
    data: &mut [u8],
) -> Option<()> {
    fill(data, sealed);
    *data.last_mut()? ^= 1;
    (ciphers.open(0, header, data) == Err(CipherError::Forged)).then_some(())
}

/// Installs a key, in front of which `front` bytes matter to nobody. Out of line, as what uses the key: so the messages are not
/// on the stack while it is expanded.
#[inline(never)]
fn install(ciphers: &mut KernelCiphers, way: Way, suite: Suite, front: usize, hex: &str) -> Option<()> {
    let mut material = [9; MAX_KEY_MATERIAL];
    let len = bytes(hex, material.get_mut(front..)?)?;
    let material = material.get(..front.checked_add(len)?)?;
    ciphers.install(0, &KeyMaterial::new(suite, material).ok()?).ok()?;
    ciphers.prepare(way);
    Some(())
}

/// As many bytes as both have.
fn fill(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

fn same(ours: &[u8], theirs: &[u8]) -> Option<()> {
    (ours == theirs).then_some(())
}

/// Decodes hexadecimal digits, between which there may be white space; returns the number of bytes.
fn bytes(hex: &str, out: &mut [u8]) -> Option<usize> {
    let mut digits = hex.chars().filter(|digit| !digit.is_ascii_whitespace());
    let mut len = 0usize;
    while let Some(high) = digits.next() {
        let (high, low) = (high.to_digit(16)?, digits.next()?.to_digit(16)?);
        *out.get_mut(len)? = (high << 4 | low) as u8;
        len = len.checked_add(1)?;
    }
    Some(len)
}
