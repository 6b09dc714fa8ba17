//! The certificate that we show to a registry that wants one from its clients, with the key that belongs to it.
//!
//! Set for a host, shown to that host and to nobody else: where the registry leads elsewhere (a store behind it, a token server at another host), requests go
//! without. The key never leaves this process and is not printed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, SignatureScheme};

use super::error::RegistryError;
use super::settings::HostSettings;
use super::tls;

/// A certificate chain and its key.
#[derive(Clone)]
pub struct ClientCertificate {
    key: Arc<CertifiedKey>,
}

impl ClientCertificate {
    /// The one that a host's settings name; `None` where they name none. The key may stand in the certificate's file.
    pub fn of(host: &HostSettings) -> Result<Option<ClientCertificate>, RegistryError> {
        match (&host.client_certificate_file, &host.client_key_file) {
            (Some(certificate), key) => ClientCertificate::read(certificate, key.as_ref().unwrap_or(certificate)).map(Some),
            (None, Some(key)) => {
                let source = "`client_certificate_file` is not set, and a key alone says nothing".into();
                Err(RegistryError::ClientCertificate { path: key.clone(), source })
            }
            (None, None) => Ok(None),
        }
    }

    fn read(certificate: &Path, key: &Path) -> Result<ClientCertificate, RegistryError> {
        let chain = tls::certificates_of(certificate)
            .map_err(|source| RegistryError::ClientCertificate { path: certificate.to_owned(), source })?;
        let failed = |source| RegistryError::ClientCertificate { path: key.to_owned(), source };
        let pem = std::fs::read(key).map_err(|error| failed(error.into()))?;
        let private_key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| failed(error.into()))?;
        // Refuses a key that is not the certificate's.
        let certified = CertifiedKey::from_der(chain, private_key, &rustls::crypto::ring::default_provider());
        Ok(ClientCertificate { key: Arc::new(certified.map_err(|error| failed(error.into()))?) })
    }

    /// The same TLS, with the certificate shown where it is asked for.
    pub fn shown_with(&self, tls: &ClientConfig) -> ClientConfig {
        let mut tls = tls.clone();
        tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(self.key.clone()));
        // What was agreed with the certificate must not be gone on with without it.
        tls.resumption = Resumption::default();
        tls
    }
}

/// The same TLS, which notes in `asked` that a server has asked for a certificate: whoever ends the connection then has likely done it for that.
pub fn witnessed(tls: &ClientConfig, asked: &Arc<AtomicBool>) -> ClientConfig {
    let mut tls = tls.clone();
    let shows = tls.client_auth_cert_resolver.clone();
    tls.client_auth_cert_resolver = Arc::new(Witness { shows, asked: asked.clone() });
    tls
}

/// Shows what another one shows.
#[derive(Debug)]
struct Witness {
    shows: Arc<dyn ResolvesClientCert>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Witness {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.shows.resolve(issuers, schemes)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.shows.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        self.shows.has_certs()
    }
}
