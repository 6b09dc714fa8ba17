//! Repositories: which manifests a repository has, and what its tags point at.
//!
//! A manifest's bytes are a blob; the repository keeps its media type under its digest, and a tag is a file with a digest in it. A tag is
//! written last and by rename, so whoever follows it finds the manifest. Names and tags come from strangers: they are checked against
//! the distribution specification's grammar before they become paths. Which blobs a repository has is `store_members.rs`, and what goes out of
//! it again `store_removal.rs`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::store::{Store, StoreError, failed};
use super::store_use::renew_file;
use crate::oci::digest::Digest;
use crate::oci::manifest::{Document, MANIFEST_BYTES_MAX};

pub(super) const TAGS: &str = "_tags";
pub(super) const MANIFESTS: &str = "_manifests";
/// Tags that are a model's version: written once, never pointed elsewhere.
pub(super) const KEPT: &str = "_kept";
/// Distribution-spec: many implementations limit names to 255 characters, the host's included.
const REPOSITORY_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;
/// How deep `a/b/c/…` is looked for when repositories are listed: 255 bytes have at most 128 components.
const DEPTH_MAX: usize = 128;

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKey {
    /// Whatever the tag points at.
    Tag(String),
    /// This and no other.
    Digest(Digest),
}

impl ManifestKey {
    /// Reads a tag or a digest.
    pub fn parse(text: &str) -> Result<ManifestKey, StoreError> {
        let refuse = || StoreError::Key(text.chars().take(200).collect());
        if text.contains(':') {
            return text.parse().map(ManifestKey::Digest).map_err(|_| refuse());
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let valid = text.len() <= TAG_BYTES_MAX && text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-');
        if valid { Ok(ManifestKey::Tag(text.to_owned())) } else { Err(refuse()) }
    }
}

/// Whether `name` is a repository's name by the distribution specification ("Pulling manifests").
pub fn is_repository(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let component = |text: &str| {
        let bounded = text.starts_with(alphanumeric) && text.ends_with(alphanumeric);
        // Between letters: one dot, one or two underscores, or any number of hyphens.
        let separators = text.split(alphanumeric).filter(|separator| !separator.is_empty());
        bounded && separators.into_iter().all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
    };
    name.len() <= REPOSITORY_BYTES_MAX && name.split('/').all(component)
}

impl Store {
    /// Keeps a manifest in a repository and, where `key` is a tag, points the tag at it. Blobs that it names are the repository's from then on;
    /// whether all that it names is there is the caller's to know.
    pub fn put_manifest(&self, repository: &str, key: &str, document: &Document) -> Result<(), StoreError> {
        let folder = self.repository_folder(repository)?;
        let key = ManifestKey::parse(key)?;
        let found = Digest::of(&document.bytes);
        let named = if let ManifestKey::Digest(digest) = key { digest } else { document.digest };
        if named != found {
            return Err(StoreError::Mismatch { expected: named, found });
        }
        if let ManifestKey::Tag(tag) = &key
            && let Some(kept) = read_text(&folder.join(KEPT).join(tag))?
            && kept != found.to_string()
        {
            return Err(StoreError::Kept { repository: repository.to_owned(), tag: tag.clone() });
        }
        let _using = self.using()?;
        self.put_bytes(&document.bytes)?;
        self.take_members(repository, document)?;
        let path = folder.join(MANIFESTS).join(found.hex());
        self.write(&path, document.media_type.as_bytes())?;
        if let ManifestKey::Tag(tag) = key {
            let path = folder.join(TAGS).join(tag);
            let before = read_digest(&path)?.filter(|before| *before != found);
            self.write(&path, found.to_string().as_bytes())?;
            self.renew_untagged(repository, before)?;
        }
        Ok(())
    }

    /// What has just lost a tag is young again: somebody may be reading it, a build its base.
    pub(super) fn renew_untagged(&self, repository: &str, manifest: Option<Digest>) -> Result<(), StoreError> {
        match manifest {
            Some(digest) => self.renew_manifest(repository, &digest).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Whether a repository has a manifest, which then counts as used now.
    pub fn renew_manifest(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        let _using = self.using()?;
        renew_file(&self.repository_folder(repository)?.join(MANIFESTS).join(digest.hex()))
    }

    /// Keeps a tag as it is from now on: no other manifest is taken under it, whoever pushes.
    pub fn keep_tag(&self, repository: &str, tag: &str) -> Result<(), StoreError> {
        let folder = self.repository_folder(repository)?;
        if let Some(pointed) = read_text(&folder.join(TAGS).join(tag))? {
            self.write(&folder.join(KEPT).join(tag), pointed.as_bytes())?;
        }
        Ok(())
    }

    /// What a tag is kept at.
    pub fn kept_tag(&self, repository: &str, tag: &str) -> Result<Option<Digest>, StoreError> {
        read_digest(&self.repository_folder(repository)?.join(KEPT).join(tag))
    }

    /// Lets a tag that was kept be pointed elsewhere again.
    pub fn free_tag(&self, repository: &str, tag: &str) -> Result<(), StoreError> {
        let path = self.repository_folder(repository)?.join(KEPT).join(tag);
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    /// The manifest that a tag or a digest names in a repository.
    pub fn manifest(&self, repository: &str, key: &str) -> Result<Option<Document>, StoreError> {
        let folder = self.repository_folder(repository)?;
        let digest = match ManifestKey::parse(key)? {
            ManifestKey::Digest(digest) => digest,
            ManifestKey::Tag(tag) => {
                let Some(digest) = read_digest(&folder.join(TAGS).join(tag))? else { return Ok(None) };
                digest
            }
        };
        let Some(media_type) = read_text(&folder.join(MANIFESTS).join(digest.hex()))? else { return Ok(None) };
        let bytes = self.read(&digest, MANIFEST_BYTES_MAX)?.ok_or(StoreError::Missing(digest))?;
        Ok(Some(Document { media_type, bytes, digest }))
    }

    /// The tags of a repository, sorted; `None` where there is no such repository.
    pub fn tags(&self, repository: &str) -> Result<Option<Vec<String>>, StoreError> {
        let folder = self.repository_folder(repository)?;
        if !folder.join(MANIFESTS).is_dir() {
            return Ok(None);
        }
        let names = list(&folder.join(TAGS))?;
        // Temporary files begin with a dot; no tag does.
        Ok(Some(names.into_iter().filter(|name| !name.starts_with('.')).collect()))
    }

    /// The names of all repositories, sorted.
    pub fn repositories(&self) -> Result<Vec<String>, StoreError> {
        self.repositories_with(&|component| component == MANIFESTS)
    }

    /// The names of all repositories, sorted, and of those to be: blobs have come, and no manifest yet.
    pub fn repositories_begun(&self) -> Result<Vec<String>, StoreError> {
        self.repositories_with(&|component| component.starts_with('_'))
    }

    fn repositories_with(&self, is_sign: &dyn Fn(&str) -> bool) -> Result<Vec<String>, StoreError> {
        let root = self.repositories_folder();
        let mut found = Vec::new();
        let mut open = vec![String::new()];
        while let Some(name) = open.pop() {
            for component in list(&root.join(&name))? {
                if is_sign(&component) {
                    found.push(name.clone());
                } else if !component.starts_with('_') && name.split('/').count() < DEPTH_MAX {
                    open.push(if name.is_empty() { component } else { format!("{name}/{component}") });
                }
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    pub(super) fn repository_folder(&self, repository: &str) -> Result<PathBuf, StoreError> {
        if !is_repository(repository) {
            return Err(StoreError::Repository(repository.chars().take(300).collect()));
        }
        Ok(self.repositories_folder().join(repository))
    }
}

pub(super) fn read_text(path: &Path) -> Result<Option<String>, StoreError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// The digest that a file holds as text; `None` where there is no such file.
pub(super) fn read_digest(path: &Path) -> Result<Option<Digest>, StoreError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| StoreError::Damaged { path: path.to_owned(), what: "it holds no digest".to_owned() })
}

/// The names in a folder, sorted; none where there is no folder.
pub(super) fn list(folder: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is not UTF-8 is not one of ours.
        names.extend(entry.map_err(failed("list", folder))?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
