//! The HTTP clients of a host, each made when the first request needs it.
//!
//! A registry on this machine speaks plain HTTP, and reading and parsing all authorities that a machine trusts would be a fifth of what an unchanged build does. So a request to
//! `http://` goes by clients that trust nobody, and the machine's own file of authorities is opened when the first URL with `https://` comes.
//!
//! What must stay true: files that the user has named are read when [`super::client::Registries`] is made, so that a broken one is told at once ([`Trust::new`]); no connection
//! by TLS is made by a client that trusts nobody, so that a proxy that is itself reached by TLS gets the others.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use url::Url;

use super::client_certificate::ClientCertificate;
use super::error::RegistryError;
use super::settings::RegistrySettings;
use super::tls::{self, Authorities};
use super::wire::Clients;

/// The authorities that are trusted for every host.
pub struct Trust {
    named: Authorities,
    usual_file: Option<PathBuf>,
    usual: OnceLock<Authorities>,
    tls: OnceLock<ClientConfig>,
}

impl Trust {
    /// Reads the files that the user has named; of the machine's own one it is only made sure that it is there.
    pub fn new(settings: &RegistrySettings) -> Result<Trust, RegistryError> {
        tls::install_provider();
        let mut named = Authorities::new();
        for path in settings.ca_files.iter().filter(|path| settings.usual_ca_file.as_ref() != Some(path)) {
            named.extend(tls::authorities_of(path)?);
        }
        let usual_file = settings.usual_ca_file.clone();
        if let Some(path) = &usual_file {
            let found = std::fs::metadata(path)
                .and_then(|found| if found.is_file() { Ok(()) } else { Err(std::io::Error::from(std::io::ErrorKind::IsADirectory)) });
            found.map_err(|error| RegistryError::CaFile { path: path.clone(), source: error.into() })?;
        }
        Ok(Trust { named, usual_file, usual: OnceLock::new(), tls: OnceLock::new() })
    }

    /// TLS that trusts them, and `own` for one host.
    fn tls(&self, own: &Authorities) -> Result<ClientConfig, RegistryError> {
        if own.is_empty()
            && let Some(tls) = self.tls.get()
        {
            return Ok(tls.clone());
        }
        let usual = match (&self.usual_file, self.usual.get()) {
            (None, _) => &Authorities::new(),
            (Some(_), Some(usual)) => usual,
            (Some(path), None) => {
                let read = tls::authorities_of(path)?;
                self.usual.get_or_init(|| read)
            }
        };
        let common: Authorities = self.named.iter().chain(usual).cloned().collect();
        let tls = tls::tls_settings(&common, own)?;
        // Clones share the sessions that were agreed.
        Ok(if own.is_empty() { self.tls.get_or_init(|| tls).clone() } else { tls })
    }
}

/// The clients of one host, or of all that have nothing of their own.
pub struct LateClients {
    settings: RegistrySettings,
    trust: Arc<Trust>,
    own: Authorities,
    certificate: Option<ClientCertificate>,
    direct: bool,
    plain: OnceLock<Clients>,
    by_tls: OnceLock<Clients>,
}

impl LateClients {
    /// Nothing is made yet. `direct`: without a proxy, for loopback. `own` is trusted beside what all trust, and `certificate` shown.
    pub fn new(
        settings: &RegistrySettings,
        trust: &Arc<Trust>,
        direct: bool,
        own: Authorities,
        certificate: Option<ClientCertificate>,
    ) -> LateClients {
        let (settings, trust) = (settings.clone(), trust.clone());
        LateClients { settings, trust, own, certificate, direct, plain: OnceLock::new(), by_tls: OnceLock::new() }
    }

    /// The clients that can go to `url`.
    pub fn to(&self, url: &Url) -> Result<&Clients, RegistryError> {
        let proxy_by_tls = !self.direct && self.settings.proxies.http.as_deref().is_some_and(|proxy| proxy.starts_with("https:"));
        let plain = url.scheme() == "http" && !proxy_by_tls;
        let place = if plain { &self.plain } else { &self.by_tls };
        if let Some(clients) = place.get() {
            return Ok(clients);
        }
        let clients = if plain { tls::clients(&self.settings, &tls::nobody_trusted()?, self.direct)? } else { self.make_by_tls()? };
        Ok(place.get_or_init(|| clients))
    }

    /// Whether a server has asked for a certificate.
    pub fn were_asked(&self) -> bool {
        self.by_tls.get().is_some_and(|clients| clients.asked.load(std::sync::atomic::Ordering::Relaxed))
    }

    fn make_by_tls(&self) -> Result<Clients, RegistryError> {
        let tls = self.trust.tls(&self.own)?;
        let mut clients = tls::clients(&self.settings, &tls, self.direct)?;
        if let Some(certificate) = &self.certificate {
            let shown = tls::clients(&self.settings, &certificate.shown_with(&tls), self.direct)?;
            (clients.own, clients.asked) = (shown.own, shown.asked);
        }
        Ok(clients)
    }
}
