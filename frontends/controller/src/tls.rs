//! TLS: certificates and keys from PEM files, for OpenFlow, for the API, and for the API's clients.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::{Context as _, bail, ensure};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use crate::{config::Tls, server::secrets::Renew};

/// Files that hold secrets must not be open to others: their group may read them at most.
const OPEN_TO_OTHERS: u32 = 0o027;

/// What a server shows, and whom it takes. It can be exchanged while the server runs.
pub struct Server {
    files: Tls,
    optional: bool,
    current: RwLock<Arc<ServerConfig>>,
}

impl Server {
    /// Shows the certificate of `files`, and takes only clients that show one signed by its `client_ca`, if there is one.
    /// `optional`: also those that show none.
    ///
    /// # Errors
    /// A file cannot be used, and why.
    pub fn new(files: &Tls, optional: bool) -> anyhow::Result<Arc<Self>> {
        let current = RwLock::new(server(files, optional)?);
        Ok(Arc::new(Self { files: files.clone(), optional, current }))
    }

    /// For the next connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Renew for Server {
    fn renew(self: Arc<Self>) -> anyhow::Result<Box<dyn FnOnce()>> {
        let new = server(&self.files, self.optional)?;
        Ok(Box::new(move || *self.current.write().unwrap_or_else(PoisonError::into_inner) = new))
    }
}

fn server(files: &Tls, optional: bool) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = certificates(&files.certificate)?;
    let key = private_key(&files.key)?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider());
            let verifier = if optional { verifier.allow_unauthenticated() } else { verifier };
            let verifier = verifier.build().with_context(|| format!("cannot use {}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key).with_context(|| {
        format!(
            "the certificate {} and the key {} do not go together",
            files.certificate.display(),
            files.key.display()
        )
    })?;
    Ok(Arc::new(config))
}

/// A client that trusts servers whose certificates `ca` has signed, and shows the certificate of `identity` (certificate
/// and key file).
///
/// # Errors
/// A file cannot be used, and why.
pub fn client(ca: &Path, identity: Option<(&Path, &Path)>) -> anyhow::Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots(ca)?);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .with_context(|| format!("{} and {} do not go together", certificate.display(), key.display()))?,
    };
    Ok(Arc::new(config))
}

/// Reads a file that holds secrets.
///
/// # Errors
/// It cannot be read, or others than its owner and group can read it.
pub fn read_secret(path: &Path) -> anyhow::Result<String> {
    let context = || format!("cannot read {}", path.display());
    let mode = std::fs::metadata(path).with_context(context)?.permissions().mode();
    ensure!(
        mode & OPEN_TO_OTHERS == 0,
        "{} holds a secret, and its mode {:04o} lets others at it: `chmod 600` it",
        path.display(),
        mode & 0o7777
    );
    std::fs::read_to_string(path).with_context(context)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let context = || format!("cannot read certificates from {}", path.display());
    let list = CertificateDer::pem_file_iter(path).with_context(context)?;
    let list = list.collect::<Result<Vec<_>, _>>().with_context(context)?;
    if list.is_empty() {
        bail!("{} has no certificate: it must be a PEM file", path.display());
    }
    Ok(list)
}

fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let text = zeroize::Zeroizing::new(read_secret(path)?);
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .with_context(|| format!("cannot read a private key from {}: it must be a PEM file", path.display()))
}

fn roots(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).with_context(|| format!("{} has a certificate that cannot sign", path.display()))?;
    }
    Ok(roots)
}
