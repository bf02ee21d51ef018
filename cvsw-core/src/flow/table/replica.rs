//! Copies of a table for other processors.

use super::FlowTable;
use zerocopy::FromZeros;

impl<P, const FLOWS: usize, const MASKS: usize> FlowTable<P, FLOWS, MASKS>
where
    P: Copy + FromZeros,
{
    /// Takes over what the entries of `replica`, which was made by [`FlowTable::follow`] and has not changed since,
    /// counted: it is 0 there afterwards.
    pub fn gather(&mut self, replica: &mut Self) {
        let touched = self.touched as usize;
        for (ours, theirs) in self.entries.iter_mut().zip(&mut replica.entries).take(touched) {
            ours.packets = ours.packets.wrapping_add(core::mem::take(&mut theirs.packets));
            ours.bytes = ours.bytes.wrapping_add(core::mem::take(&mut theirs.bytes));
            ours.last_used = ours.last_used.max(theirs.last_used);
        }
    }

    /// Makes this table like `first`, with counters of 0. Copies only what was ever in use.
    pub fn follow(&mut self, first: &Self) {
        let touched = first.touched as usize;
        for (ours, theirs) in self.entries.iter_mut().zip(&first.entries).take(touched) {
            *ours = *theirs;
            (ours.packets, ours.bytes) = (0, 0);
        }
        for (ours, theirs) in self.deadlines.iter_mut().zip(&first.deadlines).take(touched) {
            *ours = *theirs;
        }
        self.buckets = first.buckets;
        self.tuples = first.tuples;
        self.order = first.order;
        self.tuple_count = first.tuple_count;
        self.count = first.count;
        self.touched = first.touched;
        self.free = first.free;
        self.timed = first.timed;
        self.generation = first.generation;
        self.sequence = first.sequence;
        self.seed = first.seed;
    }
}
