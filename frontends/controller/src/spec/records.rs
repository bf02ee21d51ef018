//! Desired state as records of a store: `parameters`, `network/NAME` and `member/NETWORK/NAME`, each a JSON document.
//! Names have no slash, which the check of desired state sees to.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use super::{NetworkSpec, Spec, Versioned};
use crate::store::{Change, Revision, Snapshot, Transaction};

const PARAMETERS: &str = "parameters";

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    key: String,
    why: String,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store's record {:?} cannot be read: {}", self.key, self.why)
    }
}

impl std::error::Error for BadRecord {}

/// What a key names.
enum Key<'a> {
    Parameters,
    Network(&'a str),
    Member(&'a str, &'a str),
}

impl<'a> Key<'a> {
    fn parse(key: &'a str) -> Option<Self> {
        let mut parts = key.split('/');
        match (parts.next()?, parts.next(), parts.next(), parts.next()) {
            (PARAMETERS, None, ..) => Some(Self::Parameters),
            ("network", Some(name), None, _) => Some(Self::Network(name)),
            ("member", Some(network), Some(name), None) => Some(Self::Member(network, name)),
            _ => None,
        }
    }
}

fn network_key(name: &str) -> String {
    format!("network/{name}")
}

fn member_key(network: &str, name: &str) -> String {
    format!("member/{network}/{name}")
}

impl Spec {
    /// Reads everything that a store has.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self, BadRecord> {
        let mut spec = Self { revision: snapshot.revision, ..Self::default() };
        for (key, record) in &snapshot.records {
            spec.write(record.revision, key, Some(&record.value))?;
        }
        spec.without_orphans()
    }

    /// Takes over what somebody has committed.
    ///
    /// # Errors
    /// The first record that cannot be read. Nothing has changed then.
    pub fn apply(&mut self, change: &Change) -> Result<(), BadRecord> {
        let mut next = self.clone();
        for (key, value) in &change.writes {
            next.write(change.revision, key, value.as_deref())?;
        }
        next.revision = change.revision;
        *self = next.without_orphans()?;
        Ok(())
    }

    /// What must be written to make `self` out of `old`, in the form of a transaction.
    pub fn difference(&self, old: &Self) -> Transaction {
        let mut writes = BTreeMap::new();
        if self.parameters.value != old.parameters.value || old.parameters.revision == 0 {
            writes.insert(PARAMETERS.to_owned(), json(&self.parameters.value));
        }
        for (name, new) in &self.networks {
            let before = old.networks.get(name);
            if before.is_none_or(|before| !Arc::ptr_eq(before, new)) {
                network_writes(name, new, before.map(|before| &**before), &mut writes);
            }
        }
        for (name, gone) in old.networks.iter().filter(|(name, _)| !self.networks.contains_key(*name)) {
            writes.insert(network_key(name), None);
            writes.extend(gone.members.keys().map(|member| (member_key(name, member), None)));
        }
        Transaction { base: old.revision, writes }
    }

    fn write(&mut self, revision: Revision, key: &str, value: Option<&[u8]>) -> Result<(), BadRecord> {
        let bad = |why: String| BadRecord { key: key.to_owned(), why };
        match (Key::parse(key).ok_or_else(|| bad("unknown kind".to_owned()))?, value) {
            (Key::Parameters, Some(value)) => self.parameters = record(revision, value).map_err(bad)?,
            (Key::Parameters, None) => self.parameters = Versioned::default(),
            (Key::Network(name), Some(value)) => {
                let settings = record(revision, value).map_err(bad)?;
                Arc::make_mut(self.networks.entry(name.to_owned()).or_default()).settings = settings;
            }
            (Key::Network(name), None) => drop(self.networks.remove(name)),
            (Key::Member(network, name), Some(value)) => {
                let member = record(revision, value).map_err(bad)?;
                let network = Arc::make_mut(self.networks.entry(network.to_owned()).or_default());
                network.members.insert(name.into(), Box::new(member));
            }
            (Key::Member(network, name), None) => {
                if let Some(network) = self.networks.get_mut(network) {
                    Arc::make_mut(network).members.remove(name);
                }
            }
        }
        Ok(())
    }

    /// A member without a network would be in a network without settings.
    fn without_orphans(self) -> Result<Self, BadRecord> {
        match self.networks.iter().find(|(_, network)| network.settings.revision == 0) {
            Some((name, _)) => {
                Err(BadRecord { key: network_key(name), why: "it is not there, but its members are".to_owned() })
            }
            None => Ok(self),
        }
    }
}

fn network_writes(
    name: &str,
    new: &NetworkSpec,
    old: Option<&NetworkSpec>,
    writes: &mut BTreeMap<String, Option<Vec<u8>>>,
) {
    if old.is_none_or(|old| old.settings.value != new.settings.value) {
        writes.insert(network_key(name), json(&new.settings.value));
    }
    for (member, settings) in &new.members {
        let before = old.and_then(|old| old.members.get(member));
        if before.is_none_or(|before| before.value != settings.value) {
            writes.insert(member_key(name, member), json(&settings.value));
        }
    }
    let gone = old.iter().flat_map(|old| old.members.keys()).filter(|member| !new.members.contains_key(*member));
    writes.extend(gone.map(|member| (member_key(name, member), None)));
}

fn record<T: DeserializeOwned>(revision: Revision, value: &[u8]) -> Result<Versioned<T>, String> {
    let value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    Ok(Versioned { revision, value })
}

/// These types always have a JSON form: their maps have text keys and nothing of theirs can fail.
fn json<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    serde_json::to_vec(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{MemberSettings, NetworkSettings};
    use proptest::prelude::*;

    /// Networks with few names and values, so that two of them share some.
    fn spec() -> impl Strategy<Value = Spec> {
        let member = (0..3u8, 0..3u8);
        let members = prop::collection::btree_map("[ab]", member, 0..3);
        let network = (0..3i64, members);
        (prop::collection::btree_map("[xyz]", network, 0..4), any::<bool>()).prop_map(|(networks, clear)| {
            let mut spec = Spec::default();
            spec.parameters.value.keys_in_clear = clear;
            for (name, (vni, members)) in networks {
                let mut network = NetworkSpec::default();
                network.settings.value = NetworkSettings { vni, ..NetworkSettings::default() };
                for (name, (mac, flows)) in members {
                    let flows = (0..flows).map(|n| n.to_string()).collect();
                    let value = MemberSettings { mac: mac.to_string().into(), flows, ..MemberSettings::default() };
                    network.members.insert(name.into(), Box::new(Versioned { revision: 0, value }));
                }
                spec.networks.insert(name, Arc::new(network));
            }
            spec
        })
    }

    fn same_content(a: &Spec, b: &Spec) -> bool {
        a.difference(b).writes.keys().all(|key| key == PARAMETERS) && a.parameters.value == b.parameters.value
    }

    proptest! {
        /// A difference, committed and applied, leads to the new state; a store that replays all of them has it, too.
        #[test]
        fn differences_lead_from_each_state_to_the_next(states in prop::collection::vec(spec(), 1..5)) {
            let mut current = Spec::default();
            let mut store = Snapshot::default();
            for (wanted, revision) in states.into_iter().zip(1..) {
                let mut next = current.clone();
                next.replace(wanted.clone());
                let writes = next.difference(&current).writes;
                for (key, value) in &writes {
                    match value {
                        Some(value) => {
                            let record = crate::store::Record { revision, value: value.clone() };
                            store.records.insert(key.clone(), record);
                        }
                        None => prop_assert!(store.records.remove(key).is_some()),
                    }
                }
                store.revision = revision;
                let untouched = current.clone();
                current.apply(&Change { revision, writes: writes.clone() }).unwrap();
                prop_assert!(same_content(&current, &wanted));
                prop_assert_eq!(&Spec::from_snapshot(&store).unwrap(), &current);
                for (name, network) in &current.networks {
                    let kept = !writes.contains_key(&network_key(name));
                    let before = untouched.networks.get(name).map(|network| network.settings.revision);
                    prop_assert_eq!(network.settings.revision, if kept { before.unwrap() } else { revision });
                }
            }
        }
    }

    #[test]
    fn records_that_make_no_sense_are_named() {
        let of = |key: &str, value: &str| {
            let record = crate::store::Record { revision: 1, value: value.as_bytes().to_vec() };
            let records = BTreeMap::from([(key.to_owned(), record)]);
            Spec::from_snapshot(&Snapshot { revision: 1, records }).unwrap_err().to_string()
        };
        assert!(of("network/x", "{").contains("\"network/x\" cannot be read: EOF"));
        assert!(of("nonsense/x", "{}").contains("unknown kind"));
        assert!(of("member/x/y/z", "{}").contains("unknown kind"));
        assert!(of("parameters", r#"{"colour": 1}"#).contains("unknown field `colour`"));
        let member = serde_json::to_string(&MemberSettings::default()).unwrap();
        assert!(of("member/x/y", &member).contains("its members are"));
    }
}
