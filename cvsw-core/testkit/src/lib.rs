//! See the crate description.

pub mod model;
