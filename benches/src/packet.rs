//! The frames of the workloads.

/// Addresses of a frame: Ethernet source and destination, IPv4 source and destination.
pub struct Ends {
    /// Ethernet source and destination.
    pub mac: [[u8; 6]; 2],
    /// IPv4 source and destination.
    pub ip: [[u8; 4]; 2],
}

/// Between VMs.
const INNER: Ends = Ends { mac: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]], ip: [[10, 0, 0, 1], [10, 0, 0, 2]] };
/// Between servers.
const OUTER: Ends = Ends { mac: [[2, 0, 0, 1, 0, 1], [2, 0, 0, 1, 0, 2]], ip: [[192, 0, 2, 1], [192, 0, 2, 2]] };

/// Offset of the Ethernet source's low four octets.
pub const MAC_OFFSET: usize = 8;
/// Offset of the UDP source port.
pub const PORT_OFFSET: usize = 14 + 20;
/// Length of the headers up to UDP.
pub const HEADERS: usize = 14 + 20 + 8;

/// A UDP frame of `size` bytes (42 at least) between VMs. It has a UDP checksum, as a frame of a VM has; since flow
/// numbers are patched into the source port, a wrong one.
pub fn udp_frame(size: usize) -> Vec<u8> {
    build(&INNER, 4000, size, 0x1234, &[])
}

/// The same inside VXLAN with id 42. The outer UDP checksum is 0, as RFC 7348 wants it.
pub fn vxlan_frame(size: usize) -> Vec<u8> {
    let payload = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &udp_frame(size)].concat();
    build(&OUTER, 4789, HEADERS + payload.len(), 0, &payload)
}

fn build(ends: &Ends, port: u16, size: usize, checksum: u16, payload: &[u8]) -> Vec<u8> {
    let [src_mac, dst_mac] = ends.mac;
    let [src, dst] = ends.ip;
    let mut frame = [&dst_mac[..], &src_mac, &[0x08, 0x00, 0x45, 0]].concat();
    frame.extend_from_slice(&((size - 14) as u16).to_be_bytes());
    frame.extend_from_slice(&[0, 1, 0x40, 0, 64, 17, 0, 0]);
    frame.extend_from_slice(&src);
    frame.extend_from_slice(&dst);
    let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let ip_checksum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    frame[24..26].copy_from_slice(&ip_checksum.to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&port.to_be_bytes());
    frame.extend_from_slice(&((size - 34) as u16).to_be_bytes());
    frame.extend_from_slice(&checksum.to_be_bytes());
    frame.extend_from_slice(payload);
    frame.resize(size, 0x5a);
    frame
}
