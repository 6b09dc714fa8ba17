//! Blobs of the embedded registry: given, whole or a range, from a file or by rendering a recipe; taken out of a repository.

use std::io::Read;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::body;
use super::registry::{DIGEST_HEADER, blocking};
use super::registry_error::RegistryError;
use super::registry_range::{Asked, asked};
use crate::disk::store::Store;
use crate::oci::digest::Digest;

/// GET and HEAD.
pub async fn get_blob(
    store: Arc<Store>,
    repository: String,
    digest: Digest,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, RegistryError> {
    let (known, asks) = (store.clone(), *method == Method::HEAD);
    let size_bytes = blocking(move || {
        // Who asks with HEAD may push a manifest next that relies on the answer.
        let found = if asks { known.renew_blob_in(&repository, &digest)? } else { known.has_blob_in(&repository, &digest)? };
        if found { known.size(&digest) } else { Ok(None) }
    });
    let size_bytes = size_bytes.await?.ok_or(RegistryError::BlobUnknown(digest))?;
    if is_known(headers, &digest) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag(&digest)), (DIGEST_HEADER, digest.to_string())]).into_response());
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // A range of another version of the thing is of no use (RFC 9110, "If-Range"); a blob has one version.
    let wants_range = text(IF_RANGE).is_none_or(|validator| validator.trim() == etag(&digest));
    let asked = asked(text(RANGE).filter(|_| wants_range), size_bytes)?;
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
        (ETAG, etag(&digest)),
        (DIGEST_HEADER, digest.to_string()),
    ];
    let mut response = (status, described, body).into_response();
    response.headers_mut().extend(content_range.and_then(|text| Some((CONTENT_RANGE, text.parse().ok()?))));
    Ok(response)
}

/// DELETE: the repository has the blob no longer; other repositories keep theirs.
pub async fn delete_blob(store: Arc<Store>, repository: String, digest: Digest) -> Result<Response, RegistryError> {
    if blocking(move || store.delete_blob(&repository, &digest)).await? {
        Ok(StatusCode::ACCEPTED.into_response())
    } else {
        Err(RegistryError::BlobUnknown(digest))
    }
}

/// The validator of what a digest names, which never changes.
pub fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client has what the digest names (RFC 9110, "If-None-Match").
pub fn is_known(headers: &HeaderMap, digest: &Digest) -> bool {
    let (etag, lists) = (etag(digest), headers.get_all(IF_NONE_MATCH));
    let mut validators = lists.iter().filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
    validators.any(|validator| matches!(validator.trim(), "*") || validator.trim().trim_start_matches("W/") == etag)
}
