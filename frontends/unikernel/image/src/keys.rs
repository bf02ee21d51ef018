//! Security associations as the hypervisor gives them: lines of text in a file of QEMU's firmware configuration.
//!
//! ```text
//! sa id=7 direction=tx spi=0x1001 destination=192.0.2.2 suite=aes-128-gcm key=000102...13
//! encrypted-only vni=42
//! ```
//!
//! The machine remembers nothing from one start to the next, so a sending key is for one start only: who starts it
//! again must give it fresh keys, or say with `last-sequence=N` how far the old ones went.

use core::net::Ipv4Addr;
use cvsw_core::{
    Direction,
    crypto::{KeyMaterial, MAX_KEY_MATERIAL, SaConfig, Suite},
};
use zeroize::Zeroize;

/// One line.
#[derive(Debug)]
pub enum Line {
    /// `sa ...`: an association and its key.
    Association(SaConfig, KeyMaterial),
    /// `encrypted-only vni=N`: frames of this network may not travel in clear.
    EncryptedOnly(u32),
}

/// Reads all lines; empty ones and those that begin with `#` are passed over. The error is the number of the bad line,
/// from 1, and what was expected there; no key is in it.
pub fn parse(text: &str) -> impl Iterator<Item = Result<Line, (usize, &'static str)>> + '_ {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| parse_line(line).map_err(|expected| (number, expected)))
}

fn parse_line(line: &str) -> Result<Line, &'static str> {
    let (kind, rest) = line.split_once(' ').ok_or("`sa` or `encrypted-only`, and attributes")?;
    let value =
        |key: &str| rest.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let number = |key| value(key).and_then(parse_number);
    match kind {
        "sa" => {
            let direction = match value("direction") {
                Some("tx") => Direction::Tx,
                Some("rx") => Direction::Rx,
                _ => return Err("direction=tx or direction=rx"),
            };
            let id = number("id").ok_or("id=NUMBER")?;
            let spi = number("spi").ok_or("spi=NUMBER")?;
            let destination = value("destination").and_then(|text| text.parse::<Ipv4Addr>().ok());
            let destination = destination.ok_or("destination=ADDRESS")?.octets();
            let suite = value("suite").and_then(Suite::from_name).ok_or("suite=NAME")?;
            let key = value("key").ok_or("key=HEX")?;
            let mut config = SaConfig::new(id, direction, spi, destination);
            if let Some(last) = value("last-sequence") {
                config.last_sequence = last.parse().map_err(|_| "last-sequence=NUMBER")?;
            }
            Ok(Line::Association(config, parse_key(suite, key)?))
        }
        "encrypted-only" => number("vni").map(Line::EncryptedOnly).ok_or("vni=NUMBER"),
        _ => Err("`sa` or `encrypted-only`"),
    }
}

fn parse_key(suite: Suite, hex: &str) -> Result<KeyMaterial, &'static str> {
    const EXPECTED: &str = "key= with as many hexadecimal digits as the suite wants";
    let mut bytes = [0; MAX_KEY_MATERIAL];
    let count = hex.len() / 2;
    let room = bytes.get_mut(..count).filter(|_| hex.len().is_multiple_of(2)).ok_or(EXPECTED)?;
    for (byte, digits) in room.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digits = core::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'));
        *byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or(EXPECTED)?;
    }
    let key = KeyMaterial::new(suite, room).map_err(|_| EXPECTED);
    bytes.zeroize();
    key
}

fn parse_number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
