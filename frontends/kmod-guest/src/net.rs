//! Network namespaces and raw sockets in them.

use crate::system::{patience, run};
use anyhow::{Context, Result, ensure};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket},
};
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

/// A named network namespace; deleted when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, with its loopback up and without IPv6 (whose own frames would be in every capture).
    pub fn new(name: &str) -> Result<Self> {
        run(&format!("ip netns add {name}"))?;
        let namespace = Self { name: name.to_owned() };
        namespace.run("ip link set lo up")?;
        namespace.inside(|| {
            for scope in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1")?;
            }
            Ok(())
        })?;
        Ok(namespace)
    }

    /// Runs a command inside. Not by `ip netns exec`, which would mount a `/sys` for each: an emulated machine takes longer
    /// for that than for most commands.
    pub fn run(&self, line: &str) -> Result<String> {
        self.inside(|| run(line))
    }

    /// Runs commands inside, one a line.
    pub fn run_all(&self, lines: &str) -> Result<()> {
        lines.lines().map(str::trim).filter(|line| !line.is_empty()).try_for_each(|line| self.run(line).map(drop))
    }

    /// Runs a closure inside, on a thread of its own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = File::open(format!("/run/netns/{}", self.name))?;
                setns(file, CloneFlags::CLONE_NEWNET)?;
                work()
            });
            thread.join().map_err(|_| anyhow::anyhow!("a test thread panicked"))?
        })
    }

    /// A raw socket on one of its devices.
    pub fn raw(&self, device: &str) -> Result<RawSocket> {
        self.inside(|| RawSocket::open(device))
    }

    /// As [`Namespace::raw`], for a thread that is inside already.
    pub fn raw_here(&self, device: &str) -> Result<RawSocket> {
        RawSocket::open(device)
    }

    /// The counter `name` of `ethtool -S`.
    pub fn counter(&self, device: &str, name: &str) -> Result<u64> {
        let listing = self.run(&format!("ethtool -S {device}"))?;
        let value = listing.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("no counter {name} in:\n{listing}"))?.trim().parse()?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A test that deletes it itself makes this fail, rightly.
        let _ = run(&format!("ip netns del {}", self.name));
    }
}

/// A packet socket: every frame of a device, and any frame out of it.
pub struct RawSocket {
    socket: OwnedFd,
}

impl RawSocket {
    /// Opens one in the calling thread's namespace.
    fn open(device: &str) -> Result<Self> {
        let address: LinkAddr = nix::ifaddrs::getifaddrs()?
            .filter(|found| found.interface_name == device)
            .find_map(|found| found.address?.as_link_addr().copied())
            .with_context(|| format!("no device {device}"))?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
        bind(socket.as_raw_fd(), &address)?;
        let raw = Self { socket };
        // Between opening and binding, frames of other devices may have come in.
        while raw.receive(Duration::ZERO)?.is_some() {}
        Ok(raw)
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        ensure!(sent == frame.len(), "sent {sent} of {} bytes", frame.len());
        Ok(())
    }

    /// The next frame; `None` if none comes in time.
    pub fn receive(&self, patience: Duration) -> Result<Option<Vec<u8>>> {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::try_from(patience)?)? == 0 {
            return Ok(None);
        }
        let mut buffer = vec![0; 65_600];
        let len = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
        buffer.truncate(len);
        Ok(Some(buffer))
    }

    /// The first frame that `wanted` accepts, within [`patience`].
    pub fn expect(&self, what: &str, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<Vec<u8>> {
        let deadline = Instant::now() + patience();
        let mut others = Vec::new();
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.receive(left)? {
                Some(frame) if wanted(&frame) => return Ok(frame),
                Some(frame) => others.push(frame),
                None => break,
            }
        }
        anyhow::bail!("{what}: no such frame; others that came: {others:02x?}")
    }
}
