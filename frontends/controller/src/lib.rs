//! The OpenFlow 1.0 controller that manages CVSW vNICs through stock Open vSwitch.
//!
//! | module | concern |
//! |---|---|
//! | [`config`] | the TOML file, checked, with errors that name line, column and fix |
//! | [`derive`] | which MTU, offloads and flows each vNIC should have |

pub mod config;
pub mod derive;
mod mac;

pub use mac::{Mac, NotAMac};
