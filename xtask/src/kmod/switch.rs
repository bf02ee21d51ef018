//! The outside of a machine whose NIC is a port of a stock Open vSwitch with the project's controller: a network
//! namespace with a tap, the switch on its userspace datapath, and the controller.

use crate::{command::Cmd, metadata};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The machine's NIC.
pub const MAC: &str = "02:00:00:00:01:01";
const BRIDGE: &str = "br0";
const TAPS: [&str; 2] = ["tap0", "tap1"];
const PATIENCE: Duration = Duration::from_secs(120);

/// What the controller gives the machine: `tests/managed.rs` of the guest looks for exactly this.
const CONFIG: &str = r#"
[timers]
hello = "1s"
[[network]]
name = "blue"
vni = 42
mtu = 1450
group = "239.1.1.42"
[[network.member]]
name = "machine"
mac = "02:00:00:00:01:01"
ip = "10.0.0.1"
underlay_mac = "02:00:00:00:01:01"
underlay_ip = "192.0.2.1"
offloads = ["csum"]
flows = ["priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop"]
[[network.member]]
name = "unikernel"
mac = "02:00:00:00:01:02"
ip = "10.0.0.2"
underlay_mac = "02:00:00:00:01:02"
underlay_ip = "192.0.2.2"
"#;
/// The machine's control key, where the network is encrypted: `tests/unikernel.rs` of the guest has it, too.
const CONTROL_KEY: &str = "6b65792066726f6d2074686520686f73";
/// The unikernel's tap, MAC address and command line: the peer that `tests/unikernel.rs` of the guest asks.
const UNIKERNEL: [&str; 3] = ["tap1", "02:00:00:00:01:02", "ip=10.0.0.2/24 ip=fd00::2/64 accept-keys-in-clear=1"];

/// Everything outside; taken down when dropped.
pub struct Outside {
    namespace: String,
    folder: PathBuf,
    daemons: Vec<Child>,
}

impl Outside {
    /// Sets it up; `sealed`: with an encrypted network. Needs root.
    pub fn new(sealed: bool) -> Result<Self> {
        let namespace = format!("cvsw-kmod-{}", std::process::id());
        let folder = super::folder()?.join("switch");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        Cmd::new("ip").words("netns add").arg(&namespace).run().context("network namespaces need root")?;
        let mut this = Self { namespace, folder, daemons: Vec::new() };
        this.inside("ip").words("link set lo up").run()?;
        for tap in TAPS {
            this.inside("ip").words(&format!("tuntap add dev {tap} mode tap")).run()?;
            this.inside("ip").words(&format!("link set {tap} up")).run()?;
        }
        this.start(sealed)?;
        Ok(this)
    }

    /// Starts a unikernel as one more machine of the switch.
    pub fn start_unikernel(&mut self, image: &Path) -> Result<()> {
        let program = program()?;
        let [tap, mac, line] = UNIKERNEL;
        let (image, log) = (image.display().to_string(), self.folder.join("unikernel.defmt").display().to_string());
        self.daemon(&program, &["lab", "agent", "unikernel", &image, tap, mac, &log, line])
    }

    /// A command in the namespace, bound to the switch.
    pub fn inside(&self, program: &str) -> Cmd {
        let mut command = Cmd::new("ip").words("netns exec").arg(&self.namespace).arg(program);
        for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            command = command.env(variable, &self.folder);
        }
        command
    }

    fn start(&mut self, sealed: bool) -> Result<()> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let (database, socket, controller) = (file("conf.db"), file("db.sock"), file("controller.sock"));
        let config = file("controller.toml");
        let (in_clear, encrypted) = ("mtu = 1450", "mtu = 1400\ncipher = \"aes-128-gcm\"");
        let text = if sealed {
            // The machine's keys travel wrapped, the unikernel's in clear: it has no control key.
            let keys = self.control_keys()?;
            format!("keys_in_clear = true\ncontrol_keys = {keys:?}\n{}", CONFIG.replace(in_clear, encrypted))
        } else {
            CONFIG.to_owned()
        };
        fs::write(&config, text)?;
        Cmd::new("ovsdb-tool")
            .arg("create")
            .arg(&database)
            .arg("/usr/share/openvswitch/vswitch.ovsschema")
            .run()?;
        self.daemon("ovsdb-server", &[&database, &format!("--remote=punix:{socket}")])?;
        self.wait_for(&socket)?;
        let remote = format!("unix:{socket}");
        let vsctl = |outside: &Self, line: &str| {
            outside.inside("ovs-vsctl").arg(format!("--db={remote}")).words("--timeout=120").words(line).run()
        };
        vsctl(self, "--no-wait init")?;
        self.daemon("ovs-vswitchd", &[&remote, "--disable-system"])?;
        self.daemon(&program()?, &["controller", "--config", &config, "--listen", &format!("unix:{controller}")])?;
        self.wait_for(&controller)?;
        let ports = TAPS.map(|tap| format!("-- add-port {BRIDGE} {tap}")).join(" ");
        vsctl(
            self,
            &format!(
                "add-br {BRIDGE} -- set bridge {BRIDGE} datapath_type=netdev protocols=OpenFlow10 fail_mode=secure \
                 {ports} -- set-controller {BRIDGE} unix:{controller}"
            ),
        )
    }

    /// The folder with the machine's control key.
    fn control_keys(&self) -> Result<PathBuf> {
        let folder = self.folder.join("control-keys");
        let file = folder.join(format!("{MAC}.key"));
        fs::create_dir_all(&folder)?;
        fs::write(&file, CONTROL_KEY)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        Ok(folder)
    }

    fn daemon(&mut self, program: &str, args: &[&str]) -> Result<()> {
        let name = program.rsplit('/').next().unwrap_or(program);
        let log = fs::File::create(self.folder.join(format!("{name}.log")))?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).args(args);
        if name.starts_with("ovs") {
            command.args(["--no-chdir", "--pidfile"]);
        }
        for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, &self.folder);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.daemons.push(command.spawn().with_context(|| format!("cannot start {program}"))?);
        Ok(())
    }

    fn wait_for(&self, socket: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while fs::metadata(socket).is_err() {
            if Instant::now() > deadline {
                bail!("{socket} did not appear; logs are in {}", self.folder.display());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// The `cvsw` program.
fn program() -> Result<String> {
    Ok(metadata::target_directory()?.join("debug/cvsw").display().to_string())
}

impl Drop for Outside {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = Cmd::new("ip").words("netns del").arg(&self.namespace).run();
    }
}
