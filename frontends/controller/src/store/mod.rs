//! Where desired state is kept: records under keys, changed by transactions that are whole or not at all.
//!
//! A store knows nothing of networks: it keeps bytes under keys, and counts. Each transaction that is committed gets the
//! next [`Revision`], and each record carries the revision that wrote it last. The latest revision when a controller
//! takes up its work, made higher for the purpose by [`Store::open_epoch`], is that controller's *epoch*: it is higher
//! than that of any controller which worked on this store before.
//!
//! The operations are the ones that etcd has as well (a transaction guarded by a revision, a range read at one
//! revision, a watch), so that a cluster fits behind the same trait. [`embedded`] keeps one file, [`etcd`] uses a cluster.

pub mod embedded;
pub mod etcd;
mod schema;

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin};

use tokio::sync::mpsc;

/// Number of a committed transaction. It only grows; 0 comes before all of them.
pub type Revision = u64;

/// What a store's operation gives, later.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Keeps desired state.
pub trait Store: fmt::Debug + Send + Sync {
    /// Everything, as of one revision.
    fn load(&self) -> Reply<'_, Snapshot>;

    /// Carries out a transaction if the store's revision is still `transaction.base`. When this returns, the change
    /// survives the end of the process and of the machine.
    fn commit(&self, transaction: Transaction) -> Reply<'_, Revision>;

    /// Makes the revision higher and returns it: the epoch of a controller that begins its work now.
    fn open_epoch(&self) -> Reply<'_, Revision>;

    /// Changes that *others* commit after revision `after`, in order. A store that only one process can open never
    /// has any.
    fn watch(&self, after: Revision) -> mpsc::Receiver<Change>;
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The transaction that wrote it.
    pub revision: Revision,
    /// Its content.
    pub value: Vec<u8>,
}

/// Everything that a store has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Of the latest transaction.
    pub revision: Revision,
    /// All records.
    pub records: BTreeMap<String, Record>,
}

/// Changes that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The revision that they were made for.
    pub base: Revision,
    /// Content per key; `None` removes the record.
    pub writes: BTreeMap<String, Option<Vec<u8>>>,
}

/// A transaction that somebody committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its revision.
    pub revision: Revision,
    /// Content per key; `None`: the record was removed.
    pub writes: BTreeMap<String, Option<Vec<u8>>>,
}

/// Why a store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Somebody else was quicker: the revision is this one by now.
    Conflict(Revision),
    /// The file, or the cluster, cannot be used: what failed, why, and what to do.
    Unusable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(revision) => {
                write!(f, "the desired state was changed in the meantime (it is at revision {revision})")
            }
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}
