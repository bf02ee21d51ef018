//! See the crate description.

pub mod checksums;
pub mod fuzz;
pub mod hex;
pub mod model;
pub mod packet;
pub mod strategy;
