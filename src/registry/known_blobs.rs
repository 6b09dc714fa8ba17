//! In which repositories of a registry a blob is known to be, so that the next model mounts it and sends nothing.
//!
//! A repository is remembered for a blob when the blob was pushed to it, mounted into it, or found in it. The knowledge is a hint and never a reason
//! to leave something out: a mount is the registry's own decision, and an entry that it does not confirm is forgotten. The files are those of
//! `memory.rs`.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::memory::Memory;
use crate::oci::digest::Digest;

/// Smaller blobs are not remembered: they cost no more to send than to ask for.
const BLOB_BYTES_LEAST: u64 = 256 << 10;

/// The most repositories for one blob.
const REPOSITORIES_MAX: usize = 8;

/// The longest name of a repository that registries take (distribution).
const REPOSITORY_BYTES_MAX: usize = 255;

/// What was not seen for so long has likely gone from the registry.
const AGE_MAX: Duration = Duration::from_hours(24 * 180);

/// What is known of one registry.
#[derive(Clone, Debug)]
pub struct KnownBlobs {
    registry: String,
    memory: Option<Memory>,
}

#[derive(Serialize, Deserialize)]
struct Known {
    registry: String,
    digest: Digest,
    repositories: Vec<String>,
}

impl KnownBlobs {
    /// What is kept below `folder` for `registry`; without a folder nothing is ever known.
    pub fn new(registry: &str, folder: Option<&Path>) -> KnownBlobs {
        KnownBlobs { registry: registry.to_owned(), memory: folder.map(|folder| Memory::new(folder.join("blobs"))) }
    }

    /// Repositories that had the blob, the one that was heard of last first.
    pub fn repositories(&self, digest: Digest) -> Vec<String> {
        let Some(memory) = &self.memory else { return Vec::new() };
        let bytes = Memory::read(&memory.path(&[&self.registry, &digest.to_string()]));
        let known = bytes.and_then(|bytes| serde_json::from_slice::<Known>(&bytes).ok());
        let mut repositories = match known {
            Some(known) if known.registry == self.registry && known.digest == digest => known.repositories,
            _ => Vec::new(),
        };
        repositories.retain(|repository| is_repository(repository));
        repositories.truncate(REPOSITORIES_MAX);
        repositories
    }

    /// Remembers that `repository` has the blob.
    pub fn remember(&self, digest: Digest, size_bytes: u64, repository: &str) {
        if size_bytes < BLOB_BYTES_LEAST || !is_repository(repository) {
            return;
        }
        let mut repositories = self.repositories(digest);
        if repositories.first().is_some_and(|first| first == repository) {
            return;
        }
        repositories.retain(|known| known != repository);
        repositories.insert(0, repository.to_owned());
        repositories.truncate(REPOSITORIES_MAX);
        self.keep(digest, repositories);
    }

    /// Takes back that `repository` has the blob.
    pub fn forget(&self, digest: Digest, repository: &str) {
        let mut repositories = self.repositories(digest);
        let before = repositories.len();
        repositories.retain(|known| known != repository);
        if repositories.len() < before {
            self.keep(digest, repositories);
        }
    }

    fn keep(&self, digest: Digest, repositories: Vec<String>) {
        let Some(memory) = &self.memory else { return };
        let path = memory.path(&[&self.registry, &digest.to_string()]);
        let is_new = !path.exists();
        let known = Known { registry: self.registry.clone(), digest, repositories };
        let kept = serde_json::to_vec(&known).map_err(Into::into).and_then(|bytes| memory.write(&path, &bytes));
        let kept = kept.and_then(|()| if is_new { memory.make_room(AGE_MAX) } else { Ok(()) });
        if let Err(error) = kept {
            tracing::debug!(%error, "where blobs are is not remembered");
        }
    }
}

/// Whether a name can stand in a scope and a query: an entry may have been damaged.
fn is_repository(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
    !name.is_empty() && name.len() <= REPOSITORY_BYTES_MAX && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SIZE_BYTES: u64 = 1 << 20;

    #[test]
    fn the_newest_comes_first_and_there_are_not_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownBlobs::new("host", Some(folder.path()));
        let digest = Digest::of(b"blob");
        assert!(known.repositories(digest).is_empty());
        for number in 0..20 {
            known.remember(digest, SIZE_BYTES, &format!("r{number}"));
        }
        known.remember(digest, SIZE_BYTES, "r15");
        let names: Vec<String> = [15, 19, 18, 17, 16, 14, 13, 12].iter().map(|number| format!("r{number}")).collect();
        assert_eq!(known.repositories(digest), names);
        known.forget(digest, "r19");
        known.forget(digest, "never heard of");
        assert_eq!(known.repositories(digest)[..2], ["r15", "r18"]);
        assert!(KnownBlobs::new("other", Some(folder.path())).repositories(digest).is_empty(), "another registry is another place");
        known.remember(Digest::of(b"small"), 1000, "r1");
        assert!(known.repositories(Digest::of(b"small")).is_empty());
    }

    #[test]
    fn damaged_entries_and_folders_are_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownBlobs::new("host", Some(folder.path()));
        let digest = Digest::of(b"blob");
        known.remember(digest, SIZE_BYTES, "a");
        let file = fs::read_dir(folder.path().join("blobs")).unwrap().next().unwrap().unwrap().path();
        let whole = fs::read_to_string(&file).unwrap();
        for text in ["", "{", &whole.replace("\"a\"", "1"), &whole.replace("\"a\"", "\"a b\""), &whole.replace("host", "else")] {
            fs::write(&file, text).unwrap();
            assert!(known.repositories(digest).is_empty(), "{text}");
        }
        fs::remove_dir_all(folder.path().join("blobs")).unwrap();
        known.remember(digest, SIZE_BYTES, "b");
        assert_eq!(known.repositories(digest), ["b"]);
        KnownBlobs::new("host", Some(&file.join("below a file"))).remember(digest, SIZE_BYTES, "a");
        KnownBlobs::new("host", None).remember(digest, SIZE_BYTES, "a");
    }
}
