//! `cvsw bench`: how fast the engine is on this machine, in the manner of `openssl speed`.

mod cases;
mod ciphers;
mod measure;
mod peers;
mod port_loop;
mod report;

use crate::output;
use anyhow::bail;
use cvsw_benches::Kind;
use measure::Effort;
use report::{ChangeRow, PortRow, Report, Row};
use std::{num::NonZero, process::ExitCode, thread, time::Duration};

const HELP: &str = "\
Examples:
  cvsw bench                                  everything, about a minute
  cvsw bench --quick                          64 bytes only, a few seconds
  cvsw bench --scenario pass,rewrite --threads 4 --json
  cvsw bench --quick --against                and Open vSwitch with DPDK, dpdk-testpmd and OpenSSL
  cvsw bench --only ciphers --against         only sealing and opening, beside OpenSSL

Each thread has an engine and a table of its own. A figure is the median of many short measurements, so a busy
machine disturbs it little; still, an idle machine and a pinned process (taskset -c 1) give the best ones.
\"miss\" means that every frame has an Ethernet source that was never seen, so that no look-up is answered by the
cache. Cycles are those of the time-stamp counter. The row \"restore\" is the harness alone: it puts a fresh frame
into each buffer, is part of every other figure, and is not subtracted.

--against compares whole loops: our userspace port between two ports that make frames up and throw them away, and
the same with the peers (net_null ports; with the packages openvswitch-switch-dpdk, dpdk-dev and librte-net-null23).
It needs root. A peer that is not installed is named as missing. \"bare loop\" is the loop without an engine: frames are
made and thrown away; it is part of the other rows, and the peers' figures contain the like.

Sealing and opening are compared with openssl speed. \"seal\" uses one buffer again and again, as openssl does; \"seal x
32\" the buffers of a burst in turn, which the whole path (parse, look up, VXLAN, ESP) is compared with.";

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The engine alone, and changes of its table
    Engine,
    /// The userspace port between two null ports
    Port,
    /// Sealing and opening
    Ciphers,
}

/// Arguments of `cvsw bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct BenchArgs {
    /// Only 64 bytes, one and 10,000 flows, short measurements
    #[arg(long)]
    quick: bool,
    /// Only these scenarios: pass, rewrite, vlan_push, vxlan_encap, vxlan_decap
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = kind)]
    scenario: Vec<Kind>,
    /// Most threads; the figures are taken for 1, 2, 4 .. N [default: the number of processors]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Only this part
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// Also run the peers that are installed, and print ratios
    #[arg(long)]
    against: bool,
    /// Print the report as one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs `cvsw bench`.
pub fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = args.threads.map_or(processors, NonZero::get);
    let kinds = if args.scenario.is_empty() { Kind::ALL[1..].to_vec() } else { args.scenario.clone() };
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    let progress = Progress { quiet: args.json };

    let wanted = |part| args.only.is_none_or(|only| only == part);
    let mut report = Report::new(args.quick);
    if wanted(Part::Engine) {
        engine(&mut report, &kinds, &effort, args.quick, threads, &progress);
    }
    if wanted(Part::Port) {
        port(&mut report, &kinds, &effort, args.against, &progress)?;
    }
    if wanted(Part::Ciphers) {
        (report.ciphers, report.openssl) = ciphers::measure(&effort, args.against, &progress)?;
    }
    progress.done();
    output::report(&report, args.json)?;
    Ok(ExitCode::SUCCESS)
}

fn engine(report: &mut Report, kinds: &[Kind], effort: &Effort, quick: bool, threads: usize, progress: &Progress) {
    let cases = cases::all(kinds, quick, threads);
    for (index, case) in cases.iter().enumerate() {
        progress.say(&format!("{}/{} {}", index + 1, cases.len(), case.name()));
        report.engine.push(Row::new(case, measure::frames(case, effort)));
    }
    for setup in cases::changes(quick) {
        progress.say(&format!("insert and delete, {} entries", setup.flows));
        report.changes.push(ChangeRow::new(&setup, measure::changes(&setup, effort)));
    }
}

fn port(
    report: &mut Report,
    kinds: &[Kind],
    effort: &Effort,
    against: bool,
    progress: &Progress,
) -> anyhow::Result<()> {
    for (kind, packet_flows) in cases::port_loops(kinds) {
        progress.say(&format!("port loop, {}, {packet_flows} packet flows", kind.name()));
        report.port_loop.push(PortRow::new(kind, packet_flows, port_loop::measure(kind, packet_flows, effort)?));
    }
    if against {
        report.peers = peers::measure(kinds, &report.port_loop, progress)?;
    }
    Ok(())
}

/// What is being measured, on standard error while nobody wants JSON only.
struct Progress {
    quiet: bool,
}

impl Progress {
    fn say(&self, what: &str) {
        if !self.quiet {
            eprint!("\r\x1b[K{what}");
        }
    }

    fn done(&self) {
        if !self.quiet {
            eprint!("\r\x1b[K");
        }
    }
}

fn kind(text: &str) -> anyhow::Result<Kind> {
    let known = &Kind::ALL[1..];
    match known.iter().find(|kind| kind.name() == text) {
        Some(kind) => Ok(*kind),
        None => {
            let names: Vec<_> = known.iter().map(|kind| kind.name()).collect();
            bail!("no such scenario; there are {}", names.join(", "))
        }
    }
}

/// The middle one of some figures; 0 if there is none.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

/// A duration per item in nanoseconds.
fn nanos_each(time: Duration, items: u64) -> f64 {
    time.as_nanos() as f64 / items as f64
}
