//! A bond of two devices as the lower device.

use super::traffic::tcp_both_ways;
use crate::{
    net::Namespace,
    system::{run, wait_for},
    topology::Pair,
};
use anyhow::{Result, ensure};

/// Traffic through flows over the bond, also after its active device has failed.
pub fn bond() -> Result<()> {
    let (vm, peer) = (Namespace::new("vm")?, Namespace::new("peer")?);
    for cable in 0..2 {
        run(&format!("ip link add slave{cable} netns vm type veth peer name port{cable} netns peer"))?;
    }
    vm.run_all(
        "ip link add eth0 type bond mode active-backup miimon 100
         ip link set slave0 master eth0
         ip link set slave1 master eth0",
    )?;
    peer.run("ip link add eth0 type bridge")?;
    for port in 0..2 {
        peer.run_all(&format!("ip link set port{port} master eth0\nip link set port{port} up"))?;
    }
    let pair = Pair::on(vm, peer)?;
    pair.flows("in_port=HOST,tcp,tp_dst=5000,actions=mod_nw_tos:4\nin_port=NET,udp,actions=drop")?;
    reaches(&pair)?;
    tcp_both_ways(&pair, 1 << 20, "over a bond")?;
    let active = || pair.vm.inside(|| Ok(std::fs::read_to_string("/proc/thread-self/net/bonding/eth0")?));
    let is_active = |slave: &str| Ok(active()?.contains(&format!("Currently Active Slave: {slave}")));
    ensure!(is_active("slave0")?, "the bond:\n{}", active()?);
    pair.peer.run("ip link set port0 down")?;
    wait_for("the bond's other device", || is_active("slave1"))?;
    reaches(&pair)?;
    tcp_both_ways(&pair, 1 << 20, "over the bond's other device")?;
    let changed = pair.vm.counter("cvsw0", "tx_forwarded")?;
    ensure!(changed > 100, "only {changed} frames went through the vNIC");
    // The bond ends, and with it the vNIC.
    pair.vm.run("ip link del eth0")?;
    wait_for("the end of cvsw0 with the bond", || Ok(!pair.vm.run("ip link")?.contains("cvsw0")))
}

/// The bridge has to learn first where the VM is.
fn reaches(pair: &Pair) -> Result<()> {
    wait_for("an answer to ping", || Ok(pair.vm.run("ping -c 1 -W 1 10.0.0.2").is_ok()))
}
