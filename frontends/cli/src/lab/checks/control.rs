//! Does the controller know every vNIC, and does every vNIC obey it?

use crate::lab::build::{CONTROLLER_LOG, Lab};
use crate::lab::netns;
use crate::lab::process::{wait_for, with_log};
use crate::lab::report::Finding;
use crate::lab::topology::{UNDERLAY_MTU, VM_NIC, Vm};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::time::Duration;

/// Open vSwitch waits up to 8 s between attempts to reach a controller.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
const REGISTER_LIMIT: Duration = Duration::from_secs(30);
const MTU_LIMIT: Duration = Duration::from_secs(10);
/// The state of a vNIC that has confirmed everything the controller wants of it.
const READY: &str = "ready";

/// What the controller knows of a vNIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What the vNIC is doing.
    pub state: String,
    /// Datapath and port where it is.
    pub place: String,
    /// How often it has registered.
    pub registrations: u64,
}

/// Before the controller comes, a VM sees an ordinary Ethernet NIC.
pub fn ordinary_mtu(lab: &Lab) -> Result<Finding> {
    for vm in &lab.topology.vms {
        let found = netns::interfaces(&vm.namespace)?;
        ensure!(found == [VM_NIC], "{} has the interfaces {found:?}, not only the tap {VM_NIC}", vm.name);
        let mtu = netns::mtu(&vm.namespace, VM_NIC)?;
        ensure!(mtu == UNDERLAY_MTU, "{} starts with MTU {mtu}, not {UNDERLAY_MTU}", vm.name);
    }
    Ok(Finding::with(format!("{UNDERLAY_MTU} in {} VMs", lab.topology.vms.len()), json!({ "mtu": UNDERLAY_MTU })))
}

/// Waits until the controller has every switch, its handshake done.
pub fn switches_connected(lab: &mut Lab) -> Result<Finding> {
    let wanted: Vec<String> = lab.topology.servers.iter().map(|server| datapath(server.datapath_id)).collect();
    let waited = wait_for("all switches connected to the controller", CONNECT_LIMIT, || {
        lab.check_processes()?;
        let status = lab.controller_status()?;
        let switches = status["switches"].as_array().context("the controller's status lists no switches")?;
        let is_up =
            |id: &String| switches.iter().any(|switch| switch["datapath_id"] == **id && switch["up"] == true);
        Ok(wanted.iter().all(is_up).then_some(()))
    });
    lab.explain(waited, CONTROLLER_LOG).map_err(|error| {
        let logs = lab.switches.iter().map(|switch| switch.log());
        logs.fold(error, |error, log| with_log(error, "ovs-vswitchd", &log))
    })?;
    Ok(Finding::new(format!("datapaths {} over OpenFlow 1.0", wanted.join(" and "))))
}

/// Waits until the controller has registered every vNIC, where it is, and each has confirmed its entries.
pub fn all_registered(lab: &mut Lab) -> Result<Finding> {
    let mut last = String::new();
    let waited = wait_for("all vNICs registered and configured", REGISTER_LIMIT, || {
        lab.check_processes()?;
        let status = lab.controller_status()?;
        let mut missing = not_ready(lab, &status);
        if missing.is_empty() && status["converged"] != true {
            missing.push("keys are on their way".to_owned());
        }
        last = missing.join(", ");
        Ok(missing.is_empty().then_some(status))
    });
    let status = lab.explain(waited.with_context(|| format!("not ready: {last}")), CONTROLLER_LOG)?;
    for vm in lab.topology.vnics() {
        let found = registration(&status, vm)?;
        let expected = place(lab.topology.servers[vm.server].datapath_id, vm.ofport);
        ensure!(found.place == expected, "{} registered at {}, not at {expected}", vm.name, found.place);
    }
    let count = lab.topology.vnics().count();
    let versions = protocols(&status)?;
    if lab.topology.cipher.is_some() {
        // Unikernels have no control key.
        let expected = versions.first().is_some_and(|version| version == "3, authenticated")
            || (!lab.topology.unikernels.is_empty() && versions.contains(&"3, authenticated".to_owned()));
        ensure!(expected, "the control protocol is version {}", versions.join(" and "));
    }
    Ok(Finding::with(
        format!(
            "{count} vNICs, each at its switch and port, entries confirmed; control protocol version {}",
            versions.join(" and ")
        ),
        json!({ "vnics": count, "control_protocol": versions }),
    ))
}

/// The MTU inside each VM, read there: room for the tunnel's headers, set by the controller.
pub fn tunnel_mtu(lab: &Lab) -> Result<Finding> {
    let expected = lab.topology.inner_mtu();
    for vm in &lab.topology.vms {
        let mut found = 0;
        wait_for(&format!("MTU {expected} in {}", vm.name), MTU_LIMIT, || {
            found = netns::mtu(&vm.namespace, VM_NIC)?;
            Ok((found == expected).then_some(()))
        })
        .with_context(|| format!("{} has MTU {found}", vm.name))?;
    }
    let detail = format!("{expected} in {} VMs, set by the controller", lab.topology.vms.len());
    Ok(Finding::with(detail, json!({ "mtu": expected })))
}

/// What the controller's status says of a vNIC.
pub fn registration(status: &Value, vm: &Vm) -> Result<Registration> {
    let mac = vm.mac.to_string();
    let vnics = status["vnics"].as_array().context("the controller's status lists no vNICs")?;
    let Some(vnic) = vnics.iter().find(|vnic| vnic["mac"] == *mac) else { bail!("{} is unknown", vm.name) };
    let state = vnic["state"].as_str().context("a vNIC without a state")?.to_owned();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let place = format!("{} port {}", text(&vnic["switch"]), text(&vnic["port"]));
    Ok(Registration { state, place, registrations: vnic["registrations"].as_u64().unwrap_or_default() })
}

/// The versions of the control protocol that are spoken.
fn protocols(status: &Value) -> Result<Vec<String>> {
    let vnics = status["vnics"].as_array().context("the controller's status lists no vNICs")?;
    let name = |vnic: &Value| {
        let authenticated = if vnic["authenticated"] == true { ", authenticated" } else { "" };
        format!("{}{authenticated}", vnic["protocol"])
    };
    let mut versions: Vec<String> = vnics.iter().map(name).collect();
    versions.sort();
    versions.dedup();
    Ok(versions)
}

/// A datapath identifier as the controller writes it.
fn datapath(id: u64) -> String {
    format!("{id:016x}")
}

fn place(id: u64, port: u16) -> String {
    format!("{} port {port}", datapath(id))
}

fn not_ready(lab: &Lab, status: &Value) -> Vec<String> {
    let state = |vm: &Vm| match registration(status, vm) {
        Ok(found) if found.state == READY => None,
        Ok(found) => Some(format!("{} is {}", vm.name, found.state)),
        Err(error) => Some(error.to_string()),
    };
    lab.topology.vnics().filter_map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::topology::{Plan, Topology};

    #[test]
    fn a_vnic_is_found_by_its_mac() {
        let lab = Topology::new("t", Plan { pairs: 1, networks: 1, unikernels: 0, cipher: None, offloads: false })
            .unwrap();
        let status = json!({ "vnics": [
            { "mac": "02:00:00:00:01:01", "state": "ready", "switch": "0000000000000001", "port": 2, "registrations": 1 },
        ]});
        let found = registration(&status, &lab.vms[0]).unwrap();
        assert_eq!(found, Registration { state: "ready".into(), place: place(1, 2), registrations: 1 });
        assert!(registration(&status, &lab.vms[1]).unwrap_err().to_string().contains("blue-1b is unknown"));
    }
}
