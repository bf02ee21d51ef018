//! The desk: where desired state is changed, one change after another.
//!
//! A change is checked as a whole, committed to the store, and only then taken over by the controller. What the store
//! does not take, nobody sees.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Mutex as Turn;

use super::handle::{Handle, Stopping};
use crate::{
    config::{Checked, Config, ConfigErrors, Diagnostic, Loaded},
    spec::Spec,
    store::{Change, Revision, Store, StoreError},
};

/// How often a store that another controller fills is looked at, ...
const IMPORT_LOOK: Duration = Duration::from_millis(500);
/// ... and how many times.
const IMPORT_LOOKS: u32 = 120;

/// Desired state, and the way to change it.
pub struct Desk {
    /// Settings of this process, which no change of desired state touches.
    process: Mutex<Arc<Config>>,
    store: Option<Arc<dyn Store>>,
    /// As it is in force.
    state: Mutex<Arc<Checked>>,
    /// Whoever changes something has it.
    turn: Turn<()>,
    handle: Handle,
}

/// Why nothing was changed.
#[derive(Debug)]
pub enum EditError<E> {
    /// The change itself said so.
    Refused(E),
    /// Desired state is the configuration file, which only people change.
    FromFile,
    /// The result would make no sense.
    Invalid(ConfigErrors),
    /// The running controller cannot take it over.
    Impossible(String),
    /// The store did not take it.
    Store(StoreError),
    /// The controller is stopping.
    Stopping,
}

impl<E> From<Stopping> for EditError<E> {
    fn from(_: Stopping) -> Self {
        Self::Stopping
    }
}

/// What a controller starts with.
pub(super) struct Opened {
    pub(super) config: Config,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) spec: Spec,
    /// Higher than that of any controller which worked on this store before; `None`: there is no store.
    pub(super) epoch: Option<Revision>,
}

/// Reads desired state from the store. One that is new takes over what the file has.
pub(super) async fn open(loaded: Loaded, store: Option<&dyn Store>) -> anyhow::Result<Opened> {
    let Loaded { config, warnings, spec } = loaded;
    let Some(store) = store else { return Ok(Opened { config, warnings, spec, epoch: None }) };
    let snapshot = store.load().await?;
    if snapshot.records.is_empty() {
        let mut transaction = spec.difference(&Spec::default());
        transaction.base = snapshot.revision;
        let networks = spec.networks.len();
        match store.commit(transaction).await {
            Ok(_) => tracing::info!(
                "the store is new: it takes over the configuration file's parameters and {networks} networks"
            ),
            Err(StoreError::Conflict(_)) => another_imports(store).await?,
            Err(error) => return Err(error.into()),
        }
    }
    let epoch = store.open_epoch().await?;
    let stored = Spec::from_snapshot(&store.load().await?)?;
    let same = stored.parameters.value == spec.parameters.value
        && stored.difference(&spec).writes.keys().all(|key| key == "parameters");
    if !same && !spec.networks.is_empty() {
        tracing::warn!(
            "the store is the desired state, and differs from the configuration file, whose networks and parameters \
             were taken over once and are not read any more: take them out of the file, or import it with `cvsw config \
             import`"
        );
    }
    let (config, warnings) = config.with_spec(&stored)?;
    Ok(Opened { config, warnings, spec: stored, epoch: Some(epoch) })
}

/// Waits until another controller, which was quicker, has filled the store.
async fn another_imports(store: &dyn Store) -> Result<(), StoreError> {
    tracing::info!("another controller fills the new store: waiting for it");
    for _ in 0..IMPORT_LOOKS {
        if !store.load().await?.records.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(IMPORT_LOOK).await;
    }
    Err(StoreError::Unusable(
        "another controller has begun to fill the store, and does not end: try again".to_owned(),
    ))
}

impl Desk {
    pub(super) fn new(process: Config, state: Checked, store: Option<Arc<dyn Store>>, handle: Handle) -> Arc<Self> {
        let (process, state) = (Mutex::new(Arc::new(process)), Mutex::new(Arc::new(state)));
        Arc::new(Self { process, store, state, turn: Turn::new(()), handle })
    }

    /// Desired state as it is now.
    pub fn spec(&self) -> Arc<Spec> {
        Arc::clone(&self.state().spec)
    }

    fn state(&self) -> Arc<Checked> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn process(&self) -> Arc<Config> {
        Arc::clone(&self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the folder of control keys again, and puts what is there in force. Returns whether something has changed.
    ///
    /// # Errors
    /// Nothing was changed, and why.
    pub(super) async fn renew_control_keys(&self) -> Result<bool, String> {
        let _turn = self.turn.lock().await;
        let old = self.process();
        let control = old.control.read_again()?;
        if control == old.control {
            return Ok(false);
        }
        let process = Config { control, ..Config::clone(&old) };
        let spec = self.spec();
        let (config, warnings) = process.with_spec(&spec).map_err(|errors| errors.to_string())?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(process);
        self.put(Spec::clone(&spec), config.clone(), warnings.clone());
        self.take_over(config, warnings).await.map_err(|_| "the controller is stopping".to_owned())?;
        Ok(true)
    }

    /// Whether it can be changed here.
    pub fn is_writable(&self) -> bool {
        self.store.is_some()
    }

    /// Desired state was read from the file again, for the `generation`-th time.
    pub(super) fn read_again(&self, read: Spec, generation: u64) {
        let state = self.state();
        let mut spec = Spec::clone(&state.spec);
        spec.replace(read);
        spec.revision = generation;
        self.put(spec, state.config.clone(), state.warnings.clone());
    }

    /// Changes desired state. When this returns, the change is stored and in force; it goes on to the end even if the
    /// caller loses interest. Returns what `change` gives, and the new state.
    ///
    /// # Errors
    /// Nothing was changed, and why.
    pub async fn edit<T, E>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Spec) -> Result<T, E> + Send + 'static,
    ) -> Result<(T, Arc<Spec>), EditError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let desk = Arc::clone(self);
        tokio::spawn(async move { desk.edit_now(change).await }).await.map_err(|_| EditError::Stopping)?
    }

    async fn edit_now<T, E>(
        &self,
        change: impl FnOnce(&mut Spec) -> Result<T, E>,
    ) -> Result<(T, Arc<Spec>), EditError<E>> {
        let store = self.store.as_ref().ok_or(EditError::FromFile)?;
        let _turn = self.turn.lock().await;
        let before = self.state();
        let old = Arc::clone(&before.spec);
        let mut next = Spec::clone(&old);
        let result = change(&mut next).map_err(EditError::Refused)?;
        let (config, warnings) = self.process().with_spec_after(&next, &before).map_err(EditError::Invalid)?;
        let offered = config.clone();
        let refusal = self.handle.ask(move |controller, _| controller.cannot_become(&offered)).await?;
        if let Some(why) = refusal {
            return Err(EditError::Impossible(why));
        }
        let transaction = next.difference(&old);
        if transaction.writes.is_empty() {
            return Ok((result, old));
        }
        let writes = transaction.writes.clone();
        let revision = store.commit(transaction).await.map_err(EditError::Store)?;
        let mut stored = Spec::clone(&old);
        stored
            .apply(&Change { revision, writes })
            .map_err(|error| EditError::Store(StoreError::Unusable(error.to_string())))?;
        let stored = self.put(stored, config.clone(), warnings.clone());
        self.take_over(config, warnings).await?;
        Ok((result, stored))
    }

    /// Follows what others commit to the store, for as long as it tells.
    pub(super) async fn follow(self: Arc<Self>, store: Arc<dyn Store>) {
        let mut changes = store.watch(self.spec().revision);
        while let Some(change) = changes.recv().await {
            let _turn = self.turn.lock().await;
            let before = self.state();
            let mut next = Spec::clone(&before.spec);
            if change.revision <= next.revision {
                continue;
            }
            let adopted = next.apply(&change).map_err(|error| error.to_string());
            let check = || self.process().with_spec_after(&next, &before).map_err(|errors| errors.to_string());
            let checked = adopted.and_then(|()| check());
            let done = match checked {
                Ok((config, warnings)) => {
                    self.put(next, config.clone(), warnings.clone());
                    self.take_over(config, warnings).await
                }
                Err(error) => {
                    tracing::error!("what another controller has stored is not used:\n{error}");
                    self.handle.ask(move |controller, _| controller.refuse_configuration(error)).await
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn put(&self, spec: Spec, config: Config, warnings: Vec<Diagnostic>) -> Arc<Spec> {
        let spec = Arc::new(spec);
        let state = Checked { spec: Arc::clone(&spec), config, warnings };
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        spec
    }

    async fn take_over(&self, config: Config, warnings: Vec<Diagnostic>) -> Result<(), Stopping> {
        let take_over = move |controller: &mut crate::state::Controller, now| {
            // It was asked before the change was stored, and it is nobody else's to change.
            if let Err(why) = controller.reconfigure(now, config, warnings) {
                controller.refuse_configuration(why);
            }
        };
        self.handle.ask(take_over).await
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        server::Event,
        state::Controller,
        store::{Reply, Snapshot, Transaction},
    };

    /// A store that others change, and where they are sometimes quicker.
    #[derive(Debug)]
    struct Shared {
        changes: Mutex<Option<mpsc::Receiver<Change>>>,
        conflict: Revision,
    }

    impl Store for Shared {
        fn load(&self) -> Reply<'_, Snapshot> {
            Box::pin(async { Ok(Snapshot::default()) })
        }

        fn commit(&self, _transaction: Transaction) -> Reply<'_, Revision> {
            Box::pin(async { Err(StoreError::Conflict(self.conflict)) })
        }

        fn open_epoch(&self) -> Reply<'_, Revision> {
            Box::pin(async { Ok(1) })
        }

        fn watch(&self, _after: Revision) -> mpsc::Receiver<Change> {
            self.changes.lock().unwrap().take().unwrap()
        }
    }

    fn network(revision: Revision, name: &str, json: &str) -> Change {
        Change { revision, writes: BTreeMap::from([(format!("network/{name}"), Some(json.as_bytes().to_vec()))]) }
    }

    #[tokio::test]
    async fn what_others_commit_is_taken_over_and_nonsense_is_not() {
        let process = Config::parse("c.toml", "").unwrap().config;
        let (events, mut inbox) = mpsc::channel(8);
        let handle = Handle::new(events);
        let mut controller = Controller::new(process.clone(), vec![]);
        tokio::spawn(async move {
            while let Some(Event::Ask(question)) = inbox.recv().await {
                question(&mut controller, Duration::ZERO);
            }
        });
        let (sender, changes) = mpsc::channel(8);
        let store = Arc::new(Shared { changes: Mutex::new(Some(changes)), conflict: 9 });
        let nothing = Checked { spec: Arc::default(), config: process.clone(), warnings: vec![] };
        let desk = Desk::new(process, nothing, Some(store.clone()), handle.clone());
        sender.send(network(5, "blue", r#"{"vni": 42, "group": "239.1.1.42"}"#)).await.unwrap();
        sender.send(network(4, "old", r#"{"vni": 43, "group": "239.1.1.43"}"#)).await.unwrap();
        sender.send(network(6, "red", r#"{"vni": 42, "group": "239.1.1.43"}"#)).await.unwrap();
        drop(sender);
        Arc::clone(&desk).follow(store).await;
        assert_eq!(
            (desk.spec().revision, desk.spec().networks.keys().cloned().collect::<Vec<_>>()),
            (5, vec!["blue".to_owned()])
        );
        let ask = |controller: &mut Controller, _| {
            (controller.config().networks.len(), controller.config_error().map(str::to_owned))
        };
        let (networks, error) = handle.ask(ask).await.unwrap();
        assert_eq!(networks, 1);
        assert!(error.unwrap().contains("the VNI 42 is used twice"));

        let edit = |spec: &mut Spec| {
            spec.networks.clear();
            Ok::<_, ()>(())
        };
        let refused = desk.edit(edit).await;
        assert!(matches!(refused, Err(EditError::Store(StoreError::Conflict(9)))), "{refused:?}");
        assert_eq!(desk.spec().networks.len(), 1, "what the store does not take, nobody sees");
    }

    #[tokio::test]
    async fn control_keys_are_exchanged_while_it_runs() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let mac: crate::Mac = "02:00:00:00:00:01".parse().unwrap();
        let process = Config::parse("c.toml", &format!("control_keys = {:?}", folder.path())).unwrap().config;
        let (events, mut inbox) = mpsc::channel(8);
        let handle = Handle::new(events);
        let mut controller = Controller::new(process.clone(), vec![]);
        tokio::spawn(async move {
            while let Some(Event::Ask(question)) = inbox.recv().await {
                question(&mut controller, Duration::ZERO);
            }
        });
        let nothing = Checked { spec: Arc::default(), config: process.clone(), warnings: vec![] };
        let desk = Desk::new(process, nothing, None, handle.clone());
        let known = || async {
            let ask = move |controller: &mut Controller, _| controller.config().control.keys(mac).is_set();
            handle.ask(ask).await.unwrap()
        };
        assert_eq!(desk.renew_control_keys().await, Ok(false));
        write("02:00:00:00:00:01.key", "000102030405060708090a0b0c0d0e0f\n");
        assert!(!known().await);
        assert_eq!(desk.renew_control_keys().await, Ok(true));
        assert!(known().await);
        write("02:00:00:00:00:02.key", "nonsense");
        let error = desk.renew_control_keys().await.unwrap_err();
        assert!(error.contains("02:00:00:00:00:02.key"), "{error}");
        assert!(known().await && desk.process().control.keys(mac).is_set());
    }
}
