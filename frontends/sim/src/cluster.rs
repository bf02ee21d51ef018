//! Several controllers with one etcd cluster: what happens to the switches when one of them dies, is stopped for a
//! while, or a node of etcd dies.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use cvsw_controller::{
    cluster::first,
    spec::Spec,
    store::{
        Store as _,
        etcd::{Etcd as Store, TlsFiles},
    },
};
use serde::Serialize;

use crate::{
    etcd::Etcd,
    fleet::Fleet,
    layout::Layout,
    process::{Controller, Member, runtime},
    scenario::World,
    ways::{Keys, Ways},
};

/// How often the switches are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often controllers are asked for their shares.
const LOOK_AT_SHARES: Duration = Duration::from_millis(200);
/// Any port.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How often all keys are looked at.
const LOOK_AT_KEYS: Duration = Duration::from_millis(100);
/// How long a controller that was stopped has to do something wrong after it goes on.
const PROBATION: Duration = Duration::from_secs(3);

/// The figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClusterReport {
    /// Controllers at first.
    pub controllers: usize,
    /// From the first connection until every switch had a controller and every vNIC what it should have.
    pub cold_seconds: f64,
    /// Switches of the controller that was killed.
    pub killed_switches: usize,
    /// From its end until every switch had a controller again.
    pub killed_takeover_seconds: f64,
    /// Switches of the controller that was stopped (SIGSTOP).
    pub stopped_switches: usize,
    /// From its stop until every switch obeyed another controller.
    pub stopped_takeover_seconds: f64,
    /// Another MTU on every vNIC, while it was stopped.
    pub stopped_mtu_seconds: f64,
    /// Messages of the controller that went on (SIGCONT) which switches refused.
    pub stale_messages_refused: u64,
    /// Another MTU on every vNIC, from the moment at which etcd's leader was killed.
    pub leader_killed_mtu_seconds: f64,
    /// Switches that a controller is entitled to that comes back.
    pub returned_switches: usize,
    /// From its start until every controller had the switches that it is entitled to.
    pub returned_seconds: f64,
    /// Switches that lost their controller when etcd's leader was killed, at any time of the change.
    pub leader_killed_lost: usize,
    /// Of encrypted networks.
    pub keys: Option<KeyReport>,
}

/// What became of keys meanwhile.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KeyReport {
    /// What each vNIC sends to each peer and to its group.
    pub ways: usize,
    /// From the first connection until every way had a key at both ends.
    pub cold_seconds: f64,
    /// Until everything that a vNIC on a switch of the controller that was killed sends had another key.
    pub killed_seconds: f64,
    /// The same for the controller that was stopped.
    pub stopped_seconds: f64,
    /// Another key for every way, when one controller was killed and one stopped.
    pub rekey_seconds: f64,
    /// How many times all keys were looked at, from the first time that all were there to the end.
    pub looks: usize,
    /// The most ways that had no key at one of their ends then.
    pub broken_at_most: usize,
}

impl fmt::Display for ClusterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row =
            |f: &mut fmt::Formatter<'_>, what: String, seconds: f64| writeln!(f, "{what:<66} {seconds:>8.2} s");
        row(f, format!("cold, with {} controllers", self.controllers), self.cold_seconds)?;
        let killed = format!("controller of {} switches killed: all have one again after", self.killed_switches);
        row(f, killed, self.killed_takeover_seconds)?;
        let stopped = format!("controller of {} switches stopped: all have another after", self.stopped_switches);
        row(f, stopped, self.stopped_takeover_seconds)?;
        row(f, "another MTU on every vNIC, while it is stopped".to_owned(), self.stopped_mtu_seconds)?;
        writeln!(f, "it went on: no vNIC changed; {} messages refused by switches", self.stale_messages_refused)?;
        row(f, "etcd's leader killed: another MTU on every vNIC after".to_owned(), self.leader_killed_mtu_seconds)?;
        writeln!(f, "switches that had no controller then: {}", self.leader_killed_lost)?;
        let returned =
            format!("controller started again: all have their share, it has {}, after", self.returned_switches);
        row(f, returned, self.returned_seconds)?;
        let Some(keys) = &self.keys else { return Ok(()) };
        row(f, format!("cold, until {} ways have their keys", keys.ways), keys.cold_seconds)?;
        row(f, "killed: what its vNICs send has new keys after".to_owned(), keys.killed_seconds)?;
        row(f, "stopped: what its vNICs send has new keys after".to_owned(), keys.stopped_seconds)?;
        row(f, "another key for every way, with those who were left".to_owned(), keys.rekey_seconds)?;
        writeln!(
            f,
            "ways without a key at one end, at most, {} times looked at: {}",
            keys.looks, keys.broken_at_most
        )
    }
}

/// Runs everything with this many controllers.
///
/// # Errors
/// As [`crate::scenario::run`].
pub fn run(program: &Path, layout: &Layout, controllers: usize, limit: Duration) -> anyhow::Result<ClusterReport> {
    let mtu = 1400;
    let etcd = Etcd::start()?;
    let mut fleet = Fleet::new(layout)?;
    let folder = tempfile::tempdir().context("cannot make a folder for the cluster's key")?;
    let key = folder.path().join("cluster.key");
    layout.write_cluster_key(&key)?;
    let store = etcd.store();
    let mut members = Vec::new();
    for number in 0..controllers {
        let (name, store, key) = (format!("c{number}"), store.clone(), key.clone());
        let member = Member { store, name, listen: LOOPBACK, key };
        members.push(Controller::start(program, layout, mtu, Some(&member))?);
    }
    let addresses: Vec<_> = members.iter().map(|member| member.address).collect();
    let mut report = ClusterReport { controllers, ..ClusterReport::default() };
    let start = Instant::now();
    fleet.connect(&addresses)?;
    let world = World { layout, limit, fleet: &fleet };
    world.wait_for_masters("cold", start, layout.switches)?;
    report.cold_seconds = world.wait_for_all("cold", start, mtu)?;
    world.compare(mtu)?;
    let trials = Trials { program, world: &world, etcd, members, key, mtu };
    let Some(_) = layout.cipher else {
        trials.run(&mut report, None)?;
        return Ok(report);
    };
    let ways = Ways::of(layout)?;
    let cold = world.wait_for_keys(&ways, start, |_| 0)?;
    report.keys = Some(KeyReport { ways: ways.count(), cold_seconds: cold, ..KeyReport::default() });
    let (stop, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (result, broken) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| ways.watch(&fleet, &stop, &looks));
        let result = trials.run(&mut report, Some(&ways));
        stop.store(true, Ordering::Relaxed);
        (result, watch.join())
    });
    result?;
    if let Some(keys) = &mut report.keys {
        keys.broken_at_most = broken.ok().context("whoever looked at the keys has panicked")?;
        keys.looks = looks.into_inner();
    }
    Ok(report)
}

/// What is done to the controllers, one after the other.
struct Trials<'a> {
    program: &'a Path,
    world: &'a World<'a>,
    etcd: Etcd,
    members: Vec<Controller>,
    key: PathBuf,
    mtu: u16,
}

impl Trials<'_> {
    fn run(mut self, report: &mut ClusterReport, ways: Option<&Ways>) -> anyhow::Result<()> {
        let killed = self.kill(report, ways)?;
        let stopped = self.stop(report, ways)?;
        self.kill_leader(report)?;
        if let (Some(ways), Some(keys)) = (ways, &mut report.keys) {
            let (start, before) = (Instant::now(), ways.look(self.world.fleet));
            self.members.iter().try_for_each(Controller::rotate_keys)?;
            keys.rekey_seconds = self.world.wait_for_other_keys(ways, start, &before)?;
        }
        self.come_back(report, killed, stopped)?;
        if let Some(ways) = ways {
            self.world.wait_for_keys(ways, Instant::now(), |_| 0)?;
        }
        Ok(())
    }

    /// The one that has most is killed.
    fn kill(&mut self, report: &mut ClusterReport, ways: Option<&Ways>) -> anyhow::Result<Member> {
        let world = self.world;
        let (most, switches) = busiest(&self.members)?;
        report.killed_switches = switches;
        let before = ways.map(|ways| (ways, ways.look(world.fleet), world.masters()));
        let start = Instant::now();
        let killed = self.members.remove(most);
        let again = Member {
            store: self.etcd.store(),
            name: killed.name.clone(),
            listen: killed.address,
            key: self.key.clone(),
        };
        drop(killed);
        report.killed_takeover_seconds = world.wait_until_mastered_again("killed", start)?;
        if let (Some((ways, keys, masters)), Some(report)) = (before, &mut report.keys) {
            report.killed_seconds = world.wait_for_keys_of_others(ways, start, &keys, &masters)?;
        }
        Ok(again)
    }

    /// Of the others, the one that has most is stopped, lives on with what it knew, and goes on.
    fn stop(&mut self, report: &mut ClusterReport, ways: Option<&Ways>) -> anyhow::Result<Controller> {
        let world = self.world;
        let (most, switches) = busiest(&self.members)?;
        report.stopped_switches = switches;
        let before = ways.map(|ways| (ways, ways.look(world.fleet)));
        let stopped = self.members.remove(most);
        let refused = world.refused();
        let start = Instant::now();
        let masters = world.masters();
        stopped.pause()?;
        report.stopped_takeover_seconds = world.wait_for_other_masters("stopped", start, &masters, switches)?;
        if let (Some((ways, keys)), Some(report)) = (before, &mut report.keys) {
            report.stopped_seconds = world.wait_for_keys_of_others(ways, start, &keys, &masters)?;
        }
        self.mtu = 1380;
        let start = Instant::now();
        set_underlay_mtu(&self.etcd.store(), world.layout.underlay_mtu(self.mtu))?;
        report.stopped_mtu_seconds = world.wait_for_all("another MTU", start, self.mtu)?;
        let keys = ways.map(|ways| (ways, ways.look(world.fleet).spis));
        stopped.resume()?;
        std::thread::sleep(PROBATION);
        world.compare(self.mtu).context("a controller that was stopped has changed something when it went on")?;
        if let Some((ways, before)) = keys {
            ensure!(ways.look(world.fleet).spis == before, "a controller that was stopped has changed keys");
        }
        report.stale_messages_refused = world.refused() - refused;
        Ok(stopped)
    }

    fn kill_leader(&mut self, report: &mut ClusterReport) -> anyhow::Result<()> {
        let world = self.world;
        self.mtu = 1360;
        let start = Instant::now();
        self.etcd.kill_leader()?;
        set_underlay_mtu(&self.etcd.store(), world.layout.underlay_mtu(self.mtu))?;
        report.leader_killed_mtu_seconds =
            world.wait_for_all("another MTU without etcd's leader", start, self.mtu)?;
        report.leader_killed_lost = world.layout.switches - world.fleet.mastered();
        world.wait_until_mastered_again("without etcd's leader", start)?;
        world.compare(self.mtu)
    }

    /// The one that was killed comes back, and the one that was stopped is there, too: all get their share.
    fn come_back(&mut self, report: &mut ClusterReport, again: Member, stopped: Controller) -> anyhow::Result<()> {
        let world = self.world;
        let start = Instant::now();
        self.members.push(stopped);
        self.members.push(Controller::start(self.program, world.layout, self.mtu, Some(&again))?);
        let names: Vec<_> = self.members.iter().map(|member| member.name.clone()).collect();
        let is_entitled = |id: &u64| first(&names, *id) == Some(&again.name);
        report.returned_switches = fleet_ids(world.layout).filter(is_entitled).count();
        report.returned_seconds = world.wait_for_shares(start, &self.members, &names)?;
        world.compare(self.mtu)
    }
}

/// The controller that manages most switches, and how many.
fn busiest(members: &[Controller]) -> anyhow::Result<(usize, usize)> {
    let mut counts = Vec::new();
    for (index, member) in members.iter().enumerate() {
        counts.push((member.summary()?["switches"]["up"].as_u64().unwrap_or(0), index));
    }
    let (count, index) = counts.into_iter().max().context("no controller is left")?;
    Ok((index, usize::try_from(count)?))
}

/// Writes what an operator would.
fn set_underlay_mtu(store: &str, mtu: u16) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let store = Store::new(store, &TlsFiles::default())?;
        let old = Spec::from_snapshot(&store.load().await?)?;
        let mut new = old.clone();
        new.parameters.value.underlay_mtu = Some(mtu.into());
        store.commit(new.difference(&old)).await?;
        anyhow::Ok(())
    })
}

/// Datapath ids of all switches.
fn fleet_ids(layout: &Layout) -> impl Iterator<Item = u64> {
    (1..).take(layout.switches)
}

impl World<'_> {
    /// Waits until every way has a key at both ends, and there is nothing `left` to do with them.
    fn wait_for_keys(&self, ways: &Ways, start: Instant, left: impl Fn(&Keys) -> usize) -> anyhow::Result<f64> {
        loop {
            let keys = ways.look(self.fleet);
            let left = left(&keys);
            if keys.broken == 0 && left == 0 {
                return Ok(start.elapsed().as_secs_f64());
            }
            let what = || format!("{} of {} ways have no key, {left} an old one", keys.broken, ways.count());
            self.in_time("keys", start, what)?;
            std::thread::sleep(LOOK_AT_KEYS);
        }
    }

    /// Waits until every way has another key than before.
    fn wait_for_other_keys(&self, ways: &Ways, start: Instant, before: &Keys) -> anyhow::Result<f64> {
        self.wait_for_keys(ways, start, |now| before.same(now).count())
    }

    /// The same for what vNICs send whose switches have other masters than before. One that got its former master back, while
    /// controllers lost their leases, may keep that one's key.
    fn wait_for_keys_of_others(
        &self,
        ways: &Ways,
        start: Instant,
        before: &Keys,
        masters: &[Option<u64>],
    ) -> anyhow::Result<f64> {
        self.wait_for_keys(ways, start, |now| {
            let switches = self.fleet.switches().zip(masters);
            let moved = switches.filter(|(switch, before)| switch.master() != **before);
            let moved: BTreeSet<_> =
                moved.flat_map(|(switch, _)| switch.vnics().map(|vnic| vnic.mac).collect::<Vec<_>>()).collect();
            before.same(now).filter(|(sender, _)| moved.contains(sender)).count()
        })
    }

    /// Waits until every controller has the switches that it is entitled to.
    fn wait_for_shares(&self, start: Instant, members: &[Controller], names: &[String]) -> anyhow::Result<f64> {
        loop {
            let mut wrong = Vec::new();
            for member in members {
                let entitled = fleet_ids(self.layout).filter(|id| first(names, *id) == Some(&member.name)).count();
                let has = member.summary()?["switches"]["up"].as_u64().unwrap_or(0);
                if u64::try_from(entitled)? != has {
                    wrong.push(format!("{} has {has} switches of {entitled}", member.name));
                }
            }
            if wrong.is_empty() && self.fleet.mastered() == self.layout.switches {
                return Ok(start.elapsed().as_secs_f64());
            }
            self.in_time("shares", start, || wrong.join(", "))?;
            std::thread::sleep(LOOK_AT_SHARES);
        }
    }

    fn wait_for_masters(&self, what: &str, start: Instant, switches: usize) -> anyhow::Result<f64> {
        loop {
            let mastered = self.fleet.mastered();
            if mastered == switches {
                return Ok(start.elapsed().as_secs_f64());
            }
            self.in_time(what, start, || format!("{mastered} of {switches} switches have a controller"))?;
            std::thread::sleep(LOOK);
        }
    }

    fn wait_until_mastered_again(&self, what: &str, start: Instant) -> anyhow::Result<f64> {
        self.wait_for_masters(what, start, self.layout.switches)
    }

    /// Waits until so many switches have another master.
    fn wait_for_other_masters(
        &self,
        what: &str,
        start: Instant,
        before: &[Option<u64>],
        switches: usize,
    ) -> anyhow::Result<f64> {
        loop {
            let now = self.masters();
            let other = now.iter().zip(before).filter(|(now, before)| now.is_some() && now != before).count();
            if other >= switches {
                return Ok(start.elapsed().as_secs_f64());
            }
            self.in_time(what, start, || format!("{other} of {switches} switches have another controller"))?;
            std::thread::sleep(LOOK);
        }
    }

    /// Which connection of each switch is the master's.
    fn masters(&self) -> Vec<Option<u64>> {
        self.fleet.switches().map(|switch| switch.master()).collect()
    }

    fn refused(&self) -> u64 {
        self.fleet.switches().map(|switch| switch.refused()).sum()
    }
}
