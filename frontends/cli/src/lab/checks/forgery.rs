//! A VM that forges control frames: its own vNIC drops and counts them, and nobody else ever sees one.

use super::control::{Registration, registration};
use super::counters::dropped;
use super::reach::{ECHOES, every_echo};
use super::wire::decryption;
use crate::lab::build::Lab;
use crate::lab::netns;
use crate::lab::process::wait_for;
use crate::lab::report::Finding;
use crate::lab::topology::{Mac, VM_NIC, Vm};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(15);
const WATCH: &str = "tshark at the forger's vNIC";
/// EtherType of control frames.
const CONTROL_TYPE: &str = "abba";
/// Padding behind a forged frame, by which it is told from the controller's and the vNIC's own frames.
const MARK: &str = "CVSW-LAB-FORGED";

/// Sends a forged HELLO, REGISTER and SET_MTU from the first VM's tap, while tshark watches what leaves its vNIC.
pub fn forged_control_frames(lab: &mut Lab) -> Result<Finding> {
    let (forger, victim) = (lab.topology.vms[0].clone(), lab.topology.vms[1].clone());
    let frames = forged(&forger, &victim);
    let sent = frames.len() as u64;
    let log = watch(lab, &forger)?;
    let before = Snapshot::take(lab, &forger, &victim)?;
    let mut args = vec!["forge", VM_NIC];
    args.extend(frames.iter().map(String::as_str));
    lab.agent(&forger, &args)?;
    wait_for("the vNIC's counter of forged control frames", LIMIT, || {
        Ok((drops_from_host(lab, &forger)? >= before.dropped + sent).then_some(()))
    })?;
    // What was sent before these echoes would have left the vNIC before them.
    every_echo(&forger, &victim, &[])?;
    wait_for("the echoes in the capture", LIMIT, || {
        Ok((seen(&log, ":icmp")? >= 2 * ECHOES as usize).then_some(()))
    })?;
    lab.end(WATCH, Signal::INT, LIMIT)?;
    let left = seen(&log, CONTROL_TYPE)?;
    ensure!(left == 0, "{left} of {sent} forged frames left the vNIC of {}", forger.name);
    let after = Snapshot::take(lab, &forger, &victim)?;
    let dropped = after.dropped - before.dropped;
    ensure!(dropped == sent, "{dropped} drops counted for {sent} forged frames");
    ensure!(after.mtus == before.mtus, "a forged frame changed MTUs from {:?} to {:?}", before.mtus, after.mtus);
    ensure!(after.victim == before.victim, "a forged frame changed what the controller knows of {}", victim.name);
    let detail =
        format!("{sent} frames (HELLO, REGISTER, SET_MTU): all dropped and counted by the vNIC, none left it");
    Ok(Finding::with(detail, json!({ "sent": sent, "dropped": dropped, "left": left })))
}

/// Starts tshark at the forger's side of its switch port. It writes a line for every marked frame and every echo.
fn watch(lab: &mut Lab, forger: &Vm) -> Result<PathBuf> {
    let filter = format!("icmp || frame contains \"{MARK}\"");
    let interface = forger.nic_interface();
    let mut args = vec![
        "-l",
        "-n",
        "-i",
        &interface,
        "-Y",
        &filter,
        "-T",
        "fields",
        "-e",
        "frame.protocols",
        "-e",
        "eth.type",
    ];
    let keys = decryption(lab)?;
    args.extend(keys.iter().map(String::as_str));
    let mut command = netns::command(&lab.topology.servers[forger.server].namespace, "tshark", args);
    // Its capture file goes where teardown removes it even when tshark is killed.
    command.env("TMPDIR", &lab.directory);
    let process = lab.start(WATCH, command, "tshark-forger")?;
    let log = process.log().to_owned();
    process.wait_for("a capture at the forger's vNIC", LIMIT, || {
        Ok(fs::read_to_string(&log)?.contains("Capture started").then_some(()))
    })?;
    Ok(log)
}

/// Number of frames that tshark has reported with `text` among their protocols and types.
fn seen(log: &Path, text: &str) -> Result<usize> {
    let lines = fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    Ok(lines.lines().filter(|line| line.starts_with("eth:") && line.contains(text)).count())
}

fn drops_from_host(lab: &Lab, forger: &Vm) -> Result<u64> {
    dropped(&lab.vnic_stats(forger)?, "tx", "control_from_host")
}

#[derive(Debug)]
struct Snapshot {
    dropped: u64,
    mtus: [u16; 2],
    victim: Registration,
}

impl Snapshot {
    fn take(lab: &Lab, forger: &Vm, victim: &Vm) -> Result<Self> {
        Ok(Self {
            dropped: drops_from_host(lab, forger)?,
            mtus: [netns::mtu(&forger.namespace, VM_NIC)?, netns::mtu(&victim.namespace, VM_NIC)?],
            victim: registration(&lab.controller_status()?, victim)?,
        })
    }
}

/// Control frames of protocol version 2 with the mark as padding, in hexadecimal.
fn forged(forger: &Vm, victim: &Vm) -> [String; 3] {
    const BROADCAST: Mac = Mac([0xff; 6]);
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let frame = |to: Mac, kind: u8, data: u16| {
        format!("{}2{kind:x}000000{data:04x}{CONTROL_TYPE}{}", hex(&to.0), hex(MARK.as_bytes()))
    };
    let (hello, register, set_mtu) = (1, 2, 5);
    // REGISTER has the registering vNIC's own address as its destination.
    [frame(BROADCAST, hello, 0), frame(victim.mac, register, 0), frame(forger.mac, set_mtu, 9000)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::topology::{Plan, Topology};

    #[test]
    fn forged_frames_have_the_form_of_version_2() {
        let lab = Topology::new("t", Plan { pairs: 1, networks: 1, unikernels: 0, cipher: None, offloads: false })
            .unwrap();
        let [hello, register, set_mtu] = forged(&lab.vms[0], &lab.vms[1]);
        assert!(hello.starts_with("ffffffffffff210000000000abba435653572d"), "{hello}");
        assert!(register.starts_with("020000000102220000000000abba"), "{register}");
        assert!(set_mtu.starts_with("020000000101250000002328abba"), "{set_mtu}");
    }
}
