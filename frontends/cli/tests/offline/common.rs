//! Runs the program, writes captures byte by byte, and asks tshark and capinfos what is in them.

use etherparse::PacketBuilder;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

pub const VM1: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const VM2: [u8; 6] = [2, 0, 0, 0, 1, 2];

/// A folder for one test.
pub struct Bench(TempDir);

impl Bench {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file; returns its path as an argument.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, contents).expect("the folder takes files");
        arg(&path)
    }

    /// The path of a file that need not exist, as an argument.
    pub fn arg(&self, name: &str) -> String {
        arg(&self.path(name))
    }
}

fn arg(path: &Path) -> String {
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}

/// What a run of the program gave.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        let code = output.status.code().expect("the program exits by itself");
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The output as JSON, of a run that succeeded.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs `cvsw` with the arguments, whatever can be displayed.
macro_rules! cvsw {
    ($($arg:expr),+ $(,)?) => { $crate::common::run(&[$(&$arg.to_string()),+], "") };
}

pub fn run(args: &[&str], stdin: &str) -> Run {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_cvsw"));
    command.args(args).env_remove("CVSW_LOG").write_stdin(stdin).timeout(DEADLINE);
    Run::new(command.output().expect("the program starts"))
}

/// Runs the program with more time than usual.
pub fn run_within(deadline: Duration, args: &[&str]) -> Run {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_cvsw"));
    command.args(args).env_remove("CVSW_LOG").timeout(deadline);
    Run::new(command.output().expect("the program starts"))
}

fn tool(name: &str, args: &[&str]) -> String {
    let output = assert_cmd::Command::new(name).args(args).timeout(DEADLINE).output();
    let run = Run::new(output.unwrap_or_else(|error| panic!("cannot run {name} (is it installed?): {error}")));
    assert_eq!(run.code, 0, "{name} {args:?}: {run:?}");
    run.stdout
}

/// The values of `fields` in every frame of a capture that passes `filter`, as tshark sees them.
pub fn tshark(path: &str, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    tshark_with(path, &[], filter, fields)
}

/// The same with more preferences (tshark's option `-o`).
pub fn tshark_with(path: &str, preferences: &[&str], filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut args = vec!["-n", "-r", path, "-Y", filter, "-T", "fields", "-E", "separator=|"];
    let checksums = ["ip.check_checksum:TRUE", "udp.check_checksum:TRUE", "tcp.check_checksum:TRUE"];
    for option in checksums.iter().chain(preferences) {
        args.extend(["-o", option]);
    }
    args.extend(fields.iter().flat_map(|field| ["-e", field]));
    tool("tshark", &args).lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

/// One line of `capinfos`, without its label.
pub fn capinfos(path: &str, option: &str) -> String {
    let output = tool("capinfos", &["-r", "-T", "-S", option, path]);
    output.trim().split('\t').next_back().unwrap_or_default().to_owned()
}

pub fn editcap(args: &[&str]) {
    tool("editcap", args);
}

/// A pcap file, byte by byte.
#[derive(Clone, Copy)]
pub struct Pcap {
    pub nanos: bool,
    pub big_endian: bool,
    pub linktype: u32,
}

impl Default for Pcap {
    fn default() -> Self {
        Self { nanos: true, big_endian: false, linktype: 1 }
    }
}

impl Pcap {
    fn word(self, value: u32) -> [u8; 4] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// The file's bytes; the times are in nanoseconds.
    pub fn encode(self, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let magic = if self.nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let version = if self.big_endian { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
        let mut out = Vec::new();
        out.extend(self.word(magic));
        out.extend(version);
        for value in [0, 0, 262_144, self.linktype] {
            out.extend(self.word(value));
        }
        for (time, frame) in frames {
            let fraction = (time % 1_000_000_000) as u32 / if self.nanos { 1 } else { 1000 };
            for value in [(time / 1_000_000_000) as u32, fraction, frame.len() as u32, frame.len() as u32] {
                out.extend(self.word(value));
            }
            out.extend(frame);
        }
        out
    }
}

/// The bytes of the frames in a little-endian pcap file.
pub fn frames(path: &str) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("the program wrote the file");
    let mut rest = &bytes[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().expect("four bytes")) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    frames
}

/// Frames of 1,000 nanoseconds' distance from second 1 on.
pub fn timed(frames: &[Vec<u8>]) -> Vec<(u64, Vec<u8>)> {
    frames.iter().enumerate().map(|(i, frame)| (1_000_000_000 + 1000 * i as u64, frame.clone())).collect()
}

const PAYLOAD: &[u8] = b"The quick brown fox jumps over the lazy dog.";

/// VM1 10.0.0.1:4000 to VM2 10.0.0.2:5000.
pub fn udp() -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(VM1, VM2).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(4000, 5000);
    let mut out = Vec::new();
    builder.write(&mut out, PAYLOAD).expect("a valid packet");
    out
}

/// The same with VLAN 7.
pub fn tagged_udp() -> Vec<u8> {
    let vlan = 7.try_into().expect("12 bits");
    let builder = PacketBuilder::ethernet2(VM1, VM2).single_vlan(vlan);
    let mut out = Vec::new();
    let builder = builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(4000, 5000);
    builder.write(&mut out, PAYLOAD).expect("a valid packet");
    out
}

/// VM1 10.0.0.1:4000 to VM2 10.0.0.2:80.
pub fn tcp() -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(VM1, VM2).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(4000, 80, 1, 1000);
    let mut out = Vec::new();
    builder.write(&mut out, PAYLOAD).expect("a valid packet");
    out
}

/// VM1 10.0.0.1 pings VM2 10.0.0.2.
pub fn ping() -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2(VM1, VM2).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).icmpv4_echo_request(7, 1);
    let mut out = Vec::new();
    builder.write(&mut out, PAYLOAD).expect("a valid packet");
    out
}
