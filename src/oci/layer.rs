//! A layer as a recipe: what its tar holds, and not yet a byte of it.
//!
//! A tar layer is a pure function of its entries: headers whose fields we fix, then the file's bytes, then padding. A
//! [`Recipe`] is those entries; from it alone follow the size of the tar, the offset of every part ([`Recipe::parts`]) and
//! where any byte range lies. The bytes of large files are never copied into a tar: whoever needs them (the hasher, a push, a
//! pull from our own endpoint) renders the recipe, which is `disk/render.rs`. No file is opened here.
//!
//! What must stay true, since digests hang on it: entries are sorted by the bytes of their path and none is there twice; the
//! parents of every entry are entries; owner 0:0 without names, 0644, 0755 for folders and executables; one time stamp; ustar
//! headers, PAX records only for what ustar cannot say; two zero blocks at the end.

use std::path::PathBuf;
use std::sync::Arc;

use super::digest::Digest;
use super::path::TreePath;
use super::tar_header;
use crate::fault::{Failure, Fault};

/// The size of a tar block.
pub const BLOCK_BYTES: u64 = 512;
/// Two zero blocks end an archive (POSIX pax).
const END_BYTES: u64 = 2 * BLOCK_BYTES;

/// Where the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Here.
    Inline(Arc<[u8]>),
    /// In a local file, which must not change while it is used.
    Local(Arc<LocalFile>),
}

/// A local file and what it looked like when it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its identity then; a reader that finds another refuses the file.
    pub stamp: Stamp,
    /// The digest of its bytes, where it is already known.
    pub digest: Option<Digest>,
}

/// What tells that a file has been changed or replaced (its size stands in the entry).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The device that it is on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Modification time, nanoseconds since the epoch.
    pub modified_ns: i128,
    /// Status change time, nanoseconds since the epoch.
    pub changed_ns: i128,
}

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below `/`.
    pub path: TreePath,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder, 0755.
    Folder,
    /// A regular file.
    File {
        /// The number of its bytes.
        size_bytes: u64,
        /// 0755 rather than 0644.
        executable: bool,
        /// Where the bytes are.
        content: Content,
    },
}

/// The entries of one layer, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    entries: Vec<Entry>,
    modified_s: u64,
}

/// Why entries do not make a layer.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// Two entries have one path (image-spec: a layer must not have duplicates).
    #[error("`{0}` is in the layer twice")]
    Twice(TreePath),
    /// A path is below something that is a file.
    #[error("`{0}` is below a file")]
    BelowFile(TreePath),
}

impl Failure for RecipeError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }
}

/// A run of bytes of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Where it begins in the tar.
    pub offset_bytes: u64,
    /// How long it is.
    pub size_bytes: u64,
    /// What it is.
    pub kind: PartKind<'a>,
}

/// What a run of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind<'a> {
    /// The header blocks of an entry; [`Recipe::header`] makes the bytes.
    Header(&'a Entry),
    /// The bytes of a file.
    File(&'a Entry, &'a Content),
    /// Padding, or the end.
    Zeros,
}

impl Recipe {
    /// Sorts `entries` and adds the folders above them. `modified_s` is the time stamp of every entry, in seconds since the epoch.
    pub fn new(entries: Vec<Entry>, modified_s: u64) -> Result<Recipe, RecipeError> {
        let parents = entries.iter().flat_map(|entry| entry.path.ancestors().collect::<Vec<_>>());
        let mut all: Vec<Entry> = parents.map(|path| Entry { path, kind: EntryKind::Folder }).collect();
        all.extend(entries);
        all.sort_by(|a, b| a.path.cmp(&b.path));
        // Folders that are named more than once are one folder; anything else twice is an error.
        all.dedup_by(|later, first| later == first && first.kind == EntryKind::Folder);
        for pair in all.windows(2) {
            if pair[0].path == pair[1].path {
                let file_and_folder = (pair[0].kind == EntryKind::Folder) != (pair[1].kind == EntryKind::Folder);
                let path = pair[0].path.clone();
                return Err(if file_and_folder { RecipeError::BelowFile(path) } else { RecipeError::Twice(path) });
            }
        }
        Ok(Recipe { entries: all, modified_s })
    }

    /// The entries in the order of the tar.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The time stamp of every entry, in seconds since the epoch.
    pub fn modified_s(&self) -> u64 {
        self.modified_s
    }

    /// The size of the tar.
    pub fn size_bytes(&self) -> u64 {
        self.parts().last().map_or(0, |part| part.offset_bytes + part.size_bytes)
    }

    /// The header blocks of an entry of this layer.
    pub fn header(&self, entry: &Entry) -> Vec<u8> {
        tar_header::blocks(&entry.path, &entry.kind, self.modified_s)
    }

    /// Every run of bytes of the tar, in order and without a gap. Costs no allocation: 200,000 entries can be walked for a range.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let of_entries = self.entries.iter().flat_map(|entry| {
            let header = (tar_header::size_bytes(&entry.path, &entry.kind), PartKind::Header(entry));
            match &entry.kind {
                EntryKind::Folder => [Some(header), None, None],
                EntryKind::File { size_bytes, content, .. } => {
                    let padding = size_bytes.next_multiple_of(BLOCK_BYTES) - size_bytes;
                    [Some(header), Some((*size_bytes, PartKind::File(entry, content))), Some((padding, PartKind::Zeros))]
                }
            }
        });
        let all = of_entries.chain([Some((END_BYTES, PartKind::Zeros))]).flatten().filter(|(size_bytes, _)| *size_bytes > 0);
        all.scan(0, |offset_bytes, (size_bytes, kind)| {
            let part = Part { offset_bytes: *offset_bytes, size_bytes, kind };
            *offset_bytes += size_bytes;
            Some(part)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: &[u8]) -> Entry {
        let kind = EntryKind::File { size_bytes: bytes.len() as u64, executable: false, content: Content::Inline(bytes.into()) };
        Entry { path: TreePath::new(path).unwrap(), kind }
    }

    #[test]
    fn parents_come_once_and_first_and_the_parts_have_no_gap() {
        let recipe =
            Recipe::new(vec![file("model/files/b", b"bb"), file("model/files/a", b""), file("model/files/a.txt", b"x")], 0).unwrap();
        let paths: Vec<_> = recipe.entries().iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["model", "model/files", "model/files/a", "model/files/a.txt", "model/files/b"]);
        let mut at = 0;
        for part in recipe.parts() {
            assert_eq!(part.offset_bytes, at);
            at += part.size_bytes;
        }
        assert_eq!(at, recipe.size_bytes());
        assert_eq!(at, 5 * 512 + 2 * 512 + 1024);
    }

    #[test]
    fn doubles_and_files_as_folders_are_refused() {
        assert!(matches!(Recipe::new(vec![file("a", b""), file("a", b"")], 0), Err(RecipeError::Twice(_))));
        assert!(matches!(Recipe::new(vec![file("a", b""), file("a/b", b"")], 0), Err(RecipeError::BelowFile(_))));
    }
}
