//! Runs the fuzz targets for a while.

use crate::{
    command::{Cmd, installed},
    metadata, root,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Seconds per target if nothing else is said.
pub const SECONDS: u32 = 10;

/// Seconds after which compiling the targets is ended.
const BUILD_LIMIT: u32 = 900;
/// Targets that run at the same time.
const JOBS: usize = 2;

/// Where a run begins, and whether it is the same every time.
#[derive(Clone, Copy)]
pub enum Start {
    /// From the committed seeds, with the same random numbers: what the check finds in a commit, it finds again.
    Same,
    /// From what runs before it have left in `fuzz/corpus` too, with other random numbers each time.
    Anywhere,
}

/// The check of `cargo xtask test`: every target, for a short time.
pub fn check() -> Result<()> {
    run(SECONDS, &[], Start::Same)
}

/// Fuzzes `targets` (all, if empty) for `seconds` each, starting from the committed seeds.
pub fn run(seconds: u32, targets: &[String], start: Start) -> Result<()> {
    let known = known_targets()?;
    if let Some(unknown) = targets.iter().find(|target| !known.contains(target)) {
        bail!("no fuzz target `{unknown}`; there are: {}", known.join(", "));
    }
    let targets = if targets.is_empty() { &known } else { targets };
    let target_dir = metadata::target_directory()?.join("fuzz");
    lock()?;
    cargo_fuzz(BUILD_LIMIT, "build", &target_dir).run()?;

    let next = AtomicUsize::new(0);
    let worker = || -> Result<()> {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            run_one(target, seconds, &target_dir, start).with_context(|| {
                format!("fuzz target `{target}` failed; its input is in fuzz/artifacts/{target}")
            })?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..JOBS).map(|_| scope.spawn(worker)).collect();
        let results =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")));
        results.collect()
    })
}

/// Gives the fuzz workspace our Cargo.lock, so that what is fuzzed is what is built; cargo adds libFuzzer to it.
pub fn lock() -> Result<()> {
    fs::copy(root().join("Cargo.lock"), root().join("fuzz/Cargo.lock")).context("cannot write fuzz/Cargo.lock")?;
    Ok(())
}

fn run_one(target: &str, seconds: u32, target_dir: &Path, start: Start) -> Result<()> {
    let fuzz = root().join("fuzz");
    // libFuzzer writes what it finds into the first folder and only reads the others.
    let corpus = match start {
        Start::Same => empty(&target_dir.join("check").join(target))?,
        Start::Anywhere => fuzz.join("corpus").join(target),
    };
    let seeds = fuzz.join("seeds").join(target);
    for folder in [&corpus, &seeds] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // 0: libFuzzer takes one of its own.
    let random = match start {
        Start::Same => 1,
        Start::Anywhere => 0,
    };
    let log = cargo_fuzz(seconds + 120, "run", target_dir)
        .arg(target)
        .args([&corpus, &seeds])
        .arg("--")
        .args([format!("-max_total_time={seconds}"), format!("-seed={random}")])
        .args(["-timeout=10", "-rss_limit_mb=2048", "-verbosity=0", "-print_final_stats=1"])
        .read_errors()?;
    let runs = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!(
        "{target}: {} inputs in {seconds} s, nothing found",
        runs.context("libFuzzer printed no count")?.trim()
    );
    Ok(())
}

/// An empty folder in this place.
fn empty(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    Ok(folder.to_owned())
}

/// A call of cargo-fuzz with a nightly compiler if there is one, else with the stable one's nightly features on.
fn cargo_fuzz(limit: u32, action: &str, target_dir: &Path) -> Cmd {
    let cargo = Cmd::limited(limit, "cargo");
    let cargo = if nightly() { cargo.arg("+nightly") } else { cargo.env("RUSTC_BOOTSTRAP", "1") };
    cargo.words("fuzz").arg(action).arg("--target-dir").arg(target_dir)
}

fn nightly() -> bool {
    installed("rustup") && Cmd::new("rustup").words("run nightly rustc --version").succeeds()
}

fn known_targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
