//! A model whose packages came from `requirements.txt` answers from a container that has no network to fetch them from.
//!
//! The slow stage: the base is made from Debian's packages (once, see `support/real_base.rs`), scikit-learn comes from the package index (once, see
//! `support/python_packages.rs`), and the image is built with no index at all.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, tool};
use crate::support::podman::{Container, Podman};
use crate::support::python_packages as packages;
use crate::support::real_base;

/// The most looks whether the model is there: a bound for what never comes.
const LOOKS_MAX: usize = 300;
/// The base has a NumPy of its own, and the model's is the one that counts.
const CODE: &str = r#"
import importlib.util

import hydro_serving_grpc as hs
import numpy as np
from sklearn.linear_model import LinearRegression

assert np.__version__ == "1.26.4" and np.__file__.startswith("/model/lib/"), np.__file__
# Bytecode of this very Python, valid while its source is this one (PEP 552).
source, compiled = open(np.__file__, "rb").read(), open(np.__cached__, "rb").read()
assert compiled[:16] == importlib.util.MAGIC_NUMBER + b"\3\0\0\0" + importlib.util.source_hash(source), compiled[:16]
MODEL = LinearRegression().fit([[0, 0], [1, 0], [0, 1]], [1.0, 1.5, 1.25])


def infer(x):
    rows = np.frombuffer(x.tensor_content) if x.tensor_content else np.array(x.double_val)
    y = MODEL.predict(rows.reshape(-1, 2)).round(6)
    shape = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=len(y))])
    return hs.PredictResponse(outputs={"y": hs.TensorProto(dtype=hs.DT_DOUBLE, tensor_shape=shape, double_val=y)})
"#;
const ASK: &str = r#"
import sys
import urllib.request
request = urllib.request.Request("http://127.0.0.1:9092/predict/" + sys.argv[1], sys.argv[2].encode(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=30).read().decode())
"#;

/// The contract of the ancestor's example, whose bytes `hydrosphere.md` gives: one profile of 112 numbers, two numbers.
const GAN_CONTRACT: &str = r#"
signatures {
  signature_name: "gan"
  inputs { name: "client_profile" shape { dim { size: 112 } } dtype: DT_DOUBLE }
  outputs { name: "class_one" dtype: DT_DOUBLE }
  outputs { name: "class_two" dtype: DT_DOUBLE }
}
"#;
const GAN_DEFINITION: &str = r#"
model:
  name: "gan_income_model"
  type: "python:3.11"
  contract: "contract.prototxt"
  payload:
    - "src/"
    - "requirements.txt"
    - "model.joblib"
"#;
const GAN_CODE: &str = r#"
import hydro_serving_grpc as hs
import joblib
import numpy as np

MODEL = joblib.load("/model/files/model.joblib")


def gan(client_profile):
    given = client_profile
    row = np.frombuffer(given.tensor_content) if given.tensor_content else np.array(given.double_val)
    answers = MODEL.predict_proba(row.reshape(1, -1))[0].round(6)
    tensor = lambda value: hs.TensorProto(dtype=hs.DT_DOUBLE, double_val=[value])
    return hs.PredictResponse(outputs={"class_one": tensor(answers[0]), "class_two": tensor(answers[1])})
"#;
const GAN_TRAINING: &str = r#"
import json
import sys

import joblib
import numpy as np
from sklearn.neural_network import MLPClassifier

numbers = np.random.RandomState(7)
rows, classes = numbers.rand(200, 112), numbers.randint(0, 2, 200)
model = MLPClassifier((16,), max_iter=30, random_state=7).fit(rows, classes)
joblib.dump(model, sys.argv[1])
answers = model.predict_proba(np.array([[(at % 7) / 7 for at in range(112)]]))[0].round(6)
print(json.dumps({"class_one": answers[0], "class_two": answers[1]}))
"#;

#[test]
fn slow_container_with_scikit_learn_answers_without_a_network() {
    let wheels = packages::wheels(&packages::SCIKIT_LEARN, true);
    let home = Home::new().with("HS_UV", packages::program("uv").to_str().unwrap()).with("HS_PIP", "off").with("PIP_NO_INDEX", "1");
    home.json(["base", "import", "--name", real_base::NAME, &real_base::layout_of(real_base::NAME)]);
    let (registry, podman) = (DockerRegistry::start(), Podman::new());
    let model = home.path().join("model");
    packages::model(&model, "scikit-learn==1.5.2\nnumpy<2\n");
    fs::write(model.join("src/func_main.py"), CODE).unwrap();
    let image = format!("{}/m:1", registry.address());
    let document = home.json(["build", model.to_str().unwrap(), "--wheels", wheels.to_str().unwrap(), "--to", &image]);
    assert_eq!(document["base"]["name"], real_base::NAME);

    // 1 + 0.5 x0 + 0.25 x1, which is what was fitted.
    assert_eq!(answer(&podman, &image, "infer", r#"{"x": [[1, 1], [4, -2]]}"#), json!({"y": [1.75, 2.5]}));
    assert_eq!(podman.containers(), "");
}

/// What an image answers to one question, started without a network.
fn answer(podman: &Podman, image: &str, signature: &str, question: &str) -> Value {
    let mut container = Container::start_without_network(podman, image, &["--read-only", "--cap-drop=all"]);
    let mut looks = 0;
    while !container.exec(&["/usr/bin/python3", "/opt/lamina/probe.py"]) {
        looks += 1;
        assert!(looks < LOOKS_MAX && !container.has_ended(), "the model never came up");
        std::thread::sleep(Duration::from_millis(200));
    }
    serde_json::from_str(&container.ask(&["/usr/bin/python3", "-c", ASK, signature, question])).unwrap()
}

#[test]
fn slow_container_of_a_folder_like_gan_income_model_is_built_and_run_without_a_network() {
    let wheels = packages::wheels(&packages::SCIKIT_LEARN, true);
    let home = Home::new().with("HS_UV", packages::program("uv").to_str().unwrap()).with("HS_PIP", "off");
    home.json(["base", "import", "--name", real_base::NAME, &real_base::layout_of(real_base::NAME)]);
    let (model, lib) = (home.path().join("gan_income_model"), home.path().join("lib"));
    fs::create_dir_all(model.join("src")).unwrap();
    fs::write(model.join("serving.yaml"), GAN_DEFINITION).unwrap();
    fs::write(model.join("contract.prototxt"), GAN_CONTRACT).unwrap();
    fs::write(model.join("requirements.txt"), "scikit-learn==1.5.2\nnumpy==1.26.4\n").unwrap();
    fs::write(model.join("src/func_main.py"), GAN_CODE).unwrap();
    // The framework's own model file, and its own answer.
    let (pip, python) = (packages::program("pip"), packages::program("python"));
    let requirements = model.join("requirements.txt");
    let words = ["install", "--quiet", "--no-index", "--find-links", wheels.to_str().unwrap(), "--target", lib.to_str().unwrap(), "-r"];
    tool(pip.to_str().unwrap(), &[&words[..], &[requirements.to_str().unwrap()]].concat());
    let path = format!("PYTHONPATH={}", lib.display());
    let made = tool("env", &[&path, python.to_str().unwrap(), "-c", GAN_TRAINING, model.join("model.joblib").to_str().unwrap()]);
    let expected: Value = serde_json::from_str(&made).unwrap();

    // A build with no network at all, not even its loopback.
    let layout = format!("oci:{}:m", home.path().join("layout").display());
    let plain = home.command();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net"]).arg(plain.get_program()).args(["build", model.to_str().unwrap(), "--to", &layout]);
    command.args(["--wheels", wheels.to_str().unwrap()]).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let built = command.output().unwrap();
    assert!(built.status.success(), "{built:?}");

    let (registry, podman) = (DockerRegistry::start(), Podman::new());
    let image = format!("{}/gan:1", registry.address());
    tool("skopeo", &["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &layout, &format!("docker://{image}")]);
    let profile: Vec<f64> = (0..112).map(|at| f64::from(at % 7) / 7.0).collect();
    let question = json!({"client_profile": profile}).to_string();
    assert_eq!(answer(&podman, &image, "gan", &question), expected);
    assert_eq!(podman.containers(), "");
}
