//! A planned layer, sealed: what is remembered of it is believed, else its files are sampled where that decides how it is compressed, and read once.
//!
//! The one place where a plan's [`Packing`] becomes a [`Compression`](crate::oci::image::Compression).

use std::path::Path;
use std::sync::Arc;

use super::sample::sample;
use super::seal::{SealError, seal};
use super::seal_cache::{Remembered, SealCache};
use crate::model::packing::{Packing, Sample};
use crate::oci::image::{Compression, LayerSource, Purpose, SealedLayer};
use crate::oci::layer::Recipe;

/// A layer that has a name, and how it got it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// The layer.
    pub layer: SealedLayer,
    /// What the sample of its files said, where that decided how it is compressed.
    pub sample: Option<Sample>,
    /// Whether its files were read for it.
    pub was_read: bool,
}

/// Seals a layer, unless it is remembered from an earlier build; `scratch` and `progress` as in [`seal`].
pub fn seal_planned(
    recipe: &Arc<Recipe>,
    packing: Packing,
    purpose: Purpose,
    scratch: &Path,
    cache: Option<&SealCache>,
    progress: &dyn Fn(u64),
) -> Result<Sealed, SealError> {
    if let Some(remembered) = cache.and_then(|cache| cache.find(recipe, packing)) {
        progress(recipe.size_bytes());
        let Remembered { digest, size_bytes, diff_id, compression, sample } = remembered;
        let source = match compression {
            Compression::None => LayerSource::Recipe(recipe.clone()),
            Compression::Gzip | Compression::Zstd => LayerSource::Remake(recipe.clone(), compression, scratch.to_owned()),
        };
        let layer = SealedLayer { digest, size_bytes, diff_id, compression, purpose, source };
        return Ok(Sealed { layer, sample, was_read: false });
    }
    let (compression, sample) = match packing {
        Packing::As(compression) => (compression, None),
        Packing::Sampled(compression) => {
            let sample = sample(recipe)?;
            (if sample.shrinks() { compression } else { Compression::None }, Some(sample))
        }
    };
    let layer = seal(recipe.clone(), compression, purpose, scratch, progress)?;
    if let Some(cache) = cache {
        cache.remember(recipe, packing, &layer, sample);
    }
    Ok(Sealed { layer, sample, was_read: true })
}
