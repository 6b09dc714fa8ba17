//! Blobs, asked for and pulled.
//!
//! A pulled blob is a stream of exactly the descriptor's size, and its last piece is handed out only when the digest of
//! all is right: whoever gets to the end of the stream has the blob. A connection that breaks is made again, and goes
//! on where it broke (`Range`). The `urls` of a descriptor are never followed: they would lead anyone who can name a
//! base image into our network. The mirrors are asked first.

use std::ops::Range;
use std::pin::Pin;

use bytes::{Buf, Bytes};
use futures_util::{Stream, TryStreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::client::{Call, Endpoint, Repository};
use super::error::{Action, Operation, RegistryError};
use super::retry::Tries;
use super::wire::Payload;
use crate::oci::digest::{Digest, Hasher};
use crate::oci::manifest::Descriptor;

/// The bytes of a blob, in pieces.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, RegistryError>> + Send>>;

impl Repository {
    /// Whether the repository has this blob. A blob of another size is not this blob: it was torn.
    pub async fn has_blob(&self, digest: Digest, size_bytes: u64) -> Result<bool, RegistryError> {
        let mut tries = self.origin.host.tries();
        loop {
            match self.origin.has_blob_once(digest, size_bytes).await {
                Ok(has) => {
                    let has = has && !self.origin.host.doubts.has(&self.origin.repository, digest);
                    if has {
                        self.remember_blob(digest, size_bytes);
                    }
                    return Ok(has);
                }
                Err(error) => match tries.pause_after(&error) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                },
            }
        }
    }

    /// Pulls a blob. Errors that show at once (it is not there) are returned at once, later ones in the stream.
    pub async fn blob(&self, descriptor: &Descriptor) -> Result<BlobStream, RegistryError> {
        let mut download = Download::new(self, descriptor, 0..descriptor.size_bytes);
        download.open_patiently().await?;
        Ok(download.into_stream())
    }

    /// Pulls a part of a blob, for an upload elsewhere that goes on in the middle. Nothing is asked before the stream is.
    /// A part cannot be checked against the digest; the whole (`0..size`) is.
    pub fn blob_range(&self, descriptor: &Descriptor, range: Range<u64>) -> BlobStream {
        Download::new(self, descriptor, range.start..range.end.min(descriptor.size_bytes)).into_stream()
    }

    /// Pulls a blob into memory; one of more than `max_bytes` is refused before a byte is asked for.
    pub async fn blob_bytes(&self, descriptor: &Descriptor, max_bytes: u64) -> Result<Vec<u8>, RegistryError> {
        if descriptor.size_bytes > max_bytes {
            let action = self.origin.action(Operation::PullBlob, &descriptor.digest.to_string());
            let problem = format!("it has {} bytes, and the most that is read here is {max_bytes}", descriptor.size_bytes);
            return Err(RegistryError::Protocol { action, problem });
        }
        let mut bytes = Vec::new();
        let mut stream = self.blob(descriptor).await?;
        while let Some(piece) = stream.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

impl Endpoint {
    /// As [`Repository::has_blob`], asked once.
    pub(super) async fn has_blob_once(&self, digest: Digest, size_bytes: u64) -> Result<bool, RegistryError> {
        let action = self.action(Operation::AskBlob, &digest.to_string());
        let url = self.url(&format!("blobs/{digest}"))?;
        let scopes = self.scopes();
        let headers = HeaderMap::new();
        let call = Call { action: &action, method: Method::HEAD, url, headers, payload: Payload::Empty, scopes: &scopes };
        let answered = self.host.send(&call).await?;
        let led_away = !self.host.wire.address.owns(&answered.url);
        match answered.response.status() {
            StatusCode::OK => {
                let said_bytes = content_length(&answered.response).filter(|said_bytes| *said_bytes != 0);
                Ok(said_bytes.is_none_or(|said_bytes| said_bytes == size_bytes))
            }
            StatusCode::NOT_FOUND => Ok(false),
            // Stores behind a registry refuse HEAD where the link that they were given is signed for GET. The registry would
            // not have led there if it did not have the blob.
            StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED if led_away => Ok(true),
            _ => {
                let answer = Box::new(self.host.wire.read_answer(answered.response).await);
                Err(RegistryError::Refused { action, answer })
            }
        }
    }
}

/// A blob on its way.
struct Download {
    repository: Repository,
    digest: Digest,
    size_bytes: u64,
    /// What is still to come.
    range: Range<u64>,
    /// What has come; none where only a part is pulled.
    hasher: Option<Hasher>,
    open: Option<Open>,
    action: Action,
    tries: Tries,
    over: bool,
}

/// An answer that is being read.
struct Open {
    endpoint: Endpoint,
    response: Response,
    /// Bytes before our range, from a registry that does not do ranges.
    skip_bytes: u64,
}

impl Download {
    fn new(repository: &Repository, descriptor: &Descriptor, range: Range<u64>) -> Download {
        let whole = range == (0..descriptor.size_bytes);
        Download {
            repository: repository.clone(),
            digest: descriptor.digest,
            size_bytes: descriptor.size_bytes,
            range,
            hasher: whole.then(Hasher::new),
            open: None,
            action: repository.origin.action(Operation::PullBlob, &descriptor.digest.to_string()),
            tries: repository.origin.host.tries(),
            over: false,
        }
    }

    fn into_stream(self) -> BlobStream {
        Box::pin(futures_util::stream::unfold(self, |mut download| async move {
            match download.next().await {
                Ok(piece) => piece.map(|piece| (Ok(piece), download)),
                Err(error) => {
                    download.over = true;
                    Some((Err(error), download))
                }
            }
        }))
    }

    /// The next piece; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if self.over {
            return Ok(None);
        }
        if self.range.is_empty() {
            self.over = true;
            // An empty blob has no last piece that could be held back.
            if self.size_bytes == 0 {
                self.verify()?;
            }
            return Ok(None);
        }
        loop {
            self.open_patiently().await?;
            let Some(open) = self.open.as_mut() else { continue };
            let mut piece = match open.endpoint.host.wire.next_piece(&self.action, &mut open.response).await {
                Ok(Some(piece)) => piece,
                Ok(None) => {
                    let found = format!("and after {} the answer ended", self.range.start);
                    self.pause(RegistryError::OtherSize { action: self.action.clone(), expected_bytes: self.size_bytes, found }).await?;
                    continue;
                }
                Err(error) => {
                    self.pause(error).await?;
                    continue;
                }
            };
            let skipped = open.skip_bytes.min(piece.len() as u64);
            open.skip_bytes -= skipped;
            piece.advance(skipped as usize);
            if piece.is_empty() {
                continue;
            }
            self.tries.progress();
            return self.take(piece).map(Some);
        }
    }

    /// Counts and hashes a piece; the last one is given out only if all is right.
    fn take(&mut self, piece: Bytes) -> Result<Bytes, RegistryError> {
        let left_bytes = self.range.end - self.range.start;
        // A registry that ignores ranges sends what follows ours, too.
        let piece = if self.hasher.is_none() { piece.slice(..piece.len().min(left_bytes.try_into().unwrap_or(usize::MAX))) } else { piece };
        if piece.len() as u64 > left_bytes {
            let found = "and more came".to_owned();
            return Err(RegistryError::OtherSize { action: self.action.clone(), expected_bytes: self.size_bytes, found });
        }
        self.range.start += piece.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        if self.range.is_empty() {
            self.verify()?;
        }
        Ok(piece)
    }

    fn verify(&mut self) -> Result<(), RegistryError> {
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found != self.digest => Err(RegistryError::OtherDigest { action: self.action.clone(), found }),
            _ => Ok(()),
        }
    }

    /// Waits before the next try, or gives `error` back where there is none.
    async fn pause(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.open = None;
        let short = matches!(error, RegistryError::OtherSize { .. });
        let pause = if short { self.tries.pause(&error) } else { self.tries.pause_after(&error) };
        match pause {
            Some(pause) => {
                tracing::debug!(action = %self.action, at_bytes = self.range.start, error = %error, "the download goes on");
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(error),
        }
    }

    async fn open_patiently(&mut self) -> Result<(), RegistryError> {
        while self.open.is_none() && !(self.range.is_empty() && self.size_bytes > 0) {
            match self.open().await {
                Ok(open) => self.open = Some(open),
                Err(error) => self.pause(error).await?,
            }
        }
        Ok(())
    }

    /// Asks the mirrors and then the registry for what is still to come.
    async fn open(&self) -> Result<Open, RegistryError> {
        for mirror in self.repository.present_mirrors() {
            match self.open_at(mirror).await {
                Ok(open) => return Ok(open),
                Err(error) => tracing::debug!(mirror = %mirror.host.registry, error = %error, "the mirror does not help"),
            }
        }
        self.open_at(&self.repository.origin).await
    }

    async fn open_at(&self, endpoint: &Endpoint) -> Result<Open, RegistryError> {
        let mut headers = HeaderMap::new();
        let part = self.range != (0..self.size_bytes);
        if part {
            let range = format!("bytes={}-{}", self.range.start, self.range.end - 1);
            // Digits and a dash fit a header.
            headers.insert(RANGE, HeaderValue::try_from(range).unwrap_or(HeaderValue::from_static("bytes=0-")));
        }
        let scopes = endpoint.scopes();
        let url = endpoint.url(&format!("blobs/{}", self.digest))?;
        let call = Call { action: &self.action, method: Method::GET, url, headers, payload: Payload::Empty, scopes: &scopes };
        let good = [StatusCode::OK, StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE];
        let answered = endpoint.host.try_once(&call, &good).await?;
        if answered.response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            let found = format!("and the registry has none after {}", self.range.start);
            return Err(RegistryError::OtherSize { action: self.action.clone(), expected_bytes: self.size_bytes, found });
        }
        let response = answered.response;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        if partial && range_start(response.headers()) != Some(self.range.start) {
            let problem = format!("the range from byte {} was asked for, and another one came", self.range.start);
            return Err(RegistryError::Protocol { action: self.action.clone(), problem });
        }
        let expected_bytes = if partial { self.range.end - self.range.start } else { self.size_bytes };
        if let Some(said_bytes) = content_length(&response).filter(|said_bytes| *said_bytes != expected_bytes) {
            let found = format!("and the registry sends {said_bytes}");
            return Err(RegistryError::OtherSize { action: self.action.clone(), expected_bytes, found });
        }
        Ok(Open { endpoint: endpoint.clone(), response, skip_bytes: if partial { 0 } else { self.range.start } })
    }
}

fn content_length(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?.trim().strip_prefix("bytes")?;
    range.trim().split_once('-')?.0.parse().ok()
}
