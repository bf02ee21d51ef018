//! Letters between controllers, through the store: what one wants of vNICs on another one's switches, see [`crate::keys::note`].
//!
//! `/cvsw/to/TO/FROM/SESSION/NUMBER`, under the writer's lease, holds some notes, sealed ([`super::seal`]). They are
//! written in order, a few of them before the first is read, and only as long as the writer is in the cluster; so one that
//! was stopped and goes on can write nothing any more. Who has read one removes it.

use std::{collections::BTreeMap, sync::Arc};

use zeroize::Zeroizing;

use super::{
    CONTROLLERS, Lease, Trouble,
    seal::{ClusterKey, Envelope, PairKey, Session},
};
use crate::{
    keys::note::{LONGEST, Note},
    server::Handle,
    store::{
        StoreError,
        etcd::{Client, Compare, DeleteRangeRequest, KeyValue, PutRequest, Request, TxnRequest, prefix},
    },
};

/// Keys of letters. They are outside the range that desired state's watch covers.
const MAIL: &str = "/cvsw/to/";
/// Notes of one letter.
const NOTES: usize = 1000;
/// Letters that may wait to be read.
const UNREAD: u64 = 8;

/// A controller's letters.
pub(super) struct Mail {
    key: ClusterKey,
    name: String,
    /// Of this part in the cluster; none: it has none yet.
    session: Option<Session>,
    /// Those that are alive.
    others: BTreeMap<String, Other>,
}

/// Another controller.
#[derive(Default)]
struct Other {
    session: String,
    /// With which letters between it and this one are sealed; none: it is of another version, and gets and sends none.
    key: Option<PairKey>,
    /// Number of the last letter to it.
    sent: u64,
    /// A letter that could not be posted yet.
    letter: Option<Vec<u8>>,
    /// Number of the last letter from it that was read.
    read: u64,
}

/// A letter's place.
struct Place {
    from: String,
    session: String,
    number: u64,
}

impl Mail {
    pub(super) const fn new(key: ClusterKey, name: String) -> Self {
        Self { key, name, session: None, others: BTreeMap::new() }
    }

    /// A new part in the cluster begins.
    pub(super) fn begin(&mut self, session: Session) {
        self.session = Some(session);
        self.others.clear();
    }

    /// These others are alive.
    pub(super) fn meet(&mut self, alive: &BTreeMap<String, String>) {
        self.others.retain(|name, _| alive.contains_key(name));
        for (name, session) in alive {
            let other = self.others.entry(name.clone()).or_default();
            if other.session != *session {
                // What the earlier one was to read is for nobody.
                let key = self.session.as_ref().and_then(|own| self.key.between(own, session));
                if key.is_none() {
                    tracing::error!(
                        name,
                        "another controller of the cluster is of another version: no letters to and from it"
                    );
                }
                *other = Other { session: session.clone(), key, sent: other.sent, ..Other::default() };
            }
        }
    }

    /// Posts what is to be posted and reads what has come. Returns whether there was anything.
    pub(super) async fn exchange(
        &mut self,
        client: &Client,
        handle: &Handle,
        lease: Lease,
        since: i64,
    ) -> Result<bool, Trouble> {
        let mut busy = self.read(client, handle).await?;
        let mut addressees = handle.ask(|controller, _| controller.addressees()).await?;
        let waiting = self.others.iter().filter(|(_, other)| other.letter.is_some());
        addressees.extend(waiting.map(|(name, _)| Arc::from(name.as_str())));
        addressees.sort_unstable();
        addressees.dedup();
        for name in addressees {
            busy |= self.post(client, handle, &name, (lease, since)).await?;
        }
        Ok(busy)
    }

    async fn post(
        &mut self,
        client: &Client,
        handle: &Handle,
        name: &Arc<str>,
        (lease, since): (Lease, i64),
    ) -> Result<bool, Trouble> {
        let (Some(other), Some(session)) = (self.others.get_mut(&**name), &self.session) else { return Ok(false) };
        let Some(key) = &other.key else { return Ok(false) };
        let number = other.sent.saturating_add(1);
        if other.letter.is_none() {
            let to = Arc::clone(name);
            let notes = handle.ask(move |controller, now| controller.take_notes(now, &to, NOTES)).await?;
            let letter = write(&notes);
            let envelope = Envelope { from: (&self.name, session.name()), to: (&**name, &other.session), number };
            let no_randomness = || StoreError::Unusable("the system gave no random numbers".to_owned());
            other.letter = Some(key.seal(&envelope, &letter).ok_or_else(no_randomness)?);
        }
        let place = |number: u64| format!("{MAIL}{name}/{}/{}/{number:016x}", self.name, session.name());
        let value = other.letter.clone().unwrap_or_default();
        let put = PutRequest { key: place(number).into(), value, lease: lease.id };
        let request = TxnRequest {
            compare: vec![
                Compare::made_by(&format!("{CONTROLLERS}{}", self.name), since),
                Compare::absent(&place(number.saturating_sub(UNREAD))),
            ],
            success: vec![Request::Put(put).into()],
            failure: Vec::new(),
        };
        let posted = client.transact_much(&request).await?.succeeded;
        if posted {
            (other.letter, other.sent) = (None, number);
        }
        Ok(posted)
    }

    async fn read(&mut self, client: &Client, handle: &Handle) -> Result<bool, Trouble> {
        let own = format!("{MAIL}{}/", self.name);
        let range = Request::Range(prefix(&own)).into();
        let answer = client.transact_much(&TxnRequest { success: vec![range], ..TxnRequest::default() }).await?;
        let letters = answer.responses.into_iter().find_map(|response| response.range).unwrap_or_default().kvs;
        // Of each writer those up to the last one that was read.
        let mut read = BTreeMap::new();
        for letter in letters {
            let range = letter.key.clone();
            if let Some((from, notes)) = self.open(&own, letter) {
                let name = from.clone();
                handle.ask(move |controller, now| controller.noted(now, &name, notes)).await?;
                let (_, last) = read.entry(from).or_insert_with(|| (range.clone(), Vec::new()));
                *last = range;
            }
        }
        let remove = read.into_values().map(|(first, mut last)| {
            last.push(0);
            Request::DeleteRange(DeleteRangeRequest { key: first, range_end: last }).into()
        });
        let remove: Vec<_> = remove.collect();
        if remove.is_empty() {
            return Ok(false);
        }
        client.transact(&TxnRequest { success: remove, ..TxnRequest::default() }).await?;
        Ok(true)
    }

    /// Opens a letter. `None`: it has to wait until its writer is known in this session; without one it goes with its lease.
    fn open(&mut self, own: &str, letter: KeyValue) -> Option<(String, Vec<Note>)> {
        let Place { from, session, number } = place(own, &letter.key)?;
        let other = self.others.get_mut(&from).filter(|other| other.session == session)?;
        let known = number <= other.read;
        other.read = other.read.max(number);
        let to = self.session.as_ref().map_or("", Session::name);
        let envelope = Envelope { from: (&from, &session), to: (&self.name, to), number };
        let letter = other.key.as_ref().and_then(|key| key.open(&envelope, letter.value));
        let notes = letter.and_then(|letter| read(&letter));
        if notes.is_none() {
            tracing::warn!(
                from,
                "a letter was not for this life of this controller, or not sealed with our --cluster-key"
            );
        }
        Some((from, notes.filter(|_| !known).unwrap_or_default()))
    }
}

fn write(notes: &[Note]) -> Zeroizing<Vec<u8>> {
    // It must not grow: what is left behind then is not wiped.
    let mut out = Zeroizing::new(Vec::with_capacity(notes.len() * LONGEST));
    notes.iter().for_each(|note| note.write(&mut out));
    out
}

fn read(mut letter: &[u8]) -> Option<Vec<Note>> {
    let mut notes = Vec::new();
    while !letter.is_empty() {
        let (note, rest) = Note::read(letter).ok()?;
        notes.push(note);
        letter = rest;
    }
    Some(notes)
}

fn place(own: &str, key: &[u8]) -> Option<Place> {
    let mut parts = std::str::from_utf8(key).ok()?.strip_prefix(own)?.split('/');
    let (from, session, number) = (parts.next()?, parts.next()?, parts.next()?);
    let number = u64::from_str_radix(number, 16).ok()?;
    Some(Place { from: from.to_owned(), session: session.to_owned(), number })
}
