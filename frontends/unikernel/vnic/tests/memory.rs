//! Two smoltcp stacks, each behind an engine, joined in memory: no clock, no operating system.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has found something"
)]

use cvsw_core::{
    Config, Cvsw, Direction, Frame,
    control::{OffloadFlags, SaCommand, SessionState, SetSa},
    crypto::{KeyMaterial, Portable, SaConfig, Suite},
    mtu::L2Mtu,
    stats::ControlError,
};
use cvsw_smoltcp::{CvswDevice, CvswInterface, HEADROOM, Nic, TAILROOM};
use smoltcp::{
    iface::{SocketHandle, SocketSet},
    phy::{Device, RxToken, TxToken},
    socket::{icmp, tcp, udp},
    time::{Duration, Instant},
    wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpCidr, IpEndpoint},
};
use std::{cell::RefCell, collections::VecDeque, rc::Rc};
use zerocopy::FromZeros;

type Engine = Cvsw<64, 64, 16>;
type Keys = Portable<64>;
type Wire = Rc<RefCell<VecDeque<Vec<u8>>>>;

const BUFFERS: usize = 6;

/// An end of a cable, with a fixed number of buffers.
struct Cable {
    free: Vec<Box<[u8]>>,
    incoming: Wire,
    outgoing: Wire,
    /// Lengths of all frames sent.
    sent: Vec<usize>,
}

impl Cable {
    fn new(incoming: &Wire, outgoing: &Wire) -> Self {
        let buffer = || vec![0; HEADROOM + 1514 + TAILROOM].into_boxed_slice();
        Self {
            free: (0..BUFFERS).map(|_| buffer()).collect(),
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
            sent: vec![],
        }
    }
}

impl Nic for Cable {
    type Buffer = Box<[u8]>;

    fn buffer_len(&self) -> usize {
        HEADROOM + 1514 + TAILROOM
    }

    fn link_mtu(&self) -> L2Mtu {
        L2Mtu::new(1514)
    }

    fn receive(&mut self, _: Instant) -> Option<Frame<Box<[u8]>>> {
        if self.free.is_empty() {
            return None;
        }
        let bytes = self.incoming.borrow_mut().pop_front()?;
        let mut buffer = self.free.pop()?;
        // Driver's choice: here the frame stands behind 12 bytes, as with virtio.
        buffer[12..12 + bytes.len()].copy_from_slice(&bytes);
        Frame::new(buffer, 12, bytes.len()).ok()
    }

    fn allocate(&mut self, _: Instant) -> Option<Box<[u8]>> {
        self.free.pop()
    }

    fn transmit(&mut self, _: Instant, frame: Frame<Box<[u8]>>) {
        self.sent.push(frame.len());
        self.outgoing.borrow_mut().push_back(frame.bytes().to_vec());
        self.recycle(frame.into_buffer());
    }

    fn recycle(&mut self, buffer: Box<[u8]>) {
        self.free.push(buffer);
        assert!(self.free.len() <= BUFFERS, "a buffer came back twice");
    }
}

/// A stack with its vNIC and sockets.
struct Host {
    device: CvswDevice<'static, Cable, Engine, &'static mut Keys>,
    interface: CvswInterface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
    udp: SocketHandle,
    icmp: SocketHandle,
}

const IDENT: u16 = 0x22b;

impl Host {
    fn new(number: u8, incoming: &Wire, outgoing: &Wire) -> Self {
        let engine: &'static mut Engine = Box::leak(Cvsw::new_box_zeroed().unwrap());
        let config = Config { mac: [2, 0, 0, 0, 0, number], hash_seed: 7, ..Config::default() };
        let mut device = CvswDevice::with_ciphers(
            engine,
            Box::leak(Box::new(Keys::new())),
            Cable::new(incoming, outgoing),
            &config,
        );
        let mut interface = CvswInterface::new(u64::from(number), &mut device, Instant::ZERO);
        interface.interface_mut().update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(v4(number), 24)).unwrap();
            addresses.push(IpCidr::new(v6(number), 64)).unwrap();
        });
        let mut sockets = SocketSet::new(vec![]);
        let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 15]);
        let tcp = sockets.add(tcp::Socket::new(buffer(), buffer()));
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 1 << 14]);
        let udp = sockets.add(udp::Socket::new(buffer(), buffer()));
        let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 1 << 13]);
        let icmp = sockets.add(icmp::Socket::new(buffer(), buffer()));
        Self { device, interface, sockets, tcp, udp, icmp }
    }

    fn flow(&mut self, text: &str) {
        let flow = cvsw_core::flow::text::parse_flow(text).unwrap();
        self.device.engine_mut().flow_mod(cvsw_core::Instant::ZERO, &flow).unwrap();
    }

    fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.device, &mut self.sockets);
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.tcp)
    }

    fn udp(&mut self) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(self.udp)
    }

    fn icmp(&mut self) -> &mut icmp::Socket<'static> {
        self.sockets.get_mut(self.icmp)
    }

    fn connect(&mut self, to: IpEndpoint) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp);
        socket.connect(self.interface.interface_mut().context(), to, 40_000).unwrap();
    }

    /// Every buffer is at home again (one may wait for the next `receive`).
    fn assert_all_buffers_home(&mut self, now: Instant) {
        self.device.service(now);
        assert_eq!(self.device.nic().free.len(), BUFFERS);
    }
}

fn v4(number: u8) -> IpAddress {
    IpAddress::v4(10, 0, 0, number)
}

fn v6(number: u8) -> IpAddress {
    IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number))
}

/// Two hosts and the cable between them.
struct Pair {
    a: Host,
    b: Host,
    /// Frames on their way to each, to be looked at or forged.
    to_a: Wire,
    to_b: Wire,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let (to_a, to_b) = (Wire::default(), Wire::default());
        let (a, b) = (Host::new(1, &to_a, &to_b), Host::new(2, &to_b, &to_a));
        let mut pair = Self { a, b, to_a, to_b, now: Instant::ZERO };
        // What the vNICs say when they come up is for a controller.
        pair.a.device.service(pair.now);
        pair.b.device.service(pair.now);
        pair.to_a.borrow_mut().clear();
        pair.to_b.borrow_mut().clear();
        pair
    }

    /// Both sides put everything into VXLAN and take nothing else.
    fn with_overlay() -> Self {
        let mut pair = Self::with_flows("", "udp,tp_dst=4789,actions=");
        pair.command(5, 1450);
        pair
    }

    /// The same, sealed, on both sides by association 7.
    fn with_sealed_overlay() -> Self {
        let mut pair = Self::with_flows(",encrypt(sa=7)", "ip,nw_proto=50,actions=decrypt,");
        pair.command(5, 1400);
        pair
    }

    fn with_flows(behind_encapsulation: &str, before_decapsulation: &str) -> Self {
        let mut pair = Self::new();
        for (host, own, other) in [(&mut pair.a, 1, 2), (&mut pair.b, 2, 1)] {
            host.flow(&format!(
                "in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.{own},dst=192.0.2.{other},\
                 eth_src=02:00:00:01:00:0{own},eth_dst=02:00:00:01:00:0{other}){behind_encapsulation}"
            ));
            host.flow(&format!("priority=100,in_port=NET,{before_decapsulation}strip_vxlan(vni=42)"));
            host.flow("priority=1,in_port=NET,actions=drop");
        }
        pair
    }

    /// A SET_SA to each: what each sends to the other has a key of its own.
    fn give_keys(&mut self) {
        for (sender, spi) in [(1, 0x1001), (2, 0x1002)] {
            let key = KeyMaterial::new(Suite::Aes128Gcm, &[sender; 20]).unwrap();
            for (queue, host, number) in [(&self.to_a, &mut self.a, 1), (&self.to_b, &mut self.b, 2)] {
                let (id, direction) = if number == sender { (7, Direction::Tx) } else { (spi, Direction::Rx) };
                let config = SaConfig::new(id, direction, spi, [192, 0, 2, 3 - sender]);
                let message = SetSa { transaction: spi, command: SaCommand::Add(config, key.clone()) };
                let mut body = [0; 200];
                let len = message.emit(&mut body).unwrap();
                let mut frame = control(9, 0);
                frame[8..10].copy_from_slice(&(len as u16).to_be_bytes());
                frame.extend(&body[..len]);
                queue.borrow_mut().push_back(frame);
                host.poll(self.now);
            }
        }
        self.drop_answers();
    }

    fn drop_answers(&mut self) {
        let is_control = |frame: &Vec<u8>| frame[12..14] == [0xab, 0xba];
        self.to_a.borrow_mut().retain(|frame| !is_control(frame));
        self.to_b.borrow_mut().retain(|frame| !is_control(frame));
    }

    /// A control message to both: HELLO first, then `kind` with `data`.
    fn command(&mut self, kind: u8, data: u16) {
        for (queue, host) in [(&self.to_a, &mut self.a), (&self.to_b, &mut self.b)] {
            if host.device.parameters().session == SessionState::Disconnected {
                queue.borrow_mut().push_back(control(1, 0));
            }
            queue.borrow_mut().push_back(control(kind, data));
            host.poll(self.now);
        }
        self.drop_answers();
    }

    /// Lets time pass until `done`, for a minute of virtual time at most.
    fn run(&mut self, mut done: impl FnMut(&mut Host, &mut Host) -> bool) {
        let end = self.now + Duration::from_secs(60);
        while !done(&mut self.a, &mut self.b) {
            assert!(self.now < end, "it never happened; A {:?}; B {:?}", self.a.tcp(), self.b.tcp());
            self.now += Duration::from_millis(1);
            self.a.poll(self.now);
            self.b.poll(self.now);
        }
    }
}

fn control(kind: u8, data: u16) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([0x20 | kind, 0, 0, 0]);
    frame.extend(data.to_be_bytes());
    frame.extend([0xab, 0xba]);
    frame
}

/// Sends `len` bytes from A to B and compares them. The connection stays open.
fn transfer(pair: &mut Pair, len: usize) {
    let (mut sent, mut received) = (0, 0);
    let byte = |at: usize| (at % 251) as u8;
    pair.run(|a, b| {
        while a.tcp().can_send() && sent < len {
            let data: Vec<_> = (sent..len.min(sent + 4096)).map(byte).collect();
            sent += a.tcp().send_slice(&data).unwrap();
        }
        while b.tcp().can_recv() {
            let new = b.tcp().recv(|data| (data.len(), data.to_vec())).unwrap();
            assert!(new.iter().enumerate().all(|(at, got)| *got == byte(received + at)), "behind {received}");
            received += new.len();
        }
        received == len
    });
}

fn open(pair: &mut Pair, address: IpAddress) {
    pair.b.tcp().listen(80).unwrap();
    pair.a.connect((address, 80).into());
    pair.run(|a, b| a.tcp().may_send() && b.tcp().may_recv());
}

#[test]
fn tcp_crosses_the_overlay_and_only_the_overlay() {
    for address in [v4(2), v6(2)] {
        let mut pair = Pair::with_overlay();
        open(&mut pair, address);
        transfer(&mut pair, 300_000);
        let stats = pair.b.device.engine().stats();
        assert_eq!(stats.direction(Direction::Rx).dropped_total(), 0);
        assert_eq!(stats.direction(Direction::Tx).missed, 0);
        // 1450 + 14 inner, 50 outer (RFC 7348): full frames fill the cable exactly.
        assert_eq!(pair.a.device.nic().sent.iter().max(), Some(&1514));
        let now = pair.now;
        pair.a.assert_all_buffers_home(now);
        pair.b.assert_all_buffers_home(now);
    }
}

#[test]
fn the_controllers_keys_seal_the_overlay() {
    let mut pair = Pair::with_sealed_overlay();
    pair.give_keys();
    let refused = |host: &Host| host.device.engine().stats().control_errors[ControlError::KeysRefused as usize];
    assert_eq!(
        (refused(&pair.a), pair.a.device.engine().sas().count()),
        (2, 0),
        "keys in clear, without permission"
    );
    pair.b.tcp().listen(80).unwrap();
    pair.a.connect((v4(2), 80).into());
    pair.a.poll(pair.now);
    assert!(pair.to_b.borrow().is_empty(), "sent without a key");

    for host in [&mut pair.a, &mut pair.b] {
        host.device.engine_mut().accept_keys_in_clear(true);
    }
    pair.give_keys();
    let keeps_a_key = |buffer: &[u8]| buffer.windows(20).any(|bytes| bytes == [1; 20] || bytes == [2; 20]);
    assert!(!pair.a.device.nic().free.iter().any(|buffer| keeps_a_key(buffer)), "a key is left in a buffer");
    pair.run(|a, b| a.tcp().may_send() && b.tcp().may_recv());
    transfer(&mut pair, 100_000);
    for host in [&pair.a, &pair.b] {
        let engine = host.device.engine();
        assert!(engine.sas().count() == 2 && engine.sas().all(|sa| sa.counters.packets > 5));
        assert_eq!(engine.stats().direction(Direction::Tx).missed, 0);
        assert_eq!(engine.stats().direction(Direction::Rx).dropped_total(), 0);
    }
}

#[test]
fn frames_outside_the_overlay_do_not_reach_the_stack() {
    let mut pair = Pair::with_overlay();
    let hello = [[0xff; 6], [2, 0, 0, 0, 0, 9]].concat();
    let arp = [&hello[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9], &[0; 6], &[10, 0, 0, 1]];
    pair.to_a.borrow_mut().push_back(arp.concat());
    pair.a.poll(pair.now);
    assert_eq!(pair.to_b.borrow().len(), 0, "the stack answered");
    assert_eq!(pair.a.device.engine().stats().direction(Direction::Rx).dropped_total(), 1);
}

#[test]
fn udp_and_ping() {
    let mut pair = Pair::with_overlay();
    pair.b.udp().bind(7).unwrap();
    pair.a.udp().bind(1000).unwrap();
    for address in [v4(2), v6(2)] {
        pair.a.udp().send_slice(&[5; 1400], IpEndpoint::from((address, 7))).unwrap();
        pair.run(|_, b| b.udp().can_recv());
        let (data, from) = pair.b.udp().recv().map(|(data, from)| (data.to_vec(), from)).unwrap();
        assert_eq!(data, [5; 1400]);
        pair.b.udp().send_slice(&data, from).unwrap();
        pair.run(|a, _| a.udp().can_recv());
        assert_eq!(pair.a.udp().recv().unwrap().0, [5; 1400]);
    }
    pair.a.icmp().bind(icmp::Endpoint::Ident(IDENT)).unwrap();
    let checksum = Default::default();
    let request = Icmpv4Repr::EchoRequest { ident: IDENT, seq_no: 1, data: b"hello" };
    let room = pair.a.icmp().send(request.buffer_len(), v4(2)).unwrap();
    request.emit(&mut Icmpv4Packet::new_unchecked(room), &checksum);
    pair.run(|a, _| a.icmp().can_recv());
    let answer = Icmpv4Packet::new_checked(pair.a.icmp().recv().unwrap().0.to_vec()).unwrap();
    let expected = Icmpv4Repr::EchoReply { ident: IDENT, seq_no: 1, data: b"hello" };
    assert_eq!(
        Icmpv4Repr::parse(&Icmpv4Packet::new_checked(&answer.into_inner()[..]).unwrap(), &checksum),
        Ok(expected)
    );
    let (IpAddress::Ipv6(own), IpAddress::Ipv6(other)) = (v6(1), v6(2)) else { unreachable!() };
    let request = Icmpv6Repr::EchoRequest { ident: IDENT, seq_no: 2, data: b"hello" };
    let room = pair.a.icmp().send(request.buffer_len(), v6(2)).unwrap();
    request.emit(&own, &other, &mut Icmpv6Packet::new_unchecked(room), &checksum);
    pair.run(|a, _| a.icmp().can_recv());
}

#[test]
fn a_new_mtu_holds_at_once_and_connections_live_on() {
    let mut pair = Pair::with_overlay();
    open(&mut pair, v4(2));
    transfer(&mut pair, 100_000);
    for mtu in [1300, 600, 1450] {
        pair.command(5, mtu);
        assert_eq!((pair.a.interface.mtu().get(), pair.b.interface.mtu().get()), (mtu, mtu));
        pair.a.device.nic_mut().sent.clear();
        transfer(&mut pair, 100_000);
        // Inner IP packet, its Ethernet header, the tunnel.
        assert_eq!(pair.a.device.nic().sent.iter().max(), Some(&(usize::from(mtu) + 14 + 50)));
        assert_eq!(pair.a.interface.interface().ip_addrs(), [IpCidr::new(v4(1), 24), IpCidr::new(v6(1), 64)]);
    }
    assert!(pair.a.tcp().may_send() && pair.b.tcp().may_recv());
}

#[test]
fn routes_survive_a_new_mtu() {
    let mut pair = Pair::new();
    let gateway = smoltcp::wire::Ipv4Address::new(10, 0, 0, 254);
    pair.a.interface.interface_mut().routes_mut().add_default_ipv4_route(gateway).unwrap();
    pair.command(5, 1000);
    let route = pair.a.interface.interface().routes().get_default_ipv4_route().unwrap();
    assert_eq!(route.via_router, gateway.into());
}

#[test]
fn what_cannot_be_honoured_is_reported() {
    let mut pair = Pair::new();
    for refused in [68, 575, 1501, 9000] {
        pair.command(5, refused);
        let parameters = pair.a.device.parameters();
        assert_eq!(parameters.refused_mtu.map(cvsw_core::mtu::IpMtu::get), Some(refused));
        assert_eq!(parameters.mtu.get(), 1500);
    }
    pair.command(6, 0x1f);
    let parameters = pair.a.device.parameters();
    assert_eq!(parameters.offload_requested, Some(OffloadFlags(OffloadFlags::ALL)));
    assert_eq!(parameters.offload_effective, OffloadFlags(0));
    assert_eq!(parameters.session, SessionState::Connected);
}

#[test]
fn hello_and_register_are_sent() {
    let (to_a, from_a) = (Wire::default(), Wire::default());
    let mut host = Host::new(1, &to_a, &from_a);
    host.poll(Instant::ZERO);
    let kinds =
        || from_a.borrow_mut().drain(..).map(|frame| (frame[6], frame[12..14].to_vec())).collect::<Vec<_>>();
    assert_eq!(kinds(), [(0x21, vec![0xab, 0xba])]);
    to_a.borrow_mut().push_back(control(1, 0));
    host.poll(Instant::ZERO);
    assert_eq!(kinds(), [(0x22, vec![0xab, 0xba])]);
}

#[test]
fn without_a_free_buffer_frames_wait_below() {
    let mut pair = Pair::new();
    pair.to_a.borrow_mut().push_back(vec![0; 60]);
    let held: Vec<_> = pair.a.device.nic_mut().free.drain(..).collect();
    assert!(pair.a.device.receive(pair.now).is_none());
    assert!(pair.a.device.transmit(pair.now).is_none());
    assert_eq!(pair.to_a.borrow().len(), 1);
    pair.a.device.nic_mut().free.extend(held);
    let (received, unused) = pair.a.device.receive(pair.now).unwrap();
    drop(unused);
    assert_eq!(received.consume(<[u8]>::len), 60);
    let now = pair.now;
    pair.a.assert_all_buffers_home(now);
}

#[test]
fn a_frame_beyond_the_buffers_is_not_sent() {
    let mut pair = Pair::new();
    let token = pair.a.device.transmit(pair.now).unwrap();
    assert_eq!(token.consume(1514 + TAILROOM + 1, |room| room.len()), 0);
    let token = pair.a.device.transmit(pair.now).unwrap();
    assert_eq!(token.consume(1514 + 1, |room| room.len()), 1515);
    assert_eq!(pair.to_b.borrow().len(), 0);
    assert_eq!(pair.a.device.engine().stats().direction(Direction::Tx).dropped_total(), 1);
    let now = pair.now;
    pair.a.assert_all_buffers_home(now);
}

#[test]
fn a_flood_of_rubbish_loses_no_buffer() {
    let mut pair = Pair::with_overlay();
    let mut state = 1u64;
    for round in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let len = (state >> 32) as usize % 200;
        let mut frame: Vec<u8> = (0..len).map(|at| (state >> (at % 57)) as u8).collect();
        if len > 14 {
            let kinds = [[8, 0], [0xab, 0xba], [0x86, 0xdd], [8, 6], [0x81, 0]];
            frame[12..14].copy_from_slice(&kinds[round % kinds.len()]);
        }
        pair.to_a.borrow_mut().push_back(frame);
        if round % 7 == 0 {
            pair.a.poll(pair.now);
        }
    }
    while !pair.to_a.borrow().is_empty() {
        pair.a.poll(pair.now);
    }
    let now = pair.now;
    pair.a.assert_all_buffers_home(now);
    let rx = pair.a.device.engine().stats().direction(Direction::Rx);
    assert_eq!(rx.frames, rx.forwarded + rx.consumed + rx.dropped_total());
}
