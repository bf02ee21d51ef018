//! L0: bytes to fields and back, one file per format. Imports nothing of ours.
//!
//! Every header file has the same skeleton: the constants of the format, one `Header` that is a
//! [`zerocopy`] view of the bytes on the wire (`Unaligned`, multi-byte fields big-endian), accessors for
//! what is packed inside a field, and tests against bytes written out by hand.

pub mod arp;
pub mod checksum;
pub mod control;
pub mod control3;
pub mod esp;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod openflow;
pub mod sa;
pub mod tcp;
pub mod udp;
pub mod vlan;
pub mod vxlan;
