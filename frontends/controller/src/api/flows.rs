//! A vNIC's flows, and what they would do to a frame.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use cvsw_core::flow::{Direction, FlowMod, text::DisplayFlow, text::parse_flow};
use cvsw_trace::parse_hex;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    desired::find_member,
    precondition::{Document, Precondition},
    problem::{Body, Params, Path, Problem},
    trace::Traced,
};
use crate::{
    derive::{EntryId, Kind},
    mac::Mac,
    spec::{MemberSettings, Spec},
    state::Controller,
    store::Revision,
};

/// Longest frame that is traced.
const MAX_TRACED: usize = 65_535;

/// A flow entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowDocument {
    /// In the syntax of ovs-ofctl.
    pub flow: String,
    /// What it is for: `encap`, `encap_group`, `decap`, `decap_group`, `isolation`, `quarantine` or `extra`.
    pub kind: String,
    /// Priority.
    pub priority: u16,
    /// Cookie, hexadecimal.
    pub cookie: String,
    /// Whether the vNIC itself has listed it.
    pub confirmed: bool,
}

/// The flows of a vNIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowsDocument {
    /// Of the member's last change; the first part of the entity tag. 0 in quarantine.
    pub revision: Revision,
    /// Entries that it should have.
    pub flows: Vec<FlowDocument>,
    /// Entries that it is believed to have, and should not.
    pub surplus: Vec<FlowDocument>,
    /// The extra flows as they were written; these can be changed.
    pub extra: Vec<String>,
}

/// Extra flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"flows": ["priority=50000,in_port=HOST,udp,tp_dst=9,actions=drop"]}))]
pub struct ExtraFlows {
    /// In the syntax of ovs-ofctl.
    pub flows: Vec<String>,
}

/// Which extra flow.
#[derive(Debug, Deserialize, IntoParams)]
pub struct Which {
    /// The flow, with or without its actions; its priority and match are compared.
    flow: String,
}

/// A frame to be traced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"direction": "tx", "frame": "ffffffffffff 020000000101 0806"}))]
pub struct TraceRequest {
    /// `tx`: from the VM; `rx`: from the network.
    pub direction: String,
    /// From the Ethernet destination on, in hexadecimal; blanks and colons are ignored.
    pub frame: String,
    /// With `rx`: address of the vNIC that sends it. The frame is then as that one's VM sends it, and what is traced is what
    /// arrives of it, tunnelled and sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

fn kind(flow: &FlowMod) -> &'static str {
    if !crate::derive::is_ours(flow.cookie) {
        return "foreign";
    }
    let number = (flow.cookie >> 24) as u8;
    let kinds = [
        (Kind::EncapUnicast, "encap"),
        (Kind::EncapGroup, "encap_group"),
        (Kind::DecapUnicast, "decap"),
        (Kind::DecapGroup, "decap_group"),
        (Kind::Isolation, "isolation"),
        (Kind::Quarantine, "quarantine"),
        (Kind::Extra, "extra"),
    ];
    kinds.iter().find(|(kind, _)| *kind as u8 == number).map_or("unknown", |(_, name)| name)
}

fn document(flow: &FlowMod, confirmed: bool) -> FlowDocument {
    FlowDocument {
        flow: DisplayFlow(flow).to_string(),
        kind: kind(flow).to_owned(),
        priority: flow.priority,
        cookie: format!("{:#018x}", flow.cookie),
        confirmed,
    }
}

pub(super) fn parse_mac(mac: &str) -> Result<Mac, Problem> {
    let wrong = |_| Problem::bad_request(format!("{mac:?} is not a MAC address: write 02:00:00:00:01:01"));
    mac.parse().map_err(wrong)
}

fn no_vnic(mac: Mac) -> Problem {
    Problem::not_found(format!("{mac} is neither a member of a network nor in quarantine"))
}

/// The vNIC's member, or a problem.
fn member(spec: &Spec, mac: Mac) -> Result<(String, String), Problem> {
    let found = spec.member_by_mac(&mac.to_string());
    found.map(|(network, name)| (network.to_owned(), name.to_owned())).ok_or_else(|| no_vnic(mac))
}

async fn flows(api: &Api, mac: Mac) -> Result<FlowsDocument, Problem> {
    let spec = api.desk.spec();
    let written = member(&spec, mac).and_then(|(network, name)| find_member(&spec, &network, &name).cloned()).ok();
    let found = api.handle.ask(move |controller, _| controller.flows_of(mac)).await?.ok_or_else(|| no_vnic(mac))?;
    Ok(FlowsDocument {
        revision: written.as_ref().map_or(0, |member| member.revision),
        flows: found.wanted.iter().map(|(flow, confirmed)| document(flow, *confirmed)).collect(),
        surplus: found.surplus.iter().map(|flow| document(flow, true)).collect(),
        extra: written.map(|member| member.value.flows).unwrap_or_default(),
    })
}

/// A vNIC's flows
///
/// As JSON, or as text for `ovs-ofctl` with `Accept: text/plain`.
#[utoipa::path(get, path = "/v1/vnics/{mac}/flows", tag = "desired", params(("mac" = String, Path), Precondition),
    responses((status = OK, content((FlowsDocument = "application/json"), (String = "text/plain"))),
              (status = NOT_FOUND, body = Problem)))]
pub(super) async fn get_flows(
    State(api): State<Api>,
    precondition: Precondition,
    Path(mac): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let document = flows(&api, parse_mac(&mac)?).await?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let representation = if accept.split(',').any(|kind| kind.trim().starts_with("text/plain")) {
        let text: String = document.flows.iter().map(|flow| format!("{}\n", flow.flow)).collect();
        Document::new(Some(document.revision), "text/plain; charset=utf-8", text)
    } else {
        Document::record(document.revision, &document)
    };
    Ok(([(header::VARY, "accept")], precondition.read(representation)?).into_response())
}

/// Replace a vNIC's extra flows
#[utoipa::path(put, path = "/v1/vnics/{mac}/flows", tag = "desired", params(("mac" = String, Path), Precondition),
    request_body = ExtraFlows, responses((status = OK, body = FlowsDocument), (status = "4XX", body = Problem)))]
pub(super) async fn put_flows(
    State(api): State<Api>,
    precondition: Precondition,
    Path(mac): Path<String>,
    Body(extra): Body<ExtraFlows>,
) -> Result<Response, Problem> {
    let replace = move |settings: &mut MemberSettings| {
        settings.flows = extra.flows;
        Ok(())
    };
    change_flows(&api, precondition, &mac, replace).await
}

/// Add extra flows to a vNIC
#[utoipa::path(post, path = "/v1/vnics/{mac}/flows", tag = "desired", params(("mac" = String, Path), Precondition),
    request_body = ExtraFlows, responses((status = OK, body = FlowsDocument), (status = "4XX", body = Problem)))]
pub(super) async fn add_flows(
    State(api): State<Api>,
    precondition: Precondition,
    Path(mac): Path<String>,
    Body(extra): Body<ExtraFlows>,
) -> Result<Response, Problem> {
    let add = move |settings: &mut MemberSettings| {
        settings.flows.extend(extra.flows);
        Ok(())
    };
    change_flows(&api, precondition, &mac, add).await
}

/// Remove an extra flow from a vNIC
#[utoipa::path(delete, path = "/v1/vnics/{mac}/flows", tag = "desired", params(("mac" = String, Path), Which, Precondition),
    responses((status = OK, body = FlowsDocument), (status = "4XX", body = Problem)))]
pub(super) async fn delete_flow(
    State(api): State<Api>,
    precondition: Precondition,
    Path(mac): Path<String>,
    Params(which): Params<Which>,
) -> Result<Response, Problem> {
    let id = |text: &str| parse_flow(text).map(|flow| EntryId::of(&flow));
    let ending = if which.flow.contains("actions=") { "" } else { ",actions=drop" };
    let wanted = id(&format!("{}{ending}", which.flow))
        .map_err(|error| Problem::bad_request(format!("this is not a flow: expected {}", error.expected)))?;
    let remove = move |settings: &mut MemberSettings| {
        let before = settings.flows.len();
        settings.flows.retain(|flow| id(flow) != Ok(wanted));
        if settings.flows.len() == before {
            return Err(Problem::not_found("the vNIC has no extra flow with this priority and match"));
        }
        Ok(())
    };
    change_flows(&api, precondition, &mac, remove).await
}

async fn change_flows(
    api: &Api,
    precondition: Precondition,
    mac: &str,
    change: impl FnOnce(&mut MemberSettings) -> Result<(), Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let mac = parse_mac(mac)?;
    let edit = move |spec: &mut Spec| {
        let (network, name) = member(spec, mac)?;
        precondition.check(Some(find_member(spec, &network, &name)?.revision))?;
        let network = Arc::make_mut(spec.networks.entry(network).or_default());
        change(&mut network.members.entry(name.into()).or_default().value)
    };
    api.desk.edit(edit).await?;
    let document = flows(api, mac).await?;
    Ok(Document::record(document.revision, &document).into_response())
}

/// What a vNIC's wanted flows would do to a frame
///
/// The vNIC's wanted MTU holds. What it sends encrypted is sealed if it has a key for it, under the SPI in use but with a key
/// that is made for the trace, since the controller forgets keys once they are delivered: all but the sealed bytes is as it
/// would be. So is what is sent by `from`, which the vNIC opens like anything else. A sealed frame from the real network can be
/// opened by its receiver only: the first step, `sealed`, tells its SPI, its sender, where its key is in its life and whether
/// this vNIC has it; if so, the verdict is `unknown`, and to trace what is inside, give it with `from`; if not, `esp_no_sa`.
#[utoipa::path(post, path = "/v1/vnics/{mac}/trace", tag = "desired", params(("mac" = String, Path)),
    request_body = TraceRequest,
    responses((status = OK, body = Object, description = "As `cvsw trace --json`"), (status = "4XX", body = Problem)))]
pub(super) async fn trace_frame(
    State(api): State<Api>,
    Path(mac): Path<String>,
    headers: HeaderMap,
    Body(request): Body<TraceRequest>,
) -> Result<Response, Problem> {
    let mac = parse_mac(&mac)?;
    let direction = match request.direction.as_str() {
        "tx" => Direction::Tx,
        "rx" => Direction::Rx,
        _ => return Err(Problem::bad_request("direction is `tx` (from the VM) or `rx` (from the network)")),
    };
    let bytes = parse_hex(&request.frame).map_err(|error| Problem::bad_request(format!("frame: {error}")))?;
    if bytes.len() > MAX_TRACED {
        return Err(Problem::bad_request(format!("a frame has at most {MAX_TRACED} bytes")));
    }
    let from = request.from.as_deref().map(parse_mac).transpose()?;
    if from.is_some() && direction == Direction::Tx {
        return Err(Problem::bad_request("from: only what is received (`rx`) comes from another vNIC"));
    }
    let frame = bytes.clone();
    let look = move |controller: &mut Controller, now| {
        let vnic = |mac| Traced::of(controller, now, mac).ok_or_else(|| no_vnic(mac));
        let traced = vnic(mac)?;
        Ok::<_, Problem>(match (direction, from) {
            (Direction::Tx, _) => traced,
            (Direction::Rx, None) => traced.receiving(controller, &frame),
            (Direction::Rx, Some(sender)) => traced.receiving_from(controller, vnic(sender)?),
        })
    };
    let traced = api.handle.ask(look).await??;
    // It takes megabytes, and a while.
    let traced = tokio::task::spawn_blocking(move || traced.run(direction, bytes)).await;
    let trace = traced.map_err(|_| Problem::conflict("the trace has failed"))?;
    let trace = trace.map_err(|error| Problem::conflict(format!("the frame cannot be traced: {error:#}")))?;
    if headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain")) {
        return Ok((StatusCode::OK, trace.to_string()).into_response());
    }
    Ok(Json(trace).into_response())
}
