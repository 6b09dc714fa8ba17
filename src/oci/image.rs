//! An image: the base's layers unchanged and in order, then ours; its config and its manifest, as bytes.
//!
//! [`append`] is the one place where a model image comes into being. It is a pure function: a base (its manifest and config, never
//! its layers' bytes), our layers with their digests, and what to say about them, give the image with its digest. What is
//! written: canonical JSON only, in the base's family and never in a mixture.
//!
//! What must stay true: the base's descriptors come out as they went in (but for the change of family, which is said), and
//! equal arguments give equal bytes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::{ConfigEdits, ImageConfig};
use super::digest::Digest;
use super::json::canonical;
use super::layer::Recipe;
use super::manifest::{Descriptor, Document, Family, Manifest, media};
use super::platform::Platform;
use super::splice::Splice;
use crate::fault::{Failure, Fault};

/// The label that says how an image was made (interface, "Config").
pub const IMAGE_LABEL: &str = "io.lamina.image";
/// The most layers that an image may have: overlay file systems stop between 121 and 131 (images and registries).
pub const LAYERS_MAX: usize = 100;

/// What an image is built on.
#[derive(Clone, Debug, PartialEq)]
pub struct Base {
    /// The canonical name of the runtime list, where the base is one of it.
    pub name: Option<String>,
    /// The digest of the index that the base was chosen from; the manifest's own where there was none.
    pub digest: Digest,
    /// The manifest for this platform.
    pub manifest: Manifest,
    /// Its config.
    pub config: ImageConfig,
}

/// How a layer's blob relates to its tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// The blob is the tar.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878; OCI has a word for it, Docker has none.
    Zstd,
}

impl Compression {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

/// What a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Came with the base.
    Base,
    /// The contract, alone.
    Contract,
    /// Files of the model.
    Files,
    /// Packages that the model requires.
    Requirements,
    /// Their bytecode.
    Bytecode,
}

impl Purpose {
    /// The word for it in the image label and in `--output json`.
    pub fn word(self) -> &'static str {
        match self {
            Purpose::Base => "base",
            Purpose::Contract => "contract",
            Purpose::Files => "files",
            Purpose::Requirements => "requirements",
            Purpose::Bytecode => "bytecode",
        }
    }
}

/// Where a layer's blob can be had.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerSource {
    /// From wherever the image, or its base, was read.
    Elsewhere,
    /// By rendering this recipe.
    Recipe(Arc<Recipe>),
    /// By reading the ranges that this splice names.
    Splice(Arc<Splice>),
    /// In this file.
    File(PathBuf),
    /// By sealing this recipe into this folder, compressed in this way: its digest is remembered, its bytes are not kept.
    Remake(Arc<Recipe>, Compression, PathBuf),
}

/// A layer of ours whose digest is known.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedLayer {
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob.
    pub size_bytes: u64,
    /// The digest of the tar.
    pub diff_id: Digest,
    /// How the blob relates to the tar.
    pub compression: Compression,
    /// What it is for.
    pub purpose: Purpose,
    /// Where the blob can be had.
    pub source: LayerSource,
}

/// A layer of a finished image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageLayer {
    /// As it stands in the manifest.
    pub descriptor: Descriptor,
    /// The digest of the tar.
    pub diff_id: Digest,
    /// What it is for.
    pub purpose: Purpose,
    /// Where the blob can be had.
    pub source: LayerSource,
}

/// An image for one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// What it runs on.
    pub platform: Platform,
    /// The manifest.
    pub manifest: Document,
    /// The config.
    pub config: Document,
    /// The layers, base first.
    pub layers: Vec<ImageLayer>,
}

/// What was made or pulled: one image, or one for each platform under an index.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSet {
    /// The index, where there is one.
    pub index: Option<Document>,
    /// The images; exactly one where there is no index, at least one in any case.
    pub images: Vec<Image>,
}

impl ImageSet {
    /// The document that a tag points at.
    pub fn top(&self) -> &Document {
        self.index.as_ref().unwrap_or(&self.images[0].manifest)
    }
}

/// What the finished image says about itself.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    /// The edits of the config: labels, environment, working folder.
    pub edits: ConfigEdits,
    /// `org.opencontainers.image.*` beyond the base's, without the prefix: annotations or labels, by the family.
    pub annotations: BTreeMap<String, String>,
    /// The layout word: `hydro` or `modelcar`.
    pub layout: String,
    /// The dialect of the contract, where there is one.
    pub dialect: Option<String>,
    /// The digest of the contract's bytes, where there is one.
    pub contract: Option<Digest>,
    /// The instant of everything, RFC 3339.
    pub created: String,
}

/// Why no image can be made on a base.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The manifest and the config of the base disagree.
    #[error("base {base} is not consistent: its manifest has {layers} layers, its config {diff_ids}")]
    Inconsistent {
        /// The base's manifest.
        base: Digest,
        /// Layers in the manifest.
        layers: usize,
        /// Diff IDs in the config.
        diff_ids: usize,
    },
    /// The base is a model image already.
    #[error("base {base} is itself a model image (`{model}`): its model's files would stay below ours")]
    ModelAsBase {
        /// The base's manifest.
        base: Digest,
        /// The model in it.
        model: String,
    },
    /// A layer in Docker's family that it has no word for.
    #[error("the base is an image of Docker's family, which has no word for a layer that is compressed with zstd")]
    DockerZstd,
    /// Too many layers.
    #[error("the image would have {layers} layers; more than {LAYERS_MAX} cannot be run everywhere")]
    TooManyLayers {
        /// How many.
        layers: usize,
    },
}

impl Failure for ImageError {
    fn fault(&self) -> Fault {
        match self {
            ImageError::Inconsistent { .. } => Fault::Remote,
            ImageError::ModelAsBase { .. } | ImageError::TooManyLayers { .. } => Fault::Invalid,
            ImageError::DockerZstd => Fault::Usage,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            ImageError::ModelAsBase { .. } => Some("name the runtime that this model image was built on".to_owned()),
            ImageError::TooManyLayers { .. } => Some("use a base with fewer layers".to_owned()),
            ImageError::DockerZstd => Some("use `--compression gzip`, or a base of OCI's family".to_owned()),
            ImageError::Inconsistent { .. } => None,
        }
    }
}

/// Puts `layers` on top of `base` (`None`: on nothing, for `platform`), and returns the image and what had to be said.
pub fn append(
    base: Option<&Base>,
    platform: &Platform,
    layers: &[SealedLayer],
    statement: &Statement,
) -> Result<(Image, Vec<String>), ImageError> {
    let mut warnings = Vec::new();
    let (family, base_layers) = match base {
        Some(base) => base_part(base, &mut warnings)?,
        None => (Family::Oci, Vec::new()),
    };
    check_number(base_layers.len() + layers.len())?;
    let mut ours = Vec::new();
    for layer in layers {
        let media_type = layer_type(family, layer.compression).ok_or(ImageError::DockerZstd)?;
        let descriptor = Descriptor::new(media_type, layer.digest, layer.size_bytes);
        ours.push(ImageLayer { descriptor, diff_id: layer.diff_id, purpose: layer.purpose, source: layer.source.clone() });
    }
    let annotations = annotations(base, statement);
    let mut config = base.map_or_else(|| ImageConfig::scratch(platform), |base| base.config.clone());
    let mut edits = statement.edits.clone();
    edits.labels.insert(IMAGE_LABEL.to_owned(), image_label(base, layers, statement));
    if family == Family::Docker {
        // Docker's manifest has no annotations: what would be one is a label.
        edits.labels.extend(annotations.clone());
    }
    for volume in config.edit(&edits) {
        warnings.push(format!("the base's volume `{volume}` would hide the model and was dropped"));
    }
    let history: Vec<_> = layers.iter().map(|layer| (layer.diff_id, layer.purpose.word().to_owned())).collect();
    config.append_layers(&history, &statement.created);
    let layers: Vec<ImageLayer> = base_layers.into_iter().chain(ours).collect();
    let (manifest_type, config_type) = match family {
        Family::Oci => (media::OCI_MANIFEST, media::OCI_CONFIG),
        Family::Docker => (media::DOCKER_MANIFEST, media::DOCKER_CONFIG),
    };
    let config_document = Document::new(config_type, config.to_bytes());
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": config_document.descriptor(),
        "layers": layers.iter().map(|layer| &layer.descriptor).collect::<Vec<_>>(),
    });
    if family == Family::Oci {
        manifest["annotations"] = json!(annotations);
    }
    let manifest = Document::new(manifest_type, canonical(&manifest));
    Ok((Image { platform: config.platform(), manifest, config: config_document, layers }, warnings))
}

/// Joins the images of several platforms under an index of the family of the first.
pub fn index(images: Vec<Image>, annotations: &BTreeMap<String, String>) -> ImageSet {
    let docker = images.first().is_some_and(|image| image.manifest.media_type == media::DOCKER_MANIFEST);
    let media_type = if docker { media::DOCKER_INDEX } else { media::OCI_INDEX };
    let manifests: Vec<Descriptor> =
        images.iter().map(|image| Descriptor { platform: Some(image.platform.clone()), ..image.manifest.descriptor() }).collect();
    let mut value = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    if !docker && !annotations.is_empty() {
        value["annotations"] = json!(annotations);
    }
    ImageSet { index: Some(Document::new(media_type, canonical(&value))), images }
}

/// The annotations of an image on `base`: what the statement has, and which base it was.
pub fn annotations(base: Option<&Base>, statement: &Statement) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = statement.annotations.clone();
    all.insert("created".to_owned(), statement.created.clone());
    if let Some(base) = base {
        // image-spec, "Pre-Defined Annotation Keys": the digest of what the name refers to, hence the index's.
        all.insert("base.digest".to_owned(), base.digest.to_string());
        if let Some(name) = &base.name {
            all.insert("base.name".to_owned(), name.clone());
        }
    }
    all.into_iter().map(|(key, value)| (format!("org.opencontainers.image.{key}"), value)).collect()
}

/// Whether an image can be made of `base` and so many layers: what [`append`] would refuse, said before a layer is made.
pub fn check_base(base: &Base, layers: usize) -> Result<(), ImageError> {
    let (_, base_layers) = base_part(base, &mut Vec::new())?;
    check_number(base_layers.len() + layers)
}

fn check_number(layers: usize) -> Result<(), ImageError> {
    if layers > LAYERS_MAX { Err(ImageError::TooManyLayers { layers }) } else { Ok(()) }
}

fn base_part(base: &Base, warnings: &mut Vec<String>) -> Result<(Family, Vec<ImageLayer>), ImageError> {
    let (digest, diff_ids) = (base.manifest.document.digest, base.config.diff_ids());
    if diff_ids.len() != base.manifest.layers.len() {
        return Err(ImageError::Inconsistent { base: digest, layers: base.manifest.layers.len(), diff_ids: diff_ids.len() });
    }
    let labels = base.config.labels();
    if labels.contains_key(IMAGE_LABEL) || labels.contains_key("MODEL_NAME") {
        let model = labels.get("MODEL_NAME").cloned().unwrap_or_else(|| "without a name".to_owned());
        return Err(ImageError::ModelAsBase { base: digest, model });
    }
    let family = family(base);
    if let (Family::Docker, Some(layer)) = (base.manifest.family(), foreign_layer(base)) {
        warnings.push(format!(
            "the base has a layer of type `{}`, which Docker's manifest has no word for: the image is an OCI image, in which some runtimes ignore a HEALTHCHECK",
            layer.media_type
        ));
    }
    let layers = base.manifest.layers.iter().zip(diff_ids).map(|(descriptor, diff_id)| {
        let mut descriptor = descriptor.clone();
        if family == Family::Oci {
            descriptor.media_type = oci_layer_type(&descriptor.media_type).to_owned();
        }
        ImageLayer { descriptor, diff_id, purpose: Purpose::Base, source: LayerSource::Elsewhere }
    });
    Ok((family, layers.collect()))
}

/// Whether layers may be compressed so in an image on `base`; to be asked before any is made.
pub fn check_compression(base: &Base, compression: Compression) -> Result<(), ImageError> {
    layer_type(family(base), compression).map(|_| ()).ok_or(ImageError::DockerZstd)
}

/// A layer of a type that Docker's manifest has no word for.
fn foreign_layer(base: &Base) -> Option<&Descriptor> {
    base.manifest.layers.iter().find(|layer| !layer.media_type.starts_with("application/vnd.docker."))
}

/// The family of an image on `base`: the base's own, but OCI where it is Docker's and has a layer that Docker has no word for.
pub fn family(base: &Base) -> Family {
    if foreign_layer(base).is_some() { Family::Oci } else { base.manifest.family() }
}

/// What a layer of this compression is called; `None` where the family has no word for it.
pub(super) fn layer_type(family: Family, compression: Compression) -> Option<&'static str> {
    match (family, compression) {
        (Family::Oci, Compression::None) => Some(media::OCI_LAYER),
        (Family::Oci, Compression::Gzip) => Some(media::OCI_LAYER_GZIP),
        (Family::Oci, Compression::Zstd) => Some(media::OCI_LAYER_ZSTD),
        (Family::Docker, Compression::None) => Some(media::DOCKER_LAYER),
        (Family::Docker, Compression::Gzip) => Some(media::DOCKER_LAYER_GZIP),
        (Family::Docker, Compression::Zstd) => None,
    }
}

fn oci_layer_type(media_type: &str) -> &str {
    match media_type {
        media::DOCKER_LAYER => media::OCI_LAYER,
        media::DOCKER_LAYER_GZIP => media::OCI_LAYER_GZIP,
        media::DOCKER_LAYER_FOREIGN => "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        other => other,
    }
}

/// With this label a finished image can be inspected, rebased or given another contract without its files.
fn image_label(base: Option<&Base>, layers: &[SealedLayer], statement: &Statement) -> String {
    let base = base.map(|base| {
        json!({
            "name": base.name, "digest": base.digest, "manifest_digest": base.manifest.document.digest,
            "layers": base.manifest.layers.len(),
        })
    });
    let edits = &statement.edits;
    let label: Value = json!({
        "base": base,
        "layers": layers.iter().map(|layer| layer.purpose.word()).collect::<Vec<_>>(),
        "config": {"environment": edits.environment, "labels": edits.labels, "working_directory": edits.working_directory},
        "layout": statement.layout,
        "dialect": statement.dialect,
        "contract": statement.contract,
    });
    String::from_utf8(canonical(&label)).expect("canonical JSON is UTF-8")
}
