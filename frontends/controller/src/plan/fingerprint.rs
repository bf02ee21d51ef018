//! What is kept of an entry.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, BuildHasherDefault, Hash as _, Hasher, RandomState},
    sync::LazyLock,
};

use cvsw_core::flow::FlowMod;

use super::openflow;
use crate::derive::{EntryId, drops};

/// The key of all fingerprints, a random one of this process: a vNIC cannot make two entries that look alike.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
/// Longest OFPT_FLOW_MOD that a control frame carries.
const MAX_FLOW_MOD: usize = cvsw_core::control::MAX_FRAME_LEN;

/// Stands for priority and match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity(u64);

impl Identity {
    pub(super) fn of(entry: &EntryId) -> Self {
        Self(KEY.hash_one(entry))
    }

    pub(super) fn of_flow(flow: &FlowMod) -> Self {
        Self::of(&EntryId::of(flow))
    }
}

/// Something for each of a few entries. An identity is the result of a keyed hash: it need not be hashed once more, and the map
/// needs no key of its own.
pub(super) type ByIdentity<T> = HashMap<Identity, T, BuildHasherDefault<Hashed>>;
/// Some entries.
pub(super) type Identities = HashSet<Identity, BuildHasherDefault<Hashed>>;

/// Takes a hash for what it is.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        // Only identities are keys, and they are written as below.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Stands for everything else that matters, with one bit that says whether the vNIC has listed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held(u64);

/// The bit.
const CONFIRMED: u64 = 1;

impl Held {
    /// "No action" and "output to no port" both drop, and are one.
    pub(super) fn new(flow: &FlowMod, confirmed: bool) -> Self {
        let mut hasher = KEY.build_hasher();
        (flow.cookie, flow.idle_timeout, flow.hard_timeout).hash(&mut hasher);
        if !drops(flow) {
            flow.actions.hash(&mut hasher);
        }
        Self(hasher.finish() & !CONFIRMED | u64::from(confirmed))
    }

    pub(super) fn is(self, flow: &FlowMod) -> bool {
        Self::new(flow, self.is_confirmed()) == self
    }

    pub(super) const fn is_confirmed(self) -> bool {
        self.0 & CONFIRMED != 0
    }

    pub(super) const fn doubt(&mut self) {
        self.0 &= !CONFIRMED;
    }
}

/// A whole entry in its wire form, a fifth of the other's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept(Box<[u8]>);

impl Kept {
    /// `None`: it cannot be said, so no vNIC has it.
    pub(super) fn new(flow: &FlowMod) -> Option<Self> {
        let mut bytes = [0; MAX_FLOW_MOD];
        let len = openflow::encode_flow_mod(flow, 0, &mut bytes).ok()?;
        Some(Self(bytes[..len].into()))
    }

    pub(super) fn flow(&self) -> Option<FlowMod> {
        openflow::decode_flow_mod(&self.0).ok()
    }
}
