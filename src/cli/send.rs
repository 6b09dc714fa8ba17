//! What a service does not have, sent: the client's side of have and want.
//!
//! The service is told the list of the model's files and answers with a version, or with the digests that it lacks. These are sent, and it is asked again;
//! a service that loses some meanwhile (its collector, another disk) asks for them once more, a few times at most. Large files go to its `/v2/`, each as a
//! blob: one streamed request, which goes on at the service's offset after a broken line, also in a later run (`registry/journal.rs`). Small ones go
//! many at once, as a tar; what has arrived of them a later run need not send. So whatever stops an upload, the same command goes on.
//!
//! What must stay true: a file is read through what it was when the folder was listed, so that what is sent is what the list says or nothing.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::service::{Asked, Service, ServiceError};
use super::settings::Settings;
use crate::disk::render::{RenderError, Renderer};
use crate::disk::stream::of_reader;
use crate::fault::{Failure, Fault};
use crate::model::listing::{self, ListingError};
use crate::model::plan::LARGE_BYTES;
use crate::model::tree::Tree;
use crate::oci::digest::Digest;
use crate::oci::layer::{Content, Entry, EntryKind, Recipe, RecipeError};
use crate::oci::path::TreePath;
use crate::oci::reference::Reference;
use crate::progress::{Event, Listener, Moved, Transfer};
use crate::registry::client::{Access, Registries, Repository};
use crate::registry::error::RegistryError;
use crate::registry::upload::Progress;
use crate::registry::wire::BodyStream;

/// How often a service may ask for more before it is given up.
const ROUNDS_MAX: usize = 6;
/// How many large files are sent at once: one is on its way while the service makes sure of another. More would cost it memory for each client.
const BLOBS_AT_ONCE: usize = 2;
/// How much goes in one tar of small files: what a broken line costs.
const BATCH_BYTES: u64 = 64 << 20;
/// And how many files.
const BATCH_FILES: usize = 10_000;
/// How often a tar is sent, or the question put, while the line breaks, and the first pause; each further one is twice as long.
const BATCH_TRIES: u32 = 7;
const BATCH_PAUSE: Duration = Duration::from_millis(500);

/// Why a model did not get to a service.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The files cannot be listed.
    #[error("listing the model")]
    List(#[from] ListingError),
    /// The files cannot be put into an archive.
    #[error("packing the model")]
    Pack(#[from] RecipeError),
    /// A file is not what it was when the folder was read.
    #[error(transparent)]
    Changed(RenderError),
    /// The service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Its registry.
    #[error("sending `{path}`")]
    Push {
        /// The file.
        path: TreePath,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// Its registry's settings.
    #[error("preparing to send to the service's registry")]
    Registry(#[source] RegistryError),
    /// It asks for what is no file of the model.
    #[error("the service at {url} asks for {digest}, which is no file of the model")]
    Stray {
        /// The service.
        url: String,
        /// What it asks for.
        digest: Digest,
    },
    /// It does not keep what it is sent.
    #[error("the service at {url} has asked {ROUNDS_MAX} times for files that it was sent")]
    Forgetful {
        /// The service.
        url: String,
    },
}

impl Failure for SendError {
    fn fault(&self) -> Fault {
        match self {
            SendError::List(error) => error.fault(),
            SendError::Pack(error) => error.fault(),
            SendError::Changed(error) => error.fault(),
            SendError::Service(error) => error.fault(),
            SendError::Push { source, .. } | SendError::Registry(source) => source.fault(),
            SendError::Stray { .. } | SendError::Forgetful { .. } => Fault::Remote,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            SendError::Changed(error) => error.remedy(),
            SendError::Service(error) => error.remedy(),
            SendError::Push { source, .. } if source.fault() == Fault::RemoteTransient => {
                Some("run the same command again: it goes on where it stopped".to_owned())
            }
            SendError::Push { source, .. } | SendError::Registry(source) => source.remedy(),
            SendError::Forgetful { .. } => Some("ask its operator about the disk and about what removes files from it".to_owned()),
            _ => None,
        }
    }

    fn document(&self) -> Option<Value> {
        if let SendError::Service(error) = self { error.document() } else { None }
    }
}

/// Why an archive could not be read to its end; to the wire that is only a body that broke off.
pub type Changed = Arc<Mutex<Option<RenderError>>>;

/// The tar of a recipe as a body that is rendered while it is sent.
pub fn archive(recipe: Recipe, listener: &Listener, changed: &Changed) -> reqwest::Body {
    let (listener, changed, recipe) = (listener.clone(), changed.clone(), Arc::new(recipe));
    let pieces = of_reader(move || Ok(Renderer::new(recipe))).map(move |piece| match piece {
        Ok(piece) => {
            listener(Event::Advance { bytes: piece.len() as u64 });
            Ok(piece)
        }
        Err(error) => Err(match error.downcast::<RenderError>() {
            Ok(error) => {
                let text = error.to_string();
                *changed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                io::Error::other(text)
            }
            Err(error) => error,
        }),
    });
    reqwest::Body::wrap_stream(pieces)
}

/// A file that the service lacks.
struct Wanted<'a> {
    path: &'a TreePath,
    size_bytes: u64,
    content: &'a Content,
}

/// A model on its way to a service.
pub struct Sending<'a> {
    /// The service.
    pub service: &'a Service,
    /// What is known of this machine.
    pub settings: &'a Settings,
    /// The model's name: its repository.
    pub model: &'a str,
    /// Its files, hashed.
    pub tree: &'a Tree,
    /// Hears what happens.
    pub listener: &'a Listener,
}

impl Sending<'_> {
    /// Brings the model to the service: its version, and what had to move. `form` makes the other parts of the form. `None` where the service does not know
    /// how; nothing has been sent then.
    pub async fn run(&self, form: &dyn Fn() -> Form) -> Result<Option<(Value, Transfer)>, SendError> {
        let (list, key) = (Bytes::from(listing::write(self.tree)?), upload_key());
        let (mut transfer, mut ever_wanted) = (Transfer::default(), BTreeMap::new());
        for _ in 0..ROUNDS_MAX {
            match self.ask(&list, form, &key).await? {
                Asked::Unknown => return Ok(None),
                Asked::Made(version) => {
                    let wanted_bytes: u64 = ever_wanted.values().sum();
                    transfer.skipped_bytes = self.tree.size_bytes().saturating_sub(wanted_bytes);
                    return Ok(Some((version, transfer)));
                }
                Asked::Wants(digests) => {
                    let wanted = self.wanted(&digests)?;
                    ever_wanted.extend(wanted.iter().map(|(digest, file)| (*digest, file.size_bytes)));
                    transfer.merge(self.send(wanted).await?);
                }
            }
        }
        Err(SendError::Forgetful { url: self.service.url().to_owned() })
    }

    /// Puts the question, again where the line breaks: the answer that is lost may be a version, and the key keeps it the only one.
    async fn ask(&self, list: &Bytes, form: &dyn Fn() -> Form, key: &str) -> Result<Asked, ServiceError> {
        let (mut tries, mut pause) = (0, BATCH_PAUSE);
        loop {
            let part = Part::stream_with_length(reqwest::Body::from(list.clone()), list.len() as u64);
            tries += 1;
            match self.service.upload_list(form().part("tree", part), self.tree.len(), key).await {
                Err(error) if tries < BATCH_TRIES && may_pass(&error) => self.pause(&error, &mut pause).await,
                asked => return asked,
            }
        }
    }

    async fn pause(&self, error: &ServiceError, pause: &mut Duration) {
        (self.listener)(Event::Note(format!("{error}: trying again in {:.1} s", pause.as_secs_f32())));
        tokio::time::sleep(*pause).await;
        *pause *= 2;
    }

    /// The files of these digests; one for each.
    fn wanted(&self, digests: &[Digest]) -> Result<BTreeMap<Digest, Wanted<'_>>, SendError> {
        let mut known = BTreeMap::new();
        for (path, node) in self.tree.nodes() {
            if let EntryKind::File { size_bytes, content, .. } = node
                && let Some(digest) = listing::digest_of(content)
            {
                known.entry(digest).or_insert(Wanted { path, size_bytes: *size_bytes, content });
            }
        }
        let mut wanted = BTreeMap::new();
        for digest in digests {
            let stray = || SendError::Stray { url: self.service.url().to_owned(), digest: *digest };
            // Asked for twice is asked for.
            if !wanted.contains_key(digest) {
                wanted.insert(*digest, known.remove(digest).ok_or_else(stray)?);
            }
        }
        Ok(wanted)
    }

    async fn send(&self, wanted: BTreeMap<Digest, Wanted<'_>>) -> Result<Transfer, SendError> {
        (self.listener)(Event::Expect { bytes: wanted.values().map(|file| file.size_bytes).sum() });
        let repository = self.repository()?;
        let is_large = |file: &Wanted<'_>| repository.is_some() && file.size_bytes >= LARGE_BYTES;
        let (large, mut small): (BTreeMap<_, _>, BTreeMap<_, _>) = wanted.into_iter().partition(|(_, file)| is_large(file));
        let mut transfer = Transfer::default();
        if let Some(repository) = &repository {
            let (sent_bytes, refused) = self.push_all(repository, &large).await?;
            transfer.add(sent_bytes, Moved::Sent);
            small.extend(large.into_iter().filter(|(digest, _)| refused.contains(digest)));
        }
        for batch in batches(&small) {
            transfer.merge(self.send_batch(&batch).await?);
        }
        Ok(transfer)
    }

    /// The model's repository in the service's own registry.
    fn repository(&self) -> Result<Option<Repository>, SendError> {
        let Some((registry, plain_http)) = self.service.registry() else { return Ok(None) };
        let mut settings = self.settings.registries.clone();
        settings.hosts.entry(registry.clone()).or_default().plain_http = Some(plain_http);
        let registries = Registries::new(settings).map_err(SendError::Registry)?;
        let reference = Reference::repository(&registry, self.model);
        registries.repository(&reference, Access::Push).map(Some).map_err(SendError::Registry)
    }

    /// Pushes large files; says how many bytes went out, and which files the registry takes from nobody: what stands before the service does not pass it on.
    async fn push_all(&self, repository: &Repository, files: &BTreeMap<Digest, Wanted<'_>>) -> Result<(u64, Vec<Digest>), SendError> {
        let pushes = stream::iter(files).map(|(digest, file)| async move { (*digest, self.push(repository, *digest, file).await) });
        let mut pushes = pin!(pushes.buffer_unordered(BLOBS_AT_ONCE));
        let (mut sent_bytes, mut refused) = (0, Vec::new());
        while let Some((digest, result)) = pushes.next().await {
            match result {
                Ok(bytes) => sent_bytes += bytes,
                Err(SendError::Push { source, .. })
                    if matches!(source.status().map_or(0, |status| status.as_u16()), 401 | 403 | 404 | 405) =>
                {
                    refused.push(digest);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((sent_bytes, refused))
    }

    /// Pushes one file; says how many bytes went out.
    async fn push(&self, repository: &Repository, digest: Digest, file: &Wanted<'_>) -> Result<u64, SendError> {
        let Wanted { path, size_bytes, content } = *file;
        let source = |range: Range<u64>| body(content.clone(), size_bytes, range);
        let told = AtomicU64::new(0);
        let progress = |progress: Progress| match progress {
            Progress::Sent { bytes } => {
                let before = told.fetch_max(bytes, Ordering::Relaxed);
                if bytes > before {
                    (self.listener)(Event::Advance { bytes: bytes - before });
                }
            }
            Progress::Committing => {}
            Progress::Waiting { pause } => {
                (self.listener)(Event::Note(format!("{path}: trying again in {:.1} s", pause.as_secs_f32())));
            }
        };
        let pushed = repository.upload(digest, size_bytes, None, &source, &progress).await;
        let pushed = pushed.map_err(|source| SendError::Push { path: path.clone(), source })?;
        (self.listener)(Event::Blob { digest, size_bytes, how: Moved::Sent });
        Ok(pushed.sent_bytes)
    }

    async fn send_batch(&self, batch: &[Entry]) -> Result<Transfer, SendError> {
        let (mut transfer, mut pause) = (Transfer::default(), BATCH_PAUSE);
        for tries in 1.. {
            let recipe = Recipe::new(batch.to_vec(), 0)?;
            let (size_bytes, changed) = (recipe.size_bytes(), Changed::default());
            let sent = self.service.send_contents(size_bytes, archive(recipe, self.listener, &changed)).await;
            transfer.add(size_bytes, Moved::Sent);
            if let Some(error) = changed.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Err(SendError::Changed(error));
            }
            match sent {
                Ok(()) => break,
                Err(error) if tries < BATCH_TRIES && may_pass(&error) => self.pause(&error, &mut pause).await,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(transfer)
    }
}

/// A key that no other upload has; it has to differ, and not to be kept from anybody.
fn upload_key() -> String {
    let random = || RandomState::new().hash_one(0_u8);
    format!("{:016x}{:016x}", random(), random())
}

/// Files of a tar that are sent together, each called by its digest.
fn batches(files: &BTreeMap<Digest, Wanted<'_>>) -> Vec<Vec<Entry>> {
    let (mut batches, mut batch, mut batch_bytes) = (Vec::new(), Vec::new(), 0);
    for (digest, file) in files {
        if !batch.is_empty() && (batch_bytes + file.size_bytes > BATCH_BYTES || batch.len() >= BATCH_FILES) {
            batches.push(std::mem::take(&mut batch));
            batch_bytes = 0;
        }
        batch_bytes += file.size_bytes;
        let path = TreePath::new(&digest.hex()).expect("hex digits are a path");
        batch.push(Entry { path, kind: EntryKind::File { size_bytes: file.size_bytes, executable: false, content: file.content.clone() } });
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// Whether the line broke, or the service is about to be back.
fn may_pass(error: &ServiceError) -> bool {
    match error {
        ServiceError::Wire { .. } => true,
        ServiceError::Refused { status, .. } => matches!(status.as_u16(), 408 | 429 | 502..=504),
        _ => false,
    }
}

/// The bytes of a range of a file, opened anew for each try.
fn body(content: Content, size_bytes: u64, range: Range<u64>) -> BodyStream {
    let pieces = of_reader(move || Ok(Renderer::file(content, size_bytes, range)));
    let failed = |error: io::Error| -> Box<dyn Failure> {
        let unreadable = |source| RenderError::Unreadable { path: std::path::PathBuf::new(), source };
        Box::new(error.downcast::<RenderError>().unwrap_or_else(unreadable))
    };
    pieces.map_err(failed).boxed()
}
