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
    layout::{Layout, extra_flow, mac},
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
/// One of so many changes of a flow is made once more while every vNIC gets another MTU.
const BUSY_CHANGES: usize = 5;
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
    /// Pause before memory is measured.
    pub idle: Duration,
}

/// Runs everything against `program controller`.
///
/// # Errors
/// A step that took too long, with how far it came; or a vNIC that has something else than it should.
pub fn run(program: &Path, plan: &Plan) -> anyhow::Result<Report> {
    let layout = &plan.layout;
    let mut mtu = 1400;
    let mut fleet = Fleet::new(layout)?;
    let controller = Controller::start(program, layout, mtu, None)?;
    let configured = controller.memory()?.resident;
    let mut report = Report {
        switches: layout.switches,
        vnics: layout.vnics,
        members: layout.members,
        flows_per_vnic: layout.flows,
        cipher: layout.cipher.map(|suite| suite.name().to_owned()),
        keyed_percent: layout.keyed,
        simulated_vnic_bytes: ENGINE_BYTES,
        ..Report::default()
    };

    let (start, processor) = (Instant::now(), controller.processor_seconds()?);
    fleet.connect(&[controller.address])?;
    let world = World { layout, limit: plan.limit, fleet: &fleet };
    report.cold_seconds = world.wait_for_all("cold", start, mtu)?;
    report.cold_known_seconds = world.wait_until_known(&controller, "cold", start)?;
    report.cold_processor_seconds = controller.processor_seconds()? - processor;
    report.cold_messages = world.fleet.traffic().messages;
    report.cold_repeated = controller.repeated()?;
    std::thread::sleep(plan.idle);
    let converged = controller.memory()?.resident;
    world.compare(mtu)?;

    mtu = 1300;
    let start = Instant::now();
    world.set_mtu(&controller, mtu)?;
    report.mtu_seconds = world.wait_for_all("another MTU", start, mtu)?;
    report.mtu_known_seconds = world.wait_until_known(&controller, "another MTU", start)?;

    if layout.cipher.is_some() {
        let start = Instant::now();
        report.rekey_seconds = Some(world.rekey(&controller, start)?);
        report.rekey_known_seconds = Some(world.wait_until_known(&controller, "new keys", start)?);
    }
    report.change = world.change_flows(&controller, plan.changes)?;
    mtu = 1280;
    let start = Instant::now();
    world.set_mtu(&controller, mtu)?;
    report.change_busy = world.change_flows(&controller, plan.changes.div_ceil(BUSY_CHANGES))?;
    world.wait_for_all("yet another MTU", start, mtu)?;
    world.wait_until_known(&controller, "yet another MTU", start)?;
    world.compare(mtu)?;
    ensure!(world.fleet.traffic().complaints == 0, "the controller sent messages that make no sense; see the log");
    report.repeated = controller.repeated()?;
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
            let summary = controller.summary()?;
            if summary["converged"] == true {
                return Ok(start.elapsed().as_secs_f64());
            }
            self.in_time(what, start, || format!("the controller's view: {summary}"))?;
            let (vnics, keys) = (&summary["vnics"], &summary["keys"]);
            tracing::info!("{what}: vNICs {vnics}, keys {keys} after {:.1} s", start.elapsed().as_secs_f64());
            std::thread::sleep(ASK);
        }
    }

    /// Checks that every vNIC has exactly what follows from the configuration.
    ///
    /// # Errors
    /// One has something else.
    pub fn compare(&self, mtu: u16) -> anyhow::Result<()> {
        let config =
            Config::parse("sim.toml", &self.layout.config(mtu, None)).map_err(|e| anyhow::anyhow!("{e}"))?;
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
    fn rekey(&self, controller: &Controller, start: Instant) -> anyhow::Result<f64> {
        let old = self.sending_keys();
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

    fn set_mtu(&self, controller: &Controller, mtu: u16) -> anyhow::Result<()> {
        controller.set_underlay_mtu(self.layout.underlay_mtu(mtu), self.layout.cipher.is_some())
    }

    /// One flow more on one vNIC, then on another, and so on. Each loses it again.
    fn change_flows(&self, controller: &Controller, changes: usize) -> anyhow::Result<Option<Percentiles>> {
        let layout = self.layout;
        let mut milliseconds = Vec::with_capacity(changes);
        for (port, number) in (2000..).zip(0..changes) {
            // Spread over all switches and networks.
            let vnic = number * 7919 % layout.vnics;
            let mut flows = layout.extra_flows(vnic);
            flows.push(extra_flow(port));
            let start = Instant::now();
            controller.set_flows(mac(vnic), &flows)?;
            self.wait_for_one("one flow more", start, vnic, layout.flows + 1)?;
            milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
            flows.pop();
            let start = Instant::now();
            controller.set_flows(mac(vnic), &flows)?;
            self.wait_for_one("one flow less", start, vnic, layout.flows)?;
        }
        Ok(Percentiles::of(milliseconds))
    }

    fn wait_for_one(&self, what: &str, start: Instant, vnic: usize, flows: usize) -> anyhow::Result<()> {
        let seen = self.fleet.seen.get(vnic).context("no such vNIC")?;
        loop {
            let has: usize = seen.flows.load(Ordering::Relaxed).into();
            if has == flows {
                return Ok(());
            }
            self.in_time(what, start, || format!("vNIC {} has {has} flows, not {flows}", mac(vnic)))?;
            std::thread::sleep(LOOK_AT_ONE);
        }
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
