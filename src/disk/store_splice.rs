//! Layers that are splices, into the store.
//!
//! A splice is kept as a document among the recipes: its pieces, the digests of the files that they are ranges of, and that of the glue; files and glue are
//! content. A wheel of the service's own cache becomes content by a second name, so that its bytes are on the disk once.
//!
//! What must stay true: as for recipes. The document is written after the content that it names has reached the device, and content is what its name says:
//! a file from elsewhere is hashed on its way in.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::atomic::{self, Existing};
use super::render::{READ_BYTES, Renderer, open_file};
use super::splice_reader::SpliceReader;
use super::store::{Store, StoreError, failed};
use super::store_content::{json, parse};
use super::store_use::renew_file;
use crate::oci::digest::{Digest, Hasher};
use crate::oci::layer::{LocalFile, Recipe, Stamp};
use crate::oci::splice::{PieceSource, Splice, SplicedFile};

/// How the document of a splice begins, and that of a recipe does not: members stand in the order of their names.
const BEGIN: &[u8] = b"{\"files\":";
/// The largest glue that is read: headers of 200,000 files.
const GLUE_BYTES_MAX: u64 = 256 << 20;

/// What gives the bytes of a layer that is no file.
#[derive(Clone, Debug)]
pub enum Rendered {
    /// A tar, from its entries.
    Recipe(Arc<Recipe>),
    /// A blob, from ranges.
    Splice(Arc<Splice>),
}

impl Rendered {
    /// The size of the blob.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Rendered::Recipe(recipe) => recipe.size_bytes(),
            Rendered::Splice(splice) => splice.size_bytes(),
        }
    }

    /// The bytes of a range of it.
    pub fn range(&self, range: Range<u64>) -> Box<dyn Read + Send> {
        match self {
            Rendered::Recipe(recipe) => Box::new(Renderer::range(recipe.clone(), range)),
            Rendered::Splice(splice) => Box::new(SpliceReader::range(splice.clone(), range)),
        }
    }
}

// The members stand in the order of their names, as in `store_content.rs`.
#[derive(Serialize, Deserialize)]
struct StoredSplice {
    files: Vec<StoredFile>,
    glue: Digest,
    /// The size, the file by its place, or none for the glue, and the offset there.
    pieces: Vec<(u64, Option<usize>, u64)>,
}

#[derive(Serialize, Deserialize)]
struct StoredFile {
    digest: Digest,
    size_bytes: u64,
}

/// Whether a document among the recipes is a splice.
pub(super) fn is_splice(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGIN)
}

/// The contents that a stored splice names.
pub(super) fn contents(bytes: &[u8], path: PathBuf) -> Result<Vec<Digest>, StoreError> {
    let stored: StoredSplice = parse(bytes, path)?;
    Ok(stored.files.into_iter().map(|file| file.digest).chain([stored.glue]).collect())
}

impl Store {
    /// Keeps a layer as a splice under the digest of its blob, which the caller has computed (`seal_packed.rs`). Its files become content.
    pub fn put_splice(&self, digest: &Digest, splice: &Splice) -> Result<(), StoreError> {
        let path = self.recipe_path(digest);
        {
            let _using = self.using()?;
            if renew_file(&path)? {
                return Ok(());
            }
        }
        for file in splice.files() {
            self.adopt_archive(file)?;
        }
        let folder = self.root().join("content");
        atomic::flush_folder(&folder).map_err(failed("flush", &folder))?;
        let _using = self.using()?;
        for file in splice.files() {
            if !renew_file(&self.content_path(&file.digest))? {
                return Err(StoreError::Missing(file.digest));
            }
        }
        let pieces = splice.pieces().iter().map(|piece| match piece.from {
            PieceSource::Glue(at) => (piece.size_bytes, None, at),
            PieceSource::File { file, offset_bytes } => (piece.size_bytes, Some(file), offset_bytes),
        });
        let files = splice.files().iter().map(|file| StoredFile { digest: file.digest, size_bytes: file.size_bytes }).collect();
        let stored = StoredSplice { files, glue: self.put_content(splice.glue())?, pieces: pieces.collect() };
        self.write(&path, &json(&stored))
    }

    /// Makes a file content, by a second name where it is one that nobody changes, else by a copy.
    fn adopt_archive(&self, file: &SplicedFile) -> Result<(), StoreError> {
        let path = self.content_path(&file.digest);
        let is_whole = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == file.size_bytes);
        if is_whole && renew_file(&path)? {
            return Ok(());
        }
        let nobody_changes_it = file.local.stamp == Stamp::default();
        if nobody_changes_it && !path.exists() && fs::hard_link(&file.local.path, &path).is_ok() {
            return renew_file(&path).map(drop);
        }
        let mut source = open_file(&file.local, file.size_bytes)?;
        let (mut hasher, mut buffer, mut copy) = (Hasher::new(), vec![0; READ_BYTES], self.temporary()?);
        loop {
            match source.read(&mut buffer).map_err(failed("read", &file.local.path))? {
                0 => break,
                length => {
                    hasher.update(&buffer[..length]);
                    copy.write_all(&buffer[..length]).map_err(failed("write to", &self.uploads_folder()))?;
                }
            }
        }
        let found = hasher.finish();
        if found != file.digest {
            return Err(StoreError::Mismatch { expected: file.digest, found });
        }
        atomic::publish(copy, &path, Existing::Replace).map_err(failed("write", &path))
    }

    pub(super) fn load_splice(&self, bytes: &[u8], path: PathBuf) -> Result<Splice, StoreError> {
        let stored: StoredSplice = parse(bytes, path.clone())?;
        let glue_path = self.content_path(&stored.glue);
        let mut glue = Vec::new();
        let opened = File::open(&glue_path).map_err(failed("open", &glue_path))?;
        opened.take(GLUE_BYTES_MAX).read_to_end(&mut glue).map_err(failed("read", &glue_path))?;
        if Digest::of(&glue) != stored.glue {
            return Err(StoreError::Damaged { path: glue_path, what: "its bytes are not those of its name".to_owned() });
        }
        let file = |file: StoredFile| {
            let local = LocalFile { path: self.content_path(&file.digest), stamp: Stamp::default(), digest: Some(file.digest) };
            SplicedFile { digest: file.digest, size_bytes: file.size_bytes, local: Arc::new(local) }
        };
        let sources: Vec<(u64, PieceSource)> = stored
            .pieces
            .into_iter()
            .map(|(size_bytes, file, offset_bytes)| {
                (size_bytes, file.map_or(PieceSource::Glue(offset_bytes), |file| PieceSource::File { file, offset_bytes }))
            })
            .collect();
        let files = stored.files.into_iter().map(file).collect();
        Splice::new(glue.into(), files, &sources).map_err(|error| StoreError::Damaged { path, what: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn splice(path: &std::path::Path, stamp: Stamp) -> (Digest, Splice) {
        fs::write(path, b"0123456789").unwrap();
        let local = Arc::new(LocalFile { path: path.to_owned(), stamp, digest: None });
        let file = SplicedFile { digest: Digest::of(b"0123456789"), size_bytes: 10, local };
        let sources = [(1, PieceSource::Glue(0)), (4, PieceSource::File { file: 0, offset_bytes: 2 }), (2, PieceSource::Glue(1))];
        (Digest::of(b"<2345=>"), Splice::new(b"<=>".as_slice().into(), vec![file], &sources).unwrap())
    }

    fn bytes(store: &Store, digest: &Digest, range: Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.open_range(digest, range).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_splice_is_answered_by_its_digest_with_its_file_on_the_disk_once() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(&data.path().join("store")).unwrap();
        let wheel = data.path().join("wheel.whl");
        let (digest, splice) = splice(&wheel, Stamp::default());
        store.put_splice(&digest, &splice).unwrap();
        store.put_splice(&digest, &splice).unwrap();
        let content = store.content_path(&splice.files()[0].digest);
        assert_eq!(fs::metadata(&content).unwrap().ino(), fs::metadata(&wheel).unwrap().ino());
        fs::remove_file(&wheel).unwrap();
        assert_eq!(store.size(&digest).unwrap(), Some(7));
        assert_eq!(bytes(&store, &digest, 0..7), b"<2345=>");
        assert_eq!(bytes(&store, &digest, 3..6), b"45=");
        let named = store.contents_of_recipe(&digest).unwrap().unwrap();
        assert_eq!(named, [splice.files()[0].digest, Digest::of(b"<=>")]);
    }

    #[test]
    fn a_file_of_somebody_else_s_is_copied_and_compared() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(&data.path().join("store")).unwrap();
        let wheel = data.path().join("wheel.whl");
        fs::write(&wheel, b"0123456789").unwrap();
        let theirs = crate::disk::render::stamp(&fs::metadata(&wheel).unwrap());
        let (digest, splice) = splice(&wheel, Stamp { inode: theirs.inode, ..Stamp::default() });
        assert!(store.put_splice(&digest, &splice).is_err(), "it is not what it was when it was listed");
        let listed = crate::disk::render::stamp(&fs::metadata(&wheel).unwrap());
        let splice = splice.with_files(|file| Arc::new(LocalFile { stamp: listed, ..LocalFile::clone(&file.local) }));
        store.put_splice(&digest, &splice).unwrap();
        fs::write(&wheel, b"9876543210").unwrap();
        assert_eq!(bytes(&store, &digest, 0..7), b"<2345=>");
    }
}
