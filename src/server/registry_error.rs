//! What the registry endpoint answers when it says no.
//!
//! The distribution specification's error codes in its JSON form ("Error Codes"). What a client reads is the code and one sentence; what is
//! our own failure is said in full to the log only.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_RANGE, RANGE};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::registry_query::TAGS_MAX;
use crate::disk::store::StoreError;
use crate::disk::verified::CopyError;
use crate::fault::{Failure, Fault, one_line};
use crate::oci::digest::{Digest, DigestError};
use crate::oci::manifest::ManifestError;

/// Why a request to `/v2/` is refused.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such path.
    #[error("the registry has no `{0}`")]
    Path(String),
    /// Not with this method.
    #[error("the registry does not do that")]
    Method,
    /// No such repository.
    #[error("there is no repository `{0}`")]
    NameUnknown(String),
    /// No such manifest.
    #[error("`{repository}` has no manifest `{key}`")]
    ManifestUnknown {
        /// The repository.
        repository: String,
        /// The tag or digest.
        key: String,
    },
    /// No manifest at all.
    #[error("the manifest is not valid: {0}")]
    ManifestInvalid(String),
    /// The same, as its reader says it.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest names what is not there, or is there in another size; each has an error of its own in the answer.
    #[error("the manifest names {}, which the registry does not have", .0.iter().map(Digest::to_string).collect::<Vec<_>>().join(", "))]
    ManifestBlobUnknown(Vec<Digest>),
    /// A tag that is a model's version, or a manifest that one leads to, is to be deleted.
    #[error("`{repository}:{tag}` is a version of a model: it is deleted with the model, and not here")]
    KeptVersion {
        /// The repository.
        repository: String,
        /// The tag.
        tag: String,
    },
    /// Not a number.
    #[error("`n={0}` is not a number")]
    Number(String),
    /// More tags than are taken at once.
    #[error("a manifest is given at most {TAGS_MAX} tags in one request")]
    TooManyTags,
    /// Another algorithm than ours.
    #[error("digests are sha256 here, not `{0}`")]
    Algorithm(String),
    /// The lengths that a request tells do not agree.
    #[error("the piece is said to be {range_bytes} bytes by its range and {length_bytes} by its length")]
    Length {
        /// By `Content-Range`.
        range_bytes: u64,
        /// By `Content-Length`.
        length_bytes: u64,
    },
    /// Too large a manifest.
    #[error("the manifest is larger than {0} bytes")]
    ManifestTooLarge(u64),
    /// No such blob.
    #[error("there is no blob {0}")]
    BlobUnknown(Digest),
    /// Not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The client's bytes do not follow those that are here.
    #[error("the upload has {offset_bytes} bytes; the next piece must begin there")]
    OutOfOrder {
        /// The session's path.
        location: String,
        /// How many there are.
        offset_bytes: u64,
    },
    /// A range that the blob does not have.
    #[error("the blob has {size_bytes} bytes, none of them in that range")]
    Range {
        /// Its size.
        size_bytes: u64,
    },
    /// The client stopped in the middle.
    #[error("the body of the request ended too early")]
    Body(#[source] std::io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task of ours died.
    #[error("a task of the registry ended in the middle")]
    Task(#[from] tokio::task::JoinError),
}

impl Failure for RegistryError {
    fn fault(&self) -> Fault {
        match self {
            RegistryError::Store(error) => error.fault(),
            RegistryError::Task(_) => Fault::Ours,
            RegistryError::Path(_)
            | RegistryError::NameUnknown(_)
            | RegistryError::ManifestUnknown { .. }
            | RegistryError::BlobUnknown(_) => Fault::Missing,
            RegistryError::ManifestTooLarge(_) => Fault::TooLarge,
            RegistryError::KeptVersion { .. } => Fault::Conflict,
            _ => Fault::Invalid,
        }
    }
}

impl RegistryError {
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            RegistryError::Path(_) => (StatusCode::NOT_FOUND, "UNSUPPORTED"),
            RegistryError::Method => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            RegistryError::NameUnknown(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            RegistryError::ManifestUnknown { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            RegistryError::ManifestInvalid(_) | RegistryError::Manifest(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            RegistryError::ManifestBlobUnknown(_) => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            RegistryError::ManifestTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            RegistryError::BlobUnknown(_) => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            RegistryError::Digest(_) => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            RegistryError::OutOfOrder { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            RegistryError::Range { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID"),
            RegistryError::Length { .. } => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
            RegistryError::Algorithm(_) => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            RegistryError::Number(_) => (StatusCode::BAD_REQUEST, "UNSUPPORTED"),
            // What the specification has for a registry that takes so many: "Pushing Manifests".
            RegistryError::TooManyTags => (StatusCode::URI_TOO_LONG, "UNSUPPORTED"),
            // Deletion that is disabled is 400 or 405 (distribution-spec, "Content Management").
            RegistryError::KeptVersion { .. } => (StatusCode::METHOD_NOT_ALLOWED, "DENIED"),
            RegistryError::Body(_) => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            RegistryError::Store(error) => store_code(error),
            RegistryError::Task(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        }
    }
}

fn store_code(error: &StoreError) -> (StatusCode, &'static str) {
    match error {
        StoreError::Mismatch { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        StoreError::Size { .. } | StoreError::Copy(CopyError::Size { .. }) => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
        StoreError::Repository(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
        StoreError::InUse { .. } => (StatusCode::METHOD_NOT_ALLOWED, "DENIED"),
        StoreError::Key(key) if key.contains(':') => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        // Not a tag: a manifest of that name cannot be.
        StoreError::Key(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        StoreError::NoUpload(_) => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
        StoreError::Kept { .. } => (StatusCode::CONFLICT, "DENIED"),
        StoreError::Busy(_) => (StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID"),
        StoreError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
        StoreError::Missing(_) => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        // Not one that passes by itself: a client that tries again sends gigabytes for nothing.
        StoreError::Disk { source, .. } if is_full(source) => (StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
    }
}

/// Whether a disk, or what somebody may have of it, is full.
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

impl IntoResponse for RegistryError {
    fn into_response(self) -> Response {
        let (status, code) = self.code();
        let message = if status.is_server_error() {
            tracing::error!(error = one_line(&self), "the registry endpoint failed");
            match status {
                StatusCode::INSUFFICIENT_STORAGE => "the registry's disk is full".to_owned(),
                _ => "the registry failed; its log says more".to_owned(),
            }
        } else {
            self.to_string()
        };
        let errors = match &self {
            RegistryError::ManifestBlobUnknown(digests) => digests
                .iter()
                .map(
                    |digest| json!({"code": code, "message": format!("the registry does not have {digest}"), "detail": {"digest": digest}}),
                )
                .collect(),
            _ => vec![json!({"code": code, "message": message})],
        };
        let mut response = (status, Json(json!({"errors": errors}))).into_response();
        let headers = response.headers_mut();
        match &self {
            RegistryError::Range { size_bytes } => {
                headers.extend(format!("bytes */{size_bytes}").parse().map(|value| (CONTENT_RANGE, value)));
            }
            // Distribution-spec, "Pushing a blob in chunks": the client is told where to go on.
            RegistryError::OutOfOrder { location, offset_bytes } => {
                headers.extend(super::registry_uploads::received(*offset_bytes).parse().map(|value| (RANGE, value)));
                headers.extend(location.parse().map(|value| (axum::http::header::LOCATION, value)));
            }
            _ => {}
        }
        response
    }
}
