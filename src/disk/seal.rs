//! Sealing: a recipe is read once, and what it is called is known.
//!
//! [`seal`] makes a [`SealedLayer`]. Uncompressed, nothing is written: the blob is the tar, and whoever needs its bytes renders the
//! recipe again. Compressed (`pack.rs`), the blob is written to a scratch folder, once, and both digests come from the one pass: making it again would cost a
//! core ten times as long as reading it back.
//!
//! What must stay true: the bytes of a blob are a function of the recipe alone.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::atomic;
use super::pack::{Effort, Packer, WRITE_BYTES};
use super::render::{READ_BYTES, RenderError, Renderer};
use super::{root_tar, stream};
use crate::fault::{Failure, Fault};
use crate::oci::digest::{Digest, Hasher};
use crate::oci::image::{Compression, LayerSource, Purpose, SealedLayer};
use crate::oci::layer::Recipe;

/// Why a layer could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The files cannot be read, or are not what they were.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A tar cannot be read, or is none.
    #[error("cannot read `{}`", .tar.display())]
    Tar {
        /// The file.
        tar: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What was remembered of a layer is not what its files give.
    #[error("a layer was remembered as {remembered}, and its files give {made}")]
    Remembered {
        /// What was remembered.
        remembered: Digest,
        /// What the files give.
        made: Digest,
    },
    /// The compressed layer cannot be written.
    #[error("cannot write a compressed layer to `{}`", .folder.display())]
    Write {
        /// The scratch folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Failure for SealError {
    fn fault(&self) -> Fault {
        match self {
            SealError::Render(error) => error.fault(),
            SealError::Tar { .. } => Fault::Invalid,
            SealError::Write { .. } | SealError::Remembered { .. } => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            SealError::Render(error) => error.remedy(),
            SealError::Remembered { .. } => {
                Some("build with `--no-cache`; a file was changed in a way that neither its times nor its inode tell".to_owned())
            }
            SealError::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room there, name another folder with `TMPDIR`, or compress nothing with `--compression none`".to_owned())
            }
            SealError::Tar { .. } | SealError::Write { .. } => None,
        }
    }
}

/// Reads `recipe` once and names its blob.
///
/// `scratch` is where a compressed blob is put, under the digits of its digest; the caller owns the folder. `progress` is called with
/// the number of bytes of the tar read since it was called before.
pub fn seal(
    recipe: Arc<Recipe>,
    compression: Compression,
    purpose: Purpose,
    scratch: &Path,
    progress: &dyn Fn(u64),
) -> Result<SealedLayer, SealError> {
    match compression {
        Compression::None => seal_plain(recipe, purpose, progress),
        Compression::Gzip | Compression::Zstd => seal_packed(recipe, compression, purpose, scratch, progress),
    }
}

fn seal_plain(recipe: Arc<Recipe>, purpose: Purpose, progress: &dyn Fn(u64)) -> Result<SealedLayer, SealError> {
    let mut tar = Renderer::new(recipe.clone());
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 2 * READ_BYTES];
    loop {
        let length = fill(&mut tar, &mut buffer)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        progress(length as u64);
    }
    let (size_bytes, digest) = (hasher.size_bytes(), hasher.finish());
    let source = LayerSource::Recipe(recipe);
    Ok(SealedLayer { digest, size_bytes, diff_id: digest, compression: Compression::None, purpose, source })
}

fn seal_packed(
    recipe: Arc<Recipe>,
    compression: Compression,
    purpose: Purpose,
    scratch: &Path,
    progress: &dyn Fn(u64),
) -> Result<SealedLayer, SealError> {
    let effort = Effort::of(&recipe);
    let mut tar = Renderer::new(recipe);
    let mut next = |buffer: &mut [u8]| {
        let length = fill(&mut tar, buffer)?;
        progress(length as u64);
        Ok(length)
    };
    pack(&mut next, (compression, effort), purpose, scratch)
}

/// Seals a finished tar, plain or packed: a root file system that becomes a layer of a base. Gzip.
pub fn seal_tar(tar: &Path, purpose: Purpose, scratch: &Path, progress: &dyn Fn(u64)) -> Result<SealedLayer, SealError> {
    let failed = |source| SealError::Tar { tar: tar.to_owned(), source };
    let mut reader = root_tar::open(tar).map_err(failed)?;
    let mut next = |buffer: &mut [u8]| {
        let filled = stream::fill(&mut reader, buffer).map_err(failed)?;
        progress(filled as u64);
        Ok(filled)
    };
    pack(&mut next, (Compression::Gzip, Effort::Thorough), purpose, scratch)
}

/// Packs what `next` gives, which fills its buffer until the end, and hashes both sides.
fn pack(
    next: &mut dyn FnMut(&mut [u8]) -> Result<usize, SealError>,
    (compression, effort): (Compression, Effort),
    purpose: Purpose,
    scratch: &Path,
) -> Result<SealedLayer, SealError> {
    let failed = |source| SealError::Write { folder: scratch.to_owned(), source };
    let file = atomic::temporary(scratch).map_err(failed)?;
    let blob = Hashing { hasher: Hasher::new(), inner: io::BufWriter::with_capacity(READ_BYTES, file) };
    let mut packer = Packer::new(compression, effort, blob).map_err(failed)?;
    let mut diff_id = Hasher::new();
    let mut buffer = vec![0; WRITE_BYTES];
    loop {
        let length = next(&mut buffer)?;
        if length == 0 {
            break;
        }
        diff_id.update(&buffer[..length]);
        packer.write_all(&buffer[..length]).map_err(failed)?;
    }
    let Hashing { hasher, inner } = packer.finish().map_err(failed)?;
    let file = inner.into_inner().map_err(|error| failed(error.into_error()))?;
    let (size_bytes, digest) = (hasher.size_bytes(), hasher.finish());
    let path = scratch.join(digest.hex());
    file.persist(&path).map_err(|error| failed(error.error))?;
    let source = LayerSource::File(path);
    Ok(SealedLayer { digest, size_bytes, diff_id: diff_id.finish(), compression, purpose, source })
}

/// The file of a compressed layer whose digest was remembered: made now, where it has not been made before.
///
/// An error says that the files give another layer than the one that was remembered: a file system that keeps neither times nor inodes.
pub fn remake(digest: Digest, recipe: &Arc<Recipe>, compression: Compression, scratch: &Path) -> Result<PathBuf, SealError> {
    let path = scratch.join(digest.hex());
    if !path.is_file() {
        let made = seal(recipe.clone(), compression, Purpose::Files, scratch, &|_| ())?;
        if made.digest != digest {
            return Err(SealError::Remembered { remembered: digest, made: made.digest });
        }
    }
    Ok(path)
}

/// Fills `buffer` as far as there are bytes.
fn fill(tar: &mut Renderer, buffer: &mut [u8]) -> Result<usize, RenderError> {
    stream::fill(tar, buffer).map_err(|error| error.downcast::<RenderError>().expect("a renderer fails with nothing else"))
}

/// Passes bytes on and hashes them.
struct Hashing<W> {
    hasher: Hasher,
    inner: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use std::io::Read as _;

    use super::*;
    use crate::oci::layer::{Content, Entry, EntryKind};
    use crate::oci::path::TreePath;

    fn recipe() -> Arc<Recipe> {
        // A fixed pattern that compresses, longer than several writes.
        let bytes: Vec<u8> = (0..300_000u32).map(|at| (at.wrapping_mul(at) >> 7) as u8 & 0x3f).collect();
        let kind = EntryKind::File { size_bytes: bytes.len() as u64, executable: false, content: Content::Inline(bytes.into()) };
        let entry = Entry { path: TreePath::new("model/files/weights").unwrap(), kind };
        Arc::new(Recipe::new(vec![entry], 0).unwrap())
    }

    #[test]
    fn uncompressed_writes_nothing_and_its_digest_is_the_diff_id() {
        let scratch = tempfile::tempdir().unwrap();
        let read = Cell::new(0);
        let layer = seal(recipe(), Compression::None, Purpose::Files, scratch.path(), &|length| read.set(read.get() + length)).unwrap();
        assert_eq!((layer.digest, layer.size_bytes), (layer.diff_id, recipe().size_bytes()));
        assert_eq!(read.get(), layer.size_bytes);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_compressor_gives_the_bytes_that_it_has_always_given() {
        let scratch = tempfile::tempdir().unwrap();
        let plain = seal(recipe(), Compression::None, Purpose::Files, scratch.path(), &|_| {}).unwrap();
        let layer = seal(recipe(), Compression::Gzip, Purpose::Files, scratch.path(), &|_| {}).unwrap();
        let LayerSource::File(path) = &layer.source else { panic!("a file was to be written") };
        let blob = std::fs::read(path).unwrap();
        assert_eq!((Digest::of(&blob), blob.len() as u64), (layer.digest, layer.size_bytes));
        assert_eq!(blob[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&blob[..]).read_to_end(&mut tar).unwrap();
        assert_eq!((Digest::of(&tar), plain.digest), (layer.diff_id, layer.diff_id));
        // A change here is a change of every user's digests: it needs a changelog entry.
        assert_eq!(layer.diff_id.to_string(), "sha256:eec9c7b8f47a00739167810ec72a5711c8c806f0081cd089c8a4be9524a9dd30");
        assert_eq!(layer.digest.to_string(), "sha256:0883bf54fbfce9085f960a1c45a317b331158300822022c383a341582dcfb524");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_layer_that_cannot_be_read_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let gone =
            crate::oci::layer::LocalFile { path: scratch.path().join("gone"), stamp: crate::oci::layer::Stamp::default(), digest: None };
        let kind = EntryKind::File { size_bytes: 1, executable: false, content: Content::Local(Arc::new(gone)) };
        let recipe = Arc::new(Recipe::new(vec![Entry { path: TreePath::new("gone").unwrap(), kind }], 0).unwrap());
        let error = seal(recipe, Compression::Gzip, Purpose::Files, scratch.path(), &|_| {}).unwrap_err();
        assert_eq!(error.fault(), Fault::Invalid);
        assert!(error.to_string().ends_with("gone` changed while it was being read: it is gone"), "{error}");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
