//! The files of a model, as a value.
//!
//! A [`Tree`] is what a folder on disk and an uploaded archive have in common: safe relative paths, sorted, each a folder or a file
//! with its size, its executable bit and a way to its bytes. Links are gone (what reads a folder or an archive has put the file in their
//! place), owners, times and other modes too. It opens nothing: `disk/folder.rs` and `disk/archive.rs` make trees.
//!
//! What must stay true: the folder and the archive of the same files give equal trees but for where the bytes are.

use std::collections::BTreeMap;

use crate::oci::layer::{Content, Entry, EntryKind};
use crate::oci::path::TreePath;

/// What a model may measure (interface, "Limits"); all settable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that the files may have together, unpacked.
    pub unpacked_bytes_max: u64,
    /// The most files and folders.
    pub entries_max: u64,
    /// How many times its compressed size an archive may grow to, past the first [`Limits::RATIO_FREE_BYTES`].
    pub ratio_max: u64,
}

impl Limits {
    /// Below this many unpacked bytes the ratio is not looked at: small files of zeros are common and harmless.
    pub const RATIO_FREE_BYTES: u64 = 64 << 20;

    /// What the names of a model may have together: they are kept in memory.
    pub fn name_bytes_max(&self) -> u64 {
        self.entries_max.saturating_mul(512)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { unpacked_bytes_max: 64 << 30, entries_max: 200_000, ratio_max: 200 }
    }
}

/// The files and folders of a model by their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<TreePath, EntryKind>,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// Adds a node; what was at its path before comes back.
    pub fn insert(&mut self, path: TreePath, node: EntryKind) -> Option<EntryKind> {
        self.nodes.insert(path, node)
    }

    /// The node at a path.
    pub fn get(&self, path: &TreePath) -> Option<&EntryKind> {
        self.nodes.get(path)
    }

    /// The file at a path written out, where there is one: its size and its content.
    pub fn file(&self, path: &str) -> Option<(u64, &Content)> {
        match self.nodes.get(&TreePath::new(path).ok()?)? {
            EntryKind::File { size_bytes, content, .. } => Some((*size_bytes, content)),
            EntryKind::Folder => None,
        }
    }

    /// Every node, sorted by path.
    pub fn nodes(&self) -> impl Iterator<Item = (&TreePath, &EntryKind)> {
        self.nodes.iter()
    }

    /// Every file, sorted by path, with its size.
    pub fn files(&self) -> impl Iterator<Item = (&TreePath, u64)> {
        self.nodes.iter().filter_map(|(path, node)| match node {
            EntryKind::File { size_bytes, .. } => Some((path, *size_bytes)),
            EntryKind::Folder => None,
        })
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node at all.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The bytes of all files together.
    pub fn size_bytes(&self) -> u64 {
        self.files().map(|(_, size_bytes)| size_bytes).sum()
    }

    /// What is at `keep` or below one of its paths, and the folders above; paths stay as they are.
    pub fn only(&self, keep: &[TreePath]) -> Tree {
        let nodes = self.nodes.iter().filter(|(path, _)| keep.iter().any(|kept| path.is_within(kept)));
        let mut tree = Tree { nodes: nodes.map(|(path, node)| (path.clone(), node.clone())).collect() };
        let above: Vec<TreePath> = tree.nodes.keys().flat_map(|path| path.ancestors().collect::<Vec<_>>()).collect();
        for folder in above {
            tree.nodes.entry(folder).or_insert(EntryKind::Folder);
        }
        tree
    }

    /// The same without one file.
    pub fn without(mut self, path: &str) -> Tree {
        self.nodes.retain(|other, node| other.as_str() != path || *node == EntryKind::Folder);
        self
    }

    /// The nodes as the entries of a layer, below `root`.
    pub fn entries_below(&self, root: &TreePath) -> impl Iterator<Item = Entry> {
        self.nodes.iter().map(move |(path, node)| Entry { path: root.join(path), kind: node.clone() })
    }
}
