//! Every action on real frames, judged at the other end of the wire by etherparse and tcpdump.

use super::traffic::tcp_through;
use crate::{
    capture::Capture,
    frames,
    net::RawSocket,
    topology::{PEER_MAC, Pair, VM_MAC},
};
use anyhow::{Result, ensure};
use etherparse::{LinkSlice, NetSlice, SlicedPacket, TransportSlice};

const SPARE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// What one header looks like after an action.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    eth_src: [u8; 6],
    eth_dst: [u8; 6],
    src: [u8; 4],
    dst: [u8; 4],
    tos: u8,
    ports: (u16, u16),
}

/// How a frame from the VM looks when nothing is done to it.
const PLAIN: Seen = Seen {
    eth_src: VM_MAC,
    eth_dst: PEER_MAC,
    src: [10, 0, 0, 1],
    dst: [10, 0, 0, 2],
    tos: 0,
    ports: (1000, 2000),
};

/// Header changes, transmitted and received, and the drop.
pub fn actions() -> Result<()> {
    let pair = Pair::veth()?;
    let (up, down) = (pair.vm.raw("cvsw0")?, pair.peer.raw("eth0")?);
    let cases = [
        ("mod_dl_src:02:00:00:00:00:99", Seen { eth_src: SPARE_MAC, ..PLAIN }),
        ("mod_dl_dst:02:00:00:00:00:99", Seen { eth_dst: SPARE_MAC, ..PLAIN }),
        ("mod_nw_src:10.9.8.7", Seen { src: [10, 9, 8, 7], ..PLAIN }),
        ("mod_nw_dst:10.9.8.7", Seen { dst: [10, 9, 8, 7], ..PLAIN }),
        ("mod_nw_tos:184", Seen { tos: 184, ..PLAIN }),
        ("mod_tp_src:7", Seen { ports: (7, 2000), ..PLAIN }),
        ("mod_tp_dst:7", Seen { ports: (1000, 7), ..PLAIN }),
        ("mod_nw_dst:10.9.8.7,mod_tp_dst:7", Seen { dst: [10, 9, 8, 7], ports: (1000, 7), ..PLAIN }),
    ];
    for (number, (actions, expected)) in cases.into_iter().enumerate() {
        pair.flows(&format!("in_port=HOST,udp,actions={actions}"))?;
        check_case(&up, &down, number, actions, &expected)?;
    }
    received(&pair, &up, &down)?;
    drops(&pair, &up, &down)
}

fn check_case(up: &RawSocket, down: &RawSocket, number: usize, actions: &str, expected: &Seen) -> Result<()> {
    let payload = format!("case {number}");
    up.send(&frames::udp_to_peer(1000, 2000, payload.as_bytes()))?;
    let frame = down.expect(actions, |frame| frame.ends_with(payload.as_bytes()))?;
    let seen = see(&frames::check(&frame)?)?;
    ensure!(seen == *expected, "{actions}: {seen:?}, not {expected:?}");
    Ok(())
}

fn see(packet: &SlicedPacket<'_>) -> Result<Seen> {
    let (Some(LinkSlice::Ethernet2(ethernet)), Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) =
        (&packet.link, &packet.net, &packet.transport)
    else {
        anyhow::bail!("no UDP over IPv4: {packet:?}");
    };
    let header = ip.header();
    Ok(Seen {
        eth_src: ethernet.source(),
        eth_dst: ethernet.destination(),
        src: header.source(),
        dst: header.destination(),
        tos: header.slice()[1],
        ports: (udp.source_port(), udp.destination_port()),
    })
}

fn received(pair: &Pair, up: &RawSocket, down: &RawSocket) -> Result<()> {
    pair.flows("in_port=NET,udp,actions=mod_nw_src:10.9.8.7,mod_tp_src:7")?;
    down.send(&frames::udp_to_vm(2000, 1000, b"received"))?;
    let frame = up.expect("a changed received frame", |frame| frame.ends_with(b"received"))?;
    let seen = see(&frames::check(&frame)?)?;
    ensure!(seen.src == [10, 9, 8, 7] && seen.ports == (7, 1000), "received: {seen:?}");
    Ok(())
}

/// A drop is counted by its reason, and by the device.
fn drops(pair: &Pair, up: &RawSocket, down: &RawSocket) -> Result<()> {
    pair.flows("udp,tp_dst=2000,actions=drop")?;
    let before = pair.vm.counter("cvsw0", "tx_drop_policy")?;
    up.send(&frames::udp_to_peer(1000, 2000, b"dropped"))?;
    up.send(&frames::udp_to_peer(1000, 2001, b"marker"))?;
    down.expect("the frame behind the dropped one", |frame| {
        assert!(!frame.ends_with(b"dropped"), "a dropped frame came through");
        frame.ends_with(b"marker")
    })?;
    let dropped = pair.vm.counter("cvsw0", "tx_drop_policy")? - before;
    ensure!(dropped == 1, "{dropped} drops counted");
    let link = pair.vm.run("ip -s -s link show dev cvsw0")?;
    let tx: Vec<&str> =
        link.lines().skip_while(|line| !line.contains("TX:")).nth(1).unwrap_or("").split_whitespace().collect();
    ensure!(tx.get(3) == Some(&"1"), "ip -s link shows no dropped frame:\n{link}");
    Ok(())
}

/// VLAN actions, as tcpdump sees them: it knows the tags that the kernel keeps beside a frame.
pub fn vlan_actions() -> Result<()> {
    let pair = Pair::veth()?;
    let up = pair.vm.raw("cvsw0")?;
    let cases = [
        ("in_port=HOST,udp,actions=mod_vlan_vid:5", None, "vlan 5, p 0, ethertype IPv4"),
        ("in_port=HOST,udp,actions=mod_vlan_vid:5,mod_vlan_pcp:6", None, "vlan 5, p 6, ethertype IPv4"),
        ("in_port=HOST,udp,dl_vlan=9,actions=mod_vlan_vid:5", Some(9), "vlan 5, p 0, ethertype IPv4"),
        ("in_port=HOST,udp,dl_vlan=9,actions=strip_vlan", Some(9), "ethertype IPv4 (0x0800)"),
    ];
    for (flow, tag, expected) in cases {
        pair.flows(flow)?;
        let capture = Capture::start(&pair.peer, "eth0", "(udp or (vlan and udp))")?;
        let mut frame = frames::udp_to_peer(1000, 2000, b"tagged");
        if let Some(tag) = tag {
            frame.splice(12..12, [0x81, 0, 0, tag]);
        }
        up.send(&frame)?;
        let text = capture.packet()?;
        ensure!(text.contains(expected), "{flow}: expected `{expected}` in:\n{text}");
        ensure!(text.contains("udp sum ok"), "{flow}: checksum:\n{text}");
        ensure!(expected.contains("vlan") == text.contains("vlan"), "{flow}: {text}");
    }
    Ok(())
}

/// Real TCP through header changes both ways, with and without offloads: every checksum is the kernel's judgement.
pub fn address_translation() -> Result<()> {
    let pair = Pair::veth()?;
    pair.vm.run("ip neighbour add 10.0.0.77 lladdr 02:00:00:00:00:02 dev cvsw0 nud permanent")?;
    pair.flows(
        "in_port=HOST,tcp,nw_dst=10.0.0.77,tp_dst=7777,actions=mod_nw_dst:10.0.0.2,mod_tp_dst:5000\n\
         in_port=NET,tcp,nw_src=10.0.0.2,tp_src=5000,actions=mod_nw_src:10.0.0.77,mod_tp_src:7777",
    )?;
    for state in ["on", "off"] {
        pair.vm.run(&format!("ethtool -K cvsw0 tx {state} sg {state} tso {state} gso {state} gro {state}"))?;
        tcp_through(&pair.vm, "10.0.0.77:7777", &pair.peer, "10.0.0.2:5000", 1 << 20)?;
    }
    Ok(())
}
