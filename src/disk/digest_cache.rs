//! The digests of a folder's files, remembered: a file that has not changed is named again without being opened.
//!
//! One file of the cache for each model folder: its files' identities (device, inode, size, modification and status change time) and digests, a line for
//! each. Where the folder is and what its files are called plays no part in what they are. Used by `hs upload`, which tells a service what it has before
//! it sends any of it; `hs build` remembers whole layers (`seal_cache.rs`).
//!
//! What must stay true: as for layers. A line is written only where the file had been left alone for two seconds when all hashing was over, by the clock
//! of the file system itself; a line that cannot be read is no line, and a cache that cannot be written is no failure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::cache_folder::Draft;
use super::render::{READ_BYTES, RenderError, Renderer};
use crate::model::tree::Tree;
use crate::oci::digest::{Digest, Hasher};
use crate::oci::layer::{Content, EntryKind, LocalFile, Stamp};
use crate::oci::path::TreePath;
use crate::progress::{Event, Listener};

/// The most folders that are remembered; past it the older half goes.
const FOLDERS_MAX: usize = 1000;
/// Threads that hash: one disk feeds no more.
const THREADS_MAX: usize = 4;

/// The cache's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestCache {
    folder: PathBuf,
}

/// What tells a file and what is in it from all others.
type Identity = (Stamp4, u64);
/// A stamp as a key: device, inode, modification and status change time.
type Stamp4 = (u64, u64, i128, i128);

fn identity(file: &LocalFile, size_bytes: u64) -> Identity {
    let Stamp { device, inode, modified_ns, changed_ns } = file.stamp;
    ((device, inode, modified_ns, changed_ns), size_bytes)
}

impl DigestCache {
    /// A cache in `folder`, which is made when there is something to remember.
    pub fn new(folder: PathBuf) -> DigestCache {
        DigestCache { folder }
    }

    /// The file for the model folder `root`.
    fn path(&self, root: &Path) -> PathBuf {
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        self.folder.join(Digest::of(root.as_os_str().as_bytes()).hex())
    }

    fn load(&self, root: &Path) -> BTreeMap<Identity, Digest> {
        let Ok(file) = File::open(self.path(root)) else { return BTreeMap::new() };
        BufReader::new(file).lines().map_while(Result::ok).filter_map(|line| read_line(&line)).collect()
    }

    /// Remembers the digests of a tree's files, and nothing else.
    fn store(&self, root: &Path, tree: &Tree) -> io::Result<()> {
        let draft = Draft::begin(&self.folder, FOLDERS_MAX)?;
        let mut lines = BufWriter::new(draft.file());
        for (_, file, size_bytes) in local_files(tree) {
            let settled = draft.is_settled(file.stamp.changed_ns.max(file.stamp.modified_ns));
            if let Some(digest) = file.digest.filter(|_| settled) {
                lines.write_all(line(&identity(file, size_bytes), &digest).as_bytes())?;
            }
        }
        lines.flush()?;
        drop(lines);
        draft.keep(&self.path(root))
    }
}

fn line(((device, inode, modified_ns, changed_ns), size_bytes): &Identity, digest: &Digest) -> String {
    let mut text = String::with_capacity(160);
    let _ = writeln!(text, "{device} {inode} {modified_ns} {changed_ns} {size_bytes} {digest}");
    text
}

fn read_line(line: &str) -> Option<(Identity, Digest)> {
    let mut words = line.split(' ');
    let mut word = || words.next();
    let stamp = (word()?.parse().ok()?, word()?.parse().ok()?, word()?.parse().ok()?, word()?.parse().ok()?);
    let (size_bytes, digest) = (word()?.parse().ok()?, word()?.parse().ok()?);
    word().is_none().then_some(((stamp, size_bytes), digest))
}

fn local_files(tree: &Tree) -> impl Iterator<Item = (&TreePath, &Arc<LocalFile>, u64)> {
    tree.nodes().filter_map(|(path, node)| match node {
        EntryKind::File { size_bytes, content: Content::Local(file), .. } => Some((path, file, *size_bytes)),
        _ => None,
    })
}

/// The tree of the folder `root` with the digests of all its files. Reads those that are not remembered, several at once.
pub fn hash(tree: &Tree, root: &Path, cache: Option<&DigestCache>, listener: &Listener) -> Result<Tree, RenderError> {
    let known = cache.map(|cache| cache.load(root)).unwrap_or_default();
    let mut digests: BTreeMap<Identity, Digest> = BTreeMap::new();
    let mut unknown: Vec<(&Arc<LocalFile>, u64)> = Vec::new();
    for (_, file, size_bytes) in local_files(tree) {
        let identity = identity(file, size_bytes);
        match known.get(&identity) {
            Some(digest) => drop(digests.insert(identity, *digest)),
            None => unknown.push((file, size_bytes)),
        }
    }
    let is_new = !unknown.is_empty() || known.len() != digests.len();
    drop(known);
    for ((file, size_bytes), digest) in unknown.iter().zip(hash_all(&unknown, listener)?) {
        digests.insert(identity(file, *size_bytes), digest);
    }
    let mut hashed = Tree::new();
    for (path, node) in tree.nodes() {
        let mut node = node.clone();
        if let EntryKind::File { size_bytes, content, .. } = &mut node
            && let Content::Local(file) = &*content
        {
            let digest = digests.get(&identity(file, *size_bytes)).copied();
            *content = Content::Local(Arc::new(LocalFile { digest, ..LocalFile::clone(file) }));
        }
        hashed.insert(path.clone(), node);
    }
    if let Some(cache) = cache.filter(|_| is_new) {
        // Without it the next run reads again.
        let _ = cache.store(root, &hashed);
    }
    Ok(hashed)
}

fn hash_all(files: &[(&Arc<LocalFile>, u64)], listener: &Listener) -> Result<Vec<Digest>, RenderError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(files.len());
    listener(Event::Expect { bytes: files.iter().map(|(_, size_bytes)| size_bytes).sum() });
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffer = vec![0; READ_BYTES];
                while let Some((file, size_bytes)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = hash_one(file, *size_bytes, &mut buffer, listener);
                    if result.is_err() {
                        next.store(files.len(), Ordering::Relaxed);
                    }
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(file.path.clone(), result);
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Of several, the first by name: which thread was the fastest is nobody's business.
    if let Some((_, Err(error))) = results.extract_if(.., |_, result| result.is_err()).next() {
        return Err(error);
    }
    files.iter().filter_map(|(file, _)| results.get(&file.path)?.as_ref().ok()).copied().map(Ok).collect()
}

fn hash_one(file: &Arc<LocalFile>, size_bytes: u64, buffer: &mut [u8], listener: &Listener) -> Result<Digest, RenderError> {
    let (mut hasher, mut reader) = (Hasher::new(), Renderer::file(Content::Local(file.clone()), size_bytes, 0..size_bytes));
    loop {
        let length = reader.read(buffer).map_err(|error| {
            let unreadable = |source| RenderError::Unreadable { path: file.path.clone(), source };
            error.downcast::<RenderError>().unwrap_or_else(unreadable)
        })?;
        if length == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..length]);
        listener(Event::Advance { bytes: length as u64 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::folder::{FolderOptions, read_folder};
    use crate::model::listing::digest_of;
    use crate::progress::silent;

    fn digests(root: &Path, cache: &DigestCache) -> Result<Vec<Digest>, RenderError> {
        let tree = read_folder(root, &FolderOptions::default()).unwrap().tree;
        let hashed = hash(&tree, root, Some(cache), &silent())?;
        Ok(hashed
            .nodes()
            .filter_map(|(_, node)| if let EntryKind::File { content, .. } = node { digest_of(content) } else { None })
            .collect())
    }

    fn remembered(cache: &DigestCache, root: &Path) -> usize {
        cache.load(root).len()
    }

    #[test]
    fn a_file_is_remembered_when_it_has_been_left_alone_and_forgotten_when_it_changes() {
        let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (root, cache) = (root.path(), DigestCache::new(folder.path().join("digests")));
        for (name, text) in [("a", "old"), ("b", "other"), ("empty", "")] {
            fs::write(root.join(name), text).unwrap();
        }
        let expected = [Digest::of(b"old"), Digest::of(b"other"), Digest::of(b"")];
        assert_eq!(digests(root, &cache).unwrap(), expected);
        assert_eq!(remembered(&cache, root), 0, "files that were written just now");
        std::thread::sleep(std::time::Duration::from_millis(2100));
        assert_eq!(digests(root, &cache).unwrap(), expected);
        assert_eq!(remembered(&cache, root), 3);
        // What is remembered is believed: the files are not read again.
        let path = cache.path(root);
        let text = fs::read_to_string(&path).unwrap().replace(&expected[1].to_string(), &Digest::of(b"x").to_string());
        fs::write(&path, format!("no line\n{text}1 2 3\n")).unwrap();
        assert_eq!(digests(root, &cache).unwrap()[1], Digest::of(b"x"));
        // The same size and the same modification time: only the time of the change tells.
        let modified = fs::metadata(root.join("b")).unwrap().modified().unwrap();
        fs::write(root.join("b"), "Other").unwrap();
        File::options().write(true).open(root.join("b")).unwrap().set_modified(modified).unwrap();
        assert_eq!(digests(root, &cache).unwrap()[1], Digest::of(b"Other"));
        assert_eq!(remembered(&cache, root), 2);
    }

    #[test]
    fn a_file_that_changed_since_it_was_listed_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "old").unwrap();
        let tree = read_folder(root.path(), &FolderOptions::default()).unwrap().tree;
        fs::write(root.path().join("a"), "new!").unwrap();
        let error = hash(&tree, root.path(), None, &silent()).unwrap_err();
        assert!(error.to_string().contains("/a` changed while it was being read: it has 4 bytes and not 3"), "{error}");
    }
}
