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
    /// Errors that OpenFlow 1.0 has no code for.
    NiciraErrors,
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
    pub const ALL: [Self; 9] = [
        Self::ResubmitDepth,
        Self::BytesAfterTag,
        Self::PortsOfOthers,
        Self::NiciraErrors,
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
            Self::NiciraErrors => {
                "where OpenFlow 1.0 has no error code, the nearest one that it has (Open vSwitch: an error of Nicira's): \
                 unknown flags are OFPFMFC_UNSUPPORTED"
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

/// Nicira's error (type, code) and ours for the same.
const NEAREST: [((u16, u16), OfpError); 1] = [((3, 258), OfpError::Unsupported)];

/// Whether two answers are the same, but for errors that OpenFlow 1.0 has no code for.
pub fn same_answer(ours: Answer, theirs: Answer) -> bool {
    let theirs = theirs.map_err(|refusal| {
        let near = NEAREST.iter().find(|(nicira, _)| refusal.nicira && *nicira == (refusal.kind, refusal.code));
        near.map_or(refusal, |(_, error)| Refusal::openflow(error.wire()))
    });
    ours == theirs
}
