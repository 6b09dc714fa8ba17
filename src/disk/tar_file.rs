//! A tar file of our own, written as a stream.
//!
//! For image archives: headers as in our layers (`oci/tar_header.rs`), blobs compared with their descriptors while they pass, memory that
//! does not grow with them. The file has another name until [`TarFile::publish`]; one that is dropped leaves nothing. Whether one can be written in a place is told
//! before ([`check`]).

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::atomic::{self, Existing};
use super::place::{self, PlaceError};
use super::render::READ_BYTES;
use super::stream::fill;
use super::verified::{CopyError, copy};
use crate::fault::{Failure, Fault};
use crate::oci::layer::{BLOCK_BYTES, Content, EntryKind};
use crate::oci::manifest::Descriptor;
use crate::oci::path::TreePath;
use crate::oci::tar_header;

const BLOCK: usize = BLOCK_BYTES as usize;

/// Why an archive cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TarFileError {
    /// The disk refused.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// The archive.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its folder takes no file.
    #[error("no archive can be written at `{}`", .path.display())]
    Place {
        /// The archive.
        path: PathBuf,
        /// What is wrong with the folder.
        #[source]
        source: PlaceError,
    },
    /// What is there is no archive: it is somebody's, or a device.
    #[error("`{}` is there and is no archive", .path.display())]
    Occupied {
        /// What is there.
        path: PathBuf,
    },
    /// A blob is not what its descriptor says, or its source failed.
    #[error("cannot put a blob into `{}`", .path.display())]
    Blob {
        /// The archive.
        path: PathBuf,
        /// What was wrong.
        #[source]
        source: CopyError,
    },
}

impl Failure for TarFileError {
    fn fault(&self) -> Fault {
        match self {
            TarFileError::Write { .. } => Fault::Ours,
            TarFileError::Place { source, .. } => source.fault(),
            TarFileError::Occupied { .. } => Fault::Usage,
            TarFileError::Blob { source, .. } => source.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            TarFileError::Write { .. } => None,
            TarFileError::Place { source, .. } => source.remedy(),
            TarFileError::Occupied { .. } => Some("name another file, or remove this one first".to_owned()),
            TarFileError::Blob { source, .. } => source.remedy(),
        }
    }
}

/// An archive that is being written.
pub struct TarFile {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    /// A blob failed in the middle; the file can only be dropped.
    broken: bool,
}

impl TarFile {
    /// Begins the archive that will be `path`, in the place of an archive that may be there. Anything else that is there stays, a link to an archive too.
    pub fn create(path: &Path) -> Result<TarFile, TarFileError> {
        check(path)?;
        let file = atomic::temporary(folder_of(path)).map_err(|source| TarFileError::Write { path: path.to_owned(), source })?;
        Ok(TarFile { path: path.to_owned(), file: BufWriter::with_capacity(READ_BYTES, file), broken: false })
    }

    /// Adds a folder.
    pub fn folder(&mut self, name: &str) -> Result<(), TarFileError> {
        let header = header(name, &EntryKind::Folder);
        self.write(&header)
    }

    /// Adds a file whose bytes are at hand.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), TarFileError> {
        self.write(&file_header(name, bytes.len() as u64))?;
        self.write(bytes)?;
        self.pad(bytes.len() as u64)
    }

    /// Adds a file from a stream.
    pub fn blob(&mut self, name: &str, descriptor: &Descriptor, source: &mut dyn Read) -> Result<(), TarFileError> {
        self.write(&file_header(name, descriptor.size_bytes))?;
        self.broken = true;
        copy(descriptor, source, &mut self.file).map_err(|error| match error {
            CopyError::Write(source) => TarFileError::Write { path: self.path.clone(), source },
            source => TarFileError::Blob { path: self.path.clone(), source },
        })?;
        self.broken = false;
        self.pad(descriptor.size_bytes)
    }

    /// Ends the archive and gives it its name.
    pub fn publish(mut self) -> Result<(), TarFileError> {
        self.write(&[0; 2 * BLOCK])?;
        let failed = |source| TarFileError::Write { path: self.path.clone(), source };
        let file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        atomic::publish(file, &self.path, Existing::Replace).map_err(failed)
    }

    fn pad(&mut self, size_bytes: u64) -> Result<(), TarFileError> {
        let padding = size_bytes.next_multiple_of(BLOCK_BYTES) - size_bytes;
        self.write(&[0; BLOCK][..padding as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TarFileError> {
        let failed = |source| TarFileError::Write { path: self.path.clone(), source };
        if self.broken {
            return Err(failed(io::Error::other("an earlier blob of it failed")));
        }
        self.file.write_all(bytes).map_err(failed)
    }
}

fn file_header(name: &str, size_bytes: u64) -> Vec<u8> {
    header(name, &EntryKind::File { size_bytes, executable: false, content: Content::Inline([].into()) })
}

fn header(name: &str, kind: &EntryKind) -> Vec<u8> {
    let path = TreePath::new(name).expect("the names in image archives are ours");
    tar_header::blocks(&path, kind, 0)
}

/// Refuses a path at which no archive can be written, by what can be known before; nothing is made.
pub fn check(path: &Path) -> Result<(), TarFileError> {
    place::takes_files(folder_of(path)).map_err(|source| TarFileError::Place { path: path.to_owned(), source })?;
    if is_occupied(path) { Err(TarFileError::Occupied { path: path.to_owned() }) } else { Ok(()) }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether there is what an archive must not replace: anything but a regular file that is empty or a tar.
fn is_occupied(path: &Path) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    let is_tar = || {
        let mut block = [0; BLOCK];
        let read = File::open(path).and_then(|mut file| fill(&mut file, &mut block));
        // Every dialect of tar since 1988 has this word there.
        read.is_ok_and(|length| length == 0 || &block[257..262] == b"ustar")
    };
    !metadata.is_file() || !is_tar()
}
