//! An image for tests: a base with one gzip layer of its own and ours on top, one of them a recipe and one a gzip blob.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use lamina::disk::folder::{FolderOptions, read_folder};
use lamina::disk::seal::seal;
use lamina::oci::image::{Compression, Image, ImageSet, Purpose, SealedLayer, Statement, append, index};
use lamina::oci::layer::Recipe;
use lamina::oci::path::TreePath;
use lamina::oci::platform::Platform;

/// Writes the files of a small model.
pub fn model(folder: &Path) {
    for (name, bytes) in [
        ("weights.bin", (0..300_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("src/func_main.py", b"def infer(x): return x\n".to_vec()),
    ] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The two layers of the model: its weights as a recipe, its code as a gzip blob in `scratch`.
pub fn layers(folder: &Path, scratch: &Path) -> Vec<SealedLayer> {
    let tree = read_folder(folder, &FolderOptions::default()).unwrap().tree;
    let root = TreePath::new("model/files").unwrap();
    let layer = |keep: &str, compression| {
        let part = tree.only(&[TreePath::new(keep).unwrap()]);
        let recipe = Arc::new(Recipe::new(part.entries_below(&root).collect(), 0).unwrap());
        seal(recipe, compression, Purpose::Files, scratch, &|_| {}).unwrap()
    };
    vec![layer("weights.bin", Compression::None), layer("src", Compression::Gzip)]
}

/// The image of these layers for one platform.
pub fn image(layers: &[SealedLayer], platform: &str) -> Image {
    let statement = Statement { created: "1970-01-01T00:00:00Z".to_owned(), layout: "hydro".to_owned(), ..Statement::default() };
    append(None, &platform.parse::<Platform>().unwrap(), layers, &statement).unwrap().0
}

/// One image, no index.
pub fn single(layers: &[SealedLayer]) -> ImageSet {
    ImageSet { index: None, images: vec![image(layers, "linux/amd64")] }
}

/// Two images that share their layers.
pub fn double(layers: &[SealedLayer]) -> ImageSet {
    index(vec![image(layers, "linux/amd64"), image(layers, "linux/arm64")], &BTreeMap::default())
}
