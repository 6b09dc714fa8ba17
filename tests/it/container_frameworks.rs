//! Models of TensorFlow and ONNX in containers: a folder with the model's file becomes an image that answers what the framework computes.
//!
//! The slow stage, and for TensorFlow a stage of its own (`tests/run.sh tensorflow`): its base is a download of 300 MB and an image of 1.2 GB. Containers run as
//! Kubernetes' restricted profile has them, on a root file system that cannot be written to. The frameworks of the comparison are the wheels of the bases, in this
//! machine's own Python.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, free_address, project, tool};
use crate::support::podman::{Container, Podman, RESTRICTED};
use crate::support::real_base;

// The builds of models that cannot work are told to go on (`--allow`): images exist that were made elsewhere, or for another base.

/// Floats that were computed with other instructions or in another order.
const TOLERANCE: f64 = 1e-4;

/// A user who has imported a base, a registry, and a podman.
struct Site {
    runtime: &'static str,
    registry: DockerRegistry,
    home: Home,
    podman: Podman,
}

impl Site {
    fn new(runtime: &'static str) -> Site {
        let home = Home::new();
        home.json(["base", "import", "--name", runtime, &real_base::layout_of(runtime)]);
        Site { runtime, registry: DockerRegistry::start(), home, podman: Podman::new() }
    }

    /// Builds a folder with no more than its model; the runtime is found by the model's type.
    fn build(&self, folder: &Path, name: &str, options: &[&str]) -> String {
        let to = format!("{}/{name}:1", self.registry.address());
        let words = ["build", folder.to_str().unwrap(), "--name", name, "--to", &to];
        let document = self.home.json(words.iter().chain(options));
        assert_eq!(document["base"]["name"], self.runtime, "{document:#}");
        to
    }

    /// Serves a model, and asks it and the framework for the same.
    fn compare(&self, folder: &Path, name: &str, framework: &str, model: &Path) -> Value {
        let image = self.build(folder, name, &[]);
        let port = free_address().port();
        let container = Container::start(&self.podman, &image, port, &RESTRICTED);
        let tree = real_base::python_tree();
        let (packages, script) = (real_base::packages_of(self.runtime), project("tests/it/frameworks.py"));
        let path = format!("PYTHONPATH={}", packages.display());
        let (tree, port) = (tree.path().to_str().unwrap(), port.to_string());
        let words = [
            &path,
            "TF_CPP_MIN_LOG_LEVEL=3",
            "/usr/bin/python3",
            "-B",
            script.to_str().unwrap(),
            tree,
            &port,
            framework,
            model.to_str().unwrap(),
        ];
        let answers: Value = serde_json::from_str(&tool("env", &words)).unwrap();
        assert!(container.exec(&["/usr/bin/python3", "/opt/lamina/probe.py"]), "the image's own health check");
        assert!(!container.exec(&["/bin/sh", "-c", ": >/model/files/x || : >/tmp/x || : >/opt/lamina/x"]), "nothing can be written");
        drop(container);
        assert_eq!(self.podman.containers(), "");
        assert_same(name, &answers);
        answers
    }

    /// A container that stops by itself, and what it says last.
    fn last_words(&self, image: &str) -> String {
        let ended = self.podman.run(image, &RESTRICTED);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        said.trim_end().lines().last().unwrap().to_owned()
    }
}

/// Every signature and every output; at least one of each.
fn assert_same(name: &str, answers: &Value) {
    let signatures = answers.as_object().unwrap();
    assert!(!signatures.is_empty(), "{name}");
    for (signature, outputs) in signatures {
        let outputs = outputs.as_object().unwrap();
        assert!(!outputs.is_empty(), "{name} {signature}");
        for (output, values) in outputs {
            let (served, computed) = (values["served"].as_array().unwrap(), values["computed"].as_array().unwrap());
            let same = |(served, computed): (&Value, &Value)| match (served.as_f64(), computed.as_f64()) {
                (Some(served), Some(computed)) => (served - computed).abs() <= TOLERANCE * computed.abs().max(1.0),
                _ => served == computed,
            };
            let all = served.len() == computed.len() && !served.is_empty() && served.iter().zip(computed).all(same);
            assert!(all, "{name} {signature} {output}: {values:#}");
        }
    }
}

#[test]
fn slow_onnx_models_answer_what_onnx_runtime_computes() {
    let site = Site::new("serving-runtime-onnx:1.32");
    let models = project("tests/models/onnx");
    for name in ["opset_newest", "from_2018_pytorch", "external_data"] {
        site.compare(&models.join(name), name, "onnx", &models.join(name).join("model.onnx"));
    }
    let name = "sklearn_zipmap_text";
    let answers = site.compare(&models.join(name), name, "onnx", &models.join(name).join("model.onnx"));
    let outputs = &answers["infer"];
    assert_eq!((&outputs["output_label"]["dtype"], &outputs["output_probability"]["dtype"]), (&json!("DT_STRING"), &json!("DT_MAP")));
}

#[test]
fn slow_onnx_model_of_an_operator_set_that_is_too_new_stops_with_one_sentence() {
    let site = Site::new("serving-runtime-onnx:1.32");
    let folder = site.home.path().join("model");
    fs::create_dir(&folder).unwrap();
    let mut model = fs::read(project("tests/models/onnx/opset_13/model.onnx")).unwrap();
    // ModelProto.opset_import, once more: version 99. A message's lists are joined.
    model.extend([0x42, 0x02, 0x10, 99]);
    fs::write(folder.join("model.onnx"), model).unwrap();
    let said = site.last_words(&site.build(&folder, "too_new", &["--allow", "onnx:model.onnx"]));
    assert!(said.starts_with("serving-runtime-onnx: ONNX Runtime 1.32.0 cannot load the model /model/files/model.onnx: "), "{said}");
    assert!(said.contains("Opset 99"), "{said}");
}

#[test]
fn slow_tensorflow_models_of_both_generations_answer_what_tensorflow_computes() {
    let site = Site::new("serving-runtime-tensorflow:2.21");
    let models = project("tests/models/saved_model");
    for name in ["half_plus_two", "several_signatures", "keras_export_two_inputs", "tf1_15_models_page", "tf1_4_keras_page", "tf2_4_module"]
    {
        let folder = models.join(name).join("saved_model");
        site.compare(&folder, name, "tensorflow", &folder);
    }
}

#[test]
fn slow_tensorflow_model_that_needs_an_unknown_operation_stops_with_one_sentence() {
    let site = Site::new("serving-runtime-tensorflow:2.21");
    let folder = site.home.path().join("model");
    fs::create_dir(&folder).unwrap();
    let source = project("tests/models/saved_model/tf1_text/saved_model");
    let text = fs::read_to_string(source.join("saved_model.pbtxt")).unwrap();
    let changed = text.replace("op: \"Mul\"", "op: \"OperationOfSomebodyElse\"");
    assert_ne!(changed, text);
    fs::write(folder.join("saved_model.pbtxt"), changed).unwrap();
    tool("cp", &["-r", source.join("variables").to_str().unwrap(), folder.to_str().unwrap()]);
    let said = site.last_words(&site.build(&folder, "unknown_operation", &["--allow", "operations:saved_model.pbtxt"]));
    assert!(said.starts_with("serving-runtime-tensorflow: the model, saved by TensorFlow "), "{said}");
    assert!(said.contains("TensorFlow 2.21.0 of this image does not have: OperationOfSomebodyElse"), "{said}");
}
