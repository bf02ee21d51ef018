//! Do the unikernels work like any other machine of their network, and only there?

use super::control;
use super::reach::ping;
use crate::lab::build::{CONTROLLER, Lab};
use crate::lab::process::wait_for;
use crate::lab::report::Finding;
use crate::lab::topology::{UNDERLAY_MTU, VXLAN_OVERHEAD, Vm};
use anyhow::{Context, Result, ensure};
use cvsw_userspace::netns;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Emulated machines on a busy host are slow.
const PATIENCE: Duration = Duration::from_secs(20);
const ECHO_PORT: u16 = 7;
const HTTP_PORT: u16 = 80;
/// Octets echoed over one TCP connection, and in how large pieces.
const VOLUME: usize = 256 * 1024;
const PIECE: usize = 8 * 1024;
/// Datagrams echoed.
const DATAGRAMS: u32 = 200;

/// Asks every unikernel, from a VM of its network: ping, TCP and UDP echo, and its own status page.
pub fn answer(lab: &Lab) -> Result<Finding> {
    let from = &lab.topology.vms[0];
    let mut pages = Vec::new();
    for unikernel in &lab.topology.unikernels {
        let work = || -> Result<Value> {
            // The answer to the first request may wait for ARP.
            wait_for("an answer to ping", PATIENCE, || {
                Ok((ping(from, unikernel.ip, &[])?.received > 0).then_some(()))
            })?;
            within(from, || echo_tcp(unikernel.ip)).context("TCP echo")?;
            within(from, || echo_udp(unikernel.ip)).context("UDP echo")?;
            let page = within(from, || fetch(unikernel.ip)).context("status page")?;
            judge(&page)?;
            Ok(page)
        };
        pages.push(work().with_context(|| format!("{} at {}", unikernel.name, unikernel.ip))?);
    }
    let count = pages.len();
    let detail = format!(
        "{count} answer ping, {DATAGRAMS} datagrams, {VOLUME} octets of TCP and HTTP; MTU and flows are the controller's"
    );
    Ok(Finding::with(detail, json!({ "unikernels": pages })))
}

/// The controller is ended and started again: the unikernels answer meanwhile, and are registered afterwards.
pub fn outlive_the_controller(lab: &mut Lab) -> Result<Finding> {
    lab.end(CONTROLLER, Signal::TERM, PATIENCE)?;
    answer(lab).context("without a controller")?;
    lab.start_controller()?;
    control::switches_connected(lab)?;
    control::all_registered(lab)?;
    answer(lab).context("with the new controller")
}

/// From another network nobody gets to them.
pub fn strangers(lab: &Lab) -> Result<Finding> {
    let Some(stranger) = lab.topology.vms.iter().find(|vm| vm.network != 0) else {
        return Ok(Finding::new("there is no other network"));
    };
    for unikernel in &lab.topology.unikernels {
        let ping = ping(stranger, unikernel.ip, &[])?;
        ensure!(ping.received == 0, "{} reaches {}", stranger.name, unikernel.name);
    }
    Ok(Finding::new(format!("{} of another network gets no answer", stranger.name)))
}

fn within<T: Send>(vm: &Vm, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    netns::within(Some(&vm.namespace), work)
}

/// What a status page must say in a sound laboratory.
fn judge(page: &Value) -> Result<()> {
    ensure!(page["session"] == "CONNECTED", "the control session is {}", page["session"]);
    let mtu = UNDERLAY_MTU - VXLAN_OVERHEAD;
    ensure!(page["mtu"] == mtu, "its MTU is {}, not {mtu}", page["mtu"]);
    ensure!(page["offload_effective"] == "", "it claims offloads: {}", page["offload_effective"]);
    ensure!(page["flow_count"].as_u64().is_some_and(|count| count > 0), "it has no flow");
    let flows = page["flows"].as_array().context("its page lists no flows")?;
    let tunnels = flows.iter().filter(|flow| flow["flow"].as_str().is_some_and(|text| text.contains("set_vxlan")));
    ensure!(tunnels.count() > 0, "none of its flows tunnels");
    for direction in ["tx", "rx"] {
        let drops = page["engine"][direction]["drops"].as_object().context("its page counts no drops")?;
        // Other networks' multicast is flooded by the switches and dropped by a flow.
        let odd: Vec<_> = drops.keys().filter(|reason| *reason != "policy").collect();
        ensure!(odd.is_empty(), "it dropped {direction} frames: {odd:?}");
    }
    Ok(())
}

fn connect(ip: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((ip, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn echo_tcp(ip: Ipv4Addr) -> io::Result<()> {
    let mut stream = connect(ip, ECHO_PORT)?;
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

fn echo_udp(ip: Ipv4Addr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((ip, ECHO_PORT))?;
    for number in 0..DATAGRAMS {
        socket.send(&number.to_be_bytes())?;
        let mut received = [0; 8];
        let len = socket.recv(&mut received)?;
        if received.get(..len) != Some(&number.to_be_bytes()) {
            return Err(io::Error::other(format!("datagram {number} came back as {len} other octets")));
        }
    }
    Ok(())
}

fn fetch(ip: Ipv4Addr) -> io::Result<Value> {
    let mut stream = connect(ip, HTTP_PORT)?;
    stream.write_all(b"GET /status.json HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
    let body = body.ok_or_else(|| io::Error::other(format!("no HTTP answer: {text:?}")))?;
    serde_json::from_str(body).map_err(|error| io::Error::other(format!("{error} in {body}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Value {
        json!({
            "session": "CONNECTED", "mtu": 1450, "offload_effective": "", "flow_count": 1,
            "flows": [{ "flow": "in_port=HOST,actions=set_vxlan(vni=42)" }],
            "engine": { "tx": { "drops": {} }, "rx": { "drops": { "policy": 3 } } },
        })
    }

    #[test]
    fn a_page_that_is_not_a_sound_laboratorys_is_noticed() {
        judge(&page()).unwrap();
        for (pointer, value, complaint) in [
            ("/session", json!("CONNECTING"), "session"),
            ("/mtu", json!(1500), "not 1450"),
            ("/offload_effective", json!("tso"), "offloads"),
            ("/flow_count", json!(0), "no flow"),
            ("/flows/0/flow", json!("actions=drop"), "tunnels"),
            ("/engine/rx/drops", json!({ "no_headroom": 1 }), "no_headroom"),
        ] {
            let mut page = page();
            *page.pointer_mut(pointer).unwrap() = value;
            let error = judge(&page).unwrap_err().to_string();
            assert!(error.contains(complaint), "{pointer}: {error}");
        }
    }
}
