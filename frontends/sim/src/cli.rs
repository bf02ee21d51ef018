//! The subcommand `cvsw sim`.

use std::{
    fmt::Display,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use cvsw_core::crypto::Suite;
use serde::Serialize;

use crate::{
    cluster,
    layout::Layout,
    scenario::{Plan, run as run_scenario},
};

const HELP: &str = "\
Starts a controller on loopback with a configuration made for the purpose, connects simulated switches to it, and
measures: from nothing to everything (cold), another MTU on every vNIC, other keys (with --cipher), and the time that
one more flow on one vNIC takes, when nothing else happens and while every vNIC gets another MTU. The controller has a
store of its own, and all changes are made through its API. In the end every simulated vNIC is compared with what it
should have.

Nothing of the machine is touched: no namespace, no interface, no root. A figure is only as good as the machine is
idle; both the simulation and the controller use one processor each.

Examples:
  cvsw sim                                     5 switches, 200 vNICs
  cvsw sim --switches 500 --vnics 50000 --json
  cvsw sim --vnics 1700 --cipher aes-128-gcm --keyed 50
  cvsw sim --members 1 --flows 4               idle vNICs: networks of one, nothing but what each network needs
  cvsw sim --controllers 3                     and an etcd cluster; one of each is killed, one is stopped
  cvsw sim --controllers 3 --cipher aes-128-gcm --keyed 50      the same, encrypted: are there keys all the time?";

/// Arguments of `cvsw sim`.
#[derive(Args, Clone, Debug)]
#[command(after_help = HELP)]
pub struct SimArgs {
    /// Simulated switches
    #[arg(long, value_name = "N", default_value_t = 5)]
    switches: usize,
    /// Simulated vNICs, spread over the switches
    #[arg(long, value_name = "N", default_value_t = 200)]
    vnics: usize,
    /// vNICs of one virtual network
    #[arg(long, value_name = "N", default_value_t = 17)]
    members: usize,
    /// Flow entries of each vNIC
    #[arg(long, value_name = "N", default_value_t = 20)]
    flows: usize,
    /// Encrypt all networks with this suite
    #[arg(long, value_name = "SUITE", value_parser = suite)]
    cipher: Option<Suite>,
    /// Of a hundred vNICs so many have a control key, and speak version 3 of the protocol
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    keyed: u8,
    /// How many times one flow is added to one vNIC through the API
    #[arg(long, value_name = "N", default_value_t = 20)]
    changes: usize,
    /// Before the controller's memory is measured, wait so many seconds: after a minute it has given back what it does not need
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    idle: u32,
    /// Instead of all that, measure take-over: so many controllers with a cluster of three etcd nodes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(3..=9))]
    controllers: Option<u8>,
    /// Longest time for each step, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    limit: u32,
    /// The program whose `controller` is measured [default: this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Only print the controller's configuration
    #[arg(long)]
    print_config: bool,
    /// Print the figures as one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs `cvsw sim`.
///
/// # Errors
/// Numbers that cannot be, a controller that does not start, a step that takes too long, or a vNIC that has something
/// else than it should.
pub fn run(args: SimArgs) -> anyhow::Result<ExitCode> {
    let layout = Layout {
        switches: args.switches,
        vnics: args.vnics,
        members: args.members,
        flows: args.flows,
        cipher: args.cipher,
        keyed: args.keyed,
    };
    layout.check()?;
    let mut out = io::stdout().lock();
    if args.print_config {
        out.write_all(layout.config(1400, None).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let program = args.program.map_or_else(std::env::current_exe, Ok).context("this program has no path")?;
    let limit = Duration::from_secs(args.limit.into());
    if let Some(controllers) = args.controllers {
        let report = cluster::run(&program, &layout, controllers.into(), limit)?;
        return print(&mut out, &report, args.json);
    }
    let idle = Duration::from_secs(args.idle.into());
    let plan = Plan { layout, changes: args.changes, limit, idle };
    let report = run_scenario(&program, &plan)?;
    print(&mut out, &report, args.json)
}

fn print<T: Serialize + Display>(out: &mut impl Write, report: &T, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        serde_json::to_writer_pretty(&mut *out, report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn suite(text: &str) -> Result<Suite, String> {
    Suite::from_name(text).ok_or_else(|| {
        let names: Vec<_> = Suite::ALL.iter().map(|suite| suite.name()).collect();
        format!("there is {}", names.join(", "))
    })
}
