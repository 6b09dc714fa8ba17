//! What the files of a model say of its fit, remembered: a file that has not changed is not opened to be looked at again.
//!
//! One file of the cache for each model folder and version of Python: a line for each file that was looked at, with its path, its identity (device, inode,
//! size, modification and status change time) and its facts. The same rules as for digests (`digest_cache.rs`).
//!
//! What must stay true: a line is written only where the file had been left alone for two seconds when all was looked at, by the clock of the file system
//! itself; a line that cannot be read is no line, and a cache that cannot be written is no failure.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cache_folder::Draft;
use crate::model::fit_scan::{self, Facts, FileFacts, Look};
use crate::model::framework::Open;
use crate::model::python_standard::Version;
use crate::model::tree::Tree;
use crate::oci::digest::Digest;
use crate::oci::layer::{Content, Stamp};

/// The most folders that are remembered; past it the older half goes.
const FOLDERS_MAX: usize = 1000;

/// Goes into every name: what another release found of the same file must not be taken for what this one would.
const FORM: &str = concat!("lamina fit 2, ", env!("CARGO_PKG_VERSION"));

/// The cache's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitCache {
    folder: PathBuf,
}

/// A line.
#[derive(Serialize, Deserialize)]
struct Line {
    path: String,
    identity: Identity,
    /// Whether it was read whole, should it be a text.
    is_text: bool,
    facts: FileFacts,
}

/// Device, inode, size, modification and status change time.
type Identity = (u64, u64, u64, i128, i128);

fn identity(look: &Look<'_>) -> Option<Identity> {
    let Content::Local(file) = look.content else { return None };
    let Stamp { device, inode, modified_ns, changed_ns } = file.stamp;
    Some((device, inode, look.size_bytes, modified_ns, changed_ns))
}

impl FitCache {
    /// A cache in `folder`, which is made when there is something to remember.
    pub fn new(folder: PathBuf) -> FitCache {
        FitCache { folder }
    }

    /// The file for the model folder `root`, whose code is for `python`.
    fn path(&self, root: &Path, python: Option<Version>) -> PathBuf {
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        let key = [FORM.as_bytes(), format!(" {python:?} ").as_bytes(), root.as_os_str().as_bytes()].concat();
        self.folder.join(Digest::of(&key).hex())
    }

    fn load(path: &Path) -> BTreeMap<String, (Identity, bool, FileFacts)> {
        let Ok(file) = File::open(path) else { return BTreeMap::new() };
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        let lines = lines.filter_map(|line| serde_json::from_str::<Line>(&line).ok());
        lines.map(|line| (line.path, (line.identity, line.is_text, line.facts))).collect()
    }

    /// Remembers what was looked at, and nothing else.
    fn store(&self, path: &Path, seen: &[(Look<'_>, FileFacts)]) -> io::Result<()> {
        let draft = Draft::begin(&self.folder, FOLDERS_MAX)?;
        let mut lines = BufWriter::new(draft.file());
        for (look, facts) in seen {
            let Some(identity) = identity(look) else { continue };
            if draft.is_settled(identity.3.max(identity.4)) {
                let (path, facts) = (look.path.to_string(), facts.clone());
                serde_json::to_writer(&mut lines, &Line { path, identity, is_text: look.is_text, facts })?;
                lines.write_all(b"\n")?;
            }
        }
        lines.flush()?;
        drop(lines);
        draft.keep(path)
    }
}

/// What the files of `tree`, the folder `root`, say; those that are remembered are not opened.
pub fn scan(tree: &Tree, root: &Path, python: Option<Version>, cache: Option<&FitCache>, open: Open<'_>) -> Facts {
    let path = cache.map(|cache| cache.path(root, python));
    let mut known = path.as_deref().map(FitCache::load).unwrap_or_default();
    let (looks, unseen) = fit_scan::looks(tree);
    let (mut seen, mut is_new) = (Vec::new(), false);
    for look in looks {
        let remembered =
            known.remove(look.path.as_str()).filter(|(of, is_text, _)| Some(*of) == identity(&look) && *is_text == look.is_text);
        is_new |= remembered.is_none();
        let facts = remembered.map_or_else(|| fit_scan::look(&look, python, open), |(_, _, facts)| facts);
        seen.push((look, facts));
    }
    if let (Some(cache), Some(path), true) = (cache, &path, is_new || !known.is_empty()) {
        // Without it the next run looks again.
        let _ = cache.store(path, &seen);
    }
    let files = seen.into_iter().filter(|(_, facts)| *facts != FileFacts::default());
    Facts { files: files.map(|(look, facts)| (look.path.to_string(), facts)).collect(), unseen }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::folder::{FolderOptions, read_folder};
    use crate::model::framework::ReadSeek;
    use std::cell::RefCell;

    #[test]
    fn a_file_that_has_been_left_alone_is_looked_at_once() {
        let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (root, cache) = (root.path(), FitCache::new(folder.path().join("fit")));
        fs::write(root.join("m.pkl"), b"cos\nsystem\n.").unwrap();
        fs::write(root.join("notes.txt"), b"nothing").unwrap();
        let opened = RefCell::new(Vec::new());
        let open = |content: &Content| -> io::Result<Box<dyn ReadSeek>> {
            let Content::Local(file) = content else { panic!("no file") };
            opened.borrow_mut().push(file.path.file_name().unwrap().to_str().unwrap().to_owned());
            Ok(Box::new(File::open(&file.path)?))
        };
        let scan = |python| {
            let tree = read_folder(root, &FolderOptions::default()).unwrap().tree;
            let facts = super::scan(&tree, root, python, Some(&cache), &open);
            (facts, opened.take())
        };
        let (first, opened) = scan(None);
        assert_eq!((first.files.len(), opened.as_slice()), (1, &["m.pkl".to_owned(), "notes.txt".to_owned()][..]));
        // They were written just now, and may be written again within the same tick.
        assert_eq!(scan(None).1.len(), 2);
        std::thread::sleep(std::time::Duration::from_millis(2100));
        assert_eq!(scan(None).1.len(), 2);
        assert_eq!(scan(None), (first.clone(), Vec::new()));
        assert_eq!(scan(Some((3, 11))).1.len(), 2, "code is looked at for one Python");
        fs::write(root.join("notes.txt"), b"changed").unwrap();
        assert_eq!(scan(None), (first, vec!["notes.txt".to_owned()]));
    }
}
