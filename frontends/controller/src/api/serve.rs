//! Connections of the API.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::sync::{Semaphore, mpsc};

use super::{Api, auth::Auth};
use crate::{
    config::{self, Listen},
    server::{
        listen::{Accepted, Guard, Listener, Stream},
        secrets::Secrets,
    },
    tls,
};

/// Connections at a time; who comes on top waits.
const MAX_CONNECTIONS: usize = 512;
/// How long a request's headers may take.
const HEADERS: Duration = Duration::from_secs(10);
/// Longest body: a whole desired state.
pub(super) const MAX_BODY: usize = 64 << 20;

/// Serves the API until the guards are dropped; adds the addresses to `bound`, and what can be exchanged to `secrets`.
///
/// # Errors
/// A file of its settings cannot be used, or an address.
pub(crate) async fn spawn(
    settings: &config::Api,
    api: Api,
    bound: &mut Vec<Listen>,
    secrets: &mut Secrets,
) -> anyhow::Result<Vec<Guard>> {
    let auth = Arc::new(Auth::new(settings)?);
    // Who has a token needs no certificate.
    let certificate =
        settings.tls.as_ref().map(|files| tls::Server::new(files, settings.tokens.is_some())).transpose()?;
    secrets.add(auth.clone());
    if let Some(certificate) = &certificate {
        secrets.add(certificate.clone());
    }
    let router = super::router(api, auth);
    let (sink, inbox) = mpsc::channel(1);
    let mut guards = vec![Guard { task: tokio::spawn(accept(router, inbox)).abort_handle(), socket: None }];
    for address in &settings.listen {
        let listener = Listener::bind(address, certificate.clone()).await;
        let listener = listener.with_context(|| format!("the API cannot listen on {address}"))?;
        bound.push(listener.address().clone());
        guards.push(listener.spawn(sink.clone()));
    }
    Ok(guards)
}

async fn accept(router: Router, mut inbox: mpsc::Receiver<Accepted>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Some(accepted) = inbox.recv().await else { return };
        let router = router.clone();
        tokio::spawn(async move {
            connection(router, accepted).await;
            drop(place);
        });
    }
}

async fn connection(router: Router, accepted: Accepted) {
    let name = accepted.peer.name.clone();
    let service = TowerToHyperService::new(router.layer(Extension(accepted.peer)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    let served = match accepted.stream {
        Stream::Tcp(stream) => http.serve_connection(TokioIo::new(stream), service).await,
        Stream::Unix(stream) => http.serve_connection(TokioIo::new(stream), service).await,
        Stream::Tls(stream) => http.serve_connection(TokioIo::new(stream), service).await,
    };
    if let Err(error) = served {
        tracing::debug!(peer = %name, "a connection of the API ended: {error}");
    }
}
