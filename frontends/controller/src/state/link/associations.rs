//! The security associations of a vNIC that tells of them, when they are not what they should be.

use cvsw_core::control::v3::{ListedSa, Page, Request, Subject};

use super::Link;

/// Associations that one vNIC may tell of.
const MOST: usize = 1 << 16;

/// A listing under way.
#[derive(Debug, Default)]
pub(super) struct Associations {
    from: u32,
    digest: u64,
    listed: Vec<ListedSa>,
}

impl Link {
    /// Asks it for its associations, from the first one on.
    pub fn list_associations(&mut self) {
        self.work().associations.get_or_insert_default();
    }

    pub(super) fn asks_for_associations(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.associations.is_some())
    }

    pub(super) fn ask_for_associations(&mut self) {
        let listing = self.work.as_ref().and_then(|work| work.associations.as_ref());
        let from = listing.map_or(0, |listing| listing.from);
        // If another request is under way, this one has its turn later.
        let _ = self.session.ask(Request { subject: Subject::Associations, from });
    }

    /// Takes a page; with the last one, returns all of them.
    pub(super) fn association_page(
        &mut self,
        page: &Page,
        mut items: &[u8],
    ) -> Result<Option<Vec<ListedSa>>, &'static str> {
        let mut listed = Vec::with_capacity(page.count.into());
        while !items.is_empty() {
            let (association, rest) = ListedSa::parse(items).map_err(|error| error.name())?;
            listed.push(association);
            items = rest;
        }
        let Some(work) = &mut self.work else { return Ok(None) };
        let Some(listing) = &mut work.associations else { return Ok(None) };
        if listing.from > 0 && listing.digest != page.digest {
            // They have changed in between.
            *listing = Associations::default();
            return Ok(None);
        }
        listing.digest = page.digest;
        listing.listed.append(&mut listed);
        if !page.last && page.next > listing.from && listing.listed.len() < MOST {
            listing.from = page.next;
            return Ok(None);
        }
        Ok(work.associations.take().map(|listing| listing.listed))
    }
}
