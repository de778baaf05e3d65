//! TLS towards clients: certificates by the name asked for, HTTP/2 by ALPN, session tickets that outlive a reload.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::connection::TlsFacts;
use crate::config::model::Certificate;

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file without a certificate.
    #[error("`{path}` holds no certificate")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The key does not belong to the certificate, or neither can be used.
    #[error("certificate `{cert}` and key `{key}` cannot be used together")]
    Pair {
        /// The chain's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// TLS itself cannot be set up.
    #[error("cannot set up TLS")]
    SetUp(#[from] rustls::Error),
}

/// Makes the TLS side of listeners. One for the life of the process, so that tickets stay good across reloads.
#[derive(Debug)]
pub(super) struct TlsFactory {
    provider: Arc<CryptoProvider>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl TlsFactory {
    pub(super) fn new() -> Result<Self, TlsError> {
        Ok(Self {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            ticketer: rustls::crypto::ring::Ticketer::new()?,
        })
    }

    /// Reads the certificates of one listener. Nothing is kept of what cannot be used.
    pub(super) fn server_config(&self, certificates: &[Certificate]) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.certificates(certificates)?));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Arc::clone(&self.ticketer);
        Ok(Arc::new(config))
    }

    fn certificates(&self, certificates: &[Certificate]) -> Result<Certificates, TlsError> {
        let mut by_name = HashMap::new();
        let mut default = None;
        for pair in certificates {
            let (certified, names) = self.certified_key(pair)?;
            for name in names {
                by_name.entry(name).or_insert_with(|| Arc::clone(&certified));
            }
            default.get_or_insert(certified);
        }
        Ok(Certificates { by_name, default })
    }

    fn certified_key(&self, pair: &Certificate) -> Result<(Arc<CertifiedKey>, Vec<String>), TlsError> {
        let in_file = |path: &Path| {
            let path = path.to_owned();
            |source| TlsError::Read { path, source }
        };
        let chain = CertificateDer::pem_file_iter(&pair.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(in_file(&pair.cert))?;
        let Some(leaf) = chain.first().cloned() else {
            return Err(TlsError::NoCertificate { path: pair.cert.clone() });
        };
        let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(in_file(&pair.key))?;
        let in_pair = |source| TlsError::Pair { cert: pair.cert.clone(), key: pair.key.clone(), source };
        // Compares the public keys of the two.
        let certified = CertifiedKey::from_der(chain, key, &self.provider).map_err(in_pair)?;
        let parsed = webpki::EndEntityCert::try_from(&leaf)
            .map_err(|_| in_pair(rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding)))?;
        let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
        Ok((Arc::new(certified), names))
    }
}

/// The certificates of one listener.
#[derive(Debug)]
struct Certificates {
    /// By each of their names, `*.example.org` among them.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For names that no certificate has, and clients that name none.
    default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    fn for_name(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        // RFC 9525 §6.3: a wildcard stands for exactly one label, the leftmost.
        let wildcard = || name.split_once('.').and_then(|(_, rest)| self.by_name.get(&format!("*.{rest}")));
        self.by_name.get(&name).or_else(wildcard)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.for_name(name));
        named.or(self.default.as_ref()).cloned()
    }
}

/// What was agreed on.
pub(super) fn facts(connection: &rustls::ServerConnection) -> TlsFacts {
    TlsFacts {
        server_name: connection.server_name().map(Into::into),
        version: match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "unknown",
        },
    }
}
