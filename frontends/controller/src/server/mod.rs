//! Sockets, signals and the clock around [`Controller`]: one task owns it, the others only move bytes.

mod connection;
mod listen;
mod reload;
mod status_socket;

use std::{collections::HashMap, future::Future, path::PathBuf, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    config::{Config, Listen},
    keys::KeyLog,
    state::{ConnectionId, Controller},
    status::Status,
};
use connection::{Connection, Stream};
use listen::Listener;
use reload::Watch;

/// How often time passes for the controller.
const TICK: Duration = Duration::from_millis(100);
/// How often the configuration file is looked at. A change is used when the file looked the same twice, so that a
/// file that an editor is still writing is not taken for a shorter one.
const WATCH: Duration = Duration::from_millis(500);
/// Events that wait for the owner; a connection that has more to say waits, and so does its switch.
const EVENTS: usize = 1024;
/// Connections at a time.
const MAX_CONNECTIONS: usize = 4096;

/// What a server is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Where to listen instead of where the file says; empty: as the file says.
    pub listen: Vec<Listen>,
    /// Path of the status socket.
    pub status_socket: Option<PathBuf>,
    /// Where every key is noted, for a laboratory's dissector.
    pub key_log: Option<PathBuf>,
}

/// Something that happened outside.
enum Event {
    Accepted(Stream, String),
    Message(ConnectionId, Vec<u8>),
    Closed(ConnectionId),
    Status(oneshot::Sender<Status>),
}

/// Runs a controller until `stop` is ready. `ready` is called once, with the addresses that are listened on.
///
/// # Errors
/// The configuration cannot be used, or an address cannot be listened on.
pub async fn serve(
    options: Options,
    ready: impl FnOnce(&[Listen]) -> anyhow::Result<()>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    // What changes from here on is seen as a change.
    let watch = Watch::new(options.config.clone());
    let loaded = Config::load(&options.config)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let addresses = if options.listen.is_empty() { loaded.config.listen.clone() } else { options.listen.clone() };
    let (events, inbox) = mpsc::channel(EVENTS);
    let mut bound = Vec::new();
    let mut guards = Vec::new();
    for address in &addresses {
        let listener = Listener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        bound.push(listener.address().clone());
        guards.push(listener.spawn(events.clone()));
    }
    if let Some(path) = &options.status_socket {
        let socket = status_socket::spawn(path, events.clone()).await;
        guards.push(socket.with_context(|| format!("cannot listen on the status socket {}", path.display()))?);
    }
    let hangup = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    let rotate = signal(SignalKind::user_defined1()).context("cannot watch for SIGUSR1")?;
    ready(&bound)?;
    let mut controller = Controller::new(loaded.config, loaded.warnings);
    if let Some(path) = &options.key_log {
        let log = KeyLog::create(path).with_context(|| format!("cannot make the key log {}", path.display()))?;
        tracing::warn!("every key is noted in {}: whoever reads it reads the traffic", path.display());
        controller.log_keys(log);
    }
    let server = Server {
        controller,
        connections: HashMap::new(),
        events,
        start: Instant::now(),
        watch,
        listen_from_file: options.listen.is_empty(),
    };
    server.run(inbox, hangup, rotate, stop).await;
    Ok(())
}

struct Server {
    controller: Controller,
    connections: HashMap<ConnectionId, Connection>,
    events: mpsc::Sender<Event>,
    start: Instant,
    watch: Watch,
    listen_from_file: bool,
}

impl Server {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Event>,
        mut hangup: tokio::signal::unix::Signal,
        mut rotate: tokio::signal::unix::Signal,
        stop: impl Future<Output = ()>,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(WATCH);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                event = inbox.recv() => match event {
                    Some(event) => self.happened(event),
                    None => return,
                },
                _ = tick.tick() => self.controller.tick(self.now()),
                _ = look.tick() => if self.watch.changed() { self.reload() },
                _ = hangup.recv() => self.reload(),
                _ = rotate.recv() => {
                    tracing::info!("every key is replaced");
                    self.controller.rotate_keys(self.now());
                }
            }
            self.flush();
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn happened(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Accepted(_, peer) if self.connections.len() >= MAX_CONNECTIONS => {
                tracing::warn!(%peer, "refused: there are {MAX_CONNECTIONS} connections already");
            }
            Event::Accepted(stream, peer) => {
                let id = self.controller.connected(now, peer);
                self.connections.insert(id, Connection::spawn(id, stream, self.events.clone()));
            }
            // Its messages may still have been on their way when it was closed.
            Event::Message(id, _) if !self.connections.contains_key(&id) => {}
            Event::Message(id, message) => self.controller.received(now, id, &message),
            Event::Closed(id) => {
                self.connections.remove(&id);
                self.controller.disconnected(now, id);
            }
            Event::Status(answer) => {
                // If the asker has gone, nobody misses the answer.
                let _ = answer.send(Status::of(&self.controller, now));
            }
        }
    }

    /// Writes what is to be written and closes what is to be closed.
    fn flush(&mut self) {
        for (id, bytes) in self.controller.take_outgoing() {
            let Some(connection) = self.connections.get(&id) else { continue };
            if let Err(why) = connection.write(bytes) {
                tracing::warn!(?id, "closing the connection: {why}");
                self.connections.remove(&id);
                self.controller.disconnected(self.now(), id);
            }
        }
        for (id, _) in self.controller.take_closing() {
            self.connections.remove(&id);
        }
    }

    fn reload(&mut self) {
        match self.try_reload() {
            Ok(()) => tracing::info!("the changed configuration is in force"),
            Err(error) => {
                tracing::error!("the changed configuration is not used; the old one stays in force:\n{error}");
                self.controller.refuse_configuration(error);
            }
        }
    }

    fn try_reload(&mut self) -> Result<(), String> {
        let loaded = self.watch.load().map_err(|error| error.to_string())?;
        if self.listen_from_file && loaded.config.listen != self.controller.config().listen {
            return Err("`listen` cannot change while the controller runs: put it back, or restart the controller"
                .to_owned());
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        self.controller.reconfigure(self.now(), loaded.config, loaded.warnings)
    }
}
