//! The one verb that moves images: `copy(image, from, to)`.
//!
//! Push, `--to`, an upload's last stage, `hs base import`: all of them are this. Ask what is there, mount what the registry has elsewhere, send what is
//! missing as a stream, then the config, the manifests, and the tag last: whoever asks for the tag finds a whole image or the one before. Nothing is
//! re-serialised and no blob is held in memory.
//!
//! What must stay true: a destination that has the image is asked once and sent nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::client::{Access, Registries, Repository};
use super::error::RegistryError;
use super::mount::Mount;
use super::source::{Blob, Source, SourceError};
use super::upload::Progress;
use super::wire::BodyStream;
use crate::disk::destination::{Destination, DestinationError};
use crate::disk::docker_archive::DockerArchive;
use crate::disk::layout::Layout;
use crate::disk::oci_archive::OciArchive;
use crate::disk::render::{Renderer, render_error};
use crate::disk::seal::{self, SealError};
use crate::disk::stream::of_reader;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::image::{Compression, ImageLayer, ImageSet, LayerSource};
use crate::oci::layer::Recipe;
use crate::oci::location::Location;
use crate::oci::manifest::Document;
use crate::progress::{Event, Listener, Moved, Transfer};

/// How many blobs are sent at once: enough to hide each other's round trips and commits.
const BLOBS_AT_ONCE: usize = 4;

/// Where an image goes.
pub enum Target {
    /// A repository; without a tag the image is there by its digest.
    Repository {
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: Option<String>,
    },
    /// A place on this machine.
    Local(Destination),
}

/// Why an image was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The registry that it goes to.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The place that it goes to.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// Where it comes from.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A digest as a destination.
    #[error("`{0}` names a digest, and an image's digest follows from what is in it")]
    Digest(String),
    /// Work in the background died.
    #[error("copying in the background stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl CopyError {
    fn inner(&self) -> Option<&dyn Failure> {
        match self {
            CopyError::Registry(error) => Some(error),
            CopyError::Destination(error) => Some(error),
            CopyError::Source(error) => Some(error),
            CopyError::Digest(_) | CopyError::Stopped(_) => None,
        }
    }
}

impl Failure for CopyError {
    fn fault(&self) -> Fault {
        match self {
            CopyError::Digest(_) => Fault::Usage,
            other => other.inner().map_or(Fault::Ours, Failure::fault),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            CopyError::Digest(_) => Some("name a tag: `host/repository:tag`".to_owned()),
            other => other.inner().and_then(Failure::remedy),
        }
    }
}

/// Why the bytes of a layer could not be read while they were sent.
#[derive(Debug, thiserror::Error)]
#[error("reading layer {digest}")]
struct LayerReadError {
    digest: Digest,
    #[source]
    source: io::Error,
}

impl Failure for LayerReadError {
    fn fault(&self) -> Fault {
        render_error(&self.source).map_or(Fault::Ours, Failure::fault)
    }

    fn remedy(&self) -> Option<String> {
        render_error(&self.source).and_then(Failure::remedy)
    }
}

impl Target {
    /// Opens a location for writing. Files are made, folders too; nothing is sent.
    pub fn open(location: &Location, registries: &Registries) -> Result<Target, CopyError> {
        Ok(match location {
            Location::Registry(reference) if reference.digest.is_some() => return Err(CopyError::Digest(reference.to_string())),
            Location::Registry(reference) => Target::Repository {
                repository: registries.repository(reference, Access::Push)?,
                tag: Some(reference.tag.clone().unwrap_or_else(|| "latest".to_owned())),
            },
            Location::Layout { folder, tag } => {
                let layout = Layout::create(folder).map_err(DestinationError::from)?;
                Target::Local(Destination::Layout { layout, tag: tag.clone() })
            }
            Location::OciArchive { file, tag } => {
                let archive = OciArchive::create(file).map_err(DestinationError::from)?;
                Target::Local(Destination::OciArchive { archive, tag: tag.clone() })
            }
            Location::DockerArchive { file, reference } => {
                let archive = DockerArchive::create(file, reference.clone()).map_err(DestinationError::from)?;
                Target::Local(Destination::DockerArchive(archive))
            }
        })
    }
}

/// Copies an image; what is not ours is read from `from`. Returns what was moved.
pub async fn copy(images: &ImageSet, from: &Source, to: Target, listener: &Listener) -> Result<Transfer, CopyError> {
    let copied = match to {
        Target::Repository { repository, tag } => {
            let copied = to_repository(images, from, &repository, tag.as_deref(), listener).await;
            tell_warnings(&repository, listener);
            copied
        }
        Target::Local(destination) => to_local(images, from, destination, listener).await,
    };
    if let Source::Repository(repository) = from {
        tell_warnings(repository, listener);
    }
    copied
}

/// What a registry warned of is told however the copy ended: it may be why.
fn tell_warnings(repository: &Repository, listener: &Listener) {
    for text in repository.take_warnings() {
        listener(Event::Warning(format!("registry {} says: {text}", repository.registry())));
    }
}

/// Each layer once, whatever number of platforms share it.
fn layers(images: &ImageSet) -> Vec<ImageLayer> {
    let all = images.images.iter().flat_map(|image| &image.layers);
    let unique: BTreeMap<Digest, &ImageLayer> = all.map(|layer| (layer.descriptor.digest, layer)).collect();
    unique.into_values().cloned().collect()
}

async fn to_repository(
    images: &ImageSet,
    from: &Source,
    repository: &Repository,
    tag: Option<&str>,
    listener: &Listener,
) -> Result<Transfer, CopyError> {
    let top = images.top();
    let key = tag.map_or_else(|| top.digest.to_string(), str::to_owned);
    listener(Event::Stage(format!("Sending to {}/{}", repository.registry(), repository.path())));
    let mut transfer = Transfer::default();
    let layers = layers(images);
    if repository.manifest_digest(&key).await? == Some(top.digest) {
        for layer in &layers {
            repository.remember_blob(layer.descriptor.digest, layer.descriptor.size_bytes);
            transfer.add(layer.descriptor.size_bytes, Moved::Skipped);
        }
        listener(Event::Note("the registry has this image".to_owned()));
        return Ok(transfer);
    }
    let moves = stream::iter(layers).map(|layer| async move { send_layer(&layer, from, repository, listener).await });
    let moved: Vec<Transfer> = moves.buffer_unordered(BLOBS_AT_ONCE).try_collect().await?;
    for one in moved {
        transfer.merge(one);
    }
    for image in &images.images {
        transfer.merge(send_document(&image.config, repository, listener).await?);
    }
    if images.index.is_some() {
        for image in &images.images {
            repository.put_manifest(&image.manifest.digest.to_string(), &image.manifest).await?;
        }
    }
    repository.put_manifest(&key, top).await?;
    Ok(transfer)
}

async fn send_layer(layer: &ImageLayer, from: &Source, to: &Repository, listener: &Listener) -> Result<Transfer, CopyError> {
    let (digest, size_bytes) = (layer.descriptor.digest, layer.descriptor.size_bytes);
    let mut transfer = Transfer::default();
    let mut done = |how, bytes| {
        transfer.add(bytes, how);
        listener(Event::Blob { digest, size_bytes, how });
    };
    if to.has_blob(digest, size_bytes).await? {
        to.forget_upload(digest, size_bytes);
        done(Moved::Skipped, size_bytes);
        return Ok(transfer);
    }
    let source = match (&layer.source, from) {
        (LayerSource::Elsewhere, Source::Repository(source)) if source.registry() == to.registry() => Some(source.path()),
        _ => None,
    };
    let session = match to.mount_from_any(digest, size_bytes, source).await? {
        Mount::Mounted => {
            done(Moved::Mounted, size_bytes);
            return Ok(transfer);
        }
        Mount::Session(opened) => Some(opened),
        Mount::NotPossible => None,
    };
    listener(Event::Expect { bytes: size_bytes });
    let body = |range: Range<u64>| body(layer, from, range);
    let told = AtomicU64::new(0);
    let progress = |progress: Progress| match progress {
        Progress::Sent { bytes } => {
            let before = told.fetch_max(bytes, Ordering::Relaxed);
            if bytes > before {
                listener(Event::Advance { bytes: bytes - before });
            }
        }
        Progress::Committing => {}
        Progress::Waiting { pause } => listener(Event::Note(format!("{}: trying again in {:.1} s", digest.short(), pause.as_secs_f32()))),
    };
    let uploaded = to.upload(digest, size_bytes, session, &body, &progress).await?;
    done(Moved::Sent, uploaded.sent_bytes);
    Ok(transfer)
}

async fn send_document(document: &Document, to: &Repository, listener: &Listener) -> Result<Transfer, CopyError> {
    let (digest, size_bytes) = (document.digest, document.size_bytes());
    let mut transfer = Transfer::default();
    let how = if to.has_blob(digest, size_bytes).await? {
        Moved::Skipped
    } else {
        let bytes = Bytes::copy_from_slice(&document.bytes);
        let body = move |range: Range<u64>| -> BodyStream {
            let piece = bytes.slice(range.start as usize..range.end as usize);
            stream::iter([Ok(piece)]).boxed()
        };
        to.upload(digest, size_bytes, None, &body, &|_| ()).await?;
        Moved::Sent
    };
    transfer.add(size_bytes, how);
    listener(Event::Blob { digest, size_bytes, how });
    Ok(transfer)
}

/// The bytes of a range of a layer's blob, opened anew for each try.
fn body(layer: &ImageLayer, from: &Source, range: Range<u64>) -> BodyStream {
    let digest = layer.descriptor.digest;
    let local = |blob: Blob| {
        let failed = move |source| -> Box<dyn Failure> { Box::new(LayerReadError { digest, source }) };
        blob.map_err(failed).boxed()
    };
    match &layer.source {
        LayerSource::Recipe(recipe) => {
            let recipe = recipe.clone();
            local(of_reader(move || Ok(Renderer::range(recipe, range))).boxed())
        }
        LayerSource::File(path) => {
            let path = path.clone();
            local(of_reader(move || file_range(&path, range)).boxed())
        }
        LayerSource::Remake(recipe, compression, scratch) => {
            let (recipe, compression, scratch) = (recipe.clone(), *compression, scratch.clone());
            local(of_reader(move || file_range(&remade(digest, &recipe, compression, &scratch)?, range)).boxed())
        }
        LayerSource::Elsewhere => from.blob_range(&layer.descriptor, range),
    }
}

/// A layer that was remembered and has to be sent after all; an error of its files stays one, whatever the way that it came.
fn remade(digest: Digest, recipe: &Arc<Recipe>, compression: Compression, scratch: &Path) -> io::Result<PathBuf> {
    seal::remake(digest, recipe, compression, scratch).map_err(|error| match error {
        SealError::Render(error) => error.into(),
        other => io::Error::other(other),
    })
}

fn file_range(path: &Path, range: Range<u64>) -> io::Result<io::Take<File>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    Ok(file.take(range.end - range.start))
}

async fn to_local(images: &ImageSet, from: &Source, mut to: Destination, listener: &Listener) -> Result<Transfer, CopyError> {
    listener(Event::Stage("Writing the image".to_owned()));
    let mut transfer = Transfer::default();
    for layer in layers(images) {
        let (digest, size_bytes) = (layer.descriptor.digest, layer.descriptor.size_bytes);
        listener(Event::Expect { bytes: size_bytes });
        let how;
        (to, how) = put_layer(to, layer, from).await?;
        transfer.add(size_bytes, how);
        listener(Event::Advance { bytes: size_bytes });
        listener(Event::Blob { digest, size_bytes, how });
    }
    let documents = images.clone();
    blocking(move || to.finish(&documents)).await??;
    Ok(transfer)
}

/// Puts one layer; the destination goes to the blocking thread and comes back.
async fn put_layer(mut to: Destination, layer: ImageLayer, from: &Source) -> Result<(Destination, Moved), CopyError> {
    let digest = layer.descriptor.digest;
    let descriptor = layer.descriptor.clone();
    let ours;
    (to, ours) = blocking(move || {
        if to.has_blob(&digest)? {
            return Ok::<_, DestinationError>((to, Some(Moved::Skipped)));
        }
        let put = to.put_layer(&layer)?;
        Ok((to, put.then_some(Moved::Sent)))
    })
    .await??;
    if let Some(how) = ours {
        return Ok((to, how));
    }
    let blob = from.blob(&descriptor).await?;
    let mut reader = SyncIoBridge::new(StreamReader::new(blob));
    let put = blocking(move || to.put_blob(&descriptor, &mut reader).map(|()| to)).await?;
    Ok((put?, Moved::Sent))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CopyError> {
    tokio::task::spawn_blocking(work).await.map_err(CopyError::Stopped)
}
