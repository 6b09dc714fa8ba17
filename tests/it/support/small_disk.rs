//! A disk that is too small: a `tmpfs` of a few MiB, unmounted with the value. What is tested on it is what any full disk does (`ENOSPC`).
//!
//! Only root mounts. Where the tests run as somebody else they fail and say so: a full disk that is not tried is not a full disk that is survived.

use std::path::Path;

use super::hs::tool;

/// A small disk, mounted in a folder of its own.
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// A disk of `mib` MiB.
    pub fn new(mib: u64) -> SmallDisk {
        let folder = tempfile::Builder::new().prefix("small-disk-").tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        tool("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs", place]);
        SmallDisk { folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes room.
    pub fn grow(&self, mib: u64) {
        tool("mount", &["-o", &format!("remount,size={mib}m"), self.folder.path().to_str().unwrap()]);
    }

    /// Lets nobody write any more.
    pub fn read_only(&self) {
        tool("mount", &["-o", "remount,ro", self.folder.path().to_str().unwrap()]);
    }

    /// Takes all the room that is left, but for so many KiB.
    pub fn fill(&self, left_kib: u64) {
        let free = || {
            let free = rustix::fs::statvfs(self.folder.path()).unwrap();
            free.f_bavail * free.f_frsize
        };
        let size_bytes = free().saturating_sub(left_kib << 10);
        std::fs::write(self.folder.path().join("filler"), vec![0; usize::try_from(size_bytes).unwrap()]).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that a failed test has left may still be in it.
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}
