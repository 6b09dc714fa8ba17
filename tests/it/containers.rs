//! The end of the whole path: an image on the real base, in a real container, gives the right numbers.
//!
//! The slow stage: the base is made from Debian's packages (once, see `support/real_base.rs`) and podman starts it.

use std::fs;

use serde_json::{Value, json};

use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, free_address, project, tool};
use crate::support::images;
use crate::support::podman::{Container, LIMITS, Podman, RESTRICTED};
use crate::support::real_base;

/// The example in a registry, on the real base, and a podman with a store of its own.
struct Built {
    registry: DockerRegistry,
    home: Home,
    podman: Podman,
    document: Value,
}

impl Built {
    fn new() -> Built {
        Built::on(real_base::NAME)
    }

    fn on(runtime: &str) -> Built {
        let registry = DockerRegistry::start();
        let base = format!("{}/{runtime}", registry.address());
        let home = Home::new();
        home.json(["base", "import", "--name", runtime, &real_base::layout_of(runtime), "--to", &base]);
        let example = project("docs/examples/linear_regression");
        let to = format!("{}/linear_regression:1", registry.address());
        let arguments = ["build", example.to_str().unwrap(), "--version", "1", "--runtime", &base, "--to", &to];
        let document = home.json(arguments);
        Built { registry, home, podman: Podman::new(), document }
    }

    fn reference(&self) -> String {
        format!("{}/linear_regression:1", self.registry.address())
    }
}

/// Asks with gRPC's own Python library.
fn ask_in_python(port: u16) -> Value {
    let tree = real_base::python_tree();
    let folder = tree.path().to_str().unwrap();
    // Debian's own Python is the one that has Debian's packages.
    let client = project("tests/it/predict.py");
    serde_json::from_str(&tool("/usr/bin/python3", &["-B", client.to_str().unwrap(), folder, &port.to_string()])).unwrap()
}

#[test]
fn slow_container_answers_predict() {
    let built = Built::new();
    let (base, image) = (format!("docker://{}/{}", built.registry.address(), real_base::NAME), format!("docker://{}", built.reference()));
    let (base, model) = (images::raw(&base), images::raw(&image));
    let base_layers = base["layers"].as_array().unwrap();
    assert_eq!(model["layers"].as_array().unwrap()[..base_layers.len()], base_layers[..]);
    let base_bytes: u64 = base_layers.iter().map(|layer| layer["size"].as_u64().unwrap()).sum();
    assert_eq!(built.document["transfer"]["mounted_bytes"], base_bytes);
    assert!(built.document["transfer"]["sent_bytes"].as_u64().unwrap() < 16 << 10, "{}", built.document["transfer"]);

    let port = free_address().port();
    let container = Container::start(&built.podman, &built.reference(), port, &RESTRICTED);
    assert_answers(&ask_in_python(port));
    assert!(container.exec(&["/usr/bin/python3", "/opt/lamina/probe.py"]), "the image's own health check");
    drop(container);
    assert_eq!(built.podman.containers(), "");
}

#[test]
fn slow_container_of_the_newer_python_answers_predict() {
    let built = Built::on("serving-runtime-python:3.13");
    let port = free_address().port();
    let container = Container::start(&built.podman, &built.reference(), port, &RESTRICTED);
    assert_answers(&ask_in_python(port));
    drop(container);
    assert_eq!(built.podman.containers(), "");
}

/// As models of 2.3 and later were written: arrays by name, and a dict of them.
const NUMPY_CODE: &str = "import numpy as np


def infer(x):
    assert isinstance(x, np.ndarray) and x.dtype == np.float64, type(x)
    return {\"y\": 0.5 * x[:, 0] + 0.25 * x[:, 1] + 1}
";

/// Asks over HTTP, from within: the port is not published.
const ASK_HTTP: &str = r#"
import urllib.request
request = urllib.request.Request("http://127.0.0.1:9092/predict/infer", b'{"x": [[1, 1], [4, -2]]}', {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=30).read().decode())
"#;

#[test]
fn slow_container_in_the_place_of_the_ancestors_2_3_gives_functions_arrays() {
    const RUNTIME: &str = "serving-runtime-python-numpy:3.11";
    const THEIRS: &str = "hydrosphere/serving-runtime-python-3.6:2.3.2";
    let (registry, home, podman) = (DockerRegistry::start(), Home::new(), Podman::new());
    home.json(["base", "import", "--name", RUNTIME, &real_base::layout_of(RUNTIME)]);
    let model = home.path().join("model");
    fs::create_dir_all(model.join("src")).unwrap();
    fs::copy(project("docs/examples/linear_regression/contract.prototxt"), model.join("contract.prototxt")).unwrap();
    fs::write(model.join("src/func_main.py"), NUMPY_CODE).unwrap();
    let definition = format!("kind: Model\nname: linear_regression\nruntime: {THEIRS}\ncontract: contract.prototxt\npayload: [src/]\n");
    fs::write(model.join("serving.yaml"), definition).unwrap();
    let image = format!("{}/linear_regression:1", registry.address());
    let document = home.json(["build", model.to_str().unwrap(), "--to", &image]);
    assert_eq!(document["base"]["name"], RUNTIME);
    let said = format!("`{RUNTIME}` is the runtime in the place of `{THEIRS}`, as release 2.3.2 gave functions NumPy arrays");
    assert!(document["warnings"].as_array().unwrap().iter().any(|warning| warning.as_str().unwrap().starts_with(&said)), "{document:#}");

    let port = free_address().port();
    let container = Container::start(&podman, &image, port, &RESTRICTED);
    assert_answers(&ask_in_python(port));
    let answer: Value = serde_json::from_str(&container.ask(&["/usr/bin/python3", "-c", ASK_HTTP])).unwrap();
    assert_eq!(answer, json!({"y": [1.75, 2.5]}));
    drop(container);
    assert_eq!(podman.containers(), "");
}

fn assert_answers(answer: &Value) {
    // 0.5 * 1 + 0.25 * 1 + 1 and 0.5 * 4 + 0.25 * -2 + 1
    assert_eq!((&answer["dtype"], &answer["dims"], &answer["values"]), (&json!("DT_DOUBLE"), &json!([2]), &json!([1.75, 2.5])));
    assert_ne!(answer["refused"], Value::Null, "a signature that the contract does not have");
}

#[test]
fn slow_hs_run_starts_an_image_and_shows_the_answer() {
    let built = Built::new();
    let podman = built.podman.words().join(" ");
    let run = |what: &str| {
        let options = LIMITS.join(" ");
        built.home.json(["run", what, "--podman", &podman, "--podman-run", &options])
    };
    let answer = run(&built.reference());
    assert_eq!(answer["outputs"], json!({"y": [1.75]}), "0.5 * 1 + 0.25 * 1 + 1");
    assert_eq!((&answer["signature"], &answer["inputs"]), (&json!("infer"), &json!({"x": [[1.0, 1.0]]})));
    assert_eq!(built.podman.containers(), "", "the container is gone");
}

#[test]
fn slow_hs_run_builds_and_starts_a_folder() {
    let built = Built::new();
    let example = project("docs/examples/linear_regression");
    let base = format!("{}/{}", built.registry.address(), real_base::NAME);
    // podman's names are lower case; those of folders need not be.
    let temporary = built.home.path().join("Temporary");
    fs::create_dir(&temporary).unwrap();
    let home = Home::new()
        .with("TMPDIR", temporary.to_str().unwrap())
        .with("HS_PODMAN", built.podman.words().join(" "))
        .with("HS_PODMAN_RUN", LIMITS.join(" "));
    let answer = home.json(["run", example.to_str().unwrap(), "--runtime", &base]);
    assert_eq!(answer["outputs"], json!({"y": [1.75]}));
    assert_eq!(built.podman.containers(), "");
    assert_eq!(built.podman.images(), "", "podman has forgotten the image");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "the layout is gone");
}
