//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! A *sum* is a one's complement sum of 16-bit words, not yet complemented; a *checksum* is what stands in
//! a header: the complement of a sum.

/// The folded one's complement sum of `bytes`, as if a zero byte followed when their number is odd.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    // The sum does not depend on byte order as long as loading and storing agree (RFC 1071, section 2 B),
    // so whole words are added as the processor loads them. A u64 holds 2^32 sums of u32 words.
    let mut total = 0u64;
    let (words, mut tail) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_ne_bytes(*word);
        total = total.wrapping_add(word & 0xffff_ffff).wrapping_add(word >> 32);
    }
    if let Some((word, rest)) = tail.split_first_chunk() {
        total = total.wrapping_add(u64::from(u32::from_ne_bytes(*word)));
        tail = rest;
    }
    if let Some((word, rest)) = tail.split_first_chunk() {
        total = total.wrapping_add(u64::from(u16::from_ne_bytes(*word)));
        tail = rest;
    }
    if let [last] = tail {
        total = total.wrapping_add(u64::from(u16::from_ne_bytes([*last, 0])));
    }
    u16::from_be_bytes(fold(total).to_ne_bytes())
}

/// Folds the carries of a sum back in. Only 0 folds to 0.
#[inline]
pub const fn fold(sum: u64) -> u16 {
    // Adding a word to itself with its halves swapped leaves their one's complement sum in the upper half: the
    // lower half carries into it what the upper half carries out.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// One's complement addition.
#[inline]
pub const fn add(a: u16, b: u16) -> u16 {
    fold((a as u64).wrapping_add(b as u64))
}

/// What to add to a sum when a 16-bit word in it changes from `old` to `new`; see [`difference32`].
#[inline]
pub const fn difference16(old: u16, new: u16) -> u64 {
    if old == new { 0 } else { (!old as u64).wrapping_add(new as u64) }
}

/// What to add to a sum when an aligned 32-bit word in it changes from `old` to `new`; not folded, so that the
/// differences of several fields can be added up before one [`update`].
///
/// 0 if nothing changes. (RFC 1624 would have 0xffff, which turns a checksum of 0xffff into the other zero; but
/// a packet in which nothing changed must not change.)
#[inline]
pub const fn difference32(old: u32, new: u32) -> u64 {
    if old == new { 0 } else { (!old as u64).wrapping_add(new as u64) }
}

/// The checksum after its data's sum changed by `difference` (RFC 1624, equation 3).
#[inline]
pub const fn update(checksum: u16, difference: u64) -> u16 {
    !fold((!checksum as u64).wrapping_add(difference))
}

/// The sum of the pseudo-header of TCP and UDP over IPv4 (RFC 9293 section 3.1).
pub fn pseudo_header_v4(src: [u8; 4], dst: [u8; 4], protocol: u8, length: u16) -> u16 {
    let addresses = u64::from(u32::from_be_bytes(src)).wrapping_add(u64::from(u32::from_be_bytes(dst)));
    fold(addresses.wrapping_add(u64::from(protocol)).wrapping_add(u64::from(length)))
}

/// The sum of the pseudo-header of TCP and UDP over IPv6 (RFC 8200 section 8.1).
pub fn pseudo_header_v6(src: &[u8; 16], dst: &[u8; 16], protocol: u8, length: u16) -> u16 {
    let addresses = u64::from(sum(src)).wrapping_add(u64::from(sum(dst)));
    fold(addresses.wrapping_add(u64::from(protocol)).wrapping_add(u64::from(length)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 3: 0001 f203 f4f5 f6f7 sum to 2ddf0, which folds to ddf2.
    #[test]
    fn rfc_1071_example() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    /// RFC 1624 section 4: HC = dd2f, m = 5555, m' = 3285 gives 0000, not ffff.
    #[test]
    fn rfc_1624_example() {
        assert_eq!(update(0xdd2f, difference16(0x5555, 0x3285)), 0x0000);
    }

    #[test]
    fn no_change_leaves_both_zeros_alone() {
        for checksum in [0x0000, 0xffff, 0x1234] {
            assert_eq!(update(checksum, difference16(0x5555, 0x5555)), checksum);
            assert_eq!(update(checksum, difference32(0x5555_0000, 0x5555_0000)), checksum);
        }
    }

    #[test]
    fn odd_length_is_padded_behind() {
        assert_eq!(sum(&[0x12, 0x34, 0x56]), 0x1234 + 0x5600);
        assert_eq!(sum(&[]), 0);
    }

    #[test]
    fn pseudo_header_bytes() {
        let bytes = [10, 0, 0, 1, 192, 0, 2, 200, 0, 17, 0x12, 0x34];
        assert_eq!(pseudo_header_v4([10, 0, 0, 1], [192, 0, 2, 200], 17, 0x1234), sum(&bytes));
    }

    #[test]
    fn pseudo_header_v6_bytes() {
        let (src, dst) = ([0xfd; 16], [0xfe; 16]);
        let bytes = [&src[..], &dst, &[0, 0, 0x12, 0x34, 0, 0, 0, 6]].concat();
        assert_eq!(pseudo_header_v6(&src, &dst, 6, 0x1234), sum(&bytes));
    }

    /// Sixteen bits at a time, as RFC 1071 writes it.
    fn naive(bytes: &[u8]) -> u16 {
        let mut total = 0u64;
        for pair in bytes.chunks(2) {
            total += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u64::from(*b));
        }
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    proptest! {
        #[test]
        fn sum_is_the_naive_sum(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(sum(&bytes), naive(&bytes));
        }

        #[test]
        fn fold_keeps_the_value(value: u64) {
            prop_assert_eq!(fold(value), naive(&value.to_be_bytes()));
        }

        /// One update for several fields gives the bytes that one update per field gives.
        #[test]
        fn differences_add_up(checksum: u16, words in prop::collection::vec(any::<(u32, u32)>(), 0..6)) {
            let total = words.iter().fold(0, |total, (old, new)| total + difference32(*old, *new));
            let one_by_one = words.iter().fold(checksum, |sum, (old, new)| update(sum, difference32(*old, *new)));
            prop_assert_eq!(update(checksum, total), one_by_one);
        }

        #[test]
        fn update_is_a_recomputation(mut bytes in prop::collection::vec(any::<u8>(), 8..64), new: u32) {
            let before = !naive(&bytes);
            let old = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            bytes[4..8].copy_from_slice(&new.to_be_bytes());
            let updated = update(before, difference32(old, new));
            // 0000 and ffff are the same number; which one results depends on the order of additions
            // only when all data is zero, and a header never is.
            prop_assume!(bytes.iter().any(|b| *b != 0));
            prop_assert_eq!(updated, !naive(&bytes));
        }
    }
}
