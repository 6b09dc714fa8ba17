//! Layers on their way to a registry before the image that they belong to has a name.
//!
//! Hashing is a core's work and sending is the wire's. So whoever seals layers gives each that he had to read to a [`Handoff`], and [`ahead`] brings it to the
//! registry as `copy.rs` would, a few at a time, while the next are still being hashed. What came of it is a [`Sent`], for `copy_rest`: those layers are not
//! asked for again.
//!
//! What must stay true: blobs only. Config, manifest and tag are `copy.rs`'s, after it, so that whatever fails here or while sealing leaves blobs that
//! nothing names, and an upload that was dropped half-way is in the journal for the next run.

use std::collections::BTreeMap;

use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::client::Repository;
use super::error::RegistryError;
use super::send_layer::{LAYERS_AT_ONCE, send_layer};
use super::source::Source;
use crate::oci::digest::Digest;
use crate::oci::image::{ImageLayer, SealedLayer};
use crate::oci::manifest::Descriptor;
use crate::progress::{Listener, Transfer};

/// Takes layers that are sealed. What waits is names and recipes, and an image has a hundred layers at most.
pub struct Handoff(mpsc::UnboundedSender<ImageLayer>);

impl Handoff {
    /// Gives a layer of ours to be sent.
    pub fn give(&self, layer: &SealedLayer) {
        // The media type is the manifest's business; the registry is told a digest and a size.
        let descriptor = Descriptor::new("", layer.digest, layer.size_bytes);
        let layer = ImageLayer { descriptor, diff_id: layer.diff_id, purpose: layer.purpose, source: layer.source.clone() };
        // Where sending has failed there is nobody to take it, and the failure is told by `ahead`.
        let _ = self.0.send(layer);
    }
}

/// What a registry said that a tag names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// Nobody has asked.
    #[default]
    NotAsked,
    /// There is no such tag.
    Nothing,
    /// The image of this digest.
    Image(Digest),
}

/// What was done at a registry before an image has a name: which layers are there by now, how each came there, and what was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    layers: BTreeMap<Digest, Transfer>,
    /// What the tag of the image names, so that it is not asked for again.
    pub named: Named,
}

impl Sent {
    /// Whether a layer is there; where it is not said, nobody has asked.
    pub fn has(&self, layer: &Digest) -> bool {
        self.layers.contains_key(layer)
    }

    /// What was moved for all of them.
    pub fn total(&self) -> Transfer {
        self.layers.values().fold(Transfer::default(), |mut total, moved| {
            total.merge(*moved);
            total
        })
    }
}

/// Sends the layers that are handed over to `repository`; ends when the handoff is dropped and the last layer is there, or at the first failure.
pub fn ahead<'a>(repository: &'a Repository, listener: &'a Listener) -> (Handoff, impl Future<Output = Result<Sent, RegistryError>> + 'a) {
    let (give, take) = mpsc::unbounded_channel();
    let sending = async move {
        let layers = UnboundedReceiverStream::new(take);
        let moves = layers.map(|layer| async move {
            let moved = send_layer(&layer, &Source::Nowhere, repository, listener).await?;
            Ok((layer.descriptor.digest, moved))
        });
        let layers = moves.buffer_unordered(LAYERS_AT_ONCE).try_collect().await?;
        Ok(Sent { layers, named: Named::NotAsked })
    };
    (Handoff(give), sending)
}
