//! What a switch counts per port (`OFPST_PORT`, section 5.3.5).

use crate::{flow::OfpError, wire::openflow::OfpPortStats};
use zerocopy::{
    FromBytes, IntoBytes,
    network_endian::{U16, U64},
};

/// Counters of one port, as the switch sees it. One that the switch does not keep is `u64::MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PortStats {
    /// OpenFlow port number.
    pub port: u16,
    /// Packets received by the switch.
    pub rx_packets: u64,
    /// Packets sent by the switch.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped on receiving.
    pub rx_dropped: u64,
    /// Packets dropped on sending.
    pub tx_dropped: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Send errors.
    pub tx_errors: u64,
}

impl PortStats {
    /// Length of one port's entry in bytes.
    pub const LEN: usize = size_of::<OfpPortStats>();

    /// The entry as it stands in a reply.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let entry = OfpPortStats {
            port_no: U16::new(self.port),
            pad: [0; 6],
            rx_packets: U64::new(self.rx_packets),
            tx_packets: U64::new(self.tx_packets),
            rx_bytes: U64::new(self.rx_bytes),
            tx_bytes: U64::new(self.tx_bytes),
            rx_dropped: U64::new(self.rx_dropped),
            tx_dropped: U64::new(self.tx_dropped),
            rx_errors: U64::new(self.rx_errors),
            tx_errors: U64::new(self.tx_errors),
            rx_frame_err: U64::ZERO,
            rx_over_err: U64::ZERO,
            rx_crc_err: U64::ZERO,
            collisions: U64::ZERO,
        };
        let mut bytes = [0; Self::LEN];
        bytes.copy_from_slice(entry.as_bytes());
        bytes
    }

    fn from_wire(entry: &OfpPortStats) -> Self {
        Self {
            port: entry.port_no.get(),
            rx_packets: entry.rx_packets.get(),
            tx_packets: entry.tx_packets.get(),
            rx_bytes: entry.rx_bytes.get(),
            tx_bytes: entry.tx_bytes.get(),
            rx_dropped: entry.rx_dropped.get(),
            tx_dropped: entry.tx_dropped.get(),
            rx_errors: entry.rx_errors.get(),
            tx_errors: entry.tx_errors.get(),
        }
    }
}

/// The entries of a port statistics reply, still as bytes. Iterating ends after the first error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStatsEntries<'a>(pub &'a [u8]);

impl Iterator for PortStatsEntries<'_> {
    type Item = Result<PortStats, OfpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        match OfpPortStats::ref_from_prefix(self.0) {
            Ok((entry, rest)) => {
                self.0 = rest;
                Some(Ok(PortStats::from_wire(entry)))
            }
            Err(_) => {
                self.0 = &[];
                Some(Err(OfpError::BadLength))
            }
        }
    }
}
