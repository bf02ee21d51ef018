//! `cvsw ctl trace`: what a vNIC in the kernel does with a frame.

use super::netlink::{Command, Reply, Vnic, attribute};
use crate::{output, text};
use anyhow::{Context, Result};
use cvsw_core::{DropReason, flow::Direction};
use cvsw_trace::parse_hex;
use serde::Serialize;
use std::fmt;

/// Arguments of `cvsw ctl trace`.
#[derive(Debug, clap::Args)]
pub struct TraceArgs {
    /// Which way the frame travels
    #[arg(short = 'D', long, value_enum)]
    direction: Way,
    /// The frame's bytes, from the Ethernet destination on; blanks and colons are ignored
    #[arg(long)]
    hex: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Way {
    /// From the host to the network
    Tx,
    /// From the network to the host
    Rx,
}

const STEP_LEN: usize = 16;
const DROP: u32 = 0x100;

#[derive(Debug, Serialize)]
struct Trace {
    direction: &'static str,
    steps: Vec<String>,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_reason: Option<&'static str>,
    /// The frame as it leaves, in hexadecimal.
    output: String,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))?;
        match self.drop_reason {
            Some(reason) => writeln!(f, "verdict: {}, {reason}", self.verdict)?,
            None => writeln!(f, "verdict: {}", self.verdict)?,
        }
        writeln!(f, "the frame now: {}", self.output)
    }
}

/// Asks the kernel and prints its answer.
pub fn run(vnic: &mut Vnic, args: &TraceArgs) -> Result<()> {
    let frame = parse_hex(&args.hex).context("--hex")?;
    let direction = match args.direction {
        Way::Tx => Direction::Tx,
        Way::Rx => Direction::Rx,
    };
    let receive = u32::from(direction == Direction::Rx).to_ne_bytes();
    let reply = vnic.request(Command::Trace, &[(attribute::FRAME, &frame), (attribute::RECEIVE, &receive)])?;
    output::report(&read(direction, &reply)?, args.json)
}

fn read(direction: Direction, reply: &Reply) -> Result<Trace> {
    let verdict = reply.number(attribute::VERDICT).context("the kernel gave no verdict")?;
    let (name, drop_reason) = match verdict {
        0 => ("forward", None),
        1 => ("consumed", None),
        _ => ("drop", Some(reason(verdict.wrapping_sub(DROP)))),
    };
    let steps = reply.get(attribute::STEPS).unwrap_or_default();
    Ok(Trace {
        direction: direction.name(),
        steps: steps.as_chunks::<STEP_LEN>().0.iter().map(step).collect(),
        verdict: name,
        drop_reason,
        output: text::hex(reply.get(attribute::FRAME).unwrap_or_default()),
    })
}

fn reason(index: u32) -> &'static str {
    DropReason::ALL.get(index as usize).map_or("unknown reason", |reason| reason.name())
}

/// One `struct cvsw_step`.
fn step(bytes: &[u8; STEP_LEN]) -> String {
    let [kind, effect, p0, p1, a0, a1, a2, a3, cookie @ ..] = *bytes;
    let (priority, argument) = (u16::from_ne_bytes([p0, p1]), u32::from_ne_bytes([a0, a1, a2, a3]));
    match (kind, effect) {
        (1, _) => "look-up".to_owned(),
        (2, _) => "the table is not active: the frame passes".to_owned(),
        (3, _) => format!("entry: priority={priority}, cookie={:#x}", u64::from_ne_bytes(cookie)),
        (4, _) => "no entry matches: the frame passes".to_owned(),
        (5, 0) => "action: applied".to_owned(),
        (5, 1) => "action: the frame has no such field".to_owned(),
        (5, _) => format!("action: dropped, {}", reason(argument)),
        _ => format!("step of unknown kind {kind}"),
    }
}
