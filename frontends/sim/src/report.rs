//! The figures.

use std::fmt;

use serde::Serialize;

/// What was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Simulated switches.
    pub switches: usize,
    /// Simulated vNICs.
    pub vnics: usize,
    /// Members of a network.
    pub members: usize,
    /// Flow entries of a vNIC.
    pub flows_per_vnic: usize,
    /// How the networks are encrypted.
    pub cipher: Option<String>,
    /// vNICs of a hundred that have a control key, and speak version 3.
    pub keyed_percent: u8,
    /// Memory that the simulation takes for one vNIC.
    pub simulated_vnic_bytes: usize,
    /// From the first connection until every vNIC has what it should have.
    pub cold_seconds: f64,
    /// Until the controller knows it.
    pub cold_known_seconds: f64,
    /// Processor time of the controller for that.
    pub cold_processor_seconds: f64,
    /// OpenFlow messages that the controller sent for that.
    pub cold_messages: u64,
    /// Control messages that the controller sent again by then, because it thought them lost. Nothing is lost here.
    pub cold_repeated: u64,
    /// The same in the whole run.
    pub repeated: u64,
    /// From the request until every vNIC has another MTU.
    pub mtu_seconds: f64,
    /// Until the controller knows it.
    pub mtu_known_seconds: f64,
    /// From the request until every vNIC has other keys; none without a cipher.
    pub rekey_seconds: Option<f64>,
    /// Until the controller knows it.
    pub rekey_known_seconds: Option<f64>,
    /// Time for one more flow on one vNIC, from the request until the vNIC has it.
    pub change: Option<Percentiles>,
    /// The same while every vNIC gets another MTU.
    pub change_busy: Option<Percentiles>,
    /// Memory of the controller.
    pub memory: MemoryReport,
}

/// Of a number of measurements, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// Measurements.
    pub count: usize,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// None took longer.
    pub max_ms: f64,
}

/// Resident memory of the controller in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MemoryReport {
    /// It has read the configuration; nobody has connected.
    pub configured: u64,
    /// Everybody has what it should have.
    pub converged: u64,
    /// The most that it ever had.
    pub peak: u64,
    /// What `converged` is for each vNIC, its flows included.
    pub per_vnic: u64,
}

impl Percentiles {
    /// Of these milliseconds; `None` if there are none.
    pub fn of(mut milliseconds: Vec<f64>) -> Option<Self> {
        milliseconds.sort_by(f64::total_cmp);
        let at = |share: usize| {
            let rank = (milliseconds.len() * share).div_ceil(100).saturating_sub(1);
            milliseconds.get(rank).copied()
        };
        Some(Self { count: milliseconds.len(), p50_ms: at(50)?, p99_ms: at(99)?, max_ms: at(100)? })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { switches, vnics, members, flows_per_vnic, .. } = self;
        let cipher = self.cipher.as_deref().unwrap_or("none");
        writeln!(
            f,
            "{vnics} vNICs with {flows_per_vnic} flows each, in networks of {members}, on {switches} switches"
        )?;
        writeln!(
            f,
            "{} of 100 vNICs with a control key and protocol version 3, the others with version 2",
            self.keyed_percent
        )?;
        writeln!(f, "encryption: {cipher}; a simulated vNIC takes {} KiB here", self.simulated_vnic_bytes >> 10)?;
        writeln!(f)?;
        writeln!(f, "{:<44} {:>10} {:>14}", "", "vNICs have", "controller")?;
        writeln!(f, "{:<44} {:>10} {:>14}", "", "it", "knows it")?;
        let row = |f: &mut fmt::Formatter<'_>, what: &str, have: f64, know: f64| {
            writeln!(f, "{what:<44} {have:>8.2} s {know:>12.2} s")
        };
        row(f, "cold: nothing to everything", self.cold_seconds, self.cold_known_seconds)?;
        row(f, "another MTU on every vNIC", self.mtu_seconds, self.mtu_known_seconds)?;
        if let Some((have, know)) = self.rekey_seconds.zip(self.rekey_known_seconds) {
            row(f, "another key for every pair", have, know)?;
        }
        for (what, change) in [("", self.change), (", meanwhile another MTU on all", self.change_busy)] {
            let Some(Percentiles { count, p50_ms, p99_ms, max_ms }) = change else { continue };
            writeln!(
                f,
                "one flow more on one vNIC{what}: p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, most {max_ms:.1} ms ({count} times)"
            )?;
        }
        let (seconds, messages) = (self.cold_processor_seconds, self.cold_messages);
        let Self { cold_repeated, repeated, .. } = self;
        writeln!(f, "\ncontroller, cold: {seconds:.2} s of one processor, {messages} OpenFlow messages sent")?;
        writeln!(
            f,
            "control messages sent again, though nothing was lost: {cold_repeated} cold, {repeated} in all"
        )?;
        let MemoryReport { configured, converged, peak, per_vnic } = self.memory;
        writeln!(
            f,
            "controller, memory: {} MiB configured, {} MiB converged ({per_vnic} bytes for each vNIC with its flows), \
             {} MiB at most",
            configured >> 20,
            converged >> 20,
            peak >> 20
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        assert_eq!(Percentiles::of(Vec::new()), None);
        let all: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let expected = Percentiles { count: 200, p50_ms: 100.0, p99_ms: 198.0, max_ms: 200.0 };
        assert_eq!(Percentiles::of(all), Some(expected));
        assert_eq!(Percentiles::of(vec![3.0]).map(|p| (p.p50_ms, p.p99_ms)), Some((3.0, 3.0)));
    }
}
