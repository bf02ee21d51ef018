//! The control session, byte by byte, with the test as controller at the other end of the wire.

use crate::{
    net::RawSocket,
    system::{run, wait_for},
    topology::{Pair, VM_MAC},
};
use anyhow::{Context, Result, ensure};
use cvsw_core::{flow::text::parse_flow, openflow::encode_flow_mod};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, gettid},
};
use std::{thread, time::Duration};

const HELLO: u8 = 1;
const REGISTER: u8 = 2;
const SET_ENTRY: u8 = 3;
const DELETE_ENTRY: u8 = 4;
const SET_MTU: u8 = 5;
const SET_OFFLOAD: u8 = 6;
const LIST_ENTRIES: u8 = 7;
/// Control frames that can wait (`CVSW_CONTROL_QUEUE`).
const QUEUE: u64 = 256;
/// Frames of a flood: what can wait, twice.
const FLOOD: u64 = 2 * QUEUE;

/// HELLO to LIST_ENTRIES, and what must not work.
pub fn control() -> Result<()> {
    let pair = Pair::veth()?;
    let wire = pair.peer.raw("eth0")?;
    wire.send(&message(SET_MTU, 1400, &[]))?;
    wire.send(&message(HELLO, 0, &[]))?;
    let register = wire.expect("REGISTER", |frame| frame[12..14] == [0xab, 0xba] && frame[6] == 0x20 | REGISTER)?;
    ensure!(register[..6] == VM_MAC, "REGISTER names another address: {register:02x?}");
    ensure!(
        pair.vm.counter("cvsw0", "control_error_not_connected")? == 1,
        "a command before HELLO was not refused"
    );
    parameters(&pair, &wire)?;
    entries(&pair, &wire)?;
    from_the_host(&pair, &wire)?;
    flood(&pair, &wire)
}

/// A control message to the VM.
pub fn message(kind: u8, data: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = VM_MAC.to_vec();
    frame.extend([0x20 | kind, 0]);
    frame.extend((body.len() as u16).to_be_bytes());
    frame.extend(data.to_be_bytes());
    frame.extend([0xab, 0xba]);
    frame.extend(body);
    frame.resize(frame.len().max(60), 0);
    frame
}

fn parameters(pair: &Pair, wire: &RawSocket) -> Result<()> {
    wire.send(&message(SET_MTU, 1400, &[]))?;
    wait_for("MTU 1400", || Ok(pair.vm.run("ip link show dev cvsw0")?.contains(" mtu 1400 ")))?;
    // More than the lower device has.
    wire.send(&message(SET_MTU, 9000, &[]))?;
    wait_for("the refusal of MTU 9000", || Ok(pair.vm.counter("cvsw0", "control_mtu_refused")? == 1))?;
    ensure!(pair.vm.run("ip link show dev cvsw0")?.contains(" mtu 1400 "), "a refused MTU was set");
    held_to_mtu(pair, wire)?;
    let features =
        ["tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload", "rx-checksumming"];
    for (bits, state) in [(0, "off"), (0x1f, "on")] {
        wire.send(&message(SET_OFFLOAD, bits, &[]))?;
        wait_for(&format!("offloads {state}"), || {
            let shown = pair.vm.run("ethtool -k cvsw0")?;
            Ok(features.iter().all(|feature| shown.contains(&format!("{feature}: {state}"))))
        })?;
    }
    Ok(())
}

/// The VM is told the controller's MTU, also when it has set another one itself.
fn held_to_mtu(pair: &Pair, wire: &RawSocket) -> Result<()> {
    pair.vm.run("ip link set cvsw0 mtu 1500")?;
    let refused = pair.vm.run("ping -M do -c 1 -W 5 -s 1472 10.0.0.2").expect_err("a packet above the MTU");
    ensure!(format!("{refused:#}").contains("mtu = 1400"), "no answer to a packet that is too big: {refused:#}");
    ensure!(pair.vm.counter("cvsw0", "tx_drop_packet_too_big")? == 1, "not one packet_too_big");
    // The MSS is lowered both ways, super-frames or not.
    super::traffic::tcp_both_ways(pair, 1 << 20, "MTU 1500 in the VM, 1400 from the controller")?;
    // The control frames that come next need room.
    while wire.receive(Duration::ZERO)?.is_some() {}
    pair.vm.run_all("ip link set cvsw0 mtu 1400\nip route flush cache")
}

fn entries(pair: &Pair, wire: &RawSocket) -> Result<()> {
    let mut body = [0; 1200];
    let flow = parse_flow("priority=7,in_port=HOST,udp,tp_dst=2000,actions=drop").ok().context("flow text")?;
    let len = encode_flow_mod(&flow, 0, &mut body).ok().context("flow mod")?;
    wire.send(&message(SET_ENTRY, 0, &body[..len]))?;
    wait_for("the entry", || Ok(pair.vm.run("cvsw ctl --dev cvsw0 flows list")?.contains("tp_dst=2000")))?;
    wire.send(&message(LIST_ENTRIES, 0, &[]))?;
    let is_list = |frame: &[u8]| frame[12..14] == [0xab, 0xba] && frame[6] == 0x20 | LIST_ENTRIES;
    let listed = wire.expect("one entry listed", is_list)?;
    ensure!(listed[8..10] == (len as u16).to_be_bytes() && listed[14..16] == [1, 14], "listed: {listed:02x?}");
    let closing = wire.expect("the end of the list", is_list)?;
    ensure!(closing[8..10] == [0, 0], "the list does not end: {closing:02x?}");
    // OFPFC_DELETE_STRICT, at offset 56 of the message.
    body[56..58].copy_from_slice(&4u16.to_be_bytes());
    wire.send(&message(DELETE_ENTRY, 0, &body[..len]))?;
    wait_for("the entry's end", || Ok(pair.vm.counter("cvsw0", "flows")? == 0))
}

/// More control frames than can wait, while the work item that takes them gets no processor: what is too much is counted, and the
/// vNIC stays under control.
fn flood(pair: &Pair, wire: &RawSocket) -> Result<()> {
    let counters =
        || anyhow::Ok((pair.vm.counter("cvsw0", "rx_consumed")?, pair.vm.counter("cvsw0", "control_overflow")?));
    let before = counters()?;
    let mut sent = 0;
    // The work item may be at work on the other processor when a flood begins, and keep up.
    wait_for("control frames that were too many", || {
        without_workers(|| {
            let hello = message(HELLO, 0, &[]);
            (0..FLOOD).try_for_each(|_| wire.send(&hello))
        })?;
        sent += FLOOD;
        Ok(counters()?.1 > before.1)
    })?;
    wait_for("an MTU behind a flood", || {
        wire.send(&message(SET_MTU, 1350, &[]))?;
        Ok(pair.vm.run("ip link show dev cvsw0")?.contains(" mtu 1350 "))
    })?;
    let after = counters()?;
    let (taken, overflow) = (after.0 - before.0, after.1 - before.1);
    ensure!(taken >= QUEUE, "of {sent} frames only {taken} were taken, and {overflow} were too many");
    let shown = pair.vm.run("ip -s link show dev cvsw0")?;
    println!("KMOD-NOTE of {sent} control frames in floods of {FLOOD} {overflow} were too many, {taken} taken");
    let dropped = shown.lines().skip_while(|line| !line.contains("RX:")).nth(1);
    let dropped = dropped.and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    ensure!(dropped.is_some_and(|dropped| dropped >= overflow), "`ip -s link` does not show them:\n{shown}");
    Ok(())
}

/// Runs `work` on one processor with a real-time priority, so that the kernel's workers of that processor do not run meanwhile.
fn without_workers<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut first = CpuSet::new();
            first.set(0)?;
            sched_setaffinity(Pid::from_raw(0), &first)?;
            run(&format!("chrt --fifo --pid 1 {}", gettid()))?;
            work()
        });
        thread.join().map_err(|_| anyhow::anyhow!("a test thread panicked"))?
    })
}

/// A control frame from the VM's own stack is dropped, and none reaches the stack.
fn from_the_host(pair: &Pair, wire: &RawSocket) -> Result<()> {
    let up = pair.vm.raw("cvsw0")?;
    up.send(&message(HELLO, 0, &[]))?;
    ensure!(pair.vm.counter("cvsw0", "tx_drop_control_from_host")? == 1, "a forged control frame was not dropped");
    let session = pair.vm.run("cvsw ctl --dev cvsw0 stats")?;
    ensure!(session.starts_with("control session: CONNECTED"), "stats:\n{session}");
    let consumed = pair.vm.counter("cvsw0", "rx_consumed")?;
    wire.send(&message(HELLO, 0, &[]))?;
    wait_for("the duplicate HELLO", || Ok(pair.vm.counter("cvsw0", "rx_consumed")? == consumed + 1))?;
    let marker = crate::frames::udp_to_vm(1, 2, b"marker");
    wire.send(&marker)?;
    up.expect("the frame behind the control frame", |frame| {
        assert!(frame[12..14] != [0xab, 0xba] || frame[6] & 1 == 1, "a control frame reached the stack");
        frame == marker
    })?;
    Ok(())
}
