//! Wheels over HTTP, into the cache.
//!
//! A wheel is asked for at the address that a resolver or a lock has for it, with the user's credentials for that host, through the proxies of this machine
//! and under its authorities. Its bytes are hashed on their way and kept only if they are the ones that were locked.
//!
//! What must stay true: credentials go to the host that they are for and to no other, also where it sends us on; an address in a message has none.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Client, StatusCode};
use url::{Host, Url};

use super::index_settings::IndexSettings;
use crate::disk::wheel_cache::{WheelCache, WheelCacheError};
use crate::fault::{Failure, Fault};
use crate::model::requirements_lock::ChosenWheel;
use crate::progress::{Event, Listener};
use crate::registry::error::RegistryError;
use crate::registry::settings::RegistrySettings;
use crate::registry::tls;

/// How often a mirror may send us on.
const REDIRECTS_MAX: usize = 5;
/// How often a wheel is tried.
const TRIES: u32 = 3;
/// A mirror that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_mins(1);
/// The largest wheel that is fetched.
const WHEEL_BYTES_MAX: u64 = 16 << 30;

/// Fetches wheels.
#[derive(Clone, Debug)]
pub struct Fetcher {
    open: Client,
    direct: Client,
    index: IndexSettings,
}

/// Why a wheel was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an address of HTTP.
    #[error("`{0}` is not an address that wheels are fetched from")]
    Address(String),
    /// The clients cannot be made.
    #[error("preparing to fetch wheels")]
    Client(#[from] RegistryError),
    /// The connection.
    #[error("fetching `{url}`")]
    Wire {
        /// From where.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// It stopped in the middle.
    #[error("fetching `{url}`: nothing came for a minute")]
    Silence {
        /// From where.
        url: String,
    },
    /// The mirror said no.
    #[error("fetching `{url}`: the answer is {status}")]
    Status {
        /// From where.
        url: String,
        /// Its answer.
        status: StatusCode,
    },
    /// It sends us round.
    #[error("fetching `{url}`: it sends us on more than {REDIRECTS_MAX} times, or to nowhere")]
    Redirect {
        /// From where.
        url: String,
    },
    /// It is larger than any.
    #[error("fetching `{url}`: it has more than {WHEEL_BYTES_MAX} bytes")]
    TooLarge {
        /// From where.
        url: String,
    },
    /// It cannot be kept, or is another.
    #[error(transparent)]
    Cache(#[from] WheelCacheError),
    /// Work in the background died.
    #[error("writing a wheel stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl Failure for FetchError {
    fn fault(&self) -> Fault {
        match self {
            FetchError::Cache(error) => error.fault(),
            FetchError::Client(error) => error.fault(),
            FetchError::Stopped(_) => Fault::Ours,
            FetchError::Wire { .. } | FetchError::Silence { .. } => Fault::RemoteTransient,
            FetchError::Status { status, .. } if status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS => {
                Fault::RemoteTransient
            }
            _ => Fault::Remote,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            FetchError::Cache(error) => error.remedy(),
            FetchError::Status { status, .. } if matches!(status.as_u16(), 401 | 403) => {
                Some("give the user and the password of this host in netrc, or in the address of the index".to_owned())
            }
            FetchError::Status { .. } => Some("remove the lock, and the wheels are chosen anew".to_owned()),
            FetchError::Wire { .. } | FetchError::Silence { .. } => {
                Some("try again, or name a folder of wheels with `--wheels`".to_owned())
            }
            _ => None,
        }
    }
}

impl Fetcher {
    /// A fetcher with the proxies and the authorities of this machine; `index` may name more of these.
    pub fn new(settings: &RegistrySettings, index: IndexSettings) -> Result<Fetcher, FetchError> {
        tls::install_provider();
        let mut authorities = tls::Authorities::new();
        for path in &settings.ca_files {
            authorities.extend(tls::authorities_of(path)?);
        }
        // pip takes its own in the place of the usual ones, and a file that is gone is pip's to complain of.
        if let Some(more) = index.authorities().and_then(|path| tls::authorities_of(&path).ok()) {
            authorities.extend(more);
        }
        let tls = tls::tls_settings(&authorities, &[])?;
        Ok(Fetcher { open: tls::clients(settings, &tls, false)?.open, direct: tls::clients(settings, &tls, true)?.open, index })
    }

    /// Fetches a wheel into the cache.
    pub async fn fetch(&self, wheel: &ChosenWheel, address: &str, cache: &Arc<WheelCache>, listener: &Listener) -> Result<(), FetchError> {
        let url = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| FetchError::Address(address.to_owned()))?;
        for pause_s in 1..TRIES {
            match self.try_once(wheel, &url, cache, listener).await {
                Err(error) if error.fault().is_transient() => {
                    listener(Event::Note(format!("{}: trying again: {error}", wheel.name.file_name)));
                    tokio::time::sleep(Duration::from_secs(u64::from(pause_s))).await;
                }
                ended => return ended,
            }
        }
        self.try_once(wheel, &url, cache, listener).await
    }

    async fn try_once(&self, wheel: &ChosenWheel, url: &Url, cache: &Arc<WheelCache>, listener: &Listener) -> Result<(), FetchError> {
        let response = self.follow(url.clone()).await?;
        let (shown, size_bytes) = (shown(url), response.content_length());
        listener(Event::Expect { bytes: size_bytes.unwrap_or(0) });
        let of_cache = cache.clone();
        let mut writer = blocking(move || of_cache.writer()).await??;
        let (mut bytes, mut count) = (response.bytes_stream(), 0u64);
        while let Some(chunk) = tokio::time::timeout(SILENCE, bytes.next()).await.map_err(|_| FetchError::Silence { url: shown.clone() })? {
            let chunk = chunk.map_err(|source| FetchError::Wire { url: shown.clone(), source: source.without_url() })?;
            count += chunk.len() as u64;
            if count > WHEEL_BYTES_MAX {
                return Err(FetchError::TooLarge { url: shown });
            }
            listener(Event::Advance { bytes: if size_bytes.is_some() { chunk.len() as u64 } else { 0 } });
            writer = blocking(move || writer.write(&chunk).map(|()| writer)).await??;
        }
        let (digest, file_name) = (wheel.digest, wheel.name.file_name.clone());
        blocking(move || writer.commit(&digest, &file_name)).await??;
        Ok(())
    }

    /// Asks, and goes where it is sent.
    async fn follow(&self, mut url: Url) -> Result<reqwest::Response, FetchError> {
        let asked = shown(&url);
        for _ in 0..=REDIRECTS_MAX {
            let client = if is_loopback(&url) { &self.direct } else { &self.open };
            let mut request = client.get(url.clone());
            if let Some(login) = self.index.login(&url) {
                request = request.basic_auth(login.username, Some(login.password));
            }
            let sent = tokio::time::timeout(SILENCE, request.send()).await.map_err(|_| FetchError::Silence { url: shown(&url) })?;
            let response = sent.map_err(|source| FetchError::Wire { url: shown(&url), source: source.without_url() })?;
            if response.status().is_success() {
                return Ok(response);
            }
            if !response.status().is_redirection() {
                return Err(FetchError::Status { url: shown(&url), status: response.status() });
            }
            let to = response.headers().get(reqwest::header::LOCATION).and_then(|to| url.join(to.to_str().ok()?).ok());
            // From an encrypted address to a plain one is a step that nobody means.
            let to = to.filter(|to| to.scheme() == "https" || (to.scheme() == "http" && url.scheme() == "http"));
            url = to.ok_or_else(|| FetchError::Redirect { url: asked.clone() })?;
        }
        Err(FetchError::Redirect { url: asked })
    }
}

/// An address without what is only between us and the host.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(work).await.map_err(FetchError::Stopped)
}
