//! `cvsw trace`: what the engine does with one frame, step by step.

mod change;
mod fields;
mod parser;
mod steps;

use crate::{
    engine::{self, EngineArgs, Outbox, Prepared},
    output, text,
};
use anyhow::{Context, bail, ensure};
use cvsw_core::flow::Direction;
use cvsw_userspace::capture::CaptureReader;
use parser::Parser;
use serde::Serialize;
use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use steps::{Recorder, Step};

const HELP: &str = "\
Examples:
  cvsw trace --direction tx --flows vm1.flows --read in.pcap --frame 3
  cvsw trace --direction rx --flows vm1.flows --json --hex '02 00 00 00 00 02 02 00 ...'

Nothing is counted and the table is not changed. Entries appear in the order in which they are considered.";

/// Bytes in a line of a dump.
const DUMP_LINE: usize = 16;

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

#[derive(Debug, Serialize)]
struct Trace {
    direction: &'static str,
    /// The frame as it came, in hexadecimal.
    #[serde(serialize_with = "as_hex")]
    input: Vec<u8>,
    steps: Vec<Step>,
    /// The frame as the last action left it, in hexadecimal.
    #[serde(serialize_with = "as_hex")]
    output: Vec<u8>,
}

impl Trace {
    fn new(direction: Direction, input: Vec<u8>, steps: Vec<Step>, output: &[u8]) -> Self {
        Self { direction: direction.name(), input, steps, output: output.to_vec() }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "frame: {}, {} bytes", self.direction, self.input.len())?;
        dump(f, &self.input)?;
        self.steps.iter().try_for_each(|step| write!(f, "{step}"))?;
        if self.output == self.input {
            return writeln!(f, "the frame is unchanged");
        }
        writeln!(f, "the frame now, {} bytes", self.output.len())?;
        dump(f, &self.output)
    }
}

fn as_hex<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text::hex(bytes))
}

/// Offsets and bytes in the form that `text2pcap` reads.
fn dump(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for (index, line) in bytes.chunks(DUMP_LINE).enumerate() {
        writeln!(f, "  {:04x}  {}", index * DUMP_LINE, text::spaced_hex(line))?;
    }
    Ok(())
}

pub fn parse_hex(digits: &str) -> anyhow::Result<Vec<u8>> {
    let mut nibbles = Vec::with_capacity(digits.len());
    for (index, char) in digits.chars().enumerate() {
        match char.to_digit(16) {
            Some(nibble) => nibbles.push(nibble as u8),
            None if char.is_whitespace() || char == ':' => {}
            None => bail!("character {} is {char:?}; expected a hexadecimal digit, a blank or a colon", index + 1),
        }
    }
    ensure!(!nibbles.is_empty(), "no digits; give the frame's bytes");
    ensure!(nibbles.len().is_multiple_of(2), "{} digits: the last byte is incomplete", nibbles.len());
    Ok(nibbles.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits() {
        assert_eq!(parse_hex("02:00 fF\n10").unwrap(), [2, 0, 0xff, 0x10]);
        assert_eq!(parse_hex("020").unwrap_err().to_string(), "3 digits: the last byte is incomplete");
        assert!(parse_hex("0g").unwrap_err().to_string().starts_with("character 2 is 'g'"));
        assert_eq!(parse_hex(" ").unwrap_err().to_string(), "no digits; give the frame's bytes");
    }
}
