//! What is measured.

use cvsw_benches::{Distribution, Kind, Setup};

/// One line of the engine's table.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The workload of each thread.
    pub setup: Setup,
    /// Engines that run at the same time.
    pub threads: usize,
}

impl Case {
    /// For the progress line.
    pub fn name(&self) -> String {
        let Setup { kind, size, flows, .. } = self.setup;
        format!("{}, {size} bytes, {flows} flows, {} threads", kind.name(), self.threads)
    }
}

/// Every line of the engine's table, in the order of the report.
pub fn all(kinds: &[Kind], quick: bool, threads: usize) -> Vec<Case> {
    let sizes: &[usize] = if quick { &[64] } else { &[64, 512, 1400] };
    let tables: &[u32] = if quick { &[1, 10_000] } else { &[1, 1000, 10_000, 65_536] };
    let base =
        |kind, size, flows| Setup { kind, size, flows, masks: 1, distribution: Distribution::Uniform, miss: false };
    let mut setups = vec![base(Kind::Restore, 64, 1)];
    for &kind in kinds {
        for &size in sizes {
            for &flows in tables {
                setups.push(base(kind, size, flows));
                if flows > 1 && !quick {
                    setups.push(Setup { distribution: Distribution::Zipf, ..base(kind, size, flows) });
                }
            }
        }
        for &flows in tables {
            setups.push(Setup { miss: true, ..base(kind, 64, flows) });
        }
    }
    // What a sender can do at worst: no frame is ever in the cache, and the table has many masks.
    for masks in [20, 128] {
        for &kind in kinds.iter().filter(|kind| matches!(kind, Kind::Pass | Kind::Rewrite)) {
            setups.push(Setup { miss: true, masks, ..base(kind, 64, 10_000) });
        }
    }
    let mut cases: Vec<_> = setups.into_iter().map(|setup| Case { setup, threads: 1 }).collect();
    for &kind in kinds {
        for threads in powers_up_to(threads).skip(1) {
            cases.extend([1, 10_000].map(|flows| Case { setup: base(kind, 64, flows), threads }));
        }
    }
    cases
}

/// Tables in which single entries are exchanged.
pub fn changes(quick: bool) -> Vec<Setup> {
    let tables: &[u32] = if quick { &[10_000] } else { &[1000, 10_000, 65_536] };
    let setup = |flows: u32, masks| Setup {
        kind: Kind::Rewrite,
        size: 64,
        flows,
        masks,
        distribution: Distribution::Uniform,
        miss: false,
    };
    tables.iter().flat_map(|&flows| [1, 20].map(|masks| setup(flows, masks))).collect()
}

/// Loops over ports: one entry, and this many flows of 64-byte frames.
pub fn port_loops(kinds: &[Kind]) -> Vec<(Kind, u32)> {
    let bare = [(Kind::Restore, 1), (Kind::Restore, 10_000)];
    bare.into_iter().chain(kinds.iter().flat_map(|&kind| [1, 1000, 10_000].map(|flows| (kind, flows)))).collect()
}

/// 1, 2, 4 .. and `most`.
fn powers_up_to(most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |threads| Some(threads * 2))
        .take_while(move |threads| *threads < most)
        .chain([most])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_double() {
        assert_eq!(powers_up_to(1).collect::<Vec<_>>(), [1]);
        assert_eq!(powers_up_to(6).collect::<Vec<_>>(), [1, 2, 4, 6]);
        assert_eq!(powers_up_to(8).collect::<Vec<_>>(), [1, 2, 4, 8]);
    }
}
