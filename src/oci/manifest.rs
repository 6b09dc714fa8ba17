//! Manifests and indexes as they are read: the bytes, and a view of them.
//!
//! A [`Document`] is bytes that have a digest and a media type; a [`Manifest`] or an [`Index`] is a document with its parsed
//! view beside it. The view serves to decide; what is stored or sent is always the bytes. Both families, OCI's and Docker's,
//! are read into the same view. Nothing is written here: that is `image.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::digest::Digest;
use super::platform::Platform;
use crate::fault::{Failure, Fault};

/// The largest manifest or index that is read: what registries accept at most, by the distribution specification.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// Media types, by family.
pub mod media {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, uncompressed.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, uncompressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer that lives elsewhere (Windows bases).
    pub const DOCKER_LAYER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    /// What we ask registries for: both families, single manifests and indexes.
    pub const ACCEPTED: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
}

/// Bytes with their name and their type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What the bytes are.
    pub media_type: String,
    /// The bytes as pulled or as written, never re-serialised.
    pub bytes: Vec<u8>,
    /// The digest of `bytes`.
    pub digest: Digest,
}

impl Document {
    /// Names `bytes`.
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Document {
        Document { media_type: media_type.to_owned(), digest: Digest::of(&bytes), bytes }
    }

    /// The size of the bytes.
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// A descriptor that points at this document.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.size_bytes())
    }
}

/// A pointer to bytes: type, digest, size (image-spec, "Descriptor"). Unknown members are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What the bytes are.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// Their number.
    #[serde(rename = "size")]
    pub size_bytes: u64,
    /// In an index: what the manifest runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations, sorted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whatever else was there (`urls`, `data`, `artifactType` …). `urls` are never followed.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

impl Descriptor {
    /// A plain descriptor.
    pub fn new(media_type: &str, digest: Digest, size_bytes: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size_bytes,
            platform: None,
            annotations: BTreeMap::new(),
            rest: BTreeMap::new(),
        }
    }
}

/// Which words an image speaks: the two families are never mixed within one image (some registries refuse a mixture).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// OCI image specification.
    Oci,
    /// Docker image manifest version 2, schema 2.
    Docker,
}

/// The manifest of one image on one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The bytes.
    pub document: Document,
    /// The image config.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// An index: one manifest for each platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// The bytes.
    pub document: Document,
    /// The manifests in the order of the document.
    pub manifests: Vec<Descriptor>,
}

/// What a reference can lead to.
#[derive(Clone, Debug, PartialEq)]
pub enum Pulled {
    /// A single image.
    Manifest(Manifest),
    /// Several platforms.
    Index(Index),
}

/// Why a document is not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The bytes are no JSON of the expected shape.
    #[error("manifest {digest} is not valid")]
    Malformed {
        /// Its digest.
        digest: Digest,
        /// What serde found.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest of a kind that we do not read.
    #[error("{digest} is a `{media_type}`, which is neither an image manifest nor an index")]
    Unsupported {
        /// Its digest.
        digest: Digest,
        /// What it says it is.
        media_type: String,
    },
    /// No manifest of the index fits.
    #[error("no image for {wanted} in index {digest}; it has {available}")]
    NoPlatform {
        /// The index.
        digest: Digest,
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        available: String,
    },
}

impl Failure for ManifestError {
    fn fault(&self) -> Fault {
        Fault::Remote
    }

    fn remedy(&self) -> Option<String> {
        match self {
            ManifestError::NoPlatform { .. } => Some("name one of those with `--platform`".to_owned()),
            ManifestError::Unsupported { media_type, .. } if media_type.contains("v1") && media_type.contains("docker") => {
                Some("this is Docker's schema 1; push the image again with a tool of this decade".to_owned())
            }
            _ => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct View {
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Pulled {
    /// Reads a manifest or index.
    ///
    /// `content_type` is what a registry said it is. The document's own `mediaType` wins; where neither says, the shape
    /// decides (image-spec allows an OCI document without one).
    pub fn parse(content_type: Option<&str>, bytes: Vec<u8>) -> Result<Pulled, ManifestError> {
        let digest = Digest::of(&bytes);
        let view: View = serde_json::from_slice(&bytes).map_err(|source| ManifestError::Malformed { digest, source })?;
        let said = view.media_type.or_else(|| {
            let essence = content_type?.split(';').next()?.trim();
            media::ACCEPTED.contains(&essence).then(|| essence.to_owned())
        });
        let media_type = match (&said, &view.manifests, &view.config) {
            (Some(said), ..) => said.as_str(),
            (None, Some(_), None) => media::OCI_INDEX,
            (None, None, Some(_)) => media::OCI_MANIFEST,
            _ => content_type.unwrap_or("document without a media type"),
        };
        let document = Document { media_type: media_type.to_owned(), bytes, digest };
        match (media_type, view.config, view.layers, view.manifests) {
            (media::OCI_MANIFEST | media::DOCKER_MANIFEST, Some(config), Some(layers), None) => {
                Ok(Pulled::Manifest(Manifest { document, config, layers, annotations: view.annotations.unwrap_or_default() }))
            }
            (media::OCI_INDEX | media::DOCKER_INDEX, None, _, Some(manifests)) => Ok(Pulled::Index(Index { document, manifests })),
            _ => Err(ManifestError::Unsupported { digest, media_type: media_type.to_owned() }),
        }
    }

    /// The document, whatever it is.
    pub fn document(&self) -> &Document {
        match self {
            Pulled::Manifest(manifest) => &manifest.document,
            Pulled::Index(index) => &index.document,
        }
    }
}

impl Manifest {
    /// The family of the manifest itself.
    pub fn family(&self) -> Family {
        if self.document.media_type == media::DOCKER_MANIFEST { Family::Docker } else { Family::Oci }
    }
}

impl Index {
    /// The images of the index with their platforms. Attestations and other siblings (`unknown/unknown`) are left out.
    pub fn images(&self) -> impl Iterator<Item = (&Platform, &Descriptor)> {
        self.manifests.iter().filter_map(|descriptor| {
            let platform = descriptor.platform.as_ref()?;
            let image = matches!(descriptor.media_type.as_str(), media::OCI_MANIFEST | media::DOCKER_MANIFEST);
            (image && !platform.is_unknown()).then_some((platform, descriptor))
        })
    }

    /// The first image that runs on `wanted`.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor, ManifestError> {
        self.images().find(|(platform, _)| platform.serves(wanted)).map(|(_, descriptor)| descriptor).ok_or_else(|| {
            let available: Vec<_> = self.images().map(|(platform, _)| platform.to_string()).collect();
            ManifestError::NoPlatform { digest: self.document.digest, wanted: wanted.clone(), available: available.join(", ") }
        })
    }
}
