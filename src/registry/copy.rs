//! The one verb that moves images: `copy(image, from, to)`.
//!
//! Push, `--to`, an upload's last stage, `hs base import`: all of them are this. Ask what is there, mount what the registry has elsewhere, send what is
//! missing as a stream, then the config, the manifests, and the tag last: whoever asks for the tag finds a whole image or the one before. Nothing is
//! re-serialised and no blob is held in memory.
//!
//! What must stay true: a destination that has the image is asked once and sent nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::ahead::{Named, Sent};
use super::client::{Access, Registries, Repository};
use super::error::RegistryError;
use super::send_layer::{LAYERS_AT_ONCE, has_blob, missing_by_403, send_layer};
use super::source::{Source, SourceError};
use super::wire::BodyStream;
use crate::disk::destination::{Destination, DestinationError};
use crate::disk::docker_archive::DockerArchive;
use crate::disk::layout::Layout;
use crate::disk::oci_archive::OciArchive;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::image::{ImageLayer, ImageSet};
use crate::oci::location::Location;
use crate::oci::manifest::Document;
use crate::progress::{Event, Listener, Moved, Transfer};

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

impl Target {
    /// The repository, where it is one.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Target::Repository { repository, .. } => Some(repository),
            Target::Local(_) => None,
        }
    }

    /// Asks what a copy asks first: what the tag names. A registry that cannot be reached, or lets nobody in, is met here, before there is an image.
    pub async fn ask(&self) -> Result<Named, RegistryError> {
        let Target::Repository { repository, tag: Some(tag) } = self else { return Ok(Named::NotAsked) };
        Ok(named(repository, tag).await?.map_or(Named::Nothing, Named::Image))
    }

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
    copy_rest(images, from, to, &Sent::default(), listener).await
}

/// Copies an image of which some layers have been `sent` to the registry before. What was moved counts them in. Where the tag was asked for before, a tag that
/// somebody else has moved since is as if he had moved it after us.
pub async fn copy_rest(images: &ImageSet, from: &Source, to: Target, sent: &Sent, listener: &Listener) -> Result<Transfer, CopyError> {
    let copied = match to {
        Target::Repository { repository, tag } => {
            let copied = to_repository(images, from, &repository, tag.as_deref(), sent, listener).await;
            if let Err(error) = &copied {
                let error = if let CopyError::Registry(error) = error { Some(error) } else { None };
                repository.give_up_uploads(error).await;
            }
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
pub(super) fn tell_warnings(repository: &Repository, listener: &Listener) {
    for text in repository.take_warnings() {
        listener(Event::Warning(text));
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
    sent: &Sent,
    listener: &Listener,
) -> Result<Transfer, CopyError> {
    let top = images.top();
    let key = tag.map_or_else(|| top.digest.to_string(), str::to_owned);
    listener(Event::Stage(format!("Sending to {}/{}", repository.registry(), repository.path())));
    let mut transfer = sent.total();
    let layers: Vec<ImageLayer> = layers(images).into_iter().filter(|layer| !sent.has(&layer.descriptor.digest)).collect();
    let present = match sent.named {
        Named::Image(digest) => Some(digest),
        Named::Nothing => None,
        Named::NotAsked => named(repository, &key).await?,
    };
    if present == Some(top.digest) {
        for layer in &layers {
            repository.remember_blob(layer.descriptor.digest, layer.descriptor.size_bytes);
            transfer.add(layer.descriptor.size_bytes, Moved::Skipped);
        }
        listener(Event::Note("the registry has this image".to_owned()));
        return Ok(transfer);
    }
    let moves = stream::iter(layers).map(|layer| async move { send_layer(&layer, from, repository, listener).await });
    let moved: Vec<Transfer> = moves.buffer_unordered(LAYERS_AT_ONCE).try_collect().await?;
    for one in moved {
        transfer.merge(one);
    }
    for image in &images.images {
        transfer.merge(send_document(&image.config, repository, listener).await?);
    }
    while let Err(error) = put_manifests(images, repository, &key).await {
        transfer.merge(send_missing(&error, images, from, repository, listener).await?.ok_or(error)?);
    }
    Ok(transfer)
}

async fn named(repository: &Repository, key: &str) -> Result<Option<Digest>, RegistryError> {
    repository.manifest_digest(key).await.or_else(|error| missing_by_403(error, None))
}

/// Puts the manifests, the one that the tag names last.
async fn put_manifests(images: &ImageSet, repository: &Repository, key: &str) -> Result<(), RegistryError> {
    if images.index.is_some() {
        for image in &images.images {
            repository.put_manifest(&image.manifest.digest.to_string(), &image.manifest).await?;
        }
    }
    repository.put_manifest(key, images.top()).await
}

/// Sends what the registry said that it has, and has not by the `error` with which it refused a manifest; nothing where that is no such error.
async fn send_missing(
    error: &RegistryError,
    images: &ImageSet,
    from: &Source,
    repository: &Repository,
    listener: &Listener,
) -> Result<Option<Transfer>, CopyError> {
    let layers = layers(images);
    let blobs = layers.iter().map(|layer| (layer.descriptor.digest, layer.descriptor.size_bytes));
    let configs = images.images.iter().map(|image| (image.config.digest, image.config.size_bytes()));
    let missing = repository.missing(error, &blobs.chain(configs).collect::<Vec<_>>()).await;
    if missing.is_empty() {
        return Ok(None);
    }
    listener(Event::Note("the registry does not have what it said that it has: it is sent".to_owned()));
    let mut transfer = Transfer::default();
    for layer in layers.iter().filter(|layer| missing.contains(&layer.descriptor.digest)) {
        transfer.merge(send_layer(layer, from, repository, listener).await?);
    }
    for image in images.images.iter().filter(|image| missing.contains(&image.config.digest)) {
        transfer.merge(send_document(&image.config, repository, listener).await?);
    }
    Ok(Some(transfer))
}

async fn send_document(document: &Document, to: &Repository, listener: &Listener) -> Result<Transfer, CopyError> {
    let (digest, size_bytes) = (document.digest, document.size_bytes());
    let mut transfer = Transfer::default();
    let how = if has_blob(to, digest, size_bytes).await? {
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
