//! Removing what nothing needs: within a repository, and from the shelves of the store.
//!
//! What is needed beyond the store (the catalog's versions) is told by the caller, `build/collect.rs`; here is what follows from it. In a repository, a
//! manifest is needed where a tag leads to it, by itself, by an index or by the subject that it refers to; everything used since the horizon is needed
//! as well, and so is every blob of a repository that has an upload open. On a shelf, what is not `live` and was last used before the horizon goes.
//!
//! What must stay true: what is removed has been looked at again under the lock to remove, so that whoever found it here in the meantime keeps it;
//! and what leads to other things goes first, and for good, so that wherever a collection ends nothing that is left leads to what is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::atomic;
use super::bytecode_cache::BytecodeCache;
use super::store::{Store, StoreError, failed};
use super::store_members::{BLOBS, REFERRERS};
use super::store_removal::digests_in;
use super::store_repositories::{KEPT, MANIFESTS, TAGS, list, read_digest};
use super::store_uploads::mark;
use super::store_use::{Horizon, remove_file, used};
use super::wheel_cache::WheelCache;
use crate::oci::digest::Digest;

/// How many files are removed under one hold of the lock: a push waits for them.
const REMOVED_AT_ONCE: usize = 64;

/// A folder of files that are named by their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// Real bytes.
    Blobs,
    /// Layers that are rendered.
    Recipes,
    /// The files of models.
    Contents,
}

/// What a collection has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Tags of versions that are no more.
    pub tags: u64,
    /// Manifests, out of their repositories.
    pub manifests: u64,
    /// Files of the shelves.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, other: Removed) {
        self.tags += other.tags;
        self.manifests += other.manifests;
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// What each manifest names; manifests never change, so it is read once.
type Mentions = BTreeMap<Digest, BTreeSet<Digest>>;

/// A repository as it is now: what goes, and what stays.
#[derive(Default)]
struct View {
    tags_over: Vec<String>,
    manifests_over: Vec<Digest>,
    /// Blobs and referrers' entries.
    files_over: Vec<PathBuf>,
    live: BTreeSet<Digest>,
}

impl Store {
    /// Removes from a repository what nothing needs there. `is_over` tells of a tag that is a model's version whether that version is no more. Returns what
    /// was removed, and every digest that the repository still leads to.
    pub fn collect_repository(
        &self,
        horizon: &Horizon,
        repository: &str,
        is_over: &dyn Fn(&str) -> bool,
    ) -> Result<(Removed, BTreeSet<Digest>), StoreError> {
        // Once to read the manifests, while others go on; then again under the lock, for what has changed since.
        let mut mentions = Mentions::new();
        let view = self.view(horizon, repository, is_over, &mut mentions)?;
        let folder = self.repository_folder(repository)?;
        if view.tags_over.is_empty() && view.manifests_over.is_empty() && view.files_over.is_empty() && !is_empty(&folder)? {
            return Ok((Removed::default(), view.live));
        }
        let _removing = self.removing()?;
        let view = self.view(horizon, repository, is_over, &mut mentions)?;
        let mut removed = Removed::default();
        for tag in &view.tags_over {
            removed.tags += u64::from(remove_file(&folder.join(TAGS).join(tag))?);
            remove_file(&folder.join(KEPT).join(tag))?;
        }
        for manifest in &view.manifests_over {
            removed.manifests += u64::from(self.remove_entry(repository, manifest)?);
        }
        for path in &view.files_over {
            remove_file(path)?;
        }
        self.remove_empty_folders(&folder)?;
        Ok((removed, view.live))
    }

    fn view(
        &self,
        horizon: &Horizon,
        repository: &str,
        is_over: &dyn Fn(&str) -> bool,
        mentions: &mut Mentions,
    ) -> Result<View, StoreError> {
        let folder = self.repository_folder(repository)?;
        let mut view = View::default();
        let entries = files_of(&folder.join(MANIFESTS), horizon)?;
        let mut needed: Vec<Digest> = entries.iter().filter(|(_, is_past)| !**is_past).map(|(digest, _)| *digest).collect();
        for tag in list(&folder.join(KEPT))? {
            let kept = used(&folder.join(KEPT).join(&tag))?;
            if is_over(&tag) && kept.is_some_and(|(used, _)| horizon.is_past(used)) {
                view.tags_over.push(tag);
            }
        }
        for tag in list(&folder.join(TAGS))? {
            if !view.tags_over.contains(&tag) {
                needed.extend(read_digest(&folder.join(TAGS).join(tag))?);
            }
        }
        let mut manifests = BTreeSet::new();
        while let Some(digest) = needed.pop() {
            if !entries.contains_key(&digest) || !manifests.insert(digest) {
                continue;
            }
            if let std::collections::btree_map::Entry::Vacant(unread) = mentions.entry(digest) {
                unread.insert(self.mentions(repository, &digest)?);
            }
            needed.extend(&mentions[&digest]);
            view.live.extend(&mentions[&digest]);
            needed.extend(digests_in(&list(&self.referrers_folder(repository, &digest)?)?));
        }
        view.live.extend(&manifests);
        view.manifests_over.extend(entries.keys().filter(|digest| !manifests.contains(digest)));
        let is_pushed_to = horizon.pushed_to.contains(&mark(repository));
        for (digest, is_past) in files_of(&folder.join(BLOBS), horizon)? {
            if view.live.contains(&digest) || is_pushed_to || !is_past {
                view.live.insert(digest);
            } else {
                view.files_over.push(folder.join(BLOBS).join(digest.hex()));
            }
        }
        for subject in list(&folder.join(REFERRERS))? {
            let of_subject = folder.join(REFERRERS).join(subject);
            let left_over =
                files_of(&of_subject, horizon)?.into_iter().filter(|(digest, is_past)| *is_past && !entries.contains_key(digest));
            view.files_over.extend(left_over.map(|(digest, _)| of_subject.join(digest.hex())));
        }
        Ok(view)
    }

    /// Removes the folders of a repository that have nothing in them, and the repository with the last one; flushes those that stay.
    fn remove_empty_folders(&self, folder: &Path) -> Result<(), StoreError> {
        for subject in list(&folder.join(REFERRERS))? {
            let _ = fs::remove_dir(folder.join(REFERRERS).join(subject));
        }
        // The folder that makes it a repository goes when all others have gone.
        for name in [TAGS, KEPT, REFERRERS, BLOBS] {
            let path = folder.join(name);
            if path.is_dir() && fs::remove_dir(&path).is_err() {
                atomic::flush_folder(&path).map_err(failed("flush", &path))?;
            }
        }
        let manifests = folder.join(MANIFESTS);
        if list(folder)?.iter().all(|name| name == MANIFESTS || !name.starts_with('_')) {
            let _ = fs::remove_dir(&manifests);
        }
        if manifests.is_dir() {
            return atomic::flush_folder(&manifests).map_err(failed("flush", &manifests));
        }
        // What is not empty stays: another repository is below it.
        let root = self.repositories_folder();
        for above in folder.ancestors().take_while(|path| *path != root) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
        atomic::flush_folder(&root).map_err(failed("flush", &root))
    }

    /// Removes from a shelf what is not `live` and was last used before the horizon. Returns what was removed, and what stays though it is not live: it
    /// was used since, and what it leads to must stay with it.
    pub fn collect_shelf(&self, shelf: Shelf, horizon: &Horizon, live: &BTreeSet<Digest>) -> Result<(Removed, Vec<Digest>), StoreError> {
        let folder = self.root().join(match shelf {
            Shelf::Blobs => "blobs",
            Shelf::Recipes => "recipes",
            Shelf::Contents => "content",
        });
        let (mut removed, mut spared, mut over) = (Removed::default(), Vec::new(), Vec::new());
        let mut remove = |over: &mut Vec<Digest>, spared: &mut Vec<Digest>| -> Result<(), StoreError> {
            let _removing = self.removing()?;
            for digest in over.drain(..) {
                let path = folder.join(digest.hex());
                let Some((used, size_bytes)) = used(&path)? else { continue };
                if !horizon.is_past(used) {
                    spared.push(digest);
                } else if remove_file(&path)? {
                    removed += Removed { files: 1, bytes: size_bytes, ..Removed::default() };
                }
            }
            self.forget_recipes();
            Ok(())
        };
        for entry in fs::read_dir(&folder).map_err(failed("list", &folder))? {
            let name = entry.map_err(failed("list", &folder))?.file_name();
            let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>() else { continue };
            if live.contains(&digest) {
                continue;
            }
            match used(&folder.join(&name))? {
                Some((used, _)) if horizon.is_past(used) => over.push(digest),
                Some(_) => spared.push(digest),
                None => {}
            }
            if over.len() == REMOVED_AT_ONCE {
                remove(&mut over, &mut spared)?;
            }
        }
        remove(&mut over, &mut spared)?;
        if removed.files > 0 {
            atomic::flush_folder(&folder).map_err(failed("flush", &folder))?;
        }
        Ok((removed, spared))
    }
}

impl Store {
    /// Removes the wheels, and the bytecode of wheels, that were last used before the horizon from the service's own cache; what a layer needs is content as
    /// well. Returns their bytes.
    pub fn collect_wheels(&self, horizon: &Horizon) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for folder in [self.root().join("wheels"), BytecodeCache::below(self.root()).archives] {
            bytes += WheelCache::remove_unused(&folder, horizon.before).map_err(failed("tidy", &folder))?;
        }
        Ok(bytes)
    }
}

/// The files of a folder that are named by digests, and whether each was last used before the horizon.
fn files_of(folder: &Path, horizon: &Horizon) -> Result<BTreeMap<Digest, bool>, StoreError> {
    let mut found = BTreeMap::new();
    for digest in digests_in(&list(folder)?) {
        if let Some((used, _)) = used(&folder.join(digest.hex()))? {
            found.insert(digest, horizon.is_past(used));
        }
    }
    Ok(found)
}

/// Whether a repository has nothing left but its folders.
fn is_empty(folder: &Path) -> Result<bool, StoreError> {
    for name in [TAGS, KEPT, MANIFESTS, BLOBS] {
        if !list(&folder.join(name))?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}
