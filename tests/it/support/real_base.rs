//! The real base: `base-images/serving-runtime-python`, made by its own recipe from Debian's packages.
//!
//! Making it takes a minute and the network, so all tests share one, in the build's own folder for temporary files, under a name that says what it was made
//! of: another recipe makes another base. Whoever comes first makes it, under a lock; who comes second waits.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lamina::oci::digest::Digest;

use super::hs::{Home, project};

/// What the base is called.
pub const NAME: &str = "serving-runtime-python:3.11";

/// The base, imported into a layout by `hs base import`: `oci:FOLDER:NAME`.
pub fn layout() -> String {
    let mut sources = Vec::new();
    for folder in ["base-images/server", "base-images/serving-runtime-python/assemble", "proto"] {
        add_sources(&project(folder), &mut sources);
    }
    sources.extend(fs::read(project("base-images/serving-runtime-python/build.sh")).unwrap());
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(root).unwrap();
    let lock = File::create(root.join("serving-runtime-python.lock")).unwrap();
    lock.lock().unwrap();
    let made = root.join(format!("serving-runtime-python-{}", &Digest::of(&sources).to_string()[7..23]));
    if !made.exists() {
        let parts = tempfile::tempdir_in(root).unwrap();
        make(parts.path());
        // It appears whole or not at all.
        fs::rename(parts.path().join("layout"), &made).unwrap();
    }
    format!("oci:{}:{NAME}", made.display())
}

fn make(folder: &Path) {
    let tars = folder.join("tars");
    let script = project("base-images/serving-runtime-python/build.sh");
    let status = Command::new("bash").arg(script).env("OUT", &tars).env_remove("HS").stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "the base's recipe: {status}");
    let path = |name: &str| tars.join(name).to_str().unwrap().to_owned();
    let to = format!("oci:{}:{NAME}", folder.join("layout").display());
    let (config, debian, runtime) = (path("config.json"), path("debian.tar"), path("runtime.tar"));
    let imported = Home::new().json(["base", "import", "--name", NAME, "--image-config", &config, &debian, &runtime, "--to", &to]);
    assert_eq!(imported["name"], NAME);
}

/// The bytes of all files below a folder, by their names; what Python leaves behind when it runs is no source.
fn add_sources(folder: &Path, all: &mut Vec<u8>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if !path.ends_with("__pycache__") {
                add_sources(&path, all);
            }
        } else {
            all.extend(path.strip_prefix(project("")).unwrap().to_str().unwrap().bytes());
            all.extend(fs::read(&path).unwrap());
        }
    }
}
