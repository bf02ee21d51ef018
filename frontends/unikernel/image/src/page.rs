//! The status page: what the vNIC is, has and did; for people, and the same as JSON for programs.

use crate::nic::Counters;
use core::fmt::{self, Display, Formatter, Write};
use cvsw_core::{
    Direction, FlowEntry, Stats,
    control::OffloadFlags,
    crypto::{MAX_ENCRYPTED_ONLY, SaStatus},
    flow::{MacAddr, text::DisplayFlow},
    stats::DirectionStats,
};
use cvsw_smoltcp::Parameters;
use heapless::Vec;

/// Most flows that a page lists: it is sent from one buffer.
pub const MAX_LISTED: usize = 32;

/// What the page is made from.
pub struct Status<'a> {
    /// Time since the start, in milliseconds.
    pub uptime_ms: u64,
    /// MAC address.
    pub mac: MacAddr,
    /// What the controller set.
    pub parameters: Parameters,
    /// The IP MTU that the stack has.
    pub mtu: u16,
    /// The engine's counters.
    pub stats: &'a Stats,
    /// The interface's counters.
    pub nic: Counters,
    /// Number of entries in the table.
    pub flow_count: usize,
    /// Networks whose frames may not travel in clear.
    pub encrypted_only: Vec<u32, MAX_ENCRYPTED_ONLY>,
}

/// An answer to `GET path`, with its HTTP header. The connection is closed behind it.
pub fn answer(
    out: &mut impl Write,
    path: &str,
    status: &Status<'_>,
    flows: impl Iterator<Item = FlowEntry>,
    sas: impl Iterator<Item = SaStatus>,
) -> fmt::Result {
    let header = |out: &mut dyn Write, code: &str, kind: &str| {
        write!(out, "HTTP/1.0 {code}\r\nContent-Type: {kind}\r\nCache-Control: no-store\r\n\r\n")
    };
    match path {
        "/" => {
            header(out, "200 OK", "text/html; charset=utf-8")?;
            html(out, status, flows, sas)
        }
        "/status.json" => {
            header(out, "200 OK", "application/json")?;
            json(out, status, flows, sas)
        }
        _ => {
            header(out, "404 Not Found", "text/plain")?;
            out.write_str("Here are / and /status.json.\n")
        }
    }
}

fn html(
    out: &mut impl Write,
    status: &Status<'_>,
    flows: impl Iterator<Item = FlowEntry>,
    sas: impl Iterator<Item = SaStatus>,
) -> fmt::Result {
    let Parameters { session, offload_requested, .. } = status.parameters;
    write!(
        out,
        "<!DOCTYPE html><title>CVSW vNIC {mac}</title><h1>CVSW vNIC {mac}</h1><p>Session {session}, MTU {mtu}, \
         offloads asked for: {asked}; smoltcp has none. Up {up} ms.<table><tr><th><th>frames<th>bytes<th>forwarded\
         <th>unmatched<th>consumed<th>dropped",
        mac = Mac(status.mac),
        session = session.name(),
        mtu = status.mtu,
        asked = offload_requested.map_or(0, |flags| flags.0),
        up = status.uptime_ms,
    )?;
    for (name, direction) in [("sent", Direction::Tx), ("received", Direction::Rx)] {
        let counted = status.stats.direction(direction);
        write!(
            out,
            "<tr><td>{name}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}",
            counted.frames,
            counted.bytes,
            counted.forwarded,
            counted.missed,
            counted.consumed,
            counted.dropped_total()
        )?;
    }
    write!(out, "</table><h2>{} flows</h2><pre>", status.flow_count)?;
    for entry in flows.take(MAX_LISTED) {
        // No character of a flow needs an escape in HTML.
        writeln!(out, "{:#} packets={} bytes={}", DisplayFlow(&entry.flow), entry.packets, entry.bytes)?;
    }
    out.write_str("</pre><h2>Security associations</h2><pre>")?;
    for vni in &status.encrypted_only {
        writeln!(out, "network {vni}: encrypted only")?;
    }
    for sa in sas {
        let SaStatus { config, suite, counters, .. } = sa;
        writeln!(
            out,
            "{} {} spi={:#x} {} packets={}",
            config.id,
            direction_name(config.direction),
            config.spi,
            suite.name(),
            counters.packets
        )?;
    }
    out.write_str("</pre>\n")
}

fn json(
    out: &mut impl Write,
    status: &Status<'_>,
    flows: impl Iterator<Item = FlowEntry>,
    sas: impl Iterator<Item = SaStatus>,
) -> fmt::Result {
    let Parameters { session, refused_mtu, offload_requested, offload_effective, .. } = status.parameters;
    write!(
        out,
        "{{\"mac\":\"{}\",\"session\":\"{}\",\"mtu\":{},\"refused_mtu\":{},\"offload_requested\":{},\
         \"offload_effective\":{},\"uptime_ms\":{},",
        Mac(status.mac),
        session.name(),
        status.mtu,
        OrNull(refused_mtu.map(|mtu| mtu.get())),
        OrNull(offload_requested.map(Names)),
        Names(offload_effective),
        status.uptime_ms
    )?;
    let nic = status.nic;
    write!(
        out,
        "\"nic\":{{\"rx_frames\":{},\"tx_frames\":{},\"rx_bad_length\":{},\"tx_full\":{}}},\"engine\":{{\"tx\":",
        nic.rx_frames, nic.tx_frames, nic.rx_bad_length, nic.tx_full
    )?;
    direction(out, status.stats.direction(Direction::Tx))?;
    out.write_str(",\"rx\":")?;
    direction(out, status.stats.direction(Direction::Rx))?;
    let stats = status.stats;
    let errors = stats.control_errors.iter().fold(0_u64, |sum, count| sum.wrapping_add(*count));
    write!(
        out,
        ",\"control_accepted\":{},\"control_errors\":{errors},\"cache_hits\":{},\"cache_misses\":{}}},\
         \"flow_count\":{},\"flows\":[",
        stats.control_accepted, stats.cache_hits, stats.cache_misses, status.flow_count
    )?;
    for (at, entry) in flows.take(MAX_LISTED).enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let flow = DisplayFlow(&entry.flow);
        write!(out, "{comma}{{\"flow\":\"{flow:#}\",\"packets\":{},\"bytes\":{}}}", entry.packets, entry.bytes)?;
    }
    out.write_str("],\"encrypted_only\":[")?;
    for (at, vni) in status.encrypted_only.iter().enumerate() {
        write!(out, "{}{vni}", if at == 0 { "" } else { "," })?;
    }
    out.write_str("],\"sas\":[")?;
    for (at, sa) in sas.enumerate() {
        let SaStatus { config, suite, counters, .. } = sa;
        let (comma, direction) = (if at == 0 { "" } else { "," }, direction_name(config.direction));
        write!(
            out,
            "{comma}{{\"id\":{},\"direction\":\"{direction}\",\"spi\":{},\"suite\":\"{}\",\"packets\":{}}}",
            config.id,
            config.spi,
            suite.name(),
            counters.packets
        )?;
    }
    out.write_str("]}\n")
}

const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Tx => "tx",
        Direction::Rx => "rx",
    }
}

fn direction(out: &mut impl Write, counted: &DirectionStats) -> fmt::Result {
    write!(
        out,
        "{{\"frames\":{},\"bytes\":{},\"forwarded\":{},\"missed\":{},\"consumed\":{},\"drops\":{{",
        counted.frames, counted.bytes, counted.forwarded, counted.missed, counted.consumed
    )?;
    for (at, (reason, count)) in counted.drops().filter(|(_, count)| *count > 0).enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(out, "{comma}\"{reason}\":{count}")?;
    }
    out.write_str("}}")
}

struct Mac(MacAddr);

impl Display for Mac {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

struct Names(OffloadFlags);

impl Display for Names {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let on = OffloadFlags::NAMES.iter().filter(|(bit, _)| self.0.has(*bit));
        for (at, (_, name)) in on.enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { "," })?;
        }
        f.write_char('"')
    }
}

struct OrNull<T>(Option<T>);

impl<T: Display> Display for OrNull<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}
