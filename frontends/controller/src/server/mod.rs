//! Sockets, signals and the clock around [`Controller`]: one task owns it, the others only move bytes.

mod connection;
mod desk;
mod handle;
pub(crate) mod listen;
mod reload;
pub(crate) mod secrets;
mod status_socket;

use std::{
    collections::HashMap,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    api::{self, Api},
    cluster::{Cluster, ClusterKey},
    config::{Checked, Config, Listen},
    events::{Bus, Reporter},
    keys::KeyLog,
    state::{ConnectionId, Controller},
    store::{
        Store,
        embedded::Embedded,
        etcd::{self, Etcd, TlsFiles},
    },
    sys, tls,
};
use connection::Connection;
pub use desk::{Desk, EditError};
pub use handle::{Handle, Stopping};
use listen::{Accepted, Guard, Listener};
use reload::Watch;
use secrets::Secrets;

/// How often time passes for the controller.
const TICK: Duration = Duration::from_millis(100);
/// How often the configuration file is looked at. A change is used when the file looked the same twice, so that a
/// file that an editor is still writing is not taken for a shorter one.
const WATCH: Duration = Duration::from_millis(500);
/// How often memory that was freed is given back to the system.
const TIDY: Duration = Duration::from_secs(60);
/// Events after which what they have caused is written.
const AT_ONCE: usize = 128;
/// Events that wait for the owner; a connection that has more to say waits, and so does its switch.
const EVENTS: usize = 1024;
/// How long leaving a cluster may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// Connections at a time.
const MAX_CONNECTIONS: usize = 4096;

/// What a server is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Where to listen instead of where the file says; empty: as the file says.
    pub listen: Vec<Listen>,
    /// File that keeps desired state, or `etcd://HOST:PORT,...`, instead of what the configuration file names.
    pub store: Option<PathBuf>,
    /// Files for a cluster that is reached through TLS.
    pub store_tls: TlsFiles,
    /// Name of this controller among those that share a cluster; none: the machine's.
    pub name: Option<String>,
    /// With a cluster: file with the key that all its controllers have.
    pub cluster_key: Option<PathBuf>,
    /// Where the API listens instead of where the file says; empty: as the file says.
    pub api: Vec<Listen>,
    /// Path of the status socket.
    pub status_socket: Option<PathBuf>,
    /// Where every key is noted, for a laboratory's dissector.
    pub key_log: Option<PathBuf>,
}

/// Something that happened outside.
enum Event {
    Accepted(Accepted),
    Message(ConnectionId, Vec<u8>),
    Closed(ConnectionId),
    Ask(handle::Question),
}

impl From<Accepted> for Event {
    fn from(accepted: Accepted) -> Self {
        Self::Accepted(accepted)
    }
}

/// The addresses that are listened on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// For switches.
    pub switches: Vec<Listen>,
    /// For the API.
    pub api: Vec<Listen>,
}

/// Runs a controller until `stop` is ready. `ready` is called once, with the addresses that are listened on.
///
/// # Errors
/// The configuration cannot be used, or the store, or an address cannot be listened on.
pub async fn serve(
    options: Options,
    ready: impl FnOnce(&Bound) -> anyhow::Result<()>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    // What changes from here on is seen as a change.
    let watch = Watch::new(options.config.clone());
    let mut loaded = Config::load(&options.config)?;
    let process = &mut loaded.config;
    if !options.listen.is_empty() {
        process.listen.clone_from(&options.listen);
    }
    if let Some(path) = &options.store {
        process.store = Some(path.clone());
    }
    api::listen_instead(process, &options.api)?;
    // Without the networks, which are desired state.
    let process = Config { networks: Vec::new(), ..process.clone() };
    let (store, etcd) = open_store(process.store.as_deref(), &options.store_tls)?;
    let opened = desk::open(loaded, store.as_deref()).await?;
    for warning in &opened.warnings {
        tracing::warn!("{warning}");
    }
    let (events, inbox) = mpsc::channel(EVENTS);
    let handle = Handle::new(events.clone());
    let state =
        Checked { spec: Arc::new(opened.spec), config: opened.config.clone(), warnings: opened.warnings.clone() };
    let desk = Desk::new(process.clone(), state, store.clone(), handle.clone());
    let bus = Arc::new(Bus::default());
    let mut bound = Bound::default();
    let mut secrets = Secrets::default();
    let mut guards = listen_for_switches(&process, &events, &mut bound, &mut secrets).await?;
    if let Some(settings) = &process.api {
        let api = Api { handle: handle.clone(), desk: Arc::clone(&desk), bus: Arc::clone(&bus) };
        guards.extend(api::spawn(settings, api, &mut bound.api, &mut secrets).await?);
    }
    if let Some(path) = &options.status_socket {
        let socket = status_socket::spawn(path, handle.clone()).await;
        guards.push(socket.with_context(|| format!("cannot listen on the status socket {}", path.display()))?);
    }
    let signals = Signals::new()?;
    sys::give_memory_back();
    ready(&bound)?;
    let mut controller = Controller::new(opened.config, opened.warnings);
    controller.set_epoch(opened.epoch.map_or_else(epoch_of_now, |revision| STORE_EPOCHS + revision));
    if let Some(path) = &options.key_log {
        let log = KeyLog::create(path).with_context(|| format!("cannot make the key log {}", path.display()))?;
        tracing::warn!("every key is noted in {}: whoever reads it reads the traffic", path.display());
        controller.log_keys(log);
    }
    if let Some(epoch) = opened.epoch {
        tracing::info!(epoch, "the desired state is that of the store");
    }
    if let Some(store) = store {
        tokio::spawn(Arc::clone(&desk).follow(store));
    }
    let part = match etcd {
        Some(etcd) => {
            let key = options.cluster_key.as_deref().map(ClusterKey::read).transpose()?;
            Some(take_part(&mut controller, &etcd, options.name, (handle, key))?)
        }
        None if options.cluster_key.is_some() => bail!("--cluster-key is for controllers with --store etcd://..."),
        None => None,
    };
    let mut server = Server {
        controller,
        connections: HashMap::new(),
        events,
        start: Instant::now(),
        watch,
        process,
        listen_from_file: options.listen.is_empty(),
        api_from_file: options.api.is_empty(),
        desk,
        secrets,
        reporter: Reporter::default(),
        bus,
    };
    server.run(inbox, signals, stop).await;
    if let Some((leave, part)) = part {
        // Whoever waits for our switches need not wait for the lease to end.
        drop(leave);
        let _ = tokio::time::timeout(FAREWELL, part).await;
    }
    Ok(())
}

type OpenStore = (Option<Arc<dyn Store>>, Option<Etcd>);

/// Opens the file, or the cluster, that keeps desired state.
fn open_store(place: Option<&Path>, files: &TlsFiles) -> anyhow::Result<OpenStore> {
    let Some(place) = place else { return Ok((None, None)) };
    match place.to_str().filter(|address| etcd::is_address(address)) {
        Some(address) => {
            let etcd = Etcd::new(address, files)?;
            Ok((Some(Arc::new(etcd.clone())), Some(etcd)))
        }
        None => Ok((Some(Arc::new(Embedded::open(place)?)), None)),
    }
}

/// Lets the controller manage only what its part in the cluster gives it.
fn take_part(
    controller: &mut Controller,
    etcd: &Etcd,
    name: Option<String>,
    (handle, key): (Handle, Option<ClusterKey>),
) -> anyhow::Result<(oneshot::Sender<()>, JoinHandle<()>)> {
    let hostname = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    let name = name.map_or_else(hostname, Ok).context("this machine has no name: use --name")?;
    // It is part of keys in the store.
    ensure!(!name.contains('/') && !name.is_empty(), "the name {name:?} cannot be used: it must have no `/`");
    if key.is_none() && controller.config().networks.iter().any(|network| network.cipher.is_some()) {
        tracing::warn!(
            "without --cluster-key, members of an encrypted network that are on switches of different controllers do not \
             reach each other"
        );
    }
    controller.stand_by(STORE_EPOCHS);
    let (leave, left) = oneshot::channel();
    let cluster = Cluster::new(Arc::clone(etcd.client()), name, handle, key);
    Ok((leave, tokio::spawn(cluster.run(left))))
}

async fn listen_for_switches(
    process: &Config,
    events: &mpsc::Sender<Event>,
    bound: &mut Bound,
    secrets: &mut Secrets,
) -> anyhow::Result<Vec<Guard>> {
    let certificate = process.tls.as_ref().map(|files| tls::Server::new(files, false)).transpose()?;
    if let Some(certificate) = &certificate {
        secrets.add(certificate.clone());
    }
    let mut guards = Vec::new();
    for address in &process.listen {
        let listener = Listener::bind(address, certificate.clone()).await;
        let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
        bound.switches.push(listener.address().clone());
        guards.push(listener.spawn(events.clone()));
    }
    Ok(guards)
}

/// Signals that a controller reacts to.
struct Signals {
    /// SIGHUP: read files again: configuration, certificates, tokens, control keys.
    hangup: Signal,
    /// SIGUSR1: replace every key.
    rotate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?,
            rotate: signal(SignalKind::user_defined1()).context("cannot watch for SIGUSR1")?,
        })
    }
}

/// Controllers with a store come after all without: their epochs are the store's revisions and this.
const STORE_EPOCHS: u64 = 1 << 36;

/// An epoch that is higher than that of any controller which was started earlier: the seconds since 1970.
fn epoch_of_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |time| time.as_secs().max(1))
}

struct Server {
    controller: Controller,
    connections: HashMap<ConnectionId, Connection>,
    events: mpsc::Sender<Event>,
    start: Instant,
    watch: Watch,
    /// Settings of this process.
    process: Config,
    listen_from_file: bool,
    api_from_file: bool,
    desk: Arc<Desk>,
    secrets: Secrets,
    reporter: Reporter,
    bus: Arc<Bus>,
}

impl Server {
    async fn run(
        &mut self,
        mut inbox: mpsc::Receiver<Event>,
        mut signals: Signals,
        stop: impl Future<Output = ()>,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tidy = interval(TIDY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(WATCH);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(stop);
        let mut waiting = Vec::with_capacity(AT_ONCE);
        loop {
            tokio::select! {
                () = &mut stop => return,
                count = inbox.recv_many(&mut waiting, AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    waiting.drain(..).for_each(|event| self.happened(event));
                }
                _ = tick.tick() => {
                    // Whoever has answered is not late.
                    for _ in 0..inbox.len() {
                        let Ok(event) = inbox.try_recv() else { break };
                        self.happened(event);
                    }
                    self.ticked();
                }
                _ = tidy.tick() => sys::give_memory_back(),
                _ = look.tick() => if self.watch.changed() { self.reload() },
                _ = signals.hangup.recv() => self.hang_up(),
                _ = signals.rotate.recv() => {
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

    fn ticked(&mut self) {
        let now = self.now();
        self.controller.tick(now);
        for event in self.reporter.news(&mut self.controller) {
            self.bus.publish(event);
        }
    }

    fn happened(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Accepted(Accepted { peer, .. }) if self.connections.len() >= MAX_CONNECTIONS => {
                tracing::warn!(peer = %peer.name, "refused: there are {MAX_CONNECTIONS} connections already");
            }
            Event::Accepted(Accepted { stream, peer }) => {
                let id = self.controller.connected(now, peer.name);
                self.connections.insert(id, Connection::spawn(id, stream, self.events.clone()));
            }
            // Its messages may still have been on their way when it was closed.
            Event::Message(id, _) if !self.connections.contains_key(&id) => {}
            Event::Message(id, message) => self.controller.received(now, id, &message),
            Event::Closed(id) => {
                self.connections.remove(&id);
                self.controller.disconnected(now, id);
            }
            Event::Ask(question) => {
                let generation = self.controller.generation();
                question(&mut self.controller, now);
                if self.controller.generation() != generation {
                    self.ticked();
                }
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

    /// SIGHUP, which is what `systemctl reload` sends.
    fn hang_up(&mut self) {
        match self.secrets.renew() {
            Ok(()) => tracing::info!("certificates and tokens were read again"),
            Err(error) => tracing::error!("the old certificates and tokens stay in force: {error:#}"),
        }
        if !self.desk.is_writable() {
            return self.reload();
        }
        let desk = Arc::clone(&self.desk);
        tokio::spawn(async move {
            match desk.renew_control_keys().await {
                Ok(true) => tracing::info!("the control keys have changed"),
                Ok(false) => {}
                Err(error) => tracing::error!("the old control keys stay in force:\n{error}"),
            }
        });
    }

    fn reload(&mut self) {
        if self.desk.is_writable() {
            self.watch.pass();
            tracing::warn!(
                "the configuration file is not read again: the store is the desired state (`cvsw config import` takes \
                 a file over), and the other settings need a restart"
            );
            return;
        }
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
        let (new, old) = (&loaded.config, &self.process);
        let settings = [
            ("listen", self.listen_from_file && new.listen != old.listen),
            ("tls", new.tls != old.tls),
            ("api", self.api_from_file && new.api != old.api),
            ("store", new.store != old.store),
        ];
        if let Some((name, _)) = settings.iter().find(|(_, changed)| *changed) {
            return Err(format!(
                "`{name}` cannot change while the controller runs: put it back, or restart the controller"
            ));
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        self.controller.reconfigure(self.now(), loaded.config, loaded.warnings)?;
        self.desk.read_again(loaded.spec, self.controller.generation());
        self.ticked();
        Ok(())
    }
}
