//! The OpenFlow 1.0 controller that manages CVSW vNICs through stock Open vSwitch.
//!
//! | module | concern |
//! |---|---|
//! | [`config`] | the TOML file, checked, with errors that name line, column and fix |
//! | [`mod@derive`] | which MTU, offloads and flows each vNIC should have |
//! | [`plan`] | the differences between that and what a vNIC is believed to have |
//! | [`keys`] | keys of encrypted networks: making, exchanging, delivering |
//! | [`state`] | the controller as a machine: OpenFlow and control messages in and out, no I/O, no clock |
//! | [`status`] | the machine's state as a document |
//! | [`server`] | sockets, signals, the clock, reloading |
//! | [`cli`] | the subcommands |
//!
//! Imports point up this list only: `cli` > `server` > `status` > `state` > `plan` > `derive` > `config`, with the one
//! exception that checking a configuration asks `derive` which flows an extra flow would collide with.

pub mod cli;
pub mod config;
pub mod derive;
pub mod keys;
mod mac;
pub mod plan;
pub mod server;
pub mod state;
pub mod status;

pub use mac::{Mac, NotAMac};
