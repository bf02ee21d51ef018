//! The engine for the Linux kernel module: one object without an allocator, without floating point and without
//! a path to a panic, called from the C shim in `module/`.
//!
//! ```text
//! module/*.c    netdev, skb, crypto API, ethtool, netlink: moves bytes, no branch on packet contents
//! sys.rs        the functions that C calls: checks and turns pointers into references; all `unsafe` is there
//! vnic.rs       what those functions do, on top of the public face of `cvsw-core`
//! sa.rs         the same for security associations
//! ciphers.rs    the kernel's ciphers for the engine, and the portable ones behind them
//! selftest.rs   known answers, before the module does anything else
//! ```
//!
//! An engine has no lock of its own: the shim calls every function that takes one under the vNIC's spin lock.
#![no_std]

mod ciphers;
mod sa;
mod selftest;
mod sys;
mod vnic;
