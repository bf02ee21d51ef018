//! All switches on their connections, in one thread of their own.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cvsw_core::openflow::message_len;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    layout::{Layout, mac},
    switch::{ConnectionId, Switch},
    vnic::{Seen, Vnic},
};

/// Pause before a switch connects again. As Open vSwitch's first one.
const RECONNECT: Duration = Duration::from_secs(1);
/// How often time passes for the vNICs.
const TICK: Duration = Duration::from_secs(1);
/// Bytes that are read at once.
const READ: usize = 1 << 16;

/// The switches. Dropping it ends them.
pub struct Fleet {
    /// What can be seen of each vNIC at any time, by its number.
    pub seen: Vec<Arc<Seen>>,
    switches: Vec<Arc<Mutex<Switch>>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the tasks share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    connections: AtomicUsize,
    received: AtomicU64,
    complaints: AtomicU64,
}

/// What has happened on all connections so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Connections that are open.
    pub connections: usize,
    /// OpenFlow messages from the controller.
    pub messages: u64,
    /// Messages from the controller that made no sense.
    pub complaints: u64,
}

impl Fleet {
    /// Makes the world, not yet connected.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(layout: &Layout) -> anyhow::Result<Self> {
        let seen: Vec<_> = (0..layout.vnics).map(|_| Arc::new(Seen::default())).collect();
        let mut switches = Vec::with_capacity(layout.switches);
        for number in 0..layout.switches {
            let mut ports = Vec::new();
            for (_, vnic) in layout.on_switch(number) {
                let engine = Vnic::new(mac(vnic), vnic as u64 + 1, layout.key(vnic))
                    .context("no memory for another vNIC")?;
                ports.push((engine, Arc::clone(&seen[vnic])));
            }
            switches.push(Arc::new(Mutex::new(Switch::new(number as u64 + 1, ports))));
        }
        Ok(Self { seen, switches, shared: Arc::default(), thread: None })
    }

    /// Connects every switch to all of the addresses, again and again if it must.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn connect(&mut self, controllers: &[SocketAddr]) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
        let (switches, shared) = (self.switches.clone(), Arc::clone(&self.shared));
        let controllers = controllers.to_vec();
        let run = move || {
            runtime.block_on(async {
                for switch in switches {
                    for address in &controllers {
                        tokio::spawn(stay_connected(Arc::clone(&switch), *address, Arc::clone(&shared)));
                    }
                }
                while !shared.stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        };
        self.thread = Some(std::thread::Builder::new().name("fleet".into()).spawn(run)?);
        Ok(())
    }

    /// The switches, one after the other; each stands still while it is looked at.
    pub fn switches(&self) -> impl Iterator<Item = MutexGuard<'_, Switch>> {
        self.switches.iter().map(|switch| lock(switch))
    }

    /// Switches that have a master.
    pub fn mastered(&self) -> usize {
        self.switches().filter(|switch| switch.master().is_some()).count()
    }

    /// What has happened so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.shared.connections.load(Ordering::Relaxed),
            messages: self.shared.received.load(Ordering::Relaxed),
            complaints: self.shared.complaints.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it was already printed.
            let _ = thread.join();
        }
    }
}

fn lock(switch: &Mutex<Switch>) -> MutexGuard<'_, Switch> {
    switch.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn stay_connected(switch: Arc<Mutex<Switch>>, address: SocketAddr, shared: Arc<Shared>) {
    let start = Instant::now();
    loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = converse(&switch, stream, start, &shared).await {
                tracing::debug!(%address, "the controller's connection ended: {error}");
            }
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn converse(switch: &Mutex<Switch>, stream: TcpStream, start: Instant, shared: &Shared) -> io::Result<()> {
    let mut greeting = Vec::new();
    let id = lock(switch).connected(&mut greeting);
    let ended = converse_as(id, greeting, switch, stream, start, shared).await;
    lock(switch).disconnected(id);
    ended
}

async fn converse_as(
    id: ConnectionId,
    mut out: Vec<u8>,
    switch: &Mutex<Switch>,
    mut stream: TcpStream,
    start: Instant,
    shared: &Shared,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut unread = Vec::with_capacity(READ);
    let mut tick = tokio::time::interval(TICK);
    loop {
        stream.write_all(&out).await?;
        out.clear();
        unread.reserve(READ);
        tokio::select! {
            read = stream.read_buf(&mut unread) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let used = take_messages(&mut lock(switch), id, &unread, now(start), &mut out, shared)?;
                unread.drain(..used);
            }
            _ = tick.tick() => lock(switch).tick(now(start), id, &mut out),
        }
    }
}

/// Hands every whole message over; returns how many bytes they were.
fn take_messages(
    switch: &mut Switch,
    id: ConnectionId,
    bytes: &[u8],
    now: cvsw_core::Instant,
    out: &mut Vec<u8>,
    shared: &Shared,
) -> io::Result<usize> {
    let mut used = 0;
    while let Some(len) = message_len(&bytes[used..]) {
        let len = len.map_err(|error| io::Error::other(error.to_string()))?;
        let Some(message) = bytes.get(used..used + len) else { break };
        used += len;
        shared.received.fetch_add(1, Ordering::Relaxed);
        if let Err(why) = switch.received(now, id, message, out) {
            shared.complaints.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("the controller sent a message that makes no sense: {why}");
        }
    }
    Ok(used)
}

fn now(start: Instant) -> cvsw_core::Instant {
    cvsw_core::Instant::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}
