//! Writing capture files.

use super::{CaptureError, Record, Resolution};
use pcap_file::{
    DataLink, Endianness, PcapError,
    pcap::{PcapHeader, PcapPacket, PcapWriter},
    pcapng::{
        PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};
use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// Longest frame that is declared in the files we write (`MAXIMUM_SNAPLEN` of libpcap).
const SNAPLEN: u32 = 262_144;

/// Writes whole Ethernet frames to a pcap file.
pub struct CaptureWriter {
    path: PathBuf,
    writer: PcapWriter<BufWriter<File>>,
}

impl CaptureWriter {
    /// Creates (or truncates) `path`.
    pub fn create(path: &Path, resolution: Resolution) -> Result<Self, CaptureError> {
        let file = File::create(path).map_err(|source| CaptureError::Io { path: path.to_owned(), source })?;
        let header = PcapHeader {
            snaplen: SNAPLEN,
            datalink: DataLink::ETHERNET,
            ts_resolution: resolution,
            endianness: Endianness::native(),
            ..PcapHeader::default()
        };
        let writer =
            PcapWriter::with_header(BufWriter::new(file), header).map_err(|error| write_error(path, error))?;
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Appends one frame.
    pub fn write(&mut self, timestamp: Duration, frame: &[u8]) -> Result<(), CaptureError> {
        let packet = PcapPacket::new(timestamp, u32::try_from(frame.len()).unwrap_or(u32::MAX), frame);
        self.writer.write_packet(&packet).map_err(|error| write_error(&self.path, error))?;
        Ok(())
    }

    /// Flushes the file. Without it, an error of the last write would go unseen.
    pub fn finish(self) -> Result<(), CaptureError> {
        flush(&self.path, self.writer.into_writer())
    }
}

/// Writes frames with a comment each (option `opt_comment`, Wireshark's `frame.comment`) to a pcapng file.
pub struct AnnotatedWriter {
    path: PathBuf,
    writer: PcapNgWriter<BufWriter<File>>,
}

impl AnnotatedWriter {
    /// Creates (or truncates) `path`.
    pub fn create(path: &Path) -> Result<Self, CaptureError> {
        let file = File::create(path).map_err(|source| CaptureError::Io { path: path.to_owned(), source })?;
        let mut writer = PcapNgWriter::new(BufWriter::new(file)).map_err(|error| write_error(path, error))?;
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![InterfaceDescriptionOption::IfTsResol(9)],
        };
        writer.write_pcapng_block(interface).map_err(|error| write_error(path, error))?;
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Appends one frame with its comment.
    pub fn write(&mut self, record: &Record<'_>, comment: &str) -> Result<(), CaptureError> {
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: record.timestamp,
            original_len: u32::try_from(record.original_len).unwrap_or(u32::MAX),
            data: Cow::Borrowed(record.data),
            options: vec![EnhancedPacketOption::Comment(Cow::Borrowed(comment))],
        };
        self.writer.write_pcapng_block(block).map_err(|error| write_error(&self.path, error))?;
        Ok(())
    }

    /// Flushes the file. Without it, an error of the last write would go unseen.
    pub fn finish(self) -> Result<(), CaptureError> {
        flush(&self.path, self.writer.into_inner())
    }
}

fn flush(path: &Path, mut writer: BufWriter<File>) -> Result<(), CaptureError> {
    writer.flush().map_err(|source| CaptureError::Io { path: path.to_owned(), source })
}

fn write_error(path: &Path, error: PcapError) -> CaptureError {
    let source = match error {
        PcapError::IoError(source) => source,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    };
    CaptureError::Io { path: path.to_owned(), source }
}
