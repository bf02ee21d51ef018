//! The tap as the VM sees it.

use crate::support::*;
use std::{
    io::{Read, Write},
    thread,
};

const MAC_A: &str = "02:00:00:00:00:0a";
const MAC_B: &str = "02:00:00:00:00:0b";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];

/// Two VMs, each with a port, whose network sides are joined by a veth pair.
struct TwoVms {
    a: Namespace,
    b: Namespace,
    port_a: PortProcess,
    port_b: PortProcess,
    under: Namespace,
}

impl TwoVms {
    fn new(options: &str, mtu: u16) -> Self {
        let (a, b, under) = (Namespace::new("a"), Namespace::new("b"), Namespace::new("u"));
        under.veth("ua", &under, "ub");
        for name in ["ua", "ub"] {
            under.ip(&format!("link set {name} mtu {mtu}"));
        }
        let port = |vm: &Namespace, net: &str, mac: &str| {
            let (vm, under) = (&vm.0, &under.0);
            PortProcess::start(&format!(
                "--host tap:eth0,netns={vm} --net af_packet:{net},netns={under} --mac {mac} {options}"
            ))
        };
        let (port_a, port_b) = (port(&a, "ua", MAC_A), port(&b, "ub", MAC_B));
        a.ip("addr add 10.0.0.1/24 dev eth0");
        b.ip("addr add 10.0.0.2/24 dev eth0");
        Self { a, b, port_a, port_b, under }
    }
}

#[test]
fn ping_and_tcp_between_two_vms() {
    let vms = TwoVms::new("", 1500);
    vms.a.exec("ping -c 3 -i 0.05 -W 5 10.0.0.2");
    vms.a.exec("ping -c 1 -s 1472 -M do -W 5 10.0.0.2");
    assert_eq!(vms.a.link("eth0")["address"], MAC_A);
    thread::scope(|scope| {
        let transfer = scope.spawn(|| tcp_transfer(&vms.a, &vms.b, "10.0.0.2:5000".parse().unwrap(), 10 << 20));
        let mut last = 0;
        while !transfer.is_finished() {
            let frames = vms.port_a.stats()["engine"]["tx"]["frames"].as_u64().unwrap();
            assert!(frames >= last, "counters went back from {last} to {frames}");
            last = frames;
        }
    });
    let (a, b) = (vms.port_a.stats(), vms.port_b.stats());
    for document in [&a, &b] {
        for direction in ["tx", "rx"] {
            let counters = &document["engine"][direction];
            // The other vNIC's HELLO ends here; everything else goes on.
            let [frames, forwarded, consumed] =
                ["frames", "forwarded", "consumed"].map(|name| counters[name].as_u64().unwrap());
            assert!(frames == forwarded + consumed && consumed <= 1, "{direction}: {document}");
        }
    }
    assert!(a["ports"]["host"]["rx_bytes"].as_u64().unwrap() > 10 << 20, "{a}");
    vms.port_a.stop();
    vms.port_b.stop();
    assert_eq!(vms.a.interfaces(), [""; 0]);
}

/// A sender with TSO hands 64 KiB to its vNIC at once, and a receiver with GRO gets joined frames; between the ports
/// there are only frames of the MTU. Linux judges every checksum and every byte.
#[test]
fn super_frames_between_two_vms_over_ipv4_and_ipv6() {
    let vms = TwoVms::new("", 1500);
    let ends = [(&vms.a, MAC, "ub", &vms.port_a, "fd00::1"), (&vms.b, OTHER, "ua", &vms.port_b, "fd00::2")];
    for (vm, mac, net, port, address) in ends {
        let network = vms.under.raw(net);
        network.send(&control([0xff; 6], HELLO, 0));
        network.send(&control(mac, SET_OFFLOAD, 0x1f));
        eventually("offloads are on", || port.stats()["offload_effective"] == "csum,tso,ufo,gso,gro");
        vm.exec("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0");
        vm.ip(&format!("addr add {address}/64 dev eth0 nodad"));
    }
    // A capture that ends with the first frame that is too long.
    let mut too_long = vms.under.spawn("tcpdump -i ub -c 1 -w /dev/null greater 1515");
    for (from, to, address) in [
        (&vms.a, &vms.b, "10.0.0.2:5000"),
        (&vms.b, &vms.a, "10.0.0.1:5000"),
        (&vms.a, &vms.b, "[fd00::2]:5000"),
        (&vms.b, &vms.a, "[fd00::1]:5000"),
    ] {
        tcp_transfer(from, to, address.parse().unwrap(), 10 << 20);
    }
    for port in [&vms.port_a, &vms.port_b] {
        let host = port.stats()["ports"]["host"].clone();
        let count = |name: &str| host[name].as_u64().unwrap();
        assert!(count("rx_super_frames") * 5 < count("rx_frames"), "sent mostly in super-frames: {host}");
        assert!(count("tx_super_frames") > 100, "received joined frames: {host}");
    }
    for vm in [&vms.a, &vms.b] {
        assert_eq!(wrong_checksums(vm), 0);
    }
    assert!(too_long.0.try_wait().unwrap().is_none(), "too long a frame on the wire: {}", too_long.stderr());
}

/// Datagrams that an application sends with one call (`UDP_SEGMENT`) arrive one by one.
#[test]
fn udp_super_frames_arrive_as_datagrams() {
    let vms = TwoVms::new("", 1500);
    let network = vms.under.raw("ub");
    network.send(&control([0xff; 6], HELLO, 0));
    network.send(&control(MAC, SET_OFFLOAD, 0x1f));
    eventually("offloads are on", || vms.port_a.stats()["offload_effective"] == "csum,tso,ufo,gso,gro");
    let receiver = vms.b.within(|| std::net::UdpSocket::bind("10.0.0.2:9"));
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let payload = noise(30_500);
    vms.a.within(|| {
        let socket = std::net::UdpSocket::bind("10.0.0.1:7")?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &1000)?;
        socket.send_to(&payload, "10.0.0.2:9")
    });
    let mut room = [0; 2000];
    for expected in payload.chunks(1000) {
        let len = receiver.recv(&mut room).unwrap();
        assert!(room[..len] == *expected, "{len} bytes, or not the same");
    }
    assert_eq!(vms.port_a.stats()["ports"]["host"]["rx_super_frames"], 1);
    let host = vms.port_b.stats()["ports"]["host"].clone();
    assert!(host["tx_super_frames"].as_u64() >= Some(1), "the receiver got joined frames: {host}");
    assert_eq!(wrong_checksums(&vms.b), 0);
}

/// Segments and datagrams that the kernel found damaged.
fn wrong_checksums(vm: &Namespace) -> u64 {
    let counters = vm.exec("nstat -asz TcpInCsumErrors UdpInCsumErrors Udp6InCsumErrors");
    let counts: Vec<u64> =
        counters.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
    assert_eq!(counts.len(), 3, "{counters}");
    counts.iter().sum()
}

/// Held to 1400, whatever its interface says: the VM's kernel learns it from the answers, TCP from the clamped MSS.
#[test]
fn a_vm_whose_interface_has_too_large_an_mtu_learns_the_right_one() {
    let vms = TwoVms::new("", 1400);
    let network = vms.under.raw("ub");
    network.send(&control([0xff; 6], HELLO, 0));
    network.send(&control(MAC, SET_MTU, 1400));
    eventually("the MTU is set", || vms.a.link("eth0")["mtu"] == 1400);
    vms.a.ip("link set eth0 mtu 1500");
    vms.a.exec("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0");
    vms.a.ip("addr add fd00::1/64 dev eth0 nodad");
    vms.a.ip("-6 neigh replace fd00::2 lladdr 02:00:00:00:00:0b dev eth0 nud permanent");
    // TCP: the peer was told 1360, and nothing was too big; the VM was told the same by the peer's SYN-ACK.
    tcp_transfer(&vms.a, &vms.b, "10.0.0.2:5000".parse().unwrap(), 1 << 20);
    tcp_transfer(&vms.b, &vms.a, "10.0.0.1:5000".parse().unwrap(), 1 << 20);
    let engine = vms.port_a.stats()["engine"].clone();
    assert_eq!((&engine["tx"]["drops"]["packet_too_big"], &engine["too_big_answered"]), (&0.into(), &0.into()));
    // Others: an answer each.
    for (ping, told) in [
        ("ping -4 -c 1 -W 1 -M do -s 1373 10.0.0.2", "mtu = 1400"),
        ("ping -6 -c 1 -W 1 -M do -s 1353 fd00::2", "mtu = 1400"),
    ] {
        let output = output(&format!("ip netns exec {} {ping}", vms.a.0));
        let text = String::from_utf8_lossy(&output.stdout).to_lowercase().replace("mtu=", "mtu = ");
        assert!(!output.status.success() && text.contains(told), "{ping}: {text}");
    }
    assert!(vms.a.ip("route get 10.0.0.2").contains("mtu 1400"));
    vms.a.exec("ping -c 1 -W 5 -s 1373 10.0.0.2");
    assert_eq!(vms.port_a.stats()["engine"]["too_big_answered"], 2);
}

/// A connection that was made with a larger MTU goes on with the smaller one, at once.
#[test]
fn a_live_connection_follows_the_mtu() {
    let vms = TwoVms::new("", 1500);
    let network = vms.under.raw("ub");
    network.send(&control([0xff; 6], HELLO, 0));
    let listener = vms.b.within(|| std::net::TcpListener::bind("10.0.0.2:5000"));
    let mut sender = vms.a.within(|| std::net::TcpStream::connect("10.0.0.2:5000"));
    let (mut receiver, _) = listener.accept().unwrap();
    sender.set_write_timeout(Some(PATIENCE)).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let part = noise(2 << 20);
    let mut room = vec![0; part.len()];
    for (set, interface, expected) in [(1400, 1400, 0), (1300, 1500, 1), (1200, 1500, 2)] {
        network.send(&control(MAC, SET_MTU, set));
        eventually("the MTU is set", || vms.a.link("eth0")["mtu"] == set);
        // The VM's own mistake: only the vNIC's answers can tell it now.
        vms.a.ip(&format!("link set eth0 mtu {interface}"));
        thread::scope(|scope| {
            scope.spawn(|| sender.write_all(&part).unwrap());
            receiver.read_exact(&mut room).unwrap();
        });
        assert!(room == part, "the bytes are not the same");
        let answered = vms.port_a.stats()["engine"]["too_big_answered"].as_u64().unwrap();
        assert!(if expected == 0 { answered == 0 } else { answered >= expected }, "MTU {set}: {answered} answers");
    }
}

#[test]
fn busy_polling_forwards_and_answers_statistics() {
    let vms = TwoVms::new("--poll busy", 1500);
    vms.a.exec("ping -c 3 -i 0.05 -W 5 10.0.0.2");
    assert!(vms.port_a.stats()["ports"]["host"]["rx_frames"].as_u64().unwrap() >= 3);
    vms.port_a.stop();
    vms.port_b.stop();
}

#[test]
fn jumbo_frames_pass_after_the_mtu_was_raised() {
    let vms = TwoVms::new("", 9000);
    for (port, vm) in [(&vms.port_a, &vms.a), (&vms.port_b, &vms.b)] {
        vm.ip("link set eth0 mtu 9000");
        assert_eq!(port.stats()["mtu"], 9000);
    }
    vms.a.exec("ping -c 2 -i 0.05 -s 8972 -M do -W 5 10.0.0.2");
    tcp_transfer(&vms.a, &vms.b, "10.0.0.2:5000".parse().unwrap(), 10 << 20);
}

/// One VM with a port, and a raw socket that plays the network and has seen the vNIC announce itself.
fn vm_and_network() -> (Namespace, Namespace, PortProcess, RawSocket) {
    let (vm, net) = (Namespace::new("vm"), Namespace::new("net"));
    net.veth("n0", &net, "n1");
    let network = net.raw("n1");
    let port = PortProcess::start(&format!(
        "--host tap:eth0,netns={} --net af_packet:n0,netns={} --mac {MAC_A}",
        vm.0, net.0
    ));
    assert_eq!(network.receive(is_control), control(MAC, HELLO, 0));
    (vm, net, port, network)
}

fn is_control(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0xab, 0xba])
}

#[test]
fn every_kind_of_frame_crosses_unchanged_both_ways() {
    let (vm, net, port, network) = vm_and_network();
    let host = vm.raw("eth0");
    let frames = all_kinds_of_frames();
    // A vNIC keeps silent, but the kernel of the VM may say something about itself.
    let wanted = "ether src 02:00:00:00:00:02";
    for (from, to, interface) in [(&host, &net, "n1"), (&network, &vm, "eth0")] {
        let capture = Capture::start(to, interface, frames.len(), wanted);
        frames.iter().for_each(|frame| from.send(frame));
        assert_eq!(capture.frames(), frames, "towards {interface}");
    }
    port.stop();
}

/// The VM may raise its own MTU; the port follows within a tick.
#[test]
fn buffers_follow_the_mtu_of_the_vm() {
    let (vm, _net, port, _network) = vm_and_network();
    vm.ip("link set eth0 mtu 9000");
    eventually("buffers grow", || port.stats()["pool"]["buffer_size"].as_u64().unwrap() > 9000);
    // Too long for the network: dropped there, by the engine, not in the tap.
    vm.ip("addr add 10.0.0.1/24 dev eth0");
    vm.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:0b dev eth0 nud permanent");
    vm.within(|| std::net::UdpSocket::bind("10.0.0.1:7")?.send_to(&[0; 8000], "10.0.0.2:9"));
    eventually("the frame is dropped", || port.stats()["engine"]["tx"]["drops"]["frame_too_big"] == 1);
}

#[test]
fn hello_is_answered_and_set_mtu_changes_the_interface() {
    let (vm, _net, port, network) = vm_and_network();
    assert_eq!(vm.link("eth0")["mtu"], 1500);
    network.send(&control([0xff; 6], HELLO, 0));
    assert_eq!(network.receive(is_control), control(MAC, REGISTER, 0));
    network.send(&control(MAC, SET_MTU, 1450));
    eventually("the VM sees MTU 1450", || vm.link("eth0")["mtu"] == 1450);
    let stats = port.stats();
    assert_eq!((&stats["session"], &stats["mtu"]), (&"CONNECTED".into(), &1450.into()));
    network.send(&control(MAC, SET_MTU, 9000));
    eventually("the VM sees MTU 9000", || vm.link("eth0")["mtu"] == 9000);
    assert!(port.stats()["pool"]["buffer_size"].as_u64().unwrap() > 9000);
}

#[test]
fn an_mtu_that_the_interface_refuses_changes_nothing() {
    let (vm, _net, mut port, network) = vm_and_network();
    network.send(&control([0xff; 6], HELLO, 0));
    // A tap takes at most 65521.
    network.send(&control(MAC, SET_MTU, 65535));
    network.send(&control(MAC, SET_OFFLOAD, 0));
    eventually("both messages were handled", || port.stats()["engine"]["control_accepted"] == 3);
    assert_eq!(vm.link("eth0")["mtu"], 1500);
    port.process.signal("TERM");
    assert!(port.process.wait().success());
}

#[test]
fn offloads_show_in_the_vm_and_impossible_ones_stay_off() {
    let (vm, _net, port, network) = vm_and_network();
    let feature = |name: &str| {
        let features = vm.exec("ethtool -k eth0");
        let line = features.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.contains(": on")
    };
    assert!(!feature("tx-checksumming") && feature("generic-receive-offload"));
    network.send(&control([0xff; 6], HELLO, 0));
    network.send(&control(MAC, SET_OFFLOAD, 0x1f));
    eventually("requested offloads are known", || port.stats()["offload_requested"] == "csum,tso,ufo,gso,gro");
    assert_eq!(port.stats()["offload_effective"], "csum,tso,ufo,gso,gro");
    assert_eq!(port.stats()["offload_refused"], serde_json::json!({}));
    for name in
        ["tx-checksumming", "generic-segmentation-offload", "tcp-segmentation-offload", "tx-udp-segmentation"]
    {
        assert!(feature(name), "{name}");
    }
    // What only works with checksum offload is refused without it, and the reason is told.
    network.send(&control(MAC, SET_OFFLOAD, 0x1e));
    eventually("TSO and UFO are off", || port.stats()["offload_effective"] == "gso,gro");
    let refused = port.stats()["offload_refused"].clone();
    for name in ["tso", "ufo"] {
        assert!(refused[name].as_str().unwrap().contains("needs csum"), "{refused}");
    }
    assert!(!feature("tcp-segmentation-offload") && !feature("tx-udp-segmentation"));
    network.send(&control(MAC, SET_OFFLOAD, 0));
    eventually("all offloads are off", || port.stats()["offload_effective"] == "");
    for name in ["tx-checksumming", "generic-segmentation-offload", "generic-receive-offload"] {
        assert!(!feature(name), "{name}");
    }
}

/// With checksum offload the VM's kernel leaves TCP checksums to the port.
#[test]
fn checksums_left_to_the_port_are_completed() {
    let (vm, net, port, network) = vm_and_network();
    network.send(&control([0xff; 6], HELLO, 0));
    network.send(&control(MAC, SET_OFFLOAD, 1));
    eventually("checksum offload is on", || port.stats()["offload_effective"] == "csum");
    vm.ip("addr add 10.0.0.1/24 dev eth0");
    vm.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:0b dev eth0 nud permanent");
    vm.within(|| std::net::UdpSocket::bind("10.0.0.1:7")?.send_to(b"hello, world", "10.0.0.2:9"));
    let frame = network.receive(|frame| frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17));
    let headers = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
    let (Some(etherparse::NetHeaders::Ipv4(ip, _)), Some(etherparse::TransportHeader::Udp(udp))) =
        (&headers.net, &headers.transport)
    else {
        panic!("not UDP: {headers:?}")
    };
    assert_eq!(udp.calc_checksum_ipv4(ip, headers.payload.slice()).unwrap(), udp.checksum);
    // And a whole connection, with a peer that verifies.
    net.ip("addr add 10.0.0.2/24 dev n1");
    net.ip("link set n1 address 02:00:00:00:00:0b");
    net.exec("ethtool -K n1 tso off gso off tx off");
    tcp_transfer(&vm, &net, "10.0.0.2:5000".parse().unwrap(), 10 << 20);
    vm.ip("neigh flush all");
    tcp_transfer(&net, &vm, "10.0.0.1:5001".parse().unwrap(), 10 << 20);
}

#[test]
fn control_frames_of_the_vm_change_nothing() {
    let (vm, _net, port, network) = vm_and_network();
    let forger = vm.raw("eth0");
    forger.send(&control(MAC, HELLO, 0));
    forger.send(&control(MAC, SET_MTU, 1000));
    eventually("both are counted", || port.stats()["engine"]["tx"]["drops"]["control_from_host"] == 2);
    assert_eq!(port.stats()["session"], "DISCONNECTED");
    assert_eq!(vm.link("eth0")["mtu"], 1500);
    network.send(&control([0xff; 6], HELLO, 0));
    assert_eq!(network.receive(is_control), control(MAC, REGISTER, 0));
}

#[test]
fn nothing_is_left_behind_however_it_ends() {
    for signal in ["TERM", "INT", "KILL"] {
        let (vm, _net, mut port, _network) = vm_and_network();
        assert_eq!(vm.interfaces(), ["eth0"]);
        port.process.signal(signal);
        let status = port.process.wait();
        assert_eq!(status.success(), signal != "KILL", "{signal}: {status}");
        eventually("the tap is gone", || vm.interfaces().is_empty());
        let socket = port.stats_socket();
        assert_eq!(std::fs::exists(&socket).unwrap(), signal == "KILL", "{signal}: socket file");
    }
}

#[test]
fn a_killed_port_can_be_started_again_at_once() {
    let (vm, net) = (Namespace::new("vm"), Namespace::new("net"));
    net.veth("n0", &net, "n1");
    let folder = Folder::new();
    let socket = folder.file("stats");
    for round in 0..3 {
        let mut process = spawn_port(&format!(
            "--host tap:eth0,netns={} --net af_packet:n0,netns={} --stats-socket {socket}",
            vm.0, net.0
        ));
        eventually("statistics are served", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        assert_eq!(fetch_stats(socket.as_ref())["session"], "DISCONNECTED", "round {round}");
        process.signal("KILL");
        process.wait();
        eventually("the tap is gone", || vm.interfaces().is_empty());
    }
}

#[test]
fn the_vm_may_take_its_interface_down_and_up() {
    let vms = TwoVms::new("", 1500);
    vms.a.exec("ping -c 1 -W 5 10.0.0.2");
    vms.b.ip("link set eth0 down");
    vms.a.exec("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:0b dev eth0");
    let lost = output(&format!("ip netns exec {} ping -c 2 -i 0.05 -W 1 10.0.0.2", vms.a.0));
    assert!(!lost.status.success());
    eventually("the loss is counted", || vms.port_b.stats()["ports"]["host"]["drops"]["tx_full"] == 2);
    vms.b.ip("link set eth0 up");
    vms.a.exec("ping -c 1 -W 5 10.0.0.2");
}

#[test]
fn a_deleted_tap_ends_the_port_with_an_error() {
    let (vm, _net, mut port, _network) = vm_and_network();
    vm.ip("link del eth0");
    let status = port.process.wait();
    assert_eq!(status.code(), Some(1));
    assert!(port.process.stderr().contains("tap:eth0"));
}

#[test]
fn errors_say_what_to_do() {
    let (vm, net) = (Namespace::new("vm"), Namespace::new("net"));
    net.veth("n0", &net, "n1");
    vm.ip("link add eth0 type veth peer name eth1");
    let (vm, net) = (&vm.0, &net.0);
    let cases = [
        (
            format!("--host tap:eth0,netns={vm} --net af_packet:n0,netns={net}"),
            "no interface of that name may exist",
        ),
        (format!("--host tap:t0,netns=no{vm} --net af_packet:n0,netns={net}"), "`ip netns add no"),
        (format!("--host tap:t0,netns={vm} --net af_packet:n9,netns={net}"), "an existing Ethernet interface"),
        (format!("--host tap:a-name-that-is-too-long,netns={vm} --net af_packet:n0,netns={net}"), "1 to 15 bytes"),
        (format!("--host pcap: --net af_packet:n0,netns={net}"), "--mac"),
        (format!("--host tap:t0,netns={vm} --net pcap:read=/dev/null"), "the file is empty"),
    ];
    for (arguments, hint) in cases {
        let mut process = spawn_port(&arguments);
        assert_eq!(process.wait().code(), Some(1), "{arguments}");
        let stderr = process.stderr();
        assert!(stderr.contains(hint), "{arguments}: {stderr}");
    }
}
