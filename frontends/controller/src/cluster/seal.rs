//! The key that all controllers of a cluster have, and what is sealed with it. The store never sees a key of a vNIC.

use std::path::Path;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
};
use zeroize::Zeroizing;

/// Random octets in front of a sealed letter, from which its key follows.
const SALT: usize = 32;
/// AES-256.
const KEY: usize = 32;
/// For this purpose and no other.
const PURPOSE: &[u8] = b"CVSW cluster letters 1";

/// The cluster's key.
pub struct ClusterKey(Prk);

/// What stands on a letter: who wrote it in which session, to whom in which session, and its number among them. It cannot
/// be opened as another one, so none can be sent twice, or to another, or to a later life of the same.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Writer and session.
    pub from: (&'a str, &'a str),
    /// Reader and session.
    pub to: (&'a str, &'a str),
    /// It grows.
    pub number: u64,
}

/// Length of a derived key.
struct KeyLen;

impl KeyType for KeyLen {
    fn len(&self) -> usize {
        KEY
    }
}

impl ClusterKey {
    /// Reads a file with 32 hexadecimal digits that is its owner's alone.
    ///
    /// # Errors
    /// It cannot be used, and why.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::new(&*cvsw_keyfile::control_key_bytes(path)?))
    }

    fn new(key: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, PURPOSE).extract(key))
    }

    /// The key of one letter: every letter has its own, so its nonce may be 0.
    fn of_letter(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let mut key = Zeroizing::new([0; KEY]);
        self.0.expand(&[salt], KeyLen).ok()?.fill(&mut *key).ok()?;
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).ok()?))
    }

    /// Seals a letter. `None`: the system has no random numbers.
    pub fn seal(&self, envelope: &Envelope<'_>, letter: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(SALT + letter.len() + AES_256_GCM.tag_len());
        out.resize(SALT, 0);
        getrandom::fill(&mut out).ok()?;
        let key = self.of_letter(&out)?;
        out.extend_from_slice(letter);
        let (_, text) = out.split_at_mut_checked(SALT)?;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(envelope.to_bytes()), text).ok()?;
        out.extend_from_slice(tag.as_ref());
        Some(out)
    }

    /// Opens a letter. `None`: it was not sealed with this key, or not as this letter.
    pub fn open(&self, envelope: &Envelope<'_>, sealed: Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
        let mut sealed = Zeroizing::new(sealed);
        let (salt, text) = sealed.split_at_mut_checked(SALT)?;
        let key = self.of_letter(salt)?;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let len = key.open_in_place(nonce, Aad::from(envelope.to_bytes()), text).ok()?.len();
        sealed.drain(..SALT);
        sealed.truncate(len);
        Some(sealed)
    }
}

impl Envelope<'_> {
    /// Every field with its length, so that no two envelopes have the same bytes.
    fn to_bytes(self) -> Vec<u8> {
        let mut out = self.number.to_be_bytes().to_vec();
        for text in [self.from.0, self.from.1, self.to.0, self.to.1] {
            out.extend((text.len() as u64).to_be_bytes());
            out.extend(text.as_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: Envelope<'_> = Envelope { from: ("a", "s1"), to: ("b", "s2"), number: 7 };

    #[test]
    fn a_letter_opens_as_itself_and_as_nothing_else() {
        let key = ClusterKey::new(&[1; 16]);
        for letter in [&b""[..], b"x", &[7; 70_000]] {
            let sealed = key.seal(&ENVELOPE, letter).unwrap();
            assert_eq!(key.open(&ENVELOPE, sealed.clone()).as_deref().map(Vec::as_slice), Some(letter));
            let others = [
                Envelope { number: 8, ..ENVELOPE },
                Envelope { from: ("a", "s3"), ..ENVELOPE },
                Envelope { to: ("b", "s3"), ..ENVELOPE },
                Envelope { from: ("b", "s1"), ..ENVELOPE },
                Envelope { to: ("a", "s2"), ..ENVELOPE },
                Envelope { from: ("as", "1"), ..ENVELOPE },
            ];
            for other in others {
                assert!(key.open(&other, sealed.clone()).is_none(), "{other:?}");
            }
            assert!(ClusterKey::new(&[2; 16]).open(&ENVELOPE, sealed.clone()).is_none());
            for at in [0, SALT - 1, sealed.len() - 1] {
                let mut broken = sealed.clone();
                broken[at] ^= 1;
                assert!(key.open(&ENVELOPE, broken).is_none());
            }
        }
        for len in 0..SALT + 16 {
            assert!(key.open(&ENVELOPE, vec![0; len]).is_none(), "{len}");
        }
    }

    #[test]
    fn no_two_letters_are_sealed_alike() {
        let key = ClusterKey::new(&[1; 16]);
        assert_ne!(key.seal(&ENVELOPE, b"letter"), key.seal(&ENVELOPE, b"letter"));
    }
}
