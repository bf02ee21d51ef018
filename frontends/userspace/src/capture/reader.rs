//! Reading capture files.

use super::{CaptureError, Record, Resolution};
use pcap_file::{
    DataLink, PcapError,
    pcap::PcapReader,
    pcapng::{
        Block, PcapNgReader,
        blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
    },
};
use std::{
    fs::File,
    io::{self, Chain, Cursor, Read},
    path::{Path, PathBuf},
    time::Duration,
};

/// Bits of a link-type word that hold the type itself; the others describe a frame check sequence.
const LINKTYPE_MASK: u32 = 0xffff;
const NANOS_PER_SEC: u128 = 1_000_000_000;

type Source = Chain<Cursor<[u8; 4]>, Box<dyn Read + Send>>;

enum Format {
    Pcap(Box<PcapReader<Source>>),
    PcapNg(Box<PcapNgReader<Source>>),
}

/// Reads frames from a pcap (micro- or nanosecond, either byte order) or pcapng file.
pub struct CaptureReader {
    path: PathBuf,
    format: Format,
    frames: u64,
    last: Duration,
    data: Vec<u8>,
}

impl CaptureReader {
    /// Opens a file and recognises its format by its first bytes.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let file = File::open(path).map_err(|source| CaptureError::Io { path: path.to_owned(), source })?;
        Self::new(path, Box::new(file))
    }

    /// Reads from `file`; `path` is for messages.
    pub fn new(path: &Path, mut file: Box<dyn Read + Send>) -> Result<Self, CaptureError> {
        let mut magic = [0; 4];
        let filled = read_up_to(&mut file, &mut magic)
            .map_err(|source| CaptureError::Io { path: path.to_owned(), source })?;
        let source = Cursor::new(magic).chain(file);
        let malformed = |error| malformed(path, 0, &error);
        let format = match magic {
            [0x0a, 0x0d, 0x0d, 0x0a] => Format::PcapNg(Box::new(PcapNgReader::new(source).map_err(malformed)?)),
            [0xa1, 0xb2, 0xc3, 0xd4]
            | [0xd4, 0xc3, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0x4d, 0x3c, 0xb2, 0xa1] => {
                let reader = PcapReader::new(source).map_err(malformed)?;
                check_linktype(path, reader.header().datalink)?;
                Format::Pcap(Box::new(reader))
            }
            _ => return Err(unknown_format(path, &magic[..filled])),
        };
        Ok(Self { path: path.to_owned(), format, frames: 0, last: Duration::ZERO, data: Vec::new() })
    }

    /// Resolution of the time stamps, for a writer that is to keep them as they are.
    pub fn resolution(&self) -> Resolution {
        match &self.format {
            Format::Pcap(reader) => reader.header().ts_resolution,
            Format::PcapNg(_) => Resolution::NanoSecond,
        }
    }

    /// The next frame; `None` at the end of the file.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        let (path, frames, data) = (&self.path, self.frames, &mut self.data);
        let next = match &mut self.format {
            Format::Pcap(reader) => next_pcap(reader, data),
            Format::PcapNg(reader) => next_pcapng(reader, self.last, data),
        };
        let (timestamp, original_len) = match next {
            Ok(Some(meta)) => meta,
            Ok(None) => return Ok(None),
            Err(Refused::Format(error)) => return Err(malformed(path, frames, &error)),
            Err(Refused::LinkType(linktype)) => {
                return Err(CaptureError::LinkType { path: path.clone(), linktype });
            }
        };
        self.frames += 1;
        self.last = timestamp;
        Ok(Some(Record { timestamp, original_len: original_len.max(self.data.len()), data: &self.data }))
    }
}

enum Refused {
    Format(PcapError),
    LinkType(u32),
}

impl From<PcapError> for Refused {
    fn from(error: PcapError) -> Self {
        Self::Format(error)
    }
}

type Meta = (Duration, usize);

/// Reads the raw record: the checked one refuses every file captured with a short snap length.
fn next_pcap(reader: &mut PcapReader<Source>, data: &mut Vec<u8>) -> Result<Option<Meta>, Refused> {
    let resolution = reader.header().ts_resolution;
    let Some(packet) = reader.next_raw_packet().transpose()? else { return Ok(None) };
    let nanos = match resolution {
        Resolution::MicroSecond => u64::from(packet.ts_frac) * 1000,
        Resolution::NanoSecond => u64::from(packet.ts_frac),
    };
    data.clear();
    data.extend_from_slice(&packet.data);
    let timestamp = Duration::from_secs(packet.ts_sec.into()) + Duration::from_nanos(nanos);
    Ok(Some((timestamp, packet.orig_len as usize)))
}

fn next_pcapng(
    reader: &mut PcapNgReader<Source>,
    last: Duration,
    data: &mut Vec<u8>,
) -> Result<Option<Meta>, Refused> {
    let (interface, units, original_len) = loop {
        let Some(block) = reader.next_block().transpose()? else { return Ok(None) };
        data.clear();
        match block {
            Block::EnhancedPacket(packet) => {
                data.extend_from_slice(&packet.data);
                // pcap-file stores the raw count of the interface's time units as if they were nanoseconds.
                break (packet.interface_id, Some(packet.timestamp.as_nanos()), packet.original_len);
            }
            Block::Packet(packet) => {
                let captured = packet.data.len().min(packet.captured_len as usize);
                data.extend_from_slice(&packet.data[..captured]);
                break (packet.interface_id.into(), Some(packet.timestamp.into()), packet.original_len);
            }
            Block::SimplePacket(packet) => {
                data.extend_from_slice(&packet.data);
                break (0, None, packet.original_len);
            }
            _ => {}
        }
    };
    let interface = reader.interfaces().get(interface as usize).ok_or(PcapError::InvalidInterfaceId(interface))?;
    if interface.linktype != DataLink::ETHERNET {
        return Err(Refused::LinkType(interface.linktype.into()));
    }
    let timestamp = match units {
        Some(units) => timestamp(interface, units)?,
        // A Simple Packet Block has neither a time stamp nor a captured length, only its padding.
        None => {
            let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
            data.truncate(original_len.min(snaplen) as usize);
            last
        }
    };
    Ok(Some((timestamp, original_len as usize)))
}

/// `units` of the interface's resolution (`if_tsresol`, default microseconds) since the epoch plus `if_tsoffset`.
fn timestamp(interface: &InterfaceDescriptionBlock<'_>, units: u128) -> Result<Duration, PcapError> {
    let mut resolution = 6;
    let mut offset = 0;
    for option in &interface.options {
        match option {
            InterfaceDescriptionOption::IfTsResol(value) => resolution = *value,
            InterfaceDescriptionOption::IfTsOffset(value) => offset = value.cast_signed(),
            _ => {}
        }
    }
    let exponent = u32::from(resolution & 0x7f);
    let per_second =
        if resolution & 0x80 == 0 { 10u128.checked_pow(exponent) } else { 1u128.checked_shl(exponent) };
    let nanos = per_second
        .filter(|per_second| *per_second != 0)
        .and_then(|per_second| Some(units.checked_mul(NANOS_PER_SEC)? / per_second))
        .ok_or(PcapError::InvalidField("if_tsresol is out of range"))?;
    let out_of_range = || PcapError::InvalidField("time stamp is out of range");
    let secs = u64::try_from(nanos / NANOS_PER_SEC).map_err(|_| out_of_range())?;
    let secs = secs.checked_add_signed(offset).ok_or_else(out_of_range)?;
    Ok(Duration::new(secs, (nanos % NANOS_PER_SEC) as u32))
}

fn check_linktype(path: &Path, linktype: DataLink) -> Result<(), CaptureError> {
    let linktype = u32::from(linktype) & LINKTYPE_MASK;
    if linktype == u32::from(DataLink::ETHERNET) {
        return Ok(());
    }
    Err(CaptureError::LinkType { path: path.to_owned(), linktype })
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn unknown_format(path: &Path, start: &[u8]) -> CaptureError {
    let hint = match start {
        [] => "the file is empty",
        [0x1f, 0x8b, ..] => "it is compressed with gzip: run gunzip on it first",
        [0x28, 0xb5, 0x2f, 0xfd] => "it is compressed with zstd: run unzstd on it first",
        _ => "make one with `tcpdump -w` or convert it with `editcap -F pcap`",
    };
    let start = match start {
        [] => "nothing".to_owned(),
        bytes => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    };
    CaptureError::UnknownFormat { path: path.to_owned(), start, hint }
}

fn malformed(path: &Path, frames: u64, error: &PcapError) -> CaptureError {
    match error {
        PcapError::IoError(source) if source.kind() == io::ErrorKind::UnexpectedEof => CaptureError::Malformed {
            path: path.to_owned(),
            frames,
            reason: "the file ends in the middle of a record (cut off, or still being written?)".to_owned(),
        },
        PcapError::IoError(source) => {
            CaptureError::Io { path: path.to_owned(), source: io::Error::new(source.kind(), source.to_string()) }
        }
        other => CaptureError::Malformed { path: path.to_owned(), frames, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::{
        pcap::{PcapHeader, PcapPacket, PcapWriter},
        pcapng::{
            PcapNgWriter,
            blocks::{
                enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
                simple_packet::SimplePacketBlock,
            },
        },
    };
    use std::borrow::Cow;

    fn interface(options: Vec<InterfaceDescriptionOption<'static>>) -> InterfaceDescriptionBlock<'static> {
        InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options }
    }

    #[test]
    fn time_stamp_units() {
        use InterfaceDescriptionOption::{IfTsOffset, IfTsResol};
        let stamp = |options, units| timestamp(&interface(options), units).ok();
        assert_eq!(stamp(vec![], 1_500_000), Some(Duration::from_millis(1500)));
        assert_eq!(stamp(vec![IfTsResol(9)], 1_500_000_001), Some(Duration::new(1, 500_000_001)));
        assert_eq!(stamp(vec![IfTsResol(12)], 1_500_000_001_999), Some(Duration::new(1, 500_000_001)));
        assert_eq!(stamp(vec![IfTsResol(0x80 | 10)], 1536), Some(Duration::from_millis(1500)));
        assert_eq!(stamp(vec![IfTsResol(0), IfTsOffset(100)], 5), Some(Duration::from_secs(105)));
        assert_eq!(stamp(vec![IfTsResol(0), IfTsOffset((-3i64).cast_unsigned())], 5), Some(Duration::from_secs(2)));
    }

    #[test]
    fn time_stamp_out_of_range() {
        use InterfaceDescriptionOption::{IfTsOffset, IfTsResol};
        let stamp = |options, units| timestamp(&interface(options), units).is_err();
        assert!(stamp(vec![IfTsResol(0x7f)], 1));
        assert!(stamp(vec![IfTsOffset((-3i64).cast_unsigned())], 0));
    }

    /// A pcapng file with two interfaces of different resolutions, one frame of each kind of packet block.
    fn pcapng() -> Vec<u8> {
        let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
        for resolution in [6, 9] {
            writer.write_pcapng_block(interface(vec![InterfaceDescriptionOption::IfTsResol(resolution)])).unwrap();
        }
        for interface_id in [0, 1] {
            let packet = EnhancedPacketBlock {
                interface_id,
                timestamp: Duration::from_nanos(5_000_000_000),
                original_len: 61,
                data: Cow::Borrowed(&[7; 61]),
                options: vec![EnhancedPacketOption::Comment(Cow::Borrowed("why"))],
            };
            writer.write_pcapng_block(packet).unwrap();
        }
        writer.write_pcapng_block(SimplePacketBlock { original_len: 61, data: Cow::Borrowed(&[8; 61]) }).unwrap();
        writer.into_inner()
    }

    fn pcap() -> Vec<u8> {
        let header = PcapHeader { ts_resolution: Resolution::NanoSecond, ..PcapHeader::default() };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for second in 0..4 {
            writer.write_packet(&PcapPacket::new(Duration::from_secs(second), 60, &[9; 60])).unwrap();
        }
        writer.into_writer()
    }

    /// Reads to the end or to the first error; the frames' times and lengths.
    fn read(bytes: Vec<u8>) -> (Vec<(Duration, usize)>, Option<CaptureError>) {
        let mut frames = Vec::new();
        let mut reader = match CaptureReader::new(Path::new("test"), Box::new(Cursor::new(bytes))) {
            Ok(reader) => reader,
            Err(error) => return (frames, Some(error)),
        };
        loop {
            match reader.next_record() {
                Ok(Some(record)) => frames.push((record.timestamp, record.data.len())),
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
    }

    #[test]
    fn every_packet_block() {
        let (frames, error) = read(pcapng());
        assert!(error.is_none(), "{error:?}");
        // Microseconds, nanoseconds, and the time of the one before.
        let times = [Duration::from_secs(5000), Duration::from_secs(5), Duration::from_secs(5)];
        assert_eq!(frames, times.map(|time| (time, 61)));
    }

    #[test]
    fn damaged_files_give_errors() {
        for good in [pcapng(), pcap()] {
            let (frames, _) = read(good.clone());
            let mut refused = 0;
            for len in 0..good.len() {
                let (cut, error) = read(good[..len].to_vec());
                assert!(frames.starts_with(&cut));
                refused += usize::from(error.is_some());
            }
            // Cut between two records, a file is whole.
            assert!(refused >= good.len() - 8, "{refused} of {}", good.len());
            for (position, value) in
                (0..good.len()).flat_map(|at| [0, 1, 0x7f, 0x80, 0xff].map(|value| (at, value)))
            {
                let mut bad = good.clone();
                bad[position] = value;
                // Whatever it says, it comes to an end.
                let (read, error) = read(bad);
                assert!(read.len() <= good.len() / 16 || error.is_some());
            }
        }
    }
}
