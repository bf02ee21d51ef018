//! Desired state in a real cluster of three etcd nodes.

use std::{collections::BTreeMap, process::Command, time::Duration};

use cvsw_controller::store::{
    Change, Store, StoreError, Transaction,
    etcd::{Etcd, TlsFiles},
};
use cvsw_sim::etcd::Etcd as Cluster;

/// Longest time for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn transaction(base: u64, writes: &[(&str, Option<&str>)]) -> Transaction {
    let write =
        |(key, value): &(&str, Option<&str>)| ((*key).to_owned(), value.map(|value| value.as_bytes().to_vec()));
    Transaction { base, writes: writes.iter().map(write).collect() }
}

fn open(cluster: &Cluster) -> Etcd {
    Etcd::new(&cluster.store(), &TlsFiles::default()).unwrap()
}

/// Runs a test in a runtime with a deadline.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") });
}

/// What the store answers as soon as the cluster has a leader.
async fn started(store: &Etcd) -> u64 {
    loop {
        match store.load().await {
            Ok(snapshot) => return snapshot.revision,
            Err(error) => println!("not yet: {error}"),
        }
    }
}

#[test]
fn one_of_two_changes_of_the_same_state_is_refused_and_both_are_told() {
    run(async {
        let cluster = Cluster::start().unwrap();
        let (one, two) = (open(&cluster), open(&cluster));
        let base = started(&one).await;
        assert_eq!(base, 0, "nobody has written anything");
        let first = one.commit(transaction(base, &[("a", Some("1")), ("b", Some("2"))])).await.unwrap();
        let refused = two.commit(transaction(base, &[("a", Some("3"))])).await;
        assert_eq!(refused, Err(StoreError::Conflict(first)));

        let snapshot = two.load().await.unwrap();
        assert_eq!((snapshot.revision, snapshot.records.len()), (first, 2));
        assert_eq!((snapshot.records["a"].value.as_slice(), snapshot.records["a"].revision), (&b"1"[..], first));
        let mut changes = one.watch(first);
        let second = two.commit(transaction(first, &[("a", None), ("c", Some("4"))])).await.unwrap();
        let epoch = one.open_epoch().await.unwrap();
        assert!(first < second && second < epoch);
        let writes = BTreeMap::from([("a".to_owned(), None), ("c".to_owned(), Some(b"4".to_vec()))]);
        assert_eq!(changes.recv().await, Some(Change { revision: second, writes }));
        assert_eq!(changes.recv().await, Some(Change { revision: epoch, writes: BTreeMap::new() }));
    });
}

#[test]
fn a_watch_that_comes_after_a_compaction_tells_everything() {
    run(async {
        let cluster = Cluster::start().unwrap();
        let (one, two) = (open(&cluster), open(&cluster));
        started(&one).await;
        let seen = one.commit(transaction(0, &[("gone", Some("1")), ("stays", Some("2"))])).await.unwrap();
        assert_eq!(one.load().await.unwrap().revision, seen);
        let now = two.commit(transaction(seen, &[("gone", None), ("new", Some("3"))])).await.unwrap();
        let now = two.commit(transaction(now, &[("stays", Some("4"))])).await.unwrap();
        let endpoints = cluster.store().trim_start_matches("etcd://").to_owned();
        let compact = Command::new("etcdctl")
            .args(["--endpoints", &endpoints, "compact", &now.to_string()])
            .env("ETCDCTL_API", "3")
            .output()
            .unwrap();
        assert!(compact.status.success(), "{}", String::from_utf8_lossy(&compact.stderr));

        let mut changes = one.watch(seen);
        let change = changes.recv().await.unwrap();
        let value = |text: &str| Some(text.as_bytes().to_vec());
        let writes = [("gone", None), ("new", value("3")), ("stays", value("4"))];
        let writes = writes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        assert_eq!(change, Change { revision: now, writes });
        let later = two.commit(transaction(now, &[("new", Some("5"))])).await.unwrap();
        assert_eq!(changes.recv().await.map(|change| change.revision), Some(later), "and it goes on");
    });
}

#[test]
fn a_large_first_import_is_whole_and_the_leader_may_die() {
    run(async {
        let mut cluster = Cluster::start().unwrap();
        let store = open(&cluster);
        started(&store).await;
        let keys: Vec<_> = (0..1000).map(|number| format!("key{number}")).collect();
        let writes: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("value"))).collect();
        let revision = store.commit(transaction(0, &writes)).await.unwrap();
        let snapshot = store.load().await.unwrap();
        assert_eq!((snapshot.revision, snapshot.records.len()), (revision, 1000));
        let error = store.commit(transaction(revision, &writes)).await.unwrap_err().to_string();
        assert!(error.contains("in parts"), "{error}");

        let mut changes = store.watch(revision);
        cluster.kill_leader().unwrap();
        let after = loop {
            match store.commit(transaction(revision, &[("key0", None)])).await {
                Ok(after) => break after,
                Err(StoreError::Conflict(after)) => break after,
                Err(error) => println!("not yet: {error}"),
            }
        };
        let writes = BTreeMap::from([("key0".to_owned(), None)]);
        assert_eq!(changes.recv().await, Some(Change { revision: after, writes }));
        assert_eq!(store.load().await.unwrap().records.len(), 999);
    });
}
