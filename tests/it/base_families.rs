//! Bases as they come: both families, indexes, every compression, layouts, none at all; and bases that must be refused.
//!
//! Each base is written by the test and sent by skopeo; what is built on it is read by skopeo and umoci.

use std::fs;

use serde_json::{Value, json};

use crate::support::bases::{self, Base, Packed};
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::Home;
use crate::support::images::{self, Copied, listing};
use crate::support::models;

const EVERY_PACKING: [Packed; 3] = [Packed::Gzip, Packed::Plain, Packed::Zstd];

/// A registry, a user and a model to build.
struct Bench {
    registry: DockerRegistry,
    home: Home,
}

impl Bench {
    fn new() -> Bench {
        let (registry, home) = (DockerRegistry::start(), Home::new());
        models::small(&home.path().join("model"));
        Bench { registry, home }
    }

    /// A reference in the registry.
    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.address())
    }

    /// Builds the model as `to`, and returns what was printed.
    fn build(&self, runtime: &str, to: &str, more: &[&str]) -> Value {
        let model = self.home.path().join("model");
        let mut arguments = vec!["build", model.to_str().unwrap(), "--runtime", runtime, "--to", to];
        arguments.extend(more);
        self.home.json(arguments)
    }
}

fn docker(reference: &str) -> String {
    format!("docker://{reference}")
}

fn media_types(manifest: &Value) -> Vec<&str> {
    manifest["layers"].as_array().unwrap().iter().map(|layer| layer["mediaType"].as_str().unwrap()).collect()
}

#[test]
fn a_docker_base_gives_a_docker_image_with_its_healthcheck() {
    let bench = Bench::new();
    let (base, model) = (bench.at("base:1"), bench.at("model:1"));
    bases::push_as(&base, &[Base::new("amd64", &[Packed::Gzip])], &["--format", "v2s2"]);
    assert_eq!(images::raw(&docker(&base))["mediaType"], "application/vnd.docker.distribution.manifest.v2+json", "the base is Docker's");
    let document = bench.build(&base, &model, &["--version", "7"]);
    assert_eq!(document["warnings"], json!([]));
    let manifest = images::raw(&docker(&model));
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    let expected = ["tar.gzip", "tar", "tar.gzip"].map(|end| format!("application/vnd.docker.image.rootfs.diff.{end}"));
    assert_eq!(media_types(&manifest), expected, "the base's, the contract's, the files'");
    assert_eq!(manifest.get("annotations"), None, "Docker's manifest has none");
    let config = images::config(&docker(&model));
    assert_eq!(config["config"]["Healthcheck"], json!({"Test": ["CMD", "/usr/bin/true"], "Interval": 30_000_000_000_u64}));
    assert_eq!((&config["config"]["OnBuild"], &config["config"]["Shell"]), (&json!(["RUN true"]), &json!(["/bin/sh", "-c"])));
    let labels = &config["config"]["Labels"];
    assert_eq!((&labels["org.opencontainers.image.version"], &labels["MODEL_VERSION"]), (&json!("7"), &json!("7")));
    let base_digest = &images::inspect(&docker(&base))["Digest"];
    assert_eq!(&labels["org.opencontainers.image.base.digest"], base_digest);
    let root = listing(&Copied::translated(&docker(&model)).unpack());
    assert!(root.contains_key("base/layer-0") && root.contains_key("model/contract.protobin"), "{:?}", root.keys());
}

#[test]
fn an_oci_base_keeps_each_layer_as_it_was_packed() {
    let bench = Bench::new();
    let (base, model) = (bench.at("base:1"), bench.at("model:1"));
    bases::push(&base, &[Base::new("amd64", &EVERY_PACKING)]);
    let document = bench.build(&base, &model, &[]);
    let manifest = images::raw(&docker(&model));
    let expected = ["tar+gzip", "tar", "tar+zstd", "tar", "tar+gzip"].map(|end| format!("application/vnd.oci.image.layer.v1.{end}"));
    assert_eq!(media_types(&manifest), expected);
    let base_layers = images::raw(&docker(&base))["layers"].clone();
    assert_eq!(manifest["layers"].as_array().unwrap()[..3], base_layers.as_array().unwrap()[..]);
    let sizes = base_layers.as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(document["transfer"]["mounted_bytes"], sizes);
    assert_eq!(images::config(&docker(&model))["config"]["Healthcheck"]["Interval"], 30_000_000_000_u64);
}

#[test]
fn a_base_that_skopeo_compressed_with_zstd_serves() {
    let bench = Bench::new();
    let (base, model) = (bench.at("base:1"), bench.at("model:1"));
    bases::push_as(&base, &[Base::new("amd64", &[Packed::Plain, Packed::Plain])], &["--dest-compress-format", "zstd"]);
    let packed = images::raw(&docker(&base));
    assert_eq!(media_types(&packed), ["application/vnd.oci.image.layer.v1.tar+zstd"; 2]);
    bench.build(&base, &model, &[]);
    let manifest = images::raw(&docker(&model));
    assert_eq!(manifest["layers"].as_array().unwrap()[..2], packed["layers"].as_array().unwrap()[..]);
}

#[test]
fn an_index_gives_an_index_whose_images_share_the_models_layers() {
    let bench = Bench::new();
    let (base, model) = (bench.at("base:1"), bench.at("model:1"));
    bases::push(&base, &[Base::new("amd64", &[Packed::Gzip]), Base::new("arm64", &[Packed::Gzip])]);
    let document = bench.build(&base, &model, &[]);
    let index = images::raw(&docker(&model));
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    let platforms: Vec<&Value> = index["manifests"].as_array().unwrap().iter().map(|manifest| &manifest["platform"]).collect();
    assert_eq!(
        json!(platforms),
        json!([{"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}]),
        "no unknown/unknown"
    );
    let base_index = images::raw(&docker(&base));
    let mut ours = Vec::new();
    for (at, architecture) in ["amd64", "arm64"].into_iter().enumerate() {
        let of = |name: &str, index: &Value| {
            images::raw(&docker(&bench.at(&format!("{name}@{}", index["manifests"][at]["digest"].as_str().unwrap()))))
        };
        let (base, image) = (of("base", &base_index), of("model", &index));
        assert_eq!(image["layers"][0], base["layers"][0]);
        let digest = index["manifests"][at]["digest"].as_str().unwrap();
        let config = images::config(&docker(&bench.at(&format!("model@{digest}"))));
        assert_eq!(
            (&config["architecture"], &document["images"][at]["platform"]),
            (&json!(architecture), &json!(format!("linux/{architecture}")))
        );
        ours.push(image["layers"].as_array().unwrap()[1..].to_vec());
    }
    assert_eq!(ours[0], ours[1]);
}

#[test]
fn a_platform_that_is_named_is_the_only_one_and_one_that_is_missing_is_refused() {
    let bench = Bench::new();
    let (base, model) = (bench.at("base:1"), bench.at("model:1"));
    bases::push(&base, &[Base::new("amd64", &[Packed::Gzip]), Base::new("arm64", &[Packed::Gzip])]);
    let document = bench.build(&base, &model, &["--platform", "linux/arm64"]);
    assert_eq!(document["images"].as_array().unwrap().len(), 1);
    let manifests = images::raw(&docker(&model))["manifests"].clone();
    assert_eq!(manifests.as_array().unwrap().iter().map(|one| &one["platform"]["architecture"]).collect::<Vec<_>>(), ["arm64"]);
    let folder = bench.home.path().join("model");
    let ran = bench.home.hs(["build", folder.to_str().unwrap(), "--runtime", &base, "--platform", "linux/s390x"]);
    assert!(ran.code == 2 || ran.code == 4, "{ran:#?}");
    assert!(ran.stderr.contains("linux/s390x") && ran.stderr.contains("linux/arm64"), "says what there is: {ran:#?}");
}

#[test]
fn scratch_holds_the_model_alone() {
    let bench = Bench::new();
    let model = bench.at("model:1");
    let document = bench.build("scratch", &model, &[]);
    assert_eq!(document["base"], Value::Null);
    let config = images::config(&docker(&model));
    assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!("amd64")));
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), config["history"].as_array().unwrap().len());
    let annotations = images::raw(&docker(&model))["annotations"].clone();
    assert!(annotations.as_object().unwrap().keys().all(|key| !key.contains("base")), "{annotations}");
    let files: Vec<String> = listing(&Copied::from(&docker(&model)).unpack()).into_keys().collect();
    assert_eq!(files[..3], ["model", "model/contract.protobin", "model/files"]);
    bench.build("scratch", &bench.at("other:1"), &["--platform", "linux/arm64"]);
    assert_eq!(images::config(&docker(&bench.at("other:1")))["architecture"], "arm64");
}

#[test]
fn a_base_in_a_layout_is_sent_with_the_model() {
    let bench = Bench::new();
    let layout = bench.home.path().join("bases");
    let digest = bases::write_layout(&layout, "serving-runtime-python:3.11", &[Base::new("amd64", &EVERY_PACKING)]);
    let model = bench.at("model:1");
    let document = bench.build(&format!("oci:{}:serving-runtime-python:3.11", layout.display()), &model, &[]);
    assert_eq!(document["base"], json!({"name": "serving-runtime-python:3.11", "digest": digest}));
    let manifest = images::raw(&docker(&model));
    let sizes = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(document["transfer"]["sent_bytes"], sizes + manifest["config"]["size"].as_u64().unwrap());
    let copied = Copied::from(&docker(&model));
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(copied.blob(layer["digest"].as_str().unwrap()).len() as u64, layer["size"].as_u64().unwrap());
    }

    // The same base in a registry gives the same image.
    let in_registry = bench.at("serving-runtime-python:3.11");
    bases::push(&in_registry, &[Base::new("amd64", &EVERY_PACKING)]);
    assert_eq!(bench.build(&in_registry, &bench.at("model:2"), &[])["digest"], document["digest"]);
}

#[test]
fn a_model_image_is_no_base() {
    let bench = Bench::new();
    let model = bench.at("model:1");
    bench.build("scratch", &model, &[]);
    let before = bench.registry.blobs();
    let folder = bench.home.path().join("model");
    let ran = bench.home.hs(["build", folder.to_str().unwrap(), "--runtime", &model, "--to", &bench.at("twice:1")]);
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(ran.stderr.contains("is itself a model image (`model`)"), "{ran:#?}");
    assert!(ran.stderr.contains("remedy: name the runtime that this model image was built on"), "{ran:#?}");
    assert_eq!(bench.registry.blobs(), before);
}

#[test]
fn a_volume_that_would_hide_the_model_is_dropped_and_said() {
    let bench = Bench::new();
    let (base, model) = (bench.at("base:1"), bench.at("model:1"));
    let mut with_volumes = Base::new("amd64", &[Packed::Gzip]);
    with_volumes.config["Volumes"] = json!({"/model": {}, "/data": {}, "/models": {}});
    bases::push(&base, &[with_volumes]);
    let document = bench.build(&base, &model, &[]);
    assert_eq!(document["warnings"], json!(["the base's volume `/model` would hide the model and was dropped"]));
    assert_eq!(images::config(&docker(&model))["config"]["Volumes"], json!({"/data": {}, "/models": {}}));
    let folder = bench.home.path().join("model");
    let ran = bench.home.hs(["build", folder.to_str().unwrap(), "--runtime", &base]);
    assert_eq!((ran.code, ran.stderr.matches("warning: the base's volume `/model`").count()), (0, 1), "said once: {ran:#?}");
}

#[test]
fn another_layout_puts_the_payload_where_kserve_looks() {
    let bench = Bench::new();
    let model = bench.at("model:1");
    bench.build("scratch", &model, &["--layout", "modelcar"]);
    let root = Copied::from(&docker(&model)).unpack();
    assert_eq!(fs::read(root.join("models/src/func_main.py")).unwrap(), b"def infer(x):\n    return x\n");
    assert!(root.join("model/contract.protobin").is_file() && !root.join("model/files").exists());
    assert_eq!(images::config(&docker(&model))["config"]["WorkingDir"], "/models");
}
