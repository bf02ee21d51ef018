//! A store's process is killed, 200 times at random moments. What it had acknowledged is there afterwards, whole
//! transactions only, and the revision never goes back.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use cvsw_controller::store::{Snapshot, Store as _, Transaction, embedded::Embedded};

const KILLS: u64 = 200;
/// Longest life of a writer after its first acknowledgement.
const MAX_LIFE_MICROS: u64 = 12_000;
/// Keys that each transaction writes, all with the same value.
const KEYS: [&str; 3] = ["member/a/x", "network/a", "parameters"];
/// Argument that makes this program the writer.
const WRITER: &str = "--write-until-killed";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == WRITER) {
        Some(at) => write_until_killed(Path::new(&arguments[at + 1])),
        None => kill_repeatedly(),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Commits one transaction after the other and says each revision when it is acknowledged.
fn write_until_killed(path: &Path) {
    block_on(async {
        let store = Embedded::open(path).unwrap();
        let mut base = store.open_epoch().await.unwrap();
        let mut out = std::io::stdout();
        loop {
            let value = (base + 1).to_string().repeat(100).into_bytes();
            let writes = KEYS.iter().map(|key| ((*key).to_owned(), Some(value.clone()))).collect();
            base = store.commit(Transaction { base, writes }).await.unwrap();
            writeln!(out, "{base}").unwrap();
            out.flush().unwrap();
        }
    });
}

fn kill_repeatedly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    // xorshift64: the same moments in every run, as far as the machine allows.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut acknowledged, mut commits) = (0, 0);
    for kill in 1..=KILLS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let life = Duration::from_micros(random % MAX_LIFE_MICROS);
        let revisions = one_life(&path, life);
        commits += revisions.len();
        assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(revisions.first().is_none_or(|first| *first > acknowledged), "kill {kill}: a revision came twice");
        acknowledged = revisions.last().copied().unwrap_or(acknowledged);
        check(&path, acknowledged, kill);
    }
    assert!(commits > 100, "only {commits} commits: the writers were killed before they wrote");
    println!("{KILLS} kills, {commits} acknowledged commits, none lost");
}

/// Starts a writer, kills it some time after its first acknowledgement, and returns all acknowledged revisions.
fn one_life(path: &Path, life: Duration) -> Vec<u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut writer = command.arg(WRITER).arg(path).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let first = lines.next().expect("the writer works").unwrap();
    // The moment of the kill is the test's input, and not a wait for anything.
    std::thread::sleep(life);
    writer.kill().unwrap();
    writer.wait().unwrap();
    // The last line may be half written.
    let rest = lines.map_while(Result::ok).filter_map(|line| line.parse().ok());
    std::iter::once(first.parse().unwrap()).chain(rest).collect()
}

fn check(path: &Path, acknowledged: u64, kill: u64) {
    let Snapshot { revision, records } = block_on(async { Embedded::open(path).unwrap().load().await.unwrap() });
    assert!(revision >= acknowledged, "kill {kill}: revision {revision}, but {acknowledged} was acknowledged");
    let values: BTreeMap<_, _> = records.iter().map(|(key, record)| (key.as_str(), record)).collect();
    assert_eq!(values.keys().copied().collect::<Vec<_>>(), KEYS, "kill {kill}");
    let first = values[KEYS[0]];
    assert!(values.values().all(|record| *record == first), "kill {kill}: a transaction is there in part");
    assert!(first.revision >= acknowledged, "kill {kill}: {} is older than {acknowledged}", first.revision);
    assert_eq!(first.value, first.revision.to_string().repeat(100).into_bytes());
}
