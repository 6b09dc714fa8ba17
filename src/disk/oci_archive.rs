//! OCI archives: a layout in a tar, as `skopeo` and `podman` read and write it.
//!
//! Writing is one pass: the layout's mark, the blobs in the order in which they come, the index last. Reading unpacks into a scratch folder
//! and goes on there: `index.json` may be anywhere in a tar, and blobs are wanted in another order than they stand in. What is
//! neither a blob nor one of a layout's two files is skipped.
//!
//! What must stay true: the same image, its blobs put in the same order, gives the same bytes.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Map;

use super::archive_file::{self, ArchiveFile, ArchiveFileError};
use super::layout::{LAYOUT_FILE, Layout, LayoutError, documents, index_with};
use super::tar_file::{TarFile, TarFileError};
use super::tar_reader::MemberKind;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::image::ImageSet;
use crate::oci::manifest::{Descriptor, MANIFEST_BYTES_MAX};

const BLOBS: &str = "blobs/sha256/";

/// Why an OCI archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OciArchiveError {
    /// Writing.
    #[error(transparent)]
    Write(#[from] TarFileError),
    /// A layer was never put.
    #[error("{0} was not put into the archive")]
    Missing(Digest),
    /// It cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveFileError),
    /// A blob is not what its name says.
    #[error("in `{}`, the bytes of {expected} are those of {found}", .path.display())]
    Digest {
        /// The archive.
        path: PathBuf,
        /// The name.
        expected: Digest,
        /// The bytes.
        found: Digest,
    },
    /// What is in it is no layout.
    #[error("`{}` is not an OCI archive", .path.display())]
    Layout {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: LayoutError,
    },
}

impl Failure for OciArchiveError {
    fn fault(&self) -> Fault {
        match self {
            OciArchiveError::Write(error) => error.fault(),
            OciArchiveError::Missing(_) => Fault::Ours,
            OciArchiveError::Archive(error) => error.fault(),
            OciArchiveError::Digest { .. } => Fault::Remote,
            OciArchiveError::Layout { source, .. } => source.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            OciArchiveError::Write(error) => error.remedy(),
            OciArchiveError::Layout { source, .. } => source.remedy(),
            _ => None,
        }
    }
}

/// An OCI archive that is being written.
pub struct OciArchive {
    tar: TarFile,
    written: BTreeSet<Digest>,
}

impl OciArchive {
    /// Begins the archive that will be `path`.
    pub fn create(path: &Path) -> Result<OciArchive, OciArchiveError> {
        let mut tar = TarFile::create(path)?;
        tar.bytes("oci-layout", LAYOUT_FILE.as_bytes())?;
        tar.folder("blobs")?;
        tar.folder(BLOBS)?;
        Ok(OciArchive { tar, written: BTreeSet::new() })
    }

    /// Whether a blob has been put.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.written.contains(digest)
    }

    /// Puts a blob; one that is there already is not put again.
    pub fn put_blob(&mut self, descriptor: &Descriptor, source: &mut dyn Read) -> Result<(), OciArchiveError> {
        if !self.has_blob(&descriptor.digest) {
            self.tar.blob(&format!("{BLOBS}{}", descriptor.digest.hex()), descriptor, source)?;
            self.written.insert(descriptor.digest);
        }
        Ok(())
    }

    /// Puts the documents of an image whose layers have been put, and ends the archive.
    pub fn finish(mut self, set: &ImageSet, tag: Option<&str>) -> Result<(), OciArchiveError> {
        for layer in set.images.iter().flat_map(|image| &image.layers) {
            if !self.has_blob(&layer.descriptor.digest) {
                return Err(OciArchiveError::Missing(layer.descriptor.digest));
            }
        }
        for document in documents(set) {
            self.put_blob(&document.descriptor(), &mut &document.bytes[..])?;
        }
        self.tar.bytes("index.json", &index_with(Map::new(), set.top(), tag))?;
        Ok(self.tar.publish()?)
    }
}

/// Unpacks the archive `path` into `scratch`, an empty folder of the caller's, and opens the layout there.
pub fn open(path: &Path, scratch: &Path) -> Result<Layout, OciArchiveError> {
    let mut archive = ArchiveFile::open(path)?;
    let blobs = scratch.join(BLOBS);
    std::fs::create_dir_all(&blobs).map_err(archive_file::disk("create", &blobs))?;
    while let Some(member) = archive.next_member()? {
        let MemberKind::File { size_bytes, .. } = member.kind else { continue };
        let name = member.path.trim_start_matches("./");
        // No other name becomes a path here.
        let digest = name.strip_prefix(BLOBS).map(|hex| format!("sha256:{hex}").parse::<Digest>());
        let target = match digest {
            Some(Ok(digest)) => blobs.join(digest.hex()),
            None if matches!(name, "oci-layout" | "index.json") && size_bytes <= MANIFEST_BYTES_MAX => scratch.join(name),
            _ => continue,
        };
        let found = archive.unpack(&target)?;
        if let Some(Ok(expected)) = digest.filter(|digest| !matches!(digest, Ok(expected) if *expected == found)) {
            return Err(OciArchiveError::Digest { path: path.to_owned(), expected, found });
        }
    }
    Layout::open(scratch).map_err(|source| OciArchiveError::Layout { path: path.to_owned(), source })
}
