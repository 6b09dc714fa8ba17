//! The list of a model's files: what a client has, said before any of it is sent.
//!
//! One line of JSON for each folder and file, sorted by path: the path, and of a file its size, the digest of its bytes, and whether it is executable.
//! [`write`] makes the lines of a tree whose files have been hashed; a [`Reader`] makes a tree of lines as they arrive. In that tree a file's content
//! has a digest and no place: nothing of it has been seen, and whoever has the bytes puts the place in (`disk/store_have.rs`).
//!
//! What must stay true: the lines are a stranger's. The same is refused as in an archive (`disk/archive.rs`): paths that leave, two entries of one path,
//! entries below a file, more entries, bytes or names than the limits; and a list takes no more work than its length.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::tree::{Limits, Tree};
use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::layer::{Content, EntryKind, LocalFile, Stamp};
use crate::oci::path::{PathError, TreePath};

/// The longest line: the longest path with every byte escaped, and the rest.
const LINE_BYTES_MAX: usize = 32 << 10;

/// Why lines are not the files of a model.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// A line is no JSON of ours.
    #[error("line {line} of the list of files is not what it has to be")]
    Json {
        /// Its number, from 1.
        line: u64,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A line has a size or a digest, and not the other.
    #[error("line {line} of the list of files: `{path}` has a size and a digest, or neither and is a folder")]
    Half {
        /// Its number.
        line: u64,
        /// The path.
        path: TreePath,
    },
    /// A line that does not end.
    #[error("line {line} of the list of files is longer than {LINE_BYTES_MAX} bytes")]
    Long {
        /// Its number.
        line: u64,
    },
    /// A path that cannot go into an image.
    #[error("in the list of files, {0}")]
    Path(PathError),
    /// Two lines of one path.
    #[error("`{0}` is in the list of files twice")]
    Twice(TreePath),
    /// Something below a file.
    #[error("`{path}` in the list of files is below `{above}`, which is no folder")]
    BelowFile {
        /// What is below.
        path: TreePath,
        /// The file.
        above: TreePath,
    },
    /// Too many entries.
    #[error("the list has more than {entries_max} files and folders; the one past the limit is `{path}`")]
    TooMany {
        /// The limit.
        entries_max: u64,
        /// The first past it.
        path: TreePath,
    },
    /// Too many bytes.
    #[error("the listed files have more than {bytes_max} bytes; the one past the limit is `{path}`")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
        /// The first past it.
        path: TreePath,
    },
    /// Too long names.
    #[error("the names in the list of files have more than {bytes_max} bytes together; the one past the limit is `{path}`")]
    Names {
        /// The limit.
        bytes_max: u64,
        /// The first past it.
        path: TreePath,
    },
    /// A file whose digest nobody has computed.
    #[error("`{0}` cannot be listed: it has not been hashed")]
    Unhashed(TreePath),
}

impl Failure for ListingError {
    fn fault(&self) -> Fault {
        match self {
            ListingError::TooMany { .. } | ListingError::TooLarge { .. } | ListingError::Names { .. } => Fault::TooLarge,
            ListingError::Unhashed(_) => Fault::Ours,
            _ => Fault::Invalid,
        }
    }
}

/// One line. A folder where there is neither size nor digest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    // A path with an escape in it cannot be borrowed.
    #[serde(borrow)]
    path: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    executable: bool,
}

/// The digest of a content, where it is known or at hand.
pub fn digest_of(content: &Content) -> Option<Digest> {
    match content {
        Content::Inline(bytes) => Some(Digest::of(bytes)),
        Content::Local(file) => file.digest,
    }
}

/// The lines of a tree; every file must have been hashed.
pub fn write(tree: &Tree) -> Result<Vec<u8>, ListingError> {
    let mut lines = Vec::new();
    for (path, node) in tree.nodes() {
        let mut line = Line { path: path.as_str().into(), size_bytes: None, digest: None, executable: false };
        if let EntryKind::File { size_bytes, executable, content } = node {
            let digest = digest_of(content).ok_or_else(|| ListingError::Unhashed(path.clone()))?;
            (line.size_bytes, line.digest, line.executable) = (Some(*size_bytes), Some(digest), *executable);
        }
        serde_json::to_writer(&mut lines, &line).expect("paths, numbers and digests are representable in JSON, and memory takes them");
        lines.push(b'\n');
    }
    Ok(lines)
}

/// A content that is known by its digest only.
fn named(digest: Digest) -> Content {
    Content::Local(Arc::new(LocalFile { path: PathBuf::new(), stamp: Stamp::default(), digest: Some(digest) }))
}

/// Reads lines as they arrive.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    tree: Tree,
    /// The line that has not ended yet, and its number.
    line: Vec<u8>,
    number: u64,
    size_bytes: u64,
    names_bytes: u64,
}

impl Reader {
    /// A reader that has read nothing.
    pub fn new(limits: Limits) -> Reader {
        Reader { limits, tree: Tree::new(), line: Vec::new(), number: 1, size_bytes: 0, names_bytes: 0 }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ListingError> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > LINE_BYTES_MAX {
                return Err(ListingError::Long { line: self.number });
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line()?;
            }
        }
        Ok(())
    }

    /// The tree, when all lines have been read.
    pub fn finish(mut self) -> Result<Tree, ListingError> {
        if !self.line.is_empty() {
            self.end_line()?;
        }
        Ok(self.tree)
    }

    fn end_line(&mut self) -> Result<(), ListingError> {
        let bytes = std::mem::take(&mut self.line);
        let refuse = |source| ListingError::Json { line: self.number, source };
        let line: Line<'_> = serde_json::from_slice(&bytes).map_err(refuse)?;
        let path = TreePath::new(&line.path).map_err(ListingError::Path)?;
        let kind = match (line.size_bytes, line.digest) {
            (None, None) if !line.executable => EntryKind::Folder,
            (Some(size_bytes), Some(digest)) => EntryKind::File { size_bytes, executable: line.executable, content: named(digest) },
            _ => return Err(ListingError::Half { line: self.number, path }),
        };
        self.take(path, kind)?;
        self.number += 1;
        // The allocation serves the next line.
        self.line = bytes;
        self.line.clear();
        Ok(())
    }

    fn take(&mut self, path: TreePath, kind: EntryKind) -> Result<(), ListingError> {
        match (self.tree.get(&path), &kind) {
            (None, _) => {}
            // A folder may have been made for what is in it.
            (Some(EntryKind::Folder), EntryKind::Folder) => return Ok(()),
            (Some(_), _) => return Err(ListingError::Twice(path)),
        }
        if let EntryKind::File { size_bytes, .. } = &kind {
            self.size_bytes = self.size_bytes.saturating_add(*size_bytes);
            if self.size_bytes > self.limits.unpacked_bytes_max {
                return Err(ListingError::TooLarge { bytes_max: self.limits.unpacked_bytes_max, path });
            }
        }
        // From the inside out, to the first folder that is there: those above it are there as well.
        let mut above = path.parent();
        while let Some(folder) = above {
            match self.tree.get(&folder) {
                None => above = folder.parent(),
                Some(EntryKind::Folder) => break,
                Some(EntryKind::File { .. }) => return Err(ListingError::BelowFile { path, above: folder }),
            }
            self.add(folder, EntryKind::Folder)?;
        }
        self.add(path, kind)
    }

    fn add(&mut self, path: TreePath, kind: EntryKind) -> Result<(), ListingError> {
        self.names_bytes += path.as_str().len() as u64;
        let bytes_max = self.limits.name_bytes_max();
        if self.names_bytes > bytes_max {
            return Err(ListingError::Names { bytes_max, path });
        }
        if self.tree.len() as u64 >= self.limits.entries_max {
            return Err(ListingError::TooMany { entries_max: self.limits.entries_max, path });
        }
        self.tree.insert(path, kind);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn read(text: &str, limits: Limits) -> Result<Tree, ListingError> {
        let mut reader = Reader::new(limits);
        // In pieces that fit no line.
        for piece in text.as_bytes().chunks(7) {
            reader.feed(piece)?;
        }
        reader.finish()
    }

    fn file(path: &str) -> String {
        format!("{{\"path\":\"{path}\",\"size_bytes\":3,\"digest\":\"{DIGEST}\"}}\n")
    }

    #[test]
    fn a_tree_goes_over_and_comes_back() {
        let text = format!(
            "{{\"path\":\"a\"}}\n{}{{\"path\":\"b\",\"size_bytes\":0,\"digest\":\"{DIGEST}\",\"executable\":true}}\n",
            file("a/größe")
        );
        let tree = read(&text, Limits::default()).unwrap();
        assert_eq!(String::from_utf8(write(&tree).unwrap()).unwrap(), text);
        assert_eq!((tree.len(), tree.size_bytes()), (3, 3));
        let (_, content) = tree.file("a/größe").unwrap();
        assert_eq!(digest_of(content), Some(Digest::of(b"abc")));
        // Folders that are not said are there all the same, and the last line may have no end.
        let tree = read(file("x/y/z").trim_end(), Limits::default()).unwrap();
        assert_eq!(tree.nodes().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["x", "x/y", "x/y/z"]);
    }

    #[test]
    fn what_an_archive_may_not_have_a_list_may_not_have() {
        let few = Limits { entries_max: 2, unpacked_bytes_max: 5, ..Limits::default() };
        let wide = Limits { entries_max: 1 << 40, ..Limits::default() };
        for (text, limits, expected) in [
            (file("../a"), wide, "in the list of files, path `../a` is refused: it leaves the folder with `..`"),
            (file("/a"), wide, "in the list of files, path `/a` is refused: it is absolute"),
            (file("a") + &file("a"), wide, "`a` is in the list of files twice"),
            (file("a/b") + &file("a"), wide, "`a` is in the list of files twice"),
            (file("a") + &file("a/b/c"), wide, "`a/b/c` in the list of files is below `a`, which is no folder"),
            (file("a") + "{\"path\":\"a\"}\n", wide, "`a` is in the list of files twice"),
            (file("a/b/c"), few, "the list has more than 2 files and folders; the one past the limit is `a/b/c`"),
            (file("a") + &file("b"), few, "the listed files have more than 5 bytes; the one past the limit is `b`"),
            (
                "{\"path\":\"a\",\"size_bytes\":3}".to_owned(),
                wide,
                "line 1 of the list of files: `a` has a size and a digest, or neither and is a folder",
            ),
            (
                "{\"path\":\"a\",\"executable\":true}".to_owned(),
                wide,
                "line 1 of the list of files: `a` has a size and a digest, or neither and is a folder",
            ),
            (file("a") + "{\"path\":\"b\",\"mode\":7}\n", wide, "line 2 of the list of files is not what it has to be"),
            (file("a") + "\n", wide, "line 2 of the list of files is not what it has to be"),
            ("x".repeat(LINE_BYTES_MAX + 1), wide, "line 1 of the list of files is longer than 32768 bytes"),
        ] {
            assert_eq!(read(&text, limits).unwrap_err().to_string(), expected, "{text}");
        }
        let long = Limits { entries_max: 2, ..Limits::default() };
        let text =
            file(&"x".repeat(255)) + &file(&format!("{}/{}/{}/{}", "y".repeat(250), "y".repeat(250), "y".repeat(250), "y".repeat(250)));
        assert!(matches!(read(&text, long), Err(ListingError::Names { .. } | ListingError::TooMany { .. })));
    }
}
