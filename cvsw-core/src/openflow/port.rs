//! Ports of a virtual switch.

use crate::{
    flow::{MacAddr, OfpError},
    wire::openflow::PhyPort,
};
use zerocopy::{
    FromBytes,
    network_endian::{U16, U32},
};

/// Name of a port: up to 15 bytes, filled up with NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PortName(pub [u8; 16]);

impl PortName {
    /// A name; what does not fit is cut off.
    pub fn new(name: &str) -> Self {
        let mut bytes = [0; 16];
        let room = bytes.len().saturating_sub(1);
        bytes.iter_mut().take(room).zip(name.bytes()).for_each(|(to, from)| *to = from);
        Self(bytes)
    }

    /// The name up to its NUL; what follows a byte that is not UTF-8 is left out.
    pub fn as_str(&self) -> &str {
        let name = self.0.split(|&byte| byte == 0).next().unwrap_or_default();
        name.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }
}

/// A port (`ofp_phy_port`). Bit meanings are those of section 5.2.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Port {
    /// OpenFlow port number.
    pub number: u16,
    /// The port's own Ethernet address.
    pub mac: MacAddr,
    /// Name.
    pub name: PortName,
    /// `OFPPC_*`.
    pub config: u32,
    /// `OFPPS_*`.
    pub state: u32,
    /// Current features (`OFPPF_*`).
    pub current: u32,
    /// Advertised features.
    pub advertised: u32,
    /// Supported features.
    pub supported: u32,
    /// The peer's features.
    pub peer: u32,
}

impl Port {
    /// `OFPP_MAX`: physical ports are 1 to this.
    pub const MAX: u16 = 0xff00;
    /// `OFPP_LOCAL`.
    pub const LOCAL: u16 = 0xfffe;
    /// `OFPPC_PORT_DOWN` in `config`.
    pub const CONFIG_DOWN: u32 = 1;
    /// `OFPPS_LINK_DOWN` in `state`.
    pub const LINK_DOWN: u32 = 1;

    /// Whether the port is up by configuration and by link.
    pub const fn is_up(&self) -> bool {
        self.config & Self::CONFIG_DOWN == 0 && self.state & Self::LINK_DOWN == 0
    }

    pub(super) fn from_wire(port: &PhyPort) -> Self {
        Self {
            number: port.port_no.get(),
            mac: port.hw_addr,
            name: PortName(port.name),
            config: port.config.get(),
            state: port.state.get(),
            current: port.curr.get(),
            advertised: port.advertised.get(),
            supported: port.supported.get(),
            peer: port.peer.get(),
        }
    }

    pub(super) fn to_wire(self) -> PhyPort {
        PhyPort {
            port_no: U16::new(self.number),
            hw_addr: self.mac,
            name: self.name.0,
            config: U32::new(self.config),
            state: U32::new(self.state),
            curr: U32::new(self.current),
            advertised: U32::new(self.advertised),
            supported: U32::new(self.supported),
            peer: U32::new(self.peer),
        }
    }
}

/// The ports of a FEATURES_REPLY, still as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports<'a>(&'a [u8]);

impl<'a> Ports<'a> {
    /// Ports from their wire form.
    ///
    /// # Errors
    /// `BadLength` if it is not a whole number of 48-byte ports.
    pub fn new(bytes: &'a [u8]) -> Result<Self, OfpError> {
        if bytes.len().is_multiple_of(size_of::<PhyPort>()) { Ok(Self(bytes)) } else { Err(OfpError::BadLength) }
    }

    /// The wire form.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The ports.
    pub fn iter(&self) -> impl Iterator<Item = Port> + use<'a> {
        <[PhyPort]>::ref_from_bytes(self.0).unwrap_or_default().iter().map(Port::from_wire)
    }
}

/// `ofp_port_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum PortReason {
    /// The port was added.
    Add = 0,
    /// The port was removed.
    Delete = 1,
    /// The port changed.
    Modify = 2,
}

/// A change of a port (`OFPT_PORT_STATUS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PortStatus {
    /// What happened.
    pub reason: PortReason,
    /// The port.
    pub port: Port,
}
