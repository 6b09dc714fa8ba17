//! Which digests the runtimes of the list are locked to on this machine: `runtimes.lock` in the data folder.
//!
//! Lines of `name:version digest`, sorted; `#` begins a comment. A file of text and not a table of the store: it is meant to be read, compared and copied to
//! another machine, where it makes the same images. `hs base lock` writes it, the settings read it.
//!
//! What must stay true: a line that cannot be read is an error with its number, never a lock that is left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::atomic;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;

/// The file's name in the data folder.
pub const FILE: &str = "runtimes.lock";

/// The locks, by full names of runtimes.
pub type Locks = BTreeMap<String, Digest>;

/// Why there are no locks.
#[derive(Debug, thiserror::Error)]
pub enum BaseLockError {
    /// The file cannot be read.
    #[error("reading `{}`", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("writing `{}`", .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is no lock.
    #[error("`{}`, line {line}: expected `name:version sha256:…`", .path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
    },
}

impl Failure for BaseLockError {
    fn fault(&self) -> Fault {
        match self {
            BaseLockError::Write { .. } => Fault::Ours,
            BaseLockError::Read { .. } | BaseLockError::Line { .. } => Fault::Usage,
        }
    }

    fn remedy(&self) -> Option<String> {
        matches!(self, BaseLockError::Line { .. })
            .then(|| "correct the line, or remove the file and lock anew with `hs base lock`".to_owned())
    }
}

/// Reads the locks; none where there is no such file.
pub fn read(data_folder: &Path) -> Result<Locks, BaseLockError> {
    let path = data_folder.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Locks::new()),
        Err(source) => return Err(BaseLockError::Read { path, source }),
    };
    let mut locks = Locks::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let read = line.split_once(char::is_whitespace).and_then(|(name, digest)| Some((name, digest.trim().parse().ok()?)));
        let Some((name, digest)) = read.filter(|(name, _)| name.contains(':')) else {
            return Err(BaseLockError::Line { path, line: at + 1 });
        };
        locks.insert(name.to_owned(), digest);
    }
    Ok(locks)
}

/// Writes the locks in the place of those that were there; makes the folder where it is missing.
pub fn write(data_folder: &Path, locks: &Locks) -> Result<PathBuf, BaseLockError> {
    let path = data_folder.join(FILE);
    let mut text = "# Runtimes and the digests that builds on this machine hold them to. Written by `hs base lock`.\n".to_owned();
    for (name, digest) in locks {
        let _ = writeln!(text, "{name} {digest}");
    }
    match atomic::write(&path, text.as_bytes()) {
        Ok(()) => Ok(path),
        Err(source) => Err(BaseLockError::Write { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_no_file_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let data_folder = folder.path().join("not/yet/there");
        assert_eq!(read(&data_folder).unwrap(), Locks::new());
        let locks: Locks = [("b:2".to_owned(), Digest::of(b"b")), ("a:1".to_owned(), Digest::of(b"a"))].into();
        let path = write(&data_folder, &locks).unwrap();
        assert_eq!(read(&data_folder).unwrap(), locks);
        assert!(fs::read_to_string(path).unwrap().lines().nth(1).unwrap().starts_with("a:1 sha256:"));
    }

    #[test]
    fn comments_are_passed_over_and_a_damaged_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"a");
        fs::write(folder.path().join(FILE), format!("# ours\n\n  a:1\t {digest}  \n")).unwrap();
        assert_eq!(read(folder.path()).unwrap(), [("a:1".to_owned(), digest)].into());
        for line in ["a:1", "a:1 sha256:00", "a sha256:"] {
            fs::write(folder.path().join(FILE), format!("# ours\n{line}\n")).unwrap();
            assert!(matches!(read(folder.path()), Err(BaseLockError::Line { line: 2, .. })), "{line}");
        }
    }
}
