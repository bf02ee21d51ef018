//! The unikernel's image: builds it for the bare machine, and checks it.

use crate::{command::Cmd, metadata, nostd, root};
use anyhow::{Context, Result, ensure};
use std::{fs, path::PathBuf};

/// `(Debian package, a program that it brings)`: what builds and runs the image.
pub const PACKAGES: &[(&str, &str)] = &[("qemu-system-x86", "qemu-system-x86_64"), ("lld", "ld.lld")];

const FOLDER: &str = "frontends/unikernel/image";
const NAME: &str = "cvsw-unikernel";
/// The official target with SSE, so that AES instructions are found at run time. Only a compiler that builds `core` can
/// have it.
const TARGET_SSE: &str = "x86_64-cvsw";
/// Most bytes of the image without its symbols.
const LARGEST: u64 = 400_000;
const BUILD_LIMIT: u32 = 1200;
const TEST_LIMIT: u32 = 900;
/// The laboratories of the check: in clear, with strangers; and encrypted.
const LABORATORIES: [&str; 2] = ["--networks 2", "--networks 1 --cipher aes-128-gcm"];

/// Which image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The best that this machine can build: with AES instructions if some toolchain has the sources of `core`.
    Best,
    /// For rustup's target `x86_64-unknown-none`, without them.
    Official,
}

/// Builds the image; where it is. It has its symbols: the log's texts are among them.
pub fn build(flavour: Flavour) -> Result<PathBuf> {
    let toolchain = match flavour {
        Flavour::Official => nostd::official()?,
        Flavour::Best => nostd::from_source().or_else(|missing| {
            nostd::official().with_context(|| format!("{missing:#}; or, with software AES only"))
        })?,
    };
    let command = toolchain.cargo(BUILD_LIMIT, "build").words("--release --quiet --bin").arg(NAME);
    let (command, target) = if toolchain.from_source {
        let file = root().join(FOLDER).join(format!("{TARGET_SSE}.json"));
        let command =
            command.words("-Zjson-target-spec -Zbuild-std-features=compiler-builtins-mem --target").arg(file);
        (command, TARGET_SSE)
    } else {
        (command.args(["--target", nostd::TARGET]), nostd::TARGET)
    };
    in_image_folder(command)?.run()?;
    Ok(target_dir()?.join(target).join("release").join(NAME))
}

/// Builds the image and says where it is and how large.
pub fn run(flavour: Flavour) -> Result<()> {
    let image = build(flavour)?;
    println!("{}", image.display());
    println!("{} bytes without symbols", stripped_size(&image)?);
    Ok(())
}

/// Format, lints, size, tests on the host and in QEMU, and laboratories with unikernels in them.
pub fn check() -> Result<()> {
    Cmd::cargo("fmt --check").words(&format!("--manifest-path {FOLDER}/Cargo.toml")).run()?;
    let image = build(Flavour::Best)?;
    let size = stripped_size(&image)?;
    println!("{size} bytes without symbols");
    ensure!(size < LARGEST, "the image has {size} bytes without symbols, at most {LARGEST} are allowed");
    lint()?;
    let tests = Cmd::limited(TEST_LIMIT, "cargo").words("test --quiet").env("CVSW_UNIKERNEL", &image);
    // With what they print: times and sizes.
    in_image_folder(tests)?.words("-- --test-threads=2 --nocapture").run()?;
    LABORATORIES.iter().try_for_each(|options| {
        Cmd::limited(TEST_LIMIT, "cargo")
            .words(
                "run --locked --quiet --package cvsw-cli -- lab --pairs 1 --duration 1 --udp-rate 20 --unikernel 2",
            )
            .words(options)
            .arg("--unikernel-image")
            .arg(&image)
            .run()
    })
}

/// The parts for a host, and the parts for the bare machine. The official target is the one that has no tests of its own.
fn lint() -> Result<()> {
    let host = Cmd::limited(BUILD_LIMIT, "cargo").words("clippy --quiet --all-targets");
    in_image_folder(host)?.words("-- -D warnings").run()?;
    let bare = nostd::any()?.cargo(BUILD_LIMIT, "clippy").words("--quiet --target").arg(nostd::TARGET);
    in_image_folder(bare)?.words("-- -D warnings").run()
}

/// Lets cargo work on the image's workspace.
fn in_image_folder(command: Cmd) -> Result<Cmd> {
    Ok(command
        .args(["--manifest-path", &format!("{FOLDER}/Cargo.toml")])
        .args(["--config", &format!("{FOLDER}/.cargo/config.toml")])
        .arg("--target-dir")
        .arg(target_dir()?))
}

fn target_dir() -> Result<PathBuf> {
    Ok(metadata::target_directory()?.join("unikernel"))
}

fn stripped_size(image: &PathBuf) -> Result<u64> {
    let stripped = image.with_extension("stripped");
    Cmd::new("strip").arg("-o").arg(&stripped).arg(image).read()?;
    Ok(fs::metadata(&stripped).with_context(|| format!("no {}", stripped.display()))?.len())
}
