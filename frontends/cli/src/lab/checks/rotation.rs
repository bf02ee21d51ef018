//! Are keys exchanged without losing a packet?
//!
//! Between two VMs there are queues that drop under load, keys or not: Open vSwitch's, the kernel's, the receiving
//! program's. So every place counts what it lost, on the datagrams' whole way, and the exchange is judged by the
//! vNICs' own counters.

use super::{counters, throughput};
use crate::lab::build::Lab;
use crate::lab::netns;
use crate::lab::process::wait_for;
use crate::lab::report::Finding;
use crate::lab::topology::{Pair, VM_NIC, Vm};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

/// Exchanges during the traffic.
const ROTATIONS: u64 = 3;
const ROTATION_LIMIT: Duration = Duration::from_secs(15);
/// Long enough for the exchanges on a busy machine.
const SECONDS: u32 = 10;
/// One datagram is one frame.
const LONGEST: u32 = 1200;

/// Replaces every key several times while UDP at the offered rate runs through the first pair. The vNICs must not lose a
/// frame, and what was lost elsewhere must be all that the receiver misses.
pub fn under_traffic(lab: &Lab, pair: Pair, offered: throughput::Load) -> Result<Finding> {
    let before = (Ledger::read(lab, pair)?, rotations(lab)?);
    let load = throughput::Load {
        seconds: SECONDS,
        udp_length: offered.udp_length.min(LONGEST),
        udp_rate: offered.udp_rate,
    };
    let figure = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| throughput::udp(lab, pair, load));
        for round in 1..=ROTATIONS {
            lab.signal("controller", Signal::USR1)?;
            wait_for("new keys", ROTATION_LIMIT, || Ok((rotations(lab)? >= before.1 + round).then_some(())))?;
        }
        ensure!(!traffic.is_finished(), "the keys were not exchanged while traffic ran");
        traffic.join().ok().context("the measurement has panicked")?
    })?;
    let losses = Ledger::read(lab, pair)?.since(&before.0);
    let datagrams = figure.datagrams.context("iperf3 counts no datagrams")?;
    losses.judge(figure.lost.context("iperf3 tells no loss")?)?;
    let detail = format!(
        "every key replaced {ROTATIONS} times during {SECONDS} s of UDP at {:.1} Mbit/s, {datagrams} datagrams; lost by the \
         vNICs: nothing; by queues between the VMs: {}",
        figure.mbit_per_second,
        losses.elsewhere()
    );
    let data = json!({
        "rotations": ROTATIONS,
        "datagrams": datagrams,
        "lost": figure.lost,
        "lost_by_vnics": losses.vnics,
        "lost_in_switches": losses.switches,
        "lost_in_queues": losses.queues,
    });
    Ok(Finding::with(detail, data))
}

/// How often the key that was replaced least often was replaced.
fn rotations(lab: &Lab) -> Result<u64> {
    let status = lab.controller_status()?;
    let channels = status["encrypted"].as_array().context("the controller's status lists no encrypted pairs")?;
    let counts = channels.iter().filter(|channel| channel["state"] != "waiting").map(|channel: &Value| {
        channel["rotations"].as_u64().context("an encrypted pair without a count of its keys")
    });
    counts.collect::<Result<Vec<_>>>()?.into_iter().min().context("nothing is encrypted")
}

/// Counters on the way from the first VM of a pair to the second, read at one moment.
#[derive(Clone, Copy, Debug)]
struct Ledger {
    /// Frames that any vNIC's engine dropped, except by a flow that says so.
    vnics: u64,
    /// What the sender's vNIC has sent.
    sent: u64,
    /// What has come to the receiver's, without control frames and what a flow stops (other networks' broadcasts).
    arrived: u64,
    /// What the other vNICs have sent: some of it may be among what has arrived.
    others: u64,
    /// Drops of queues at both ends: taps, the ports' rings, sockets.
    queues: u64,
}

impl Ledger {
    fn read(lab: &Lab, pair: Pair) -> Result<Self> {
        let mut ledger = Self { vnics: 0, sent: 0, arrived: 0, others: 0, queues: 0 };
        for (index, vm) in lab.topology.vms.iter().enumerate() {
            let stats = lab.vnic_stats(vm)?;
            let (stopped, dropped) = engine_drops(&stats)?;
            let sent = number(&stats["engine"]["tx"]["forwarded"])?;
            ledger.vnics += dropped;
            if index == pair.a {
                ledger.sent = sent;
            } else {
                ledger.others += sent;
            }
            if index == pair.b {
                let rx = &stats["engine"]["rx"];
                ledger.arrived = number(&rx["frames"])? - number(&rx["consumed"])? - stopped;
            }
            if index == pair.a || index == pair.b {
                ledger.queues += port_drops(&stats)? + vm_drops(vm)?;
            }
        }
        Ok(ledger)
    }

    fn since(&self, before: &Self) -> Losses {
        Losses {
            vnics: self.vnics - before.vnics,
            switches: (self.sent - before.sent).saturating_sub(self.arrived - before.arrived),
            queues: self.queues - before.queues,
            others: self.others - before.others,
        }
    }
}

/// Where frames got lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Losses {
    vnics: u64,
    /// Between the two vNICs.
    switches: u64,
    queues: u64,
    /// Frames from elsewhere that may hide as many losses.
    others: u64,
}

impl Losses {
    /// `missed`: datagrams that the receiving program has not got.
    fn judge(&self, missed: u64) -> Result<()> {
        ensure!(self.vnics == 0, "the vNICs dropped {} frames during the exchange", self.vnics);
        let explained = self.switches + self.queues + self.others;
        ensure!(
            missed <= explained,
            "the receiver misses {missed} datagrams, but the queues between the VMs dropped only {explained}"
        );
        Ok(())
    }

    fn elsewhere(&self) -> String {
        match (self.switches, self.queues) {
            (0, 0) => "nothing".to_owned(),
            (switches, queues) => format!("{switches} in Open vSwitch, {queues} in taps, rings and sockets"),
        }
    }
}

/// Frames that an engine dropped: because a flow says so, and for every other reason.
fn engine_drops(stats: &Value) -> Result<(u64, u64)> {
    let stopped = counters::dropped(stats, "rx", counters::POLICY)?;
    let mut all = 0;
    for direction in ["tx", "rx"] {
        let drops = counters::drops(stats, direction)?;
        all += drops.iter().filter(|(reason, _)| *reason != counters::POLICY).map(|(_, count)| count).sum::<u64>();
    }
    Ok((stopped, all))
}

/// Drops of the rings and descriptors below a vNIC.
fn port_drops(stats: &Value) -> Result<u64> {
    let mut sum = 0;
    for side in ["host", "net"] {
        let drops = stats["ports"][side]["drops"].as_object().context("a port without counters of drops")?;
        sum += drops.values().map(number).sum::<Result<u64>>()?;
    }
    Ok(sum)
}

/// Drops inside a VM: what its tap did not take, and what its UDP sockets had no room for.
fn vm_drops(vm: &Vm) -> Result<u64> {
    let text = netns::tool(&vm.namespace, "ip", ["-json", "-s", "link", "show", "dev", VM_NIC]).run()?;
    let link: Value = serde_json::from_str(&text).context("reading `ip -json -s link`")?;
    let stats = &link[0]["stats64"];
    let tap = number(&stats["tx"]["dropped"])? + number(&stats["rx"]["dropped"])?;
    let text = netns::tool(&vm.namespace, "cat", ["/proc/net/snmp"]).run()?;
    Ok(tap + udp_errors(&text)?)
}

/// `RcvbufErrors` of a `/proc/net/snmp`: a line of names, and below it one of values.
fn udp_errors(snmp: &str) -> Result<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = lines.next().zip(lines.next()).context("no UDP in /proc/net/snmp")?;
    let at = names.split_whitespace().position(|name| name == "RcvbufErrors").context("no RcvbufErrors")?;
    values.split_whitespace().nth(at).context("a name without a value")?.parse().context("RcvbufErrors")
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no counter"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_vnics_drop_is_never_excused() {
        let losses = Losses { vnics: 1, switches: 100, queues: 100, others: 0 };
        assert!(losses.judge(1).unwrap_err().to_string().contains("dropped 1 frames"));
    }

    #[test]
    fn what_no_queue_dropped_is_not_excused() {
        let losses = Losses { vnics: 0, switches: 3, queues: 2, others: 1 };
        losses.judge(6).unwrap();
        losses.judge(7).unwrap_err();
        assert_eq!(losses.elsewhere(), "3 in Open vSwitch, 2 in taps, rings and sockets");
    }

    #[test]
    fn losses_are_differences() {
        let before = Ledger { vnics: 5, sent: 100, arrived: 90, others: 7, queues: 1 };
        let after = Ledger { vnics: 5, sent: 300, arrived: 288, others: 8, queues: 4 };
        assert_eq!(after.since(&before), Losses { vnics: 0, switches: 2, queues: 3, others: 1 });
    }

    #[test]
    fn socket_errors_are_found_by_name() {
        let snmp = "Tcp: A\nTcp: 1\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 1 2 3 4 5\n";
        assert_eq!(udp_errors(snmp).unwrap(), 5);
        udp_errors("Udp: InDatagrams\nUdp: 1\n").unwrap_err();
    }
}
