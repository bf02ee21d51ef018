//! What a vNIC has counted.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// Names that are kept once for all vNICs. Those that somebody invents beyond these cost whoever has told them.
const MAX_NAMES: usize = 1024;

static NAMES: LazyLock<Mutex<HashSet<Arc<str>>>> = LazyLock::new(Mutex::default);

/// What a vNIC has counted, by name; those that are 0 are left out. The names are the vNIC's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted(Box<[(Arc<str>, u64)]>);

impl Counted {
    /// The counter with this name.
    pub fn get(&self, name: &str) -> Option<u64> {
        let at = self.0.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        self.0.get(at).map(|(_, count)| *count)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (&**name, *count))
    }
}

impl From<BTreeMap<String, u64>> for Counted {
    fn from(counters: BTreeMap<String, u64>) -> Self {
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let mut once = |name: String| match names.get(&*name) {
            Some(known) => Arc::clone(known),
            None => {
                let name: Arc<str> = name.into();
                if names.len() < MAX_NAMES {
                    names.insert(Arc::clone(&name));
                }
                name
            }
        };
        Self(counters.into_iter().map(|(name, count)| (once(name), count)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name_and_names_are_kept_once() {
        let told = |count| BTreeMap::from([("tx_b".to_owned(), count), ("rx_a".to_owned(), 7)]);
        let [one, two] = [1, 2].map(|count| Counted::from(told(count)));
        assert_eq!(one.iter().collect::<Vec<_>>(), [("rx_a", 7), ("tx_b", 1)]);
        assert_eq!((two.get("tx_b"), two.get("tx_c")), (Some(2), None));
        assert!(Arc::ptr_eq(&one.0[1].0, &two.0[1].0));
    }
}
