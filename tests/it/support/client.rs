//! The registry client as tests use it: quick to try again, and fed from memory.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use lamina::oci::digest::Digest;
use lamina::oci::manifest::{Descriptor, Document, media};
use lamina::oci::reference::Reference;
use lamina::registry::client::{Access, Registries, Repository};
use lamina::registry::error::RegistryError;
use lamina::registry::settings::{Patience, RegistrySettings};
use lamina::registry::wire::BodyStream;

/// As patient as the default, but for the pauses.
pub fn quick() -> RegistrySettings {
    let patience = Patience {
        pause_first: Duration::from_millis(2),
        pause_max: Duration::from_millis(20),
        idle: Duration::from_secs(20),
        settle: Duration::from_millis(20),
        ..Patience::default()
    };
    RegistrySettings { patience, ..RegistrySettings::default() }
}

/// The repository of a reference, to push.
pub fn repository(reference: &str) -> Repository {
    repository_with(quick(), reference)
}

/// The same with other settings.
pub fn repository_with(settings: RegistrySettings, reference: &str) -> Repository {
    let reference: Reference = reference.parse().unwrap();
    Registries::new(settings).unwrap().repository(&reference, Access::Push).unwrap()
}

/// A source of these bytes, in pieces that fit no boundary.
pub fn source(bytes: &[u8]) -> impl Fn(Range<u64>) -> BodyStream + Send + Sync {
    let bytes = Bytes::copy_from_slice(bytes);
    move |range| {
        let part = bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        let piece_bytes = 65_537;
        let pieces = (0..part.len()).step_by(piece_bytes).map(move |at| Ok(part.slice(at..part.len().min(at + piece_bytes))));
        Box::pin(futures_util::stream::iter(pieces.collect::<Vec<_>>()))
    }
}

/// Bytes without a pattern, the same each time.
pub fn noise(size_bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..size_bytes).map(|_| next()).collect()
}

/// A descriptor of these bytes as a layer.
pub fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::new(media::OCI_LAYER, Digest::of(bytes), bytes.len() as u64)
}

/// A manifest with this config and these layers.
pub fn manifest(config: &[u8], layers: &[Descriptor]) -> Document {
    let config = Descriptor::new(media::OCI_CONFIG, Digest::of(config), config.len() as u64);
    let value = serde_json::json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers });
    Document::new(media::OCI_MANIFEST, value.to_string().into_bytes())
}

/// A listener that does not listen.
pub fn quiet(_: lamina::registry::upload::Progress) {}

/// Pushes a blob; how many bytes went out.
pub async fn push(repository: &Repository, blob: &[u8]) -> Result<u64, RegistryError> {
    let uploaded = repository.upload(Digest::of(blob), blob.len() as u64, None, &source(blob), &quiet).await?;
    Ok(uploaded.sent_bytes)
}
