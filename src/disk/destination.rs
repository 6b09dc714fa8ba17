//! Where an image can be put on this machine.
//!
//! One shape for the four places, so that a copy need not know which it writes to: ask for a blob, put it, and finish with the documents
//! and the name. What can be known of a place before there is an image is told before ([`check`]). Registries are elsewhere; they are
//! asynchronous and can mount.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::docker_archive::{DockerArchive, DockerArchiveError};
use super::layout::{Layout, LayoutError};
use super::oci_archive::{OciArchive, OciArchiveError};
use super::render::Renderer;
use super::seal::{self, SealError};
use super::splice_reader::SpliceReader;
use super::store::{Store, StoreError};
use super::tar_file;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::image::{ImageLayer, ImageSet, LayerSource};
use crate::oci::layer::Recipe;
use crate::oci::location::Location;
use crate::oci::manifest::{Descriptor, Document};

/// A place for one image.
pub enum Destination {
    /// `oci:DIR[:TAG]`.
    Layout {
        /// The folder.
        layout: Layout,
        /// What the image is called in it.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`.
    OciArchive {
        /// The archive.
        archive: OciArchive,
        /// What the image is called in it.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:REF]`.
    DockerArchive(DockerArchive),
    /// A repository of our own store, as the embedded registry serves it.
    Store {
        /// The store.
        store: Arc<Store>,
        /// The repository.
        repository: String,
        /// The tag; without one the image is there by its digest.
        tag: Option<String>,
        /// Whether the tag stays as it is from then on: a model's version.
        keep: bool,
    },
}

/// Why an image cannot be put.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// A layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An OCI archive.
    #[error(transparent)]
    OciArchive(#[from] OciArchiveError),
    /// A Docker archive.
    #[error(transparent)]
    DockerArchive(#[from] DockerArchiveError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A compressed layer cannot be made again.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The file of a compressed layer.
    #[error("cannot open the layer `{}`", .path.display())]
    Layer {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl DestinationError {
    fn inner(&self) -> Option<&dyn Failure> {
        match self {
            DestinationError::Layout(error) => Some(error),
            DestinationError::OciArchive(error) => Some(error),
            DestinationError::DockerArchive(error) => Some(error),
            DestinationError::Store(error) => Some(error),
            DestinationError::Seal(error) => Some(error),
            DestinationError::Layer { .. } => None,
        }
    }
}

impl Failure for DestinationError {
    fn fault(&self) -> Fault {
        self.inner().map_or(Fault::Ours, Failure::fault)
    }

    fn remedy(&self) -> Option<String> {
        self.inner().and_then(Failure::remedy)
    }
}

/// Refuses a local place that takes no image, by what can be known before; nothing is made. A registry is not asked.
pub fn check(location: &Location) -> Result<(), DestinationError> {
    match location {
        Location::Registry(_) => Ok(()),
        Location::Layout { folder, .. } => Ok(Layout::check(folder)?),
        Location::OciArchive { file, .. } => Ok(tar_file::check(file).map_err(OciArchiveError::from)?),
        Location::DockerArchive { file, .. } => Ok(tar_file::check(file).map_err(DockerArchiveError::from)?),
    }
}

impl Destination {
    /// Whether a blob is there already. A layout reads it to know.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, DestinationError> {
        match self {
            Destination::Layout { layout, .. } => Ok(layout.has_blob(digest)?),
            Destination::OciArchive { archive, .. } => Ok(archive.has_blob(digest)),
            Destination::DockerArchive(archive) => Ok(archive.has_blob(digest)),
            Destination::Store { store, .. } => Ok(store.renew(digest)?),
        }
    }

    /// Puts a layer from a stream, which must have the bytes that the descriptor says.
    pub fn put_blob(&mut self, descriptor: &Descriptor, source: &mut dyn Read) -> Result<(), DestinationError> {
        match self {
            Destination::Layout { layout, .. } => Ok(layout.put_blob(descriptor, source)?),
            Destination::OciArchive { archive, .. } => Ok(archive.put_blob(descriptor, source)?),
            Destination::DockerArchive(archive) => Ok(archive.put_blob(descriptor, source)?),
            Destination::Store { store, .. } => Ok(store.put_blob(descriptor, source)?),
        }
    }

    /// Puts a layer of ours, from its recipe or its file; the store keeps a recipe over content that it has as a recipe. `false` where the
    /// layer is neither: then its bytes have to come from where the image was read.
    pub fn put_layer(&mut self, layer: &ImageLayer) -> Result<bool, DestinationError> {
        match &layer.source {
            LayerSource::Elsewhere => Ok(false),
            LayerSource::Recipe(recipe) => {
                let kept = match self {
                    Destination::Store { store, .. } if is_content(store, recipe) => {
                        store.put_recipe(&layer.descriptor.digest, recipe)?;
                        true
                    }
                    _ => false,
                };
                if !kept {
                    self.put_blob(&layer.descriptor, &mut Renderer::new(recipe.clone()))?;
                }
                Ok(true)
            }
            LayerSource::Splice(splice) => {
                match self {
                    Destination::Store { store, .. } => store.put_splice(&layer.descriptor.digest, splice)?,
                    _ => self.put_blob(&layer.descriptor, &mut SpliceReader::new(splice.clone()))?,
                }
                Ok(true)
            }
            LayerSource::File(path) => self.put_file(&layer.descriptor, path),
            LayerSource::Remake(recipe, compression, scratch) => {
                let path = seal::remake(layer.descriptor.digest, recipe, *compression, scratch)?;
                self.put_file(&layer.descriptor, &path)
            }
        }
    }

    fn put_file(&mut self, descriptor: &Descriptor, path: &Path) -> Result<bool, DestinationError> {
        if let Destination::Store { store, .. } = self
            && store.put_staged(descriptor, path)?
        {
            return Ok(true);
        }
        let mut file = std::fs::File::open(path).map_err(|source| DestinationError::Layer { path: path.to_owned(), source })?;
        self.put_blob(descriptor, &mut file)?;
        Ok(true)
    }

    /// Puts the documents of an image whose layers have been put, and its name last.
    pub fn finish(self, set: &ImageSet) -> Result<(), DestinationError> {
        match self {
            Destination::Layout { layout, tag } => Ok(layout.finish(set, tag.as_deref())?),
            Destination::OciArchive { archive, tag } => Ok(archive.finish(set, tag.as_deref())?),
            Destination::DockerArchive(archive) => Ok(archive.finish(set)?),
            Destination::Store { store, repository, tag, keep } => {
                finish_in_store(&store, &repository, set, tag.as_deref())?;
                match tag.filter(|_| keep) {
                    Some(tag) => Ok(store.keep_tag(&repository, &tag)?),
                    None => Ok(()),
                }
            }
        }
    }
}

fn is_content(store: &Store, recipe: &Recipe) -> bool {
    use crate::oci::layer::{Content, EntryKind};
    recipe.entries().iter().all(|entry| match &entry.kind {
        EntryKind::File { content: Content::Local(file), .. } => file.digest.is_some() && file.path.starts_with(store.root()),
        _ => true,
    })
}

fn finish_in_store(store: &Store, repository: &str, set: &ImageSet, tag: Option<&str>) -> Result<(), StoreError> {
    for layer in set.images.iter().flat_map(|image| &image.layers) {
        if !store.renew(&layer.descriptor.digest)? {
            return Err(StoreError::Missing(layer.descriptor.digest));
        }
    }
    let by_digest = |document: &Document| store.put_manifest(repository, &document.digest.to_string(), document);
    for image in &set.images {
        store.put_bytes(&image.config.bytes)?;
        by_digest(&image.manifest)?;
    }
    set.index.as_ref().map_or(Ok(()), by_digest)?;
    match tag {
        Some(tag) => store.put_manifest(repository, tag, set.top()),
        None => Ok(()),
    }
}
