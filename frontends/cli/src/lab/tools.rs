//! The programs the laboratory needs, and the Debian packages that have them.

use super::unikernel::{PACKAGE, QEMU};
use anyhow::{Result, ensure};
use std::path::Path;

const TOOLS: [(&str, &str); 11] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("ping", "iputils-ping"),
    ("iperf3", "iperf3"),
    ("dumpcap", "tshark"),
    ("tshark", "tshark"),
    ("ovsdb-tool", "openvswitch-common"),
    ("ovs-ofctl", "openvswitch-common"),
    ("ovsdb-server", "openvswitch-common"),
    ("ovs-vsctl", "openvswitch-switch"),
    ("ovs-vswitchd", "openvswitch-switch"),
];

/// Fails when something the laboratory cannot do without is missing, and says how to get it.
pub fn require() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the laboratory makes network namespaces and taps, which only root may do: run it with sudo"
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = missing(|tool| std::env::split_paths(&path).any(|directory| is_program(&directory.join(tool))));
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let names: Vec<&str> = missing.iter().map(|(tool, _)| *tool).collect();
    ensure!(
        missing.is_empty(),
        "not found in PATH: {}. Install with: apt-get install {}",
        names.join(", "),
        packages.join(" ")
    );
    ensure!(
        Path::new("/dev/net/tun").exists(),
        "/dev/net/tun is missing: load the kernel module with `modprobe tun`"
    );
    Ok(())
}

/// Fails when something is missing that only the evaluation needs: `tools` are `(program, where it comes from)`.
pub fn require_peers(tools: &[(&str, &str)]) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let present = |tool: &str| std::env::split_paths(&path).any(|directory| is_program(&directory.join(tool)));
    for (tool, source) in tools {
        ensure!(
            present(tool),
            "not found in PATH: {tool}. Install it with `{source}`, or let `cargo xtask lab eval` do it; \
             --only leaves out what needs it"
        );
    }
    Ok(())
}

/// Fails when there is no QEMU.
pub fn require_qemu() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| is_program(&directory.join(QEMU)));
    ensure!(found, "not found in PATH: {QEMU}, which runs unikernels. Install with: apt-get install {PACKAGE}");
    Ok(())
}

fn missing(present: impl Fn(&str) -> bool) -> Vec<(&'static str, &'static str)> {
    TOOLS.into_iter().filter(|(tool, _)| !present(tool)).collect()
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_comes_with_its_package() {
        assert_eq!(missing(|tool| tool != "iperf3"), [("iperf3", "iperf3")]);
        assert_eq!(missing(|tool| tool != "ovs-vswitchd"), [("ovs-vswitchd", "openvswitch-switch")]);
        assert!(missing(|_| true).is_empty());
    }
}
