//! What the control session reads of the engine.

use crate::{
    apply::Program,
    control::{
        TableEntry,
        v3::{Inside, ListedSa},
    },
    crypto::SaTable,
    flow::FlowTable,
    stats::Stats,
};

/// The engine, without its session.
pub(super) struct View<'a, const FLOWS: usize, const MASKS: usize, const SAS: usize> {
    pub(super) table: &'a FlowTable<Program, FLOWS, MASKS>,
    pub(super) stats: &'a Stats,
    pub(super) sas: &'a SaTable<SAS>,
}

impl<const FLOWS: usize, const MASKS: usize, const SAS: usize> Inside for View<'_, FLOWS, MASKS, SAS> {
    fn next_entry(&self, from: u32) -> Option<(u32, TableEntry<'_>)> {
        next_entry(self.table, from)
    }

    fn entries(&self) -> u32 {
        self.table.len() as u32
    }

    fn capacity(&self) -> u32 {
        FLOWS as u32
    }

    fn associations(&self) -> u32 {
        self.sas.iter().count() as u32
    }

    // Out of line, so that the whole of an association is in no other stack frame.
    #[inline(never)]
    fn association(&self, index: u32) -> Option<ListedSa> {
        self.sas.iter().nth(index as usize).map(|sa| ListedSa::from(&sa))
    }

    fn counter(&self, index: u32) -> Option<([&'static str; 2], u64)> {
        self.stats.counter(index as usize)
    }
}

/// The first entry at or behind index `from`, with the index to go on from.
pub(super) fn next_entry<const FLOWS: usize, const MASKS: usize>(
    table: &FlowTable<Program, FLOWS, MASKS>,
    from: u32,
) -> Option<(u32, TableEntry<'_>)> {
    let (id, entry) = table.next_from(from)?;
    Some((id.0.saturating_add(1), TableEntry::new(table.matching(entry), entry)))
}
