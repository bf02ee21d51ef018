//! The packet loop between ports in memory.

use crate::support::*;
use cvsw_core::{BURST, Checksum, Instant, control::ETHERTYPE};
use cvsw_userspace::{
    mem::{self, Mem},
    pool::{DEFAULT_BUFFER_SIZE, Mempool},
    port::{Capabilities, FrameVec, Port},
    vnic::{Snapshot, Vnic},
};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NOW: Instant = Instant::from_secs(1);

/// A vNIC between two memory ports; the test holds the far ends.
struct Bench {
    vnic: Vnic,
    host: Mem,
    net: Mem,
    pool: Mempool,
}

impl Bench {
    fn new(capabilities: Capabilities) -> Self {
        let ((vnic_host, host), (mut vnic_net, net)) = (mem::pair(128), mem::pair(128));
        vnic_net.settings.capabilities = capabilities;
        let vnic = Vnic::new(Box::new(vnic_host), Box::new(vnic_net), MAC, ETHERTYPE, 512, 1).unwrap();
        Self { vnic, host, net, pool: Mempool::new(512, DEFAULT_BUFFER_SIZE) }
    }

    fn send(pool: &mut Mempool, port: &mut Mem, bytes: &[u8], checksum: Checksum) {
        let mut frame = pool.take().unwrap();
        frame.set_len(bytes.len()).unwrap();
        frame.bytes_mut().copy_from_slice(bytes);
        frame.offload.checksum = checksum;
        port.tx_burst(pool, &mut vec![frame]).unwrap();
    }

    fn send_from_host(&mut self, bytes: &[u8]) {
        Self::send(&mut self.pool, &mut self.host, bytes, Checksum::Complete);
    }

    fn send_from_net(&mut self, bytes: &[u8]) {
        Self::send(&mut self.pool, &mut self.net, bytes, Checksum::Complete);
    }

    fn run(&mut self) {
        while self.vnic.step(NOW).unwrap() > 0 {}
    }

    fn receive(pool: &mut Mempool, port: &mut Mem) -> Vec<Vec<u8>> {
        let mut frames = FrameVec::new();
        while port.rx_burst(pool, &mut frames).unwrap() > 0 {}
        let bytes = frames.iter().map(|frame| frame.bytes().to_vec()).collect();
        pool.put_all(&mut frames);
        bytes
    }

    fn at_net(&mut self) -> Vec<Vec<u8>> {
        Self::receive(&mut self.pool, &mut self.net)
    }

    fn at_host(&mut self) -> Vec<Vec<u8>> {
        Self::receive(&mut self.pool, &mut self.host)
    }

    fn snapshot(&mut self) -> Snapshot {
        self.vnic.snapshot(NOW)
    }
}

const ALL: Capabilities = Capabilities { checksum: true, gso: true };
const NONE: Capabilities = Capabilities { checksum: false, gso: false };

#[test]
fn frames_cross_in_order_and_no_buffer_is_lost() {
    let mut bench = Bench::new(ALL);
    let frames: Vec<_> = (0..2 * BURST + 5).map(|i| noise(60 + i)).collect();
    for round in 0..50 {
        frames.iter().for_each(|frame| bench.send_from_host(frame));
        frames.iter().rev().for_each(|frame| bench.send_from_net(frame));
        bench.run();
        assert_eq!(bench.at_net(), frames, "round {round}");
        assert!(bench.at_host().iter().eq(frames.iter().rev()), "round {round}");
    }
    // Empty buffers come back with the next burst that is sent.
    bench.send_from_host(&frames[0]);
    bench.send_from_net(&frames[0]);
    bench.run();
    let (free, all, _) = bench.snapshot().pool;
    assert!(all - free <= 2 * (2 * BURST + 5), "{free} of {all} buffers are free");
    let stats = bench.snapshot().stats;
    for direction in &stats.directions {
        assert_eq!(direction.frames, 50 * frames.len() as u64 + 1);
        assert_eq!(direction.forwarded, direction.frames);
    }
}

#[test]
fn control_frames_end_in_the_vnic_and_its_answers_leave_to_the_network() {
    let mut bench = Bench::new(ALL);
    bench.send_from_net(&control([0xff; 6], HELLO, 0));
    bench.send_from_net(&control(MAC, SET_MTU, 1400));
    bench.send_from_net(&control(MAC, SET_OFFLOAD, 0x1f));
    bench.run();
    assert_eq!(bench.at_host(), [[0; 0]; 0]);
    assert_eq!(bench.at_net(), [control(MAC, REGISTER, 0)]);
    let snapshot = bench.snapshot();
    assert_eq!(snapshot.session.name(), "CONNECTED");
    assert_eq!(snapshot.mtu.unwrap().get(), 1400);
    assert_eq!(snapshot.offload.effective.0, 0x1f);
}

#[test]
fn checksums_are_completed_only_for_a_port_that_needs_it() {
    // UDP over IPv4, 2 bytes of payload; the checksum field holds the pseudo-header sum.
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0x66, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0, 7, 0, 9, 0, 10, 0x14, 0x1e, b'h', b'i']);
    let partial = Checksum::Partial { start: 34, offset: 6 };
    for (capabilities, completed) in [(ALL, false), (NONE, true)] {
        let mut bench = Bench::new(capabilities);
        Bench::send(&mut bench.pool, &mut bench.host, &frame, partial);
        bench.run();
        let out = bench.at_net().remove(0);
        let headers = etherparse::PacketHeaders::from_ethernet_slice(&out).unwrap();
        let (Some(etherparse::NetHeaders::Ipv4(ip, _)), Some(etherparse::TransportHeader::Udp(udp))) =
            (&headers.net, &headers.transport)
        else {
            panic!("not UDP: {headers:?}")
        };
        let right = udp.calc_checksum_ipv4(ip, headers.payload.slice()).unwrap() == udp.checksum;
        assert_eq!(right, completed, "{capabilities:?}");
        assert_eq!(out == frame, !completed);
    }
}

#[test]
fn a_dry_pool_delays_frames_but_loses_none() {
    let ((vnic_host, mut host), (vnic_net, mut net)) = (mem::pair(256), mem::pair(256));
    let mut vnic = Vnic::new(Box::new(vnic_host), Box::new(vnic_net), MAC, ETHERTYPE, 40, 1).unwrap();
    let mut pool = Mempool::new(512, DEFAULT_BUFFER_SIZE);
    let frames: Vec<_> = (0..200).map(|i| noise(60 + i)).collect();
    frames.iter().for_each(|frame| Bench::send(&mut pool, &mut host, frame, Checksum::Complete));
    let mut received = Vec::new();
    eventually("all frames have crossed", || {
        vnic.step(NOW).unwrap();
        received.extend(Bench::receive(&mut pool, &mut net));
        // The far end pays back with empty buffers when it sends.
        net.tx_burst(&mut pool, &mut FrameVec::new()).unwrap();
        received.len() == frames.len()
    });
    assert_eq!(received, frames);
}

/// A listing longer than a burst leaves in bursts, between which traffic flows.
#[test]
fn a_long_listing_comes_completely() {
    let mut bench = Bench::new(ALL);
    let text: String = (0..300).map(|port| format!("udp,tp_dst={port},actions=drop\n")).collect();
    let flows = cvsw_userspace::flows_file::parse("test", text.as_bytes()).unwrap();
    bench.vnic.load_flows(NOW, &flows).unwrap();
    bench.send_from_net(&control([0xff; 6], HELLO, 0));
    bench.run();
    assert_eq!(bench.at_net(), [control(MAC, REGISTER, 0)]);
    bench.send_from_net(&control(MAC, LIST_ENTRIES, 0));
    let mut messages = Vec::new();
    while bench.vnic.step(NOW).unwrap() > 0 {
        let got = bench.at_net();
        assert!(got.len() <= BURST);
        messages.extend(got);
        // The far end pays for the frames that it took.
        bench.net.tx_burst(&mut bench.pool, &mut FrameVec::new()).unwrap();
    }
    assert_eq!(messages.len(), 301);
    assert_eq!(messages[300], control(MAC, LIST_ENTRIES, 0));
    assert!(messages[..300].iter().all(|message| message.len() >= 14 + 72));
}
