//! Lists of the embedded registry, in pages: tags, repositories, and who refers to a manifest.

use std::sync::Arc;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::registry::blocking;
use super::registry_error::RegistryError;
use super::registry_query::Parameters;
use crate::disk::store::{Store, StoreError};
use crate::oci::digest::Digest;
use crate::oci::json::canonical;
use crate::oci::manifest::{Descriptor, MANIFEST_BYTES_MAX, media};

/// The most names in one answer; more are behind the answer's `Link`.
const NAMES_MAX: usize = 1000;
/// A page of referrers ends before it is larger than a manifest may be, where one descriptor alone is not.
const REFERRERS_BYTES_MAX: usize = MANIFEST_BYTES_MAX as usize - 1024;
/// Which filters a list of referrers has gone through.
const FILTERS_HEADER: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The tags of a repository.
pub async fn tags(store: Arc<Store>, repository: String, parameters: &Parameters) -> Result<Response, RegistryError> {
    let name = repository.clone();
    let tags = blocking(move || store.tags(&name)).await?.ok_or_else(|| RegistryError::NameUnknown(repository.clone()))?;
    let path = format!("/v2/{repository}/tags/list");
    Ok(page(&path, &tags, parameters, |tags| json!({"name": repository, "tags": tags})))
}

/// The repositories; Docker's, and many tools ask for it.
pub async fn catalog(store: Arc<Store>, parameters: &Parameters) -> Result<Response, RegistryError> {
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
        link_next(response.headers_mut(), path, &[("n", &n.to_string()), ("last", last)]);
    }
    response
}

/// Where the next page is (RFC 8288).
fn link_next(headers: &mut HeaderMap, path: &str, query: &[(&str, &str)]) {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    headers.extend(format!("<{path}?{query}>; rel=\"next\"").parse().map(|value| (LINK, value)));
}

/// The manifests whose subject is `digest`, as an index. One that nothing refers to has an empty list, whether it is there or not, and so has a
/// repository that is not there: a 404 would send clients to the tags that registries without this list have.
pub async fn referrers(store: Arc<Store>, repository: String, digest: Digest, parameters: Parameters) -> Result<Response, RegistryError> {
    let after = parameters.last.as_deref().map(str::parse).transpose()?;
    let n = parameters.n.unwrap_or(NAMES_MAX).clamp(1, NAMES_MAX);
    let (name, wanted) = (repository.clone(), parameters.artifact_type.clone());
    let (shown, rest) = blocking(move || {
        let listed = store.referrers(&name, &digest, after)?;
        let fits = |descriptor: &Descriptor| wanted.as_deref().is_none_or(|wanted| artifact_type(descriptor) == Some(wanted));
        first_page(listed.filter(|found| found.as_ref().map_or(true, fits)), n)
    })
    .await?;
    let last = shown.last().map(|descriptor| descriptor.digest.to_string()).filter(|_| rest);
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": shown});
    let mut response = ([(CONTENT_TYPE, media::OCI_INDEX)], canonical(&index)).into_response();
    let mut query = vec![("n", n.to_string())];
    if let Some(wanted) = parameters.artifact_type {
        response.headers_mut().insert(FILTERS_HEADER, HeaderValue::from_static("artifactType"));
        query.push(("artifactType", wanted));
    }
    if let Some(last) = last {
        query.push(("last", last));
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        link_next(response.headers_mut(), &format!("/v2/{repository}/referrers/{digest}"), &query);
    }
    Ok(response)
}

fn artifact_type(descriptor: &Descriptor) -> Option<&str> {
    descriptor.rest.get("artifactType")?.as_str()
}

/// At most `n` descriptors that fit a manifest together, one at least, and whether there are more.
fn first_page(listed: impl Iterator<Item = Result<Descriptor, StoreError>>, n: usize) -> Result<(Vec<Descriptor>, bool), StoreError> {
    let (mut shown, mut bytes) = (Vec::new(), 0);
    for descriptor in listed {
        let descriptor = descriptor?;
        bytes += canonical(&json!(descriptor)).len() + 1;
        if shown.len() == n || (bytes > REFERRERS_BYTES_MAX && !shown.is_empty()) {
            return Ok((shown, true));
        }
        shown.push(descriptor);
    }
    Ok((shown, false))
}
