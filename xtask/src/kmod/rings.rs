//! What QEMU knows about the virtqueues of a machine in which a transfer stands still. Its own tests see the guest's side;
//! whether a queue is stuck shows only beside the device's.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// What the machine's tests say when nothing has moved for a while, and before they say more.
const STANDS_STILL: &str = "KMOD-STALLED";
const QUEUES: [&str; 2] = ["receive", "transmit"];
const TIMEOUT: Duration = Duration::from_secs(20);

/// Looks at the queues each time that the console says that a transfer stands still, until the machine has ended.
pub fn watch(console: &Path, monitor: &Path, ended: &AtomicBool) {
    let mut seen = 0;
    while !ended.load(Ordering::Relaxed) {
        let times = fs::read(console).map_or(0, |log| String::from_utf8_lossy(&log).matches(STANDS_STILL).count());
        if times > seen {
            seen = times;
            match look(monitor) {
                Ok(text) => println!("the virtqueues, as QEMU sees them:\n{text}"),
                Err(error) => println!("QEMU does not tell about the virtqueues: {error:#}"),
            }
        }
        thread::sleep(Duration::from_millis(300));
    }
}

/// One line for each queue of each NIC.
fn look(monitor: &Path) -> Result<String> {
    let mut qemu = Monitor::open(monitor)?;
    let devices = qemu.ask("x-query-virtio", json!({}))?;
    let mut lines = Vec::new();
    for device in devices.as_array().context("no list of devices")? {
        if device["name"] != "virtio-net" {
            continue;
        }
        for (number, name) in QUEUES.iter().enumerate() {
            let path = device["path"].as_str().context("a device without a path")?;
            let queue = qemu.ask("x-query-virtio-queue-status", json!({"path": path, "queue": number}))?;
            lines.push(format!("{path}, {name}: {}", qemu.describe(&queue)?));
        }
    }
    Ok(lines.join("\n"))
}

/// QEMU's monitor (QMP).
struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    fn open(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).with_context(|| format!("connecting to {}", path.display()))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut this = Self { lines: BufReader::new(stream) };
        this.ask("qmp_capabilities", json!({}))?;
        Ok(this)
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({"execute": command, "arguments": arguments});
        self.lines.get_mut().write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line)? == 0 {
                bail!("QEMU has ended");
            }
            let mut answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                bail!("{command}: {error}");
            }
            // Otherwise a greeting, or an event.
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    }

    /// Both sides of a queue: the device's state, and what the driver wrote into its memory (virtio 1.1, section 2.6).
    fn describe(&mut self, queue: &Value) -> Result<String> {
        let number = |name: &str| queue[name].as_u64().with_context(|| format!("no {name} in {queue}"));
        let (available, used, size) = (number("vring-avail")?, number("vring-used")?, number("vring-num")?);
        let given = self.memory(available + 2)?;
        let taken = number("last-avail-idx")?;
        let waiting = given.wrapping_sub(taken as u16);
        Ok(format!(
            "the driver has given {given} buffers, the device taken {taken} ({waiting} wait for it, {} are under way) and \
             wants to be told of number {}; the device has given back {}, has told of {}, and the driver wants to be told of \
             number {}",
            number("inuse")?,
            self.memory(used + 4 + 8 * size)?,
            number("used-idx")?,
            number("signalled-used")?,
            self.memory(available + 4 + 2 * size)?,
        ))
    }

    /// Two bytes of the machine's memory.
    fn memory(&mut self, address: u64) -> Result<u16> {
        let command = format!("xp /1hx {address:#x}");
        let answer = self.ask("human-monitor-command", json!({"command-line": command}))?;
        let text = answer.as_str().and_then(|text| text.trim().rsplit_once("0x")).context("no memory shown")?.1;
        Ok(u16::from_str_radix(text, 16)?)
    }
}
