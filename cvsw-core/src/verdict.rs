//! What the engine decides about a frame.

use crate::stats::DropReason;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "a verdict says what must be done with the frame"]
pub enum Verdict {
    /// Send it on in its direction; it was edited in place.
    Forward,
    /// It was a control message; it ends here.
    Consumed,
    /// Drop it.
    Drop(DropReason),
}
