//! REST, metrics and the web page, over HTTP/1.1 on unix sockets, TCP and TLS.
//!
//! | module | concern |
//! |---|---|
//! | [`problem`] | errors, as RFC 9457 problem details |
//! | [`auth`] | who asks, and what that one may do |
//! | [`precondition`] | entity tags: If-Match, If-None-Match |
//! | [`desired`] | parameters, networks, members: what is wanted |
//! | [`flows`] | a vNIC's flows, wanted ones and extra ones |
//! | [`trace`] | what a vNIC would do to a frame |
//! | [`live`] | switches, vNICs, events: what there is |
//! | [`pairs`] | keys, and which pairs of members have them |
//! | [`metrics`] | for Prometheus |
//! | [`page`] | the web page |
//! | `serve` | connections |

pub mod auth;
pub mod desired;
pub mod flows;
pub mod live;
pub mod metrics;
pub mod page;
pub mod pairs;
pub mod precondition;
pub mod problem;
mod serve;
pub mod trace;

use std::sync::Arc;

use anyhow::bail;
use axum::{Router, extract::State, http::header, middleware, routing::get};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    config::{self, Config, Listen},
    events::Bus,
    server::{Desk, Handle},
};
use auth::Auth;
pub(crate) use serve::spawn;

/// What every request may use.
#[derive(Clone)]
pub struct Api {
    /// The way to the controller.
    pub handle: Handle,
    /// Where desired state is changed.
    pub desk: Arc<Desk>,
    /// What happens.
    pub bus: Arc<Bus>,
}

/// Lets the API listen at other addresses than the file says.
///
/// # Errors
/// The file lacks what such an address needs.
pub fn listen_instead(process: &mut Config, addresses: &[Listen]) -> anyhow::Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    let nothing = || config::Api { listen: vec![], tls: None, admins: vec![], tokens: None };
    let api = process.api.get_or_insert_with(nothing);
    for address in addresses {
        match address {
            Listen::Unix(_) => {}
            Listen::Tcp(address) if address.ip().is_loopback() && api.tokens.is_some() => {}
            Listen::Tcp(_) => bail!(
                "the API cannot listen on {address}: over TCP without TLS it takes an address of this machine \
                 (127.0.0.1), and `tokens` in the section [api] of the configuration file"
            ),
            Listen::Tls(_) if api.tls.is_some() => {}
            Listen::Tls(_) => {
                bail!("the API cannot listen on {address}: write `certificate` and `key` in the section [api]")
            }
        }
    }
    api.listen = addresses.to_vec();
    Ok(())
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "CVSW controller",
        description = "Manages the virtual NICs of VMs: what they should have, and what they have.\n\n\
                       Every error is a problem detail (RFC 9457). Everything that is wanted carries a strong entity tag: \
                       reading with `If-None-Match` gets 304 if nothing has changed, a change with `If-Match` \
                       fails with 412 if somebody else was quicker. What there is has none: it has another age at every look. \
                       Reading needs the role reader, changing admin."
    ),
    components(schemas(problem::Problem)),
    modifiers(&Bearer),
    security(("bearer" = [])),
    tags(
        (name = "desired", description = "What is wanted"),
        (name = "live", description = "What there is"),
        (name = "process", description = "The controller itself"),
    )
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("bearer", bearer);
    }
}

fn documented() -> (Router<Api>, utoipa::openapi::OpenApi) {
    let (router, mut document) = OpenApiRouter::<Api>::with_openapi(Document::openapi())
        .routes(routes!(desired::get_parameters, desired::put_parameters))
        .routes(routes!(desired::get_config, desired::put_config))
        .routes(routes!(desired::list_networks))
        .routes(routes!(desired::get_network, desired::put_network, desired::delete_network))
        .routes(routes!(desired::list_members))
        .routes(routes!(desired::get_member, desired::put_member, desired::delete_member))
        .routes(routes!(live::get_summary))
        .routes(routes!(live::get_status))
        .routes(routes!(live::list_switches))
        .routes(routes!(live::list_vnics))
        .routes(routes!(live::get_vnic))
        .routes(routes!(live::list_refusals))
        .routes(routes!(pairs::list_pairs))
        .routes(routes!(pairs::list_keys))
        .routes(routes!(pairs::rotate_keys))
        .routes(routes!(live::stream_events))
        .routes(routes!(flows::get_flows, flows::put_flows, flows::add_flows, flows::delete_flow))
        .routes(routes!(flows::trace_frame))
        .routes(routes!(metrics::get_metrics))
        .routes(routes!(healthz))
        .split_for_parts();
    precondition::document(&mut document);
    (router, document)
}

/// The OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    documented().1
}

/// Everything that is served.
pub(crate) fn router(api: Api, auth: Arc<Auth>) -> Router {
    let (router, document) = documented();
    // A document of our own types always has a JSON form.
    let document = document.to_json().unwrap_or_default();
    let answer = move || async move { ([(header::CONTENT_TYPE, "application/json")], document) };
    router
        .route("/v1/openapi.json", get(answer))
        .fallback(|| async { problem::Problem::not_found("there is nothing here; see /v1/openapi.json") })
        .method_not_allowed_fallback(|| async { problem::Problem::method_not_allowed() })
        .merge(page::router())
        .layer(middleware::from_fn_with_state(auth, auth::check))
        .layer(middleware::from_fn(page::security_headers))
        .layer(axum::extract::DefaultBodyLimit::max(serve::MAX_BODY))
        .with_state(api)
}

/// Whether the controller is alive. Needs no authentication.
#[utoipa::path(get, path = "/healthz", tag = "process", security(()),
    responses((status = OK, body = String, content_type = "text/plain")))]
async fn healthz(State(api): State<Api>) -> Result<&'static str, problem::Problem> {
    api.handle.ask(|_, _| ()).await?;
    Ok("ok\n")
}
