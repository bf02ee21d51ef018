//! Files that hold a secret. A file that others than its owner may read or write is refused, and what was read is wiped
//! from memory and appears in no message.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use cvsw_core::control::v3::{CONTROL_KEY_LEN, ControlKeys};
use zeroize::Zeroizing;

/// Permission bits of everyone but the owner.
const OTHERS: u32 = 0o077;
/// No file of ours is longer.
const LONGEST: u64 = 1 << 20;

/// Why a file is not accepted. No variant shows its contents.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
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
        "{path}: its permissions are {mode:03o}, so others than its owner may get at the key: \
         `chmod 600 {path}`, and if others could read it until now, use a new key",
        path = path.display()
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else than a control key.
    #[error(
        "{path}: a control key is {digits} hexadecimal digits and nothing else: \
         `(umask 077; openssl rand -hex {CONTROL_KEY_LEN} > {path})` makes one",
        path = path.display(),
        digits = 2 * CONTROL_KEY_LEN
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the text of a file after a look at its permissions.
///
/// # Errors
/// See [`KeyFileError`].
pub fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mut file = fs::File::open(path).map_err(failed)?;
    // Of the opened file, so that nobody can exchange it in between.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::Permissions { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    Read::by_ref(&mut file).take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Reads the key of a control channel: 32 hexadecimal digits, and white space around them.
///
/// # Errors
/// See [`KeyFileError`].
pub fn control_key(path: &Path) -> Result<ControlKeys, KeyFileError> {
    Ok(ControlKeys::derive(&*control_key_bytes(path)?))
}

/// As [`control_key`], for who derives the keys elsewhere: a vNIC in the kernel.
///
/// # Errors
/// See [`KeyFileError`].
pub fn control_key_bytes(path: &Path) -> Result<Zeroizing<[u8; CONTROL_KEY_LEN]>, KeyFileError> {
    let text = read(path)?;
    parse(text.trim()).ok_or_else(|| KeyFileError::NotAKey { path: path.to_owned() })
}

fn parse(text: &str) -> Option<Zeroizing<[u8; CONTROL_KEY_LEN]>> {
    let mut key = Zeroizing::new([0; CONTROL_KEY_LEN]);
    let digits = text.as_bytes();
    if digits.len() != 2 * CONTROL_KEY_LEN {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    // All zeros is a file that was never filled in.
    key.iter().any(|byte| *byte != 0).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, text: &str, mode: u32) -> PathBuf {
        let path = folder.join("vnic.key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    const KEY: &str = "000102030405060708090a0B0C0D0E0F";

    #[test]
    fn a_key_of_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let expected = ControlKeys::derive(&std::array::from_fn(|index| index as u8));
        for (text, mode) in [(KEY.to_owned(), 0o600), (format!("\n{KEY}\n"), 0o400)] {
            assert!(control_key(&file(folder.path(), &text, mode)).unwrap() == expected);
            fs::remove_file(folder.path().join("vnic.key")).unwrap();
        }
    }

    #[test]
    fn anything_else_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o601] {
            let error = control_key(&file(folder.path(), KEY, mode)).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && error.contains(&format!("{mode:03o}")), "{error}");
        }
        let zeros = "0".repeat(32);
        for text in ["", "0011", &KEY[1..], &format!("{KEY}00"), &KEY.replace('0', "g"), &zeros] {
            let error = control_key(&file(folder.path(), text, 0o600)).unwrap_err().to_string();
            assert!(error.contains("32 hexadecimal digits"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        let error = control_key(&folder.path().join("none")).unwrap_err();
        assert!(matches!(error, KeyFileError::Io { .. }));
    }
}
