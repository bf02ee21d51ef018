//! The capture that a peer replays: one frame of each flow.

use anyhow::{Context, Result};
use cvsw_benches::Kind;
use cvsw_userspace::capture::{CaptureWriter, Resolution};
use std::{path::Path, time::Duration};

/// Offset of the UDP source port, which tells flows apart.
const PORT_OFFSET: usize = 14 + 20;

/// Writes the 64-byte frames of `packet_flows` flows.
pub fn write(path: &Path, kind: Kind, packet_flows: u32) -> Result<()> {
    let mut writer = CaptureWriter::create(path, Resolution::MicroSecond).context("writing the peer's frames")?;
    let mut frame = kind.frame(64);
    for number in 0..packet_flows {
        frame[PORT_OFFSET..PORT_OFFSET + 2].copy_from_slice(&(number as u16).to_be_bytes());
        writer.write(Duration::ZERO, &frame)?;
    }
    writer.finish().context("writing the peer's frames")
}
