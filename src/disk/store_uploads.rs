//! Uploads in pieces: a blob that arrives over several requests.
//!
//! A session is a file in `uploads/`, locked while a request writes to it, so that two requests (of one process or of two) cannot mix
//! their bytes. How many bytes have arrived is the file's length and nothing else. The running hash is kept in memory as a convenience: what it lacks after a restart
//! or a failed write it catches up with at the end, when a client waits for the blob to be stored anyway, and not before the next bytes are taken, when he would
//! think that the line is dead. A session belongs to one repository, whose mark is in its name; while it lives, blobs of that
//! repository are not collected, since a manifest that names them may be on its way (`store_use.rs`). One that nobody touches expires.
//!
//! What must stay true: a session becomes a blob only through its digest, and what was acknowledged is on disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::atomic;
use super::render::READ_BYTES;
use super::store::{RunningHash, Store, StoreError, failed};
use super::store_blob::BLOB_BYTES_MAX;
use super::store_repositories::list;
use super::store_use::{remove_file, renew_file};
use crate::oci::digest::{Digest, Hasher};

/// What the names of sessions begin with.
pub(super) const PREFIX: &str = "session-";
/// Running hashes kept at most; a session beyond them is hashed again at its end.
const HASHERS_MAX: usize = 1024;
/// Digits of a repository's mark at the end of a session's name.
const MARK_DIGITS: usize = 16;
/// Random letters before it: nobody guesses another's session.
const RANDOM_LETTERS: usize = 24;

/// A session that this request alone writes to.
pub struct Upload {
    repository: String,
    id: String,
    path: PathBuf,
    file: File,
    /// Of the first bytes; not always of all.
    hasher: Hasher,
    size_bytes: u64,
}

/// What stands for a repository in the names of its sessions; a name of any length is none for a file.
pub(super) fn mark(repository: &str) -> String {
    Digest::of(repository.as_bytes()).hex()[..MARK_DIGITS].to_owned()
}

impl Store {
    /// Opens a session for a blob of `repository` and returns its name, which is safe in a URL.
    pub fn start_upload(&self, repository: &str) -> Result<String, StoreError> {
        let (uploads, mark) = (self.uploads_folder(), mark(repository));
        let file = tempfile::Builder::new().prefix(PREFIX).rand_bytes(RANDOM_LETTERS).suffix(&mark).tempfile_in(&uploads);
        let (_, path) = file.and_then(|file| Ok(file.keep()?)).map_err(failed("create a file in", &uploads))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(name.trim_start_matches(PREFIX).to_owned())
    }

    /// Takes hold of a session. [`StoreError::Busy`] while another request does.
    pub fn upload(&self, repository: &str, id: &str) -> Result<Upload, StoreError> {
        let path = self.upload_path(repository, id)?;
        let file = File::options().read(true).append(true).open(&path);
        let file = file.map_err(|error| missing_or(id, error, failed("open", &path)))?;
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StoreError::Busy(id.to_owned()));
        }
        // It may have been finished between the opening and the lock; then the path is gone.
        if !renew_file(&path)? {
            return Err(StoreError::NoUpload(id.to_owned()));
        }
        let size_bytes = file.metadata().map_err(failed("look at", &path))?.len();
        let known = self.running_hashes().remove(id).map(|RunningHash(hasher)| hasher);
        let hasher = known.filter(|hasher| hasher.size_bytes() <= size_bytes).unwrap_or_default();
        Ok(Upload { repository: repository.to_owned(), id: id.to_owned(), path, file, hasher, size_bytes })
    }

    /// Lets go of a session that is to be continued by a later request.
    pub fn suspend(&self, upload: Upload) {
        let mut kept = self.running_hashes();
        if kept.len() >= HASHERS_MAX {
            kept.pop_first();
        }
        kept.insert(upload.id, RunningHash(upload.hasher));
    }

    /// Makes a blob of a session, in the session's repository. Where the bytes are not `expected`, the session is over all the same: what it holds
    /// is of no use.
    pub fn finish_upload(&self, mut upload: Upload, expected: Digest) -> Result<Digest, StoreError> {
        upload.catch_up().map_err(failed("read", &upload.path))?;
        let (size_bytes, found) = (upload.size_bytes, upload.hasher.finish());
        if found != expected {
            fs::remove_file(&upload.path).map_err(failed("remove", &upload.path))?;
            return Err(StoreError::Mismatch { expected, found });
        }
        let path = self.blob_path(&found);
        upload.file.sync_data().map_err(failed("flush", &upload.path))?;
        let _using = self.using()?;
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == size_bytes) && renew_file(&path)? {
            fs::remove_file(&upload.path).map_err(failed("remove", &upload.path))?;
        } else {
            // Cancelled by another request in the meantime: then there is nothing to rename.
            fs::rename(&upload.path, &path).map_err(|error| missing_or(&upload.id, error, failed("create", &path)))?;
            renew_file(&path)?;
            let folder = self.root().join("blobs");
            atomic::flush_folder(&folder).map_err(failed("flush", &folder))?;
        }
        self.link_blobs(&upload.repository, [found])?;
        Ok(found)
    }

    /// How many bytes of a session have arrived. Who asks wants to go on with it: it counts as touched.
    pub fn upload_offset(&self, repository: &str, id: &str) -> Result<u64, StoreError> {
        let path = self.upload_path(repository, id)?;
        renew_file(&path)?;
        let metadata = fs::metadata(&path).map_err(|error| missing_or(id, error, failed("look at", &path)))?;
        Ok(metadata.len())
    }

    /// Ends a session; nothing of it stays.
    pub fn cancel_upload(&self, repository: &str, id: &str) -> Result<(), StoreError> {
        let path = self.upload_path(repository, id)?;
        self.running_hashes().remove(id);
        fs::remove_file(&path).map_err(|error| missing_or(id, error, failed("remove", &path)))
    }

    /// Ends the sessions that nobody has touched for `rest`, but one that a request holds just now. Returns how many they were.
    pub fn expire_uploads(&self, rest: Duration) -> Result<u64, StoreError> {
        let before = self.now()?.checked_sub(rest).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut expired = 0;
        for id in self.sessions()? {
            let path = self.uploads_folder().join(format!("{PREFIX}{id}"));
            // What is gone meanwhile, or held, is somebody else's.
            let Ok(held) = File::open(&path) else { continue };
            let touched = held.metadata().and_then(|metadata| metadata.modified()).map_err(failed("look at", &path))?;
            if touched >= before || rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            self.running_hashes().remove(&id);
            expired += u64::from(remove_file(&path)?);
        }
        Ok(expired)
    }

    /// The marks of the repositories that have a session.
    pub(super) fn pushed_to(&self) -> Result<BTreeSet<String>, StoreError> {
        Ok(self.sessions()?.into_iter().filter_map(|id| Some(id.get(RANDOM_LETTERS..)?.to_owned())).collect())
    }

    fn sessions(&self) -> Result<Vec<String>, StoreError> {
        let names = list(&self.uploads_folder())?;
        Ok(names.into_iter().filter_map(|name| Some(name.strip_prefix(PREFIX)?.to_owned())).collect())
    }

    fn upload_path(&self, repository: &str, id: &str) -> Result<PathBuf, StoreError> {
        // Only what `start_upload` makes for this repository: letters and digits, so no path can be built from it.
        let ours = id.len() == RANDOM_LETTERS + MARK_DIGITS && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !ours || !id.ends_with(&mark(repository)) {
            return Err(StoreError::NoUpload(id.chars().take(100).collect()));
        }
        Ok(self.uploads_folder().join(format!("{PREFIX}{id}")))
    }

    fn running_hashes(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<String, RunningHash>> {
        self.hashers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Upload {
    /// How many bytes have arrived.
    pub fn offset(&self) -> u64 {
        self.size_bytes
    }

    /// Takes in the next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.offset().saturating_add(bytes.len() as u64) > BLOB_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes_max: BLOB_BYTES_MAX });
        }
        if let Err(error) = self.file.write_all(bytes) {
            // A part of it may have been written, and is there.
            self.size_bytes = self.file.metadata().map_err(failed("look at", &self.path))?.len();
            return Err(failed("write", &self.path)(error));
        }
        if self.hasher.size_bytes() == self.size_bytes {
            self.hasher.update(bytes);
        }
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Hashes what is in the file and not in the running hash.
    fn catch_up(&mut self) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.hasher.size_bytes()))?;
        let mut buffer = vec![0; READ_BYTES];
        while self.hasher.size_bytes() < self.size_bytes {
            match file.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.hasher.update(&buffer[..length]),
            }
        }
        Ok(())
    }
}

fn missing_or(id: &str, error: io::Error, otherwise: impl Fn(io::Error) -> StoreError) -> StoreError {
    if error.kind() == io::ErrorKind::NotFound { StoreError::NoUpload(id.to_owned()) } else { otherwise(error) }
}
