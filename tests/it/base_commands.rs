//! `hs base import`, `lock` and `list`: what a base is made of, what a name is held to, and what is stale.
//!
//! Bases of a few bytes; registries and layouts are real ones. What starts podman is in the slow stage: its users share what it notes in `/run`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::bases::{self, Base, Packed};
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, Ran, tool};
use crate::support::models;
use crate::support::outside;
use crate::support::podman::Podman;

const NAME: &str = "serving-runtime-python:3.11";
const OWN: &str = "own-runtime:1";

/// What `hs base list` says of a runtime.
fn listed(home: &Home, arguments: &[&str], name: &str) -> Value {
    let words = arguments.iter().chain(&["base", "list"]);
    let document = home.json(words);
    let rows = document["runtimes"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{document:#}")).clone()
}

/// A base that differs from all others with another text.
fn base_saying(text: &str) -> Base {
    let mut base = Base::new("amd64", &[Packed::Gzip]);
    text.clone_into(&mut base.layers[0].1);
    base
}

fn imported(home: &Home, source: &str) -> Value {
    home.json(["base", "import", "--name", NAME, source])["digest"].clone()
}

#[test]
fn a_layout_an_archive_and_a_registry_give_the_same_base_and_tars_give_one() {
    let (registry, home) = (DockerRegistry::start(), Home::new());
    let layout = home.path().join("layout");
    let digest = json!(bases::write_layout(&layout, "base", &[Base::new("amd64", &[Packed::Gzip, Packed::Zstd])]));
    let archive = home.path().join("base.tar");
    let (of_layout, of_archive) = (format!("oci:{}:base", layout.display()), format!("oci-archive:{}:base", archive.display()));
    tool("skopeo", &["copy", "--quiet", "--preserve-digests", &of_layout, &of_archive]);
    let in_registry = format!("{}/base:1", registry.address());
    tool("skopeo", &["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", &of_layout, &format!("docker://{in_registry}")]);
    for source in [of_layout.as_str(), &of_archive, &in_registry] {
        let one = Home::new();
        assert_eq!(imported(&one, source), digest, "{source}");
        assert_eq!(listed(&one, &[], NAME)["imported"], digest, "{source}");
    }

    outside::import_small_base(&home);
    let of_tars = listed(&home, &[], NAME)["imported"].clone();
    assert!(of_tars.is_string() && of_tars != digest, "{of_tars}");
    let other = Home::new();
    outside::import_small_base(&other);
    assert_eq!(listed(&other, &[], NAME)["imported"], of_tars, "the same tar, the same base");

    // The same tar, packed.
    let (tar, config) = (home.path().join("base.tar"), home.path().join("base.json"));
    tool("gzip", &["-9", tar.to_str().unwrap()]);
    let packed = home.path().join("base.tar.gz");
    let words = ["base", "import", "--name", OWN, "--image-config", config.to_str().unwrap(), packed.to_str().unwrap()];
    assert_eq!(home.json(words)["digest"], of_tars);
}

#[test]
fn what_is_no_base_is_refused_with_what_to_do() {
    let home = Home::new();
    let tar = home.path().join("root.tar");
    fs::write(&tar, [0; 1024]).unwrap();
    let tar = tar.to_str().unwrap();
    let refused = |words: &[&str], code: i32, expected: &[&str]| {
        let ran = home.hs(["base", "import", "--name", NAME].iter().chain(words));
        assert_eq!(ran.code, code, "{ran:#?}");
        assert!(expected.iter().all(|words| ran.stderr.contains(words)), "{expected:?} {ran:#?}");
    };
    refused(&[tar], 2, &["need an image config", "--image-config FILE", "docker-archive:FILE"]);
    refused(&[&format!("docker-archive:{tar}")], 3, &["root.tar"]);
    refused(&["oci:/no/such/layout:1"], 4, &["/no/such/layout"]);
    assert_eq!(listed(&home, &[], NAME)["imported"], Value::Null);
}

#[test]
fn an_image_of_a_model_is_no_base() {
    let home = Home::new();
    outside::import_small_base(&home);
    let model = home.path().join("model");
    models::small(&model);
    let layout = format!("oci:{}:m", home.path().join("layout").display());
    home.json(["build", model.to_str().unwrap(), "--runtime", NAME, "--to", &layout]);
    let before = listed(&home, &[], NAME);
    // An ancestor's image says so by its label; a file system that was exported says nothing, and has the contract.
    let (ancestors, root, config) = (home.path().join("ancestors"), home.path().join("root.tar"), home.path().join("base.json"));
    let mut base = base_saying("theirs\n");
    base.config["Labels"]["MODEL_NAME"] = json!("theirs");
    bases::write_layout(&ancestors, "m", &[base]);
    let folder = home.path().join("root/model");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("contract.protobin"), b"").unwrap();
    tool("tar", &["-cf", root.to_str().unwrap(), "-C", home.path().join("root").to_str().unwrap(), "."]);
    for (words, said) in [
        (vec![layout.as_str()], "is the image of a model (`"),
        (vec![&format!("oci:{}:m", ancestors.display())], "is the image of a model (`theirs`)"),
        (vec!["--image-config", config.to_str().unwrap(), root.to_str().unwrap()], "it has /model/contract.protobin"),
    ] {
        let ran = home.hs(["base", "import", "--name", NAME].into_iter().chain(words));
        assert!(ran.code == 3 && ran.stderr.contains(said), "{said} {ran:#?}");
    }
    assert_eq!(listed(&home, &[], NAME), before);
}

#[test]
fn a_base_of_a_name_that_no_list_has_is_listed_and_built_on() {
    let home = Home::new();
    let mut base = base_saying("own\n");
    base.config["Env"] = json!(["PATH=/bin", "PYTHON_VERSION=3.12.4"]);
    let layout = home.path().join("layout");
    let digest = json!(bases::write_layout(&layout, "own", &[base]));
    let source = format!("oci:{}:own", layout.display());
    home.json(["base", "import", "--name", OWN, &source]);
    assert_eq!(listed(&home, &[], OWN)["imported"], digest);
    let model = home.path().join("model");
    models::small(&model);
    let build = |runtime: &str| {
        let document = home.json(["build", model.to_str().unwrap(), "--runtime", runtime, "--dry-run"]);
        (document["base"]["name"].clone(), document["base"]["digest"].clone())
    };
    assert_eq!(build(OWN), (json!(OWN), digest.clone()));
    assert_eq!(build("own-runtime"), (json!(OWN), digest.clone()));
    home.json(["base", "lock", OWN]);
    assert_eq!(listed(&home, &[], OWN)["locked"], digest);
    // Another image under the same name is another runtime.
    let mut newer = base_saying("newer\n");
    newer.config["Env"] = json!(["PATH=/bin", "PYTHON_VERSION=3.13.0"]);
    bases::write_layout(&home.path().join("newer"), "own", &[newer]);
    home.json(["base", "import", "--name", OWN, &format!("oci:{}:own", home.path().join("newer").display())]);
    // What a list has is the list's, here and where the settings say more of it.
    home.json(["base", "import", "--name", NAME, &source]);
    let list = fs::read_to_string(home.data().join("runtimes.json")).unwrap();
    assert!(list.contains("3.13.0") && list.contains("serving-runtime-python"), "{list}");
    let config = home.path().join("config.yaml");
    fs::write(
        &config,
        "runtimes:\n  - {name: own-runtime, version: '1', reference: own-runtime:1, model_types: [own], contract_dialect: v2}\n",
    )
    .unwrap();
    assert_eq!(listed(&home, &["--config", config.to_str().unwrap()], OWN)["contract_dialect"], "v2");
}

/// What a Docker archive becomes: the digest of the base, its config's, and the diff IDs of its layers.
fn of_docker_archive(archive: &str) -> (Value, Value, Value) {
    let home = Home::new();
    let layout = home.path().join("out");
    let to = format!("oci:{}:base", layout.display());
    let document = home.json(["base", "import", "--name", OWN, archive, "--to", &to]);
    let blob = |digest: &Value| -> Value {
        let path = layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let manifest = blob(&document["digest"]);
    assert!(
        manifest["layers"].as_array().unwrap().iter().all(|layer| layer["mediaType"].as_str().unwrap().ends_with("gzip")),
        "{manifest:#}"
    );
    let config = manifest["config"]["digest"].clone();
    let diff_ids = blob(&config)["rootfs"]["diff_ids"].clone();
    // It is a base, and other commands read the archive, too.
    home.json(["base", "import", "--name", OWN, archive]);
    assert_eq!(listed(&home, &[], OWN)["imported"], document["digest"]);
    home.json(["inspect", archive]);
    (document["digest"].clone(), config, diff_ids)
}

#[test]
fn slow_docker_archives_of_skopeo_and_podman_and_of_both_forms_of_docker_give_the_same_base() {
    let home = Home::new();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let layout = home.path().join("layout");
    let mut base = Base::new("amd64", &[Packed::Gzip, Packed::Plain]);
    // Larger than what stays as it is.
    base.layers[0].1 = "many words\n".repeat(2000);
    base.layers[1].1 = "other words\n".repeat(2000);
    bases::write_layout(&layout, "base", &[base]);
    let (source, skopeos) = (format!("oci:{}:base", layout.display()), path("skopeo.tar"));
    tool("skopeo", &["--insecure-policy", "copy", "--quiet", &source, &format!("docker-archive:{skopeos}:localhost/base:1")]);
    let expected = of_docker_archive(&format!("docker-archive:{skopeos}"));

    let podman = Podman::new();
    let (podmans, both) = (path("podman.tar"), path("both.tar"));
    let run = |words: &[&str]| tool("podman", &[&podman.words()[1..].iter().map(String::as_str).collect::<Vec<_>>(), words].concat());
    run(&["load", "--quiet", "--input", &skopeos]);
    run(&["save", "--quiet", "--format", "docker-archive", "--output", &podmans, "localhost/base:1"]);
    assert_eq!(of_docker_archive(&format!("docker-archive:{podmans}")), expected);
    run(&["tag", "localhost/base:1", "localhost/other:2"]);
    run(&[
        "save",
        "--quiet",
        "--multi-image-archive",
        "--format",
        "docker-archive",
        "--output",
        &both,
        "localhost/base:1",
        "localhost/other:2",
    ]);
    assert_eq!(of_docker_archive(&format!("docker-archive:{both}:localhost/other:2")), expected);

    // The form of Docker 25: a layout with a manifest.json beside its index.
    let unpacked = home.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    tool("tar", &["-xf", &skopeos, "-C", unpacked.to_str().unwrap()]);
    let mut manifest: Value = serde_json::from_slice(&fs::read(unpacked.join("manifest.json")).unwrap()).unwrap();
    fs::create_dir_all(unpacked.join("blobs/sha256")).unwrap();
    let move_to = |name: &str| {
        let to = format!("blobs/sha256/{}", name.trim_end_matches(".json").trim_end_matches(".tar"));
        fs::rename(unpacked.join(name), unpacked.join(&to)).unwrap();
        to
    };
    manifest[0]["Config"] = json!(move_to(manifest[0]["Config"].as_str().unwrap()));
    let layers: Vec<String> = manifest[0]["Layers"].as_array().unwrap().iter().map(|layer| move_to(layer.as_str().unwrap())).collect();
    manifest[0]["Layers"] = json!(layers);
    fs::write(unpacked.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(unpacked.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let docker_25 = path("docker25.tar");
    let pack = || tool("tar", &["-cf", &docker_25, "-C", unpacked.to_str().unwrap(), "blobs", "manifest.json", "oci-layout"]);
    pack();
    assert_eq!(of_docker_archive(&format!("docker-archive:{docker_25}")), expected);

    // A layer that is not what the config names.
    fs::write(unpacked.join(&layers[1]), vec![0; 20 << 10]).unwrap();
    pack();
    let ran = home.hs(["base", "import", "--name", OWN, &format!("docker-archive:{docker_25}")]);
    assert!(ran.code == 3 && ran.stderr.contains(&layers[1]) && ran.stderr.contains("the image config names sha256:"), "{ran:#?}");
    assert!(!home.data().join("runtimes.json").exists());
}

/// A user whose config file names a runtime in a registry.
struct Site {
    registry: DockerRegistry,
    home: Home,
    config: String,
}

impl Site {
    fn new() -> Site {
        let (registry, home) = (DockerRegistry::start(), Home::new());
        models::small(&home.path().join("model"));
        let config = home.path().join("config.yaml");
        let text = format!(
            "runtimes:\n  - name: own-runtime\n    version: \"1\"\n    reference: {}/bases/own:1\n    model_types: [own]\n    contract_dialect: v1\n",
            registry.address()
        );
        fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap().to_owned();
        Site { registry, home, config }
    }

    fn publish(&self, text: &str) {
        bases::push(&format!("{}/bases/own:1", self.registry.address()), &[base_saying(text)]);
    }

    fn options(&self) -> [&str; 2] {
        ["--config", &self.config]
    }

    fn json(&self, words: &[&str]) -> Value {
        self.home.json(self.options().iter().chain(words))
    }

    fn hs(&self, words: &[&str]) -> Ran {
        self.home.hs(self.options().iter().chain(words))
    }

    fn row(&self) -> Value {
        listed(&self.home, &self.options(), OWN)
    }

    /// The digest of the base that a model is built on.
    fn built_on(&self) -> Value {
        let folder = self.home.path().join("model");
        let to = format!("{}/model:1", self.registry.address());
        self.json(&["build", folder.to_str().unwrap(), "--runtime", OWN, "--to", &to])["base"]["digest"].clone()
    }
}

#[test]
fn a_lock_holds_builds_to_a_base_until_it_is_locked_anew() {
    let site = Site::new();
    site.publish("first\n");
    let first = site.json(&["base", "lock", OWN])["locked"][0]["digest"].clone();
    assert_eq!(site.built_on(), first);
    let row = site.row();
    assert_eq!((&row["locked"], &row["registry"]["digest"], &row["stale"]), (&first, &first, &json!(false)));

    // The tag moves on; the image that it left is still there by its digest.
    site.publish("second\n");
    let row = site.row();
    let second = row["registry"]["digest"].clone();
    assert!(second != first && row["locked"] == first && row["stale"] == true, "{row:#}");
    assert!(site.hs(&["base", "list"]).stdout.contains("stale"));
    assert_eq!(site.built_on(), first);

    let document = site.json(&["base", "lock", "own-runtime"]);
    assert_eq!((&document["locked"][0]["was"], &document["locked"][0]["digest"]), (&first, &second));
    assert_eq!(site.built_on(), second);
    let file = document["file"].as_str().unwrap();
    assert!(Path::new(file).starts_with(site.home.data()));
    assert_eq!(fs::read_to_string(file).unwrap().lines().last().unwrap(), format!("{OWN} {}", second.as_str().unwrap()));

    site.json(&["base", "lock", "--remove", OWN]);
    assert_eq!(site.row()["locked"], Value::Null);
}

#[test]
fn an_imported_base_that_is_not_the_locked_one_is_refused_and_one_that_is_old_is_said() {
    let site = Site::new();
    site.publish("first\n");
    let reference = format!("{}/bases/own:1", site.registry.address());
    site.json(&["base", "import", "--name", OWN, &reference]);
    let locked = site.json(&["base", "lock", OWN])["locked"][0].clone();
    assert_eq!(locked["found"], OWN, "what is imported comes first");
    site.publish("second\n");
    assert_eq!(site.row()["stale"], true);

    let layout = site.home.path().join("layout");
    let third = bases::write_layout(&layout, "third", &[base_saying("third\n")]);
    site.json(&["base", "import", "--name", OWN, &format!("oci:{}:third", layout.display())]);
    assert_eq!(site.built_on(), locked["digest"], "the registry still has the one that is locked");
    let row = site.row();
    assert_eq!((&row["imported"], &row["locked"]), (&json!(third), &locked["digest"]));

    drop(site.registry);
    let folder = site.home.path().join("model");
    let ran = site.home.hs(["--config", &site.config, "build", folder.to_str().unwrap(), "--runtime", OWN, "--dry-run"]);
    assert_eq!(ran.code, 5, "{ran:#?}");
    assert!(ran.stderr.contains(locked["digest"].as_str().unwrap()) && ran.stderr.contains("hs base lock"), "{ran:#?}");
}

#[test]
fn a_registry_that_cannot_be_asked_is_said_and_fails_nothing() {
    let site = Site::new();
    site.publish("first\n");
    site.json(&["base", "lock", OWN]);
    drop(site.registry);
    let options = ["--config", &site.config];
    let row = listed(&site.home, &options, OWN);
    assert!(row["stale"].is_null() && row["registry"]["digest"].is_null() && row["locked"].is_string(), "{row:#}");
    assert!(row["registry"]["problem"].as_str().unwrap().contains("bases/own:1"), "{row:#}");
    let ran = site.home.hs(options.iter().chain(&["base", "list"]));
    assert!(ran.code == 0 && ran.stdout.contains("no registry answered"), "{ran:#?}");
}

#[test]
fn what_cannot_be_locked_is_named_and_nothing_is_written() {
    let site = Site::new();
    site.publish("first\n");
    let lock = site.home.data().join("runtimes.lock");
    for (words, code, expected) in [
        (vec![OWN, "no-such:1"], 2, "runtime `no-such:1` is not known"),
        (vec![OWN, "serving-runtime-onnx"], 4, "base-images/build.sh serving-runtime-onnx:1.32"),
        (vec!["--remove", OWN], 2, "`own-runtime:1` is not locked"),
    ] {
        let words: Vec<&str> = ["base", "lock"].into_iter().chain(words).collect();
        let ran = site.hs(&words);
        assert_eq!(ran.code, code, "{ran:#?}");
        assert!(ran.stderr.contains(expected), "{ran:#?}");
        assert!(!lock.exists());
    }
    fs::create_dir_all(site.home.data()).unwrap();
    fs::write(&lock, "own-runtime:1 sha256:12\n").unwrap();
    let ran = site.hs(&["base", "list"]);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("runtimes.lock`, line 1") && ran.stderr.contains("lock anew"), "{ran:#?}");
}
