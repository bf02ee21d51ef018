//! Installs what is missing: Debian packages, and cargo's additional commands. What is there is left alone.

use crate::{
    command::{Cmd, installed},
    guest, judges, kmod, nostd, packages, unikernel,
};
use anyhow::{Context, Result, bail};
use std::{path::Path, process::Stdio, time::Instant};

/// What the caller is going to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Run the lab.
    Lab,
    /// Run the lab with unikernels, whose image is built first.
    LabWithUnikernels,
    /// Run the evaluation, with what others would use instead.
    Evaluation,
    /// Run every check.
    Everything,
}

/// `(Debian package, a program that it brings)`: what the lab runs.
const LAB_PACKAGES: &[(&str, &str)] = &[
    ("openvswitch-switch", "ovs-vswitchd"),
    ("openvswitch-common", "ovs-ofctl"),
    ("tshark", "tshark"),
    ("tcpdump", "tcpdump"),
    ("iperf3", "iperf3"),
    ("ethtool", "ethtool"),
    ("iproute2", "ip"),
    ("iputils-ping", "ping"),
    ("procps", "ps"),
];

/// What the evaluation runs beside our own.
const EVALUATION_PACKAGES: &[(&str, &str)] =
    &[("wireguard-go", "wireguard-go"), ("wireguard-tools", "wg"), ("util-linux", "taskset")];

/// What only the checks need: a C++ compiler for libFuzzer, valgrind to count instructions, shells that complete commands.
const CHECK_PACKAGES: &[(&str, &str)] = &[
    ("g++", "c++"),
    ("valgrind", "valgrind"),
    ("etcd-server", "etcd"),
    ("etcd-client", "etcdctl"),
    ("zsh", "zsh"),
    ("fish", "fish"),
];

/// `(crate, version, program)` of cargo's additional commands.
const CARGO_TOOLS: &[(&str, &str, &str)] =
    &[("cargo-deny", "0.20.2", "cargo-deny"), ("cargo-fuzz", "0.13.2", "cargo-fuzz"), packages::CARGO_DEB];

/// The same of programs that the evaluation runs beside our own.
const EVALUATION_TOOLS: &[(&str, &str, &str)] = &[("boringtun-cli", "0.7.1", "boringtun-cli")];

/// Question that the package `tshark` would ask: may ordinary users capture? No: only root does here.
const TSHARK_ANSWER: &str = "wireshark-common wireshark-common/install-setuid boolean false\n";

/// Installs what is missing for `need`; does nothing, quickly, if nothing is.
pub fn run(need: Need) -> Result<()> {
    let start = Instant::now();
    let packages = missing_packages(need);
    if packages.is_empty() {
        println!("Debian packages: nothing is missing");
    } else {
        println!("Debian packages to install: {}", packages.join(" "));
        install_packages(&packages)?;
        let still = missing_packages(need);
        if !still.is_empty() {
            let compiler = nostd::from_source().err().map(|error| format!(" ({error})")).unwrap_or_default();
            bail!("installed, yet still missing or too old: {}{compiler}", still.join(" "));
        }
    }
    if need == Need::Everything {
        rustup_components()?;
        cargo_tools(CARGO_TOOLS, Speed::Build)?;
        judges::fetch()?;
        for kernel in kmod::fetch()? {
            println!("Linux {} with headers: there", kernel.release);
        }
        kmod::fetch_for_machines()?;
    }
    if need == Need::Evaluation {
        cargo_tools(EVALUATION_TOOLS, Speed::Run)?;
    }
    println!("setup took {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn missing_packages(need: Need) -> Vec<&'static str> {
    let (checks, kmod, guest, judges, deb) = if need == Need::Everything {
        (CHECK_PACKAGES, kmod::PACKAGES, guest::PACKAGES, judges::PACKAGES, packages::PACKAGES)
    } else {
        (&[][..], &[][..], &[][..], &[][..], &[][..])
    };
    let only_lab = matches!(need, Need::Lab | Need::Evaluation);
    let unikernel = if only_lab { &[] } else { unikernel::PACKAGES };
    let evaluation = if need == Need::Evaluation { EVALUATION_PACKAGES } else { &[] };
    let wanted = LAB_PACKAGES.iter().chain(evaluation).chain(checks).chain(unikernel).chain(kmod).chain(guest);
    let mut missing: Vec<_> = wanted
        .chain(judges)
        .chain(deb)
        .filter(|(_, program)| !installed(program))
        .map(|(package, _)| *package)
        .collect();
    if need == Need::Everything && !judges::has_python_venv() {
        missing.push(judges::PYTHON_VENV);
    }
    if !only_lab && nostd::from_source().is_err() {
        missing.extend(nostd::DEBIAN_PACKAGES);
    }
    missing
}

/// Installs those of `(Debian package, something that it brings)` that are missing: for a task that needs more than all others.
pub fn install(packages: &[(&'static str, &str)]) -> Result<()> {
    let missing = || -> Vec<&str> {
        packages.iter().filter(|(_, brings)| !installed(brings)).map(|(package, _)| *package).collect()
    };
    if missing().is_empty() {
        return Ok(());
    }
    install_packages(&missing())?;
    if !missing().is_empty() {
        bail!("installed, yet still missing: {}", missing().join(" "));
    }
    Ok(())
}

fn install_packages(packages: &[&str]) -> Result<()> {
    if !installed("apt-get") {
        bail!(
            "this is not a Debian system: install by hand what these packages contain, then try again: {}",
            packages.join(" ")
        );
    }
    if packages.contains(&"tshark") && installed("debconf-set-selections") {
        preseed_tshark()?;
    }
    update_lists()?;
    as_root("apt-get")?.words("install --quiet --yes --no-install-recommends").args(packages).run()
}

/// Fetches the lists of Debian's packages.
pub fn update_lists() -> Result<()> {
    as_root("apt-get")?.words("update --quiet").run().context("is the package mirror reachable?")
}

fn preseed_tshark() -> Result<()> {
    use std::io::Write;
    let mut command = std::process::Command::new("debconf-set-selections");
    if !is_root() {
        command = std::process::Command::new("sudo");
        command.arg("debconf-set-selections");
    }
    let mut child = command.stdin(Stdio::piped()).spawn().context("cannot start debconf-set-selections")?;
    child.stdin.take().context("no pipe")?.write_all(TSHARK_ANSWER.as_bytes())?;
    if !child.wait()?.success() {
        bail!("debconf-set-selections failed");
    }
    Ok(())
}

fn as_root(program: &str) -> Result<Cmd> {
    if is_root() {
        Ok(Cmd::new(program).env("DEBIAN_FRONTEND", "noninteractive"))
    } else if installed("sudo") {
        Ok(Cmd::new("sudo").arg("DEBIAN_FRONTEND=noninteractive").arg(program))
    } else {
        bail!("installing packages needs root: run this as root, or install `sudo`");
    }
}

fn is_root() -> bool {
    // The owner of a process's folder in /proc is its effective user.
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self").metadata().is_ok_and(|metadata| metadata.uid() == 0)
}

fn rustup_components() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !Cmd::cargo(subcommand).arg("--version").succeeds() {
            Cmd::new("rustup").words("component add").arg(component).run()?;
        }
    }
    Ok(())
}

/// What a program is compiled for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speed {
    /// A short build: it runs for seconds.
    Build,
    /// As its makers release it: it is measured.
    Run,
}

fn cargo_tools(tools: &[(&str, &str, &str)], speed: Speed) -> Result<()> {
    for (name, version, program) in tools {
        if installed(program) {
            println!("{name}: installed");
            continue;
        }
        let start = Instant::now();
        let mut command = Cmd::cargo("install --quiet --locked").args([name, "--version", version]);
        if speed == Speed::Build {
            command = command
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        }
        command.run()?;
        println!("{name}: installed in {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}
