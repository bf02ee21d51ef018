//! Differential tester: random flow tables and frames through a private Open vSwitch and through CVSW's engine.

mod bridge;
mod case;
mod engine;
mod generate;
mod judge;
mod known;
mod ovs;
mod spec;
mod wire;

use anyhow::{Context, Result};
use bridge::Bridge;
use case::Case;
use judge::Tally;
use known::Known;
use lexopt::{Arg, Parser, ValueExt};
use ovs::Ovs;
use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const HELP: &str = "\
Compares the flow table and the actions of CVSW's engine with those of Open vSwitch on random cases.

usage: cargo xtask oracle --spec | --spec-file F
       cargo xtask oracle [--cases N] [--seed S] [--only I] [--no-shrink] [--known]

  --spec        run the cases written from the OpenFlow 1.0.0 specification instead, timeouts among them
  --spec-file F the same with the cases of a file in that form
  --cases N     how many cases (default 3000)
  --seed S      seed of the first case (default: the time; it is printed)
  --seconds N   stop after N seconds, even if cases are left
  --only I      only case number I of the seed, as a failure's report says
  --failures N  stop after N failing cases (default 1)
  --no-shrink   report a failing case as it is
  --known       list the known differences, and stop
";

/// Bridges of the switch, each driven by a thread: while one waits for an answer, the switch works for another.
const BRIDGES: usize = 4;

struct Options {
    /// Declarative cases to be run instead.
    spec: Option<String>,
    cases: u64,
    seed: u64,
    only: Option<u64>,
    limit: Duration,
    shrink: bool,
    failures: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("oracle: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let Some(options) = options()? else { return Ok(ExitCode::SUCCESS) };
    if let Some(text) = &options.spec {
        println!("{}", Ovs::version()?);
        let start = Instant::now();
        let cases = spec::run(&Ovs::start(1)?, text)?;
        println!("{cases} cases in {:.1} s: no difference", start.elapsed().as_secs_f64());
        return Ok(ExitCode::SUCCESS);
    }
    let bridges = if options.only.is_some() { 1 } else { BRIDGES };
    println!("{}", Ovs::version()?);
    println!("seed {}, {} cases", options.seed, options.cases);
    let start = Instant::now();
    let ovs = Ovs::start(bridges)?;
    println!("switch ready after {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let shared = Shared::default();
    std::thread::scope(|scope| {
        for number in 0..bridges {
            let (ovs, options, shared) = (&ovs, &options, &shared);
            scope.spawn(move || {
                let result = Bridge::connect(&ovs.bridge(number))
                    .and_then(|mut bridge| work(&mut bridge, options, shared, start));
                if let Err(error) = result {
                    shared.stop.store(true, Ordering::Relaxed);
                    eprintln!("oracle: bridge {number}: {error:#}");
                    shared.broken.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    let (tally, done) = *shared.tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{done} cases in {seconds:.1} s: {} changes made alike, {} refused alike; {} removals reported alike; {} frames alike ({} forwarded, {} of them \
         without an entry); not sent: {} ambiguous, {} known differences",
        tally.changes,
        tally.refused,
        tally.removals,
        tally.frames,
        tally.forwarded,
        tally.missed,
        tally.ambiguous,
        tally.known.iter().sum::<u64>()
    );
    for (known, count) in Known::ALL.iter().zip(tally.known).filter(|(_, count)| *count != 0) {
        println!("  {count} of {known:?}");
    }
    let failed = shared.failed.load(Ordering::Relaxed) != 0 || shared.broken.load(Ordering::Relaxed);
    println!("{}", if failed { "FAILED" } else { "no unexplained difference" });
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    next: AtomicU64,
    stop: AtomicBool,
    failed: AtomicU64,
    broken: AtomicBool,
    tally: Mutex<(Tally, u64)>,
}

/// Runs cases until there are no more, or one fails.
fn work(bridge: &mut Bridge, options: &Options, shared: &Shared, start: Instant) -> Result<()> {
    let mut tally = Tally::default();
    let mut done = 0;
    while !shared.stop.load(Ordering::Relaxed) && start.elapsed() < options.limit {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= options.cases {
            break;
        }
        let index = options.only.unwrap_or(number);
        let case = generate::case(options.seed, index);
        done += 1;
        let difference = judge::run(bridge, &case, &mut tally).with_context(|| format!("case {index}\n{case}"))?;
        if let Some(difference) = difference {
            let earlier = shared.failed.fetch_add(1, Ordering::Relaxed);
            if earlier + 1 >= options.failures {
                shared.stop.store(true, Ordering::Relaxed);
            }
            if earlier < options.failures {
                report(bridge, options, index, case, &difference)?;
            }
        }
    }
    let mut total = shared.tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    total.0.add(&tally);
    total.1 += done;
    Ok(())
}

/// Shrinks a failing case and prints it.
fn report(bridge: &mut Bridge, options: &Options, index: u64, case: Case, difference: &str) -> Result<()> {
    let (frames, changes) = case.len();
    let (case, difference) =
        if options.shrink { shrink(bridge, case, difference.to_owned())? } else { (case, difference.to_owned()) };
    println!(
        "\ncase {index} of seed {} ({changes} changes, {frames} frames) differs:\n{case}{difference}\nagain: cargo xtask \
         oracle --seed {} --only {index}\n",
        options.seed, options.seed
    );
    Ok(())
}

/// Simplifies a failing case as long as it fails in the same way.
fn shrink(bridge: &mut Bridge, mut case: Case, mut difference: String) -> Result<(Case, String)> {
    'simpler: loop {
        for candidate in case::simpler(&case) {
            match judge::run(bridge, &candidate, &mut Tally::default())? {
                Some(found) if kind(&found) == kind(&difference) => {
                    (case, difference) = (candidate, found);
                    continue 'simpler;
                }
                _ => {}
            }
        }
        return Ok((case, difference));
    }
}

/// What a difference is about: the second word of its description ("the frame", "a change", "the table").
fn kind(difference: &str) -> Option<&str> {
    difference.split_whitespace().nth(1)
}

fn options() -> Result<Option<Options>> {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let mut options = Options {
        spec: None,
        cases: 3000,
        seed: time,
        only: None,
        limit: Duration::from_secs(86_400),
        shrink: true,
        failures: 1,
    };
    let mut parser = Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("spec") => options.spec = Some(spec::TEXT.to_owned()),
            Arg::Long("spec-file") => {
                let file = parser.value()?;
                let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
                options.spec = Some(text);
            }
            Arg::Long("cases") => options.cases = parser.value()?.parse()?,
            Arg::Long("seed") => options.seed = parser.value()?.parse()?,
            Arg::Long("seconds") => options.limit = Duration::from_secs(parser.value()?.parse()?),
            Arg::Long("only") => (options.only, options.cases) = (Some(parser.value()?.parse()?), 1),
            Arg::Long("failures") => options.failures = parser.value()?.parse()?,
            Arg::Long("no-shrink") => options.shrink = false,
            Arg::Long("known") => {
                Known::ALL.iter().for_each(|known| println!("- {}", known.reason()));
                return Ok(None);
            }
            Arg::Short('h') | Arg::Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(Some(options))
}
