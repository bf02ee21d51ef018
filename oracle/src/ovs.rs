//! A private, stock Open vSwitch with the dummy datapath: no privileges, no devices, no other instance touched.

use anyhow::{Context, Result, bail};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longest wait for a daemon's socket.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running instance. Ended and removed when dropped.
pub struct Ovs {
    folder: TempDir,
    database: Child,
    switch: Option<Child>,
}

impl Ovs {
    /// Starts an instance with `bridges` bridges, which [`Ovs::bridge`] names.
    pub fn start(bridges: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("cvsw-oracle-").tempdir()?;
        let path = folder.path().to_owned();
        succeed(command(&path, "ovsdb-tool").args([
            "create",
            "conf.db",
            "/usr/share/openvswitch/vswitch.ovsschema",
        ]))?;
        let database = spawn(daemon(&path, "ovsdb-server").args([
            "conf.db",
            "--remote=punix:db.sock",
            "--unixctl=db.ctl",
            "-vconsole:off",
        ]))?;
        let mut ovs = Self { folder, database, switch: None };
        wait_for(&path.join("db.sock"))?;
        // Without datapath flows every frame is translated with the flow table as it is at that moment, and counted
        // at once; else both would lag behind by up to half a second.
        ovs.vsctl("--no-wait init -- set Open_vSwitch . other_config:flow-limit=0")?;
        ovs.switch = Some(spawn(daemon(&path, "ovs-vswitchd").args([
            "unix:db.sock",
            "--unixctl=switch.ctl",
            "-vconsole:off",
            "--enable-dummy=override",
            "--disable-system",
        ]))?);
        for number in 0..bridges {
            ovs.add_bridge(number)?;
        }
        Ok(ovs)
    }

    /// The files of bridge `number`.
    pub fn bridge(&self, number: usize) -> Sockets {
        let file = |name: String| self.folder.path().join(name);
        Sockets {
            management: file(format!("br{number}.mgmt")),
            host: file(format!("br{number}h.port")),
            net: file(format!("br{number}n.port")),
            out: file(format!("br{number}o.port")),
        }
    }

    /// Stops the switch's clock; from now on it moves when it is told to.
    pub fn stop_clock(&self) -> Result<Clock> {
        let clock = Clock { folder: self.folder.path().to_owned() };
        clock.command(&["time/stop"])?;
        Ok(clock)
    }

    /// Lets the table of bridge `number` hold at most `flows` entries.
    pub fn limit_flows(&self, number: usize, flows: usize) -> Result<()> {
        self.vsctl(&format!(
            "--timeout=30 --id=@t create Flow_Table flow_limit={flows} overflow_policy=refuse -- set bridge br{number} \
             flow_tables:0=@t"
        ))
    }

    /// The switch's version, as it says it.
    pub fn version() -> Result<String> {
        let text = succeed(Command::new("ovs-vswitchd").arg("--version"))?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// A bridge with four ports: 1 and 2 stand for the two sides of a vNIC, 3 is where frames leave, 4 swallows.
    fn add_bridge(&self, number: usize) -> Result<()> {
        let sockets = self.bridge(number);
        let mut line = format!(
            "--timeout=30 add-br br{number} -- set bridge br{number} datapath_type=dummy protocols=OpenFlow10 \
             fail_mode=secure other-config:datapath-id={:016x}",
            number + 1
        );
        let ports = [
            ("h", 1, Some(sockets.host)),
            ("n", 2, Some(sockets.net)),
            ("o", 3, Some(sockets.out)),
            ("d", 4, None),
        ];
        for (suffix, port, socket) in ports {
            let name = format!("br{number}{suffix}");
            line +=
                &format!(" -- add-port br{number} {name} -- set interface {name} type=dummy ofport_request={port}");
            if let Some(socket) = socket {
                line += &format!(" options:pstream=punix:{}", socket.display());
            }
        }
        self.vsctl(&line)
    }

    fn vsctl(&self, line: &str) -> Result<()> {
        succeed(command(self.folder.path(), "ovs-vsctl").arg("--db=unix:db.sock").args(line.split_whitespace()))
            .map(drop)
    }
}

/// The switch's clock, stopped.
pub struct Clock {
    folder: PathBuf,
}

impl Clock {
    /// Moves it on by `millis` milliseconds, and lets the switch see what that means for its entries.
    pub fn warp(&self, millis: u64) -> Result<()> {
        self.command(&["time/warp", &millis.to_string(), "500"])?;
        self.command(&["revalidator/wait"])
    }

    fn command(&self, words: &[&str]) -> Result<()> {
        let target = self.folder.join("switch.ctl");
        succeed(command(&self.folder, "ovs-appctl").arg("-t").arg(target).arg("--timeout=30").args(words)).map(drop)
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        for child in self.switch.iter_mut().chain([&mut self.database]) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The sockets of a bridge.
pub struct Sockets {
    /// OpenFlow.
    pub management: PathBuf,
    /// Port 1.
    pub host: PathBuf,
    /// Port 2.
    pub net: PathBuf,
    /// Port 3.
    pub out: PathBuf,
}

/// A program that ends with us, even if we are killed.
fn daemon(folder: &Path, program: &str) -> Command {
    let mut command = command(folder, "setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

fn command(folder: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, folder);
    }
    command.env("OVS_PKGDATADIR", "/usr/share/openvswitch").current_dir(folder).stdin(Stdio::null());
    command
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| format!("cannot start {} (Debian: openvswitch-switch)", name(command)))
}

fn succeed(command: &mut Command) -> Result<String> {
    let output =
        command.output().with_context(|| format!("cannot start {} (Debian: openvswitch-switch)", name(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", name(command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn wait_for(socket: &Path) -> Result<()> {
    let start = Instant::now();
    while !socket.exists() {
        if start.elapsed() > START_LIMIT {
            bail!("{} did not appear within {START_LIMIT:?}", socket.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
