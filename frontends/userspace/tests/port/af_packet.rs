//! The packet rings against the kernel, raw sockets and tcpdump.

use crate::support::*;
use cvsw_core::{BURST, Checksum};
use cvsw_userspace::{
    af_packet::AfPacket,
    pool::{Mempool, PoolFrame},
    port::{FrameVec, Port, PortDrop},
};
use etherparse::{IpNumber, Ipv4Header, TcpHeader, UdpHeader};

/// A port on one end of a veth pair; the other end is in the same namespace, as `peer`.
fn port_and_peer() -> (Namespace, AfPacket, Mempool) {
    let namespace = Namespace::new("p");
    namespace.veth("port", &namespace, "peer");
    let port = AfPacket::open("port", Some(&namespace.0)).unwrap();
    (namespace, port, Mempool::new(4 * BURST, Mempool::buffer_size_for(1500)))
}

pub fn receive(port: &mut impl Port, pool: &mut Mempool, count: usize) -> Vec<PoolFrame> {
    let mut frames = FrameVec::new();
    eventually("all frames are received", || {
        port.rx_burst(pool, &mut frames).unwrap();
        frames.len() >= count
    });
    frames
}

pub fn transmit(port: &mut impl Port, pool: &mut Mempool, frames: &[Vec<u8>]) {
    for burst in frames.chunks(BURST) {
        let fill = |bytes: &Vec<u8>| {
            let mut frame = pool.take().unwrap();
            frame.set_len(bytes.len()).unwrap();
            frame.bytes_mut().copy_from_slice(bytes);
            frame
        };
        let mut frames: FrameVec = burst.iter().map(fill).collect();
        port.tx_burst(pool, &mut frames).unwrap();
        assert!(frames.is_empty());
    }
}

/// Sends and receives three times as many frames as a ring has slots; none is lost, doubled or out of order.
pub fn goes_around_the_rings_in_order(namespace: &Namespace, port: &mut impl Port, pool: &mut Mempool) {
    let peer = namespace.raw("peer");
    // Three times around 2,048 slots.
    for round in 0..200u32 {
        let numbered = |i: u32| {
            let mut frame = test_frame(64, &[]);
            frame[20..24].copy_from_slice(&(round * 32 + i).to_be_bytes());
            frame
        };
        let frames: Vec<_> = (0..32).map(numbered).collect();
        transmit(port, pool, &frames);
        for frame in &frames {
            assert_eq!(&peer.receive(|frame| frame[12..14] == [0x88, 0xb5]), frame);
            peer.send(frame);
        }
        let received = receive(port, pool, 32);
        for (frame, sent) in received.iter().zip(&frames) {
            assert_eq!(frame.bytes(), sent);
        }
        received.into_iter().for_each(|frame| pool.put(frame));
    }
    let counters = port.counters();
    assert_eq!((counters.tx_frames, counters.rx_frames), (6400, 6400));
}

#[test]
fn received_frames_are_those_that_were_sent() {
    let (namespace, mut port, mut pool) = port_and_peer();
    let peer = namespace.raw("peer");
    for sent in all_kinds_of_frames() {
        peer.send(&sent);
        let frames = receive(&mut port, &mut pool, 1);
        assert_eq!(frames[0].bytes(), sent, "{} bytes", sent.len());
        assert_eq!(frames[0].offload, cvsw_core::Offload::default());
        frames.into_iter().for_each(|frame| pool.put(frame));
    }
    assert_eq!(port.counters().rx_frames, all_kinds_of_frames().len() as u64);
}

/// tcpdump is the judge: it puts tags back by its own rules.
#[test]
fn transmitted_frames_arrive_unchanged() {
    let (namespace, mut port, mut pool) = port_and_peer();
    let frames = all_kinds_of_frames();
    let capture = Capture::start(&namespace, "peer", frames.len(), "");
    transmit(&mut port, &mut pool, &frames);
    assert_eq!(capture.frames(), frames);
    assert_eq!(port.counters().tx_frames, frames.len() as u64);
    assert_eq!(pool.available(), pool.capacity());
}

/// What others send on the interface is not for the vNIC.
#[test]
fn outgoing_frames_of_others_are_not_received() {
    let (namespace, mut port, mut pool) = port_and_peer();
    let (other, peer) = (namespace.raw("port"), namespace.raw("peer"));
    let (outgoing, incoming) = (test_frame(64, &[]), test_frame(65, &[]));
    other.send(&outgoing);
    assert_eq!(peer.receive(|frame| frame[12..14] == [0x88, 0xb5]), outgoing);
    peer.send(&incoming);
    let frames = receive(&mut port, &mut pool, 1);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].bytes(), incoming);
}

#[test]
fn the_interface_is_promiscuous_only_while_in_use() {
    let (namespace, port, _pool) = port_and_peer();
    assert_eq!(namespace.link("port")["promiscuity"], 1);
    drop(port);
    // A process that another test starts at this moment holds a copy of the socket until it runs its own program.
    eventually("the interface is as before", || namespace.link("port")["promiscuity"] == 0);
}

#[test]
fn many_frames_go_around_the_rings_in_order() {
    let (namespace, mut port, mut pool) = port_and_peer();
    goes_around_the_rings_in_order(&namespace, &mut port, &mut pool);
}

/// A veth sender leaves the UDP checksum to the "hardware"; the port knows it and can complete it.
#[test]
fn unfinished_checksums_are_known_and_can_be_completed() {
    let (namespace, mut port, mut pool) = port_and_peer();
    namespace.ip("addr add 10.0.0.1/24 dev peer");
    namespace.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev peer nud permanent");
    namespace.within(|| std::net::UdpSocket::bind("10.0.0.1:7")?.send_to(b"hello, world", "10.0.0.2:9"));
    let mut frame = receive(&mut port, &mut pool, 1).remove(0);
    assert_eq!(frame.offload.checksum, Checksum::Partial { start: 34, offset: 6 });
    frame.complete_checksum().unwrap();
    let headers = etherparse::PacketHeaders::from_ethernet_slice(frame.bytes()).unwrap();
    let (Some(etherparse::NetHeaders::Ipv4(ip, _)), Some(etherparse::TransportHeader::Udp(udp))) =
        (&headers.net, &headers.transport)
    else {
        panic!("not UDP: {headers:?}")
    };
    assert_eq!(udp.calc_checksum_ipv4(ip, headers.payload.slice()).unwrap(), udp.checksum);
}

#[test]
fn what_cannot_be_carried_is_counted() {
    let (_namespace, mut port, mut pool) = port_and_peer();
    transmit(&mut port, &mut pool, &[vec![0; 13], test_frame(1519, &[]), test_frame(1518, &[])]);
    let mut gso = pool.take().unwrap();
    gso.set_len(1000).unwrap();
    gso.offload.gso.kind = cvsw_core::GsoKind::TcpV4;
    let mut wild = pool.take().unwrap();
    wild.set_len(100).unwrap();
    wild.offload.checksum = Checksum::Partial { start: 90, offset: 9 };
    port.tx_burst(&mut pool, &mut vec![gso, wild]).unwrap();
    let counters = port.counters();
    let reasons = [PortDrop::TxTooShort, PortDrop::TxTooBig, PortDrop::TxGsoUnsupported, PortDrop::TxBadChecksum];
    for reason in reasons {
        assert_eq!(counters.drops(reason), 1, "{}", reason.name());
    }
    assert_eq!(counters.tx_frames, 1);
    assert_eq!(pool.available(), pool.capacity());
}

/// Without `ethtool -K peer tso off gso off` a local sender hands over super-frames.
#[test]
fn super_frames_are_cut_and_stay_in_order() {
    let (namespace, mut port, mut pool) = port_and_peer();
    namespace.ip("addr add 10.0.0.1/24 dev peer");
    namespace.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev peer nud permanent");
    namespace.within(|| {
        let socket = std::net::UdpSocket::bind("10.0.0.1:7")?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &1000)?;
        // One that the ring's slot cannot hold, one that it can, and an ordinary one.
        socket.send_to(&[1; 7900], "10.0.0.2:9")?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &600)?;
        socket.send_to(&[2; 1200], "10.0.0.2:9")?;
        socket.send_to(&[3; 100], "10.0.0.2:9")
    });
    let frames = receive(&mut port, &mut pool, 11);
    let contents: Vec<_> = frames.iter().map(|frame| (frame.len() - 42, frame.bytes()[42])).collect();
    assert_eq!(contents[..7], [(1000, 1); 7]);
    assert_eq!(contents[7..], [(900, 1), (600, 2), (600, 2), (100, 3)]);
    for frame in &frames[..10] {
        assert_eq!((frame.offload, cvsw_testkit::checksums::verify(frame.bytes())), (Default::default(), Ok(())));
    }
    let counters = port.counters();
    assert_eq!((counters.rx_super_frames, counters.rx_frames, counters.drops(PortDrop::RxTooBig)), (2, 11, 0));
}

/// A stream of TCP segments, or of datagrams, in order, the last one shorter.
fn stream(tcp: bool, tag: Option<[u8; 4]>) -> Vec<Vec<u8>> {
    let packet = |number: u16| {
        let payload = vec![number as u8; if number == 19 { 500 } else { 1000 }];
        let (protocol, header_len) = if tcp { (IpNumber::TCP, 20) } else { (IpNumber::UDP, 8) };
        let len = header_len + payload.len() as u16;
        let mut ip = Ipv4Header::new(len, 64, protocol, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
        ip.identification = number;
        ip.header_checksum = ip.calc_header_checksum();
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        bytes.extend(tag.into_iter().flatten());
        bytes.extend([8, 0]);
        ip.write(&mut bytes).unwrap();
        if tcp {
            let mut header = TcpHeader::new(40000, 9, 1000 * u32::from(number), 512);
            header.ack = true;
            header.checksum = header.calc_checksum_ipv4(&ip, &payload).unwrap();
            header.write(&mut bytes).unwrap();
        } else {
            let header = UdpHeader::with_ipv4_checksum(40000, 9, &ip, &payload).unwrap();
            header.write(&mut bytes).unwrap();
        }
        bytes.extend(payload);
        bytes
    };
    (0..20).map(packet).collect()
}

/// The kernel gets one super-frame for many frames if it cuts it itself, and what leaves are those frames.
#[test]
fn frames_that_continue_each_other_are_sent_in_one_call() {
    let tagged = Some([0x81, 0, 0, 7]);
    let kinds = [(true, None), (false, None), (true, tagged), (false, tagged)];
    for (cuts, (tcp, tag)) in [true, false].into_iter().flat_map(|cuts| kinds.map(|kind| (cuts, kind))) {
        let namespace = Namespace::new("p");
        namespace.veth("port", &namespace, "peer");
        let state = if cuts { "off" } else { "on" };
        namespace.exec(&format!("ethtool -K port tx {state} tso {state} gso {state}"));
        let mut port = AfPacket::open("port", Some(&namespace.0)).unwrap();
        let mut pool = Mempool::new(4 * BURST, Mempool::buffer_size_for(1500));
        let mut frames = stream(tcp, tag);
        // In front and behind, others that keep their places.
        frames.insert(0, test_frame(64, &[]));
        frames.push(test_frame(65, &[]));
        let capture = Capture::start(&namespace, "peer", frames.len(), "");
        transmit(&mut port, &mut pool, &frames);
        assert_eq!(capture.frames(), frames, "TCP {tcp}, tag {tag:?}");
        let counters = port.counters();
        let expected = (u64::from(cuts), 22);
        assert_eq!((counters.tx_super_frames, counters.tx_frames), expected, "TCP {tcp}, tag {tag:?}");
        assert_eq!(pool.available(), pool.capacity());
    }
}

/// An ordinary frame that is longer than the interface took when it was opened.
#[test]
fn frames_beyond_the_mtu_are_dropped_and_counted() {
    let (namespace, mut port, mut pool) = port_and_peer();
    for name in ["port", "peer"] {
        namespace.ip(&format!("link set {name} mtu 9000"));
    }
    let peer = namespace.raw("peer");
    peer.send(&test_frame(5000, &[]));
    peer.send(&test_frame(64, &[]));
    let frames = receive(&mut port, &mut pool, 1);
    assert_eq!(frames[0].len(), 64);
    assert_eq!(port.counters().drops(PortDrop::RxTooBig), 1);
}

#[test]
fn a_full_receive_ring_is_counted() {
    let (namespace, mut port, mut pool) = port_and_peer();
    let peer = namespace.raw("peer");
    let frame = test_frame(64, &[]);
    (0..3000).for_each(|_| peer.send(&frame));
    let mut received = 0;
    eventually("the ring is empty", || {
        let mut frames = FrameVec::new();
        received += port.rx_burst(&mut pool, &mut frames).unwrap();
        let empty = frames.is_empty();
        pool.put_all(&mut frames);
        empty
    });
    let lost = port.counters().drops(PortDrop::RxRingFull);
    assert!(lost > 0);
    assert_eq!(received as u64 + lost, 3000);
}

#[test]
fn an_interface_that_goes_down_comes_back_and_a_deleted_one_ends_the_port() {
    let (vm, net) = (Namespace::new("vm"), Namespace::new("net"));
    net.veth("n0", &net, "n1");
    let mut port =
        PortProcess::start(&format!("--host tap:eth0,netns={} --net af_packet:n0,netns={}", vm.0, net.0));
    let (host, network) = (vm.raw("eth0"), net.raw("n1"));
    let frame = test_frame(64, &[]);
    let is_test = |frame: &[u8]| frame[12..14] == [0x88, 0xb5];
    host.send(&frame);
    assert_eq!(network.receive(is_test), frame);
    net.ip("link set n0 down");
    host.send(&frame);
    eventually("the frame reached the port", || port.stats()["ports"]["host"]["rx_frames"] == 2);
    net.ip("link set n0 up");
    host.send(&frame);
    assert_eq!(network.receive(is_test), frame);
    net.ip("link del n0");
    let status = port.process.wait();
    assert_eq!(status.code(), Some(1));
    let stderr = port.process.stderr();
    assert!(stderr.contains("af_packet:n0") && stderr.contains("deleted"), "{stderr}");
}
