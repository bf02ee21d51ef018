//! What the store says about controllers, switches and wishes, and who is entitled to what.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use super::CONTROLLERS;
use crate::store::{
    StoreError,
    etcd::{Client, KeyValue, Request, RequestOp, TxnRequest, prefix, revision},
};

/// Keys of switches.
const SWITCHES: &str = "/cvsw/switch/";
/// Keys of wishes.
const WISHES: &str = "/cvsw/wish/";

/// What the store says about who has what.
pub(super) struct Seen {
    /// The store's revision.
    pub(super) revision: u64,
    pub(super) controllers: Vec<String>,
    /// Their sessions.
    pub(super) sessions: BTreeMap<String, String>,
    /// The controller of each switch, and the revision since which it has it.
    pub(super) switches: BTreeMap<u64, (String, u64)>,
    /// Who wishes for a switch.
    pub(super) wishes: BTreeMap<u64, String>,
}

/// Key of a switch.
pub(super) fn key(datapath_id: u64) -> String {
    format!("{SWITCHES}{datapath_id:016x}")
}

/// Key of a wish for a switch.
pub(super) fn wish_key(datapath_id: u64) -> String {
    format!("{WISHES}{datapath_id:016x}")
}

impl Seen {
    /// Asks the store.
    pub(super) async fn read(client: &Client) -> Result<Self, StoreError> {
        let ranges = [prefix(CONTROLLERS), prefix(SWITCHES), prefix(WISHES)];
        let ranges = ranges.map(|range| RequestOp::from(Request::Range(range)));
        let answer = client.transact(&TxnRequest { success: ranges.to_vec(), ..TxnRequest::default() }).await?;
        let revision_now = revision(answer.header.unwrap_or_default().revision);
        let mut ranges = answer.responses.into_iter().filter_map(|response| response.range);
        let [controllers, switches, wishes] = [(); 3].map(|()| ranges.next().unwrap_or_default());
        // One of an earlier version has no session, and reads no letters.
        let session =
            |kv: &KeyValue| String::from_utf8(kv.value.clone()).ok().filter(|session| !session.is_empty());
        let name = |key: &[u8], prefix: &str| {
            String::from_utf8_lossy(key).strip_prefix(prefix).unwrap_or_default().to_owned()
        };
        let switches = switches.kvs.into_iter().filter_map(|kv| {
            let datapath_id = u64::from_str_radix(&name(&kv.key, SWITCHES), 16).ok()?;
            Some((datapath_id, (String::from_utf8_lossy(&kv.value).into_owned(), revision(kv.create_revision))))
        });
        let wishes = wishes.kvs.into_iter().filter_map(|kv| {
            let datapath_id = u64::from_str_radix(&name(&kv.key, WISHES), 16).ok()?;
            Some((datapath_id, String::from_utf8_lossy(&kv.value).into_owned()))
        });
        Ok(Self {
            revision: revision_now,
            controllers: controllers.kvs.iter().map(|kv| name(&kv.key, CONTROLLERS)).collect(),
            sessions: controllers
                .kvs
                .iter()
                .filter_map(|kv| Some((name(&kv.key, CONTROLLERS), session(kv)?)))
                .collect(),
            switches: switches.collect(),
            wishes: wishes.collect(),
        })
    }

    /// The controller that is entitled to a switch.
    pub(super) fn first(&self, datapath_id: u64) -> Option<&String> {
        first(&self.controllers, datapath_id)
    }
}

/// Of these controllers, the one that reaches for a switch first, and is entitled to it. Controllers of different builds may
/// hash differently: then a switch is taken over later, or not handed over, but never has two.
pub fn first(controllers: &[String], datapath_id: u64) -> Option<&String> {
    let score = |name: &&String| {
        let mut hasher = DefaultHasher::new();
        (name, datapath_id).hash(&mut hasher);
        hasher.finish()
    };
    controllers.iter().max_by_key(score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_spread_over_controllers_and_stay_when_another_one_goes() {
        let three: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let all: Vec<_> = (0..3000).map(|id| first(&three, id).unwrap().clone()).collect();
        for name in &three {
            let share = all.iter().filter(|first| *first == name).count();
            assert!((900..1100).contains(&share), "{name}: {share}");
        }
        let two = three[..2].to_vec();
        for (id, before) in (0..).zip(&all).filter(|(_, before)| *before != "c") {
            assert_eq!(first(&two, id), Some(before));
        }
        assert_eq!(first(&[], 1), None);
    }
}
