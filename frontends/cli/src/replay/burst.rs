//! Frames of a capture, in bursts as a port would read them.

use crate::engine;
use cvsw_core::{BURST, Frame, Verdict};
use cvsw_userspace::capture::{CaptureError, CaptureReader, Record};
use std::time::Duration;

/// A captured frame that owns its bytes.
#[derive(Debug)]
pub struct OwnedRecord {
    pub timestamp: Duration,
    pub original_len: usize,
    pub data: Vec<u8>,
}

impl OwnedRecord {
    /// The next frame of a capture.
    pub fn read(reader: &mut CaptureReader) -> Result<Option<Self>, CaptureError> {
        let record = reader.next_record()?;
        Ok(record.map(|Record { timestamp, original_len, data }| Self {
            timestamp,
            original_len,
            data: data.to_vec(),
        }))
    }

    pub fn as_record(&self) -> Record<'_> {
        Record { timestamp: self.timestamp, original_len: self.original_len, data: &self.data }
    }
}

/// Up to [`BURST`] consecutive frames, and the engine's copies of them.
pub struct Burst {
    window: Duration,
    start: Duration,
    /// As captured; those that are complete stand in the order of `frames`.
    complete: Vec<OwnedRecord>,
    /// Ends the burst, so that everything stays in order.
    truncated: Option<OwnedRecord>,
    frames: Vec<Frame<Vec<u8>>>,
    verdicts: [Verdict; BURST],
}

impl Burst {
    /// An empty burst that will hold frames no more than `window` after its first.
    pub fn new(window: Duration) -> anyhow::Result<Self> {
        let frames = (0..BURST).map(|_| engine::empty_frame()).collect::<anyhow::Result<_>>()?;
        Ok(Self {
            window,
            start: Duration::ZERO,
            complete: Vec::with_capacity(BURST),
            truncated: None,
            frames,
            verdicts: [Verdict::Forward; BURST],
        })
    }

    /// Starts anew with `first` and goes on from `reader`; returns the first frame that belongs to the next burst.
    pub fn fill(&mut self, first: OwnedRecord, reader: &mut CaptureReader) -> anyhow::Result<Option<OwnedRecord>> {
        self.complete.clear();
        self.truncated = None;
        self.start = first.timestamp;
        let mut next = first;
        loop {
            self.push(next)?;
            match OwnedRecord::read(reader)? {
                Some(record) if self.accepts(&record) => next = record,
                other => return Ok(other),
            }
        }
    }

    fn accepts(&self, record: &OwnedRecord) -> bool {
        let window = self.start..=self.start.saturating_add(self.window);
        self.complete.len() < BURST && self.truncated.is_none() && window.contains(&record.timestamp)
    }

    fn push(&mut self, record: OwnedRecord) -> anyhow::Result<()> {
        if record.as_record().is_truncated() {
            self.truncated = Some(record);
            return Ok(());
        }
        if let Some(frame) = self.frames.get_mut(self.complete.len()) {
            engine::load(frame, &record.data)?;
            self.complete.push(record);
        }
        Ok(())
    }

    /// The time of the burst's first frame.
    pub const fn time(&self) -> Duration {
        self.start
    }

    /// A frame of which the capture holds only the beginning; it comes after the others and the engine does not
    /// see it.
    pub const fn truncated(&self) -> Option<&OwnedRecord> {
        self.truncated.as_ref()
    }

    /// What the engine works on.
    pub fn frames(&mut self) -> (&mut [Frame<Vec<u8>>], &mut [Verdict]) {
        let count = self.complete.len();
        (&mut self.frames[..count], &mut self.verdicts[..count])
    }

    /// Each frame as it came, as it is now, and its verdict.
    pub fn results(&self) -> impl Iterator<Item = (&OwnedRecord, &Frame<Vec<u8>>, Verdict)> {
        let verdicts = self.verdicts.iter().copied();
        self.complete
            .iter()
            .zip(&self.frames)
            .zip(verdicts)
            .map(|((record, frame), verdict)| (record, frame, verdict))
    }
}
