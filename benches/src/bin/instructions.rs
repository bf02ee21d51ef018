//! Instructions per packet: runs each workload under `valgrind --tool=callgrind` with two numbers of bursts and
//! divides the difference, so that set-up does not count. The figures repeat exactly for the same binary.
//!
//! ```text
//! cargo run --release -p cvsw-benches --bin instructions
//! ```

use cvsw_benches::{Kind, Workload};
use cvsw_core::BURST;
use std::{
    env,
    process::{Command, ExitCode},
};

/// Bursts of the short and of the long run. Both pass the point where every flow is in the cache.
const BURSTS: [u64; 2] = [100, 600];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [kind, size, flows, bursts] = args.as_slice() {
        run(kind, size, flows, bursts);
        return ExitCode::SUCCESS;
    }
    println!("{:<12} {:>6} {:>6} {:>20}", "workload", "bytes", "flows", "instructions/packet");
    for kind in Kind::ALL {
        for size in [64, 1400] {
            for flows in [1, 1000] {
                match measure(kind, size, flows) {
                    Ok(count) => println!("{:<12} {size:>6} {flows:>6} {count:>20.1}", kind.name()),
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

fn run(kind: &str, size: &str, flows: &str, bursts: &str) {
    let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).expect("a workload's name");
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let mut workload = Workload::<1024, 4096>::new(kind, number(size) as usize, number(flows) as u16);
    for _ in 0..number(bursts) {
        workload.step();
    }
    workload.check();
}

fn measure(kind: Kind, size: usize, flows: u16) -> Result<f64, String> {
    let [short, long] = BURSTS;
    let instructions = |bursts| callgrind(kind, size, flows, bursts);
    let packets = (long - short) * BURST as u64;
    Ok((instructions(long)? - instructions(short)?) as f64 / packets as f64)
}

fn callgrind(kind: Kind, size: usize, flows: u16, bursts: u64) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([kind.name(), &size.to_string(), &flows.to_string(), &bursts.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not start ({error}); apt-get install valgrind"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines()
        .find_map(|line| line.split("Collected :").nth(1))
        .and_then(|count| count.trim().parse().ok())
        .ok_or_else(|| format!("valgrind printed no count:\n{text}"))
}
