//! Linux's own `vxlan` device as the peer of one CVSW vNIC.

use crate::support::*;

/// VM (tap, vNIC with VXLAN flows) - veth - server with a kernel vxlan device.
struct Peers {
    vm: Namespace,
    server: Namespace,
    port: PortProcess,
    _folder: Folder,
}

const FLOWS: &str = "\
# Everything from the VM goes into the tunnel.
in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,eth_src=02:00:00:01:00:01,eth_dst=02:00:00:02:00:02)
# What comes out of it is the VM's; nothing else gets in.
priority=100,in_port=NET,dl_dst=02:00:00:01:00:01,udp,nw_dst=192.0.2.1,tp_dst=4789,actions=strip_vxlan(vni=42)
priority=1,in_port=NET,actions=drop
";

impl Peers {
    fn new(vm_mtu: u16) -> Self {
        Self::with(vm_mtu, "")
    }

    fn with(vm_mtu: u16, options: &str) -> Self {
        let (vm, server, under) = (Namespace::new("vm"), Namespace::new("srv"), Namespace::new("u"));
        under.veth("u0", &server, "eth0");
        let folder = Folder::new();
        let flows = folder.file("flows");
        std::fs::write(&flows, FLOWS).unwrap();
        let port = PortProcess::start(&format!(
            "--host tap:eth0,netns={} --net af_packet:u0,netns={} --mac 02:00:00:00:00:01 --flows {flows} {options}",
            vm.0, under.0
        ));
        vm.ip(&format!("link set eth0 mtu {vm_mtu}"));
        vm.ip("addr add 10.0.0.1/24 dev eth0");
        // Super-frames cannot cross a packet socket.
        server.exec("ethtool -K eth0 tso off gso off");
        server.ip("link set eth0 address 02:00:00:02:00:02");
        server.ip("addr add 192.0.2.2/24 dev eth0");
        // The vNIC answers no ARP for its outer address.
        server.ip("neigh add 192.0.2.1 lladdr 02:00:00:01:00:01 dev eth0 nud permanent");
        server.ip("link add vx0 type vxlan id 42 dev eth0 remote 192.0.2.1 local 192.0.2.2 dstport 4789");
        server.ip("link set vx0 mtu 1450 up");
        server.exec("ethtool -K vx0 tso off gso off");
        server.ip("addr add 10.0.0.2/24 dev vx0");
        Self { vm, server, port, _folder: folder }
    }
}

#[test]
fn ping_and_tcp_with_a_kernel_vxlan_device() {
    let peers = Peers::new(1450);
    peers.vm.exec("ping -c 3 -i 0.05 -W 5 10.0.0.2");
    peers.server.exec("ping -c 3 -i 0.05 -W 5 10.0.0.1");
    peers.vm.exec("ping -c 1 -s 1422 -M do -W 5 10.0.0.2");
    tcp_transfer(&peers.vm, &peers.server, "10.0.0.2:5000".parse().unwrap(), 10 << 20);
    tcp_transfer(&peers.server, &peers.vm, "10.0.0.1:5001".parse().unwrap(), 10 << 20);
    let stats = peers.port.stats();
    let flow = |part: &str| {
        let flows = stats["flows"].as_array().unwrap();
        flows.iter().find(|flow| flow["flow"].as_str().unwrap().contains(part)).cloned().unwrap()
    };
    assert!(flow("set_vxlan")["bytes"].as_u64().unwrap() > 10 << 20, "{stats}");
    assert!(flow("strip_vxlan")["bytes"].as_u64().unwrap() > 10 << 20, "{stats}");
    for direction in ["tx", "rx"] {
        let drops = stats["engine"][direction]["drops"].as_object().unwrap();
        let others = drops.iter().filter(|(reason, _)| *reason != "policy").map(|(_, count)| count);
        assert!(others.clone().all(|count| *count == 0), "{direction}: {stats}");
    }
}

/// A VM that left its MTU at 1500 loses its largest packets, and the loss has a name.
#[test]
fn frames_that_outgrow_the_link_are_counted() {
    let peers = Peers::new(1500);
    peers.vm.exec("ping -c 1 -s 1422 -W 5 10.0.0.2");
    let lost = output(&format!("ip netns exec {} ping -c 1 -s 1472 -M do -W 1 10.0.0.2", peers.vm.0));
    assert!(!lost.status.success());
    assert_eq!(peers.port.stats()["engine"]["tx"]["drops"]["frame_too_big"], 1);
}

/// The policy that cuts them: Linux puts the outer packets together again, super-frames' segments among them.
#[test]
fn outer_fragments_are_reassembled_by_linux() {
    let peers = Peers::with(1500, "--fragment-outer --offload csum,tso,ufo,gso,gro");
    peers.vm.exec("ping -c 3 -i 0.05 -s 1472 -M do -W 5 10.0.0.2");
    let stats = peers.port.stats();
    assert_eq!(
        (&stats["fragments"]["packets"], &stats["fragments"]["fragments"]),
        (&3.into(), &6.into()),
        "{stats}"
    );
    // The device's own MTU stays 1,450, so TCP, which is told, needs no fragments; this VM sends them all the same.
    let payload = noise(40 * 8972);
    let receiver = peers.server.within(|| std::net::UdpSocket::bind("10.0.0.2:9"));
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = peers.vm.within(|| std::net::UdpSocket::bind("10.0.0.1:7"));
    let mut room = vec![0; 9000];
    for datagram in payload.chunks(8972) {
        sender.send_to(datagram, "10.0.0.2:9").unwrap();
        let len = receiver.recv(&mut room).unwrap();
        assert!(room[..len] == *datagram, "{len} bytes, or not the same");
    }
    let stats = peers.port.stats();
    assert_eq!(stats["engine"]["tx"]["drops"]["frame_too_big"], 0, "{stats}");
    assert_eq!(stats["fragments"]["no_buffer"], 0, "{stats}");
    assert!(peers.server.exec("nstat -asz IpReasmOKs IpReasmFails").contains("IpReasmFails                    0"));
}

#[test]
fn frames_of_another_network_are_refused() {
    let peers = Peers::new(1450);
    peers.vm.exec("ping -c 1 -W 5 10.0.0.2");
    peers.server.ip("link del vx0");
    peers.server.ip("link add vx1 type vxlan id 43 dev eth0 remote 192.0.2.1 local 192.0.2.2 dstport 4789");
    peers.server.ip("link set vx1 mtu 1450 up");
    peers.server.ip("addr add 10.0.0.2/24 dev vx1");
    peers.server.ip("neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev vx1 nud permanent");
    let lost = output(&format!("ip netns exec {} ping -c 2 -i 0.05 -W 1 10.0.0.1", peers.server.0));
    assert!(!lost.status.success());
    let stats = peers.port.stats();
    assert_eq!(stats["engine"]["rx"]["drops"]["vxlan_vni"], 2, "{stats}");
}

/// The checksums that the VM leaves to its NIC are filled in before the frame is encapsulated for good.
#[test]
fn checksum_offload_works_through_the_tunnel() {
    let peers = Peers::new(1450);
    let server = &peers.server;
    let network = server.raw("eth0");
    network.send(&control([0xff; 6], HELLO, 0));
    network.send(&control([2, 0, 0, 0, 0, 1], SET_OFFLOAD, 1));
    eventually("checksum offload is on", || peers.port.stats()["offload_effective"] == "csum");
    tcp_transfer(&peers.vm, server, "10.0.0.2:5000".parse().unwrap(), 10 << 20);
    tcp_transfer(server, &peers.vm, "10.0.0.1:5001".parse().unwrap(), 10 << 20);
}
