//! What goes out of a repository again: tags, manifests, blobs.
//!
//! Only the repository's own entries go. The bytes may be another repository's too, or a model's; they stay until a collection finds that nothing
//! needs them (`build/collect.rs`). A tag that is a model's version stays, and with it all that it leads to.
//!
//! What must stay true: entries go in an order in which, wherever it stops, none that is left leads to one that is gone: tags, then the manifest.

use std::collections::BTreeSet;

use super::store::{Store, StoreError};
use super::store_members::BLOBS;
use super::store_repositories::{KEPT, MANIFESTS, TAGS, list, read_digest};
use super::store_use::remove_file;
use crate::oci::digest::Digest;
use crate::oci::manifest::{Document, MANIFEST_BYTES_MAX};
use crate::oci::mentions;

impl Store {
    /// Removes a tag; its manifest stays. `false` where there is no such tag.
    pub fn delete_tag(&self, repository: &str, tag: &str) -> Result<bool, StoreError> {
        let folder = self.repository_folder(repository)?;
        let _removing = self.removing()?;
        if folder.join(KEPT).join(tag).is_file() {
            return Err(StoreError::Kept { repository: repository.to_owned(), tag: tag.to_owned() });
        }
        let path = folder.join(TAGS).join(tag);
        let Some(manifest) = read_digest(&path)? else { return Ok(false) };
        let removed = remove_file(&path)?;
        super::store_use::renew_file(&folder.join(MANIFESTS).join(manifest.hex()))?;
        Ok(removed)
    }

    /// Removes a manifest and the tags that point at it. `false` where there is no such manifest.
    pub fn delete_manifest(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        let folder = self.repository_folder(repository)?;
        let _removing = self.removing()?;
        if !folder.join(MANIFESTS).join(digest.hex()).is_file() {
            return Ok(false);
        }
        for tag in list(&folder.join(KEPT))? {
            let Some(top) = read_digest(&folder.join(KEPT).join(&tag))? else { continue };
            if top == *digest || self.mentions(repository, &top)?.contains(digest) {
                return Err(StoreError::Kept { repository: repository.to_owned(), tag });
            }
        }
        for tag in list(&folder.join(TAGS))? {
            let path = folder.join(TAGS).join(tag);
            if read_digest(&path)? == Some(*digest) {
                remove_file(&path)?;
            }
        }
        self.remove_entry(repository, digest)
    }

    /// Takes a blob out of a repository. `false` where the repository does not have it. One that a manifest there names stays.
    pub fn delete_blob(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        let folder = self.repository_folder(repository)?;
        let _removing = self.removing()?;
        let link = folder.join(BLOBS).join(digest.hex());
        if !link.is_file() {
            return Ok(false);
        }
        for manifest in digests_in(&list(&folder.join(MANIFESTS))?) {
            if self.mentions(repository, &manifest)?.contains(digest) {
                return Err(StoreError::InUse { repository: repository.to_owned(), digest: *digest, manifest });
            }
        }
        remove_file(&link)
    }

    /// Removes a manifest's entries, to which no tag points. Under the lock to remove.
    pub(super) fn remove_entry(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        let folder = self.repository_folder(repository)?;
        let bytes = self.read(digest, MANIFEST_BYTES_MAX).ok().flatten();
        let removed = remove_file(&folder.join(MANIFESTS).join(digest.hex()))?;
        // A referrer without its manifest is not listed; its entry goes here, and where that fails with the next removal of that subject's.
        if let Some(Ok(Some(referral))) = bytes.map(|bytes| mentions::referral(&Document::new("", bytes))) {
            let entries = self.referrers_folder(repository, &referral.subject)?;
            remove_file(&entries.join(digest.hex()))?;
            // The last one takes the folder with it.
            let _ = std::fs::remove_dir(&entries);
        }
        Ok(removed)
    }

    /// What a manifest of a repository names. One that cannot be read is an error: what it names must stay, and cannot be known.
    pub(super) fn mentions(&self, repository: &str, digest: &Digest) -> Result<BTreeSet<Digest>, StoreError> {
        let bytes = self.read(digest, MANIFEST_BYTES_MAX)?.ok_or(StoreError::Missing(*digest))?;
        let path = || self.repositories_folder().join(repository).join(MANIFESTS).join(digest.hex());
        mentions::digests(&bytes).map_err(|error| StoreError::Damaged { path: path(), what: error.to_string() })
    }
}

/// The names that are the hex digits of digests.
pub(super) fn digests_in(names: &[String]) -> impl Iterator<Item = Digest> + '_ {
    names.iter().filter_map(|name| format!("sha256:{name}").parse().ok())
}
