//! A machine to install packages in: this machine's Debian under a layer in memory, in namespaces of its own, with its own
//! systemd as process 1. Nothing of it is left afterwards, and nothing of this machine is changed.

use crate::{command::Cmd, kmod, metadata};
use anyhow::{Context, Result, bail};
use std::{fs, path::PathBuf};

/// Seconds for the whole machine.
const LIMIT: u32 = 300;
/// Outside: makes the namespaces, and clears the control groups away.
const OUTSIDE: &str = include_str!("outside.sh");
/// First in the new namespaces: makes the file systems, then becomes systemd.
const BOOT: &str = include_str!("boot.sh");
/// The test itself, in the machine. Its last line, if all is well, is [`DONE`].
const TEST: &str = include_str!("test.sh");
const DONE: &str = "PACKAGES-WORK\n";

/// Installs and starts the packages in such a machine.
pub fn run(packages: &[PathBuf]) -> Result<()> {
    let kernel = kmod::fetch()?.into_iter().next().context("there is a kernel to build the module for")?;
    let folder = metadata::target_directory()?.join(format!("machine.{}", std::process::id()));
    let _removed = Folder(folder.clone());
    let share = folder.join("share");
    fs::create_dir_all(&share)?;
    for package in packages {
        fs::copy(package, share.join(package.file_name().context("a package has a name")?))?;
    }
    for (name, text) in [("boot.sh", BOOT), ("test.sh", TEST)] {
        fs::write(share.join(name), text)?;
    }
    let mut command = Cmd::limited(LIMIT, "unshare").words("--mount --propagation private sh -c").arg(OUTSIDE);
    command = command.arg("machine").arg(&folder).arg(&kernel.release).arg(&kernel.headers);
    let status = command.status()?;
    let result = fs::read_to_string(share.join("result")).unwrap_or_default();
    println!("{}", result.trim_end());
    if !result.ends_with(DONE) {
        bail!("the packages do not work (the machine ended with {status}); its last words are above");
    }
    Ok(())
}

/// Removed when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
