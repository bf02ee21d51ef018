//! What is asked of a unikernel: its echo by TCP and UDP, and its status page.

use anyhow::Result;
use cvsw_userspace::netns;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::lab::topology::Vm;

/// Emulated machines on a busy host are slow, and TCP that has lost much waits long.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Octets of [`tcp`].
pub const VOLUME: usize = 128 * 1024;
/// Datagrams of [`udp`].
pub const DATAGRAMS: u32 = 200;
const ECHO_PORT: u16 = 7;
const HTTP_PORT: u16 = 80;
/// Octets under way at once.
const PIECE: usize = 8 * 1024;

/// Opens a connection to the echo from inside a VM.
pub fn connect(from: &Vm, to: IpAddr) -> io::Result<TcpStream> {
    within(from, || open(to, ECHO_PORT))
}

/// Sends octets over a connection and compares what comes back.
pub fn tcp(mut stream: &TcpStream) -> io::Result<()> {
    let sent: Vec<u8> = (0..VOLUME).map(|at| (at % 251) as u8).collect();
    for piece in sent.chunks(PIECE) {
        stream.write_all(piece)?;
        let mut received = vec![0; piece.len()];
        stream.read_exact(&mut received)?;
        if received != piece {
            return Err(io::Error::other("the echo differs"));
        }
    }
    Ok(())
}

/// Sends datagrams, one after the other, and compares what comes back.
pub fn udp(from: &Vm, to: IpAddr) -> io::Result<()> {
    within(from, || {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect((to, ECHO_PORT))?;
        for number in 0..DATAGRAMS {
            socket.send(&number.to_be_bytes())?;
            let mut received = [0; 8];
            let len = socket.recv(&mut received)?;
            if received.get(..len) != Some(&number.to_be_bytes()) {
                return Err(io::Error::other(format!("datagram {number} came back as {len} other octets")));
            }
        }
        Ok(())
    })
}

/// The status page.
pub fn page(from: &Vm, to: IpAddr) -> Result<Value> {
    let text = within(from, || {
        let mut stream = open(to, HTTP_PORT)?;
        stream.write_all(b"GET /status.json HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
    let body = body.ok_or_else(|| io::Error::other(format!("no HTTP answer: {text:?}")))?;
    Ok(serde_json::from_str(body).map_err(|error| io::Error::other(format!("{error} in {body}")))?)
}

fn within<T: Send>(vm: &Vm, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    netns::within(Some(&vm.namespace), work)
}

fn open(to: IpAddr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((to, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
