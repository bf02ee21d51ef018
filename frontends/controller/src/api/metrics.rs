//! Metrics for Prometheus, as OpenMetrics text. Labels have values from fixed lists only: states, directions, reasons.

use std::{collections::BTreeMap, sync::atomic::AtomicU64};

use axum::{extract::State, http::header, response::IntoResponse};
use cvsw_core::{ControlError, DropReason};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::ConstCounter, family::Family, gauge::ConstGauge, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{Api, problem::Problem};
use crate::{
    keys::ChannelStatus,
    state::{Controller, switch::Stage, vnic::Phase},
    status::Status,
};

/// Usual reasons to refuse a REGISTER, see [`crate::status::RefusedStatus::reason`].
const REGISTER: [&str; 6] =
    ["tag", "unauthenticated", "replayed", "downgrade", "duplicate_mac", "not_in_configuration"];
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Drop {
    direction: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

type Counters<L> = Family<L, prometheus_client::metrics::counter::Counter<u64, AtomicU64>>;

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "process",
    responses((status = OK, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn get_metrics(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let spec = api.desk.spec();
    let mut registry = Registry::default();
    let (networks, revision, events) = (spec.networks.len(), spec.revision, api.bus.count());
    process(&mut registry);
    let filled = api.handle.ask(move |controller, _| {
        let ours = registry.sub_registry_with_prefix("cvsw");
        desired(ours, networks, revision, events);
        live(ours, controller, Status::is_converged(controller));
        keys(ours, controller);
        traffic(ours, controller);
        registry
    });
    let registry = filled.await?;
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Problem::conflict(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn desired(registry: &mut Registry, networks: usize, revision: u64, events: u64) {
    // A gauge and not an Info, whose type Prometheus's older text format does not have.
    let build = Family::<Version, Gauge>::default();
    build.get_or_create(&Version { version: env!("CARGO_PKG_VERSION") }).set(1);
    registry.register("build_info", "The controller's version", build);
    registry.register("networks", "Virtual networks that are wanted", ConstGauge::new(number(networks)));
    let revision = ConstGauge::new(i64::try_from(revision).unwrap_or(i64::MAX));
    registry.register("desired_revision", "Revision of the desired state", revision);
    registry.register("events", "Events since the start", ConstCounter::new(events));
}

fn live(registry: &mut Registry, controller: &Controller, converged: bool) {
    let flag = |on: bool| ConstGauge::new(i64::from(on));
    registry.register("converged", "1 if every member has exactly what it should have", flag(converged));
    let refused = controller.config_error().is_some();
    registry.register("desired_refused", "1 if a desired state was offered that cannot be used", flag(refused));

    let switches = Family::<StateLabel, Gauge>::default();
    for state in ["handshake", "up"] {
        let is = |stage: Stage| (stage == Stage::Up) == (state == "up");
        let count = controller.switches().values().filter(|switch| is(switch.stage)).count();
        switches.get_or_create(&StateLabel { state }).set(number(count));
    }
    registry.register("switches", "Connected switches by state", switches);

    let vnics = Family::<StateLabel, Gauge>::default();
    for phase in Phase::ALL {
        vnics.get_or_create(&StateLabel { state: phase.name() }).set(0);
    }
    for mac in controller.desired().keys() {
        let phase = controller.vnics().get(mac).map_or(Phase::Absent, |vnic| vnic.phase());
        vnics.get_or_create(&StateLabel { state: phase.name() }).inc();
    }
    registry.register("vnics", "Members by the state of their vNICs", vnics);
    let outside = controller.vnics().keys().filter(|mac| !controller.desired().contains_key(mac)).count();
    registry.register("vnics_quarantined", "vNICs that are no longer members", ConstGauge::new(number(outside)));
    let claims = controller.claims().iter().count();
    registry.register(
        "vnics_refused",
        "vNICs that registered and were not admitted",
        ConstGauge::new(number(claims)),
    );
}

fn keys(registry: &mut Registry, controller: &Controller) {
    let family = Family::<StateLabel, Gauge>::default();
    for state in ChannelStatus::STATES {
        family.get_or_create(&StateLabel { state }).set(0);
    }
    for (state, count) in controller.keys().states() {
        family.get_or_create(&StateLabel { state }).set(i64::try_from(*count).unwrap_or(i64::MAX));
    }
    registry.register("keys", "Senders and destinations of encrypted networks, by state", family);
}

fn traffic(registry: &mut Registry, controller: &Controller) {
    let counters = controller.counters();
    let totals = controller.message_totals();
    let family = Counters::<Direction>::default();
    family.get_or_create(&Direction { direction: "received" }).inc_by(totals.0);
    family.get_or_create(&Direction { direction: "sent" }).inc_by(totals.1);
    registry.register("openflow_messages", "OpenFlow messages", family);
    let help = "Control messages that were sent again, because no answer came in time";
    registry.register("control_messages_repeated", help, ConstCounter::new(controller.repeated()));

    by_reason(
        registry,
        "openflow_errors",
        "OpenFlow messages that could not be decoded",
        &counters.bad_openflow,
        &[],
    );
    let refused: Vec<_> = ControlError::ALL.iter().map(|error| error.name()).collect();
    let help = "Frames that are not acceptable control frames";
    by_reason(registry, "control_frames_refused", help, &counters.bad_control, &refused);
    by_reason(registry, "registers_refused", "REGISTERs that were refused", &counters.refused_registers, &REGISTER);

    let family = Counters::<Drop>::default();
    for direction in ["tx", "rx"] {
        for reason in DropReason::ALL {
            drop(family.get_or_create(&Drop { direction, reason: reason.name() }));
        }
    }
    for (direction, reason, count) in counters.drops.iter() {
        family.get_or_create(&Drop { direction, reason }).inc_by(count);
    }
    registry.register("vnic_dropped_frames", "Frames that vNICs of version 3 have dropped, as they tell", family);

    let sums = &counters.traffic;
    let bytes = Counters::<Direction>::default();
    let packets = Counters::<Direction>::default();
    let drops = Counters::<Direction>::default();
    for (direction, sum) in [("tx", &sums.tx), ("rx", &sums.rx)] {
        bytes.get_or_create(&Direction { direction }).inc_by(sum.bytes);
        packets.get_or_create(&Direction { direction }).inc_by(sum.packets);
        drops.get_or_create(&Direction { direction }).inc_by(sum.dropped);
    }
    let help = "Traffic at the switch ports of vNICs (tx: from the vNIC)";
    registry.register_with_unit("port_traffic", help, Unit::Bytes, bytes);
    registry.register("port_packets", "Packets at the switch ports of vNICs (tx: from the vNIC)", packets);
    registry.register("port_dropped_packets", "Packets that switches dropped at the ports of vNICs", drops);
}

/// Counts by reason. The reasons that are `known` are there from the start, so that the first case is an increase.
fn by_reason(
    registry: &mut Registry,
    name: &str,
    help: &str,
    counts: &BTreeMap<&'static str, u64>,
    known: &[&'static str],
) {
    let family = Counters::<Reason>::default();
    for reason in known {
        drop(family.get_or_create(&Reason { reason }));
    }
    for (reason, count) in counts {
        family.get_or_create(&Reason { reason }).inc_by(*count);
    }
    registry.register(name, help, family);
}

/// The conventional metrics of a process, as far as `/proc` gives them.
fn process(registry: &mut Registry) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    if let Some(kib) = resident.and_then(|kib| kib.parse::<i64>().ok()) {
        let bytes = ConstGauge::new(kib.saturating_mul(1024));
        registry.register("process_resident_memory_bytes", "Resident memory", bytes);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        registry.register("process_open_fds", "Open files and sockets", ConstGauge::new(number(files.count())));
    }
}
