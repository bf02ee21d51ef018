//! Where we differ from Open vSwitch on purpose: the whole list.

use crate::bridge::{Answer, Refusal};
use cvsw_core::{
    flow::{Action, Field, FlowKey, OfpError},
    trace::Effect,
};

/// A known difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// A frame that was looked up too often.
    ResubmitDepth,
    /// Byte counters of second look-ups.
    BytesAfterTag,
    /// Ports of SCTP and types of ICMP.
    PortsOfOthers,
    /// An error that Open vSwitch has no code for.
    CutMatch,
    /// Second look-ups of what is not there.
    ImaginedFields,
    /// Checksums "in" later fragments.
    LaterFragments,
    /// The DEI bit of a tag.
    DropEligible,
    /// The second of two tags.
    InnerTag,
    /// IP protocol 0.
    ProtocolZero,
    /// Matches that name only fields that do not count.
    EthernetOnly,
}

impl Known {
    /// All of them, in order of declaration.
    pub const ALL: [Self; 10] = [
        Self::ResubmitDepth,
        Self::BytesAfterTag,
        Self::PortsOfOthers,
        Self::CutMatch,
        Self::ImaginedFields,
        Self::LaterFragments,
        Self::DropEligible,
        Self::InnerTag,
        Self::ProtocolZero,
        Self::EthernetOnly,
    ];

    /// What differs, and why it stays so.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ResubmitDepth => {
                "a frame may be looked up 4 times (Open vSwitch: 64 levels), then it is dropped and counted: the work \
                 per frame in a vNIC has a small bound"
            }
            Self::BytesAfterTag => {
                "the byte counter of an entry that a resubmit led to counts the frame as it is then (Open vSwitch: as \
                 it arrived): behind a decapsulation only that makes sense"
            }
            Self::PortsOfOthers => {
                "set_tp_src and set_tp_dst change TCP and UDP only, as OpenFlow 1.0 says (Open vSwitch: also ports of \
                 SCTP, and type and code of ICMP)"
            }
            Self::CutMatch => {
                "an NXM match that is cut off is NXBRC_NXM_INVALID (Open vSwitch has a newer error in mind, and says \
                 NXBRC_UNENCODABLE_ERROR)"
            }
            Self::ImaginedFields => {
                "a second look-up sees the frame as it is (Open vSwitch: also what actions set in headers that a \
                 malformed frame does not have)"
            }
            Self::LaterFragments => {
                "set_nw_src and set_nw_dst leave the payload of later fragments alone (Open vSwitch 3.1 updates the \
                 checksum that it takes to be there, and so damages data)"
            }
            Self::InnerTag => {
                "after strip_vlan, the inner one of two tags is a tag, and what it carried is there, for the actions \
                 behind (Open vSwitch, unless its vlan-limit is raised, does not see it)"
            }
            Self::ProtocolZero => {
                "set_nw_src, set_nw_dst and set_nw_tos also change IPv4 packets of protocol 0 (Open vSwitch takes 0 \
                 for \"no IP header\")"
            }
            Self::EthernetOnly => {
                "a match none of whose fields has its prerequisites is the match of all frames (Open vSwitch 3.1 keeps \
                 \"is an Ethernet frame\", which it does not list, and so holds two entries that look alike)"
            }
            Self::DropEligible => {
                "set_vlan_vid and set_vlan_pcp keep the tag's DEI (CFI) bit, as OpenFlow 1.0 says (Open vSwitch clears \
                 it)"
            }
        }
    }
}

/// The difference that running `action` on a frame with these fields, and perhaps a DEI bit in a tag, brings.
pub fn of_action(action: &Action, effect: Effect, key: &FlowKey, drop_eligible: bool) -> Option<Known> {
    const LATER: u64 = 3;
    let protocol = key.get(Field::NwProto);
    match action {
        Action::SetTpSrc(_) | Action::SetTpDst(_) => {
            let other = effect == Effect::NotApplicable && matches!(protocol, 1 | 58 | 132);
            other.then_some(Known::PortsOfOthers)
        }
        Action::SetNwSrc(_) | Action::SetNwDst(_) | Action::SetNwTos(_)
            if effect == Effect::Applied && protocol == 0 =>
        {
            Some(Known::ProtocolZero)
        }
        Action::SetNwSrc(_) | Action::SetNwDst(_) => {
            let damaged = key.get(Field::NwFrag) == LATER && matches!(protocol, 6 | 17);
            damaged.then_some(Known::LaterFragments)
        }
        Action::SetVlanVid(_) | Action::SetVlanPcp(_) => drop_eligible.then_some(Known::DropEligible),
        _ => None,
    }
}

/// Whether two answers are the same, but for [`Known::CutMatch`].
pub fn same_answer(ours: Answer, theirs: Answer) -> bool {
    const UNENCODABLE: Refusal = Refusal { nicira: true, kind: 1, code: 521 };
    ours == theirs || ours == Err(Refusal::ours(OfpError::NxmInvalid)) && theirs == Err(UNENCODABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_them_all() {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let page = words(include_str!("../../docs/src/flow-table.md"));
        for known in Known::ALL {
            assert!(page.contains(&words(known.reason())), "not in docs/src/flow-table.md: {}", known.reason());
        }
    }
}
