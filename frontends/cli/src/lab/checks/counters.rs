//! Do the vNICs' own counters agree with what happened?

use crate::lab::build::Lab;
use crate::lab::report::Finding;
use crate::lab::topology::Vm;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a flow stops.
pub const POLICY: &str = "policy";
/// Drops that belong to a sound laboratory: what the isolation flow stops, and the forged control frames.
const EXPECTED: [&str; 2] = [POLICY, "control_from_host"];
/// Encrypted, also what a VM sends before its vNIC has a key.
const WITHOUT_KEY: &str = "esp_no_sa";

/// Frames that a vNIC's engine dropped, by direction (`tx`, `rx`) and reason, from `cvsw stats --json`.
pub fn drops(stats: &Value, direction: &str) -> Result<BTreeMap<String, u64>> {
    let drops = &stats["engine"][direction]["drops"];
    let reasons =
        drops.as_object().with_context(|| format!("no engine.{direction}.drops in the counters: {stats}"))?;
    let counted = reasons.iter().filter_map(|(reason, count)| Some((reason.clone(), count.as_u64()?)));
    Ok(counted.filter(|(_, count)| *count > 0).collect())
}

/// Drops of one reason.
pub fn dropped(stats: &Value, direction: &str, reason: &str) -> Result<u64> {
    Ok(drops(stats, direction)?.get(reason).copied().unwrap_or_default())
}

/// Frames from the network that all vNICs together dropped by a flow: other networks' multicast, above all.
pub fn kept_out(lab: &Lab) -> Result<u64> {
    lab.topology.vms.iter().map(|vm| dropped(&lab.vnic_stats(vm)?, "rx", POLICY)).sum()
}

/// No vNIC dropped anything for a reason that a sound laboratory does not have, or let pass what no flow matched.
pub fn nothing_unexplained(lab: &Lab) -> Result<Finding> {
    let mut frames = 0;
    let mut total: BTreeMap<String, u64> = BTreeMap::new();
    for vm in &lab.topology.vms {
        let stats = lab.vnic_stats(vm)?;
        for direction in ["tx", "rx"] {
            frames += judge(vm, &stats, direction, lab.topology.cipher.is_some(), &mut total)?;
        }
    }
    let list: Vec<String> = total.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let detail =
        format!("{frames} frames; dropped: {}", if list.is_empty() { "none".into() } else { list.join(", ") });
    Ok(Finding::with(detail, json!({ "frames": frames, "drops": total })))
}

fn judge(
    vm: &Vm,
    stats: &Value,
    direction: &str,
    encrypted: bool,
    total: &mut BTreeMap<String, u64>,
) -> Result<u64> {
    for (reason, count) in drops(stats, direction)? {
        let expected = EXPECTED.contains(&&*reason) || (encrypted && reason == WITHOUT_KEY);
        ensure!(expected, "{} dropped {count} {direction} frames: {reason}", vm.name);
        *total.entry(reason).or_default() += count;
    }
    let side = &stats["engine"][direction];
    let missed = side["missed"].as_u64().context("no count of frames without a flow")?;
    ensure!(missed == 0, "{missed} {direction} frames of {} matched no flow and passed unchanged", vm.name);
    side["frames"].as_u64().context("no count of frames")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::topology::{Plan, Topology};

    fn stats(drops: Value, missed: u64) -> Value {
        json!({ "engine": { "tx": { "frames": 9, "missed": missed, "drops": drops } } })
    }

    #[test]
    fn counters_of_another_shape_are_an_error_not_a_zero() {
        assert_eq!(dropped(&stats(json!({ "policy": 3 }), 0), "tx", "policy").unwrap(), 3);
        assert_eq!(dropped(&stats(json!({}), 0), "tx", "policy").unwrap(), 0);
        dropped(&json!({ "counters": 3 }), "tx", "policy").unwrap_err();
    }

    #[test]
    fn unexplained_drops_and_unmatched_frames_are_found() {
        let lab = Topology::new("t", Plan { pairs: 1, networks: 1, unikernels: 0, cipher: None, offloads: false })
            .unwrap();
        let judge = |stats: &Value| judge(&lab.vms[0], stats, "tx", false, &mut BTreeMap::new());
        assert_eq!(judge(&stats(json!({ "policy": 3, "no_headroom": 0 }), 0)).unwrap(), 9);
        assert!(judge(&stats(json!({ "no_headroom": 1 }), 0)).unwrap_err().to_string().contains("no_headroom"));
        assert!(judge(&stats(json!({}), 1)).unwrap_err().to_string().contains("matched no flow"));
    }
}
