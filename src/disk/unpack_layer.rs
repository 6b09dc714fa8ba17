//! A layer of ours back to files, verified.
//!
//! For `hs pull`: only layers that `hs build` wrote, so only what it writes is taken (folders and regular files with safe paths); anything else means that
//! the image is not what its label says. The tar is hashed while it is read and must have the diff ID that the config names. Whoever gives the blob verifies
//! the blob. Nothing that is there is overwritten but folders.

use std::fs::{self, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::fault::{Failure, Fault};
use crate::oci::digest::{Digest, Hasher};
use crate::oci::image::ImageLayer;
use crate::oci::manifest::media;
use crate::oci::path::{PathError, TreePath};

/// What came out of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// How many files.
    pub files: u64,
    /// Their bytes together.
    pub size_bytes: u64,
}

/// Why a layer does not unpack.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The bytes cannot be read, or are no tar.
    #[error("layer {digest} cannot be read")]
    Read {
        /// Which layer.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A type that we do not write.
    #[error("layer {digest} is of type `{media_type}`, which hs does not write for a model")]
    Type {
        /// Which layer.
        digest: Digest,
        /// The type.
        media_type: String,
    },
    /// A path that we do not write.
    #[error("layer {digest}")]
    Path {
        /// Which layer.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// An entry that we do not write.
    #[error("layer {digest}: `{path}` is neither a file nor a folder")]
    Entry {
        /// Which layer.
        digest: Digest,
        /// Which entry.
        path: TreePath,
    },
    /// The disk.
    #[error("writing `{}`", .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More than a model may have.
    #[error("layer {digest} unpacks to more than {bytes_max} bytes")]
    TooLarge {
        /// Which layer.
        digest: Digest,
        /// The limit.
        bytes_max: u64,
    },
    /// Other bytes than the config names.
    #[error("layer {digest} holds other bytes than the config says: {found} in the place of {expected}")]
    Mismatch {
        /// Which layer.
        digest: Digest,
        /// The diff ID in the config.
        expected: Digest,
        /// The digest of the tar.
        found: Digest,
    },
}

impl Failure for UnpackError {
    fn fault(&self) -> Fault {
        match self {
            UnpackError::Write { .. } => Fault::Ours,
            UnpackError::Read { .. } | UnpackError::Mismatch { .. } => Fault::Remote,
            UnpackError::TooLarge { .. } => Fault::TooLarge,
            UnpackError::Type { .. } | UnpackError::Path { .. } | UnpackError::Entry { .. } => Fault::Invalid,
        }
    }
}

/// The tar that a layer's blob is made of; `None`: the type is none that is known.
pub(super) fn tar_of<'a>(media_type: &str, blob: &'a mut dyn Read) -> io::Result<Option<Box<dyn Read + 'a>>> {
    Ok(match media_type {
        media::OCI_LAYER | media::DOCKER_LAYER => Some(Box::new(blob)),
        // A gzip file may have many members (RFC 1952, 2.2): a layer of packages has, and so have those of other builders.
        media::OCI_LAYER_GZIP | media::DOCKER_LAYER_GZIP => Some(Box::new(MultiGzDecoder::new(BufReader::new(blob)))),
        // Whoever copied the image may have packed it anew; the diff ID still tells.
        media::OCI_LAYER_ZSTD => Some(Box::new(zstd::stream::read::Decoder::new(blob)?)),
        _ => None,
    })
}

/// Unpacks the blob of `layer` below `folder`; its files may have `bytes_max` together, which an image that only carries our label may not keep to.
pub fn unpack(blob: &mut dyn Read, layer: &ImageLayer, folder: &Path, bytes_max: u64) -> Result<Unpacked, UnpackError> {
    let digest = layer.descriptor.digest;
    let read_error = |source| UnpackError::Read { digest, source };
    let tar = tar_of(&layer.descriptor.media_type, blob).map_err(read_error)?;
    let tar = tar.ok_or_else(|| UnpackError::Type { digest, media_type: layer.descriptor.media_type.clone() })?;
    let mut hashed = Hashed { inner: tar, hasher: Hasher::new() };
    let mut archive = tar::Archive::new(&mut hashed);
    let mut unpacked = Unpacked::default();
    for entry in archive.entries().map_err(read_error)? {
        let mut entry = entry.map_err(read_error)?;
        let text = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = TreePath::new(&text).map_err(|source| UnpackError::Path { digest, source })?;
        let target = path.below(folder);
        let write_error = |source| UnpackError::Write { path: target.clone(), source };
        match entry.header().entry_type() {
            tar::EntryType::Directory => fs::create_dir_all(&target).map_err(write_error)?,
            tar::EntryType::Regular => {
                let executable = entry.header().mode().map_err(read_error)? & 0o100 != 0;
                unpacked.files += 1;
                if unpacked.size_bytes.saturating_add(entry.size()) > bytes_max {
                    return Err(UnpackError::TooLarge { digest, bytes_max });
                }
                unpacked.size_bytes += write_file(&mut entry, &target, executable).map_err(write_error)?;
            }
            _ => return Err(UnpackError::Entry { digest, path }),
        }
    }
    // The end of the archive and what a compressor has after it are part of the digest.
    io::copy(&mut hashed, &mut io::sink()).map_err(read_error)?;
    let Hashed { inner, hasher } = hashed;
    drop(inner);
    let found = hasher.finish();
    if found != layer.diff_id {
        return Err(UnpackError::Mismatch { digest, expected: layer.diff_id, found });
    }
    Ok(unpacked)
}

fn write_file(entry: &mut impl Read, target: &Path, executable: bool) -> io::Result<u64> {
    let mode = if executable { 0o755 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(target)?;
    let mut buffer = vec![0; 256 << 10];
    let mut size_bytes = 0;
    loop {
        let length = match entry.read(&mut buffer) {
            Ok(0) => return Ok(size_bytes),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        file.write_all(&buffer[..length])?;
        size_bytes += length as u64;
    }
}

struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
