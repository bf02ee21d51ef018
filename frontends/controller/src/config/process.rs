//! Settings of the controller's process: addresses, certificates, tokens. They are never part of desired state.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use toml::Spanned;

use super::{DEFAULT_LISTEN, diagnostic::Report, raw};

/// Files (PEM) of a TLS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Who signs the certificates of clients; `None`: they show none.
    pub client_ca: Option<PathBuf>,
}

/// REST, metrics and web page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Where it listens.
    pub listen: Vec<Listen>,
    /// For `tls:` addresses.
    pub tls: Option<Tls>,
    /// DNS names of clients that may write; others with a certificate may read.
    pub admins: Vec<String>,
    /// File with the tokens.
    pub tokens: Option<PathBuf>,
}

/// An address to listen on: `tcp:ADDRESS:PORT`, `tls:ADDRESS:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A TCP address where TLS is spoken.
    Tls(SocketAddr),
    /// Path of a unix stream socket.
    Unix(PathBuf),
}

/// Why a text is not a [`Listen`] address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAListenAddress;

impl fmt::Display for NotAListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write tcp:ADDRESS:PORT (tcp:127.0.0.1:6653, tcp:[::1]:6653), tls:ADDRESS:PORT or unix:PATH")
    }
}

impl std::error::Error for NotAListenAddress {}

impl FromStr for Listen {
    type Err = NotAListenAddress;

    fn from_str(text: &str) -> Result<Self, NotAListenAddress> {
        match text.split_once(':') {
            Some(("tcp", address)) => address.parse().map(Self::Tcp).map_err(|_| NotAListenAddress),
            // Open vSwitch says ssl.
            Some(("tls" | "ssl", address)) => address.parse().map(Self::Tls).map_err(|_| NotAListenAddress),
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            _ => Err(NotAListenAddress),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Tls(address) => write!(f, "tls:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

pub(super) fn listen(raw: &[Spanned<String>], tls: bool, report: &mut Report<'_>) -> Vec<Listen> {
    if raw.is_empty() {
        return vec![DEFAULT_LISTEN];
    }
    let addresses = addresses(raw, report);
    if let Some((_, value)) = addresses.iter().find(|(listen, _)| matches!(listen, Listen::Tls(_))).filter(|_| !tls)
    {
        let help = "write a section [tls] with `certificate`, `key` and `client_ca`";
        report.error(value.span(), "TLS needs a certificate", help);
    }
    addresses.into_iter().map(|(listen, _)| listen).collect()
}

fn addresses<'a>(raw: &'a [Spanned<String>], report: &mut Report<'_>) -> Vec<(Listen, &'a Spanned<String>)> {
    let parse = |value: &'a Spanned<String>| match value.get_ref().parse::<Listen>() {
        Ok(listen) => Some((listen, value)),
        Err(help) => {
            report.error(value.span(), "this is not an address to listen on", help.to_string());
            None
        }
    };
    raw.iter().filter_map(parse).collect()
}

pub(super) fn tls(raw: &raw::Tls) -> Tls {
    Tls {
        certificate: raw.certificate.get_ref().into(),
        key: raw.key.get_ref().into(),
        client_ca: Some(raw.client_ca.get_ref().into()),
    }
}

pub(super) fn api(value: &Spanned<raw::Api>, report: &mut Report<'_>) -> Api {
    let raw = value.get_ref();
    let addresses = addresses(&raw.listen, report);
    let tls = match (&raw.certificate, &raw.key) {
        (Some(certificate), Some(key)) => Some(Tls {
            certificate: certificate.get_ref().into(),
            key: key.get_ref().into(),
            client_ca: raw.client_ca.as_ref().map(|path| path.get_ref().into()),
        }),
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            report.error(one.span(), "half of a key pair", "write both `certificate` and `key`");
            None
        }
    };
    let certificates = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    for (listen, place) in &addresses {
        let problem = match listen {
            Listen::Tls(_) if tls.is_none() => {
                Some(("TLS needs a certificate", "write `certificate` and `key` in [api]"))
            }
            Listen::Tls(_) if raw.tokens.is_none() && !certificates => {
                Some(("nobody could log in", "write `tokens`, or `client_ca`, in [api]"))
            }
            Listen::Tcp(address) if !address.ip().is_loopback() => Some((
                "tokens would travel in clear",
                "use tls:ADDRESS:PORT, or an address of this machine: 127.0.0.1",
            )),
            Listen::Tcp(_) if raw.tokens.is_none() => Some((
                "every process of this machine could change the networks",
                "write `tokens` in [api], or use unix:PATH",
            )),
            _ => None,
        };
        if let Some((message, help)) = problem {
            report.error(place.span(), message, help);
        }
    }
    if let Some(name) = raw.admins.first().filter(|_| !certificates) {
        report.error(
            name.span(),
            "`admins` are names in certificates",
            "write `client_ca` too, or leave `admins` out",
        );
    }
    Api {
        listen: addresses.into_iter().map(|(listen, _)| listen).collect(),
        tls,
        admins: raw.admins.iter().map(|name| name.get_ref().clone()).collect(),
        tokens: raw.tokens.as_ref().map(|path| path.get_ref().into()),
    }
}
