//! Files that appear whole or not at all.
//!
//! Everything that we publish on disk is written to a temporary file beside its place, flushed to the device, renamed, and the folder
//! flushed: after a crash there is the old file or the new one. Several processes may do so at once in one folder; there is no lock.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// What becomes of a file that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays; for files that are named by their content.
    Keep,
    /// It is replaced at once.
    Replace,
}

/// A temporary file in `folder`, deleted when dropped. Its mode is what the umask leaves of 0666, as for any file of a user.
pub fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(".new-").suffix(".part").permissions(Permissions::from_mode(0o666)).tempfile_in(folder)
}

/// Flushes `file` and gives it its name.
pub fn publish(file: NamedTempFile, path: &Path, existing: Existing) -> io::Result<()> {
    file.as_file().sync_data()?;
    match existing {
        Existing::Replace => drop(file.persist(path).map_err(|error| error.error)?),
        Existing::Keep => match file.persist_noclobber(path) {
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
            other => drop(other.map_err(|error| error.error)?),
        },
    }
    flush_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Writes a small file, replacing what is there; the folder is made where it is missing.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = temporary(folder)?;
    file.write_all(bytes)?;
    publish(file, path, Existing::Replace)
}

/// Makes renames in `folder` last.
pub fn flush_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_file_remains() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        let mut kept = temporary(path.parent().unwrap()).unwrap();
        kept.write_all(b"three").unwrap();
        publish(kept, &path, Existing::Keep).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        drop(temporary(path.parent().unwrap()).unwrap());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
