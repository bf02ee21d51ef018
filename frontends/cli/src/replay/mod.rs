//! `cvsw replay`: the engine over a capture.

mod burst;
mod report;

use crate::{
    engine::{self, EngineArgs, Outbox, Prepared},
    output,
};
use anyhow::Context;
use burst::{Burst, OwnedRecord};
use cvsw_core::{Instant, Verdict, flow::Direction};
use cvsw_userspace::{
    capture::{AnnotatedWriter, CaptureReader, CaptureWriter},
    vnic::{Ciphers, Engine},
};
use report::Report;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

const HELP: &str = "\
Examples:
  cvsw replay --direction tx --flows vm1.flows --read in.pcap --write out.pcap
  cvsw replay --direction rx --mac 02:00:00:00:01:01 --control session.pcap --replies replies.pcap \\
       --read wire.pcapng --write vm.pcap --drops drops.pcapng --json
  tshark -r drops.pcapng -T fields -e frame.number -e frame.comment

The frames' time stamps are the engine's clock: idle and hard timeouts expire as they would have.
Flows and control frames take effect at the time of the first frame. A frame that the capture holds
only in part is not given to the engine; it is counted as truncated.";

/// Time that may pass within one burst. Timeouts are whole seconds.
const BURST_WINDOW: Duration = Duration::from_millis(1);
/// Least time between two ticks of the engine.
const TICK: Duration = Duration::from_millis(10);

/// Arguments of `cvsw replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct ReplayArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Capture to read: pcap or pcapng, Ethernet
    #[arg(short, long, value_name = "PCAP")]
    read: PathBuf,
    /// Write forwarded frames here (pcap, with the time stamps of the input)
    #[arg(short, long, value_name = "PCAP")]
    write: Option<PathBuf>,
    /// Write dropped frames here as they came, the reason as a comment (pcapng)
    #[arg(long, value_name = "PCAPNG")]
    drops: Option<PathBuf>,
    /// Write the engine's own control frames here (pcap)
    #[arg(long, value_name = "PCAP")]
    replies: Option<PathBuf>,
    /// Print the summary as one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs `cvsw replay`.
pub fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    check_paths(&args)?;
    let mut reader = CaptureReader::open(&args.read)?;
    let mut pending = OwnedRecord::read(&mut reader)?;
    let start = pending.as_ref().map_or(Duration::ZERO, |record| record.timestamp);
    let mut outbox = Outbox::default();
    let Prepared { engine, ciphers, control } = args.engine.prepare(start, &mut outbox)?;
    let create = |path: &PathBuf| CaptureWriter::create(path, reader.resolution());
    let mut replay = Replay {
        direction: args.engine.direction(),
        missed_before: engine.stats().direction(args.engine.direction()).missed,
        engine,
        ciphers,
        clock: start,
        last_tick: start,
        outbox,
        report: Report::new(args.engine.direction(), control),
        forwarded: args.write.as_ref().map(create).transpose()?,
        dropped: args.drops.as_deref().map(AnnotatedWriter::create).transpose()?,
    };
    let replies = args.replies.as_ref().map(create).transpose()?;
    let mut burst = Burst::new(BURST_WINDOW)?;
    while let Some(first) = pending.take() {
        pending = burst.fill(first, &mut reader)?;
        replay.process(&mut burst)?;
    }
    let report = replay.finish(replies)?;
    output::report(&report, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses to write over an input: creating the output would destroy it before it is read.
fn check_paths(args: &ReplayArgs) -> anyhow::Result<()> {
    let outputs = [("--write", &args.write), ("--drops", &args.drops), ("--replies", &args.replies)];
    let given: Vec<_> = outputs.iter().filter_map(|(name, path)| Some((*name, path.as_deref()?))).collect();
    for (index, (name, path)) in given.iter().enumerate() {
        for (other_name, other) in [("--read", args.read.as_path())].iter().chain(&given[index + 1..]) {
            anyhow::ensure!(
                !same_file(path, other),
                "{name} and {other_name} both name {}; give {name} another file",
                path.display()
            );
        }
    }
    Ok(())
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other && one.is_file(),
        _ => one == other,
    }
}

struct Replay {
    engine: Box<Engine>,
    ciphers: Box<Ciphers>,
    direction: Direction,
    clock: Duration,
    last_tick: Duration,
    missed_before: u64,
    outbox: Outbox,
    report: Report,
    forwarded: Option<CaptureWriter>,
    dropped: Option<AnnotatedWriter>,
}

impl Replay {
    fn process(&mut self, burst: &mut Burst) -> anyhow::Result<()> {
        let now = self.advance(burst.time());
        let (frames, verdicts) = burst.frames();
        let processed = self.engine.process_burst_with(&mut *self.ciphers, now, self.direction, frames, verdicts);
        for (record, frame, verdict) in burst.results().take(processed) {
            self.report.count(record, frame.len(), verdict);
            match verdict {
                Verdict::Forward => {
                    if let Some(writer) = &mut self.forwarded {
                        writer.write(record.timestamp, frame.bytes())?;
                    }
                }
                Verdict::Drop(reason) => {
                    if let Some(writer) = &mut self.dropped {
                        writer.write(&record.as_record(), reason.name())?;
                    }
                }
                Verdict::Consumed => {}
            }
        }
        self.outbox.collect(&mut self.engine, self.clock);
        burst.truncated().map_or(Ok(()), |record| self.skip(record))
    }

    fn skip(&mut self, record: &OwnedRecord) -> anyhow::Result<()> {
        self.report.truncated(record);
        if let Some(writer) = &mut self.dropped {
            let comment = format!("truncated capture: {} of {} bytes", record.data.len(), record.original_len);
            writer.write(&record.as_record(), &comment)?;
        }
        Ok(())
    }

    /// Moves the clock to `time`, never back, and lets the engine expire entries.
    fn advance(&mut self, time: Duration) -> Instant {
        self.clock = self.clock.max(time);
        let now = engine::instant(self.clock);
        if self.clock - self.last_tick >= TICK {
            self.last_tick = self.clock;
            self.engine.tick(now);
            self.outbox.collect(&mut self.engine, self.clock);
        }
        now
    }

    fn finish(mut self, replies: Option<CaptureWriter>) -> anyhow::Result<Report> {
        if let Some(mut writer) = replies {
            for (time, frame) in &self.outbox.replies {
                writer.write(*time, frame)?;
            }
            writer.finish()?;
        }
        self.forwarded.take().map(CaptureWriter::finish).transpose()?;
        self.dropped.take().map(AnnotatedWriter::finish).transpose().context("cannot finish the file of drops")?;
        self.report.close(&self.engine, engine::instant(self.clock), self.missed_before, self.outbox);
        Ok(self.report)
    }
}
