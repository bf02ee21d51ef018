//! The machine: mounts, modules, commands, power.

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt::ReceiveTimestamp},
};
use std::{
    fs,
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Names of the kernel's modules that the tests use, one a line, as who made the initramfs wrote them; `modprobe` finds what
/// they depend on.
const MODULES: &str = "/etc/modules";

/// How long anything may take that is certain to come: an emulated machine on a busy computer is slow, and slower with a kernel
/// that checks itself (`patience=`, in seconds, on the kernel's command line).
pub fn patience() -> Duration {
    static SECONDS: OnceLock<u64> = OnceLock::new();
    Duration::from_secs(*SECONDS.get_or_init(|| number("patience", 120).unwrap_or(120) as u64))
}

/// Makes a bare machine one that commands run on.
pub fn prepare() -> Result<()> {
    for (kind, path) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("tmpfs", "/tmp")]
    {
        fs::create_dir_all(path)?;
        mount(Some(kind), path, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {path}"))?;
    }
    // Where kmemleak is, if the kernel has it.
    let _ = mount(Some("debugfs"), "/sys/kernel/debug", Some("debugfs"), MsFlags::empty(), None::<&str>);
    // Where the kernel itself asks for modules (ciphers).
    fs::write("/proc/sys/kernel/modprobe", "/bin/modprobe")?;
    let modules = fs::read_to_string(MODULES).with_context(|| format!("reading {MODULES}"))?;
    modules.lines().try_for_each(|module| run(&format!("modprobe {module}")).map(drop))?;
    // tcpdump looks its user up.
    fs::write("/etc/passwd", "root:x:0:0::/:/bin/false\n")?;
    run("ip link set lo up")?;
    // Out of the way of the names in the tests.
    for number in 0..2 {
        if fs::exists(format!("/sys/class/net/eth{number}"))? {
            run(&format!("ip link set eth{number} name nic{number}"))?;
        }
    }
    run("modprobe cvsw")?;
    hold_timestamps()
}

/// Keeps a socket open that wants time stamps, for good. Each `ping` would switch them on and off, for which the kernel
/// changes its code while it runs; QEMU's emulation of two processors does not always survive that.
fn hold_timestamps() -> Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, ReceiveTimestamp, &true)?;
    std::mem::forget(socket);
    Ok(())
}

/// The value of `name=` on the kernel's command line.
pub fn command_line_option(name: &str) -> Result<Option<String>> {
    let line = fs::read_to_string("/proc/cmdline")?;
    Ok(line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)))
}

/// How many times as much the tests do as usual: `scale=` on the kernel's command line.
pub fn scale() -> Result<usize> {
    number("scale", 1)
}

/// The number `name=` on the kernel's command line, or another one if it is not there.
pub fn number(name: &str, otherwise: usize) -> Result<usize> {
    let told = command_line_option(name)?;
    told.map_or(Ok(otherwise), |text| text.parse().with_context(|| format!("{name}={text} is not a number")))
}

/// Runs a command (split at blanks); its standard output, or an error with all that it said.
pub fn run(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("no command")?;
    let output = Command::new(program)
        .args(words)
        .env("PATH", "/bin:/sbin")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("`{line}` failed ({}): {stdout}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

/// Runs several commands, one a line.
pub fn run_all(lines: &str) -> Result<()> {
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).try_for_each(|line| run(line).map(drop))
}

/// Waits until `condition` holds; `what` says in the error what did not.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + patience();
    while !condition()? {
        if Instant::now() > deadline {
            bail!("{what}: not within {} seconds", patience().as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ends the machine.
pub fn power_off() -> ! {
    let _ = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_POWER_OFF);
    loop {
        thread::park();
    }
}
