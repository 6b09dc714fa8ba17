//! What an examination pushes: a whole image of a few hundred bytes, and noise for larger bodies.
//!
//! What must stay true: each blob says in its content whose it is, so that none of them is a blob of anybody's image (an empty tar, say, is), and deleting it
//! takes nothing from anyone; and all of it is the same each time, so that a registry that deletes nothing collects nothing.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::{Value, json};

use super::doctor::TAG;
use super::wire::BodyStream;
use crate::oci::digest::Digest;
use crate::oci::manifest::{Descriptor, Document, media};

/// The size of the pieces in which noise is sent.
const PIECE_BYTES: u64 = 256 << 10;

/// What stands in the one file of the layer.
const TEXT: &[u8] = b"hs registry doctor pushed this to see whether it can, and deletes it again.\n";

/// The blobs of the image.
pub(super) struct Samples {
    /// The config, of either family.
    pub(super) config: Vec<u8>,
    /// The layer, a tar.
    pub(super) layer: Vec<u8>,
    /// The same in zstd.
    pub(super) zstd: Vec<u8>,
}

impl Samples {
    /// The same each time.
    pub(super) fn new() -> Samples {
        let layer = tar();
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z", "config": { "Labels": { TAG: "may be deleted" } },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer)] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "hs registry doctor" }],
        });
        let zstd = zstd::bulk::compress(&layer, 3).expect("compressing a kilobyte in memory");
        Samples { config: config.to_string().into_bytes(), layer, zstd }
    }

    /// An OCI image.
    pub(super) fn oci(&self) -> Document {
        self.manifest(media::OCI_MANIFEST, media::OCI_CONFIG, (media::OCI_LAYER, &self.layer), json!({}))
    }

    /// Another one, of the same blobs.
    pub(super) fn other(&self) -> Document {
        let more = json!({ "annotations": { TAG: "another manifest for the same tag" } });
        self.manifest(media::OCI_MANIFEST, media::OCI_CONFIG, (media::OCI_LAYER, &self.layer), more)
    }

    /// An OCI image whose layer is in zstd.
    pub(super) fn zstd(&self) -> Document {
        self.manifest(media::OCI_MANIFEST, media::OCI_CONFIG, (media::OCI_LAYER_ZSTD, &self.zstd), json!({}))
    }

    /// A Docker image.
    pub(super) fn docker(&self) -> Document {
        self.manifest(media::DOCKER_MANIFEST, media::DOCKER_CONFIG, (media::DOCKER_LAYER, &self.layer), json!({}))
    }

    /// Something about `subject`.
    pub(super) fn referrer(&self, subject: &Document) -> Document {
        let more = json!({ "artifactType": "application/vnd.lamina.doctor", "subject": subject.descriptor() });
        self.manifest(media::OCI_MANIFEST, media::OCI_CONFIG, (media::OCI_LAYER, &self.layer), more)
    }

    /// An index of one image.
    pub(super) fn index(&self) -> Document {
        let image = self.oci().descriptor();
        let mut entry = json!(image);
        entry["platform"] = json!({ "architecture": "amd64", "os": "linux" });
        let value =
            json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry], "annotations": { TAG: "may be deleted" } });
        Document::new(media::OCI_INDEX, value.to_string().into_bytes())
    }

    fn manifest(&self, media_type: &str, config_type: &str, layer: (&str, &[u8]), more: Value) -> Document {
        let named = |media_type: &str, bytes: &[u8]| Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
        let mut value = json!({ "schemaVersion": 2, "mediaType": media_type, "config": named(config_type, &self.config), "layers": [named(layer.0, layer.1)] });
        for (name, member) in more.as_object().into_iter().flatten() {
            value[name] = member.clone();
        }
        Document::new(media_type, value.to_string().into_bytes())
    }
}

fn tar() -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(TEXT.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    let mut builder = tar::Builder::new(Vec::new());
    let written = builder.append_data(&mut header, TAG, TEXT).and_then(|()| builder.into_inner());
    written.expect("writing a kilobyte to memory")
}

/// Bytes without a pattern, the same each time: a proxy that compresses gains nothing.
pub(super) fn noise(size_bytes: u64) -> Bytes {
    let mut state = 0x6c61_6d69_6e61_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..size_bytes).map(next).collect()
}

/// `size_bytes` of noise, one piece again and again.
pub(super) fn body(size_bytes: u64) -> BodyStream {
    let piece = noise(PIECE_BYTES.min(size_bytes));
    let pieces = (0..size_bytes.div_ceil(PIECE_BYTES)).map(move |number| {
        let left_bytes = (size_bytes - number * PIECE_BYTES).min(PIECE_BYTES);
        Ok(piece.slice(..left_bytes as usize))
    });
    stream::iter(pieces).boxed()
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::oci::manifest::Pulled;

    #[test]
    fn the_image_is_one_and_the_same_each_time() {
        let (samples, again) = (Samples::new(), Samples::new());
        for (document, same) in [
            (samples.oci(), again.oci()),
            (samples.other(), again.other()),
            (samples.zstd(), again.zstd()),
            (samples.docker(), again.docker()),
            (samples.index(), again.index()),
            (samples.referrer(&samples.oci()), again.referrer(&again.oci())),
        ] {
            assert_eq!(document, same);
            Pulled::parse(Some(&document.media_type), document.bytes).unwrap();
        }
        assert!(samples.layer.windows(TAG.len()).any(|window| window == TAG.as_bytes()));
        assert_eq!(zstd::bulk::decompress(&samples.zstd, 1 << 20).unwrap(), samples.layer);
    }

    #[tokio::test]
    async fn a_body_has_the_size_that_was_asked_for() {
        for size_bytes in [0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 7] {
            let pieces: Vec<Bytes> = body(size_bytes).try_collect().await.map_err(|error| error.to_string()).unwrap();
            assert_eq!(pieces.iter().map(|piece| piece.len() as u64).sum::<u64>(), size_bytes);
        }
    }
}
