//! Certificates made for the test, and TLS over blocking sockets.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::wire::Conn;

/// A certificate authority that exists for one test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate for some names, and its key.
#[derive(Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: Arc<KeyPair>,
    alpn: Vec<Vec<u8>>,
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

impl Authority {
    /// A new authority, with a new key.
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("an authority can sign itself");
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for these names.
    pub fn identity(&self, names: &[&str]) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("these are valid names");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority can sign");
        Identity {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key: Arc::new(key),
            alpn: vec![b"http/1.1".to_vec()],
        }
    }

    /// Writes the authority's certificate as PEM.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("ca.pem");
        std::fs::write(&path, self.certificate.pem()).expect("the folder can be written to");
        path
    }

    /// What a client needs that trusts this authority and offers these protocols.
    pub fn client_config(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("an authority is a root");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Connects with TLS, asking for this name; returns the connection and the protocol agreed on.
    #[track_caller]
    pub fn connect(&self, address: SocketAddr, name: &str, alpn: &[&str]) -> (Conn, Option<String>) {
        let mut tcp = TcpStream::connect(address).expect("the server can be connected to");
        tcp.set_nodelay(true).expect("nodelay can be set");
        let name = ServerName::try_from(name.to_owned()).expect("a server name");
        let mut tls = ClientConnection::new(self.client_config(alpn), name).expect("a client connection");
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).unwrap_or_else(|e| panic!("no TLS handshake: {e}"));
        }
        let agreed = tls.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        (Conn::new(StreamOwned::new(tls, tcp)), agreed)
    }
}

impl Identity {
    /// The same, offering these protocols instead of `http/1.1`.
    pub fn with_alpn(mut self, alpn: &[&str]) -> Identity {
        self.alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Writes `NAME.pem` and `NAME.key`, for a server's configuration.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = folder.join(format!("{name}.pem"));
        let key = folder.join(format!("{name}.key"));
        std::fs::write(&certificate, &self.certificate_pem).expect("the folder can be written to");
        std::fs::write(&key, self.key.serialize_pem()).expect("the folder can be written to");
        (certificate, key)
    }

    /// What a server needs.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .expect("the key belongs to the certificate");
        config.alpn_protocols = self.alpn.clone();
        Arc::new(config)
    }

    /// Speaks TLS as a server on this socket; the handshake happens with the first read.
    pub fn accept(&self, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
        let tls = ServerConnection::new(self.server_config()).expect("a server connection");
        StreamOwned::new(tls, stream)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
