#![no_std]
#![forbid(unsafe_code)]
//! CVSW engine (skeleton).

#[cfg(test)]
extern crate std;

pub mod apply;
pub mod control;
pub mod cvsw;
pub mod flow;
pub mod frame;
pub mod key;
pub mod mtu;
pub mod openflow;
pub mod parse;
pub mod stats;
pub mod time;
pub mod trace;
pub mod tunnel;
pub mod verdict;
pub mod wire;

pub use cvsw::{BURST, Config, Cvsw, FlowEntry};
pub use frame::{BadOffload, Buffer, Checksum, Frame, Gso, GsoKind, NoRoom, Offload};
pub use stats::{ControlError, DropReason, Stats};
pub use time::Instant;
pub use verdict::Verdict;
