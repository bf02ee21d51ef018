//! The tests, in the order in which they run.

mod traffic;

use anyhow::Result;

/// `(name, test)`.
pub const TESTS: &[(&str, fn() -> Result<()>)] = &[
    ("pass_through", traffic::pass_through),
    ("tcp_veth", traffic::tcp_veth),
    ("virtio", traffic::virtio),
];
