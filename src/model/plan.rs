//! Which file goes in which layer: a pure function from a model to layer recipes.
//!
//! The contract is alone in the first layer. A file of 8 MiB or more is a layer of its own; smaller ones are spread by a hash of their path, so
//! that a change in one file changes its own layer and no other, and adding a file moves no other file (until their number doubles the buckets). At
//! most 100 layers, the base's among them; past that, large files share layers in path order. Interface, "Layers". Whether a large file is compressed
//! is left open where its bytes decide (`packing.rs`): no file is opened here.
//!
//! What must stay true: the plan depends on paths, sizes, the base's number of layers and the compressor that was chosen, and on nothing else; all platforms
//! of an index share it.

use std::collections::BTreeSet;

use crate::fault::{Failure, Fault};
use crate::oci::digest::Digest;
use crate::oci::image::{Compression, LAYERS_MAX, Purpose};
use crate::oci::layer::{Content, Entry, EntryKind, Recipe, RecipeError};
use crate::oci::path::TreePath;

use super::packing::{Choice, Packing};
use super::tree::Tree;

/// A file of this size or more is a layer of its own.
pub const LARGE_BYTES: u64 = 8 << 20;
/// What a layer of small files holds on average, at most, while there are buckets left.
const BUCKET_BYTES: u64 = 4 << 20;
/// The numbers of buckets: powers of two, so that doubling splits each and mixes none.
const BUCKETS: [usize; 5] = [1, 2, 4, 8, 16];

/// Where the parts of a model are in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `/model/files`: what the runtimes of the ancestor and ours read.
    Hydro,
    /// `/models`: KServe's modelcars and Kubernetes' image volumes.
    Modelcar,
}

impl Layout {
    /// The word for it in `--layout` and in the image label.
    pub fn word(self) -> &'static str {
        match self {
            Layout::Hydro => "hydro",
            Layout::Modelcar => "modelcar",
        }
    }

    /// The folder of the payload, without the leading `/`.
    pub fn payload_root(self) -> TreePath {
        TreePath::new(match self {
            Layout::Hydro => "model/files",
            Layout::Modelcar => "models",
        })
        .expect("a constant path")
    }

    /// The layout that a word names.
    pub fn from_word(word: &str) -> Option<Layout> {
        [Layout::Hydro, Layout::Modelcar].into_iter().find(|layout| layout.word() == word)
    }
}

/// Where the contract is in the image, without the leading `/`.
pub fn contract_path() -> TreePath {
    TreePath::new("model/contract.protobin").expect("a constant path")
}

/// A layer that shall be made.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedLayer {
    /// What it is for.
    pub purpose: Purpose,
    /// What it holds.
    pub recipe: Recipe,
    /// How it is compressed.
    pub packing: Packing,
}

/// Why no plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The entries do not make a layer.
    #[error("planning the layers")]
    Recipe(#[from] RecipeError),
    /// The base leaves no room.
    #[error("the base has {base_layers} layers, which leaves no room for the model's within {LAYERS_MAX}")]
    NoRoom {
        /// How many the base has.
        base_layers: usize,
    },
}

impl Failure for PlanError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        matches!(self, PlanError::NoRoom { .. }).then(|| "use a base with fewer layers".to_owned())
    }
}

/// Plans the layers of a model on a base of `base_layers` layers, compressed as `choice` says; `modified_s` is the time stamp of every entry.
pub fn plan(
    payload: &Tree,
    contract: Option<&[u8]>,
    layout: Layout,
    choice: Choice,
    base_layers: usize,
    modified_s: u64,
) -> Result<Vec<PlannedLayer>, PlanError> {
    let root = layout.payload_root();
    // A folder comes along with whatever is below it, so only an empty one is an entry of its own.
    let parents: BTreeSet<TreePath> = payload.nodes().filter_map(|(path, _)| path.parent()).map(|path| root.join(&path)).collect();
    let entries = payload.entries_below(&root).filter(|entry| !parents.contains(&entry.path));
    let (large, small): (Vec<Entry>, Vec<Entry>) = entries.partition(is_large);
    let buckets = bucket_small(small, &root);
    let taken = base_layers + usize::from(contract.is_some()) + buckets.len();
    let room = LAYERS_MAX.saturating_sub(taken);
    if taken > LAYERS_MAX || (room == 0 && !large.is_empty()) {
        return Err(PlanError::NoRoom { base_layers });
    }
    let mut layers = Vec::new();
    if let Some(bytes) = contract {
        let kind = EntryKind::File { size_bytes: bytes.len() as u64, executable: false, content: Content::Inline(bytes.into()) };
        let recipe = Recipe::new(vec![Entry { path: contract_path(), kind }], modified_s)?;
        layers.push(PlannedLayer { purpose: Purpose::Contract, recipe, packing: Packing::As(Compression::None) });
    }
    for group in share(&large, room) {
        let recipe = Recipe::new(group, modified_s)?;
        layers.push(PlannedLayer { purpose: Purpose::Files, recipe, packing: choice.of_large() });
    }
    for bucket in buckets {
        let recipe = Recipe::new(bucket, modified_s)?;
        layers.push(PlannedLayer { purpose: Purpose::Files, recipe, packing: choice.of_small() });
    }
    Ok(layers)
}

fn is_large(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::File { size_bytes, .. } if size_bytes >= LARGE_BYTES)
}

fn size_bytes(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::File { size_bytes, .. } => size_bytes,
        EntryKind::Folder => 0,
    }
}

/// Spreads small files, and empty folders, by a hash of their path.
fn bucket_small(entries: Vec<Entry>, root: &TreePath) -> Vec<Vec<Entry>> {
    let total: u64 = entries.iter().map(size_bytes).sum();
    let count = BUCKETS.into_iter().find(|&count| total <= BUCKET_BYTES * count as u64).unwrap_or(BUCKETS[BUCKETS.len() - 1]);
    let mut buckets: Vec<Vec<Entry>> = vec![Vec::new(); count];
    for entry in entries {
        // The path below the root, so that the layout does not matter to the spread.
        let hash = Digest::of(entry.path.strip(root).unwrap_or_default().as_bytes());
        buckets[usize::from(hash.as_bytes()[0]) % count].push(entry);
    }
    buckets.retain(|bucket| !bucket.is_empty());
    buckets
}

/// One layer for each, or runs of them in path order where there is not room for all.
fn share(entries: &[Entry], room: usize) -> Vec<Vec<Entry>> {
    if entries.is_empty() {
        return Vec::new();
    }
    let each = entries.len().div_ceil(room.max(1));
    entries.chunks(each).map(<[Entry]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, u64)]) -> Tree {
        let mut tree = Tree::new();
        for (path, size_bytes) in files {
            let path = TreePath::new(path).unwrap();
            for folder in path.ancestors() {
                tree.insert(folder, EntryKind::Folder);
            }
            tree.insert(path, EntryKind::File { size_bytes: *size_bytes, executable: false, content: Content::Inline([].into()) });
        }
        tree
    }

    fn paths(layer: &PlannedLayer) -> Vec<&str> {
        layer.recipe.entries().iter().map(|entry| entry.path.as_str()).collect()
    }

    #[test]
    fn contract_first_large_alone_small_together() {
        let model = tree(&[("w/a.bin", LARGE_BYTES), ("w/b.bin", LARGE_BYTES - 1), ("src/func_main.py", 10)]);
        let layers = plan(&model, Some(b"c"), Layout::Hydro, Choice::Auto, 3, 0).unwrap();
        let all: Vec<_> = layers.iter().map(paths).collect();
        assert_eq!(all[0], ["model", "model/contract.protobin"]);
        assert_eq!(all[1], ["model", "model/files", "model/files/w", "model/files/w/a.bin"]);
        let mut small: Vec<_> = all[2..].iter().flatten().filter(|path| path.contains('.')).collect();
        small.sort();
        assert_eq!(small, [&"model/files/src/func_main.py", &"model/files/w/b.bin"]);
        let packings: Vec<_> = layers.iter().map(|layer| layer.packing).collect();
        assert_eq!(packings[..2], [Packing::As(Compression::None), Packing::Sampled(Compression::Gzip)]);
        assert!(packings[2..].iter().all(|packing| *packing == Packing::As(Compression::Gzip)), "{packings:?}");
    }

    #[test]
    fn empty_folders_stay_even_beside_a_name_that_sorts_between() {
        let mut model = tree(&[("a.b/x", 1), ("c/y", 1)]);
        model.insert(TreePath::new("a").unwrap(), EntryKind::Folder);
        model.insert(TreePath::new("c.d").unwrap(), EntryKind::Folder);
        let layers = plan(&model, None, Layout::Hydro, Choice::Auto, 0, 0).unwrap();
        let all: Vec<&str> = layers.iter().flat_map(paths).collect();
        for path in ["model/files/a", "model/files/a.b/x", "model/files/c/y", "model/files/c.d"] {
            assert!(all.contains(&path), "{path}");
        }
    }

    #[test]
    fn never_more_than_a_hundred_layers_and_nothing_lost() {
        let names: Vec<String> = (0..500).map(|n| format!("w{n:03}")).collect();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), LARGE_BYTES)).collect();
        for base_layers in [0, 1, 50, 98] {
            let layers = plan(&tree(&files), Some(b"c"), Layout::Hydro, Choice::Auto, base_layers, 0).unwrap();
            assert!(layers.len() + base_layers <= LAYERS_MAX);
            assert_eq!(layers.iter().flat_map(paths).filter(|path| path.contains("/w")).count(), 500);
        }
        assert!(matches!(plan(&tree(&files), Some(b"c"), Layout::Hydro, Choice::Auto, 99, 0), Err(PlanError::NoRoom { .. })));
    }

    #[test]
    fn a_file_more_moves_no_other_file() {
        let names: Vec<String> = (0..40).map(|n| format!("f{n}")).collect();
        let mut files: Vec<_> = names.iter().map(|name| (name.as_str(), 1 << 20)).collect();
        let before = plan(&tree(&files), None, Layout::Hydro, Choice::Auto, 0, 0).unwrap();
        files.push(("one-more", 1));
        let after = plan(&tree(&files), None, Layout::Hydro, Choice::Auto, 0, 0).unwrap();
        assert_eq!(before.len(), after.len());
        assert_eq!(before.iter().filter(|layer| !after.contains(layer)).count(), 1);
    }
}
