//! The run from first to last: build, check, measure, judge, take down.

use super::build::Lab;
use super::checks::throughput::Protocol;
use super::checks::wire::{Dissection, Rule};
use super::checks::{control, counters, forgery, isolation, reach, rotation, switch, throughput, unikernel, wire};
use super::process::{self, Interrupted, check_interrupt};
use super::report::{Finding, Reporter};
use super::state::{self, Standing};
use super::topology::{Pair, UNDERLAY_MTU};
use super::{Options, hints, tools};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::process::ExitCode;

const INTERRUPTED: u8 = 130;

/// `cvsw lab`.
pub fn lab(options: &Options) -> Result<ExitCode> {
    tools::require()?;
    if options.unikernel > 0 {
        tools::require_qemu()?;
    }
    process::catch_signals()?;
    let mut lab = Lab::new(options.plan())?;
    let id = lab.topology.id.clone();
    let mut report = Reporter::new(options.json);
    introduce(&lab, options, &mut report)?;

    let outcome = Run { lab: &mut lab, report: &mut report, options }.all();
    // Without its essential parts there is nothing to play with.
    let keep = options.keep && outcome.is_ok();
    let hints = if keep { hints::how_to_use(&lab) } else { String::new() };
    if keep {
        lab.keep()?;
    } else {
        report.heading("Teardown");
        // Its result is in the report.
        let _ = report.run("teardown", "everything removed", || lab.take_down().map(Finding::new));
    }
    report.finish(&id, keep, outcome.as_ref().err());
    if keep {
        report.line(&hints);
    }
    Ok(match outcome {
        Err(error) if error.is::<Interrupted>() => ExitCode::from(INTERRUPTED),
        Ok(()) if report.all_passed() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// `cvsw lab down`.
pub fn down(id: Option<String>, all: bool) -> Result<ExitCode> {
    tools::require()?;
    let ids = match (id, all) {
        (Some(id), _) => vec![id],
        (None, true) => {
            state::identifiers()?.into_iter().filter(|id| state::standing(id) != Standing::Running).collect()
        }
        (None, false) => only_one(&state::identifiers()?)?,
    };
    if ids.is_empty() {
        println!("There is no laboratory to remove.");
    }
    for id in ids {
        ensure!(
            state::standing(&id) != Standing::Running,
            "the `cvsw lab` of laboratory {id} still runs: stop it with Ctrl-C, it takes everything down itself"
        );
        let killed = state::remove(&id)?;
        println!("Laboratory {id} is removed.");
        if !killed.is_empty() {
            println!("These had to be killed: {}.", killed.join(", "));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn only_one(ids: &[String]) -> Result<Vec<String>> {
    match ids {
        [] | [_] => Ok(ids.to_vec()),
        several => bail!("there are {}: name one of them, or use --all ({})", several.len(), several.join(", ")),
    }
}

fn introduce(lab: &Lab, options: &Options, report: &mut Reporter) -> Result<()> {
    let topology = &lab.topology;
    let version = lab.switches.first().map(|switch| switch.version()).transpose()?.unwrap_or_default();
    let (vms, pairs) = (topology.vms.len(), topology.pairs().count());
    let networks: Vec<String> =
        topology.networks.iter().map(|network| format!("{} (VNI {})", network.name, network.vni)).collect();
    let link = format!("a veth cable, MTU {UNDERLAY_MTU}, all offloads off, no rate limit");
    report.line(&format!(
        "Laboratory {}: 2 servers, {vms} VMs in {pairs} pairs, networks {}",
        topology.id,
        networks.join(", ")
    ));
    report.line(&format!("Switches: {version}, userspace datapath, OpenFlow 1.0. Link: {link}."));
    report.setting = json!({
        "servers": 2,
        "vms": vms,
        "pairs": pairs,
        "unikernels": topology.unikernels.len(),
        "networks": topology.networks.iter().map(|network| network.name).collect::<Vec<_>>(),
        "switch": version,
        "link": link,
        "seconds_per_measurement": options.duration,
        "udp_mbit_per_second_offered": options.udp_rate,
        "udp_payload": options.udp_length,
        "cipher": topology.cipher.map(|suite| suite.name()),
        "left_behind": left_behind(&topology.id, report)?,
    });
    Ok(())
}

/// Mentions the laboratories that nobody will remove by himself, and names them.
fn left_behind(own: &str, report: &Reporter) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for id in state::identifiers()?.into_iter().filter(|id| id != own) {
        let how = match state::standing(&id) {
            Standing::Running => continue,
            Standing::Kept => "was kept",
            Standing::Stale => "was left behind by a run that was killed",
        };
        report.line(&format!("Note: laboratory {id} {how}. Remove it with: cvsw lab down {id}"));
        left.push(id);
    }
    Ok(left)
}

/// The parts of one run.
struct Run<'a> {
    lab: &'a mut Lab,
    report: &'a mut Reporter,
    options: &'a Options,
}

impl Run<'_> {
    /// Everything but the teardown. Fails when an essential part does not stand, or on a signal; a failed check
    /// is in the report and does not stop the others.
    fn all(&mut self) -> Result<()> {
        self.servers()?;
        self.vnics()?;
        self.control()?;
        self.tenants()?;
        self.link()?;
        self.throughput()?;
        let first = self.lab.topology.pairs().next();
        if let Some(pair) = first.filter(|_| self.lab.topology.cipher.is_some()) {
            self.report.heading("Keys");
            let load = self.options.load();
            self.check("rotation", "new keys under traffic", |lab| rotation::under_traffic(lab, pair, load))?;
            if !self.lab.topology.unikernels.is_empty() {
                self.check("unikernel-keys", "unikernels with new keys", |lab| unikernel::answer(lab))?;
            }
        }
        self.report.heading("Afterwards");
        self.check("counters", "what the vNICs dropped", |lab| counters::nothing_unexplained(lab))?;
        // What died during a check may have gone unnoticed by it.
        self.check("processes", "nothing has crashed", |lab| {
            lab.check_processes().map(|()| Finding::new("every process of the laboratory still runs"))
        })
    }

    fn servers(&mut self) -> Result<()> {
        self.report.heading("Servers");
        self.step("cable", "two servers and the link between them", |lab| {
            lab.lay_cable().map(|()| Finding::new("laid"))
        })?;
        for index in 0..self.lab.topology.servers.len() {
            let title = format!("{} with its Open vSwitch", self.lab.topology.servers[index].name);
            self.step("server", title, |lab| {
                lab.start_server(index)?;
                Ok(Finding::new(format!("bridge up, {} VM ports", lab.topology.guests(index).count())))
            })?;
        }
        self.step("capture", "capture on the link", wire::start_capture)
    }

    fn vnics(&mut self) -> Result<()> {
        self.report.heading("VMs");
        self.step("vnics", "a vNIC for every VM", |lab| {
            (0..lab.topology.vms.len()).try_for_each(|index| lab.start_vnic(index))?;
            Ok(Finding::new(format!("{} `cvsw port` processes ready", lab.topology.vms.len())))
        })?;
        let options = self.options;
        let count = self.lab.topology.unikernels.len();
        if count > 0 {
            let image = options.unikernel_image.as_deref();
            self.step("unikernels", "machines without an operating system", |lab| {
                let image = image.context(
                    "--unikernel needs --unikernel-image=FILE; `cargo xtask lab --unikernel N` makes and names it",
                )?;
                (0..count).try_for_each(|index| lab.start_unikernel(index, image))?;
                Ok(Finding::new(format!("{count} QEMU machines started, microvm and q35 in turn")))
            })?;
        }
        self.check("mtu-before", "MTU in the VMs before the controller", |lab| control::ordinary_mtu(lab))
    }

    fn control(&mut self) -> Result<()> {
        self.report.heading("Control");
        self.step("controller", "controller", |lab| {
            lab.start_controller().map(|()| Finding::new("listens, both switches are pointed to it"))
        })?;
        self.step("switches", "switches connected", control::switches_connected)?;
        self.step("registered", "vNICs registered", control::all_registered)?;
        self.check("mtu-set", "MTU in the VMs", |lab| control::tunnel_mtu(lab))?;
        self.check("switch-flows", "flows in Open vSwitch", |lab| switch::few_flows(lab))
    }

    fn tenants(&mut self) -> Result<()> {
        self.report.heading("Virtual networks");
        self.step("addresses", "addresses and programs in the VMs", |lab| {
            for index in 0..lab.topology.vms.len() {
                lab.address_vm(&lab.topology.vms[index])?;
                lab.start_answerer(index)?;
            }
            throughput::start_servers(lab)
        })?;
        self.check("ping", "ARP and ping inside the networks", |lab| reach::within_networks(lab))?;
        self.check("largest-packet", "largest packet", |lab| reach::largest_packet(lab))?;
        self.check("same-addresses", "same inner addresses, separate networks", |lab| {
            isolation::own_peer_answers(lab)
        })?;
        if self.lab.topology.networks.len() > 1 {
            self.check("isolation", "no way into another network", |lab| isolation::strangers_stay_out(lab))?;
        }
        if !self.lab.topology.unikernels.is_empty() {
            self.unikernels()?;
        }
        self.check("forgery", "control frames forged by a VM", forgery::forged_control_frames)
    }

    fn unikernels(&mut self) -> Result<()> {
        self.check("unikernel", "unikernels in their network", |lab| unikernel::answer(lab))?;
        self.check("unikernel-mtu", "another MTU under open connections", unikernel::live_mtu)?;
        self.check(
            "unikernel-restart",
            "unikernels after a restart of the controller",
            unikernel::outlive_the_controller,
        )?;
        self.check("unikernel-alone", "unikernels from other networks", |lab| unikernel::strangers(lab))?;
        self.check("unikernel-overlay", "unikernels past the overlay", |lab| unikernel::overlay_only(lab))
    }

    fn link(&mut self) -> Result<()> {
        self.report.heading("On the link, dissected by tshark");
        self.check("link-traffic", "traffic of many flows", |lab| wire::mixed_traffic(lab, throughput::PORT))?;
        let mut dissection = Dissection::default();
        self.check("link-volume", "frames by VNI", |lab| {
            dissection = wire::dissect(lab)?;
            dissection.volume(&lab.topology)
        })?;
        for (name, title, rule) in [
            ("link-vxlan-only", "only VXLAN (behind ESP, if encrypted)", Rule::VxlanOnly),
            ("link-own-network", "VNI and addresses", Rule::OwnNetwork),
            ("link-checksums", "checksums", Rule::Checksums),
            ("link-df", "no fragmentation", Rule::DontFragment),
            ("link-source-ports", "UDP source ports", Rule::SourcePorts),
        ] {
            self.check(name, title, |_| dissection.verdict(rule))?;
        }
        if self.lab.topology.cipher.is_some() {
            self.check("link-sealed", "without the keys", |lab| wire::nothing_visible(lab))?;
        }
        Ok(())
    }

    fn throughput(&mut self) -> Result<()> {
        let load = self.options.load();
        self.report.heading(&format!(
            "Throughput by iperf3, {} s each; UDP: {} Mbit/s offered per pair, {} octets",
            load.seconds, load.udp_rate, load.udp_length
        ));
        let pairs: Vec<Pair> = self.lab.topology.pairs().collect();
        for (protocol, one, all) in [(Protocol::Tcp, "tcp", "tcp-parallel"), (Protocol::Udp, "udp", "udp-parallel")]
        {
            for pair in &pairs {
                let vms = &self.lab.topology.vms;
                let title = format!("{} {} -> {}", protocol.name(), vms[pair.a].name, vms[pair.b].name);
                self.check(one, title, |lab| throughput::one_pair(lab, *pair, protocol, load))?;
            }
            if pairs.len() > 1 {
                let title = format!("{} all {} pairs at once", protocol.name(), pairs.len());
                self.check(all, title, |lab| throughput::all_pairs(lab, protocol, load))?;
            }
        }
        Ok(())
    }

    /// A part without which the rest makes no sense.
    fn step(
        &mut self,
        name: &'static str,
        title: impl Into<String>,
        work: impl FnOnce(&mut Lab) -> Result<Finding>,
    ) -> Result<()> {
        check_interrupt()?;
        self.report.run(name, title, || work(self.lab))
    }

    /// A question whose answer is a verdict.
    fn check(
        &mut self,
        name: &'static str,
        title: impl Into<String>,
        work: impl FnOnce(&mut Lab) -> Result<Finding>,
    ) -> Result<()> {
        match self.step(name, title, work) {
            Err(error) if error.is::<Interrupted>() => Err(error),
            // A signal during the check may be the reason for its failure.
            _ => Ok(check_interrupt()?),
        }
    }
}
