//! One test machine: a Linux kernel in QEMU, without hardware virtualisation (TCG).

use super::{
    emulator::Emulator,
    folder,
    kernel::{self, Kernel},
    rings, sanitizers,
    switch::{self, Outside},
    wire::Bridge,
};
use crate::{command::Cmd, guest, unikernel};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fmt::Write as _,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

/// Lines of a kernel's log that are a failure.
const SPLATS: &[&str] = &[
    "WARNING",
    "BUG",
    "Oops",
    "Call Trace",
    "Kernel panic",
    "UBSAN:",
    "INFO: trying to register",
    "suspected memory leak",
    "leaked reference",
    "blocked for more than",
];
/// A machine and what it is to do.
pub struct Run {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its kernel.
    pub system: System,
    /// For the kernel's command line.
    arguments: &'static str,
    /// What its NICs are connected to.
    pub wire: Wire,
    processors: Processors,
    /// Mebibytes.
    memory: u32,
    /// Seconds after which it is ended, if that is more than usual.
    limit: u32,
    /// It runs only when it is named.
    pub by_name: bool,
}

/// A kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Debian's own.
    Stable,
    /// The newest that Debian offers beside it.
    Newer,
    /// Debian's own with the drivers of all hardware.
    Drivers,
    /// One with checks of memory and locks, built here.
    Sanitizers,
}

impl System {
    /// Downloads or builds it, if it is not there.
    pub fn kernel(self) -> Result<Kernel> {
        match self {
            Self::Stable => kernel::stable(),
            Self::Newer => kernel::newer(),
            Self::Drivers => kernel::with_drivers(),
            Self::Sanitizers => sanitizers::kernel(),
        }
    }
}

/// What the machine's NICs are connected to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// There is none.
    Nothing,
    /// Two NICs, to each other.
    Pair,
    /// The same, but the first one is an Intel 82576, which has virtual functions (SR-IOV).
    Functions,
    /// One, to Open vSwitch and the controller.
    Switch,
    /// The same, with a unikernel at the switch as well.
    Unikernel,
    /// The same, encrypted.
    Sealed,
}

impl Wire {
    /// Whether Open vSwitch and the controller are outside.
    pub fn has_switch(self) -> bool {
        matches!(self, Self::Switch | Self::Unikernel | Self::Sealed)
    }
}

/// The machine's processors, as QEMU 7.2 emulates them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Processors {
    /// Two, in one thread, by turns. That emulation leaves out the memory barriers of the code that it translates (`mfence`
    /// becomes nothing, `lock add` two plain accesses), though QEMU's devices run in another thread. A virtqueue needs them on
    /// both sides: without, each side may miss that the other has news while that one goes to sleep, and nobody wakes the
    /// other up ever again. So such a machine has no NIC.
    Two,
    /// One, translated as one of several would be, which is with memory barriers: there could be a second one, so QEMU says.
    OneWithBarriers,
    /// Two at the same time, in a thread each, with barriers. They may run code that the kernel has just changed (a static key),
    /// and trap (`int3`). So only a measurement has them.
    TwoAtOnce,
}

impl Processors {
    fn words(self) -> &'static str {
        match self {
            Self::Two => "-accel tcg,thread=single -smp 2",
            Self::OneWithBarriers => "-accel tcg,thread=multi -smp 1,maxcpus=2",
            Self::TwoAtOnce => "-accel tcg,thread=multi -smp 2",
        }
    }
}

const USUAL: Run = Run {
    name: "",
    system: System::Stable,
    arguments: "",
    wire: Wire::Nothing,
    processors: Processors::Two,
    memory: 640,
    limit: 0,
    by_name: false,
};

/// One with NICs.
const WIRED: Run = Run { processors: Processors::OneWithBarriers, ..USUAL };

/// All of them. `slub_debug=FZP` (red zones, poison, sanity checks) finds writes beyond an object and uses after its end; it
/// is too slow for bulk data. `F` alone costs little, and without the slabs that each processor else has for itself, in which
/// free objects count as used, the comparison of what is allocated before and after is exact.
pub static RUNS: [Run; 9] = [
    Run { name: "functions", arguments: "tests=functions slub_debug=FZP", ..USUAL },
    Run { name: "newer-kernel", system: System::Newer, arguments: "tests=functions slub_debug=F", ..USUAL },
    Run { name: "bulk", arguments: "tests=bulk", wire: Wire::Pair, ..WIRED },
    Run { name: "sriov", system: System::Drivers, arguments: "tests=sriov", wire: Wire::Functions, ..WIRED },
    Run { name: "controller", arguments: "tests=controller", wire: Wire::Switch, ..WIRED },
    Run { name: "unikernel", arguments: "tests=unikernel", wire: Wire::Unikernel, ..WIRED },
    Run { name: "sealed", arguments: "tests=unikernel cipher=aes-128-gcm", wire: Wire::Sealed, ..WIRED },
    Run {
        name: "contention",
        arguments: "tests=contention",
        processors: Processors::TwoAtOnce,
        by_name: true,
        ..USUAL
    },
    Run {
        name: "sanitizers",
        system: System::Sanitizers,
        arguments: "tests=functions,checks patience=400 cycles=50",
        memory: 2048,
        limit: 5400,
        by_name: true,
        ..USUAL
    },
];

/// How hard the machines are to work.
pub struct Load {
    /// For the kernel's command line.
    pub arguments: &'static str,
    /// Seconds after which a machine is ended.
    pub limit: u32,
}

/// What is outside of a running machine.
enum Surroundings {
    Nothing,
    /// With the model of its first NIC.
    Bridge(Bridge, &'static str),
    Switch(Box<Outside>),
}

impl Surroundings {
    fn new(run: &Run) -> Result<Self> {
        let wire = run.wire;
        match wire {
            Wire::Nothing => return Ok(Self::Nothing),
            Wire::Pair => return Ok(Self::Bridge(Bridge::new(run.name)?, VIRTIO)),
            Wire::Functions => return Ok(Self::Bridge(Bridge::new(run.name)?, "igb")),
            Wire::Switch | Wire::Unikernel | Wire::Sealed => {}
        }
        let mut outside = Outside::new(wire == Wire::Sealed)?;
        if wire != Wire::Switch {
            outside.start_unikernel(&unikernel::build(unikernel::Flavour::Best)?)?;
        }
        Ok(Self::Switch(Box::new(outside)))
    }

    /// QEMU, for some seconds, where its NICs can reach what they are connected to.
    fn qemu(&self, emulator: &Emulator, seconds: u32) -> Cmd {
        let limit = |command: Cmd| {
            let command = command.arg("--kill-after=20").arg(seconds.to_string());
            command.arg(&emulator.program).args(&emulator.arguments)
        };
        match self {
            Self::Nothing => limit(Cmd::new("timeout")),
            Self::Bridge(bridge, model) => {
                let nics = [(0, *model), (1, VIRTIO)]
                    .map(|(number, model)| nic(model, bridge.tap(number), &format!("02:00:00:00:02:0{number}")));
                limit(bridge.inside("timeout")).words(&nics.concat())
            }
            Self::Switch(outside) => limit(outside.inside("timeout")).words(&nic(VIRTIO, "tap0", switch::MAC)),
        }
    }
}

const VIRTIO: &str = "virtio-net-pci";

/// A device on a tap. Nothing is booted from it.
fn nic(model: &str, tap: &str, mac: &str) -> String {
    format!(
        "-netdev tap,id={tap},ifname={tap},script=no,downscript=no -device {model},netdev={tap},mac={mac},romfile= "
    )
}

/// Boots a machine and judges its console.
pub fn boot(run: &Run, kernel: &Kernel, initramfs: &Path, load: &Load) -> Result<()> {
    let console = folder()?.join(format!("console-{}.log", run.name));
    let _ = fs::remove_file(&console);
    let arguments = format!("{} {}", run.arguments, load.arguments);
    println!("\n{}: Linux {}, {arguments}", run.name, kernel.release);
    let start = Instant::now();
    let emulator = Emulator::of(run.wire)?;
    let surroundings = Surroundings::new(run)?;
    let monitor = std::env::temp_dir().join(format!("cvsw-kmod-{}-{}.qmp", std::process::id(), run.name));
    let qemu = surroundings
        .qemu(&emulator, load.limit.max(run.limit))
        .words(run.processors.words())
        .words(&format!("-cpu max -m {} -display none -monitor none -no-reboot -nic none", run.memory))
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", monitor.display()))
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-append")
        .arg(format!("{} oops=panic net.ifnames=0 loglevel=7 {arguments}", guest::KERNEL_ARGUMENTS));
    let ended = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        scope.spawn(|| rings::watch(&console, &monitor, &ended));
        let result = qemu.run();
        ended.store(true, Ordering::Relaxed);
        result
    });
    let _ = fs::remove_file(&monitor);
    let log = String::from_utf8_lossy(&fs::read(&console)?).into_owned();
    print!("{}", report(run.name, start, &log));
    result?;
    judge(&log, run.system).with_context(|| format!("the console's log is {}", console.display()))
}

/// What the machine's tests said.
fn report(name: &str, start: Instant, log: &str) -> String {
    let mut report = format!("\n{name}, from boot to verdict {:.0} s:\n", start.elapsed().as_secs_f64());
    let lines = log.lines().filter_map(|line| line.split_once("KMOD-"));
    for (_, line) in lines.filter(|(_, line)| !line.starts_with("RUN")) {
        let _ = writeln!(report, "  {}", line.trim_end());
    }
    report
}

fn judge(log: &str, system: System) -> Result<()> {
    let splats: Vec<&str> =
        log.lines().filter(|line| SPLATS.iter().any(|splat| line.contains(splat))).map(str::trim).take(5).collect();
    ensure!(splats.is_empty(), "the kernel complained: {}", splats.join(" | "));
    let failed: Vec<&str> =
        log.lines().filter_map(|line| Some(line.split_once("KMOD-FAILED ")?.1.trim())).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    let Some((_, summary)) = log.lines().find_map(|line| line.split_once("KMOD-SUMMARY ")) else {
        let aborted = log.lines().find_map(|line| Some(line.split_once("KMOD-ABORTED ")?.1));
        bail!("the machine ended before its tests did: {}", aborted.unwrap_or("no reason given"));
    };
    ensure!(!summary.starts_with("0 passed"), "no test ran");
    if system == System::Sanitizers {
        let silent = sanitizers::ACTIVE.iter().find(|says| !log.contains(**says));
        ensure!(silent.is_none(), "the kernel's checks were not all active: it never said {silent:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{System, judge};

    #[test]
    fn only_a_finished_machine_without_complaints_passes() {
        judge("KMOD-OK a\n[    1.0] cvsw0: link up\nKMOD-SUMMARY 1 passed, 0 failed\n", System::Stable).unwrap();
        for (log, reason) in [
            ("KMOD-OK a\n", "ended before"),
            ("KMOD-ABORTED no module\n", "no module"),
            ("KMOD-SUMMARY 0 passed, 0 failed\n", "no test"),
            ("KMOD-FAILED a: b\nKMOD-SUMMARY 1 passed, 1 failed\n", "a: b"),
            ("[ 1.0] WARNING: CPU: 0\nKMOD-SUMMARY 1 passed, 0 failed\n", "complained"),
            ("[ 1.0] Call Trace:\nKMOD-SUMMARY 1 passed, 0 failed\n", "complained"),
        ] {
            let error = judge(log, System::Stable).unwrap_err().to_string();
            assert!(error.contains(reason), "{log}: {error}");
        }
    }
}
