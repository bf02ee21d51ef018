//! What the allocator can be asked for, and only in C: all `unsafe` of this crate.

/// Gives memory that was freed back to the system. Reading a configuration of many megabytes leaves about as many behind,
/// in holes that glibc's allocator keeps for itself.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim(3) takes a number of bytes and touches only what nobody has allocated; it may be called from any
    // thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
