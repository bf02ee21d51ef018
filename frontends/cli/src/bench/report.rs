//! The tables.

use super::{
    cases::Case,
    ciphers::{CipherRow, OpensslRow},
    measure::Figures,
    peers::PeerRow,
};
use cvsw_benches::{Kind, Setup};
use serde::Serialize;
use std::fmt;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of the program.
    version: &'static str,
    /// Processor, as the system names it.
    processor: String,
    /// Whether the measurements were short ones.
    quick: bool,
    /// The engine alone.
    pub engine: Vec<Row>,
    /// Exchanges of entries.
    pub changes: Vec<ChangeRow>,
    /// The userspace port between two null ports.
    pub port_loop: Vec<PortRow>,
    /// Other switches in the same run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerRow>,
    /// Sealing and opening.
    pub ciphers: Vec<CipherRow>,
    /// OpenSSL, in the same run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub openssl: Vec<OpensslRow>,
}

/// One line of the engine's table.
#[derive(Debug, Serialize)]
pub struct Row {
    scenario: &'static str,
    bytes: usize,
    flows: u32,
    masks: u32,
    distribution: &'static str,
    cache: &'static str,
    threads: usize,
    mpps: f64,
    nanoseconds_per_packet: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cycles_per_packet: Option<f64>,
    cache_hit_share: f64,
}

/// What exchanging an entry costs.
#[derive(Debug, Serialize)]
pub struct ChangeRow {
    entries: u32,
    masks: u32,
    nanoseconds_per_insert_and_delete: f64,
}

/// One line of the port's table.
#[derive(Debug, Serialize)]
pub struct PortRow {
    /// What the entry does.
    #[serde(serialize_with = "name")]
    pub scenario: Kind,
    /// Flows of the traffic.
    pub packet_flows: u32,
    /// Million packets per second.
    pub mpps: f64,
    nanoseconds_per_packet: f64,
}

impl Report {
    /// An empty report.
    pub fn new(quick: bool) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            processor: processor().unwrap_or_else(|| "unknown".to_owned()),
            quick,
            engine: Vec::new(),
            changes: Vec::new(),
            port_loop: Vec::new(),
            peers: Vec::new(),
            ciphers: Vec::new(),
            openssl: Vec::new(),
        }
    }
}

impl Row {
    /// The line of `case`.
    pub fn new(case: &Case, figures: Figures) -> Self {
        let Setup { kind, size, flows, masks, distribution, miss } = case.setup;
        Self {
            scenario: kind.name(),
            bytes: size,
            flows,
            masks,
            distribution: distribution.name(),
            cache: if miss { "miss" } else { "hit" },
            threads: case.threads,
            mpps: figures.mpps,
            nanoseconds_per_packet: figures.nanos,
            cycles_per_packet: figures.cycles,
            cache_hit_share: figures.cache_hits,
        }
    }
}

impl ChangeRow {
    /// The line of `setup`.
    pub fn new(setup: &Setup, nanos: f64) -> Self {
        Self { entries: setup.flows, masks: setup.masks, nanoseconds_per_insert_and_delete: nanos }
    }
}

impl PortRow {
    fn name(&self) -> &'static str {
        port_name(&self.scenario)
    }

    /// The line of one loop.
    pub fn new(scenario: Kind, packet_flows: u32, nanos: f64) -> Self {
        Self { scenario, packet_flows, mpps: 1e3 / nanos, nanoseconds_per_packet: nanos }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cvsw {} on {}", self.version, self.processor)?;
        if !self.engine.is_empty() {
            self.write_engine(f)?;
        }
        if !self.port_loop.is_empty() {
            self.write_port_loop(f)?;
        }
        if !self.ciphers.is_empty() {
            writeln!(f, "\nSealing and opening, one thread:\n")?;
            CipherRow::header(f)?;
            self.openssl.iter().try_for_each(|row| writeln!(f, "{row}"))?;
            self.ciphers.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        }
        Ok(())
    }
}

impl Report {
    fn write_engine(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nThe engine alone:\n\n{:<12} {:>5} {:>6} {:>5} {:<8} {:<5} {:>7} {:>9} {:>9} {:>9} {:>6}",
            "scenario", "bytes", "flows", "masks", "traffic", "cache", "threads", "Mpps", "ns", "cycles", "hits"
        )?;
        for row in &self.engine {
            let cycles = row.cycles_per_packet.map_or_else(|| "-".to_owned(), |cycles| format!("{cycles:.0}"));
            writeln!(
                f,
                "{:<12} {:>5} {:>6} {:>5} {:<8} {:<5} {:>7} {:>9.2} {:>9.1} {cycles:>9} {:>5.0}%",
                row.scenario,
                row.bytes,
                row.flows,
                row.masks,
                row.distribution,
                row.cache,
                row.threads,
                row.mpps,
                row.nanoseconds_per_packet,
                row.cache_hit_share * 100.0
            )?;
        }
        writeln!(f, "\nDeleting one entry and inserting it again:\n\n{:>7} {:>5} {:>9}", "entries", "masks", "ns")?;
        for row in &self.changes {
            writeln!(f, "{:>7} {:>5} {:>9.0}", row.entries, row.masks, row.nanoseconds_per_insert_and_delete)?;
        }
        Ok(())
    }

    fn write_port_loop(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nThe userspace port between two null ports, 64 bytes, one entry, one thread:\n")?;
        writeln!(f, "{:<12} {:>12} {:>9} {:>9}", "scenario", "packet flows", "Mpps", "ns")?;
        for row in &self.port_loop {
            let (scenario, mpps, nanos) = (row.name(), row.mpps, row.nanoseconds_per_packet);
            writeln!(f, "{scenario:<12} {:>12} {mpps:>9.2} {nanos:>9.1}", row.packet_flows)?;
        }
        if !self.peers.is_empty() {
            writeln!(f, "\nThe same of other switches, one core (ratio: our packets per second over theirs):\n")?;
            writeln!(f, "{:<22} {:<12} {:>12} {:>9} {:>7}", "peer", "scenario", "packet flows", "Mpps", "ratio")?;
            self.peers.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        }
        Ok(())
    }
}

fn name<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(port_name(kind))
}

/// The name of a loop: without an engine, making frames and throwing them away is all that it does.
const fn port_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Restore => "bare loop",
        kind => kind.name(),
    }
}

/// The processor's name.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
