//! The subcommands `cvsw port` and `cvsw stats`.

use crate::{
    flows_file,
    offload::parse_offload,
    pool::DEFAULT_BUFFERS,
    report,
    run::{self, PollMode, Stop},
    sa_file,
    sa_state::SaState,
    spec::{PortSpec, format_mac, parse_ethertype, parse_mac},
    stats::StatsServer,
    vnic::Vnic,
};
use anyhow::{Context, bail};
use clap::Args;
use cvsw_core::{
    BURST,
    control::{ETHERTYPE, OffloadFlags},
    flow::MacAddr,
};
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

const PORT_EXAMPLES: &str = "\
Examples:
  A VM in namespace vm1 whose frames leave through eth1, managed by a controller:
    cvsw port --host tap:eth0,netns=vm1 --net af_packet:eth1 --mac 02:00:00:00:01:01

  The same with a fixed table and readable counters:
    cvsw port --host tap:eth0,netns=vm1 --net af_packet:eth1 --flows vm1.flows --stats-socket vm1.sock
    cvsw stats vm1.sock

Ports:
  tap:NAME[,netns=NS]            a new tap; it vanishes with this process, however that ends
  af_packet:IFACE[,netns=NS]     an existing Ethernet interface without an address of its own;
                                 promiscuous while in use
  af_xdp:IFACE[,netns=NS]        the same through AF_XDP: the interface's own stack sees nothing of
                                 it; one receive queue, and complete frames only (see the book)
  pcap:[read=FILE][,write=FILE]  capture files; with two of them the command ends at their end

A line `ready` on standard output says that frames are being forwarded. SIGTERM or SIGINT ends
the command. Frames that a full transmit ring cannot take are dropped and counted (tx_full), as
a NIC does.

Needs CAP_NET_ADMIN and CAP_NET_RAW (root), and /dev/net/tun for a tap.";

/// Run one vNIC in userspace.
#[derive(Debug, Args)]
#[command(after_help = PORT_EXAMPLES)]
pub struct PortArgs {
    /// The VM's side
    #[arg(long, value_name = "PORT")]
    host: PortSpec,
    /// The network's side
    #[arg(long, value_name = "PORT")]
    net: PortSpec,
    /// The vNIC's MAC address [default: the host interface's own]
    #[arg(long, value_parser = parse_mac)]
    mac: Option<MacAddr>,
    /// Flows to load at the start, in ovs-ofctl syntax, one a line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    flows: Option<PathBuf>,
    /// Security associations with their keys (TOML, readable by its owner only; see the guide). How far they have come
    /// is kept in FILE.state
    #[arg(long, value_name = "FILE")]
    sa: Option<PathBuf>,
    /// Take keys from the controller although they travel in clear over protocol version 2: whoever reads the control
    /// channel reads the traffic
    #[arg(long)]
    accept_keys_in_clear: bool,
    /// Offloads of the host port to switch on from the start, as the controller would: of csum, tso, ufo, gso, gro, by
    /// commas [default: gro if there is any]
    #[arg(long, value_name = "LIST", value_parser = parse_offload)]
    offload: Option<OffloadFlags>,
    /// Believe a controller only if it has this key: 32 hexadecimal digits, in a file that only its owner may read. The
    /// control protocol is version 3 then, authenticated and acknowledged; without a key it is version 2
    #[arg(long, value_name = "FILE")]
    control_key: Option<PathBuf>,
    /// Cut tunnel packets that outgrow the network's MTU into IPv4 fragments instead of dropping them. For peers that
    /// reassemble, as Linux does; a CVSW does not
    #[arg(long)]
    fragment_outer: bool,
    /// EtherType of control frames
    #[arg(long, value_name = "NUMBER", default_value = "0xabba", value_parser = parse_ethertype)]
    ethertype: u16,
    /// What to do when no frame waits
    #[arg(long, value_enum, default_value_t)]
    poll: PollMode,
    /// Packet buffers
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_BUFFERS,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2 * BURST as u64..=1 << 20))]
    buffers: usize,
    /// Serve counters and flows on this unix socket, see `cvsw stats`
    #[arg(long, value_name = "PATH")]
    stats_socket: Option<PathBuf>,
    /// Print the `ready` line as JSON
    #[arg(long)]
    json: bool,
}

/// Runs a vNIC until SIGTERM or SIGINT.
pub fn run(args: PortArgs) -> anyhow::Result<ExitCode> {
    // First of all, so that a signal at any later moment ends the process in order.
    let stop = Stop::on_signals().context("cannot catch signals")?;
    let flows = args.flows.as_deref().map(flows_file::load).transpose()?;
    let control_key = args.control_key.as_deref().map(cvsw_keyfile::control_key).transpose()?;
    let mut sas = args.sa.as_deref().map(sa_file::load).transpose()?;
    let sa_state = sas.as_mut().map(SaState::begin).transpose();
    let mut sa_state = sa_state.context("cannot note which sequence numbers are used; nothing may be sent")?;
    let host = args.host.open(args.mac).with_context(|| cannot_open("host", &args.host))?;
    let net = args.net.open(None).with_context(|| cannot_open("net", &args.net))?;
    let Some(mac) = args.mac.or_else(|| host.mac()) else {
        bail!("the host port {} has no MAC address: give the vNIC one with --mac", host.name());
    };
    let hash_seed = getrandom::u64().context("the kernel gave no random number")?;
    let mut vnic = Vnic::new(host, net, mac, args.ethertype, args.buffers, hash_seed)?;
    // Associations live in this process only, so a number of its own tells every start from every other one.
    vnic.set_boot_generation(getrandom::u64().context("the kernel gave no random number")?);
    vnic.accept_keys_in_clear(args.accept_keys_in_clear);
    if let Some(keys) = control_key {
        // 0 stands for no instance.
        vnic.set_control_key(getrandom::u64().context("the kernel gave no random number")?.max(1), keys);
    }
    if let Some(sas) = sas {
        vnic.load_sas(run::now(), &sas)?;
    }
    if let Some(flows) = &flows {
        vnic.load_flows(run::now(), flows)?;
    }
    let bind = |path: &PathBuf| {
        StatsServer::bind(path)
            .with_context(|| format!("cannot serve statistics at {}; is another port using it?", path.display()))
    };
    if args.fragment_outer {
        vnic.fragment_outer().context("--fragment-outer")?;
    }
    if let Some(offload) = args.offload {
        vnic.set_offload(offload);
    }
    let mut stats = args.stats_socket.as_ref().map(bind).transpose()?;
    vnic.announce();
    print_ready(&vnic, mac, args.json)?;
    run::run(&mut vnic, args.poll, &stop, stats.as_mut(), sa_state.as_mut()).context("the port stopped")?;
    if let Some(state) = sa_state {
        state.end(vnic.sas()).context("the sequence numbers reached could not be noted; some will stay unused")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn cannot_open(side: &str, spec: &PortSpec) -> String {
    let hint = match spec {
        PortSpec::Tap { .. } => {
            "it needs root (CAP_NET_ADMIN) and /dev/net/tun, and no interface of that name may exist there"
        }
        PortSpec::AfPacket { .. } => {
            "it needs root (CAP_NET_RAW, CAP_NET_ADMIN) and an existing Ethernet interface, see `ip link`"
        }
        PortSpec::AfXdp { .. } => {
            "it needs root (CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF), Linux 5.9, and an existing Ethernet interface with one \
             receive queue and no other XDP program"
        }
        PortSpec::Pcap { .. } => "it needs a readable pcap or pcapng file, and a writable folder",
    };
    format!("cannot open the {side} port ({hint})")
}

fn print_ready(vnic: &Vnic, mac: MacAddr, as_json: bool) -> io::Result<()> {
    let ports = vnic.ports();
    let [mtu, _] = ports.map(|port| port.mtu().map(|mtu| mtu.get()));
    let [host, net] = ports.map(|port| port.name());
    tracing::info!(host, net, mac = format_mac(mac), mtu, "forwarding");
    let mut out = io::stdout().lock();
    if as_json {
        let line = json!({ "event": "ready", "host": host, "net": net, "mac": format_mac(mac), "mtu": mtu });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "ready")?;
    }
    out.flush()
}

const STATS_EXAMPLES: &str = "\
Examples:
  cvsw stats /run/vm1.sock
  cvsw stats /run/vm1.sock --json | jq .engine.tx.drops";

/// Show counters and flows of a running `cvsw port`.
#[derive(Debug, Args)]
#[command(after_help = STATS_EXAMPLES)]
pub struct StatsArgs {
    /// The port's `--stats-socket`
    path: PathBuf,
    /// Print the whole document as JSON
    #[arg(long)]
    json: bool,
}

/// Time that a running port has to answer.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

/// Asks a running port and prints its answer.
pub fn run_stats(args: StatsArgs) -> anyhow::Result<ExitCode> {
    let text = fetch(&args.path)
        .with_context(|| format!("no statistics from {}; is `cvsw port` running with it?", args.path.display()))?;
    let document: Value = serde_json::from_str(&text)
        .with_context(|| format!("{} is not the statistics socket of a port", args.path.display()))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{document:#}")?;
    } else {
        out.write_all(report::table(&document).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn fetch(path: &PathBuf) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PORT_PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

const _: () = assert!(ETHERTYPE == 0xabba, "the default of --ethertype");
