//! Workloads of the benchmarks, the same for the clock (criterion, `cvsw bench`) and for the instruction counter.
//!
//! A workload is one engine, one table and a burst of 32 frame buffers. Each step puts 32 fresh frames into the
//! buffers, gives them the next flow numbers, and hands them to the engine. What the fresh frames cost is measured
//! by the workload `restore` and not subtracted.

pub mod ciphers;
mod packet;
mod sys;
mod traffic;
mod workload;

pub use packet::udp_frame;
pub use sys::cycles;
pub use traffic::{Distribution, sequence};
pub use workload::{Kind, Load, Setup, entry, load};
