//! `cvsw lab eval`: the paper's section 6 on one machine, and beside it what a user would pick instead.
//!
//! `plan` says what is compared, `rig` builds it (with `flows`), `load` and `cpu` measure, `run` does it all in turn,
//! `result` holds the figures, `report` shows them beside those of `paper`.

mod cpu;
mod flows;
mod load;
mod paper;
mod plan;
mod report;
mod result;
mod rig;
mod run;
mod stats;

use super::ovs::Relay;
use cpu::Placement;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  cargo xtask lab eval          installs what is missing, measures everything, writes the report to ./evaluation
  cvsw lab eval --only table6 --only cable-vxlan --seconds 5
                                VXLAN only, five seconds for each figure
  cvsw lab eval --quick         one short run of each: for a first look, too rough to quote
  cvsw lab eval --render evaluation/evaluation.json
                                makes the report again without measuring

Files: evaluation.json (everything), cells.csv, report.html (self-contained), summary.md, *.svg, *.png.
Figures are worth something on an otherwise idle machine only.";

/// Arguments of `cvsw lab eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct EvalArgs {
    /// Folder for the report
    #[arg(long, value_name = "DIR", default_value = "evaluation")]
    out: PathBuf,
    /// Seconds of each measurement
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Runs of each measurement, in turn with the others of its group
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// One run of one second
    #[arg(long, conflicts_with_all = ["seconds", "runs"])]
    quick: bool,
    /// Only the group of this name, or setups with this in theirs; may be repeated. `--list` shows the names
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Only these loads: `tcp`, or an UDP payload in octets; may be repeated
    #[arg(long, value_name = "LOAD")]
    load: Vec<String>,
    /// UDP rate that each sender offers through Open vSwitch, in Mbit/s, as on the paper's link; 0: as fast as it can
    #[arg(long, value_name = "MBIT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    udp_rate: u32,
    /// How Open vSwitch moves frames through its ports
    #[arg(long, value_enum, default_value_t)]
    relay: Relay,
    /// What shares a core, through Open vSwitch
    #[arg(long, value_enum, default_value_t = Placement::Role)]
    placement: Placement,
    /// What shares a core, on the cable
    #[arg(long, value_enum, default_value_t = Placement::Server)]
    cable_placement: Placement,
    /// Show what would be measured, and end
    #[arg(long, conflicts_with = "render")]
    list: bool,
    /// Make the report from the figures of an earlier run; several add up to one report, later figures in place of
    /// earlier ones
    #[arg(long, value_name = "FILE")]
    render: Vec<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// Measures and reports.
pub fn run(args: &EvalArgs) -> anyhow::Result<ExitCode> {
    run::evaluate(args)
}
