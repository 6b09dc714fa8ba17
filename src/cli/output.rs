//! `-o`: what a command writes in the place of standard output.
//!
//! A regular file appears whole or not at all; what is there already and is no regular file (a device, a pipe) is written to and stays what it is, a link is followed, and
//! `-` is standard output. The source that a command reads is never what it writes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::disk::atomic;
use crate::fault::{Failure, Fault};

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The system says no.
    #[error("writing `{}`", .path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It would write over what it reads.
    #[error("`{}` is what the command reads, and would be written over", .0.display())]
    Source(PathBuf),
    /// A slip in the path would become a folder.
    #[error("`{}` is in a folder that is not there", .0.display())]
    NoFolder(PathBuf),
}

impl Failure for OutputError {
    fn fault(&self) -> Fault {
        match self {
            OutputError::Write { .. } => Fault::Ours,
            OutputError::Source(_) | OutputError::NoFolder(_) => Fault::Usage,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            OutputError::Write { .. } => None,
            OutputError::Source(_) => Some("name another file with `-o`".to_owned()),
            OutputError::NoFolder(_) => Some("make the folder, or name another".to_owned()),
        }
    }
}

/// Whether `out` is standard output.
pub fn is_stdout(out: &Path) -> bool {
    out.as_os_str() == "-"
}

/// Writes `bytes` to `out`. `source` is what they were made from: a file, or a folder with files in it.
pub fn write(out: &Path, bytes: &[u8], source: &Path) -> Result<(), OutputError> {
    let failed = |error| OutputError::Write { path: out.to_owned(), source: error };
    if is_stdout(out) {
        return io::stdout().write_all(bytes).map_err(failed);
    }
    // A link is what it points at.
    let place = fs::canonicalize(out).unwrap_or_else(|_| out.to_owned());
    if fs::canonicalize(source).is_ok_and(|source| source == place) {
        return Err(OutputError::Source(out.to_owned()));
    }
    if fs::metadata(&place).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        return File::options().write(true).open(&place).and_then(|mut file| file.write_all(bytes)).map_err(failed);
    }
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(OutputError::NoFolder(out.to_owned()));
    }
    atomic::write(&place, bytes).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_no_regular_file_stays_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target, link) = (folder.path().join("source"), folder.path().join("target"), folder.path().join("link"));
        fs::write(&source, "s").unwrap();
        fs::write(&target, "t").unwrap();
        symlink(&target, &link).unwrap();
        write(&link, b"new", &source).unwrap();
        assert_eq!((fs::read(&target).unwrap(), fs::symlink_metadata(&link).unwrap().is_symlink()), (b"new".to_vec(), true));
        write(Path::new("/dev/null"), b"new", &source).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        symlink(&source, folder.path().join("again")).unwrap();
        for out in ["source", "again"] {
            assert!(matches!(write(&folder.path().join(out), b"new", &source), Err(OutputError::Source(_))));
        }
        assert!(matches!(write(&folder.path().join("none/x"), b"new", &source), Err(OutputError::NoFolder(_))));
        assert_eq!((fs::read(&source).unwrap(), folder.path().join("none").exists()), (b"s".to_vec(), false));
    }
}
