//! The laboratory's own small program inside a VM: it says its name to whoever asks, asks others, and forges frames.

use super::unikernel::become_machine;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// TCP and UDP port on which every VM says its name.
pub const PORT: u16 = 7777;
const PATIENCE: Duration = Duration::from_secs(1);
const UDP_ATTEMPTS: usize = 3;
const LONGEST_NAME: usize = 64;

/// What the program inside the VM does.
#[derive(Debug, clap::Subcommand)]
pub enum Role {
    /// Say a name to every TCP connection and UDP datagram
    Serve {
        /// The name
        name: String,
    },
    /// Ask who is there, by TCP once and by UDP from several source ports; print the names
    Ask {
        /// Whom to ask
        address: Ipv4Addr,
        /// UDP questions, each from a source port of its own
        #[arg(long, default_value_t = 1)]
        questions: u16,
    },
    /// Ask by UDP again and again, one question at a time; print the round trips as JSON, in nanoseconds
    Time {
        /// Whom to ask
        address: Ipv4Addr,
        /// For how long, in milliseconds
        #[arg(long, default_value_t = 1000)]
        milliseconds: u64,
    },
    /// Send frames, written in hexadecimal, out of an interface
    Forge {
        /// The interface
        interface: String,
        /// The frames
        frames: Vec<String>,
    },
    /// Become a unikernel's machine
    Unikernel {
        /// The image
        image: PathBuf,
        /// The tap
        tap: String,
        /// MAC address of the vNIC
        mac: String,
        /// File for its log
        log: PathBuf,
        /// The image's command line
        line: String,
    },
}

/// Plays a role.
pub fn run(role: Role) -> Result<ExitCode> {
    match role {
        Role::Serve { name } => serve(&name)?,
        Role::Ask { address, questions } => ask(address, questions)?,
        Role::Time { address, milliseconds } => time(address, Duration::from_millis(milliseconds))?,
        Role::Forge { interface, frames } => forge(&interface, &frames)?,
        Role::Unikernel { image, tap, mac, log, line } => become_machine(&image, &tap, &mac, &log, &line)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(name: &str) -> Result<()> {
    let any = (Ipv4Addr::UNSPECIFIED, PORT);
    let listener = TcpListener::bind(any).context("listening on TCP")?;
    let socket = UdpSocket::bind(any).context("listening on UDP")?;
    let answer = name.to_owned();
    thread::spawn(move || {
        let mut question = [0; LONGEST_NAME];
        while let Ok((_, from)) = socket.recv_from(&mut question) {
            // An answer that cannot be sent is an answer the asker misses, which is what is tested.
            let _ = socket.send_to(answer.as_bytes(), from);
        }
    });
    println!("ready");
    for stream in listener.incoming() {
        let _ = stream.and_then(|mut stream| stream.write_all(name.as_bytes()));
    }
    Ok(())
}

fn ask(address: Ipv4Addr, questions: u16) -> Result<()> {
    let to = SocketAddr::new(IpAddr::V4(address), PORT);
    println!("tcp {}", ask_tcp(to).with_context(|| format!("asking {to} by TCP"))?);
    for _ in 0..questions {
        println!("udp {}", ask_udp(to).with_context(|| format!("asking {to} by UDP"))?);
    }
    Ok(())
}

fn ask_tcp(to: SocketAddr) -> Result<String> {
    let stream = TcpStream::connect_timeout(&to, 3 * PATIENCE)?;
    stream.set_read_timeout(Some(3 * PATIENCE))?;
    let mut name = String::new();
    stream.take(LONGEST_NAME as u64).read_to_string(&mut name)?;
    Ok(name)
}

fn ask_udp(to: SocketAddr) -> Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    let mut name = [0; LONGEST_NAME];
    for _ in 0..UDP_ATTEMPTS {
        socket.send(b"who is there?")?;
        if let Ok(length) = socket.recv(&mut name) {
            return Ok(String::from_utf8_lossy(&name[..length]).into_owned());
        }
    }
    bail!("no answer to {UDP_ATTEMPTS} datagrams")
}

fn time(address: Ipv4Addr, limit: Duration) -> Result<()> {
    let to = SocketAddr::new(IpAddr::V4(address), PORT);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE / 10))?;
    socket.connect(to)?;
    let (mut nanoseconds, mut lost) = (Vec::new(), 0_u64);
    let mut name = [0; LONGEST_NAME];
    let start = Instant::now();
    while start.elapsed() < limit {
        let asked = Instant::now();
        socket.send(b"who is there?")?;
        match socket.recv(&mut name) {
            Ok(_) => nanoseconds.push(asked.elapsed().as_nanos() as u64),
            Err(_) => lost += 1,
        }
    }
    println!("{}", serde_json::json!({ "nanoseconds": nanoseconds, "lost": lost }));
    Ok(())
}

fn forge(interface: &str, frames: &[String]) -> Result<()> {
    let link = nix::ifaddrs::getifaddrs()?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| found.address?.as_link_addr().copied())
        .with_context(|| format!("no interface {interface} here"))?;
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).context("opening a raw socket")?;
    for frame in frames {
        let bytes = from_hex(frame)?;
        let sent = sendto(socket.as_raw_fd(), &bytes, &link, MsgFlags::empty()).context("sending a raw frame")?;
        ensure!(sent == bytes.len(), "sent {sent} of {} octets", bytes.len());
    }
    Ok(())
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    ensure!(text.is_ascii() && text.len().is_multiple_of(2), "{text:?} is not pairs of hexadecimal digits");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).with_context(|| format!("{text:?} is not hexadecimal")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_strictly() {
        assert_eq!(from_hex("00abba").unwrap(), [0x00, 0xab, 0xba]);
        for bad in ["0", "0g", "é"] {
            from_hex(bad).unwrap_err();
        }
    }
}
