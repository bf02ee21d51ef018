//! `cvsw ctl` against the generic-netlink family.

use crate::{frames, system::hex, topology::Pair};
use anyhow::{Result, ensure};
use std::{os::unix::process::CommandExt, process::Command};

/// Flows, counters and traces; wrong input; and who may.
pub fn ctl() -> Result<()> {
    let pair = Pair::veth()?;
    let ctl = |line: &str| pair.vm.run(&format!("cvsw ctl --dev cvsw0 {line}"));
    pair.flows(
        "priority=9,cookie=0x5,in_port=HOST,udp,tp_dst=2000,actions=mod_tp_dst:9\npriority=1,arp,actions=drop",
    )?;
    pair.vm.raw("cvsw0")?.send(&frames::udp_to_peer(1, 2000, b"counted"))?;
    let listed = ctl("flows list")?;
    let lines: Vec<&str> = listed.lines().collect();
    ensure!(
        lines.len() == 2 && lines[0].contains("n_packets=1") && lines[0].contains("mod_tp_dst:9"),
        "list:\n{listed}"
    );
    ensure!(ctl("flows list --json")?.contains("\"packets\": 1"), "no JSON");
    ensure!(ctl("stats")?.contains("tx_forwarded: 1\n"), "stats:\n{}", ctl("stats")?);
    let trace = ctl(&format!("trace --direction tx --hex {}", hex(&frames::udp_to_peer(1, 2000, b"traced"))))?;
    let entry = trace.contains("entry: priority=9, cookie=0x5") && trace.contains("action: applied");
    ensure!(entry && trace.contains("verdict: forward"), "trace:\n{trace}");
    let arp = "ffffffffffff0200000000010806000108000604000102000000000a00000100000000000000000a000002";
    let dropped = ctl(&format!("trace --direction tx --hex {arp}"))?;
    ensure!(dropped.contains("verdict: drop, policy"), "trace:\n{dropped}");
    ensure!(ctl("flows list")?.contains("n_packets=1"), "a trace was counted");
    refusals(&pair)?;
    // Beyond OpenFlow 1.0: travels as Nicira's extended match.
    pair.flows("priority=3,in_port=NET,tun_id=0x2a,actions=drop")?;
    let listed = ctl("flows list")?;
    ensure!(listed.contains("tun_id=42"), "an extended match is not listed:\n{listed}");
    ctl("flows clear")?;
    ensure!(ctl("flows list")?.is_empty(), "flows after clear");
    Ok(())
}

fn refusals(pair: &Pair) -> Result<()> {
    std::fs::write("/tmp/bad.flows", "priority=5,ip,actions=drop\nip,actions=output:3\n")?;
    let error = pair.vm.run("cvsw ctl --dev cvsw0 flows load /tmp/bad.flows").expect_err("OUTPUT to a port");
    ensure!(format!("{error:#}").contains("bad.flows:2"), "{error:#}");
    ensure!(pair.vm.counter("cvsw0", "flows")? == 2, "a file with an error changed the table");
    let error = pair.vm.run("cvsw ctl --dev eth0 stats").expect_err("not a cvsw");
    ensure!(format!("{error:#}").contains("eth0 is no vNIC"), "{error:#}");
    let nobody = pair
        .vm
        .inside(|| Ok(Command::new("/bin/cvsw").args(["ctl", "--dev", "cvsw0", "stats"]).uid(65534).output()?))?;
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    ensure!(!nobody.status.success() && said.contains("CAP_NET_ADMIN"), "an ordinary user: {said}");
    Ok(())
}
