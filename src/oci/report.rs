//! An image as JSON, as commands print it and builds keep it (interface, section 2).
//!
//! Values only: it is written and never read, and no digest hangs on it.

use serde_json::{Value, json};

use super::image::{Image, ImageLayer};

/// A layer, as `hs build` and `hs inspect` print it.
pub fn layer(layer: &ImageLayer) -> Value {
    json!({
        "digest": layer.descriptor.digest,
        "diff_id": layer.diff_id,
        "size_bytes": layer.descriptor.size_bytes,
        "media_type": layer.descriptor.media_type,
        "purpose": layer.purpose.word(),
    })
}

/// An image on one platform.
pub fn image(image: &Image) -> Value {
    json!({
        "platform": image.platform.to_string(),
        "digest": image.manifest.digest,
        "config_digest": image.config.digest,
        "layers": image.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}
