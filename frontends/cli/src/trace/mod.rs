//! `cvsw trace`: what the engine does with one frame, step by step.

use crate::{
    engine::{self, EngineArgs, Outbox, Prepared},
    output, text,
};
use anyhow::{Context, bail, ensure};
use cvsw_trace::{Parser, Recorder, Trace, parse_hex};
use cvsw_userspace::capture::CaptureReader;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

const HELP: &str = "\
Examples:
  cvsw trace --direction tx --flows vm1.flows --read in.pcap --frame 3
  cvsw trace --direction rx --flows vm1.flows --json --hex '02 00 00 00 00 02 02 00 ...'

Nothing is counted and the table is not changed. Entries appear in the order in which they are considered.";

/// Arguments of `cvsw trace`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct TraceArgs {
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    input: Input,
    /// Number of the frame in the capture, from 1 as in Wireshark
    #[arg(short = 'n', long, value_name = "N", default_value = "1", conflicts_with = "hex")]
    frame: u64,
    /// Print the trace as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// The frame's bytes, from the Ethernet destination on; blanks and colons are ignored
    #[arg(long)]
    hex: Option<String>,
    /// Capture that holds the frame: pcap or pcapng, Ethernet
    #[arg(short, long, value_name = "PCAP")]
    read: Option<PathBuf>,
}

/// Runs `cvsw trace`.
pub fn run(args: TraceArgs) -> anyhow::Result<ExitCode> {
    let (time, bytes) = match (&args.input.hex, &args.input.read) {
        (Some(digits), _) => (Duration::ZERO, parse_hex(digits).context("--hex")?),
        (None, Some(path)) => read_frame(path, args.frame)?,
        (None, None) => bail!("no frame given; use --hex or --read"),
    };
    let direction = args.engine.direction();
    let Prepared { mut engine, mut ciphers, .. } = args.engine.prepare(time, &mut Outbox::default())?;
    let mut frame = engine::empty_frame()?;
    engine::load(&mut frame, &bytes)?;
    let mut recorder = Recorder::new(Parser::new(direction)?, &bytes);
    // The verdict is also the last step.
    let _ = engine.trace_with(&mut *ciphers, engine::instant(time), direction, &mut frame, &mut recorder);
    let trace = Trace::new(direction, bytes, recorder.steps, frame.bytes());
    output::report(&trace, args.json)?;
    Ok(ExitCode::SUCCESS)
}

fn read_frame(path: &Path, number: u64) -> anyhow::Result<(Duration, Vec<u8>)> {
    ensure!(number > 0, "--frame: frames are numbered from 1, as in Wireshark");
    let mut reader = CaptureReader::open(path)?;
    let mut count = 0;
    while let Some(record) = reader.next_record()? {
        count += 1;
        if count == number {
            ensure!(
                !record.is_truncated(),
                "{}: frame {number} is truncated ({} of {} bytes); capture with `tcpdump -s 0`",
                path.display(),
                record.data.len(),
                record.original_len
            );
            return Ok((record.timestamp, record.data.to_vec()));
        }
    }
    bail!("{}: there is no frame {number}; the file has {}", path.display(), text::plural(count, "frame"))
}
