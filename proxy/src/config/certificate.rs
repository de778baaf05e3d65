//! Whether a certificate and a key can be used, and together.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// What is wrong with a pair of files.
#[derive(Debug)]
pub(super) struct Fault {
    /// Whose fault it is: the key's, or the certificate's.
    pub(super) in_key: bool,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// Checks the contents of two PEM files.
pub(super) fn check_pair(chain: &[u8], key: &[u8]) -> Result<(), Fault> {
    let fault = |in_key, message: &str, help| Fault { in_key, message: message.to_owned(), help };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
        fault(false, "this file holds no certificate", "it begins with `-----BEGIN CERTIFICATE-----`")
    })?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        fault(
            true,
            "this file holds no private key",
            "it begins with `-----BEGIN PRIVATE KEY-----`, and is not encrypted",
        )
    })?;
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(fault(
            true,
            "this is not the key of the certificate",
            "the two files belong together: was one of them renewed alone?",
        )),
        Err(error) => Err(Fault {
            in_key: false,
            message: format!("this certificate and its key cannot be used: {error}"),
            help: "keys are ECDSA (P-256, P-384), Ed25519, or RSA of 2048 to 8192 bits",
        }),
    }
}
