//! Development tasks of CVSW. `cargo xtask help` lists them.

mod command;
mod deny;
mod fuzz;
mod guest;
mod judges;
mod kmod;
mod layers;
mod links;
mod metadata;
mod nostd;
mod packages;
mod setup;
mod steps;
mod unikernel;
mod xfrm;

use anyhow::{Result, bail};
use command::Cmd;
use lexopt::{Arg, Parser, ValueExt};
use setup::Need;
use std::{ffi::OsString, path::Path, process::ExitCode};

const HELP: &str = "\
Development tasks of CVSW

usage: cargo xtask TASK

  setup            install everything that building, testing and the lab need (Debian, as root or with sudo)
  lab [ARGS]       setup for the lab, build the `cvsw` program, run `cvsw lab ARGS`
  unikernel [--official]   build the unikernel's image, say where it is; `--official`: for rustup's target
                   x86_64-unknown-none, with software AES only
  test [CHECK..]   setup, then all checks and tests (or only the named ones), with a summary
  xfrm [CASE..]    the check `xfrm` for some cipher suites only
  kmod-test [MACHINE..]  the check `kmod-test` for some machines only; `sanitizers`, by name only, has a kernel with KASAN, lockdep
                   and kmemleak, which is built first (minutes)
  kmod-stress [MACHINE..]  the kernel module's tests with ten times the cycles, frames and bytes (half an hour; not part of `test`)
  fuzz [--seconds N] [TARGET..]   run fuzz targets (default: all, 10 seconds each)
  packages         make Debian packages: program, controller, port, kernel module
  oracle [ARGS]    compare flow table and actions with Open vSwitch on random cases (`--help` shows the options)
  help             this text

checks of `test`, each of which is also a task of its own (without setup):
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nxtask: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut parser = Parser::from_env();
    let task = match parser.next()? {
        Some(Arg::Value(value)) => value.string()?,
        None | Some(Arg::Short('h') | Arg::Long("help")) => "help".to_owned(),
        Some(other) => return Err(other.unexpected().into()),
    };
    match task.as_str() {
        "setup" => {
            no_more(&mut parser)?;
            setup::run(Need::Everything)
        }
        "lab" => return lab(parser.raw_args()?.collect()),
        "test" => {
            let checks = checks(&mut parser)?;
            return steps::run(&checks, true);
        }
        "fuzz" => {
            let (seconds, targets) = fuzz_args(&mut parser)?;
            fuzz::run(seconds, &targets, fuzz::Start::Anywhere)
        }
        "unikernel" => {
            let flavour = match parser.next()? {
                None => unikernel::Flavour::Best,
                Some(Arg::Long("official")) => unikernel::Flavour::Official,
                Some(other) => return Err(other.unexpected().into()),
            };
            no_more(&mut parser)?;
            unikernel::run(flavour)
        }
        "packages" => {
            no_more(&mut parser)?;
            packages::build()
        }
        "kmod-test" => kmod::test_some(&values(&mut parser)?),
        "kmod-stress" => kmod::stress(&values(&mut parser)?),
        "oracle" => return oracle(parser.raw_args()?.collect()),
        "xfrm" => xfrm::run(&values(&mut parser)?),
        "help" => {
            print!("{HELP}");
            let line = |check: &steps::Check| println!("  {:<16} {}", check.name, check.about);
            steps::CHECKS.iter().for_each(line);
            println!("\nBy name only (`cargo xtask test NAME ...`):");
            steps::GUEST_CHECKS.iter().for_each(line);
            Ok(())
        }
        name => match steps::check(name) {
            Some(check) => {
                no_more(&mut parser)?;
                return steps::run(&[check], false);
            }
            None => bail!("no task `{name}`; `cargo xtask help` lists them"),
        },
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Setup, release build, and the lab itself, whose exit code is ours.
fn lab(args: Vec<OsString>) -> Result<ExitCode> {
    let unikernels = args.iter().any(|arg| arg.to_string_lossy().starts_with("--unikernel"));
    let evaluation = args.first().is_some_and(|arg| arg == "eval");
    setup::run(match (evaluation, unikernels) {
        (true, _) => Need::Evaluation,
        (false, true) => Need::LabWithUnikernels,
        (false, false) => Need::Lab,
    })?;
    println!("\n== build: the cvsw program, optimised");
    Cmd::cargo("build --locked --release --package cvsw-cli").run()?;
    let program = metadata::target_directory()?.join("release/cvsw");
    let mut command = Cmd::new(program).arg("lab").args(args);
    if unikernels {
        println!("\n== build: the unikernel's image");
        command = command.arg("--unikernel-image").arg(unikernel::build(unikernel::Flavour::Best)?);
    }
    println!();
    let code = command.status()?.code();
    Ok(ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// The differential tester; its exit code is ours.
fn oracle(args: Vec<OsString>) -> Result<ExitCode> {
    let code = steps::oracle().arg("--").args(args).status()?.code();
    Ok(ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn checks(parser: &mut Parser) -> Result<Vec<&'static steps::Check>> {
    let mut chosen = Vec::new();
    for name in values(parser)? {
        match steps::check(&name) {
            Some(check) => chosen.push(check),
            None => bail!("no check `{name}`; `cargo xtask help` lists them"),
        }
    }
    Ok(if chosen.is_empty() { steps::CHECKS.iter().collect() } else { chosen })
}

/// The rest of the command line, without options.
fn values(parser: &mut Parser) -> Result<Vec<String>> {
    let mut values = Vec::new();
    while let Some(arg) = parser.next()? {
        let Arg::Value(value) = arg else { return Err(arg.unexpected().into()) };
        values.push(value.string()?);
    }
    Ok(values)
}

fn fuzz_args(parser: &mut Parser) -> Result<(u32, Vec<String>)> {
    let (mut seconds, mut targets) = (fuzz::SECONDS, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("seconds") => seconds = parser.value()?.parse()?,
            Arg::Value(target) => targets.push(target.string()?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok((seconds, targets))
}

fn no_more(parser: &mut Parser) -> Result<()> {
    match parser.next()? {
        Some(arg) => Err(arg.unexpected().into()),
        None => Ok(()),
    }
}

/// The workspace's root folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
