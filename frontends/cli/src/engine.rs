//! The engine as the offline commands (`replay`, `trace`, `flows`) set it up.

use crate::text::plural;
use anyhow::Context;
use cvsw_core::{
    Config, ControlError, Instant,
    control::{self, ControlEvent, OffloadFlags},
    flow::{Direction, MacAddr},
    mtu::L2Mtu,
};
use cvsw_userspace::{
    capture::CaptureReader,
    flows_file, sa_file,
    spec::{parse_ethertype, parse_mac},
    vnic::{Ciphers, Engine},
};
use serde::Serialize;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};
use zerocopy::FromZeros;

pub use cvsw_trace::{empty_frame, load};

/// Which way the frames go.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum DirectionArg {
    /// From the VM to the network (`in_port` HOST)
    Tx,
    /// From the network to the VM (`in_port` NET)
    Rx,
}

impl From<DirectionArg> for Direction {
    fn from(direction: DirectionArg) -> Self {
        match direction {
            DirectionArg::Tx => Self::Tx,
            DirectionArg::Rx => Self::Rx,
        }
    }
}

/// What the engine knows before the first frame.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    /// Direction of the frames
    #[arg(short, long, value_enum)]
    pub direction: DirectionArg,
    /// Flows in ovs-ofctl syntax, one a line; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    flows: Option<PathBuf>,
    /// Security associations with their keys (TOML, readable by its owner only; see the guide). Sealing (`--direction tx`)
    /// uses up sequence numbers that nobody notes: never do it with keys that are in use
    #[arg(long, value_name = "FILE")]
    sa: Option<PathBuf>,
    /// Capture of control frames that the engine receives from the network before the first frame (after --flows)
    #[arg(short, long, value_name = "PCAP")]
    control: Option<PathBuf>,
    /// MAC address of the vNIC; without it, only control frames to the broadcast address are taken
    #[arg(long, value_parser = parse_mac)]
    mac: Option<MacAddr>,
    /// EtherType of control frames
    #[arg(long, value_parser = parse_ethertype, default_value = "0xabba")]
    ethertype: u16,
    /// Longest frame in bytes that the lower device takes (Ethernet header included); default: no limit
    #[arg(long, value_name = "BYTES")]
    link_mtu: Option<u32>,
}

/// What became of the `--control` frames: `frames == accepted + sum(refused) + ignored`.
#[derive(Debug, Default, Serialize)]
pub struct ControlReport {
    /// Frames in the file.
    pub frames: u64,
    /// Accepted messages.
    pub accepted: u64,
    /// Refused messages by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Frames that are no control frames; the engine did not get them.
    pub ignored: u64,
}

/// Things the engine wants done outside, collected.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Control frames to the network, with the time at which they would leave.
    pub replies: Vec<(Duration, Vec<u8>)>,
    /// Events in words.
    pub events: Vec<String>,
}

impl EngineArgs {
    /// Direction of the frames.
    pub fn direction(&self) -> Direction {
        self.direction.into()
    }

    /// A configured engine, with the flows of `--flows`, the associations of `--sa` and then the messages of
    /// `--control` in it, as of `time`.
    pub fn prepare(&self, time: Duration, outbox: &mut Outbox) -> anyhow::Result<Prepared> {
        let mut engine = new_engine(&Config {
            mac: self.mac.unwrap_or_default(),
            ethertype: self.ethertype,
            link_mtu: self.link_mtu.map(L2Mtu::new),
            hash_seed: 0,
        })?;
        if let Some(path) = &self.flows {
            flows_file::load(path)?.install(&mut engine, instant(time))?;
        }
        let mut ciphers = Box::<Ciphers>::default();
        if let Some(path) = &self.sa {
            sa_file::load(path)?.install(&mut *engine, &mut *ciphers, instant(time))?;
        }
        let mut report = ControlReport::default();
        if let Some(path) = &self.control {
            receive_control(&mut engine, &mut ciphers, self.ethertype, path, time, outbox, &mut report)
                .with_context(|| "cannot play the control frames")?;
        }
        Ok(Prepared { engine, ciphers, control: report })
    }
}

/// An engine with what `--flows`, `--sa` and `--control` gave it.
pub struct Prepared {
    /// The engine.
    pub engine: Box<Engine>,
    /// Its keys.
    pub ciphers: Box<Ciphers>,
    /// What became of the control frames.
    pub control: ControlReport,
}

/// A fresh engine on the heap; it is too large for a stack.
pub fn new_engine(config: &Config) -> anyhow::Result<Box<Engine>> {
    let mut engine = Engine::new_box_zeroed()
        .map_err(|_| anyhow::anyhow!("out of memory: the engine needs {} bytes", size_of::<Engine>()))?;
    engine.init(config);
    Ok(engine)
}

/// A capture's time stamp on the engine's clock.
pub fn instant(timestamp: Duration) -> Instant {
    Instant::from_nanos(u64::try_from(timestamp.as_nanos()).unwrap_or(u64::MAX))
}

impl Outbox {
    /// Takes everything that the engine has to give.
    pub fn collect(&mut self, engine: &mut Engine, time: Duration) {
        let mut reply = [0; control::MAX_FRAME_LEN];
        while let Some(len) = engine.poll_transmit(&mut reply) {
            self.replies.push((time, reply[..len].to_vec()));
        }
        while let Some(event) = engine.poll_event() {
            self.events.push(describe_event(event));
        }
    }
}

fn receive_control(
    engine: &mut Engine,
    ciphers: &mut Ciphers,
    ethertype: u16,
    path: &std::path::Path,
    time: Duration,
    outbox: &mut Outbox,
    report: &mut ControlReport,
) -> anyhow::Result<()> {
    let mut reader = CaptureReader::open(path)?;
    let mut frame = empty_frame()?;
    while let Some(record) = reader.next_record()? {
        report.frames += 1;
        if control::control_kind(record.data, ethertype).is_none() {
            report.ignored += 1;
            continue;
        }
        load(&mut frame, record.data)?;
        // Always consumed; whether it was accepted is in the counters.
        let _ = engine.process_with(ciphers, instant(time), Direction::Rx, &mut frame);
        outbox.collect(engine, time);
    }
    report.accepted = engine.stats().control_accepted;
    report.refused = ControlError::ALL
        .iter()
        .zip(engine.stats().control_errors)
        .filter(|(_, count)| *count > 0)
        .map(|(error, count)| (error.name(), count))
        .collect();
    warn_about(path, report);
    Ok(())
}

fn warn_about(path: &std::path::Path, report: &ControlReport) {
    let path = path.display();
    if report.ignored > 0 {
        tracing::warn!("{path}: {} without the control EtherType ignored", plural(report.ignored, "frame"));
    }
    for (reason, count) in &report.refused {
        let hint = if *reason == ControlError::NotForUs.name() { " (--mac sets the vNIC's address)" } else { "" };
        tracing::warn!("{path}: {} refused: {reason}{hint}", plural(*count, "control message"));
    }
}

fn describe_event(event: ControlEvent) -> String {
    match event {
        ControlEvent::Session(state) => format!("session {}", state.name()),
        ControlEvent::SetMtu(mtu) => format!("set_mtu {}", mtu.get()),
        ControlEvent::SetOffload(flags) => {
            let on = OffloadFlags::NAMES.iter().filter(|(bit, _)| flags.has(*bit)).map(|(_, name)| *name);
            let on: Vec<_> = on.collect();
            format!("set_offload {}", if on.is_empty() { "none".to_owned() } else { on.join(",") })
        }
    }
}
