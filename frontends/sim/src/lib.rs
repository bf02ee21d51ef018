//! Simulated switches and vNICs, many of them, to measure a controller with: `cvsw sim`.
//!
//! The controller under test is a process of its own, told nothing but its configuration. It sees real OpenFlow
//! connections on loopback. Behind each is a switch that does what Open vSwitch would do with the few messages that
//! matter here, and on its ports are vNICs: engines of `cvsw-core` with small tables, so the protocol is spoken by the
//! code that speaks it in a VM.
//!
//! | module | concern |
//! |---|---|
//! | [`layout`] | how many of everything, where, with which addresses; the configuration file that follows |
//! | [`vnic`] | one vNIC: an engine, and what the controller has set |
//! | [`switch`] | one switch: OpenFlow messages in, OpenFlow messages out, no I/O |
//! | [`fleet`] | all of them on their connections, in a thread of their own |
//! | [`process`] | the controller under test |
//! | [`scenario`] | what is done to it, and measured |
//! | [`etcd`], [`cluster`] | several controllers with one store, and what happens when one of them dies |
//! | [`ways`] | which keys encrypted vNICs use, and whether every receiver has them |
//! | [`report`] | the figures |
//! | [`cli`] | the subcommand |

pub mod cli;
pub mod cluster;
pub mod etcd;
pub mod fleet;
pub mod layout;
pub mod process;
pub mod report;
pub mod scenario;
pub mod switch;
pub mod vnic;
pub mod ways;
