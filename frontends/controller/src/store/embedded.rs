//! The store in one file, by redb.
//!
//! Only one process can have it open. A commit returns when the data is on the disk (`fsync`); a crash leaves the file
//! as the last commit made it, which the checksums prove when it is opened again.

use std::{
    fs::OpenOptions,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use redb::{Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, backends::FileBackend};
use tokio::sync::mpsc;

use super::{
    Change, Record, Reply, Revision, Snapshot, Store, StoreError, Transaction,
    schema::{self, META, RECORDS, REVISION, Step},
};

/// Memory for pages of the file; everything that is wanted often is kept by whoever asks.
const CACHE: usize = 1 << 20;

/// A store in one file.
#[derive(Clone, Debug)]
pub struct Embedded {
    database: Arc<Database>,
}

impl Embedded {
    /// Opens the file, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// The file cannot be used, and why.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, schema::STEPS)
    }

    fn open_with(path: &Path, steps: &[Step]) -> Result<Self, StoreError> {
        let unusable =
            |why: String| StoreError::Unusable(format!("cannot use the store {}: {why}", path.display()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(|error| unusable(error.to_string()))?;
        let found = file.metadata().map_err(|error| unusable(error.to_string()))?;
        if found.permissions().mode() & 0o077 != 0 {
            return Err(unusable("others than its owner can read or change it: `chmod 600` it".to_owned()));
        }
        let backend = FileBackend::new(file).map_err(|error| unusable(error.to_string()))?;
        let database = Builder::new().set_cache_size(CACHE).create_with_backend(backend).map_err(|error| {
            unusable(match error {
                DatabaseError::DatabaseAlreadyOpen => {
                    "another controller uses it: stop that one, or give this one a store of its own".to_owned()
                }
                other => format!("{other}; is it a store of `cvsw controller`? Restore a copy, or move it away"),
            })
        })?;
        let was = schema::migrate(&database, steps).map_err(unusable)?;
        if was > 0 && was < steps.len() as u64 {
            tracing::info!("the store {} was brought from version {was} to {}", path.display(), steps.len());
        }
        Ok(Self { database: Arc::new(database) })
    }

    /// Runs `work` where it may block.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Reply<'_, T> {
        let database = Arc::clone(&self.database);
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&database)).await;
            done.map_err(|_| StoreError::Unusable("the store's thread has ended".to_owned()))?
        })
    }
}

impl Store for Embedded {
    fn load(&self) -> Reply<'_, Snapshot> {
        self.blocking(|database| load(database).map_err(unusable))
    }

    fn commit(&self, transaction: Transaction) -> Reply<'_, Revision> {
        self.blocking(move |database| commit(database, Some(transaction.base), &transaction))
    }

    fn open_epoch(&self) -> Reply<'_, Revision> {
        self.blocking(|database| commit(database, None, &Transaction::default()))
    }

    fn watch(&self, _after: Revision) -> mpsc::Receiver<Change> {
        // The sender goes at once: nobody else can commit.
        mpsc::channel(1).1
    }
}

fn unusable(error: redb::Error) -> StoreError {
    StoreError::Unusable(format!("the store failed: {error}"))
}

fn load(database: &Database) -> Result<Snapshot, redb::Error> {
    let transaction = database.begin_read()?;
    let revision = transaction.open_table(META)?.get(REVISION)?.map_or(0, |value| value.value());
    let mut snapshot = Snapshot { revision, ..Snapshot::default() };
    for entry in transaction.open_table(RECORDS)?.iter()? {
        let (key, value) = entry?;
        let (revision, value) = value.value();
        snapshot.records.insert(key.value().to_owned(), Record { revision, value: value.to_vec() });
    }
    Ok(snapshot)
}

fn commit(database: &Database, base: Option<Revision>, change: &Transaction) -> Result<Revision, StoreError> {
    let attempt = || -> Result<Result<Revision, Revision>, redb::Error> {
        let transaction = database.begin_write()?;
        let revision = {
            let mut meta = transaction.open_table(META)?;
            let current = meta.get(REVISION)?.map_or(0, |value| value.value());
            if base.is_some_and(|base| base != current) {
                return Ok(Err(current));
            }
            meta.insert(REVISION, current + 1)?;
            current + 1
        };
        {
            let mut records = transaction.open_table(RECORDS)?;
            for (key, value) in &change.writes {
                match value {
                    Some(value) => drop(records.insert(key.as_str(), (revision, value.as_slice()))?),
                    None => drop(records.remove(key.as_str())?),
                }
            }
        }
        transaction.commit()?;
        Ok(Ok(revision))
    };
    attempt().map_err(unusable)?.map_err(StoreError::Conflict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::{ReadableTable, WriteTransaction};
    use std::collections::BTreeMap;

    fn write(base: Revision, key: &str, value: Option<&str>) -> Transaction {
        let value = value.map(|text| text.as_bytes().to_vec());
        Transaction { base, writes: BTreeMap::from([(key.to_owned(), value)]) }
    }

    #[tokio::test]
    async fn records_revisions_and_conflicts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let store = Embedded::open(&path).unwrap();
        let empty = store.load().await.unwrap();
        assert_eq!(empty.records, BTreeMap::new());
        let start = empty.revision;
        assert_eq!(store.commit(write(start, "a", Some("1"))).await, Ok(start + 1));
        assert_eq!(store.commit(write(start, "a", Some("2"))).await, Err(StoreError::Conflict(start + 1)));
        assert_eq!(store.commit(write(start + 1, "b", Some("2"))).await, Ok(start + 2));
        assert_eq!(store.commit(write(start + 2, "a", None)).await, Ok(start + 3));
        assert_eq!(store.open_epoch().await, Ok(start + 4));
        let record = Record { revision: start + 2, value: b"2".to_vec() };
        let expected = Snapshot { revision: start + 4, records: BTreeMap::from([("b".to_owned(), record)]) };
        assert_eq!(store.load().await.unwrap(), expected);
        let busy = Embedded::open(&path).unwrap_err().to_string();
        assert!(busy.contains("another controller uses it"), "{busy}");
        drop(store);
        assert_eq!(Embedded::open(&path).unwrap().load().await.unwrap(), expected);
    }

    #[tokio::test]
    async fn files_that_cannot_be_used_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, "this is no database").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = Embedded::open(&path).unwrap_err().to_string();
        assert!(error.contains("is it a store of"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"this is no database");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Embedded::open(&path).unwrap_err().to_string().contains("chmod 600"));
        let error = Embedded::open(&folder.path().join("none/s")).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }

    /// Turns every value into capitals.
    fn capitals(transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut records = transaction.open_table(RECORDS)?;
        let mut changed = Vec::new();
        for entry in records.iter()? {
            let (key, value) = entry?;
            let (revision, value) = value.value();
            changed.push((key.value().to_owned(), revision, value.to_ascii_uppercase()));
        }
        for (key, revision, value) in changed {
            records.insert(key.as_str(), (revision, value.as_slice()))?;
        }
        Ok(())
    }

    fn fails(transaction: &WriteTransaction) -> Result<(), redb::Error> {
        capitals(transaction)?;
        Err(redb::Error::Corrupted("on purpose".to_owned()))
    }

    #[tokio::test]
    async fn older_files_are_brought_up_whole_or_not_at_all_and_newer_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let first = Embedded::open_with(&path, &schema::STEPS[..1]).unwrap();
        let start = first.load().await.unwrap().revision;
        first.commit(write(start, "key", Some("value"))).await.unwrap();
        drop(first);
        let value = |snapshot: Snapshot| snapshot.records["key"].value.clone();

        let steps: &[Step] = &[schema::STEPS[0], fails];
        assert!(Embedded::open_with(&path, steps).unwrap_err().to_string().contains("on purpose"));
        let old = Embedded::open_with(&path, &schema::STEPS[..1]).unwrap();
        assert_eq!(value(old.load().await.unwrap()), b"value");
        drop(old);

        let steps: &[Step] = &[schema::STEPS[0], capitals];
        for _ in 0..2 {
            let new = Embedded::open_with(&path, steps).unwrap();
            assert_eq!(value(new.load().await.unwrap()), b"VALUE");
        }
        let error = Embedded::open_with(&path, &schema::STEPS[..1]).unwrap_err().to_string();
        assert!(error.contains("written by a newer cvsw") && error.contains("version 2"), "{error}");
    }
}
