//! What was measured: the document that is written as JSON, and from which every report is made.

use super::cpu::Seconds;
use super::plan::{Load, Setup};
use super::stats::Summary;
use serde::{Deserialize, Serialize};

/// One run of one measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Received by each pair's second VM.
    pub mbit_per_second: Vec<f64>,
    /// Lost datagrams in percent, mean of the pairs (UDP).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lost_percent: Option<f64>,
    /// Segments sent again, by all (TCP).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retransmits: Option<u64>,
    /// Processor time used meanwhile.
    pub cpu: Seconds,
}

/// All runs of one measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Group that it was measured with.
    pub group: String,
    /// What was measured.
    pub setup: Setup,
    /// Pairs that sent at the same time.
    pub pairs: u8,
    /// What they sent.
    pub load: Load,
    /// Seconds of each run.
    pub seconds: u32,
    /// The runs that gave a figure.
    pub samples: Vec<Sample>,
    /// Why others gave none.
    pub errors: Vec<String>,
}

/// Round trips of single datagrams in an idle setup, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// What was measured.
    pub setup: Setup,
    /// Round trips.
    pub count: u64,
    /// Questions without an answer.
    pub lost: u64,
    /// Half of them took no longer.
    pub p50: f64,
    /// 90 % took no longer.
    pub p90: f64,
    /// 99 % took no longer.
    pub p99: f64,
    /// 99.9 % took no longer.
    pub p999: f64,
}

/// Under which conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// When it began.
    pub date: String,
    /// The command line.
    pub command: String,
    /// What it ran on and with: `(what, which)`.
    pub facts: Vec<(String, String)>,
    /// Seconds per measurement.
    pub seconds: u32,
    /// Runs per measurement.
    pub runs: u32,
}

/// The whole document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Under which conditions.
    pub conditions: Conditions,
    /// Throughput.
    pub cells: Vec<Cell>,
    /// Latency.
    pub latencies: Vec<Latency>,
}

impl Sample {
    /// Of all pairs together.
    pub fn total(&self) -> f64 {
        self.mbit_per_second.iter().sum()
    }

    /// Gigabytes received in `seconds`.
    fn gigabytes(&self, seconds: u32) -> f64 {
        self.total() * f64::from(seconds) / 8000.0
    }
}

impl Cell {
    /// Mbit/s of all pairs together.
    pub fn total(&self) -> Option<Summary> {
        Summary::of(self.samples.iter().map(Sample::total))
    }

    /// Mbit/s of a pair, on average.
    pub fn mean(&self) -> Option<Summary> {
        Summary::of(self.samples.iter().map(|sample| sample.total() / f64::from(self.pairs)))
    }

    /// Processor seconds per gigabyte received: all runs together. `None` if next to nothing arrived.
    pub fn cpu_per_gigabyte(&self) -> Option<Seconds> {
        let gigabytes: f64 = self.samples.iter().map(|sample| sample.gigabytes(self.seconds)).sum();
        let mut cpu = Seconds::default();
        self.samples.iter().for_each(|sample| cpu += sample.cpu);
        (gigabytes > 1e-4).then(|| cpu.per(gigabytes))
    }

    /// Datagrams lost, in percent of those up to the last that arrived. Runs in which none arrived have no such
    /// figure: iperf3's receiver, which counts gaps, says 0 there.
    pub fn lost(&self) -> Option<Summary> {
        let arrived = self.samples.iter().filter(|sample| sample.total() > 0.0);
        Summary::of(arrived.filter_map(|sample| sample.lost_percent))
    }
}

impl Evaluation {
    /// The figures of two runs as one; where both have some, those of `more`.
    pub fn joined(mut self, more: Self) -> Self {
        let key = |cell: &Cell| (cell.setup, cell.pairs, cell.load);
        self.cells.retain(|cell| more.cells.iter().all(|newer| key(newer) != key(cell)));
        self.latencies.retain(|latency| more.latencies.iter().all(|newer| newer.setup != latency.setup));
        self.cells.extend(more.cells);
        self.latencies.extend(more.latencies);
        let (ours, mut theirs) = (&mut self.conditions, more.conditions);
        if (ours.runs, ours.seconds) != (theirs.runs, theirs.seconds) {
            theirs.facts.push((theirs.command.clone(), format!("{} runs of {} s", theirs.runs, theirs.seconds)));
        }
        for (old, new) in [(&mut ours.date, theirs.date), (&mut ours.command, theirs.command)] {
            *old = format!("{old} and {new}");
        }
        let unknown = theirs.facts.into_iter().filter(|fact| !ours.facts.contains(fact)).collect::<Vec<_>>();
        ours.facts.extend(unknown);
        self
    }

    /// The measurement of `setup` with so many pairs under `load`, if it was made.
    pub fn cell(&self, setup: Setup, pairs: u8, load: Load) -> Option<&Cell> {
        self.cells.iter().find(|cell| (cell.setup, cell.pairs, cell.load) == (setup, pairs, load))
    }

    /// Median Mbit/s of all pairs together.
    pub fn total(&self, setup: Setup, pairs: u8, load: Load) -> Option<f64> {
        Some(self.cell(setup, pairs, load)?.total()?.median)
    }

    /// How many times more of `one` arrives than of `other`; infinite if nothing of `other` does.
    pub fn ratio(&self, one: Setup, other: Setup, pairs: u8, load: Load) -> Option<f64> {
        let (one, other) = (self.total(one, pairs, load)?, self.total(other, pairs, load)?);
        (one > 0.0 || other > 0.0).then_some(one / other)
    }
}
