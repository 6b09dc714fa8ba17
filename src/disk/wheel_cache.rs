//! Where wheels are on this machine: in a cache by their digests, and in folders that the user names.
//!
//! `CACHE/<hex>/<name>.whl`: a wheel that was fetched once is not fetched again, whoever asked and whatever an index says of it today; its name stays,
//! since that says what it fits. A wheel in a folder of the user's is used where it lies, under the eye of its stamp.
//!
//! What must stay true: a file in the cache has the bytes of its folder's name, since it was hashed on its way in; a file elsewhere is hashed, or was
//! hashed when it had the same stamp (`digest_cache.rs`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tempfile::NamedTempFile;

use super::atomic::{self, Existing};
use super::digest_cache::{self, DigestCache};
use super::render::{RenderError, stamp};
use super::store_use::renew_file;
use crate::fault::{Failure, Fault};
use crate::model::python_package::WheelName;
use crate::model::tree::Tree;
use crate::oci::digest::{Digest, Hasher};
use crate::oci::layer::{Content, EntryKind, LocalFile, Stamp};
use crate::oci::path::TreePath;
use crate::oci::splice::SplicedFile;
use crate::progress::Listener;

/// Where wheels are looked for.
#[derive(Clone, Debug)]
pub struct WheelCache {
    /// Where fetched wheels are kept.
    pub folder: PathBuf,
    /// Folders of wheels, in order.
    pub given: Vec<PathBuf>,
    /// What is remembered of the files in them.
    pub digests: Option<DigestCache>,
}

/// Why a wheel cannot be kept or used.
#[derive(Debug, thiserror::Error)]
pub enum WheelCacheError {
    /// The disk refused.
    #[error("cannot {operation} `{}`", .path.display())]
    Disk {
        /// The verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A wheel cannot be hashed.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// What came is something else.
    #[error("the wheel `{file_name}` must be {expected}, and what came is {found}")]
    Mismatch {
        /// Its name.
        file_name: String,
        /// As the lock says.
        expected: Digest,
        /// As it came.
        found: Digest,
    },
}

impl Failure for WheelCacheError {
    fn fault(&self) -> Fault {
        match self {
            WheelCacheError::Disk { .. } => Fault::Ours,
            WheelCacheError::Render(error) => error.fault(),
            WheelCacheError::Mismatch { .. } => Fault::Remote,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            WheelCacheError::Render(error) => error.remedy(),
            WheelCacheError::Mismatch { .. } => Some(
                "a mirror or a proxy has changed the file: ask for the one that was locked, or remove the lock to choose anew".to_owned(),
            ),
            WheelCacheError::Disk { .. } => None,
        }
    }
}

fn disk(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> WheelCacheError {
    move |source| WheelCacheError::Disk { operation, path: path.to_owned(), source }
}

impl WheelCache {
    /// The wheel with these bytes, where it is here.
    pub fn find(&self, digest: &Digest, file_name: &str, listener: &Listener) -> Result<Option<SplicedFile>, WheelCacheError> {
        let path = self.folder.join(digest.hex()).join(file_name);
        if let Ok(metadata) = fs::metadata(&path) {
            // Its age says when it was used last; one that cannot be renewed is used all the same.
            let _ = renew_file(&path);
            let local = Arc::new(LocalFile { path, stamp: Stamp::default(), digest: Some(*digest) });
            return Ok(Some(SplicedFile { digest: *digest, size_bytes: metadata.len(), local }));
        }
        for folder in &self.given {
            if let Some(found) = self.find_given(folder, file_name, listener)?.filter(|found| found.digest == *digest) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The wheel of this name in a folder of the user's, whatever its bytes.
    fn find_given(&self, folder: &Path, file_name: &str, listener: &Listener) -> Result<Option<SplicedFile>, WheelCacheError> {
        let path = folder.join(file_name);
        let (Ok(metadata), Ok(name)) = (fs::metadata(&path), TreePath::new(file_name)) else { return Ok(None) };
        if !metadata.is_file() {
            return Ok(None);
        }
        let content = Content::Local(Arc::new(LocalFile { path: path.clone(), stamp: stamp(&metadata), digest: None }));
        let mut tree = Tree::new();
        tree.insert(name.clone(), EntryKind::File { size_bytes: metadata.len(), executable: false, content });
        let hashed = digest_cache::hash(&tree, &path, self.digests.as_ref(), listener)?;
        let Some((size_bytes, Content::Local(local))) = hashed.file(name.as_str()) else { return Ok(None) };
        Ok(local.digest.map(|digest| SplicedFile { digest, size_bytes, local: local.clone() }))
    }

    /// The names of the wheels with these bytes, as far as they are here. Of a folder of the user's the wheels of `project` are hashed.
    pub fn names(&self, digest: &Digest, project: &str, listener: &Listener) -> Result<Option<WheelName>, WheelCacheError> {
        let cached = names_in(&self.folder.join(digest.hex())).into_iter().next();
        if cached.is_some() {
            return Ok(cached);
        }
        for folder in &self.given {
            for name in names_in(folder).into_iter().filter(|name| name.project == project) {
                if self.find_given(folder, &name.file_name, listener)?.is_some_and(|found| found.digest == *digest) {
                    return Ok(Some(name));
                }
            }
        }
        Ok(None)
    }

    /// What the wheel of this name in the user's folders is, for a message.
    pub fn given_digest(&self, file_name: &str, listener: &Listener) -> Option<(PathBuf, Digest)> {
        let found = |folder: &PathBuf| Some((folder.clone(), self.find_given(folder, file_name, listener).ok()??.digest));
        self.given.iter().find_map(found)
    }

    /// A place for a wheel that is being fetched.
    pub fn writer(&self) -> Result<WheelWriter, WheelCacheError> {
        fs::create_dir_all(&self.folder).map_err(disk("create", &self.folder))?;
        let file = atomic::temporary(&self.folder).map_err(disk("write to", &self.folder))?;
        Ok(WheelWriter { folder: self.folder.clone(), file, hasher: Hasher::new() })
    }

    /// Removes what was last used before an instant; for a cache that nobody else tidies.
    pub fn remove_unused(folder: &Path, before: SystemTime) -> io::Result<u64> {
        let mut removed = 0;
        let folders = match fs::read_dir(folder) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        for of_digest in folders {
            let of_digest = of_digest?.path();
            let files: Vec<PathBuf> = if of_digest.is_dir() {
                fs::read_dir(&of_digest)?.filter_map(|entry| Some(entry.ok()?.path())).collect()
            } else {
                vec![of_digest.clone()]
            };
            for file in files {
                // What was on its way a moment ago has its name by now.
                let Ok(metadata) = fs::metadata(&file) else { continue };
                if metadata.modified()? < before && fs::remove_file(&file).is_ok() {
                    removed += metadata.len();
                }
            }
            // One that has got another file meanwhile stays.
            let _ = fs::remove_dir(&of_digest);
        }
        Ok(removed)
    }
}

fn names_in(folder: &Path) -> Vec<WheelName> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<WheelName> = entries.filter_map(|entry| WheelName::parse(entry.ok()?.file_name().to_str()?).ok()).collect();
    names.sort_by(|a, b| a.file_name.cmp(&b.file_name));
    names
}

/// A wheel on its way into the cache; one that is dropped leaves nothing.
pub struct WheelWriter {
    folder: PathBuf,
    file: NamedTempFile,
    hasher: Hasher,
}

impl WheelWriter {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WheelCacheError> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(disk("write to", &self.folder))
    }

    /// Adds all bytes of a file.
    pub fn copy(&mut self, path: &Path) -> Result<(), WheelCacheError> {
        let mut file = File::open(path).map_err(disk("open", path))?;
        let mut buffer = vec![0; super::render::READ_BYTES];
        loop {
            match io::Read::read(&mut file, &mut buffer).map_err(disk("read", path))? {
                0 => return Ok(()),
                length => self.write(&buffer[..length])?,
            }
        }
    }

    /// Gives the wheel its place, if it is the one that was wanted.
    pub fn commit(self, expected: &Digest, file_name: &str) -> Result<(), WheelCacheError> {
        let found = self.hasher.finish();
        if found != *expected {
            return Err(WheelCacheError::Mismatch { file_name: file_name.to_owned(), expected: *expected, found });
        }
        let folder = self.folder.join(expected.hex());
        fs::create_dir_all(&folder).map_err(disk("create", &folder))?;
        let path = folder.join(file_name);
        atomic::publish(self.file, &path, Existing::Keep).map_err(disk("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "six-1.17.0-py2.py3-none-any.whl";

    fn cache(folder: &Path) -> (WheelCache, Listener) {
        let given = folder.join("given");
        fs::create_dir_all(&given).unwrap();
        (WheelCache { folder: folder.join("cache"), given: vec![given], digests: None }, Arc::new(|_| ()))
    }

    #[test]
    fn a_wheel_is_kept_under_its_digest_and_no_other_is() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, listener) = cache(folder.path());
        let digest = Digest::of(b"a wheel");
        let mut writer = cache.writer().unwrap();
        writer.write(b"another").unwrap();
        assert!(matches!(writer.commit(&digest, NAME), Err(WheelCacheError::Mismatch { .. })));
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), 0);
        let mut writer = cache.writer().unwrap();
        writer.write(b"a wheel").unwrap();
        writer.commit(&digest, NAME).unwrap();
        let found = cache.find(&digest, NAME, &listener).unwrap().unwrap();
        assert_eq!((found.digest, found.size_bytes), (digest, 7));
        assert_eq!(cache.names(&digest, "six", &listener).unwrap().unwrap().file_name, NAME);
        assert_eq!(WheelCache::remove_unused(&cache.folder, SystemTime::UNIX_EPOCH).unwrap(), 0);
        let used = fs::metadata(cache.folder.join(digest.hex()).join(NAME)).unwrap().modified().unwrap();
        let later = used + std::time::Duration::from_hours(1);
        assert_eq!(WheelCache::remove_unused(&cache.folder, later).unwrap(), 7);
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), 0);
    }

    #[test]
    fn a_given_wheel_is_used_where_it_lies_if_its_bytes_are_right() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, listener) = cache(folder.path());
        let path = cache.given[0].join(NAME);
        fs::write(&path, b"a wheel").unwrap();
        let digest = Digest::of(b"a wheel");
        assert_eq!(cache.find(&digest, NAME, &listener).unwrap().unwrap().local.path, path);
        assert_eq!(cache.names(&digest, "six", &listener).unwrap().unwrap().file_name, NAME);
        assert_eq!(cache.find(&Digest::of(b"another"), NAME, &listener).unwrap(), None);
        assert_eq!(cache.given_digest(NAME, &listener).unwrap().1, digest);
        assert!(!cache.folder.exists(), "nothing is copied");
    }
}
