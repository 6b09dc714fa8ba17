//! Whether something can be written in a place, by what can be known without writing there.
//!
//! For destinations that are met after minutes of work: what is wrong with one is found before. It is the judgement of a moment. A disk that fills, or a folder
//! that goes in between, is met by whoever writes.
//!
//! What must stay true: nothing is made, changed or removed here.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use rustix::fs::Access;

use crate::fault::{Failure, Fault};

/// Why nothing can be written in a place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A slip in the path would become a folder.
    #[error("the folder `{}` is not there", .0.display())]
    NoFolder(PathBuf),
    /// Something else has the place of a folder.
    #[error("`{}` is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The system does not let us: permissions, or a disk that is only read.
    #[error("nothing can be written in `{}`", .path.display())]
    Refused {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Failure for PlaceError {
    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn remedy(&self) -> Option<String> {
        Some(match self {
            PlaceError::NoFolder(_) => "make the folder, or name another place".to_owned(),
            PlaceError::NotAFolder(_) => "name another place".to_owned(),
            PlaceError::Refused { .. } => "name a place in which you may write".to_owned(),
        })
    }
}

/// Refuses a folder that is not there, or in which no file can be made.
pub fn takes_files(folder: &Path) -> Result<(), PlaceError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let refused = |source: io::Error| PlaceError::Refused { path: folder.to_owned(), source };
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {
            rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| refused(error.into()))
        }
        Ok(_) => Err(PlaceError::NotAFolder(folder.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(PlaceError::NoFolder(folder.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            let is_other = |path: &&Path| fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir());
            Err(PlaceError::NotAFolder(folder.ancestors().find(is_other).unwrap_or(folder).to_owned()))
        }
        Err(error) => Err(refused(error)),
    }
}

/// Refuses a folder that can neither be used nor be made, with those above it that are missing.
pub fn takes_folder(folder: &Path) -> Result<(), PlaceError> {
    // A link that leads nowhere is there, and nothing can be made in its place.
    let is_missing = |path: &Path| fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let there = folder.ancestors().find(|path| !path.as_os_str().is_empty() && !is_missing(path));
    match there {
        Some(there) if fs::metadata(there).is_err_and(|error| error.kind() == ErrorKind::NotFound) => {
            Err(PlaceError::NotAFolder(there.to_owned()))
        }
        there => takes_files(there.unwrap_or(Path::new("."))),
    }
}

/// `path` without links and detours; of what is not there yet, the part that is. Two spellings of one place have the same.
pub fn real_path(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = absolute.ancestors().find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    let Some((above, real)) = there else { return absolute };
    let rest = absolute.strip_prefix(above).unwrap_or(Path::new(""));
    rest.components().fold(real, |mut path, component| {
        match component {
            Component::ParentDir => drop(path.pop()),
            component => path.push(component),
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_place_is_judged_and_nothing_is_made() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("file"), "x").unwrap();
        symlink(at("nowhere"), at("link")).unwrap();
        symlink(at("folder"), at("other")).unwrap();
        let text = |result: Result<(), PlaceError>| result.map_err(|error| error.to_string().replace(root.path().to_str().unwrap(), ""));
        for (name, files, folder) in [
            ("folder", Ok(()), Ok(())),
            ("other", Ok(()), Ok(())),
            ("none", Err("the folder `/none` is not there"), Ok(())),
            ("none/below", Err("the folder `/none/below` is not there"), Ok(())),
            ("file", Err("`/file` is not a folder"), Err("`/file` is not a folder")),
            ("file/below/more", Err("`/file` is not a folder"), Err("`/file` is not a folder")),
            ("link", Err("the folder `/link` is not there"), Err("`/link` is not a folder")),
            ("link/below", Err("the folder `/link/below` is not there"), Err("`/link` is not a folder")),
        ] {
            assert_eq!(text(takes_files(&at(name))), files.map_err(str::to_owned), "{name}");
            assert_eq!(text(takes_folder(&at(name))), folder.map_err(str::to_owned), "{name}");
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 4);
        takes_files(Path::new("")).unwrap();
        takes_folder(Path::new("not/there")).unwrap();
    }

    #[test]
    fn spellings_of_one_place_are_one_path() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        symlink(root.path().join("folder"), root.path().join("link")).unwrap();
        for (spelling, expected) in [
            ("folder/x", "folder/x"),
            ("link/x", "folder/x"),
            ("folder/../link/./x", "folder/x"),
            ("none/../folder/x", "folder/x"),
            ("link/none/../x", "folder/x"),
            ("none/y/../x", "none/x"),
        ] {
            assert_eq!(real_path(&root.path().join(spelling)), real.join(expected), "{spelling}");
        }
        assert_eq!(real_path(Path::new("not-there")), std::env::current_dir().unwrap().canonicalize().unwrap().join("not-there"));
    }
}
