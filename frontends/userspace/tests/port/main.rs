//! The port on real interfaces. Needs root; every test works in network namespaces of its own.

mod af_packet;
mod af_xdp;
mod files;
mod memory;
mod support;
mod tap;
mod vxlan;
