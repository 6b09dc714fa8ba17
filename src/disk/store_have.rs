//! Have and want: which of the files that somebody lists are in the store.
//!
//! A listed file is here where its digest is a content, or a blob: a client pushes large files to `/v2/`, where a push goes on after a broken line, and
//! a file that somebody has pushed as an artifact of any kind need not come again. Such a blob becomes content by a second name for the same bytes. It
//! stays a blob as well, since an image may name it; which of the two names goes when is the collector's business.
//!
//! What is found counts as used now, so that whoever holds a staging folder meanwhile keeps it (`store_use.rs`).
//!
//! What must stay true: a digest is believed because the store has hashed those bytes itself, a size because it is that of the file; what the list says
//! of either decides nothing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::sync::Arc;

use super::atomic::{self, Existing};
use super::store::{Store, StoreError, failed};
use super::store_use::renew_file;
use crate::model::tree::Tree;
use crate::oci::digest::Digest;
use crate::oci::layer::{Content, EntryKind, LocalFile, Stamp};

/// What is here of a list of files.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The listed tree; the files that are here point into the store.
    pub tree: Tree,
    /// What is not here.
    pub wanted: BTreeSet<Digest>,
}

impl Store {
    /// Looks for the files of a list (`model/listing.rs`). One that is here with another size than the list says is refused.
    pub fn find_contents(&self, listed: &Tree) -> Result<Found, StoreError> {
        let mut found = Found::default();
        for (path, node) in listed.nodes() {
            let mut node = node.clone();
            if let EntryKind::File { size_bytes, content, .. } = &mut node
                && let Content::Local(file) = &*content
            {
                let digest = file.digest.ok_or_else(|| StoreError::Unhashed(file.path.clone()))?;
                match self.find_content(&digest, *size_bytes)? {
                    Some(here) => *content = here,
                    None => drop(found.wanted.insert(digest)),
                }
            }
            found.tree.insert(path.clone(), node);
        }
        Ok(found)
    }

    fn find_content(&self, digest: &Digest, expected_bytes: u64) -> Result<Option<Content>, StoreError> {
        for path in [self.content_path(digest), self.blob_path(digest)] {
            let using = self.using()?;
            if !renew_file(&path)? {
                continue;
            }
            let found_bytes = fs::metadata(&path).map_err(failed("look at", &path))?.len();
            drop(using);
            if found_bytes != expected_bytes {
                return Err(StoreError::Size { digest: *digest, expected_bytes, found_bytes });
            }
            return Ok(Some(Content::Local(Arc::new(LocalFile { path, stamp: Stamp::default(), digest: Some(*digest) }))));
        }
        Ok(None)
    }

    /// Makes a blob content as well. Not a byte is written where the file system knows second names.
    pub(super) fn name_blob_as_content(&self, digest: &Digest) -> Result<(), StoreError> {
        let (blob, path) = (self.blob_path(digest), self.content_path(digest));
        match fs::hard_link(&blob, &path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing(*digest)),
            // Some file systems have none (exFAT, some network shares), and the folders may lie on two.
            Err(_) => {
                let mut file = self.temporary()?;
                let copied = File::open(&blob).and_then(|mut blob| io::copy(&mut blob, &mut file));
                copied.map_err(failed("copy", &blob))?;
                atomic::publish(file, &path, Existing::Keep).map_err(failed("write", &path))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;

    use super::*;
    use crate::model::listing::Reader;
    use crate::model::tree::Limits;

    fn listed(files: &[(&str, u64, Digest)]) -> Tree {
        let mut reader = Reader::new(Limits::default());
        for (path, size_bytes, digest) in files {
            let line = format!("{{\"path\":\"{path}\",\"size_bytes\":{size_bytes},\"digest\":\"{digest}\"}}\n");
            reader.feed(line.as_bytes()).unwrap();
        }
        reader.finish().unwrap()
    }

    #[test]
    fn a_blob_becomes_content_without_a_byte_written_and_stays_a_blob() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        let digest = store.put_bytes(b"weights").unwrap();
        let other = Digest::of(b"other");
        let found = store.find_contents(&listed(&[("a", 7, digest), ("b", 5, other), ("c/a", 7, digest)])).unwrap();
        assert_eq!(found.wanted, BTreeSet::from([other]));
        assert_eq!(found.tree.len(), 4);

        let found = store.find_contents(&listed(&[("a", 7, digest), ("c/a", 7, digest)])).unwrap();
        let adopted = store.adopt(&found.tree).unwrap();
        assert_eq!(store.tree(&store.put_tree(&adopted).unwrap()).unwrap(), adopted);
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(store.content_path(&digest)), inode(store.blob_path(&digest)));
        fs::remove_file(store.blob_path(&digest)).unwrap();
        assert_eq!(store.find_contents(&listed(&[("a", 7, digest)])).unwrap().wanted, BTreeSet::new());
    }

    #[test]
    fn a_size_that_is_not_the_content_s_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        let digest = store.put_bytes(b"weights").unwrap();
        let error = store.find_contents(&listed(&[("a", 8, digest)])).unwrap_err();
        assert_eq!(error.to_string(), format!("{digest} has 7 bytes and not 8"));
    }
}
