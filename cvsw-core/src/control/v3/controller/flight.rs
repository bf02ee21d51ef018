//! What was sent and is not answered.

use crate::{control::v3::report::Request, time::Instant};
use heapless::Deque;

/// A command. Its number follows from its place ([`numbered`]): a controller has as many of these as there is room for in
/// the windows of all its vNICs, most of which have nothing under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) token: u32,
    /// When it was sent last.
    pub(super) sent: Instant,
    /// `None`: it is answered.
    pub(super) attempts: Option<Attempts>,
    pub(super) chained: bool,
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
        matches!(self.attempts, Some(Attempts::One | Attempts::Several)) && !self.due
    }

    pub(super) const fn is_answered(&self) -> bool {
        self.attempts.is_none()
    }

    /// It is to be sent now.
    pub(super) const fn is_due(&self) -> bool {
        self.due && !self.is_answered()
    }
}

/// The commands of a window with their numbers: they follow one another, up to the one before `next`.
pub(super) fn numbered<const WINDOW: usize>(
    window: &mut Deque<InFlight, WINDOW>,
    next: u64,
) -> impl Iterator<Item = (u64, &mut InFlight)> {
    let first = next.saturating_sub(window.len() as u64);
    (first..next).zip(window.iter_mut())
}
