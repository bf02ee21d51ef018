//! The summary of a replay.

use super::burst::OwnedRecord;
use crate::{
    engine::{ControlReport, Outbox},
    text::{self, plural},
};
use cvsw_core::{FlowEntry, Instant, Verdict, flow::Direction};
use cvsw_userspace::{stats, vnic::Engine};
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

/// Frames, and their bytes.
#[derive(Debug, Default, Serialize)]
pub struct Traffic {
    frames: u64,
    bytes: u64,
}

impl Traffic {
    fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", plural(self.frames, "frame"), plural(self.bytes, "byte"))
    }
}

/// What became of a capture's frames: `input == truncated + output + consumed + dropped` in frames.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(serialize_with = "name")]
    direction: Direction,
    /// As captured.
    input: Traffic,
    /// Not given to the engine: the capture holds only a part of them.
    truncated: Traffic,
    /// Forwarded, as they left.
    output: Traffic,
    /// Control messages among the frames.
    consumed: Traffic,
    /// Dropped, as they came.
    dropped: Traffic,
    /// Dropped frames by reason.
    drop_reasons: BTreeMap<&'static str, u64>,
    /// Part of `output`: frames that matched no entry.
    missed: u64,
    /// Entries that a timeout removed.
    expired: u64,
    control: ControlReport,
    /// What the control messages wanted done outside the engine.
    events: Vec<String>,
    /// Control frames that the engine wanted to send.
    replies: u64,
    /// Security associations at the end, as `cvsw stats` shows them.
    sas: Vec<serde_json::Value>,
    /// The table at the end with its counters, highest priority first.
    flows: Vec<Flow>,
}

#[derive(Debug, Serialize)]
struct Flow {
    packets: u64,
    bytes: u64,
    flow: String,
}

impl From<FlowEntry> for Flow {
    fn from(entry: FlowEntry) -> Self {
        Self { packets: entry.packets, bytes: entry.bytes, flow: text::flow(&entry.flow) }
    }
}

impl Report {
    pub fn new(direction: Direction, control: ControlReport) -> Self {
        Self {
            direction,
            input: Traffic::default(),
            truncated: Traffic::default(),
            output: Traffic::default(),
            consumed: Traffic::default(),
            dropped: Traffic::default(),
            drop_reasons: BTreeMap::new(),
            missed: 0,
            expired: 0,
            control,
            events: Vec::new(),
            replies: 0,
            sas: Vec::new(),
            flows: Vec::new(),
        }
    }

    /// Counts a frame that the engine did not get.
    pub fn truncated(&mut self, record: &OwnedRecord) {
        self.input.add(record.data.len());
        self.truncated.add(record.data.len());
    }

    /// Counts a frame that the engine judged and left with `len` bytes.
    pub fn count(&mut self, record: &OwnedRecord, len: usize, verdict: Verdict) {
        let bytes = record.data.len();
        self.input.add(bytes);
        match verdict {
            Verdict::Forward => self.output.add(len),
            Verdict::Consumed => self.consumed.add(bytes),
            Verdict::Drop(reason) => {
                self.dropped.add(bytes);
                *self.drop_reasons.entry(reason.name()).or_default() += 1;
            }
        }
    }

    /// Adds what the engine knows at the end.
    pub fn close(&mut self, engine: &Engine, now: Instant, missed_before: u64, outbox: Outbox) {
        let stats = engine.stats();
        self.missed = stats.direction(self.direction).missed - missed_before;
        self.expired = stats.expired;
        self.events = outbox.events;
        self.replies = outbox.replies.len() as u64;
        let mut sas: Vec<_> = engine.sas().collect();
        sas.sort_by_key(|sa| (sa.config.id, sa.config.spi));
        self.sas = sas.iter().map(|sa| stats::association(sa, now.nanos_since(sa.created))).collect();
        let mut entries: Vec<_> = engine.flows().collect();
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.flow.priority), entry.created));
        self.flows = entries.into_iter().map(Flow::from).collect();
        if self.truncated.frames > 0 {
            tracing::warn!(
                "{} truncated by the capture's snap length and not processed; capture with `tcpdump -s 0`",
                plural(self.truncated.frames, "frame")
            );
        }
    }
}

fn name<S: serde::Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(direction.name())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "in         {} ({})", self.input, self.direction.name())?;
        writeln!(f, "out        {}, {} of them matched no entry", self.output, self.missed)?;
        writeln!(f, "dropped    {}", self.dropped)?;
        for (reason, count) in &self.drop_reasons {
            writeln!(f, "  {reason:<24} {count}")?;
        }
        for (name, traffic) in [("consumed", &self.consumed), ("truncated", &self.truncated)] {
            if traffic.frames > 0 {
                writeln!(f, "{name:<10} {traffic}")?;
            }
        }
        self.write_control(f)?;
        self.write_sas(f)?;
        if self.flows.is_empty() && self.expired == 0 {
            return writeln!(f, "flows      none");
        }
        writeln!(f, "flows      {}, {} expired", self.flows.len(), self.expired)?;
        writeln!(f, "  {:>10} {:>12}  flow", "packets", "bytes")?;
        self.flows
            .iter()
            .try_for_each(|flow| writeln!(f, "  {:>10} {:>12}  {}", flow.packets, flow.bytes, flow.flow))
    }
}

impl Report {
    fn write_sas(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for sa in &self.sas {
            let text = |key: &str| sa[key].as_str().unwrap_or("-").to_owned();
            let (direction, spi, state) = (text("direction"), text("spi"), text("state"));
            writeln!(f, "sa         {} {direction} {spi} {state}, {} packets", sa["id"], sa["packets"])?;
            for (reason, count) in sa["drops"].as_object().into_iter().flatten().filter(|(_, count)| **count != 0) {
                writeln!(f, "  dropped: {reason:<15} {count}")?;
            }
        }
        Ok(())
    }

    fn write_control(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let control = &self.control;
        if control.frames > 0 {
            writeln!(f, "control    {}, {} accepted", plural(control.frames, "frame"), control.accepted)?;
            for (reason, count) in &control.refused {
                writeln!(f, "  refused: {reason:<15} {count}")?;
            }
        }
        if self.replies > 0 {
            writeln!(f, "replies    {}", plural(self.replies, "frame"))?;
        }
        self.events.iter().try_for_each(|event| writeln!(f, "event      {event}"))
    }
}
