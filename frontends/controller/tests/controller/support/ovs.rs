//! A private instance of stock Open vSwitch with the dummy datapath.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::wait_for;

/// A running instance with one bridge, `br0`. Ended and removed when dropped.
pub struct Ovs {
    folder: TempDir,
    database: Child,
    switch: Child,
}

impl Ovs {
    /// Starts an instance with a bridge of the given datapath id (16 hexadecimal digits).
    pub fn start(datapath_id: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        succeed(command(path, "ovsdb-tool").args(["create", "conf.db", schema]));
        let database = daemon(path, "ovsdb-server")
            .args(["conf.db", "--remote=punix:db.sock", "--unixctl=db.ctl", "--log-file=db.log", "-vconsole:off"])
            .stdin(Stdio::null())
            .spawn()
            .expect("ovsdb-server is installed with openvswitch-switch");
        wait_for("the database's socket", || path.join("db.sock").exists().then_some(()), String::new);
        let switch = spawn_switch(path);
        let ovs = Self { folder, database, switch };
        ovs.vsctl(&["init"]);
        let id = format!("other-config:datapath-id={datapath_id}");
        ovs.vsctl(&[
            "add-br",
            "br0",
            "--",
            "set",
            "bridge",
            "br0",
            "datapath_type=dummy",
            "protocols=OpenFlow10",
            "fail_mode=secure",
            &id,
        ]);
        ovs
    }

    /// The instance's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a dummy port that talks over the unix stream socket [`Ovs::port_socket`].
    pub fn add_port(&self, name: &str, number: u16) {
        let socket = format!("options:pstream=punix:{}", self.port_socket(name).display());
        let number = format!("ofport_request={number}");
        self.vsctl(&["add-port", "br0", name, "--", "set", "interface", name, "type=dummy", &socket, &number]);
    }

    /// Removes a port.
    pub fn remove_port(&self, name: &str) {
        self.vsctl(&["del-port", "br0", name]);
    }

    /// The socket of a port: a stream of frames, each after its length in two bytes.
    pub fn port_socket(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.port"))
    }

    /// Where a controller listens for this instance. Open vSwitch connects to sockets in its own folder only.
    pub fn controller_socket(&self) -> PathBuf {
        self.path().join("controller.sock")
    }

    /// Points the bridge to the controller at [`Ovs::controller_socket`]; it tries at least once a second.
    pub fn connect(&self) {
        let target = format!("unix:{}", self.controller_socket().display());
        self.set_controller(&target);
    }

    /// Points the bridge to a controller.
    pub fn set_controller(&self, target: &str) {
        self.vsctl(&["set-controller", "br0", target, "--", "set", "controller", "br0", "max_backoff=1000"]);
    }

    /// `ovs-vsctl`.
    pub fn vsctl(&self, args: &[&str]) -> String {
        succeed(command(self.path(), "ovs-vsctl").args(["--db=unix:db.sock", "--timeout=20"]).args(args))
    }

    /// `ovs-ofctl`, for the bridge.
    pub fn ofctl(&self, verb: &str, args: &[&str]) -> String {
        let bridge = self.path().join("br0.mgmt");
        let bridge = format!("unix:{}", bridge.display());
        succeed(command(self.path(), "ovs-ofctl").args(["--timeout=20", verb, &bridge]).args(args))
    }

    /// The bridge's flows without their counters and ages.
    pub fn flows(&self) -> Vec<String> {
        let dump = self.ofctl("dump-flows", &["--no-stats"]);
        dump.lines().filter(|line| line.contains("actions=")).map(|line| line.trim().to_owned()).collect()
    }

    /// Kills the switch (not the database) and starts it again, as a crash and a restart would.
    pub fn restart_switch(&mut self) {
        end(&mut self.switch);
        self.switch = spawn_switch(self.path());
    }

    /// Waits until a switch that was started again has its bridge.
    pub fn wait_up(&self) {
        let management = self.path().join("br0.mgmt");
        wait_for("the bridge", || UnixStream::connect(&management).ok().map(drop), String::new);
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        end(&mut self.switch);
        end(&mut self.database);
    }
}

fn spawn_switch(path: &Path) -> Child {
    let child = daemon(path, "ovs-vswitchd")
        .args(["unix:db.sock", "--unixctl=switch.ctl", "--log-file=switch.log", "-vconsole:off"])
        .args(["--enable-dummy=override", "--disable-system"])
        .stdin(Stdio::null())
        .spawn();
    child.expect("ovs-vswitchd is installed with openvswitch-switch")
}

/// A daemon that ends with the thread that started it, whatever ends that.
fn daemon(path: &Path, program: &str) -> Command {
    let mut command = command(path, "setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

fn command(path: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, path);
    }
    command.env("OVS_PKGDATADIR", "/usr/share/openvswitch").current_dir(path);
    command
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {}{text}", String::from_utf8_lossy(&output.stderr));
    text
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}
