//! Pushes to the embedded registry: blobs at once, in pieces, or not at all because they are here.
//!
//! Distribution-spec, "Pushing blobs". A session survives a request that is torn: what had been written stays, its length is told by GET,
//! and the client goes on there. Bytes go to the disk as they come and are hashed on the way.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::body::Pieces;
use super::registry::{DIGEST_HEADER, blocking};
use super::registry_error::RegistryError;
use super::registry_query::Parameters;
use crate::disk::store::Store;
use crate::disk::store_uploads::Upload;
use crate::oci::digest::Digest;

const SESSION_HEADER: &str = "docker-upload-uuid";

/// POST: mounts a blob that is here, takes a whole one, or opens a session.
pub async fn start(store: Arc<Store>, repository: String, parameters: Parameters, body: Body) -> Result<Response, RegistryError> {
    if let Some(algorithm) = parameters.digest_algorithm.filter(|algorithm| algorithm != "sha256") {
        return Err(RegistryError::Algorithm(algorithm.chars().take(100).collect()));
    }
    // From wherever it is: a client need not know. What cannot be mounted is uploaded: the client is given a session (distribution-spec, "Mounting").
    if let Some(digest) = parameters.mount.and_then(|text| text.parse::<Digest>().ok()) {
        let (known, name) = (store.clone(), repository.clone());
        if blocking(move || known.mount_blob(&name, &digest)).await? {
            return Ok(created(&repository, &digest));
        }
    }
    let expected: Option<Digest> = parameters.digest.map(|text| text.parse()).transpose()?;
    let (opener, name) = (store.clone(), repository.clone());
    let id = blocking(move || opener.start_upload(&name)).await?;
    let Some(expected) = expected else { return Ok(accepted(&repository, &id, 0)) };
    let (holder, name, session) = (store.clone(), repository.clone(), id.clone());
    let upload = blocking(move || holder.upload(&name, &session)).await?;
    let received = match receive(&store, upload, body).await {
        Ok(upload) => commit(store.clone(), &repository, upload, expected).await,
        Err(error) => Err(error),
    };
    if received.is_err() {
        // Nobody was told the session's name, so nobody will go on with it; after a wrong digest it is gone already.
        let _ = blocking(move || store.cancel_upload(&repository, &id)).await;
    }
    received
}

/// PATCH: takes the next bytes.
pub async fn continue_upload(
    store: Arc<Store>,
    repository: String,
    id: String,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, RegistryError> {
    let upload = hold(&store, &repository, &id, headers).await?;
    let upload = receive(&store, upload, body).await?;
    let offset_bytes = upload.offset();
    store.suspend(upload);
    Ok(accepted(&repository, &id, offset_bytes))
}

/// PUT: takes the last bytes, where there are any, and makes a blob of all.
pub async fn finish(
    store: Arc<Store>,
    repository: String,
    id: String,
    parameters: Parameters,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, RegistryError> {
    let expected: Digest = parameters.digest.unwrap_or_default().parse()?;
    let upload = hold(&store, &repository, &id, headers).await?;
    let upload = receive(&store, upload, body).await?;
    commit(store, &repository, upload, expected).await
}

/// GET: how far a session is.
pub async fn status(store: Arc<Store>, repository: String, id: String) -> Result<Response, RegistryError> {
    let (name, asked) = (repository.clone(), id.clone());
    let offset_bytes = blocking(move || store.upload_offset(&name, &asked)).await?;
    Ok(session(StatusCode::NO_CONTENT, &repository, &id, offset_bytes))
}

/// DELETE: ends a session.
pub async fn cancel(store: Arc<Store>, repository: String, id: String) -> Result<Response, RegistryError> {
    blocking(move || store.cancel_upload(&repository, &id)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn hold(store: &Arc<Store>, repository: &str, id: &str, headers: &HeaderMap) -> Result<Upload, RegistryError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let range = headers.contains_key(CONTENT_RANGE).then(|| text(CONTENT_RANGE).and_then(range_of));
    let length_bytes = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if let (Some(Some((first, last))), Some(length_bytes)) = (range, length_bytes) {
        let range_bytes = (last - first).saturating_add(1);
        if range_bytes != length_bytes {
            return Err(RegistryError::Length { range_bytes, length_bytes });
        }
    }
    let (holder, name, session) = (store.clone(), repository.to_owned(), id.to_owned());
    let upload = blocking(move || holder.upload(&name, &session)).await?;
    match range {
        // Bytes in the wrong place would be noticed at the end only, after everything has been sent.
        Some(range) if range.map(|(first, _)| first) != Some(upload.offset()) => {
            let error = RegistryError::OutOfOrder { location: location(repository, id), offset_bytes: upload.offset() };
            store.suspend(upload);
            Err(error)
        }
        _ => Ok(upload),
    }
}

/// The first and the last byte of `Content-Range: 0-99`, as the specification has it, or of `bytes 0-99/100`, as the RFC has it.
fn range_of(text: &str) -> Option<(u64, u64)> {
    let range = text.trim().trim_start_matches("bytes").trim_start_matches(['=', ' ']);
    let (first, last) = range.split('/').next()?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// Writes the body to the session. What came before the body was torn stays in the session.
async fn receive(store: &Arc<Store>, mut upload: Upload, body: Body) -> Result<Upload, RegistryError> {
    let mut pieces = Pieces::new(body);
    loop {
        match pieces.next().await {
            Ok(Some(piece)) => {
                upload = blocking(move || upload.append(&piece).map(|()| upload)).await?;
            }
            Ok(None) => return Ok(upload),
            Err(error) => {
                store.suspend(upload);
                return Err(RegistryError::Body(error));
            }
        }
    }
}

async fn commit(store: Arc<Store>, repository: &str, upload: Upload, expected: Digest) -> Result<Response, RegistryError> {
    let digest = blocking(move || store.finish_upload(upload, expected)).await?;
    Ok(created(repository, &digest))
}

fn created(repository: &str, digest: &Digest) -> Response {
    let location = format!("/v2/{repository}/blobs/{digest}");
    (StatusCode::CREATED, [(LOCATION, location), (DIGEST_HEADER, digest.to_string())]).into_response()
}

fn accepted(repository: &str, id: &str, offset_bytes: u64) -> Response {
    session(StatusCode::ACCEPTED, repository, id, offset_bytes)
}

fn session(status: StatusCode, repository: &str, id: &str, offset_bytes: u64) -> Response {
    let mut response = (status, [(LOCATION, location(repository, id)), (RANGE, received(offset_bytes))]).into_response();
    response.headers_mut().extend(id.parse().map(|value| (axum::http::HeaderName::from_static(SESSION_HEADER), value)));
    response
}

fn location(repository: &str, id: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}

/// The bytes that are here, as first and last; the specification has no form for none, and registries write `0-0`.
pub fn received(offset_bytes: u64) -> String {
    format!("0-{}", offset_bytes.saturating_sub(1))
}
