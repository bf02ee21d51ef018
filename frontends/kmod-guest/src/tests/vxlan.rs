//! VXLAN against the kernel's own `vxlan` device.

use super::traffic::tcp_through;
use crate::{capture::Capture, frames, topology::Pair};
use anyhow::{Result, ensure};
use etherparse::PacketBuilder;

const FLOWS: &str = "in_port=HOST,actions=set_vxlan(vni=42,src=10.0.0.1,dst=10.0.0.2,\
eth_src=02:00:00:00:00:01,eth_dst=02:00:00:00:00:02)
in_port=NET,udp,tp_dst=4789,actions=strip_vxlan(vni=42)";

/// The VM knows nothing of the tunnel, the peer terminates it in Linux.
pub fn vxlan() -> Result<()> {
    let pair = Pair::veth()?;
    tunnel(&pair)?;
    wrong_network(&pair)?;
    too_big(&pair)
}

/// Ping and full segments through a tunnel that the peer terminates in Linux.
pub fn tunnel(pair: &Pair) -> Result<()> {
    pair.peer.run_all(
        "ip link add tunnel type vxlan id 42 local 10.0.0.2 remote 10.0.0.1 dstport 4789 dev eth0
         ip address add 10.1.0.2/24 dev tunnel
         ip link set tunnel up",
    )?;
    pair.vm.run_all("ip address add 10.1.0.1/24 dev cvsw0\nip link set cvsw0 mtu 1450")?;
    pair.flows(FLOWS)?;
    let capture = Capture::start(&pair.peer, "eth0", "udp port 4789")?;
    pair.vm.run("ping -c 3 -i 0.2 -W 5 10.1.0.2")?;
    let outer = capture.packet()?;
    ensure!(outer.contains("10.0.0.1") && outer.contains("vni 42"), "what left is no VXLAN of VNI 42:\n{outer}");
    // Full segments: the largest packet must fit the link, and the peer's kernel checks every inner checksum.
    tcp_through(&pair.vm, "10.1.0.2:5000", &pair.peer, "10.1.0.2:5000", 1 << 20)?;
    tcp_through(&pair.peer, "10.1.0.1:5000", &pair.vm, "10.1.0.1:5000", 1 << 20).map(drop)
}

/// A packet of another VNI is dropped and counted.
fn wrong_network(pair: &Pair) -> Result<()> {
    let inner = frames::udp_to_vm(1, 2, b"of another network");
    let mut payload = vec![8, 0, 0, 0, 0, 0, 43, 0];
    payload.extend(inner);
    pair.peer.raw("eth0")?.send(&frames::udp_to_vm(50_000, 4789, &payload))?;
    crate::system::wait_for(
        "a drop by reason vxlan_vni",
        || Ok(pair.vm.counter("cvsw0", "rx_drop_vxlan_vni")? == 1),
    )
}

/// A frame that does not fit the lower device any more is dropped and counted, not sent.
fn too_big(pair: &Pair) -> Result<()> {
    pair.vm.run("ip link set cvsw0 mtu 1500")?;
    let builder = PacketBuilder::ethernet2(crate::topology::VM_MAC, crate::topology::PEER_MAC)
        .ipv4([10, 1, 0, 1], [10, 1, 0, 2], 64)
        .udp(1, 2);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[0; 1472])?;
    pair.vm.raw("cvsw0")?.send(&frame)?;
    crate::system::wait_for("a drop by reason frame_too_big", || {
        Ok(pair.vm.counter("cvsw0", "tx_drop_frame_too_big")? == 1)
    })
}
