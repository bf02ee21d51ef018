//! Tests the module in virtual machines: prepares them, and runs them side by side.

use super::{
    Flavour, engine_object, initramfs,
    machine::{Load, RUNS, Run, System, boot},
};
use crate::command::Cmd;
use anyhow::{Context, Result, bail, ensure};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

/// Seconds after which a machine is ended. The longest takes 130 on a busy computer.
const MACHINE_LIMIT: u32 = 600;
const STRESS_LIMIT: u32 = 3600;
/// Machines that run at the same time; each has one thread that computes.
const SIDE_BY_SIDE: usize = 2;

/// The check `kmod-test`: every machine, but for those that are only for their name.
pub fn test() -> Result<()> {
    test_some(&[])
}

/// Only the machines of these names; all if there are none.
pub fn test_some(names: &[String]) -> Result<()> {
    run_machines(names, &Load { arguments: "", limit: MACHINE_LIMIT })
}

/// The task `kmod-stress`: the same with ten times the cycles, frames and bytes.
pub fn stress(names: &[String]) -> Result<()> {
    run_machines(names, &Load { arguments: "scale=10", limit: STRESS_LIMIT })
}

/// A machine that can be booted: with its kernel and its initramfs.
type Prepared = (&'static Run, Arc<super::Kernel>, PathBuf);

/// Prepares the machines and runs them, [`SIDE_BY_SIDE`].
fn run_machines(names: &[String], load: &Load) -> Result<()> {
    if let Some(name) = names.iter().find(|name| !RUNS.iter().any(|run| run.name == **name)) {
        bail!("there is no machine `{name}`, only {}", RUNS.each_ref().map(|run| run.name).join(", "));
    }
    let machines = Mutex::new(prepare(names)?.into_iter());
    let (failures, outside) = (Mutex::new(Vec::new()), Mutex::new(()));
    let next = || machines.lock().ok()?.next();
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some((run, kernel, initramfs)) = next() {
                    // There is one switch.
                    let _guard = run.wire.has_switch().then(|| outside.lock());
                    let Err(error) = boot(run, &kernel, &initramfs, load) else { continue };
                    failures.lock().iter_mut().for_each(|all| all.push(format!("{}: {error:#}", run.name)));
                }
            });
        }
    });
    let failures = failures.into_inner().context("a machine's thread panicked")?;
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Builds what the machines of these names need (of all that run by default, if there are none). The long ones come first.
fn prepare(names: &[String]) -> Result<Vec<Prepared>> {
    let object = engine_object(Flavour::Plain)?;
    Cmd::limited(super::BUILD_LIMIT, "cargo")
        .words("build --locked --quiet --package cvsw-kmod-guest --package cvsw-cli")
        .run()?;
    super::dkms_package(&object)?;
    let wanted = |run: &&Run| {
        if names.is_empty() { !run.by_name } else { names.iter().any(|name| name == run.name) }
    };
    let mut machines = Vec::new();
    for system in [System::Stable, System::Newer, System::Drivers, System::Sanitizers] {
        let here: Vec<&Run> = RUNS.iter().filter(|run| run.system == system).filter(wanted).collect();
        if here.is_empty() {
            continue;
        }
        let kernel = Arc::new(system.kernel()?);
        let module = match system {
            // Checked with the kernel: the engine, too.
            System::Sanitizers => super::build(&kernel, &engine_object(Flavour::Checked)?, "-Werror")?,
            System::Stable | System::Newer | System::Drivers => super::dkms_install(&kernel)?,
        };
        let initramfs = initramfs::make(&kernel, &module)?;
        machines.extend(here.into_iter().map(|run| (run, Arc::clone(&kernel), initramfs.clone())));
    }
    machines.sort_by_key(|(run, ..)| RUNS.iter().position(|other| other.name == run.name));
    Ok(machines)
}
