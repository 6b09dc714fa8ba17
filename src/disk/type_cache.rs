//! The type of a model, remembered: where nobody says it, the first bytes of the files do, and a folder that has not changed need not be opened for them.
//!
//! An entry is a small file, named by what the folder holds: the path, size and identity (device, inode, modification and status change time) of each of
//! its files, and by the version of this program, which may come to know more types. Used by the commands that read a local folder; layers
//! have a memory of their own (`seal_cache.rs`).
//!
//! What must stay true: as for layers. An entry is written only where the youngest file had been left alone for two seconds, by the clock of the file
//! system itself; an entry that cannot be read is no entry, and a cache that cannot be written is no failure.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::cache_folder::Draft;
use crate::model::tree::Tree;
use crate::oci::digest::{Digest, Hasher};
use crate::oci::layer::{Content, EntryKind, Stamp};

/// The most folders that are remembered; past it the older half goes.
const ENTRIES_MAX: usize = 1000;
/// The longest type that is believed.
const TYPE_BYTES_MAX: usize = 256;

/// The cache's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeCache {
    folder: PathBuf,
}

impl TypeCache {
    /// A cache in `folder`, which is made when there is something to remember.
    pub fn new(folder: PathBuf) -> TypeCache {
        TypeCache { folder }
    }

    /// The type that the files of this folder told.
    pub fn find(&self, tree: &Tree) -> Option<String> {
        let (key, _) = key(tree)?;
        let text = fs::read_to_string(self.folder.join(key.hex())).ok()?;
        (!text.is_empty() && text.len() <= TYPE_BYTES_MAX).then_some(text)
    }

    /// Remembers it; says whether it did.
    pub fn remember(&self, tree: &Tree, model_type: &str) -> bool {
        self.try_remember(tree, model_type).unwrap_or(false)
    }

    fn try_remember(&self, tree: &Tree, model_type: &str) -> io::Result<bool> {
        let Some((key, youngest_ns)) = key(tree) else { return Ok(false) };
        let draft = Draft::begin(&self.folder, ENTRIES_MAX)?;
        if model_type.len() > TYPE_BYTES_MAX || !draft.is_settled(youngest_ns) {
            return Ok(false);
        }
        draft.file().write_all(model_type.as_bytes())?;
        draft.keep(&self.folder.join(key.hex()))?;
        Ok(true)
    }
}

/// What a folder's files are called by here, and when the youngest of them was changed; `None` where a file has no identity.
fn key(tree: &Tree) -> Option<(Digest, i128)> {
    let (mut hasher, mut youngest_ns) = (Hasher::new(), 0);
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    add(concat!("lamina type cache 1, ", env!("CARGO_PKG_VERSION")).as_bytes());
    for (path, node) in tree.nodes() {
        let EntryKind::File { size_bytes, content, .. } = node else { continue };
        let Content::Local(file) = content else { return None };
        let Stamp { device, inode, modified_ns, changed_ns } = file.stamp;
        if file.stamp == Stamp::default() {
            return None;
        }
        youngest_ns = youngest_ns.max(modified_ns).max(changed_ns);
        add(path.as_str().as_bytes());
        add(&[size_bytes, &device, &inode].map(|number| number.to_le_bytes()).concat());
        add(&[modified_ns, changed_ns].map(i128::to_le_bytes).concat());
    }
    Some((hasher.finish(), youngest_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::folder::{FolderOptions, read_folder};

    #[test]
    fn a_type_is_remembered_of_files_that_were_left_alone_until_one_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (model, cache) = (folder.path().join("model"), TypeCache::new(folder.path().join("types")));
        fs::create_dir(&model).unwrap();
        fs::write(model.join("w.bin"), b"weights").unwrap();
        let read = || read_folder(&model, &FolderOptions::default()).unwrap().tree;
        assert!(!cache.remember(&read(), "gguf:3"), "a file that was written just now");
        let mut tries = 0;
        while !cache.remember(&read(), "gguf:3") {
            tries += 1;
            assert!(tries < 600, "the file system's clock stands still");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert_eq!(cache.find(&read()).as_deref(), Some("gguf:3"));
        fs::write(model.join("w.bin"), b"WEIGHTS").unwrap();
        assert_eq!(cache.find(&read()), None);
        assert!(!TypeCache::new(model.join("w.bin")).remember(&read(), "gguf:3"), "a cache that cannot be written");
    }
}
