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
/// Grafana's own types of a dashboard, and axe-core, which judges how accessible a page is, in a package that brings the file.
/// Without what the latter needs to drive a browser itself.
const DOCUMENTS: &[&str] = &["grafana-foundation-sdk==1769699998!10.1.0", "axe-playwright-python==0.1.8"];
/// What the package of Prometheus has for us: its server, and its checker.
const PROMETHEUS: &[&str] = &["prometheus", "promtool"];
/// Seconds for one download.
const LIMIT: u32 = 600;

/// Fetches what is missing.
pub fn fetch() -> Result<()> {
    os_ken()?;
    documents()?;
    prometheus()
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

/// The tests look for it here, too. They are brought by os-ken's Python.
fn documents() -> Result<()> {
    let folder = root().join("target/judges");
    let complete = folder.join("complete");
    let wanted = DOCUMENTS.join("\n");
    if fs::read_to_string(&complete).is_ok_and(|there| there == wanted) {
        println!("judges of documents: there");
        return Ok(());
    }
    let _ = fs::remove_dir_all(&folder);
    let python = root().join("target/os-ken/bin/python").display().to_string();
    let pip = Cmd::limited(LIMIT, &python).words("-m pip install --quiet --no-deps --target").arg(&folder);
    pip.args(DOCUMENTS).run()?;
    fs::write(complete, wanted)?;
    Ok(())
}

/// Prometheus, out of its package: installing the package would start a server.
fn prometheus() -> Result<()> {
    if PROMETHEUS.iter().all(|program| installed(program)) {
        println!("prometheus, promtool: installed");
        return Ok(());
    }
    let folder = metadata::target_directory()?.join("prometheus");
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
    for program in PROMETHEUS {
        fs::copy(folder.join("usr/bin").join(program), programs.join(program))
            .with_context(|| format!("cannot write into {}", programs.display()))?;
    }
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
