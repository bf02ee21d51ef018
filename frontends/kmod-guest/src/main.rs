//! The first process of the virtual machine in which the kernel module is tested: loads the module, runs the
//! tests on namespaces joined by veth pairs and on two virtio-net devices, prints one line per test, and switches
//! the machine off. Who started the machine reads those lines and the kernel's log from the serial console.
//!
//! `tests=NAME,NAME` on the kernel's command line runs only those tests or groups.

mod capture;
mod frames;
mod memory;
mod net;
mod stall;
mod system;
mod tests;
mod topology;

use anyhow::{Context, Result};
use std::time::Instant;
use tests::Test;

fn main() {
    if std::process::id() != 1 {
        eprintln!("this is the first process of a virtual machine; `cargo xtask kmod-test` starts one");
        std::process::exit(2);
    }
    match system::prepare().and_then(|()| run_tests()) {
        Ok((passed, failed)) => println!("KMOD-SUMMARY {passed} passed, {failed} failed"),
        Err(error) => println!("KMOD-ABORTED {error:#}"),
    }
    system::power_off();
}

fn run_tests() -> Result<(usize, usize)> {
    let wanted = system::command_line_option("tests")?;
    let (mut passed, mut failed) = (0, 0);
    for Test { group, name, run } in tests::TESTS {
        if wanted.as_ref().is_some_and(|wanted| !wanted.split(',').any(|one| one == *name || one == *group)) {
            continue;
        }
        println!("KMOD-RUN {name}");
        let start = Instant::now();
        let result = run().with_context(|| format!("test {name}"));
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                passed += 1;
                println!("KMOD-OK {name} ({seconds:.1} s)");
            }
            Err(error) => {
                failed += 1;
                println!("KMOD-FAILED {name} ({seconds:.1} s): {}", format!("{error:#}").replace('\n', " | "));
            }
        }
    }
    Ok((passed, failed))
}
