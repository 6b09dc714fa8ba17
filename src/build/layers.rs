//! The planned layers of a model, sealed: side by side, the largest first, and what is remembered not at all.
//!
//! Where the image goes to a registry, each layer that had to be read is handed over as soon as it has a name (`registry/ahead.rs`), so that hashing and
//! sending overlap. One that is remembered is not: the registry is asked for the whole image first, and may have it.
//!
//! What must stay true: the layers come out in the order of the plan, whatever their sizes and however many cores there are.

use std::cmp::Reverse;
use std::sync::Arc;
use std::thread;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::recipe::BuildError;
use super::request::Request;
use crate::disk::seal_planned::{Sealed, seal_planned};
use crate::model::packing::Packing;
use crate::model::plan::PlannedLayer;
use crate::oci::image::Purpose;
use crate::oci::layer::Recipe;
use crate::progress::{Event, Listener};
use crate::registry::ahead::{self, Handoff, Sent};
use crate::registry::client::Repository;

/// The most layers that are hashed or compressed at once: each holds a core and, compressing, a MiB.
const LAYERS_AT_ONCE_MAX: usize = 16;

/// A layer to be sealed.
pub(super) struct ToSeal {
    /// What is in it.
    pub recipe: Arc<Recipe>,
    packing: Packing,
    purpose: Purpose,
}

impl From<PlannedLayer> for ToSeal {
    fn from(planned: PlannedLayer) -> ToSeal {
        ToSeal { recipe: Arc::new(planned.recipe), packing: planned.packing, purpose: planned.purpose }
    }
}

/// Seals the layers and, where `to` says whither, sends those that had to be read. Gives them in the order of the plan.
pub(super) async fn seal(
    planned: Vec<ToSeal>,
    request: &Request,
    to: Option<&Repository>,
    listener: &Listener,
) -> Result<(Vec<Sealed>, Sent), BuildError> {
    let Some(repository) = to else { return Ok((seal_all(planned, request, None, listener).await?, Sent::default())) };
    let (handoff, sending) = ahead::ahead(repository, listener);
    let sending = async { sending.await.map_err(BuildError::Send) };
    // The first failure of either ends both.
    let sealed = tokio::try_join!(seal_all(planned, request, Some(handoff), listener), sending);
    if let Err(error) = &sealed {
        repository.give_up_uploads(if let BuildError::Send(error) = error { Some(error) } else { None }).await;
    }
    sealed
}

/// As many layers at a time as there are cores: hashing is the cost, and it is a core's work (dependencies, finding 2). The largest are first: one that is
/// begun last is waited for alone.
async fn seal_all(
    planned: Vec<ToSeal>,
    request: &Request,
    handoff: Option<Handoff>,
    listener: &Listener,
) -> Result<Vec<Sealed>, BuildError> {
    let at_once = thread::available_parallelism().map_or(1, usize::from).min(LAYERS_AT_ONCE_MAX);
    let mut in_turn: Vec<(usize, u64, ToSeal)> =
        planned.into_iter().enumerate().map(|(place, layer)| (place, layer.recipe.size_bytes(), layer)).collect();
    in_turn.sort_by_key(|(_, size_bytes, _)| Reverse(*size_bytes));
    listener(Event::Expect { bytes: in_turn.iter().map(|(_, size_bytes, _)| size_bytes).sum() });
    let handoff = handoff.as_ref();
    let seal_one = |(place, _, layer): (usize, u64, ToSeal)| {
        let (listener, scratch, cache) = (listener.clone(), request.scratch.clone(), request.settings.cache.clone());
        async move {
            let work = move || {
                let advance = |bytes| listener(Event::Advance { bytes });
                seal_planned(&layer.recipe, layer.packing, layer.purpose, &scratch, cache.as_ref(), &advance)
            };
            let sealed = tokio::task::spawn_blocking(work).await.map_err(BuildError::Stopped)??;
            if let Some(handoff) = handoff.filter(|_| sealed.was_read) {
                handoff.give(&sealed.layer);
            }
            Ok::<_, BuildError>((place, sealed))
        }
    };
    let mut sealed: Vec<(usize, Sealed)> = stream::iter(in_turn).map(seal_one).buffer_unordered(at_once).try_collect().await?;
    sealed.sort_by_key(|(place, _)| *place);
    Ok(sealed.into_iter().map(|(_, sealed)| sealed).collect())
}
