//! One vNIC on several processors: a lower device with two queues.

use super::esp;
use crate::{frames, net::RawSocket, system::wait_for, topology::Pair};
use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

const FRAMES: usize = 20;

/// Frames on both processors meet the same table; counters, timeouts and changes are those of one table.
pub fn lanes() -> Result<()> {
    let pair = Pair::veth_with_queues(2)?;
    let counter = |name: &str| pair.vm.counter("cvsw0", name);
    ensure!(counter("lanes")? == 2, "{} lanes on two queues and two processors", counter("lanes")?);
    pair.flows("priority=5,idle_timeout=6,in_port=HOST,udp,tp_dst=2000,actions=mod_tp_dst:9")?;
    let (up, down) = (pair.vm.raw("cvsw0")?, pair.peer.raw("eth0")?);
    for cpu in 0..2 {
        send_on(cpu, &up, FRAMES)?;
    }
    for _ in 0..2 * FRAMES {
        down.expect("a changed frame", |frame| frame.ends_with(b"lane") && frame[36..38] == [0, 9])?;
    }
    let listed = || pair.vm.run("cvsw ctl --dev cvsw0 flows list");
    ensure!(listed()?.contains(&format!("n_packets={},", 2 * FRAMES)), "counters of two lanes:\n{}", listed()?);
    ensure!(counter("tx_frames")? == 2 * FRAMES as u64, "{} frames", counter("tx_frames")?);
    in_use(&up, &down)?;
    ensure!(counter("flows")? == 1, "an entry in use on the second processor was removed as idle");
    wait_for("the end of the idle entry", || Ok(counter("flows")? == 0))?;
    for cpu in 0..2 {
        send_on(cpu, &up, 1)?;
        down.expect("an unchanged frame", |frame| frame.ends_with(b"lane") && frame[36..38] == [7, 208])?;
    }
    Ok(())
}

/// Both lanes seal, with numbers of one sequence; what one of them has opened, the other one takes for a replay.
pub fn encrypted_lanes() -> Result<()> {
    let pair = esp::encrypted_pair(2)?;
    let counter = |name: &str| pair.vm.counter("cvsw0", name);
    let [from, to] = esp::spis(0);
    let (up, wire) = (pair.vm.raw("cvsw0")?, pair.peer.raw("eth0")?);
    for cpu in 0..2 {
        send_on(cpu, &up, FRAMES)?;
    }
    let mut numbers = BTreeSet::new();
    for _ in 0..2 * FRAMES {
        let frame = wire.expect("a sealed frame", |frame| is_sealed(frame, to))?;
        ensure!(numbers.insert(frame[38..42].to_vec()), "a sequence number was used twice: {frame:02x?}");
    }
    ensure!(counter("cipher_lanes")? == 2, "{} lanes used ciphers", counter("cipher_lanes")?);
    let listed = pair.vm.run("cvsw ctl --dev cvsw0 sa list")?;
    let both = listed.lines().any(|line| {
        let number = |name: &str| line.split_once(name)?.1.split(',').next()?.trim().parse::<usize>().ok();
        let (last, packets) = (number("last_sequence="), number("n_packets="));
        // A load of the file may have begun with a later block of numbers.
        packets >= Some(2 * FRAMES) && last.map(|last| last % (1 << 30)) == packets
    });
    ensure!(both, "no association has as many packets as numbers, of both lanes:\n{listed}");

    // A vNIC that is down opens nothing.
    pair.vm.run("ip link set cvsw0 down")?;
    let _ = pair.peer.run("ping -c 1 -W 1 10.1.0.1");
    let good = wire.expect("an ESP packet of the peer", |frame| is_sealed(frame, from))?;
    pair.vm.run("ip link set cvsw0 up")?;
    for (cpu, name) in [(1, "rx_forwarded"), (0, "rx_drop_esp_replay"), (1, "rx_drop_esp_replay")] {
        let before = counter(name)?;
        on(cpu, || wire.send(&good))?;
        wait_for(&format!("{name} to rise"), || Ok(counter(name)? > before))
            .with_context(|| format!("received by processor {cpu}"))?;
    }
    Ok(())
}

/// Whether it is an ESP packet with this SPI.
fn is_sealed(frame: &[u8], spi: u32) -> bool {
    frame.len() > 42 && frame[23] == 50 && frame[34..38] == spi.to_be_bytes()
}

/// Uses the entry on the second processor only, for longer than its timeout. A machine that stood still meanwhile, for
/// longer than the entry may be idle, has to try again.
fn in_use(up: &RawSocket, down: &RawSocket) -> Result<()> {
    for _ in 0..5 {
        let (start, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
        while start.elapsed() < Duration::from_secs(8) {
            send_on(1, up, 1)?;
            gap = gap.max(last.elapsed());
            last = Instant::now();
            let _ = down.receive(Duration::from_millis(300))?;
        }
        // The entry's end is noticed by the next tick, a second later at most.
        if gap.max(last.elapsed()) < Duration::from_secs(4) {
            return Ok(());
        }
    }
    anyhow::bail!("this machine stands still for seconds, again and again")
}

/// Sends from one processor, and so through its lane.
fn send_on(cpu: usize, socket: &RawSocket, count: usize) -> Result<()> {
    on(cpu, || (0..count).try_for_each(|_| socket.send(&frames::udp_to_peer(1000, 2000, b"lane"))))
}

/// Does something on one processor. What it sends to a veth device is received there, too.
fn on(cpu: usize, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> Result<()> {
            let mut set = CpuSet::new();
            set.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &set)?;
            work()
        });
        thread.join().map_err(|_| anyhow::anyhow!("a test thread panicked"))?
    })
}
