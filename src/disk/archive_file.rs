//! An archive of images on disk, member by member: a tar that may be packed, as a user names it.
//!
//! What both kinds of archives (`oci_archive.rs`, `docker_archive_read.rs`) are read through. It knows no layout and no manifest, and no name in an archive becomes a
//! path here: whoever reads says where a member goes. It is the user's own file, so it may be as large as it likes, and a layer of zeros is no attack.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::archive_stream::{ArchiveStream, StreamError};
use super::render::READ_BYTES;
use super::tar_reader::{Member, TarError, TarReader};
use crate::fault::{Failure, Fault};
use crate::model::tree::Limits;
use crate::oci::digest::{Digest, Hasher};

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveFileError {
    /// It cannot be opened or unpacked.
    #[error("cannot {operation} `{}`", .path.display())]
    Disk {
        /// The verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is packed in a way that cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Stream {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: StreamError,
    },
    /// It is no good tar.
    #[error("cannot read `{}`", .path.display())]
    Tar {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: TarError,
    },
}

impl Failure for ArchiveFileError {
    fn fault(&self) -> Fault {
        match self {
            ArchiveFileError::Disk { source, .. } if source.kind() == io::ErrorKind::NotFound => Fault::Missing,
            ArchiveFileError::Disk { .. } => Fault::Ours,
            ArchiveFileError::Stream { source, .. } => source.fault(),
            ArchiveFileError::Tar { source, .. } => source.fault(),
        }
    }
}

/// That the disk did not let something be done.
pub fn disk(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> ArchiveFileError {
    move |source| ArchiveFileError::Disk { operation, path: path.to_owned(), source }
}

/// An archive that is being read.
pub struct ArchiveFile {
    path: PathBuf,
    tar: TarReader<ArchiveStream<File>>,
    buffer: Vec<u8>,
}

impl ArchiveFile {
    /// Opens one, packed or not.
    pub fn open(path: &Path) -> Result<ArchiveFile, ArchiveFileError> {
        let file = File::open(path).map_err(disk("open", path))?;
        let limits = Limits { unpacked_bytes_max: u64::MAX, ratio_max: u64::MAX, ..Limits::default() };
        let stream = ArchiveStream::open(file, &limits).map_err(|source| ArchiveFileError::Stream { path: path.to_owned(), source })?;
        Ok(ArchiveFile { path: path.to_owned(), tar: TarReader::new(stream), buffer: vec![0; READ_BYTES] })
    }

    /// The next member; `None` at the end.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveFileError> {
        self.tar.next_member().map_err(|source| ArchiveFileError::Tar { path: self.path.clone(), source })
    }

    /// Writes the bytes of the member at hand to a new file; their digest.
    pub fn unpack(&mut self, target: &Path) -> Result<Digest, ArchiveFileError> {
        let mut output = File::create(target).map_err(disk("create", target))?;
        let mut hasher = Hasher::new();
        loop {
            let length =
                self.tar.read_data(&mut self.buffer).map_err(|source| ArchiveFileError::Tar { path: self.path.clone(), source })?;
            if length == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(&self.buffer[..length]);
            output.write_all(&self.buffer[..length]).map_err(disk("write", target))?;
        }
    }
}
