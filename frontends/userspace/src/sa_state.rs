//! What a file of keys must remember between two runs: how far each sending association has come.
//!
//! A sequence number used twice with one key gives the key away (it is the nonce). So numbers are taken in blocks: the
//! end of a block is on the disk before the first number of it is sent. An ordinary end writes the number really
//! reached; after a crash the next run begins behind the block, and the rest of it is never used.
//!
//! The state lies beside the file of keys as `FILE.state`, one line per sending association:
//! `fingerprint-of-the-key spi destination last-number`. Whoever copies keys without their state (a cloned VM)
//! defeats it; keys from the controller have no such memory, they are new at every start.

use crate::sa_file::SaFile;
use cvsw_core::{
    crypto::{KeyMaterial, SaConfig, SaStatus},
    flow::{Direction, Ipv4Addr},
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

/// Numbers that are taken at a time: more than any port here sends in two ticks of a second.
const BLOCK: u64 = 1 << 22;

/// Sequence numbers on the disk.
#[derive(Debug)]
pub struct SaState {
    path: PathBuf,
    entries: BTreeMap<Name, u64>,
    /// Names of our own sending associations, by SPI and destination.
    ours: BTreeMap<(u32, Ipv4Addr), Name>,
}

/// A key and what it is used for, as it stands in the file.
type Name = String;

impl SaState {
    /// Reads the state beside `file`, and makes every sending association of it begin behind the numbers that were
    /// taken before.
    ///
    /// # Errors
    /// The state cannot be read, is not of this form, or cannot be written: nothing may be sent then.
    pub fn begin(file: &mut SaFile) -> io::Result<Self> {
        Self::begin_with(file, |_| BLOCK)
    }

    /// As [`SaState::begin`], with `block` saying how many numbers an association takes: for one that nobody watches
    /// afterwards, and that therefore must end with its block.
    ///
    /// # Errors
    /// As [`SaState::begin`].
    pub fn begin_with(file: &mut SaFile, block: impl Fn(&SaConfig) -> u64) -> io::Result<Self> {
        let path = PathBuf::from(format!("{}.state", file.path.display()));
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            result => result?,
        };
        let damaged = || {
            let text = format!("{} is damaged: remove it and use new keys", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let mut entries = BTreeMap::new();
        for line in text.lines() {
            let (name, number) = line.rsplit_once(' ').ok_or_else(damaged)?;
            entries.insert(name.to_owned(), number.parse().map_err(|_| damaged())?);
        }
        let mut state = Self { path, entries, ours: BTreeMap::new() };
        for sa in file.sas.iter_mut().filter(|sa| sa.config.direction == Direction::Tx) {
            let name = name(&sa.key, sa.config.spi, sa.config.destination);
            let last = state.entries.entry(name.clone()).or_insert(0);
            sa.config.last_sequence = *last;
            *last = last.saturating_add(block(&sa.config));
            state.ours.insert((sa.config.spi, sa.config.destination), name);
        }
        state.write()?;
        Ok(state)
    }

    /// Takes more numbers for the associations that have used half of theirs. Call about once a second.
    ///
    /// # Errors
    /// The state cannot be written: nothing may be sent any more.
    pub fn keep(&mut self, sas: impl Iterator<Item = SaStatus>) -> io::Result<()> {
        let mut changed = false;
        for (taken, last) in self.sending(sas) {
            if last.saturating_add(BLOCK / 2) > *taken {
                *taken = last.saturating_add(BLOCK);
                changed = true;
            }
        }
        if changed { self.write() } else { Ok(()) }
    }

    /// Writes the numbers really reached; nothing is sent any more.
    ///
    /// # Errors
    /// The state cannot be written. The numbers on the disk are too high then, which is safe.
    pub fn end(mut self, sas: impl Iterator<Item = SaStatus>) -> io::Result<()> {
        for (taken, last) in self.sending(sas) {
            *taken = last;
        }
        self.write()
    }

    /// Our sending associations: what was taken, and the last number used.
    fn sending(&mut self, sas: impl Iterator<Item = SaStatus>) -> impl Iterator<Item = (&mut u64, u64)> {
        let reached: BTreeMap<_, _> = sas
            .filter(|sa| sa.config.direction == Direction::Tx)
            .filter_map(|sa| {
                let name = self.ours.get(&(sa.config.spi, sa.config.destination))?;
                Some((name.clone(), sa.config.last_sequence))
            })
            .collect();
        self.entries.iter_mut().filter_map(move |(name, taken)| Some((taken, *reached.get(name)?)))
    }

    fn write(&self) -> io::Result<()> {
        let mut text = String::new();
        for (name, number) in &self.entries {
            let _ = writeln!(text, "{name} {number}");
        }
        let fresh = PathBuf::from(format!("{}.new", self.path.display()));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
    }
}

/// 16 hexadecimal digits that tell keys apart and say nothing about them.
fn name(key: &KeyMaterial, spi: u32, destination: Ipv4Addr) -> Name {
    let mut hash = Sha256::new();
    hash.update(b"cvsw sequence state");
    hash.update(key.cipher_key());
    hash.update(key.salt());
    let digest = hash.finalize();
    let digits: String = digest.iter().take(8).map(|octet| format!("{octet:02x}")).collect();
    format!("{digits} {spi:#x} {}", std::net::Ipv4Addr::from(destination))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sa_file, vnic::Engine};
    use cvsw_core::{Instant, crypto::Portable};
    use std::path::Path;
    use zerocopy::FromZeros;

    fn file(path: &Path) -> SaFile {
        let text = "[[sa]]\nid = 1\ndirection = \"tx\"\nspi = 300\ndestination = \"192.0.2.2\"\n\
                    suite = \"aes-128-gcm\"\nkey = \"000102030405060708090a0b0c0d0e0f10111213\"\n";
        sa_file::parse(path, text).unwrap()
    }

    fn status(last_sequence: u64) -> impl Iterator<Item = SaStatus> {
        let mut file = file(Path::new("x"));
        file.sas[0].config.last_sequence = last_sequence;
        let mut engine = Engine::new_box_zeroed().unwrap();
        file.install(&mut *engine, &mut Portable::<1>::new(), Instant::ZERO).unwrap();
        engine.sas().collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn no_number_comes_twice() {
        let folder = std::env::temp_dir().join(format!("cvsw-sa-state-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("keys.toml");
        let begin = || {
            let mut file = file(&path);
            let state = SaState::begin(&mut file).unwrap();
            (state, file.sas[0].config.last_sequence)
        };
        let (state, first) = begin();
        assert_eq!(first, 0);
        drop(state);
        let (mut state, after_crash) = begin();
        assert_eq!(after_crash, BLOCK);
        state.keep(status(BLOCK + 10)).unwrap();
        state.keep(status(BLOCK + BLOCK / 2 + 10)).unwrap();
        drop(state);
        let (state, after_crash) = begin();
        assert_eq!(after_crash, 2 * BLOCK + BLOCK / 2 + 10);
        state.end(status(after_crash + 5)).unwrap();
        let (_, after_end) = begin();
        assert_eq!(after_end, after_crash + 5);
        let state = folder.join("keys.toml.state");
        assert!(!fs::read_to_string(&state).unwrap().contains("0001020304"));
        fs::write(&state, "nonsense\n").unwrap();
        let error = SaState::begin(&mut file(&path)).unwrap_err().to_string();
        assert!(error.contains("new keys"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
