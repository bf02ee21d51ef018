//! A file with every key, for a dissector: only for laboratories.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use cvsw_core::crypto::{KeyMaterial, Suite};

/// Appends keys in the form of Wireshark's `esp_sa` table. Whoever reads the file reads the traffic.
#[derive(Debug)]
pub struct KeyLog(File);

impl KeyLog {
    /// A new file that nobody else may read.
    ///
    /// # Errors
    /// The file exists already, or cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?))
    }

    /// Notes a key.
    pub(super) fn note(&mut self, source: Ipv4Addr, destination: Ipv4Addr, spi: u32, key: &KeyMaterial) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (cipher, authentication) = match key.suite() {
            Suite::Aes128Gcm | Suite::Aes256Gcm => ("AES-GCM with 16 octet ICV [RFC4106]", "NULL"),
            Suite::Aes128CtrHmacSha256 | Suite::Aes256CtrHmacSha256 => {
                ("AES-CTR [RFC3686]", "HMAC-SHA-256-128 [RFC4868]")
            }
            Suite::Aes128CtrUnauthenticated | Suite::Aes256CtrUnauthenticated => ("AES-CTR [RFC3686]", "NULL"),
        };
        let mac = if key.mac_key().is_empty() { String::new() } else { format!("0x{}", hex(key.mac_key())) };
        let (cipher_key, salt) = (hex(key.cipher_key()), hex(&key.salt()));
        let line = format!(
            "\"IPv4\",\"{source}\",\"{destination}\",\"{spi:#010x}\",\"{cipher}\",\"0x{cipher_key}{salt}\",\"{authentication}\",\"{mac}\"\n"
        );
        if let Err(error) = self.0.write_all(line.as_bytes()) {
            tracing::warn!("a key could not be noted for the dissector: {error}");
        }
    }
}
