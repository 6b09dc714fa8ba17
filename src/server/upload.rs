//! An upload: a form whose parts come in any order, read as it arrives.
//!
//! The archive goes from the wire through a small channel to the thread that unpacks it; nothing of it is held in memory. The other parts
//! are short and are; in the place of the archive there may be a list of the files (`upload_tree.rs`). [`receive`] reads a form, `upload_accept.rs` makes a
//! version of it; in between, `upload_v1.rs`, `upload_v2.rs` and `upload_tree.rs` say what the parts mean.
//!
//! What must stay true: until a model has been found valid nothing of it is in the store or the catalog, and what is refused, cut off or
//! abandoned leaves nothing on disk, whenever that happens: the staging folder belongs to the thread that writes to it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::app::{Service, Settings};
use super::upload_body::SharedBody;
use super::upload_reader::{Chunk, ChunkReader};
use crate::disk::archive::{self, ArchiveError};
use crate::disk::ignore_rules::Selected;
use crate::disk::store::StoreError;
use crate::disk::store_staging::Staging;
use crate::fault::{Failure, Fault};
use crate::model::listing::{ListingError, Reader};

/// The part with the archive.
const PAYLOAD: &str = "payload";
/// The part with the list of the files.
const TREE: &str = "tree";
/// The most parts of a form. The ancestor's largest had six.
const PARTS_MAX: usize = 32;
/// Chunks between the wire and the disk; each is a read of the socket, so about a megabyte at most.
const CHUNKS_WAITING: usize = 8;

/// A short part.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its file name, where it has one.
    pub file_name: Option<String>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What an upload's files come as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// An archive.
    Archive,
    /// A list of files that are in the store, or will be.
    Listing,
}

impl Files {
    /// The part that has them.
    fn part(self) -> &'static str {
        match self {
            Files::Archive => PAYLOAD,
            Files::Listing => TREE,
        }
    }
}

/// An archive that has been unpacked, or a list that has been read.
pub struct Payload {
    /// The files.
    pub selected: Selected,
    /// Holds the files until they are in the store, and what is there already from being collected.
    pub staging: Staging,
}

/// A form that has been read.
pub struct Form {
    parts: BTreeMap<String, Part>,
    /// The archive.
    pub payload: Payload,
    /// Held until the upload is over.
    pub permit: OwnedSemaphorePermit,
}

/// A short part that a form may have.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// What it is called.
    pub name: &'static str,
    /// The most bytes that it may have.
    pub bytes_max: usize,
}

/// Why an upload cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// No form.
    #[error("the request is not a multipart form: {0}")]
    NoForm(String),
    /// It asks for a base among this machine's own files.
    #[error("the runtime `{0}` would be read from the service's own disk")]
    LocalRuntime(String),
    /// The form is torn, or the sender stopped.
    #[error("the upload cannot be read on")]
    Torn(#[source] MultipartError),
    /// The sender of an archive without a form stopped.
    #[error("the upload was cut off")]
    Cut(#[source] io::Error),
    /// The sender is silent.
    #[error("the upload stood still for {idle_s} seconds")]
    Idle {
        /// How long that is.
        idle_s: u64,
    },
    /// The request is too large.
    #[error("the upload is larger than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// A short part is long.
    #[error("the part `{name}` is larger than {bytes_max} bytes")]
    PartTooLarge {
        /// Which.
        name: String,
        /// The limit.
        bytes_max: usize,
    },
    /// Too many parts.
    #[error("the form has more than {PARTS_MAX} parts")]
    Parts,
    /// A part comes twice.
    #[error("the part `{0}` is in the form twice")]
    Twice(String),
    /// There are no files.
    #[error("the part `{}` is missing", .0.part())]
    NoFiles(Files),
    /// A part that has to be text is not.
    #[error("the part `{0}` is not UTF-8 text")]
    NotText(&'static str),
    /// The archive is not a model's.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The list is not a model's.
    #[error(transparent)]
    Listing(#[from] ListingError),
    /// The disk.
    #[error("cannot make a folder to unpack into")]
    Staging(#[source] StoreError),
    /// The thread that unpacks died.
    #[error("unpacking stopped")]
    Stopped(#[source] tokio::task::JoinError),
    /// The service ends.
    #[error("the service stops")]
    Closed,
}

impl Failure for UploadError {
    fn fault(&self) -> Fault {
        match self {
            UploadError::TooLarge { .. } | UploadError::PartTooLarge { .. } => Fault::TooLarge,
            UploadError::Archive(error) => error.fault(),
            UploadError::Listing(error) => error.fault(),
            UploadError::Staging(error) => error.fault(),
            UploadError::Stopped(_) | UploadError::Closed => Fault::Ours,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            UploadError::Archive(error) => error.remedy(),
            UploadError::NoFiles(Files::Archive) => Some(format!("send the model's tar.gz as the part `{PAYLOAD}`")),
            UploadError::LocalRuntime(_) => Some("name a known runtime or one in a registry, `host/repository:tag`".to_owned()),
            UploadError::NoForm(_) => Some("send `multipart/form-data`".to_owned()),
            _ => None,
        }
    }
}

/// The cap of a request's body.
pub fn body_bytes_max(settings: &Settings) -> usize {
    usize::try_from(settings.upload_bytes_max).unwrap_or(usize::MAX)
}

/// Reads a form with `files` and the `known` short parts. Others are read over.
pub async fn receive(service: &Service, request: Request, known: &[Known], files: Files) -> Result<Form, UploadError> {
    let (head, body) = request.into_parts();
    let body = SharedBody::new(body);
    let received = read_form(service, Request::from_parts(head, body.body()), known, files).await;
    if received.as_ref().is_err_and(|error| !matches!(error, UploadError::Idle { .. })) {
        body.read_over().await;
    }
    received
}

async fn read_form(service: &Service, request: Request, known: &[Known], files: Files) -> Result<Form, UploadError> {
    let bytes_max = service.settings.upload_bytes_max;
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > bytes_max) {
        return Err(UploadError::TooLarge { bytes_max });
    }
    let permit = service.uploads.clone().acquire_owned().await.map_err(|_| UploadError::Closed)?;
    let mut form = Multipart::from_request(request, &()).await.map_err(|rejection| UploadError::NoForm(rejection.body_text()))?;
    let (parts, payload) = read_parts(service, &mut form, known, files).await?;
    Ok(Form { parts, payload, permit })
}

async fn read_parts(
    service: &Service,
    form: &mut Multipart,
    known: &[Known],
    files: Files,
) -> Result<(BTreeMap<String, Part>, Payload), UploadError> {
    let (mut parts, mut payload) = (BTreeMap::new(), None);
    for count in 0.. {
        let Some(mut field) = in_time(service, form.next_field()).await? else { break };
        if count >= PARTS_MAX {
            return Err(UploadError::Parts);
        }
        let name = field.name().unwrap_or_default().chars().take(100).collect::<String>();
        if name == files.part() {
            if payload.is_some() {
                return Err(UploadError::Twice(name));
            }
            payload = Some(match files {
                Files::Archive => unpack(service, field).await?,
                Files::Listing => read_list(service, field).await?,
            });
        } else if let Some(known) = known.iter().find(|known| known.name == name) {
            let part = short(service, &mut field, *known).await?;
            if parts.insert(name.clone(), part).is_some() {
                return Err(UploadError::Twice(name));
            }
        }
    }
    Ok((parts, payload.ok_or(UploadError::NoFiles(files))?))
}

async fn in_time<T>(service: &Service, reading: impl Future<Output = Result<T, MultipartError>>) -> Result<T, UploadError> {
    let idle_s = service.settings.upload_idle_s;
    let read = timeout(Duration::from_secs(idle_s), reading).await.map_err(|_| UploadError::Idle { idle_s })?;
    read.map_err(|error| match error.status() {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => UploadError::TooLarge { bytes_max: service.settings.upload_bytes_max },
        _ => UploadError::Torn(error),
    })
}

async fn short(service: &Service, field: &mut Field<'_>, known: Known) -> Result<Part, UploadError> {
    let file_name = field.file_name().map(|name| name.chars().take(255).collect());
    let mut bytes = Vec::new();
    while let Some(chunk) = in_time(service, field.chunk()).await? {
        if bytes.len() + chunk.len() > known.bytes_max {
            return Err(UploadError::PartTooLarge { name: known.name.to_owned(), bytes_max: known.bytes_max });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Part { file_name, bytes })
}

async fn unpack(service: &Service, field: Field<'_>) -> Result<Payload, UploadError> {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let (store, limits) = (service.store.clone(), service.settings.limits);
    let unpacking = tokio::task::spawn_blocking(move || {
        let staging = store.staging().map_err(UploadError::Staging)?;
        let selected = archive::unpack(ChunkReader::new(receiver), staging.path(), &limits)?;
        Ok(Payload { selected, staging })
    });
    let sent = send(service, field, sender).await;
    let unpacked = unpacking.await.map_err(UploadError::Stopped)?;
    // Where the sending failed, the archive was cut off here, and its own complaint says less.
    sent.and(unpacked)
}

async fn read_list(service: &Service, mut field: Field<'_>) -> Result<Payload, UploadError> {
    let store = service.store.clone();
    let staging = tokio::task::spawn_blocking(move || store.staging()).await.map_err(UploadError::Stopped)?;
    let staging = staging.map_err(UploadError::Staging)?;
    let mut reader = Reader::new(service.settings.limits);
    while let Some(bytes) = in_time(service, field.chunk()).await? {
        reader.feed(&bytes)?;
    }
    Ok(Payload { selected: Selected { tree: reader.finish()?, left_out: Vec::new() }, staging })
}

/// Hands the field's bytes to the reader, until it has them all or wants no more.
async fn send(service: &Service, mut field: Field<'_>, sender: mpsc::Sender<Chunk>) -> Result<(), UploadError> {
    while let Some(bytes) = in_time(service, field.chunk()).await? {
        if sender.send(Chunk::Bytes(bytes)).await.is_err() {
            return Ok(());
        }
    }
    let _ = sender.send(Chunk::End).await;
    Ok(())
}

impl Form {
    /// A short part.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.get(name)
    }

    /// A short part that is text; an empty one is as good as none.
    pub fn text(&self, name: &'static str) -> Result<Option<String>, UploadError> {
        let Some(part) = self.parts.get(name) else { return Ok(None) };
        let text = std::str::from_utf8(&part.bytes).map_err(|_| UploadError::NotText(name))?;
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }
}
