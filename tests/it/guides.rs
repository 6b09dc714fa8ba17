//! Each guide is run from its own text: what it says to write is written, what it says to type is typed, what it says one will see is looked for.
//!
//! The slow stage. The bases that a guide rests on are made by their own recipes (`support/real_base.rs`) and imported before the guide begins, as the guide
//! asks; `python` is Debian's, with nothing but pip.

use std::path::Path;

use crate::support::guide::Reader;
use crate::support::hs::{Home, tool};
use crate::support::podman::{LIMITS, Podman};
use crate::support::real_base;

/// Follows a guide with `bases` imported.
fn follow(guide: &str, bases: &[&str]) {
    let (podman, home) = (Podman::new(), Home::new());
    let python = home.path().join("python");
    tool("/usr/bin/python3", &["-m", "venv", python.to_str().unwrap()]);
    let path = format!("{}/bin:{}", python.display(), std::env::var("PATH").unwrap());
    // What was downloaded once need not be again.
    let downloads = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
    let home = home
        .with("HS_PODMAN", podman.words().join(" "))
        .with("HS_PODMAN_RUN", LIMITS.join(" "))
        .with("PATH", path)
        .with("PIP_CACHE_DIR", downloads.to_str().unwrap())
        .with("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    for base in bases {
        home.json(["base", "import", "--name", base, &real_base::layout_of(base)]);
    }
    Reader::new(home).follow(guide);
    assert_eq!(podman.containers(), "", "the containers are gone");
}

#[test]
fn slow_the_guide_for_python() {
    follow("docs/guides/python.md", &[real_base::NAME]);
}

#[test]
fn slow_tensorflow_the_guide() {
    follow("docs/guides/tensorflow.md", &["serving-runtime-tensorflow:2.21"]);
}

#[test]
fn slow_tensorflow_the_guide_for_keras() {
    follow("docs/guides/keras.md", &["serving-runtime-tensorflow:2.21", real_base::NAME]);
}
