//! TLS towards origins: which issuers are trusted, which certificate is shown, which protocol is offered.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::OriginSetupError;
use crate::config::model::{self, OriginAddress, OriginProtocol};

/// The configuration for an origin's servers that speak TLS; `None` where none does.
pub(super) fn client_config(spec: &model::Origin) -> Result<Option<Arc<ClientConfig>>, OriginSetupError> {
    if !spec.servers.iter().any(|server| server.tls) {
        return Ok(None);
    }
    let mut roots = system_roots().clone();
    if let Some(path) = &spec.tls_ca {
        for certificate in certificates(path)? {
            // A certificate that cannot be an issuer is not one to trust.
            let _ = roots.add(certificate);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the ring provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let mut config = match &spec.tls_client {
        None => builder.with_no_client_auth(),
        Some(client) => builder
            .with_client_auth_cert(certificates(&client.cert)?, private_key(&client.key)?)
            .map_err(|source| OriginSetupError::ClientCertificate { path: client.cert.clone(), source })?,
    };
    config.alpn_protocols = match spec.protocol {
        OriginProtocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        OriginProtocol::Http1 => vec![b"http/1.1".to_vec()],
        OriginProtocol::Http2 => vec![b"h2".to_vec()],
    };
    Ok(Some(Arc::new(config)))
}

/// The same, offering nothing but HTTP/1.1.
pub(super) fn http1_only(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The name that a server's certificate must carry, and that SNI says.
pub(super) fn server_name(
    spec: &model::Origin,
    server: &model::OriginServer,
) -> Result<ServerName<'static>, OriginSetupError> {
    let name = match (&spec.tls_name, &server.address) {
        (Some(name), _) => name.clone(),
        (None, OriginAddress::Host(host, _)) => host.trim_matches(['[', ']']).to_owned(),
        (None, OriginAddress::Unix(_)) => "localhost".to_owned(),
    };
    ServerName::try_from(name.clone()).map_err(|_| OriginSetupError::ServerName { name })
}

/// The issuers that the system trusts, or Mozilla's where the system has none. Read once.
pub(crate) fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots
    })
}

/// For a store that is spoken to by TLS: whom to trust, in place of the system's issuers where `ca` says so, and what to show.
pub(crate) fn towards_store(
    ca: Option<&Path>,
    client: Option<&model::Certificate>,
) -> Result<ClientConfig, OriginSetupError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => drop(roots.add_parsable_certificates(certificates(path)?)),
        None => roots = system_roots().clone(),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the ring provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    match client {
        None => Ok(builder.with_no_client_auth()),
        Some(pair) => builder
            .with_client_auth_cert(certificates(&pair.cert)?, private_key(&pair.key)?)
            .map_err(|source| OriginSetupError::ClientCertificate { path: pair.cert.clone(), source }),
    }
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OriginSetupError> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| OriginSetupError::Pem { path: path.to_owned(), what: "certificate" })
}

pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, OriginSetupError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| OriginSetupError::Pem { path: path.to_owned(), what: "private key" })
}

fn read(path: &Path) -> Result<Vec<u8>, OriginSetupError> {
    std::fs::read(path).map_err(|source| OriginSetupError::File { path: path.to_owned(), source })
}
