//! The evaluation from first to last: build the setups of a group, measure them in turn, take them down, report.

use super::EvalArgs;
use super::cpu::{self, Part, Placement};
use super::load::{self, Settings};
use super::plan::{self, Group, Load, Setup, Underlay, Way};
use super::report;
use super::result::{Cell, Conditions, Evaluation, Latency};
use super::rig::{REASSEMBLY_BYTES, REASSEMBLY_SECONDS, Rig};
use super::stats::percentile;
use crate::lab::process::{self, Interrupted, Tool, check_interrupt};
use crate::lab::tools;
use crate::lab::{cgroup, netns};
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const INTERRUPTED: u8 = 130;
const LATENCY: Duration = Duration::from_millis(800);

/// `cvsw lab eval`.
pub fn evaluate(args: &EvalArgs) -> Result<ExitCode> {
    let groups = chosen(args)?;
    if args.list {
        list(&groups);
        return Ok(ExitCode::SUCCESS);
    }
    let evaluation = match args.render.split_first() {
        Some((first, more)) => {
            more.iter().try_fold(read(first)?, |all, path| anyhow::Ok(all.joined(read(path)?)))?
        }
        None => {
            tools::require()?;
            tools::require_peers(&peers(&groups))?;
            if groups.iter().flat_map(|group| &group.setups).any(|setup| setup.underlay == Underlay::Shares) {
                cgroup::require()?;
            }
            process::catch_signals()?;
            measure(args, &groups)?
        }
    };
    let interrupted = args.render.is_empty() && check_interrupt().is_err();
    if interrupted && evaluation.cells.is_empty() {
        eprintln!("cvsw lab eval: interrupted before the first figure; everything was taken down");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    report::write(&evaluation, &args.out)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&evaluation)?);
    } else {
        println!("{}", report::summary(&evaluation));
        println!("The report is in {}.", args.out.join("report.html").display());
    }
    Ok(if interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// The figures of an earlier run.
fn read(path: &Path) -> Result<Evaluation> {
    let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} holds no evaluation", path.display()))
}

/// The groups, with the setups that `--only` leaves.
fn chosen(args: &EvalArgs) -> Result<Vec<Group>> {
    let mut groups = plan::groups();
    for group in &mut groups {
        let named = args.only.iter().any(|text| group.name == text);
        let wanted = |setup: &Setup| args.only.iter().any(|text| setup.to_string().contains(text.as_str()));
        group.setups.retain(|setup| args.only.is_empty() || named || wanted(setup));
    }
    groups.retain(|group| !group.setups.is_empty());
    ensure!(!groups.is_empty(), "nothing is called {}; --list shows the names", args.only.join(" or "));
    Ok(groups)
}

fn loads(args: &EvalArgs) -> Result<Vec<Load>> {
    let wanted = args.load.iter().map(|text| match text.as_str() {
        "tcp" => Ok(Load::Tcp),
        octets => match octets.parse() {
            Ok(octets @ 16..=65_507) => Ok(Load::Udp(octets)),
            _ => bail!("--load {text}: `tcp`, or a number of octets from 16 to 65507, is expected"),
        },
    });
    let wanted: Vec<Load> = wanted.collect::<Result<_>>()?;
    Ok(if wanted.is_empty() { Load::all().collect() } else { wanted })
}

fn list(groups: &[Group]) {
    for group in groups {
        println!("{}: {}, pairs {:?}", group.name, group.title, group.pairs);
        for setup in &group.setups {
            println!("  {setup}");
        }
    }
}

/// The programs of others that these groups need, and how to get them.
fn peers(groups: &[Group]) -> Vec<(&'static str, &'static str)> {
    let has = |way| groups.iter().flat_map(|group| &group.setups).any(|setup| setup.way == way);
    let mut peers = ["taskset", "chrt"].map(|tool| (tool, "apt-get install util-linux")).to_vec();
    if has(Way::WireguardGo) {
        peers.push(("wireguard-go", "apt-get install wireguard-go"));
    }
    if has(Way::Boringtun) {
        peers.push(("boringtun-cli", "cargo install boringtun-cli"));
    }
    if has(Way::WireguardGo) || has(Way::Boringtun) {
        peers.push(("wg", "apt-get install wireguard-tools"));
    }
    peers
}

fn measure(args: &EvalArgs, groups: &[Group]) -> Result<Evaluation> {
    let (seconds, runs) = if args.quick { (1, 1) } else { (args.seconds, args.runs) };
    let loads = loads(args)?;
    let conditions = conditions(args, seconds, runs)?;
    let mut work =
        Work { args, seconds, runs, loads, evaluation: Evaluation::default(), bar: ProgressBar::no_length() };
    work.evaluation.conditions = conditions;
    work.start_bar(groups)?;
    match groups.iter().try_for_each(|group| work.group(group)) {
        Err(error) if error.is::<Interrupted>() => work.cut_short(),
        result => result?,
    }
    work.bar.finish_and_clear();
    Ok(work.evaluation)
}

/// An evaluation in the making.
struct Work<'a> {
    args: &'a EvalArgs,
    seconds: u32,
    runs: u32,
    loads: Vec<Load>,
    evaluation: Evaluation,
    bar: ProgressBar,
}

impl Work<'_> {
    /// A step is a second of measurement, or a setup that is built.
    fn start_bar(&mut self, groups: &[Group]) -> Result<()> {
        let cells = |group: &Group| group.setups.len() * group.pairs.len() * self.loads.len();
        let measured: usize = groups.iter().map(cells).sum::<usize>() * self.runs as usize * self.seconds as usize;
        let built: usize = groups.iter().map(|group| group.setups.len()).sum();
        self.bar = ProgressBar::new((measured + 3 * built) as u64);
        self.bar.set_style(ProgressStyle::with_template("{bar:30} {percent:>3} %, {eta} left  {wide_msg}")?);
        self.bar.enable_steady_tick(Duration::from_millis(500));
        Ok(())
    }

    fn group(&mut self, group: &Group) -> Result<()> {
        let most = group.pairs.iter().copied().max().unwrap_or(1);
        let mut rigs = Vec::new();
        for setup in &group.setups {
            check_interrupt()?;
            self.bar.set_message(format!("building {setup}"));
            let rig = Rig::build(*setup, most, self.placement(*setup), self.args.relay);
            rigs.push(rig.with_context(|| format!("building {setup}"))?);
            self.bar.inc(2);
        }
        let first = self.evaluation.cells.len();
        self.evaluation.cells.extend(self.cells(group));
        for run in 1..=self.runs {
            for index in first..self.evaluation.cells.len() {
                check_interrupt()?;
                self.cell(index, run, &rigs)?;
            }
        }
        for rig in rigs {
            self.bar.set_message(format!("latency of {}", rig.setup));
            self.evaluation.latencies.push(latency(&rig, self.placement(rig.setup))?);
            self.bar.set_message(format!("taking down {}", rig.setup));
            rig.lab.take_down()?;
            self.bar.inc(1);
        }
        Ok(())
    }

    /// Empty cells, those that are to be compared beside each other: a disturbance of the machine meets all of them.
    fn cells(&self, group: &Group) -> Vec<Cell> {
        let mut cells = Vec::new();
        for load in &self.loads {
            for pairs in group.pairs {
                for setup in &group.setups {
                    let (samples, errors) = (Vec::new(), Vec::new());
                    let (group, seconds) = (group.name.to_owned(), self.seconds);
                    cells.push(Cell { group, setup: *setup, pairs: *pairs, load: *load, seconds, samples, errors });
                }
            }
        }
        cells
    }

    fn cell(&mut self, index: usize, run: u32, rigs: &[Rig]) -> Result<()> {
        let Cell { setup, pairs, load, .. } = self.evaluation.cells[index];
        let rig = rigs.iter().find(|rig| rig.setup == setup).context("a cell without its setup")?;
        self.bar.set_message(format!("{setup}, {pairs} pairs, {load}, run {run}"));
        let udp_rate = match setup.underlay {
            Underlay::Switch | Underlay::Shares => self.args.udp_rate,
            Underlay::Cable => 0,
        };
        let settings = Settings { seconds: self.seconds, udp_rate, placement: self.placement(setup) };
        let result = load::measure(rig, pairs, load, settings);
        let cell = &mut self.evaluation.cells[index];
        match result {
            Ok(sample) => {
                tracing::info!(%setup, pairs, %load, run, mbit = sample.total(), "measured");
                cell.samples.push(sample);
            }
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                tracing::warn!(%setup, pairs, %load, run, error = format!("{error:#}"), "no figure");
                cell.errors.push(format!("{error:#}"));
            }
        }
        self.bar.inc(self.seconds.into());
        Ok(())
    }

    /// A signal came: what was measured is kept, and the report says that there should be more.
    fn cut_short(&mut self) {
        self.evaluation.cells.retain(|cell| !cell.samples.is_empty() || !cell.errors.is_empty());
        let fact = ("interrupted".to_owned(), "by a signal: some runs are missing".to_owned());
        self.evaluation.conditions.facts.push(fact);
    }

    fn placement(&self, setup: Setup) -> Placement {
        match setup.underlay {
            Underlay::Switch | Underlay::Shares => self.args.placement,
            Underlay::Cable => self.args.cable_placement,
        }
    }
}

/// Round trips in the first pair, while nothing else is sent.
fn latency(rig: &Rig, placement: Placement) -> Result<Latency> {
    let [from, to] = [0, 1].map(|index| &rig.lab.topology.vms[index]);
    let program = rig.lab.program().display().to_string();
    let cores = placement.cores(Part::Application, from.server, cpu::cores());
    let mut words: Vec<String> = Vec::new();
    if !cores.is_empty() {
        let list: Vec<String> = cores.iter().map(ToString::to_string).collect();
        words.extend(["taskset".into(), "-c".into(), list.join(",")]);
    }
    let (address, milliseconds) = (to.ip.to_string(), LATENCY.as_millis().to_string());
    let agent = [&program, "lab", "agent", "time", &address, "--milliseconds", &milliseconds];
    words.extend(agent.map(str::to_owned));
    let text = netns::tool(&from.namespace, &words[0], &words[1..]).run()?;
    let times: Value = serde_json::from_str(&text).context("reading round trips")?;
    let mut sorted: Vec<u64> =
        times["nanoseconds"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    sorted.sort_unstable();
    let at = |percent| percentile(&sorted, percent).map_or(f64::NAN, |nanoseconds| nanoseconds as f64 / 1000.0);
    ensure!(!sorted.is_empty(), "no answer in {}", rig.setup);
    Ok(Latency {
        setup: rig.setup,
        count: sorted.len() as u64,
        lost: times["lost"].as_u64().unwrap_or_default(),
        p50: at(50.0),
        p90: at(90.0),
        p99: at(99.0),
        p999: at(99.9),
    })
}

fn conditions(args: &EvalArgs, seconds: u32, runs: u32) -> Result<Conditions> {
    let line = |program: &str, words: &[&str]| -> String {
        let said = Tool::new(program, words).outcome();
        let text = said.map(|said| format!("{}{}", said.stdout, said.stderr)).unwrap_or_default();
        text.lines().next().unwrap_or_default().trim().to_owned()
    };
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let rate =
        |rate: u32| if rate == 0 { "as fast as they can".to_owned() } else { format!("{rate} Mbit/s per pair") };
    let facts = [
        ("processor", format!("{} x {}", cpu::cores(), processor.map_or("unknown", |(_, name)| name.trim()))),
        ("kernel", line("uname", &["-sr"])),
        ("cvsw", env!("CARGO_PKG_VERSION").to_owned()),
        ("Open vSwitch", format!("{}, {}", line("ovs-vswitchd", &["--version"]), args.relay.describe())),
        ("iperf3", line("iperf3", &["--version"])),
        ("wireguard-go", line("wireguard-go", &["--version"])),
        ("boringtun", line("boringtun-cli", &["--version"])),
        ("link", "veth, MTU 1500, offloads off at both ends (tx, rx, tso, gso, gro), no rate limit".to_owned()),
        ("offloads of CVSW's VMs", "csum, tso, ufo, gso, gro".to_owned()),
        ("reassembly of fragments", format!("{REASSEMBLY_SECONDS} s, {} MiB everywhere", REASSEMBLY_BYTES >> 20)),
        ("placement through Open vSwitch", args.placement.describe().to_owned()),
        ("placement on the cable", args.cable_placement.describe().to_owned()),
        ("senders", "in the scheduling class SCHED_IDLE: the way goes before what is sent on it".to_owned()),
        ("UDP senders through Open vSwitch", rate(args.udp_rate)),
        ("UDP senders on the cable", rate(0)),
    ];
    Ok(Conditions {
        date: line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        command: std::env::args().skip(1).fold("cvsw".to_owned(), |line, word| format!("{line} {word}")),
        facts: facts.into_iter().map(|(what, which)| (what.to_owned(), which)).collect(),
        seconds,
        runs,
    })
}
