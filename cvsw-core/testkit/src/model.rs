//! The naive flow table: a list, searched from end to end. Slow and obviously right; the judge of the real one.

use cvsw_core::{
    Instant,
    flow::{
        ActionList, Command, FLAG_CHECK_OVERLAP, FLAG_EMERG, FlowMod, FlowTable, KEEP_COOKIE, OFPP_NONE, OfpError,
    },
    key::FlowKey,
};

/// One entry of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// The entry as the ADD that would create it.
    pub flow: FlowMod,
    /// Frames.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// When it was added.
    pub created: Instant,
    /// When it was last used.
    pub last_used: Instant,
}

/// The model: entries in order of insertion, a limit on their number and on the number of distinct masks.
#[derive(Clone, Debug)]
pub struct Model {
    entries: Vec<ModelEntry>,
    flows: usize,
    masks: usize,
}

impl Model {
    /// An empty table for `flows` entries under `masks` masks.
    pub const fn new(flows: usize, masks: usize) -> Self {
        Self { entries: Vec::new(), flows, masks }
    }

    /// The entries, in order of insertion.
    pub fn entries(&self) -> &[ModelEntry] {
        &self.entries
    }

    /// The entry that applies to a frame with `key`.
    pub fn lookup(&self, key: &FlowKey) -> Option<&ModelEntry> {
        let mut best: Option<&ModelEntry> = None;
        for entry in &self.entries {
            let better = best.is_none_or(|best| entry.flow.priority > best.flow.priority);
            if entry.flow.matching.covers(key) && better {
                best = Some(entry);
            }
        }
        best
    }

    /// Counts a frame for the entry that applies to it.
    pub fn hit(&mut self, key: &FlowKey, now: Instant, bytes: u64) {
        if let Some(flow) = self.lookup(key).map(|entry| entry.flow.clone())
            && let Some(entry) = self.exact(&flow)
        {
            entry.packets += 1;
            entry.bytes += bytes;
            entry.last_used = now;
        }
    }

    /// Carries out a change.
    pub fn apply(&mut self, now: Instant, change: &FlowMod) -> Result<(), OfpError> {
        match change.command {
            Command::Add => self.add(now, change),
            Command::Modify => {
                let mut any = false;
                for entry in self.entries.iter_mut().filter(|entry| change.matching.contains(&entry.flow.matching))
                {
                    rewrite(entry, change);
                    any = true;
                }
                if any || change.cookie == KEEP_COOKIE { Ok(()) } else { self.add(now, change) }
            }
            Command::ModifyStrict => match self.exact(change) {
                Some(entry) => {
                    rewrite(entry, change);
                    Ok(())
                }
                None if change.cookie == KEEP_COOKIE => Ok(()),
                None => self.add(now, change),
            },
            Command::Delete => {
                if change.out_port == OFPP_NONE {
                    self.entries.retain(|entry| !change.matching.contains(&entry.flow.matching));
                }
                Ok(())
            }
            Command::DeleteStrict => {
                if change.out_port == OFPP_NONE {
                    self.entries.retain(|entry| !same(&entry.flow, change));
                }
                Ok(())
            }
        }
    }

    /// Removes what has timed out.
    pub fn expire(&mut self, now: Instant) {
        let over = |since: Instant, timeout: u16| timeout != 0 && now.secs_since(since) >= u64::from(timeout);
        self.entries.retain(|entry| {
            !over(entry.created, entry.flow.hard_timeout) && !over(entry.last_used, entry.flow.idle_timeout)
        });
    }

    fn exact(&mut self, flow: &FlowMod) -> Option<&mut ModelEntry> {
        self.entries.iter_mut().find(|entry| same(&entry.flow, flow))
    }

    fn add(&mut self, now: Instant, change: &FlowMod) -> Result<(), OfpError> {
        if change.flags & FLAG_EMERG != 0 {
            let timed = change.idle_timeout != 0 || change.hard_timeout != 0;
            return Err(if timed { OfpError::BadEmergTimeout } else { OfpError::TableFull });
        }
        let replaces = self.exact(change).is_some();
        let overlaps = |entry: &ModelEntry| {
            !replaces && entry.flow.priority == change.priority && entry.flow.matching.overlaps(&change.matching)
        };
        if change.flags & FLAG_CHECK_OVERLAP != 0 && self.entries.iter().any(overlaps) {
            return Err(OfpError::Overlap);
        }
        let flow = FlowMod { command: Command::Add, out_port: OFPP_NONE, ..change.clone() };
        let new = ModelEntry { flow, packets: 0, bytes: 0, created: now, last_used: now };
        if let Some(entry) = self.exact(change) {
            let old_cookie = std::mem::replace(entry, new).flow.cookie;
            if change.cookie == KEEP_COOKIE {
                entry.flow.cookie = old_cookie;
            }
            return Ok(());
        }
        let mut masks: Vec<_> = self.entries.iter().map(|entry| *entry.flow.matching.mask()).collect();
        masks.push(*change.matching.mask());
        masks.sort_by_key(|mask| *mask.words());
        masks.dedup();
        if self.entries.len() >= self.flows || masks.len() > self.masks {
            return Err(OfpError::TableFull);
        }
        self.entries.push(new);
        Ok(())
    }
}

fn rewrite(entry: &mut ModelEntry, change: &FlowMod) {
    entry.flow.actions = change.actions.clone();
    if change.cookie != KEEP_COOKIE {
        entry.flow.cookie = change.cookie;
    }
}

fn same(a: &FlowMod, b: &FlowMod) -> bool {
    a.matching == b.matching && a.priority == b.priority
}

/// Applies `change` to a real table whose payload is a number.
pub fn apply_to_table<const FLOWS: usize, const MASKS: usize>(
    table: &mut FlowTable<u64, FLOWS, MASKS>,
    now: Instant,
    change: &FlowMod,
) -> Result<(), OfpError> {
    let payload = payload_of(&change.actions);
    match change.command {
        Command::Add => table.add(now, change, &payload),
        Command::Modify => table.modify(now, change, &payload),
        Command::ModifyStrict => table.modify_strict(now, change, &payload),
        Command::Delete => {
            table.delete(change, |_, _| {});
            Ok(())
        }
        Command::DeleteStrict => {
            table.delete_strict(change, |_, _| {});
            Ok(())
        }
    }
}

/// A number that stands for an action list.
pub fn payload_of(actions: &ActionList) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    actions.as_slice().hash(&mut hasher);
    hasher.finish()
}

/// Compares a real table with the model, entry by entry; the error names the first difference.
pub fn compare<const FLOWS: usize, const MASKS: usize>(
    table: &FlowTable<u64, FLOWS, MASKS>,
    model: &Model,
) -> Result<(), String> {
    if table.len() != model.entries.len() || table.iter().count() != model.entries.len() {
        return Err(format!("{} entries, the model has {}", table.len(), model.entries.len()));
    }
    for want in &model.entries {
        let found = table
            .iter()
            .find(|(_, entry)| entry.priority == want.flow.priority && table.matching(entry) == want.flow.matching);
        let Some((_, got)) = found else { return Err(format!("missing: {want:?}")) };
        let equal = got.packets == want.packets
            && got.bytes == want.bytes
            && got.cookie == want.flow.cookie
            && got.created == want.created
            && got.last_used == want.last_used
            && got.idle_timeout == want.flow.idle_timeout
            && got.hard_timeout == want.flow.hard_timeout
            && got.flags == want.flow.flags
            && got.payload == payload_of(&want.flow.actions);
        if !equal {
            return Err(format!("differs: {got:?}, the model has {want:?}"));
        }
    }
    Ok(())
}
