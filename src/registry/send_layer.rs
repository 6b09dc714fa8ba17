//! One layer to a registry: asked for, mounted, or sent.
//!
//! The blob stage of `copy.rs` and of `ahead.rs`. A layer that the registry has is asked for once; one that another of its repositories has is mounted; only
//! then are bytes read, as a stream, from wherever the layer is.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use reqwest::StatusCode;

use super::client::Repository;
use super::error::RegistryError;
use super::mount::Mount;
use super::source::{Blob, Source};
use super::upload::Progress;
use super::wire::BodyStream;
use crate::disk::render::{Renderer, render_error};
use crate::disk::seal::{self, SealError};
use crate::disk::splice_reader::SpliceReader;
use crate::disk::stream::of_reader;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::image::{ImageLayer, LayerSource};
use crate::oci::layer::Recipe;
use crate::progress::{Event, Listener, Moved, Transfer};

/// How many layers are sent at once: enough to hide each other's round trips and commits.
pub(super) const LAYERS_AT_ONCE: usize = 4;

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

/// Whether a blob is there.
pub(super) async fn has_blob(repository: &Repository, digest: Digest, size_bytes: u64) -> Result<bool, RegistryError> {
    repository.has_blob(digest, size_bytes).await.or_else(|error| missing_by_403(error, false))
}

/// Some registries answer 403 for what is not there (Artifactory does; go-containerregistry goes on, too). Whether we may push shows when we do.
pub(super) fn missing_by_403<T>(error: RegistryError, missing: T) -> Result<T, RegistryError> {
    if error.status() == Some(StatusCode::FORBIDDEN) { Ok(missing) } else { Err(error) }
}

/// Brings a layer to `to`; one that is not ours is read from `from`.
pub(super) async fn send_layer(layer: &ImageLayer, from: &Source, to: &Repository, listener: &Listener) -> Result<Transfer, RegistryError> {
    let (digest, size_bytes) = (layer.descriptor.digest, layer.descriptor.size_bytes);
    let mut transfer = Transfer::default();
    let mut done = |how, bytes| {
        transfer.add(bytes, how);
        listener(Event::Blob { digest, size_bytes, how });
    };
    if has_blob(to, digest, size_bytes).await? {
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
        LayerSource::Splice(splice) => {
            let splice = splice.clone();
            local(of_reader(move || Ok(SpliceReader::range(splice, range))).boxed())
        }
        LayerSource::File(path) => {
            let path = path.clone();
            local(of_reader(move || file_range(&path, range)).boxed())
        }
        LayerSource::Remake(recipe, scratch) => {
            let (recipe, scratch) = (recipe.clone(), scratch.clone());
            local(of_reader(move || file_range(&remade(digest, &recipe, &scratch)?, range)).boxed())
        }
        LayerSource::Elsewhere => from.blob_range(&layer.descriptor, range),
    }
}

/// A layer that was remembered and has to be sent after all; an error of its files stays one, whatever the way that it came.
fn remade(digest: Digest, recipe: &Arc<Recipe>, scratch: &Path) -> io::Result<PathBuf> {
    seal::remake(digest, recipe, scratch).map_err(|error| match error {
        SealError::Render(error) => error.into(),
        other => io::Error::other(other),
    })
}

fn file_range(path: &Path, range: Range<u64>) -> io::Result<io::Take<File>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    Ok(file.take(range.end - range.start))
}
