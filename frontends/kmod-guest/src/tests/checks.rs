//! What the checks of a kernel with sanitizers found that is not in its log.

use anyhow::{Context, Result, ensure};
use std::{fs, thread, time::Duration};

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// kmemleak believes nothing that is younger than five seconds.
const AGE: Duration = Duration::from_secs(6);

/// The last of the tests: lockdep has not given up on the way, and there is no memory that nobody points to.
pub fn kernel_checks() -> Result<()> {
    let stats = fs::read_to_string("/proc/lockdep_stats").context("this kernel has no lockdep")?;
    let active = stats.lines().find_map(|line| line.trim().strip_prefix("debug_locks:"));
    ensure!(active.context("no debug_locks")?.trim() == "1", "lockdep has given up:\n{stats}");
    for _ in 0..2 {
        thread::sleep(AGE);
        fs::write(KMEMLEAK, "scan").context("this kernel has no kmemleak")?;
    }
    let leaks = fs::read_to_string(KMEMLEAK)?;
    ensure!(leaks.is_empty(), "kmemleak:\n{leaks}");
    Ok(())
}
