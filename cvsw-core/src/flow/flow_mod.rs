//! A change to the flow table, as data (OpenFlow 1.0 section 5.3.3, `OFPT_FLOW_MOD`).

use super::{action::ActionList, matching::Match};
use crate::time::Instant;

/// `ofp_flow_mod_command`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u16)]
pub enum Command {
    /// Add an entry, replacing an identical one.
    #[default]
    Add = 0,
    /// Change the actions of every entry that the match contains; as ADD if there is none.
    Modify = 1,
    /// Change the actions of the entry with exactly this match and priority; as ADD if there is none.
    ModifyStrict = 2,
    /// Remove every entry that the match contains.
    Delete = 3,
    /// Remove the entry with exactly this match and priority.
    DeleteStrict = 4,
}

/// Flag `OFPFF_SEND_FLOW_REM`: report the entry's removal.
pub const FLAG_SEND_FLOW_REM: u16 = 1;
/// Flag `OFPFF_CHECK_OVERLAP`: refuse an ADD that overlaps an entry of the same priority.
pub const FLAG_CHECK_OVERLAP: u16 = 2;
/// Flag `OFPFF_EMERG`: an emergency entry; not supported by a vNIC.
pub const FLAG_EMERG: u16 = 4;

/// Cookie of a command that leaves the cookies of entries that it changes as they are; a MODIFY with it adds
/// nothing (Open vSwitch's reading; what `ovs-ofctl mod-flows` sends without a cookie).
pub const KEEP_COOKIE: u64 = u64::MAX;

/// Default priority of `ovs-ofctl` and of `OFP_DEFAULT_PRIORITY`.
pub const DEFAULT_PRIORITY: u16 = 0x8000;

/// A flow-table change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlowMod {
    /// Which frames.
    pub matching: Match,
    /// The controller's opaque number.
    pub cookie: u64,
    /// What to do with the table.
    pub command: Command,
    /// Seconds without a frame after which the entry expires; 0: never.
    pub idle_timeout: u16,
    /// Seconds after insertion at which the entry expires; 0: never.
    pub hard_timeout: u16,
    /// Higher wins.
    pub priority: u16,
    /// `out_port` filter of DELETE commands; `OFPP_NONE`: no filter.
    pub out_port: u16,
    /// `OFPFF_*` bits.
    pub flags: u16,
    /// What to do with the frames.
    pub actions: ActionList,
}

impl Default for FlowMod {
    fn default() -> Self {
        Self {
            matching: Match::ANY,
            cookie: 0,
            command: Command::Add,
            idle_timeout: 0,
            hard_timeout: 0,
            priority: DEFAULT_PRIORITY,
            out_port: super::action::OFPP_NONE,
            flags: 0,
            actions: ActionList::new(),
        }
    }
}

/// A table entry, as listed.
#[derive(Clone, Debug)]
pub struct FlowEntry {
    /// The entry as the ADD that would create it.
    pub flow: FlowMod,
    /// Frames that it was applied to.
    pub packets: u64,
    /// Bytes of those frames, before its actions.
    pub bytes: u64,
    /// When it was added.
    pub created: Instant,
    /// When it was last applied (or added).
    pub last_used: Instant,
}
