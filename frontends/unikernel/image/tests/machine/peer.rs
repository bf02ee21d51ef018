//! The other end of the encrypted tunnel: a smoltcp stack with an engine of its own, on a packet socket.

use crate::PATIENCE;
use cvsw_core::{
    Config, Cvsw, Direction,
    crypto::{KeyMaterial, Portable, SaConfig, Suite},
    flow::text::parse_flow,
};
use cvsw_smoltcp::{CvswDevice, CvswInterface, PhyNic};
use smoltcp::{
    iface::{SocketHandle, SocketSet},
    phy::{Medium, RawSocket},
    socket::{tcp, udp},
    time::Instant,
    wire::IpAddress,
};
use std::io;
use zerocopy::FromZeros;

/// Addresses and flows of a guest that has an encrypted tunnel to the peer and takes nothing else.
pub const GUEST_LINE: &str = "ip=10.0.0.2/24 \
    flow=in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.2,dst=192.0.2.3,eth_src=02:00:00:01:00:02,\
eth_dst=02:00:00:01:00:03),encrypt(sa=7) \
    flow=priority=100,in_port=NET,ip,nw_dst=192.0.2.2,nw_proto=50,actions=decrypt,strip_vxlan(vni=42) \
    flow=priority=1,in_port=NET,actions=drop";
const PEER_FLOWS: [&str; 3] = [
    "in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.3,dst=192.0.2.2,eth_src=02:00:00:01:00:03,\
     eth_dst=02:00:00:01:00:02),encrypt(sa=8)",
    "priority=100,in_port=NET,ip,nw_dst=192.0.2.3,nw_proto=50,actions=decrypt,strip_vxlan(vni=42)",
    "priority=1,in_port=NET,actions=drop",
];
const TO_PEER: (u32, [u8; 4], [u8; 20]) = (0x1001, [192, 0, 2, 3], *b"key to the peer 0123");
/// SPI, destination and key of what the guest receives.
pub const TO_GUEST: (u32, [u8; 4], [u8; 20]) = (0x1002, [192, 0, 2, 2], *b"key to the guest 012");

/// The guest's file of keys.
pub fn guest_keys() -> String {
    let line = |id: u32, direction: &str, (spi, [a, b, c, d], key): (u32, [u8; 4], [u8; 20])| {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "sa id={id} direction={direction} spi={spi} destination={a}.{b}.{c}.{d} suite=aes-128-gcm key={hex}\n"
        )
    };
    line(7, "tx", TO_PEER) + &line(8, "rx", TO_GUEST) + "encrypted-only vni=42\n"
}

type Engine = Cvsw<64, 64, 16, 4>;
type Device = CvswDevice<'static, PhyNic<'static, RawSocket>, Engine, Portable<4>>;

/// The peer, at 10.0.0.3.
pub struct Peer {
    device: Device,
    interface: CvswInterface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
    udp: SocketHandle,
    port: u16,
}

impl Peer {
    /// On the interface `t0` of this thread's namespace.
    pub fn new() -> io::Result<Self> {
        let engine: &'static mut Engine = Box::leak(Cvsw::new_box_zeroed().unwrap());
        let buffer = || Box::leak(vec![0; 2048].into_boxed_slice());
        let nic = PhyNic::new(RawSocket::new("t0", Medium::Ethernet)?, [buffer(), buffer(), buffer()]).unwrap();
        let config = Config { mac: [2, 0, 0, 0, 0, 3], hash_seed: 9, ..Config::default() };
        let mut device = Device::with_ciphers(engine, Portable::new(), nic, &config);
        let now = cvsw_core::Instant::ZERO;
        let (engine, ciphers) = device.engine_and_ciphers();
        for (id, direction, (spi, destination, key)) in [(8, Direction::Tx, TO_GUEST), (7, Direction::Rx, TO_PEER)]
        {
            let key = KeyMaterial::new(Suite::Aes128Gcm, &key).unwrap();
            engine.add_sa(ciphers, now, &SaConfig::new(id, direction, spi, destination), &key).unwrap();
        }
        for flow in PEER_FLOWS {
            engine.flow_mod(now, &parse_flow(flow).unwrap()).unwrap();
        }
        let mut interface = CvswInterface::new(1, &mut device, Instant::now());
        interface.interface_mut().update_ip_addrs(|list| list.push("10.0.0.3/24".parse().unwrap()).unwrap());
        let mut sockets = SocketSet::new(vec![]);
        let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 14]);
        let tcp = sockets.add(tcp::Socket::new(buffer(), buffer()));
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 1 << 14]);
        let udp = sockets.add(udp::Socket::new(buffer(), buffer()));
        Ok(Self { device, interface, sockets, tcp, udp, port: 40_000 })
    }

    /// Packets opened, and frames from the guest refused by the engine for anything but a flow.
    pub fn counts(&self) -> (u64, u64) {
        let engine = self.device.engine();
        let opened = engine.sas().filter(|sa| sa.config.direction == Direction::Rx).map(|sa| sa.counters.packets);
        let rx = engine.stats().direction(Direction::Rx);
        (opened.sum(), rx.dropped_total() - rx.dropped(cvsw_core::DropReason::Policy))
    }

    /// Lets time pass until `done`.
    fn run(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !done(self) {
            assert!(std::time::Instant::now() < deadline, "never happened: {what}");
            self.interface.poll(Instant::now(), &mut self.device, &mut self.sockets);
        }
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.tcp)
    }

    /// Connects, again if refused: a machine that has just booted, or is still closing the last connection, has
    /// nobody listening.
    fn connect(&mut self, port: u16) {
        self.tcp().abort();
        self.run("a connection", |peer| {
            if !peer.tcp().is_open() {
                peer.dial(port);
            }
            peer.tcp().may_send()
        });
    }

    /// Sends a SYN from a port of its own.
    fn dial(&mut self, port: u16) {
        self.port += 1;
        let to = (IpAddress::v4(10, 0, 0, 2), port);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp);
        socket.connect(self.interface.interface_mut().context(), to, self.port).unwrap();
    }

    /// The whole answer to an HTTP request.
    pub fn fetch(&mut self, path: &str) -> String {
        self.connect(80);
        self.tcp().send_slice(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        self.run("the end of the page", |peer| {
            while peer.tcp().can_recv() {
                answer.extend(peer.tcp().recv(|data| (data.len(), data.to_vec())).unwrap());
            }
            !peer.tcp().may_recv()
        });
        String::from_utf8(answer).unwrap()
    }

    /// Echoes `len` bytes over one connection.
    pub fn echo_tcp(&mut self, len: usize) {
        self.connect(7);
        let (mut sent, mut received) = (0, 0);
        let byte = |at: usize| (at % 251) as u8;
        self.run("the whole echo", |peer| {
            if sent < len && sent < received + 8000 && peer.tcp().can_send() {
                let piece: Vec<u8> = (sent..len.min(sent + 1000)).map(byte).collect();
                sent += peer.tcp().send_slice(&piece).unwrap();
            }
            while peer.tcp().can_recv() {
                let piece = peer.tcp().recv(|data| (data.len(), data.to_vec())).unwrap();
                assert!(piece.iter().enumerate().all(|(at, got)| *got == byte(received + at)), "the echo differs");
                received += piece.len();
            }
            received == len
        });
    }

    /// Echoes `count` datagrams, one after the other.
    pub fn echo_udp(&mut self, count: u32) {
        self.sockets.get_mut::<udp::Socket<'_>>(self.udp).bind(5000).unwrap();
        for number in 0..count {
            let to = (IpAddress::v4(10, 0, 0, 2), 7);
            self.sockets.get_mut::<udp::Socket<'_>>(self.udp).send_slice(&number.to_be_bytes(), to).unwrap();
            self.run("an echo", |peer| peer.sockets.get_mut::<udp::Socket<'_>>(peer.udp).can_recv());
            let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.udp);
            assert_eq!(socket.recv().unwrap().0, number.to_be_bytes());
        }
    }
}
