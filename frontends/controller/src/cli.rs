//! The subcommands `cvsw controller` and `cvsw controller-status`.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Args;
use cvsw_core::flow::text::DisplayFlow;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{Config, Listen},
    derive::{self, Desired},
    mac::Mac,
    server::{Bound, Options, serve},
    status::{Status, offload_names},
    store::etcd::TlsFiles,
};

/// A status that takes longer to come is not worth waiting for.
const STATUS_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks of `--wait`.
const WAIT_STEP: Duration = Duration::from_millis(100);

const CONTROLLER_HELP: &str = r#"The configuration file (TOML):
  listen = ["tcp:127.0.0.1:6653", "unix:/run/cvsw/controller.sock"]
  ethertype = 0xabba          # of control frames
  underlay_mtu = 1500         # largest IP packet of the network below
  forwarding = "normal"       # switches learn addresses; "none": you install the forwarding flows
  control_rate = 10000        # control messages per second to the vNICs of one switch, at most
  [timers]
  hello = "2s"                # between two attempts to find a vNIC on a port that has none
  keepalive = "30s"           # between two comparisons of a vNIC's flows with the wanted ones
  answer = "1s"               # how long a vNIC may take to answer
  echo = "5s"                 # silence after which a switch is asked; given up after as long again
  [[network]]
  name = "blue"
  vni = 42
  mtu = "auto"                # the default: underlay_mtu - 50; or a number
  # cipher = "aes-128-gcm"    # encrypt (any suite); needs `keys_in_clear = true` at the top, see the book
  # rotate = "1h"             # with a cipher: a new key so often; SIGUSR1 to the controller: at once
  group = "239.1.1.42"        # underlay multicast group for all but known unicast
  [[network.member]]
  name = "vm1"
  mac = "02:00:00:00:01:01"   # by which the vNIC registers
  ip = "10.0.0.1"
  underlay_mac = "02:00:00:01:00:01"
  underlay_ip = "192.0.2.1"
  offloads = ["csum"]         # optional: csum, tso, ufo, gso, gro; the others are switched off
  flows = ["priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop"]   # optional, ovs-ofctl syntax
What stands above the first [[network]] may be left out: these are the defaults, but for listen,
which is tcp:127.0.0.1:6653. A changed file is used within two seconds, or at once on SIGHUP; a file
with an error changes nothing.

Connect a switch:
  ovs-vsctl set bridge br0 protocols=OpenFlow10 fail_mode=secure
  ovs-vsctl set-controller br0 tcp:127.0.0.1:6653
Open vSwitch connects to unix sockets in its own run directory only (unix:/run/openvswitch/...)."#;

/// Arguments of `cvsw controller`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = CONTROLLER_HELP)]
pub struct ControllerArgs {
    /// Configuration file (TOML; `--help` shows all settings)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Check the file, print what each vNIC would get, and end
    #[arg(long)]
    pub check: bool,
    /// Listen here instead of where the file says: tcp:ADDRESS:PORT or unix:PATH; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<Listen>,
    /// Keep desired state in this file, or in the cluster etcd://HOST:PORT,HOST:PORT,... (etcds:// with TLS), instead
    /// of what the configuration names; a new one takes over the configuration's networks
    #[arg(long, value_name = "STORE")]
    pub store: Option<PathBuf>,
    /// With etcds://: certificates (PEM) of those who may have signed the nodes'
    #[arg(long, value_name = "FILE")]
    pub store_ca: Option<PathBuf>,
    /// With etcds://: own certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "store_key")]
    pub store_certificate: Option<PathBuf>,
    /// With etcds://: key of the own certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "store_certificate")]
    pub store_key: Option<PathBuf>,
    /// With a cluster as the store: name of this controller, which no other one may have [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// With a cluster as the store: file with the key that all its controllers have (32 hexadecimal digits, mode 600), with
    /// which they agree on keys of encrypted networks
    #[arg(long, value_name = "FILE")]
    pub cluster_key: Option<PathBuf>,
    /// Serve the API here instead of where the file says: unix:PATH, tcp:ADDRESS:PORT or tls:ADDRESS:PORT; may be
    /// repeated
    #[arg(long, value_name = "ADDRESS")]
    pub api: Vec<Listen>,
    /// Unix socket that gives the controller's state, for `cvsw controller-status`
    #[arg(long, value_name = "PATH")]
    pub status_socket: Option<PathBuf>,
    /// For laboratories: write every key into a new file, as Wireshark's `esp_sa` table has them
    #[arg(long, value_name = "PATH")]
    pub key_log: Option<PathBuf>,
    /// Print the "ready" line, or the result of --check, as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `cvsw controller-status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// The status socket of a running controller
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Print the whole state as JSON
    #[arg(long)]
    pub json: bool,
    /// Wait until every vNIC has its state, at most this many seconds; the exit code is 1 if it does not
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u32>,
}

/// Runs `cvsw controller`.
///
/// # Errors
/// What cannot be used, and why: the configuration with all its errors, or an address that cannot be listened on.
pub fn run(args: ControllerArgs) -> anyhow::Result<ExitCode> {
    if args.check {
        return check(&args.config, args.json);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
        let stop = async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        let options = Options {
            config: args.config,
            listen: args.listen,
            store: args.store,
            store_tls: TlsFiles { ca: args.store_ca, identity: args.store_certificate.zip(args.store_key) },
            name: args.name,
            cluster_key: args.cluster_key,
            api: args.api,
            status_socket: args.status_socket,
            key_log: args.key_log,
        };
        serve(options, |bound| announce(bound, args.json), stop).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `cvsw controller-status`.
///
/// # Errors
/// The socket cannot be read, or does not give a status.
pub fn run_status(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let deadline = args.wait.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let (text, status) = loop {
        let (text, status) = read_status(&args.path)?;
        match deadline {
            Some(deadline) if !status.converged && Instant::now() < deadline => std::thread::sleep(WAIT_STEP),
            _ => break (text, status),
        }
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        out.write_all(text.as_bytes())?
    } else {
        out.write_all(status.table().as_bytes())?
    }
    let failed = deadline.is_some() && !status.converged;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reads the state of a running controller: the document, and what it means.
///
/// # Errors
/// The socket cannot be read, or does not give a status.
pub fn read_status(path: &Path) -> anyhow::Result<(String, Status)> {
    let hint = || format!("cannot ask {}: is it the --status-socket of a running controller?", path.display());
    let mut stream = UnixStream::connect(path).with_context(hint)?;
    stream.set_read_timeout(Some(STATUS_PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text).with_context(hint)?;
    let status = serde_json::from_str(&text).with_context(hint)?;
    Ok((text, status))
}

fn announce(bound: &Bound, json: bool) -> anyhow::Result<()> {
    let texts = |addresses: &[Listen]| addresses.iter().map(Listen::to_string).collect::<Vec<_>>();
    let (listen, api) = (texts(&bound.switches), texts(&bound.api));
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", json!({ "ready": true, "listen": listen, "api": api }))?;
    } else {
        let api = if api.is_empty() { String::new() } else { format!(", API {}", api.join(" ")) };
        writeln!(out, "ready {}{api}", listen.join(" "))?;
    }
    Ok(out.flush()?)
}

fn check(path: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let loaded = Config::load(path)?;
    for warning in &loaded.warnings {
        eprintln!("{warning}\n");
    }
    let desired = derive::desired(&loaded.config);
    let mut out = std::io::stdout().lock();
    if as_json {
        let members: Vec<_> = desired.iter().map(|(mac, desired)| member_json(*mac, desired)).collect();
        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        let switch = derive::switch_flows(&loaded.config);
        let switch: Vec<_> = switch.iter().map(|flow| DisplayFlow(flow).to_string()).collect();
        writeln!(out, "{}", json!({ "members": members, "switch_flows": switch, "warnings": warnings }))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "# every switch")?;
    for flow in derive::switch_flows(&loaded.config) {
        writeln!(out, "{}", DisplayFlow(&flow))?;
    }
    for (mac, desired) in &desired {
        let Some((network, mtu, offloads)) = parameters(desired) else { bail!("{mac} has no network") };
        writeln!(out, "\n# {network}/{} {mac}: MTU {mtu}, offloads [{}]", desired.name, offloads.join(", "))?;
        for flow in &desired.flows {
            writeln!(out, "{}", DisplayFlow(&flow))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parameters(desired: &Desired) -> Option<(&str, u16, Vec<String>)> {
    Some((desired.network.as_deref()?, desired.mtu?.get(), offload_names(desired.offloads?)))
}

fn member_json(mac: Mac, desired: &Desired) -> serde_json::Value {
    let flows: Vec<_> = desired.flows.iter().map(|flow| DisplayFlow(&flow).to_string()).collect();
    json!({
        "mac": mac,
        "name": desired.name,
        "network": desired.network,
        "mtu": desired.mtu.map(|mtu| mtu.get()),
        "offloads": desired.offloads.map(offload_names),
        "flows": flows,
    })
}
