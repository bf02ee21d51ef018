//! Work in another network namespace.

use rustix::{
    fs::{Mode, OFlags},
    thread::LinkNameSpaceType,
};
use std::{io, os::fd::AsFd, path::PathBuf};

/// Runs `work` in the network namespace `name` (as `ip netns` names it), or right here for `None`.
///
/// A thread of its own enters the namespace and ends afterwards; sockets and taps that it made stay there.
pub fn within<T: Send>(name: Option<&str>, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let Some(name) = name else { return work() };
    let path = PathBuf::from("/run/netns").join(name);
    let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
        let hint = format!("network namespace {}: {error}; `ip netns add {name}` makes it", path.display());
        io::Error::new(error.kind(), hint)
    })?;
    let in_thread = || {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(in_thread).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
