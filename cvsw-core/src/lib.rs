//! The engine of CVSW, the Co-Virtual Switch: OpenFlow 1.0 match/action, VXLAN, encryption (ESP) and NIC parameters
//! inside a virtual NIC. `no_std`, no allocation, no `unsafe`, no clock, no I/O.
//!
//! The engine **decides and edits bytes**; a front-end (kernel module, userspace port, unikernel) **moves
//! bytes**. [`Cvsw`] is the engine; its module states the grammar of its calls.
//!
//! # A frame's path
//!
//! ```text
//! front-end rx -> Cvsw::process_burst(now, direction, frames, verdicts)
//!   control::guard   a control frame? from the network: control::session, Consumed; from the host: Drop
//!   parse            bytes -> Headers (offsets) + FlowKey
//!   flow::cache      exact match -> entry; else flow::table (tuple-space search)
//!   apply            the entry's compiled actions, in order, in place (tunnel/ for VXLAN and ESP, crypto for keys)
//!                    resubmit: parse and look up what is there now
//!   stats            counters, one reason per drop
//! -> Verdict -> front-end tx
//! ```
//!
//! # Layers
//!
//! A module imports only from its own layer or lower ones; `cargo xtask layers` checks it.
//!
//! | layer | modules | what |
//! |---|---|---|
//! | L0 | [`wire`] | bytes to fields and back, one file per format |
//! | L1 | [`key`], [`frame`], [`mtu`], [`time`], [`parse`] | the caller's buffer; frame to flow key |
//! | L2 | [`flow`], [`stats`], [`verdict`], [`trace`], [`crypto`] | pure data: matches, actions, table, counters; ciphers and security associations |
//! | L3 | [`tunnel`], [`apply`], [`segment`], [`fragment`], [`path_mtu`], [`openflow`], [`control`] | edits frames; speaks OpenFlow and the control protocol |
//! | L4 | [`cvsw`] | the engine |
//!
//! # Glossary
//!
//! - **host**: the VM's own network stack, above the vNIC. **network**: what is below it (a virtual switch).
//! - **transmit** ([`Direction::Tx`]): from the host to the network; **receive**: the other way.
//! - **entry**: a row of the flow table: match, priority, actions, counters, timeouts.
//! - **key**: the values of all matchable fields of one frame. **mask**: which bits of them an entry looks at.
//! - **tuple**: all entries with the same mask. **program**: an entry's actions, checked and compiled.
//! - **outer/inner**: the headers that a tunnel adds, and the frame inside.
//!
//! # Use
//!
//! ```
//! use cvsw_core::{Config, Cvsw, Frame, Instant, Verdict, flow::text::parse_flow, Direction};
//! use zerocopy::FromZeros;
//!
//! let mut cvsw: Box<Cvsw<256, 256, 32>> = Cvsw::new_box_zeroed().unwrap();
//! cvsw.init(&Config { mac: [2, 0, 0, 0, 0, 1], hash_seed: 0x5eed, ..Config::default() });
//! let flow = parse_flow("priority=10,in_port=HOST,arp,actions=drop").unwrap();
//! cvsw.flow_mod(Instant::ZERO, &flow).unwrap();
//!
//! let mut bytes = [0u8; 128 + 60];
//! bytes[128 + 12..128 + 14].copy_from_slice(&0x0806u16.to_be_bytes());
//! let mut frame = Frame::new(&mut bytes[..], 128, 60).unwrap();
//! let verdict = cvsw.process(Instant::ZERO, Direction::Tx, &mut frame);
//! assert_eq!(verdict, Verdict::Drop(cvsw_core::DropReason::Policy));
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod apply;
pub mod control;
pub mod crypto;
pub mod cvsw;
pub mod flow;
pub mod fragment;
pub mod frame;
pub mod key;
pub mod mtu;
pub mod openflow;
pub mod parse;
pub mod path_mtu;
pub mod segment;
pub mod stats;
pub mod time;
pub mod trace;
pub mod tunnel;
pub mod verdict;
pub mod wire;

pub use cvsw::{BURST, Config, Cvsw};
pub use flow::FlowEntry;
pub use frame::{BadOffload, Buffer, Checksum, Frame, Gso, GsoKind, NoRoom, Offload};
pub use key::Direction;
pub use stats::{ControlError, DropReason, Stats};
pub use time::Instant;
pub use tunnel::esp::association_of;
pub use verdict::Verdict;
