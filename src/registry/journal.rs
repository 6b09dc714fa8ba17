//! Uploads that are under way, noted on disk, so that a later run goes on where an earlier one was killed.
//!
//! A note is a small file for one blob on its way to one repository: the URL of the session that the registry has opened. How far the session is does not
//! stand there, since only the registry's word counts. While a process has a note it holds its lock, which ends with the process; two that push the same
//! blob at once do not share a session. Notes of sessions that the registry has forgotten cost one question.
//!
//! What must stay true: a note is read by its owner only (a session's URL may be signed), and decides nothing but where to ask: a session elsewhere than
//! at the registry itself is not taken up (`upload.rs`). A journal that cannot be written is no failure.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::client::Repository;
use super::session::Session;
use crate::disk::seal_cache::prune;
use crate::oci::digest::Digest;

/// The most notes; past it the older half goes.
const NOTES_MAX: usize = 1000;
/// The longest note that is read.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// The folder of the notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    folder: PathBuf,
}

/// The note of one upload, which this process holds.
#[derive(Debug)]
pub struct Note {
    path: PathBuf,
    file: File,
}

#[derive(Serialize, Deserialize)]
struct Noted {
    url: String,
    chunk_bytes_min: u64,
    chunk_bytes_max: Option<u64>,
}

impl Journal {
    /// A journal in `folder`, which is made when there is something to note.
    pub fn new(folder: PathBuf) -> Journal {
        Journal { folder }
    }

    /// The note of a blob on its way to a repository; `None` where another process holds it, or none can be written.
    pub fn take(&self, repository: &Repository, digest: &Digest) -> Option<Note> {
        self.try_take(repository, digest).ok().flatten()
    }

    fn try_take(&self, repository: &Repository, digest: &Digest) -> io::Result<Option<Note>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        prune(&self.folder, NOTES_MAX)?;
        let name = Digest::of(format!("{}/{}@{digest}", repository.registry(), repository.path()).as_bytes());
        let path = self.folder.join(name.hex());
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        // It may have been ended between the opening and the lock; then the name is another's or nobody's.
        let same = fs::metadata(&path).is_ok_and(|at_path| file.metadata().is_ok_and(|ours| ours.ino() == at_path.ino()));
        Ok(same.then_some(Note { path, file }))
    }
}

impl Note {
    /// The session that an earlier run has left.
    pub(super) fn session(&self) -> Option<Session> {
        let mut bytes = Vec::new();
        (&self.file).rewind().ok()?;
        (&self.file).take(NOTE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let Noted { url, chunk_bytes_min, chunk_bytes_max } = serde_json::from_slice(&bytes).ok()?;
        Some(Session { url: url.parse().ok()?, chunk_bytes_min, chunk_bytes_max })
    }

    /// Notes the newest state of the session. Half a note is none.
    pub(super) fn keep(&self, session: &Session) {
        let Session { url, chunk_bytes_min, chunk_bytes_max } = session.clone();
        let write = || -> io::Result<()> {
            let bytes = serde_json::to_vec(&Noted { url: url.into(), chunk_bytes_min, chunk_bytes_max })?;
            self.file.set_len(0)?;
            (&self.file).rewind()?;
            (&self.file).write_all(&bytes)
        };
        // Without it a later run begins from the beginning.
        let _ = write();
    }

    /// The session is over.
    pub(super) fn end(self) {
        let _ = fs::remove_file(&self.path);
    }
}
