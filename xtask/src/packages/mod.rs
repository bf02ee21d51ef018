//! Debian packages: the program, the controller's and the port's services, the kernel module for DKMS.

mod machine;

use crate::{command::Cmd, kmod, metadata, root};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// What is needed to install and start the packages in a machine of their own: `(Debian package, a program of it)`.
pub const PACKAGES: &[(&str, &str)] =
    &[("systemd", "systemd-analyze"), ("util-linux", "unshare"), ("util-linux", "setpriv"), ("binutils", "strip")];
/// `(crate, version, program)` of what makes the packages.
pub const CARGO_DEB: (&str, &str, &str) = ("cargo-deb", "3.8.0", "cargo-deb");
/// Seconds for one build.
const BUILD_LIMIT: u32 = 1800;
/// The packages, as cargo-deb's variants; "": the program itself.
const VARIANTS: [&str; 4] = ["", "controller", "port", "dkms"];

/// Makes all packages, optimised, as they are given to people.
pub fn build() -> Result<()> {
    for package in make(Program::Optimised)? {
        println!("{}", package.display());
    }
    Ok(())
}

/// The check `packages-test`: what is in the packages, and that they install, start, keep their state, and go again. Their
/// program is the one that the other tests have built.
pub fn test() -> Result<()> {
    let packages = make(Program::AsTested)?;
    for package in &packages {
        let listing = Cmd::new("dpkg-deb").arg("--contents").arg(package).read()?;
        let wanted = match package.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
            name if name.starts_with("cvsw-controller") => "/systemd/system/cvsw-controller.service",
            name if name.starts_with("cvsw-port") => "/systemd/system/cvsw-port@.service",
            name if name.starts_with("cvsw-dkms") => {
                concat!("./usr/src/cvsw-", env!("CARGO_PKG_VERSION"), "/dkms.conf")
            }
            _ => "./usr/bin/cvsw",
        };
        if !listing.lines().any(|line| line.ends_with(wanted)) {
            bail!("{} has no {wanted}:\n{listing}", package.display());
        }
    }
    machine::run(&packages)
}

/// Which program goes into the packages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Optimised,
    AsTested,
}

/// Makes all packages and says where they are.
fn make(which: Program) -> Result<Vec<PathBuf>> {
    let folder = root().join("target/packages");
    // A link inside would lead cargo-deb to files of another run.
    let _ = fs::remove_dir_all(&folder);
    let stage = folder.join("stage");
    fs::create_dir_all(&stage)?;
    let build = Cmd::limited(BUILD_LIMIT, "cargo").words("build --locked --quiet --package cvsw-cli");
    let profile = match which {
        Program::Optimised => {
            build.arg("--release").run()?;
            "release"
        }
        Program::AsTested => {
            build.run()?;
            "debug"
        }
    };
    let program = stage.join("cvsw");
    fs::copy(metadata::target_directory()?.join(profile).join("cvsw"), &program)?;
    Cmd::new("strip").arg(&program).run()?;
    Cmd::new(&program).arg("man").arg(stage.join("man")).run()?;
    for (shell, name) in [("bash", "cvsw.bash"), ("zsh", "_cvsw"), ("fish", "cvsw.fish")] {
        fs::write(stage.join(name), Cmd::new(&program).args(["completions", shell]).read_bytes()?)?;
    }
    symlink(kmod::dkms()?, stage.join("dkms"))?;
    for variant in VARIANTS {
        let command = Cmd::cargo("deb --no-build --no-strip --quiet --package cvsw-cli --output").arg(&folder);
        if variant.is_empty() { command.run()? } else { command.arg("--variant").arg(variant).run()? }
    }
    list(&folder)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut list = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            list.push(path);
        }
    }
    list.sort();
    Ok(list)
}
