//! Copies of a table for other processors.

use super::{SaTable, Use};
use crate::crypto::SaEventKind;
use zerocopy::FromZeros;

impl<const SAS: usize> SaTable<SAS> {
    /// Takes over what was counted and what happened at `replica`, which was made by [`SaTable::follow`] and has not been
    /// changed since: there is nothing of it there afterwards.
    pub fn gather(&mut self, replica: &mut Self) {
        let theirs = replica.tags.iter().zip(&mut replica.sas);
        for ((our_tag, ours), (tag, theirs)) in self.tags.iter().zip(&mut self.sas).zip(theirs) {
            if tag.use_ == Use::Free || tag != our_tag || ours.serial != theirs.serial {
                continue;
            }
            ours.counters.take(&mut theirs.counters);
            ours.sequence = ours.sequence.max(theirs.sequence);
            ours.highest = ours.highest.max(theirs.highest);
            let pending = core::mem::take(&mut theirs.pending);
            for kind in SaEventKind::ALL.into_iter().filter(|kind| pending & *kind as u8 != 0) {
                ours.raise(kind, &mut self.eventful);
            }
        }
        replica.eventful = 0;
    }

    /// Makes this table like `first`, with counters of 0, as far as `first` shares its associations
    /// ([`crate::crypto::Ciphers::shared`]). Those that it has for itself are not here.
    pub fn follow(&mut self, first: &Self) {
        if self.revision == first.revision {
            return;
        }
        let ours = self.tags.iter_mut().zip(&mut self.sas);
        for ((our_tag, ours), (tag, sa)) in ours.zip(first.tags.iter().zip(&first.sas)) {
            if tag.use_ == Use::Free || sa.serial == 0 {
                our_tag.zero();
                continue;
            }
            *our_tag = *tag;
            ours.clone_from(sa);
            ours.counters.zero();
            ours.pending = 0;
        }
        self.eventful = 0;
        self.generation = first.generation;
        self.revision = first.revision;
    }
}
