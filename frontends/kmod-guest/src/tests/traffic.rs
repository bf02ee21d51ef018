//! Ordinary traffic through a cvsw without flows.

use super::esp::encrypted_pair;
use crate::{
    frames,
    net::Namespace,
    stall::Progress,
    system::{patience, scale, wait_for},
    topology::Pair,
};
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

const MIB: usize = 1 << 20;

/// Pings, what the tools show, and a frame that must come out as it went in.
pub fn pass_through() -> Result<()> {
    let pair = Pair::veth()?;
    pair.vm.run("ping -c 3 -i 0.2 -W 5 10.0.0.2")?;
    pair.peer.run("ping -c 3 -i 0.2 -W 5 10.0.0.1")?;
    let details = pair.vm.run("ip -d -s link show dev cvsw0")?;
    ensure!(details.contains("cvsw0@eth0") && details.contains("cvsw "), "ip -d link:\n{details}");
    let driver = pair.vm.run("ethtool -i cvsw0")?;
    ensure!(driver.starts_with("driver: cvsw\n"), "ethtool -i:\n{driver}");
    let (up, down) = (pair.vm.raw("cvsw0")?, pair.peer.raw("eth0")?);
    let sent = frames::udp_to_peer(1000, 2000, b"as it is");
    up.send(&sent)?;
    down.expect("the frame unchanged", |frame| frame == sent)?;
    let back = frames::udp_to_vm(2000, 1000, b"as it is, back");
    down.send(&back)?;
    up.expect("the frame back unchanged", |frame| frame == back)?;
    for direction in ["tx", "rx"] {
        let frames = pair.vm.counter("cvsw0", &format!("{direction}_frames"))?;
        let forwarded = pair.vm.counter("cvsw0", &format!("{direction}_forwarded"))?;
        ensure!(frames >= 7 && frames == forwarded, "{direction}: {frames} frames, {forwarded} forwarded");
    }
    tagged_frames(&pair)
}

/// The kernel holds a VLAN tag beside the frame; the engine and the wire must see it inside.
pub fn tagged_frames(pair: &Pair) -> Result<()> {
    for (namespace, device, address) in [(&pair.vm, "cvsw0", 1), (&pair.peer, "eth0", 2)] {
        namespace.run_all(&format!(
            "ip link add link {device} name tagged type vlan id 7
             ip address add 10.7.0.{address}/24 dev tagged
             ip link set tagged up"
        ))?;
    }
    pair.vm.run("ping -c 3 -i 0.2 -W 5 10.7.0.2")?;
    Ok(())
}

/// Every combination of MTU and offloads.
pub const WAYS: [(u32, bool); 4] = [(1500, true), (9000, true), (1500, false), (9000, false)];

/// TCP both ways, byte for byte, with every combination of offloads and MTU.
pub fn tcp_veth() -> Result<()> {
    let pair = Pair::veth()?;
    for (mtu, offloads) in WAYS {
        set_mtu_and_offloads(&pair, mtu, offloads)?;
        let counters = || {
            let frames = pair.vm.counter("cvsw0", "tx_frames")? + pair.vm.counter("cvsw0", "rx_frames")?;
            anyhow::Ok((frames, pair.vm.counter("cvsw0", "lock_operations")?))
        };
        let before = counters()?;
        tcp_both_ways(&pair, 50 * MIB * scale()?, &format!("MTU {mtu}, offloads {offloads}"))?;
        let after = counters()?;
        let locks = (after.1 - before.1) as f64 / (after.0 - before.0) as f64;
        println!("KMOD-NOTE MTU {mtu}, offloads {offloads}: {locks:.2} lock operations per frame");
    }
    Ok(())
}

/// The same over virtio-net, and the bare device beside it.
pub fn tcp_virtio() -> Result<()> {
    let pair = Pair::nics("nic0", "nic1")?;
    pair.vm.run("ping -c 3 -i 0.2 -W 5 10.0.0.2")?;
    for (mtu, offloads) in WAYS {
        set_mtu_and_offloads(&pair, mtu, offloads)?;
        nics_have_offloads(&pair, if offloads { "on" } else { "off" })?;
        tcp_both_ways(&pair, 50 * MIB * scale()?, &format!("virtio-net, MTU {mtu}, offloads {offloads}"))?;
    }
    set_mtu_and_offloads(&pair, 1500, true)?;
    tcp_both_ways(&pair, 24 * MIB, "virtio-net, MTU 1500")?;
    // The bare device in the same run, for comparison.
    pair.vm.run_all(
        "ip link del cvsw0
         ip address add 10.0.0.1/24 dev eth0
         ip neighbour add 10.0.0.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent",
    )?;
    tcp_both_ways(&pair, 24 * MIB, "virtio-net, MTU 1500, bare")
}

/// How often processors wait for each other: the same two streams over one queue, and so one lane, and over two, in clear and
/// encrypted.
pub fn contention() -> Result<()> {
    for (queues, encrypted) in [(1, false), (2, false), (1, true), (2, true), (1, true), (2, true)] {
        let pair = if encrypted { encrypted_pair(queues)? } else { Pair::veth_with_queues(queues)? };
        let address = if encrypted { "10.1.0.2" } else { "10.0.0.2" };
        let counter = |name: &str| pair.vm.counter("cvsw0", name);
        ensure!(counter("lanes")? == u64::from(queues), "{} lanes, {queues} queues", counter("lanes")?);
        let start = Instant::now();
        thread::scope(|scope| -> Result<()> {
            let pair = &pair;
            let streams = [5000, 5001].map(|port| {
                let at = format!("{address}:{port}");
                scope.spawn(move || tcp_through(&pair.vm, &at, &pair.peer, &at, 16 * MIB))
            });
            streams.into_iter().try_for_each(|stream| {
                stream.join().map_err(|_| anyhow::anyhow!("a stream's thread panicked"))?.map(drop)
            })
        })?;
        let rate = 32.0 / start.elapsed().as_secs_f64();
        let frames = counter("tx_frames")? + counter("rx_frames")?;
        let (operations, waits) = (counter("lock_operations")?, counter("lock_contended")?);
        ensure!(frames >= operations && operations > 1000, "{operations} lock operations, {frames} frames");
        let ciphering = counter("cipher_lanes")?;
        ensure!(ciphering == if encrypted { u64::from(queues) } else { 0 }, "{ciphering} lanes used ciphers");
        println!(
            "KMOD-NOTE lanes {queues}{}: {:.2} lock operations per frame, {:.1} of 1000 had to wait, {rate:.1} MiB/s",
            if encrypted { ", encrypted" } else { "" },
            operations as f64 / frames as f64,
            waits as f64 * 1000.0 / operations as f64
        );
    }
    Ok(())
}

/// Of the vNIC and of the devices below, as far as those can: a feature that a device has fixed stays.
pub fn set_mtu_and_offloads(pair: &Pair, mtu: u32, offloads: bool) -> Result<()> {
    let state = if offloads { "on" } else { "off" };
    for (namespace, devices) in [(&pair.vm, &["eth0", "cvsw0"][..]), (&pair.peer, &["eth0"])] {
        for device in devices {
            namespace.run(&format!("ip link set {device} mtu {mtu}"))?;
            for feature in ["tx", "rx", "sg", "tso", "gso", "gro"] {
                let set = namespace.run(&format!("ethtool -K {device} {feature} {state}"));
                ensure!(set.is_ok() || *device == "eth0", "{device}, {feature} {state}: {set:?}");
            }
        }
    }
    let features = pair.vm.run("ethtool -k cvsw0")?;
    ensure!(features.contains(&format!("generic-receive-offload: {state}")), "ethtool -k:\n{features}");
    ensure!(features.contains(&format!("tcp-segmentation-offload: {state}")), "ethtool -k:\n{features}");
    Ok(())
}

/// The devices below have the offloads, too: what they are connected to must be able to take and give unfinished frames.
pub fn nics_have_offloads(pair: &Pair, state: &str) -> Result<()> {
    for namespace in [&pair.vm, &pair.peer] {
        let features = namespace.run("ethtool -k eth0")?;
        for feature in ["tx-checksumming", "tcp-segmentation-offload"] {
            ensure!(features.contains(&format!("{feature}: {state}")), "{feature} is not {state}:\n{features}");
        }
    }
    Ok(())
}

/// Sends `size` bytes each way and compares them.
pub fn tcp_both_ways(pair: &Pair, size: usize, what: &str) -> Result<()> {
    let up = tcp_through(&pair.vm, "10.0.0.2:5000", &pair.peer, "10.0.0.2:5000", size)
        .with_context(|| format!("{what}, transmit"))?;
    let down = tcp_through(&pair.peer, "10.0.0.1:5000", &pair.vm, "10.0.0.1:5000", size)
        .with_context(|| format!("{what}, receive"))?;
    let rate = |time: Duration| (size / MIB) as f64 / time.as_secs_f64();
    println!(
        "KMOD-NOTE {what}: {} MiB each way, {:.1} MiB/s out, {:.1} MiB/s in",
        size / MIB,
        rate(up),
        rate(down)
    );
    Ok(())
}

/// Sends `size` bytes to `address`, where they come out at `at` of the other namespace, and compares them. If nothing moves for
/// long, it shows why, and fails.
pub fn tcp_through(from: &Namespace, address: &str, to: &Namespace, at: &str, size: usize) -> Result<Duration> {
    let (address, at): (SocketAddr, SocketAddr) = (address.parse()?, at.parse()?);
    let listener = to.inside(|| Ok(TcpListener::bind(at)?))?;
    let progress = Progress::default();
    let result = thread::scope(|scope| -> Result<Duration> {
        scope.spawn(|| progress.watch([from, to]));
        let receiver = scope.spawn(|| receive_and_compare(&listener, size, &progress));
        let start = Instant::now();
        let sent = from.inside(|| send(address, size)).context("sending");
        let received = receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"));
        progress.end();
        // The receiver knows best: it sees what has arrived.
        received?.context("receiving")?;
        sent?;
        Ok(start.elapsed())
    });
    result.with_context(|| format!("a transfer of {size} bytes to {address}"))
}

fn send(address: SocketAddr, size: usize) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, patience())?;
    stream.set_write_timeout(Some(patience()))?;
    pattern(size, |chunk| Ok(stream.write_all(chunk)?))
}

fn receive_and_compare(listener: &TcpListener, size: usize, progress: &Progress) -> Result<()> {
    listener.set_nonblocking(true)?;
    let mut accepted = None;
    wait_for("a connection", || {
        accepted = listener.accept().ok();
        Ok(accepted.is_some())
    })?;
    let (mut stream, _) = accepted.context("no connection")?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(patience()))?;
    let mut received = vec![0; CHUNK];
    let mut offset = 0;
    pattern(size, |chunk| {
        let received = &mut received[..chunk.len()];
        stream.read_exact(received).with_context(|| format!("in the chunk at {offset}"))?;
        progress.moved(chunk.len());
        ensure!(received == chunk, "the bytes differ in the chunk at {offset}");
        offset += chunk.len();
        Ok(())
    })?;
    ensure!(stream.read(&mut received)? == 0, "more bytes than were sent");
    Ok(())
}

const CHUNK: usize = 1 << 16;

/// Calls `each` with `size` bytes in chunks, the same ones every time, each chunk with its own number in it, so that a
/// lost, doubled or moved part shows.
fn pattern(size: usize, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut chunk: Vec<u8> = (0..CHUNK).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
    for offset in (0..size).step_by(CHUNK) {
        for place in (0..CHUNK).step_by(512) {
            chunk[place..place + 8].copy_from_slice(&(offset + place).to_le_bytes());
        }
        each(&chunk[..CHUNK.min(size - offset)])?;
    }
    Ok(())
}
