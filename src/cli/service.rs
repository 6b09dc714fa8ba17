//! A service, as its client: the requests that `hs upload` needs.
//!
//! Speaks `/api/v2` with `?view=lamina`, in which statuses are those of the Models page. A refusal of the service arrives as its own words and its own class. Nothing
//! of the service's code is used here: the wire is the interface.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::multipart::Form;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::registry::error::RegistryError;
use crate::registry::late_clients::{LateClients, Trust};
use crate::registry::settings::RegistrySettings;

/// The longest answer that is read: a version with its contract.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// What one digest takes in an answer.
const DIGEST_BYTES: usize = 80;
/// The longest line of a log.
const LINE_BYTES_MAX: usize = 1 << 20;

/// How long the first question may take: a service that is there answers it from memory.
const REACH: Duration = Duration::from_secs(30);
/// How long a log may say nothing: the service sends a heartbeat every 15 s.
const LOG_IDLE: Duration = Duration::from_mins(1);

/// What a service says to a list of files.
#[derive(Clone, Debug)]
pub enum Asked {
    /// It has them all: the version.
    Made(Value),
    /// It lacks some.
    Wants(Vec<Digest>),
    /// It does not know the question: an older service.
    Unknown,
}

/// A service at its URL.
#[derive(Clone, Debug)]
pub struct Service {
    client: Client,
    url: String,
}

/// Why a service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No HTTP client can be made.
    #[error("preparing to speak to {url}")]
    Client {
        /// The service.
        url: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// It cannot be reached, or the connection broke.
    #[error("{operation} at {url}")]
    Wire {
        /// What was being done.
        operation: &'static str,
        /// The service.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It said no.
    #[error("{operation}: the service at {url} answered {status}: {message}")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// The service.
        url: String,
        /// The status.
        status: StatusCode,
        /// What it said.
        message: String,
        /// The way out, where it named one.
        remedy: Option<String>,
        /// What it has for programs beside that.
        document: Option<Value>,
    },
    /// No URL of a service.
    #[error("`{0}` is not the URL of a service")]
    Url(String),
    /// What answered is no service of ours.
    #[error("{operation}: what answers at {url} is not a model service: {problem}")]
    Stranger {
        /// What was being done.
        operation: &'static str,
        /// The service.
        url: String,
        /// What is wrong with its answer.
        problem: String,
    },
}

impl Failure for ServiceError {
    fn fault(&self) -> Fault {
        match self {
            ServiceError::Client { .. } | ServiceError::Url(_) => Fault::Usage,
            ServiceError::Wire { .. } | ServiceError::Stranger { .. } => Fault::Remote,
            // 400 and 413 are about what was sent: the model (interface, "Exit codes").
            ServiceError::Refused { status, .. } => match status.as_u16() {
                400 | 413 => Fault::Invalid,
                403 => Fault::Policy,
                _ => Fault::Remote,
            },
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            ServiceError::Wire { source, .. } if source.is_connect() => {
                Some("is it running there? `hs serve` starts one; `--host`, `--port` or `--server` name another".to_owned())
            }
            ServiceError::Refused { remedy, .. } => remedy.clone(),
            ServiceError::Url(_) => Some("write `http://host:port` or `https://host`".to_owned()),
            ServiceError::Stranger { .. } => Some("name the service with `--server URL`".to_owned()),
            _ => None,
        }
    }

    fn document(&self) -> Option<Value> {
        if let ServiceError::Refused { document, .. } = self { document.clone() } else { None }
    }
}

/// The answer of a service that lacks files.
#[derive(Deserialize)]
struct Wants {
    wanted: Vec<Digest>,
}

impl Service {
    /// The service at `url`, reached with the certificates and proxies of `settings`; nothing is sent.
    pub fn new(url: &str, settings: &RegistrySettings) -> Result<Service, ServiceError> {
        let url = url.trim_end_matches('/').to_owned();
        let parsed = url::Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(parsed) = parsed else { return Err(ServiceError::Url(url)) };
        let client = client(&parsed, settings).map_err(|source| ServiceError::Client { url: url.clone(), source })?;
        Ok(Service { client, url })
    }

    /// The service's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes sure that something answers there; what, its answers to other questions tell.
    pub async fn reach(&self) -> Result<(), ServiceError> {
        let answer = self.client.get(format!("{}/api/buildinfo", self.url)).timeout(REACH).send().await;
        answer.map(drop).map_err(|source| self.wire("reaching the service", source))
    }

    /// The registry of this service, `host[:port]`, and whether it speaks plain HTTP; `None` where the service is not at the root of its host.
    pub fn registry(&self) -> Option<(String, bool)> {
        let url = url::Url::parse(&self.url).ok().filter(|url| url.path() == "/")?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some((format!("{}{port}", url.host_str()?), url.scheme() == "http"))
    }

    /// Uploads a model; answers with its version.
    pub async fn upload(&self, form: Form) -> Result<Value, ServiceError> {
        let operation = "uploading the model";
        let request = self.client.post(format!("{}/api/v2/model/upload?view=lamina", self.url)).multipart(form);
        let response = request.send().await.map_err(|source| self.wire(operation, source))?;
        let version = self.json(operation, response, ANSWER_BYTES_MAX).await?;
        self.known(operation, version)
    }

    /// Uploads a model whose `files` the service may have. Asked again with the same `key` it makes no second version.
    pub async fn upload_list(&self, form: Form, files: usize, key: &str) -> Result<Asked, ServiceError> {
        let (operation, url) = ("uploading the model", format!("{}/api/v2/model/upload/tree?view=lamina", self.url));
        // A service that answers without having read the question closes the connection: nothing else may be sent over it.
        let request = self.client.post(&url).header(CONNECTION, "close").header("idempotency-key", key).multipart(form);
        let response = match request.send().await {
            Ok(response) => response,
            Err(source) => {
                // One that does not know the question may hang up while it is asked.
                let asked = if source.is_connect() { None } else { self.client.post(&url).header(CONNECTION, "close").send().await.ok() };
                let is_unknown = asked.is_some_and(|response| response.status() == StatusCode::NOT_FOUND);
                return if is_unknown { Ok(Asked::Unknown) } else { Err(self.wire(operation, source)) };
            }
        };
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(Asked::Unknown),
            StatusCode::CONFLICT => {
                let bytes = self.read(operation, response, ANSWER_BYTES_MAX.saturating_add(files.saturating_mul(DIGEST_BYTES))).await?;
                match serde_json::from_slice::<Wants>(&bytes) {
                    Ok(Wants { wanted }) => Ok(Asked::Wants(wanted)),
                    Err(_) => Err(self.refused(operation, StatusCode::CONFLICT, &bytes)),
                }
            }
            _ => {
                let version = self.json(operation, response, ANSWER_BYTES_MAX).await?;
                self.known(operation, version).map(Asked::Made)
            }
        }
    }

    /// Sends the files of a tar, each called by its digest.
    pub async fn send_contents(&self, size_bytes: u64, archive: reqwest::Body) -> Result<(), ServiceError> {
        let (operation, url) = ("sending files", format!("{}/api/v2/model/upload/contents", self.url));
        let request = self.client.post(url).header(CONTENT_LENGTH, size_bytes).header(CONTENT_TYPE, "application/x-tar").body(archive);
        let response = request.send().await.map_err(|source| self.wire(operation, source))?;
        self.json(operation, response, ANSWER_BYTES_MAX).await.map(drop)
    }

    fn known(&self, operation: &'static str, version: Value) -> Result<Value, ServiceError> {
        let known = version["id"].is_u64() && version["version"].is_u64() && version["model"].is_string() && version["status"].is_string();
        if known { Ok(version) } else { Err(self.stranger(operation, "its answer is no version of a model")) }
    }

    /// A version as it is now.
    pub async fn version(&self, model: &str, number: u64) -> Result<Value, ServiceError> {
        let operation = "asking for the version";
        let url = format!("{}/api/v2/model/version/{model}/{number}?view=lamina", self.url);
        let response = self.client.get(url).send().await.map_err(|source| self.wire(operation, source))?;
        self.json(operation, response, ANSWER_BYTES_MAX).await
    }

    /// Follows the log of a version's build to its end; `line` takes its lines from number `next` on, which counts them.
    pub async fn follow_log(&self, version: u64, next: &mut u64, line: &mut dyn FnMut(&Value)) -> Result<(), ServiceError> {
        let operation = "reading the build's log";
        let url = format!("{}/api/v2/model/version/{version}/logs?view=lamina&from={next}", self.url);
        let response = self.client.get(url).send().await.map_err(|source| self.wire(operation, source))?;
        if !response.status().is_success() {
            return self.json(operation, response, ANSWER_BYTES_MAX).await.map(drop);
        }
        let (mut rest, mut stream) = (Vec::new(), response.bytes_stream());
        loop {
            let piece = tokio::time::timeout(LOG_IDLE, stream.next()).await;
            let Some(piece) = piece.map_err(|_| self.stranger(operation, "its log stands still"))? else { break };
            rest.extend_from_slice(&piece.map_err(|source| self.wire(operation, source))?);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let text: Vec<u8> = rest.drain(..=end).collect();
                // Server-sent events: the data of a log line is one line of JSON.
                let value = text.strip_prefix(b"data:").and_then(|data| serde_json::from_slice::<Value>(data).ok());
                if let Some(value) = value.filter(|value| value.get("text").is_some()) {
                    line(&value);
                    *next += 1;
                }
            }
            if rest.len() > LINE_BYTES_MAX {
                return Err(self.stranger(operation, "a line of its log has no end"));
            }
        }
        Ok(())
    }

    async fn json(&self, operation: &'static str, response: Response, bytes_max: usize) -> Result<Value, ServiceError> {
        let status = response.status();
        let bytes = self.read(operation, response, bytes_max).await?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|_| self.stranger(operation, "its answer is no JSON"));
        }
        Err(self.refused(operation, status, &bytes))
    }

    async fn read(&self, operation: &'static str, response: Response, bytes_max: usize) -> Result<Vec<u8>, ServiceError> {
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.map_err(|source| self.wire(operation, source))?);
            if bytes.len() > bytes_max {
                return Err(self.stranger(operation, "its answer has no end"));
            }
        }
        Ok(bytes)
    }

    fn refused(&self, operation: &'static str, status: StatusCode, bytes: &[u8]) -> ServiceError {
        let value: Option<Value> = serde_json::from_slice(bytes).ok();
        let member = |name: &str| value.as_ref().and_then(|value| Some(value.get(name)?.as_str()?.to_owned()));
        let message = member("message").unwrap_or_else(|| String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned());
        let (remedy, document) = (member("remedy"), value.as_ref().and_then(|value| value.get("document")).cloned());
        ServiceError::Refused { operation, url: self.url.clone(), status, message, remedy, document }
    }

    fn wire(&self, operation: &'static str, source: reqwest::Error) -> ServiceError {
        // reqwest's text repeats the URL, which stands before it already.
        ServiceError::Wire { operation, url: self.url.clone(), source: source.without_url() }
    }

    fn stranger(&self, operation: &'static str, problem: &str) -> ServiceError {
        ServiceError::Stranger { operation, url: self.url.clone(), problem: problem.to_owned() }
    }
}

fn client(url: &url::Url, settings: &RegistrySettings) -> Result<Client, RegistryError> {
    let host = url.host_str().unwrap_or_default();
    // A proxy cannot reach this machine's own addresses.
    let direct = host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let clients = LateClients::new(settings, &Arc::new(Trust::new(settings)?), direct, Vec::new(), None);
    Ok(clients.to(url)?.open.clone())
}
