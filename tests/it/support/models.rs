//! Model folders that a test makes: the same bytes each time, with everything that a folder can have.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use super::client::noise;

/// The contract of the small models.
pub const CONTRACT: &str = r#"signatures {
  signature_name: "infer"
  inputs { name: "x" shape { dim { size: -1 } dim { size: 2 } } dtype: DT_DOUBLE }
  outputs { name: "y" shape { dim { size: -1 } } dtype: DT_DOUBLE }
}
"#;

/// A file: path, bytes, whether it is executable.
pub type File = (String, Vec<u8>, bool);

/// Writes files and empty folders below `folder`, in the order in which they are given.
pub fn write(folder: &Path, files: &[File], empty_folders: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for path in empty_folders {
        fs::create_dir_all(folder.join(path)).unwrap();
    }
    for (path, bytes, executable) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let mode = if *executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Waits until all that is in `folder` has been left alone for as long as caches ask, by the clock of the file system.
pub fn settle(folder: &Path) {
    let changed = |path: &Path| fs::metadata(path).map(|metadata| metadata.ctime()).unwrap();
    loop {
        let probe = tempfile::NamedTempFile::new_in(folder.parent().unwrap()).unwrap();
        let now_s = changed(probe.path());
        let mut paths = vec![folder.to_owned()];
        let mut youngest_s = 0;
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            youngest_s = youngest_s.max(changed(&path));
        }
        if now_s > youngest_s + 3 {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The smallest model that can be built.
pub fn small(folder: &Path) {
    let file = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec(), false);
    write(folder, &[file("contract.prototxt", CONTRACT), file("src/func_main.py", "def infer(x):\n    return x\n")], &[]);
}

/// Everything that a folder can have: nested, executable, empty, named in other scripts, longer than a tar header holds, and large enough for a
/// layer of its own.
pub fn rich() -> (Vec<File>, Vec<&'static str>) {
    let file = |path: &str, bytes: Vec<u8>| (path.to_owned(), bytes, false);
    let long = format!("{}/{}/weights.bin", "d".repeat(120), "e".repeat(90));
    let mut files = vec![
        file("serving.yaml", b"model:\n  name: rich\n  type: \"python:3.11\"\n  description: \"all that a folder can have\"\n".to_vec()),
        file("contract.prototxt", CONTRACT.as_bytes().to_vec()),
        file("src/func_main.py", b"def infer(x):\n    return x\n".to_vec()),
        ("bin/tool.sh".to_owned(), b"#!/bin/sh\nexit 0\n".to_vec(), true),
        file("data/a/b/c/d/deep.txt", b"deep".to_vec()),
        file("data/größe/模型 mit Raum.bin", noise(70_000)),
        file("data/empty.file", Vec::new()),
        file("data/block", vec![7; 512]),
        file(&long, noise(1000)),
        file("large.bin", noise(9 << 20)),
    ];
    files.extend((0..40).map(|n| file(&format!("parts/part-{n:02}"), noise(1 << 10))));
    (files, vec!["logs", "data/none/at/all"])
}
