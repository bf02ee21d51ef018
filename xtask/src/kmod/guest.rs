//! Tests the module in virtual machines: a stock Debian kernel, an initramfs made of this machine's programs, and
//! `cvsw-kmod-guest` as the first process. No hardware virtualisation is needed (QEMU's TCG).

use super::{
    engine_object, folder,
    kernel::Kernel,
    switch::{self, Outside},
};
use crate::{command::Cmd, metadata, unikernel};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

/// Programs of this machine that the tests run inside.
const PROGRAMS: &[&str] = &["ip", "ethtool", "ping", "tcpdump", "modprobe", "insmod", "rmmod", "chrt"];
/// Modules of the kernel that the tests use.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "veth",
    "vxlan",
    "8021q",
    "bonding",
    "bridge",
    // IPsec, the judge of our encryption, and what both compute with.
    "esp4",
    "xfrm_user",
    "seqiv",
    "echainiv",
    "authenc",
    "authencesn",
    "crypto_null",
    "drbg",
    "ctr",
    "gcm",
    "ghash-generic",
    "aesni-intel",
    "hmac",
    "sha256_generic",
    "sha256-ssse3",
    "sha512_generic",
];
/// Lines of a kernel's log that are a failure.
const SPLATS: &[&str] = &["WARNING", "BUG", "Oops", "Call Trace", "Kernel panic"];
const QEMU: &str = "qemu-system-x86_64";
/// Seconds after which a machine is ended. The longest takes 130 on a busy computer.
const MACHINE_LIMIT: u32 = 600;
const STRESS_LIMIT: u32 = 3600;
/// Machines that run at the same time; each has one thread that computes.
const SIDE_BY_SIDE: usize = 2;

/// The beginning of a test vector's ciphertext, as it stands in the module.
const VECTOR: &[u8] = b"deb22cd9b07c72c16e3a65beeb8df304";

/// A run of the machine.
struct Run {
    name: &'static str,
    /// Which of [`super::kernel::fetch`]'s kernels.
    kernel: usize,
    arguments: &'static str,
    wire: Wire,
    /// Whether its two processors run at the same time, in a thread of QEMU each. That emulation may run code which the kernel
    /// has just changed (a static key), and trap (`int3`). So only a measurement has it, which runs when it is named.
    parallel: bool,
}

/// What the machine's NICs are connected to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// Two NICs, to each other.
    Pair,
    /// One, to Open vSwitch and the controller.
    Switch,
    /// The same, with a unikernel at the switch as well.
    Unikernel,
    /// The same, encrypted.
    Sealed,
}

/// `slub_debug=FZP` (red zones, poison, sanity checks) finds writes beyond an object and uses after its end; it is
/// too slow for bulk data.
static RUNS: [Run; 7] = [
    run("functions", 0, "tests=functions slub_debug=FZP", Wire::Pair),
    run("newer-kernel", 1, "tests=functions", Wire::Pair),
    run("bulk", 0, "tests=bulk", Wire::Pair),
    run("controller", 0, "tests=controller", Wire::Switch),
    run("unikernel", 0, "tests=unikernel", Wire::Unikernel),
    run("sealed", 0, "tests=unikernel cipher=aes-128-gcm", Wire::Sealed),
    Run { parallel: true, ..run("contention", 0, "tests=contention", Wire::Pair) },
];

const fn run(name: &'static str, kernel: usize, arguments: &'static str, wire: Wire) -> Run {
    Run { name, kernel, arguments, wire, parallel: false }
}

/// The check `kmod-test`: every machine, but for measurements.
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

/// How hard the machines are to work.
struct Load {
    /// For the kernel's command line.
    arguments: &'static str,
    /// Seconds after which a machine is ended.
    limit: u32,
}

/// Prepares the machines and runs them, [`SIDE_BY_SIDE`].
fn run_machines(names: &[String], load: &Load) -> Result<()> {
    if let Some(name) = names.iter().find(|name| !RUNS.iter().any(|run| run.name == **name)) {
        bail!("there is no machine `{name}`, only {}", RUNS.each_ref().map(|run| run.name).join(", "));
    }
    let object = engine_object()?;
    Cmd::limited(super::BUILD_LIMIT, "cargo")
        .words("build --locked --quiet --package cvsw-kmod-guest --package cvsw-cli")
        .run()?;
    super::dkms_package(&object)?;
    let mut machines = Vec::new();
    for (number, kernel) in super::fetch()?.into_iter().enumerate() {
        let wanted = |run: &&Run| {
            if names.is_empty() { !run.parallel } else { names.iter().any(|name| name == run.name) }
        };
        let here: Vec<&Run> = RUNS.iter().filter(|run| run.kernel == number).filter(wanted).collect();
        if here.is_empty() {
            continue;
        }
        let initramfs = initramfs(&kernel, &super::dkms_install(&kernel)?)?;
        let kernel = Arc::new(kernel);
        machines.extend(here.into_iter().map(|run| (run, Arc::clone(&kernel), initramfs.clone())));
    }
    // The long ones first.
    machines.sort_by_key(|(run, ..)| RUNS.iter().position(|other| other.name == run.name));
    let failures = Mutex::new(Vec::new());
    let (queue, outside) = (Mutex::new(machines.into_iter()), Mutex::new(()));
    let next = || queue.lock().ok()?.next();
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some((run, kernel, initramfs)) = next() {
                    // There is one switch.
                    let _guard = (run.wire != Wire::Pair).then(|| outside.lock());
                    let Err(error) = machine(run, &kernel, &initramfs, load) else { continue };
                    failures.lock().iter_mut().for_each(|all| all.push(format!("{}: {error:#}", run.name)));
                }
            });
        }
    });
    let failures = failures.into_inner().context("a machine's thread panicked")?;
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Boots a machine and judges its console.
fn machine(run: &Run, kernel: &Kernel, initramfs: &Path, load: &Load) -> Result<()> {
    let console = folder()?.join(format!("console-{}.log", run.name));
    let arguments = format!("{} {}", run.arguments, load.arguments);
    println!("\n{}: Linux {}, {arguments}", run.name, kernel.release);
    let start = Instant::now();
    let mut outside = if run.wire == Wire::Pair { None } else { Some(Outside::new(run.wire == Wire::Sealed)?) };
    if let Some(outside) = outside.as_mut().filter(|_| matches!(run.wire, Wire::Unikernel | Wire::Sealed)) {
        outside.start_unikernel(&unikernel::build(unikernel::Flavour::Best)?)?;
    }
    let result = match &outside {
        Some(outside) => outside
            .inside("timeout")
            .arg(load.limit.to_string())
            .arg(QEMU)
            .words("-netdev tap,id=a,ifname=tap0,script=no,downscript=no")
            .words(&format!("-device virtio-net-pci,netdev=a,mac={}", switch::MAC)),
        None => Cmd::limited(load.limit, QEMU).words(&["a", "b"].map(hub_nic).concat()),
    }
    .words(&format!("-accel tcg,thread={}", if run.parallel { "multi" } else { "single" }))
    .words("-cpu max -smp 2 -m 640 -display none -monitor none -no-reboot -nic none")
    .arg("-serial")
    .arg(format!("file:{}", console.display()))
    .arg("-kernel")
    .arg(&kernel.image)
    .arg("-initrd")
    .arg(initramfs)
    .arg("-append")
    .arg(format!("console=ttyS0 panic=-1 oops=panic net.ifnames=0 loglevel=7 {arguments}"))
    .run();
    let log = String::from_utf8_lossy(&fs::read(&console)?).into_owned();
    let mut report = format!("\n{}, from boot to verdict {:.0} s:\n", run.name, start.elapsed().as_secs_f64());
    for (_, line) in
        log.lines().filter_map(|line| line.split_once("KMOD-")).filter(|(_, line)| !line.starts_with("RUN"))
    {
        let _ = writeln!(report, "  {}", line.trim_end());
    }
    print!("{report}");
    result?;
    judge(&log).with_context(|| format!("the console's log is {}", console.display()))
}

/// A NIC on the wire that all of them share.
fn hub_nic(id: &str) -> String {
    format!("-netdev hubport,id={id},hubid=0 -device virtio-net-pci,netdev={id} ")
}

fn judge(log: &str) -> Result<()> {
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
    Ok(())
}

/// Makes the initramfs for a kernel.
fn initramfs(kernel: &Kernel, module: &Path) -> Result<PathBuf> {
    let root = folder()?.join(format!("root-{}", kernel.release));
    let _ = fs::remove_dir_all(&root);
    for name in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    for program in PROGRAMS {
        add_program(&root, &which(program)?, &format!("bin/{program}"))?;
    }
    let ours = metadata::target_directory()?.join("debug");
    for (program, to) in [("cvsw-kmod-guest", "init"), ("cvsw", "bin/cvsw")] {
        add_program(&root, &ours.join(program), to)?;
        Cmd::new("strip").arg(root.join(to)).run()?;
    }
    add_corpus(&root)?;
    add_modules(&root, kernel, module)?;
    let image = folder()?.join(format!("initramfs-{}.gz", kernel.release));
    Cmd::new("sh")
        .arg("-c")
        .arg(format!("find . | cpio --quiet -o -H newc | gzip -1 > {}", image.display()))
        .in_folder(&root)
        .run()?;
    Ok(image)
}

fn which(program: &str) -> Result<PathBuf> {
    let path = Cmd::new("sh").words("-c").arg(format!("PATH=$PATH:/usr/sbin:/sbin command -v {program}")).read()?;
    Ok(PathBuf::from(path.trim()))
}

/// Copies a program and the libraries that it is linked with.
fn add_program(root: &Path, program: &Path, to: &str) -> Result<()> {
    let copy = |from: &Path, to: &Path| -> Result<()> {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
        Ok(())
    };
    copy(program, &root.join(to))?;
    let libraries = Cmd::new("ldd").arg(program).read()?;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let inside = root.join(library.trim_start_matches('/'));
        if !inside.exists() {
            copy(Path::new(library), &inside)?;
        }
    }
    Ok(())
}

/// Copies the seeds and regressions of the fuzzers that take frames or control messages.
fn add_corpus(root: &Path) -> Result<()> {
    let to = root.join("corpus");
    fs::create_dir_all(&to)?;
    for kind in ["seeds", "regressions"] {
        for target in ["frame", "control", "esp"] {
            let folder = crate::root().join("fuzz").join(kind).join(target);
            if !folder.is_dir() {
                continue;
            }
            for file in fs::read_dir(&folder)? {
                let file = file?;
                let name = format!("{kind}-{target}-{}", file.file_name().to_string_lossy());
                fs::copy(file.path(), to.join(name))?;
            }
        }
    }
    Ok(())
}

/// Copies the kernel's modules that are needed, with those that they depend on, and ours.
fn add_modules(root: &Path, kernel: &Kernel, module: &Path) -> Result<()> {
    let to = root.join("lib/modules").join(&kernel.release);
    let dependencies = fs::read_to_string(kernel.modules.join("modules.dep"))?;
    let mut wanted = BTreeSet::new();
    for line in dependencies.lines() {
        let Some((path, needs)) = line.split_once(':') else { continue };
        let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if MODULES.iter().any(|module| name.split('.').next() == Some(module)) {
            wanted.insert(path);
            wanted.extend(needs.split_whitespace());
        }
    }
    for path in wanted.into_iter().chain(["modules.order", "modules.builtin", "modules.builtin.modinfo"]) {
        let target = to.join(path);
        fs::create_dir_all(target.parent().context("no folder")?)?;
        fs::copy(kernel.modules.join(path), target).with_context(|| format!("copying {path}"))?;
    }
    let ours = to.join("cvsw.ko");
    fs::copy(module, &ours)?;
    Cmd::new("strip").arg("--strip-debug").arg(&ours).run()?;
    break_vector(&ours, &root.join("broken"))?;
    Cmd::new("depmod").arg("-b").arg(root).arg(&kernel.release).run()
}

/// Copies the module with one digit of a test vector changed: one that must refuse to be loaded.
fn break_vector(module: &Path, to: &Path) -> Result<()> {
    let mut bytes = fs::read(module)?;
    let at =
        bytes.windows(VECTOR.len()).position(|window| window == VECTOR).context("no test vector in the module")?;
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    fs::create_dir_all(to)?;
    Ok(fs::write(to.join("cvsw.ko"), bytes)?)
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn only_a_finished_machine_without_complaints_passes() {
        judge("KMOD-OK a\n[    1.0] cvsw0: link up\nKMOD-SUMMARY 1 passed, 0 failed\n").unwrap();
        for (log, reason) in [
            ("KMOD-OK a\n", "ended before"),
            ("KMOD-ABORTED no module\n", "no module"),
            ("KMOD-SUMMARY 0 passed, 0 failed\n", "no test"),
            ("KMOD-FAILED a: b\nKMOD-SUMMARY 1 passed, 1 failed\n", "a: b"),
            ("[ 1.0] WARNING: CPU: 0\nKMOD-SUMMARY 1 passed, 0 failed\n", "complained"),
            ("[ 1.0] Call Trace:\nKMOD-SUMMARY 1 passed, 0 failed\n", "complained"),
        ] {
            let error = judge(log).unwrap_err().to_string();
            assert!(error.contains(reason), "{log}: {error}");
        }
    }
}
