//! What was compiled, and what compiles it, kept on this machine: the bytecode of a wheel for a base, and the interpreter of a base.
//!
//! `bytecode/<hex of the wheel>/<python>-<hex of the archive>.zip`: the archive is a zip of `.pyc` files by their places below the folder of packages, so that its
//! members are ranges of a layer as those of a wheel are (`oci/packed.rs`). `interpreters/<python>/`: see `interpreter.rs`. A Python is named by a digest of
//! the base's manifest and of its path there; what digest is for whoever asks (`build/bytecode.rs`).
//!
//! What must stay true: an archive has the bytes of its name's digest, since it was hashed when it was written; it is a function of the wheel and the base;
//! both appear whole, and both can be made again.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::{NamedTempFile, TempDir};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::atomic::{self, Existing};
use super::interpreter::Interpreter;
use super::store_use::renew_file;
use super::stream;
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::layer::{LocalFile, Stamp};
use crate::oci::path::TreePath;
use crate::oci::splice::SplicedFile;

/// Goes into every name: another form of bytecode must not meet old archives.
const FORM: &str = "lamina bytecode 2, no tests, checked hash, optimize 0, deflate 6";
/// The file in an interpreter's folder that says that the base has none.
const ABSENT: &str = "absent";
/// How a name begins while what it names is being written (`atomic.rs`).
const DRAFT: &str = ".new-";
/// Nobody takes so long to write one.
const DRAFT_AGE_MAX: Duration = Duration::from_hours(24);
/// How many interpreters are kept: a machine builds on a few bases.
const INTERPRETERS_MAX: usize = 8;

/// The two folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BytecodeCache {
    /// Where archives are.
    pub archives: PathBuf,
    /// Where interpreters are.
    pub interpreters: PathBuf,
}

/// What is known of the Python of a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Python {
    /// It is here.
    Here(Interpreter),
    /// The base has none where it was looked for.
    Absent,
}

/// Why bytecode cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} `{}`", .path.display())]
pub struct BytecodeCacheError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Failure for BytecodeCacheError {
    fn fault(&self) -> Fault {
        Fault::Ours
    }
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> BytecodeCacheError {
    move |source| BytecodeCacheError { operation, path: path.to_owned(), source }
}

impl BytecodeCache {
    /// The folders of a cache, side by side.
    pub fn below(folder: &Path) -> BytecodeCache {
        BytecodeCache { archives: folder.join("bytecode"), interpreters: folder.join("interpreters") }
    }

    /// The same folders, or where they cannot be written to, others below `scratch`: then nothing is remembered.
    pub fn or_in(&self, scratch: &Path) -> BytecodeCache {
        let is_writable = |folder: &PathBuf| fs::create_dir_all(folder).and_then(|()| atomic::temporary(folder)).is_ok();
        if [&self.archives, &self.interpreters].into_iter().all(is_writable) { self.clone() } else { BytecodeCache::below(scratch) }
    }

    /// The bytecode of a wheel, as a Python has made it.
    pub fn find(&self, wheel: &Digest, python: &Digest) -> Option<SplicedFile> {
        let folder = self.archives.join(wheel.hex());
        let key = key(python);
        for entry in fs::read_dir(&folder).ok()?.filter_map(Result::ok) {
            let name = entry.file_name();
            let hex = name.to_str().and_then(|name| name.strip_prefix(&key)?.strip_prefix('-')?.strip_suffix(".zip"));
            let Some(digest) = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()) else { continue };
            // Its age says when it was used last; one that cannot be renewed is used all the same.
            let _ = renew_file(&entry.path());
            return Some(spliced(entry.path(), digest, entry.metadata().ok()?.len()));
        }
        None
    }

    /// A place for the bytecode of a wheel.
    pub fn writer(&self) -> Result<BytecodeWriter, BytecodeCacheError> {
        fs::create_dir_all(&self.archives).map_err(failed("create", &self.archives))?;
        let file = atomic::temporary(&self.archives).map_err(failed("write to", &self.archives))?;
        prune_drafts(&self.archives, file.path()).map_err(failed("tidy", &self.archives))?;
        let same = file.reopen().map_err(failed("write to", &self.archives))?;
        Ok(BytecodeWriter { folder: self.archives.clone(), file, zip: ZipWriter::new(same) })
    }

    /// An interpreter; `None`: nobody has looked, or what was found is not whole any more.
    pub fn interpreter(&self, python: &Digest) -> Option<Python> {
        let folder = self.interpreters.join(python.hex());
        let absent = folder.join(ABSENT).is_file().then_some(Python::Absent);
        let found = absent.or_else(|| Interpreter::open(&folder).map(Python::Here))?;
        let _ = renew_file(&folder);
        Some(found)
    }

    /// An empty folder for an interpreter that is being taken out of a base; gone with the value unless it is kept.
    pub fn interpreter_draft(&self) -> Result<TempDir, BytecodeCacheError> {
        fs::create_dir_all(&self.interpreters).map_err(failed("create", &self.interpreters))?;
        let draft = tempfile::Builder::new().prefix(DRAFT).tempdir_in(&self.interpreters);
        draft.map_err(failed("write to", &self.interpreters))
    }

    /// Forgets an interpreter that cannot be started: a crash of the machine may have left it half written.
    pub fn forget_interpreter(&self, python: &Digest) {
        let _ = fs::remove_dir_all(self.interpreters.join(python.hex()));
    }

    /// Gives what was taken out of a base its place, an interpreter or the word that there is none. Of too many the one that was used longest ago goes.
    pub fn keep_interpreter(&self, draft: TempDir, python: &Digest) -> Result<Python, BytecodeCacheError> {
        let place = self.interpreters.join(python.hex());
        if Interpreter::open(draft.path()).is_none() {
            let word = draft.path().join(ABSENT);
            fs::write(&word, b"").map_err(failed("write", &word))?;
        }
        // One that is not whole any more would stand in the way.
        if place.exists() && self.interpreter(python).is_none() {
            fs::remove_dir_all(&place).map_err(failed("remove", &place))?;
        }
        match fs::rename(draft.path(), &place) {
            Ok(()) => drop(draft.keep()),
            // Another process was quicker, with the same.
            Err(_) if place.is_dir() => drop(draft),
            Err(error) => return Err(failed("write", &place)(error)),
        }
        self.prune_interpreters(&place).map_err(failed("tidy", &self.interpreters))?;
        Ok(Interpreter::open(&place).map_or(Python::Absent, Python::Here))
    }

    /// Makes room beside `newest`.
    fn prune_interpreters(&self, newest: &Path) -> io::Result<()> {
        prune_drafts(&self.interpreters, newest)?;
        let mut kept: Vec<_> = fs::read_dir(&self.interpreters)?
            .filter_map(Result::ok)
            .filter(|entry| entry.path() != newest && !entry.file_name().to_string_lossy().starts_with(DRAFT))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        kept.sort();
        let surplus = (kept.len() + 1).saturating_sub(INTERPRETERS_MAX);
        for (_, path) in kept.into_iter().take(surplus) {
            let _ = fs::remove_dir_all(path);
        }
        Ok(())
    }
}

/// Removes the drafts of those who were killed: that have not been written to for long when `newest` was.
fn prune_drafts(folder: &Path, newest: &Path) -> io::Result<()> {
    let now = fs::metadata(newest)?.modified()?;
    for entry in fs::read_dir(folder)?.filter_map(Result::ok) {
        // Another process removes or renames, between the listing and the look.
        let Ok(used) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
        let is_old = now.duration_since(used).is_ok_and(|age| age > DRAFT_AGE_MAX);
        if is_old && entry.file_name().to_string_lossy().starts_with(DRAFT) {
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
    Ok(())
}

/// How an archive's name begins.
fn key(python: &Digest) -> String {
    Digest::of(format!("{FORM}, {python}").as_bytes()).hex()[..32].to_owned()
}

fn spliced(path: PathBuf, digest: Digest, size_bytes: u64) -> SplicedFile {
    SplicedFile { digest, size_bytes, local: Arc::new(LocalFile { path, stamp: Stamp::default(), digest: Some(digest) }) }
}

/// Bytecode on its way into the cache; what is dropped leaves nothing.
pub struct BytecodeWriter {
    folder: PathBuf,
    file: NamedTempFile,
    zip: ZipWriter<File>,
}

impl BytecodeWriter {
    /// Adds a file, in the order of the paths.
    pub fn add(&mut self, path: &TreePath, bytes: &[u8]) -> Result<(), BytecodeCacheError> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(6))
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644);
        let started = self.zip.start_file(path.as_str(), options).map_err(io::Error::other);
        started.and_then(|()| self.zip.write_all(bytes)).map_err(failed("write to", &self.folder))
    }

    /// Gives the archive its place: the bytecode of `wheel` for `python`.
    pub fn commit(self, wheel: &Digest, python: &Digest) -> Result<SplicedFile, BytecodeCacheError> {
        let wrong = failed("write to", &self.folder);
        let mut written = self.zip.finish().map_err(io::Error::other).map_err(&wrong)?;
        let hashed = written.seek(SeekFrom::Start(0)).and_then(|_| stream::hash(&mut written));
        let (size_bytes, digest) = hashed.map_err(&wrong)?;
        let folder = self.folder.join(wheel.hex());
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let path = folder.join(format!("{}-{}.zip", key(python), digest.hex()));
        atomic::publish(self.file, &path, Existing::Keep).map_err(failed("write", &path))?;
        Ok(spliced(path, digest, size_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::zip_directory;

    #[test]
    fn an_archive_is_found_for_its_wheel_and_its_base_and_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let cache = BytecodeCache::below(folder.path());
        let (wheel, base, other) = (Digest::of(b"wheel"), Digest::of(b"base"), Digest::of(b"other"));
        assert_eq!(cache.find(&wheel, &base), None);
        let write = || {
            let mut writer = cache.writer().unwrap();
            for name in ["a/__pycache__/b.cpython-311.pyc", "a/__pycache__/c.cpython-311.pyc"] {
                writer.add(&TreePath::new(name).unwrap(), &b"code".repeat(1000)).unwrap();
            }
            writer.commit(&wheel, &base).unwrap()
        };
        let first = write();
        assert_eq!(write(), first);
        assert_eq!(cache.find(&wheel, &base), Some(first.clone()));
        assert_eq!((cache.find(&wheel, &other), cache.find(&other, &base)), (None, None));
        let bytes = fs::read(&first.local.path).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (first.digest, first.size_bytes));
        let members = zip_directory::read(&File::open(&first.local.path).unwrap(), first.size_bytes).unwrap();
        let members: Vec<_> = members.iter().map(|member| (member.name.as_str(), member.size_bytes, member.deflated)).collect();
        assert_eq!(members, [("a/__pycache__/b.cpython-311.pyc", 4000, true), ("a/__pycache__/c.cpython-311.pyc", 4000, true)]);
        drop(cache.writer().unwrap());
        assert_eq!(fs::read_dir(&cache.archives).unwrap().count(), 1, "a writer that is dropped leaves nothing");
    }

    #[test]
    fn a_few_interpreters_are_kept_and_one_that_is_not_whole_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = BytecodeCache::below(folder.path());
        for number in 0..INTERPRETERS_MAX + 3 {
            let draft = cache.interpreter_draft().unwrap();
            for file in ["python", "libraries/ld-linux-x86-64.so.2", "lib/python3.11/encodings/__init__.py"] {
                let path = draft.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, b"").unwrap();
            }
            assert!(Interpreter::complete(draft.path()).unwrap());
            assert!(matches!(cache.keep_interpreter(draft, &Digest::of(&[number as u8])).unwrap(), Python::Here(_)));
        }
        assert_eq!(fs::read_dir(&cache.interpreters).unwrap().count(), INTERPRETERS_MAX);
        // Whoever is writing one is left alone; what somebody left a day ago is not.
        let last = Digest::of(&[(INTERPRETERS_MAX + 2) as u8]);
        let (young, old) = (cache.interpreter_draft().unwrap(), cache.interpreter_draft().unwrap());
        let yesterday = fs::metadata(old.path()).unwrap().modified().unwrap() - 2 * DRAFT_AGE_MAX;
        File::open(old.path()).unwrap().set_modified(yesterday).unwrap();
        cache.prune_interpreters(&cache.interpreters.join(last.hex())).unwrap();
        assert!(young.path().exists() && !old.path().exists());
        assert_eq!(fs::read_dir(&cache.interpreters).unwrap().count(), INTERPRETERS_MAX + 1);
        let Some(Python::Here(found)) = cache.interpreter(&last) else { panic!("it was kept") };
        fs::remove_file(found.folder.join("python")).unwrap();
        assert_eq!(cache.interpreter(&last), None, "to be taken out of the base again");
        // That a base has none is remembered as well.
        assert_eq!(cache.keep_interpreter(cache.interpreter_draft().unwrap(), &last).unwrap(), Python::Absent);
        assert_eq!(cache.interpreter(&last), Some(Python::Absent));
    }
}
