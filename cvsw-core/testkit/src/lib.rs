//! See the crate description.

pub mod fuzz;
pub mod model;
