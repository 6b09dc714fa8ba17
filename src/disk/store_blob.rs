//! Real bytes into the store.
//!
//! A [`BlobWriter`] hashes what it is given while it writes it to a temporary file; only [`BlobWriter::commit`] gives the file a name, and
//! only the name that its bytes have. One that is dropped leaves nothing.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use super::atomic::{self, Existing};
use super::store::{Store, StoreError, failed};
use super::store_use::renew_file;
use super::verified::{CopyError, copy};
use crate::oci::digest::{Digest, Hasher};
use crate::oci::image::{LayerSource, SealedLayer};
use crate::oci::manifest::Descriptor;

/// The largest blob that is taken: the largest model of the default limits in one layer, and room for headers.
pub const BLOB_BYTES_MAX: u64 = 65 << 30;

/// A blob on its way into the store.
pub struct BlobWriter<'a> {
    store: &'a Store,
    file: NamedTempFile,
    hasher: Hasher,
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter<'_> {
    /// How many bytes it has been given.
    pub fn size_bytes(&self) -> u64 {
        self.hasher.size_bytes()
    }

    /// Puts the bytes into the store under their digest, which must be `expected` where that is given.
    pub fn commit(self, expected: Option<Digest>) -> Result<Digest, StoreError> {
        let (size_bytes, found) = (self.hasher.size_bytes(), self.hasher.finish());
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(StoreError::Mismatch { expected, found });
        }
        self.store.publish_blob(self.file, found, size_bytes)?;
        Ok(found)
    }
}

impl Store {
    /// A writer for one blob.
    pub fn blob_writer(&self) -> Result<BlobWriter<'_>, StoreError> {
        Ok(BlobWriter { store: self, file: self.temporary()?, hasher: Hasher::new() })
    }

    /// Puts a small blob into the store.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        let using = self.using()?;
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes.len() as u64) && renew_file(&path)? {
            return Ok(digest);
        }
        drop(using);
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(failed("write", &path))?;
        writer.commit(Some(digest))
    }

    /// Puts a blob into the store from a stream, which must have the bytes that the descriptor says and no more.
    pub fn put_blob(&self, descriptor: &Descriptor, source: &mut dyn Read) -> Result<(), StoreError> {
        let mut writer = self.blob_writer()?;
        copy(descriptor, source, &mut writer.file).map_err(|error| match error {
            CopyError::Write(error) => failed("write to", &self.uploads_folder())(error),
            error => StoreError::Copy(error),
        })?;
        self.publish_blob(writer.file, descriptor.digest, descriptor.size_bytes)
    }

    /// Puts a layer of ours into the store: as a recipe over content that is here, or its file as a blob.
    pub fn put_layer(&self, layer: &SealedLayer) -> Result<(), StoreError> {
        match &layer.source {
            LayerSource::Recipe(recipe) => self.put_recipe(&layer.digest, recipe),
            LayerSource::Splice(splice) => self.put_splice(&layer.digest, splice),
            LayerSource::File(path) => {
                let mut file = fs::File::open(path).map_err(failed("open", path))?;
                let descriptor = Descriptor::new("", layer.digest, layer.size_bytes);
                self.put_blob(&descriptor, &mut file)
            }
            LayerSource::Elsewhere | LayerSource::Remake(..) if self.renew(&layer.digest)? => Ok(()),
            LayerSource::Elsewhere | LayerSource::Remake(..) => Err(StoreError::Missing(layer.digest)),
        }
    }

    /// Puts a file that was hashed while it was written into a staging folder of this store: by a second name, so that its bytes are written once. `false`
    /// where it lies elsewhere, or the file system knows no second names: then it has to be copied.
    pub(super) fn put_staged(&self, descriptor: &Descriptor, file: &Path) -> Result<bool, StoreError> {
        let path = self.blob_path(&descriptor.digest);
        let size_bytes = fs::metadata(file).map_err(failed("look at", file))?.len();
        if !file.starts_with(self.uploads_folder()) || size_bytes != descriptor.size_bytes {
            return Ok(false);
        }
        fs::File::open(file).and_then(|file| file.sync_data()).map_err(failed("flush", file))?;
        let _using = self.using()?;
        // One that is there may have been cut by a disk: the copy looks, and replaces it.
        if fs::hard_link(file, &path).is_err() {
            return Ok(false);
        }
        let folder = self.root().join("blobs");
        atomic::flush_folder(&folder).map_err(failed("flush", &folder))?;
        renew_file(&path)
    }

    /// Gives a finished file its name among the blobs.
    pub(super) fn publish_blob(&self, file: NamedTempFile, digest: Digest, size_bytes: u64) -> Result<(), StoreError> {
        let path = self.blob_path(&digest);
        // The long part of publishing, before anybody has to wait for it.
        file.as_file().sync_data().map_err(failed("flush", &path))?;
        let _using = self.using()?;
        // One that is there has been hashed on its way in; its size tells whether a disk has lost some of it since.
        let whole = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == size_bytes);
        let existing = if whole { Existing::Keep } else { Existing::Replace };
        atomic::publish(file, &path, existing).map_err(failed("write", &path))?;
        renew_file(&path).map(|_| ())
    }
}
