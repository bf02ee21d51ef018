//! Several controllers with one etcd cluster: what happens to the switches when one of them dies, is stopped for a
//! while, or a node of etcd dies.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
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
};

/// How often the switches are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often controllers are asked for their shares.
const LOOK_AT_SHARES: Duration = Duration::from_millis(200);
/// Any port.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
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
        row(f, returned, self.returned_seconds)
    }
}

/// Runs everything with this many controllers.
///
/// # Errors
/// As [`crate::scenario::run`].
pub fn run(program: &Path, layout: &Layout, controllers: usize, limit: Duration) -> anyhow::Result<ClusterReport> {
    let mut mtu = 1400;
    let mut etcd = Etcd::start()?;
    let mut fleet = Fleet::new(layout)?;
    let store = etcd.store();
    let mut members = Vec::new();
    for number in 0..controllers {
        let member = Member { store: store.clone(), name: format!("c{number}"), listen: LOOPBACK };
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

    // The one that has most is killed.
    let (most, switches) = busiest(&members)?;
    report.killed_switches = switches;
    let start = Instant::now();
    let killed = members.remove(most);
    let again = Member { store: store.clone(), name: killed.name.clone(), listen: killed.address };
    drop(killed);
    report.killed_takeover_seconds = world.wait_until_mastered_again("killed", start)?;

    // Of the others, the one that has most is stopped, and lives on with what it knew.
    let (most, switches) = busiest(&members)?;
    report.stopped_switches = switches;
    let stopped = members.remove(most);
    let refused = world.refused();
    let start = Instant::now();
    let masters = world.masters();
    stopped.pause()?;
    report.stopped_takeover_seconds = world.wait_for_other_masters("stopped", start, &masters, switches)?;
    mtu = 1380;
    let start = Instant::now();
    set_underlay_mtu(&store, layout.underlay_mtu(mtu))?;
    report.stopped_mtu_seconds = world.wait_for_all("another MTU", start, mtu)?;
    stopped.resume()?;
    std::thread::sleep(PROBATION);
    world.compare(mtu).context("a controller that was stopped has changed something when it went on")?;
    report.stale_messages_refused = world.refused() - refused;

    mtu = 1360;
    let start = Instant::now();
    etcd.kill_leader()?;
    set_underlay_mtu(&store, layout.underlay_mtu(mtu))?;
    report.leader_killed_mtu_seconds = world.wait_for_all("another MTU without etcd's leader", start, mtu)?;
    report.leader_killed_lost = layout.switches - world.fleet.mastered();
    world.wait_until_mastered_again("without etcd's leader", start)?;
    world.compare(mtu)?;

    // It comes back, and the one that was stopped is there, too: all get their share.
    let start = Instant::now();
    members.push(stopped);
    members.push(Controller::start(program, layout, mtu, Some(&again))?);
    let names: Vec<_> = members.iter().map(|member| member.name.clone()).collect();
    let is_entitled = |id: &u64| first(&names, *id) == Some(&again.name);
    report.returned_switches = fleet_ids(layout).filter(is_entitled).count();
    report.returned_seconds = world.wait_for_shares(start, &members, &names)?;
    world.compare(mtu)?;
    Ok(report)
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
