//! One vNIC on several processors: one engine for each, all with the same table.
//!
//! The *first* engine is the vNIC: it takes control frames, flow mods, keys and ticks, and answers. The others, its
//! *replicas*, only process frames. Around every change of the first, with nobody using any of them, a front-end calls
//!
//! 1. [`Cvsw::gather`] for each replica, so that the first knows what was counted and used elsewhere (a removed entry
//!    reports it, an idle timeout depends on it),
//! 2. what changes the first,
//! 3. [`Cvsw::follow`] for each replica.
//!
//! Security associations are used by all of them where their ciphers share what must exist once
//! ([`crate::crypto::Ciphers::shared`]): a sequence number used twice with one key gives the key away, and a replayed packet
//! must not find a second window. Where they do not, the first alone has associations, and a replica drops what demands
//! encryption (`esp_no_sa`).

use super::Cvsw;

impl<const FLOWS: usize, const CACHE: usize, const MASKS: usize, const SAS: usize> Cvsw<FLOWS, CACHE, MASKS, SAS> {
    /// Takes over what the entries and security associations of `replica` counted since the last time.
    pub fn gather(&mut self, replica: &mut Self) {
        self.table.gather(&mut replica.table);
        self.sas.gather(&mut replica.sas);
    }

    /// Makes this engine, a replica, process frames as `first` does. Its own counters and what its cache knows stay.
    pub fn follow(&mut self, first: &Self) {
        if self.table.generation() != first.table.generation() {
            self.table.follow(&first.table);
        }
        self.sas.follow(&first.sas);
        self.encrypted_only.clone_from(&first.encrypted_only);
        self.path_mtu.follow(&first.path_mtu);
        self.link_mtu = first.link_mtu;
        self.fragment_above = first.fragment_above;
        self.seed = first.seed;
        self.ethertype = first.ethertype;
        self.active = first.active;
    }
}
