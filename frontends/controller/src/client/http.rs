//! HTTP/1.1 to the API, over a unix socket, TCP or TLS. One connection per request: it is for people and scripts.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};
use zeroize::Zeroizing;

use crate::{api::problem::Problem, config::Listen, tls};

/// Where the API listens if nothing else is said.
const DEFAULT_API: &str = "unix:/run/cvsw/api.sock";
/// An answer that takes longer to begin is not worth waiting for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to reach the API.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct Target {
    /// The controller's API: unix:PATH, tcp:ADDRESS:PORT or tls:ADDRESS:PORT [default: $CVSW_API, else
    /// unix:/run/cvsw/api.sock]
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub api: Option<Listen>,
    /// File with the token, nothing else [default: $CVSW_TOKEN_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// With tls: certificates (PEM) of those who may have signed the controller's
    #[arg(long, value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,
    /// With tls: the name in the controller's certificate, if it is not the address
    #[arg(long, value_name = "NAME", global = true)]
    pub server_name: Option<String>,
    /// With tls: own certificate (PEM)
    #[arg(long, value_name = "FILE", global = true, requires = "key")]
    pub certificate: Option<PathBuf>,
    /// With tls: key of the own certificate (PEM)
    #[arg(long, value_name = "FILE", global = true, requires = "certificate")]
    pub key: Option<PathBuf>,
    /// Print what the API answers, as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// A client of the API.
pub struct Client {
    address: Listen,
    token: Option<Zeroizing<String>>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its entity tag.
    pub etag: Option<String>,
    /// Its content type.
    pub kind: Option<String>,
    /// Its body.
    pub body: Bytes,
}

/// A request's other parts.
#[derive(Default)]
pub struct Parts<'a> {
    /// Content type and content.
    pub body: Option<(&'a str, Vec<u8>)>,
    /// `Accept`; JSON if nothing is said.
    pub accept: Option<&'a str>,
    /// `If-Match`.
    pub if_match: Option<String>,
    /// `If-None-Match`; `*`: only if there is nothing yet.
    pub if_none_match: Option<String>,
}

impl Parts<'_> {
    /// A JSON body.
    pub fn json(body: &impl serde::Serialize) -> anyhow::Result<Self> {
        Ok(Self { body: Some(("application/json", serde_json::to_vec(body)?)), ..Self::default() })
    }
}

impl Answer {
    /// The body's meaning.
    ///
    /// # Errors
    /// It is not what was expected.
    pub fn read<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body)
            .context("the controller's answer has an unknown form; is it another version?")
    }
}

impl Client {
    /// Reads the files that `target` names.
    ///
    /// # Errors
    /// One cannot be used, and why.
    pub fn new(target: &Target) -> anyhow::Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let address = match (&target.api, variable("CVSW_API")) {
            (Some(address), _) => address.clone(),
            (None, Some(text)) => text.parse().map_err(|help| anyhow::anyhow!("CVSW_API={text}: {help}"))?,
            (None, None) => DEFAULT_API.parse().map_err(|help| anyhow::anyhow!("{help}"))?,
        };
        let token = target.token_file.clone().or_else(|| variable("CVSW_TOKEN_FILE").map(PathBuf::from));
        let token = token.map(|path| tls::read_secret(&path)).transpose()?.map(Zeroizing::new);
        let tls = match &address {
            Listen::Tls(address) => {
                let ca =
                    target.ca.as_deref().context("tls needs --ca FILE: who signs the controller's certificate")?;
                let identity = target.certificate.as_deref().zip(target.key.as_deref());
                let name = target.server_name.clone().unwrap_or_else(|| address.ip().to_string());
                let name =
                    ServerName::try_from(name.clone()).with_context(|| format!("{name:?} is no server name"))?;
                Some((tls::client(ca, identity)?, name))
            }
            Listen::Tcp(_) | Listen::Unix(_) => None,
        };
        Ok(Self { address, token, tls })
    }

    /// Asks, and reads the whole answer.
    ///
    /// # Errors
    /// The API cannot be reached, or it answers with a problem: that one's text.
    pub async fn ask(&self, method: Method, path: &str, parts: Parts<'_>) -> anyhow::Result<Answer> {
        let answer = self.try_ask(method, path, parts).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(problem) => bail!("{}", describe(&problem)),
            Err(_) => bail!("the controller answers {}", answer.status),
        }
    }

    /// Asks, and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// The API cannot be reached.
    pub async fn try_ask(&self, method: Method, path: &str, parts: Parts<'_>) -> anyhow::Result<Answer> {
        let response = self.open(method, path, parts).await?;
        let status = response.status();
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (etag, kind) = (text(header::ETAG), text(header::CONTENT_TYPE));
        let body = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
        Ok(Answer { status, etag, kind, body })
    }

    /// Asks, and returns the answer before its body has come.
    ///
    /// # Errors
    /// The API cannot be reached.
    pub async fn open(&self, method: Method, path: &str, parts: Parts<'_>) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "controller");
        request = request.header(header::ACCEPT, parts.accept.unwrap_or("application/json"));
        if let Some(token) = &self.token {
            let value = Zeroizing::new(format!("Bearer {}", token.trim()));
            request = request.header(header::AUTHORIZATION, value.as_str());
        }
        if let Some(tag) = parts.if_match {
            request = request.header(header::IF_MATCH, tag);
        }
        if let Some(tag) = parts.if_none_match {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let body = match parts.body {
            None => Bytes::new(),
            Some((kind, body)) => {
                request = request.header(header::CONTENT_TYPE, kind);
                body.into()
            }
        };
        let request = request.body(Full::new(body)).context("this cannot be put into a request")?;
        let hint = || format!("cannot reach the controller's API at {}: is it running with --api?", self.address);
        timeout(PATIENCE, self.send(request)).await.with_context(hint)?.with_context(hint)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        match (&self.address, &self.tls) {
            (Listen::Unix(path), _) => exchange(UnixStream::connect(path).await?, request).await,
            (Listen::Tcp(address), _) => exchange(TcpStream::connect(address).await?, request).await,
            (Listen::Tls(address), Some((config, name))) => {
                let stream = TcpStream::connect(address).await?;
                let connector = TlsConnector::from(Arc::clone(config));
                exchange(connector.connect(name.clone(), stream).await?, request).await
            }
            (Listen::Tls(_), None) => bail!("there is nothing to trust"),
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer's body; what is wrong with it, the body's reader sees.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// A problem for people.
fn describe(problem: &Problem) -> String {
    if problem.errors.is_empty() || problem.detail.contains("-->") {
        return problem.detail.clone();
    }
    let lines =
        problem.errors.iter().map(|error| format!("{}: {}\n  help: {}", error.field, error.detail, error.help));
    lines.collect::<Vec<_>>().join("\n")
}
