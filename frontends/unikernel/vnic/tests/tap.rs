//! The example on a tap device; Linux's own `vxlan` device is its peer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has found something"
)]

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send, socket,
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);
const FLOWS: [&str; 3] = [
    "in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.2,dst=192.0.2.1,\
     eth_src=02:00:00:01:00:02,eth_dst=02:00:00:01:00:01)",
    "priority=100,in_port=NET,udp,nw_dst=192.0.2.2,tp_dst=4789,actions=strip_vxlan(vni=42)",
    "priority=1,in_port=NET,actions=drop",
];

/// A network namespace; removed when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let namespace = Self(format!("cvs{}", std::process::id()));
        run("ip", &["netns", "add", &namespace.0]);
        namespace
    }

    fn exec(&self, command: &str) {
        let words: Vec<_> = ["netns", "exec", &self.0].into_iter().chain(command.split_whitespace()).collect();
        run("ip", &words);
    }

    /// Runs `work` in a thread inside.
    fn within<T: Send>(&self, work: impl FnOnce() -> std::io::Result<T> + Send) -> T {
        cvsw_userspace::netns::within(Some(&self.0), work).unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A child process, killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, words: &[&str]) {
    let output = Command::new("timeout").arg("30").arg(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The example's path: beside this test's own folder.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/tap")
}

/// The lines of a process, read so that the wait for one ends.
struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn new(stdout: ChildStdout) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self(receiver)
    }

    fn wait_for(&self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok(line) if line.contains(part) => return,
                Ok(_) => {}
                Err(error) => panic!("`{part}` was never said: {error}"),
            }
        }
    }
}

fn start(namespace: &Namespace) -> (Process, Lines) {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &namespace.0]).arg(example());
    command.args(["--tap", "t0", "--mac", "02:00:00:00:00:02", "--ip", "10.0.0.2/24", "--ip", "fd00::2/64"]);
    command.args(FLOWS.iter().flat_map(|flow| ["--flow", *flow]));
    let mut process = Process(command.stdout(Stdio::piped()).spawn().expect("the example is built with the tests"));
    let lines = Lines::new(process.0.stdout.take().unwrap());
    lines.wait_for("ready");
    (process, lines)
}

/// Echoes `len` bytes over an open connection.
fn echo(stream: &mut TcpStream, len: usize) {
    let sent: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    for chunk in sent.chunks(8000) {
        stream.write_all(chunk).unwrap();
        let mut received = vec![0; chunk.len()];
        stream.read_exact(&mut received).unwrap();
        assert!(received == chunk, "the echo differs");
    }
}

/// A control frame (protocol version 2).
fn control(kind: u8, data: u16) -> Vec<u8> {
    let [high, low] = data.to_be_bytes();
    [&[2, 0, 0, 0, 0, 2, 0x20 | kind, 0, 0, 0, high, low, 0xab, 0xba][..], &[0; 46]].concat()
}

#[test]
fn linux_reaches_the_stack_through_vxlan_only() {
    let net = Namespace::new();
    for command in [
        "sysctl -qw net.ipv6.conf.default.accept_dad=0",
        "ip tuntap add t0 mode tap",
        "ip link set t0 address 02:00:00:01:00:01 up",
        "ip addr add 192.0.2.1/24 dev t0",
        "ip neigh add 192.0.2.2 lladdr 02:00:00:01:00:02 dev t0 nud permanent",
        "ip link add vx0 type vxlan id 42 dev t0 remote 192.0.2.2 local 192.0.2.1 dstport 4789",
        "ip link set vx0 mtu 1450 up",
        "ethtool -K vx0 tso off gso off",
        "ethtool -K t0 tso off gso off",
        "ip addr add 10.0.0.1/24 dev vx0",
        "ip addr add fd00::1/64 dev vx0 nodad",
    ] {
        net.exec(command);
    }
    let (_process, lines) = start(&net);
    // The stack's MTU is still the link's; what the peer sends fits the tunnel.
    net.exec("ping -c 3 -i 0.1 -W 10 10.0.0.2");
    net.exec("ping -6 -c 3 -i 0.1 -W 10 fd00::2");

    let raw = net.within(raw_socket);
    inject(&raw, &control(1, 0));
    lines.wait_for("Connecting");
    inject(&raw, &control(5, 1400));
    lines.wait_for("mtu: IpMtu(1400)");

    // More than one: the stack that was made again learns its neighbours again.
    net.exec("ping -c 3 -i 0.2 -s 1372 -M do -W 10 10.0.0.2");
    let udp = net.within(|| UdpSocket::bind("10.0.0.1:0"));
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    udp.send_to(&[9; 1372], "10.0.0.2:7").unwrap();
    assert_eq!(udp.recv(&mut [0; 2000]).unwrap(), 1372);

    let mut stream = net.within(|| TcpStream::connect_timeout(&"10.0.0.2:7".parse().unwrap(), PATIENCE));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    echo(&mut stream, 200_000);
    let before = largest_inner_packet(&raw, || echo(&mut stream, 100_000));
    assert_eq!(before, 1400);
    // A new MTU in the middle of a connection.
    inject(&raw, &control(5, 1000));
    lines.wait_for("mtu: IpMtu(1000)");
    let after = largest_inner_packet(&raw, || echo(&mut stream, 100_000));
    assert_eq!(after, 1000);
}

/// A packet socket on the tap.
fn raw_socket() -> std::io::Result<OwnedFd> {
    let kind = (SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll);
    let fd = socket(AddressFamily::Packet, SockType::Raw, kind.0, kind.1)?;
    let tap = nix::ifaddrs::getifaddrs()?
        .filter(|interface| interface.interface_name == "t0")
        .filter_map(|interface| interface.address)
        .find(|address| address.family() == Some(AddressFamily::Packet));
    let address: LinkAddr = tap.and_then(|address| address.as_link_addr().copied()).expect("no interface t0");
    bind(fd.as_raw_fd(), &address)?;
    Ok(fd)
}

fn inject(raw: &OwnedFd, frame: &[u8]) {
    assert_eq!(send(raw.as_raw_fd(), frame, MsgFlags::empty()), Ok(frame.len()));
}

/// The longest packet in the tunnel that the stack sends while `work` runs.
fn largest_inner_packet(raw: &OwnedFd, work: impl FnOnce()) -> u16 {
    let mut frame = [0; 2048];
    let mut next = || recv(raw.as_raw_fd(), &mut frame, MsgFlags::empty()).map(|len| frame[..len].to_vec());
    while next().is_ok() {}
    work();
    std::iter::from_fn(|| next().ok()).filter_map(|frame| inner_length(&frame)).max().unwrap_or(0)
}

/// The total length of the IPv4 packet inside a VXLAN frame from the stack.
fn inner_length(frame: &[u8]) -> Option<u16> {
    let from_stack = frame.get(12..14)? == [8, 0] && frame.get(26..30)? == [192, 0, 2, 2];
    // Outer Ethernet, IPv4, UDP, VXLAN, inner Ethernet: 14 + 20 + 8 + 8 + 14.
    let ipv4 = frame.get(62..64)? == [8, 0];
    let length = frame.get(66..68)?.try_into().ok().map(u16::from_be_bytes);
    length.filter(|_| from_stack && ipv4)
}
