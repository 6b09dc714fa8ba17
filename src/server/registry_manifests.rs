//! Manifests of the embedded registry: given as they were taken, taken only when everything that they name is here.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::registry::{DIGEST_HEADER, blocking};
use super::registry_error::RegistryError;
use crate::disk::store::Store;
use crate::oci::manifest::{Descriptor, MANIFEST_BYTES_MAX, Pulled};

/// GET and HEAD; the body of an answer to HEAD is dropped by the server.
pub async fn get_manifest(store: Arc<Store>, repository: String, key: String) -> Result<Response, RegistryError> {
    let (name, wanted) = (repository.clone(), key.clone());
    let document = blocking(move || store.manifest(&name, &wanted)).await?;
    let document = document.ok_or(RegistryError::ManifestUnknown { repository, key })?;
    let described = [
        (CONTENT_TYPE, document.media_type),
        (CONTENT_LENGTH, document.bytes.len().to_string()),
        (ETAG, format!("\"{}\"", document.digest)),
        (DIGEST_HEADER, document.digest.to_string()),
    ];
    Ok((described, document.bytes).into_response())
}

/// PUT: checks the document and keeps it under its digest and, where it came under a tag, under that.
pub async fn put_manifest(
    store: Arc<Store>,
    repository: String,
    key: String,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, RegistryError> {
    let bytes = axum::body::to_bytes(body, MANIFEST_BYTES_MAX as usize).await;
    // Of the two ways in which this fails, the client's hanging up needs no answer.
    let bytes = bytes.map_err(|_| RegistryError::ManifestTooLarge(MANIFEST_BYTES_MAX))?;
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let manifest = Pulled::parse(content_type, bytes.into())?;
    let said = content_type.and_then(|text| text.split(';').next()).map(str::trim);
    let media_type = &manifest.document().media_type;
    if let Some(said) = said.filter(|said| said != media_type) {
        return Err(RegistryError::ManifestInvalid(format!("it was sent as `{said}` and says that it is a `{media_type}`")));
    }
    let digest = manifest.document().digest;
    let location = format!("/v2/{repository}/manifests/{digest}");
    blocking(move || {
        check_complete(&store, &repository, &manifest)?;
        Ok::<_, RegistryError>(store.put_manifest(&repository, &key, manifest.document())?)
    })
    .await?;
    Ok((StatusCode::CREATED, [(LOCATION, location), (DIGEST_HEADER, digest.to_string())]).into_response())
}

/// An image that cannot be pulled must not get a name.
fn check_complete(store: &Store, repository: &str, manifest: &Pulled) -> Result<(), RegistryError> {
    match manifest {
        Pulled::Manifest(manifest) => {
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                if store.size(&blob.digest)? != Some(blob.size_bytes) && !is_elsewhere(blob) {
                    return Err(RegistryError::ManifestBlobUnknown(blob.digest));
                }
            }
        }
        Pulled::Index(index) => {
            for child in &index.manifests {
                let found = store.manifest(repository, &child.digest.to_string())?;
                if found.is_none_or(|found| found.size_bytes() != child.size_bytes) {
                    return Err(RegistryError::ManifestBlobUnknown(child.digest));
                }
            }
        }
    }
    Ok(())
}

/// Layers that their owner does not allow to be handed on (Windows bases) stay where they are.
fn is_elsewhere(blob: &Descriptor) -> bool {
    let kept_back = blob.media_type.contains("nondistributable") || blob.media_type.contains("rootfs.foreign");
    kept_back && blob.rest.get("urls").and_then(|urls| urls.as_array()).is_some_and(|urls| !urls.is_empty())
}
