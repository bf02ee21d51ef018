//! Noticing that the configuration file has changed.
//!
//! The file's identity, size and time are looked at twice a second. File notification (inotify, the `notify` crate)
//! would be quicker by half a second, but it loses sight of a file that is replaced by renaming, as editors and
//! configuration management do, or reached through a symbolic link that is switched, and it is silent on network
//! file systems; and its events come while a file is still being written.

use std::{os::unix::fs::MetadataExt as _, path::PathBuf};

use crate::config::{Config, LoadError, Loaded};

/// What tells two states of a file apart: device, inode, size, modification time in seconds and nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

/// A watched configuration file.
pub(super) struct Watch {
    path: PathBuf,
    /// State of the file when it was last read; `None`: it was not there.
    used: Option<Stamp>,
    /// State of the file when it was last looked at.
    seen: Option<Stamp>,
}

impl Watch {
    /// Watches a file from its present state on.
    pub(super) fn new(path: PathBuf) -> Self {
        let mut watch = Self { path, used: None, seen: None };
        watch.seen = watch.stamp();
        watch.used = watch.seen;
        watch
    }

    /// Whether the file has changed since it was last read and has been left alone since the last look.
    pub(super) fn changed(&mut self) -> bool {
        let now = self.stamp();
        let still = now == self.seen;
        self.seen = now;
        still && now != self.used
    }

    /// The change is known and needs no reading.
    pub(super) fn pass(&mut self) {
        self.used = self.stamp();
    }

    /// Reads the file.
    pub(super) fn load(&mut self) -> Result<Loaded, LoadError> {
        self.used = self.stamp();
        Config::load(&self.path)
    }

    fn stamp(&self) -> Option<Stamp> {
        let found = std::fs::metadata(&self.path).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_the_file_has_come_to_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "a").unwrap();
        let mut watch = Watch::new(path.clone());
        assert!(!watch.changed());
        std::fs::write(&path, "ab").unwrap();
        assert!(!watch.changed(), "seen for the first time");
        std::fs::write(&path, "abc").unwrap();
        assert!(!watch.changed(), "still being written");
        assert!(watch.changed());
        assert!(watch.changed(), "not read yet");
        assert!(watch.load().is_err(), "it is no configuration");
        assert!(!watch.changed());
    }

    #[test]
    fn replacing_and_removing_are_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("c.toml"), folder.path().join("new"));
        std::fs::write(&path, "a").unwrap();
        let mut watch = Watch::new(path.clone());
        std::fs::write(&other, "b").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(!watch.changed());
        assert!(watch.changed());
        assert!(watch.load().is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(!watch.changed());
        assert!(watch.changed());
        assert!(matches!(watch.load(), Err(LoadError::Read(..))));
        assert!(!watch.changed());
    }
}
