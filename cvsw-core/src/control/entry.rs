//! An entry where it lies in the table: to be listed without a copy of its actions.

use crate::{
    apply::Program,
    flow::{Action, Command, FlowEntry, FlowMod, Match, OFPP_NONE, table::Entry},
    openflow::{EncodeError, Parts},
    time::Instant,
};

/// A table entry, as the ADD that would create it.
#[derive(Debug)]
pub struct TableEntry<'a> {
    matching: Match,
    entry: &'a Entry<Program>,
}

impl<'a> TableEntry<'a> {
    pub(crate) const fn new(matching: Match, entry: &'a Entry<Program>) -> Self {
        Self { matching, entry }
    }

    /// Frames that it was applied to.
    pub const fn packets(&self) -> u64 {
        self.entry.packets
    }

    /// Bytes of those frames, before its actions.
    pub const fn bytes(&self) -> u64 {
        self.entry.bytes
    }

    /// When it was added.
    pub const fn created(&self) -> Instant {
        self.entry.created
    }

    /// Writes the ADD, see [`crate::openflow::encode_flow_mod`]; returns its length.
    ///
    /// # Errors
    /// `NoRoom` if `out` is too small; an engine accepts no entry that is `Inexpressible`.
    pub fn encode(&self, xid: u32, out: &mut [u8]) -> Result<usize, EncodeError> {
        self.parts().encode(xid, out)
    }

    pub(super) fn parts(&self) -> Parts<'_, impl Iterator<Item = Action> + '_> {
        Parts {
            matching: &self.matching,
            cookie: self.entry.cookie,
            command: Command::Add,
            idle_timeout: self.entry.idle_timeout,
            hard_timeout: self.entry.hard_timeout,
            priority: self.entry.priority,
            out_port: OFPP_NONE,
            flags: self.entry.flags,
            actions: self.entry.payload.iter(),
        }
    }

    /// A copy.
    pub fn to_flow_entry(&self) -> FlowEntry {
        let Parts { command, idle_timeout, hard_timeout, priority, out_port, flags, cookie, .. } = self.parts();
        FlowEntry {
            flow: FlowMod {
                matching: self.matching,
                cookie,
                command,
                idle_timeout,
                hard_timeout,
                priority,
                out_port,
                flags,
                actions: self.entry.payload.actions(),
            },
            packets: self.entry.packets,
            bytes: self.entry.bytes,
            created: self.entry.created,
            last_used: self.entry.last_used,
        }
    }
}
