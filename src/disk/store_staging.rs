//! What is on its way into the store: folders and files that cannot outlive their work.
//!
//! Each is removed when its value is dropped. Where the process dies first it stays, but its lock does not: the kernel lets go of it. So
//! [`Store::sweep`] removes what nobody has locked, whatever made it, and may run while another process works in the same data folder. Sessions (`store_uploads.rs`)
//! are meant to outlive a process, and stay.
//!
//! A staging folder's name says when its work began: what that work uses is not collected before it ends (`store_use.rs`).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use tempfile::{NamedTempFile, TempDir};

use super::atomic::{self, Existing};
use super::store::{Store, StoreError, failed};
use super::store_uploads::PREFIX as SESSION_PREFIX;

/// What the names of staging folders begin with; the beginning of the work follows, in nanoseconds since the epoch.
const PREFIX: &str = "staging-";

/// A folder in the store's file system for one piece of work: what is finished can be moved from it into the store. Until it is dropped, nothing that
/// the work finds in the store or puts there is collected.
pub struct Staging {
    folder: TempDir,
    _lock: File,
}

impl Staging {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Store {
    /// A new folder for one piece of work. It is removed with all that is in it when the value is dropped.
    pub fn staging(&self) -> Result<Staging, StoreError> {
        let uploads = self.uploads_folder();
        // Made and locked in one step, as far as those see who look for the dead.
        let _using = self.using()?;
        let began_ns = self.now()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let new = || {
            let folder = tempfile::Builder::new().prefix(&format!("{PREFIX}{began_ns}-")).tempdir_in(&uploads)?;
            let lock = File::open(folder.path())?;
            rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            Ok(Staging { folder, _lock: lock })
        };
        new().map_err(failed("create a folder in", &uploads))
    }

    /// A new file that is removed unless it is published.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, StoreError> {
        let uploads = self.uploads_folder();
        let _using = self.using()?;
        let new = || {
            let file = atomic::temporary(&uploads)?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        };
        new().map_err(failed("create a file in", &uploads))
    }

    /// Writes a small file of the store, replacing what is there; its folder is made where it is missing.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let folder = path.parent().unwrap_or(self.root());
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let mut file = self.temporary()?;
        file.write_all(bytes).map_err(failed("write", path))?;
        atomic::publish(file, path, Existing::Replace).map_err(failed("write", path))
    }

    /// Removes what processes that are gone have left. Gives the number of folders and files.
    pub fn sweep(&self) -> Result<usize, StoreError> {
        let uploads = self.uploads_folder();
        let _removing = self.removing()?;
        let mut removed = 0;
        for entry in fs::read_dir(&uploads).map_err(failed("list", &uploads))? {
            let entry = entry.map_err(failed("list", &uploads))?;
            if entry.file_name().to_string_lossy().starts_with(SESSION_PREFIX) {
                continue;
            }
            let path = entry.path();
            // What is gone meanwhile, or locked, is somebody else's to remove.
            let Ok(held) = File::open(&path) else { continue };
            if rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let is_folder = held.metadata().map_err(failed("look at", &path))?.is_dir();
            match if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) } {
                Ok(()) => removed += 1,
                // It was given its place in the store since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("remove", &path)(error)),
            }
        }
        Ok(removed)
    }

    /// When the oldest work began that is still under way; `None` where there is none. Under the lock to remove.
    pub(super) fn oldest_work(&self) -> Result<Option<SystemTime>, StoreError> {
        let uploads = self.uploads_folder();
        let mut oldest = None;
        for entry in fs::read_dir(&uploads).map_err(failed("list", &uploads))? {
            let entry = entry.map_err(failed("list", &uploads))?;
            let Some(began) = began(&entry.file_name().to_string_lossy()) else { continue };
            let Ok(held) = File::open(entry.path()) else { continue };
            if rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
                oldest = Some(oldest.map_or(began, |oldest: SystemTime| oldest.min(began)));
            }
        }
        Ok(oldest)
    }
}

/// When the work of a staging folder of this name began.
fn began(name: &str) -> Option<SystemTime> {
    let (ns, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    UNIX_EPOCH.checked_add(Duration::from_nanos(ns.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_living_hold_stays_and_what_the_dead_left_goes() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        let uploads = data.path().join("uploads");
        let (living, file) = (store.staging().unwrap(), store.temporary().unwrap());
        fs::write(living.path().join("file"), "x").unwrap();
        let session = uploads.join(format!("{SESSION_PREFIX}{}", store.start_upload("a").unwrap()));
        let dead = uploads.join("staging-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("file"), "x").unwrap();
        let dead_file = uploads.join(".new-dead.part");
        fs::write(&dead_file, "half").unwrap();
        assert_eq!(store.sweep().unwrap(), 2);
        assert!(living.path().join("file").is_file() && file.path().is_file() && session.is_file());
        assert!(!dead.exists() && !dead_file.exists());
        assert_eq!(store.oldest_work().unwrap(), began(&living.path().file_name().unwrap().to_string_lossy()));
        assert!(store.horizon(Duration::ZERO).unwrap().before <= fs::metadata(living.path()).unwrap().modified().unwrap());
        drop((living, file));
        assert_eq!(store.oldest_work().unwrap(), None);
        let left: Vec<_> = fs::read_dir(&uploads).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [session]);
    }

    #[test]
    fn a_file_is_written_whole_and_nothing_stands_beside_it() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        let path = data.path().join("repositories/a/_tags/1");
        store.write(&path, b"one").unwrap();
        store.write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(data.path().join("uploads")).unwrap().count(), 0);
    }
}
