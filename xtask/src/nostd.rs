//! Builds the engine, and its smoltcp device, for bare metal: the proof that they need neither std nor an allocator.

use crate::{command::Cmd, metadata};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Debian's compiler and clippy with the sources of `core`: rustup's toolchain cannot build for a target that was not
/// downloaded, this one can.
pub const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-clippy", "rust-web-src"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";
/// The sources of `core` below a sysroot.
const SOURCE: &str = "lib/rustlib/src/rust/library/core/Cargo.toml";

/// The official bare-metal target.
pub const TARGET: &str = "x86_64-unknown-none";
const BUILD_LIMIT: u32 = 600;
/// The target has no SSE registers, so the portable ciphers must not use instructions that need them.
pub const SOFT_CIPHERS: &str =
    "--cfg aes_backend=\"soft\" --cfg polyval_backend=\"soft\" --cfg sha2_backend=\"soft\"";
/// The workspace's `rust-version`.
const OUR_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Where cargo and compiler come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The active toolchain, most likely rustup's.
    Active,
    /// Debian's packages.
    Debian,
}

/// A toolchain and how it comes to the `core` library of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bare {
    toolchain: Toolchain,
    /// `core` is built from source. Otherwise there is only the official target, as it was downloaded.
    pub from_source: bool,
}

impl Bare {
    /// cargo with its arguments so far: `task`, as `build` or `clippy`, and what builds `core` if that is needed.
    pub fn cargo(self, seconds: u32, task: &str) -> Cmd {
        let command = match self.toolchain {
            Toolchain::Active => Cmd::limited(seconds, "cargo"),
            // RUSTC must be named, or cargo takes rustup's from the PATH; and so it finds rustup's clippy.
            Toolchain::Debian if task == "clippy" => {
                Cmd::limited(seconds, DEBIAN_CLIPPY).env("CARGO", DEBIAN_CARGO)
            }
            Toolchain::Debian => Cmd::limited(seconds, DEBIAN_CARGO),
        };
        let command = match self.toolchain {
            Toolchain::Active => command.arg(task),
            Toolchain::Debian => command.env("RUSTC", DEBIAN_RUSTC).arg(task),
        };
        if self.from_source { command.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=core") } else { command }
    }
}

/// The active toolchain, if it has the official target.
pub fn official() -> Result<Bare> {
    if sysroot()?.join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(Bare { toolchain: Toolchain::Active, from_source: false });
    }
    bail!("the active Rust toolchain has no target {TARGET}: `rustup target add {TARGET}` installs it")
}

/// A toolchain that can build `core`, for any target.
pub fn from_source() -> Result<Bare> {
    if sysroot()?.join(SOURCE).exists() {
        return Ok(Bare { toolchain: Toolchain::Active, from_source: true });
    }
    let debian = Path::new("/usr").join(SOURCE);
    if ![DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_CLIPPY].iter().all(|file| Path::new(file).exists()) || !debian.exists()
    {
        bail!(
            "no compiler with the sources of `core`: `rustup component add rust-src`, or on Debian `apt-get install {}`",
            DEBIAN_PACKAGES.join(" ")
        );
    }
    let has = Cmd::new(DEBIAN_RUSTC).arg("--version").read()?;
    let has = has.split_whitespace().nth(1).unwrap_or_default();
    if metadata::version(has)? >= metadata::version(OUR_RUST)? {
        return Ok(Bare { toolchain: Toolchain::Debian, from_source: true });
    }
    bail!(
        "Debian's rustc-web is {has}, CVSW needs {OUR_RUST}: newer ones are in Debian's security archive \
         (bookworm-security in APT's sources), or `rustup component add rust-src`"
    )
}

/// One that can build for the official target, whichever way.
pub fn any() -> Result<Bare> {
    official().or_else(|missing| from_source().with_context(|| missing.to_string()))
}

fn sysroot() -> Result<PathBuf> {
    Ok(Cmd::new("rustc").words("--print sysroot").read()?.trim().into())
}

/// Builds the crates plain and with every feature.
pub fn run() -> Result<()> {
    let toolchain = any()?;
    let target_dir = metadata::target_directory()?.join("nostd");
    for features in ["", "--all-features"] {
        toolchain
            .cargo(BUILD_LIMIT, "build")
            .env("RUSTFLAGS", SOFT_CIPHERS)
            .words("--locked --quiet --package cvsw-core --package cvsw-smoltcp --target")
            .args([TARGET, "--target-dir"])
            .arg(&target_dir)
            .words(features)
            .run()?;
    }
    Ok(())
}
