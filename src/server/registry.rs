//! `/v2/`: the embedded registry, over the store.
//!
//! An OCI distribution registry (distribution-spec 1.1) without accounts: what was built can be pulled, and layers, bases and images can be
//! pushed, listed and deleted. A blob is answered from its file or by rendering its recipe, whole or a range of it; which of the two, a client cannot
//! tell. The store has each blob once, and a repository has those that were pushed or mounted there or that its manifests name. What is deleted is gone
//! from its repository at once, and from the disk when nothing needs it (`build/collect.rs`).
//!
//! What must stay true: bodies are streamed in both directions, so memory does not grow with a blob.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::json;

use super::registry_blobs::{delete_blob, get_blob};
use super::registry_error::RegistryError;
use super::registry_lists::{catalog, referrers, tags};
use super::registry_manifests::{delete_manifest, get_manifest, put_manifest};
use super::registry_query::Parameters;
use super::registry_uploads::{cancel, continue_upload, finish, start, status};
use crate::disk::store::Store;
use crate::disk::store_repositories::is_repository;

/// The digest of what an answer is about.
pub const DIGEST_HEADER: HeaderName = HeaderName::from_static("docker-content-digest");

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
    Referrers(&'a str, &'a str),
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
        "referrers" => Some(Endpoint::Referrers(above, last)),
        "manifests" => Some(Endpoint::Manifest(above, last)),
        "uploads" => above.strip_suffix("/blobs").map(|repository| Endpoint::Upload(repository, last)),
        "blobs" => Some(Endpoint::Blob(above, last)),
        _ => None,
    }
}

async fn dispatch(State(store): State<Arc<Store>>, Path(path): Path<String>, request: Request) -> Result<Response, RegistryError> {
    let endpoint = endpoint(&path).ok_or_else(|| RegistryError::Path(path.clone()))?;
    let (head, body) = request.into_parts();
    let (method, headers) = (head.method, head.headers);
    let parameters = Parameters::parse(head.uri.query().unwrap_or_default())?;
    let reads = method == Method::GET || method == Method::HEAD;
    match endpoint {
        Endpoint::Catalog if reads => catalog(store, &parameters).await,
        Endpoint::Tags(repository) if reads => tags(store, named(repository)?, &parameters).await,
        Endpoint::Referrers(repository, digest) if reads => referrers(store, named(repository)?, digest.parse()?, parameters).await,
        Endpoint::Manifest(repository, key) => {
            let (repository, key) = (named(repository)?, key.to_owned());
            match method {
                Method::GET | Method::HEAD => get_manifest(store, repository, key, &headers).await,
                Method::PUT => put_manifest(store, repository, key, parameters.tags, &headers, body).await,
                Method::DELETE => delete_manifest(store, repository, key).await,
                _ => Err(RegistryError::Method),
            }
        }
        Endpoint::Blob(repository, digest) => {
            let (repository, digest) = (named(repository)?, digest.parse()?);
            match method {
                Method::GET | Method::HEAD => get_blob(store, repository, digest, &method, &headers).await,
                Method::DELETE => delete_blob(store, repository, digest).await,
                _ => Err(RegistryError::Method),
            }
        }
        Endpoint::Uploads(repository) if method == Method::POST => start(store, named(repository)?, parameters, body).await,
        Endpoint::Upload(repository, id) => {
            let (repository, id) = (named(repository)?, id.to_owned());
            match method {
                Method::PATCH => continue_upload(store, repository, id, &headers, body).await,
                Method::PUT => finish(store, repository, id, parameters, &headers, body).await,
                Method::GET | Method::HEAD => status(store, repository, id).await,
                Method::DELETE => cancel(store, repository, id).await,
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
            ("a/referrers/sha256:0", Some(Endpoint::Referrers("a", "sha256:0"))),
            ("a/other/sha256:0", None),
            ("manifests/1", None),
            ("a", None),
        ] {
            assert_eq!(endpoint(path), expected, "{path}");
        }
    }
}
