//! What vNICs of encrypted networks send each other: which keys are in use, and whether every receiver has them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use cvsw_controller::{Mac, config::Config, keys::ways};
use cvsw_core::flow::Direction;

use crate::{fleet::Fleet, layout::Layout};

/// How often all keys are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A vNIC and an outer destination.
pub type Way = (Mac, [u8; 4]);

/// Every way of a world, with its receivers.
pub struct Ways(BTreeMap<Way, BTreeSet<Mac>>);

/// Keys in use, and what is wrong with them.
pub struct Keys {
    /// The SPI of each way that has a key.
    pub spis: BTreeMap<Way, u32>,
    /// Ways whose sender has no key, or one that a receiver has not.
    pub broken: usize,
}

impl Keys {
    /// Ways that have the same key in `now`.
    pub fn same<'a>(&'a self, now: &'a Self) -> impl Iterator<Item = &'a Way> {
        self.spis.iter().filter(|(way, spi)| now.spis.get(*way) == Some(*spi)).map(|(way, _)| way)
    }
}

impl Ways {
    /// Those of a world.
    ///
    /// # Errors
    /// Its configuration cannot be used.
    pub fn of(layout: &Layout) -> anyhow::Result<Self> {
        let config = Config::parse("sim.toml", &layout.config(1400, None)).map_err(|e| anyhow::anyhow!("{e}"))?;
        let ways = ways(&config.config).map(|(sender, to, receivers)| ((sender, to.octets()), receivers));
        Ok(Self(ways.collect()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Looks at all vNICs. Senders come first: what one uses is at its receivers for some seconds more.
    pub fn look(&self, fleet: &Fleet) -> Keys {
        let mut spis = BTreeMap::new();
        let mut receiving = BTreeSet::new();
        for direction in [Direction::Tx, Direction::Rx] {
            for switch in fleet.switches() {
                for vnic in switch.vnics() {
                    for sa in vnic.associations().filter(|sa| sa.config.direction == direction) {
                        match direction {
                            Direction::Tx => drop(spis.insert((vnic.mac, sa.config.destination), sa.config.spi)),
                            Direction::Rx => {
                                receiving.insert((vnic.mac, sa.config.destination, sa.config.spi));
                            }
                        }
                    }
                }
            }
        }
        let works = |(way, receivers): &(&Way, &BTreeSet<Mac>)| {
            let spi = spis.get(*way);
            spi.is_some_and(|spi| receivers.iter().all(|mac| receiving.contains(&(*mac, way.1, *spi))))
        };
        let broken = self.0.iter().filter(|way| !works(way)).count();
        Keys { spis, broken }
    }

    /// Looks at all vNICs until `stop`; returns the most ways that were broken at a time.
    pub fn watch(&self, fleet: &Fleet, stop: &AtomicBool, looks: &AtomicUsize) -> usize {
        let mut most = 0;
        while !stop.load(Ordering::Relaxed) {
            let broken = self.look(fleet).broken;
            if broken > 0 {
                tracing::warn!("{broken} ways have no key at one end");
            }
            most = most.max(broken);
            looks.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(LOOK);
        }
        most
    }
}
