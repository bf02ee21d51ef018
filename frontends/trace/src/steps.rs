//! The steps of a trace, recorded for printing.

use crate::{
    association::Association,
    change::Change,
    fields::{self, Named},
    parser::Parser,
    text,
};
use cvsw_core::{
    Verdict,
    flow::{Field, FlowKey, Match},
    trace::{Considered, Effect, Event, Observer},
};
use serde::Serialize;
use std::fmt;

/// One step.
#[derive(Debug, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// The frame is sealed.
    Sealed(Association),
    /// A look-up begins.
    Lookup {
        /// 1 for the first.
        number: usize,
        /// What matches see.
        #[serde(serialize_with = "as_map")]
        fields: Vec<Named>,
        /// Where the headers are.
        headers: String,
    },
    /// The table is not active.
    Bypass,
    /// An entry was compared.
    Entry {
        /// Its priority.
        priority: u16,
        /// Its cookie.
        cookie: u64,
        /// Priority and match in `ovs-ofctl` syntax.
        flow: String,
        /// What came of it.
        result: EntryResult,
        /// Why it does not match.
        #[serde(skip_serializing_if = "Option::is_none")]
        mismatch: Option<Mismatch>,
    },
    /// The engine chose an entry that it did not report: it reports a limited number of them.
    Omitted,
    /// No entry matched.
    Miss,
    /// An action ran.
    Action {
        /// In `ovs-ofctl` syntax.
        action: String,
        /// What it did.
        effect: EffectName,
        /// Why, if it dropped the frame.
        #[serde(skip_serializing_if = "Option::is_none")]
        drop_reason: Option<&'static str>,
        /// What it changed in the frame.
        change: Change,
    },
    /// The end.
    Verdict {
        /// Which one.
        verdict: VerdictName,
        /// Why, if it dropped the frame.
        #[serde(skip_serializing_if = "Option::is_none")]
        drop_reason: Option<&'static str>,
    },
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryResult {
    Matched,
    Mismatch,
    Shadowed,
}

#[derive(Debug, Serialize)]
pub struct Mismatch {
    field: &'static str,
    frame: String,
    entry: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectName {
    Applied,
    NotApplicable,
    Dropped,
    /// It takes a key that only the vNIC has.
    Unknown,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictName {
    Forward,
    Consumed,
    Drop,
    /// It takes a key that only the vNIC has.
    Unknown,
}

/// Records the engine's events.
pub struct Recorder {
    /// The steps so far.
    pub steps: Vec<Step>,
    parser: Parser,
    /// The frame as the previous step left it, and what the engine saw in it.
    bytes: Vec<u8>,
    key: Option<FlowKey>,
    lookups: usize,
    /// A look-up has begun and its outcome has not been reported.
    open: bool,
}

impl Recorder {
    /// A recorder for a frame that begins as `bytes`.
    pub fn new(mut parser: Parser, bytes: &[u8]) -> Self {
        let key = parser.key(bytes);
        Self { steps: Vec::new(), parser, bytes: bytes.to_vec(), key, lookups: 0, open: false }
    }

    fn step(&mut self, event: &Event<'_>) -> Step {
        match event {
            Event::Parsed { key, headers, .. } => {
                self.key = Some(**key);
                self.lookups += 1;
                let headers = format!(
                    "{}network {:?} at {}, transport {:?} at {}",
                    if headers.tagged { "tagged, " } else { "" },
                    headers.network,
                    headers.network_offset,
                    headers.transport,
                    headers.transport_offset
                );
                Step::Lookup { number: self.lookups, fields: fields::of_key(key), headers: headers.to_lowercase() }
            }
            Event::Bypass => Step::Bypass,
            Event::Entry { priority, cookie, matching, result } => Step::Entry {
                priority: *priority,
                cookie: *cookie,
                flow: text::entry(*priority, *cookie, matching),
                result: match result {
                    Considered::Matched => EntryResult::Matched,
                    Considered::Mismatch(_) => EntryResult::Mismatch,
                    Considered::Shadowed => EntryResult::Shadowed,
                },
                mismatch: self.mismatch(*result, matching),
            },
            Event::Miss => Step::Miss,
            Event::Action { action, effect, bytes } => {
                let change = Change::new(&mut self.parser, self.key.as_ref(), &self.bytes, bytes);
                self.bytes = bytes.to_vec();
                self.key = self.parser.key(bytes);
                let (effect, drop_reason) = match effect {
                    Effect::Applied => (EffectName::Applied, None),
                    Effect::NotApplicable => (EffectName::NotApplicable, None),
                    Effect::Dropped(reason) => (EffectName::Dropped, Some(reason.name())),
                };
                Step::Action { action: text::action(action), effect, drop_reason, change }
            }
            Event::Verdict(verdict) => {
                let (verdict, drop_reason) = match verdict {
                    Verdict::Forward => (VerdictName::Forward, None),
                    Verdict::Consumed => (VerdictName::Consumed, None),
                    Verdict::Drop(reason) => (VerdictName::Drop, Some(reason.name())),
                };
                Step::Verdict { verdict, drop_reason }
            }
        }
    }

    fn mismatch(&self, result: Considered, matching: &Match) -> Option<Mismatch> {
        let Considered::Mismatch(field) = result else { return None };
        let key = self.key?;
        Some(Mismatch {
            field: field_name(field),
            frame: fields::value(field, &key),
            entry: fields::demanded(matching, field),
        })
    }
}

impl Observer for Recorder {
    const ENABLED: bool = true;

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Parsed { .. } => self.open = true,
            Event::Miss | Event::Entry { result: Considered::Matched, .. } => self.open = false,
            Event::Action { .. } | Event::Verdict(_) if std::mem::take(&mut self.open) => {
                self.steps.push(Step::Omitted);
            }
            _ => {}
        }
        let step = self.step(event);
        self.steps.push(step);
    }
}

/// The name in words that fit a VLAN tag's value in words.
const fn field_name(field: Field) -> &'static str {
    match field {
        Field::VlanTci => "vlan",
        other => other.name(),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sealed(association) => writeln!(f, "{association}"),
            Self::Lookup { number, fields, headers } => {
                writeln!(f, "look-up {number}")?;
                for (name, value) in fields {
                    writeln!(f, "  {name:<12} {value}")?;
                }
                writeln!(f, "  headers      {headers}")
            }
            Self::Bypass => {
                writeln!(f, "the flow table is not active (no flows, no SET message yet): the frame passes")
            }
            Self::Entry { flow, result, mismatch, .. } => match (result, mismatch) {
                (EntryResult::Matched, _) => writeln!(f, "  entry {flow}\n    matches"),
                (_, Some(Mismatch { field, frame, entry })) => {
                    writeln!(f, "  entry {flow}\n    no: {field} is {frame}, not {entry}")
                }
                _ => writeln!(f, "  entry {flow}\n    would match too, but the entry above was chosen"),
            },
            Self::Omitted => writeln!(f, "  more entries were considered; the one that matched is among them"),
            Self::Miss => writeln!(f, "  no entry matches: the frame passes unchanged"),
            Self::Action { action, effect, drop_reason, change } => {
                let effect = match effect {
                    EffectName::Applied => "applied",
                    EffectName::NotApplicable => "not applicable: the frame has no such field",
                    EffectName::Dropped => "dropped",
                    EffectName::Unknown => "the vNIC has the key, and nobody else",
                };
                writeln!(f, "  action {action}\n    {effect}{}", reason(*drop_reason))?;
                write!(f, "{change}")
            }
            Self::Verdict { verdict, drop_reason } => {
                let verdict = match verdict {
                    VerdictName::Forward => "forward",
                    VerdictName::Consumed => "consumed (a control frame)",
                    VerdictName::Drop => "drop",
                    VerdictName::Unknown => {
                        "unknown: what is sealed decides it; trace what is inside, as its sender's VM sends it"
                    }
                };
                writeln!(f, "verdict: {verdict}{}", reason(*drop_reason))
            }
        }
    }
}

fn as_map<S: serde::Serializer>(fields: &[Named], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
}

fn reason(drop_reason: Option<&str>) -> String {
    drop_reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}
