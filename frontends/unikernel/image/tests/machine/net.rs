//! The other end of the machine's cable: a namespace with a tap and Linux's own `vxlan` device.

use crate::PATIENCE;
use cvsw_core::crypto::Suite;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send, socket,
};
use serde_json::Value;
use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Addresses and flows of a guest that has a clear tunnel to the namespace and takes nothing else.
pub const CLEAR: &str = "ip=10.0.0.2/24 ip=fd00::2/64 \
    flow=in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.2,dst=192.0.2.1,eth_src=02:00:00:01:00:02,\
eth_dst=02:00:00:01:00:01) \
    flow=priority=100,in_port=NET,udp,nw_dst=192.0.2.2,tp_dst=4789,actions=strip_vxlan(vni=42) \
    flow=priority=1,in_port=NET,actions=drop";

/// A namespace; removed when dropped.
pub struct Net {
    /// Its name.
    pub namespace: String,
}

impl Net {
    /// A namespace with the tap `t0` and the tunnel `vx0`: 10.0.0.1 and fd00::1.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let net = Self { namespace: format!("cvu{}-{number}", std::process::id()) };
        run(&["ip", "netns", "add", &net.namespace]);
        for command in [
            "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.core.rmem_max=8388608",
            "ip tuntap add t0 mode tap",
            "ip link set t0 address 02:00:00:01:00:01 up",
            "ip addr add 192.0.2.1/24 dev t0",
            "ip neigh add 192.0.2.2 lladdr 02:00:00:01:00:02 dev t0 nud permanent",
            "ip link add vx0 type vxlan id 42 dev t0 remote 192.0.2.2 local 192.0.2.1 dstport 4789",
            "ip link set vx0 mtu 1450 up",
            // Or the first ping would wait a second for the next ARP request.
            "sysctl -qw net.ipv4.neigh.vx0.retrans_time_ms=20",
            "ethtool -K vx0 tso off gso off",
            "ethtool -K t0 tso off gso off",
            "ip addr add 10.0.0.1/24 dev vx0",
            "ip addr add fd00::1/64 dev vx0 nodad",
        ] {
            net.exec(command);
        }
        net
    }

    /// A text that no other namespace of this process has.
    pub fn unique(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        format!("{}-{}", self.namespace, NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs a command inside; panics unless it succeeds.
    pub fn exec(&self, command: &str) {
        let words: Vec<_> =
            ["ip", "netns", "exec", &self.namespace].into_iter().chain(command.split_whitespace()).collect();
        run(&words);
    }

    /// Runs `work` with the namespace's network.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace);
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                nix::sched::setns(fs::File::open(path)?, nix::sched::CloneFlags::CLONE_NEWNET)?;
                work()
            });
            inside.join().unwrap().unwrap()
        })
    }

    /// Waits until `condition` holds.
    pub fn eventually(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "never happened: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the guest answers through the tunnel.
    pub fn wait_for_ping(&self) {
        self.eventually("an answer to ping", || self.ping_answers());
    }

    /// As [`Net::wait_for_ping`], at a resolution of 10 ms.
    pub fn wait_for_first_ping(&self) {
        self.exec(&format!("ping -q -c 1 -i 0.01 -w {} 10.0.0.2", PATIENCE.as_secs()));
    }

    /// Whether the guest answers through the clear tunnel, at once.
    pub fn ping_answers(&self) -> bool {
        let ping = ["netns", "exec", &self.namespace, "ping", "-c", "1", "-W", "0.1", "10.0.0.2"];
        Command::new("ip").args(ping).output().unwrap().status.success()
    }

    /// A TCP connection from inside.
    pub fn connect(&self, address: &str) -> TcpStream {
        let stream = self.within(|| TcpStream::connect_timeout(&address.parse().unwrap(), PATIENCE));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// The guest's status page.
    pub fn status(&self) -> Value {
        let mut stream = self.connect("10.0.0.2:80");
        stream.write_all(b"GET /status.json HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        serde_json::from_str(text.split_once("\r\n\r\n").expect("an HTTP answer").1).unwrap()
    }

    /// Sends the guest a word, several times: a datagram may be lost, and nobody answers this one.
    pub fn ask_to(&self, word: &str) {
        let udp = self.within(|| UdpSocket::bind("10.0.0.1:0"));
        for _ in 0..3 {
            // The guest may be gone after the first.
            let _ = udp.send_to(word.as_bytes(), "10.0.0.2:7");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A packet socket on the guest's cable.
    pub fn raw(&self) -> Raw {
        self.within(Raw::open)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).output();
    }
}

fn run(words: &[&str]) {
    let output = Command::new("timeout").arg("120").args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
}

/// A packet socket on the guest's cable.
pub struct Raw(OwnedFd);

impl Raw {
    fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        let tap = nix::ifaddrs::getifaddrs()?
            .filter(|interface| interface.interface_name == "t0")
            .filter_map(|interface| interface.address)
            .find(|address| address.family() == Some(AddressFamily::Packet));
        let address: LinkAddr = tap.and_then(|address| address.as_link_addr().copied()).expect("no interface t0");
        bind(fd.as_raw_fd(), &address)?;
        Ok(Self(fd))
    }

    /// Sends a frame to the guest.
    pub fn send(&self, frame: &[u8]) {
        assert!(self.try_send(frame), "the frame was not sent");
    }

    /// Sends a frame to the guest, and waits while its queue is full. Whether Linux took it: it refuses some that are
    /// no Ethernet frames.
    pub fn try_send(&self, frame: &[u8]) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match send(self.0.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return true,
                Err(nix::Error::ENOBUFS | nix::Error::EAGAIN) => thread::sleep(Duration::from_millis(1)),
                Err(_) => return false,
            }
            assert!(Instant::now() < deadline, "the guest's queue stays full: it hangs");
        }
    }

    /// Forgets what has come.
    pub fn drain(&self) {
        while self.receive().is_some() {}
    }

    /// The longest packet in the tunnel that the guest sent since.
    pub fn largest_inner_packet(&self) -> u16 {
        std::iter::from_fn(|| self.receive()).filter_map(|frame| inner_length(&frame)).max().unwrap_or(0)
    }

    fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = [0; 2048];
        let len = recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()).ok()?;
        Some(frame[..len].to_vec())
    }
}

/// The total length of the IPv4 packet inside a VXLAN frame from the guest.
fn inner_length(frame: &[u8]) -> Option<u16> {
    let from_guest = frame.get(12..14)? == [8, 0] && frame.get(26..30)? == [192, 0, 2, 2];
    // Outer Ethernet, IPv4, UDP, VXLAN, inner Ethernet: 14 + 20 + 8 + 8 + 14.
    let ipv4 = frame.get(62..64)? == [8, 0];
    let length = frame.get(66..68)?.try_into().ok().map(u16::from_be_bytes);
    length.filter(|_| from_guest && ipv4)
}

/// A control frame for the guest (protocol version 2).
pub fn control(kind: u8, data: u16) -> Vec<u8> {
    let [high, low] = data.to_be_bytes();
    [&[2, 0, 0, 0, 0, 2, 0x20 | kind, 0, 0, 0, high, low, 0xab, 0xba][..], &[0; 46]].concat()
}

/// A SET_SA for the guest (`cvsw-core/src/wire/sa.rs`): a receiving association with a key in clear.
pub fn set_sa() -> Vec<u8> {
    let (add, flags, transaction, id, spi) = (1, 0, [0, 0, 0, 1], [0, 0, 0, 7], [0, 0, 0x10, 1]);
    let (window, key) = ([0, 0], *b"a key of twenty byte");
    let command = [&[add, Suite::Aes128Gcm as u8, flags, 0][..], &transaction, &id, &spi, &[192, 0, 2, 2], &window];
    let body = [&command.concat()[..], &[0, 20], &key].concat();
    [&[2, 0, 0, 0, 0, 2, 0x29, 0, 0, body.len() as u8, 0, 0, 0xab, 0xba][..], &body].concat()
}

/// A frame inside a tunnel packet as the guest expects it.
pub fn in_vxlan(inner: &[u8]) -> Vec<u8> {
    let inner = &inner[..inner.len().min(1450)];
    let udp_len = (16 + inner.len()) as u16;
    let udp = [&[0xc0, 0, 0x12, 0xb5][..], &udp_len.to_be_bytes(), &[0, 0]].concat();
    packet(17, &[&udp[..], &[8, 0, 0, 0, 0, 0, 42, 0], inner].concat())
}

/// An ESP packet (RFC 4303 section 2) for the guest.
pub fn esp(spi: u32, sequence: u32, rest: &[u8]) -> Vec<u8> {
    packet(50, &[&spi.to_be_bytes()[..], &sequence.to_be_bytes(), rest].concat())
}

/// An Ethernet frame with an IPv4 packet for the guest.
fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let addresses = [192, 0, 2, 1, 192, 0, 2, 2];
    let mut ip = [&[0x45, 0][..], &len.to_be_bytes(), &[0, 0, 0x40, 0, 64, protocol, 0, 0], &addresses].concat();
    let sum = ip.chunks(2).fold(0_u32, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&[2, 0, 0, 1, 0, 2, 2, 0, 0, 1, 0, 1, 8, 0][..], &ip, payload].concat()
}

/// Numbers that are the same in every run (Marsaglia's xorshift).
pub struct Random(pub u64);

impl Random {
    /// One below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % limit
    }
}

/// The frames among the fuzz targets' seeds and regressions.
pub fn seeds() -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz");
    let mut frames = Vec::new();
    for folder in ["seeds/frame", "seeds/control", "seeds/openflow", "regressions/frame"] {
        for entry in fs::read_dir(fuzz.join(folder)).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            // The frame target's inputs begin with four bytes that are not the frame's.
            let frame = if folder.ends_with("frame") { bytes.get(4..).unwrap_or(&[]) } else { &bytes };
            frames.push(frame.iter().copied().take(1500).chain([0; 15]).collect());
        }
    }
    frames
}
