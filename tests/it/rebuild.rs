//! A rebuild costs nothing: what has not changed is not opened, not sent, and named as before; what has changed is never overlooked.
//!
//! `strace` tells which files `hs` opened, a tap on the wire what it asked. The files must have been left alone for two seconds before they are remembered,
//! so each test waits for the file system's clock first.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::bases::{self, Base, Packed};
use crate::support::client::noise;
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::Home;
use crate::support::models;
use crate::support::wire_tap::WireTap;

/// What is read of every folder, to know what it is: no content of the image is among it by its size.
const ALWAYS_READ: [&str; 3] = ["serving.yaml", "contract.prototxt", "src/func_main.py"];

struct Bench {
    home: Home,
    folder: tempfile::TempDir,
    _registry: DockerRegistry,
    tap: WireTap,
}

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let (files, empty) = models::rich();
        models::write(&folder.path().join("model"), &files, &empty);
        let registry = DockerRegistry::start();
        let tap = WireTap::before(registry.address()).await;
        bases::push(&format!("{}/serving-runtime-python:3.11", registry.address()), &[Base::new("amd64", &[Packed::Plain])]);
        let bench = Bench { home: Home::new(), folder, _registry: registry, tap };
        models::settle(&bench.model());
        bench
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn words(&self, tag: &str) -> Vec<String> {
        let (model, address) = (self.model(), self.tap.address());
        let runtime = format!("{address}/serving-runtime-python:3.11");
        let to = format!("{address}/model:{tag}");
        ["build", model.to_str().unwrap(), "--version", "3", "--runtime", &runtime, "--to", &to].map(str::to_owned).to_vec()
    }

    /// Builds and pushes under `strace`: what `hs` printed, and which files of the model it opened.
    fn traced(&self, tag: &str, more: &[&str]) -> (Value, Vec<String>) {
        self.home.traced(&self.model(), self.words(tag).iter().map(String::as_str).chain(more.iter().copied()))
    }
}

fn cache_entries(home: &Home) -> usize {
    fs::read_dir(home.path().join(".cache/lamina/layers")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_model_is_named_and_pushed_without_opening_its_files() {
    let bench = Bench::new().await;
    let (first, opened) = bench.traced("1", &[]);
    assert!(opened.contains(&"large.bin".to_owned()) && opened.len() > 40, "{opened:?}");
    let layers = first["images"][0]["layers"].as_array().unwrap().iter().filter(|layer| layer["purpose"] == "files").count();
    assert!(cache_entries(&bench.home) >= layers, "one for each layer of ours");

    bench.tap.forget();
    let (second, opened) = bench.traced("1", &[]);
    assert_eq!((&second["digest"], &second["transfer"]["sent_bytes"]), (&first["digest"], &0.into()));
    assert!(opened.iter().all(|path| ALWAYS_READ.contains(&path.as_str())), "{opened:?}");
    assert!(bench.tap.seen().len() <= 4, "{:?}", bench.tap.seen());
    assert_eq!(bench.tap.body_bytes(), 0);

    let (third, opened) = bench.traced("1", &["--no-cache"]);
    assert_eq!(third["digest"], first["digest"]);
    assert!(opened.contains(&"large.bin".to_owned()), "{opened:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_layer_of_a_changed_file_is_read_again() {
    let bench = Bench::new().await;
    let (first, _) = bench.traced("1", &[]);
    // The same size and the same modification time: a change that only the file system tells.
    let file = bench.model().join("large.bin");
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    let mut bytes = noise(9 << 20);
    bytes[5 << 20] ^= 1;
    fs::write(&file, bytes).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    let (second, opened) = bench.traced("1", &[]);
    assert_ne!(second["digest"], first["digest"]);
    assert!(opened.iter().all(|path| path == "large.bin" || ALWAYS_READ.contains(&path.as_str())), "{opened:?}");
    let plain = bench.home.json(bench.words("2").iter().map(String::as_str).chain(["--no-cache"]));
    assert_eq!(second["digest"], plain["digest"], "what is remembered is what the files give");
}

#[tokio::test(flavor = "multi_thread")]
async fn remembered_layers_are_made_again_for_a_registry_that_lacks_them() {
    let bench = Bench::new().await;
    let (first, _) = bench.traced("1", &[]);
    let layout = bench.folder.path().join("layout");
    let to = format!("oci:{}:m", layout.display());
    let mut words = bench.words("1");
    *words.last_mut().unwrap() = to.clone();
    let written = bench.home.json(&words);
    assert_eq!(written["digest"], first["digest"]);
    let other = DockerRegistry::start();
    *words.last_mut().unwrap() = format!("{}/model:1", other.address());
    let pushed = bench.home.json(&words);
    assert_eq!(pushed["digest"], first["digest"]);
    for image in [to, format!("docker://{}/model:1", other.address())] {
        let unpacked = crate::support::images::inspect(&image);
        assert_eq!(unpacked["Digest"], first["digest"], "{image}");
    }
    let back = bench.folder.path().join("back");
    let ran = bench.home.hs(["pull", &format!("{}/model:1", other.address()), back.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert_eq!(fs::read(back.join("parts/part-07")).unwrap(), fs::read(bench.model().join("parts/part-07")).unwrap());
}
