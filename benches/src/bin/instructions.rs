//! Instructions per packet: runs each workload under `valgrind --tool=callgrind` with two numbers of bursts and
//! divides the difference, so that set-up does not count. The figures repeat exactly for the same binary.
//!
//! ```text
//! cargo run --release -p cvsw-benches --bin instructions
//! ```

use cvsw_benches::{Distribution, Kind, Setup, load};
use cvsw_core::BURST;
use std::{
    env,
    process::{Command, ExitCode},
};

/// Bursts of the short and of the long run. Both pass the point where every flow is in the cache.
const BURSTS: [u64; 2] = [100, 600];

/// Flows, masks and whether the cache misses, of each line.
const TABLES: [(u32, u32, bool); 4] = [(1, 1, false), (1000, 1, false), (1000, 1, true), (1000, 20, true)];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if !args.is_empty() {
        run(&args);
        return ExitCode::SUCCESS;
    }
    println!("{:<12} {:>6} {:>6} {:>6} {:>6} {:>20}", "workload", "bytes", "flows", "masks", "cache", "per packet");
    for kind in Kind::ALL {
        for size in [64, 1400] {
            for (flows, masks, miss) in TABLES {
                match measure(&Setup { kind, size, flows, masks, miss, distribution: Distribution::Uniform }) {
                    Ok(count) => {
                        let cache = if miss { "miss" } else { "hit" };
                        println!("{:<12} {size:>6} {flows:>6} {masks:>6} {cache:>6} {count:>20.1}", kind.name());
                    }
                    Err(error) => {
                        eprintln!("error: {error}");
                        return ExitCode::FAILURE;
                    }
                }
            }
        }
    }
    ExitCode::SUCCESS
}

/// The measured process: `KIND SIZE FLOWS MASKS MISS BURSTS`.
fn run(args: &[String]) {
    let [kind, size, flows, masks, miss, bursts] = args else { panic!("six arguments") };
    let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).expect("a workload's name");
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let setup = Setup {
        kind,
        size: number(size) as usize,
        flows: number(flows),
        masks: number(masks),
        distribution: Distribution::Uniform,
        miss: miss == "true",
    };
    let mut load = load(&setup);
    for _ in 0..number(bursts) {
        load.step();
    }
    load.check();
}

fn measure(setup: &Setup) -> Result<f64, String> {
    let [short, long] = BURSTS;
    let packets = (long - short) * BURST as u64;
    Ok((callgrind(setup, long)? - callgrind(setup, short)?) as f64 / packets as f64)
}

fn callgrind(setup: &Setup, bursts: u64) -> Result<u64, String> {
    let Setup { kind, size, flows, masks, miss, .. } = setup;
    let numbers = [*size as u64, u64::from(*flows), u64::from(*masks)].map(|number| number.to_string());
    let program = env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg(kind.name())
        .args(numbers)
        .args([miss.to_string(), bursts.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not start ({error}); apt-get install valgrind"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines()
        .find_map(|line| line.split("Collected :").nth(1))
        .and_then(|count| count.trim().parse().ok())
        .ok_or_else(|| format!("valgrind printed no count:\n{text}"))
}
