//! Two MTUs, two types. Mixing them up is the most common bug of this field.

/// Largest IP packet, in bytes, without the Ethernet header (what `ip link` shows as `mtu`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IpMtu(u16);

/// Largest Ethernet frame, in bytes, with the 14-byte header (and tags), without the frame check sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct L2Mtu(u32);

impl IpMtu {
    /// Smallest MTU that IPv4 allows (RFC 791).
    pub const MIN: Self = Self(68);
    /// Ethernet's.
    pub const ETHERNET: Self = Self(1500);

    /// An MTU of `bytes`; `None` below [`IpMtu::MIN`].
    pub const fn new(bytes: u16) -> Option<Self> {
        if bytes < Self::MIN.0 { None } else { Some(Self(bytes)) }
    }

    /// Bytes.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The untagged Ethernet frame that holds such a packet.
    pub const fn l2(self) -> L2Mtu {
        L2Mtu((self.0 as u32).saturating_add(14))
    }
}

impl L2Mtu {
    /// An MTU of `bytes`.
    pub const fn new(bytes: u32) -> Self {
        Self(bytes)
    }

    /// Bytes.
    pub const fn get(self) -> u32 {
        self.0
    }
}
