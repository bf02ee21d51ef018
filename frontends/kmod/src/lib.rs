//! The engine for the Linux kernel module: one object without an allocator, without floating point and without
//! a path to a panic, called from the C shim in `module/`.
//!
//! ```text
//! module/*.c   netdev, skb, ethtool, netlink: moves bytes, no branch on packet contents
//! sys.rs       the functions that C calls: checks and turns pointers into references; all `unsafe` is there
//! vnic.rs      what those functions do, on top of the public face of `cvsw-core`
//! ```
//!
//! An engine has no lock of its own: the shim calls every function that takes one under the vNIC's spin lock.
#![no_std]

mod sys;
mod vnic;
