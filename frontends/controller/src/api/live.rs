//! Switches, vNICs and events: what there is.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{Json, extract::State, http::HeaderMap, response::sse};
use futures_util::{Stream, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    flows::parse_mac,
    problem::{Params, Path, Problem},
};
use crate::{
    events::Event,
    mac::Mac,
    state::{
        Controller, Traffic,
        switch::{Stage, Switch},
        vnic::Phase,
    },
    status::{RefusedStatus, Status, SwitchStatus, UnknownStatus, VnicStatus, one_vnic},
};

/// Entries of a page, unless the asker wants fewer or more.
pub(super) const PAGE: usize = 1000;
/// Most entries of a page.
pub(super) const MAX_PAGE: usize = 10_000;
/// A stream of events says at least so often that it is alive.
const ALIVE: Duration = Duration::from_secs(15);

/// The whole state
///
/// Large where there are many vNICs; see `/v1/vnics` for pages.
#[utoipa::path(get, path = "/v1/status", tag = "live", responses((status = OK, body = Status)))]
pub(super) async fn get_status(State(api): State<Api>) -> Result<Json<Status>, Problem> {
    Ok(Json(api.handle.ask(|controller, now| Status::of(controller, now)).await?))
}

/// What matters at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// Every member has exactly what it should have.
    pub converged: bool,
    /// Why a desired state that was offered is not in force.
    pub error: Option<String>,
    /// Virtual networks.
    pub networks: usize,
    /// Connected switches, by state.
    pub switches: BTreeMap<String, usize>,
    /// Members, by the state of their vNICs.
    pub vnics: BTreeMap<String, usize>,
    /// vNICs that registered and were not admitted.
    pub refused: usize,
    /// Senders and destinations of encrypted networks, by state.
    pub keys: BTreeMap<String, usize>,
    /// Control messages that were sent again since the start, because no answer to them came in time.
    #[serde(default)]
    pub repeated: u64,
    /// What passed the switch ports of vNICs since the start.
    pub traffic: Traffic,
    /// What was dropped or refused since the start, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// What matters at a glance
#[utoipa::path(get, path = "/v1/summary", tag = "live", responses((status = OK, body = Summary)))]
pub(super) async fn get_summary(State(api): State<Api>) -> Result<Json<Summary>, Problem> {
    let networks = api.desk.spec().networks.len();
    Ok(Json(api.handle.ask(move |controller, _| summary(controller, networks)).await?))
}

fn summary(controller: &Controller, networks: usize) -> Summary {
    let phase = |mac| controller.vnics().get(mac).map_or(Phase::Absent, |vnic| vnic.phase()).name();
    let stage = |switch: &Switch| if switch.stage == Stage::Up { "up" } else { "handshake" };
    Summary {
        converged: Status::is_converged(controller),
        error: controller.config_error().map(str::to_owned),
        networks,
        switches: count(controller.switches().values().map(stage)),
        vnics: count(controller.desired().keys().map(phase)),
        refused: controller.claims().iter().count(),
        keys: controller.keys().states().iter().map(|(state, count)| ((*state).to_owned(), *count)).collect(),
        repeated: controller.repeated(),
        traffic: controller.counters().traffic,
        drops: drops(controller),
    }
}

fn count<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

fn drops(controller: &Controller) -> BTreeMap<String, u64> {
    let counters = controller.counters();
    let control =
        counters.bad_control.iter().map(|(reason, count)| (format!("control frame refused: {reason}"), *count));
    let openflow =
        counters.bad_openflow.iter().map(|(reason, count)| (format!("OpenFlow message: {reason}"), *count));
    let ports = [
        ("switch port, from vNICs".to_owned(), counters.traffic.tx.dropped),
        ("switch port, to vNICs".to_owned(), counters.traffic.rx.dropped),
    ];
    let of_vnic = |(direction, reason, count)| (format!("vNICs, {direction}: {reason}"), count);
    control.chain(openflow).chain(ports).chain(counters.drops.iter().map(of_vnic)).collect()
}

/// Connected switches
#[utoipa::path(get, path = "/v1/switches", tag = "live", responses((status = OK, body = Vec<SwitchStatus>)))]
pub(super) async fn list_switches(State(api): State<Api>) -> Result<Json<Vec<SwitchStatus>>, Problem> {
    Ok(Json(api.handle.ask(|controller, now| Status::switches_of(controller, now)).await?))
}

/// Which vNICs.
#[derive(Debug, Deserialize, IntoParams)]
pub struct Selection {
    /// Only those of this network.
    network: Option<String>,
    /// Only those in this state.
    state: Option<String>,
    /// Only those with this text in their address or name.
    search: Option<String>,
    /// At most so many (1000 by default, at most 10000).
    limit: Option<usize>,
    /// Only those whose address comes after this one: the last of the page before.
    after: Option<String>,
}

/// vNICs: members, registered or not, and those in quarantine
///
/// In the order of their addresses. A page that has `limit` entries may have a next one.
#[utoipa::path(get, path = "/v1/vnics", tag = "live", params(Selection),
    responses((status = OK, body = Vec<VnicStatus>), (status = BAD_REQUEST, body = Problem)))]
pub(super) async fn list_vnics(
    State(api): State<Api>,
    Params(selection): Params<Selection>,
) -> Result<Json<Vec<VnicStatus>>, Problem> {
    let after = selection.after.as_deref().map(parse_mac).transpose()?;
    let limit = selection.limit.unwrap_or(PAGE).min(MAX_PAGE);
    let page = move |controller: &mut Controller, now| {
        let wanted = |vnic: &VnicStatus| {
            selection.network.as_ref().is_none_or(|network| vnic.network.as_ref() == Some(network))
                && selection.state.as_ref().is_none_or(|state| vnic.state == *state)
        };
        let search = selection.search.as_ref().map(|text| text.to_lowercase());
        let found = |mac: &Mac| search.as_ref().is_none_or(|text| is_called(controller, *mac, text));
        let macs = controller.macs().filter(|mac| after.is_none_or(|after| *mac > after)).filter(found);
        macs.filter_map(|mac| one_vnic(controller, now, mac)).filter(wanted).take(limit).collect()
    };
    Ok(Json(api.handle.ask(page).await?))
}

/// Whether a vNIC has this text, in lower case, in its address or name.
fn is_called(controller: &Controller, mac: Mac, text: &str) -> bool {
    mac.to_string().contains(text)
        || controller.desired_of(mac).is_some_and(|desired| desired.name.to_lowercase().contains(text))
}

/// vNICs that were not let in
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Refusals {
    /// Those that registered and are not members, or whose address somebody else has.
    pub unknown: Vec<UnknownStatus>,
    /// REGISTER messages that were refused: a wrong key, another challenge's answer, a second holder of an address.
    pub refused: Vec<RefusedStatus>,
}

/// vNICs that were not let in, and REGISTER messages that were not believed
#[utoipa::path(get, path = "/v1/refusals", tag = "live", responses((status = OK, body = Refusals)))]
pub(super) async fn list_refusals(State(api): State<Api>) -> Result<Json<Refusals>, Problem> {
    let look = |controller: &mut Controller, now| Refusals {
        unknown: Status::unknown_of(controller, now),
        refused: Status::refused_of(controller, now),
    };
    Ok(Json(api.handle.ask(look).await?))
}

/// One vNIC
#[utoipa::path(get, path = "/v1/vnics/{mac}", tag = "live", params(("mac" = String, Path)),
    responses((status = OK, body = VnicStatus), (status = NOT_FOUND, body = Problem)))]
pub(super) async fn get_vnic(State(api): State<Api>, Path(mac): Path<String>) -> Result<Json<VnicStatus>, Problem> {
    let mac = parse_mac(&mac)?;
    let look = move |controller: &mut Controller, now| {
        controller.watch(now, mac);
        one_vnic(controller, now, mac)
    };
    let vnic = api.handle.ask(look).await?;
    let missing = || Problem::not_found(format!("{mac} is neither a member of a network nor in quarantine"));
    vnic.map(Json).ok_or_else(missing)
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
pub struct Since {
    /// Also those that are kept and come after this number (0: all that are kept).
    after: Option<u64>,
}

/// What happens, as server-sent events
///
/// Each has its number as `id`, its type as `event` and a document as `data`. A listener that comes back with
/// `Last-Event-ID` gets what it has missed, as far as it is kept; one that reads too slowly gets an event `missed`.
#[utoipa::path(get, path = "/v1/events", tag = "live", params(Since),
    responses((status = OK, body = Event, content_type = "text/event-stream")))]
pub(super) async fn stream_events(
    State(api): State<Api>,
    Params(since): Params<Since>,
    headers: HeaderMap,
) -> sse::Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let (missed, live) = api.bus.subscribe(last.or(since.after));
    let stream = stream::iter(missed).map(|event| Ok(sse_event(&event))).chain(stream::unfold(live, next));
    sse::Sse::new(stream).keep_alive(sse::KeepAlive::new().interval(ALIVE))
}

async fn next(mut live: Receiver<Arc<Event>>) -> Option<(Result<sse::Event, Infallible>, Receiver<Arc<Event>>)> {
    let event = match live.recv().await {
        Ok(event) => sse_event(&event),
        Err(RecvError::Lagged(count)) => {
            sse::Event::default().event("missed").data(format!("{{\"count\":{count}}}"))
        }
        Err(RecvError::Closed) => return None,
    };
    Some((Ok(event), live))
}

fn sse_event(event: &Event) -> sse::Event {
    // An event always has a JSON form, in one line.
    let data = serde_json::to_string(event).unwrap_or_default();
    sse::Event::default().id(event.id.to_string()).event(event.what.name()).data(data)
}
