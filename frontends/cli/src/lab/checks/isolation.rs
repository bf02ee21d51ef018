//! Do the networks stay apart although they use the same inner addresses?

use super::counters::kept_out;
use super::reach::{in_parallel, ping};
use crate::lab::build::Lab;
use crate::lab::netns;
use crate::lab::report::Finding;
use crate::lab::topology::{VM_NIC, Vm};
use anyhow::{Context, Result, ensure};
use serde_json::json;

/// UDP questions per VM, each a flow of its own.
const QUESTIONS: u16 = 8;

/// Each VM asks the address of its peer who is there, by TCP and UDP: the peer of its own network must answer, although
/// a VM of another network has the same address.
pub fn own_peer_answers(lab: &Lab) -> Result<Finding> {
    let ways: Vec<(&Vm, &Vm)> = lab
        .topology
        .pairs()
        .flat_map(|pair| [(pair.a, pair.b), (pair.b, pair.a)])
        .map(|(from, to)| (&lab.topology.vms[from], &lab.topology.vms[to]))
        .collect();
    let answers = in_parallel(&ways, |(from, to)| {
        let said = lab.agent(from, &["ask", &to.ip.to_string(), "--questions", &QUESTIONS.to_string()])?;
        let strangers: Vec<&str> = said.lines().filter(|line| line.split(' ').nth(1) != Some(&*to.name)).collect();
        ensure!(strangers.is_empty(), "{} asked {} and heard {strangers:?}, not {}", from.name, to.ip, to.name);
        let heard = said.lines().count();
        ensure!(heard == usize::from(QUESTIONS) + 1, "{} asked {} and heard {heard} answers", from.name, to.ip);
        Ok(heard)
    });
    let mut total = 0;
    for answer in answers {
        total += answer?;
    }
    let shared = lab.topology.vms.iter().filter(|vm| twins(lab, vm) > 0).count();
    let detail =
        format!("{total} answers by TCP and UDP, each from the own network; {shared} VMs share their address");
    Ok(Finding::with(detail, json!({ "answers": total, "vms_with_shared_address": shared })))
}

/// A VM of another network reaches nobody here even when it knows inner IP and MAC address.
pub fn strangers_stay_out(lab: &Lab) -> Result<Finding> {
    let topology = &lab.topology;
    let mut attempts = Vec::new();
    for (index, network) in topology.networks.iter().enumerate() {
        let mut members = topology.members(index);
        let (Some(neighbour), Some(owner)) = (members.next(), members.next()) else { continue };
        netns::ip(&owner.namespace, &format!("addr add {}/24 dev {VM_NIC}", network.landmark))?;
        let control = ping(neighbour, network.landmark, &[])?;
        ensure!(
            control.received > 0,
            "{} does not reach {} of its own network: the attempts of strangers would prove nothing",
            neighbour.name,
            network.landmark
        );
        attempts
            .extend(topology.vms.iter().filter(|vm| vm.network != index).map(|vm| (vm, owner, network.landmark)));
    }
    let before = kept_out(lab)?;
    let results = in_parallel(&attempts, |&(stranger, owner, landmark)| {
        // First as any VM would, by ARP; then with the answer to ARP given in advance.
        let by_arp = ping(stranger, landmark, &[])?;
        netns::ip(&stranger.namespace, &format!("neigh replace {landmark} lladdr {} dev {VM_NIC}", owner.mac))?;
        let by_mac = ping(stranger, landmark, &[])?;
        netns::ip(&stranger.namespace, &format!("neigh del {landmark} dev {VM_NIC}"))?;
        let received = by_arp.received + by_mac.received;
        ensure!(received == 0, "{} got {received} replies from {} of another network", stranger.name, owner.name);
        Ok(by_arp.sent + by_mac.sent)
    });
    let mut sent = 0;
    for result in results {
        sent += result.context("a VM crossed the border of its network")?;
    }
    ensure!(!attempts.is_empty(), "only one network: nobody to keep out");
    let stopped = kept_out(lab)? - before;
    ensure!(stopped > 0, "nothing of the attempts came as far as another network's vNIC: they prove nothing");
    let tries = attempts.len();
    let detail =
        format!("{tries} tries, {sent} echo requests, no reply; {stopped} frames stopped by strangers' vNICs");
    Ok(Finding::with(detail, json!({ "attempts": tries, "requests": sent, "replies": 0, "stopped": stopped })))
}

fn twins(lab: &Lab, vm: &Vm) -> usize {
    lab.topology.vms.iter().filter(|other| other.network != vm.network && other.ip == vm.ip).count()
}
