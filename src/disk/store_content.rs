//! Model files, trees and recipes into the store.
//!
//! The files of a model come in once, as content; a tree document (canonical JSON, a blob) says which content is at which path, and a
//! stored recipe says which content makes a layer. Both name content by its digest only. What comes out again points into `content/`
//! with the empty stamp: nobody changes a file there (`render.rs`).
//!
//! What must stay true: a tree document or a recipe is written after the content that it names has reached the device.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};

use super::atomic;
use super::store::{Store, StoreError, failed};
use super::store_splice::{self, Rendered};
use super::store_use::renew_file;
use crate::model::tree::Tree;
use crate::oci::digest::Digest;
use crate::oci::layer::{Content, Entry, EntryKind, LocalFile, Recipe, Stamp};
use crate::oci::path::TreePath;

/// The largest tree document or recipe that is read: 200,000 entries with paths of hundreds of bytes.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;
/// From this many files on, one flush of the file system is cheaper than one for each file.
const FLUSHES_MAX: usize = 32;

// The members stand in the order of their names, so that what serde writes is canonical JSON as it is; a test holds that.
#[derive(Serialize, Deserialize)]
struct StoredRecipe {
    entries: Vec<StoredEntry>,
    modified_s: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredTree {
    nodes: Vec<StoredEntry>,
}

/// A folder where there is no `file`.
#[derive(Serialize, Deserialize)]
struct StoredEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<StoredFile>,
    path: TreePath,
}

#[derive(Serialize, Deserialize)]
struct StoredFile {
    digest: Digest,
    executable: bool,
    size_bytes: u64,
}

impl Store {
    /// Moves the staged files of a tree into the store, once each; where the same content is there already, the staged file is removed.
    /// A blob of the store becomes content by a second name (`store_have.rs`). The tree that comes back points into the store. Every file must have been hashed.
    pub fn adopt(&self, tree: &Tree) -> Result<Tree, StoreError> {
        let mut staged: BTreeMap<&Path, (Digest, u64)> = BTreeMap::new();
        for (_, node) in tree.nodes() {
            if let EntryKind::File { size_bytes, content: Content::Local(file), .. } = node {
                let digest = file.digest.ok_or_else(|| StoreError::Unhashed(file.path.clone()))?;
                if file.path != self.content_path(&digest) {
                    staged.insert(&file.path, (digest, *size_bytes));
                }
            }
        }
        self.flush(staged.keys())?;
        let using = self.using()?;
        for (path, (digest, size_bytes)) in &staged {
            if **path == self.blob_path(digest) {
                self.name_blob_as_content(digest)?;
            } else {
                self.adopt_file(path, digest, *size_bytes)?;
            }
        }
        drop(using);
        let folder = self.root().join("content");
        atomic::flush_folder(&folder).map_err(failed("flush", &folder))?;
        let mut adopted = Tree::new();
        for (path, node) in tree.nodes() {
            let mut node = node.clone();
            if let EntryKind::File { content, .. } = &mut node
                && let Content::Local(file) = content
                && let Some(digest) = file.digest
            {
                *content = self.content(&digest);
            }
            adopted.insert(path.clone(), node);
        }
        Ok(adopted)
    }

    pub(super) fn content(&self, digest: &Digest) -> Content {
        Content::Local(Arc::new(LocalFile { path: self.content_path(digest), stamp: Stamp::default(), digest: Some(*digest) }))
    }

    fn flush<'a>(&self, paths: impl ExactSizeIterator<Item = &'a &'a Path>) -> Result<(), StoreError> {
        if paths.len() > FLUSHES_MAX {
            // The staging folder is in the store's file system, or the renames would not work.
            let folder = File::open(self.root()).map_err(failed("open", self.root()))?;
            return rustix::fs::syncfs(&folder).map_err(|error| failed("flush", self.root())(error.into()));
        }
        for path in paths {
            File::open(path).and_then(|file| file.sync_data()).map_err(failed("flush", path))?;
        }
        Ok(())
    }

    fn adopt_file(&self, staged: &Path, digest: &Digest, size_bytes: u64) -> Result<(), StoreError> {
        let path = self.content_path(digest);
        let length = fs::metadata(staged).map_err(failed("look at", staged))?.len();
        if length != size_bytes {
            return Err(StoreError::Size { digest: *digest, expected_bytes: size_bytes, found_bytes: length });
        }
        // A file that is there is never replaced by an equal one: somebody may be reading it.
        let moved = rustix::fs::renameat_with(CWD, staged, CWD, &path, RenameFlags::NOREPLACE).map_err(io::Error::from);
        match moved {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == size_bytes) && renew_file(&path)? {
                    return fs::remove_file(staged).map_err(failed("remove", staged));
                }
                fs::rename(staged, &path).map_err(failed("replace", &path))
            }
            // Some file systems have no rename without replacing (NFS); an equal file in its place does no harm there.
            Err(error) if matches!(error.raw_os_error(), Some(code) if code == rustix::io::Errno::INVAL.raw_os_error()) => {
                fs::rename(staged, &path).map_err(failed("create", &path))
            }
            Err(error) => Err(failed("create", &path)(error)),
        }
    }

    /// Keeps a tree as a document; every file must be in the store (see [`Store::adopt`]) or in the tree itself.
    pub fn put_tree(&self, tree: &Tree) -> Result<Digest, StoreError> {
        let _using = self.using()?;
        let nodes = tree.nodes().map(|(path, node)| self.stored(path, node)).collect::<Result<_, _>>()?;
        self.put_bytes(&json(&StoredTree { nodes }))
    }

    /// The tree that [`Store::put_tree`] kept.
    pub fn tree(&self, digest: &Digest) -> Result<Tree, StoreError> {
        let bytes = self.read(digest, DOCUMENT_BYTES_MAX)?.ok_or(StoreError::Missing(*digest))?;
        let stored: StoredTree = parse(&bytes, self.blob_path(digest))?;
        let mut tree = Tree::new();
        for entry in stored.nodes {
            let Entry { path, kind } = self.restored(entry);
            tree.insert(path, kind);
        }
        Ok(tree)
    }

    /// The contents that a tree document names; `None` where the document is not here.
    pub fn contents_of_tree(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        let Some(bytes) = self.read(digest, DOCUMENT_BYTES_MAX)? else { return Ok(None) };
        let stored: StoredTree = parse(&bytes, self.blob_path(digest))?;
        Ok(Some(stored.nodes.into_iter().filter_map(|entry| Some(entry.file?.digest)).collect()))
    }

    /// The contents that a stored recipe or splice names; `None` where it is not here.
    pub fn contents_of_recipe(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        let Some((bytes, path)) = self.read_recipe(digest)? else { return Ok(None) };
        if store_splice::is_splice(&bytes) {
            return store_splice::contents(&bytes, path).map(Some);
        }
        let stored: StoredRecipe = parse(&bytes, path)?;
        Ok(Some(stored.entries.into_iter().filter_map(|entry| Some(entry.file?.digest)).collect()))
    }

    fn read_recipe(&self, digest: &Digest) -> Result<Option<(Vec<u8>, PathBuf)>, StoreError> {
        let path = self.recipe_path(digest);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some((bytes, path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Keeps a layer as a recipe under the digest of its tar, which the caller has computed (`seal.rs`).
    pub fn put_recipe(&self, digest: &Digest, recipe: &Recipe) -> Result<(), StoreError> {
        let path = self.recipe_path(digest);
        let _using = self.using()?;
        if renew_file(&path)? {
            return Ok(());
        }
        let entries = recipe.entries().iter().map(|entry| self.stored(&entry.path, &entry.kind)).collect::<Result<_, _>>()?;
        let bytes = json(&StoredRecipe { entries, modified_s: recipe.modified_s() });
        self.write(&path, &bytes)
    }

    pub(super) fn load_recipe(&self, digest: &Digest) -> Result<Option<Rendered>, StoreError> {
        let Some((bytes, path)) = self.read_recipe(digest)? else { return Ok(None) };
        if store_splice::is_splice(&bytes) {
            return self.load_splice(&bytes, path).map(|splice| Some(Rendered::Splice(Arc::new(splice))));
        }
        let stored: StoredRecipe = parse(&bytes, path.clone())?;
        let entries = stored.entries.into_iter().map(|entry| self.restored(entry)).collect();
        let recipe = Recipe::new(entries, stored.modified_s).map_err(|error| StoreError::Damaged { path, what: error.to_string() })?;
        Ok(Some(Rendered::Recipe(Arc::new(recipe))))
    }

    fn stored(&self, path: &TreePath, kind: &EntryKind) -> Result<StoredEntry, StoreError> {
        let EntryKind::File { size_bytes, executable, content } = kind else {
            return Ok(StoredEntry { file: None, path: path.clone() });
        };
        let digest = match content {
            Content::Inline(bytes) => self.put_content(bytes)?,
            Content::Local(file) => {
                let digest = file.digest.ok_or_else(|| StoreError::Unhashed(file.path.clone()))?;
                if !renew_file(&self.content_path(&digest))? {
                    return Err(StoreError::Missing(digest));
                }
                digest
            }
        };
        Ok(StoredEntry { file: Some(StoredFile { digest, executable: *executable, size_bytes: *size_bytes }), path: path.clone() })
    }

    fn restored(&self, entry: StoredEntry) -> Entry {
        let kind = match entry.file {
            None => EntryKind::Folder,
            Some(file) => {
                let content = self.content(&file.digest);
                EntryKind::File { size_bytes: file.size_bytes, executable: file.executable, content }
            }
        };
        Entry { path: entry.path, kind }
    }

    /// Keeps a small file of a model that was never on disk, such as the compiled contract.
    pub(super) fn put_content(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.content_path(&digest);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes.len() as u64) && renew_file(&path)? {
            return Ok(digest);
        }
        self.write(&path, bytes)?;
        Ok(digest)
    }
}

pub(super) fn json<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).expect("paths, numbers and digests are representable in JSON")
}

pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], path: PathBuf) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Damaged { path, what: error.to_string() })
}
