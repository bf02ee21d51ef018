//! One bridge as a flow table to talk to: flow changes and listings over OpenFlow, frames over its ports.

use crate::{
    ovs::Sockets,
    wire::{self, Listed},
};
use anyhow::{Context, Result, bail, ensure};
use cvsw_core::{
    Direction,
    flow::{Command, FLAG_SEND_FLOW_REM, FlowMod, OfpError},
    openflow::{ErrorMessage, FlowRemoved, Message, StatsReply, SwitchConfig, error_name, message_len},
};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

/// Longest wait for an answer of the switch.
const LIMIT: Duration = Duration::from_secs(30);

/// What a switch answers to a change: nothing, or an error.
pub type Answer = Result<(), Refusal>;

/// The type and code of an OpenFlow error; those that OpenFlow 1.0 does not have come as Nicira's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether type and code are Nicira's.
    pub nicira: bool,
    /// Type.
    pub kind: u16,
    /// Code.
    pub code: u16,
}

impl Refusal {
    /// An error of ours.
    pub const fn ours(error: OfpError) -> Self {
        let (kind, code) = error.wire();
        Self { nicira: error.is_nicira(), kind, code }
    }

    /// What an OFPT_ERROR says.
    fn from_message(error: &ErrorMessage<'_>) -> Self {
        match (error.kind, error.data) {
            (NXET_VENDOR, [0, 0, 0x23, 0x20, kind_hi, kind_lo, code_hi, code_lo, ..]) => Self {
                nicira: true,
                kind: u16::from_be_bytes([*kind_hi, *kind_lo]),
                code: u16::from_be_bytes([*code_hi, *code_lo]),
            },
            _ => Self { nicira: false, kind: error.kind, code: error.code },
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.nicira {
            true => write!(f, "Nicira's error {} {}", self.kind, self.code),
            false => write!(f, "{} ({} {})", error_name(self.kind, self.code), self.kind, self.code),
        }
    }
}

/// Type of an error that carries one of a vendor.
const NXET_VENDOR: u16 = 0xb0c2;

/// Cookie of an entry whose removal is waited for.
const LAST: u64 = 0x1a57_1a57_1a57_1a57;
/// Longest wait for reports of removals.
const REPORT_LIMIT: Duration = Duration::from_secs(5);

/// What a report of a removal says, but for the match (in which the switch leaves out what is not OpenFlow 1.0's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Removed {
    cookie: u64,
    priority: u16,
    reason: u8,
    idle_timeout: u16,
    packets: u64,
    bytes: u64,
    /// Whole seconds.
    lived: u32,
}

impl Removed {
    /// The comparable part.
    pub const fn of(removed: &FlowRemoved) -> Self {
        Self {
            cookie: removed.cookie,
            priority: removed.priority,
            reason: removed.reason as u8,
            idle_timeout: removed.idle_timeout,
            packets: removed.packets,
            bytes: removed.bytes,
            lived: removed.duration_sec,
        }
    }

    /// Forgets how long the entry lived: for comparisons where the clocks of the two sides are not the same.
    pub fn forget_time(&mut self) {
        self.lived = 0;
    }

    /// The entry's cookie.
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Seconds that it lived.
    pub const fn lived(&self) -> u32 {
        self.lived
    }

    /// Why it was removed.
    pub const fn reason(&self) -> &'static str {
        match self.reason {
            0 => "idle",
            1 => "hard",
            _ => "delete",
        }
    }
}

/// A connected bridge.
pub struct Bridge {
    openflow: UnixStream,
    host: UnixStream,
    net: UnixStream,
    out: UnixStream,
    xid: u32,
    removed: Vec<Removed>,
}

impl Bridge {
    /// Connects to a bridge.
    pub fn connect(sockets: &Sockets) -> Result<Self> {
        let mut bridge = Self {
            openflow: connect(&sockets.management)?,
            host: connect(&sockets.host)?,
            net: connect(&sockets.net)?,
            out: connect(&sockets.out)?,
            xid: 1,
            removed: Vec::new(),
        };
        bridge.send(&[wire::encode(&Message::Hello { version: 1 }, 0)])?;
        let config = SwitchConfig { flags: 0, miss_send_len: 0xffff };
        bridge.send(&[wire::encode(&Message::SetConfig(config), 0)])?;
        Ok(bridge)
    }

    /// Removes all entries.
    pub fn clear(&mut self) -> Result<()> {
        let all = FlowMod { command: Command::Delete, ..FlowMod::default() };
        let answers = self.changes(&[wire::encode(&Message::FlowMod(all), 0)])?;
        ensure!(
            answers.first().is_some_and(|(answer, left)| answer.is_ok() && left.is_empty()),
            "cannot empty the table"
        );
        Ok(())
    }

    /// Makes changes, one after the other: the answer to each, and the listing behind it.
    pub fn changes(&mut self, changes: &[Vec<u8>]) -> Result<Vec<(Answer, Vec<Listed>)>> {
        let first = self.xid;
        let mut batch = Vec::new();
        for change in changes {
            let mut change = change.clone();
            wire::set_xid(&mut change, self.next_xid());
            let list = wire::list_request(self.next_xid());
            batch.extend([change, list]);
        }
        let last = self.next_xid();
        batch.push(wire::encode(&Message::BarrierRequest, last));
        self.send(&batch)?;
        let mut answers: Vec<(Answer, Vec<Listed>)> = changes.iter().map(|_| (Ok(()), Vec::new())).collect();
        loop {
            let bytes = self.receive()?;
            let xid = wire::xid(&bytes);
            let slot = answers.get_mut((xid.wrapping_sub(first) / 2) as usize);
            match (Message::decode(&bytes), slot) {
                (Ok(Message::BarrierReply), _) if xid == last => return Ok(answers),
                (Ok(Message::BarrierReply), _) => {}
                (Ok(Message::EchoRequest(data)), _) => {
                    self.send(&[wire::encode(&Message::EchoReply(data), xid)])?
                }
                (Ok(Message::Error(error)), Some(slot)) => slot.0 = Err(Refusal::from_message(&error)),
                (Ok(Message::StatsReply(StatsReply::Other { body, .. })), Some(slot)) => {
                    slot.1.extend(wire::read_list(body)?);
                }
                (Ok(Message::FlowRemoved(removed)), _) => self.removed.push(Removed::of(&removed)),
                (Ok(Message::Hello { .. } | Message::PortStatus(_) | Message::PacketIn(_)), _) => {}
                (other, _) => bail!("unexpected answer {other:?}"),
            }
        }
    }

    /// The removals reported since the last call, `expected` of them: a switch takes its time to report one. Fewer, if
    /// they do not come in time.
    pub fn take_removed(&mut self, expected: usize) -> Result<Vec<Removed>> {
        let start = Instant::now();
        while self.removed.len() < expected && start.elapsed() < REPORT_LIMIT {
            self.changes(&[])?;
        }
        Ok(std::mem::take(&mut self.removed))
    }

    /// Waits until reports of what was removed before have come, and forgets them.
    pub fn forget_removed(&mut self) -> Result<()> {
        // An entry that is removed now is reported after those.
        let flow = FlowMod { flags: FLAG_SEND_FLOW_REM, cookie: LAST, ..FlowMod::default() };
        self.changes(&[wire::encode(&Message::FlowMod(flow), 0)])?;
        self.clear()?;
        let start = Instant::now();
        while !self.removed.iter().any(|removed| removed.cookie == LAST) {
            ensure!(start.elapsed() < LIMIT, "the switch does not report a removal");
            self.changes(&[])?;
        }
        self.removed.clear();
        Ok(())
    }

    /// The table.
    pub fn list(&mut self) -> Result<Vec<Listed>> {
        let no_change = wire::encode(&Message::BarrierRequest, 0);
        let mut answers = self.changes(&[no_change])?;
        Ok(answers.pop().map(|(_, list)| list).unwrap_or_default())
    }

    /// Sends frames into the port of a direction; returns the frames that left, in order.
    pub fn frames(&mut self, direction: Direction, frames: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let marker = wire::marker_flow(Command::Add);
        self.changes(&[marker])?;
        let port = match direction {
            Direction::Tx => &mut self.host,
            Direction::Rx => &mut self.net,
        };
        let mut stream = Vec::new();
        for frame in frames.iter().map(Vec::as_slice).chain([wire::MARKER.as_slice()]) {
            stream.extend((frame.len() as u16).to_be_bytes());
            stream.extend(frame);
        }
        port.write_all(&stream).context("writing frames to the switch")?;
        let mut left = Vec::new();
        loop {
            let mut len = [0; 2];
            self.out.read_exact(&mut len).context("waiting for frames of the switch")?;
            let mut frame = vec![0; u16::from_be_bytes(len).into()];
            self.out.read_exact(&mut frame).context("waiting for frames of the switch")?;
            if frame.starts_with(&wire::MARKER) {
                break;
            }
            left.push(frame);
        }
        self.changes(&[wire::marker_flow(Command::DeleteStrict)])?;
        Ok(left)
    }

    fn next_xid(&mut self) -> u32 {
        self.xid = self.xid.wrapping_add(1);
        self.xid.wrapping_sub(1)
    }

    fn send(&mut self, messages: &[Vec<u8>]) -> Result<()> {
        self.openflow.write_all(&messages.concat()).context("writing to the switch")
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut message = vec![0; 8];
        self.openflow.read_exact(&mut message).context("waiting for the switch's answer")?;
        let len = message_len(&message).transpose().ok().flatten().context("a message without a length")?;
        message.resize(len, 0);
        self.openflow.read_exact(message.get_mut(8..).unwrap_or_default())?;
        Ok(message)
    }
}

/// Connects to a socket that may be about to appear.
fn connect(path: &Path) -> Result<UnixStream> {
    let start = Instant::now();
    let stream = loop {
        match UnixStream::connect(path) {
            Ok(stream) => break stream,
            Err(error) if start.elapsed() > LIMIT => {
                return Err(error).with_context(|| format!("connecting to {}", path.display()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}
