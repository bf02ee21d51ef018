//! What every cipher implementation must do. The same checks run against each of them.

#[cfg(feature = "published-vectors")]
mod published;
mod vectors;

#[cfg(feature = "published-vectors")]
pub use published::{Gcm, check_gcm};
pub use vectors::{MAC_VECTORS, MacVector, VECTORS, Vector};

use crate::hex;
use cvsw_core::crypto::{CipherError, Ciphers, KeyMaterial, PacketHeader, Portable, Suite};

/// Runs every check against `ciphers`, which must have exactly `slots` slots, at least two of them, without keys.
pub fn check(ciphers: &mut impl Ciphers, slots: usize) {
    known_answers(ciphers);
    known_macs(ciphers);
    slots_are_apart(ciphers, slots);
    agrees_with_portable(ciphers);
    every_changed_bit_is_noticed(ciphers);
    odd_lengths_are_errors(ciphers);
    #[cfg(feature = "published-vectors")]
    published::check_macs(ciphers);
}

/// A key for `suite`, different for each `seed`.
pub fn key(suite: Suite, seed: u8) -> KeyMaterial {
    let bytes: Vec<u8> = (0..suite.key_material_len() as u8).map(|index| index.wrapping_mul(7) ^ seed).collect();
    KeyMaterial::new(suite, &bytes).expect("the right length")
}

fn header(sequence: u64, extended: bool) -> PacketHeader {
    PacketHeader::new(0x1001, sequence, extended, sequence.to_be_bytes())
}

fn known_answers(ciphers: &mut impl Ciphers) {
    for vector in VECTORS {
        let key = KeyMaterial::new(vector.suite, &hex::bytes(vector.key)).expect(vector.source);
        ciphers.install(1, &key).expect(vector.source);
        let header = PacketHeader::new(vector.spi, vector.sequence, vector.extended, vector.iv.to_be_bytes());
        let plain = hex::bytes(vector.plain);
        let mut data = [plain.as_slice(), &vec![0; vector.suite.icv_len()]].concat();
        ciphers.seal(1, &header, &mut data).expect(vector.source);
        assert_eq!(hex::dump(&data), hex::dump(&hex::bytes(vector.sealed)), "{}", vector.source);
        ciphers.open(1, &header, &mut data).expect(vector.source);
        assert_eq!(hex::dump(&data[..plain.len()]), hex::dump(&plain), "{}", vector.source);
    }
}

fn known_macs(ciphers: &mut impl Ciphers) {
    for vector in MAC_VECTORS {
        let message = hex::bytes(vector.message);
        let icv = hex::bytes(vector.icv);
        for suite in [Suite::Aes128CtrHmacSha256, Suite::Aes256CtrHmacSha256] {
            let cipher = vec![9; suite.cipher_key_len() + Suite::SALT_LEN];
            let material = [cipher, hex::bytes(vector.key)].concat();
            ciphers.install(0, &KeyMaterial::new(suite, &material).expect(vector.source)).expect(vector.source);
            let (header, ciphertext) = mac_header(&message);
            let mut data = [ciphertext, &icv].concat();
            assert_eq!(ciphers.open(0, &header, &mut data), Ok(()), "{}", vector.source);
            // The high half of an extended sequence number comes last, as if it were four bytes more of ciphertext.
            let (ciphertext, high) = ciphertext.split_at(ciphertext.len() - 4);
            let sequence = u64::from(word(high, 0)) << 32 | u64::from(word(&message, 4));
            let header = PacketHeader::new(word(&message, 0), sequence, true, header.iv());
            let mut data = [ciphertext, &icv].concat();
            assert_eq!(ciphers.open(0, &header, &mut data), Ok(()), "{}, extended", vector.source);
        }
    }
}

/// A message that a MAC sums, as an ESP header and the ciphertext behind it.
fn mac_header(message: &[u8]) -> (PacketHeader, &[u8]) {
    let (front, ciphertext) = message.split_at(16);
    let iv = front[8..].try_into().expect("eight bytes");
    (PacketHeader::new(word(front, 0), word(front, 4).into(), false, iv), ciphertext)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn slots_are_apart(ciphers: &mut impl Ciphers, slots: usize) {
    let seal = |ciphers: &mut _, slot| {
        let mut data = [0x42; 48];
        Ciphers::seal(ciphers, slot, &header(1, false), &mut data).map(|()| data)
    };
    for suite in Suite::ALL {
        ciphers.install(0, &key(suite, 1)).expect("a slot");
        ciphers.install(slots - 1, &key(suite, 2)).expect("the last slot");
        let first = seal(ciphers, 0).expect("a key");
        assert_ne!(seal(ciphers, slots - 1).expect("a key"), first, "{suite}: two keys");
        assert_eq!(ciphers.install(slots, &key(suite, 3)), Err(CipherError::NoSlot));
        assert_eq!(seal(ciphers, slots), Err(CipherError::NoKey));
        ciphers.remove(slots);
        ciphers.remove(slots - 1);
        assert_eq!(seal(ciphers, slots - 1), Err(CipherError::NoKey));
        assert_eq!(ciphers.open(slots - 1, &header(1, false), &mut [0; 48]), Err(CipherError::NoKey));
        assert_eq!(seal(ciphers, 0), Ok(first), "{suite}: the other slot keeps its key");
        ciphers.install(0, &key(suite, 2)).expect("a slot");
        assert_ne!(seal(ciphers, 0), Ok(first), "{suite}: a key in place of another");
    }
}

fn agrees_with_portable(ciphers: &mut impl Ciphers) {
    let mut portable = Portable::<1>::new();
    let text: Vec<u8> = (0..9000).map(|index: usize| (index * 31 + index / 256) as u8).collect();
    for suite in Suite::ALL {
        portable.install(0, &key(suite, 5)).expect("a slot");
        ciphers.install(0, &key(suite, 5)).expect("a slot");
        for (len, sequence) in (0..=text.len()).zip(1u64..) {
            let extended = len % 2 == 0;
            let header = header(if extended { sequence << 30 } else { sequence }, extended);
            let plain = &text[..len];
            let mut data = [plain, &vec![0; suite.icv_len()]].concat();
            ciphers.seal(0, &header, &mut data).expect("a key");
            let sealed = data.clone();
            portable.open(0, &header, &mut data).expect("authentic");
            assert!(data[..len] == *plain, "{suite}, {len} bytes: sealed by this one, opened by the portable one");
            // Where lengths begin to matter: whole blocks, and what several of them are computed together.
            if len < 300 || len % 271 == 0 {
                portable.seal(0, &header, &mut data).expect("a key");
                assert_eq!(data, sealed, "{suite}, {len} bytes");
                ciphers.open(0, &header, &mut data).expect("authentic");
                assert!(data[..len] == *plain, "{suite}, {len} bytes");
            }
        }
    }
}

/// In the ciphertext, in the integrity check value and in everything that is authenticated beside them.
fn every_changed_bit_is_noticed(ciphers: &mut impl Ciphers) {
    for suite in Suite::ALL.into_iter().filter(|suite| suite.is_authenticated()) {
        ciphers.install(0, &key(suite, 6)).expect("a slot");
        for extended in [false, true] {
            let (spi, sequence, iv) = (0x1001_u32, 0x1_0000_0002_u64, 7u64);
            let make = |spi, sequence, iv: u64| PacketHeader::new(spi, sequence, extended, iv.to_be_bytes());
            let mut sealed = [0x33; 40 + 16];
            ciphers.seal(0, &make(spi, sequence, iv), &mut sealed).expect("a key");
            for bit in 0..sealed.len() * 8 {
                let mut data = sealed;
                data[bit / 8] ^= 1 << (bit % 8);
                let result = ciphers.open(0, &make(spi, sequence, iv), &mut data);
                assert_eq!(result, Err(CipherError::Forged), "{suite}: bit {bit} of the data");
            }
            for bit in 0..64 {
                let low = 1u64 << bit;
                let sequence_counts = bit < 32 || extended;
                let others = [
                    (bit < 32, make(spi ^ low as u32, sequence, iv)),
                    (sequence_counts, make(spi, sequence ^ low, iv)),
                    (true, make(spi, sequence, iv ^ low)),
                ];
                for (counts, header) in others {
                    let expected = if counts { Err(CipherError::Forged) } else { Ok(()) };
                    assert_eq!(ciphers.open(0, &header, &mut sealed.clone()), expected, "{suite}: bit {bit}");
                }
            }
        }
    }
}

fn odd_lengths_are_errors(ciphers: &mut impl Ciphers) {
    for suite in Suite::ALL {
        ciphers.install(0, &key(suite, 8)).expect("a slot");
        for len in 0..suite.icv_len() {
            assert_eq!(ciphers.seal(0, &header(1, false), &mut vec![0; len]), Err(CipherError::Length));
            assert_eq!(ciphers.open(0, &header(1, false), &mut vec![0; len]), Err(CipherError::Length));
        }
        let too_long = &mut vec![0; usize::from(u16::MAX) + 1];
        assert_eq!(ciphers.seal(0, &header(1, false), too_long), Err(CipherError::Length), "{suite}");
        assert_eq!(ciphers.open(0, &header(1, false), too_long), Err(CipherError::Length), "{suite}");
    }
}
