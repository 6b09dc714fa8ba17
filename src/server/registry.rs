//! `/v2/`: the embedded registry, over the store.
//!
//! An OCI distribution registry (distribution-spec 1.1) without accounts: what was built can be pulled, and layers, bases and images can be
//! pushed. A blob is answered from its file or by rendering its recipe, whole or a range of it; which of the two, a client cannot tell. All
//! repositories share the blobs. Deleting is not done here: what nothing refers to any more is collected by whoever knows the catalog.
//! Referrers are answered with 404, which sends clients to the tag scheme (distribution-spec, "Unavailable Referrers API").
//!
//! What must stay true: bodies are streamed in both directions, so memory does not grow with a blob.

use std::io::Read;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LINK, RANGE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, http::HeaderName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body;
use super::registry_error::RegistryError;
use super::registry_manifests::{get_manifest, put_manifest};
use super::registry_range::{Asked, asked};
use super::registry_uploads::{cancel, continue_upload, finish, start, status};
use crate::disk::store::Store;
use crate::disk::store_repositories::is_repository;
use crate::oci::digest::Digest;

/// The digest of what an answer is about.
pub const DIGEST_HEADER: HeaderName = HeaderName::from_static("docker-content-digest");
/// The most names in one answer; more are behind the answer's `Link`.
const NAMES_MAX: usize = 1000;

/// The routes of the registry. They have no fallback of their own, so that they can be merged into the service's.
pub fn router(store: Arc<Store>) -> Router {
    Router::new().route("/v2", any(version)).route("/v2/", any(version)).route("/v2/{*path}", any(dispatch)).with_state(store)
}

async fn version() -> Response {
    ([("docker-distribution-api-version", "registry/2.0")], Json(json!({}))).into_response()
}

/// What a path of the registry is about. Names have any number of components, so a path is read from its end.
#[derive(Debug, PartialEq, Eq)]
enum Endpoint<'a> {
    Catalog,
    Tags(&'a str),
    Manifest(&'a str, &'a str),
    Blob(&'a str, &'a str),
    Uploads(&'a str),
    Upload(&'a str, &'a str),
}

fn endpoint(path: &str) -> Option<Endpoint<'_>> {
    if path == "_catalog" {
        return Some(Endpoint::Catalog);
    }
    if let Some(repository) = path.strip_suffix("/blobs/uploads").or_else(|| path.strip_suffix("/blobs/uploads/")) {
        return Some(Endpoint::Uploads(repository));
    }
    let (before, last) = path.rsplit_once('/')?;
    let (above, kind) = before.rsplit_once('/')?;
    match kind {
        "tags" if last == "list" => Some(Endpoint::Tags(above)),
        "manifests" => Some(Endpoint::Manifest(above, last)),
        "uploads" => above.strip_suffix("/blobs").map(|repository| Endpoint::Upload(repository, last)),
        "blobs" => Some(Endpoint::Blob(above, last)),
        _ => None,
    }
}

/// The parameters of any request.
#[derive(Debug, Default, Deserialize)]
pub struct Parameters {
    n: Option<usize>,
    last: Option<String>,
    /// The digest of a blob that is sent.
    pub digest: Option<String>,
    /// The digest of a blob that is here already.
    pub mount: Option<String>,
}

async fn dispatch(
    State(store): State<Arc<Store>>,
    Path(path): Path<String>,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Result<Response, RegistryError> {
    let endpoint = endpoint(&path).ok_or_else(|| RegistryError::Path(path.clone()))?;
    let (head, body) = request.into_parts();
    let (method, headers) = (head.method, head.headers);
    let reads = method == Method::GET || method == Method::HEAD;
    match endpoint {
        Endpoint::Catalog if reads => catalog(store, &parameters).await,
        Endpoint::Tags(repository) if reads => tags(store, named(repository)?, &parameters).await,
        Endpoint::Manifest(repository, key) if reads => get_manifest(store, named(repository)?, key.to_owned()).await,
        Endpoint::Manifest(repository, key) if method == Method::PUT => {
            put_manifest(store, named(repository)?, key.to_owned(), &headers, body).await
        }
        Endpoint::Blob(repository, digest) if reads => {
            named(repository)?;
            blob(store, digest.parse()?, &method, &headers).await
        }
        Endpoint::Uploads(repository) if method == Method::POST => start(store, named(repository)?, parameters, body).await,
        Endpoint::Upload(repository, id) => {
            let (repository, id) = (named(repository)?, id.to_owned());
            match method {
                Method::PATCH => continue_upload(store, repository, id, &headers, body).await,
                Method::PUT => finish(store, repository, id, parameters, &headers, body).await,
                Method::GET | Method::HEAD => status(store, repository, id).await,
                Method::DELETE => cancel(store, id).await,
                _ => Err(RegistryError::Method),
            }
        }
        _ => Err(RegistryError::Method),
    }
}

fn named(repository: &str) -> Result<String, RegistryError> {
    if !is_repository(repository) {
        return Err(crate::disk::store::StoreError::Repository(repository.chars().take(300).collect()).into());
    }
    Ok(repository.to_owned())
}

/// Runs what blocks where it may.
pub async fn blocking<T: Send + 'static, E: Into<RegistryError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work).await?.map_err(Into::into)
}

async fn blob(store: Arc<Store>, digest: Digest, method: &Method, headers: &HeaderMap) -> Result<Response, RegistryError> {
    let known = store.clone();
    let size_bytes = blocking(move || known.size(&digest)).await?.ok_or(RegistryError::BlobUnknown(digest))?;
    let asked = asked(headers.get(RANGE).and_then(|value| value.to_str().ok()), size_bytes)?;
    let (status, range) = match &asked {
        Asked::All => (StatusCode::OK, 0..size_bytes),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range.clone()),
    };
    let length = (range.end - range.start).to_string();
    let content_range = matches!(asked, Asked::Part(_)).then(|| format!("bytes {}-{}/{size_bytes}", range.start, range.end - 1));
    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        let reader: Box<dyn Read + Send> = blocking(move || store.open_range(&digest, range)).await?;
        body::of_reader(reader)
    };
    let described = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, length),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (ETAG, format!("\"{digest}\"")),
        (DIGEST_HEADER, digest.to_string()),
    ];
    let mut response = (status, described, body).into_response();
    response.headers_mut().extend(content_range.and_then(|text| Some((CONTENT_RANGE, text.parse().ok()?))));
    Ok(response)
}

async fn tags(store: Arc<Store>, repository: String, parameters: &Parameters) -> Result<Response, RegistryError> {
    let name = repository.clone();
    let tags = blocking(move || store.tags(&name)).await?.ok_or_else(|| RegistryError::NameUnknown(repository.clone()))?;
    let path = format!("/v2/{repository}/tags/list");
    Ok(page(&path, &tags, parameters, |tags| json!({"name": repository, "tags": tags})))
}

async fn catalog(store: Arc<Store>, parameters: &Parameters) -> Result<Response, RegistryError> {
    let repositories = blocking(move || store.repositories()).await?;
    Ok(page("/v2/_catalog", &repositories, parameters, |repositories| json!({"repositories": repositories})))
}

/// The names after `last`, `n` of them, and the way to the rest.
fn page(path: &str, names: &[String], parameters: &Parameters, document: impl Fn(&[String]) -> Value) -> Response {
    let after = parameters.last.as_ref().map_or(0, |last| names.partition_point(|name| name <= last));
    let (rest, n) = (&names[after..], parameters.n.unwrap_or(NAMES_MAX).min(NAMES_MAX));
    let shown = &rest[..n.min(rest.len())];
    let mut response = Json(document(shown)).into_response();
    if let Some(last) = shown.last().filter(|_| shown.len() < rest.len()) {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("n", &n.to_string()).append_pair("last", last).finish();
        response.headers_mut().extend(format!("<{path}?{query}>; rel=\"next\"").parse().map(|value| (LINK, value)));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        for (path, expected) in [
            ("_catalog", Some(Endpoint::Catalog)),
            ("a/tags/list", Some(Endpoint::Tags("a"))),
            ("a/b/c/manifests/1", Some(Endpoint::Manifest("a/b/c", "1"))),
            ("a/blobs/sha256:0", Some(Endpoint::Blob("a", "sha256:0"))),
            ("a/b/blobs/uploads/", Some(Endpoint::Uploads("a/b"))),
            ("a/b/blobs/uploads", Some(Endpoint::Uploads("a/b"))),
            ("a/blobs/uploads/x", Some(Endpoint::Upload("a", "x"))),
            ("manifests/blobs/manifests/blobs", Some(Endpoint::Manifest("manifests/blobs", "blobs"))),
            ("tags/list/tags/list", Some(Endpoint::Tags("tags/list"))),
            ("a/referrers/sha256:0", None),
            ("manifests/1", None),
            ("a", None),
        ] {
            assert_eq!(endpoint(path), expected, "{path}");
        }
    }
}
