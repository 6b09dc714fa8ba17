//! The real bases: what the recipes of `base-images` make of Debian's packages and of wheels.
//!
//! Making one takes a minute and the network, so all tests share it, in the build's own folder for temporary files, under a name that says what it was made
//! of: another recipe makes another base. Whoever comes first makes it, under a lock; who comes second waits. Packages are downloaded once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lamina::oci::digest::Digest;

use super::hs::{Home, project, tool};

/// What the base of Python models is called.
pub const NAME: &str = "serving-runtime-python:3.11";

/// A base, by its name and version, imported into a layout by `hs base import`: `oci:FOLDER:NAME:VERSION`.
pub fn layout_of(runtime: &str) -> String {
    format!("oci:{}:{runtime}", made(runtime).join("layout").display())
}

/// The folder with the packages of a base's wheels, for the Python of the same version on this machine.
pub fn packages_of(runtime: &str) -> PathBuf {
    made(runtime).join("wheels")
}

/// The modules of the server, `hydro_serving_grpc` among them, as they are in an image.
pub fn python_tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let (script, protos) = (project("base-images/assemble/python_tree.sh"), project("proto"));
    tool("bash", &[script.to_str().unwrap(), protos.to_str().unwrap(), tree.path().to_str().unwrap()]);
    tree
}

/// The folder with what was made of a recipe; made where it is not there.
fn made(runtime: &str) -> PathBuf {
    let recipe = format!("base-images/{}", runtime.replace(':', "/"));
    let mut sources = Vec::new();
    for folder in ["base-images/server", "base-images/assemble", &recipe, "proto"] {
        add_sources(&project(folder), &mut sources);
    }
    sources.extend(fs::read(project("base-images/build.sh")).unwrap());
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(root).unwrap();
    let plain = runtime.replace(':', "-");
    let lock = File::create(root.join(format!("{plain}.lock"))).unwrap();
    lock.lock().unwrap();
    let made = root.join(format!("{plain}-{}", &Digest::of(&sources).to_string()[7..23]));
    if !made.exists() {
        // What other sources made is of no use any more.
        let others = fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
        for old in others.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&format!("{plain}-")))) {
            fs::remove_dir_all(old.path()).unwrap();
        }
        let parts = tempfile::tempdir_in(root).unwrap();
        make(runtime, parts.path(), &root.join("packages"));
        // It appears whole or not at all.
        fs::rename(parts.path().join("made"), &made).unwrap();
    }
    made
}

fn make(runtime: &str, folder: &Path, packages: &Path) {
    let (tars, made) = (folder.join("tars"), folder.join("made"));
    let mut command = Command::new("bash");
    // Debian's mirrors drop old versions: a lock that has aged must not stop the tests of what is built on a base.
    command.arg(project("base-images/build.sh")).args([runtime, "--or-newest"]).stdin(Stdio::null());
    let status = command.env("OUT", &tars).env("PACKAGES", packages).env_remove("HS").status().unwrap();
    assert!(status.success(), "the recipe of {runtime}: {status}");
    let path = |name: &str| tars.join(name).to_str().unwrap().to_owned();
    let to = format!("oci:{}:{runtime}", made.join("layout").display());
    let mut words = vec!["base".to_owned(), "import".to_owned(), "--name".to_owned(), runtime.to_owned()];
    words.extend(["--image-config".to_owned(), path("config.json")]);
    words.extend(["debian.tar", "wheels.tar", "runtime.tar"].map(path).into_iter().filter(|tar| Path::new(tar).exists()));
    words.extend(["--to".to_owned(), to]);
    fs::create_dir(&made).unwrap();
    assert_eq!(Home::new().json(words)["name"], runtime);
    if tars.join("wheels.tar").exists() {
        fs::create_dir(made.join("wheels")).unwrap();
        let to = made.join("wheels");
        // Below usr/local/lib/python3.N/dist-packages there.
        tool("tar", &["-xf", &path("wheels.tar"), "-C", to.to_str().unwrap(), "--strip-components", "5"]);
    }
}

/// The bytes of all files below a folder, by their names; tests, and what Python leaves behind when it runs, are no source.
fn add_sources(folder: &Path, all: &mut Vec<u8>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if !path.ends_with("__pycache__") && !path.ends_with("tests") {
                add_sources(&path, all);
            }
        } else {
            all.extend(path.strip_prefix(project("")).unwrap().to_str().unwrap().bytes());
            all.extend(fs::read(&path).unwrap());
        }
    }
}
