//! `cvsw lab`: the paper's Figure 4 on one machine, watched and judged.
//!
//! `topology` says what there is, `build` makes it from `netns`, `ovs` and `process`, `checks` ask their questions,
//! `report` shows and remembers the answers, `state` makes sure that nothing stays behind.

mod agent;
mod build;
mod cgroup;
mod checks;
mod eval;
mod hints;
mod netns;
mod ovs;
pub mod process;
mod report;
mod run;
mod state;
mod tools;
mod topology;
mod unikernel;

use checks::throughput::Load;
use cvsw_core::crypto::Suite;
use std::path::PathBuf;
use std::process::ExitCode;
use topology::Plan;

const EXAMPLES: &str = "\
Examples:
  cvsw lab                      two pairs of VMs in one network, one pair in another, all checks
  cvsw lab --cipher aes-128-gcm the same, encrypted: only ESP on the link, keys exchanged under traffic
  cvsw lab --pairs 4 --keep     four pairs, left up to play with
  cargo xtask lab --unikernel 2
                                beside them, two machines without an operating system
  cvsw lab down                 removes what --keep, or a killed `cvsw lab`, left behind

Exit codes:
  0    everything passed
  1    a check failed, or the laboratory could not be built
  130  interrupted by a signal; the laboratory was taken down";

/// Arguments of `cvsw lab`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct LabArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    options: Options,
}

/// What else can be done.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Remove laboratories that were left up
    Down {
        /// Which one, as `cvsw lab` printed it; by default the only one there is
        id: Option<String>,
        /// Remove all of them, except those whose `cvsw lab` is still running
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
    /// Measure: the paper's tables and figure again, with TCP, latency and processor time, beside what one would use
    /// instead
    Eval(Box<eval::EvalArgs>),
    /// Run inside a VM by the laboratory itself
    #[command(hide = true)]
    Agent {
        #[command(subcommand)]
        role: agent::Role,
    },
}

/// How to build and load the laboratory.
#[derive(Debug, clap::Args)]
struct Options {
    /// Pairs of VMs in the first network; each pair has a VM on either server
    #[arg(long, value_name = "N", default_value_t = 2)]
    pairs: u8,
    /// Virtual networks; each after the first has one pair, with the inner addresses of the first one's first pair
    #[arg(long, value_name = "N", default_value_t = 2)]
    networks: u8,
    /// Unikernels (QEMU machines without an operating system) in the first network
    #[arg(long, value_name = "N", default_value_t = 0)]
    unikernel: u8,
    /// The image of the unikernels; `cargo xtask unikernel` makes it and says where
    #[arg(long, value_name = "FILE")]
    unikernel_image: Option<PathBuf>,
    /// Encrypt every network, as `aes-128-gcm`; the link then shows nothing but ESP
    #[arg(long, value_name = "SUITE", value_parser = parse_suite)]
    cipher: Option<Suite>,
    /// Leave the laboratory up and say how to use it
    #[arg(long)]
    keep: bool,
    /// Print the report as JSON instead of text
    #[arg(long)]
    json: bool,
    /// Seconds per throughput measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    duration: u32,
    /// UDP rate that every pair offers, in Mbit/s
    #[arg(long, value_name = "MBIT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    udp_rate: u32,
    /// UDP payload, in octets
    #[arg(long, value_name = "OCTETS", default_value_t = 1400, value_parser = clap::value_parser!(u32).range(16..=65_507))]
    udp_length: u32,
}

impl Options {
    const fn plan(&self) -> Plan {
        Plan {
            pairs: self.pairs,
            networks: self.networks,
            unikernels: self.unikernel,
            cipher: self.cipher,
            offloads: false,
        }
    }

    const fn load(&self) -> Load {
        Load { seconds: self.duration, udp_rate: self.udp_rate, udp_length: self.udp_length }
    }
}

fn parse_suite(name: &str) -> Result<Suite, String> {
    Suite::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Suite::ALL.iter().map(|suite| suite.name()).collect();
        format!("there are {}", names.join(", "))
    })
}

/// Builds the laboratory, runs traffic through it and judges the result.
pub fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    match args.action {
        Some(Action::Agent { role }) => agent::run(role),
        Some(Action::Eval(args)) => eval::run(&args),
        Some(Action::Down { id, all }) => run::down(id, all),
        None => run::lab(&args.options),
    }
}
