//! Clocks around workloads.

use super::{cases::Case, median, nanos_each};
use cvsw_benches::{Load, Setup, cycles, load};
use cvsw_core::BURST;
use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Measurements, of which the median counts.
    pub samples: usize,
    /// Length of each.
    pub sample: Duration,
}

impl Effort {
    /// About 50 milliseconds.
    pub const FULL: Self = Self { samples: 51, sample: Duration::from_millis(1) };
    /// About 20 milliseconds.
    pub const QUICK: Self = Self { samples: 21, sample: Duration::from_millis(1) };
}

/// What one line of the engine's table shows.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Nanoseconds per packet and thread.
    pub nanos: f64,
    /// Cycles of the time-stamp counter per packet and thread, if there is one.
    pub cycles: Option<f64>,
    /// Million packets per second, of all threads.
    pub mpps: f64,
    /// Share of the look-ups that the cache answered.
    pub cache_hits: f64,
}

/// Bursts that bring every flow of the longest sequence by, so that the flow cache knows them.
const WARM_UP: usize = 4096;
/// Bursts before a measurement in which the flow cache shall know nothing.
const WARM_UP_MISSES: usize = 64;
/// Bursts between two looks at the clock.
const STRIDE: u64 = 32;

/// Measures one case.
pub fn frames(case: &Case, effort: &Effort) -> Figures {
    let barrier = Barrier::new(case.threads);
    let each: Vec<Figures> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..case.threads).map(|_| scope.spawn(|| one_thread(&case.setup, effort, &barrier))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a workload that checks itself")).collect()
    });
    let count = each.len() as f64;
    let mean = |of: fn(&Figures) -> f64| each.iter().map(of).sum::<f64>() / count;
    let cycles = each.iter().map(|figures| figures.cycles).sum::<Option<f64>>().map(|sum| sum / count);
    Figures {
        nanos: mean(|figures| figures.nanos),
        cycles,
        mpps: mean(|figures| figures.mpps) * count,
        cache_hits: mean(|figures| figures.cache_hits),
    }
}

fn one_thread(setup: &Setup, effort: &Effort, barrier: &Barrier) -> Figures {
    let mut load = load(setup);
    (0..if setup.miss { WARM_UP_MISSES } else { WARM_UP }).for_each(|_| load.step());
    let (hits, misses) = load.cache_counts();
    barrier.wait();
    let (mut nanos, mut ticks) = (Vec::new(), Vec::new());
    for _ in 0..effort.samples {
        let (time, tick) = sample(&mut *load, effort.sample);
        nanos.push(time);
        ticks.extend(tick);
    }
    // The others need company until the last of them is ready.
    barrier.wait();
    load.check();
    let (hits, misses) = (load.cache_counts().0 - hits, load.cache_counts().1 - misses);
    let nanos = median(&mut nanos);
    Figures {
        nanos,
        cycles: (!ticks.is_empty()).then(|| median(&mut ticks)),
        mpps: 1e3 / nanos,
        cache_hits: if hits + misses == 0 { 0.0 } else { hits as f64 / (hits + misses) as f64 },
    }
}

/// Nanoseconds and cycles per packet in one short measurement.
fn sample(load: &mut dyn Load, length: Duration) -> (f64, Option<f64>) {
    let (start, first) = (Instant::now(), cycles());
    let mut packets = 0;
    let time = loop {
        (0..STRIDE).for_each(|_| load.step());
        packets += STRIDE * BURST as u64;
        let time = start.elapsed();
        if time >= length {
            break time;
        }
    };
    let ticks = cycles().zip(first).map(|(last, first)| last.wrapping_sub(first) as f64 / packets as f64);
    (nanos_each(time, packets), ticks)
}

/// Nanoseconds that taking out one entry and putting it in again costs.
pub fn changes(setup: &Setup, effort: &Effort) -> f64 {
    /// Exchanges in one measurement.
    const CHANGES: u64 = 500;
    let mut load = load(setup);
    let mut number = 0u32;
    let mut samples: Vec<f64> = (0..effort.samples)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..CHANGES {
                // A stride without a common factor with the table's size visits all entries out of order.
                number = (number + 7919) % setup.flows;
                load.replace_entry(number as u16);
            }
            nanos_each(start.elapsed(), CHANGES)
        })
        .collect();
    median(&mut samples)
}
