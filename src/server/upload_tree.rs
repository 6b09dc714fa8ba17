//! Have and want: an upload that names its files, and brings only those that are not here.
//!
//! `POST /api/v2/model/upload/tree` is the form of `upload_v2.rs` with a list of the files (`model/listing.rs`) in the place of the archive. Where all
//! are in the store it makes a version, as any upload does. Where some are not, nothing is made, and the answer (409) says which: the client sends them
//! and asks again. So the first request is the question and the last one the upload, nothing is kept between them, and what vanishes meanwhile is
//! only asked for again. A client that has not heard the last answer asks with the same `Idempotency-Key`, and is told the version that was made. Large files come to `/v2/`, as blobs, where a push goes on after a broken line; small ones many at once, as
//! `POST /api/v2/model/upload/contents`: a tar whose members are called by the digests of their bytes. What is sent and then not used is collected.
//!
//! Nothing that the list claims is believed: bytes are hashed on their way in, sizes are those of the files here, and definition, contract and name are
//! read from these bytes by the same intake. Who names a digest need not show that he ever had the bytes. There are no accounts, and every layer can be
//! pulled from `/v2/` by anybody who reaches the service; so naming a digest gives nobody what he could not have. A service with accounts would
//! have to ask for a proof here.
//!
//! What must stay true: what is known to be wrong is refused before anything is asked for.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::app::Service;
use super::body::Pieces;
use super::paging::Listing;
use super::refusal::{Refusal, RefusalV2};
use super::upload::{self, Files, Form, Known, UploadError};
use super::upload_accept::{Accepted, accept, check_runtime, pass};
use super::upload_reader::{Chunk, ChunkReader};
use super::upload_v2;
use super::view_v2;
use crate::contract::gate::Gate;
use crate::contract::wire::{self, CONTRACT_BYTES_MAX};
use crate::disk::archive::{self, ArchiveError};
use crate::disk::store::{Store, StoreError};
use crate::fault::{Failure, Fault};
use crate::model::intake::Given;
use crate::model::listing::digest_of;
use crate::model::name::ModelName;
use crate::model::tree::Limits;
use crate::oci::digest::Digest;
use crate::oci::layer::EntryKind;

/// The part with the contract that the client has read, as bytes of any dialect.
const READ_CONTRACT: &str = "read_contract";
/// The short parts.
const PARTS: [Known; 3] = [upload_v2::PARTS[0], upload_v2::PARTS[1], Known { name: READ_CONTRACT, bytes_max: CONTRACT_BYTES_MAX }];
/// The longest key of an upload.
const UPLOAD_KEY_BYTES_MAX: usize = 128;
/// Pieces between the wire and the disk.
const PIECES_WAITING: usize = 4;

/// Why contents are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A member is not called by a digest.
    #[error("`{0}` is not a digest: each file of the archive is called by the 64 hex digits of its SHA-256")]
    Name(String),
    /// A member is not what it is called.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure for ContentsError {
    fn fault(&self) -> Fault {
        match self {
            ContentsError::Archive(error) => error.fault(),
            ContentsError::Name(_) => Fault::Invalid,
            ContentsError::Store(error) => error.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            ContentsError::Archive(error) => error.remedy(),
            ContentsError::Name(_) => None,
            ContentsError::Store(error) => error.remedy(),
        }
    }
}

/// Takes an upload, or says what is missing.
pub async fn upload(State(service): State<Service>, Query(listing): Query<Listing>, request: Request) -> Result<Response, RefusalV2> {
    let upload_key = upload_key(request.headers());
    let mut form = upload::receive(&service, request, &PARTS, Files::Listing).await?;
    let (given, accepted) = upload_v2::meant(&form)?;
    let accepted = Accepted { upload_key, ..accepted };
    check(&given)?;
    check_contract(&service, &form, &given, accepted.gate).await?;
    let (store, listed) = (service.store.clone(), std::mem::take(&mut form.payload.selected.tree));
    let looking = tokio::task::spawn_blocking(move || -> Result<_, Refusal> {
        let found = store.find_contents(&listed)?;
        // The rules are one of the files: they can be read when all are here.
        let selected = if found.wanted.is_empty() { Some(archive::select(&found.tree)?) } else { None };
        Ok((selected, found.wanted))
    });
    let (selected, wanted) = looking.await.map_err(UploadError::Stopped)?.map_err(RefusalV2)?;
    let Some(selected) = selected else { return Ok(missing(&wanted)) };
    form.payload.selected = selected;
    let version = accept(&service, form, given, accepted).await.map_err(|refusal| {
        // 404 is what a service without this door says.
        let fault = if refusal.fault == Fault::Missing { Fault::Conflict } else { refusal.fault };
        RefusalV2(Refusal { fault, ..refusal })
    })?;
    Ok(Json(if listing.is_ours() { view_v2::ours(&version) } else { view_v2::version(&version) }).into_response())
}

/// By which a client that has not heard our answer repeats its question: `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header). One that is too long is none.
fn upload_key(headers: &HeaderMap) -> Option<String> {
    let key = headers.get("idempotency-key")?.to_str().ok()?;
    (!key.is_empty() && key.len() <= UPLOAD_KEY_BYTES_MAX).then(|| key.to_owned())
}

/// What can be said before the files are here.
fn check(given: &Given) -> Result<(), RefusalV2> {
    if let Some(name) = &given.name {
        ModelName::new(name)?;
    }
    Ok(check_runtime(given.runtime.as_deref())?)
}

/// What the gate will say of the contract that the client has read out of its files: a refusal that comes before gigabytes do. It is the client's word, so
/// it lets nothing through; the gate is asked again when the files are here.
async fn check_contract(service: &Service, form: &Form, given: &Given, gate: Gate) -> Result<(), RefusalV2> {
    if let (Some(part), Some(model)) = (form.part(READ_CONTRACT), &given.name) {
        let (contract, _) = wire::decode(&part.bytes, None)?;
        pass(service, model, &contract, gate).await.map_err(RefusalV2)?;
    }
    Ok(())
}

fn missing(wanted: &BTreeSet<Digest>) -> Response {
    let count = wanted.len();
    let answer = json!({
        "error": "Conflict",
        "message": format!("{count} of the listed files are not here"),
        "remedy": "push them to `/v2/`, or send them to `/api/v2/model/upload/contents`, and ask again",
        "wanted": wanted,
    });
    (StatusCode::CONFLICT, Json(answer)).into_response()
}

/// Takes files that an upload will name.
pub async fn contents(State(service): State<Service>, request: Request) -> Result<Json<Value>, RefusalV2> {
    let _permit = service.uploads.clone().acquire_owned().await.map_err(|_| UploadError::Closed)?;
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    let (store, limits) = (service.store.clone(), service.settings.limits);
    let taking = tokio::task::spawn_blocking(move || take(&store, ChunkReader::new(receiver), &limits));
    let sent = hand_on(request.into_body(), sender).await;
    let (files, size_bytes) = taking.await.map_err(UploadError::Stopped)??;
    // An archive may be whole by chance where its sender was cut off; what has been taken is what it says.
    sent.map_err(UploadError::Cut)?;
    Ok(Json(json!({"files": files, "size_bytes": size_bytes})))
}

/// Hands the body on, until the reader has it all or wants no more.
async fn hand_on(body: Body, sender: mpsc::Sender<Chunk>) -> std::io::Result<()> {
    let mut pieces = Pieces::new(body);
    while let Some(bytes) = pieces.next().await? {
        if sender.send(Chunk::Bytes(bytes)).await.is_err() {
            return Ok(());
        }
    }
    let _ = sender.send(Chunk::End).await;
    Ok(())
}

/// All of the archive becomes content, or nothing.
fn take(store: &Store, archive: ChunkReader, limits: &Limits) -> Result<(usize, u64), ContentsError> {
    let staging = store.staging()?;
    let tree = archive::unpack(archive, staging.path(), limits)?.tree;
    for (path, node) in tree.nodes() {
        if let EntryKind::File { content, .. } = node {
            let name = path.as_str();
            let expected: Digest = format!("sha256:{name}").parse().map_err(|_| ContentsError::Name(name.to_owned()))?;
            let found = digest_of(content).unwrap_or(expected);
            if found != expected {
                return Err(StoreError::Mismatch { expected, found }.into());
            }
        }
    }
    store.adopt(&tree)?;
    Ok((tree.files().count(), tree.size_bytes()))
}
