//! Devices come and go, under traffic.

use crate::{
    frames,
    memory::Memory,
    net::Namespace,
    system::{number, run, scale, wait_for},
    topology::Pair,
};
use anyhow::{Context, Result, ensure};
use std::{
    fmt::Write as _,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

/// Cycles of the add and delete loop, unless `cycles=` on the kernel's command line tells another number.
const CYCLES: usize = 200;

/// MTU, address, state and namespace of the lower device.
pub fn follows_lower_device() -> Result<()> {
    let pair = Pair::veth()?;
    let shows = |text: &str| Ok(pair.vm.run("ip link show dev cvsw0")?.contains(text));
    pair.vm.run("ip link set eth0 mtu 1300")?;
    wait_for("the smaller MTU", || shows(" mtu 1300 "))?;
    pair.vm.run("ip link set cvsw0 mtu 1400").expect_err("an MTU above the lower device's");
    pair.vm.run("ip link set eth0 address 02:00:00:00:00:55")?;
    wait_for("the new address", || shows("02:00:00:00:00:55"))?;
    pair.vm.run("ip link set cvsw0 address 02:00:00:00:00:66")?;
    pair.vm.run("ip link set eth0 address 02:00:00:00:00:01")?;
    ensure!(shows("02:00:00:00:00:66")?, "an address of its own was changed");
    pair.peer.run("ip link set eth0 down")?;
    wait_for("no carrier", || shows("NO-CARRIER"))?;
    pair.peer.run("ip link set eth0 up")?;
    wait_for("carrier", || shows("LOWER_UP"))?;
    pair.vm.run("ip link add link eth0 name second type cvsw").expect_err("two on one device");
    pair.vm.run("ip link add link lo name second type cvsw").expect_err("on a loopback");
    // The vNIC moves, its lower device stays.
    let other = Namespace::new("other")?;
    pair.vm.run("ip link set cvsw0 netns other")?;
    other.run_all(
        "ip address add 10.0.0.1/24 dev cvsw0\nip link set cvsw0 address 02:00:00:00:00:01\nip link set cvsw0 up",
    )?;
    other.run("ping -c 2 -i 0.2 -W 5 10.0.0.2")?;
    pair.vm.run("ip link del eth0")?;
    wait_for("the end of cvsw0 with its lower device", || Ok(!other.run("ip link")?.contains("cvsw0")))
}

/// The lower device goes to another namespace; the vNIC stays where it is, and on it.
pub fn lower_device_moves() -> Result<()> {
    let pair = Pair::veth()?;
    let other = Namespace::new("other")?;
    pair.vm.run("ip link set eth0 netns other")?;
    // A device comes down when it moves.
    wait_for("no carrier", || Ok(pair.vm.run("ip link show dev cvsw0")?.contains("NO-CARRIER")))?;
    other.run("ip link set eth0 up")?;
    wait_for("carrier", || Ok(pair.vm.run("ip link show dev cvsw0")?.contains("LOWER_UP")))?;
    pair.vm.run("ping -c 2 -i 0.2 -W 5 10.0.0.2")?;
    pair.flows("icmp,actions=drop")?;
    ensure!(pair.vm.run("ping -c 1 -W 1 10.0.0.2").is_err(), "its flows are not applied any more");
    // The namespace of the lower device ends, and the device with it.
    drop(other);
    wait_for("the end of cvsw0 with its lower device", || Ok(!pair.vm.run("ip link")?.contains("cvsw0")))?;
    wait_for("the end of its memory", || Ok(engines()? == 0))
}

/// Adds and deletes in a loop while frames come from both sides.
pub fn add_and_delete() -> Result<()> {
    let pair = Pair::veth()?;
    let cycles = number("cycles", CYCLES)? * scale()?;
    let mut batch = String::from("link del cvsw0\n");
    for _ in 0..cycles {
        batch += "link add link eth0 name cvsw0 type cvsw\nlink set cvsw0 up\nlink del cvsw0\n";
    }
    write!(batch, "link add link eth0 name cvsw0 type cvsw\nlink set cvsw0 up")?;
    fs::write("/tmp/cycles", batch)?;
    pair.vm.run("ip -batch /tmp/cycles")?; // what is allocated once is there from now on
    let before = Memory::now()?;
    let ([from_vm, from_peer], ()) = under_traffic(&pair, || pair.vm.run("ip -batch /tmp/cycles").map(drop))?;
    ensure!(from_peer > cycles && from_vm > 10, "little traffic: {from_peer} frames in, {from_vm} out");
    println!("KMOD-NOTE {cycles} cycles under {from_peer} frames in, {from_vm} out");
    before.compare(cycles)?;
    ensure!(engines()? == 1, "{} engines in memory, one device", engines()?);
    pair.vm.run("ip address add 10.0.0.1/24 dev cvsw0")?;
    wait_for("traffic after the cycles", || Ok(pair.vm.run("ping -c 1 -W 2 10.0.0.2").is_ok()))
}

/// Does something while frames come from both sides; how many there were from the VM and from the peer.
pub fn under_traffic<T>(pair: &Pair, work: impl FnOnce() -> Result<T>) -> Result<([usize; 2], T)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let vm = scope.spawn(|| flood(&pair.vm, "cvsw0", &frames::udp_to_peer(1, 2, &[7; 600]), &stop));
        let peer = scope.spawn(|| flood(&pair.peer, "eth0", &frames::udp_to_vm(1, 2, &[7; 600]), &stop));
        let result = work();
        stop.store(true, Ordering::Relaxed);
        let sent = [vm, peer].map(|side| side.join().map_err(|_| anyhow::anyhow!("a flood panicked"))?);
        let [vm, peer] = sent;
        Ok(([vm?, peer?], result?))
    })
}

/// Sends until told to stop; the device may go and come back. The number of frames sent.
fn flood(namespace: &Namespace, device: &str, frame: &[u8], stop: &AtomicBool) -> Result<usize> {
    namespace.inside(|| {
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            let Ok(socket) = namespace.raw_here(device) else { continue };
            while !stop.load(Ordering::Relaxed) && socket.send(frame).is_ok() {
                sent += 1;
            }
        }
        Ok(sent)
    })
}

/// Engines that the kernel holds memory for, or memory that the lanes of a vNIC share, whichever there is more of.
pub fn engines() -> Result<usize> {
    let areas = fs::read_to_string("/proc/vmallocinfo")?;
    let count = |by: &str| areas.lines().filter(|line| line.contains(by)).count();
    Ok(count("cvsw_lanes_alloc").max(count("cvsw_shared_alloc")))
}

/// Ends of namespaces, lower devices and the module itself, under traffic from both sides, leave nothing behind.
pub fn teardown() -> Result<()> {
    for what in ["namespace", "lower device", "module"] {
        let pair = Pair::veth()?;
        pair.flows("udp,actions=mod_nw_tos:4")?;
        ensure!(engines()? == 1, "{} engines, one device", engines()?);
        let ([from_vm, from_peer], ()) = under_traffic(&pair, || {
            let counted =
                || Ok(pair.vm.counter("cvsw0", "tx_frames")? > 100 && pair.vm.counter("cvsw0", "rx_frames")? > 100);
            wait_for("traffic from both sides", counted)?;
            match what {
                // The namespace itself ends when the last one who is inside has left; its devices are gone before.
                "namespace" => run("ip netns del vm").map(drop),
                "lower device" => pair.vm.run("ip link del eth0").map(drop),
                _ => run("rmmod cvsw").map(drop),
            }
        })
        .with_context(|| format!("the end of the {what}"))?;
        println!("KMOD-NOTE the end of the {what} under {from_vm} frames out, {from_peer} in");
        wait_for("the end of the engine", || Ok(engines()? == 0)).with_context(|| format!("with its {what}"))?;
        match what {
            "lower device" => ensure!(!pair.vm.run("ip link")?.contains("cvsw0"), "a device without its lower one"),
            "module" => {
                ensure!(!pair.vm.run("ip link")?.contains("cvsw0"), "a device without its module");
                run("modprobe cvsw")?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A module that computes a published test vector otherwise (here the vector was changed) is not loaded.
pub fn self_test() -> Result<()> {
    run("rmmod cvsw")?;
    let refused = run("insmod /broken/cvsw.ko").expect_err("a module whose ciphers are wrong");
    ensure!(format!("{refused:#}").contains("Bad message"), "{refused:#}");
    ensure!(!fs::exists("/sys/module/cvsw")?, "it stayed loaded");
    run("modprobe cvsw").map(drop)
}
