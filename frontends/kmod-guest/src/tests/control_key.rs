//! A vNIC with a control key: only version 3 with right tags is believed. The test is the controller, by the core's own side
//! of a controller; the project's controller does the same in the machine `sealed`.

use super::control::message;
use crate::{
    net::RawSocket,
    system::wait_for,
    topology::{Pair, VM_MAC},
};
use anyhow::{Context, Result, ensure};
use cvsw_core::{
    Instant,
    control::v3::{ControlKeys, ControllerSession, Event, Kind, Message, hello},
};
use std::{fs, os::unix::fs::PermissionsExt};

const KEY: [u8; 16] = *b"a control key 16";
const KEY_FILE: &str = "/tmp/control.key";
const ETHERTYPE: u16 = 0xabba;
const CHALLENGE: u64 = 0x0bad_cafe;
const EPOCH: u64 = 5;

/// Without the key nothing works any more, with it a command is carried out once.
pub fn control_key() -> Result<()> {
    let pair = Pair::veth()?;
    let wire = pair.peer.raw("eth0")?;
    refuses_bad_files(&pair)?;
    write_key(&crate::system::hex(&KEY), 0o600)?;
    pair.vm.run(&format!("cvsw ctl --dev cvsw0 control key {KEY_FILE}"))?;
    let status = pair.vm.run("cvsw ctl --dev cvsw0 control status --json")?;
    ensure!(status.contains("\"authenticated\": true"), "{status}");
    ensure!(!status.contains(&crate::system::hex(&KEY)), "the key came back: {status}");
    // A controller of version 2 is refused.
    wire.send(&message(1, 0, &[]))?;
    wait_for("the refusal of version 2", || Ok(pair.vm.counter("cvsw0", "control_error_downgrade")? == 1))?;
    let mut session = registered(&wire)?;
    forged(&pair, &wire, &session)?;
    command(&pair, &wire, &mut session)
}

fn write_key(text: &str, mode: u32) -> Result<()> {
    fs::write(KEY_FILE, text)?;
    Ok(fs::set_permissions(KEY_FILE, fs::Permissions::from_mode(mode))?)
}

fn refuses_bad_files(pair: &Pair) -> Result<()> {
    for (text, mode) in [("0123", 0o600), (&*"0".repeat(32), 0o600), (&*"1".repeat(32), 0o644)] {
        write_key(text, mode)?;
        let refused = pair.vm.run(&format!("cvsw ctl --dev cvsw0 control key {KEY_FILE}"));
        ensure!(refused.is_err(), "{text}, mode {mode:o}, was taken");
    }
    let status = pair.vm.run("cvsw ctl --dev cvsw0 control status")?;
    ensure!(status.contains("control key: none"), "{status}");
    Ok(())
}

/// The vNIC's answer to HELLO carries the challenge and a right tag.
fn registered(wire: &RawSocket) -> Result<ControllerSession<32>> {
    let mut frame = [0; 256];
    let len = hello(ETHERTYPE, VM_MAC, EPOCH, CHALLENGE, &mut frame).ok().context("HELLO")?;
    wire.send(&frame[..len])?;
    let mut session = ControllerSession::new(ControlKeys::derive(&KEY), EPOCH, 1_000_000_000);
    wire.expect("REGISTER with the challenge and a right tag", |frame| {
        let is_ours = frame[12..14] == ETHERTYPE.to_be_bytes() && frame[6] >> 4 == 3;
        is_ours
            && Message::parse(frame).is_ok_and(|message| {
                message.header.kind == Kind::Register && session.register(&message, CHALLENGE).is_ok()
            })
    })?;
    Ok(session)
}

/// SET_MTU, sealed with `keys`.
fn set_mtu(session: &ControllerSession<32>, keys: &ControlKeys, sequence: u64, mtu: u16) -> Result<Vec<u8>> {
    let header = session.header(VM_MAC, Kind::SetMtu, sequence, false, mtu);
    let mut frame = vec![0; 256];
    let len = header.emit_bytes(ETHERTYPE, keys, &mut frame, &[]).ok().context("SET_MTU")?;
    frame.truncate(len);
    Ok(frame)
}

fn forged(pair: &Pair, wire: &RawSocket, session: &ControllerSession<32>) -> Result<()> {
    let other = ControlKeys::derive(b"another key here");
    for (keys, counter) in [(&other, "control_error_tag"), (&ControlKeys::NONE, "control_error_unauthenticated")] {
        wire.send(&set_mtu(session, keys, 1, 1300)?)?;
        wait_for(counter, || Ok(pair.vm.counter("cvsw0", counter)? == 1))?;
    }
    ensure!(pair.vm.run("ip link show dev cvsw0")?.contains(" mtu 1500 "), "a forged command was carried out");
    Ok(())
}

fn command(pair: &Pair, wire: &RawSocket, session: &mut ControllerSession<32>) -> Result<()> {
    let sequence = session.submit(1, false).context("no room for a command")?;
    let frame = set_mtu(session, &ControlKeys::derive(&KEY), sequence, 1400)?;
    wire.send(&frame)?;
    wait_for("MTU 1400", || Ok(pair.vm.run("ip link show dev cvsw0")?.contains(" mtu 1400 ")))?;
    wire.expect("the acknowledgement", |frame| {
        frame[12..14] == ETHERTYPE.to_be_bytes()
            && Message::parse(frame).is_ok_and(|message| {
                message.header.kind == Kind::Ack
                    && matches!(session.receive(Instant::ZERO, &message), Ok(Event::Answered { .. }))
            })
    })?;
    // The same frame again is answered again and changes nothing.
    pair.vm.run("ip link set cvsw0 mtu 1450")?;
    wire.send(&frame)?;
    wait_for("the repetition", || Ok(pair.vm.counter("cvsw0", "control_duplicates")? == 1))?;
    ensure!(pair.vm.run("ip link show dev cvsw0")?.contains(" mtu 1450 "), "a command was carried out twice");
    let status = pair.vm.run("cvsw ctl --dev cvsw0 control status")?;
    ensure!(
        status.contains("version of the last controller: 3") && status.contains("command 1, 1 came"),
        "{status}"
    );
    Ok(())
}
