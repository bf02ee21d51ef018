//! The key that all controllers of a cluster have, and what two of them seal for each other. The store never sees a key of a vNIC.
//!
//! Each part that a controller takes in the cluster is a *session* with an X25519 key pair of its own (RFC 7748), whose private half
//! never leaves the process and ends with it. What two controllers write to each other is sealed with a key that follows from both
//! the cluster's key and what their two sessions agree on. So who gets the cluster's key later cannot read letters of before that
//! he has kept, and who writes another public key into the store, without the cluster's key, learns nothing either.

use std::path::Path;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{PrivateKey, UnparsedPublicKey, X25519, agree},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
};
use zeroize::Zeroizing;

/// Random octets in front of a sealed letter, from which its key follows.
const SALT: usize = 32;
/// AES-256.
const KEY: usize = 32;
/// Octets of a public key of X25519.
const PUBLIC: usize = 32;
/// For this purpose and no other.
const PURPOSE: &[u8] = b"CVSW cluster letters 2";
/// For what the key of a pair is mixed with.
const PAIR: &[u8] = b"pair";

/// The cluster's key.
pub struct ClusterKey(Prk);

/// A part in the cluster: a key pair that no other part has.
pub struct Session {
    private: PrivateKey,
    /// The public key as a text, which is the session's name.
    name: String,
}

/// What two sessions of controllers with the same cluster key have in common, and nobody else.
pub struct PairKey(Prk);

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

    /// One of these octets.
    pub(super) fn new(key: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, PURPOSE).extract(key))
    }

    /// The key between this session and another one, of that name. `None`: it is not the name of a session.
    pub fn between(&self, own: &Session, other: &str) -> Option<PairKey> {
        let public = UnparsedPublicKey::new(&X25519, public_key(other)?);
        let mut salt = Zeroizing::new([0; KEY]);
        self.0.expand(&[PAIR], KeyLen).ok()?.fill(&mut *salt).ok()?;
        let mixed = |shared: &[u8]| Ok(PairKey(Salt::new(HKDF_SHA256, &*salt).extract(shared)));
        agree(&own.private, public, (), mixed).ok()
    }
}

impl Session {
    /// A new one. `None`: the system has no random numbers.
    pub fn new() -> Option<Self> {
        let private = PrivateKey::generate(&X25519).ok()?;
        let public = private.compute_public_key().ok()?;
        let name = public.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
        Some(Self { private, name })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The public key that is a session's name.
fn public_key(name: &str) -> Option<[u8; PUBLIC]> {
    let digits = name.as_bytes();
    let mut key = [0; PUBLIC];
    if digits.len() != 2 * PUBLIC || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (octet, pair) in key.iter_mut().zip(digits.chunks(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

impl PairKey {
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

    /// The keys of two sessions of controllers with these cluster keys.
    fn pair(keys: [u8; 2]) -> [PairKey; 2] {
        let [one, two] = [(); 2].map(|()| Session::new().unwrap());
        let [key, other] = keys.map(|key| ClusterKey::new(&[key; 16]));
        [key.between(&one, two.name()).unwrap(), other.between(&two, one.name()).unwrap()]
    }

    #[test]
    fn two_sessions_have_a_key_of_their_own() {
        let opens =
            |[one, two]: [PairKey; 2]| two.open(&ENVELOPE, one.seal(&ENVELOPE, b"letter").unwrap()).is_some();
        assert!(opens(pair([1, 1])));
        assert!(!opens(pair([1, 2])), "they must have the same cluster key");
        let ([one, _], [_, other]) = (pair([1, 1]), pair([1, 1]));
        assert!(
            !opens([one, other]),
            "a later session cannot read what an earlier one got, with the same cluster key"
        );
        let (key, session) = (ClusterKey::new(&[1; 16]), Session::new().unwrap());
        let none = "0".repeat(64);
        for name in ["", "00", "xy", session.name().get(1..).unwrap(), &none, &"é".repeat(32)] {
            assert!(key.between(&session, name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_letter_opens_as_itself_and_as_nothing_else() {
        let [key, other_end] = pair([1, 1]);
        for letter in [&b""[..], b"x", &[7; 70_000]] {
            let sealed = key.seal(&ENVELOPE, letter).unwrap();
            for key in [&key, &other_end] {
                assert_eq!(key.open(&ENVELOPE, sealed.clone()).as_deref().map(Vec::as_slice), Some(letter));
            }
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
        let [key, _] = pair([1, 1]);
        assert_ne!(key.seal(&ENVELOPE, b"letter"), key.seal(&ENVELOPE, b"letter"));
    }
}
