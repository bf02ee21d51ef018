//! Which frames are control frames, so that none passes from a VM to the network or from a tunnel to a VM.

/// Where the control EtherType was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ControlKind {
    /// Right behind the addresses: a control frame.
    Plain,
    /// Behind one or two VLAN tags: never valid, but a switch that looks through tags would take it for one.
    Tagged,
}

const TPID_8021Q: [u8; 2] = [0x81, 0x00];
const TPID_8021AD: [u8; 2] = [0x88, 0xa8];

/// Whether a frame carries the control EtherType.
#[inline]
pub fn control_kind(frame: &[u8], ethertype: u16) -> Option<ControlKind> {
    let wanted = ethertype.to_be_bytes();
    let found = frame.get(12..14)?;
    if found == wanted {
        return Some(ControlKind::Plain);
    }
    if found != TPID_8021Q && found != TPID_8021AD {
        return None;
    }
    let second = frame.get(16..18)?;
    if second == wanted {
        return Some(ControlKind::Tagged);
    }
    if second != TPID_8021Q && second != TPID_8021AD {
        return None;
    }
    (frame.get(20..22)? == wanted).then_some(ControlKind::Tagged)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    use super::*;

    fn frame(types: &[u16]) -> std::vec::Vec<u8> {
        let mut bytes = std::vec![0u8; 12];
        for (index, kind) in types.iter().enumerate() {
            bytes.extend_from_slice(&kind.to_be_bytes());
            if index + 1 < types.len() {
                bytes.extend_from_slice(&[0, 7]);
            }
        }
        bytes
    }

    #[test]
    fn finds_the_type_behind_up_to_two_tags() {
        assert_eq!(control_kind(&frame(&[0xabba]), 0xabba), Some(ControlKind::Plain));
        assert_eq!(control_kind(&frame(&[0x8100, 0xabba]), 0xabba), Some(ControlKind::Tagged));
        assert_eq!(control_kind(&frame(&[0x88a8, 0x8100, 0xabba]), 0xabba), Some(ControlKind::Tagged));
        assert_eq!(control_kind(&frame(&[0x0800]), 0xabba), None);
        assert_eq!(control_kind(&frame(&[0x8100, 0x0800]), 0xabba), None);
        assert_eq!(control_kind(&frame(&[0x0800, 0xabba]), 0xabba), None);
        assert_eq!(control_kind(&frame(&[0xabba])[..13], 0xabba), None);
    }
}
