//! Pushing a blob: what is sent, and what is done when it goes wrong.
//!
//! The usual way is one request with the whole blob as its body: chunks cost half the speed and more on a fast line.
//! Chunks are for registries and proxies that refuse a large body (413), that name a largest chunk, and for a large
//! blob whose connection broke once.
//!
//! After a failure that may pass, the registry is asked what it has: the blob itself (the answer to the last request
//! was lost), a part of it (the upload goes on there), or nothing (it begins again). The same question begins an upload
//! that an earlier process has left in the journal. What must stay true: only the registry's word moves the offset; a blob is pushed when the registry has taken its digest, and not before; the
//! source is opened anew for each piece that is sent, so nothing of it is held in memory.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::StatusCode;

use super::client::{Endpoint, Repository};
use super::error::{Action, Operation, RegistryError};
use super::journal::Page;
use super::open_uploads::Open;
use super::retry::Tries;
use super::session::Session;
use super::trouble::Trouble;
use super::wire::{BodyStream, Payload};
use crate::fault::Failure;
use crate::oci::digest::Digest;

/// The smallest request body that is tried after a larger one was refused: below, it is not the size.
const BODY_BYTES_LEAST: u64 = 1 << 20;

/// Gives the bytes of a range of the blob, each time it is asked.
pub type Source<'a> = &'a (dyn Fn(Range<u64>) -> BodyStream + Send + Sync);

/// What an upload tells while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So much of the blob has been sent; goes back where something has to be sent again.
    Sent {
        /// Bytes from the beginning of the blob.
        bytes: u64,
    },
    /// All is sent; the registry is at work.
    Committing,
    /// Something failed that may pass.
    Waiting {
        /// Until the next try.
        pause: Duration,
    },
}

/// Hears what an upload tells.
pub type Listener<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// What an upload took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// Bytes of the blob that went out, those of failed tries included.
    pub sent_bytes: u64,
}

impl Repository {
    /// Pushes a blob of `size_bytes`: on from where an earlier process was, by the journal and the registry's word; else in `session` where one is
    /// open already (from a mount), or in a new one.
    pub async fn upload(
        &self,
        digest: Digest,
        size_bytes: u64,
        session: Option<Session>,
        source: Source<'_>,
        listener: Listener<'_>,
    ) -> Result<Uploaded, RegistryError> {
        let endpoint = &self.origin;
        let page = endpoint.host.journal.page(&endpoint.repository, digest, size_bytes);
        // The address of an upload that is not the registry's own was not written by us.
        let past = page.past().filter(|(url, _)| endpoint.host.wire.address.owns(url));
        let resumes = past.is_some();
        let (session, spare) = match past {
            Some((url, _)) => (Some(Session::at(url)), session),
            None => (session, None),
        };
        let mut upload = Upload {
            endpoint,
            action: endpoint.action(Operation::PushBlob, &digest.to_string()),
            digest,
            size_bytes,
            source,
            listener,
            session,
            spare,
            resumes,
            unanswered: resumes,
            page,
            number: endpoint.open_uploads.begin(),
            has_bytes: 0,
            furthest_bytes: 0,
            body_bytes: 0,
            in_chunks: false,
            chunks_refused: endpoint.host.profile.chunks == Some(false),
            bodies_refused: false,
            sent_chunk: false,
            range_refused_at: None,
            digest_refused: false,
            tries: endpoint.host.tries(),
            sent_bytes: AtomicU64::new(0),
        };
        let result = upload.run().await;
        if result.is_ok() {
            endpoint.host.remember_ways(upload.bodies_refused, upload.chunks_refused);
        }
        let Upload { session, spare, mut page, number, sent_bytes, .. } = upload;
        let unused = match &result {
            Ok(()) => [spare, None],
            Err(error) if !error.fault().is_transient() => [session, spare],
            // It may go on later.
            Err(_) => [None, None],
        };
        let is_over = result.as_ref().map_or_else(|error| !error.fault().is_transient(), |()| true);
        if is_over {
            page.end();
        }
        for session in unused.into_iter().flatten() {
            endpoint.cancel(digest, &session).await;
        }
        // Whoever is dropped while he cancels has not cancelled.
        if is_over {
            endpoint.open_uploads.end(number);
        }
        result?;
        endpoint.host.doubts.taken(&endpoint.repository, digest);
        self.remember_blob(digest, size_bytes);
        Ok(Uploaded { sent_bytes: sent_bytes.into_inner() })
    }
}

struct Upload<'a> {
    endpoint: &'a Endpoint,
    action: Action,
    digest: Digest,
    size_bytes: u64,
    source: Source<'a>,
    listener: Listener<'a>,
    session: Option<Session>,
    /// Another session that is open, for when `session` turns out to be gone.
    spare: Option<Session>,
    /// Whether `session` is an earlier process's, and the registry was not asked for it yet.
    resumes: bool,
    /// Whether a request to `session` ended without an answer: for all that is known the registry is still at work on it.
    unanswered: bool,
    page: Page,
    /// Among those that this push has open.
    number: u64,
    /// How many bytes the registry says it has in `session`.
    has_bytes: u64,
    /// The most that it ever had. Only what goes beyond starts the count of tries again, so that a registry that takes all and
    /// then forgets it is given up.
    furthest_bytes: u64,
    /// The size of the request body that was sent last.
    body_bytes: u64,
    in_chunks: bool,
    chunks_refused: bool,
    /// Whether a body was too large.
    bodies_refused: bool,
    /// Whether the last request carried a chunk.
    sent_chunk: bool,
    /// The offset at which a chunk was last refused.
    range_refused_at: Option<u64>,
    digest_refused: bool,
    tries: Tries,
    sent_bytes: AtomicU64,
}

/// What to do after a failure.
enum Next {
    /// Nothing helps.
    GiveUp,
    /// Wait, ask the registry what it has, go on.
    GoOn(Duration),
    /// Open a new session, now or after a pause.
    BeginAgain(Duration),
}

impl Upload<'_> {
    async fn run(&mut self) -> Result<(), RegistryError> {
        // Whether the registry has to be asked what it has.
        let mut unsure = self.resumes;
        loop {
            let result = if unsure { self.find_out().await } else { Ok(false) };
            let error = match result {
                Ok(true) => {
                    // Ours, whose answer was lost, or somebody else's: a session that is left holds bytes that nobody needs.
                    if let Some(session) = self.session.take() {
                        self.endpoint.cancel(self.digest, &session).await;
                    }
                    return Ok(());
                }
                Ok(false) => match self.attempt().await {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        self.unanswered = error.answer().is_none();
                        error
                    }
                },
                Err(error) => error,
            };
            let pause = match self.after(&error) {
                Next::GiveUp => return Err(error),
                Next::GoOn(pause) => pause,
                Next::BeginAgain(pause) => {
                    let session = self.session.take();
                    // What was refused in it, and not for its being gone, is still there.
                    if let Some(session) = session.filter(|_| error.status().is_some_and(|status| status != StatusCode::NOT_FOUND)) {
                        self.endpoint.cancel(self.digest, &session).await;
                    }
                    pause
                }
            };
            unsure = true;
            let (pause_ms, error) = (pause.as_millis() as u64, crate::fault::one_line(&error));
            tracing::debug!(action = %self.action, pause_ms, error, "trying again");
            (self.listener)(Progress::Waiting { pause });
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends what the registry does not have yet.
    async fn attempt(&mut self) -> Result<(), RegistryError> {
        let session = if let Some(session) = self.session.clone() {
            session
        } else {
            self.has_bytes = 0;
            self.session.insert(self.endpoint.open_session(&self.action).await?).clone()
        };
        self.note(&session).await;
        let body_bytes_max = self.endpoint.host.body_bytes_max.load(Ordering::Relaxed);
        let body_bytes_max = body_bytes_max.min(session.chunk_bytes_max.unwrap_or(u64::MAX));
        if self.has_bytes == 0 && !self.in_chunks && self.size_bytes <= body_bytes_max {
            return self.send(0..self.size_bytes, Part::Whole, &session).await;
        }
        while self.has_bytes < self.size_bytes {
            let Some(session) = self.session.clone() else { break };
            let chunk_bytes = self.endpoint.host.chunk_bytes.min(body_bytes_max).max(session.chunk_bytes_min).max(1);
            let end = self.size_bytes.min(self.has_bytes.saturating_add(chunk_bytes));
            self.send(self.has_bytes..end, Part::Chunk, &session).await?;
        }
        (self.listener)(Progress::Committing);
        let session = self.session.clone().unwrap_or(session);
        self.endpoint.commit(&self.action, &session, self.digest, Payload::Empty).await
    }

    /// Sends a part of the blob in one request.
    async fn send(&mut self, range: Range<u64>, part: Part, session: &Session) -> Result<(), RegistryError> {
        self.body_bytes = range.end - range.start;
        self.sent_chunk = matches!(part, Part::Chunk);
        let Upload { listener, source, sent_bytes, size_bytes, .. } = &*self;
        let before_bytes = sent_bytes.load(Ordering::Relaxed);
        let open = || source(range.clone());
        let watch = |part_bytes: u64| {
            sent_bytes.store(before_bytes + part_bytes, Ordering::Relaxed);
            let bytes = range.start + part_bytes;
            listener(Progress::Sent { bytes });
            if bytes == *size_bytes && matches!(part, Part::Whole) {
                listener(Progress::Committing);
            }
        };
        let payload = if range.is_empty() {
            Payload::Empty
        } else {
            Payload::Stream { size_bytes: range.end - range.start, open: &open, watch: &watch }
        };
        match part {
            Part::Whole => self.endpoint.commit(&self.action, session, self.digest, payload).await,
            Part::Chunk => {
                let (session, said_bytes) = self.endpoint.send_chunk(&self.action, session, range.start, payload).await?;
                self.believe(session, said_bytes, &range).await
            }
        }
    }

    /// Takes the registry's word for what it has after a chunk.
    async fn believe(&mut self, session: Session, said_bytes: Option<u64>, sent: &Range<u64>) -> Result<(), RegistryError> {
        self.session = Some(session.clone());
        // One that says nothing has answered that it took the chunk; the digest is checked in the end.
        let said_bytes = match said_bytes {
            // `0-0` stands for one byte, too.
            Some(0) | None if *sent == (0..1) => 1,
            None => sent.end,
            Some(said_bytes) => said_bytes,
        };
        if said_bytes > sent.end || said_bytes <= sent.start {
            self.session = None;
            self.endpoint.cancel(self.digest, &session).await;
            // ECR takes each chunk, and says the end of the first for all of them (aws/containers-roadmap#2831). Without its word on what it has, chunks are
            // worth nothing.
            self.chunks_refused |= said_bytes <= sent.start;
            self.in_chunks &= !self.chunks_refused;
            let problem = format!("bytes {} to {} were sent, and it says that it has {said_bytes}", sent.start, sent.end);
            return Err(RegistryError::Protocol { action: self.action.clone(), problem });
        }
        self.has_bytes = said_bytes;
        self.note(&session).await;
        self.count_progress();
        Ok(())
    }

    /// What the registry has now and never had before starts the count of tries again.
    fn count_progress(&mut self) {
        if self.has_bytes > self.furthest_bytes {
            self.furthest_bytes = self.has_bytes;
            self.tries.progress();
        }
    }

    /// Writes down what the registry has, for whoever comes after us.
    async fn note(&mut self, session: &Session) {
        if self.endpoint.host.wire.address.owns(&session.url) {
            self.page.note(&session.url, self.has_bytes).await;
        }
        let (digest, size_bytes, session, has_page) = (self.digest, self.size_bytes, session.clone(), self.page.is_kept());
        self.endpoint.open_uploads.note(self.number, Open { digest, size_bytes, session, has_page });
    }

    /// What a failure calls for.
    fn after(&mut self, error: &RegistryError) -> Next {
        // A large body that broke, by itself or by a proxy's patience, may break at the same place again: smaller ones lose less.
        let broke = match error {
            RegistryError::Unreachable { trouble, .. } => *trouble == Trouble::Torn,
            RegistryError::Stalled { .. } => true,
            _ => matches!(error.status().map_or(0, |status| status.as_u16()), 408 | 499 | 502 | 504 | 520..=524),
        };
        self.in_chunks |= broke && self.body_bytes > self.endpoint.host.chunk_bytes && !self.chunks_refused;
        let Some(answer) = error.answer() else {
            // What the registry calls it may be wrong, or what came was not the blob: the question that follows tells.
            if matches!(error, RegistryError::OtherDigest { .. }) && !std::mem::replace(&mut self.digest_refused, true) {
                return self.tries.pause(error).map_or(Next::GiveUp, Next::BeginAgain);
            }
            let lies = matches!(error, RegistryError::Protocol { .. }) && self.session.is_none();
            let worth = lies || error.fault().is_transient();
            return if worth { self.tries.pause(error).map_or(Next::GiveUp, Next::GoOn) } else { Next::GiveUp };
        };
        let lost = answer.has_code("BLOB_UPLOAD_UNKNOWN") || answer.has_code("BLOB_UPLOAD_INVALID");
        match answer.status {
            _ if answer.is_transient() => self.tries.pause(error).map_or(Next::GiveUp, Next::GoOn),
            StatusCode::PAYLOAD_TOO_LARGE => self.smaller_bodies(),
            StatusCode::RANGE_NOT_SATISFIABLE if self.range_refused_at != Some(self.has_bytes) => {
                self.range_refused_at = Some(self.has_bytes);
                self.tries.pause(error).map_or(Next::GiveUp, Next::GoOn)
            }
            // A registry that does not do chunks, or none as large as ours (GHCR takes 4 MiB): all in one, then.
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::BAD_REQUEST
                if (self.in_chunks || self.has_bytes > 0 || self.sent_chunk) && !answer.has_code("DIGEST_INVALID") =>
            {
                // Neither the whole nor its parts.
                if self.chunks_refused && self.bodies_refused {
                    return Next::GiveUp;
                }
                self.chunks_refused = true;
                self.in_chunks = false;
                // It may be the profile alone that wants chunks here, and be wrong.
                if !self.bodies_refused {
                    self.endpoint.host.lift_profiled_limit();
                }
                self.tries.pause(error).map_or(Next::GiveUp, Next::BeginAgain)
            }
            StatusCode::NOT_FOUND if self.session.is_some() && !answer.has_code("NAME_UNKNOWN") => {
                self.tries.pause(error).map_or(Next::GiveUp, Next::BeginAgain)
            }
            // An earlier request of ours, cut off, still holds the session there: what it has is worth waiting for.
            StatusCode::CONFLICT if lost && self.has_bytes > 0 => self.tries.pause(error).map_or(Next::GiveUp, Next::GoOn),
            // What came was not the blob: spoilt on the way, or else the source is not what it says, and it stays that.
            _ if answer.has_code("DIGEST_INVALID") && !self.digest_refused => {
                self.digest_refused = true;
                self.tries.pause(error).map_or(Next::GiveUp, Next::BeginAgain)
            }
            _ if lost => self.tries.pause(error).map_or(Next::GiveUp, Next::BeginAgain),
            _ => Next::GiveUp,
        }
    }

    /// The body was too large: remembers that for the registry. Smaller ones are tried in a new session.
    fn smaller_bodies(&mut self) -> Next {
        let (refused_bytes, chunk_bytes) = (self.body_bytes, self.endpoint.host.chunk_bytes);
        let smaller_bytes = if refused_bytes > chunk_bytes { chunk_bytes } else { refused_bytes / 2 };
        if refused_bytes <= chunk_bytes && smaller_bytes < BODY_BYTES_LEAST {
            return Next::GiveUp;
        }
        self.endpoint.host.body_bytes_max.fetch_min(smaller_bytes, Ordering::Relaxed);
        self.in_chunks = true;
        self.bodies_refused = true;
        Next::BeginAgain(Duration::ZERO)
    }

    /// Asks the registry what it has after a failure; true where that is the whole blob.
    async fn find_out(&mut self) -> Result<bool, RegistryError> {
        match self.endpoint.has_blob_once(self.digest, self.size_bytes).await {
            Ok(true) if !self.endpoint.host.doubts.has(&self.endpoint.repository, self.digest) => return Ok(true),
            // The session may be there still when the registry is back.
            Err(error) if error.fault().is_transient() => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let Some(session) = self.session.clone() else { return Ok(false) };
        match self.endpoint.session_status(&self.action, &session).await? {
            Some((session, has_bytes)) if has_bytes <= self.size_bytes => {
                // A registry that keeps a session and nothing of a body that broke keeps whole chunks.
                self.in_chunks |= self.resumes && self.size_bytes > self.endpoint.host.chunk_bytes;
                self.has_bytes = has_bytes;
                // A request that broke may still be writing into it, and would spoil what comes; with nothing in it, nothing is lost by another one.
                let spoilt = has_bytes == 0 && self.unanswered;
                let (kept, given_up) = if spoilt { (self.spare.take(), Some(session)) } else { (Some(session), self.spare.take()) };
                self.session = kept;
                if let Some(given_up) = given_up {
                    self.endpoint.cancel(self.digest, &given_up).await;
                }
            }
            _ => {
                self.session = self.spare.take();
                self.has_bytes = 0;
            }
        }
        self.resumes = false;
        self.count_progress();
        (self.listener)(Progress::Sent { bytes: self.has_bytes });
        Ok(false)
    }
}

/// Which request carries the bytes.
#[derive(Clone, Copy)]
enum Part {
    Whole,
    Chunk,
}
