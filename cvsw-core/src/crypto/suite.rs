//! Cipher suites.

use crate::wire::esp;

/// How an ESP packet is protected. All suites use AES in counter mode with an 8-byte explicit IV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Suite {
    /// AES-GCM with a 128-bit key and a 16-byte ICV (RFC 4106). The default.
    Aes128Gcm = 1,
    /// AES-GCM with a 256-bit key and a 16-byte ICV (RFC 4106).
    Aes256Gcm,
    /// AES-CTR with a 128-bit key (RFC 3686) and HMAC-SHA-256-128 (RFC 4868).
    Aes128CtrHmacSha256,
    /// AES-CTR with a 256-bit key (RFC 3686) and HMAC-SHA-256-128 (RFC 4868).
    Aes256CtrHmacSha256,
    /// AES-CTR with a 128-bit key and nothing else: whoever is on the path can change packets, unnoticed, bit by bit.
    Aes128CtrUnauthenticated,
    /// AES-CTR with a 256-bit key and nothing else: whoever is on the path can change packets, unnoticed, bit by bit.
    Aes256CtrUnauthenticated,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 6] = [
        Self::Aes128Gcm,
        Self::Aes256Gcm,
        Self::Aes128CtrHmacSha256,
        Self::Aes256CtrHmacSha256,
        Self::Aes128CtrUnauthenticated,
        Self::Aes256CtrUnauthenticated,
    ];

    /// Bytes of the explicit initialization vector.
    pub const IV_LEN: usize = 8;
    /// Bytes of the salt (RFC 4106 section 4) or nonce (RFC 3686 section 4), which is part of the key material.
    pub const SALT_LEN: usize = 4;

    /// The name in configuration files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Aes128CtrHmacSha256 => "aes-128-ctr-hmac-sha-256-128",
            Self::Aes256CtrHmacSha256 => "aes-256-ctr-hmac-sha-256-128",
            Self::Aes128CtrUnauthenticated => "aes-128-ctr-unauthenticated",
            Self::Aes256CtrUnauthenticated => "aes-256-ctr-unauthenticated",
        }
    }

    /// The suite with this [`Suite::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// The suite with this number (its discriminant: 1 to 6, in the order of [`Suite::ALL`]).
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| *suite as u8 == number)
    }

    /// Whether a changed packet is noticed. Without it neither the replay window nor extended sequence numbers
    /// mean anything, since anyone can write any sequence number (RFC 4303 sections 2.2.1 and 3.4.3).
    pub const fn is_authenticated(self) -> bool {
        self.icv_len() > 0
    }

    /// Bytes of the AES key.
    pub const fn cipher_key_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128CtrHmacSha256 | Self::Aes128CtrUnauthenticated => 16,
            Self::Aes256Gcm | Self::Aes256CtrHmacSha256 | Self::Aes256CtrUnauthenticated => 32,
        }
    }

    /// Bytes of the HMAC key (RFC 4868 section 2.1.1: as long as the hash), 0 for suites without one.
    pub const fn mac_key_len(self) -> usize {
        match self {
            Self::Aes128CtrHmacSha256 | Self::Aes256CtrHmacSha256 => 32,
            _ => 0,
        }
    }

    /// Bytes of key material: AES key, salt, HMAC key, in this order (RFC 7296 section 2.17, RFC 4106 section 8.1).
    pub const fn key_material_len(self) -> usize {
        self.cipher_key_len().saturating_add(Self::SALT_LEN).saturating_add(self.mac_key_len())
    }

    /// Bytes of the integrity check value at the packet's end.
    pub const fn icv_len(self) -> usize {
        match self {
            Self::Aes128CtrUnauthenticated | Self::Aes256CtrUnauthenticated => 0,
            _ => 16,
        }
    }

    /// Bytes of padding that a payload of `len` bytes needs, so that the trailer ends aligned.
    pub const fn padding(len: usize) -> usize {
        let partial = len.wrapping_add(esp::TRAILER_LEN) % esp::ALIGNMENT;
        esp::ALIGNMENT.wrapping_sub(partial) % esp::ALIGNMENT
    }

    /// Bytes that ESP adds to an IP packet with `len` bytes of payload.
    pub const fn overhead(self, len: usize) -> usize {
        let fixed = esp::LEN.wrapping_add(esp::TRAILER_LEN).wrapping_add(self.icv_len());
        fixed.wrapping_add(Self::padding(len))
    }
}

impl core::fmt::Display for Suite {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_come_back() {
        for suite in Suite::ALL {
            assert_eq!(Suite::from_name(suite.name()), Some(suite));
            assert_eq!(Suite::from_number(suite as u8), Some(suite));
            assert_eq!(suite.name().ends_with("-unauthenticated"), !suite.is_authenticated());
        }
        assert_eq!(Suite::from_name("aes-128-ctr"), None);
        assert_eq!((Suite::from_number(0), Suite::from_number(7)), (None, None));
    }

    /// RFC 4106 section 8.1: 20 and 36 octets; RFC 3686 section 5.1: the same; RFC 4868 section 2.1.1: 32 more.
    #[test]
    fn key_material_as_the_rfcs_count_it() {
        assert_eq!(Suite::ALL.map(Suite::key_material_len), [20, 36, 52, 68, 20, 36]);
    }

    /// RFC 4303 section 2.4: pad length and next header end a 4-byte word.
    #[test]
    fn padding_fills_the_word() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(Suite::padding), [2, 1, 0, 3, 2, 1]);
    }
}
