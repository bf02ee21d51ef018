//! See the crate description.

pub mod checksums;
pub mod ciphers;
pub mod ends;
pub mod esp;
pub mod flow;
pub mod fuzz;
pub mod hex;
pub mod model;
pub mod packet;
pub mod program;
pub mod strategy;
pub mod tshark;

/// Makes the Rust code in README.md a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
