//! Network namespaces and the virtual cables in them, by `ip` and `ethtool`.

use super::process::Tool;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::process::Command;

/// Offloads that a veth cable has and a physical wire has not: super-segments and unfilled checksums.
const WIRE_OFFLOADS: [&str; 5] = ["tx", "tso", "gso", "gro", "rx"];

/// `program` inside a namespace.
pub fn command<S: AsRef<OsStr>>(
    namespace: &str,
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program).args(args);
    command
}

/// A short-lived `program` inside a namespace.
pub fn tool<S: AsRef<OsStr>>(
    namespace: &str,
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Tool {
    Tool::from(command(namespace, program, args))
}

/// `ip -n NAMESPACE ARGS...`, the arguments separated by blanks.
pub fn ip(namespace: &str, args: &str) -> Result<String> {
    Tool::new("ip", ["-n", namespace].into_iter().chain(args.split_whitespace())).run()
}

/// Creates a namespace that never speaks IPv6 by itself: no router solicitation disturbs what is observed.
pub fn create(namespace: &str) -> Result<()> {
    Tool::new("ip", ["netns", "add", namespace]).run()?;
    set_ipv6(namespace, "all", false)?;
    set_ipv6(namespace, "default", false)?;
    ip(namespace, "link set lo up").map(drop)
}

/// Turns IPv6 on or off for an interface (or `all`, `default`).
pub fn set_ipv6(namespace: &str, interface: &str, on: bool) -> Result<()> {
    let value = u8::from(!on);
    let file = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    // A kernel without IPv6 has no such file, and nothing to turn off.
    let script = format!("[ ! -e {file} ] || echo {value} > {file}");
    tool(namespace, "sh", ["-c", &script]).run().map(drop)
}

/// Removes a namespace and, with it, the interfaces inside.
pub fn delete(namespace: &str) -> Result<()> {
    Tool::new("ip", ["netns", "delete", namespace]).uninterruptible().run().map(drop)
}

/// All named namespaces of the machine that begin with `prefix`.
pub fn list(prefix: &str) -> Result<Vec<String>> {
    let text = Tool::new("ip", ["netns", "list"]).uninterruptible().run()?;
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
}

/// PIDs of the processes inside a namespace.
pub fn pids(namespace: &str) -> Result<Vec<i32>> {
    let text = Tool::new("ip", ["netns", "pids", namespace]).uninterruptible().run()?;
    text.split_whitespace().map(|pid| pid.parse().context("reading `ip netns pids`")).collect()
}

/// One end of a virtual cable.
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// Where it is.
    pub namespace: &'a str,
    /// The interface's name there.
    pub interface: &'a str,
}

/// Lays a veth cable that behaves like a wire: this IP MTU, no offloads, no address, up.
pub fn cable(one: End<'_>, other: End<'_>, mtu: u16) -> Result<()> {
    let End { namespace, interface } = one;
    let (peer_namespace, peer) = (other.namespace, other.interface);
    ip(
        namespace,
        &format!("link add {interface} mtu {mtu} type veth peer name {peer} mtu {mtu} netns {peer_namespace}"),
    )?;
    for end in [one, other] {
        let offloads = WIRE_OFFLOADS.iter().flat_map(|name| [*name, "off"]);
        tool(end.namespace, "ethtool", ["-K", end.interface].into_iter().chain(offloads)).run()?;
        ip(end.namespace, &format!("link set {} arp off up", end.interface))?;
    }
    Ok(())
}

/// IP MTU of an interface as a program inside the namespace sees it.
pub fn mtu(namespace: &str, interface: &str) -> Result<u16> {
    let text = tool(namespace, "ip", ["-json", "link", "show", "dev", interface]).run()?;
    let value: Value = serde_json::from_str(&text).context("reading `ip -json link`")?;
    value[0]["mtu"]
        .as_u64()
        .and_then(|mtu| u16::try_from(mtu).ok())
        .with_context(|| format!("no MTU of {interface} in {text}"))
}

/// The MAC address that the namespace's kernel has resolved for `address`, if it has.
pub fn neighbour(namespace: &str, address: &str) -> Result<Option<String>> {
    let text = tool(namespace, "ip", ["-json", "neigh", "show", "to", address]).run()?;
    let value: Value = serde_json::from_str(text.trim()).context("reading `ip -json neigh`")?;
    Ok(value[0]["lladdr"].as_str().map(str::to_owned))
}

/// Names of the interfaces of a namespace, without the loopback.
pub fn interfaces(namespace: &str) -> Result<Vec<String>> {
    let text = tool(namespace, "ip", ["-json", "link", "show"]).run()?;
    let value: Value = serde_json::from_str(&text).context("reading `ip -json link`")?;
    let Some(links) = value.as_array() else { bail!("`ip -json link` gave {text}") };
    let names = links.iter().filter_map(|link| link["ifname"].as_str());
    Ok(names.filter(|name| *name != "lo").map(str::to_owned).collect())
}
