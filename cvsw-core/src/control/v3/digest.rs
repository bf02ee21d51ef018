//! The digest of a flow table: two tables with the same entries have the same one, in whatever order they came.
//!
//! It is the sum, modulo 2^64, of SipHash-2-4 of every entry's canonical bytes. It tells apart what errors and losses
//! leave behind. It is no protection against who may write entries: such a one needs no collision.

use crate::{
    flow::{Action, Command, FLAG_SEND_FLOW_REM, FlowMod, OFPP_NONE},
    openflow::{EncodeError, Parts},
};

/// SipHash's key: the one of its authors' test vectors. It is no secret.
const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

/// SipHash of nothing.
pub(super) const EMPTY: u64 = 0x726f_db47_dd0e_0e31;

/// What a digest adds up.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    siphash(KEY, bytes)
}

/// A digest under construction; [`Default`] is that of an empty table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableDigest(u64);

impl TableDigest {
    /// Takes an entry in: the ADD that would create it, as canonical bytes. `scratch` is overwritten; 1,304 bytes are
    /// enough for any entry.
    ///
    /// # Errors
    /// If the entry cannot be written there.
    pub fn add(&mut self, entry: &FlowMod, scratch: &mut [u8]) -> Result<(), EncodeError> {
        self.take(entry.parts(), scratch)
    }

    /// The same for an entry wherever its parts lie. Canonical are: transaction 0, the command ADD, no filter, and of the
    /// flags only SEND_FLOW_REM.
    pub(super) fn take(
        &mut self,
        entry: Parts<'_, impl Iterator<Item = Action>>,
        scratch: &mut [u8],
    ) -> Result<(), EncodeError> {
        let flags = entry.flags & FLAG_SEND_FLOW_REM;
        let canonical = Parts { command: Command::Add, flags, out_port: OFPP_NONE, ..entry };
        let len = canonical.encode(0, scratch)?;
        self.0 = self.0.wrapping_add(hash(scratch.get(..len).unwrap_or_default()));
        Ok(())
    }

    /// The digest.
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// SipHash-2-4 with a 64-bit result (Aumasson and Bernstein, 2012).
fn siphash([k0, k1]: [u64; 2], data: &[u8]) -> u64 {
    let mut state = Sip {
        v0: k0 ^ 0x736f_6d65_7073_6575,
        v1: k1 ^ 0x646f_7261_6e64_6f6d,
        v2: k0 ^ 0x6c79_6765_6e65_7261,
        v3: k1 ^ 0x7465_6462_7974_6573,
    };
    let (words, rest) = data.as_chunks::<8>();
    for word in words {
        state.take(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    state.take(u64::from_le_bytes(last) | (data.len() as u64) << 56);
    state.v2 ^= 0xff;
    for _ in 0..4 {
        state.round();
    }
    state.v0 ^ state.v1 ^ state.v2 ^ state.v3
}

struct Sip {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl Sip {
    const fn take(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    const fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    use super::*;
    use crate::flow::text::parse_flow;

    /// The first, the ninth and the sixteenth vector of the authors' reference implementation.
    #[test]
    fn reference_vectors() {
        let data: [u8; 15] = core::array::from_fn(|index| index as u8);
        assert_eq!((hash(&[]), EMPTY), (0x726f_db47_dd0e_0e31, 0x726f_db47_dd0e_0e31));
        assert_eq!(siphash(KEY, &data[..8]), 0x93f5_f579_9a93_2462);
        assert_eq!(siphash(KEY, &data), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn the_order_does_not_count_and_everything_else_does() {
        let texts = [
            "priority=5,arp,actions=drop",
            "priority=6,arp,actions=drop",
            "priority=5,arp,actions=mod_dl_src:02:00:00:00:00:01",
            "priority=5,arp,idle_timeout=3,actions=drop",
            "priority=5,arp,cookie=1,actions=drop",
            "priority=5,arp,send_flow_rem,actions=drop",
            "priority=5,ip,actions=drop",
        ];
        let digest = |texts: &[&str]| {
            let mut digest = TableDigest::default();
            let mut scratch = [0; 1304];
            texts.iter().for_each(|text| digest.add(&parse_flow(text).unwrap(), &mut scratch).unwrap());
            digest.value()
        };
        let reversed: std::vec::Vec<_> = texts.iter().rev().copied().collect();
        assert_eq!(digest(&texts), digest(&reversed));
        let single: std::collections::BTreeSet<_> = texts.iter().map(|text| digest(&[text])).collect();
        assert_eq!(single.len(), texts.len());
        assert_ne!(digest(&texts[..1]), digest(&[texts[0], texts[0]]));
        assert_eq!(digest(&[]), 0);
    }
}
