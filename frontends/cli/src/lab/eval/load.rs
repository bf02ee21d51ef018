//! One measurement: iperf3 between the VMs of some pairs at the same time, and the processor time that it took.

use super::cpu::{self, Part, Placement};
use super::plan::{Load, Way};
use super::result::Sample;
use super::rig::Rig;
use crate::lab::cgroup;
use crate::lab::checks::{reach::in_parallel, throughput::PORT};
use crate::lab::process::{Interrupted, Tool};
use crate::lab::topology::Pair;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::time::Duration;

/// Time over the test's duration that iperf3 gets to connect and to exchange results.
const GRACE: Duration = Duration::from_secs(6);
/// iperf3 sets up a UDP stream by one datagram each way and waits in vain when a loaded link loses it.
const ATTEMPTS: usize = 3;

/// A sender runs when its core has nothing else to do (SCHED_IDLE). So the way through vNIC and switch goes first, as a
/// driver and its interrupts do before a VM's programs, and a sender cannot take the time that its own frames need.
const IN_SPARE_TIME: [&str; 3] = ["chrt", "--idle", "0"];

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Seconds of each measurement.
    pub seconds: u32,
    /// UDP rate that each sender offers, in Mbit/s; 0: as fast as it can.
    pub udp_rate: u32,
    /// Where the programs run.
    pub placement: Placement,
}

/// What iperf3 says of one pair.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stream {
    mbit_per_second: f64,
    lost_percent: Option<f64>,
    retransmits: Option<u64>,
    /// Processor time of the sender.
    sender_seconds: f64,
}

/// Lets the first `pairs` pairs send at the same time.
pub fn measure(rig: &Rig, pairs: u8, load: Load, settings: Settings) -> Result<Sample> {
    let senders: Vec<Pair> = rig.lab.topology.pairs().take(pairs.into()).collect();
    // Nothing comes through: asking again does not help.
    let hopeless = matches!(rig.setup.way, Way::ExistingFragments);
    for attempt in 1.. {
        let before = cpu::now(&rig.lab)?;
        let streams: Result<Vec<Stream>> =
            in_parallel(&senders, |pair| stream(rig, *pair, load, settings)).into_iter().collect();
        let after = cpu::now(&rig.lab)?;
        match streams {
            Ok(streams) => {
                let sent = streams.iter().map(|stream| stream.sender_seconds).sum();
                return Ok(sample(&streams, cpu::between(before, after, sent)));
            }
            Err(error) if attempt >= ATTEMPTS || hopeless || error.is::<Interrupted>() => return Err(error),
            Err(error) => tracing::debug!(attempt, error = format!("{error:#}"), "iperf3 again"),
        }
    }
    bail!("no attempt was made")
}

fn sample(streams: &[Stream], cpu: cpu::Seconds) -> Sample {
    let mean = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    Sample {
        mbit_per_second: streams.iter().map(|stream| stream.mbit_per_second).collect(),
        lost_percent: mean(streams.iter().filter_map(|stream| stream.lost_percent).collect()),
        retransmits: streams.iter().filter_map(|stream| stream.retransmits).reduce(|a, b| a + b),
        cpu,
    }
}

fn stream(rig: &Rig, pair: Pair, load: Load, settings: Settings) -> Result<Stream> {
    let (from, to) = (&rig.lab.topology.vms[pair.a], &rig.lab.topology.vms[pair.b]);
    let (port, address, seconds) = (PORT.to_string(), to.ip.to_string(), settings.seconds.to_string());
    let mut words: Vec<String> = Vec::new();
    if let Some(group) = rig.group(from)? {
        // Before the namespace is entered: inside, other file systems lie where control groups are.
        words.extend(cgroup::joining(&group));
    }
    words.extend(["ip", "netns", "exec", &from.namespace].map(str::to_owned));
    let cores = settings.placement.cores(Part::Application, from.server, cpu::cores());
    if !cores.is_empty() {
        let list: Vec<String> = cores.iter().map(ToString::to_string).collect();
        words.extend(["taskset".into(), "-c".into(), list.join(",")]);
    }
    words.extend(IN_SPARE_TIME.map(str::to_owned));
    words.extend(["iperf3", "-J", "-c", &address, "-p", &port, "-t", &seconds].map(str::to_owned));
    if let Load::Udp(octets) = load {
        words
            .extend(["-u", "-b", &format!("{}M", settings.udp_rate), "-l", &octets.to_string()].map(str::to_owned));
    }
    let limit = Duration::from_secs(settings.seconds.into()) + GRACE;
    let outcome = Tool::new(&words[0], &words[1..]).timeout(limit).outcome()?;
    let report: Value = serde_json::from_str(&outcome.stdout)
        .with_context(|| format!("iperf3 in {} gave no report: {}{}", from.name, outcome.stdout, outcome.stderr))?;
    read(&report, load).with_context(|| format!("iperf3 in {}", from.name))
}

fn read(report: &Value, load: Load) -> Result<Stream> {
    if let Some(error) = report["error"].as_str() {
        bail!("{error}");
    }
    let end = &report["end"];
    let received = &end["sum_received"];
    let bits = received["bits_per_second"].as_f64().with_context(|| format!("no rate in {end}"))?;
    let sent = &end["sum_sent"]["seconds"];
    let seconds = sent.as_f64().or_else(|| received["seconds"].as_f64()).unwrap_or_default();
    let busy = end["cpu_utilization_percent"]["host_total"].as_f64().unwrap_or_default();
    let udp = load != Load::Tcp;
    Ok(Stream {
        mbit_per_second: bits / 1e6,
        lost_percent: end["sum"]["lost_percent"].as_f64().filter(|_| udp),
        retransmits: end["sum_sent"]["retransmits"].as_u64().filter(|_| !udp),
        sender_seconds: busy / 100.0 * seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_is_read() {
        let report = json!({ "end": {
            "sum": { "lost_percent": 2.5 },
            "sum_sent": { "retransmits": 7, "seconds": 2.0 },
            "sum_received": { "bits_per_second": 2.925e8, "seconds": 2.1 },
            "cpu_utilization_percent": { "host_total": 50.0 },
        }});
        let expected =
            Stream { mbit_per_second: 292.5, lost_percent: Some(2.5), retransmits: None, sender_seconds: 1.0 };
        assert_eq!(read(&report, Load::Udp(64)).unwrap(), expected);
        assert_eq!(read(&report, Load::Tcp).unwrap().retransmits, Some(7));
        let error = read(&json!({ "error": "no route" }), Load::Tcp).unwrap_err();
        assert!(error.to_string().contains("no route"), "{error}");
        read(&json!({ "end": {} }), Load::Tcp).unwrap_err();
    }

    #[test]
    fn pairs_are_kept_apart_and_loss_is_their_mean() {
        let stream = |mbit, lost| Stream {
            mbit_per_second: mbit,
            lost_percent: Some(lost),
            retransmits: None,
            sender_seconds: 0.5,
        };
        let sample = sample(&[stream(10.0, 0.0), stream(30.0, 4.0)], cpu::Seconds::default());
        assert_eq!(
            (sample.mbit_per_second, sample.lost_percent, sample.retransmits),
            (vec![10.0, 30.0], Some(2.0), None)
        );
    }
}
