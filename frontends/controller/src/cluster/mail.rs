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
    /// Those that have been alive since this part began.
    others: BTreeMap<String, Other>,
}

/// Another controller.
#[derive(Default)]
struct Other {
    /// Empty: it is not alive.
    session: String,
    /// With which letters between it and this one are sealed; none: it is of another version, and gets and sends none.
    key: Option<PairKey>,
    /// Number of the last letter to it, in whatever life of its: letters to an earlier one may lie there yet.
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
        for (_, other) in self.others.iter_mut().filter(|(name, _)| !alive.contains_key(*name)) {
            *other = Other { sent: other.sent, ..Other::default() };
        }
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
        let Some(other) = self.others.get(&**name).filter(|other| other.key.is_some()) else { return Ok(false) };
        if other.letter.is_none() {
            let to = Arc::clone(name);
            let notes = handle.ask(move |controller, now| controller.take_notes(now, &to, NOTES)).await?;
            let no_randomness = || StoreError::Unusable("the system gave no random numbers".to_owned());
            self.seal(name, &notes).ok_or_else(no_randomness)?;
        }
        let Some((number, value)) = self.next(name) else { return Ok(false) };
        let put = PutRequest { key: self.place(name, number).into(), value, lease: lease.id };
        let request = TxnRequest {
            compare: vec![
                Compare::made_by(&format!("{CONTROLLERS}{}", self.name), since),
                Compare::absent(&self.place(name, number.saturating_sub(UNREAD))),
            ],
            success: vec![Request::Put(put).into()],
            failure: Vec::new(),
        };
        let posted = client.transact_much(&request).await?.succeeded;
        if posted {
            self.posted(name);
        }
        Ok(posted)
    }

    /// Makes a letter of these notes the next one to a controller. `None`: it cannot be sealed.
    fn seal(&mut self, name: &str, notes: &[Note]) -> Option<()> {
        let other = self.others.get_mut(name)?;
        let number = other.sent.saturating_add(1);
        let from = (&*self.name, self.session.as_ref()?.name());
        let envelope = Envelope { from, to: (name, &other.session), number };
        other.letter = Some(other.key.as_ref()?.seal(&envelope, &write(notes))?);
        Some(())
    }

    /// The letter that is to be posted to a controller, and its number.
    fn next(&self, name: &str) -> Option<(u64, Vec<u8>)> {
        let other = self.others.get(name)?;
        Some((other.sent.saturating_add(1), other.letter.clone()?))
    }

    /// It was posted.
    fn posted(&mut self, name: &str) {
        if let Some(other) = self.others.get_mut(name) {
            (other.letter, other.sent) = (None, other.sent.saturating_add(1));
        }
    }

    /// Key of a letter to a controller.
    fn place(&self, name: &str, number: u64) -> String {
        let session = self.session.as_ref().map_or("", Session::name);
        format!("{MAIL}{name}/{}/{session}/{number:016x}", self.name)
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
        if number <= other.read {
            // It was read, and then the store did not answer when it was to be removed.
            return Some((from, Vec::new()));
        }
        let to = self.session.as_ref().map_or("", Session::name);
        let envelope = Envelope { from: (&from, &session), to: (&self.name, to), number };
        let letter = other.key.as_ref().and_then(|key| key.open(&envelope, letter.value));
        let Some(notes) = letter.and_then(|letter| read(&letter)) else {
            tracing::warn!(
                from,
                "a letter was not for this life of this controller, or not sealed with our --cluster-key"
            );
            return Some((from, Vec::new()));
        };
        // Only of letters to this life: those to an earlier one may have higher numbers.
        other.read = number;
        Some((from, notes))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;
    use proptest::prelude::*;

    /// A writer, a reader, and what lies in the store.
    struct Pair {
        writer: Mail,
        reader: Mail,
        /// Sessions: the writer's, and the reader's of now.
        sessions: [String; 2],
        store: BTreeMap<String, Vec<u8>>,
        written: u8,
        /// What was written to the reader's life of now, and not read yet.
        expected: Vec<u8>,
    }

    impl Pair {
        fn new() -> Self {
            let mail = |name: &str| Mail::new(ClusterKey::new(&[7; 16]), name.to_owned());
            let mut pair = Self {
                writer: mail("writer"),
                reader: mail("reader"),
                sessions: [const { String::new() }; 2],
                store: BTreeMap::new(),
                written: 0,
                expected: Vec::new(),
            };
            pair.sessions[0] = begin(&mut pair.writer);
            pair.sessions[1] = begin(&mut pair.reader);
            pair.meet();
            pair
        }

        /// Both see each other.
        fn meet(&mut self) {
            let alive = |name: &str, session: &String| BTreeMap::from([(name.to_owned(), session.clone())]);
            self.writer.meet(&alive("reader", &self.sessions[1]));
            self.reader.meet(&alive("writer", &self.sessions[0]));
        }

        /// Writes a letter; `met`: to the reader's life of now.
        fn write(&mut self, met: bool) {
            self.written += 1;
            let mac = Mac([2, 0, 0, 0, 0, self.written]);
            self.writer.seal("reader", &[Note::Gone { mac, at_work: true }]).unwrap();
            let (number, letter) = self.writer.next("reader").unwrap();
            self.store.insert(self.writer.place("reader", number), letter);
            self.writer.posted("reader");
            self.expected.extend(met.then_some(self.written));
        }

        /// Reads what lies there, as it is sorted there; `removed`: it does not lie there any more then.
        fn read(&mut self, removed: bool) -> Vec<u8> {
            let mut read = Vec::new();
            for (key, value) in self.store.clone() {
                let letter = KeyValue { key: key.clone().into(), value, ..KeyValue::default() };
                let Some((from, notes)) = self.reader.open("/cvsw/to/reader/", letter) else { continue };
                assert_eq!(from, "writer");
                read.extend(notes.iter().map(|note| match note {
                    Note::Gone { mac, .. } => mac.0[5],
                    other => panic!("{other:?}"),
                }));
                if removed {
                    self.store.remove(&key);
                }
            }
            read
        }

        /// The reader begins another life; `seen`: the writer sees that it was away.
        fn another_life(&mut self, seen: bool) {
            self.expected.clear();
            self.sessions[1] = begin(&mut self.reader);
            if seen {
                self.writer.meet(&BTreeMap::new());
            }
        }
    }

    fn begin(mail: &mut Mail) -> String {
        let session = Session::new().unwrap();
        let name = session.name().to_owned();
        mail.begin(session);
        name
    }

    #[test]
    fn a_letter_is_read_after_unread_ones_to_an_earlier_life() {
        for seen in [true, false] {
            let mut pair = Pair::new();
            (0..5).for_each(|_| pair.write(true));
            pair.another_life(seen);
            pair.meet();
            pair.write(true);
            assert_eq!(pair.read(true), [6], "the others are for nobody");
            pair.write(true);
            assert_eq!((pair.read(false), pair.read(true)), (vec![7], vec![]), "and each once");
        }
    }

    proptest! {
        #[test]
        fn whoever_lives_gets_each_letter_once_and_in_order(steps in proptest::collection::vec(0u8..7, 1..60)) {
            let (mut pair, mut met) = (Pair::new(), true);
            for step in steps {
                match step {
                    0..3 => {
                        let alive = !pair.writer.others["reader"].session.is_empty();
                        if alive {
                            pair.write(met);
                        }
                    }
                    3 | 4 => {
                        let read = pair.read(step == 3);
                        prop_assert_eq!(read, std::mem::take(&mut pair.expected));
                    }
                    step => {
                        if step == 5 {
                            pair.another_life(pair.written % 2 == 0);
                        }
                        met = step == 6;
                        if met {
                            pair.meet();
                        }
                    }
                }
            }
        }
    }
}
