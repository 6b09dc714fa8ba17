//! Where `hs build` puts an image, and what it says: every destination read back by other tools, several at once, nothing on a dry run, and for each failure its
//! exit code, its object and its remedy.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::client::noise;
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, Ran, free_address, tool};
use crate::support::images::{self, Copied, listing};
use crate::support::models;
use crate::support::wire_tap::WireTap;

/// A user in an empty home, with the smallest model in `model`.
pub struct Bench {
    pub home: Home,
}

impl Bench {
    pub fn new() -> Bench {
        let home = Home::new();
        models::small(&home.path().join("model"));
        Bench { home }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }

    pub fn words(&self, more: &[&str]) -> Vec<String> {
        let mut words = vec!["build".to_owned(), self.path("model").to_str().unwrap().to_owned()];
        words.extend(more.iter().map(|&word| word.to_owned()));
        words
    }

    pub fn build(&self, more: &[&str]) -> Ran {
        self.home.hs(self.words(more))
    }

    pub fn json(&self, more: &[&str]) -> Value {
        self.home.json(self.words(more))
    }

    /// What is in the home but for what builds remember of layers, which is true whether the image went somewhere or not.
    fn listing(&self) -> images::Listing {
        let mut all = listing(self.home.path());
        all.retain(|path, _| !path.starts_with(".cache"));
        all
    }

    /// Fails with `code`, says all of `texts`, prints no result, and leaves nothing in the home.
    pub fn fails(&self, more: &[&str], code: i32, texts: &[&str]) {
        let before = self.listing();
        let ran = self.build(more);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{more:?}: {ran:#?}");
        for text in texts {
            assert!(ran.stderr.contains(text), "{more:?} does not say `{text}`: {ran:#?}");
        }
        assert!(self.listing() == before, "{more:?} left something behind");
    }
}

/// The files that umoci unpacks are those of the small model.
pub fn assert_unpacks(copied: Copied) {
    let root = copied.unpack();
    let files: Vec<String> = listing(&root).into_iter().filter(|(_, node)| node.is_some()).map(|(path, _)| path).collect();
    assert_eq!(files, ["model/contract.protobin", "model/files/contract.prototxt", "model/files/src/func_main.py"]);
    assert_eq!(fs::read_to_string(root.join("model/files/contract.prototxt")).unwrap(), models::CONTRACT);
}

#[test]
fn several_destinations_at_once_all_hold_the_image() {
    let (bench, registry) = (Bench::new(), DockerRegistry::start());
    let repository = format!("{}/deep/er/model:1", registry.address());
    let layout = format!("oci:{}:model:1", bench.path("layout").display());
    let archive = format!("oci-archive:{}:model:1", bench.path("image.tar").display());
    let document = bench.json(&["--runtime", "scratch", "--to", &repository, "--to", &layout, "--to", &archive]);
    assert_eq!(document["references"], json!([repository, layout, archive]));
    for image in [&format!("docker://{repository}"), &layout, &archive] {
        assert_eq!(images::inspect(image)["Digest"], document["digest"], "{image}");
        assert_eq!(images::config(image)["config"]["Labels"]["MODEL_NAME"], "model");
        assert_unpacks(Copied::from(image));
    }
}

#[test]
fn a_docker_archive_is_what_docker_load_takes() {
    let bench = Bench::new();
    let archive = format!("docker-archive:{}:model:1", bench.path("image.tar").display());
    let document = bench.json(&["--runtime", "scratch", "--to", &archive]);
    let image = format!("docker-archive:{}", bench.path("image.tar").display());
    assert_eq!(images::inspect(&image)["RepoTags"], json!([]), "skopeo names none of an archive");
    let config = images::config(&image);
    let diff_ids: Vec<&Value> = document["images"][0]["layers"].as_array().unwrap().iter().map(|layer| &layer["diff_id"]).collect();
    assert_eq!(json!(diff_ids), config["rootfs"]["diff_ids"]);
    assert_unpacks(Copied::translated(&image));
    let manifest = crate::support::hs::tool("tar", &["-xOf", bench.path("image.tar").to_str().unwrap(), "manifest.json"]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!(["model:1"]));
}

#[test]
fn a_layout_takes_a_second_image_beside_the_first() {
    let bench = Bench::new();
    let layout = |tag: &str| format!("oci:{}:{tag}", bench.path("layout").display());
    let first = bench.json(&["--runtime", "scratch", "--version", "1", "--to", &layout("one")]);
    let second = bench.json(&["--runtime", "scratch", "--version", "2", "--to", &layout("two")]);
    assert_ne!(first["digest"], second["digest"]);
    for (tag, document) in [("one", &first), ("two", &second)] {
        assert_eq!(images::inspect(&layout(tag))["Digest"], document["digest"]);
    }
    // Both layers are shared: only the config and the manifest are new.
    assert_eq!(fs::read_dir(bench.path("layout/blobs/sha256")).unwrap().count(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_the_digest_and_sends_nothing() {
    let (bench, registry) = (Bench::new(), DockerRegistry::start());
    let tap = WireTap::before(registry.address()).await;
    let (repository, layout) = (format!("{}/model:1", tap.address()), format!("oci:{}:x", bench.path("layout").display()));
    let words = ["--runtime", "scratch", "--to", &repository, "--to", &layout];
    let dry = bench.json(&[&words[..], &["--dry-run"]].concat());
    assert_eq!(tap.seen(), [], "nobody was asked");
    assert!(!bench.path("layout").exists() && registry.blobs() == 0);
    assert_eq!((&dry["references"], &dry["transfer"]), (&json!([]), &json!({"sent_bytes": 0, "mounted_bytes": 0, "skipped_bytes": 0})));
    let ran = bench.build(&[&words[..], &["--dry-run"]].concat());
    assert_eq!((ran.code, ran.stdout.contains("dry run: nothing was sent to")), (0, true), "{ran:#?}");
    assert_eq!(bench.json(&words)["digest"], dry["digest"]);
}

#[test]
fn an_archive_takes_the_place_of_an_archive_and_of_nothing_else() {
    let bench = Bench::new();
    let at = |form: &str, path: &Path| format!("{form}:{}", path.display());
    let archive = bench.path("image.tar");
    for form in ["oci-archive", "docker-archive", "oci-archive"] {
        bench.json(&["--runtime", "scratch", "--to", &at(form, &archive)]);
    }
    let outside = tempfile::tempdir().unwrap();
    let [link, thesis, pipe] = ["link.tar", "thesis.txt", "pipe"].map(|name| outside.path().join(name));
    std::os::unix::fs::symlink(&archive, &link).unwrap();
    fs::write(&thesis, "years of work").unwrap();
    tool("mkfifo", &[pipe.to_str().unwrap()]);
    for path in [&link, &thesis, &pipe, &bench.path("model/contract.prototxt"), &bench.path("model")] {
        for form in ["oci-archive", "docker-archive"] {
            let expected = format!("`{}` is there and is no archive", path.display());
            bench.fails(&["--runtime", "scratch", "--to", &at(form, path)], 2, &[&expected, "remedy: name another file"]);
        }
    }
    let kind = |path: &Path| fs::symlink_metadata(path).unwrap().file_type();
    assert!(kind(&link).is_symlink() && kind(&pipe).is_fifo() && fs::read(&thesis).unwrap() == b"years of work");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 3, "nothing is left beside them");
}

#[test]
fn explain_names_every_layer_and_its_files() {
    let bench = Bench::new();
    fs::write(bench.path("model/weights.bin"), noise(9 << 20)).unwrap();
    let ran = bench.build(&["--runtime", "scratch", "--dry-run", "--explain"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    for path in ["/model/contract.protobin", "/model/files/src/func_main.py", "/model/files/contract.prototxt", "/model/files/weights.bin"]
    {
        assert_eq!(ran.stdout.lines().filter(|line| line.trim() == path).count(), 1, "{path}: {ran:#?}");
    }
    for why in
        ["contract: the contract, alone", "files: large, as it is: by a sample", "files: small files, chosen by a hash of their path"]
    {
        assert!(ran.stdout.contains(why), "{why}: {ran:#?}");
    }

    for n in 0..20 {
        fs::write(bench.path(&format!("model/small-{n:02}")), "small").unwrap();
    }
    let ran = bench.build(&["--runtime", "scratch", "--dry-run", "--explain"]);
    // 22 small files, eight of them by name.
    assert!(ran.stdout.contains("and 14 more"), "{ran:#?}");
}

#[test]
fn the_json_has_all_that_was_promised() {
    let bench = Bench::new();
    let layout = format!("oci:{}:x", bench.path("layout").display());
    let document = bench.json(&["--runtime", "scratch", "--version", "3", "--model-type", "python:3.11", "--to", &layout]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert_eq!((text(&document["name"]), text(&document["version"])), ("model".to_owned(), "3".to_owned()));
    assert_eq!((text(&document["model_type"]), &document["base"]), ("python:3.11".to_owned(), &Value::Null));
    assert_eq!(text(&document["contract"]["source"]), "contract.prototxt");
    for digest in
        [&document["digest"], &document["contract"]["digest"], &document["images"][0]["digest"], &document["images"][0]["config_digest"]]
    {
        assert!(text(digest).starts_with("sha256:"), "{digest}");
    }
    assert_eq!(text(&document["images"][0]["platform"]), "linux/amd64");
    for layer in document["images"][0]["layers"].as_array().unwrap() {
        let keys: BTreeSet<&str> = layer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["diff_id", "digest", "media_type", "purpose", "size_bytes"]);
    }
    for key in ["sent_bytes", "mounted_bytes", "skipped_bytes"] {
        assert!(document["transfer"][key].is_u64(), "{key}");
    }
    assert!(document["references"].is_array() && document["warnings"].is_array() && document["duration_ms"].is_u64(), "{document:#}");
    // Standard output is the document and nothing else, also where there is something to say.
    let ran = bench.home.hs([&["--output", "json", "-v"].map(str::to_owned)[..], &bench.words(&["--runtime", "scratch"])[..]].concat());
    assert!(serde_json::from_str::<Value>(&ran.stdout).is_ok() && ran.stderr.contains("warning:"), "{ran:#?}");
}

#[test]
fn a_runtime_or_base_that_cannot_be_had_is_said_with_what_there_is() {
    let (bench, registry) = (Bench::new(), DockerRegistry::start());
    bench.fails(
        &["--runtime", "no-such"],
        2,
        &["runtime `no-such` is not known", "serving-runtime-python:3.11", "remedy: name one of these"],
    );
    let nowhere = [
        "runtime `serving-runtime-python:3.11` is neither imported here",
        "remedy: make it with `base-images/build.sh serving-runtime-python:3.11`",
    ];
    bench.fails(&["--runtime", "serving-runtime-python"], 4, &nowhere);
    let missing = format!("{}/none:1", registry.address());
    let said = format!("cannot pull manifest `{missing}`: it is not there");
    bench.fails(&["--runtime", &missing], 4, &[&format!("error: reading the base `{missing}`"), &said]);
    let silent = free_address();
    let remedy = format!("remedy: check that a registry listens at `{silent}`");
    bench.fails(&["--runtime", &format!("{silent}/base:1")], 4, &["no connection", &remedy]);
    let layout = format!("oci:{}:x", bench.path("none").display());
    bench.fails(&["--runtime", &layout], 4, &[bench.path("none").to_str().unwrap()]);

    // One that was only the default is no error: the model alone, and that is said.
    let ran = bench.build(&["--model-type", "python:3.11"]);
    assert_eq!(
        (ran.code, ran.stderr.contains("warning: runtime `serving-runtime-python:3.11` is not to be had here")),
        (0, true),
        "{ran:#?}"
    );
}

#[test]
fn a_registry_that_refuses_is_quoted() {
    let (bench, silent) = (Bench::new(), free_address());
    let remedy = format!("remedy: check that a registry listens at `{silent}`");
    bench.fails(&["--runtime", "scratch", "--to", &format!("{silent}/x:1")], 4, &["no connection", &remedy]);
    // A registry that wants somebody's name, and nobody gave one.
    let accounts = tempfile::tempdir().unwrap();
    let accounts = accounts.path().join("htpasswd");
    let registry = DockerRegistry::start_with("", &format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}", accounts.display()));
    let to = format!("{}/x:1", registry.address());
    bench.fails(
        &["--runtime", "scratch", "--to", &to],
        4,
        &[&format!("error: cannot ask for manifest `{}/x:1`", registry.address()), "401", "remedy:"],
    );
    assert_eq!(registry.blobs(), 0);
}

#[test]
fn words_that_mean_nothing_are_refused_before_anything_is_read() {
    let bench = Bench::new();
    bench.fails(&["--no-such-flag"], 2, &["unexpected argument '--no-such-flag'", "Usage: hs build"]);
    bench.fails(
        &["--to", "127.0.0.1:1/UPPER:1"],
        2,
        &["`127.0.0.1:1/UPPER:1` is not an image reference", "remedy: write `host[:port]/repository"],
    );
    bench.fails(&["--platform", "what is this"], 2, &["what is this"]);
    bench.fails(&["--dialect", "v9"], 2, &["v9"]);
    bench.fails(&["--layout", "round"], 2, &["round"]);
    let gone = Bench::new();
    fs::remove_dir_all(gone.path("model")).unwrap();
    gone.fails(&[], 2, &["model` is not a folder that can be read", "because: No such file or directory"]);
}

#[test]
fn a_model_that_is_not_valid_is_refused_with_the_place_and_the_remedy() {
    let write = |path: &str, text: &str| {
        let bench = Bench::new();
        fs::write(bench.path("model").join(path), text).unwrap();
        bench
    };
    Bench::new().fails(&["--name", "Bad Name"], 3, &["`Bad Name` cannot be a model's name", "remedy: call it `bad-name`"]);
    let missing = "model:\n  name: m\n  contract: contract.prototxt\n  payload:\n    - src/\n    - gone.bin\n";
    write("serving.yaml", missing).fails(
        &[],
        3,
        &["`gone.bin` in `payload` is not in the model folder", "remedy: correct the entry in serving.yaml"],
    );
    let not_there = "model:\n  name: m\n  contract: other.prototxt\n";
    write("serving.yaml", not_there).fails(&[], 3, &["the contract `other.prototxt` is not in the model folder"]);
    write("serving.yaml", "model:\n  name: [x\n").fails(&[], 3, &["reading the model's definition", "serving.yaml:2:9: "]);

    let bench = Bench::new();
    fs::remove_file(bench.path("model/contract.prototxt")).unwrap();
    bench.fails(&[], 3, &["no contract was found", "add a `contract.prototxt`", "`hs build --no-contract` builds without one"]);
    let document = bench.json(&["--no-contract", "--runtime", "scratch"]);
    assert_eq!(document["contract"], Value::Null);
    let purposes: Vec<&Value> = document["images"][0]["layers"].as_array().unwrap().iter().map(|layer| &layer["purpose"]).collect();
    assert_eq!(purposes, ["files"]);
}

#[test]
fn a_contract_that_is_not_valid_is_refused_at_its_line_and_column() {
    let bench = Bench::new();
    let says = |text: &str, texts: &[&str]| {
        fs::write(bench.path("model/contract.prototxt"), text).unwrap();
        bench.fails(&["--runtime", "scratch"], 3, texts);
    };
    let dtype = "signatures {\n  signature_name: \"infer\"\n  inputs { name: \"x\" dtype: DT_DUBLE }\n}\n";
    says(dtype, &["because: contract.prototxt:3:29: ", "DT_DUBLE", "remedy: the dtypes are DT_FLOAT, DT_DOUBLE,"]);
    says("signatures {\n  signature_nam: \"infer\"\n}\n", &["because: contract.prototxt:2:3: ", "signature_nam"]);
    says("signatures {\n  signature_name: \"infer\"\n", &["because: contract.prototxt:"]);
    let field = "inputs { name: \"x\" dtype: DT_DOUBLE }";
    let twice = format!("signatures {{ signature_name: \"infer\" {field} {field} outputs {{ name: \"y\" dtype: DT_DOUBLE }} }}");
    says(&twice, &["infer.inputs.x twice", "remedy: rename one of the two, or remove it"]);
    says("", &["the contract has no signature", "remedy: add a `signatures { … }`"]);
}

/// Nothing may be written where the folder is only read.
#[test]
fn the_model_folder_is_left_as_it_was() {
    let bench = Bench::new();
    let before = listing(&bench.path("model"));
    let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let at = modified(&bench.path("model"));
    assert_eq!(bench.build(&["--runtime", "scratch"]).code, 0);
    assert!(listing(&bench.path("model")) == before);
    assert_eq!(modified(&bench.path("model")), at);
}
