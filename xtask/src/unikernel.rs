//! The unikernel's image: builds it for the bare machine, and checks it.

use crate::{
    command::Cmd,
    metadata,
    nostd::{self, Toolchain},
    root,
};
use anyhow::{Context, Result, ensure};
use std::{fs, path::PathBuf};

/// `(Debian package, a program that it brings)`: what builds and runs the image.
pub const PACKAGES: &[(&str, &str)] = &[("qemu-system-x86", "qemu-system-x86_64"), ("lld", "ld.lld")];

const FOLDER: &str = "frontends/unikernel/image";
const NAME: &str = "cvsw-unikernel";
/// The official target. It has no SSE, so AES is software.
const TARGET: &str = "x86_64-unknown-none";
/// The same with SSE, so that AES instructions are found at run time. Only a compiler that builds `core` can have it.
const TARGET_SSE: &str = "x86_64-cvsw";
/// Most bytes of the image without its symbols.
const LARGEST: u64 = 400_000;
const BUILD_LIMIT: u32 = 1200;
const TEST_LIMIT: u32 = 900;

/// Builds the image; where it is. It has its symbols: the log's texts are among them.
pub fn build() -> Result<PathBuf> {
    let target_dir = target_dir()?;
    let (command, target) = match nostd::toolchain()? {
        Toolchain::Installed => (Cmd::limited(BUILD_LIMIT, "cargo").arg("build"), TARGET),
        Toolchain::Debian => {
            let command = nostd::debian_cargo(BUILD_LIMIT)
                .words("build -Zjson-target-spec -Zbuild-std=core -Zbuild-std-features=compiler-builtins-mem");
            (command, TARGET_SSE)
        }
    };
    let command = match target {
        TARGET_SSE => command.arg("--target").arg(root().join(FOLDER).join(format!("{TARGET_SSE}.json"))),
        _ => command.args(["--target", target]),
    };
    command
        .words("--release --quiet --bin")
        .arg(NAME)
        .args(["--manifest-path", &format!("{FOLDER}/Cargo.toml")])
        .args(["--config", &format!("{FOLDER}/.cargo/config.toml")])
        .arg("--target-dir")
        .arg(&target_dir)
        .run()?;
    Ok(target_dir.join(target).join("release").join(NAME))
}

/// Builds the image and says where it is and how large.
pub fn run() -> Result<()> {
    let image = build()?;
    println!("{}", image.display());
    println!("{} bytes without symbols", stripped_size(&image)?);
    Ok(())
}

/// Format, lints, size, tests on the host and in QEMU, and the laboratory with unikernels in it.
pub fn check() -> Result<()> {
    let manifest = format!("--manifest-path {FOLDER}/Cargo.toml");
    Cmd::cargo("fmt --check").words(&manifest).run()?;
    let image = build()?;
    let size = stripped_size(&image)?;
    println!("{size} bytes without symbols");
    ensure!(size < LARGEST, "the image has {size} bytes without symbols, at most {LARGEST} are allowed");
    let host = |task: &str| {
        let target_dir = target_dir()?;
        Ok::<_, anyhow::Error>(
            Cmd::limited(TEST_LIMIT, "cargo").words(task).words(&manifest).arg("--target-dir").arg(target_dir),
        )
    };
    host("clippy --quiet --all-targets")?.words("-- -D warnings").run()?;
    host("test --quiet")?.env("CVSW_UNIKERNEL", &image).words("-- --test-threads=2").run()?;
    Cmd::limited(TEST_LIMIT, "cargo")
        .words("run --locked --quiet --package cvsw-cli -- lab --pairs 1 --duration 1 --udp-rate 20 --unikernel 2")
        .arg("--unikernel-image")
        .arg(&image)
        .run()
}

fn target_dir() -> Result<PathBuf> {
    Ok(metadata::target_directory()?.join("unikernel"))
}

fn stripped_size(image: &PathBuf) -> Result<u64> {
    let stripped = image.with_extension("stripped");
    Cmd::new("strip").arg("-o").arg(&stripped).arg(image).read()?;
    Ok(fs::metadata(&stripped).with_context(|| format!("no {}", stripped.display()))?.len())
}
