//! Garbage collection: what no image, no version, no build and no push needs is removed from the data folder.
//!
//! Mark and sweep, from what leads to things down to what does not: the repositories (tags lead to manifests, these to others and to blobs), then blobs and
//! recipes, then the contents of models. The roots are the tags, the trees of all of the catalog's versions, and whatever was used after the horizon:
//! within the grace, or since the oldest work that is under way began (`disk/store_use.rs`). Tags of versions that have been removed from the catalog are
//! no roots, and go.
//!
//! It runs beside uploads, builds, pushes and pulls, and beside `hs base import` in another process. What it cannot read (a damaged manifest, recipe or
//! tree that is needed) ends it before anything is taken that this might name.
//!
//! What must stay true: what a tag or a version leads to is never removed; wherever it is stopped, `kill -9` included, nothing that is left leads to
//! what is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tokio_util::sync::CancellationToken;

use crate::catalog::catalog::{Catalog, CatalogError};
use crate::catalog::kept::KeptVersions;
use crate::disk::store::{Store, StoreError};
use crate::disk::store_sweep::{Removed, Shelf};
use crate::disk::store_use::Horizon;
use crate::fault::{Failure, Fault, one_line};
use crate::oci::digest::Digest;

/// How often sessions are looked at, at least and at most.
const TIDY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(1));

/// When what is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectSettings {
    /// How often; `None`: never.
    pub interval: Option<Duration>,
    /// What was used within it stays, whether anything needs it or not. A push must not take longer from one request to the next.
    pub grace: Duration,
    /// How long an upload in pieces may rest.
    pub session_rest: Duration,
}

impl Default for CollectSettings {
    fn default() -> CollectSettings {
        let day = Duration::from_hours(24);
        CollectSettings { interval: Some(day), grace: day, session_rest: day }
    }
}

/// Why a collection ended early. What it had removed until then was not needed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The catalog does not say what it needs.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The store.
    #[error("collecting what nothing needs")]
    Store(#[from] StoreError),
    /// A recipe or a tree that is needed cannot be read.
    #[error("{0} is needed and cannot be read: what it names cannot be known")]
    Unreadable(Digest, #[source] StoreError),
    /// Work in the background died.
    #[error("collecting in the background stopped")]
    Stopped(#[from] JoinError),
}

impl Failure for CollectError {
    fn fault(&self) -> Fault {
        Fault::Ours
    }
}

/// Collects at the start and then at its interval, and ends sessions that rest, until `stop`.
pub async fn run(catalog: Catalog, store: Arc<Store>, settings: CollectSettings, stop: CancellationToken) {
    let tidy_every = (settings.session_rest / 4).clamp(TIDY.0, TIDY.1);
    let mut tidying = interval(tidy_every);
    // Without an interval the first turn is put off for ever.
    let mut collecting = match settings.interval {
        Some(every) => interval(every.max(TIDY.0)),
        None => interval_at(Instant::now() + Duration::from_hours(24 * 365 * 100), Duration::from_hours(24)),
    };
    for turns in [&mut tidying, &mut collecting] {
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let result = tokio::select! {
            () = stop.cancelled() => return,
            _ = tidying.tick() => tidy(&store, settings.session_rest).await,
            _ = collecting.tick() => collect(&catalog, &store, settings.grace).await.map(|removed| {
                if removed != Removed::default() {
                    let Removed { tags, manifests, files, bytes } = removed;
                    tracing::info!(tags, manifests, files, size_bytes = bytes, "what nothing needs is removed");
                }
            }),
        };
        if let Err(error) = result {
            tracing::error!(error = one_line(&error), "cannot remove what nothing needs");
        }
    }
}

/// Removes sessions that have rested for too long, and what dead processes left.
async fn tidy(store: &Arc<Store>, rest: Duration) -> Result<(), CollectError> {
    let store = store.clone();
    let (expired, left) = tokio::task::spawn_blocking(move || Ok::<_, StoreError>((store.expire_uploads(rest)?, store.sweep()?))).await??;
    if expired > 0 || left > 0 {
        tracing::info!(sessions = expired, left, "uploads that nobody goes on with are removed");
    }
    Ok(())
}

/// One collection.
pub async fn collect(catalog: &Catalog, store: &Arc<Store>, grace: Duration) -> Result<Removed, CollectError> {
    let looked = store.clone();
    let horizon = tokio::task::spawn_blocking(move || looked.horizon(grace)).await??;
    // After the horizon: an upload that is not in the catalog yet has either not ended, or what it used is young.
    let versions = catalog.kept_versions().await?;
    let store = store.clone();
    tokio::task::spawn_blocking(move || sweep(&store, &horizon, &versions)).await?
}

fn sweep(store: &Store, horizon: &Horizon, versions: &KeptVersions) -> Result<Removed, CollectError> {
    let mut removed = Removed::default();
    let mut live: BTreeSet<Digest> = versions.trees.clone();
    for repository in store.repositories_begun()? {
        let is_over = |tag: &str| versions.is_removed(&repository, tag);
        let (of_repository, led_to) = store.collect_repository(horizon, &repository, &is_over)?;
        removed += of_repository;
        live.extend(led_to);
    }
    // Everything that is needed is read before anything of the next shelf goes.
    let mut contents = BTreeSet::new();
    for tree in &versions.trees {
        let named = store.contents_of_tree(tree).map_err(|error| CollectError::Unreadable(*tree, error))?;
        contents.extend(named.unwrap_or_default());
    }
    for digest in &live {
        add_contents(store, digest, &mut contents)?;
    }
    let (of_recipes, spared) = store.collect_shelf(Shelf::Recipes, horizon, &live)?;
    for digest in &spared {
        add_contents(store, digest, &mut contents)?;
    }
    removed += of_recipes;
    removed += store.collect_shelf(Shelf::Blobs, horizon, &live)?.0;
    removed += store.collect_shelf(Shelf::Contents, horizon, &contents)?.0;
    removed.bytes += store.collect_wheels(horizon)?;
    Ok(removed)
}

fn add_contents(store: &Store, recipe: &Digest, contents: &mut BTreeSet<Digest>) -> Result<(), CollectError> {
    let named = store.contents_of_recipe(recipe).map_err(|error| CollectError::Unreadable(*recipe, error))?;
    contents.extend(named.unwrap_or_default());
    Ok(())
}
