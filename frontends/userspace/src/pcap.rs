//! The `pcap` backend: frames from a capture file, frames into a capture file.

use crate::{
    capture::{CaptureError, CaptureReader, CaptureWriter, Resolution},
    pool::{Mempool, PoolFrame},
    port::{Capabilities, FrameVec, Port, PortCounters, PortDrop},
};
use cvsw_core::{BURST, Checksum, GsoKind};
use std::{
    io,
    os::fd::BorrowedFd,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// A port on capture files.
pub struct Pcap {
    label: String,
    source: Option<CaptureReader>,
    sink: Option<CaptureWriter>,
    counters: PortCounters,
}

impl Pcap {
    /// Receives the frames of `read` (pcap or pcapng) as fast as they are asked for and writes what it is to
    /// send to `write` (pcap). Without a file, nothing comes, or what is sent is counted and forgotten.
    pub fn open(read: Option<&Path>, write: Option<&Path>) -> io::Result<Self> {
        let source = read.map(CaptureReader::open).transpose().map_err(io::Error::other)?;
        let create = |path| CaptureWriter::create(path, Resolution::NanoSecond);
        let sink = write.map(create).transpose().map_err(io::Error::other)?;
        let part = |key: &str, path: Option<&Path>| path.map(|path| format!("{key}={}", path.display()));
        let parts: Vec<_> = [part("read", read), part("write", write)].into_iter().flatten().collect();
        let label = format!("pcap:{}", parts.join(","));
        Ok(Self { label, source, sink, counters: PortCounters::default() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        sink.write(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), bytes)
    }
}

impl Port for Pcap {
    fn name(&self) -> &str {
        &self.label
    }

    fn rx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<usize> {
        let mut received = 0;
        while received < BURST {
            let Some(source) = &mut self.source else { break };
            let Some(mut frame) = pool.take() else {
                self.counters.rx_no_buffer += 1;
                break;
            };
            let next = source.next_record().map_err(io::Error::other)?;
            let at_end = next.is_none();
            match next {
                // A cut-off frame is not the frame that was on the wire.
                Some(record) if !record.is_truncated() && frame.set_len(record.data.len()).is_ok() => {
                    frame.bytes_mut().copy_from_slice(record.data);
                    self.counters.received(frame.len());
                    frames.push(frame);
                    received += 1;
                }
                next => {
                    self.counters.dropped(PortDrop::RxTooBig, u64::from(next.is_some()));
                    pool.put(frame);
                }
            }
            if at_end {
                self.source = None;
            }
        }
        Ok(received)
    }

    fn tx_burst(&mut self, pool: &mut Mempool, frames: &mut FrameVec) -> io::Result<()> {
        for frame in frames.drain(..) {
            match check_transmit(&frame) {
                Ok(()) => {
                    self.write(frame.bytes()).map_err(io::Error::other)?;
                    self.counters.sent(frame.len());
                }
                Err(reason) => self.counters.dropped(reason, 1),
            }
            pool.put(frame);
        }
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn finished(&self) -> bool {
        self.source.is_none()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { checksum: false, gso: false }
    }

    fn close(&mut self) -> io::Result<()> {
        self.sink.take().map_or(Ok(()), CaptureWriter::finish).map_err(io::Error::other)
    }

    fn counters(&mut self) -> PortCounters {
        self.counters
    }
}

fn check_transmit(frame: &PoolFrame) -> Result<(), PortDrop> {
    if frame.offload.gso.kind != GsoKind::None {
        return Err(PortDrop::TxGsoUnsupported);
    }
    match frame.offload.checksum {
        Checksum::Partial { .. } => Err(PortDrop::TxBadChecksum),
        Checksum::Complete | Checksum::Verified => Ok(()),
    }
}
