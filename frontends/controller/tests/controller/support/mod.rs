//! A private Open vSwitch, vNICs that are real engines, and a controller, all on this machine's file system: nothing
//! here needs a network device, root, or a free TCP port.

#[path = "../../api_support/authority.rs"]
pub mod authority;
pub mod browser;
pub mod controller;
pub mod ovs;
pub mod post;
pub mod traffic;
pub mod vnic;
pub mod world;

use std::time::{Duration, Instant};

/// Longest time that any single expectation may take to come true: a browser's start alone has taken half a minute where many
/// others worked.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Polls until `probe` gives a value; fails with what `describe` says.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>, describe: impl FnOnce() -> String) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}\n{}", describe());
        // Not synchronisation: only the pace of looking.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a thread, and fails if it has panicked (unless the test has failed already: a second panic would abort
/// the whole run, and leave its processes behind).
pub fn join(thread: std::thread::JoinHandle<()>, what: &str) {
    let result = thread.join();
    assert!(result.is_ok() || std::thread::panicking(), "{what} has panicked");
}
