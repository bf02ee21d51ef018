//! The counters of a vNIC that tells of them, page by page.

use std::{collections::BTreeMap, time::Duration};

use cvsw_core::control::v3::{Counter, Page, Request, SA_DIGEST, Subject};

use super::Link;
use crate::{config::Timers, state::counted::Counted};

/// Pause between two questions for the counters of a vNIC that somebody looks at.
const WATCHED_PAUSE: Duration = Duration::from_secs(1);
/// Counters that one vNIC may tell of.
const MAX_COUNTERS: usize = 1024;

/// The counters of a vNIC: what it told last, and what it is telling.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    known: Option<(Duration, Counted)>,
    gathering: BTreeMap<String, u64>,
    /// When they are asked for, or gone on asking for, and from where.
    pub(super) due: Duration,
    from: u32,
}

impl Link {
    /// What it has counted, and when it said so.
    pub fn counted(&self) -> Option<&(Duration, Counted)> {
        self.statistics.known.as_ref()
    }

    /// Somebody looks at its counters: they are asked for more often for a while.
    pub fn watch(&mut self) {
        let fresh =
            self.statistics.known.as_ref().map_or(Duration::ZERO, |(at, _)| at.saturating_add(WATCHED_PAUSE));
        self.statistics.due = self.statistics.due.min(fresh);
    }

    /// Takes a page of counters; with the last one, returns those before.
    pub(super) fn counters(
        &mut self,
        now: Duration,
        page: &Page,
        mut items: &[u8],
        timers: &Timers,
        sa_digest: &mut Option<u64>,
    ) -> Result<Option<Counted>, &'static str> {
        let statistics = &mut self.statistics;
        while !items.is_empty() {
            let (counter, rest) = Counter::parse(items).map_err(|error| error.name())?;
            if counter.name == SA_DIGEST {
                *sa_digest = Some(counter.value);
            } else {
                statistics.gathering.insert(counter.name.to_owned(), counter.value);
            }
            items = rest;
        }
        if !page.last && page.next > statistics.from && statistics.gathering.len() < MAX_COUNTERS {
            statistics.from = page.next;
            statistics.due = now;
            return Ok(None);
        }
        statistics.from = 0;
        statistics.due = now.saturating_add(timers.keepalive);
        let before = statistics.known.replace((now, std::mem::take(&mut statistics.gathering).into()));
        Ok(Some(before.map(|(_, counted)| counted).unwrap_or_default()))
    }

    pub(super) fn ask_for_counters(&mut self) {
        let request = Request { subject: Subject::Statistics, from: self.statistics.from };
        // If another request is under way, this one has its turn later.
        let _ = self.session.ask(request);
    }
}
