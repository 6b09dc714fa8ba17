//! What belongs to a repository beside its manifests: blobs, and who refers to what.
//!
//! The store has each blob once; a repository has it by an empty file under its digest. It gets one when the blob is pushed to it or mounted, and for
//! every blob of the store that one of its manifests names. A manifest with a `subject` is listed under that subject, whether the subject is there or
//! not, with the descriptor that the referrers API gives.
//!
//! What must stay true: a manifest that is in a repository has its members there, since they are written before it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;

use super::atomic;
use super::store::{Store, StoreError, failed};
use super::store_removal::digests_in;
use super::store_repositories::{MANIFESTS, list, read_text};
use super::store_use::renew_file;
use crate::oci::digest::Digest;
use crate::oci::json::canonical;
use crate::oci::manifest::{Descriptor, Document};
use crate::oci::mentions::{self, Referral};

pub(super) const BLOBS: &str = "_blobs";
pub(super) const REFERRERS: &str = "_referrers";

impl Store {
    /// Whether a repository has a blob that the store can answer.
    pub fn has_blob_in(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        self.link_named(repository)?;
        Ok(self.link_path(repository, digest)?.is_file() && self.has(digest))
    }

    /// The same; the blob then counts as used now, as by a client that asks in order to push what is missing.
    pub fn renew_blob_in(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        self.link_named(repository)?;
        let _using = self.using()?;
        Ok(renew_file(&self.link_path(repository, digest)?)? && self.renew(digest)?)
    }

    /// Puts a blob of the store into a repository; `false` where the store does not have it.
    pub fn mount_blob(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        let _using = self.using()?;
        if !self.renew(digest)? {
            return Ok(false);
        }
        self.link_blobs(repository, [*digest])?;
        Ok(true)
    }

    /// Gives a repository the blobs that its manifests name, where it has none: earlier releases kept no account of them.
    fn link_named(&self, repository: &str) -> Result<(), StoreError> {
        let folder = self.repository_folder(repository)?;
        if folder.join(BLOBS).is_dir() || !folder.join(MANIFESTS).is_dir() {
            return Ok(());
        }
        let _using = self.using()?;
        let mut blobs = BTreeSet::new();
        for manifest in digests_in(&list(&folder.join(MANIFESTS))?) {
            blobs.extend(self.mentions(repository, &manifest)?.into_iter().filter(|digest| self.has(digest)));
        }
        blobs.retain(|digest| !folder.join(MANIFESTS).join(digest.hex()).is_file());
        self.link_blobs(repository, blobs)
    }

    /// Makes blobs a repository's, which has them or gets them with this.
    pub(super) fn link_blobs(&self, repository: &str, digests: impl IntoIterator<Item = Digest>) -> Result<(), StoreError> {
        let folder = self.repository_folder(repository)?.join(BLOBS);
        let mut made = false;
        for digest in digests {
            let path = folder.join(digest.hex());
            if renew_file(&path)? {
                continue;
            }
            if !made {
                fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
                made = true;
            }
            // Empty, so there is no half of it, and the folder's flush is enough.
            File::options().create(true).append(true).open(&path).map_err(failed("create", &path))?;
        }
        if made { atomic::flush_folder(&folder).map_err(failed("flush", &folder)) } else { Ok(()) }
    }

    /// Gives a repository what a manifest that it is about to get names: the blobs that the store has, which count as used now, and its place among its
    /// subject's referrers. A document that is no JSON names nothing.
    pub(super) fn take_members(&self, repository: &str, document: &Document) -> Result<(), StoreError> {
        let manifests = self.repository_folder(repository)?.join(MANIFESTS);
        let mut blobs = Vec::new();
        for digest in mentions::digests(&document.bytes).unwrap_or_default() {
            // A manifest of the repository is not one of its blobs, though its bytes are one of the store's.
            if !renew_file(&manifests.join(digest.hex()))? && self.renew(&digest)? {
                blobs.push(digest);
            }
        }
        self.link_blobs(repository, blobs)?;
        match mentions::referral(document) {
            Ok(Some(Referral { subject, descriptor })) => {
                let path = self.referrers_folder(repository, &subject)?.join(descriptor.digest.hex());
                self.write(&path, &canonical(&serde_json::json!(descriptor)))
            }
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// The manifests of a repository whose subject is `subject`, sorted by digest, after the digest `after`; the descriptors come one by one, since each may
    /// be as large as a manifest.
    pub fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        after: Option<Digest>,
    ) -> Result<impl Iterator<Item = Result<Descriptor, StoreError>> + use<>, StoreError> {
        let (folder, manifests) = (self.referrers_folder(repository, subject)?, self.repository_folder(repository)?.join(MANIFESTS));
        let after = after.map(|digest| digest.hex());
        let names = list(&folder)?.into_iter().filter(move |name| after.as_ref().is_none_or(|after| name > after));
        let read = move |name: String| {
            // Where it was written and the manifest was not, somebody fell between the two.
            if !manifests.join(&name).is_file() {
                return Ok(None);
            }
            let path = folder.join(&name);
            let Some(text) = read_text(&path)? else { return Ok(None) };
            serde_json::from_str(&text).map(Some).map_err(|error| StoreError::Damaged { path, what: error.to_string() })
        };
        Ok(names.filter_map(move |name| read(name).transpose()))
    }

    pub(super) fn referrers_folder(&self, repository: &str, subject: &Digest) -> Result<PathBuf, StoreError> {
        Ok(self.repository_folder(repository)?.join(REFERRERS).join(subject.hex()))
    }

    fn link_path(&self, repository: &str, digest: &Digest) -> Result<PathBuf, StoreError> {
        Ok(self.repository_folder(repository)?.join(BLOBS).join(digest.hex()))
    }
}
