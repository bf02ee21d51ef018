//! Tests the module in virtual machines: a stock Debian kernel, an initramfs made of this machine's programs, and
//! `cvsw-kmod-guest` as the first process. No hardware virtualisation is needed (QEMU's TCG).

use super::{
    build, engine_object, folder,
    kernel::Kernel,
    switch::{self, Outside},
};
use crate::{command::Cmd, metadata, unikernel};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Programs of this machine that the tests run inside.
const PROGRAMS: &[&str] = &["ip", "ethtool", "ping", "tcpdump", "modprobe", "rmmod"];
/// Modules of the kernel that the tests use.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "veth",
    "vxlan",
    "8021q",
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
/// Seconds after which a machine is ended. TCG on a busy computer is slow.
const MACHINE_LIMIT: u32 = 900;

/// A run of the machine.
struct Run {
    name: &'static str,
    /// Which of [`super::kernel::fetch`]'s kernels.
    kernel: usize,
    arguments: &'static str,
    wire: Wire,
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
}

/// `slub_debug=FZP` (red zones, poison, sanity checks) finds writes beyond an object and uses after its end; it is
/// too slow for bulk data.
const RUNS: [Run; 4] = [
    Run { name: "functions", kernel: 0, arguments: "tests=functions slub_debug=FZP", wire: Wire::Pair },
    Run { name: "bulk", kernel: 0, arguments: "tests=bulk", wire: Wire::Pair },
    Run { name: "controller", kernel: 0, arguments: "tests=controller", wire: Wire::Switch },
    Run { name: "unikernel", kernel: 0, arguments: "tests=unikernel", wire: Wire::Unikernel },
    Run { name: "newer-kernel", kernel: 1, arguments: "tests=functions", wire: Wire::Pair },
];

/// The check `kmod-test`: every machine.
pub fn run() -> Result<()> {
    run_some(&[])
}

/// Only the machines of these names; all if there are none.
pub fn run_some(names: &[String]) -> Result<()> {
    if let Some(name) = names.iter().find(|name| !RUNS.iter().any(|run| run.name == **name)) {
        bail!("there is no machine `{name}`, only {}", RUNS.map(|run| run.name).join(", "));
    }
    let object = engine_object()?;
    Cmd::limited(super::BUILD_LIMIT, "cargo")
        .words("build --locked --quiet --package cvsw-kmod-guest --package cvsw-cli")
        .run()?;
    let kernels = super::fetch()?;
    let mut failures = Vec::new();
    for run in RUNS.iter().filter(|run| names.is_empty() || names.iter().any(|name| name == run.name)) {
        let kernel = kernels.get(run.kernel).context("no such kernel")?;
        let module = build(kernel, &object)?;
        let initramfs = initramfs(kernel, &module)?;
        if let Err(error) = machine(run, kernel, &initramfs) {
            println!("{}: {error:#}", run.name);
            failures.push(format!("{}: {error:#}", run.name));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Boots a machine and judges its console.
fn machine(run: &Run, kernel: &Kernel, initramfs: &Path) -> Result<()> {
    let console = folder()?.join(format!("console-{}.log", run.name));
    println!("\n{}: Linux {}, {}", run.name, kernel.release, run.arguments);
    let mut outside = if run.wire == Wire::Pair { None } else { Some(Outside::new()?) };
    if let Some(outside) = outside.as_mut().filter(|_| run.wire == Wire::Unikernel) {
        outside.start_unikernel(&unikernel::build(unikernel::Flavour::Best)?)?;
    }
    let result = match &outside {
        Some(outside) => outside
            .inside("timeout")
            .arg(MACHINE_LIMIT.to_string())
            .arg(QEMU)
            .words("-netdev tap,id=a,ifname=tap0,script=no,downscript=no")
            .words(&format!("-device virtio-net-pci,netdev=a,mac={}", switch::MAC)),
        None => Cmd::limited(MACHINE_LIMIT, QEMU).words(&["a", "b"].map(hub_nic).concat()),
    }
    .words("-accel tcg,thread=multi -cpu max -smp 2 -m 640 -display none -monitor none -no-reboot -nic none")
    .arg("-serial")
    .arg(format!("file:{}", console.display()))
    .arg("-kernel")
    .arg(&kernel.image)
    .arg("-initrd")
    .arg(initramfs)
    .arg("-append")
    .arg(format!("console=ttyS0 panic=-1 oops=panic net.ifnames=0 loglevel=7 {}", run.arguments))
    .run();
    let log = String::from_utf8_lossy(&fs::read(&console)?).into_owned();
    log.lines().filter_map(|line| line.split_once("KMOD-")).for_each(|(_, line)| println!("  {}", line.trim_end()));
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
    Cmd::new("depmod").arg("-b").arg(root).arg(&kernel.release).run()
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
