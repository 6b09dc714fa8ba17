//! The end of the whole path: an image on the real base, in a real container, gives the right numbers.
//!
//! The slow stage: the base is made from Debian's packages (once, see `support/real_base.rs`) and podman starts it.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, free_address, project, tool};
use crate::support::images;
use crate::support::real_base;

/// What some hosts need: limits that this user may set.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

/// The example in a registry, on the real base, and a podman with a store of its own.
struct Built {
    registry: DockerRegistry,
    home: Home,
    podman: Podman,
    document: Value,
}

impl Built {
    fn new() -> Built {
        let registry = DockerRegistry::start();
        let base = format!("{}/{}", registry.address(), real_base::NAME);
        let home = Home::new();
        home.json(["base", "import", "--name", real_base::NAME, &real_base::layout(), "--to", &base]);
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

/// A podman whose images and containers are in a folder of its own; both are gone with the value.
struct Podman {
    folder: tempfile::TempDir,
}

impl Podman {
    fn new() -> Podman {
        Podman { folder: tempfile::tempdir().unwrap() }
    }

    /// The command with its own options.
    fn words(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        vec!["podman".to_owned(), "--root".to_owned(), path("root"), "--runroot".to_owned(), path("run")]
    }

    fn command(&self) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    }

    /// The containers that it knows.
    fn containers(&self) -> String {
        self.list(&["ps", "--all", "--quiet"])
    }

    /// The images that it knows.
    fn images(&self) -> String {
        self.list(&["images", "--all", "--quiet"])
    }

    fn list(&self, words: &[&str]) -> String {
        let output = self.command().args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Its layers are mounted and belong to other users: only podman takes them down again.
        let _ = self.command().args(["system", "reset", "--force"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// A container that was started without hs; stopped with the value.
struct Container<'a> {
    podman: &'a Podman,
    child: Child,
}

impl Container<'_> {
    fn start<'a>(podman: &'a Podman, image: &str, port: u16) -> Container<'a> {
        let mut command = podman.command();
        command.args(["run", "--name", "model", "--rm", "--tls-verify=false", "--publish", &format!("127.0.0.1:{port}:9090")]);
        let child = command.args(LIMITS).arg(image).spawn().unwrap();
        Container { podman, child }
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.podman.command().args(["stop", "-t", "10", "model"]).stdout(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// Asks with gRPC's own Python library.
fn ask_in_python(port: u16) -> Value {
    let tree = tempfile::tempdir().unwrap();
    let script = project("base-images/assemble/python_tree.sh");
    let folder = tree.path().to_str().unwrap();
    tool("bash", &[script.to_str().unwrap(), project("proto").to_str().unwrap(), folder]);
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
    let container = Container::start(&built.podman, &built.reference(), port);
    let answer = ask_in_python(port);
    drop(container);
    // 0.5 * 1 + 0.25 * 1 + 1 and 0.5 * 4 + 0.25 * -2 + 1
    assert_eq!((&answer["dtype"], &answer["dims"], &answer["values"]), (&json!("DT_DOUBLE"), &json!([2]), &json!([1.75, 2.5])));
    assert_ne!(answer["refused"], Value::Null, "a signature that the contract does not have");
    assert_eq!(built.podman.containers(), "");
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
