//! Builds the engine, and its smoltcp device, for bare metal: the proof that they need neither std nor an allocator.

use crate::{command::Cmd, metadata};
use anyhow::{Result, bail};
use std::path::Path;

/// Debian's compiler with the sources of `core`: rustup's toolchain cannot build for a target that was not
/// downloaded, this one can.
pub const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
pub const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core/Cargo.toml";

const TARGET: &str = "x86_64-unknown-none";
const BUILD_LIMIT: u32 = 600;
/// The target has no SSE registers, so the portable ciphers must not use instructions that need them.
const SOFT_CIPHERS: &str = "--cfg aes_backend=\"soft\" --cfg polyval_backend=\"soft\" --cfg sha2_backend=\"soft\"";
/// The workspace's `rust-version`.
const OUR_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// A compiler for the bare-metal target.
#[derive(Debug)]
pub enum Toolchain {
    /// The active one has the target's `core` library.
    Installed,
    /// Debian's, building `core` from source.
    Debian,
}

/// Finds one, or says how to get one.
pub fn toolchain() -> Result<Toolchain> {
    let sysroot = Cmd::new("rustc").words("--print sysroot").read()?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(Toolchain::Installed);
    }
    if [DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_SOURCE].iter().all(|file| Path::new(file).exists()) {
        let has = Cmd::new(DEBIAN_RUSTC).arg("--version").read()?;
        let has = has.split_whitespace().nth(1).unwrap_or_default();
        if metadata::version(has)? >= metadata::version(OUR_RUST)? {
            return Ok(Toolchain::Debian);
        }
        bail!(
            "Debian's rustc-web is {has}, CVSW needs {OUR_RUST}: newer ones are in Debian's security archive \
             (bookworm-security in APT's sources), or `rustup target add {TARGET}`"
        );
    }
    bail!(
        "no compiler for {TARGET}: `rustup target add {TARGET}`, or on Debian `apt-get install {}`",
        DEBIAN_PACKAGES.join(" ")
    )
}

/// Debian's cargo with Debian's compiler and its unstable features.
pub fn debian_cargo(seconds: u32) -> Cmd {
    // RUSTC must be named, or cargo takes rustup's from the PATH.
    Cmd::limited(seconds, DEBIAN_CARGO).env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1")
}

/// Builds the crates plain and with every feature.
pub fn run() -> Result<()> {
    let toolchain = toolchain()?;
    let target_dir = metadata::target_directory()?.join("nostd");
    for features in ["", "--all-features"] {
        let command = match toolchain {
            Toolchain::Installed => Cmd::limited(BUILD_LIMIT, "cargo"),
            Toolchain::Debian => debian_cargo(BUILD_LIMIT),
        };
        let command = command
            .env("RUSTFLAGS", SOFT_CIPHERS)
            .words("build --locked --quiet --package cvsw-core --package cvsw-smoltcp --target")
            .args([TARGET, "--target-dir"])
            .arg(&target_dir)
            .words(features);
        match toolchain {
            Toolchain::Installed => command.run()?,
            Toolchain::Debian => command.arg("-Zbuild-std=core").run()?,
        }
    }
    Ok(())
}
