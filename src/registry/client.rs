//! Registries, and repositories in them: where everything that goes over the registry protocol begins.
//!
//! [`Registries`] is made once from the settings and cloned freely; it keeps one HTTP client, one set of tokens and
//! what was learnt for each registry. A [`Repository`] is the handle that the other files of this folder give their
//! verbs: `manifests.rs`, `download.rs`, `upload.rs`, `mount.rs`. This file has no verb: it sends requests, follows
//! redirects and answers challenges.
//!
//! oci-client is used for the protocol's error types only. Its requests are not: it reads answers without a limit,
//! follows `urls` of descriptors and tokens' realms anywhere, asks `/v2/` before each request where no login is wanted,
//! never tries again, and panics on some `Location`s (docs/DEPENDENCIES.md has the list).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::address::{Address, AddressError};
use super::client_certificate::ClientCertificate;
use super::credentials::CredentialSources;
use super::doubt::Doubts;
use super::error::{Action, Operation, RegistryError};
use super::journal::Journal;
use super::known_blobs::KnownBlobs;
use super::late_clients::{LateClients, Trust};
use super::open_uploads::OpenUploads;
use super::profile::{Profile, Profiles};
use super::retry::Tries;
use super::settings::{HostSettings, Patience, RegistrySettings};
use super::tls::{self, Authorities};
use super::tokens::{Rights, Scope, Tokens};
use super::warnings::Heard;
use super::wire::{Payload, Wire};
use crate::oci::reference::Reference;

/// The most redirects that are followed for one request.
const REDIRECTS_MAX: usize = 8;

/// Registries that are known to refuse a larger request body (oras-py#43).
const BODY_BYTES_MAX_KNOWN: [(&str, u64); 1] = [("quay.io", 20_000_000_000)];

/// All registries.
#[derive(Clone)]
pub struct Registries {
    shared: Arc<Shared>,
}

struct Shared {
    settings: RegistrySettings,
    trust: Arc<Trust>,
    own_authorities: BTreeMap<String, Authorities>,
    client_certificates: BTreeMap<String, ClientCertificate>,
    hosts: Mutex<Hosts>,
}

#[derive(Default)]
struct Hosts {
    known: BTreeMap<String, Arc<Host>>,
    /// The clients of hosts without an authority of their own, and of those among them that are on this machine.
    usual: Option<Arc<LateClients>>,
    loopback: Option<Arc<LateClients>>,
}

/// What a repository is opened for; decides the rights that its tokens ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Pull,
    /// To read and write.
    Push,
}

/// One repository of one registry; cheap to clone.
#[derive(Clone)]
pub struct Repository {
    pub(super) origin: Endpoint,
    /// Asked before `origin` when something is pulled.
    pub(super) mirrors: Vec<Endpoint>,
}

/// A repository at one host.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) host: Arc<Host>,
    pub(super) repository: String,
    pub(super) access: Access,
    /// What is being pushed through this handle and its clones.
    pub(super) open_uploads: Arc<OpenUploads>,
}

/// One registry, and what is known of it.
pub(super) struct Host {
    pub(super) registry: String,
    pub(super) wire: Wire,
    pub(super) tokens: Tokens,
    /// The largest request body that it has not refused; all, until it refuses one.
    pub(super) body_bytes_max: AtomicU64,
    /// The same without what the profile says.
    body_bytes_max_unprofiled: u64,
    /// The size of a chunk where it asks for nothing else.
    pub(super) chunk_bytes: u64,
    /// Where blobs are in it.
    pub(super) known_blobs: KnownBlobs,
    /// How far uploads to it are.
    pub(super) journal: Journal,
    /// Whether it is asked to mount.
    pub(super) mounts: bool,
    /// What was known of its ways when this process met it first.
    pub(super) profile: Profile,
    /// Where that is kept.
    pub(super) profiles: Profiles,
    /// What of its word is not believed.
    pub(super) doubts: Doubts,
    warnings: Heard,
    /// Held while an index of referrers is read and written.
    pub(super) referrers_lock: tokio::sync::Mutex<()>,
}

/// A request to a registry.
pub(super) struct Call<'a> {
    pub(super) action: &'a Action,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload<'a>,
    pub(super) scopes: &'a [Scope],
}

/// An answer, and where it came from.
pub(super) struct Answered {
    pub(super) response: Response,
    /// The URL that gave it, after redirects: what a relative `Location` is relative to.
    pub(super) url: Url,
}

impl Registries {
    /// Reads the files of certificates that the settings name, but for the machine's own; nothing is sent.
    pub fn new(settings: RegistrySettings) -> Result<Registries, RegistryError> {
        let trust = Arc::new(Trust::new(&settings)?);
        let mut own_authorities = BTreeMap::new();
        let mut client_certificates = BTreeMap::new();
        for (registry, host) in &settings.hosts {
            if let Some(path) = &host.ca_file {
                own_authorities.insert(registry.clone(), tls::authorities_of(path)?);
            }
            if let Some(certificate) = ClientCertificate::of(host)? {
                client_certificates.insert(registry.clone(), certificate);
            }
        }
        let shared = Shared { settings, trust, own_authorities, client_certificates, hosts: Mutex::default() };
        Ok(Registries { shared: Arc::new(shared) })
    }

    /// The repository of `reference`; its tag and digest play no part. Nothing is sent.
    pub fn repository(&self, reference: &Reference, access: Access) -> Result<Repository, RegistryError> {
        let host = self.host(&reference.registry)?;
        let origin = Endpoint { host, repository: reference.repository.clone(), access, open_uploads: Arc::default() };
        let mut mirrors = Vec::new();
        for mirror in self.shared.settings.hosts.get(&reference.registry).map(|host| host.mirrors.as_slice()).unwrap_or_default() {
            let (registry, prefix) = mirror.trim_end_matches('/').split_once('/').unwrap_or((mirror.trim_end_matches('/'), ""));
            let repository = if prefix.is_empty() { reference.repository.clone() } else { format!("{prefix}/{}", reference.repository) };
            mirrors.push(Endpoint { host: self.host(registry)?, repository, access: Access::Pull, open_uploads: Arc::default() });
        }
        Ok(Repository { origin, mirrors })
    }

    fn host(&self, registry: &str) -> Result<Arc<Host>, RegistryError> {
        let Shared { settings, trust, own_authorities, client_certificates, hosts } = &*self.shared;
        let mut hosts = hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.known.get(registry) {
            return Ok(host.clone());
        }
        let nothing_set = HostSettings::default();
        let host_settings = settings.hosts.get(registry).unwrap_or(&nothing_set);
        let address = Address::new(registry, host_settings.plain_http).map_err(RegistryError::Host)?;
        let direct = address.is_loopback();
        let clients = match (own_authorities.get(registry), client_certificates.get(registry)) {
            (None, None) => {
                let clients = if direct { &mut hosts.loopback } else { &mut hosts.usual };
                clients.get_or_insert_with(|| Arc::new(LateClients::new(settings, trust, direct, Authorities::new(), None))).clone()
            }
            (own, certificate) => {
                let own = own.cloned().unwrap_or_default();
                Arc::new(LateClients::new(settings, trust, direct, own, certificate.cloned()))
            }
        };
        let answer = host_settings.answer_s.map_or(settings.patience.answer, |seconds| Duration::from_secs(seconds.max(1)));
        let patience = Patience { answer, ..settings.patience };
        let profiles = Profiles::new(registry, settings.memory_folder.as_deref());
        let profile = profiles.read();
        let known_bytes_max = BODY_BYTES_MAX_KNOWN.iter().find(|(known, _)| *known == registry).map_or(u64::MAX, |(_, most)| *most);
        let body_bytes_max_unprofiled = host_settings.body_bytes_max.unwrap_or(known_bytes_max).max(1);
        let profiled_bytes_max = profile.body_bytes_max.filter(|_| host_settings.body_bytes_max.is_none()).unwrap_or(u64::MAX);
        let chunk_bytes = settings.chunk_bytes.min(profile.chunk_bytes_max.unwrap_or(u64::MAX));
        let host = Arc::new(Host {
            registry: registry.to_owned(),
            wire: Wire::new(registry, address, patience, clients, settings.teller.clone()),
            tokens: Tokens::new(CredentialSources::new(registry, host_settings, settings)),
            chunk_bytes: host_settings.chunk_bytes.unwrap_or(chunk_bytes).max(1),
            known_blobs: KnownBlobs::new(registry, settings.memory_folder.as_deref()),
            journal: Journal::new(registry, settings.memory_folder.as_deref()),
            doubts: Doubts::default(),
            warnings: settings.warnings.clone(),
            referrers_lock: tokio::sync::Mutex::default(),
            body_bytes_max: AtomicU64::new(body_bytes_max_unprofiled.min(profiled_bytes_max).max(1)),
            body_bytes_max_unprofiled,
            mounts: host_settings.mounts.or(profile.mounts).unwrap_or(true),
            profile,
            profiles,
        });
        hosts.known.insert(registry.to_owned(), host.clone());
        Ok(host)
    }
}

impl Repository {
    /// The registry, as it stands in references.
    pub fn registry(&self) -> &str {
        &self.origin.host.registry
    }

    /// The repository's path in its registry.
    pub fn path(&self) -> &str {
        &self.origin.repository
    }

    /// The mirrors, without those that were asked in vain just now: each would be waited for again with each blob.
    pub(super) fn present_mirrors(&self) -> impl Iterator<Item = &Endpoint> {
        self.mirrors.iter().filter(|mirror| !mirror.host.wire.is_absent())
    }

    /// What the registry has warned of and nobody was told yet, by any of its repositories; each text once.
    pub fn take_warnings(&self) -> Vec<String> {
        self.origin.host.warnings.take_of(self.registry())
    }
}

impl Endpoint {
    /// `operation` on this repository: on `object` in it (a tag, a digest), or on all of it where that is empty.
    pub(super) fn action(&self, operation: Operation, object: &str) -> Action {
        let mark = match object {
            "" => "",
            _ if object.contains(':') => "@",
            _ => ":",
        };
        let object = format!("{}/{}{mark}{object}", self.host.registry, self.repository);
        Action { operation, registry: self.host.registry.clone(), object }
    }

    /// `/v2/REPOSITORY/…` at this registry.
    pub(super) fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let malformed = || RegistryError::Host(AddressError::Malformed(format!("{}/{}", self.host.registry, self.repository)));
        let url = self.host.wire.address.base.join(&format!("v2/{}/{path}", self.repository)).map_err(|_| malformed())?;
        // A repository that is none (`..`, `?x`) would ask for something else.
        let expected = format!("/v2/{}/{}", self.repository, path.split('?').next().unwrap_or_default());
        if url.path() == expected { Ok(url) } else { Err(malformed()) }
    }

    /// The rights that requests here ask for.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let rights = if self.access == Access::Push { Rights::Push } else { Rights::Pull };
        vec![Scope { repository: self.repository.clone(), rights }]
    }

    /// Sends a request without a body and tries again while that may help; answers with a status of `good` come back.
    pub(super) async fn ask(
        &self,
        action: &Action,
        method: Method,
        url: Url,
        headers: HeaderMap,
        good: &[StatusCode],
    ) -> Result<Answered, RegistryError> {
        let scopes = self.scopes();
        self.host.try_hard(Call { action, method, url, headers, payload: Payload::Empty, scopes: &scopes }, good).await
    }
}

impl Host {
    /// As [`Repository::take_warnings`], without the name of the registry.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.texts_of(&self.registry)
    }

    /// Forgets the body limit of the profile: what it asks for instead is refused.
    pub(super) fn lift_profiled_limit(&self) {
        self.body_bytes_max.store(self.body_bytes_max_unprofiled, Ordering::Relaxed);
    }

    /// A new count of tries with this registry.
    pub(super) fn tries(&self) -> Tries {
        Tries::new(self.wire.patience, self.wire.has_answered())
    }

    /// Sends `call`, again while that may help. An answer with another status than `good` is an error.
    pub(super) async fn try_hard(&self, call: Call<'_>, good: &[StatusCode]) -> Result<Answered, RegistryError> {
        let mut tries = self.tries();
        loop {
            let error = match self.try_once(&call, good).await {
                Ok(answered) => return Ok(answered),
                Err(error) => error,
            };
            match tries.pause_after(&error) {
                Some(pause) => {
                    tracing::debug!(action = %call.action, pause_ms = pause.as_millis() as u64, error = %error, "trying again");
                    tokio::time::sleep(pause).await;
                }
                None => return Err(error),
            }
        }
    }

    /// Sends `call` once. An answer with another status than `good` is an error.
    pub(super) async fn try_once(&self, call: &Call<'_>, good: &[StatusCode]) -> Result<Answered, RegistryError> {
        let answered = self.send(call).await?;
        if good.contains(&answered.response.status()) {
            return Ok(answered);
        }
        let answer = Box::new(self.wire.read_answer(answered.response).await);
        Err(RegistryError::Refused { action: call.action.clone(), answer })
    }

    /// Sends `call`, follows redirects, and answers one challenge.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Answered, RegistryError> {
        let address = &self.wire.address;
        let mut url = call.url.clone();
        let mut authorization = None;
        if address.owns(&url) {
            authorization = self.tokens.ready(&self.wire, call.action, call.scopes).await?;
        }
        let mut challenged = false;
        let mut redirects = 0;
        loop {
            let own = address.owns(&url);
            let mut headers = call.headers.clone();
            if let Some(value) = authorization.as_ref().filter(|_| own) {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let response = self.wire.exchange(call.action, &call.method, &url, headers, &call.payload).await?;
            if own {
                self.warnings.hear(&self.registry, response.headers());
            }
            if response.status() == StatusCode::UNAUTHORIZED && own && !challenged {
                challenged = true;
                let refused = authorization.as_ref();
                let renewed = self.tokens.renew(&self.wire, call.action, call.scopes, response.headers(), refused).await?;
                if renewed.is_some() {
                    authorization = renewed;
                    continue;
                }
            }
            match redirect(call, &response) {
                Some(location) if redirects < REDIRECTS_MAX => {
                    url = address.follow(&url, location).map_err(|source| RegistryError::Astray { action: call.action.clone(), source })?;
                    redirects += 1;
                }
                Some(_) => {
                    let problem = format!("more than {REDIRECTS_MAX} redirects");
                    return Err(RegistryError::Protocol { action: call.action.clone(), problem });
                }
                None => return Ok(Answered { response, url }),
            }
        }
    }
}

/// Where `response` redirects to. 301 to 303 would turn a POST or PUT into a GET (RFC 9110, 15.4), which no registry means.
fn redirect<'a>(call: &Call<'_>, response: &'a Response) -> Option<&'a str> {
    let reads = call.method == Method::GET || call.method == Method::HEAD;
    let follows = match response.status().as_u16() {
        301..=303 => reads,
        307 | 308 => true,
        _ => false,
    };
    if follows { response.headers().get(LOCATION)?.to_str().ok() } else { None }
}
