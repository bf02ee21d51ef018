//! The peer is a unikernel: another machine at the same Open vSwitch, in the same network of the same controller.

use super::managed::plug_in;
use crate::system::{command_line_option, patience, run, run_all, wait_for};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

/// What the controller has for this machine (`xtask/src/kmod/switch.rs`).
const CONTROL_KEY: &str = "6b65792066726f6d2074686520686f73";
/// After this time a datagram is sent again.
const AGAIN: Duration = Duration::from_secs(2);
const VOLUME: usize = 128 * 1024;
const PIECE: usize = 8 * 1024;
const DATAGRAMS: u32 = 100;

/// Ping, TCP and UDP echo over IPv4 and IPv6, and the unikernel's status page; encrypted if the kernel's command line says
/// `cipher=`, and then with a control key.
pub fn unikernel() -> Result<()> {
    let cipher = command_line_option("cipher")?;
    // What the controller's configuration says (`xtask/src/kmod/switch.rs`).
    let mtu = if cipher.is_some() { 1400 } else { 1450 };
    plug_in()?;
    if cipher.is_some() {
        fs::write("/tmp/control.key", CONTROL_KEY)?;
        fs::set_permissions("/tmp/control.key", fs::Permissions::from_mode(0o600))?;
        run("cvsw ctl --dev cvsw0 control key /tmp/control.key")?;
    }
    wait_for("SET_MTU", || Ok(run("ip link show dev cvsw0")?.contains(&format!(" mtu {mtu} "))))?;
    run_all(
        "ip addr add 10.0.0.1/24 dev cvsw0
         ip addr add fd00::1/64 dev cvsw0 nodad",
    )?;
    for (address, echo) in [("10.0.0.2", "10.0.0.2:7"), ("fd00::2", "[fd00::2]:7")] {
        wait_for("an answer to ping", || Ok(run(&format!("ping -c 1 -W 1 {address}")).is_ok()))
            .with_context(|| address.to_owned())?;
        let echo: SocketAddr = echo.parse()?;
        echo_tcp(echo).with_context(|| format!("TCP, {echo}"))?;
        echo_udp(echo).with_context(|| format!("UDP, {echo}"))?;
    }
    let page = page("10.0.0.2:80".parse()?)?;
    let mut wanted =
        vec!["\"session\":\"CONNECTED\"".to_owned(), format!("\"mtu\":{mtu}"), "set_vxlan(vni=42".to_owned()];
    if let Some(cipher) = &cipher {
        let marked = "\"encrypted_only\":[42]".to_owned();
        wanted.extend([format!("\"suite\":\"{cipher}\""), "encrypt(sa=".to_owned(), marked]);
    }
    for wanted in wanted {
        ensure!(page.contains(&wanted), "no {wanted} in the unikernel's page: {page}");
    }
    if cipher.is_some() {
        // The controller's commands came sealed, and its keys wrapped.
        let status = run("cvsw ctl --dev cvsw0 control status")?;
        ensure!(status.contains("version of the last controller: 3") && status.contains("key: set"), "{status}");
    }
    let how = cipher.as_deref().unwrap_or("in clear");
    println!(
        "KMOD-NOTE a unikernel answered {VOLUME} octets of TCP and {DATAGRAMS} datagrams over IPv4 and IPv6, {how}"
    );
    run_all("ip link del cvsw0")
}

/// Dials until somebody answers.
fn open(to: SocketAddr) -> Result<TcpStream> {
    let mut opened = None;
    wait_for("a connection", || {
        opened = TcpStream::connect_timeout(&to, patience()).ok();
        Ok(opened.is_some())
    })?;
    let stream = opened.context("no connection")?;
    stream.set_read_timeout(Some(patience()))?;
    stream.set_write_timeout(Some(patience()))?;
    Ok(stream)
}

fn echo_tcp(to: SocketAddr) -> Result<()> {
    let mut stream = open(to)?;
    let sent: Vec<u8> = (0..VOLUME).map(|at| (at % 251) as u8).collect();
    for piece in sent.chunks(PIECE) {
        stream.write_all(piece)?;
        let mut received = vec![0; piece.len()];
        stream.read_exact(&mut received)?;
        ensure!(received == piece, "the echo differs");
    }
    Ok(())
}

fn echo_udp(to: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(AGAIN))?;
    socket.connect(to)?;
    for number in 0..DATAGRAMS {
        let sent = number.to_be_bytes();
        // Datagrams may get lost, so one is sent again; echoes of earlier ones may then come late.
        wait_for("the echo of a datagram", || {
            socket.send(&sent)?;
            let mut received = [0; 8];
            let Ok(len) = socket.recv(&mut received) else { return Ok(false) };
            let echo = received.get(..len).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
            ensure!(echo.is_some_and(|echo| echo <= number), "datagram {number} came back as {received:?}");
            Ok(echo == Some(number))
        })?;
    }
    Ok(())
}

fn page(to: SocketAddr) -> Result<String> {
    let mut stream = open(to)?;
    stream.write_all(b"GET /status.json HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
