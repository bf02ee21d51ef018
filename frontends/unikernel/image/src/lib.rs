//! A bare-metal image whose only network interface is a CVSW vNIC: virtio-net, the engine, smoltcp.
//!
//! ```text
//! app      HTTP status page, UDP and TCP echo
//! smoltcp  CvswInterface over CvswDevice (crate cvsw-smoltcp)
//! nic      virtio-net as a Nic: buffers of static memory move between rings and stack
//! sys      the machine: start-up, ports, interrupts, rings, and every line of unsafe code; the safe half of that is in
//!          clock, console, descriptors, devices, firmware, interrupts
//! ```
//!
//! There is no allocator. What needs no machine ([`config`], [`nic`], [`sys::Rings`]) is tested on the host.
#![no_std]

#[cfg(not(unix))]
mod app;
#[cfg(not(unix))]
mod clock;
pub mod config;
#[cfg(not(unix))]
pub mod console;
#[cfg(any(not(unix), test))]
mod descriptors;
#[cfg(not(unix))]
mod devices;
#[cfg(not(unix))]
mod firmware;
#[cfg(not(unix))]
mod interrupts;
pub mod keys;
pub mod nic;
pub mod page;
pub mod sys;
