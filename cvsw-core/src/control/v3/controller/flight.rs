//! What was sent and is not answered.

use crate::{control::v3::report::Request, time::Instant};

/// A command.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) sequence: u64,
    pub(super) token: u32,
    /// When it was sent last.
    pub(super) sent: Instant,
    pub(super) attempts: Attempts,
    pub(super) chained: bool,
    pub(super) answered: bool,
    pub(super) due: bool,
    /// It was repeated to find out what became of those before it.
    pub(super) tail: bool,
}

/// How often something was sent. Which attempt is answered is known only if there was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempts {
    None,
    One,
    Several,
}

impl Attempts {
    pub(super) const fn and_one(self) -> Self {
        match self {
            Self::None => Self::One,
            Self::One | Self::Several => Self::Several,
        }
    }
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    /// Number and time of the first attempt, ...
    pub(super) first: (u64, Instant),
    /// ... and of the last. Each has a number of its own, so that an answer tells which one it is to.
    pub(super) last: (u64, Instant),
    pub(super) attempts: Attempts,
}

impl InFlight {
    /// It was sent, and its answer is awaited.
    pub(super) fn is_under_way(&self) -> bool {
        self.attempts != Attempts::None && !self.answered && !self.due
    }
}
