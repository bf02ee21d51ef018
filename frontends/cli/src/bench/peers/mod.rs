//! Other switches, measured in the same run: what is installed of them.

mod capture;
mod ovs;
mod testpmd;

use super::{Progress, report::PortRow};
use anyhow::{Context, Result, bail};
use cvsw_benches::Kind;
use serde::Serialize;
use std::{fmt, fs, time::Duration};

/// How long each peer forwards for one figure.
const LENGTH: Duration = Duration::from_secs(1);

/// One figure of a peer, or why there is none.
#[derive(Debug, Serialize)]
pub struct PeerRow {
    peer: &'static str,
    scenario: &'static str,
    packet_flows: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    mpps: Option<f64>,
    /// Packets per second of our port over those of the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

impl PeerRow {
    fn new(peer: &'static str, ours: &PortRow, mpps: Result<f64>) -> Self {
        let (mpps, missing) = match mpps {
            Ok(mpps) => (Some(mpps), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let ratio = mpps.filter(|mpps| *mpps > 0.0).map(|mpps| ours.mpps / mpps);
        let (scenario, packet_flows) = (ours.scenario.name(), ours.packet_flows);
        Self { peer, scenario, packet_flows, mpps, ratio, missing }
    }

    fn missing(peer: &'static str, why: &anyhow::Error) -> Self {
        let missing = Some(format!("{why:#}"));
        Self { peer, scenario: "-", packet_flows: 0, mpps: None, ratio: None, missing }
    }
}

impl fmt::Display for PeerRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.missing {
            return write!(f, "{:<22} {:<12} not measured: {why}", self.peer, self.scenario);
        }
        let (mpps, ratio) = (self.mpps.unwrap_or(0.0), self.ratio.unwrap_or(0.0));
        let Self { peer, scenario, packet_flows, .. } = self;
        write!(f, "{peer:<22} {scenario:<12} {packet_flows:>12} {mpps:>9.2} {ratio:>6.1}x")
    }
}

/// The peers' figures for the scenarios that they have.
pub fn measure(kinds: &[Kind], ours: &[PortRow], progress: &Progress) -> Result<Vec<PeerRow>> {
    crate::lab::process::catch_signals()?;
    let mut rows = Vec::new();
    progress.say("dpdk-testpmd");
    match testpmd::Testpmd::find() {
        Ok(testpmd) => {
            let pass = ours.iter().find(|row| row.scenario == Kind::Pass && row.packet_flows == 1);
            rows.extend(pass.map(|row| PeerRow::new(testpmd::NAME, row, testpmd.mpps())));
        }
        Err(error) => rows.push(PeerRow::missing(testpmd::NAME, &error)),
    }
    match ovs::Ovs::start() {
        Ok(ovs) => {
            for row in ours.iter().filter(|row| kinds.contains(&row.scenario)) {
                progress.say(&format!("Open vSwitch, {}, {} flows", row.scenario.name(), row.packet_flows));
                rows.push(PeerRow::new(ovs::NAME, row, ovs.mpps(row.scenario, row.packet_flows)));
            }
            ovs.stop();
        }
        Err(error) => rows.push(PeerRow::missing(ovs::NAME, &error)),
    }
    Ok(rows)
}

/// Processor time that the threads of process `pid` whose names start with one of `names` have used: other work on
/// the machine takes time from a peer, but does not count against it.
fn thread_time(pid: u32, names: &[&str]) -> Result<Duration> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("its threads")?;
    let mut total = None;
    for task in tasks {
        let task = task?.path();
        let name = fs::read_to_string(task.join("comm"))?;
        if names.iter().any(|known| name.starts_with(known)) {
            // proc_pid_schedstat: nanoseconds on a processor come first.
            let text = fs::read_to_string(task.join("schedstat"))?;
            let nanos = text.split_whitespace().next().unwrap_or_default().parse()?;
            total = Some(total.unwrap_or_default() + Duration::from_nanos(nanos));
        }
    }
    match total {
        Some(total) => Ok(total),
        None => bail!("it has no thread named {}*", names.join("* or ")),
    }
}
