//! What the registry endpoint answers when it says no.
//!
//! The distribution specification's error codes in its JSON form ("Error Codes"). What a client reads is the code and one sentence; what is
//! our own failure is said in full to the log only.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_RANGE, RANGE};
use axum::response::{IntoResponse, Response};
use serde_json::json;

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
    /// The manifest names what is not there, or is there in another size.
    #[error("the manifest names {0}, which is not there")]
    ManifestBlobUnknown(Digest),
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
            RegistryError::Range { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID"),
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
        // A digest that is none, where a manifest was asked for: a manifest of that name cannot be.
        StoreError::Key(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        StoreError::NoUpload(_) => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
        StoreError::Kept { .. } => (StatusCode::CONFLICT, "DENIED"),
        StoreError::Busy(_) => (StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID"),
        StoreError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
        StoreError::Missing(_) => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
    }
}

impl IntoResponse for RegistryError {
    fn into_response(self) -> Response {
        let (status, code) = self.code();
        let message = if status.is_server_error() {
            tracing::error!(error = one_line(&self), "the registry endpoint failed");
            "the registry failed; its log says more".to_owned()
        } else {
            self.to_string()
        };
        let mut response = (status, Json(json!({"errors": [{"code": code, "message": message}]}))).into_response();
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
