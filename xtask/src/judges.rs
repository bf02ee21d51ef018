//! Independent judges that are no ordinary Debian package: fetched once, kept in the target folder or beside cargo's
//! programs.

use crate::{
    command::{Cmd, installed},
    metadata, root,
};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf};

/// `(Debian package, a program that it brings)`: what fetching and running them needs.
pub const PACKAGES: &[(&str, &str)] = &[("chromium", "chromium"), ("python3", "python3"), ("dpkg", "dpkg-deb")];

/// The package with what Python needs to make virtual environments; it brings no program.
pub const PYTHON_VENV: &str = "python3-venv";

/// Whether that one is there.
pub fn has_python_venv() -> bool {
    Cmd::new("/usr/bin/python3").args(["-c", "import ensurepip, venv"]).succeeds()
}

/// The OpenFlow 1.0 controller framework that drives our vNICs in the tests.
const OS_KEN: &str = "os-ken==4.2.2";
/// Seconds for one download.
const LIMIT: u32 = 600;

/// Fetches what is missing.
pub fn fetch() -> Result<()> {
    os_ken()?;
    promtool()
}

/// The tests look for it here, whatever cargo's target folder is.
fn os_ken() -> Result<()> {
    let folder = root().join("target/os-ken");
    if folder.join("complete").is_file() {
        println!("os-ken: there");
        return Ok(());
    }
    let _ = fs::remove_dir_all(&folder);
    Cmd::new("/usr/bin/python3").words("-m venv").arg(&folder).run()?;
    let python = folder.join("bin/python").display().to_string();
    Cmd::limited(LIMIT, &python).words("-m pip install --quiet").arg(OS_KEN).run()?;
    fs::write(folder.join("complete"), "")?;
    Ok(())
}

/// Prometheus's checker, out of its package: installing the package would start a server.
fn promtool() -> Result<()> {
    if installed("promtool") {
        println!("promtool: installed");
        return Ok(());
    }
    let folder = metadata::target_directory()?.join("promtool");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let download = || Cmd::limited(LIMIT, "apt-get").words("download --quiet prometheus").in_folder(&folder).run();
    if download().is_err() {
        // The package lists may be missing or older than the mirror.
        crate::setup::update_lists()?;
        download()?;
    }
    let package = fs::read_dir(&folder)?.next().context("apt-get has downloaded nothing")??.path();
    Cmd::new("dpkg-deb").arg("-x").arg(package).arg(&folder).run()?;
    let programs = programs()?;
    fs::copy(folder.join("usr/bin/promtool"), programs.join("promtool"))
        .with_context(|| format!("cannot write into {}", programs.display()))?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Where cargo puts programs.
fn programs() -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let folder = home.context("neither CARGO_HOME nor HOME is set")?.join("bin");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
