//! What vNICs seal for whom: keys, and the same as pairs of members.

use std::{collections::HashMap, net::Ipv4Addr};

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    desired::find_network,
    flows::parse_mac,
    live::{MAX_PAGE, PAGE},
    problem::{Params, Path, Problem},
};
use crate::{keys::ChannelId, mac::Mac, spec::NetworkSpec, state::Controller, status::EncryptedStatus};

/// What one member sends to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pair {
    /// Name of the sending member.
    pub sender: String,
    /// Name of the receiving member; none: the network's group.
    pub receiver: Option<String>,
    /// `clear`, or as for keys: `encrypted`, `keying`, `waiting`.
    pub state: String,
    /// Cipher suite; none: not encrypted.
    pub suite: Option<String>,
}

/// Which pairs.
#[derive(Debug, Deserialize, IntoParams)]
pub struct PairSelection {
    /// Only those of this sender.
    sender: Option<String>,
    /// At most so many (1000 by default, at most 10000).
    limit: Option<usize>,
    /// Only those behind this one, the last of the page before: `SENDER,RECEIVER`, or `SENDER,` for the group.
    after: Option<String>,
}

/// Whether what the members of a network send to each other is encrypted
///
/// In the order of the senders' names, or of their addresses in an encrypted network. A page that has `limit` entries may
/// have a next one.
#[utoipa::path(get, path = "/v1/networks/{network}/pairs", tag = "live",
    params(("network" = String, Path), PairSelection),
    responses((status = OK, body = Vec<Pair>), (status = BAD_REQUEST, body = Problem), (status = NOT_FOUND, body = Problem)))]
pub(super) async fn list_pairs(
    State(api): State<Api>,
    Path(network): Path<String>,
    Params(selection): Params<PairSelection>,
) -> Result<Json<Vec<Pair>>, Problem> {
    let spec = api.desk.spec();
    let found = find_network(&spec, &network)?;
    let limit = selection.limit.unwrap_or(PAGE).min(MAX_PAGE);
    let after = selection.after.as_deref().map(parse_pair).transpose()?;
    if found.settings.value.cipher.is_none() {
        let wanted = |pair: &Pair| selection.sender.as_ref().is_none_or(|sender| pair.sender == *sender);
        let behind = |pair: &Pair| after.is_none_or(|after| place(pair) > after);
        return Ok(Json(clear_pairs(found).filter(wanted).filter(behind).take(limit).collect()));
    }
    let vni = u32::try_from(found.settings.value.vni).unwrap_or_default();
    let after = after.map(|after| channel_of(found, vni, after)).transpose()?;
    // Nobody has the address of nobody.
    let sender = selection.sender.as_ref().map(|name| mac_of(found, name).unwrap_or(Mac([0; 6])));
    let look = move |controller: &mut Controller, now| {
        let keys = controller.keys().iter_in(now, vni, sender, after).take(limit);
        keys.map(|channel| EncryptedStatus::of(&channel)).collect::<Vec<_>>()
    };
    let keys = api.handle.ask(look).await?;
    Ok(Json(encrypted_pairs(found, &keys).collect()))
}

/// A sender, whether the receiver is the group, and the receiver: in the order of clear pairs.
type Place<'a> = (&'a str, bool, &'a str);

fn place(pair: &Pair) -> Place<'_> {
    (&pair.sender, pair.receiver.is_none(), pair.receiver.as_deref().unwrap_or_default())
}

fn parse_pair(text: &str) -> Result<Place<'_>, Problem> {
    let wrong =
        || Problem::bad_request(format!("after={text}: write SENDER,RECEIVER of the last pair of the page before"));
    text.split_once(',').map(|(sender, receiver)| (sender, receiver.is_empty(), receiver)).ok_or_else(wrong)
}

fn mac_of(network: &NetworkSpec, name: &str) -> Option<Mac> {
    network.members.get(name)?.value.mac.parse().ok()
}

fn channel_of(
    network: &NetworkSpec,
    vni: u32,
    (sender, to_group, receiver): Place<'_>,
) -> Result<ChannelId, Problem> {
    let destination = if to_group {
        Some(&*network.settings.value.group)
    } else {
        network.members.get(receiver).map(|member| &*member.value.underlay_ip)
    };
    let channel = mac_of(network, sender).zip(destination.and_then(|address| address.parse().ok()));
    let gone = || {
        Problem::bad_request(format!("after={sender},{receiver}: they are not members; begin with the first page"))
    };
    channel.map(|(sender, destination)| ChannelId { vni, sender, destination }).ok_or_else(gone)
}

fn clear_pairs(network: &NetworkSpec) -> impl Iterator<Item = Pair> {
    let pair = |sender: &SmolStr, receiver: Option<&SmolStr>| Pair {
        sender: sender.to_string(),
        receiver: receiver.map(ToString::to_string),
        state: "clear".to_owned(),
        suite: None,
    };
    let names = || network.members.keys();
    names().flat_map(move |sender| {
        let peers = names().filter(move |name| *name != sender).map(Some).chain([None]);
        peers.map(move |receiver| pair(sender, receiver))
    })
}

fn encrypted_pairs(network: &NetworkSpec, keys: &[EncryptedStatus]) -> impl Iterator<Item = Pair> {
    let by_mac: HashMap<_, _> =
        network.members.iter().map(|(name, member)| (member.value.mac.to_lowercase(), name.clone())).collect();
    let by_address: HashMap<_, _> =
        network.members.iter().map(|(name, member)| (member.value.underlay_ip.clone(), name.clone())).collect();
    keys.iter().map(move |key| Pair {
        sender: by_mac.get(&key.sender).map_or_else(|| key.sender.clone(), ToString::to_string),
        receiver: by_address.get(&*key.destination).map(ToString::to_string),
        state: key.state.clone(),
        suite: Some(key.suite.clone()),
    })
}

/// Which keys.
#[derive(Debug, Deserialize, IntoParams)]
pub struct KeySelection {
    /// At most so many (1000 by default, at most 10000).
    limit: Option<usize>,
    /// Only those behind this one, the last of the page before: `VNI,SENDER,DESTINATION`.
    after: Option<String>,
}

/// Keys of encrypted networks: what each vNIC seals per destination
///
/// In the order of VNI, sender's address and destination. A page that has `limit` entries may have a next one.
#[utoipa::path(get, path = "/v1/keys", tag = "live", params(KeySelection),
    responses((status = OK, body = Vec<EncryptedStatus>), (status = BAD_REQUEST, body = Problem)))]
pub(super) async fn list_keys(
    State(api): State<Api>,
    Params(selection): Params<KeySelection>,
) -> Result<Json<Vec<EncryptedStatus>>, Problem> {
    let first = ChannelId { vni: 0, sender: Mac([0; 6]), destination: Ipv4Addr::UNSPECIFIED };
    let after = selection.after.as_deref().map_or(Ok(first), parse_channel)?;
    let limit = selection.limit.unwrap_or(PAGE).min(MAX_PAGE);
    let look = move |controller: &mut Controller, now| {
        let keys = controller.keys().iter_after(now, after).take(limit);
        keys.map(|channel| EncryptedStatus::of(&channel)).collect()
    };
    Ok(Json(api.handle.ask(look).await?))
}

fn parse_channel(text: &str) -> Result<ChannelId, Problem> {
    let wrong = || {
        Problem::bad_request(format!(
            "after={text}: write VNI,SENDER,DESTINATION of the last key of the page before"
        ))
    };
    let mut parts = text.split(',');
    let (Some(vni), Some(sender), Some(destination), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong());
    };
    let (vni, destination) = (vni.parse().map_err(|_| wrong())?, destination.parse().map_err(|_| wrong())?);
    Ok(ChannelId { vni, sender: parse_mac(sender)?, destination })
}

/// Replace every key, without a gap
#[utoipa::path(post, path = "/v1/keys/rotate", tag = "live",
    responses((status = ACCEPTED, description = "New keys are on their way; see /v1/keys")))]
pub(super) async fn rotate_keys(State(api): State<Api>) -> Result<StatusCode, Problem> {
    api.handle.ask(|controller, now| controller.rotate_keys(now)).await?;
    Ok(StatusCode::ACCEPTED)
}
