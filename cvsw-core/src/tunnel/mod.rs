//! Encapsulation templates and decapsulation.

pub mod ecn;
pub mod vxlan;
