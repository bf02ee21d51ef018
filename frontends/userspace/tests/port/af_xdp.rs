//! The AF_XDP socket against the kernel, raw sockets and tcpdump.

use crate::{
    af_packet::{goes_around_the_rings_in_order, receive, transmit},
    support::*,
};
use cvsw_core::BURST;
use cvsw_userspace::{
    af_xdp::AfXdp,
    pool::Mempool,
    port::{FrameVec, Port, PortDrop},
};

/// A port on one end of a veth pair; the other end is in the same namespace, as `peer`.
fn port_and_peer() -> (Namespace, AfXdp, Mempool) {
    let namespace = Namespace::new("x");
    namespace.veth("port", &namespace, "peer");
    let port = AfXdp::open("port", Some(&namespace.0)).unwrap();
    (namespace, port, Mempool::new(4 * BURST, Mempool::buffer_size_for(1500)))
}

#[test]
fn frames_pass_unchanged_both_ways() {
    let (namespace, mut port, mut pool) = port_and_peer();
    let peer = namespace.raw("peer");
    let frames = all_kinds_of_frames();
    for sent in &frames {
        peer.send(sent);
        let received = receive(&mut port, &mut pool, 1);
        assert_eq!(received[0].bytes(), sent, "{} bytes", sent.len());
        received.into_iter().for_each(|frame| pool.put(frame));
    }
    let capture = Capture::start(&namespace, "peer", frames.len(), "");
    transmit(&mut port, &mut pool, &frames);
    assert_eq!(capture.frames(), frames);
    let counters = port.counters();
    assert_eq!((counters.rx_frames, counters.tx_frames), (frames.len() as u64, frames.len() as u64));
    assert_eq!(pool.available(), pool.capacity());
}

/// The machine's own stack is left out: an address on the interface does not answer.
#[test]
fn nobody_else_sees_what_comes_in() {
    let (namespace, mut port, mut pool) = port_and_peer();
    let (other, peer) = (namespace.raw("port"), namespace.raw("peer"));
    let (first, second) = (test_frame(64, &[]), test_frame(65, &[]));
    peer.send(&first);
    assert_eq!(receive(&mut port, &mut pool, 1)[0].bytes(), first);
    drop(port);
    peer.send(&second);
    assert_eq!(
        other.receive(|frame| frame[12..14] == [0x88, 0xb5]),
        second,
        "and after the port not even the first"
    );
}

#[test]
fn many_frames_go_around_the_rings_in_order() {
    let (namespace, mut port, mut pool) = port_and_peer();
    goes_around_the_rings_in_order(&namespace, &mut port, &mut pool);
}

#[test]
fn what_cannot_be_carried_is_counted() {
    let (_namespace, mut port, mut pool) = port_and_peer();
    let mut frames = FrameVec::new();
    for len in [13, 1519] {
        let mut frame = pool.take().unwrap();
        frame.set_len(len).unwrap();
        frames.push(frame);
    }
    port.tx_burst(&mut pool, &mut frames).unwrap();
    let counters = port.counters();
    assert_eq!((counters.drops(PortDrop::TxTooShort), counters.drops(PortDrop::TxTooBig)), (1, 1));
    assert_eq!(counters.tx_frames, 0);
}

#[test]
fn an_mtu_beyond_a_page_is_refused_with_the_way_out() {
    let namespace = Namespace::new("x");
    namespace.veth("port", &namespace, "peer");
    namespace.ip("link set port mtu 9000");
    let error = AfXdp::open("port", Some(&namespace.0)).unwrap_err();
    assert!(error.to_string().contains("lower it, or use af_packet"), "{error}");
}
