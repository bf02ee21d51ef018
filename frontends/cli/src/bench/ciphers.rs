//! Sealing and opening, per suite and implementation, beside OpenSSL.

use super::{Progress, measure::Effort};
use anyhow::{Context, Result};
use cvsw_benches::{
    ciphers::{Case, Operation, openssl, openssl_name},
    cycles,
};
use cvsw_core::crypto::Suite;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

/// The best of so many runs of `openssl speed`, of a second each.
const OPENSSL_RUNS: u32 = 2;

/// One line of the ciphers' table.
#[derive(Debug, Serialize)]
pub struct CipherRow {
    suite: &'static str,
    implementation: &'static str,
    operation: &'static str,
    bytes: usize,
    nanoseconds_per_packet: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cycles_per_packet: Option<f64>,
    gigabytes_per_second: f64,
    gigabits_per_second: f64,
    /// Share of what OpenSSL's cipher does with as many bytes, in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_openssl: Option<f64>,
    /// Of the whole path: its time over that of sealing alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    over_bare_seal: Option<f64>,
}

/// Measures every case; with `against`, OpenSSL too, and the name of what it was.
pub fn measure(effort: &Effort, against: bool, progress: &Progress) -> Result<(Vec<CipherRow>, Vec<OpensslRow>)> {
    let cases = Case::all();
    let mut rows = Vec::new();
    let mut bare = BTreeMap::new();
    let mut peers = Vec::new();
    if against {
        peers = openssl_rows(&cases, progress)?;
    }
    let time = Duration::from_secs_f64(effort.sample.as_secs_f64() * effort.samples as f64);
    let clock = cycles_per_nano();
    for case in &cases {
        progress.say(&format!("{}, {}, {} bytes", case.suite.name(), case.operation.name(), case.size));
        let nanos = case.nanos(time);
        let place = (case.suite.name(), case.backend.name(), case.size);
        if case.operation == Operation::SealBurst {
            bare.insert(place, nanos);
        }
        let rate = case.size as f64 / nanos;
        let comparable = matches!(case.operation, Operation::Seal | Operation::Open) && !has_mac(case.suite);
        let peer = peers.iter().find(|row: &&OpensslRow| {
            comparable && row.cipher == openssl_name(case.suite) && row.bytes == case.size
        });
        rows.push(CipherRow {
            suite: case.suite.name(),
            implementation: case.backend.name(),
            operation: case.operation.name(),
            bytes: case.size,
            nanoseconds_per_packet: nanos,
            cycles_per_packet: clock.map(|clock| clock * nanos),
            gigabytes_per_second: rate,
            gigabits_per_second: rate * 8.0,
            of_openssl: peer.map(|peer| rate / peer.gigabytes_per_second),
            over_bare_seal: bare
                .get(&place)
                .filter(|_| case.operation == Operation::Path)
                .map(|bare| nanos / bare - 1.0),
        });
    }
    Ok((rows, peers))
}

/// What `openssl speed -evp` says.
#[derive(Debug, Serialize)]
pub struct OpensslRow {
    cipher: &'static str,
    bytes: usize,
    gigabytes_per_second: f64,
}

fn openssl_rows(cases: &[Case], progress: &Progress) -> Result<Vec<OpensslRow>> {
    let mut rows: Vec<OpensslRow> = Vec::new();
    for case in cases {
        let (cipher, bytes) = (openssl_name(case.suite), case.size);
        if rows.iter().any(|row| (row.cipher, row.bytes) == (cipher, bytes)) {
            continue;
        }
        progress.say(&format!("openssl speed -evp {cipher}, {bytes} bytes"));
        let rate = openssl(cipher, bytes, OPENSSL_RUNS).context("openssl speed cannot be run (Debian: openssl)")?;
        rows.push(OpensslRow { cipher, bytes, gigabytes_per_second: rate / 1e9 });
    }
    Ok(rows)
}

/// OpenSSL's figures are for a cipher with its own authentication, or for one without any.
const fn has_mac(suite: Suite) -> bool {
    suite.mac_key_len() != 0
}

/// Rate of the time-stamp counter.
fn cycles_per_nano() -> Option<f64> {
    let (start, first) = (Instant::now(), cycles()?);
    while start.elapsed() < Duration::from_millis(5) {}
    let ticks = cycles()?.wrapping_sub(first);
    Some(ticks as f64 / start.elapsed().as_nanos() as f64)
}

impl CipherRow {
    /// The line above the rows.
    pub fn header(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<30} {:<10} {:<10} {:>5} {:>8} {:>7} {:>6} {:>7}",
            "suite", "by", "what", "bytes", "ns", "cycles", "GB/s", "Gbit/s"
        )
    }
}

impl fmt::Display for CipherRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { suite, implementation, operation, bytes, .. } = self;
        let cycles = self.cycles_per_packet.map_or_else(|| "-".to_owned(), |cycles| format!("{cycles:.0}"));
        write!(
            f,
            "{suite:<30} {implementation:<10} {operation:<10} {bytes:>5} {:>8.1} {cycles:>7} {:>6.2} {:>7.1}",
            self.nanoseconds_per_packet, self.gigabytes_per_second, self.gigabits_per_second
        )?;
        if let Some(share) = self.of_openssl {
            write!(f, "  {:.0} % of openssl", share * 100.0)?;
        }
        if let Some(more) = self.over_bare_seal {
            write!(f, "  {:+.0} % over seal x 32", more * 100.0)?;
        }
        Ok(())
    }
}

impl fmt::Display for OpensslRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cipher, bytes, gigabytes_per_second: rate } = self;
        let nanos = *bytes as f64 / rate;
        write!(
            f,
            "{cipher:<30} {:<10} {:<10} {bytes:>5} {nanos:>8.1} {:>7} {rate:>6.2} {:>7.1}",
            "openssl",
            "seal",
            "-",
            rate * 8.0
        )
    }
}
