//! What happens to one frame, step by step. Costs nothing when not used: [`NoTrace`] compiles away.

use crate::{
    flow::{Action, Direction, Field, FlowKey, Match},
    parse::Headers,
    verdict::Verdict,
};

/// Whether one entry matched, and if not, the first field that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Considered {
    /// The entry was chosen.
    Matched,
    /// It does not match because of this field.
    Mismatch(Field),
    /// It matches too, but an entry of higher priority was chosen.
    Shadowed,
}

/// What an action did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Effect {
    /// The frame was changed (or inspected and found good).
    Applied,
    /// The frame has no such field; nothing changed.
    NotApplicable,
    /// The frame was dropped here.
    Dropped(crate::stats::DropReason),
}

/// One step of a trace.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The frame was parsed for a look-up.
    Parsed {
        /// Direction of travel.
        direction: Direction,
        /// The fields that matches see.
        key: &'a FlowKey,
        /// Where the headers are.
        headers: &'a Headers,
    },
    /// The table is not active yet (no SET_* seen, no flow loaded); the frame passes.
    Bypass,
    /// A table entry was compared with the frame. Entries come in order of decreasing priority.
    Entry {
        /// The entry's priority.
        priority: u16,
        /// The entry's cookie.
        cookie: u64,
        /// The entry's match.
        matching: &'a Match,
        /// The result.
        result: Considered,
    },
    /// No entry matched; the frame passes unchanged.
    Miss,
    /// An action ran.
    Action {
        /// Which one.
        action: &'a Action,
        /// What it did.
        effect: Effect,
        /// The frame afterwards.
        bytes: &'a [u8],
    },
    /// The end.
    Verdict(Verdict),
}

/// Receives the steps of a trace.
pub trait Observer {
    /// Whether steps are wanted at all; `false` removes all tracing code at compile time.
    const ENABLED: bool;
    /// One step.
    fn event(&mut self, event: &Event<'_>);
}

/// The observer that wants nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTrace;

impl Observer for NoTrace {
    const ENABLED: bool = false;
    fn event(&mut self, _event: &Event<'_>) {}
}
