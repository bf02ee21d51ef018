//! A vNIC in userspace, in the manner of DPDK: a fixed pool of buffers, ports that receive and send bursts, and
//! one loop that runs every frame to completion through the engine.

pub mod af_packet;
pub mod af_xdp;
pub mod capture;
pub mod ciphers;
pub mod cli;
pub mod flows_file;
pub mod fragments;
pub mod mem;
pub mod netns;
pub mod offload;
pub mod pcap;
pub mod pool;
pub mod port;
mod report;
pub mod run;
pub mod sa_file;
pub mod sa_state;
pub mod spec;
pub mod stats;
mod super_frame;
mod sys;
pub mod tap;
mod vnet;
pub mod vnic;
