//! `cvsw ctl`: the local administration of a vNIC in the kernel.

mod control;
mod netlink;
mod sa;
mod trace;

use crate::{engine, output, text};
use anyhow::{Context, Result, bail, ensure};
use cvsw_core::{
    Config, Instant,
    control::SessionState,
    flow::{Command as FlowCommand, FlowMod},
    openflow::{decode_flow_mod, encode_flow_mod, error_name},
};
use cvsw_userspace::flows_file;
use netlink::{Command, Vnic, attribute};
use serde::Serialize;
use std::{collections::BTreeMap, fmt, path::PathBuf, process::ExitCode, time::Duration};

const HELP: &str = "\
Examples:
  cvsw ctl --dev cvsw0 flows load vm1.flows
  cvsw ctl --dev cvsw0 flows list --json
  cvsw ctl --dev cvsw0 sa load vm1-keys.toml
  cvsw ctl --dev cvsw0 control key /etc/cvsw/control.key
  cvsw ctl --dev cvsw0 trace --direction tx --hex '02 00 00 00 00 02 02 00 ...'

The vNIC is one of the kernel module: `ip link add link eth0 name cvsw0 type cvsw`. All commands need
CAP_NET_ADMIN in the vNIC's network namespace.";

/// Longest flow mod: 256 bytes with an extended match, and 16 actions of 64.
const FLOW_MOD_MAX: usize = 256 + 16 * 64;
/// Packets, bytes and age in front of a listed flow.
const FLOW_COUNTERS: usize = 3;
const COUNTER_NAME_LEN: usize = 32;

/// Arguments of `cvsw ctl`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct CtlArgs {
    /// The vNIC's interface
    #[arg(short, long, value_name = "INTERFACE")]
    dev: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Load or show flows
    Flows {
        #[command(subcommand)]
        action: FlowsAction,
    },
    /// Add, show or remove security associations
    Sa {
        #[command(subcommand)]
        action: sa::SaAction,
    },
    /// Set the key of the control channel, or show how the vNIC is controlled
    Control {
        #[command(subcommand)]
        action: control::ControlAction,
    },
    /// Show every counter
    Stats {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show what the vNIC does with a frame, without counting it
    Trace(trace::TraceArgs),
}

#[derive(Debug, clap::Subcommand)]
enum FlowsAction {
    /// Add the flows of a file; nothing is changed if one of them is wrong
    Load {
        /// Flows in `ovs-ofctl` syntax
        file: PathBuf,
    },
    /// Show every flow with its counters
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Remove every flow
    Clear,
}

/// Runs `cvsw ctl`.
pub fn run(args: CtlArgs) -> Result<ExitCode> {
    let mut vnic = Vnic::open(&args.dev)?;
    match args.action {
        Action::Flows { action: FlowsAction::Load { file } } => load(&mut vnic, &file)?,
        Action::Flows { action: FlowsAction::List { json } } => output::report(&list(&mut vnic)?, json)?,
        Action::Flows { action: FlowsAction::Clear } => {
            change(&mut vnic, &FlowMod { command: FlowCommand::Delete, ..FlowMod::default() })?;
        }
        Action::Sa { action } => sa::run(&mut vnic, &action)?,
        Action::Control { action } => control::run(&mut vnic, &action)?,
        Action::Stats { json } => output::report(&stats(&mut vnic)?, json)?,
        Action::Trace(args) => trace::run(&mut vnic, &args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load(vnic: &mut Vnic, path: &std::path::Path) -> Result<()> {
    let file = flows_file::load(path)?;
    // An engine here says first what the one in the kernel would refuse.
    let mut judge = engine::new_engine(&Config::default())?;
    file.install(&mut judge, Instant::ZERO)?;
    for flow in &file.flows {
        encode(&flow.flow).with_context(|| format!("{}:{}", file.name, flow.line))?;
    }
    for flow in &file.flows {
        change(vnic, &flow.flow).with_context(|| format!("{}:{}", file.name, flow.line))?;
    }
    Ok(())
}

fn encode(flow: &FlowMod) -> Result<Vec<u8>> {
    let mut message = vec![0; FLOW_MOD_MAX];
    let len = encode_flow_mod(flow, 0, &mut message).map_err(|error| anyhow::anyhow!("{error}"))?;
    message.truncate(len);
    Ok(message)
}

fn change(vnic: &mut Vnic, flow: &FlowMod) -> Result<()> {
    let reply = vnic.request(Command::FlowMod, &[(attribute::FLOW_MOD, &encode(flow)?)])?;
    let error = reply.number(attribute::ERROR).context("the kernel did not say whether it took the flow")?;
    if error != 0 {
        let (kind, code) = ((error >> 16 & 0x7fff) as u16, error as u16);
        bail!("the vNIC refused the flow: {} ({})", error_name(kind, code), text::flow(flow));
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Flows {
    flows: Vec<Flow>,
}

#[derive(Debug, Serialize)]
struct Flow {
    flow: String,
    priority: u16,
    packets: u64,
    bytes: u64,
    duration_s: f64,
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.flows.iter().try_for_each(|Flow { flow, packets, bytes, duration_s, .. }| {
            writeln!(f, "duration={duration_s:.1}s, n_packets={packets}, n_bytes={bytes}, {flow}")
        })
    }
}

/// Every flow, by descending priority.
fn list(vnic: &mut Vnic) -> Result<Flows> {
    let mut flows = Vec::new();
    let mut cursor = 0u32;
    loop {
        let reply = vnic.request(Command::FlowGet, &[(attribute::CURSOR, &cursor.to_ne_bytes())])?;
        for bytes in reply.all(attribute::FLOW_STATS) {
            flows.push(flow(bytes)?);
        }
        match reply.number(attribute::CURSOR) {
            Some(next) if next > cursor => cursor = next,
            _ => break,
        }
    }
    flows.sort_by_key(|flow| std::cmp::Reverse(flow.priority));
    Ok(Flows { flows })
}

fn flow(bytes: &[u8]) -> Result<Flow> {
    let (counters, message) =
        bytes.split_first_chunk::<{ FLOW_COUNTERS * 8 }>().context("a listed flow is cut short")?;
    let mut numbers = counters.as_chunks().0.iter().map(|number| u64::from_ne_bytes(*number));
    let mut number = || numbers.next().unwrap_or_default();
    let (packets, bytes, age) = (number(), number(), number());
    let flow = decode_flow_mod(message).map_err(|error| anyhow::anyhow!("a listed flow: {}", error.name()))?;
    let duration_s = Duration::from_nanos(age).as_secs_f64();
    Ok(Flow { flow: text::flow(&flow), priority: flow.priority, packets, bytes, duration_s })
}

#[derive(Debug, Serialize)]
struct Stats {
    session: &'static str,
    counters: BTreeMap<String, u64>,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "control session: {}", self.session)?;
        let nonzero = self.counters.iter().filter(|(_, value)| **value != 0);
        nonzero.clone().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))?;
        writeln!(f, "{} are 0", text::plural((self.counters.len() - nonzero.count()) as u64, "counter"))
    }
}

fn stats(vnic: &mut Vnic) -> Result<Stats> {
    let reply = vnic.request(Command::StatsGet, &[])?;
    let names = reply.get(attribute::COUNTER_NAMES).unwrap_or_default().chunks_exact(COUNTER_NAME_LEN);
    let values = reply.get(attribute::COUNTER_VALUES).unwrap_or_default().chunks_exact(8);
    ensure!(names.len() == values.len() && names.len() > 0, "the kernel sent names without values");
    let mut counters: BTreeMap<String, u64> = names
        .zip(values)
        .map(|(name, value)| {
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let value = value.first_chunk().map_or(0, |value| u64::from_ne_bytes(*value));
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    let session = [SessionState::Disconnected, SessionState::Connecting, SessionState::Connected]
        .into_iter()
        .find(|state| counters.get("session") == Some(&(*state as u64)))
        .map_or("unknown", SessionState::name);
    counters.remove("session");
    Ok(Stats { session, counters })
}
