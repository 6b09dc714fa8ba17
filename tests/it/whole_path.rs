//! The whole path on the project's example: a model folder, a base in a registry, an image in the same registry, seen with other people's tools.
//!
//! Here on a small base that the test makes; on the real one, in a running container, in `containers.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};

use lamina::oci::digest::Digest;
use serde_json::{Value, json};

use crate::support::bases::{self, Base, Packed};
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, project};
use crate::support::images::{self, Copied, listing};

/// Size and mode of a header's parents and files, as the interface promises them.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// The example, built on a base that is in a registry, into the same registry.
struct Built {
    registry: DockerRegistry,
    /// What `hs build --output json` printed.
    document: Value,
}

impl Built {
    fn new() -> Built {
        let registry = DockerRegistry::start();
        let base = format!("{}/serving-runtime-python:3.11", registry.address());
        bases::push(&base, &[Base::new("amd64", &[Packed::Gzip, Packed::Plain])]);
        let example = project("docs/examples/linear_regression");
        let to = format!("{}/linear_regression:1", registry.address());
        let arguments = ["build", example.to_str().unwrap(), "--version", "1", "--runtime", &base, "--to", &to];
        let document = Home::new().json(arguments);
        Built { registry, document }
    }

    fn image(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.registry.address())
    }

    fn base(&self) -> String {
        self.image("serving-runtime-python:3.11")
    }

    fn model(&self) -> String {
        self.image("linear_regression:1")
    }
}

/// What the image must hold of the example: README.md and serving.yaml are not in its payload.
fn example_files() -> BTreeMap<&'static str, Vec<u8>> {
    let read = |path: &str| fs::read(project("docs/examples/linear_regression").join(path)).unwrap();
    [
        ("model/contract.protobin", protoc_encoded_contract()),
        ("model/files/src/func_main.py", read("src/func_main.py")),
        ("model/files/weights.json", read("weights.json")),
    ]
    .into()
}

/// The contract of the example with `model_name` set, as protobuf's own compiler encodes it.
fn protoc_encoded_contract() -> Vec<u8> {
    let text = fs::read_to_string(project("docs/examples/linear_regression/contract.prototxt")).unwrap();
    let mut command = Command::new("protoc");
    command.arg("-I").arg(project("proto")).arg("--encode=hydrosphere.contract.ModelContract");
    command.arg("hydro_serving_grpc/contract/model_contract.proto").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("these tests need Debian's package protobuf-compiler");
    write!(child.stdin.take().unwrap(), "model_name: \"linear_regression\"\n{text}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn umoci_unpacks_every_byte_and_mode_as_promised() {
    let built = Built::new();
    let root = Copied::from(&built.model()).unpack();
    let mut expected: Vec<String> = example_files().keys().map(|&path| path.to_owned()).collect();
    expected.extend(["base", "base/layer-0", "base/layer-1", "model", "model/files", "model/files/src"].map(str::to_owned));
    expected.sort();
    let found = listing(&root);
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), expected, "these files and no others");
    for (path, bytes) in example_files() {
        assert_eq!(found[path].as_ref().unwrap().0, bytes, "{path}");
        let metadata = fs::metadata(root.join(path)).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.mtime()), (FILE_MODE, 0), "{path}");
    }
    for folder in ["model", "model/files", "model/files/src"] {
        assert_eq!(fs::metadata(root.join(folder)).unwrap().permissions().mode() & 0o7777, FOLDER_MODE, "{folder}");
    }
}

#[test]
fn layers_hold_their_own_files_and_parents_once_and_in_order() {
    let built = Built::new();
    let copied = Copied::from(&built.model());
    let manifest = images::raw(&built.model());
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let ours = &manifest["layers"].as_array().unwrap()[2..];
    assert_eq!(ours[0]["mediaType"], "application/vnd.oci.image.layer.v1.tar", "the contract's layer is not compressed");
    for (at, descriptor) in ours.iter().enumerate() {
        let entries = copied.layer(descriptor);
        let paths: Vec<&str> = entries.iter().map(|(path, _)| path.trim_end_matches('/')).collect();
        assert!(paths.is_sorted_by(|a, b| a < b), "sorted, and no path twice: {paths:?}");
        for (path, entry) in &entries {
            let path = path.trim_end_matches('/');
            let mode = if entry.is_folder { FOLDER_MODE } else { FILE_MODE };
            assert_eq!((entry.mode, entry.owner, entry.modified_s), (mode, (0, 0), 0), "{path}");
            if let Some((parent, _)) = path.rsplit_once('/') {
                assert!(paths.contains(&parent), "{path} comes with {parent}");
            }
            if entry.is_folder {
                let below = format!("{path}/");
                assert!(paths.iter().any(|other| other.starts_with(&below)), "{path} is there for what is below it");
            } else {
                assert!(files.insert(path.to_owned(), entry.bytes.clone()).is_none(), "{path} is in two layers");
            }
        }
        if at == 0 {
            assert_eq!(paths, ["model", "model/contract.protobin"], "the contract is alone in our first layer");
        }
    }
    assert_eq!(files, example_files().into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect());
}

#[test]
fn the_contract_is_what_protoc_encodes() {
    let built = Built::new();
    let copied = Copied::from(&built.model());
    let layer = &images::raw(&built.model())["layers"][2];
    let (_, contract) = copied.layer(layer).pop().unwrap();
    assert_eq!(contract.bytes, protoc_encoded_contract());
    assert_eq!(built.document["contract"]["digest"], Digest::of(&contract.bytes).to_string());
    assert_eq!(built.document["contract"]["source"], "contract.prototxt");
}

#[test]
fn the_base_is_kept_layer_by_layer_and_member_by_member() {
    let built = Built::new();
    let (base, model) = (images::raw(&built.base()), images::raw(&built.model()));
    assert_eq!(model["layers"].as_array().unwrap()[..2], base["layers"].as_array().unwrap()[..], "annotations of the layers included");

    let (base, mut config) = (images::config(&built.base()), images::config(&built.model()));
    let history = config["history"].as_array().unwrap();
    assert_eq!(history[..4], base["history"].as_array().unwrap()[..]);
    assert_eq!(history.iter().filter(|entry| entry["empty_layer"] != true).count(), 4, "an entry for each layer");
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!((diff_ids.len(), &diff_ids[..2]), (4, &base["rootfs"]["diff_ids"].as_array().unwrap()[..]));

    // With our own changes taken back, it is the base's config.
    let mut expected = base.clone();
    for member in ["history", "rootfs", "created"] {
        expected[member] = config[member].clone();
    }
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    let inner = &mut config["config"];
    assert_eq!(inner["WorkingDir"], "/model/files");
    inner["WorkingDir"] = json!("/");
    assert_eq!(inner["Env"].as_array_mut().unwrap().pop().unwrap(), "MODEL_DIR=/model");
    let labels = inner["Labels"].as_object_mut().unwrap();
    let ours: BTreeMap<&str, Value> = ["MODEL_NAME", "MODEL_VERSION", "MODEL_TYPE"].map(|name| (name, labels.remove(name).unwrap())).into();
    assert_eq!(json!(ours), json!({"MODEL_NAME": "linear_regression", "MODEL_TYPE": "python:3.11", "MODEL_VERSION": "1"}));
    labels.remove("io.lamina.image").unwrap();
    assert_eq!(config, expected);
}

#[test]
fn labels_and_annotations_say_what_it_is_and_how_it_was_made() {
    let built = Built::new();
    let manifest = images::raw(&built.model());
    let base_digest = images::inspect(&built.base())["Digest"].clone();
    assert_eq!(
        manifest["annotations"],
        json!({
            "org.opencontainers.image.base.digest": base_digest, "org.opencontainers.image.base.name": "serving-runtime-python:3.11",
            "org.opencontainers.image.created": "1970-01-01T00:00:00Z", "org.opencontainers.image.description": "y = 0.5 * x0 + 0.25 * x1 + 1",
            "org.opencontainers.image.title": "linear_regression", "org.opencontainers.image.version": "1",
        }),
        "and no host, port or path"
    );
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let labels = images::inspect(&built.model())["Labels"].clone();
    let ours: Value = serde_json::from_str(labels["io.lamina.image"].as_str().unwrap()).unwrap();
    assert_eq!(
        ours["base"],
        json!({"name": "serving-runtime-python:3.11", "digest": base_digest, "manifest_digest": base_digest, "layers": 2})
    );
    assert_eq!((&ours["layers"], &ours["layout"], &ours["dialect"]), (&json!(["contract", "files"]), &json!("hydro"), &json!("v1")));
    assert_eq!(ours["contract"], built.document["contract"]["digest"]);
    assert_eq!(ours["config"]["environment"], json!({"MODEL_DIR": "/model"}));
    assert_eq!(ours["config"]["working_directory"], "/model/files");
    assert!(!labels["io.lamina.image"].as_str().unwrap().contains("127.0.0.1"));
    assert!(ours.as_object().unwrap().keys().is_sorted(), "canonical: sorted");
    assert_eq!(labels["io.lamina.image"], serde_json::to_string(&ours).unwrap(), "and no blanks");
}

#[test]
fn the_bases_layers_are_mounted_and_only_the_model_is_sent() {
    let built = Built::new();
    let manifest = images::raw(&built.model());
    let sizes: Vec<u64> = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).collect();
    let transfer = &built.document["transfer"];
    assert_eq!(transfer["mounted_bytes"], sizes[..2].iter().sum::<u64>());
    assert_eq!(transfer["sent_bytes"], sizes[2..].iter().sum::<u64>() + manifest["config"]["size"].as_u64().unwrap());
    assert_eq!(transfer["skipped_bytes"], 0);
    assert_eq!(built.registry.uploads_left("linear_regression"), 0);
    // Two layers, config and manifest of the base; two layers, config and manifest of the model.
    assert_eq!(built.registry.blobs(), 8);
}

#[test]
fn the_printed_digests_are_those_in_the_registry() {
    let built = Built::new();
    let (manifest, document) = (images::raw(&built.model()), &built.document);
    assert_eq!(document["digest"], images::inspect(&built.model())["Digest"]);
    assert_eq!(document["base"]["digest"], images::inspect(&built.base())["Digest"]);
    let image = &document["images"][0];
    assert_eq!((&image["digest"], &image["config_digest"]), (&document["digest"], &manifest["config"]["digest"]));
    let diff_ids = images::config(&built.model())["rootfs"]["diff_ids"].clone();
    let layers = image["layers"].as_array().unwrap();
    assert_eq!(layers.len(), manifest["layers"].as_array().unwrap().len());
    let purposes: Vec<&str> = layers.iter().map(|layer| layer["purpose"].as_str().unwrap()).collect();
    assert_eq!(purposes, ["base", "base", "contract", "files"]);
    for (at, layer) in layers.iter().enumerate() {
        let descriptor = &manifest["layers"][at];
        assert_eq!((&layer["digest"], &layer["size_bytes"]), (&descriptor["digest"], &descriptor["size"]));
        assert_eq!((&layer["media_type"], &layer["diff_id"]), (&descriptor["mediaType"], &diff_ids[at]));
    }
}
