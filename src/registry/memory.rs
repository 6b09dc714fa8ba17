//! A folder in which the client remembers what it learnt of registries: small files, each named by what it is about.
//!
//! Two things are kept in such folders: where blobs are (`known_blobs.rs`) and how far uploads are (`journal.rs`). What must stay true: the folder may be
//! deleted at any time, by anybody; a file that cannot be read is no file, and a folder that cannot be written is no failure. Nothing in it is a secret:
//! no password, no token. Only its owner can read it all the same, since it says what somebody works on.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::disk::atomic;
use crate::oci::digest::Hasher;

/// The most files in one folder; past it the oldest half goes.
const FILES_MAX: usize = 10_000;

/// The most bytes of one file that are read.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A folder of small files.
#[derive(Clone, Debug)]
pub struct Memory {
    folder: PathBuf,
}

impl Memory {
    /// Files in `folder`, which is made when there is something to remember.
    pub fn new(folder: PathBuf) -> Memory {
        Memory { folder }
    }

    /// The file that is about `parts`.
    pub fn path(&self, parts: &[&str]) -> PathBuf {
        let mut hasher = Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        self.folder.join(hasher.finish().hex())
    }

    /// What stands in a file; nothing where it cannot be read or is larger than any of ours.
    pub fn read(path: &Path) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path).ok()?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= FILE_BYTES_MAX).then_some(bytes)
    }

    /// Replaces a file of this folder. Not flushed to the disk: what a crash loses is learnt again.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.make()?;
        let mut file = atomic::temporary(&self.folder)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
        file.persist(path).map(drop).map_err(|error| error.error)
    }

    /// Makes the folder where it is missing.
    pub fn make(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)
    }

    /// Removes files that were not written for `age_max`, and the oldest half where there are too many.
    #[expect(clippy::disallowed_methods, reason = "how old a file of ours is; nothing of an image follows from it")]
    pub fn make_room(&self, age_max: Duration) -> io::Result<()> {
        let now = SystemTime::now();
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Somebody else's cleaning may have been there first.
            let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
            files.push((written, entry.path()));
        }
        files.sort();
        let too_many = if files.len() >= FILES_MAX { files.len() / 2 } else { 0 };
        for (place, (written, path)) in files.iter().enumerate() {
            let too_old = now.duration_since(*written).is_ok_and(|age| age > age_max);
            if too_old || place < too_many {
                drop(fs::remove_file(path));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_apart_what_they_are_about() {
        let memory = Memory::new("f".into());
        assert_ne!(memory.path(&["a", "bc"]), memory.path(&["ab", "c"]));
        assert_eq!(memory.path(&["a", "bc"]), memory.path(&["a", "bc"]));
    }

    #[test]
    fn old_files_go_and_nobody_else_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(folder.path().join("deep/er"));
        let (old, new) = (memory.path(&["old"]), memory.path(&["new"]));
        memory.write(&old, b"1").unwrap();
        memory.write(&new, b"2").unwrap();
        assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
        let day = Duration::from_hours(24);
        fs::File::options()
            .write(true)
            .open(&old)
            .unwrap()
            .set_modified(fs::metadata(&new).unwrap().modified().unwrap() - 2 * day)
            .unwrap();
        memory.make_room(day).unwrap();
        assert_eq!((Memory::read(&old), Memory::read(&new)), (None, Some(b"2".to_vec())));
        fs::write(&new, vec![0; 70_000]).unwrap();
        assert_eq!(Memory::read(&new), None, "larger than any of ours");
        assert!(Memory::new(new.join("below a file")).write(&old, b"3").is_err());
    }
}
