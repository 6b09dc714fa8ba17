//! A base image from root file systems: layers and a config, nothing of a model.
//!
//! For `hs base import`. The config starts from what the recipe of the base says (JSON with `architecture`, `os`, `config`) and gets the layers; the
//! manifest is OCI's, canonical, without annotations, so that equal root file systems give equal digests. And for images out of Docker archives, which have a
//! config but no manifest.

use serde_json::{Map, Value, json};

use super::config::{ConfigError, ImageConfig};
use super::image::{Compression, Image, ImageLayer, SealedLayer};
use super::json::canonical;
use super::manifest::{Descriptor, Document, media};

/// Assembles a base of `layers`; `start` is the image config to begin with, `created` the instant of its history, RFC 3339.
pub fn assemble(start: &[u8], layers: &[SealedLayer], created: &str) -> Result<Image, ConfigError> {
    let mut config = ImageConfig::parse(&with_root_fs(start))?;
    let history: Vec<_> = layers.iter().map(|layer| (layer.diff_id, "a root file system".to_owned())).collect();
    config.append_layers(&history, created);
    Ok(image(&config, config.to_bytes(), layers, false))
}

/// The image of Docker's that has this config, as it is, and these layers: what a Docker archive holds. One with a layer that Docker has no word for is OCI's.
pub fn of_docker(config: Vec<u8>, layers: &[SealedLayer]) -> Result<Image, ConfigError> {
    let is_docker = layers.iter().all(|layer| layer.compression != Compression::Zstd);
    Ok(image(&ImageConfig::parse(&config)?, config, layers, is_docker))
}

fn image(config: &ImageConfig, bytes: Vec<u8>, layers: &[SealedLayer], is_docker: bool) -> Image {
    let layer = |layer: &SealedLayer| {
        let media_type = match layer.compression {
            Compression::None if is_docker => media::DOCKER_LAYER,
            Compression::Gzip if is_docker => media::DOCKER_LAYER_GZIP,
            Compression::None => media::OCI_LAYER,
            Compression::Gzip => media::OCI_LAYER_GZIP,
            Compression::Zstd => media::OCI_LAYER_ZSTD,
        };
        ImageLayer {
            descriptor: Descriptor::new(media_type, layer.digest, layer.size_bytes),
            diff_id: layer.diff_id,
            purpose: layer.purpose,
            source: layer.source.clone(),
        }
    };
    let layers: Vec<ImageLayer> = layers.iter().map(layer).collect();
    let (config_type, manifest_type) =
        if is_docker { (media::DOCKER_CONFIG, media::DOCKER_MANIFEST) } else { (media::OCI_CONFIG, media::OCI_MANIFEST) };
    let document = Document::new(config_type, bytes);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": document.descriptor(),
        "layers": layers.iter().map(|layer| &layer.descriptor).collect::<Vec<_>>(),
    });
    let manifest = Document::new(manifest_type, canonical(&manifest));
    Image { platform: config.platform(), manifest, config: document, layers }
}

/// The recipe's config names no layers; what is no JSON object stays as it is, for the parser to refuse.
fn with_root_fs(start: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Map<String, Value>>(start) {
        Ok(mut root) => {
            root.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": []}));
            root.remove("history");
            canonical(&root)
        }
        Err(_) => start.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::Digest;
    use super::super::image::{LayerSource, Purpose};
    use super::*;

    #[test]
    fn what_the_recipe_says_and_the_layers() {
        let layer = SealedLayer {
            digest: Digest::of(b"blob"),
            size_bytes: 4,
            diff_id: Digest::of(b"tar"),
            compression: Compression::Gzip,
            purpose: Purpose::Base,
            source: LayerSource::Elsewhere,
        };
        let start = br#"{"os": "linux", "architecture": "amd64", "config": {"User": "42069"}}"#;
        let image = assemble(start, std::slice::from_ref(&layer), "1970-01-01T00:00:00Z").unwrap();
        let config = ImageConfig::parse(&image.config.bytes).unwrap();
        assert_eq!(config.diff_ids(), [layer.diff_id]);
        assert_eq!(config.inner("User"), Some(&json!("42069")));
        assert_eq!(assemble(start, std::slice::from_ref(&layer), "1970-01-01T00:00:00Z").unwrap().manifest.digest, image.manifest.digest);
        assert!(assemble(b"[]", &[], "").is_err());
        // A config that is there already stays as it is, and the family is Docker's as far as that has words.
        let kept = br#"{"os":"linux", "architecture":"amd64", "rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec();
        let image = of_docker(kept.clone(), &[]).unwrap();
        assert_eq!((image.config.bytes, image.manifest.media_type.as_str()), (kept.clone(), media::DOCKER_MANIFEST));
        let zstd = SealedLayer { compression: Compression::Zstd, ..layer };
        assert_eq!(of_docker(kept, &[zstd]).unwrap().manifest.media_type, media::OCI_MANIFEST);
    }
}
