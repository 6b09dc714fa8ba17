//! Manifests of the embedded registry: given as they were taken, taken only when everything that they name is here, and given up.
//!
//! A manifest is whatever a client sends as one: images and indexes of both families, which are checked, and JSON documents of kinds that we have no
//! view of, which are kept byte for byte as well.
//!
//! What must stay true: what is checked to be here is here when the manifest is, so both happen while nothing is collected.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

use super::registry::{DIGEST_HEADER, blocking};
use super::registry_blobs::{etag, is_known};
use super::registry_error::RegistryError;
use crate::disk::store::{Store, StoreError};
use crate::disk::store_repositories::ManifestKey;
use crate::oci::digest::Digest;
use crate::oci::manifest::{Descriptor, Document, MANIFEST_BYTES_MAX, ManifestError, Pulled};
use crate::oci::mentions::{self, Referral};

/// That a manifest's subject has been understood: the client need not keep a list of referrers itself.
const SUBJECT_HEADER: HeaderName = HeaderName::from_static("oci-subject");
/// A tag that a manifest sent by its digest was given.
const TAG_HEADER: HeaderName = HeaderName::from_static("oci-tag");

/// GET and HEAD; the body of an answer to HEAD is dropped by the server.
pub async fn get_manifest(store: Arc<Store>, repository: String, key: String, headers: &HeaderMap) -> Result<Response, RegistryError> {
    let (name, wanted) = (repository.clone(), key.clone());
    let document = blocking(move || {
        let document = store.manifest(&name, &wanted)?;
        if let Some(document) = &document {
            store.renew_manifest(&name, &document.digest)?;
        }
        Ok::<_, StoreError>(document)
    });
    let document = document.await?.ok_or(RegistryError::ManifestUnknown { repository, key })?;
    if is_known(headers, &document.digest) {
        let described = [(ETAG, etag(&document.digest)), (DIGEST_HEADER, document.digest.to_string())];
        return Ok((StatusCode::NOT_MODIFIED, described).into_response());
    }
    let described = [
        (CONTENT_TYPE, document.media_type),
        (CONTENT_LENGTH, document.bytes.len().to_string()),
        (ETAG, etag(&document.digest)),
        (DIGEST_HEADER, document.digest.to_string()),
    ];
    Ok((described, document.bytes).into_response())
}

/// PUT: checks the document and keeps it under its digest and, where it came under a tag or with tags, under those.
pub async fn put_manifest(
    store: Arc<Store>,
    repository: String,
    key: String,
    tags: Vec<String>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, RegistryError> {
    let bytes = axum::body::to_bytes(body, MANIFEST_BYTES_MAX as usize).await;
    // Of the two ways in which this fails, the client's hanging up needs no answer.
    let bytes = bytes.map_err(|_| RegistryError::ManifestTooLarge(MANIFEST_BYTES_MAX))?;
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let (manifest, referral) = read(content_type, bytes.into())?;
    let digest = manifest.document().digest;
    let by_digest = matches!(ManifestKey::parse(&key)?, ManifestKey::Digest(_));
    let tags = if by_digest { tags } else { Vec::new() };
    let described = [(LOCATION, format!("/v2/{repository}/manifests/{digest}")), (DIGEST_HEADER, digest.to_string())];
    let mut response = (StatusCode::CREATED, described).into_response();
    response.headers_mut().extend(referral.and_then(|found| Some((SUBJECT_HEADER, found.subject.to_string().parse().ok()?))));
    for tag in &tags {
        if !matches!(ManifestKey::parse(tag)?, ManifestKey::Tag(_)) {
            return Err(StoreError::Key(tag.clone()).into());
        }
        response.headers_mut().extend(tag.parse().map(|value| (TAG_HEADER, value)));
    }
    blocking(move || {
        let _using = store.using()?;
        check_complete(&store, &repository, &manifest)?;
        for key in std::iter::once(&key).chain(&tags) {
            store.put_manifest(&repository, key, manifest.document())?;
        }
        Ok::<_, RegistryError>(())
    })
    .await?;
    Ok(response)
}

/// DELETE, by tag or by digest. What a model's version leads to stays.
pub async fn delete_manifest(store: Arc<Store>, repository: String, key: String) -> Result<Response, RegistryError> {
    let parsed = ManifestKey::parse(&key)?;
    let name = repository.clone();
    let found = blocking(move || {
        if store.tags(&name)?.is_none() {
            return Err(RegistryError::NameUnknown(name));
        }
        let removed = match &parsed {
            ManifestKey::Tag(tag) => store.delete_tag(&name, tag),
            ManifestKey::Digest(digest) => store.delete_manifest(&name, digest),
        };
        removed.map_err(|error| match error {
            StoreError::Kept { repository, tag } => RegistryError::KeptVersion { repository, tag },
            error => error.into(),
        })
    });
    if found.await? { Ok(StatusCode::ACCEPTED.into_response()) } else { Err(RegistryError::ManifestUnknown { repository, key }) }
}

/// A manifest as it is taken.
enum Taken {
    /// Of a kind that is checked.
    Known(Pulled),
    /// Of another.
    Other(Document),
}

impl Taken {
    fn document(&self) -> &Document {
        match self {
            Taken::Known(pulled) => pulled.document(),
            Taken::Other(document) => document,
        }
    }
}

fn read(content_type: Option<&str>, bytes: Vec<u8>) -> Result<(Taken, Option<Referral>), RegistryError> {
    let said = content_type.and_then(|text| text.split(';').next()).map(str::trim);
    let kept = bytes.clone();
    let taken = match Pulled::parse(content_type, bytes) {
        Ok(pulled) => Taken::Known(pulled),
        Err(ManifestError::Unsupported { digest, media_type }) => {
            let of_its_own_type = said.filter(|said| *said == media_type);
            Taken::Other(other(of_its_own_type, kept).ok_or(ManifestError::Unsupported { digest, media_type })?)
        }
        Err(error) => return Err(error.into()),
    };
    let media_type = &taken.document().media_type;
    if let Some(said) = said.filter(|said| said != media_type) {
        return Err(RegistryError::ManifestInvalid(format!("it was sent as `{said}` and says that it is a `{media_type}`")));
    }
    // A subject whose digest is of another algorithm is none that we could list it under.
    let referral = mentions::referral(taken.document());
    let referral = referral.map_err(|error| RegistryError::ManifestInvalid(format!("its subject cannot be read: {error}")))?;
    Ok((taken, referral))
}

/// A JSON object of a kind that we have no view of, under the type that it came with. The kinds that we do have are not among these: such a document
/// is a broken one.
fn other(said: Option<&str>, bytes: Vec<u8>) -> Option<Document> {
    let media_type = said.filter(|text| text.ends_with("+json") && text.len() <= 255)?;
    let is_object = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let is_known = crate::oci::manifest::media::ACCEPTED.contains(&media_type);
    (is_object && !is_known).then(|| Document::new(media_type, bytes))
}

/// An image that cannot be pulled must not get a name. What is found counts as used now.
fn check_complete(store: &Store, repository: &str, manifest: &Taken) -> Result<(), RegistryError> {
    let mut missing = Vec::new();
    match manifest {
        Taken::Known(Pulled::Manifest(manifest)) => {
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                let is_here = store.renew(&blob.digest)? && store.size(&blob.digest)? == Some(blob.size_bytes);
                if !is_here && !is_elsewhere(blob) {
                    missing.push(blob.digest);
                }
            }
        }
        Taken::Known(Pulled::Index(index)) => {
            for child in &index.manifests {
                let is_here = store.renew_manifest(repository, &child.digest)?;
                let found = if is_here { store.manifest(repository, &child.digest.to_string())? } else { None };
                if found.is_none_or(|found| found.size_bytes() != child.size_bytes) {
                    missing.push(child.digest);
                }
            }
        }
        // Its blobs are where their kind has them, and some are said to be optional: what is named and here is kept with it.
        Taken::Other(_) => {}
    }
    if missing.is_empty() { Ok(()) } else { Err(RegistryError::ManifestBlobUnknown(distinct(missing))) }
}

fn distinct(mut digests: Vec<Digest>) -> Vec<Digest> {
    digests.sort();
    digests.dedup();
    digests
}

/// Layers that their owner does not allow to be handed on (Windows bases) stay where they are.
fn is_elsewhere(blob: &Descriptor) -> bool {
    let kept_back = blob.media_type.contains("nondistributable") || blob.media_type.contains("rootfs.foreign");
    kept_back && blob.rest.get("urls").and_then(|urls| urls.as_array()).is_some_and(|urls| !urls.is_empty())
}
