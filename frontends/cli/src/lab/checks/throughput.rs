//! How much gets through? iperf3 by TCP and UDP, per pair and with all pairs at once.

use super::reach::in_parallel;
use crate::lab::build::Lab;
use crate::lab::netns;
use crate::lab::process::Interrupted;
use crate::lab::report::Finding;
use crate::lab::topology::{Pair, Topology};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// iperf3's own port.
pub const PORT: u16 = 5201;
const START_LIMIT: Duration = Duration::from_secs(10);
/// Time over the test's duration that iperf3 gets to connect and to exchange results.
const GRACE: Duration = Duration::from_secs(10);
/// iperf3 sets up a UDP stream by one datagram each way and waits in vain when a loaded link loses it.
const UDP_ATTEMPTS: u32 = 3;
/// What has to arrive for a measurement to count as working, in Mbit/s.
const ALIVE: f64 = 1.0;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Seconds per measurement.
    pub seconds: u32,
    /// Offered UDP rate per pair in Mbit/s.
    pub udp_rate: u32,
    /// UDP payload in octets.
    pub udp_length: u32,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, as fast as it goes.
    Tcp,
    /// UDP at the offered rate.
    Udp,
}

impl Protocol {
    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// One measurement of one pair.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// `blue-1a -> blue-1b`.
    pub way: String,
    /// What was sent.
    pub protocol: Protocol,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// Received, in Mbit/s.
    pub mbit_per_second: f64,
    /// Lost datagrams in percent (UDP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_percent: Option<f64>,
    /// Datagrams sent (UDP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<u64>,
    /// Those of them that did not arrive (UDP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Retransmitted segments (TCP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
}

/// Starts an iperf3 server in the second VM of every pair and waits until each listens.
pub fn start_servers(lab: &mut Lab) -> Result<Finding> {
    let pairs: Vec<Pair> = lab.topology.pairs().collect();
    for pair in &pairs {
        let vm = &lab.topology.vms[pair.b];
        let (name, file) = (format!("iperf3 in {}", vm.name), format!("iperf3-{}", vm.name));
        let command = netns::command(&vm.namespace, "iperf3", ["-s", "-p", &PORT.to_string()]);
        let process = lab.start(&name, command, &file)?;
        let pid = process.id.pid;
        process.wait_for(&format!("{name} listening"), START_LIMIT, || Ok(listens(pid)?.then_some(())))?;
    }
    Ok(Finding::new(format!("iperf3 listens in {} VMs", pairs.len())))
}

/// Measures one pair.
pub fn one_pair(lab: &Lab, pair: Pair, protocol: Protocol, load: Load) -> Result<Finding> {
    let figure = measure(&lab.topology, pair, protocol, load)?;
    Ok(Finding::with(figure.describe(), json!(figure)))
}

/// Measures one pair by UDP.
pub fn udp(lab: &Lab, pair: Pair, load: Load) -> Result<Figure> {
    measure(&lab.topology, pair, Protocol::Udp, load)
}

/// Measures all pairs at the same time.
pub fn all_pairs(lab: &Lab, protocol: Protocol, load: Load) -> Result<Finding> {
    let pairs: Vec<Pair> = lab.topology.pairs().collect();
    let results = in_parallel(&pairs, |pair| measure(&lab.topology, *pair, protocol, load));
    let figures = results.into_iter().collect::<Result<Vec<Figure>>>()?;
    let total: f64 = figures.iter().map(|figure| figure.mbit_per_second).sum();
    let each: Vec<String> = figures.iter().map(|figure| format!("{:.0}", figure.mbit_per_second)).collect();
    let detail = format!("{total:.0} Mbit/s together ({})", each.join(" + "));
    Ok(Finding::with(detail, json!({ "mbit_per_second": total, "pairs": figures })))
}

impl Figure {
    fn describe(&self) -> String {
        let more = match (self.lost_percent, self.retransmits) {
            (Some(lost), _) => format!(", {lost:.1} % lost"),
            (None, Some(count)) => format!(", {count} segments sent again"),
            (None, None) => String::new(),
        };
        let again = if self.attempt > 1 { format!(" (attempt {})", self.attempt) } else { String::new() };
        format!("{:.0} Mbit/s received{more}{again}", self.mbit_per_second)
    }
}

fn measure(topology: &Topology, pair: Pair, protocol: Protocol, load: Load) -> Result<Figure> {
    let attempts = if protocol == Protocol::Udp { UDP_ATTEMPTS } else { 1 };
    let mut attempt = 1;
    loop {
        match measure_once(topology, pair, protocol, load) {
            Ok(figure) => return Ok(Figure { attempt, ..figure }),
            Err(error) if attempt >= attempts || error.is::<Interrupted>() => return Err(error),
            Err(error) => tracing::warn!(attempt, error = format!("{error:#}"), "iperf3 again"),
        }
        attempt += 1;
    }
}

fn measure_once(topology: &Topology, pair: Pair, protocol: Protocol, load: Load) -> Result<Figure> {
    let (from, to) = (&topology.vms[pair.a], &topology.vms[pair.b]);
    let way = format!("{} -> {}", from.name, to.name);
    let (port, address, seconds) = (PORT.to_string(), to.ip.to_string(), load.seconds.to_string());
    let mut args: Vec<String> = vec!["-J".into(), "-c".into(), address, "-p".into(), port, "-t".into(), seconds];
    if protocol == Protocol::Udp {
        let (rate, length) = (format!("{}M", load.udp_rate), load.udp_length.to_string());
        args.extend(["-u".into(), "-b".into(), rate, "-l".into(), length]);
    }
    let limit = Duration::from_secs(load.seconds.into()) + GRACE;
    let outcome = netns::tool(&from.namespace, "iperf3", args).timeout(limit).outcome()?;
    let report: Value = serde_json::from_str(&outcome.stdout)
        .with_context(|| format!("{way}: iperf3 gave no report: {}{}", outcome.stdout, outcome.stderr))?;
    let figure = read(&report, way, protocol)?;
    ensure!(figure.mbit_per_second >= ALIVE, "{}: only {}", figure.way, figure.describe());
    Ok(figure)
}

fn read(report: &Value, way: String, protocol: Protocol) -> Result<Figure> {
    if let Some(error) = report["error"].as_str() {
        anyhow::bail!("{way}: iperf3: {error}");
    }
    let end = &report["end"];
    let received = &end["sum_received"];
    let bits = received["bits_per_second"].as_f64().with_context(|| format!("{way}: no rate in {end}"))?;
    let udp = protocol == Protocol::Udp;
    Ok(Figure {
        way,
        protocol,
        attempt: 1,
        mbit_per_second: (bits / 1e5).round() / 10.0,
        lost_percent: end["sum"]["lost_percent"].as_f64().filter(|_| udp),
        datagrams: end["sum"]["packets"].as_u64().filter(|_| udp),
        lost: end["sum"]["lost_packets"].as_u64().filter(|_| udp),
        retransmits: end["sum_sent"]["retransmits"].as_u64().filter(|_| !udp),
    })
}

/// Whether anybody listens on [`PORT`] in the network namespace of a process (proc_net_tcp: state 0A).
fn listens(pid: i32) -> Result<bool> {
    let wanted = format!(":{PORT:04X}");
    for table in ["tcp", "tcp6"] {
        // Without IPv6 there is no second table.
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        if rows.any(|row| row.get(1).is_some_and(|local| local.ends_with(&wanted)) && row.get(3) == Some(&"0A")) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receiver_s_figures_are_read() {
        let report = json!({ "end": {
            "sum": { "lost_percent": 2.5, "lost_packets": 5, "packets": 200, "bits_per_second": 3e8 },
            "sum_sent": { "bits_per_second": 3e8 },
            "sum_received": { "bits_per_second": 2.925e8 },
        }});
        let figure = read(&report, "a -> b".into(), Protocol::Udp).unwrap();
        assert_eq!((figure.mbit_per_second, figure.lost_percent), (292.5, Some(2.5)));
        assert_eq!((figure.datagrams, figure.lost), (Some(200), Some(5)));
        let error = read(&json!({ "error": "no route" }), "a -> b".into(), Protocol::Tcp).unwrap_err();
        assert!(error.to_string().contains("no route"), "{error}");
    }
}
