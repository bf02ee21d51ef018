//! A smoltcp stack behind a CVSW on a Linux tap device: a TCP and UDP echo on port 7.
//!
//! ```text
//! cargo run --package cvsw-smoltcp --example tap -- --tap cvsw0 --mac 02:00:00:00:00:02 --ip 10.0.0.2/24 \
//!     --flow 'in_port=HOST,actions=set_vxlan(vni=42,src=192.0.2.2,dst=192.0.2.1,eth_src=...,eth_dst=...)'
//! ```
//!
//! The tap is made if it does not exist (that needs root). Without `--flow` frames pass unchanged until a controller
//! sends flows. With `--accept-keys-in-clear` the controller may send keys too, which anybody on the way can read. The program runs until it is killed.

use cvsw_core::{Config, Cvsw, crypto::Portable, flow::text::parse_flow};
use cvsw_smoltcp::{CvswDevice, CvswInterface, PhyNic};
use lexopt::{Arg, ValueExt};
use smoltcp::{
    iface::{SocketHandle, SocketSet},
    phy::{Medium, TunTapInterface, wait},
    socket::{tcp, udp},
    time::{Duration, Instant},
    wire::{EthernetAddress, IpCidr},
};
use std::{error::Error, os::fd::AsRawFd};
use zerocopy::FromZeros;

/// Longest sleep: the engine's timeouts want a look about once a second.
const NAP: Duration = Duration::from_millis(500);
const ECHO_PORT: u16 = 7;

struct Options {
    tap: String,
    mac: EthernetAddress,
    addresses: Vec<IpCidr>,
    flows: Vec<String>,
    accept_keys_in_clear: bool,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        tap: "cvsw0".to_owned(),
        mac: EthernetAddress([2, 0, 0, 0, 0, 1]),
        addresses: vec![],
        flows: vec![],
        accept_keys_in_clear: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("tap") => options.tap = parser.value()?.string()?,
            Arg::Long("mac") => {
                let text = parser.value()?.string()?;
                options.mac = text.parse().map_err(|()| format!("`{text}` is not a MAC address"))?;
            }
            Arg::Long("ip") => {
                let text = parser.value()?.string()?;
                options.addresses.push(text.parse().map_err(|()| format!("`{text}` is not ADDRESS/PREFIX"))?);
            }
            Arg::Long("accept-keys-in-clear") => options.accept_keys_in_clear = true,
            Arg::Long("flow") => options.flows.push(parser.value()?.string()?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(options)
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let tap = TunTapInterface::new(&options.tap, Medium::Ethernet)?;
    let fd = tap.as_raw_fd();

    // A bare-metal system takes engine and buffers from statics.
    let mut engine: Box<Cvsw<256, 256, 32>> = Cvsw::new_box_zeroed().map_err(|_| "out of memory")?;
    let [mut a, mut b, mut c] = [[0; 2048]; 3];
    let nic = PhyNic::new(tap, [&mut a[..], &mut b[..], &mut c[..]])?;
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), options.mac.0);
    let config = Config { mac: options.mac.0, hash_seed: seed, ..Config::default() };
    let mut device = CvswDevice::with_ciphers(&mut *engine, Portable::<64>::new(), nic, &config);
    // Keys do not outlive the process: any number will do that other runs do not have.
    device.engine_mut().set_boot_generation(seed);
    device.engine_mut().accept_keys_in_clear(options.accept_keys_in_clear);
    for flow in &options.flows {
        let flow = parse_flow(flow)?;
        device.engine_mut().flow_mod(cvsw_core::Instant::ZERO, &flow).map_err(|error| format!("{error:?}"))?;
    }

    let mut interface = CvswInterface::new(seed, &mut device, Instant::now());
    let mut full = false;
    interface.interface_mut().update_ip_addrs(|addresses| {
        full = options.addresses.iter().any(|address| addresses.push(*address).is_err());
    });
    if full {
        return Err("too many addresses (smoltcp's IFACE_MAX_ADDR_COUNT)".into());
    }

    let mut sockets = SocketSet::new(vec![]);
    let tcp_buffer = || tcp::SocketBuffer::new(vec![0; 65_535]);
    let tcp = sockets.add(tcp::Socket::new(tcp_buffer(), tcp_buffer()));
    let udp_buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 65_535]);
    let udp = sockets.add(udp::Socket::new(udp_buffer(), udp_buffer()));
    println!("ready");

    let mut parameters = device.parameters();
    loop {
        interface.poll(Instant::now(), &mut device, &mut sockets);
        echo(&mut sockets, tcp, udp)?;
        if device.parameters() != parameters {
            parameters = device.parameters();
            println!("{parameters:?}");
        }
        let delay = interface.interface_mut().poll_delay(Instant::now(), &sockets).unwrap_or(NAP);
        wait(fd, Some(delay.min(NAP)))?;
    }
}

/// Sends back what has come, and listens again when a connection is over.
fn echo(sockets: &mut SocketSet<'_>, tcp: SocketHandle, udp: SocketHandle) -> Result<(), Box<dyn Error>> {
    let socket = sockets.get_mut::<udp::Socket<'_>>(udp);
    if !socket.is_open() {
        socket.bind(ECHO_PORT)?;
    }
    while socket.can_send() && socket.can_recv() {
        let (data, from) = socket.recv()?;
        let data = data.to_vec();
        socket.send_slice(&data, from)?;
    }
    let socket = sockets.get_mut::<tcp::Socket<'_>>(tcp);
    if !socket.is_open() {
        socket.listen(ECHO_PORT)?;
    }
    if socket.can_recv() && socket.can_send() {
        let room = socket.send_capacity().saturating_sub(socket.send_queue());
        let data = socket.recv(|data| {
            let data: Vec<u8> = data.iter().copied().take(room).collect();
            (data.len(), data)
        })?;
        socket.send_slice(&data)?;
    }
    if socket.may_send() && !socket.may_recv() && socket.recv_queue() == 0 {
        socket.close();
    }
    Ok(())
}
