//! Folders in which uploads are unpacked, and which cannot outlive their upload.
//!
//! A folder goes when its [`Staging`] is dropped. Where the process dies first, the folder stays, but its lock does not: the kernel lets go
//! of it. [`sweep`] removes the folders that nobody has locked, so it may run while another process uploads.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;
use tempfile::TempDir;

use crate::disk::store::Store;

const PREFIX: &str = "unpacking-";

/// A folder for one upload, in the store's file system.
pub struct Staging {
    folder: TempDir,
    _lock: File,
}

impl Staging {
    /// A new folder.
    pub fn new(store: &Store) -> io::Result<Staging> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(store.root().join("uploads"))?;
        let lock = File::open(folder.path())?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Staging { folder, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders whose process is gone. Gives their number.
pub fn sweep(store: &Store) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(store.root().join("uploads"))? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // What is gone meanwhile, or locked, is somebody else's to remove.
        let Ok(folder) = File::open(entry.path()) else { continue };
        if rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_dir_all(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_living_stay_and_those_of_the_dead_go() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        let living = Staging::new(&store).unwrap();
        fs::write(living.path().join("file"), "x").unwrap();
        let dead = store.root().join("uploads").join(format!("{PREFIX}dead"));
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("file"), "x").unwrap();
        assert_eq!(sweep(&store).unwrap(), 1);
        assert!(living.path().join("file").is_file() && !dead.exists());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}
