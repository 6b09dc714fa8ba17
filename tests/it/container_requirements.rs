//! A model whose packages came from `requirements.txt` answers from a container that has no network to fetch them from.
//!
//! The slow stage: the base is made from Debian's packages (once, see `support/real_base.rs`), scikit-learn comes from the package index (once, see
//! `support/python_packages.rs`), and the image is built with no index at all.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::Home;
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
import urllib.request
request = urllib.request.Request("http://127.0.0.1:9092/predict/infer", b'{"x": [[1, 1], [4, -2]]}', {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=30).read().decode())
"#;

#[test]
fn slow_container_with_scikit_learn_answers_without_a_network() {
    let wheels = packages::wheels(&packages::SCIKIT_LEARN, true);
    let home = Home::new().with("HS_UV", packages::program("uv").to_str().unwrap()).with("HS_PIP", "off").with("PIP_NO_INDEX", "1");
    home.json(["base", "import", "--name", real_base::NAME, &real_base::layout_of(real_base::NAME)]);
    let (registry, podman) = (DockerRegistry::start(), Podman::new());
    let model = home.path().join("model");
    packages::model(&model, "scikit-learn==1.5.2\nnumpy<2\n");
    std::fs::write(model.join("src/func_main.py"), CODE).unwrap();
    let image = format!("{}/m:1", registry.address());
    let document = home.json(["build", model.to_str().unwrap(), "--wheels", wheels.to_str().unwrap(), "--to", &image]);
    assert_eq!(document["base"]["name"], real_base::NAME);

    let mut container = Container::start_without_network(&podman, &image, &["--read-only", "--cap-drop=all"]);
    let mut looks = 0;
    while !container.exec(&["/usr/bin/python3", "/opt/lamina/probe.py"]) {
        looks += 1;
        assert!(looks < LOOKS_MAX && !container.has_ended(), "the model never came up");
        std::thread::sleep(Duration::from_millis(200));
    }
    let answer: Value = serde_json::from_str(&container.ask(&["/usr/bin/python3", "-c", ASK])).unwrap();
    // 1 + 0.5 x0 + 0.25 x1, which is what was fitted.
    assert_eq!(answer, json!({"y": [1.75, 2.5]}));
    drop(container);
    assert_eq!(podman.containers(), "");
}
