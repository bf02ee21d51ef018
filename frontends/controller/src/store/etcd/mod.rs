//! Desired state in an etcd cluster, for several controllers.
//!
//! | key | what |
//! |---|---|
//! | `/cvsw/desired/KEY` | a record |
//! | `/cvsw/revision` | written by every transaction: the revision that wrote it is the store's; its value is random, so that whoever lost the answer can see whether the transaction was his |
//! | `/cvsw/import` | whoever fills a new store in several parts has it, under a lease of 30 s; no record, though it lies where records are watched |
//! | `/cvsw/switch/DATAPATH` | the name of the controller that manages a switch, under that controller's lease ([`crate::cluster`]) |
//! | `/cvsw/controller/NAME` | a controller that is alive, under its lease |
//!
//! Nothing is written while nothing changes, but for one lease of each controller.
//!
//! The crate `etcd-client` would be less code, but whoever builds it needs a protobuf compiler, and it balances over
//! nodes without noticing that one of them is paused.

mod client;
mod message;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::mpsc;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use zeroize::Zeroizing;

pub use client::Client;
pub use message::{
    Compare, DeleteRangeRequest, Event, KeyValue, PutRequest, RangeRequest, Request, RequestOp, TxnRequest,
};

use crate::tls::read_secret;

use super::{Change, Record, Reply, Revision, Snapshot, Store, StoreError, Transaction};
use message::{WatchCreateRequest, WatchRequest, WatchResponse};

/// What the text of a cluster's address begins with, ...
const SCHEME: &str = "etcd://";
/// ... and with TLS.
const TLS_SCHEME: &str = "etcds://";
/// Records.
const DESIRED: &str = "/cvsw/desired/";
/// The key that every transaction writes.
const REVISION: &str = "/cvsw/revision";
/// Operations of one transaction: etcd's default limit is 128.
const MAX_OPERATIONS: usize = 127;
/// Whoever imports has this key.
const IMPORT: &str = "/cvsw/import";
/// For so long.
const IMPORT_SECONDS: i64 = 30;
/// Pause before a watch is begun again.
const AGAIN: Duration = Duration::from_millis(200);
/// Changes that wait for a reader.
const CHANGES: usize = 64;

/// A cluster as a store.
#[derive(Clone, Debug)]
pub struct Etcd {
    client: Arc<Client>,
    /// The records that whoever follows changes knows of.
    known: Arc<Mutex<BTreeSet<String>>>,
}

/// Files (PEM) for a cluster that is reached through TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who signs the certificates of its nodes.
    pub ca: Option<PathBuf>,
    /// Own certificate, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    fn read(&self) -> anyhow::Result<ClientTlsConfig> {
        let text =
            |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let ca = self.ca.as_deref().context("who signs its certificates? Write --store-ca FILE")?;
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(text(ca)?));
        Ok(match &self.identity {
            Some((certificate, key)) => config
                .identity(Identity::from_pem(text(certificate)?, Zeroizing::new(read_secret(key)?).as_bytes())),
            None => config,
        })
    }
}

/// Whether this names a cluster, and not a file.
pub fn is_address(text: &str) -> bool {
    text.starts_with(SCHEME) || text.starts_with(TLS_SCHEME)
}

impl Etcd {
    /// The cluster at `etcd://HOST:PORT,HOST:PORT,...`, or `etcds://...` with TLS.
    ///
    /// # Errors
    /// The text is no such address, or the files do not fit it.
    pub fn new(address: &str, files: &TlsFiles) -> Result<Self, StoreError> {
        let (nodes, tls) = match address.strip_prefix(TLS_SCHEME) {
            Some(nodes) => (nodes, true),
            None => (address.strip_prefix(SCHEME).unwrap_or_default(), false),
        };
        let nodes: Vec<_> = nodes.split(',').filter(|node| !node.is_empty()).map(str::to_owned).collect();
        let unusable = |what: String| Err(StoreError::Unusable(what));
        if nodes.is_empty() {
            return unusable(format!(
                "{address:?} is not the address of a cluster: write {SCHEME}HOST:PORT,HOST:PORT,..., or \
                 {TLS_SCHEME}... for TLS"
            ));
        }
        if !tls && *files != TlsFiles::default() {
            return unusable(format!("{address}: certificates are for {TLS_SCHEME}... only; write that"));
        }
        let tls = match tls.then(|| files.read()).transpose() {
            Ok(tls) => tls,
            Err(error) => return unusable(format!("{address}: {error:#}")),
        };
        Ok(Self { client: Arc::new(Client::new(&nodes, tls.as_ref())?), known: Arc::default() })
    }

    /// The way to the cluster.
    pub const fn client(&self) -> &Arc<Client> {
        &self.client
    }

    async fn load_all(&self) -> Result<Snapshot, StoreError> {
        // Both at one revision.
        let operations = [prefix(DESIRED), RangeRequest { key: REVISION.into(), ..RangeRequest::default() }];
        let success = operations.map(|range| Request::Range(range).into()).to_vec();
        let answer = self.client.transact_much(&TxnRequest { success, ..TxnRequest::default() }).await?;
        let mut ranges = answer.responses.into_iter().filter_map(|response| response.range);
        let (records, guard) = (ranges.next().unwrap_or_default(), ranges.next().unwrap_or_default());
        let mut snapshot = Snapshot { revision: written(guard.kvs.first()), records: BTreeMap::new() };
        for kv in records.kvs {
            let revision = written(Some(&kv));
            snapshot.records.insert(name(&kv)?, Record { revision, value: kv.value });
        }
        if snapshot.revision == 0 {
            // Nobody has ended an import.
            snapshot.records.clear();
        }
        Ok(snapshot)
    }

    /// Writes the guard with `operations`, if it was last written by `base` (`None`: whoever wrote it).
    async fn write(&self, base: Option<Revision>, operations: Vec<RequestOp>) -> Result<Revision, StoreError> {
        let token = token()?;
        let guard = PutRequest { key: REVISION.into(), value: token.clone(), lease: 0 };
        let read = RangeRequest { key: REVISION.into(), ..RangeRequest::default() };
        let base = base.map(|base| i64::try_from(base).unwrap_or(i64::MAX));
        let request = TxnRequest {
            compare: base.iter().map(|base| Compare::written_by(REVISION, *base)).collect(),
            // The guard comes last: whoever watches knows then that the transaction is told to its end.
            success: operations.into_iter().chain([Request::Put(guard).into()]).collect(),
            failure: vec![Request::Range(read).into()],
        };
        let answer = self.client.transact_much(&request).await?;
        if answer.succeeded {
            return Ok(revision(answer.header.unwrap_or_default().revision));
        }
        let found = answer.responses.into_iter().find_map(|response| response.range).unwrap_or_default();
        let now = written(found.kvs.first());
        // The same request was carried out before, and its answer was lost.
        let ours = found.kvs.first().is_some_and(|kv| kv.value == token);
        if ours { Ok(now) } else { Err(StoreError::Conflict(now)) }
    }

    async fn commit_all(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        let mut operations: Vec<_> = transaction.writes.into_iter().map(operation).collect();
        if operations.len() > MAX_OPERATIONS {
            if transaction.base > 0 {
                return Err(StoreError::Unusable(format!(
                    "a change of {} records at once is more than the {MAX_OPERATIONS} that etcd takes by default: \
                     make it in parts",
                    operations.len(),
                )));
            }
            let last = operations.split_off(operations.len() - MAX_OPERATIONS);
            self.import(&operations).await?;
            operations = last;
        }
        self.write(Some(transaction.base), operations).await
    }

    /// All but the last part of the first import. As long as nobody has written the guard, the store counts as empty;
    /// so what was begun and not ended does no harm, and whoever comes next begins again.
    async fn import(&self, operations: &[RequestOp]) -> Result<(), StoreError> {
        let lease = self.client.grant(IMPORT_SECONDS).await?.id;
        let lock = PutRequest { key: IMPORT.into(), value: Vec::new(), lease };
        let range = prefix(DESIRED);
        let old = DeleteRangeRequest { key: range.key, range_end: range.range_end };
        let begin = TxnRequest {
            compare: vec![Compare::absent(IMPORT), Compare::absent(REVISION)],
            success: vec![Request::Put(lock).into(), Request::DeleteRange(old).into()],
            failure: Vec::new(),
        };
        if !self.client.transact_much(&begin).await?.succeeded {
            return Err(StoreError::Conflict(0));
        }
        for part in operations.chunks(MAX_OPERATIONS) {
            let request = TxnRequest {
                compare: vec![Compare::absent(REVISION)],
                success: part.to_vec(),
                failure: Vec::new(),
            };
            if !self.client.transact_much(&request).await?.succeeded {
                return Err(StoreError::Conflict(0));
            }
        }
        Ok(())
    }

    async fn follow(self, mut after: Revision, changes: mpsc::Sender<Change>) {
        let mut pending = BTreeMap::new();
        while !changes.is_closed() {
            match self.follow_once(&mut after, &mut pending, &changes).await {
                Ok(()) => {}
                Err(why) => {
                    tracing::warn!("the watch of the store is begun again: {why}");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Follows until nobody listens any more, or until the watch has to be begun again.
    async fn follow_once(
        &self,
        after: &mut Revision,
        pending: &mut Writes,
        changes: &mpsc::Sender<Change>,
    ) -> Result<(), StoreError> {
        let create = WatchCreateRequest {
            key: DESIRED.into(),
            range_end: format!("{REVISION}\0").into(),
            start_revision: i64::try_from(*after).unwrap_or(i64::MAX).saturating_add(1),
            progress_notify: false,
        };
        pending.clear();
        let mut answers = self.client.watch(&WatchRequest { create: Some(create) }).await?;
        loop {
            let answer = tokio::select! {
                answer = answers.message() => answer,
                () = changes.closed() => return Ok(()),
            };
            let answer = match answer {
                Ok(Some(answer)) => answer,
                Ok(None) => return Err(self.client.moved_on("the watch ended")),
                Err(status) => return Err(self.client.moved_on(status.message())),
            };
            if answer.compact_revision > 0 {
                let to = answer.compact_revision;
                tracing::warn!(
                    "the store was compacted up to revision {to}, and {after} was the last one seen: reading all"
                );
                let change = self.catch_up().await?;
                *after = change.revision;
                // If nobody listens any more, nobody misses it.
                let _ = changes.send(change).await;
                return Ok(());
            }
            if answer.canceled {
                return Err(self.client.moved_on("the watch was cancelled"));
            }
            for change in transactions(pending, answer)? {
                self.note(&change);
                *after = change.revision;
                if changes.send(change).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// Everything, as a change for those who know what was there when it was last looked at.
    async fn catch_up(&self) -> Result<Change, StoreError> {
        let before = self.known();
        let now = self.load_all().await?;
        let mut writes: Writes = before.into_iter().map(|key| (key, None)).collect();
        writes.extend(now.records.into_iter().map(|(key, record)| (key, Some(record.value))));
        let change = Change { revision: now.revision, writes };
        self.note(&change);
        Ok(change)
    }

    fn note(&self, change: &Change) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in &change.writes {
            match value {
                Some(_) => known.insert(key.clone()),
                None => known.remove(key),
            };
        }
    }

    fn known(&self) -> BTreeSet<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Store for Etcd {
    fn load(&self) -> Reply<'_, Snapshot> {
        Box::pin(async {
            let snapshot = self.load_all().await?;
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = snapshot.records.keys().cloned().collect();
            Ok(snapshot)
        })
    }

    fn commit(&self, transaction: Transaction) -> Reply<'_, Revision> {
        Box::pin(self.commit_all(transaction))
    }

    fn open_epoch(&self) -> Reply<'_, Revision> {
        Box::pin(self.write(None, Vec::new()))
    }

    fn watch(&self, after: Revision) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(CHANGES);
        tokio::spawn(self.clone().follow(after, sender));
        receiver
    }
}

type Writes = BTreeMap<String, Option<Vec<u8>>>;

/// The transactions that a watch tells of. One that is not told to its end stays in `pending`. The watched range begins
/// with records and ends with the guard; what lies between, such as [`IMPORT`], whose lease ends some time, is none of
/// them.
fn transactions(pending: &mut Writes, answer: WatchResponse) -> Result<Vec<Change>, StoreError> {
    let mut changes = Vec::new();
    for event in answer.events {
        let Some(kv) = event.kv else { continue };
        if kv.key == REVISION.as_bytes() {
            changes.push(Change { revision: written(Some(&kv)), writes: std::mem::take(pending) });
        } else if kv.key.starts_with(DESIRED.as_bytes()) {
            pending.insert(name(&kv)?, (event.kind != Event::REMOVED).then_some(kv.value));
        }
    }
    Ok(changes)
}

fn operation((key, value): (String, Option<Vec<u8>>)) -> RequestOp {
    let key = format!("{DESIRED}{key}").into_bytes();
    match value {
        Some(value) => Request::Put(PutRequest { key, value, lease: 0 }).into(),
        None => Request::DeleteRange(DeleteRangeRequest { key, range_end: Vec::new() }).into(),
    }
}

/// All keys that begin with this text, whose last octet is below 0xff.
pub fn prefix(text: &str) -> RangeRequest {
    let mut range_end = text.as_bytes().to_vec();
    if let Some(last) = range_end.last_mut() {
        *last += 1;
    }
    RangeRequest { key: text.into(), range_end }
}

/// A record's own key.
fn name(kv: &KeyValue) -> Result<String, StoreError> {
    let key = std::str::from_utf8(&kv.key).ok().and_then(|key| key.strip_prefix(DESIRED));
    key.map(str::to_owned).ok_or_else(|| {
        let key = String::from_utf8_lossy(&kv.key);
        StoreError::Unusable(format!(
            "the etcd key {:?} is none of ours: remove it",
            key.escape_debug().to_string()
        ))
    })
}

fn written(kv: Option<&KeyValue>) -> Revision {
    kv.map_or(0, |kv| revision(kv.mod_revision))
}

/// etcd's revisions are never negative.
pub fn revision(revision: i64) -> Revision {
    u64::try_from(revision).unwrap_or(0)
}

/// A value that nobody else writes.
fn token() -> Result<Vec<u8>, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| StoreError::Unusable(format!("the system gave no random numbers: {error}")))?;
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_told_when_its_last_key_has_come() {
        let event = |key: &str, revision, value: Option<&[u8]>| Event {
            kind: if value.is_some() { 0 } else { Event::REMOVED },
            kv: Some(KeyValue {
                key: key.into(),
                create_revision: 1,
                mod_revision: revision,
                value: value.unwrap_or_default().to_vec(),
            }),
        };
        let mut pending = Writes::new();
        let tell = |pending: &mut Writes, events| {
            transactions(pending, WatchResponse { events, ..WatchResponse::default() }).unwrap()
        };
        assert_eq!(tell(&mut pending, vec![event("/cvsw/desired/a", 5, Some(b"1"))]), []);
        let events = vec![
            event("/cvsw/desired/b", 6, None),
            event(IMPORT, 6, None),
            event("/cvsw/revision", 6, Some(b"x")),
            event("/cvsw/revision", 7, Some(b"y")),
        ];
        let writes = Writes::from([("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), None)]);
        let expected = [Change { revision: 6, writes }, Change { revision: 7, writes: Writes::new() }];
        assert_eq!(tell(&mut pending, events), expected);
    }

    #[test]
    fn addresses() {
        for wrong in ["etcd://", "http://x:1", "etcd://,", "etcd://a b:1"] {
            let error = Etcd::new(wrong, &TlsFiles::default()).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{wrong}: {error}");
        }
        let files = TlsFiles { ca: Some("/nonexistent/ca.crt".into()), identity: None };
        let error = |address: &str, files: &TlsFiles| Etcd::new(address, files).unwrap_err().to_string();
        assert!(error("etcds://x:1", &TlsFiles::default()).contains("--store-ca"));
        assert!(error("etcds://x:1", &files).contains("cannot read /nonexistent/ca.crt"));
        assert!(error("etcd://x:1", &files).contains("etcds://"));
    }

    #[test]
    fn a_prefix_is_a_range() {
        let range = prefix(DESIRED);
        assert_eq!((range.key, range.range_end), (b"/cvsw/desired/".to_vec(), b"/cvsw/desired0".to_vec()));
    }
}
