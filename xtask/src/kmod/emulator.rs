//! A newer QEMU than Debian 12's, for a NIC that that one does not emulate: Debian 13's, unpacked into a private folder with the
//! libraries that it runs on. What is installed on this machine stays as it is, and so do its lists of packages.

use super::{folder, kernel, machine::Wire};
use crate::command::Cmd;
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Its QEMU 10.0.13 is the first of Debian that the drivers of virtual functions work on: in 10.0.2 (Debian 12's backports) their
/// registers cannot be reached.
const SUITE: &str = "trixie";
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const PACKAGE: &str = "qemu-system-x86";
const PROGRAM: &str = "qemu-system-x86_64";
const DOWNLOAD_LIMIT: u32 = 300;

/// One of the QEMUs.
pub struct Emulator {
    /// What to start.
    pub program: PathBuf,
    /// What comes first on its command line.
    pub arguments: Vec<String>,
}

impl Emulator {
    /// The one that has the NICs of a machine.
    pub fn of(wire: Wire) -> Result<Self> {
        if wire != Wire::Functions {
            return Ok(Self { program: PROGRAM.into(), arguments: Vec::new() });
        }
        let folder = newer()?.join("usr");
        let inside = |name: &str| folder.join(name).display().to_string();
        let arguments = [
            "--library-path",
            &inside("lib/x86_64-linux-gnu"),
            &inside(&format!("bin/{PROGRAM}")),
            "-L",
            &inside("share/qemu"),
            "-L",
            &inside("share/seabios"),
            // Virtual functions need PCI Express. A default device would look for parts of QEMU, and find those of the installed
            // one.
            "-machine",
            "q35",
            "-nodefaults",
        ];
        Ok(Self {
            program: folder.join("lib64/ld-linux-x86-64.so.2"),
            arguments: arguments.map(str::to_owned).to_vec(),
        })
    }
}

/// Downloads and unpacks the newer one, if it is not there. Its folder.
pub fn newer() -> Result<PathBuf> {
    let folder = folder()?.join("qemu");
    let complete = folder.join("complete");
    if !complete.exists() {
        let _ = fs::remove_dir_all(&folder);
        let state = folder.join("apt");
        let apt = private_apt(&state)?;
        apt("update").run().context("is the package mirror reachable?")?;
        apt("install --yes --download-only --no-install-recommends").arg(PACKAGE).run()?;
        kernel::extract(&state.join("cache/archives"), &folder)?;
        fs::remove_dir_all(&state)?;
        fs::write(complete, "")?;
    }
    Ok(folder)
}

/// `apt-get` of a machine on which nothing is installed and that knows this suite only. The words are its command.
fn private_apt(state: &Path) -> Result<impl Fn(&str) -> Cmd> {
    for name in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(state.join(name))?;
    }
    fs::write(state.join("sources.list"), format!("deb [signed-by={KEYS}] {MIRROR} {SUITE} main\n"))?;
    fs::write(state.join("status"), "")?;
    let options = [
        ("Dir::Etc::sourcelist", "sources.list"),
        ("Dir::State::lists", "lists"),
        ("Dir::State::status", "status"),
        ("Dir::Cache", "cache"),
    ];
    let options = options.map(|(name, path)| format!("{name}={}", state.join(path).display()));
    Ok(move |words: &str| {
        let command = Cmd::limited(DOWNLOAD_LIMIT, "apt-get").words("--quiet -o Dir::Etc::sourceparts=/dev/null");
        // Its own user may not be able to reach the folder.
        let command = command.words("-o APT::Sandbox::User=root -o Acquire::Languages=none");
        options.iter().fold(command, |command, option| command.arg("-o").arg(option)).words(words)
    })
}
