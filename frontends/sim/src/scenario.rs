//! What is done to the controller, and measured.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use cvsw_controller::{Mac, config::Config, derive};
use cvsw_core::flow::Direction;

use crate::{
    fleet::Fleet,
    layout::{Layout, Wanted, mac},
    process::Controller,
    report::{MemoryReport, Percentiles, Report},
    vnic::ENGINE_BYTES,
};

/// How often the vNICs are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How often one vNIC is looked at.
const LOOK_AT_ONE: Duration = Duration::from_micros(100);
/// How often the controller is asked; its answer is long.
const ASK: Duration = Duration::from_millis(500);
/// How often progress is reported.
const PROGRESS: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The world.
    pub layout: Layout,
    /// How many times one flow is added to one vNIC.
    pub changes: usize,
    /// Longest time for each step.
    pub limit: Duration,
}

/// Runs everything against `program controller`.
///
/// # Errors
/// A step that took too long, with how far it came; or a vNIC that has something else than it should.
pub fn run(program: &Path, plan: &Plan) -> anyhow::Result<Report> {
    let layout = &plan.layout;
    let mut wanted = Wanted { mtu: 1400, marked: None };
    let mut fleet = Fleet::new(layout)?;
    let controller = Controller::start(program, &layout.config(&wanted), None)?;
    let configured = controller.memory()?.resident;
    let mut report = Report {
        switches: layout.switches,
        vnics: layout.vnics,
        members: layout.members,
        flows_per_vnic: layout.flows,
        cipher: layout.cipher.map(|suite| suite.name().to_owned()),
        simulated_vnic_bytes: ENGINE_BYTES,
        ..Report::default()
    };

    let (start, processor) = (Instant::now(), controller.processor_seconds()?);
    fleet.connect(&[controller.address])?;
    let world = World { layout, limit: plan.limit, fleet: &fleet };
    report.cold_seconds = world.wait_for_all("cold", start, wanted.mtu)?;
    report.cold_known_seconds = world.wait_until_known(&controller, "cold", start)?;
    report.cold_processor_seconds = controller.processor_seconds()? - processor;
    report.cold_messages = world.fleet.traffic().messages;
    let converged = controller.memory()?.resident;
    world.compare(&wanted)?;

    wanted.mtu = 1300;
    let start = Instant::now();
    controller.reconfigure(&layout.config(&wanted))?;
    report.mtu_seconds = world.wait_for_all("another MTU", start, wanted.mtu)?;
    report.mtu_known_seconds = world.wait_until_known(&controller, "another MTU", start)?;

    if layout.cipher.is_some() {
        report.rekey_seconds = Some(world.rekey(&controller)?);
    }
    report.change = world.change_flows(&controller, plan.changes, &mut wanted)?;
    world.compare(&wanted)?;
    ensure!(world.fleet.traffic().complaints == 0, "the controller sent messages that make no sense; see the log");
    report.memory = MemoryReport {
        configured,
        converged,
        peak: controller.memory()?.peak,
        per_vnic: converged / u64::try_from(layout.vnics)?.max(1),
    };
    Ok(report)
}

/// The simulated side.
pub struct World<'a> {
    /// How it was made.
    pub layout: &'a Layout,
    /// Longest time for each step.
    pub limit: Duration,
    /// Its switches.
    pub fleet: &'a Fleet,
}

impl World<'_> {
    /// Waits until every vNIC has all its flows and this MTU; returns the time since `start`.
    ///
    /// # Errors
    /// It took too long.
    pub fn wait_for_all(&self, what: &str, start: Instant, mtu: u16) -> anyhow::Result<f64> {
        let flows = self.layout.flows;
        let total = self.fleet.seen.len();
        let mut shown = start;
        loop {
            let have = self.fleet.seen.iter().filter(|seen| {
                seen.mtu.load(Ordering::Relaxed) == mtu && usize::from(seen.flows.load(Ordering::Relaxed)) == flows
            });
            let have = have.count();
            if have == total {
                return Ok(start.elapsed().as_secs_f64());
            }
            self.in_time(what, start, || format!("{have} of {total} vNICs have what they should"))?;
            if shown.elapsed() >= PROGRESS {
                shown = Instant::now();
                tracing::info!("{what}: {have} of {total} vNICs after {:.1} s", start.elapsed().as_secs_f64());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until the controller says that all is as it should be; returns the time since `start`.
    fn wait_until_known(&self, controller: &Controller, what: &str, start: Instant) -> anyhow::Result<f64> {
        loop {
            let status = controller.status()?;
            if status.converged {
                return Ok(start.elapsed().as_secs_f64());
            }
            let mut states: BTreeMap<&str, usize> = BTreeMap::new();
            status.vnics.iter().for_each(|vnic| *states.entry(&vnic.state).or_default() += 1);
            let errors = status.vnics.iter().flat_map(|vnic| &vnic.errors).next();
            self.in_time(what, start, || format!("the controller's view: {states:?}, an error: {errors:?}"))?;
            tracing::info!("{what}: {states:?} after {:.1} s", start.elapsed().as_secs_f64());
            std::thread::sleep(ASK);
        }
    }

    /// Checks that every vNIC has exactly what follows from the configuration.
    ///
    /// # Errors
    /// One has something else.
    pub fn compare(&self, wanted: &Wanted) -> anyhow::Result<()> {
        let config = Config::parse("sim.toml", &self.layout.config(wanted)).map_err(|e| anyhow::anyhow!("{e}"))?;
        let desired = derive::desired(&config.config);
        for switch in self.fleet.switches() {
            for vnic in switch.vnics() {
                let desired = desired.get(&vnic.mac).context("a vNIC that is in no network")?;
                let mut missing: Vec<_> = desired.flows.iter().map(|flow| (*flow).clone()).collect();
                for flow in vnic.flows() {
                    let Some(at) = missing.iter().position(|wanted| *wanted == flow) else {
                        bail!("vNIC {} has an entry that it should not have: {flow:?}", vnic.mac)
                    };
                    missing.swap_remove(at);
                }
                ensure!(missing.is_empty(), "vNIC {} lacks {missing:?}", vnic.mac);
                ensure!(
                    vnic.mtu() == desired.mtu.map(|mtu| mtu.get()),
                    "vNIC {} has MTU {:?}",
                    vnic.mac,
                    vnic.mtu()
                );
                ensure!(vnic.offloads() == desired.offloads.map(|flags| flags.0), "vNIC {}: offloads", vnic.mac);
            }
        }
        Ok(())
    }

    /// New keys for everybody; returns how long it took.
    fn rekey(&self, controller: &Controller) -> anyhow::Result<f64> {
        let old = self.sending_keys();
        let start = Instant::now();
        controller.rotate_keys()?;
        loop {
            let new = self.sending_keys();
            let left = old.iter().filter(|(id, spi)| new.get(id) == Some(spi)).count();
            if left == 0 && new.len() == old.len() {
                return Ok(start.elapsed().as_secs_f64());
            }
            self.in_time("new keys", start, || format!("{left} of {} keys are the old ones", old.len()))?;
            tracing::info!("new keys: {left} of {} are the old ones", old.len());
            std::thread::sleep(ASK);
        }
    }

    /// The SPI of every sending association.
    fn sending_keys(&self) -> BTreeMap<(Mac, u32), u32> {
        let mut keys = BTreeMap::new();
        for switch in self.fleet.switches() {
            for vnic in switch.vnics() {
                let sending = vnic.associations().filter(|sa| sa.config.direction == Direction::Tx);
                keys.extend(sending.map(|sa| ((vnic.mac, sa.config.id), sa.config.spi)));
            }
        }
        keys
    }

    /// One flow more on one vNIC, then on another, and so on. The vNIC before loses it again.
    fn change_flows(
        &self,
        controller: &Controller,
        changes: usize,
        wanted: &mut Wanted,
    ) -> anyhow::Result<Option<Percentiles>> {
        let layout = self.layout;
        let mut milliseconds = Vec::with_capacity(changes);
        for (port, number) in (2000..).zip(0..changes) {
            // Spread over all switches and networks.
            let vnic = number * 7919 % layout.vnics;
            let mark = wanted.marked.replace((vnic, port));
            let config = layout.config(wanted);
            let start = Instant::now();
            controller.reconfigure(&config)?;
            let seen = self.fleet.seen.get(vnic).context("no such vNIC")?;
            while usize::from(seen.flows.load(Ordering::Relaxed)) != layout.flows + 1 {
                self.in_time("one flow more", start, || format!("vNIC {} does not have it", mac(vnic)))?;
                std::thread::sleep(LOOK_AT_ONE);
            }
            milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
            if let Some((before, _)) = mark.filter(|(before, _)| *before != vnic) {
                self.wait_until_unmarked(before)?;
            }
        }
        Ok(Percentiles::of(milliseconds))
    }

    fn wait_until_unmarked(&self, vnic: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        let seen = self.fleet.seen.get(vnic).context("no such vNIC")?;
        while usize::from(seen.flows.load(Ordering::Relaxed)) != self.layout.flows {
            self.in_time("one flow less", start, || format!("vNIC {} still has it", mac(vnic)))?;
            std::thread::sleep(LOOK_AT_ONE);
        }
        Ok(())
    }

    /// Nothing, as long as there is time left.
    ///
    /// # Errors
    /// There is none, with how far it came.
    pub fn in_time(&self, what: &str, start: Instant, how_far: impl FnOnce() -> String) -> anyhow::Result<()> {
        if start.elapsed() > self.limit {
            bail!("{what}: not done after {:?}: {}; --limit allows more time", self.limit, how_far());
        }
        Ok(())
    }
}
