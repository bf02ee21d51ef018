//! A private, stock Open vSwitch inside a server's namespace: own database, own sockets, userspace datapath.

use super::netns;
use super::process::Tool;
use super::topology::{BRIDGE, Server, Topology, UPLINK_OFPORT};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE_DATA: &str = "/usr/share/openvswitch";

/// How Open vSwitch moves frames through its ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Relay {
    /// Ordinary ports: a packet socket each, and a system call for every burst
    #[default]
    System,
    /// Ports of the type `afxdp`, polled by a thread that sleeps when there is nothing to do
    AfXdp,
}

impl Relay {
    /// For people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::System => "userspace datapath, ordinary ports",
            Self::AfXdp => "userspace datapath, ports of the type afxdp (generic XDP), pmd-maxsleep 100",
        }
    }

    /// More words for `ovs-vsctl ... set interface`, of a port that is an end of a virtual cable.
    pub const fn of_port(self) -> &'static str {
        match self {
            Self::System => "",
            // The driver's XDP of a veth drops what comes from an end without XDP of its own; generic XDP does not.
            Self::AfXdp => " type=afxdp options:xdp-mode=generic options:n_rxq=1",
        }
    }
}

/// The port of a bridge behind which the other server is.
#[derive(Clone, Copy, Debug)]
pub enum Uplink<'a> {
    /// An end of a virtual cable.
    Cable(&'a str),
    /// A tunnel device.
    Tunnel(&'a str),
}

/// How to reach the Open vSwitch of one server.
#[derive(Clone, Debug)]
pub struct Ovs {
    namespace: String,
    directory: PathBuf,
    /// How it moves frames.
    pub relay: Relay,
}

/// One line of `ovs-ofctl dump-flows`, without the counters and ages that change by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// `priority=1 actions=NORMAL`.
    pub rule: String,
    /// Frames that matched it.
    pub packets: u64,
}

impl Ovs {
    /// Describes the instance of a server that keeps its files below `directory`.
    pub fn new(server: &Server, directory: &Path) -> Self {
        Self { namespace: server.namespace.clone(), directory: directory.join(server.name), relay: Relay::System }
    }

    /// Makes the empty database.
    pub fn create_database(&self) -> Result<()> {
        fs::create_dir(&self.directory).with_context(|| format!("creating {}", self.directory.display()))?;
        let schema = Path::new(PACKAGE_DATA).join("vswitch.ovsschema");
        Tool::new("ovsdb-tool", ["create".as_ref(), self.path("conf.db").as_os_str(), schema.as_os_str()]).run()?;
        Ok(())
    }

    /// The database server.
    pub fn database_server(&self) -> Command {
        let socket = format!("--remote=punix:{}", self.database_socket().display());
        self.daemon("ovsdb-server", &[self.path("conf.db").display().to_string(), socket])
    }

    /// The switch itself.
    pub fn switch(&self) -> Command {
        let database = format!("unix:{}", self.database_socket().display());
        self.daemon("ovs-vswitchd", &[database, "--disable-system".to_owned()])
    }

    /// Where the database server listens.
    pub fn database_socket(&self) -> PathBuf {
        self.path("db.sock")
    }

    /// First write to the database, before the switch reads it.
    pub fn initialise(&self) -> Result<()> {
        self.vsctl("--no-wait init")?;
        if self.relay == Relay::AfXdp {
            // A thread that never sleeps would take its core from the other server's.
            self.vsctl("--no-wait set Open_vSwitch . other_config:pmd-maxsleep=100")?;
        }
        Ok(())
    }

    /// Makes the bridge with the interface `uplink` and a port for every VM of the server.
    ///
    /// It starts without flows (`fail_mode=secure`): what it forwards is what it is told to.
    pub fn add_bridge(&self, topology: &Topology, server: usize, uplink: Uplink<'_>) -> Result<()> {
        let datapath_id = topology.servers[server].datapath_id;
        let cable = self.relay.of_port();
        let (uplink, settings) = match uplink {
            Uplink::Cable(name) => (name, cable),
            Uplink::Tunnel(name) => (name, ""),
        };
        let mut line = format!(
            "--timeout=10 add-br {BRIDGE} -- set bridge {BRIDGE} datapath_type=netdev protocols=OpenFlow10 \
             fail_mode=secure other-config:datapath-id={datapath_id:016x} \
             -- add-port {BRIDGE} {uplink} -- set interface {uplink} ofport_request={UPLINK_OFPORT}{settings}"
        );
        for vm in topology.vnics().filter(|vm| vm.server == server) {
            let port = vm.switch_interface();
            line += &format!(
                " -- add-port {BRIDGE} {port} -- set interface {port} ofport_request={} \
                 external-ids:attached-mac=\"{}\"{cable}",
                vm.ofport, vm.mac
            );
        }
        self.vsctl(&line).map(drop)
    }

    /// Where the controller has to listen: Open vSwitch connects to no unix socket outside its own folder.
    pub fn controller_socket(&self) -> PathBuf {
        self.path("controller.sock")
    }

    /// Points the bridge to its controller.
    pub fn set_controller(&self) -> Result<()> {
        let socket = self.controller_socket();
        self.vsctl(&format!("--timeout=10 set-controller {BRIDGE} unix:{}", socket.display())).map(drop)
    }

    /// The bridge's flows.
    pub fn flows(&self) -> Result<Vec<Flow>> {
        let text = self.with_environment(Tool::new("ovs-ofctl", ["dump-flows", BRIDGE]))?;
        Ok(text.lines().filter_map(parse_flow).collect())
    }

    /// Adds a flow to a bridge, in `ovs-ofctl` syntax.
    pub fn add_flow(&self, bridge: &str, flow: &str) -> Result<()> {
        self.with_environment(Tool::new("ovs-ofctl", ["add-flow", bridge, flow])).map(drop)
    }

    /// Changes its configuration: the words of an `ovs-vsctl` line.
    pub fn configure(&self, line: &str) -> Result<()> {
        self.vsctl(&format!("--timeout=10 {line}")).map(drop)
    }

    /// Its version, as it reports it.
    pub fn version(&self) -> Result<String> {
        let text = Tool::new("ovs-vswitchd", ["--version"]).run()?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// The log of the switch.
    pub fn log(&self) -> PathBuf {
        self.path("ovs-vswitchd.log")
    }

    /// The folder to name in `OVS_RUNDIR` for `ovs-ofctl` and its like.
    pub fn run_directory(&self) -> &Path {
        &self.directory
    }

    fn vsctl(&self, line: &str) -> Result<String> {
        let database = format!("--db=unix:{}", self.database_socket().display());
        let words = std::iter::once(database.as_str()).chain(line.split_whitespace());
        self.with_environment(Tool::new("ovs-vsctl", words))
    }

    fn daemon(&self, program: &str, args: &[String]) -> Command {
        let file = |suffix: &str| self.path(&format!("{program}.{suffix}")).display().to_string();
        let mut command = netns::command(&self.namespace, program, args);
        command.args([
            "--no-chdir".to_owned(),
            "-vconsole:off".to_owned(),
            format!("--pidfile={}", file("pid")),
            format!("--log-file={}", file("log")),
            format!("--unixctl={}", file("ctl")),
        ]);
        command.envs(self.environment());
        command
    }

    fn with_environment(&self, tool: Tool) -> Result<String> {
        tool.envs(self.environment()).run()
    }

    fn environment(&self) -> [(&'static str, PathBuf); 5] {
        let directory = || self.directory.clone();
        [
            ("OVS_RUNDIR", directory()),
            ("OVS_DBDIR", directory()),
            ("OVS_LOGDIR", directory()),
            ("OVS_SYSCONFDIR", directory()),
            ("OVS_PKGDATADIR", PACKAGE_DATA.into()),
        ]
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }
}

fn parse_flow(line: &str) -> Option<Flow> {
    let (head, actions) = line.trim().split_once(" actions=")?;
    let mut packets = 0;
    let mut rule = Vec::new();
    for field in head.split([',', ' ']).filter(|field| !field.is_empty()) {
        match field.split_once('=') {
            Some(("n_packets", count)) => packets = count.parse().ok()?,
            Some(("cookie" | "duration" | "table" | "n_bytes" | "idle_age" | "hard_age", _)) => {}
            _ => rule.push(field),
        }
    }
    Some(Flow { rule: format!("{} actions={actions}", rule.join(",")), packets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_lose_what_changes_by_itself() {
        let line = " cookie=0x0, duration=4.2s, table=0, n_packets=7, n_bytes=420, idle_age=1, \
                    priority=1000,dl_type=0xabba actions=CONTROLLER:65535";
        let flow = parse_flow(line).unwrap();
        assert_eq!(flow, Flow { rule: "priority=1000,dl_type=0xabba actions=CONTROLLER:65535".into(), packets: 7 });
        assert_eq!(parse_flow("NXST_FLOW reply (xid=0x4):"), None);
    }
}
