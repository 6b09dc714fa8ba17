//! The rules of the house, held by a test: floors, file sizes, opening comments, and nothing left unfinished.
//!
//! It reads the source as text and knows nothing of what the code does. What a rule is for stands in `docs/ARCHITECTURE.md`.

#![allow(clippy::unwrap_used, reason = "a file that cannot be read is a failure")]

use std::fs;
use std::path::{Path, PathBuf};

/// The floors, lowest first; a floor may import itself and those before it. The two pairs that must not know each other are below.
const FLOORS: [&str; 9] = ["oci", "contract", "model", "disk", "registry", "catalog", "build", "server", "cli"];
const STRANGERS: [(&str, &str); 2] = [("registry", "catalog"), ("server", "cli")];
/// `cli` drives the service over HTTP only; `hs serve` and `hs demo` are started by `main.rs`.
const CLI_NEVER: [&str; 2] = ["server", "catalog"];
/// "About 400 lines": a ratchet against files that grow without being noticed.
const LINES_MAX: usize = 450;

fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|found| found == extension) {
                found.push(entry);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{extension} file below {folder}");
    found
}

fn floor_of(file: &Path) -> Option<usize> {
    let floor = file.parent()?.file_name()?.to_str()?;
    FLOORS.iter().position(|known| *known == floor)
}

/// Every `crate::floor` that a file names, in code and not in comments.
fn imports(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            let name: String = code[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.extend(FLOORS.iter().position(|floor| **floor == name).map(|floor| (number + 1, floor)));
        }
        assert!(!code.contains("use crate::{"), "line {}: one `use` for each path, so that floors can be seen", number + 1);
    }
    found
}

#[test]
fn a_floor_imports_only_floors_above_it_in_the_list() {
    let mut seen = 0;
    for file in files_below("src", "rs") {
        let Some(own) = floor_of(&file) else { continue };
        for (line, imported) in imports(&fs::read_to_string(&file).unwrap()) {
            seen += 1;
            let place = format!("{}:{line}: `{}` imports `{}`", file.display(), FLOORS[own], FLOORS[imported]);
            assert!(imported <= own, "{place}, which is a higher floor");
            assert!(!STRANGERS.contains(&(FLOORS[imported], FLOORS[own])), "{place}; these two never import each other");
            assert!(FLOORS[own] != "cli" || !CLI_NEVER.contains(&FLOORS[imported]), "{place}");
            let of_the_service =
                ["build/worker.rs", "build/job.rs", "build/row.rs", "build/collect.rs"].iter().any(|name| file.ends_with(name));
            let recipe_knows_no_database = of_the_service || FLOORS[own] != "build" || FLOORS[imported] != "catalog";
            assert!(recipe_knows_no_database, "{place}: `hs build` needs no database");
        }
    }
    assert!(seen > 50, "the test sees {seen} imports: it does not look where the code is");
}

#[test]
fn floor_0_touches_nothing() {
    let banned = [
        "std::fs",
        "std::env",
        "TcpStream",
        "TcpListener",
        "std::process",
        "SystemTime",
        "Instant::now",
        "Timestamp::now",
        "async fn",
        "tokio",
        "reqwest",
    ];
    for file in files_below("src", "rs").into_iter().filter(|file| floor_of(file).is_some_and(|floor| floor < 3)) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for word in banned {
                assert!(!line.contains(word), "{}:{}: floor 0 has no `{word}`", file.display(), number + 1);
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_small() {
    let all = [files_below("src", "rs"), files_below("tests", "rs"), vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs")]].concat();
    for file in all {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} does not open with what it is", file.display());
        let lines = text.lines().count();
        // The table of contents is as long as there are files.
        assert!(lines <= LINES_MAX || file.ends_with("src/lib.rs"), "{} has {lines} lines: is it still one idea?", file.display());
    }
    for file in files_below("base-images", "py").into_iter().chain(files_below("tests", "py")) {
        let text = fs::read_to_string(&file).unwrap();
        let opens = text.is_empty() || text.starts_with('#') || text.starts_with("\"\"\"");
        assert!(opens, "{} does not open with what it is", file.display());
    }
}

#[test]
fn the_table_of_contents_lists_every_file() {
    let contents = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for file in files_below("src", "rs").into_iter().filter(|file| floor_of(file).is_some()) {
        let module = file.file_stem().unwrap().to_str().unwrap();
        assert!(contents.contains(&format!("pub mod {module};")), "{} is not in src/lib.rs", file.display());
    }
}

#[test]
fn nothing_is_left_unfinished() {
    // Put together here, so that this file does not find itself.
    let marks = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ig", "nore")];
    for file in [files_below("src", "rs"), files_below("tests", "rs")].concat() {
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            for mark in marks {
                assert!(!line.contains(mark), "{}:{}: {mark}", file.display(), number + 1);
            }
        }
    }
}
