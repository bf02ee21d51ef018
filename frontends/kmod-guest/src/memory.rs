//! What the kernel has allocated, to find leaks: by counting, since Debian's kernels have no kmemleak, or by that.

use crate::system::wait_for;
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// kmemleak believes nothing that is younger than five seconds.
const AGE: Duration = Duration::from_secs(6);

/// What kmemleak finds that nobody points to any more. Only a kernel that checks itself has it.
pub fn unreferenced() -> Result<String> {
    for _ in 0..2 {
        thread::sleep(AGE);
        fs::write(KMEMLEAK, "scan").context("this kernel has no kmemleak")?;
    }
    Ok(fs::read_to_string(KMEMLEAK)?)
}

/// Objects by slab cache, and areas of `vmalloc`.
#[derive(Debug)]
pub struct Memory(BTreeMap<String, u64>);

impl Memory {
    /// As it is now. Free objects that a processor keeps for itself count as used, so the caches are shrunk first.
    pub fn now() -> Result<Self> {
        for cache in fs::read_dir("/sys/kernel/slab").context("the kernel shows no slab caches")? {
            // Caches come and go meanwhile.
            let _ = fs::write(cache?.path().join("shrink"), "1");
        }
        let slabs = fs::read_to_string("/proc/slabinfo")?;
        let mut objects: BTreeMap<String, u64> = slabs
            .lines()
            .skip(2)
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
            })
            .collect();
        // Areas that are free already are shown until their addresses are.
        let areas = fs::read_to_string("/proc/vmallocinfo")?;
        let areas = areas.lines().filter(|line| !line.contains("unpurged")).count();
        objects.insert("vmalloc".to_owned(), areas as u64);
        Ok(Self(objects))
    }

    /// What there is more of than at first, by more than `most`.
    fn grown(&self, most: u64) -> Result<Vec<String>> {
        let now = Self::now()?;
        let grown = now.0.iter().filter_map(|(name, count)| {
            let before = self.0.get(name).copied().unwrap_or(0);
            (count.saturating_sub(before) > most).then(|| format!("{name}: {before} to {count}"))
        });
        Ok(grown.collect())
    }

    /// An error if anything has grown by an object for every second one of `cycles`. The kernel frees some things later.
    ///
    /// A kernel that checks itself keeps much of what is free, to know it again (of the references to each device alone the last
    /// 128 that were given back): there kmemleak judges.
    pub fn compare(&self, cycles: usize) -> Result<()> {
        if Path::new(KMEMLEAK).exists() {
            let leaks = unreferenced()?;
            ensure!(leaks.is_empty(), "kmemleak, after {cycles} cycles:\n{leaks}");
            return Ok(());
        }
        let mut grown = Vec::new();
        wait_for("the end of what was allocated", || {
            grown = self.grown(cycles as u64 / 2)?;
            Ok(grown.is_empty())
        })
        .with_context(|| format!("a leak, in {cycles} cycles: {}", grown.join(", ")))
    }
}
