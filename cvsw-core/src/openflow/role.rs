//! Roles of several controllers at one switch: Open vSwitch's extension `NXT_ROLE_REQUEST` (its
//! `include/openflow/nicira-ext.h`), which travels in [`super::Message::Vendor`].

use crate::wire::openflow::VENDOR_NICIRA;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U32};

/// `NXT_ROLE_REQUEST`.
const ROLE_REQUEST: u32 = 10;
/// `NXT_ROLE_REPLY`.
const ROLE_REPLY: u32 = 11;

/// What a controller may do (`nx_role`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Role {
    /// Everything, as every controller at first.
    Other = 0,
    /// Everything, and it is the only one: the one that was it before becomes a slave.
    Master = 1,
    /// Only ask: the switch refuses changes and PACKET_OUTs, and sends no PACKET_INs.
    Slave = 2,
}

/// A message about roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RoleMessage {
    /// Whether it is the switch's answer; else it is a request.
    pub reply: bool,
    /// The role that is wanted, or in force.
    pub role: Role,
}

/// What follows the vendor id.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Body {
    subtype: U32,
    role: U32,
}

impl RoleMessage {
    /// Vendor id of [`super::Message::Vendor`].
    pub const VENDOR: u32 = VENDOR_NICIRA;

    /// The data of [`super::Message::Vendor`].
    pub fn to_bytes(self) -> [u8; 8] {
        let subtype = if self.reply { ROLE_REPLY } else { ROLE_REQUEST };
        let body = Body { subtype: U32::new(subtype), role: U32::new(self.role as u32) };
        zerocopy::transmute!(body)
    }

    /// Reads a vendor message; `None`: it is none about roles.
    pub fn read(vendor: u32, data: &[u8]) -> Option<Self> {
        let body = Body::read_from_bytes(data).ok().filter(|_| vendor == Self::VENDOR)?;
        let reply = match body.subtype.get() {
            ROLE_REQUEST => false,
            ROLE_REPLY => true,
            _ => return None,
        };
        let role =
            [Role::Other, Role::Master, Role::Slave].into_iter().find(|role| *role as u32 == body.role.get())?;
        Some(Self { reply, role })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may")]

    use super::*;
    use crate::openflow::Message;

    #[test]
    fn bytes_are_those_of_open_vswitch() {
        // As Open vSwitch's own test suite has it: tests/ofp-print.at, "NXT_ROLE_REQUEST".
        let expected = [
            0x01, 0x04, 0x00, 0x14, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x23, 0x20, 0x00, 0x00, 0x00, 0x0a, 0x00,
            0x00, 0x00, 0x01,
        ];
        let data = RoleMessage { reply: false, role: Role::Master }.to_bytes();
        let message = Message::Vendor { vendor: RoleMessage::VENDOR, data: &data };
        let mut out = [0; 64];
        let len = message.encode(2, &mut out).unwrap();
        assert_eq!(out.get(..len).unwrap(), expected);
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for role in [Role::Other, Role::Master, Role::Slave] {
            for reply in [false, true] {
                let message = RoleMessage { reply, role };
                assert_eq!(RoleMessage::read(RoleMessage::VENDOR, &message.to_bytes()), Some(message));
                assert_eq!(RoleMessage::read(1, &message.to_bytes()), None);
            }
        }
        for wrong in [&[][..], &[0, 0, 0, 10], &[0, 0, 0, 10, 0, 0, 0, 3], &[0, 0, 0, 12, 0, 0, 0, 1], &[0; 9]] {
            assert_eq!(RoleMessage::read(RoleMessage::VENDOR, wrong), None, "{wrong:?}");
        }
    }
}
