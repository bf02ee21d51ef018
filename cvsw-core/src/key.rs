//! The flow key: every field that a match can name, packed into 64-bit words so that masking,
//! comparing and hashing cost a few instructions per word.

use zerocopy::{FromZeros, Immutable, KnownLayout};

/// Number of 64-bit words in a [`FlowKey`].
pub const KEY_WORDS: usize = NARROW_WORDS + WIDE_WORDS;
/// Words in front, which all frames use.
pub const NARROW_WORDS: usize = 5;
/// Words behind, which only IPv6 frames use.
pub const WIDE_WORDS: usize = 4;

/// A direction through the vNIC, which is also the flow key's `in_port` (protocol version 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Direction {
    /// From the host (the VM's stack) to the network: transmit, `in_port` 1, `HOST`.
    Tx = 1,
    /// From the network to the host: receive, `in_port` 2, `NET`.
    Rx = 2,
}

impl Direction {
    /// Both directions, in counter order.
    pub const ALL: [Self; 2] = [Self::Tx, Self::Rx];

    /// OpenFlow port number of the side that the frame comes from.
    pub const fn in_port(self) -> u16 {
        self as u16
    }

    /// Index into per-direction arrays: 0 transmit, 1 receive.
    pub const fn index(self) -> usize {
        match self {
            Self::Tx => 0,
            Self::Rx => 1,
        }
    }

    /// `"tx"` or `"rx"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tx => "tx",
            Self::Rx => "rx",
        }
    }
}

/// `in_port` of frames from the host (transmit).
pub const PORT_HOST: u16 = Direction::Tx as u16;
/// `in_port` of frames from the network (receive).
pub const PORT_NET: u16 = Direction::Rx as u16;

/// Bit of [`Field::VlanTci`] that says "there is a tag" (the position of the CFI/DEI bit, as in Open vSwitch).
pub const VLAN_PRESENT: u16 = 0x1000;

/// A field of the flow key. Multi-byte values are in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Field {
    /// Ingress port, 16 bits: [`PORT_HOST`] or [`PORT_NET`].
    InPort,
    /// Ethernet destination, 48 bits.
    EthDst,
    /// Ethernet source, 48 bits.
    EthSrc,
    /// EtherType after at most one 802.1Q tag, 16 bits; 0x05ff for 802.3 frames without one.
    EthType,
    /// 802.1Q TCI with [`VLAN_PRESENT`] set, 16 bits; 0 for untagged frames.
    VlanTci,
    /// IPv4 source, or ARP sender protocol address, 32 bits.
    NwSrc,
    /// IPv4 destination, or ARP target protocol address, 32 bits.
    NwDst,
    /// IP protocol, or the low 8 bits of the ARP opcode, 8 bits.
    NwProto,
    /// IP ToS/traffic class with the two ECN bits cleared, 8 bits.
    NwTos,
    /// Transport source port, or ICMP type, 16 bits.
    TpSrc,
    /// Transport destination port, or ICMP code, 16 bits.
    TpDst,
    /// VNI of the tunnel that the frame was decapsulated from, 32 bits; 0 for none.
    TunId,
    /// TCP flags, 12 bits.
    TcpFlags,
    /// Fragment state, 8 bits: 0 whole, 1 first fragment, 3 later fragment (Open vSwitch's `FLOW_NW_FRAG_*`).
    NwFrag,
    /// High 64 bits of the IPv6 source.
    Ipv6SrcHi,
    /// Low 64 bits of the IPv6 source.
    Ipv6SrcLo,
    /// High 64 bits of the IPv6 destination.
    Ipv6DstHi,
    /// Low 64 bits of the IPv6 destination.
    Ipv6DstLo,
}

impl Field {
    /// All fields, in key order.
    pub const ALL: [Self; 18] = [
        Self::InPort,
        Self::EthDst,
        Self::EthSrc,
        Self::EthType,
        Self::VlanTci,
        Self::NwSrc,
        Self::NwDst,
        Self::NwProto,
        Self::NwTos,
        Self::TpSrc,
        Self::TpDst,
        Self::TunId,
        Self::TcpFlags,
        Self::NwFrag,
        Self::Ipv6SrcHi,
        Self::Ipv6SrcLo,
        Self::Ipv6DstHi,
        Self::Ipv6DstLo,
    ];

    /// `(word, shift, width in bits)` of the field in the key.
    pub const fn place(self) -> (usize, u32, u32) {
        match self {
            Self::EthDst => (0, 16, 48),
            Self::InPort => (0, 0, 16),
            Self::EthSrc => (1, 16, 48),
            Self::EthType => (1, 0, 16),
            Self::NwSrc => (2, 32, 32),
            Self::NwDst => (2, 0, 32),
            Self::VlanTci => (3, 48, 16),
            Self::TpSrc => (3, 32, 16),
            Self::TpDst => (3, 16, 16),
            Self::NwProto => (3, 8, 8),
            Self::NwTos => (3, 0, 8),
            Self::TunId => (4, 32, 32),
            Self::TcpFlags => (4, 16, 16),
            Self::NwFrag => (4, 8, 8),
            Self::Ipv6SrcHi => (5, 0, 64),
            Self::Ipv6SrcLo => (6, 0, 64),
            Self::Ipv6DstHi => (7, 0, 64),
            Self::Ipv6DstLo => (8, 0, 64),
        }
    }

    /// The field's all-ones value.
    pub const fn max(self) -> u64 {
        let (_, _, bits) = self.place();
        u64::MAX >> 64u32.saturating_sub(bits)
    }

    /// The name in `ovs-ofctl` flow syntax.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InPort => "in_port",
            Self::EthDst => "dl_dst",
            Self::EthSrc => "dl_src",
            Self::EthType => "dl_type",
            Self::VlanTci => "vlan_tci",
            Self::NwSrc => "nw_src",
            Self::NwDst => "nw_dst",
            Self::NwProto => "nw_proto",
            Self::NwTos => "nw_tos",
            Self::TpSrc => "tp_src",
            Self::TpDst => "tp_dst",
            Self::TunId => "tun_id",
            Self::TcpFlags => "tcp_flags",
            Self::NwFrag => "ip_frag",
            Self::Ipv6SrcHi | Self::Ipv6SrcLo => "ipv6_src",
            Self::Ipv6DstHi | Self::Ipv6DstLo => "ipv6_dst",
        }
    }
}

/// The fields of one frame, or (as a mask) the bits of them that matter.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, FromZeros, Immutable, KnownLayout)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(transparent)]
#[allow(clippy::derived_hash_with_manual_eq, reason = "the manual comparison is the derived one, branch-free")]
pub struct FlowKey(pub(crate) [u64; KEY_WORDS]);

impl PartialEq for FlowKey {
    /// Without a branch per word and without a call of `memcmp`: this is the comparison of every cache hit.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl FlowKey {
    /// All fields zero; as a mask: everything is wildcarded.
    pub const ZERO: Self = Self([0; KEY_WORDS]);

    /// The value of `field`.
    pub const fn get(&self, field: Field) -> u64 {
        let (word, shift, _) = field.place();
        // The match keeps the access free of a bounds check that could panic; `place` returns 0..KEY_WORDS.
        let value = if word < KEY_WORDS { Self::word_at(&self.0, word) } else { 0 };
        (value >> shift) & field.max()
    }

    #[allow(clippy::indexing_slicing, reason = "`word < KEY_WORDS` was just checked; `get` is not const")]
    const fn word_at(words: &[u64; KEY_WORDS], word: usize) -> u64 {
        words[word]
    }

    /// Sets `field`; bits of `value` beyond the field's width are ignored.
    pub fn set(&mut self, field: Field, value: u64) {
        let (word, shift, _) = field.place();
        if let Some(slot) = self.0.get_mut(word) {
            *slot = (*slot & !(field.max() << shift)) | ((value & field.max()) << shift);
        }
    }

    /// The same key with `field` set.
    #[must_use]
    pub fn with(mut self, field: Field, value: u64) -> Self {
        self.set(field, value);
        self
    }

    /// The words that all frames use, and those that only IPv6 frames use.
    #[inline]
    pub(crate) const fn split(&self) -> (&[u64; NARROW_WORDS], &[u64; WIDE_WORDS]) {
        let (narrow, wide) = self.0.split_at(NARROW_WORDS);
        match (narrow.first_chunk(), wide.first_chunk()) {
            (Some(narrow), Some(wide)) => (narrow, wide),
            // Never reached: the lengths are constants.
            _ => (&[0; NARROW_WORDS], &[0; WIDE_WORDS]),
        }
    }

    /// Whether a word that only IPv6 frames use is not zero.
    #[inline]
    pub(crate) const fn is_wide(&self) -> bool {
        let [_, _, _, _, _, a, b, c, d] = self.0;
        a | b | c | d != 0
    }

    /// The key's words.
    pub const fn words(&self) -> &[u64; KEY_WORDS] {
        &self.0
    }

    /// Bitwise and: the part of the key that `mask` lets through.
    #[must_use]
    pub fn masked(&self, mask: &Self) -> Self {
        let mut out = Self::ZERO;
        for ((out, key), mask) in out.0.iter_mut().zip(&self.0).zip(&mask.0) {
            *out = key & mask;
        }
        out
    }

    /// [`FlowKey::matches`] for a mask without the words that only IPv6 frames use.
    #[inline]
    pub(crate) fn matches_narrow(&self, value: &Self, mask: &Self) -> bool {
        let ((key, _), (value, _), (mask, _)) = (self.split(), value.split(), mask.split());
        let mut difference = 0;
        for ((key, value), mask) in key.iter().zip(value).zip(mask) {
            difference |= (key & mask) ^ value;
        }
        difference == 0
    }

    /// Whether this key, under `mask`, equals `value` (which must itself be masked already).
    pub fn matches(&self, value: &Self, mask: &Self) -> bool {
        let mut difference = 0;
        for ((key, value), mask) in self.0.iter().zip(&value.0).zip(&mask.0) {
            difference |= (key & mask) ^ value;
        }
        difference == 0
    }
}
