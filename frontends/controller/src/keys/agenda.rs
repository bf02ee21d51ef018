//! What has something to do, and when, so that nobody has to look at all of many.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Keys that are due at once or at a time. Each is kept once, with the earliest of its times.
#[derive(Debug)]
pub struct Agenda<K> {
    soon: BTreeSet<K>,
    later: BTreeSet<(Duration, K)>,
    at: BTreeMap<K, Duration>,
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        Self { soon: BTreeSet::new(), later: BTreeSet::new(), at: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Agenda<K> {
    /// `key` is due.
    pub fn soon(&mut self, key: K) {
        self.soon.insert(key);
    }

    /// `key` is due at this time, if not earlier.
    pub fn at(&mut self, key: K, time: Duration) {
        let before = self.at.get(&key).copied();
        if before.is_some_and(|before| before <= time) {
            return;
        }
        if let Some(before) = before {
            self.later.remove(&(before, key));
        }
        self.at.insert(key, time);
        self.later.insert((time, key));
    }

    /// Takes what is due because of its time, but nothing that is due at once.
    pub fn take_late(&mut self, now: Duration) -> Vec<K> {
        let mut late = Vec::new();
        while let Some((time, key)) = self.later.first().copied().filter(|(time, _)| *time <= now) {
            self.later.remove(&(time, key));
            self.at.remove(&key);
            late.push(key);
        }
        late
    }

    /// How many are due at once, not counting those whose time has come since the last [`Agenda::take`].
    pub fn waiting(&self) -> usize {
        self.soon.len()
    }

    /// Takes the first of what is due at once.
    pub fn next(&mut self) -> Option<K> {
        self.soon.pop_first()
    }

    /// Takes what is due, but no more than `most`; the rest is still due.
    pub fn take(&mut self, now: Duration, most: usize) -> Vec<K> {
        let late = self.take_late(now);
        self.soon.extend(late);
        std::iter::from_fn(|| self.soon.pop_first()).take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_once_at_its_earliest_time() {
        let seconds = Duration::from_secs;
        let mut agenda = Agenda::default();
        assert_eq!(agenda.take(seconds(9), 9), []);
        agenda.at('a', seconds(5));
        agenda.at('a', seconds(3));
        agenda.at('a', seconds(4));
        agenda.at('b', seconds(4));
        agenda.soon('c');
        agenda.soon('c');
        assert_eq!(agenda.take(seconds(2), 9), ['c']);
        assert_eq!(agenda.take(seconds(3), 9), ['a']);
        agenda.at('a', seconds(4));
        agenda.soon('d');
        assert_eq!(agenda.take(seconds(4), 2), ['a', 'b'], "no more than asked for");
        assert_eq!(agenda.take(seconds(4), 2), ['d']);
        assert_eq!(agenda.take(seconds(99), 9), []);
        agenda.at('e', seconds(100));
        agenda.soon('f');
        assert_eq!((agenda.take_late(seconds(99)), agenda.take_late(seconds(100))), (vec![], vec!['e']));
        assert_eq!((agenda.waiting(), agenda.take(seconds(100), 9)), (1, vec!['f']));
    }
}
