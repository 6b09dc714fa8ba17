//! Where an image is read from: one reader over registries, layouts, archives and the store.
//!
//! A [`Source`] answers for the documents and blobs of images by key and by digest, whatever holds them; [`load`] reads a whole image's documents from it.
//! Blobs come as streams, verified by whoever gives them. It writes nothing: that is `copy.rs`.

use std::fs;
use std::io::{self, Read as _};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::client::{Access, Registries, Repository};
use super::error::RegistryError;
use super::wire::BodyStream;
use crate::disk::docker_archive_read::{self, DockerArchiveReadError};
use crate::disk::layout::{Layout, LayoutError};
use crate::disk::oci_archive::{self, OciArchiveError};
use crate::disk::store::{Store, StoreError};
use crate::disk::stream::of_reader;
use crate::fault::{Failure, Fault};
use crate::oci::config::{CONFIG_BYTES_MAX, ConfigError, ImageConfig};
use crate::oci::digest::Digest;
use crate::oci::image::{IMAGE_LABEL, Image, ImageLayer, ImageSet, LayerSource, Purpose};
use crate::oci::location::Location;
use crate::oci::manifest::{Descriptor, Document, Index, Manifest, ManifestError, Pulled};
use crate::oci::platform::Platform;

/// Where an image is read from.
#[derive(Clone)]
pub enum Source {
    /// Nowhere: an image without a base needs nothing.
    Nowhere,
    /// A repository of a registry.
    Repository(Repository),
    /// A layout folder.
    Layout(Arc<OpenLayout>),
    /// A repository of the data folder's store.
    Store {
        /// The store.
        store: Arc<Store>,
        /// The repository's name.
        repository: String,
    },
}

/// A layout folder; where it is an unpacked archive, the folder goes with the value.
pub struct OpenLayout {
    layout: Layout,
    _unpacked: Option<tempfile::TempDir>,
}

/// A blob on its way.
pub type Blob = BoxStream<'static, io::Result<Bytes>>;

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] OciArchiveError),
    /// There is no place to unpack an archive.
    #[error("making a temporary folder for the archive")]
    Scratch(#[source] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest that is no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A config that is no config.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing has this name.
    #[error("`{0}` is not there")]
    Missing(String),
    /// A small document that is large.
    #[error("blob {digest} has {size_bytes} bytes; at most {limit_bytes} are read here")]
    TooLarge {
        /// Which blob.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The Docker archive.
    #[error(transparent)]
    DockerArchive(#[from] DockerArchiveReadError),
    /// Manifest and config disagree.
    #[error("image {manifest} is not consistent: its manifest has {layers} layers, its config {diff_ids}")]
    Inconsistent {
        /// The manifest.
        manifest: Digest,
        /// Layers in it.
        layers: usize,
        /// Diff IDs in the config.
        diff_ids: usize,
    },
    /// The stream broke.
    #[error("reading blob {digest}")]
    Blob {
        /// Which blob.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Work in the background died.
    #[error("reading in the background stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl Failure for SourceError {
    fn fault(&self) -> Fault {
        match self {
            SourceError::Registry(error) => error.fault(),
            SourceError::Layout(error) => error.fault(),
            SourceError::Archive(error) => error.fault(),
            SourceError::Scratch(_) => Fault::Ours,
            SourceError::Store(error) => error.fault(),
            SourceError::Manifest(error) => error.fault(),
            SourceError::Config(error) => error.fault(),
            SourceError::Missing(_) => Fault::Missing,
            SourceError::DockerArchive(error) => error.fault(),
            SourceError::Inconsistent { .. } | SourceError::Blob { .. } | SourceError::TooLarge { .. } => Fault::Remote,
            SourceError::Stopped(_) => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            SourceError::Registry(error) => error.remedy(),
            SourceError::Layout(error) => error.remedy(),
            SourceError::Archive(error) => error.remedy(),
            SourceError::Store(error) => error.remedy(),
            SourceError::Manifest(error) => error.remedy(),
            SourceError::DockerArchive(error) => error.remedy(),
            _ => None,
        }
    }
}

impl Source {
    /// Opens a location for reading; the second value is the key of the image in it.
    pub async fn open(location: &Location, registries: &Registries) -> Result<(Source, String), SourceError> {
        match location {
            Location::Registry(reference) => {
                let repository = registries.repository(reference, Access::Pull)?;
                Ok((Source::Repository(repository), reference.manifest_key()))
            }
            Location::Layout { folder, tag } => {
                let (folder, tag) = (folder.clone(), tag.clone());
                blocking(move || open_layout(Layout::open(&folder)?, None, tag.as_deref())).await?
            }
            Location::OciArchive { file, tag } => {
                let (file, tag) = (file.clone(), tag.clone());
                blocking(move || {
                    let scratch = tempfile::Builder::new().prefix("hs-archive-").tempdir().map_err(SourceError::Scratch)?;
                    let layout = oci_archive::open(&file, scratch.path())?;
                    open_layout(layout, Some(scratch), tag.as_deref())
                })
                .await?
            }
            Location::DockerArchive { file, reference } => {
                let (file, reference) = (file.clone(), reference.clone());
                blocking(move || {
                    let scratch = tempfile::Builder::new().prefix("hs-archive-").tempdir().map_err(SourceError::Scratch)?;
                    let layout = docker_archive_read::open(&file, reference.as_ref(), scratch.path())?;
                    open_layout(layout, Some(scratch), None)
                })
                .await?
            }
        }
    }

    /// The manifest or index that `key` names: a tag, or a digest.
    pub async fn manifest(&self, key: &str) -> Result<Pulled, SourceError> {
        let missing = || SourceError::Missing(key.to_owned());
        match self {
            Source::Nowhere => Err(missing()),
            Source::Repository(repository) => Ok(repository.manifest(key).await?),
            Source::Layout(layout) => {
                let (layout, digest) = (layout.clone(), key.parse::<Digest>().map_err(|_| missing())?);
                let document = blocking(move || layout.document(digest)).await??;
                Ok(Pulled::parse(None, document.bytes)?)
            }
            Source::Store { store, repository } => {
                let (store, repository, key) = (store.clone(), repository.clone(), key.to_owned());
                let document = blocking(move || store.manifest(&repository, &key)).await??.ok_or_else(missing)?;
                Ok(Pulled::parse(Some(&document.media_type), document.bytes)?)
            }
        }
    }

    /// The bytes of a small blob, verified.
    pub async fn bytes(&self, descriptor: &Descriptor, bytes_max: u64) -> Result<Vec<u8>, SourceError> {
        let digest = descriptor.digest;
        match self {
            Source::Nowhere => Err(SourceError::Missing(digest.to_string())),
            Source::Repository(repository) => Ok(repository.blob_bytes(descriptor, bytes_max).await?),
            Source::Layout(layout) => {
                let (layout, descriptor) = (layout.clone(), descriptor.clone());
                if descriptor.size_bytes > bytes_max {
                    return Err(SourceError::TooLarge { digest, size_bytes: descriptor.size_bytes, limit_bytes: bytes_max });
                }
                let read = move || {
                    let mut bytes = Vec::new();
                    layout.layout.open_blob(&descriptor)?.read_to_end(&mut bytes).map_err(|source| SourceError::Blob { digest, source })?;
                    Ok::<_, SourceError>(bytes)
                };
                blocking(read).await?
            }
            Source::Store { store, .. } => {
                let store = store.clone();
                let bytes = blocking(move || store.read(&digest, bytes_max)).await??;
                bytes.ok_or_else(|| SourceError::Missing(digest.to_string()))
            }
        }
    }

    /// The bytes of a blob as a stream, which fails before its end where they are not what the descriptor says.
    pub async fn blob(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        match self {
            // What is wrong at once is said at once, and not in the middle of something.
            Source::Repository(repository) => Ok(repository.blob(descriptor).await?.map_err(io::Error::other).boxed()),
            _ => Ok(self.blob_range(descriptor, 0..descriptor.size_bytes).map_err(io::Error::other).boxed()),
        }
    }

    /// The bytes of a range of a blob. The whole is verified while it is read; a part cannot be.
    pub fn blob_range(&self, descriptor: &Descriptor, range: Range<u64>) -> BodyStream {
        let digest = descriptor.digest;
        let failed = move |source: io::Error| -> Box<dyn Failure> { Box::new(SourceError::Blob { digest, source }) };
        match self {
            Source::Nowhere => stream::iter([Err(Box::new(SourceError::Missing(digest.to_string())) as Box<dyn Failure>)]).boxed(),
            Source::Repository(repository) => {
                let boxed = |error: RegistryError| -> Box<dyn Failure> { Box::new(error) };
                repository.blob_range(descriptor, range).map_err(boxed).boxed()
            }
            Source::Layout(layout) => {
                let (layout, descriptor) = (layout.clone(), descriptor.clone());
                let open = move || {
                    let mut reader = layout.layout.open_blob(&descriptor).map_err(io::Error::other)?;
                    io::copy(&mut reader.by_ref().take(range.start), &mut io::sink())?;
                    Ok(reader.take(range.end - range.start))
                };
                of_reader(open).map_err(failed).boxed()
            }
            Source::Store { store, .. } => {
                let store = store.clone();
                of_reader(move || store.open_range(&digest, range).map_err(io::Error::other)).map_err(failed).boxed()
            }
        }
    }
}

impl OpenLayout {
    /// A document by its digest alone: the file's own size stands in for the descriptor's, and the digest is checked.
    fn document(&self, digest: Digest) -> Result<Document, LayoutError> {
        let path = self.layout.root().join("blobs/sha256").join(digest.hex());
        let size_bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        self.layout.document(&Descriptor::new("", digest, size_bytes))
    }
}

fn open_layout(layout: Layout, unpacked: Option<tempfile::TempDir>, tag: Option<&str>) -> Result<(Source, String), SourceError> {
    let key = layout.top(tag)?.digest.to_string();
    Ok((Source::Layout(Arc::new(OpenLayout { layout, _unpacked: unpacked })), key))
}

/// Reads the documents of an image: of all its platforms, or of the one that is wanted.
pub async fn load(source: &Source, key: &str, wanted: Option<&Platform>) -> Result<ImageSet, SourceError> {
    let index = match source.manifest(key).await? {
        Pulled::Manifest(manifest) => {
            return Ok(ImageSet { index: None, images: vec![load_image(source, manifest).await?] });
        }
        Pulled::Index(index) => index,
    };
    let chosen = match wanted {
        Some(platform) => vec![index.choose(platform)?.clone()],
        None => index.images().map(|(_, descriptor)| descriptor.clone()).collect(),
    };
    let mut images = Vec::new();
    for descriptor in chosen {
        images.push(load_image(source, single(source, &descriptor).await?).await?);
    }
    if images.is_empty() {
        return Err(Index::choose(&index, &Platform::linux_amd64())
            .err()
            .map_or(SourceError::Missing(key.to_owned()), SourceError::Manifest));
    }
    // One of several is no longer the index.
    let index = wanted.is_none().then_some(index.document);
    Ok(ImageSet { index, images })
}

async fn single(source: &Source, descriptor: &Descriptor) -> Result<Manifest, SourceError> {
    match source.manifest(&descriptor.digest.to_string()).await? {
        Pulled::Manifest(manifest) => Ok(manifest),
        Pulled::Index(index) => Err(ManifestError::Unsupported { digest: descriptor.digest, media_type: index.document.media_type }.into()),
    }
}

async fn load_image(source: &Source, manifest: Manifest) -> Result<Image, SourceError> {
    let bytes = source.bytes(&manifest.config, CONFIG_BYTES_MAX).await?;
    let config = ImageConfig::parse(&bytes)?;
    let diff_ids = config.diff_ids();
    if diff_ids.len() != manifest.layers.len() {
        let (layers, diff_ids) = (manifest.layers.len(), diff_ids.len());
        return Err(SourceError::Inconsistent { manifest: manifest.document.digest, layers, diff_ids });
    }
    let purposes = purposes(&config, diff_ids.len());
    let layers = manifest.layers.iter().zip(diff_ids).zip(purposes).map(|((descriptor, diff_id), purpose)| ImageLayer {
        descriptor: descriptor.clone(),
        diff_id,
        purpose,
        source: LayerSource::Elsewhere,
    });
    Ok(Image {
        platform: config.platform(),
        layers: layers.collect(),
        config: Document::new(&manifest.config.media_type, bytes),
        manifest: manifest.document,
    })
}

/// What each layer is for, from our label; all of a stranger's layers are base.
fn purposes(config: &ImageConfig, layers: usize) -> Vec<Purpose> {
    let label = config.labels().remove(IMAGE_LABEL).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let ours = label.as_ref().and_then(|label| label.get("layers")?.as_array()).map(Vec::as_slice).unwrap_or_default();
    let base = layers.saturating_sub(ours.len());
    let word = |value: &serde_json::Value| match value.as_str() {
        Some("contract") => Purpose::Contract,
        Some("requirements") => Purpose::Requirements,
        Some("bytecode") => Purpose::Bytecode,
        Some("files") => Purpose::Files,
        _ => Purpose::Base,
    };
    std::iter::repeat_n(Purpose::Base, base).chain(ours.iter().map(word)).take(layers).collect()
}

/// Disk work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work).await.map_err(SourceError::Stopped)
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Nowhere => f.write_str("nowhere"),
            Source::Repository(repository) => write!(f, "{}/{}", repository.registry(), repository.path()),
            Source::Layout(layout) => write!(f, "oci:{}", layout.layout.root().display()),
            Source::Store { repository, .. } => write!(f, "the store's {repository}"),
        }
    }
}
