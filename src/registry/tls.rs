//! The HTTP clients: which authorities they trust, which proxies they take, which names they resolve.
//!
//! Trusted are the bundled roots (an image from scratch has no store of its own), the settings' files for all hosts, and one
//! host's own file. The provider of TLS is ring, for the whole process.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy};
use url::Url;

use super::address::PublicOnly;
use super::error::RegistryError;
use super::settings::{Proxies, RegistrySettings};
use super::wire::Clients;

/// How long an unused connection is kept: shorter than what proxies and load balancers keep theirs (60 s and more).
const CONNECTION_IDLE: Duration = Duration::from_secs(45);

/// After so long without a sign of life a connection is asked for one, so that a dead peer shows in a long commit too.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Makes ring the provider of TLS. A provider that is installed already stays.
pub fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The authorities of the bundle.
pub fn bundled_authorities() -> Vec<Certificate> {
    // The bundle is generated from Mozilla's; a certificate that cannot be read would be left out, not trusted.
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok()).collect()
}

/// The authorities of a PEM file.
pub fn authorities_of(path: &Path) -> Result<Vec<Certificate>, RegistryError> {
    let failed = |source| RegistryError::CaFile { path: path.to_owned(), source };
    let pem = std::fs::read(path).map_err(|error| failed(error.into()))?;
    let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.into()))?;
    if authorities.is_empty() { Err(failed("there is no certificate in it".into())) } else { Ok(authorities) }
}

/// The clients that trust `authorities`. `direct`: without a proxy, for loopback.
pub fn clients(settings: &RegistrySettings, authorities: &[Certificate], direct: bool) -> Result<Clients, RegistryError> {
    let builder = || {
        let mut builder = Client::builder()
            .user_agent(&settings.user_agent)
            .tls_certs_only(authorities.iter().cloned())
            .connect_timeout(settings.patience.connect)
            .pool_idle_timeout(CONNECTION_IDLE)
            .tcp_keepalive(KEEPALIVE)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
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
    Ok(Clients {
        open: builder()?.build().map_err(RegistryError::Client)?,
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
