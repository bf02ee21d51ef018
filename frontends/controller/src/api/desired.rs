//! Parameters, networks and members: what is wanted.

use std::sync::Arc;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    precondition::{Document, Precondition},
    problem::{Body, Params, Path, Problem, Text},
};
use crate::{
    config::Config,
    spec::{MemberSettings, NetworkSettings, NetworkSpec, Parameters, Spec, Versioned},
    store::Revision,
};

/// The parameters with their revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParametersDocument {
    /// Of the last change; the first part of the entity tag.
    pub revision: Revision,
    /// The parameters.
    #[serde(flatten)]
    pub parameters: Parameters,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkDocument {
    /// Its name.
    pub name: String,
    /// Of the last change of its settings; the first part of the entity tag.
    pub revision: Revision,
    /// Its settings.
    #[serde(flatten)]
    pub settings: NetworkSettings,
    /// How many members it has.
    pub members: usize,
}

/// A member of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberDocument {
    /// Its network's name.
    pub network: String,
    /// Its name.
    pub name: String,
    /// Of the last change; the first part of the entity tag.
    pub revision: Revision,
    /// Its settings.
    #[serde(flatten)]
    pub settings: MemberSettings,
}

/// How to remove a network.
#[derive(Debug, Deserialize, IntoParams)]
pub struct Removal {
    /// Remove its members, too; without it, a network with members is not removed.
    #[serde(default)]
    members: bool,
}

fn parameters_document(spec: &Spec) -> Document {
    let revision = spec.parameters.revision;
    Document::record(revision, &ParametersDocument { revision, parameters: spec.parameters.value.clone() })
}

fn config_document(spec: &Spec) -> Result<Document, Problem> {
    Ok(Document::new(None, "application/toml", spec.to_toml().map_err(Problem::conflict)?))
}

fn network_document(name: &str, network: &NetworkSpec) -> NetworkDocument {
    NetworkDocument {
        name: name.to_owned(),
        revision: network.settings.revision,
        settings: network.settings.value.clone(),
        members: network.members.len(),
    }
}

pub(super) fn member_document(network: &str, name: &str, member: &Versioned<MemberSettings>) -> MemberDocument {
    MemberDocument {
        network: network.to_owned(),
        name: name.to_owned(),
        revision: member.revision,
        settings: member.value.clone(),
    }
}

pub(super) fn find_network<'a>(spec: &'a Spec, name: &str) -> Result<&'a Arc<NetworkSpec>, Problem> {
    spec.networks.get(name).ok_or_else(|| Problem::not_found(format!("there is no network {name:?}")))
}

pub(super) fn find_member<'a>(
    spec: &'a Spec,
    network: &str,
    name: &str,
) -> Result<&'a Versioned<MemberSettings>, Problem> {
    let missing = || Problem::not_found(format!("the network {network:?} has no member {name:?}"));
    find_network(spec, network)?.members.get(name).map(|member| &**member).ok_or_else(missing)
}

/// The parameters
#[utoipa::path(get, path = "/v1/parameters", tag = "desired", params(Precondition),
    responses((status = OK, body = ParametersDocument)))]
pub(super) async fn get_parameters(
    State(api): State<Api>,
    precondition: Precondition,
) -> Result<Response, Problem> {
    precondition.read(parameters_document(&api.desk.spec()))
}

/// Replace the parameters
#[utoipa::path(put, path = "/v1/parameters", tag = "desired", params(Precondition), request_body = Parameters,
    responses((status = OK, body = ParametersDocument), (status = "4XX", body = Problem)))]
pub(super) async fn put_parameters(
    State(api): State<Api>,
    precondition: Precondition,
    Body(parameters): Body<Parameters>,
) -> Result<Response, Problem> {
    let change = move |spec: &mut Spec| {
        precondition.check(Some(spec.parameters.revision))?;
        spec.parameters.value = parameters;
        Ok(())
    };
    let ((), spec) = api.desk.edit(change).await?;
    Ok(parameters_document(&spec).into_response())
}

/// The whole desired state as a configuration file
#[utoipa::path(get, path = "/v1/config", tag = "desired", params(Precondition),
    responses((status = OK, body = String, content_type = "application/toml")))]
pub(super) async fn get_config(State(api): State<Api>, precondition: Precondition) -> Result<Response, Problem> {
    precondition.read(config_document(&api.desk.spec())?)
}

/// Replace the whole desired state by that of a configuration file
///
/// Only networks and parameters are taken; `listen`, `tls`, `api` and `store` belong to the process.
#[utoipa::path(put, path = "/v1/config", tag = "desired", params(Precondition),
    request_body(content = String, content_type = "application/toml"),
    responses((status = NO_CONTENT), (status = "4XX", body = Problem)))]
pub(super) async fn put_config(
    State(api): State<Api>,
    precondition: Precondition,
    Text(text): Text,
) -> Result<Response, Problem> {
    let loaded = Config::parse("request body", &text).map_err(|errors| {
        let problem = Problem::invalid(&errors);
        Problem { detail: errors.to_string(), ..problem }
    })?;
    let change = move |spec: &mut Spec| {
        precondition.check_whole(config_document(spec)?.tag)?;
        spec.replace(loaded.spec);
        Ok(())
    };
    let ((), spec) = api.desk.edit(change).await?;
    Ok((StatusCode::NO_CONTENT, config_document(&spec)?.tag, ()).into_response())
}

/// All networks
#[utoipa::path(get, path = "/v1/networks", tag = "desired", params(Precondition),
    responses((status = OK, body = Vec<NetworkDocument>)))]
pub(super) async fn list_networks(State(api): State<Api>, precondition: Precondition) -> Result<Response, Problem> {
    let spec = api.desk.spec();
    let list: Vec<_> = spec.networks.iter().map(|(name, network)| network_document(name, network)).collect();
    precondition.read(Document::list(&list))
}

/// One network
#[utoipa::path(get, path = "/v1/networks/{network}", tag = "desired", params(("network" = String, Path), Precondition),
    responses((status = OK, body = NetworkDocument), (status = NOT_FOUND, body = Problem)))]
pub(super) async fn get_network(
    State(api): State<Api>,
    precondition: Precondition,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let spec = api.desk.spec();
    let document = network_document(&name, find_network(&spec, &name)?);
    precondition.read(Document::record(document.revision, &document))
}

/// Create a network, or replace its settings
#[utoipa::path(put, path = "/v1/networks/{network}", tag = "desired", params(("network" = String, Path), Precondition),
    request_body = NetworkSettings,
    responses((status = OK, body = NetworkDocument), (status = CREATED, body = NetworkDocument),
              (status = "4XX", body = Problem)))]
pub(super) async fn put_network(
    State(api): State<Api>,
    precondition: Precondition,
    Path(name): Path<String>,
    Body(settings): Body<NetworkSettings>,
) -> Result<Response, Problem> {
    let key = name.clone();
    let change = move |spec: &mut Spec| {
        let old = spec.networks.get(&key).map(|network| network.settings.revision);
        precondition.check(old)?;
        Arc::make_mut(spec.networks.entry(key).or_default()).settings.value = settings;
        Ok::<_, Problem>(old.is_none())
    };
    let (created, spec) = api.desk.edit(change).await?;
    let document = network_document(&name, find_network(&spec, &name)?);
    Ok((status(created), Document::record(document.revision, &document)).into_response())
}

/// Remove a network
#[utoipa::path(delete, path = "/v1/networks/{network}", tag = "desired", params(("network" = String, Path), Removal, Precondition),
    responses((status = NO_CONTENT), (status = "4XX", body = Problem)))]
pub(super) async fn delete_network(
    State(api): State<Api>,
    precondition: Precondition,
    Path(name): Path<String>,
    Params(removal): Params<Removal>,
) -> Result<Response, Problem> {
    let change = move |spec: &mut Spec| {
        let network = find_network(spec, &name)?;
        precondition.check(Some(network.settings.revision))?;
        if !network.members.is_empty() && !removal.members {
            let count = network.members.len();
            return Err(Problem::conflict(format!(
                "the network {name:?} has {count} members: remove them first, or say `?members=true`"
            )));
        }
        spec.networks.remove(&name);
        Ok(())
    };
    api.desk.edit(change).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The members of a network
#[utoipa::path(get, path = "/v1/networks/{network}/members", tag = "desired", params(("network" = String, Path), Precondition),
    responses((status = OK, body = Vec<MemberDocument>), (status = NOT_FOUND, body = Problem)))]
pub(super) async fn list_members(
    State(api): State<Api>,
    precondition: Precondition,
    Path(network): Path<String>,
) -> Result<Response, Problem> {
    let spec = api.desk.spec();
    let members = find_network(&spec, &network)?.members.iter();
    let list: Vec<_> = members.map(|(name, member)| member_document(&network, name, member)).collect();
    precondition.read(Document::list(&list))
}

/// One member
#[utoipa::path(get, path = "/v1/networks/{network}/members/{member}", tag = "desired",
    params(("network" = String, Path), ("member" = String, Path), Precondition),
    responses((status = OK, body = MemberDocument), (status = NOT_FOUND, body = Problem)))]
pub(super) async fn get_member(
    State(api): State<Api>,
    precondition: Precondition,
    Path((network, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let spec = api.desk.spec();
    let document = member_document(&network, &name, find_member(&spec, &network, &name)?);
    precondition.read(Document::record(document.revision, &document))
}

/// Create a member, or replace its settings
#[utoipa::path(put, path = "/v1/networks/{network}/members/{member}", tag = "desired",
    params(("network" = String, Path), ("member" = String, Path), Precondition), request_body = MemberSettings,
    responses((status = OK, body = MemberDocument), (status = CREATED, body = MemberDocument),
              (status = "4XX", body = Problem)))]
pub(super) async fn put_member(
    State(api): State<Api>,
    precondition: Precondition,
    Path((network, name)): Path<(String, String)>,
    Body(settings): Body<MemberSettings>,
) -> Result<Response, Problem> {
    let (network_key, key) = (network.clone(), name.clone());
    let change = move |spec: &mut Spec| {
        find_network(spec, &network_key)?;
        let network = Arc::make_mut(spec.networks.entry(network_key).or_default());
        let old = network.members.get(&*key).map(|member| member.revision);
        precondition.check(old)?;
        network.members.entry(key.into()).or_default().value = settings;
        Ok::<_, Problem>(old.is_none())
    };
    let (created, spec) = api.desk.edit(change).await?;
    let document = member_document(&network, &name, find_member(&spec, &network, &name)?);
    Ok((status(created), Document::record(document.revision, &document)).into_response())
}

/// Remove a member
///
/// Its vNIC goes into quarantine: it drops everything until it is a member again.
#[utoipa::path(delete, path = "/v1/networks/{network}/members/{member}", tag = "desired",
    params(("network" = String, Path), ("member" = String, Path), Precondition),
    responses((status = NO_CONTENT), (status = "4XX", body = Problem)))]
pub(super) async fn delete_member(
    State(api): State<Api>,
    precondition: Precondition,
    Path((network, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let change = move |spec: &mut Spec| {
        precondition.check(Some(find_member(spec, &network, &name)?.revision))?;
        if let Some(network) = spec.networks.get_mut(&network) {
            Arc::make_mut(network).members.remove(&*name);
        }
        Ok::<_, Problem>(())
    };
    api.desk.edit(change).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

const fn status(created: bool) -> StatusCode {
    if created { StatusCode::CREATED } else { StatusCode::OK }
}
