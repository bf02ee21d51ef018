//! Capture files as ports.

use crate::support::*;
use cvsw_userspace::capture::{CaptureWriter, Resolution};
use std::{path::Path, time::Duration};

fn write(path: &str, frames: &[Vec<u8>]) {
    let mut writer = CaptureWriter::create(Path::new(path), Resolution::NanoSecond).unwrap();
    frames.iter().for_each(|frame| writer.write(Duration::from_secs(1), frame).unwrap());
    writer.finish().unwrap();
}

#[test]
fn captures_pass_both_ways_and_the_command_ends_by_itself() {
    let folder = Folder::new();
    let [from_host, from_net, to_host, to_net] = ["a", "b", "c", "d"].map(|name| folder.file(name));
    let frames = |first: usize| (first..first + 100).map(noise).collect::<Vec<_>>();
    let (host, net) = (frames(14), frames(1400));
    write(&from_host, &host);
    write(&from_net, &net);
    let mut process = spawn_port(&format!(
        "--host pcap:read={from_host},write={to_host} --net pcap:read={from_net},write={to_net} --mac 02:00:00:00:00:01"
    ));
    let status = process.wait();
    assert!(status.success(), "{status}: {}", process.stderr());
    // Somewhere between, the vNIC announces itself.
    let hello = control([2, 0, 0, 0, 0, 1], HELLO, 0);
    let (hellos, out): (Vec<_>, Vec<_>) = read_capture(&to_net).into_iter().partition(|frame| *frame == hello);
    assert_eq!(hellos.len(), 1);
    assert_eq!(out, host);
    assert_eq!(read_capture(&to_host), net);
}

#[test]
fn control_frames_in_a_capture_are_honoured() {
    let folder = Folder::new();
    let [from_net, to_net] = ["a", "b"].map(|name| folder.file(name));
    let mac = [2, 0, 0, 0, 0, 1];
    write(&from_net, &[control([0xff; 6], HELLO, 0)]);
    let mut process =
        spawn_port(&format!("--host pcap: --net pcap:read={from_net},write={to_net} --mac 02:00:00:00:00:01"));
    assert!(process.wait().success());
    assert_eq!(read_capture(&to_net), [control(mac, HELLO, 0), control(mac, REGISTER, 0)]);
}

#[test]
fn a_damaged_capture_is_an_error() {
    let folder = Folder::new();
    let file = folder.file("cut");
    write(&file, &[noise(100), noise(100)]);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 10]).unwrap();
    let mut process = spawn_port(&format!("--host pcap:read={file} --net pcap: --mac 02:00:00:00:00:01"));
    assert_eq!(process.wait().code(), Some(1));
    assert!(process.stderr().contains("middle of a record"));
}
