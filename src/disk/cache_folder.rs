//! A folder of what is remembered between two runs: small files that appear whole, are never needed, and are made room for.
//!
//! What stands in them, and under which names, is the business of each cache (`seal_cache.rs`, `digest_cache.rs`, `type_cache.rs`, `fit_cache.rs`).
//!
//! What must stay true: what is remembered of a file holds only where the file had been left alone for [`SETTLED_NS`] when it was read, by the clock of the
//! file system itself. A later change then has another time stamp, even where the system's clock is coarse (git calls the case "racily clean"). Several
//! processes write at once. Nothing is flushed to the disk: what a crash loses is found out again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tempfile::NamedTempFile;

use super::atomic;

/// How long a file must have been left alone before anything is remembered of it.
pub(super) const SETTLED_NS: i128 = 2_000_000_000;

/// A file of the cache that is being written; gone with the value unless it is kept.
pub(super) struct Draft {
    file: NamedTempFile,
    now_ns: i128,
}

impl Draft {
    /// Begins one in `folder`, which is made where it is missing; of `entries_max` entries the older half goes.
    pub fn begin(folder: &Path, entries_max: usize) -> io::Result<Draft> {
        fs::create_dir_all(folder)?;
        prune(folder, entries_max)?;
        let file = atomic::temporary(folder)?;
        let since = file.as_file().metadata()?.modified()?.duration_since(UNIX_EPOCH);
        Ok(Draft { now_ns: since.map_or(0, |since| since.as_nanos() as i128), file })
    }

    /// What is written to.
    pub fn file(&self) -> &fs::File {
        self.file.as_file()
    }

    /// Whether a file that was last changed then had been left alone when this was begun.
    pub fn is_settled(&self, changed_ns: i128) -> bool {
        changed_ns + SETTLED_NS <= self.now_ns
    }

    /// Gives it its name, in the place of what is there.
    pub fn keep(self, path: &Path) -> io::Result<()> {
        self.file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Makes room in the folder of a cache; the entries that were written first go first.
fn prune(folder: &Path, entries_max: usize) -> io::Result<()> {
    let mut entries: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Another thread's temporary file gets its name, or another process prunes, between the listing and the look.
        let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
        entries.push((written, entry.path()));
    }
    if entries.len() >= entries_max {
        entries.sort();
        for (_, path) in &entries[..entries.len() / 2] {
            remove_quietly(path);
        }
    }
    Ok(())
}

/// Somebody else's pruning may have been there first.
fn remove_quietly(path: &Path) {
    drop(fs::remove_file(path));
}
