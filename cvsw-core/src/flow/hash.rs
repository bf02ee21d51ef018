//! The keyed hash of flow keys: two 64-bit words per multiplication, so an IPv4 key, which is hashed without the
//! words that only IPv6 uses, costs three of them.
//!
//! The seed is secret and random per engine, so a sender cannot choose keys that fall into one bucket. It is
//! not a cryptographic hash: nothing but bucket choice may depend on it.

use crate::key::{FlowKey, NARROW_WORDS, WIDE_WORDS};

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd1b5_4a32_d192_ed03;

/// Hash of a whole key.
#[inline]
pub fn hash_key(seed: u64, key: &FlowKey) -> u64 {
    let [a, b, c, d, e, v6 @ ..] = key.words();
    let narrow = narrow_hash(seed, [*a, *b, *c, *d, *e]);
    let [f, g, h, i] = *v6;
    if (f | g | h | i) == 0 { narrow } else { wide_hash(narrow, [f, g, h, i]) }
}

/// Hash of `key & mask` for a mask without the words that only IPv6 uses. Equals [`hash_key`] of the masked key.
#[inline]
pub fn hash_masked_narrow(seed: u64, key: &FlowKey, mask: &FlowKey) -> u64 {
    let [a, b, c, d, e, ..] = key.words();
    let [ma, mb, mc, md, me, ..] = mask.words();
    narrow_hash(seed, [a & ma, b & mb, c & mc, d & md, e & me])
}

/// Hash of `key & mask`, without building the masked key. Equals [`hash_key`] of the masked key.
#[inline]
pub fn hash_masked(seed: u64, key: &FlowKey, mask: &FlowKey) -> u64 {
    let [a, b, c, d, e, v6 @ ..] = key.words();
    let [ma, mb, mc, md, me, m6 @ ..] = mask.words();
    let narrow = narrow_hash(seed, [a & ma, b & mb, c & mc, d & md, e & me]);
    let [f, g, h, i] = *v6;
    let [mf, mg, mh, mi] = *m6;
    let (f, g, h, i) = (f & mf, g & mg, h & mh, i & mi);
    if (f | g | h | i) == 0 { narrow } else { wide_hash(narrow, [f, g, h, i]) }
}

#[inline]
fn narrow_hash(seed: u64, words: [u64; NARROW_WORDS]) -> u64 {
    let [a, b, c, d, e] = words;
    // A factor of zero makes a product forget the other factor, so no factor may be within a sender's choice.
    let first = fold(a ^ seed, b ^ seed.rotate_left(16) ^ K0);
    let second = fold(c ^ seed.rotate_left(32), d ^ seed.rotate_left(48) ^ K1);
    fold(first ^ e ^ K1, second ^ seed)
}

#[inline]
fn wide_hash(narrow: u64, words: [u64; WIDE_WORDS]) -> u64 {
    let [f, g, h, i] = words;
    let first = fold(f ^ narrow, g ^ narrow.rotate_left(16) ^ K0);
    let second = fold(h ^ narrow.rotate_left(32), i ^ narrow.rotate_left(48) ^ K1);
    fold(first ^ K1, second ^ narrow)
}

/// The two halves of a 128-bit product, folded.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    (product as u64) ^ ((product >> 64) as u64)
}
