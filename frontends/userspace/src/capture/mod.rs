//! Capture files: pcap and pcapng in, pcap and annotated pcapng out. Ethernet only.
//!
//! Formats: `draft-ietf-opsawg-pcap` and `draft-ietf-opsawg-pcapng`.

pub mod reader;
mod writer;

pub use pcap_file::TsResolution as Resolution;
pub use reader::CaptureReader;
use std::{io, path::PathBuf, time::Duration};
pub use writer::{AnnotatedWriter, CaptureWriter};

/// Why a capture file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file could not be opened, read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The first four bytes belong to neither format.
    #[error("{path}: neither pcap nor pcapng (starts with {start}); {hint}")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The first bytes in hexadecimal.
        start: String,
        /// What it probably is, and what to do.
        hint: &'static str,
    },
    /// The frames do not start with an Ethernet header.
    #[error(
        "{path}: link type {linktype} is not Ethernet (1); capture on an Ethernet interface, not on `any` or `lo` in cooked mode"
    )]
    LinkType {
        /// The file.
        path: PathBuf,
        /// The number in the registry of tcpdump.org.
        linktype: u32,
    },
    /// The file breaks its format's rules.
    #[error("{path}: malformed after {frames} frames: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Frames read before.
        frames: u64,
        /// What is wrong.
        reason: String,
    },
}

/// One frame of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Time since the Unix epoch.
    pub timestamp: Duration,
    /// Length of the frame on the wire, in bytes; at least the length of `data`.
    pub original_len: usize,
    /// What was captured of it.
    pub data: &'a [u8],
}

impl Record<'_> {
    /// Whether the capture holds only the beginning of the frame.
    pub const fn is_truncated(&self) -> bool {
        self.data.len() < self.original_len
    }
}
