//! The corpus of the fuzz targets, replayed: every file of `fuzz/corpus/` and `fuzz/crashes/` goes to its reader once more.
//!
//! The bodies are the fuzzer's own (`fuzz/readers.rs`); what they assert holds here too, without a fuzzer or a nightly toolchain.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

#[path = "../../fuzz/readers.rs"]
mod readers;

fn files(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).map(|all| all.map(|file| file.unwrap().path()).collect()).unwrap_or_default();
    files.sort();
    files
}

#[test]
fn every_reader_stands_its_corpus() {
    for (target, read) in readers::READERS {
        let corpus = files("corpus", target);
        assert!(!corpus.is_empty(), "fuzz/corpus/{target} is empty: put some real files there");
        for file in corpus.into_iter().chain(files("crashes", target)) {
            let bytes = fs::read(&file).unwrap();
            assert!(std::panic::catch_unwind(|| read(&bytes)).is_ok(), "{} fells its reader", file.display());
        }
    }
}

#[test]
fn the_corpus_is_small() {
    let mut size_bytes = 0;
    for (target, _) in readers::READERS {
        let corpus = files("corpus", target);
        assert!(corpus.len() <= 200, "fuzz/corpus/{target} has {} files: see fuzz/README.md", corpus.len());
        size_bytes += corpus.iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    }
    assert!(size_bytes < 2_000_000, "fuzz/corpus has {size_bytes} bytes: see fuzz/README.md");
}

#[test]
fn every_target_is_replayed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let targets: Vec<&str> = manifest.lines().filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\"")).collect();
    assert_eq!(targets.len(), readers::READERS.len());
    for (target, _) in readers::READERS {
        assert!(targets.contains(&target), "fuzz/Cargo.toml has no `[[bin]]` for {target}");
        let door = fs::read_to_string(fuzz.join(format!("targets/{target}.rs"))).unwrap();
        assert!(door.contains(&format!("readers::{target}(bytes)")), "fuzz/targets/{target}.rs calls another reader");
    }
}
