//! Several controllers with one etcd cluster: what happens to the switches when one of them dies, is stopped for a
//! while, or a node of etcd dies.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cvsw_controller::{
    spec::Spec,
    store::{Store as _, etcd::Etcd as Store},
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
        writeln!(f, "switches that had no controller then: {}", self.leader_killed_lost)
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
        let member = Member { store: store.clone(), name: format!("c{number}") };
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
    drop(members.remove(most));
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
        let store = Store::new(store)?;
        let old = Spec::from_snapshot(&store.load().await?)?;
        let mut new = old.clone();
        new.parameters.value.underlay_mtu = Some(mtu.into());
        store.commit(new.difference(&old)).await?;
        anyhow::Ok(())
    })
}

impl World<'_> {
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
