//! A registry that can misbehave: the rules of the distribution specification in memory, with faults to switch on.
//!
//! Every fault is a field of [`Faults`] and off by default. It keeps a log of what it was asked, `Authorization`
//! included, so that a test can see what went to whom. Torn connections are not its business: `wire_tap.rs` cuts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, LOCATION, RANGE, WARNING};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures_util::StreamExt as _;
use lamina::oci::digest::Digest;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::fault_manifests;
use super::fault_tokens::{self, Login};
use super::fault_uploads;

/// What goes wrong.
#[derive(Default)]
pub struct Faults {
    /// Who may come in.
    pub login: Login,
    /// Answers that are given in place of the right ones, the first that fits, each so often.
    pub refusals: Vec<Refusal>,
    /// How mounts are answered; 201 where not set.
    pub mount_status: Option<u16>,
    /// Mounts are answered 201, and nothing is mounted.
    pub lying_mounts: bool,
    /// It says of every blob that it has it.
    pub has_everything: bool,
    /// It says that blobs have so many bytes more.
    pub head_bytes_more: u64,
    /// Locations are relative and have a query.
    pub relative_locations: bool,
    /// Locations and redirects lead here (`http://host:port`).
    pub locations_at: Option<String>,
    /// Blobs are redirected here (`http://host:port`).
    pub blobs_at: Option<String>,
    /// One byte of each blob is another one.
    pub corrupt_blobs: bool,
    /// Blobs have one byte more, or end early, than was announced.
    pub blob_bytes_more: i64,
    /// Ranges are ignored.
    pub no_ranges: bool,
    /// The most bytes of a request's body (413, as nginx answers).
    pub body_bytes_max: Option<u64>,
    /// The most bytes of a chunk (416, as GHCR answers).
    pub chunk_bytes_max: Option<u64>,
    /// Chunks are refused with this status.
    pub no_chunks: Option<u16>,
    /// With what a chunk is answered; 202 where not set (ECR: 201).
    pub chunk_status: Option<u16>,
    /// Ranges stand still after the first chunk, as ECR's do (aws/containers-roadmap#2831).
    pub stuck_ranges: bool,
    /// Mounts that name no repository are refused, as Quay does.
    pub mount_needs_from: bool,
    /// What came of a body that broke is kept, as the specification allows; docker-registry forgets the session instead.
    pub keeps_partial: bool,
    /// Half of each chunk is taken, and the range says so.
    pub half_chunks: bool,
    /// Ranges of uploads say that there is more than there is.
    pub lying_ranges: bool,
    /// The range after a chunk says that half of it came: so often.
    pub understated_ranges: u32,
    /// A question for an upload is answered with half of what came: so often.
    pub understated_uploads: u32,
    /// What was committed is called this, so often; and kept or not.
    pub commits_named: Option<(Digest, u32, bool)>,
    /// Bytes are taken and then forgotten where the digest is checked: so often.
    pub lost_commits: u32,
    /// Once there are so many blobs, no commit ends.
    pub commits_held_after: Option<usize>,
    /// How long a commit takes after the last byte.
    pub commit_delay: Duration,
    /// Manifests are taken only with their blobs; whether it then says which are missing.
    pub manifests_need_blobs: Option<bool>,
    /// The most bytes of a manifest.
    pub manifest_bytes_max: Option<u64>,
    /// A manifest that is there is not taken again.
    pub immutable_tags: bool,
    /// What others put in the place of an index of referrers once we have read our own there.
    pub late_indexes: Vec<Bytes>,
    /// The type of manifests, whatever they are.
    pub manifest_type: Option<&'static str>,
    /// Neither HEAD nor PUT names a manifest's digest.
    pub nameless_manifests: bool,
    /// What PUT calls a manifest.
    pub manifest_named: Option<Digest>,
    /// `Warning` headers of each answer.
    pub warnings: Vec<&'static str>,
    /// How many tags a page has.
    pub tags_per_page: Option<usize>,
    /// `OCI-Chunk-Min-Length`; a smaller chunk is refused unless it is the last.
    pub chunk_bytes_min: Option<u64>,
    /// It lists referrers, and says so when one is put.
    pub lists_referrers: bool,
    /// A tag that is there is refused with this status.
    pub tags_stay: Option<u16>,
    /// Manifests that have this in them are refused.
    pub manifests_without: Option<&'static str>,
    /// Deletes are answered with this status.
    pub no_deletes: Option<u16>,
    /// What is not there is answered 403, as Artifactory does.
    pub missing_is_forbidden: bool,
    /// Digests of blobs are not checked.
    pub unchecked: bool,
    /// The clock.
    pub date: Option<&'static str>,
}

/// An answer in place of the right one.
#[derive(Clone)]
pub struct Refusal {
    /// To these requests.
    pub method: Method,
    /// Whose path contains this.
    pub path: &'static str,
    /// So often.
    pub times: u32,
    /// With this status.
    pub status: u16,
    /// And these headers.
    pub headers: Vec<(HeaderName, &'static str)>,
    /// And this body.
    pub body: &'static str,
}

/// `times` answers with this status to these requests.
pub fn burst(method: Method, path: &'static str, times: u32, status: u16) -> Refusal {
    Refusal { method, path, times, status, headers: Vec::new(), body: "" }
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Its query.
    pub query: String,
    /// Who it said it was.
    pub authorization: Option<String>,
}

/// What is kept.
#[derive(Default)]
pub struct Kept {
    /// The faults.
    pub faults: Faults,
    /// By repository and digest.
    pub blobs: BTreeMap<(String, String), Bytes>,
    /// By repository and key: type and bytes.
    pub manifests: BTreeMap<(String, String), (String, Bytes)>,
    /// Uploads in flight.
    pub uploads: BTreeMap<String, Vec<u8>>,
    /// The names of uploads given so far.
    pub uploads_named: u64,
    /// The names of tokens given so far.
    pub tokens_named: u64,
    /// Tokens that are good.
    pub tokens: Vec<fault_tokens::Given>,
    /// The log.
    pub asked: Vec<Asked>,
    /// Where it listens.
    pub address: String,
}

/// A running one; gone with the value.
pub struct FaultRegistry {
    kept: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

pub type Shared = Arc<Mutex<Kept>>;

impl FaultRegistry {
    /// Starts one.
    pub async fn start(faults: Faults) -> FaultRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let kept = Arc::new(Mutex::new(Kept { faults, address, ..Kept::default() }));
        let router = Router::new().fallback(warned).with_state(kept.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        FaultRegistry { kept, task }
    }

    /// What it keeps.
    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    /// The same for whoever outlives a borrow.
    pub fn shared(&self) -> Shared {
        self.kept.clone()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.kept().address.clone()
    }

    /// Keeps a blob.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.kept().blobs.insert((repository.to_owned(), digest.to_string()), Bytes::copy_from_slice(bytes));
        digest
    }

    /// Keeps a manifest.
    pub fn put_manifest(&self, repository: &str, key: &str, media_type: &str, bytes: &[u8]) {
        let value = (media_type.to_owned(), Bytes::copy_from_slice(bytes));
        self.kept().manifests.insert((repository.to_owned(), key.to_owned()), value);
    }

    /// A kept blob.
    pub fn blob(&self, repository: &str, digest: Digest) -> Option<Bytes> {
        self.kept().blobs.get(&(repository.to_owned(), digest.to_string())).cloned()
    }

    /// How often it was asked with this method for a path that contains this.
    pub fn count(&self, method: Method, path: &str) -> usize {
        self.kept().asked.iter().filter(|asked| asked.method == method && asked.path.contains(path)).count()
    }
}

impl Drop for FaultRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn warned(state: State<Shared>, request: Request) -> Response {
    let (warnings, date) = {
        let kept = state.lock().unwrap();
        (kept.faults.warnings.clone(), kept.faults.date)
    };
    let reads = request.method() == Method::HEAD || request.method() == Method::GET;
    let forbids = reads && state.lock().unwrap().faults.missing_is_forbidden && !request.uri().path().contains("/tags/");
    let mut response = answer(state, request).await;
    if forbids && response.status() == StatusCode::NOT_FOUND {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    if let Some(date) = date {
        response.headers_mut().insert(DATE, HeaderValue::from_static(date));
    }
    for warning in warnings {
        response.headers_mut().append(WARNING, HeaderValue::from_static(warning));
    }
    response
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let authorization = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    shared.lock().unwrap().asked.push(Asked {
        method: method.clone(),
        path: path.clone(),
        query: query.clone(),
        authorization: authorization.clone(),
    });
    if let Some(refusal) = take_refusal(&shared, &method, &path) {
        let mut response = Response::builder().status(refusal.status);
        for (name, value) in refusal.headers {
            response = response.header(name, value);
        }
        return response.body(refusal.body.into()).unwrap();
    }
    if path == "/token" {
        return fault_tokens::give(&shared, request).await;
    }
    if path == "/v2/" {
        let refused = fault_tokens::check(&shared, &method, "", &query, authorization.as_deref());
        return refused
            .unwrap_or_else(|| Response::builder().header("docker-distribution-api-version", "registry/2.0").body("{}".into()).unwrap());
    }
    let Some((repository, rest)) = split(&path) else { return refuse(404, "NAME_UNKNOWN") };
    if let Some(refused) = fault_tokens::check(&shared, &method, &repository, &query, authorization.as_deref()) {
        return refused;
    }
    let too_large = {
        let length = request.headers().get(CONTENT_LENGTH).map_or(0, |value| value.to_str().unwrap().parse().unwrap());
        shared.lock().unwrap().faults.body_bytes_max.is_some_and(|most| length > most)
    };
    if too_large {
        // As nginx does: at once, and what still comes is read and thrown away (`lingering_close`), or the answer might not arrive.
        tokio::spawn(request.into_body().into_data_stream().for_each(|_| std::future::ready(())));
        let page = "<html><head><title>413 Request Entity Too Large</title></head></html>";
        return Response::builder().status(413).header(CONTENT_TYPE, "text/html").body(page.into()).unwrap();
    }
    match rest.split_once('/') {
        Some(("tags", "list")) => fault_manifests::tags(&shared, &repository, &query),
        Some(("referrers", subject)) => fault_manifests::referrers(&shared, &repository, subject),
        Some(("manifests", key)) => fault_manifests::manifest(&shared, method, &repository, key, request).await,
        Some(("blobs", upload)) if upload.starts_with("uploads") => {
            let id = upload.trim_start_matches("uploads").trim_matches('/').to_owned();
            fault_uploads::upload(&shared, method, &repository, &id, request).await
        }
        Some(("blobs", digest)) => blob(&shared, &method, &repository, digest, &request),
        _ => refuse(404, "UNSUPPORTED"),
    }
}

fn take_refusal(shared: &Shared, method: &Method, path: &str) -> Option<Refusal> {
    let mut kept = shared.lock().unwrap();
    let fits = |refusal: &&mut Refusal| refusal.times > 0 && refusal.method == *method && path.contains(refusal.path);
    let refusal = kept.faults.refusals.iter_mut().find(fits)?;
    refusal.times -= 1;
    Some(refusal.clone())
}

/// `/v2/a/b/manifests/x` -> `a/b`, `manifests/x`.
fn split(path: &str) -> Option<(String, String)> {
    let path = path.strip_prefix("/v2/")?;
    let at = ["/manifests/", "/blobs/", "/tags/", "/referrers/"].iter().find_map(|word| path.find(word))?;
    Some((path[..at].to_owned(), path[at + 1..].to_owned()))
}

/// An error of the specification's shape.
pub fn refuse(status: u16, code: &str) -> Response {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"refused by the test"}}]}}"#);
    Response::builder().status(status).header(CONTENT_TYPE, "application/json").body(body.into()).unwrap()
}

fn blob(shared: &Shared, method: &Method, repository: &str, digest: &str, request: &Request) -> Response {
    let mut kept = shared.lock().unwrap();
    if kept.faults.has_everything && *method == Method::HEAD {
        return Response::builder().body(Body::empty()).unwrap();
    }
    if *method == Method::DELETE {
        return fault_manifests::delete(&mut kept, |kept| kept.blobs.remove(&(repository.to_owned(), digest.to_owned())).is_some());
    }
    let Some(bytes) = kept.blobs.get(&(repository.to_owned(), digest.to_owned())) else { return refuse(404, "BLOB_UNKNOWN") };
    if let Some(elsewhere) = &kept.faults.blobs_at {
        let location = format!("{elsewhere}/v2/{repository}/blobs/{digest}?signature=secret");
        return Response::builder().status(307).header(LOCATION, location).body(Body::empty()).unwrap();
    }
    let mut bytes = bytes.to_vec();
    if *method == Method::HEAD {
        return Response::builder().header(CONTENT_LENGTH, bytes.len() as u64 + kept.faults.head_bytes_more).body(Body::empty()).unwrap();
    }
    if kept.faults.corrupt_blobs {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }
    match kept.faults.blob_bytes_more {
        more @ 1.. => bytes.extend(vec![0; usize::try_from(more).unwrap()]),
        less => bytes.truncate(bytes.len() - usize::try_from(-less).unwrap()),
    }
    let range = request.headers().get(RANGE).filter(|_| !kept.faults.no_ranges).map(|value| value.to_str().unwrap().to_owned());
    // Without a length: what comes is not announced, only cut.
    let unannounced = |part: Vec<u8>| Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(part))]));
    match range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
        Some((first, last)) => {
            let first: usize = first.parse().unwrap();
            let end = last.parse::<usize>().map_or(bytes.len(), |last| last + 1).min(bytes.len());
            if first >= end {
                return refuse(416, "RANGE_INVALID");
            }
            let content_range = format!("bytes {first}-{}/{}", end - 1, bytes.len());
            let response = Response::builder().status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, content_range);
            response.body(unannounced(bytes[first..end].to_vec())).unwrap()
        }
        None => Response::builder().body(unannounced(bytes)).unwrap(),
    }
}
