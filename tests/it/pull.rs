//! The way back: `hs pull` gives the folder that `hs build` took, file by file; or nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::bases::{self, Base, Packed};
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, Ran, tool};
use crate::support::images::{Listing, listing};
use crate::support::models;

/// A user with a model that has everything, and a registry.
struct Bench {
    registry: DockerRegistry,
    home: Home,
}

impl Bench {
    fn new() -> Bench {
        let (registry, home) = (DockerRegistry::start(), Home::new());
        let (files, empty) = models::rich();
        models::write(&home.path().join("model"), &files, &empty);
        Bench { registry, home }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }

    fn build(&self, runtime: &str, to: &str) -> Value {
        let model = self.path("model");
        self.home.json(["build", model.to_str().unwrap(), "--runtime", runtime, "--to", to])
    }

    /// Pulls into `down/NAME`; what is in `down` afterwards is for the test to look at.
    fn pull(&self, image: &str, name: &str) -> Ran {
        fs::create_dir_all(self.path("down")).unwrap();
        self.home.hs(["pull", image, self.path("down").join(name).to_str().unwrap()])
    }

    fn pulled(&self, image: &str) -> Listing {
        let ran = self.pull(image, "model");
        assert_eq!(ran.code, 0, "{ran:#?}");
        let found = listing(&self.path("down/model"));
        fs::remove_dir_all(self.path("down/model")).unwrap();
        assert_eq!(names(&self.path("down")), [""; 0], "nothing else is left");
        found
    }
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Compared by path first: the bytes of a model are no good message.
fn assert_same(found: &Listing, expected: &Listing) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, node) in expected {
        assert!(found[path] == *node, "{path} came back with other bytes or another mode");
    }
}

#[test]
fn the_folder_comes_back_from_everywhere_it_can_go() {
    let bench = Bench::new();
    let base = format!("{}/base:1", bench.registry.address());
    bases::push(&base, &[Base::new("amd64", &[Packed::Gzip, Packed::Zstd])]);
    let expected = listing(&bench.path("model"));
    assert!(expected.keys().any(|path| path.len() > 200) && expected.values().any(Option::is_none));
    for place in [
        format!("{}/some/where/rich:1", bench.registry.address()),
        format!("oci:{}:rich:1", bench.path("layout").display()),
        format!("oci-archive:{}:rich:1", bench.path("image.tar").display()),
    ] {
        let document = bench.build(&base, &place);
        assert_same(&bench.pulled(&place), &expected);
        if let Some((repository, _)) =
            place.strip_suffix(":1").and_then(|place| place.rsplit_once('/')).filter(|_| !place.starts_with("oci"))
        {
            assert_same(&bench.pulled(&format!("{repository}/rich@{}", document["digest"].as_str().unwrap())), &expected);
        }
    }
}

#[test]
fn what_other_tools_moved_comes_back_too() {
    let bench = Bench::new();
    bench.build("scratch", &format!("oci:{}:rich", bench.path("layout").display()));
    let (from, to) = (format!("oci:{}:rich", bench.path("layout").display()), format!("{}/rich:1", bench.registry.address()));
    tool("skopeo", &["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &from, &format!("docker://{to}")]);
    assert_same(&bench.pulled(&to), &listing(&bench.path("model")));
}

#[test]
fn an_image_for_several_platforms_has_one_model() {
    let bench = Bench::new();
    let base = format!("{}/base:1", bench.registry.address());
    bases::push(&base, &[Base::new("amd64", &[Packed::Gzip]), Base::new("arm64", &[Packed::Gzip])]);
    let to = format!("{}/rich:1", bench.registry.address());
    bench.build(&base, &to);
    assert_same(&bench.pulled(&to), &listing(&bench.path("model")));
}

#[test]
fn what_is_pulled_builds_the_same_image_again() {
    let bench = Bench::new();
    let first = bench.build("scratch", &format!("{}/rich:1", bench.registry.address()));
    assert_eq!(bench.pull(&format!("{}/rich:1", bench.registry.address()), "again").code, 0);
    let again = bench.path("down/again");
    let second = bench.home.json(["build", again.to_str().unwrap(), "--runtime", "scratch"]);
    assert_eq!(second["digest"], first["digest"]);
}

#[test]
fn a_payload_without_its_contract_gets_it_beside_its_files() {
    let bench = Bench::new();
    let example = crate::support::hs::project("docs/examples/linear_regression");
    let to = format!("{}/linear_regression:1", bench.registry.address());
    let built = bench.home.json(["build", example.to_str().unwrap(), "--runtime", "scratch", "--to", &to]);
    let found = bench.pulled(&to);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        ["contract.protobin", "src", "src/func_main.py", "weights.json"],
        "README.md was not shipped"
    );
    let contract = &found["contract.protobin"].as_ref().unwrap().0;
    assert_eq!(built["contract"]["digest"], lamina::oci::digest::Digest::of(contract).to_string());
}

#[test]
fn a_folder_that_is_there_is_left_alone() {
    let bench = Bench::new();
    let to = format!("{}/rich:1", bench.registry.address());
    bench.build("scratch", &to);
    fs::create_dir_all(bench.path("down/model")).unwrap();
    fs::write(bench.path("down/model/mine"), "mine").unwrap();
    let ran = bench.pull(&to, "model");
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("is there already") && ran.stderr.contains("remedy: name a folder that is not there yet"), "{ran:#?}");
    assert_eq!(names(&bench.path("down/model")), ["mine"]);
    assert_eq!(names(&bench.path("down")), ["model"]);
}

#[test]
fn a_blob_that_was_tampered_with_leaves_nothing() {
    let bench = Bench::new();
    let to = format!("{}/rich:1", bench.registry.address());
    let layout = format!("oci:{}:rich", bench.path("layout").display());
    let document = bench.build("scratch", &to);
    bench.build("scratch", &layout);
    for layer in document["images"][0]["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap();
        let in_layout = bench.path("layout/blobs").join(digest.replace(':', "/"));
        for (image, file) in [(&to, bench.registry.blob_file(digest)), (&layout, in_layout)] {
            let whole = fs::read(&file).unwrap();
            let mut other = whole.clone();
            let at = other.len() / 2;
            other[at] ^= 1;
            fs::write(&file, other).unwrap();
            let ran = bench.pull(image, "model");
            assert!(ran.code != 0 && ran.stderr.contains(digest), "{image}: {ran:#?}");
            assert_eq!(names(&bench.path("down")), [""; 0], "{image}");
            // A registry whose blobs are short is asked again for a while, so that is for the layout alone.
            if image == &layout {
                fs::write(&file, &whole[..at]).unwrap();
                assert_ne!(bench.pull(image, "model").code, 0, "cut short");
                assert_eq!(names(&bench.path("down")), [""; 0]);
            }
            fs::write(&file, whole).unwrap();
        }
    }
    assert_eq!(bench.pull(&to, "model").code, 0, "whole again");
}

#[test]
fn an_image_of_somebody_else_is_refused() {
    let bench = Bench::new();
    let base = format!("{}/base:1", bench.registry.address());
    bases::push(&base, &[Base::new("amd64", &[Packed::Gzip])]);
    let ran = bench.pull(&base, "model");
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(ran.stderr.contains("was not built by hs"), "{ran:#?}");
    let ran = bench.pull(&format!("{}/no/such:1", bench.registry.address()), "model");
    assert_eq!((ran.code, ran.stderr.contains("it is not there")), (4, true), "{ran:#?}");
    assert_eq!(names(&bench.path("down")), [""; 0]);
}
