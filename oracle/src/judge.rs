//! Runs a case on both sides and compares.

use crate::{
    bridge::{Answer, Bridge, Removed},
    case::{Case, Step, hex},
    engine::Engine,
    known::{self, Known},
    wire::{self, Listed},
};
use anyhow::Result;
use cvsw_core::{Direction, Verdict};

/// What a run of cases covered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Flow changes that both sides carried out.
    pub changes: u64,
    /// Flow changes that both sides refused with the same error.
    pub refused: u64,
    /// Removals that both sides reported alike.
    pub removals: u64,
    /// Frames compared.
    pub frames: u64,
    /// Of those, frames that left.
    pub forwarded: u64,
    /// Of those, frames that matched no entry.
    pub missed: u64,
    /// Frames not sent because two entries of the same priority match (undefined in OpenFlow).
    pub ambiguous: u64,
    /// Frames not sent because they meet a known difference, by its place in [`Known::ALL`].
    pub known: [u64; Known::ALL.len()],
}

impl Tally {
    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.refused += other.refused;
        self.removals += other.removals;
        self.frames += other.frames;
        self.forwarded += other.forwarded;
        self.missed += other.missed;
        self.ambiguous += other.ambiguous;
        for (count, more) in self.known.iter_mut().zip(other.known) {
            *count += more;
        }
    }
}

/// Runs `case`; the first difference, if there is one. An error is the tester's own trouble.
pub fn run(bridge: &mut Bridge, case: &Case, tally: &mut Tally) -> Result<Option<String>> {
    let mut engine = Engine::new(1);
    let mut steps = case.steps.as_slice();
    while let [step, rest @ ..] = steps {
        let difference = match step {
            Step::Change(_) => {
                let changes: Vec<&Vec<u8>> = steps
                    .iter()
                    .map_while(|step| match step {
                        Step::Change(bytes) => Some(bytes),
                        Step::Frames(..) => None,
                    })
                    .collect();
                steps = steps.get(changes.len()..).unwrap_or_default();
                make_changes(bridge, &mut engine, &changes, tally)?
            }
            Step::Frames(direction, frames) => {
                steps = rest;
                send_frames(bridge, &mut engine, *direction, frames, tally)?
            }
        };
        if difference.is_some() {
            // What is left must not disturb the next case.
            bridge.clear()?;
            bridge.forget_removed()?;
            return Ok(difference);
        }
    }
    bridge.clear()?;
    engine.clear();
    let mut ours = engine.take_removed();
    let mut theirs = bridge.take_removed(ours.len())?;
    // The switch's clock goes on.
    ours.iter_mut().chain(&mut theirs).for_each(Removed::forget_time);
    ours.sort();
    theirs.sort();
    if ours != theirs {
        return Ok(Some(format!("reported removals: ours {ours:?}, theirs {theirs:?}")));
    }
    tally.removals += ours.len() as u64;
    Ok(None)
}

/// Makes changes on both sides, and compares the answers and the tables.
pub fn make_changes(
    bridge: &mut Bridge,
    engine: &mut Engine,
    changes: &[&Vec<u8>],
    tally: &mut Tally,
) -> Result<Option<String>> {
    let dressed: Vec<_> = changes.iter().map(|change| wire::for_switch(change)).collect();
    let theirs = bridge.changes(&dressed)?;
    for (change, (answer, list)) in changes.iter().zip(theirs) {
        let ours = engine.change(change);
        if !known::same_answer(ours, answer) {
            return Ok(Some(format!(
                "a change: we answer {}, Open vSwitch {}: {}",
                name(ours),
                name(answer),
                hex(change)
            )));
        }
        if let Some(difference) = compare_lists(engine.list(), list) {
            return Ok(Some(format!("the table after change {}: {difference}", hex(change))));
        }
        *if ours.is_ok() { &mut tally.changes } else { &mut tally.refused } += 1;
    }
    Ok(None)
}

/// An answer for people.
pub fn name(answer: Answer) -> String {
    answer.map_or_else(|refusal| refusal.to_string(), |()| "yes".to_owned())
}

/// Sends frames through both sides, and compares what leaves, and the counters.
pub fn send_frames(
    bridge: &mut Bridge,
    engine: &mut Engine,
    direction: Direction,
    frames: &[Vec<u8>],
    tally: &mut Tally,
) -> Result<Option<String>> {
    let mut sent = Vec::new();
    let mut ours = Vec::new();
    for frame in frames {
        let foreseen = engine.foresee(direction, frame);
        if foreseen.ambiguous {
            tally.ambiguous += 1;
        } else if let Some(known) = foreseen.known {
            tally.known[known as usize] += 1;
        } else {
            let done = engine.frame(direction, frame, foreseen.missed);
            tally.frames += 1;
            tally.missed += u64::from(done.missed);
            tally.forwarded += u64::from(done.verdict == Verdict::Forward);
            sent.push(frame.clone());
            if done.verdict == Verdict::Forward && !done.missed {
                ours.push((frame, done.bytes));
            }
        }
    }
    if sent.is_empty() {
        return Ok(None);
    }
    let theirs = bridge.frames(direction, &sent)?;
    for ((frame, ours), theirs) in ours.iter().zip(&theirs) {
        if ours != theirs {
            return Ok(Some(format!(
                "the frame {}\n  we send        {}\n  Open vSwitch   {}",
                hex(frame),
                hex(ours),
                hex(theirs)
            )));
        }
    }
    if ours.len() != theirs.len() {
        return Ok(Some(format!("{} frames leave us, {} leave Open vSwitch", ours.len(), theirs.len())));
    }
    Ok(compare_lists(engine.list(), bridge.list()?).map(|difference| format!("counters: {difference}")))
}

/// How two listings differ, if they do.
pub fn compare_lists(mut ours: Vec<Listed>, mut theirs: Vec<Listed>) -> Option<String> {
    ours.sort_by_key(Listed::sort_key);
    theirs.sort_by_key(Listed::sort_key);
    if ours == theirs {
        return None;
    }
    let only = |these: &[Listed], those: &[Listed]| {
        let different: Vec<_> =
            these.iter().filter(|entry| !those.contains(entry)).map(Listed::to_string).collect();
        different.join("\n    ")
    };
    Some(format!("\n  only ours:\n    {}\n  only theirs:\n    {}", only(&ours, &theirs), only(&theirs, &ours)))
}
