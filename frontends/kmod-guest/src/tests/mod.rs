//! The tests, in the order in which they run.

mod traffic;

use anyhow::Result;

/// One test.
pub struct Test {
    /// Which runs it belongs to.
    pub group: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What to run.
    pub run: fn() -> Result<()>,
}

/// All of them. `functions`: behaviour, also with a slow checking allocator. `bulk`: much data.
pub const TESTS: &[Test] = &[
    Test { group: "functions", name: "pass_through", run: traffic::pass_through },
    Test { group: "bulk", name: "tcp_veth", run: traffic::tcp_veth },
    Test { group: "bulk", name: "tcp_virtio", run: traffic::tcp_virtio },
];
