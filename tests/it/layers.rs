//! Layers: the bytes of a recipe are what an independent writer makes of the same folder, whole and in every range.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use lamina::disk::folder::{FolderOptions, read_folder};
use lamina::disk::render::Renderer;
use lamina::disk::seal::seal;
use lamina::oci::digest::Digest;
use lamina::oci::image::{Compression, LayerSource, Purpose};
use lamina::oci::layer::Recipe;
use lamina::oci::path::TreePath;

fn recipe(folder: &Path) -> Arc<Recipe> {
    let selected = read_folder(folder, &FolderOptions::default()).unwrap();
    let root = TreePath::new("model/files").unwrap();
    let mut entries: Vec<_> = selected.tree.entries_below(&root).collect();
    // The order in which entries are given must not matter.
    entries.reverse();
    Arc::new(Recipe::new(entries, 0).unwrap())
}

fn model() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    for (path, bytes) in [
        ("a", vec![1; 512]),
        ("a.txt", vec![2; 513]),
        ("a.d/b", vec![]),
        ("weights/größe/模型.bin", (0..400_000u32).map(|at| at.wrapping_mul(at) as u8).collect()),
        (&format!("{}/{}", "d".repeat(120), "f".repeat(90)), vec![3; 100]),
        (&format!("{}/{}", "d".repeat(200), "f".repeat(120)), vec![4; 100]),
        (&format!("{}/{}", "d".repeat(200), "g"), vec![5; 1]),
        (&"n".repeat(100), vec![6; 1]),
        ("run.sh", b"#!/bin/sh".to_vec()),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::create_dir_all(root.path().join("empty/folder")).unwrap();
    fs::set_permissions(root.path().join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    root
}

#[test]
fn an_independent_writer_makes_the_same_layer() {
    let (model, scratch) = (model(), tempfile::tempdir().unwrap());
    let theirs = scratch.path().join("layer.tar");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/archives/layer.py");
    let output = Command::new("python3").arg(script).arg(model.path()).arg("model/files").arg(&theirs).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (theirs, mut ours) = (fs::read(&theirs).unwrap(), Vec::new());
    Renderer::new(recipe(model.path())).read_to_end(&mut ours).unwrap();
    let differs = ours.iter().zip(&theirs).position(|(a, b)| a != b);
    assert!(ours == theirs, "{} and {} bytes, the first difference at {differs:?}", ours.len(), theirs.len());
    let layer = seal(recipe(model.path()), Compression::None, Purpose::Files, scratch.path(), &|_| {}).unwrap();
    assert_eq!((layer.digest, layer.size_bytes), (Digest::of(&theirs), theirs.len() as u64));
    assert!(matches!(layer.source, LayerSource::Recipe(_)));
}

#[test]
fn every_range_is_that_part_of_the_whole() {
    let model = model();
    let recipe = recipe(model.path());
    let mut whole = Vec::new();
    Renderer::new(recipe.clone()).read_to_end(&mut whole).unwrap();
    assert_eq!(whole.len() as u64, recipe.size_bytes());
    let mut edges: Vec<u64> = recipe.parts().flat_map(|part| [part.offset_bytes, part.offset_bytes + part.size_bytes / 2 + 1]).collect();
    edges.extend([recipe.size_bytes(), u64::MAX]);
    for &start in &edges {
        for &end in &edges {
            let mut bytes = Vec::new();
            Renderer::range(recipe.clone(), start..end).read_to_end(&mut bytes).unwrap();
            let (start, end) = (start.min(recipe.size_bytes()), end.min(recipe.size_bytes()));
            assert!(bytes == whole[start as usize..end.max(start) as usize], "{start}..{end}");
        }
    }
}

#[test]
fn another_folder_with_the_same_files_gives_the_same_layer() {
    use std::os::unix::fs::PermissionsExt;
    let (model, copy, scratch) = (model(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = copy.path().join("elsewhere");
    assert!(Command::new("cp").arg("-r").arg(model.path()).arg(&folder).status().unwrap().success());
    // Another time stamp, another umask, the same meaning.
    fs::set_permissions(folder.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(folder.join("run.sh"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::File::open(folder.join("a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    for compression in [Compression::None, Compression::Gzip] {
        let one = seal(recipe(model.path()), compression, Purpose::Files, scratch.path(), &|_| {}).unwrap();
        let two = seal(recipe(&folder), compression, Purpose::Files, scratch.path(), &|_| {}).unwrap();
        assert_eq!((one.digest, one.diff_id, one.size_bytes), (two.digest, two.diff_id, two.size_bytes));
    }
}
