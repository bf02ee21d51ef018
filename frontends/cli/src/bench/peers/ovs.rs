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
const START_LIMIT: Duration = Duration::from_secs(20);

/// What its flow does in a scenario; `None`: it is not measured there.
pub fn actions(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Pass => Some("output:2"),
        Kind::Rewrite => Some("mod_nw_src:10.9.9.1,mod_nw_dst:10.9.9.2,mod_tp_dst:8080,output:2"),
        Kind::VlanPush => Some("mod_vlan_vid:7,output:2"),
        // Its tunnels are ports with an address of the host behind them, not actions.
        Kind::VxlanEncap | Kind::VxlanDecap | Kind::Restore => None,
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
    pub fn mpps(&self, kind: Kind, packet_flows: u32, actions: &str) -> Result<f64> {
        let file = self.directory.join(format!("{}-{packet_flows}.pcap", kind.name()));
        capture::write(&file, kind, packet_flows)?;
        let device = format!("net_pcap{},rx_pcap={},infinite_rx=1", packet_flows, file.display());
        let input = format!("options:dpdk-devargs=\"{device}\"");
        let result = vsctl(
            &self.directory,
            &[
                "--",
                "add-br",
                "br0",
                "--",
                "set",
                "bridge",
                "br0",
                "datapath_type=netdev",
                "fail_mode=secure",
                "--",
                "add-port",
                "br0",
                "out",
                "--",
                "set",
                "interface",
                "out",
                "type=dpdk",
                "ofport_request=2",
                "options:dpdk-devargs=net_null0",
            ],
        )
        .and_then(|()| self.ofctl(&["add-flow", "br0", &format!("actions={actions}")]))
        .and_then(|()| {
            vsctl(
                &self.directory,
                &[
                    "--",
                    "add-port",
                    "br0",
                    "in",
                    "--",
                    "set",
                    "interface",
                    "in",
                    "type=dpdk",
                    "ofport_request=1",
                    &input,
                ],
            )
        })
        .and_then(|()| self.measure());
        vsctl(&self.directory, &["--", "--if-exists", "del-br", "br0"])?;
        result
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
        let control = self.directory.join("ovs-vswitchd.ctl");
        let text =
            Tool::new("ovs-appctl", ["-t".as_ref(), control.as_os_str(), "dpif-netdev/pmd-stats-show".as_ref()])
                .run()?;
        let counts = text.lines().filter_map(|line| line.trim().strip_prefix("packets received:"));
        counts.map(|count| count.trim().parse::<f64>().context("a packet count")).sum()
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
    let mut switch = Command::new(program);
    switch.arg(format!("unix:{}", directory.join("db.sock").display())).arg("--disable-system");
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
