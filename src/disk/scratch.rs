//! A folder for what a command makes on the way, removed with the value; what a killed process left is removed by the next.
//!
//! `kill -9` leaves the folder, and compressed layers of a large model in it. Each folder has a file `lock`, locked by the process that it belongs to; the system
//! lets go of the lock when the process ends, however it does. Whoever makes a new folder first removes those whose lock he can have.
//!
//! What must stay true: a folder that a living process holds is never removed, nor one of another user, nor one without a lock. The file has its name only once it
//! is locked, and is the last that is removed, so that there is no moment at which a folder looks left and is not.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tempfile::TempDir;

/// The file that is locked while the folder is in use.
const LOCK: &str = "lock";

/// A folder that cannot outlive its process for long.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    // The last field: the lock goes after the folder.
    _lock: Option<File>,
}

impl Scratch {
    /// Makes a folder whose name begins with `prefix` among the files of the moment (`TMPDIR`), and removes those that ended processes have left there.
    pub fn new(prefix: &str) -> io::Result<Scratch> {
        Scratch::below(&std::env::temp_dir(), prefix)
    }

    fn below(root: &Path, prefix: &str) -> io::Result<Scratch> {
        sweep(root, prefix);
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(root)?;
        let file = tempfile::Builder::new().prefix(".lock-").tempfile_in(folder.path())?;
        // A file system that has no locks: the folder is used all the same, and never taken for left.
        let is_locked = file.as_file().try_lock().is_ok();
        let lock = is_locked.then(|| file.persist(folder.path().join(LOCK)).map_err(|error| error.error)).transpose()?;
        Ok(Scratch { folder, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove(self.folder.path());
    }
}

/// Removes the folders that nobody holds any more. What cannot be looked at or removed stays: it is not what the command is about.
fn sweep(root: &Path, prefix: &str) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let folder = entry.path();
        let is_ours = entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes())
            && fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user);
        if !is_ours {
            continue;
        }
        // Held until the folder is gone, so that nobody else removes it at the same time.
        let lock = File::options().read(true).write(true).open(folder.join(LOCK));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok_and(|()| remove(&folder).is_ok())) {
            tracing::debug!(folder = %folder.display(), "removed what an ended process left");
        }
    }
}

/// Removes a folder, its lock last: one that is begun and not ended is still known.
fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == OsStr::new(LOCK) {
            continue;
        }
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    fs::remove_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A folder as a killed process leaves it.
    fn left(root: &Path, name: &str) {
        fs::create_dir_all(root.join(name).join("below")).unwrap();
        fs::write(root.join(name).join("layer"), "bytes").unwrap();
        fs::write(root.join(name).join(LOCK), "").unwrap();
    }

    #[test]
    fn what_is_left_goes_and_what_is_held_or_strange_stays() {
        let root = tempfile::tempdir().unwrap();
        let held = Scratch::below(root.path(), "x-").unwrap();
        fs::write(held.path().join("layer"), "bytes").unwrap();
        left(root.path(), "x-left");
        left(root.path(), "y-of-others");
        left(root.path(), "x-unlocked");
        fs::remove_file(root.path().join("x-unlocked").join(LOCK)).unwrap();
        fs::write(root.path().join("x-file"), "").unwrap();
        std::os::unix::fs::symlink(root.path().join("y-of-others"), root.path().join("x-link")).unwrap();
        let second = Scratch::below(root.path(), "x-").unwrap();
        let name = |scratch: &Scratch| scratch.path().file_name().unwrap().to_str().unwrap().to_owned();
        let mut expected = vec![name(&held), name(&second)];
        expected.extend(["x-file", "x-link", "x-unlocked", "y-of-others"].map(str::to_owned));
        expected.sort();
        assert_eq!(names(root.path()), expected);
        assert_eq!(names(held.path()), ["layer", LOCK]);
        drop((held, second));
        assert_eq!(names(root.path()), ["x-file", "x-link", "x-unlocked", "y-of-others"]);
    }
}
