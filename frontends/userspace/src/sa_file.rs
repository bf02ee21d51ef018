//! Files of security associations with their keys (TOML).
//!
//! ```toml
//! encrypted_only = [42]            # optional: VNIs whose frames may not travel in clear
//!
//! [[sa]]
//! id = 7                           # the name in encrypt(sa=7) and in reports
//! direction = "tx"                 # "tx" seals, "rx" opens
//! spi = 0x1001
//! destination = "192.0.2.2"        # outer IPv4 destination of its packets
//! suite = "aes-128-gcm"
//! key = "000102...13"              # hexadecimal: AES key, 4 bytes of salt, HMAC key if the suite has one
//! extended_sequence = false        # optional: 64-bit sequence numbers
//! window = 1024                    # optional: numbers that the anti-replay window spans
//! soft = { packets = 1000000 }     # optional: packets, bytes, seconds; when to ask for a new key
//! hard = { seconds = 86400 }       # optional: when to stop
//! ```
//!
//! The file must not be accessible to anyone but its owner. Keys are wiped from memory and appear in no message.

use cvsw_core::{
    Cvsw, Instant,
    crypto::{Ciphers, DEFAULT_WINDOW, KeyMaterial, Lifetime, MAX_KEY_MATERIAL, SaConfig, SaError, Suite},
    flow::Direction,
};
use serde::Deserialize;
use std::{
    fmt, fs,
    io::{self, Read},
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use toml::Spanned;
use zeroize::Zeroizing;

/// Permission bits of everyone but the owner.
const OTHERS: u32 = 0o077;

/// One association and its key.
#[derive(Clone, Debug)]
pub struct FileSa {
    /// Line in the file, from 1.
    pub line: usize,
    /// What it is to be.
    pub config: SaConfig,
    /// Its suite and key.
    pub key: KeyMaterial,
}

/// The associations of one file.
#[derive(Clone, Debug)]
pub struct SaFile {
    /// The file.
    pub path: PathBuf,
    /// Its associations, in the file's order.
    pub sas: Vec<FileSa>,
    /// VNIs whose frames may not travel in clear.
    pub encrypted_only: Vec<u32>,
}

/// Why a file of associations is not accepted. No variant shows key material.
#[derive(Debug, thiserror::Error)]
pub enum SaFileError {
    /// It could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error(
        "{path}: its permissions are {mode:03o}, so others than its owner may get at the keys: \
         `chmod 600 {path}`, and if others could read it until now, use new keys",
        path = path.display()
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its contents are wrong.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what to do.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    encrypted_only: Vec<Spanned<u32>>,
    #[serde(default)]
    sa: Vec<Spanned<RawSa>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSa {
    id: u32,
    direction: RawDirection,
    spi: u32,
    destination: Ipv4Addr,
    suite: Spanned<String>,
    key: Spanned<Zeroizing<String>>,
    #[serde(default)]
    extended_sequence: bool,
    window: Option<u16>,
    #[serde(default)]
    soft: RawLifetime,
    #[serde(default)]
    hard: RawLifetime,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawDirection {
    Tx,
    Rx,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLifetime {
    #[serde(default)]
    packets: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    seconds: u64,
}

impl From<RawLifetime> for Lifetime {
    fn from(RawLifetime { packets, bytes, seconds }: RawLifetime) -> Self {
        Self { packets, bytes, seconds }
    }
}

/// Reads a file after a look at its permissions.
///
/// # Errors
/// See [`SaFileError`].
pub fn load(path: &Path) -> Result<SaFile, SaFileError> {
    let failed = |source| SaFileError::Io { path: path.to_owned(), source };
    let mut file = fs::File::open(path).map_err(failed)?;
    // Of the opened file, so that nobody can exchange it in between.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(SaFileError::Permissions { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(failed)?;
    parse(path, &text)
}

/// Parses the contents of a file.
///
/// # Errors
/// [`SaFileError::Wrong`].
pub fn parse(path: &Path, text: &str) -> Result<SaFile, SaFileError> {
    let line_of = |offset: usize| 1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count();
    let wrong = |offset: usize, message: String| SaFileError::Wrong {
        path: path.to_owned(),
        line: line_of(offset),
        message,
    };
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        // Neither the line itself nor the found value may be shown: it could be a key in the wrong place.
        wrong(error.span().map_or(0, |span| span.start), without_values(error.message()))
    })?;
    let mut sas = Vec::with_capacity(raw.sa.len());
    for sa in &raw.sa {
        let line = line_of(sa.span().start);
        sas.push(association(sa.get_ref(), line).map_err(|(offset, message)| wrong(offset, message))?);
    }
    for vni in &raw.encrypted_only {
        if !(1..1 << 24).contains(vni.get_ref()) {
            return Err(wrong(vni.span().start, "a VNI is a number from 1 to 16777215".to_owned()));
        }
    }
    let encrypted_only = raw.encrypted_only.into_iter().map(Spanned::into_inner).collect();
    Ok(SaFile { path: path.to_owned(), sas, encrypted_only })
}

impl SaFile {
    /// Gives every association to an engine and its `ciphers`, as of `now`.
    ///
    /// # Errors
    /// [`SaFileError::Wrong`] with the line of the first one that is refused; those before it stay.
    pub fn install<C: Ciphers, const FLOWS: usize, const CACHE: usize, const MASKS: usize, const SAS: usize>(
        &self,
        engine: &mut Cvsw<FLOWS, CACHE, MASKS, SAS>,
        ciphers: &mut C,
        now: Instant,
    ) -> Result<(), SaFileError> {
        let wrong = |line, message: String| SaFileError::Wrong { path: self.path.clone(), line, message };
        for FileSa { line, config, key } in &self.sas {
            engine.add_sa(ciphers, now, config, key).map_err(|error| wrong(*line, refused(config, error)))?;
        }
        for vni in &self.encrypted_only {
            if !engine.require_encryption(*vni, true) {
                return Err(wrong(
                    1,
                    format!("encrypted_only names more networks than fit, {vni} is one too many"),
                ));
            }
        }
        Ok(())
    }
}

fn refused(config: &SaConfig, error: SaError) -> String {
    let hint = match error {
        SaError::Duplicate => " (each receiving association of one destination needs its own SPI)",
        SaError::OtherDirection => " (give the two directions different ids)",
        _ => "",
    };
    format!("association {} is refused: {error}{hint}", config.id)
}

/// Checks one association; an error comes with its offset in the text.
fn association(raw: &RawSa, line: usize) -> Result<FileSa, (usize, String)> {
    let suite = Suite::from_name(raw.suite.get_ref()).ok_or_else(|| {
        let known: Vec<_> = Suite::ALL.iter().map(|suite| suite.name()).collect();
        (raw.suite.span().start, format!("there is no such cipher suite; there are {}", known.join(", ")))
    })?;
    if !suite.is_authenticated() {
        tracing::warn!(id = raw.id, %suite, "packets can be changed on their way without being noticed");
    }
    let at = raw.key.span().start;
    let key = decode(raw.key.get_ref()).map_err(|message| (at, message))?;
    let key = KeyMaterial::new(suite, &key).map_err(|error| {
        let parts = "AES key, 4 bytes of salt, HMAC key if the suite has one";
        (at, format!("the key has the wrong length: {error} ({parts})"))
    })?;
    let direction = match raw.direction {
        RawDirection::Tx => Direction::Tx,
        RawDirection::Rx => Direction::Rx,
    };
    let config = SaConfig {
        extended_sequence: raw.extended_sequence,
        window: raw.window.unwrap_or(DEFAULT_WINDOW),
        soft: raw.soft.into(),
        hard: raw.hard.into(),
        ..SaConfig::new(raw.id, direction, raw.spi, raw.destination.octets())
    };
    Ok(FileSa { line, config, key })
}

/// Bytes of a hexadecimal text, which may start with `0x`; blanks and colons are ignored.
fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    // With all its room from the start: growing would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_MATERIAL));
    let mut high = None;
    for char in text.strip_prefix("0x").unwrap_or(text).chars() {
        let Some(nibble) = char.to_digit(16) else {
            if char == ':' || char == ' ' {
                continue;
            }
            return Err("a key is written in hexadecimal digits".to_owned());
        };
        match high.take() {
            None => high = Some(nibble as u8),
            Some(_) if bytes.len() == MAX_KEY_MATERIAL => {
                return Err(format!("no suite has a key of more than {MAX_KEY_MATERIAL} bytes"));
            }
            Some(high) => bytes.push(high << 4 | nibble as u8),
        }
    }
    if high.is_some() { Err("the key has an odd number of digits".to_owned()) } else { Ok(bytes) }
}

/// A parser's message without what it found in the file.
fn without_values(message: &str) -> String {
    match message.split_once("expected ") {
        Some((found, expected)) if found.starts_with("invalid") => format!("expected {expected}"),
        _ if message.starts_with("invalid") => "this value cannot be used here".to_owned(),
        _ => message.to_owned(),
    }
}

impl fmt::Display for SaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} associations", self.path.display(), self.sas.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
encrypted_only = [42]

[[sa]]
id = 7
direction = \"tx\"
spi = 0x1001
destination = \"192.0.2.2\"
suite = \"aes-128-gcm\"
key = \"000102030405060708090a0b0c0d0e0f10111213\"
hard = { packets = 5 }
";

    fn parse_text(text: &str) -> Result<SaFile, SaFileError> {
        parse(Path::new("k.toml"), text)
    }

    #[test]
    fn a_file() {
        let file = parse_text(GOOD).unwrap();
        assert_eq!(file.encrypted_only, [42]);
        let [FileSa { line, config, key }] = &file.sas[..] else { panic!("{file:?}") };
        assert_eq!(*line, 3);
        let hard = Lifetime { packets: 5, ..Lifetime::UNLIMITED };
        assert_eq!(*config, SaConfig { hard, ..SaConfig::new(7, Direction::Tx, 0x1001, [192, 0, 2, 2]) });
        assert_eq!(key.cipher_key(), (0..16).collect::<Vec<u8>>());
        assert_eq!(key.salt(), [16, 17, 18, 19]);
    }

    #[test]
    fn every_mistake_names_its_line_and_no_key() {
        let key = "000102030405060708090a0b0c0d0e0f10111213";
        for (from, to, line, expected) in [
            (key, "00", 9, "1 bytes of key material, the suite wants 20"),
            (key, "0g", 9, "hexadecimal"),
            (key, &format!("{key}1"), 9, "odd number"),
            (key, &key.repeat(4), 9, "more than 68"),
            ("aes-128-gcm", "aes-128-ctr", 8, "aes-128-ctr-unauthenticated"),
            ("id = 7", "id = \"000102030405060708090a0b0c0d0e0f10111213\"", 4, "expected u32"),
            ("key = \"000102030405060708090a0b0c0d0e0f10111213\"", "key = 102030405060708", 9, "expected a string"),
            ("\"tx\"", "\"up\"", 5, "tx"),
            ("192.0.2.2", key, 7, "cannot be used here"),
            ("[42]", "[16777216]", 1, "16777215"),
            ("spi", "sip", 6, "unknown field `sip`"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            let error = parse_text(&text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("k.toml:{line}: ")) && error.contains(expected), "{to}: {error}");
            assert!(!error.contains("0102030405") && !error.contains("102030405060708"), "{error}");
        }
    }

    #[test]
    fn others_may_not_read_it() {
        let path = std::env::temp_dir().join(format!("cvsw-sa-{}.toml", std::process::id()));
        fs::write(&path, GOOD).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o660, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:o}")) && error.contains("chmod 600"), "{error}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load(&path).unwrap().sas.len(), 1);
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(load(&path), Err(SaFileError::Io { .. })));
    }
}
