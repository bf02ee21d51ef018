//! The checks, one file per question asked. Each takes the built laboratory and gives a finding, or says what is wrong.

pub mod control;
pub mod counters;
pub mod echo;
pub mod forgery;
pub mod isolation;
pub mod reach;
pub mod rotation;
pub mod switch;
pub mod throughput;
pub mod unikernel;
pub mod wire;
