//! How long an answer is waited for: the retransmission timer of RFC 6298.

/// No answer is waited for longer, whatever was measured and however often it did not come (RFC 6298, 2.5 and 5.5).
const LONGEST: u64 = 60_000_000_000;
/// The pause is doubled at most so often.
const DOUBLINGS: u32 = 6;

/// What the answers of one vNIC have taken so far, and how long the next one is waited for. All times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct RoundTrip {
    /// No answer is waited for shorter than this.
    floor: u64,
    /// Smoothed round-trip time (SRTT); 0: none was measured.
    smoothed: u64,
    /// Its variation (RTTVAR).
    variation: u64,
    /// Pauses that have passed without an answer, each twice as long as the one before.
    doublings: u32,
    /// Such a pause has passed since the last measurement.
    late: bool,
}

impl RoundTrip {
    /// Nothing is known. An answer is waited for at least `floor`, however soon those before it came.
    pub const fn new(floor: u64) -> Self {
        Self { floor, smoothed: 0, variation: 0, doublings: 0, late: false }
    }

    /// The smoothed round-trip time, once there is one.
    pub const fn smoothed(&self) -> Option<u64> {
        if self.smoothed == 0 { None } else { Some(self.smoothed) }
    }

    /// The answer to a message that was sent once took this long. (Of one that was sent again nobody knows which of them
    /// was answered: Karn's rule.)
    pub fn measured(&mut self, nanos: u64) {
        let sample = nanos.max(1);
        // RFC 6298 section 2, with alpha = 1/8 and beta = 1/4. The first sample stands for itself.
        if self.smoothed == 0 {
            (self.smoothed, self.variation) = (sample, sample / 2);
        } else {
            let off = self.smoothed.abs_diff(sample);
            self.variation = self.variation.saturating_sub(self.variation / 4).saturating_add(off / 4);
            self.smoothed = self.smoothed.saturating_sub(self.smoothed / 8).saturating_add(sample / 8).max(1);
        }
        self.doublings = 0;
        self.late = false;
    }

    /// A pause has passed without an answer.
    pub fn expired(&mut self) {
        self.doublings = self.doublings.saturating_add(1).min(DOUBLINGS);
        self.late = true;
    }

    /// Whether a pause has passed without an answer, and nothing was measured since.
    pub const fn is_late(&self) -> bool {
        self.late
    }

    /// The other side is there, though nothing could be measured. RFC 6298 (section 5.7) keeps the longer pause. Here
    /// requests can be measured even if they were sent again, so that a slow channel is found out by them; and where one
    /// message of two is lost, the pauses would hardly ever become short again.
    pub const fn heard(&mut self) {
        self.doublings = 0;
    }

    /// How long an answer may take, as far as is known.
    pub fn expected(&self) -> u64 {
        self.smoothed.saturating_add(self.variation.saturating_mul(4)).min(LONGEST).max(self.floor)
    }

    /// How long an answer is waited for now.
    pub fn timeout(&self) -> u64 {
        self.expected().saturating_mul(1u64.wrapping_shl(self.doublings)).min(LONGEST).max(self.floor)
    }
}
