//! Blobs in chunks: whether they are taken, what is believed of their place, and what is left of an upload that stops in the middle. How large they may be is
//! `doctor_sizes.rs`.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;

use super::doctor::Doctor;
use super::doctor_ask::refusal;
use super::doctor_findings::{AfterBreak, Chunks, ChunksOutcome, Finding, Offset, Resume};
use super::doctor_samples::{body, noise};
use super::error::{Action, Operation, RegistryError};
use super::session::Session;
use super::wire::{BodyStream, Payload};
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;

/// The first chunk of a blob, where the registry asks for no larger one.
const FIRST_BYTES: u64 = 256 << 10;

/// The last.
const LAST_BYTES: u64 = 64 << 10;

/// The largest `OCI-Chunk-Min-Length` that is followed here.
const MIN_BYTES_FOLLOWED: u64 = 16 << 20;

/// The most chunks of the blob: a registry may take only a part of each.
const CHUNKS_MAX: u32 = 8;

/// How far the wrong place is from the right one.
const ASTRAY_BYTES: u64 = 4096;

/// So much of a chunk is sent before its connection is cut.
const CUT_BYTES: u64 = 96 << 10;

/// What is sent before a cut gets to the registry in that time, and the registry gets over it.
const CUT_PAUSE: Duration = Duration::from_millis(250);

/// How often it is asked what it has after a cut.
const ASKED_AFTER_CUT: u32 = 4;

/// The end of a connection that is cut on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut to see what is left")]
struct Cut;

impl Failure for Cut {
    fn fault(&self) -> Fault {
        Fault::Ours
    }
}

impl Doctor {
    /// Pushes a blob in chunks; what came of it, without how large they may be.
    pub(super) async fn chunks(&mut self) -> Result<Chunks, RegistryError> {
        let action = self.writer.action(Operation::PushBlob, "");
        let session = self.open(&action).await?;
        let min_bytes = session.chunk_bytes_min;
        let first_bytes = first_bytes(min_bytes);
        let outcome = self.chunked_blob(&action, session, first_bytes).await?;
        self.give_up().await;
        Ok(Chunks { outcome, min_bytes, taken_bytes: first_bytes, refused_bytes: None })
    }

    async fn chunked_blob(&mut self, action: &Action, mut session: Session, first_bytes: u64) -> Result<ChunksOutcome, RegistryError> {
        let content = noise(first_bytes + LAST_BYTES);
        let total_bytes = content.len() as u64;
        let (mut has_bytes, mut partly, mut silent) = (0, false, false);
        for _ in 0..CHUNKS_MAX {
            let end = if has_bytes == 0 { first_bytes } else { total_bytes };
            let payload = Payload::Bytes(content.slice(has_bytes as usize..end as usize));
            let (next, said_bytes) = match self.writer.send_chunk(action, &session, has_bytes, payload).await {
                Ok(answered) => answered,
                Err(error) => return refusal(error).map(ChunksOutcome::Refused),
            };
            session = next;
            self.traces.session = Some(session.clone());
            silent |= said_bytes.is_none();
            match said_bytes.unwrap_or(end) {
                said_bytes if said_bytes > end => return Ok(ChunksOutcome::RangeAhead),
                said_bytes if said_bytes <= has_bytes => return Ok(ChunksOutcome::RangeStuck),
                said_bytes => {
                    partly |= said_bytes < end;
                    has_bytes = said_bytes;
                }
            }
            if has_bytes == total_bytes {
                break;
            }
        }
        let digest = Digest::of(&content);
        self.traces.blobs.insert(digest);
        match self.writer.commit(action, &session, digest, Payload::Bytes(content.slice(has_bytes as usize..))).await {
            Ok(()) => self.traces.session = None,
            Err(error) => return refusal(error).map(ChunksOutcome::NotCommitted),
        }
        Ok(match (partly, silent) {
            (_, true) => ChunksOutcome::Silent,
            (true, _) => ChunksOutcome::Partly,
            _ => ChunksOutcome::Taken,
        })
    }

    /// Sends a chunk to where it belongs, and another one elsewhere.
    pub(super) async fn astray(&mut self) -> Result<(), RegistryError> {
        let action = self.writer.action(Operation::PushBlob, "");
        let session = self.open(&action).await?;
        let first_bytes = first_bytes(session.chunk_bytes_min);
        let (session, said_bytes) = self.writer.send_chunk(&action, &session, 0, Payload::Bytes(noise(first_bytes))).await?;
        self.traces.session = Some(session.clone());
        let has_bytes = said_bytes.filter(|said_bytes| *said_bytes <= first_bytes).unwrap_or(first_bytes);
        let payload = Payload::Bytes(Bytes::from_static(b"lamina doctor: this belongs elsewhere"));
        let offset = match self.writer.send_chunk(&action, &session, has_bytes + ASTRAY_BYTES, payload).await {
            Ok((session, _)) => {
                self.traces.session = Some(session);
                Offset::Swallowed
            }
            Err(error) => match refusal(error)? {
                answer if answer.status.as_u16() != 416 => Offset::Other(answer),
                _ => match self.writer.session_status(&action, &session).await? {
                    Some((_, told_bytes)) if told_bytes == has_bytes => Offset::Refused,
                    _ => Offset::RefusedOnly,
                },
            },
        };
        self.give_up().await;
        self.findings.push(Finding::Offset(offset));
        Ok(())
    }

    /// Leaves an upload after a whole chunk, and then in the middle of one, and asks each time what is there.
    pub(super) async fn resume(&mut self, in_chunks: bool) -> Result<(), RegistryError> {
        if !in_chunks {
            self.findings.push(Finding::Resume(Resume { after_chunk: false, after_break: AfterBreak::NotTried }));
            return Ok(());
        }
        let action = self.writer.action(Operation::PushBlob, "");
        let session = self.open(&action).await?;
        let first_bytes = first_bytes(session.chunk_bytes_min);
        let (session, said_bytes) = self.writer.send_chunk(&action, &session, 0, Payload::Bytes(noise(first_bytes))).await?;
        let has_bytes = said_bytes.filter(|said_bytes| *said_bytes <= first_bytes).unwrap_or(first_bytes);
        self.traces.session = Some(session.clone());
        let (session, after_chunk) = match self.writer.session_status(&action, &session).await? {
            Some((session, told_bytes)) => (session, told_bytes == has_bytes),
            None => (session, false),
        };
        let after_break = self.cut(&action, session, has_bytes).await?;
        let gone = self.give_up().await;
        if !gone && after_break == AfterBreak::Nothing {
            // Its address is not known to anybody any more, and what came of it may still lie there.
            let most_kib = (first_bytes + CUT_BYTES) >> 10;
            self.traces.lost.push(format!("an upload of at most {most_kib} KiB in `{}`, whose connection was cut", self.object()));
        }
        self.findings.push(Finding::Resume(Resume { after_chunk, after_break }));
        Ok(())
    }

    /// Cuts the connection in the middle of a chunk.
    async fn cut(&mut self, action: &Action, session: Session, has_bytes: u64) -> Result<AfterBreak, RegistryError> {
        let payload = Payload::Stream { size_bytes: 2 * CUT_BYTES, open: &cut_body, watch: &|_| () };
        match self.writer.send_chunk(action, &session, has_bytes, payload).await {
            Err(RegistryError::Source { .. } | RegistryError::Unreachable { .. }) => {}
            Err(error) => return Err(error),
            // It answered before it had all: whatever it has now is whole chunks.
            Ok((session, _)) => self.traces.session = Some(session),
        }
        let mut after_break = AfterBreak::Nothing;
        for _ in 0..ASKED_AFTER_CUT {
            tokio::time::sleep(CUT_PAUSE).await;
            after_break = match self.writer.session_status(action, &session).await? {
                None => AfterBreak::Nothing,
                Some((session, told_bytes)) => {
                    self.traces.session = Some(session);
                    match told_bytes {
                        told_bytes if told_bytes > has_bytes => AfterBreak::Everything,
                        told_bytes if told_bytes == has_bytes => AfterBreak::WholeChunks,
                        _ => AfterBreak::Nothing,
                    }
                }
            };
            if after_break == AfterBreak::Everything {
                break;
            }
        }
        Ok(after_break)
    }
}

/// The size of a first chunk.
fn first_bytes(min_bytes: u64) -> u64 {
    FIRST_BYTES.max(min_bytes.min(MIN_BYTES_FOLLOWED))
}

/// A body that ends in the middle.
fn cut_body() -> BodyStream {
    let cut = stream::once(async {
        tokio::time::sleep(CUT_PAUSE).await;
        Err(Cut.into())
    });
    body(CUT_BYTES).chain(cut).boxed()
}
