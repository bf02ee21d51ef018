//! What vNICs say that they have, held against what they should have.
//!
//! A vNIC tells the digest of its associations. If it is another one than that of what this controller and the others have
//! given it, and nothing is under way that would explain it, the associations are listed: those that nobody uses are
//! removed, and keys that one end lacks are exchanged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cvsw_core::{
    control::{
        SaAnswer, SaCommand,
        v3::{ListedSa, SaDigest},
    },
    crypto::Suite,
    flow::Direction,
};

use super::{ChannelId, Keys, channel::is_spi, note::Note, sending_id};
use crate::mac::Mac;

/// After a vNIC, or a controller, has come, others need so long at most to say what they know of its associations.
const UNCLEAR: Duration = Duration::from_secs(30);

/// What receivers here have of senders on other controllers' switches.
#[derive(Debug, Default)]
pub(super) struct Guests {
    /// Their SPIs.
    spis: BTreeMap<Mac, BTreeSet<u32>>,
    /// Those that tell their digest need not be asked.
    tell: BTreeSet<Mac>,
    /// Since when somebody is here; what others have given it before is not known.
    since: BTreeMap<Mac, Duration>,
    /// Since when the controllers are these.
    controllers_since: Duration,
}

impl Guests {
    /// A receiver has come, with nothing or with something that is not known.
    pub fn arrived(&mut self, now: Duration, mac: Mac) {
        self.spis.remove(&mac);
        // It may speak another version now.
        self.tell.remove(&mac);
        self.since.insert(mac, now);
    }

    /// It has gone.
    pub fn left(&mut self, mac: Mac) {
        self.spis.remove(&mac);
        self.since.remove(&mac);
        self.tell.remove(&mac);
    }

    /// Other controllers are alive than before.
    pub const fn controllers_changed(&mut self, now: Duration) {
        self.controllers_since = now;
    }

    /// An order of another controller's was carried out; `there`: its association is there now.
    pub fn carried_out(&mut self, mac: Mac, command: &SaCommand, there: bool) {
        let spis = self.spis.entry(mac).or_default();
        match command {
            SaCommand::Remove { id } => drop(spis.remove(id)),
            command if there => drop(spis.insert(command.id())),
            _ => {}
        }
    }

    /// Whether what other controllers have given it is known.
    fn clear(&self, now: Duration, mac: Mac) -> bool {
        let since = self.since.get(&mac).copied().unwrap_or_default().max(self.controllers_since);
        now.saturating_sub(since) >= UNCLEAR
    }
}

/// What a vNIC should have: by id and direction, its SPI, its suite, and the channel if it is ours.
type Expected = BTreeMap<(u32, bool), (u32, Suite, Option<ChannelId>)>;

impl Keys {
    /// Whether a vNIC with associations of this digest has others than it should have, as far as can be said now.
    pub fn differs(&mut self, mac: Mac, digest: u64) -> bool {
        if self.encrypted.contains_key(&mac) {
            self.guests.tell.insert(mac);
        }
        let Some(expected) = self.expected(mac) else { return false };
        let mut wanted = SaDigest::default();
        for ((id, sends), (spi, suite, _)) in expected {
            wanted.add(id, spi, suite, if sends { Direction::Tx } else { Direction::Rx });
        }
        wanted.value() != digest
    }

    /// A vNIC has listed its associations.
    pub fn listed(&mut self, now: Duration, mac: Mac, listed: &[ListedSa]) {
        let Some(mut expected) = self.expected(mac) else { return };
        let all_known = self.guests.clear(now, mac) || !self.shares_networks();
        let mut surplus = Vec::new();
        for association in listed {
            let sends = association.direction == Direction::Tx;
            match expected.get(&(association.id, sends)) {
                Some((spi, suite, _)) if (*spi, *suite) == (association.spi, association.suite) => {
                    expected.remove(&(association.id, sends));
                }
                // Another one has its place: it is as good as missing.
                Some(_) => {}
                None if all_known || sends => surplus.push(association.id),
                None => {}
            }
        }
        for id in surplus {
            tracing::info!(vnic = %mac, id = format_args!("{id:#010x}"), "it has an association that nobody uses: it is removed");
            self.order(mac, None, SaCommand::Remove { id });
            if is_spi(id) {
                // If another controller uses it all the same, it makes a new key.
                self.peers.tell(&Note::Lost { mac, spi: id });
            }
        }
        for (_, (spi, _, channel)) in expected {
            tracing::warn!(vnic = %mac, spi = format_args!("{spi:#010x}"), "it lacks an association: there will be a new key");
            match channel {
                Some(id) => self.lost(now, id),
                None => self.peers.tell(&Note::Lost { mac, spi }),
            }
        }
    }

    /// Asks a vNIC here how those associations are whose senders are on other controllers' switches: nobody else asks.
    pub(super) fn ask_about_guests(&mut self, mac: Mac) {
        let asked = self.couriers.contains_key(&mac) && !self.guests.tell.contains(&mac);
        let spis = self.guests.spis.get(&mac).filter(|_| asked);
        for id in spis.into_iter().flatten().copied().collect::<Vec<_>>() {
            self.order(mac, None, SaCommand::Query { id });
        }
    }

    /// It has answered: what it has lost is made anew by whoever uses it.
    pub(super) fn guest_answered(&mut self, mac: Mac, command: &SaCommand, answer: &SaAnswer) {
        let spis = self.guests.spis.get_mut(&mac);
        if let SaCommand::Query { id } = command
            && answer.association.is_none()
            && spis.is_some_and(|spis| spis.remove(id))
        {
            self.peers.tell(&Note::Lost { mac, spi: *id });
        }
    }

    /// A receiver on another controller's switch has lost this association.
    pub(super) fn lost_by(&mut self, now: Duration, mac: Mac, spi: u32) {
        let uses = |id: &ChannelId| self.channels.get(id).is_some_and(|channel| channel.uses(spi));
        let channel = self.channels_of(mac).into_iter().find(|id| id.sender != mac && uses(id));
        channel.into_iter().for_each(|id| self.lost(now, id));
    }

    fn lost(&mut self, now: Duration, id: ChannelId) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.rekey_at.get_or_insert(now);
            self.channels_due.soon(id);
        }
    }

    /// Whether there are other controllers.
    fn shares_networks(&self) -> bool {
        !self.peers.are_none()
    }

    /// What a vNIC here should have; `None`: it is being changed.
    fn expected(&self, mac: Mac) -> Option<Expected> {
        if !self.couriers.get(&mac)?.is_idle() {
            return None;
        }
        let suite = self.encrypted.get(&mac).and_then(|vni| self.networks.get(vni)).and_then(|n| n.cipher);
        let mut expected = Expected::new();
        for id in self.channels_of(mac) {
            let Some(channel) = self.channels.get(&id) else { continue };
            let sends = id.sender == mac;
            if !channel.is_calm() {
                return None;
            }
            if let Some(current) = &channel.current {
                let name = if sends { sending_id(id.destination) } else { current.spi };
                expected.insert((name, sends), (current.spi, channel.suite, Some(id)));
            }
        }
        if let Some(suite) = suite {
            let guests = self.guests.spis.get(&mac).into_iter().flatten();
            guests.for_each(|spi| {
                expected.entry((*spi, false)).or_insert((*spi, suite, None));
            });
        }
        Some(expected)
    }
}
