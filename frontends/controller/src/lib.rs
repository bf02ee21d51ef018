//! The OpenFlow 1.0 controller that manages CVSW vNICs through stock Open vSwitch.
//!
//! | module | concern |
//! |---|---|
//! | [`store`] | where desired state is kept |
//! | [`spec`] | desired state as it is written: networks, members, parameters |
//! | [`config`] | the TOML file, checked, with errors that name line, column and fix |
//! | [`mod@derive`] | which MTU, offloads and flows each vNIC should have |
//! | `window` | how much may be unanswered |
//! | `wheel` | what is due when |
//! | [`plan`] | the differences between that and what a vNIC is believed to have |
//! | [`keys`] | keys of encrypted networks: making, exchanging, delivering |
//! | [`state`] | the controller as a machine: OpenFlow and control messages in and out, no I/O, no clock |
//! | [`status`] | the machine's state as a document |
//! | [`events`] | what happens, as a stream |
//! | [`api`] | REST, metrics and the web page |
//! | [`client`] | the command line's side of the API |
//! | [`cluster`] | which switches are this controller's, where several share them |
//! | [`server`] | sockets, signals, the clock, reloading |
//! | [`cli`] | the subcommands |
//!
//! Imports point up this list only, with two exceptions: checking a configuration asks `derive` which flows an extra
//! flow would collide with, and `api` and
//! `cluster` know `server`, by which they are served, and it knows them.

pub mod api;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod derive;
pub mod events;
pub mod keys;
mod mac;
pub mod plan;
pub mod server;
pub mod spec;
pub mod state;
pub mod status;
pub mod store;
mod sys;
pub mod tls;
mod wheel;
mod window;

pub use mac::{Mac, NotAMac};
