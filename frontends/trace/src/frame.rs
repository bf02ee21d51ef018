//! Frames for an engine that only explains.

use cvsw_core::Frame;

/// Room before every frame, for the headers of an encapsulation.
const HEADROOM: usize = 128;
/// Room behind every frame, for trailers.
const TAILROOM: usize = 64;

/// Puts `bytes` into `frame`, with room on both sides. Keeps the frame's memory.
pub fn load(frame: &mut Frame<Vec<u8>>, bytes: &[u8]) -> anyhow::Result<()> {
    let buffer = frame.buffer_mut();
    buffer.clear();
    buffer.resize(HEADROOM, 0);
    buffer.extend_from_slice(bytes);
    buffer.resize(HEADROOM + bytes.len() + TAILROOM, 0);
    frame
        .reset(HEADROOM, bytes.len())
        .map_err(|_| anyhow::anyhow!("a frame of {} bytes fits no buffer", bytes.len()))
}

/// A frame without bytes, for [`load`].
pub fn empty_frame() -> anyhow::Result<Frame<Vec<u8>>> {
    Frame::new(Vec::new(), 0, 0).map_err(|_| anyhow::anyhow!("an empty frame fits no buffer"))
}
