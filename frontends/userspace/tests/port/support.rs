//! Namespaces, processes and raw sockets for the tests.

use cvsw_userspace::{capture::CaptureReader, netns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send,
    setsockopt, socket, sockopt::ReceiveTimeout,
};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Longest that any single step of a test may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A name that no other test, in this process or another, uses.
pub fn unique(tag: &str) -> String {
    format!("cvp{}-{}-{tag}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Runs a command and returns what it printed; panics unless it succeeds.
pub fn run(command: &str) -> String {
    let output = output(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{command}`: {}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command, split at blanks, for at most [`PATIENCE`].
pub fn output(command: &str) -> Output {
    let limit = PATIENCE.as_secs().to_string();
    Command::new("timeout").arg(limit).args(command.split_whitespace()).output().expect("timeout of coreutils")
}

/// Waits until `condition` holds; panics with `what` if it never does.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A network namespace with only its loopback, without IPv6's own chatter. Removed when dropped.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new(tag: &str) -> Self {
        let namespace = Self(unique(tag));
        run(&format!("ip netns add {}", namespace.0));
        namespace.exec("sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1");
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs a command inside; panics unless it succeeds.
    pub fn exec(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.0))
    }

    /// Runs `ip` inside; panics unless it succeeds.
    pub fn ip(&self, command: &str) -> String {
        run(&format!("ip -n {} {command}", self.0))
    }

    /// Starts a command inside.
    pub fn spawn(&self, command: &str) -> Process {
        let mut child = Command::new("ip");
        child.args(["netns", "exec", &self.0]).args(command.split_whitespace());
        Process(child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Makes two joined interfaces: `here` in this namespace, `there` in `other`, both up.
    pub fn veth(&self, here: &str, other: &Self, there: &str) {
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", other.0));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
    }

    /// What `ip link` says about an interface.
    pub fn link(&self, name: &str) -> Value {
        let links: Value = serde_json::from_str(&self.ip(&format!("-j -d link show {name}"))).unwrap();
        links[0].clone()
    }

    /// Names of all interfaces but the loopback.
    pub fn interfaces(&self) -> Vec<String> {
        let links: Vec<Value> = serde_json::from_str(&self.ip("-j link show")).unwrap();
        links.iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).filter(|name| name != "lo").collect()
    }

    /// Runs `work` with this namespace's network.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> std::io::Result<T> + Send) -> T {
        netns::within(Some(&self.0), work).unwrap()
    }

    /// A raw packet socket on `interface`.
    pub fn raw(&self, interface: &str) -> RawSocket {
        self.within(|| Ok(RawSocket::open(interface)))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = output(&format!("ip netns del {}", self.0));
    }
}

/// A child process, killed when dropped.
pub struct Process(pub Child);

impl Process {
    /// Sends a signal by name.
    pub fn signal(&self, signal: &str) {
        run(&format!("kill -{signal} {}", self.0.id()));
    }

    /// Waits for the end and returns its status.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap()
    }

    /// Everything that it wrote to standard error, after its end.
    pub fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that is removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(unique("files"));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `cvsw-port` with a statistics socket.
pub struct PortProcess {
    pub process: Process,
    pub folder: Folder,
}

/// Starts a port program without waiting for it.
pub fn spawn_port(arguments: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cvsw-port"));
    command.args(arguments.split_whitespace());
    Process(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

impl PortProcess {
    /// Starts a port program and waits until it is ready.
    pub fn start(arguments: &str) -> Self {
        let folder = Folder::new();
        let mut process = spawn_port(&format!("{arguments} --stats-socket {}", folder.file("stats")));
        let stdout = process.0.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let result = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(result.map(|_| line));
        });
        let line = lines.recv_timeout(PATIENCE).expect("the port says something").unwrap();
        if line.trim_end() != "ready" {
            process.wait();
            panic!("the port is not ready: {line:?}; {}", process.stderr());
        }
        Self { process, folder }
    }

    pub fn stats_socket(&self) -> String {
        self.folder.file("stats")
    }

    /// The statistics document.
    pub fn stats(&self) -> Value {
        fetch_stats(Path::new(&self.stats_socket()))
    }

    /// Ends it with SIGTERM and insists on a clean end.
    pub fn stop(mut self) {
        self.process.signal("TERM");
        let status = self.process.wait();
        assert!(status.success(), "{status}: {}", self.process.stderr());
    }
}

/// Reads one document from a statistics socket.
pub fn fetch_stats(path: &Path) -> Value {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A raw packet socket of its own make, independent of the code under test.
pub struct RawSocket(OwnedFd);

impl RawSocket {
    fn open(interface: &str) -> Self {
        let fd =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
        let address: LinkAddr = nix::ifaddrs::getifaddrs()
            .unwrap()
            .filter(|address| address.interface_name == interface)
            .filter_map(|address| address.address)
            .find(|address| address.family() == Some(AddressFamily::Packet))
            .and_then(|address| address.as_link_addr().copied())
            .unwrap_or_else(|| panic!("no interface {interface}"));
        bind(fd.as_raw_fd(), &address).unwrap();
        setsockopt(&fd, ReceiveTimeout, &nix::sys::time::TimeVal::new(PATIENCE.as_secs() as i64, 0)).unwrap();
        Self(fd)
    }

    pub fn send(&self, frame: &[u8]) {
        assert_eq!(send(self.0.as_raw_fd(), frame, MsgFlags::empty()).unwrap(), frame.len());
    }

    /// The next frame for which `wanted` holds.
    pub fn receive(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let len = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("the frame never came");
            if wanted(&buffer[..len]) {
                return buffer[..len].to_vec();
            }
        }
    }
}

/// tcpdump at work on what an interface receives.
pub struct Capture {
    tcpdump: Process,
    folder: Folder,
}

impl Capture {
    /// Captures `count` frames that come in on `interface` and are `wanted` (a tcpdump expression).
    pub fn start(namespace: &Namespace, interface: &str, count: usize, wanted: &str) -> Self {
        let folder = Folder::new();
        let file = folder.file("pcap");
        let tcpdump =
            namespace.spawn(&format!("tcpdump -U -Z root -i {interface} -Q in -c {count} -w {file} {wanted}"));
        eventually("tcpdump listens", || std::fs::metadata(&file).is_ok_and(|meta| meta.len() >= 24));
        Self { tcpdump, folder }
    }

    /// The frames, once all have come.
    pub fn frames(mut self) -> Vec<Vec<u8>> {
        let status = self.tcpdump.wait();
        assert!(status.success(), "{status}: {}", self.tcpdump.stderr());
        read_capture(&self.folder.file("pcap"))
    }
}

/// The frames of a capture file.
pub fn read_capture(path: &str) -> Vec<Vec<u8>> {
    let mut reader = CaptureReader::open(Path::new(path)).unwrap();
    let mut frames = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        frames.push(record.data.to_vec());
    }
    frames
}

/// A frame of `len` bytes with an EtherType for experiments (RFC 9542 section 2.3); tags stand behind the addresses.
pub fn test_frame(len: usize, tags: &[[u8; 4]]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(tags.concat());
    frame.extend([0x88, 0xb5]);
    frame.extend(noise(len.saturating_sub(frame.len())));
    frame
}

/// Every kind of frame that an Ethernet with MTU 1500 carries.
pub fn all_kinds_of_frames() -> Vec<Vec<u8>> {
    let untagged = (14..=1514).step_by(25).chain([60, 64, 1513]).map(|len| test_frame(len, &[]));
    // Linux drops a tagged frame that does not have two octets behind the inner EtherType.
    let tagged = [20, 64, 1518].map(|len| test_frame(len, &[[0x81, 0, 0x60, 0x64]]));
    let priority = [test_frame(64, &[[0x81, 0, 0xf0, 0]])];
    let provider = [test_frame(100, &[[0x88, 0xa8, 0, 5]])];
    let double = [64, 1514].map(|len| test_frame(len, &[[0x88, 0xa8, 0x20, 5], [0x81, 0, 0, 7]]));
    untagged.chain(tagged).chain(priority).chain(provider).chain(double).collect()
}

/// A control frame of protocol version 2.
pub fn control(mac: [u8; 6], kind: u8, data: u16) -> Vec<u8> {
    let mut frame = mac.to_vec();
    frame.extend([0x20 | kind, 0, 0, 0]);
    frame.extend(data.to_be_bytes());
    frame.extend([0xab, 0xba]);
    frame
}

pub const HELLO: u8 = 1;
pub const REGISTER: u8 = 2;
pub const LIST_ENTRIES: u8 = 7;
pub const SET_MTU: u8 = 5;
pub const SET_OFFLOAD: u8 = 6;

/// `len` bytes that do not repeat early.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Sends `len` bytes over TCP from one namespace to `address` in another, and compares what arrives.
pub fn tcp_transfer(from: &Namespace, to: &Namespace, address: SocketAddr, len: usize) {
    let listener = to.within(|| TcpListener::bind(address));
    listener.set_nonblocking(true).unwrap();
    let sent = noise(len);
    let received = thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut accepted = None;
            eventually("the connection is accepted", || {
                accepted = listener.accept().ok();
                accepted.is_some()
            });
            let (mut stream, _) = accepted.unwrap();
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let mut stream = from.within(|| TcpStream::connect_timeout(&address, PATIENCE));
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&sent).unwrap();
        drop(stream);
        receiver.join().unwrap()
    });
    assert!(received == sent, "{} of {len} bytes arrived, or not the same", received.len());
}
