//! Changes of the table. Each either happens completely or not at all.

use super::{Entry, FlowId, FlowTable, Tuple, filter_bit, tuple_hash};
use crate::{
    flow::{FLAG_CHECK_OVERLAP, FLAG_EMERG, FlowMod, KEEP_COOKIE, Match, OFPP_NONE, OfpError, hash::hash_key},
    time::Instant,
};
use zerocopy::FromZeros;

impl<P, const FLOWS: usize, const MASKS: usize> FlowTable<P, FLOWS, MASKS>
where
    P: Copy + FromZeros,
{
    /// `OFPFC_ADD`: adds an entry; an entry with the same match and priority is replaced and its counters
    /// start again (OpenFlow 1.0 section 4.6).
    ///
    /// Errors: `Overlap`, `TableFull` (no free entry, or no room for another mask), and for emergency
    /// entries, which a vNIC does not have, `BadEmergTimeout` or `TableFull`.
    #[inline(never)] // into the stack frame of whoever compiles the actions, as `rewrite_all`
    pub fn add(&mut self, now: Instant, flow: &FlowMod, payload: &P) -> Result<(), OfpError> {
        if flow.flags & FLAG_EMERG != 0 {
            let timed = flow.idle_timeout != 0 || flow.hard_timeout != 0;
            return Err(if timed { OfpError::BadEmergTimeout } else { OfpError::TableFull });
        }
        if flow.flags & FLAG_CHECK_OVERLAP != 0 && self.overlaps(flow) {
            return Err(OfpError::Overlap);
        }
        let (id, cookie) = match self.find(&flow.matching, flow.priority) {
            Some(id) if flow.cookie == KEEP_COOKIE => (id, self.get(id).map_or(KEEP_COOKIE, |entry| entry.cookie)),
            Some(id) => (id, flow.cookie),
            None => (self.insert(&flow.matching, flow.priority)?, flow.cookie),
        };
        self.fill(id, now, flow, cookie, payload);
        Ok(())
    }

    /// `OFPFC_MODIFY`: gives every entry that the match contains new actions and the new cookie; counters, flags
    /// and timeouts stay. Adds an entry if there is none. The cookie [`KEEP_COOKIE`] means something else.
    pub fn modify(&mut self, now: Instant, flow: &FlowMod, payload: &P) -> Result<(), OfpError> {
        let changed = self.rewrite_all(flow, payload);
        if changed || flow.cookie == KEEP_COOKIE { Ok(()) } else { self.add(now, flow, payload) }
    }

    /// Rewrites every entry that the match contains; whether there is one.
    #[inline(never)]
    fn rewrite_all(&mut self, flow: &FlowMod, payload: &P) -> bool {
        let mut changed = false;
        let mut from = 0;
        while let Some((id, entry)) = self.next_from(from) {
            from = id.0.wrapping_add(1);
            if flow.matching.contains(&self.matching(entry)) {
                self.rewrite(id, flow, payload);
                changed = true;
            }
        }
        changed
    }

    /// `OFPFC_MODIFY_STRICT`: the same for the one entry with exactly this match and priority.
    pub fn modify_strict(&mut self, now: Instant, flow: &FlowMod, payload: &P) -> Result<(), OfpError> {
        match self.find(&flow.matching, flow.priority) {
            Some(id) => {
                self.rewrite(id, flow, payload);
                Ok(())
            }
            None if flow.cookie == KEEP_COOKIE => Ok(()),
            None => self.add(now, flow, payload),
        }
    }

    /// `OFPFC_DELETE`: removes every entry that the match contains. `removed` sees each just before it goes.
    pub fn delete(&mut self, flow: &FlowMod, mut removed: impl FnMut(&Match, &Entry<P>)) {
        if !Self::may_output_to(flow.out_port) {
            return;
        }
        let mut from = 0;
        while let Some((id, entry)) = self.next_from(from) {
            from = id.0.wrapping_add(1);
            let matching = self.matching(entry);
            if flow.matching.contains(&matching) {
                removed(&matching, entry);
                self.remove(id);
            }
        }
    }

    /// `OFPFC_DELETE_STRICT`: removes the entry with exactly this match and priority.
    pub fn delete_strict(&mut self, flow: &FlowMod, removed: impl FnOnce(&Match, &Entry<P>)) {
        if !Self::may_output_to(flow.out_port) {
            return;
        }
        if let Some(id) = self.find(&flow.matching, flow.priority) {
            if let Some(entry) = self.get(id) {
                removed(&flow.matching, entry);
            }
            self.remove(id);
        }
    }

    /// The `out_port` filter: no entry of a vNIC outputs to a port, so a filter on one selects nothing.
    const fn may_output_to(out_port: u16) -> bool {
        out_port == OFPP_NONE
    }

    /// The entry with exactly this match and priority.
    fn find(&self, matching: &Match, priority: u16) -> Option<FlowId> {
        let tuple = self.tuple_of(matching)?;
        let hash = tuple_hash(hash_key(self.seed, matching.value()), tuple);
        let (first, mut id) = self.probe(tuple, hash, |value| value == matching.value(), || {})?;
        let mut entry = first;
        loop {
            let same = entry.tuple == tuple && entry.hash == hash && entry.value == *matching.value();
            if same && entry.priority == priority {
                return Some(id);
            }
            id = FlowId(entry.next.checked_sub(1)?);
            entry = self.entries.get(id.index())?;
        }
    }

    /// Whether an entry of the same priority could match the same frame. An identical one does not count: it is
    /// about to be replaced, and whatever it overlaps was accepted before (so decides Open vSwitch).
    fn overlaps(&self, flow: &FlowMod) -> bool {
        self.find(&flow.matching, flow.priority).is_none()
            && self
                .iter()
                .any(|(_, entry)| entry.priority == flow.priority && self.matching(entry).overlaps(&flow.matching))
    }

    fn tuple_of(&self, matching: &Match) -> Option<u16> {
        self.order
            .iter()
            .take(self.tuple_count as usize)
            .copied()
            .find(|index| self.tuples.get(usize::from(*index)).is_some_and(|tuple| tuple.mask == *matching.mask()))
    }

    /// Links a blank entry for `matching` and `priority` into the table.
    fn insert(&mut self, matching: &Match, priority: u16) -> Result<FlowId, OfpError> {
        if self.count as usize >= FLOWS {
            return Err(OfpError::TableFull);
        }
        let tuple = match self.tuple_of(matching) {
            Some(tuple) => tuple,
            None => self.insert_tuple(matching)?,
        };
        let id = self.allocate().ok_or(OfpError::TableFull)?;
        let hash = tuple_hash(hash_key(self.seed, matching.value()), tuple);
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(entry) = self.entries.get_mut(id.index()) {
            entry.hash = hash;
            entry.value = *matching.value();
            entry.tuple = tuple;
            entry.priority = priority;
            entry.sequence = self.sequence;
            entry.in_use = 1;
        }
        self.link(id, hash);
        self.count = self.count.wrapping_add(1);
        self.tuple_gains(tuple, priority);
        Ok(id)
    }

    /// Writes the attributes of a (new or replaced) entry.
    fn fill(&mut self, id: FlowId, now: Instant, flow: &FlowMod, cookie: u64, payload: &P) {
        self.set_timed(id, false);
        if let Some(entry) = self.entries.get_mut(id.index()) {
            entry.packets = 0;
            entry.bytes = 0;
            entry.created = now;
            entry.last_used = now;
            entry.cookie = cookie;
            entry.idle_timeout = flow.idle_timeout;
            entry.hard_timeout = flow.hard_timeout;
            entry.flags = flow.flags;
            entry.payload = *payload;
        }
        self.set_timed(id, true);
        self.generation = self.generation.wrapping_add(1);
    }

    fn rewrite(&mut self, id: FlowId, flow: &FlowMod, payload: &P) {
        if let Some(entry) = self.entries.get_mut(id.index()) {
            if flow.cookie != KEEP_COOKIE {
                entry.cookie = flow.cookie;
            }
            entry.payload = *payload;
        }
        self.generation = self.generation.wrapping_add(1);
    }

    /// Unlinks an entry and frees it.
    pub(super) fn remove(&mut self, id: FlowId) {
        let Some(entry) = self.get(id) else { return };
        let (hash, tuple) = (entry.hash, entry.tuple);
        self.set_timed(id, false);
        self.unlink(id, hash);
        if let Some(entry) = self.entries.get_mut(id.index()) {
            entry.in_use = 0;
            entry.next = self.free;
            self.free = id.0.wrapping_add(1);
        }
        self.count = self.count.wrapping_sub(1);
        self.generation = self.generation.wrapping_add(1);
        self.tuple_loses(tuple);
    }

    fn allocate(&mut self) -> Option<FlowId> {
        if let Some(index) = self.free.checked_sub(1) {
            self.free = self.entries.get(index as usize)?.next;
            return Some(FlowId(index));
        }
        let index = self.touched;
        if index as usize >= FLOWS {
            return None;
        }
        self.touched = index.wrapping_add(1);
        Some(FlowId(index))
    }

    /// Puts an entry into its chain: before the first one of the same match with a lower priority, so that a
    /// probe meets equal matches in order of priority; else at the end.
    fn link(&mut self, id: FlowId, hash: u64) {
        let Some(new) = self.entries.get(id.index()).copied() else { return };
        let Some(bucket) = self.buckets.get_mut(Self::bucket_index(hash)) else { return };
        bucket.filter |= filter_bit(hash);
        let mut before: Option<FlowId> = None;
        let mut link = bucket.head;
        while let Some(index) = link.checked_sub(1) {
            let Some(entry) = self.entries.get(index as usize) else { break };
            if entry.tuple == new.tuple && entry.value == new.value && entry.priority < new.priority {
                break;
            }
            before = Some(FlowId(index));
            link = entry.next;
        }
        if let Some(entry) = self.entries.get_mut(id.index()) {
            entry.next = link;
        }
        self.set_next(before, hash, id.0.wrapping_add(1));
    }

    fn unlink(&mut self, id: FlowId, hash: u64) {
        let Some(head) = self.buckets.get(Self::bucket_index(hash)).map(|bucket| bucket.head) else { return };
        let mut before: Option<FlowId> = None;
        let mut link = head;
        let mut filter = 0;
        let mut found = None;
        while let Some(index) = link.checked_sub(1) {
            let Some(entry) = self.entries.get(index as usize) else { break };
            link = entry.next;
            if index == id.0 {
                found = Some((before, entry.next));
            } else {
                filter |= filter_bit(entry.hash);
                before = Some(FlowId(index));
            }
        }
        if let Some((before, next)) = found {
            self.set_next(before, hash, next);
        }
        if let Some(bucket) = self.buckets.get_mut(Self::bucket_index(hash)) {
            bucket.filter = filter;
        }
    }

    /// Sets the link that leads from `before` (or from the bucket of `hash`).
    fn set_next(&mut self, before: Option<FlowId>, hash: u64, link: u32) {
        match before {
            Some(before) => {
                if let Some(entry) = self.entries.get_mut(before.index()) {
                    entry.next = link;
                }
            }
            None => {
                if let Some(bucket) = self.buckets.get_mut(Self::bucket_index(hash)) {
                    bucket.head = link;
                }
            }
        }
    }

    /// A new tuple at the end of the order. It has no entry yet: the caller adds one.
    fn insert_tuple(&mut self, matching: &Match) -> Result<u16, OfpError> {
        let index = self.tuples.iter().position(|tuple| tuple.count == 0).ok_or(OfpError::TableFull)?;
        let tuple = self.tuples.get_mut(index).ok_or(OfpError::TableFull)?;
        *tuple =
            Tuple { mask: *matching.mask(), count: 0, max_priority: 0, wide: u16::from(matching.mask().is_wide()) };
        let index = index as u16;
        if let Some(last) = self.order.get_mut(self.tuple_count as usize) {
            *last = index;
        }
        self.tuple_count = self.tuple_count.wrapping_add(1);
        Ok(index)
    }

    fn tuple_gains(&mut self, index: u16, priority: u16) {
        if let Some(tuple) = self.tuples.get_mut(usize::from(index)) {
            tuple.count = tuple.count.wrapping_add(1);
            if tuple.count == 1 || priority > tuple.max_priority {
                tuple.max_priority = priority;
            }
        }
        self.sort_tuples();
    }

    fn tuple_loses(&mut self, index: u16) {
        let Some(tuple) = self.tuples.get_mut(usize::from(index)) else { return };
        tuple.count = tuple.count.wrapping_sub(1);
        if tuple.count > 0 {
            return;
        }
        let used = self.order.get_mut(..self.tuple_count as usize).unwrap_or_default();
        if let Some(position) = used.iter().position(|other| *other == index) {
            used.get_mut(position..).unwrap_or_default().rotate_left(1);
            self.tuple_count = self.tuple_count.wrapping_sub(1);
        }
    }

    /// At most one tuple is out of place, so this insertion sort is one pass.
    fn sort_tuples(&mut self) {
        let Self { order, tuples, tuple_count, .. } = self;
        let used = order.get_mut(..*tuple_count as usize).unwrap_or_default();
        let priority = |index: u16| tuples.get(usize::from(index)).map_or(0, |tuple| tuple.max_priority);
        for end in 1..used.len() {
            let mut at = end;
            while let Some([left, right]) = at.checked_sub(1).and_then(|left| used.get_mut(left..=at)) {
                if priority(*left) >= priority(*right) {
                    break;
                }
                core::mem::swap(left, right);
                at = at.wrapping_sub(1);
            }
        }
    }
}
