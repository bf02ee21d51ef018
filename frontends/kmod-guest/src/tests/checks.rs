//! What the checks of a kernel with sanitizers found that is not in its log.

use crate::memory::unreferenced;
use anyhow::{Context, Result, ensure};
use std::fs;

/// The last of the tests: lockdep has not given up on the way, and there is no memory that nobody points to.
pub fn kernel_checks() -> Result<()> {
    let stats = fs::read_to_string("/proc/lockdep_stats").context("this kernel has no lockdep")?;
    let active = stats.lines().find_map(|line| line.trim().strip_prefix("debug_locks:"));
    ensure!(active.context("no debug_locks")?.trim() == "1", "lockdep has given up:\n{stats}");
    let leaks = unreferenced()?;
    ensure!(leaks.is_empty(), "kmemleak:\n{leaks}");
    Ok(())
}
