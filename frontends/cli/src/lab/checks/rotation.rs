//! Are keys exchanged without losing a packet?

use super::{counters, throughput};
use crate::lab::build::Lab;
use crate::lab::process::wait_for;
use crate::lab::report::Finding;
use crate::lab::topology::Pair;
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

/// Exchanges during the traffic.
const ROTATIONS: u64 = 3;
const ROTATION_LIMIT: Duration = Duration::from_secs(15);
/// Rates to try, in Mbit/s: the path has to take one of them without a loss when no key is exchanged.
const RATES: [u32; 3] = [20, 5, 1];
const TRIAL_SECONDS: u32 = 2;
const SECONDS: u32 = 8;
/// A busy machine loses a datagram now and then, keys or not. What could not be sealed or opened is never excused.
const ATTEMPTS: u32 = 3;

/// Replaces every key several times while UDP runs through the first pair; nothing may be lost, by the vNICs' counters and
/// by the receiver's.
pub fn under_traffic(lab: &Lab, pair: Pair) -> Result<Finding> {
    let trial = |rate: &u32| {
        let figure = throughput::udp(lab, pair, load(*rate, TRIAL_SECONDS))?;
        Ok::<_, anyhow::Error>((figure.lost_percent == Some(0.0)).then_some(*rate))
    };
    let rate = RATES.iter().find_map(|rate| trial(rate).transpose()).unwrap_or(Ok(1))?;
    let mut attempt = 1;
    loop {
        let (figure, dropped) = exchange(lab, pair, rate)?;
        ensure!(dropped == 0, "{dropped} packets could not be sealed or opened during the exchange");
        let lost = figure.lost_percent.context("iperf3 tells no loss")?;
        if lost > 0.0 && attempt < ATTEMPTS {
            attempt += 1;
            continue;
        }
        ensure!(lost == 0.0, "{lost} % of the datagrams were lost, {ATTEMPTS} times");
        let detail = format!(
            "every key replaced {ROTATIONS} times during {SECONDS} s of UDP at {:.1} Mbit/s; lost: nothing{}",
            figure.mbit_per_second,
            if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() }
        );
        let data =
            json!({ "rotations": ROTATIONS, "lost_percent": lost, "undecipherable": dropped, "attempt": attempt });
        return Ok(Finding::with(detail, data));
    }
}

fn load(rate: u32, seconds: u32) -> throughput::Load {
    throughput::Load { seconds, udp_rate: rate, udp_length: 1200 }
}

/// Traffic with exchanges in it; what it came to, and how many packets could not be sealed or opened.
fn exchange(lab: &Lab, pair: Pair, rate: u32) -> Result<(throughput::Figure, u64)> {
    let (drops, before) = (counters::cipher_drops(lab)?, rotations(lab)?);
    let figure = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| throughput::udp(lab, pair, load(rate, SECONDS)));
        for round in 1..=ROTATIONS {
            lab.signal("controller", Signal::USR1)?;
            wait_for("new keys", ROTATION_LIMIT, || Ok((rotations(lab)? >= before + round).then_some(())))?;
        }
        ensure!(!traffic.is_finished(), "the keys were not exchanged while traffic ran");
        traffic.join().ok().context("the measurement has panicked")?
    })?;
    Ok((figure, counters::cipher_drops(lab)? - drops))
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
