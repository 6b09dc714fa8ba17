//! What sealing a layer gave, remembered: a layer whose files have not changed is named again without opening one of them.
//!
//! An entry is a small file, named by everything that the layer's bytes follow from: the paths, sizes, modes and time stamp of its recipe, how it is to be
//! compressed, and of each file its digest where it is known, else its identity (device, inode, size, modification and status change time). It holds the
//! digests, the size, and what a sample said. It is no store: a compressed blob is made again when somebody needs its bytes (`seal::remake`).
//!
//! What must stay true: an entry is written only when the youngest file had been left alone when its hashing was over (`cache_folder.rs`). An entry that cannot
//! be read is no entry, and a cache that cannot be written is no failure.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cache_folder::Draft;
use crate::model::packing::{Packing, Sample};
use crate::oci::digest::{Digest, Hasher};
use crate::oci::image::{Compression, SealedLayer};
use crate::oci::layer::{Content, EntryKind, Recipe, Stamp};
use crate::oci::splice::{PieceSource, Splice};

/// The most entries; past it the oldest half goes. Each is one block of a disk.
const ENTRIES_MAX: usize = 10_000;

/// Goes into every name: another form of entries, or other bytes for the same recipe, must not meet old entries.
const FORM: &str = "lamina layer cache 2, gzip 1 and 6, zstd 1 and 3, sample 16 of 64 KiB";

/// The same for splices.
const SPLICE_FORM: &str = "lamina splice cache 1";

/// The cache's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealCache {
    folder: PathBuf,
}

/// What is known of a layer's blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob.
    pub size_bytes: u64,
    /// The digest of the tar.
    pub diff_id: Digest,
    /// How the blob relates to the tar.
    pub compression: Compression,
    /// What the sample said, where that decided it.
    pub sample: Option<Sample>,
}

impl SealCache {
    /// A cache in `folder`, which is made when there is something to remember.
    pub fn new(folder: PathBuf) -> SealCache {
        SealCache { folder }
    }

    /// What is remembered of this layer.
    pub fn find(&self, recipe: &Recipe, packing: Packing) -> Option<Remembered> {
        let bytes = fs::read(self.path(recipe, packing)?).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers a layer that has just been sealed; says whether it did.
    pub fn remember(&self, recipe: &Recipe, packing: Packing, layer: &SealedLayer, sample: Option<Sample>) -> bool {
        let SealedLayer { digest, size_bytes, diff_id, compression, .. } = *layer;
        self.try_remember(recipe, packing, &Remembered { digest, size_bytes, diff_id, compression, sample }).unwrap_or(false)
    }

    /// What is remembered of a layer that is a splice: its bytes follow from its pieces and from the digests of its files.
    pub fn find_splice(&self, splice: &Splice) -> Option<Remembered> {
        serde_json::from_slice(&fs::read(self.splice_path(splice)).ok()?).ok()
    }

    /// Remembers a splice whose members have been proven; without it they are proven again.
    pub fn remember_splice(&self, splice: &Splice, layer: &SealedLayer) {
        let SealedLayer { digest, size_bytes, diff_id, compression, .. } = *layer;
        let remembered = Remembered { digest, size_bytes, diff_id, compression, sample: None };
        let write = || -> std::io::Result<()> {
            let draft = Draft::begin(&self.folder, ENTRIES_MAX)?;
            serde_json::to_writer(draft.file(), &remembered)?;
            draft.keep(&self.splice_path(splice))
        };
        drop(write());
    }

    fn splice_path(&self, splice: &Splice) -> PathBuf {
        let mut hasher = Hasher::new();
        hasher.update(SPLICE_FORM.as_bytes());
        hasher.update(Digest::of(splice.glue()).as_bytes());
        for file in splice.files() {
            hasher.update(file.digest.as_bytes());
        }
        for piece in splice.pieces() {
            let (file, at) = match piece.from {
                PieceSource::Glue(at) => (u64::MAX, at),
                PieceSource::File { file, offset_bytes } => (file as u64, offset_bytes),
            };
            for number in [piece.size_bytes, file, at] {
                hasher.update(&number.to_le_bytes());
            }
        }
        self.folder.join(hasher.finish().hex())
    }

    /// Takes back what is remembered of a layer.
    pub fn forget(&self, recipe: &Recipe, packing: Packing) {
        if let Some(path) = self.path(recipe, packing) {
            drop(fs::remove_file(path));
        }
    }

    fn try_remember(&self, recipe: &Recipe, packing: Packing, remembered: &Remembered) -> std::io::Result<bool> {
        let Some(path) = self.path(recipe, packing) else { return Ok(false) };
        let draft = Draft::begin(&self.folder, ENTRIES_MAX)?;
        if youngest_ns(recipe).is_some_and(|youngest_ns| !draft.is_settled(youngest_ns)) {
            return Ok(false);
        }
        serde_json::to_writer(draft.file(), remembered)?;
        draft.keep(&path)?;
        Ok(true)
    }

    fn path(&self, recipe: &Recipe, packing: Packing) -> Option<PathBuf> {
        Some(self.folder.join(key(recipe, packing)?.hex()))
    }
}

/// Everything that a layer's bytes follow from, hashed; `None` where a file has no identity that would change with it.
fn key(recipe: &Recipe, packing: Packing) -> Option<Digest> {
    let mut hasher = Hasher::new();
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    add(FORM.as_bytes());
    let (is_sampled, compression) = match packing {
        Packing::As(compression) => (false, compression),
        Packing::Sampled(compression) => (true, compression),
    };
    add(compression.word().as_bytes());
    add(&[u8::from(is_sampled)]);
    add(&recipe.modified_s().to_le_bytes());
    for entry in recipe.entries() {
        add(entry.path.as_str().as_bytes());
        match &entry.kind {
            EntryKind::Folder => add(b"folder"),
            EntryKind::File { size_bytes, executable, content } => {
                add(&size_bytes.to_le_bytes());
                add(&[u8::from(*executable)]);
                add(&identity(content)?);
            }
        }
    }
    Some(hasher.finish())
}

fn identity(content: &Content) -> Option<Vec<u8>> {
    match content {
        Content::Inline(bytes) => Some(Digest::of(bytes).as_bytes().to_vec()),
        Content::Local(file) => match (file.digest, file.stamp) {
            (Some(digest), _) => Some(digest.as_bytes().to_vec()),
            (None, stamp) if stamp == Stamp::default() => None,
            (None, stamp) => {
                let times = [stamp.modified_ns.to_le_bytes(), stamp.changed_ns.to_le_bytes()];
                let places = [stamp.device.to_le_bytes(), stamp.inode.to_le_bytes()];
                Some(times.concat().into_iter().chain(places.concat()).collect())
            }
        },
    }
}

/// When the youngest file whose digest is not known by itself was changed; `None` where there is no such file.
fn youngest_ns(recipe: &Recipe) -> Option<i128> {
    let times = recipe.entries().iter().filter_map(|entry| match &entry.kind {
        EntryKind::File { content: Content::Local(file), .. } if file.digest.is_none() => {
            Some(file.stamp.changed_ns.max(file.stamp.modified_ns))
        }
        _ => None,
    });
    times.max()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::disk::cache_folder::SETTLED_NS;
    use crate::disk::render::stamp;
    use crate::oci::image::{LayerSource, Purpose};
    use crate::oci::layer::{Entry, LocalFile};
    use crate::oci::path::TreePath;

    const PLAIN: Packing = Packing::As(Compression::None);

    /// A layer of one file, as a listing of the folder sees it now.
    fn layer_of(file: &Path) -> (Recipe, SealedLayer) {
        let metadata = fs::metadata(file).unwrap();
        let content = Content::Local(Arc::new(LocalFile { path: file.to_owned(), stamp: stamp(&metadata), digest: None }));
        let kind = EntryKind::File { size_bytes: metadata.len(), executable: false, content };
        let recipe = Recipe::new(vec![Entry { path: TreePath::new("w").unwrap(), kind }], 0).unwrap();
        let digest = Digest::of(&fs::read(file).unwrap());
        let source = LayerSource::Recipe(Arc::new(recipe.clone()));
        let layer = SealedLayer { digest, size_bytes: 7, diff_id: digest, compression: Compression::None, purpose: Purpose::Files, source };
        (recipe, layer)
    }

    /// Waits until the file system's own clock says that the file has been left alone.
    fn settle(file: &Path, beside: &Path) {
        loop {
            let probe = tempfile::NamedTempFile::new_in(beside).unwrap();
            let now_ns = stamp(&probe.as_file().metadata().unwrap()).changed_ns;
            if now_ns > stamp(&fs::metadata(file).unwrap()).changed_ns + SETTLED_NS {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    #[test]
    fn a_settled_file_is_remembered_until_anything_of_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("w"), SealCache::new(folder.path().join("cache")));
        fs::write(&file, b"weights").unwrap();
        let (recipe, layer) = layer_of(&file);
        assert!(!cache.remember(&recipe, PLAIN, &layer, None), "a file that was written just now");
        assert_eq!(fs::read_dir(folder.path().join("cache")).unwrap().count(), 0, "and nothing is left of the attempt");
        settle(&file, folder.path());
        assert!(cache.remember(&recipe, PLAIN, &layer, None));
        let SealedLayer { digest, diff_id, compression, .. } = layer;
        let remembered = Remembered { digest, size_bytes: 7, diff_id, compression, sample: None };
        assert_eq!(cache.find(&recipe, PLAIN), Some(remembered));
        // What was to be packed in another way is another layer, also where the sample left it alone.
        let sampled = Packing::Sampled(Compression::Gzip);
        for other in [Packing::As(Compression::Gzip), sampled, Packing::Sampled(Compression::Zstd)] {
            assert_eq!(cache.find(&recipe, other), None);
        }
        let sample = Some(Sample { size_bytes: 7, packed_bytes: 7 });
        assert!(cache.remember(&recipe, sampled, &layer, sample));
        assert_eq!(cache.find(&recipe, sampled), Some(Remembered { sample, ..remembered }));
        assert_eq!(cache.find(&Recipe::new(recipe.entries().to_vec(), 1).unwrap(), PLAIN), None);
        // The same size and the same modification time: only the time of the change tells.
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, b"Weights").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        assert_eq!(cache.find(&layer_of(&file).0, PLAIN), None);
        cache.forget(&recipe, PLAIN);
        assert_eq!(cache.find(&recipe, PLAIN), None);
    }

    #[test]
    fn a_damaged_entry_is_none_and_a_cache_that_cannot_be_written_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("w"), SealCache::new(folder.path().join("cache")));
        fs::write(&file, b"weights").unwrap();
        settle(&file, folder.path());
        let (recipe, layer) = layer_of(&file);
        assert!(cache.remember(&recipe, PLAIN, &layer, None));
        let entry = fs::read_dir(folder.path().join("cache")).unwrap().next().unwrap().unwrap().path();
        fs::write(&entry, b"{\"digest\":\"sha256:12\"").unwrap();
        assert_eq!(cache.find(&recipe, PLAIN), None);
        assert!(!SealCache::new(file.join("below a file")).remember(&recipe, PLAIN, &layer, None));
    }

    #[test]
    fn many_layers_are_remembered_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = SealCache::new(folder.path().join("cache"));
        let files: Vec<PathBuf> = (0..8).map(|n| folder.path().join(format!("w{n}"))).collect();
        for file in &files {
            fs::write(file, b"weights").unwrap();
        }
        settle(&files[7], folder.path());
        let remember = |file: &PathBuf| {
            let (recipe, layer) = layer_of(file);
            // Each meets the others' temporary files, which come and go.
            (0..50).all(|_| cache.remember(&recipe, PLAIN, &layer, None))
        };
        let all = std::thread::scope(|scope| {
            let threads: Vec<_> = files.iter().map(|file| scope.spawn(move || remember(file))).collect();
            threads.into_iter().all(|thread| thread.join().unwrap())
        });
        assert!(all, "a layer was not remembered");
    }
}
