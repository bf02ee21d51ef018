//! The statistics socket: one JSON document per connection.
//!
//! The packet loop only copies its state; a thread of its own turns the copy into text and serves slow readers.

use crate::{
    offload::{names, refusals},
    port::{PortCounters, PortDrop},
    spec::format_mac,
    vnic::{Offloads, Snapshot},
};
use cvsw_core::{
    ControlError, FlowEntry,
    control::v3::ControlStatus,
    crypto::{Lifetime, SaStatus},
    flow::{Direction, text::DisplayFlow},
    stats::DirectionStats,
};
use serde_json::{Map, Value, json};
use std::{
    fs,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};
use tracing::debug;

/// Readers that may wait at a time; one more is turned away by closing the connection.
const WAITING_READERS: usize = 4;
/// Time that a reader has to take the document.
const READER_PATIENCE: Duration = Duration::from_secs(2);

/// Serves [`Snapshot`]s on a unix socket. Removes the socket when dropped.
#[derive(Debug)]
pub struct StatsServer {
    listener: UnixListener,
    path: PathBuf,
    writer: SyncSender<(UnixStream, Box<Snapshot>)>,
}

impl StatsServer {
    /// Listens on `path`. A socket that a killed process left there is replaced.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            result => result?,
        };
        listener.set_nonblocking(true)?;
        let (writer, requests) = sync_channel::<(UnixStream, Box<Snapshot>)>(WAITING_READERS);
        thread::Builder::new().name("stats".to_owned()).spawn(move || {
            for (stream, snapshot) in requests {
                if let Err(error) = answer(stream, &snapshot) {
                    debug!(%error, "a reader of the statistics went away");
                }
            }
        })?;
        Ok(Self { listener, path: path.to_owned(), writer })
    }

    /// Answers a waiting reader, if there is one, with what `snapshot` returns. Does not block.
    pub fn serve(&mut self, snapshot: impl FnOnce() -> Snapshot) -> io::Result<()> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => {
                // Out of descriptors, or the reader left already: the packets go on.
                debug!(%error, "the statistics socket did not accept");
                return Ok(());
            }
        };
        match self.writer.try_send((stream, Box::new(snapshot()))) {
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(io::Error::other("the statistics thread has died")),
        }
    }
}

impl AsFd for StatsServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for StatsServer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn is_stale(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn answer(mut stream: UnixStream, snapshot: &Snapshot) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(READER_PATIENCE))?;
    let mut text = serde_json::to_vec(&document(snapshot))?;
    text.push(b'\n');
    stream.write_all(&text)
}

/// The JSON document of a snapshot.
pub fn document(snapshot: &Snapshot) -> Value {
    let stats = &snapshot.stats;
    let control_errors = ControlError::ALL.iter().zip(stats.control_errors);
    let (free, all, size) = snapshot.pool;
    json!({
        "mac": format_mac(snapshot.config.mac),
        "ethertype": format!("{:#06x}", snapshot.config.ethertype),
        "session": snapshot.session.name(),
        "control": control(&snapshot.control),
        "mtu": snapshot.mtu.map(|mtu| mtu.get()),
        "link_frame_max": snapshot.config.link_mtu.map(|mtu| mtu.get()),
        "offload_requested": snapshot.offload.requested.map(names),
        "offload_effective": names(snapshot.offload.effective),
        "offload_refused": refused(&snapshot.offload),
        "ports": { "host": port(&snapshot.host), "net": port(&snapshot.net) },
        "engine": {
            "tx": direction(stats.direction(Direction::Tx)),
            "rx": direction(stats.direction(Direction::Rx)),
            "control_accepted": stats.control_accepted,
            "control_duplicates": stats.control_duplicates,
            "control_errors": named(control_errors.map(|(error, count)| (error.name(), count))),
            "cache_hits": stats.cache_hits,
            "cache_misses": stats.cache_misses,
            "expired": stats.expired,
            "removals_lost": stats.removals_lost,
            "too_big_answered": stats.too_big_answered,
        },
        "fragments": snapshot.fragments.map(|cut| {
            json!({ "packets": cut.packets, "fragments": cut.fragments, "no_buffer": cut.no_buffer })
        }),
        "pool": { "free": free, "buffers": all, "buffer_size": size },
        "generation": format!("{:016x}", snapshot.generation),
        "encrypted_only": snapshot.encrypted_only,
        "sas": sas(snapshot),
        "flows": snapshot.flows.iter().map(|entry| flow(entry, snapshot)).collect::<Vec<_>>(),
    })
}

/// How the vNIC is controlled; epoch and number are those of version 3.
fn control(status: &ControlStatus) -> Value {
    json!({
        "version": (status.version != 0).then_some(status.version),
        "authenticated": status.authenticated,
        "instance": status.version_3.then(|| format!("{:016x}", status.instance)),
        "epoch": status.epoch,
        "executed": status.executed,
    })
}

/// The features that were asked for and are not in force, with the reasons.
fn refused(offload: &Offloads) -> Map<String, Value> {
    let refused = refusals(offload.requested.unwrap_or_default(), offload.effective);
    refused.into_iter().map(|(name, reason)| (name.to_owned(), reason.into())).collect()
}

fn port((name, counters): &(String, PortCounters)) -> Value {
    json!({
        "name": name,
        "rx_frames": counters.rx_frames,
        "rx_bytes": counters.rx_bytes,
        "rx_super_frames": counters.rx_super_frames,
        "tx_frames": counters.tx_frames,
        "tx_bytes": counters.tx_bytes,
        "tx_super_frames": counters.tx_super_frames,
        "rx_no_buffer": counters.rx_no_buffer,
        "drops": named(PortDrop::ALL.iter().map(|reason| (reason.name(), counters.drops(*reason)))),
    })
}

fn direction(stats: &DirectionStats) -> Value {
    json!({
        "frames": stats.frames,
        "bytes": stats.bytes,
        "forwarded": stats.forwarded,
        "forwarded_bytes": stats.forwarded_bytes,
        "missed": stats.missed,
        "consumed": stats.consumed,
        "drops": named(stats.drops().map(|(reason, count)| (reason.name(), count))),
    })
}

fn flow(entry: &FlowEntry, snapshot: &Snapshot) -> Value {
    let secs = |since| snapshot.now.nanos_since(since) as f64 / 1e9;
    json!({
        "flow": DisplayFlow(&entry.flow).to_string(),
        "packets": entry.packets,
        "bytes": entry.bytes,
        "duration_s": secs(entry.created),
        "idle_s": secs(entry.last_used),
    })
}

/// The associations by id and SPI; keys are not among what the engine tells.
fn sas(snapshot: &Snapshot) -> Vec<Value> {
    let mut sas: Vec<_> = snapshot.sas.iter().collect();
    sas.sort_by_key(|sa| (sa.config.id, sa.config.spi));
    sas.into_iter().map(|sa| association(sa, snapshot.now.nanos_since(sa.created))).collect()
}

/// One association that is `age` nanoseconds old.
pub fn association(sa: &SaStatus, age: u64) -> Value {
    let SaStatus { config, counters, .. } = sa;
    let lifetime = |Lifetime { packets, bytes, seconds }: Lifetime| {
        let limit = |value: u64| (value != 0).then_some(value);
        json!({ "packets": limit(packets), "bytes": limit(bytes), "seconds": limit(seconds) })
    };
    json!({
        "id": config.id,
        "direction": config.direction.name(),
        "spi": format!("{:#010x}", config.spi),
        "destination": std::net::Ipv4Addr::from(config.destination).to_string(),
        "suite": sa.suite.name(),
        "state": sa.state.name(),
        "age_s": age as f64 / 1e9,
        "extended_sequence": config.extended_sequence,
        "window": config.window,
        "last_sequence": config.last_sequence,
        "packets": counters.packets,
        "bytes": counters.bytes,
        "drops": named([
            ("replayed", counters.replayed),
            ("auth_failed", counters.auth_failed),
            ("malformed", counters.malformed),
            ("exhausted", counters.exhausted),
            ("expired", counters.expired),
            ("stale", counters.stale),
        ].into_iter()),
        "soft": lifetime(config.soft),
        "hard": lifetime(config.hard),
    })
}

fn named(counters: impl Iterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    counters.map(|(name, count)| (name.to_owned(), count.into())).collect()
}
