//! Folders of wheels that the user names: that they are folders, and what is wrong with a wheel in one.
//!
//! A resolver passes over what it cannot read, stumbles over it, or tells of it in words of its own; a user who has put a wheel somewhere wants to know what is wrong
//! with it. Wheels that are used are read by `wheel.rs`; here only those are looked at that somebody stumbled over.
//!
//! What must stay true: nothing is changed, and nothing of a wheel is unpacked.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::zip_directory::{self, ZipError};
use crate::fault::{Failure, Fault};
use crate::model::python_package::WheelName;

/// The most files of a folder that are looked at.
const ENTRIES_MAX: usize = 100_000;

/// Why a folder of wheels, or a wheel in one, does not serve.
#[derive(Debug, thiserror::Error)]
pub enum WheelFolderError {
    /// It cannot be read.
    #[error("the folder of wheels `{}` cannot be read", .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a file.
    #[error("`{}` is not a folder, and wheels are looked for in folders", .path.display())]
    NoFolder {
        /// Which.
        path: PathBuf,
    },
    /// The file of a wheel cannot be read.
    #[error("the wheel `{}` cannot be read", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no file.
    #[error("`{}` has the name of a wheel and is {what}", .path.display())]
    NoFile {
        /// Which.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It is damaged.
    #[error("the wheel `{}` is damaged", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        #[source]
        source: ZipError,
    },
}

impl Failure for WheelFolderError {
    fn fault(&self) -> Fault {
        match self {
            WheelFolderError::Folder { .. } | WheelFolderError::NoFolder { .. } => Fault::Usage,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        Some(match self {
            WheelFolderError::NoFolder { path } if path.extension().is_some_and(|extension| extension == "whl") => {
                "name the folder that the wheel lies in".to_owned()
            }
            WheelFolderError::Folder { .. } | WheelFolderError::NoFolder { .. } => {
                "name a folder that is there: `--wheels`, HS_WHEELS and `wheels_dirs` in the settings are looked at".to_owned()
            }
            _ => "put the whole file there (`pip download` or `pip wheel` makes it), or remove it".to_owned(),
        })
    }
}

/// Whether each is a folder that can be read.
pub fn check<'a>(folders: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), WheelFolderError> {
    for path in folders {
        let metadata = fs::metadata(path).map_err(|source| WheelFolderError::Folder { path: path.clone(), source })?;
        if !metadata.is_dir() {
            return Err(WheelFolderError::NoFolder { path: path.clone() });
        }
        fs::read_dir(path).map_err(|source| WheelFolderError::Folder { path: path.clone(), source })?;
    }
    Ok(())
}

/// The first wheel in the folders, by name, that is meant and cannot be read.
pub fn find_damage(folders: &[PathBuf], is_meant: &dyn Fn(&WheelName) -> bool) -> Option<WheelFolderError> {
    let of_folder = |folder: &PathBuf| {
        let entries = fs::read_dir(folder).ok()?.take(ENTRIES_MAX).filter_map(Result::ok);
        let mut names: Vec<WheelName> =
            entries.filter_map(|entry| WheelName::parse(entry.file_name().to_str()?).ok()).filter(is_meant).collect();
        names.sort_by(|a, b| a.file_name.cmp(&b.file_name));
        names.iter().find_map(|name| damage(&folder.join(&name.file_name)))
    };
    folders.iter().find_map(of_folder)
}

/// What is wrong with a file that should be a wheel.
fn damage(path: &Path) -> Option<WheelFolderError> {
    let path = path.to_owned();
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(source) if source.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_ok() => {
            return Some(WheelFolderError::NoFile { path, what: "a link to what is not there" });
        }
        Err(source) => return Some(WheelFolderError::Unreadable { path, source }),
    };
    if metadata.is_dir() {
        return Some(WheelFolderError::NoFile { path, what: "a folder" });
    }
    if !metadata.is_file() {
        return Some(WheelFolderError::NoFile { path, what: "no regular file" });
    }
    match File::open(&path) {
        Err(source) => Some(WheelFolderError::Unreadable { path, source }),
        Ok(file) => zip_directory::read(&file, metadata.len()).err().map(|source| WheelFolderError::Damaged { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_or_is_a_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (here, gone, file) = (folder.path().to_owned(), folder.path().join("gone"), folder.path().join("a.whl"));
        fs::write(&file, "").unwrap();
        check([&here]).unwrap();
        let error = check([&here, &gone]).unwrap_err();
        assert!(error.to_string().contains(gone.to_str().unwrap()) && error.fault() == Fault::Usage, "{error}");
        let error = check([&file]).unwrap_err();
        assert!(error.to_string().contains("is not a folder") && error.remedy().unwrap().contains("lies in"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_wheel_is_told_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = |name: &str| folder.path().join(format!("{name}-1-py3-none-any.whl"));
        fs::write(wheel("cut"), b"PK\x03\x04").unwrap();
        fs::create_dir(wheel("folder")).unwrap();
        std::os::unix::fs::symlink("/nonexistent/x", wheel("link")).unwrap();
        let folders = [folder.path().to_owned()];
        for (name, said) in [("cut", "is damaged"), ("folder", "and is a folder"), ("link", "a link to what is not there")] {
            let error = find_damage(&folders, &|wheel| wheel.project == name).unwrap();
            assert!(error.to_string().contains(said) && error.to_string().contains(wheel(name).to_str().unwrap()), "{error}");
            assert_eq!(error.fault(), Fault::Invalid);
        }
        assert!(find_damage(&folders, &|wheel| wheel.project == "other").is_none());
    }
}
