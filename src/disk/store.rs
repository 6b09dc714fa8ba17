//! The store: everything that the service keeps on disk, by the names of its bytes.
//!
//! ```text
//! DATA/
//!   content/<hex>            the files of models, once each, named by their SHA-256
//!   blobs/<hex>              real bytes: manifests, configs, compressed layers, layers that were pushed, tree documents
//!   recipes/<hex>            layers that exist as recipes or splices over content: named by the digest of what they give
//!   repositories/<name>/_tags/<tag>         a digest, as text
//!   repositories/<name>/_manifests/<hex>    the media type, as text; the bytes are a blob
//!   repositories/<name>/_kept/<tag>         a digest, as text: the tag is a model's version and stays as it is
//!   repositories/<name>/_blobs/<hex>        empty: the blob can be had from this repository
//!   repositories/<name>/_referrers/<hex of the subject>/<hex>    the descriptor of a manifest about the subject
//!   wheels/<hex>/<name>      wheels that were fetched: a cache of the service's, tidied with the rest
//!   uploads/                 what is on its way: sessions, temporary files, staging folders
//!   use.lock                 who uses and who removes (`store_use.rs`)
//! ```
//!
//! (`_tags` because no component of a repository's name begins with `_`: the repository `a/tags/x` and the tag `x` of `a` would be one path.)
//! A digest is answered by its blob or by its recipe. Any number of processes may work in one store: everything appears by an atomic
//! rename under the name of its content, so two that write the same thing write the same file. What nothing refers to any more is removed by
//! `build/collect.rs`, which knows the catalog as well; whoever finds that something is here already renews it, so that it stays (`store_use.rs`).
//!
//! What must stay true: a file in `content/` or `blobs/` has the bytes that its name says, since it was hashed on its way in; and no
//! name from outside becomes a path before it has been checked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::render::RenderError;
use super::store_splice::Rendered;
use super::store_use::LOCK;
use super::verified::CopyError;
use crate::fault::{Failure, Fault};
use crate::oci::digest::{Digest, Hasher};

/// How many parsed recipes are kept: pulls ask for one layer in many ranges.
const RECIPES_KEPT: usize = 8;

/// A data folder.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// The recipes asked for last, latest last.
    recipes: Mutex<Vec<(Digest, Rendered)>>,
    /// How far uploads in pieces have been hashed, so that they need not be read again.
    pub(super) hashers: Mutex<BTreeMap<String, RunningHash>>,
}

/// The hash of the first bytes of an upload.
#[derive(Clone)]
pub(super) struct RunningHash(pub(super) Hasher);

impl std::fmt::Debug for RunningHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunningHash({} bytes)", self.0.size_bytes())
    }
}

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("cannot {operation} `{}`", .path.display())]
    Disk {
        /// The verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Bytes do not have the digest that they came with.
    #[error("what was sent as {expected} is {found}")]
    Mismatch {
        /// The name that they came with.
        expected: Digest,
        /// Their digest.
        found: Digest,
    },
    /// Bytes are not as many as was said.
    #[error("{digest} has {found_bytes} bytes and not {expected_bytes}")]
    Size {
        /// Their name.
        digest: Digest,
        /// What was said.
        expected_bytes: u64,
        /// What there is.
        found_bytes: u64,
    },
    /// A stream that was to be stored failed, or was not what it was said to be.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The files of a model changed, or cannot be read.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// It is not in the store.
    #[error("{0} is not in the store")]
    Missing(Digest),
    /// A range that is not in a blob.
    #[error("{digest} has {size_bytes} bytes; there are no bytes {} to {}", .range.start, .range.end)]
    Range {
        /// The blob.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// What was asked for.
        range: Range<u64>,
    },
    /// A file of the store is not what it must be.
    #[error("`{}` in the store is damaged: {what}", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A model's file whose digest nobody has computed.
    #[error("`{}` cannot be kept in the store: it has not been hashed", .0.display())]
    Unhashed(PathBuf),
    /// Not a repository's name.
    #[error("`{}` is not a repository name: lower-case components of letters and digits, joined by `.`, `_`, `-` and `/`", .0.escape_debug())]
    Repository(String),
    /// Neither a tag nor a digest.
    #[error("`{}` is neither a tag nor a digest", .0.escape_debug())]
    Key(String),
    /// A tag that is a model's version.
    #[error("`{repository}:{tag}` is a version of a model and is never changed")]
    Kept {
        /// The repository.
        repository: String,
        /// The tag.
        tag: String,
    },
    /// A blob that a manifest of the repository names.
    #[error("{digest} is part of {manifest} in `{repository}`")]
    InUse {
        /// The repository.
        repository: String,
        /// The blob.
        digest: Digest,
        /// Who names it.
        manifest: Digest,
    },
    /// There is no such upload.
    #[error("there is no upload `{}`", .0.escape_debug())]
    NoUpload(String),
    /// Somebody else writes to the upload.
    #[error("another request writes to upload `{0}`")]
    Busy(String),
    /// A blob is larger than any that we keep.
    #[error("the upload is past the limit of {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
}

impl Failure for StoreError {
    fn fault(&self) -> Fault {
        match self {
            StoreError::Disk { .. } | StoreError::Damaged { .. } | StoreError::Unhashed(_) => Fault::Ours,
            StoreError::Mismatch { .. } | StoreError::Size { .. } | StoreError::Repository(_) | StoreError::Key(_) => Fault::Invalid,
            StoreError::Copy(error) => error.fault(),
            StoreError::Render(error) => error.fault(),
            StoreError::Missing(_) | StoreError::NoUpload(_) | StoreError::Range { .. } => Fault::Missing,
            StoreError::Busy(_) | StoreError::Kept { .. } | StoreError::InUse { .. } => Fault::Conflict,
            StoreError::TooLarge { .. } => Fault::TooLarge,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            StoreError::Render(error) => error.remedy(),
            StoreError::Copy(error) => error.remedy(),
            StoreError::Kept { .. } => Some("use another tag, or upload the model: that makes the next version".to_owned()),
            StoreError::InUse { manifest, .. } => Some(format!("delete manifest {manifest} first")),
            StoreError::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull => Some("make room on that disk".to_owned()),
            _ => None,
        }
    }
}

/// A closure that says which operation on which path failed.
pub(super) fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Disk { operation, path: path.to_owned(), source }
}

impl Store {
    /// Opens the store in `root`, and makes it where there is none.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        for folder in ["content", "blobs", "recipes", "repositories", "uploads"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(failed("create", &path))?;
        }
        let root = fs::canonicalize(root).map_err(failed("open", root))?;
        let lock = root.join(LOCK);
        File::options().create(true).append(true).open(&lock).map_err(failed("create", &lock))?;
        Ok(Store { root, recipes: Mutex::default(), hashers: Mutex::default() })
    }

    /// The data folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn content_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("content").join(digest.hex())
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    pub(super) fn recipe_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("recipes").join(digest.hex())
    }

    pub(super) fn repositories_folder(&self) -> PathBuf {
        self.root.join("repositories")
    }

    pub(super) fn uploads_folder(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// Whether the store can answer `digest`, as a blob or as a recipe. Who relies on it later uses [`Store::renew`].
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file() || self.recipe_path(digest).is_file()
    }

    /// The size of what `digest` names; `None` where it is not in the store.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => return Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", &path)(error)),
        }
        Ok(self.recipe(digest)?.map(|recipe| recipe.size_bytes()))
    }

    /// The bytes of `range` of what `digest` names. They are as many as the range has, or the read fails.
    pub fn open_range(&self, digest: &Digest, range: Range<u64>) -> Result<Box<dyn Read + Send>, StoreError> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Ok(mut file) => {
                let size_bytes = file.metadata().map_err(failed("look at", &path))?.len();
                check_range(digest, &range, size_bytes)?;
                file.seek(SeekFrom::Start(range.start)).map_err(failed("read", &path))?;
                return Ok(Box::new(file.take(range.end - range.start)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("open", &path)(error)),
        }
        let recipe = self.recipe(digest)?.ok_or(StoreError::Missing(*digest))?;
        check_range(digest, &range, recipe.size_bytes())?;
        Ok(recipe.range(range))
    }

    /// All bytes of what `digest` names, and their number.
    pub fn open_blob(&self, digest: &Digest) -> Result<(u64, Box<dyn Read + Send>), StoreError> {
        let size_bytes = self.size(digest)?.ok_or(StoreError::Missing(*digest))?;
        Ok((size_bytes, self.open_range(digest, 0..size_bytes)?))
    }

    /// The bytes of a small blob (a manifest, a config, a tree), compared with their name. One larger than `bytes_max` is refused.
    pub fn read(&self, digest: &Digest, bytes_max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        if bytes.len() as u64 > bytes_max {
            return Err(StoreError::TooLarge { bytes_max });
        }
        if Digest::of(&bytes) != *digest {
            return Err(StoreError::Damaged { path, what: "its bytes are not those of its name".to_owned() });
        }
        Ok(Some(bytes))
    }

    /// The recipe or splice called `digest`; `None` where there is none.
    pub fn recipe(&self, digest: &Digest) -> Result<Option<Rendered>, StoreError> {
        let kept = || self.recipes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, recipe)) = kept().iter().find(|(known, _)| known == digest) {
            return Ok(Some(recipe.clone()));
        }
        let Some(recipe) = self.load_recipe(digest)? else { return Ok(None) };
        let mut kept = kept();
        if kept.len() == RECIPES_KEPT {
            kept.remove(0);
        }
        kept.push((*digest, recipe.clone()));
        Ok(Some(recipe))
    }

    /// Forgets the parsed recipes whose files have been removed.
    pub(super) fn forget_recipes(&self) {
        self.recipes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).retain(|(digest, _)| self.recipe_path(digest).is_file());
    }
}

fn check_range(digest: &Digest, range: &Range<u64>, size_bytes: u64) -> Result<(), StoreError> {
    if range.start > range.end || range.end > size_bytes {
        return Err(StoreError::Range { digest: *digest, size_bytes, range: range.clone() });
    }
    Ok(())
}
