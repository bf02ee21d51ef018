//! See the crate description.

pub mod capture;
pub mod flows_file;
