//! What to look at when a transfer stands still: afterwards is too late.

use crate::{net::Namespace, system::patience};
use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// What the state of an end of the connection is asked with.
const QUESTIONS: &[&str] = &["ss -tinemo", "ip -s -s link", "tc -s qdisc", "ip route", "ip neighbour"];
const DEVICES: &[&str] = &["eth0", "cvsw0"];
const MACHINE: &[&str] = &["/proc/interrupts", "/proc/softirqs", "/proc/net/softnet_stat", "/proc/net/netstat"];

/// A transfer that is watched.
#[derive(Default)]
pub struct Progress {
    bytes: AtomicUsize,
    over: AtomicBool,
}

impl Progress {
    /// So many bytes more have arrived.
    pub fn moved(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The transfer has ended, well or not.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Shows the state of both ends, once, if for half of [`patience`] nothing has arrived; until the transfer has ended.
    pub fn watch(&self, ends: [&Namespace; 2]) {
        let (mut bytes, mut since) = (0, Instant::now());
        while !self.over.load(Ordering::Relaxed) {
            let now = self.bytes.load(Ordering::Relaxed);
            if now != bytes {
                (bytes, since) = (now, Instant::now());
            } else if since.elapsed() > patience() / 2 {
                println!(
                    "KMOD-STALLED {bytes} bytes have arrived, and no more for {} s",
                    since.elapsed().as_secs()
                );
                show(ends);
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn show(ends: [&Namespace; 2]) {
    for (name, end) in ["the sender", "the receiver"].into_iter().zip(ends) {
        let of_devices =
            DEVICES.iter().flat_map(|device| [format!("ethtool -S {device}"), format!("ethtool -k {device}")]);
        for question in QUESTIONS.iter().map(|question| (*question).to_owned()).chain(of_devices) {
            // The peer has no cvsw0.
            if let Ok(answer) = end.run(&question) {
                println!("---- {name}: {question}\n{answer}");
            }
        }
    }
    for file in MACHINE {
        println!("---- {file}\n{}", fs::read_to_string(file).unwrap_or_default());
    }
    // Into the kernel's log: tasks that wait, and what each processor does.
    for key in ["w", "l"] {
        if let Err(error) = fs::write("/proc/sysrq-trigger", key) {
            println!("---- sysrq {key}: {error}");
        }
    }
}
