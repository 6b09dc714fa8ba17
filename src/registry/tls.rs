//! The HTTP clients: which authorities they trust, which proxies they take, which names they resolve.
//!
//! Trusted are the bundled roots (an image from scratch has no store of its own), the settings' files for all hosts,
//! and one host's own file. The provider of TLS is ring, for the whole process.
//!
//! A host's own file may also hold the very certificate that the host shows, signed by itself: `openssl req -x509`
//! makes such by default, docker's manual tells to, and docker takes them. By the letter they are authorities, which
//! webpki refuses to see as servers (`CaUsedAsEndEntity`), so [`Pinned`] takes that one certificate for that one host.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, NoProxy, Proxy};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use url::Url;

use super::address::PublicOnly;
use super::client_certificate;
use super::error::RegistryError;
use super::settings::{Proxies, RegistrySettings};
use super::wire::Clients;

/// How long an unused connection is kept: shorter than what proxies and load balancers keep theirs (60 s and more).
const CONNECTION_IDLE: Duration = Duration::from_secs(45);

/// After so long without a sign of life a connection is asked for one, so that a dead peer shows in a long commit too. By TCP, not
/// by HTTP/2's ping, which waits behind a body on a slow line and would be taken for dead.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The authorities of a PEM file.
pub type Authorities = Vec<CertificateDer<'static>>;

/// Makes ring the provider of TLS. A provider that is installed already stays.
pub fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The authorities of a PEM file.
pub fn authorities_of(path: &Path) -> Result<Authorities, RegistryError> {
    certificates_of(path).map_err(|source| RegistryError::CaFile { path: path.to_owned(), source })
}

/// The certificates of a PEM file, in their order.
pub fn certificates_of(path: &Path) -> Result<Authorities, Box<dyn Error + Send + Sync>> {
    let certificates: Authorities = CertificateDer::pem_slice_iter(&std::fs::read(path)?).collect::<Result<_, _>>()?;
    if certificates.is_empty() { Err("there is no certificate in it".into()) } else { Ok(certificates) }
}

/// TLS that trusts the bundled roots, `common`, and `own`: those of one host.
pub fn tls_settings(common: &[CertificateDer<'static>], own: &[CertificateDer<'static>]) -> Result<ClientConfig, RegistryError> {
    let mut roots = RootCertStore::empty();
    // The bundle is Mozilla's. A certificate that cannot be read is left out: it is not trusted.
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().chain(common).chain(own).cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(RegistryError::Tls)?;
    let mut tls = if own.is_empty() {
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let usual = usual.map_err(|error| RegistryError::Tls(rustls::Error::General(error.to_string())))?;
        let verifier = Arc::new(Pinned { usual, own: own.to_vec() });
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// TLS that trusts nobody: for clients that never speak it.
pub fn nobody_trusted() -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(RegistryError::Tls)?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// The clients of one kind of TLS. `direct`: without a proxy, for loopback.
pub fn clients(settings: &RegistrySettings, tls: &ClientConfig, direct: bool) -> Result<Clients, RegistryError> {
    let asked = Arc::default();
    let tls = client_certificate::witnessed(tls, &asked);
    let builder = || {
        let mut builder = Client::builder()
            .user_agent(&settings.user_agent)
            .tls_backend_preconfigured(tls.clone())
            .connect_timeout(settings.patience.connect)
            .pool_idle_timeout(CONNECTION_IDLE)
            .tcp_keepalive(KEEPALIVE)
            .tcp_nodelay(true)
            // Redirects are followed by our own hand: each is a place to be checked, and none but our own gets a token.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy();
        if !direct {
            builder = with_proxies(builder, &settings.proxies)?;
        }
        Ok::<ClientBuilder, RegistryError>(builder)
    };
    let proxies = [&settings.proxies.http, &settings.proxies.https];
    let except: BTreeSet<String> = proxies
        .into_iter()
        .flatten()
        .filter_map(|text| Url::parse(text).or_else(|_| Url::parse(&format!("http://{text}"))).ok()?.host_str().map(str::to_owned))
        .collect();
    let open = builder()?.build().map_err(RegistryError::Client)?;
    Ok(Clients {
        own: open.clone(),
        open,
        asked,
        guarded: builder()?.dns_resolver(Arc::new(PublicOnly { except })).build().map_err(RegistryError::Client)?,
    })
}

fn with_proxies(mut builder: ClientBuilder, proxies: &Proxies) -> Result<ClientBuilder, RegistryError> {
    let except = proxies.except.as_deref().and_then(NoProxy::from_string);
    if let Some(url) = &proxies.http {
        builder = builder.proxy(Proxy::http(url).map_err(RegistryError::Client)?.no_proxy(except.clone()));
    }
    if let Some(url) = &proxies.https {
        builder = builder.proxy(Proxy::https(url).map_err(RegistryError::Client)?.no_proxy(except));
    }
    Ok(builder)
}

/// Takes what the usual rules take, and a certificate that the user has named for this host. Of such a one the name is checked, and that
/// the host has its key; not its dates, which webpki reads for certificates that it takes only.
#[derive(Debug)]
struct Pinned {
    usual: Arc<WebPkiServerVerifier>,
    own: Authorities,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let usual = self.usual.verify_server_cert(certificate, intermediates, name, ocsp_response, now);
        let Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) = &usual else { return usual };
        if !self.own.iter().any(|own| own.as_ref() == certificate.as_ref()) {
            return usual;
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
