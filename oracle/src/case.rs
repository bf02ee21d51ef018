//! A test case: what is done, in order, to a flow table on both sides.

use crate::wire;
use cvsw_core::{Direction, flow::text::DisplayFlow, openflow::decode_flow_mod};
use std::fmt::{self, Write};

/// One step of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A flow change: the bytes of an OFPT_FLOW_MOD, perhaps malformed.
    Change(Vec<u8>),
    /// Frames that enter one after the other.
    Frames(Direction, Vec<Vec<u8>>),
}

/// What is done to an empty table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// In this order.
    pub steps: Vec<Step>,
}

impl Case {
    /// Frames and changes in it.
    pub fn len(&self) -> (usize, usize) {
        self.steps.iter().fold((0, 0), |(frames, changes), step| match step {
            Step::Change(_) => (frames, changes + 1),
            Step::Frames(_, list) => (frames + list.len(), changes),
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Change(bytes) => match decode_flow_mod(bytes) {
                    Ok(flow) => {
                        writeln!(f, "  change {}", DisplayFlow(&flow))?;
                        writeln!(f, "         flags {:#x}  bytes {}", flow.flags, hex(bytes))?;
                    }
                    Err(error) => writeln!(f, "  change refused by us ({error}): {}", hex(bytes))?,
                },
                Step::Frames(direction, frames) => {
                    for frame in frames {
                        writeln!(f, "  frame {} {}", direction.name(), hex(frame))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// All cases that are one simplification away, the bold ones first.
pub fn simpler(case: &Case) -> Vec<Case> {
    let mut out = Vec::new();
    for index in 0..case.steps.len() {
        let mut without = case.clone();
        without.steps.remove(index);
        out.push(without);
    }
    for (index, step) in case.steps.iter().enumerate() {
        let simpler: Vec<Step> = match step {
            Step::Frames(direction, frames) if frames.len() > 1 => {
                let half = frames.len() / 2;
                let mut lists = vec![frames[..half].to_vec(), frames[half..].to_vec()];
                lists.extend((0..frames.len()).map(|at| {
                    let mut rest = frames.clone();
                    rest.remove(at);
                    rest
                }));
                lists.into_iter().map(|list| Step::Frames(*direction, list)).collect()
            }
            Step::Frames(direction, frames) => {
                simpler_frames(frames).into_iter().map(|list| Step::Frames(*direction, list)).collect()
            }
            Step::Change(bytes) => simpler_changes(bytes).into_iter().map(Step::Change).collect(),
        };
        out.extend(simpler.into_iter().map(|step| {
            let mut case = case.clone();
            case.steps[index] = step;
            case
        }));
    }
    out
}

/// One frame without its last bytes.
fn simpler_frames(frames: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let [frame] = frames else { return Vec::new() };
    [frame.len() / 2, frame.len().saturating_sub(8), frame.len().saturating_sub(1)]
        .into_iter()
        .filter(|&len| len >= 14 && len < frame.len())
        .map(|len| vec![frame[..len].to_vec()])
        .collect()
}

/// The wildcard bits one by one, and the shifts of the two address prefixes.
const WILDCARDS: [u32; 12] = [1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x3f << 8, 0x3f << 14, 1 << 20, 1 << 21];

/// A change with one action or one matched field less, or with a zero where there was a number.
fn simpler_changes(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = wire::actions_at(bytes);
    if bytes.len() < at {
        return out;
    }
    while let Some(len) = bytes.get(at + 2..at + 4).map(|len| usize::from(u16::from_be_bytes([len[0], len[1]]))) {
        if len < 8 || at + len > bytes.len() {
            break;
        }
        let mut shorter = [&bytes[..at], &bytes[at + len..]].concat();
        wire::fix_length(&mut shorter);
        out.push(shorter);
        at += len;
    }
    if wire::is_nxt(bytes) {
        out.extend(simpler_nxm(bytes));
        return out;
    }
    let wildcards = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    for bits in WILDCARDS {
        let wider = wildcards | bits;
        if wider != wildcards {
            let mut change = bytes.to_vec();
            change[8..12].copy_from_slice(&wider.to_be_bytes());
            out.push(change);
        }
    }
    // Cookie, timeouts, flags.
    for (start, end) in [(48, 56), (58, 62), (70, 72)] {
        if bytes[start..end].iter().any(|byte| *byte != 0) {
            let mut change = bytes.to_vec();
            change[start..end].fill(0);
            out.push(change);
        }
    }
    out
}

/// An NXT_FLOW_MOD with one field less, or with a zero where there was a number.
fn simpler_nxm(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let (fixed, rest) = bytes.split_at(wire::NXT_FLOW_MOD_LEN);
    let match_len = usize::from(u16::from_be_bytes([fixed[40], fixed[41]]));
    let (fields, actions) = (&rest[..match_len], &rest[match_len.next_multiple_of(8)..]);
    let mut at = 0;
    while let Some(len) = fields.get(at + 3).map(|len| usize::from(*len) + 4) {
        if at + len > fields.len() {
            break;
        }
        let mut less = [&fields[..at], &fields[at + len..]].concat();
        let less_len = (less.len() as u16).to_be_bytes();
        less.resize(less.len().next_multiple_of(8), 0);
        let mut change = [fixed, &less, actions].concat();
        change[40..42].copy_from_slice(&less_len);
        wire::fix_length(&mut change);
        out.push(change);
        at += len;
    }
    // Cookie, timeouts, flags.
    for (start, end) in [(16, 24), (26, 30), (38, 40)] {
        if bytes[start..end].iter().any(|byte| *byte != 0) {
            let mut change = bytes.to_vec();
            change[start..end].fill(0);
            out.push(change);
        }
    }
    out
}
