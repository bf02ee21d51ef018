//! The commands that need no network: one program, so that the helpers are compiled once.

#[macro_use]
mod common;
mod api;
mod bench;
mod completions;
mod flows;
mod keys;
mod program;
mod replay;
mod sim;
mod trace;
