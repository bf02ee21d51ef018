//! Who asks, and what that one may do.
//!
//! | way | role |
//! |---|---|
//! | unix socket, as root or as the controller's own user | admin |
//! | unix socket, as somebody else whom its file mode lets in | reader |
//! | bearer token | as the token file says |
//! | client certificate, with a name among `admins` | admin |
//! | client certificate, with other names | reader |
//!
//! A token wins over the rest. Reading needs reader, everything else admin.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::{Context as _, bail, ensure};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use subtle::ConstantTimeEq as _;
use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;
use zeroize::Zeroizing;

use super::problem::Problem;
use crate::{
    config,
    server::{listen::Peer, secrets::Renew},
    tls::read_secret,
};

/// A token has at least as many characters as 128 bits in hexadecimal.
const MIN_TOKEN: usize = 32;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read everything.
    Reader,
    /// Change everything.
    Admin,
}

type Tokens = Vec<(Role, Zeroizing<String>)>;

/// Tells who is who.
pub struct Auth {
    file: Option<PathBuf>,
    tokens: RwLock<Tokens>,
    admins: Vec<String>,
    own_uid: u32,
}

impl Auth {
    /// Reads the token file.
    ///
    /// # Errors
    /// It cannot be used, and why.
    pub fn new(settings: &config::Api) -> anyhow::Result<Self> {
        let tokens = settings.tokens.as_deref().map(read_tokens).transpose()?.unwrap_or_default();
        let own_uid = std::fs::metadata("/proc/self").context("cannot find out the own user")?.uid();
        let (file, tokens) = (settings.tokens.clone(), RwLock::new(tokens));
        Ok(Self { file, tokens, admins: settings.admins.clone(), own_uid })
    }

    /// The role of whoever sent this.
    fn role(&self, peer: &Peer, headers: &HeaderMap) -> Result<Role, Problem> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
            let token = token.ok_or_else(|| Problem::unauthorized("write `Authorization: Bearer TOKEN`"))?;
            return self.token(token).ok_or_else(|| Problem::unauthorized("this token is not in the token file"));
        }
        match (&peer.certificate, peer.uid) {
            (Some(certificate), _) => Ok(self.certificate(certificate)),
            (None, Some(uid)) if uid == 0 || uid == self.own_uid => Ok(Role::Admin),
            (None, Some(_)) => Ok(Role::Reader),
            (None, None) => Err(Problem::unauthorized(
                "send a token of the controller's token file (`Authorization: Bearer TOKEN`), or show a certificate",
            )),
        }
    }

    /// Looks at every token, so that the time tells nothing.
    fn token(&self, given: &str) -> Option<Role> {
        let mut found = None;
        for (role, token) in self.tokens.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if bool::from(token.as_bytes().ct_eq(given.as_bytes())) {
                found = found.max(Some(*role));
            }
        }
        found
    }

    fn certificate(&self, certificate: &CertificateDer<'_>) -> Role {
        let parsed = EndEntityCert::try_from(certificate);
        let is_admin = |name: &str| self.admins.iter().any(|admin| admin.eq_ignore_ascii_case(name));
        if parsed.is_ok_and(|parsed| parsed.valid_dns_names().any(is_admin)) { Role::Admin } else { Role::Reader }
    }
}

impl Renew for Auth {
    fn renew(self: Arc<Self>) -> anyhow::Result<Box<dyn FnOnce()>> {
        let new = self.file.as_deref().map(read_tokens).transpose()?.unwrap_or_default();
        Ok(Box::new(move || *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = new))
    }
}

/// Lines "admin TOKEN" and "reader TOKEN"; empty ones and those that begin with `#` say nothing.
fn read_tokens(path: &Path) -> anyhow::Result<Tokens> {
    let text = Zeroizing::new(read_secret(path)?);
    let mut tokens = Vec::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{}:{number}", path.display());
        let (role, token) = match line.split_once(char::is_whitespace) {
            Some(("admin", token)) => (Role::Admin, token.trim()),
            Some(("reader", token)) => (Role::Reader, token.trim()),
            _ => bail!("{place}: write `admin TOKEN` or `reader TOKEN`"),
        };
        ensure!(
            token.len() >= MIN_TOKEN && token.chars().all(|c| c.is_ascii_graphic()),
            "{place}: a token has at least {MIN_TOKEN} letters and digits without blanks (`openssl rand -hex 32`)"
        );
        tokens.push((role, Zeroizing::new(token.to_owned())));
    }
    ensure!(!tokens.is_empty(), "{} has no tokens", path.display());
    Ok(tokens)
}

/// Lets a request pass, or answers it with a problem.
pub(crate) async fn check(State(auth): State<Arc<Auth>>, request: Request, next: Next) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Problem::unauthorized("the connection is not known").into_response();
    };
    match auth.role(peer, request.headers()) {
        Ok(role) if role >= needed(request.method(), request.uri().path()) => next.run(request).await,
        Ok(_) => Problem::forbidden().into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// What says nothing about the networks.
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/v1/openapi.json") || path.starts_with("/page/")
}

fn needed(method: &Method, path: &str) -> Role {
    let reads = *method == Method::GET || *method == Method::HEAD;
    // A trace changes nothing; it is a POST because it has a body.
    if reads || (*method == Method::POST && path.ends_with("/trace")) { Role::Reader } else { Role::Admin }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_file_says_what_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let with = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read_tokens(&path).map(|tokens| tokens.len()).map_err(|error| error.to_string())
        };
        let token = "0123456789abcdef0123456789abcdef";
        assert_eq!(with(&format!("# ours\n\nadmin {token}\n reader  {token}x\n"), 0o640), Ok(2));
        assert!(with(&format!("admin {token}"), 0o644).unwrap_err().contains("mode 0644 lets others at it"));
        assert!(with(&format!("admin {token}"), 0o660).unwrap_err().contains("chmod 600"));
        assert!(with("admin short", 0o600).unwrap_err().contains("tokens:1: a token has at least 32"));
        assert!(with(&format!("\nroot {token}"), 0o600).unwrap_err().contains("tokens:2: write `admin TOKEN`"));
        assert!(with("# nothing", 0o600).unwrap_err().contains("has no tokens"));
    }

    #[test]
    fn reading_needs_less_than_changing() {
        assert_eq!(needed(&Method::GET, "/v1/vnics"), Role::Reader);
        assert_eq!(needed(&Method::POST, "/v1/vnics/x/trace"), Role::Reader);
        for method in [Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
            assert_eq!(needed(&method, "/v1/networks/x"), Role::Admin);
        }
        assert!(is_open("/") && is_open("/page/app.js") && !is_open("/v1/status") && !is_open("/metrics"));
    }
}
