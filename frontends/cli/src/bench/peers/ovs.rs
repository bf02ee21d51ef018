//! Open vSwitch with DPDK: a capture that repeats for ever in, a null port out, one PMD thread.

use super::{LENGTH, capture, thread_time};
use crate::lab::process::{Process, Tool, end_all};
use anyhow::{Context, Result, bail};
use cvsw_benches::Kind;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

/// The name in reports.
pub const NAME: &str = "Open vSwitch-DPDK";
/// Where the package puts the program beside the one without DPDK.
const PACKAGED: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
/// The bridge with the flow that is measured.
const INNER: &str = "br0";
/// The bridge that has the tunnels' address.
const OUTER: &str = "br1";
/// Ends of the tunnel, as the benchmark's frames have them.
const ADDRESS_A: &str = "192.0.2.1";
const ADDRESS_B: &str = "192.0.2.2";
const MAC_A: &str = "02:00:00:01:00:01";
const MAC_B: &str = "02:00:00:01:00:02";
const START_LIMIT: Duration = Duration::from_secs(20);

/// What its flow does in a scenario; `None`: it has no action for that, but a tunnel port.
fn actions(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Restore | Kind::Pass => Some("output:2"),
        Kind::Rewrite => Some("mod_nw_src:10.9.9.1,mod_nw_dst:10.9.9.2,mod_tp_dst:8080,output:2"),
        Kind::VlanPush => Some("mod_vlan_vid:7,output:2"),
        Kind::VxlanEncap | Kind::VxlanDecap => None,
    }
}

/// A private instance.
pub struct Ovs {
    directory: PathBuf,
    database: Process,
    switch: Process,
}

impl Ovs {
    /// Starts the database and the switch in a folder of their own.
    pub fn start() -> Result<Self> {
        let program = program()?;
        let directory = std::env::temp_dir().join(format!("cvsw-bench-{}", std::process::id()));
        fs::create_dir(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let started = Self::start_in(&program, &directory);
        if started.is_err() {
            remove(&directory);
        }
        started
    }

    fn start_in(program: &Path, directory: &Path) -> Result<Self> {
        let path = |name: &str| directory.join(name);
        let schema = Path::new("/usr/share/openvswitch/vswitch.ovsschema");
        Tool::new("ovsdb-tool", ["create".as_ref(), path("conf.db").as_os_str(), schema.as_os_str()]).run()?;
        let mut database = Command::new("ovsdb-server");
        database.arg(path("conf.db")).arg(format!("--remote=punix:{}", path("db.sock").display()));
        let mut database = spawn("ovsdb-server", database, directory)?;
        let socket = path("db.sock");
        database.wait_for("the database's socket", START_LIMIT, || Ok(socket.exists().then_some(())))?;
        let configured = configure(program, directory);
        configured.map(|switch| Self { directory: directory.to_owned(), database, switch })
    }

    /// Million packets per second of processor time that its PMD thread forwards.
    pub fn mpps(&self, kind: Kind, packet_flows: u32) -> Result<f64> {
        let file = self.directory.join(format!("{}-{packet_flows}.pcap", kind.name()));
        capture::write(&file, kind, packet_flows)?;
        let result = match actions(kind) {
            Some(actions) => self.plain(actions),
            None => self.tunnel(kind),
        };
        let result = result.and_then(|bridge| {
            let device = format!("net_pcap{packet_flows},rx_pcap={},infinite_rx=1", file.display());
            self.add_port(bridge, "in", 1, "dpdk", &[&format!("dpdk-devargs=\"{device}\"")])?;
            self.measure()
        });
        for bridge in [INNER, OUTER] {
            vsctl(&self.directory, &["--", "--if-exists", "del-br", bridge])?;
        }
        result
    }

    /// One bridge with one flow. Returns the bridge that frames come to.
    fn plain(&self, actions: &str) -> Result<&'static str> {
        self.add_bridge(INNER, MAC_A)?;
        self.add_port(INNER, "out", 2, "dpdk", &["dpdk-devargs=net_null0"])?;
        self.add_flow(INNER, &format!("actions={actions}"))?;
        Ok(INNER)
    }

    /// Its tunnels are ports with an address of the host behind them: a second bridge has that address, and the devices
    /// of the underlay. Returns the bridge that frames come to.
    fn tunnel(&self, kind: Kind) -> Result<&'static str> {
        let ((here, mac), (there, other_mac)) = match kind {
            Kind::VxlanDecap => ((ADDRESS_B, MAC_B), (ADDRESS_A, MAC_A)),
            _ => ((ADDRESS_A, MAC_A), (ADDRESS_B, MAC_B)),
        };
        self.add_bridge(INNER, MAC_A)?;
        self.add_bridge(OUTER, mac)?;
        self.add_port(INNER, "vx", 2, "vxlan", &[&format!("remote_ip={there}"), "key=42"])?;
        self.ip(&["link", "set", OUTER, "up"])?;
        self.ip(&["address", "add", &format!("{here}/24"), "dev", OUTER])?;
        self.appctl(&["ovs/route/add", &format!("{here}/24"), OUTER])?;
        self.appctl(&["tnl/neigh/set", OUTER, there, other_mac])?;
        if kind == Kind::VxlanDecap {
            self.add_port(INNER, "out", 3, "dpdk", &["dpdk-devargs=net_null0"])?;
            self.add_flow(OUTER, "in_port=1,actions=LOCAL")?;
            self.add_flow(INNER, "in_port=2,actions=output:3")?;
            Ok(OUTER)
        } else {
            self.add_port(OUTER, "out", 2, "dpdk", &["dpdk-devargs=net_null0"])?;
            self.add_flow(OUTER, "in_port=LOCAL,actions=output:2")?;
            self.add_flow(INNER, "in_port=1,actions=output:2")?;
            Ok(INNER)
        }
    }

    fn add_bridge(&self, bridge: &str, mac: &str) -> Result<()> {
        let hwaddr = format!("other-config:hwaddr={mac}");
        let set = ["set", "bridge", bridge, "datapath_type=netdev", "fail_mode=secure", &hwaddr];
        vsctl(&self.directory, &[&["--", "add-br", bridge, "--"], &set[..]].concat())
    }

    fn add_port(&self, bridge: &str, port: &str, number: u16, kind: &str, options: &[&str]) -> Result<()> {
        let (kind, number) = (format!("type={kind}"), format!("ofport_request={number}"));
        let options: Vec<_> = options.iter().map(|option| format!("options:{option}")).collect();
        let mut words = vec!["--", "add-port", bridge, port, "--", "set", "interface", port, &kind, &number];
        words.extend(options.iter().map(String::as_str));
        vsctl(&self.directory, &words)
    }

    fn add_flow(&self, bridge: &str, flow: &str) -> Result<()> {
        self.ofctl(&["add-flow", bridge, flow])
    }

    /// Runs `ip` where the switch's own interfaces are: in its network namespace.
    fn ip(&self, words: &[&str]) -> Result<()> {
        let namespace = format!("--net=/proc/{}/ns/net", self.switch.id.pid);
        Tool::new("nsenter", [&[&namespace, "ip"], words].concat()).run().map(drop)
    }

    fn measure(&self) -> Result<f64> {
        let pid = u32::try_from(self.switch.id.pid)?;
        // The first frames of each flow go through the slow path.
        thread::sleep(LENGTH);
        let packets = self.received()?;
        let time = thread_time(pid, &["pmd-c"])?;
        thread::sleep(LENGTH);
        let time = thread_time(pid, &["pmd-c"])? - time;
        let packets = self.received()? - packets;
        if packets == 0.0 {
            bail!("it received no packet; see {}", self.switch.log().display());
        }
        Ok(packets / time.as_secs_f64() / 1e6)
    }

    /// Packets that its PMD threads have received.
    fn received(&self) -> Result<f64> {
        let text = self.appctl(&["dpif-netdev/pmd-stats-show"])?;
        let counts = text.lines().filter_map(|line| line.trim().strip_prefix("packets received:"));
        counts.map(|count| count.trim().parse::<f64>().context("a packet count")).sum()
    }

    fn appctl(&self, words: &[&str]) -> Result<String> {
        let control = self.directory.join("ovs-vswitchd.ctl").display().to_string();
        Tool::new("ovs-appctl", [&["-t", &control], words].concat()).run()
    }

    fn ofctl(&self, words: &[&str]) -> Result<()> {
        Tool::new("ovs-ofctl", words).envs([("OVS_RUNDIR", &self.directory)]).run().map(drop)
    }

    /// Ends both and removes their files.
    pub fn stop(mut self) {
        let stubborn = end_all(&[self.switch.id.clone(), self.database.id.clone()], Duration::from_secs(10));
        for name in stubborn {
            tracing::warn!(name, "did not end by itself");
        }
        self.switch.reap();
        self.database.reap();
        remove(&self.directory);
    }
}

/// The switch, started with DPDK on one thread.
fn configure(program: &Path, directory: &Path) -> Result<Process> {
    let extra =
        format!("other_config:dpdk-extra=--no-pci --no-huge --legacy-mem -m 1024 --file-prefix {}", prefix());
    vsctl(directory, &["--no-wait", "--", "init"])?;
    vsctl(
        directory,
        &[
            "--no-wait",
            "--",
            "set",
            "Open_vSwitch",
            ".",
            "other_config:dpdk-init=true",
            "other_config:pmd-cpu-mask=0x2",
            "other_config:dpdk-lcore-mask=0x1",
            &extra,
        ],
    )?;
    // In a network namespace of its own: a bridge is an interface, and for tunnels it has an address.
    let mut switch = Command::new("unshare");
    switch
        .args(["--net", "--"])
        .arg(program)
        .arg(format!("unix:{}", directory.join("db.sock").display()))
        .arg("--disable-system");
    let mut switch = spawn("ovs-vswitchd", switch, directory)?;
    let control = directory.join("ovs-vswitchd.ctl");
    switch.wait_for("the switch's control socket", START_LIMIT, || Ok(control.exists().then_some(())))?;
    Ok(switch)
}

fn prefix() -> String {
    format!("cvsw-bench-ovs-{}", std::process::id())
}

/// The program with DPDK inside.
fn program() -> Result<PathBuf> {
    for candidate in [PACKAGED, "/usr/sbin/ovs-vswitchd"] {
        let version = Tool::new(candidate, ["--version"]).run();
        if version.is_ok_and(|text| text.contains("DPDK")) {
            return Ok(PathBuf::from(candidate));
        }
    }
    bail!(
        "Open vSwitch with DPDK is not installed (Debian: openvswitch-switch-dpdk, librte-net-null23, librte-net-pcap23)"
    )
}

fn spawn(name: &str, mut command: Command, directory: &Path) -> Result<Process> {
    let file = |suffix: &str| directory.join(format!("{name}.{suffix}")).display().to_string();
    command
        .args(["--no-chdir".to_owned(), format!("--pidfile={}", file("pid")), format!("--unixctl={}", file("ctl"))])
        .envs(environment(directory));
    Process::spawn(name, command, directory.join(format!("{name}.log")))
}

fn vsctl(directory: &Path, words: &[&str]) -> Result<()> {
    let database = format!("--db=unix:{}", directory.join("db.sock").display());
    let words = [&database, "--timeout=20"].into_iter().chain(words.iter().copied());
    Tool::new("ovs-vsctl", words).timeout(Duration::from_secs(25)).run().map(drop)
}

fn environment(directory: &Path) -> [(&'static str, &Path); 5] {
    ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR", "OVS_PKGDATADIR"].map(|name| match name {
        "OVS_PKGDATADIR" => (name, Path::new("/usr/share/openvswitch")),
        name => (name, directory),
    })
}

fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        tracing::warn!(directory = %directory.display(), %error, "cannot be removed");
    }
}
