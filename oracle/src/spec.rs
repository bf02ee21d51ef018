//! Declarative cases: what the OpenFlow Switch Specification 1.0.0 says, as a text file that is run against both sides.
//!
//! The file (`spec/openflow-1.0.txt`) describes its own format. Time does not pass by itself: the switch's clock is
//! stopped and moved by the case, and the engine's is a number anyway.

mod frame;

use crate::{
    bridge::{Bridge, Removed},
    engine::Engine,
    judge::{self, Tally},
    ovs::{Clock, Ovs},
    wire,
};
use anyhow::{Context, Result, bail, ensure};
use cvsw_core::{Direction, flow::text::parse_flow, openflow::Message};
use std::time::{Duration, Instant};

/// The cases of the specification.
pub const TEXT: &str = include_str!("../spec/openflow-1.0.txt");
/// What a change that is carried out is answered with.
const ACCEPTED: &str = "yes";
/// Entries of the tester's engine; the switch is told to have no more.
pub const FLOWS: usize = 256;
/// How long a switch may take, by the real clock, to notice that its own has moved.
const PATIENCE: Duration = Duration::from_secs(10);

/// A case of the file.
struct Case<'a> {
    name: &'a str,
    /// Line numbers and lines.
    lines: Vec<(usize, &'a str)>,
}

/// Runs all cases of `text`; returns their number.
///
/// # Errors
/// The first difference, with its line; or the tester's own trouble.
pub fn run(ovs: &Ovs, text: &str) -> Result<usize> {
    let mut bridge = Bridge::connect(&ovs.bridge(0))?;
    let clock = ovs.stop_clock()?;
    ovs.limit_flows(0, FLOWS)?;
    let cases = cases(text)?;
    for case in &cases {
        Run { bridge: &mut bridge, clock: &clock, engine: Engine::new(1), tally: Tally::default() }
            .case(case)
            .with_context(|| format!("case \"{}\"", case.name))?;
    }
    Ok(cases.len())
}

fn cases(text: &str) -> Result<Vec<Case<'_>>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match (line.strip_prefix("case "), cases.last_mut()) {
            (Some(name), _) => cases.push(Case { name, lines: Vec::new() }),
            (None, Some(case)) => case.lines.push((number, line)),
            (None, None) => bail!("line {number} stands before the first case"),
        }
    }
    Ok(cases)
}

struct Run<'a> {
    bridge: &'a mut Bridge,
    clock: &'a Clock,
    engine: Engine,
    tally: Tally,
}

impl Run<'_> {
    fn case(&mut self, case: &Case<'_>) -> Result<()> {
        for (number, line) in &case.lines {
            self.line(line).with_context(|| format!("line {number}: {line}"))?;
        }
        self.bridge.clear()?;
        self.engine.clear();
        // Entries that ask for it are reported when they are cleared away, too.
        self.engine.take_removed();
        self.bridge.forget_removed()
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "add" | "modify" | "modify_strict" | "delete" | "delete_strict" => self.change(line),
            "raw" => self.raw(rest),
            "repeat" => {
                let (times, line) = rest.split_once(' ').context("how often, and what?")?;
                (0..times.parse::<u32>()?)
                    .try_for_each(|number| self.change(&line.replace('%', &number.to_string())))
            }
            "frame" => self.frame(rest),
            "table" => self.table(rest),
            "wait" => self.wait(rest.parse()?),
            "removed" => self.removed(rest),
            _ => bail!("unknown word {word:?}"),
        }
    }

    /// `FLOW [=> ERROR]`: a change, and the error that must answer it.
    fn change(&mut self, line: &str) -> Result<()> {
        let (flow, expected) = expectation(line);
        let flow = parse_flow(flow).map_err(|error| anyhow::anyhow!("{error}"))?;
        self.send(wire::encode(&Message::FlowMod(flow), 0), expected)
    }

    /// `HEX [=> ERROR]`: the same, as bytes. `ANY` is the front of an OFPT_FLOW_MOD: header, and a match of all frames.
    fn raw(&mut self, line: &str) -> Result<()> {
        let (bytes, expected) = expectation(line);
        let any = format!("010e0000 00000000 003fffff {}", "00".repeat(36));
        let mut message = cvsw_testkit::hex::bytes(&bytes.replace("ANY", &any));
        wire::fix_length(&mut message);
        self.send(message, expected)
    }

    fn send(&mut self, message: Vec<u8>, expected: Option<&str>) -> Result<()> {
        let before = self.tally.refused;
        self.agree(|run| judge::make_changes(run.bridge, &mut run.engine, &[&message], &mut run.tally))?;
        // What is refused changes nothing, so it may be asked again.
        let answer = if self.tally.refused > before { self.engine.answer(&message) } else { ACCEPTED.to_owned() };
        let expected = expected.unwrap_or(ACCEPTED);
        ensure!(answer.starts_with(expected), "both answer {answer}");
        Ok(())
    }

    /// `PORT FRAME => COOKIE`: the entry that the frame meets; `none`.
    fn frame(&mut self, line: &str) -> Result<()> {
        let (text, expected) = line.split_once("=>").context("which entry does it meet?")?;
        let (port, text) = text.trim().split_once(' ').context("a port and a frame")?;
        let direction = match port {
            "HOST" => Direction::Tx,
            "NET" => Direction::Rx,
            _ => bail!("the ports are HOST and NET"),
        };
        let frames = [frame::parse(text)?];
        let counts = |run: &Self| run.engine.list().into_iter().map(|entry| (entry.cookie, entry.packets));
        let before: Vec<_> = counts(self).collect();
        let frames_before = self.tally.frames;
        self.agree(|run| judge::send_frames(run.bridge, &mut run.engine, direction, &frames, &mut run.tally))?;
        ensure!(self.tally.frames > frames_before, "it meets a known difference, or two entries of one priority");
        let met: Vec<_> =
            counts(self).filter(|after| !before.contains(after)).map(|(cookie, _)| cookie.to_string()).collect();
        let met = if met.is_empty() { "none".to_owned() } else { met.join(" ") };
        ensure!(met == expected.trim(), "both say that it meets {met}");
        Ok(())
    }

    /// `COOKIE:PACKETS ...`: all entries.
    fn table(&mut self, line: &str) -> Result<()> {
        let mut expected: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let mut is: Vec<_> =
            self.engine.list().iter().map(|entry| format!("{}:{}", entry.cookie, entry.packets)).collect();
        expected.sort();
        is.sort();
        ensure!(is == expected, "the table is {}", is.join(" "));
        Ok(())
    }

    /// Lets `millis` milliseconds pass on both sides.
    fn wait(&mut self, millis: u64) -> Result<()> {
        self.engine.wait(Duration::from_millis(millis));
        self.clock.warp(millis)?;
        let start = Instant::now();
        loop {
            let theirs = self.bridge.list()?;
            match judge::compare_lists(self.engine.list(), theirs) {
                None => return Ok(()),
                Some(difference) => ensure!(start.elapsed() < PATIENCE, "afterwards: {difference}"),
            }
        }
    }

    /// `COOKIE:REASON:SECONDS ...`: what was reported since the last such line.
    fn removed(&mut self, line: &str) -> Result<()> {
        let mut ours = self.engine.take_removed();
        let mut theirs = self.bridge.take_removed(ours.len())?;
        ours.sort();
        theirs.sort();
        ensure!(ours == theirs, "ours {ours:?}, theirs {theirs:?}");
        let mut is: Vec<_> = ours.iter().map(describe).collect();
        let mut expected: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        is.sort();
        expected.sort();
        ensure!(is == expected, "both report {}", is.join(" "));
        Ok(())
    }

    /// Both sides do the same.
    fn agree(&mut self, step: impl FnOnce(&mut Self) -> Result<Option<String>>) -> Result<()> {
        match step(self)? {
            None => Ok(()),
            Some(difference) => bail!(difference),
        }
    }
}

fn describe(removed: &Removed) -> String {
    format!("{}:{}:{}", removed.cookie(), removed.reason(), removed.lived())
}

fn expectation(line: &str) -> (&str, Option<&str>) {
    match line.split_once("=>") {
        Some((what, error)) => (what.trim(), Some(error.trim())),
        None => (line, None),
    }
}
