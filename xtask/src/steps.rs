//! The checks that make up `cargo xtask test`, their order, and the summary.

use crate::{command::Cmd, deny, fuzz, kmod, layers, links, metadata, nostd, packages, setup, unikernel, xfrm};
use anyhow::Result;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// Seconds after which the tests are ended: they hang.
const TEST_LIMIT: u32 = 1800;
/// Seconds after which any other compiler run is ended.
const BUILD_LIMIT: u32 = 1200;

/// One check.
pub struct Check {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it makes sure of.
    pub about: &'static str,
    run: fn() -> Result<()>,
}

/// The checks of `cargo xtask test`, cheap ones first.
pub const CHECKS: &[Check] = &[
    Check { name: "fmt", about: "every file is formatted by rustfmt", run: fmt },
    Check { name: "layers", about: "modules and crates import only downward", run: layers::run },
    Check { name: "msrv", about: "no dependency needs a newer Rust than we declare", run: metadata::msrv },
    Check { name: "links", about: "the documentation's links lead somewhere", run: links::run },
    Check { name: "deny", about: "licences, sources and advisories of the dependencies", run: deny::run },
    Check { name: "clippy", about: "no lint fires in any target", run: clippy },
    Check { name: "doc", about: "rustdoc builds without a warning", run: doc },
    Check { name: "unit", about: "cargo test: unit, property and end-to-end tests", run: unit },
    Check {
        name: "xfrm",
        about: "the Linux kernel's IPsec, in a virtual machine, understands ours",
        run: || xfrm::run(&[]),
    },
    Check {
        name: "oracle",
        about: "the engine does what Open vSwitch does, on random cases and on those of the specification",
        run: compare,
    },
    Check {
        name: "nostd",
        about: "the engine and its smoltcp device build for a target without std",
        run: nostd::run,
    },
    Check { name: "fuzz", about: "every fuzz target survives a short run", run: fuzz::check },
    Check { name: "kmod", about: "the kernel module: object checks, builds for Debian's kernels", run: kmod::run },
    Check { name: "kmod-test", about: "the kernel module in virtual machines", run: kmod::test },
    Check {
        name: "unikernel-test",
        about: "the unikernel's image: size, tests in QEMU, laboratories",
        run: unikernel::check,
    },
    Check {
        name: "packages-test",
        about: "the Debian packages, installed and started by a systemd in namespaces of its own",
        run: packages::test,
    },
];

/// Checks that are not part of `cargo xtask test` without names: they build much again, or have not yet been seen to pass
/// as a whole on new machines. `cargo xtask test soft` runs one of them.
pub const GUEST_CHECKS: &[Check] = &[Check {
    name: "soft",
    about: "the portable ciphers without the processor's AES, CLMUL and SHA instructions",
    run: soft,
}];

/// The check of that name.
pub fn check(name: &str) -> Option<&'static Check> {
    CHECKS.iter().chain(GUEST_CHECKS).find(|check| check.name == name)
}

/// Runs the checks (all of them, also behind a failed one), with setup first if asked for.
pub fn run(checks: &[&Check], with_setup: bool) -> Result<ExitCode> {
    let mut results = Vec::new();
    if with_setup {
        let setup = step("setup", "everything that is needed is installed", || setup::run(setup::Need::Everything));
        let failed = setup.error.is_some();
        results.push(setup);
        if failed {
            return Ok(summary(&results));
        }
    }
    for check in checks {
        results.push(step(check.name, check.about, check.run));
    }
    Ok(summary(&results))
}

struct Outcome {
    name: &'static str,
    time: Duration,
    error: Option<anyhow::Error>,
}

fn step(name: &'static str, about: &str, run: impl FnOnce() -> Result<()>) -> Outcome {
    println!("\n== {name}: {about}");
    let start = Instant::now();
    let error = run().err();
    let time = start.elapsed();
    match &error {
        None => println!("== {name}: ok ({:.1} s)", time.as_secs_f64()),
        Some(error) => println!("== {name}: FAILED ({:.1} s): {error:#}", time.as_secs_f64()),
    }
    Outcome { name, time, error }
}

fn summary(results: &[Outcome]) -> ExitCode {
    println!("\n{:<15} {:>8}  result", "step", "seconds");
    for outcome in results {
        let result = outcome.error.as_ref().map_or("ok".to_owned(), |error| format!("{error:#}"));
        let first_line = result.trim_start().lines().next().unwrap_or_default();
        let mark = if outcome.error.is_some() { "FAILED: " } else { "" };
        println!("{:<15} {:>8.1}  {mark}{first_line}", outcome.name, outcome.time.as_secs_f64());
    }
    let total: Duration = results.iter().map(|outcome| outcome.time).sum();
    println!("{:<15} {:>8.1}\n", "total", total.as_secs_f64());
    let failed = results.iter().filter(|outcome| outcome.error.is_some()).count();
    println!("{} passed, {failed} failed", results.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fmt() -> Result<()> {
    Cmd::cargo("fmt --all --check").run()?;
    Cmd::cargo("fmt --manifest-path frontends/kmod/Cargo.toml --check").run()?;
    Cmd::cargo("fmt --manifest-path fuzz/Cargo.toml --check").run()
}

fn clippy() -> Result<()> {
    Cmd::limited(BUILD_LIMIT, "cargo")
        .words("clippy --locked --workspace --all-targets --all-features --quiet -- -D warnings")
        .run()
}

fn doc() -> Result<()> {
    Cmd::limited(BUILD_LIMIT, "cargo")
        .words("doc --locked --workspace --all-features --no-deps --quiet")
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()
}

/// The property tests take the same cases in every run, so that a failure belongs to the change that is tested;
/// `cargo test` by hand takes new ones each time.
fn unit() -> Result<()> {
    Cmd::limited(TEST_LIMIT, "cargo")
        .words("test --locked --workspace --no-fail-fast")
        .env("PROPTEST_RNG_SEED", "1")
        .run()
}

/// The same vectors and rules as in `unit`, for the code that other processors run.
fn soft() -> Result<()> {
    Cmd::limited(BUILD_LIMIT, "cargo")
        .words("test --locked --package cvsw-core --lib --test ciphers --target-dir")
        .arg(metadata::target_directory()?.join("soft"))
        .env("RUSTFLAGS", nostd::SOFT_CIPHERS)
        .run()
}

/// The differential tester, to be given arguments.
pub fn oracle() -> Cmd {
    Cmd::cargo("run --locked --quiet --package cvsw-oracle")
}

/// The same cases in every run; `cargo xtask oracle` takes others.
fn compare() -> Result<()> {
    oracle().words("-- --spec").run()?;
    oracle().words("-- --cases 3000 --seed 1 --seconds 60").run()?;
    oracle().words("-- --cases 3000 --seed 20261123 --seconds 30").run()
}
