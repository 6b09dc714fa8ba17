//! A model that cannot work, or that carries what it should not, is refused before anything is pushed, in one clear sentence; what is only suspicious is a
//! warning, unless its user asks for more.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::bases::{self, Base, Packed};
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, Ran, Serve, project};
use crate::support::models;
use crate::support::outside::{catalog_rows, ended, listing};
use crate::support::python_packages as packages;
use crate::support::wire_tap::WireTap;

const EVIL: &[u8] = b"cos\nsystem\n(S'true'\ntR.";

/// A registry with a base, behind a tap, and a user whose settings know the base as a TensorFlow and a Python runtime.
struct Bench {
    home: Home,
    _registry: DockerRegistry,
    tap: WireTap,
    config: PathBuf,
}

impl Bench {
    async fn new() -> Bench {
        let (home, registry) = (Home::new(), DockerRegistry::start());
        let tap = WireTap::before(registry.address()).await;
        bases::push(&format!("{}/base:1", registry.address()), &[Base::new("amd64", &[Packed::Plain])]);
        let config = home.path().join("config.yaml");
        let reference = format!("{}/base:1", tap.address());
        let entry = |name: &str, words: &str| {
            format!("  - {{name: {name}, version: '1', reference: '{reference}', contract_dialect: v1, {words}}}\n")
        };
        let text = [
            "runtimes:\n".to_owned(),
            entry("tf", "model_types: [tensorflow], tensorflow_version: '2.21'"),
            entry("py", "model_types: [python], python_version: '3.11', libc: 'glibc 2.36', python_modules: [numpy]"),
            format!("runtime_aliases: {{'acme/old-runtime': py, 'acme/exact:1': '{reference}'}}\n"),
        ]
        .concat();
        fs::write(&config, text).unwrap();
        Bench { home, _registry: registry, tap, config }
    }

    fn folder(&self, files: &[(&str, &[u8])]) -> PathBuf {
        let folder = self.home.path().join("model");
        let _ = fs::remove_dir_all(&folder);
        models::small(&folder);
        for (path, bytes) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn build(&self, folder: &Path, words: &[&str]) -> Ran {
        self.tap.forget();
        let to = format!("{}/model:1", self.tap.address());
        let fixed = ["build", folder.to_str().unwrap(), "--config", self.config.to_str().unwrap(), "--to", &to];
        self.home.hs([&fixed, words].concat())
    }

    /// That a build is refused with this code and these words, and that nothing was sent.
    #[track_caller]
    fn refused(&self, folder: &Path, words: &[&str], code: i32, said: &[&str]) {
        let ran = self.build(folder, words);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:#?}");
        for said in said {
            assert!(ran.stderr.contains(said), "{said}: {ran:#?}");
        }
        let seen = self.tap.seen();
        assert!(["POST", "PUT", "PATCH"].iter().all(|method| self.tap.count(method) == 0), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_model_that_needs_an_operation_which_the_runtime_lacks_is_refused() {
    let bench = Bench::new().await;
    let folder = bench.home.path().join("saved_model");
    fs::create_dir_all(&folder).unwrap();
    let mut model = fs::read(project("tests/models/saved_model/half_plus_two/saved_model/saved_model.pb")).unwrap();
    fs::write(folder.join("saved_model.pb"), &model).unwrap();
    let ran = bench.build(&folder, &[]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    for at in 0..model.len() - 8 {
        if model[at..].starts_with(b"Identity") {
            model[at..at + 8].copy_from_slice(b"Idontity");
        }
    }
    fs::write(folder.join("saved_model.pb"), &model).unwrap();
    let sentence =
        "the model cannot work: `saved_model.pb` needs the operation `Idontity`, which is not in TensorFlow 2.21 (runtime `tf:1`)";
    bench.refused(&folder, &[], 3, &[sentence, "remedy: save the model without it", "`--allow operations:saved_model.pb` accepts it"]);
    assert_eq!(bench.build(&folder, &["--allow", "operations"]).code, 0);
    // On another base nothing is known of its operations.
    assert_eq!(bench.build(&folder, &["--runtime", "scratch"]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_missing_is_refused_before_a_registry_is_asked() {
    let bench = Bench::new().await;
    let folder = bench.folder(&[("src/func_main.py", b"def predict(x):\n    return x\n")]);
    let sentence = "src/func_main.py has no function `infer`, which the contract's signature of that name calls; it has `predict`";
    bench.refused(&folder, &[], 3, &[sentence, "remedy: "]);
    assert_eq!(bench.tap.seen().len(), 0);
    let folder = bench.folder(&[("src/func_main.py", b"import urllib2\n\ndef infer(x):\n    return x\n")]);
    let sentence = "`src/func_main.py` line 1 imports `urllib2`, which Python 3.11 no longer has (it was there until 2.7)";
    bench.refused(&folder, &[], 3, &[sentence, "remedy: this is Python 2: use `urllib.request`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suspicious_is_a_warning_and_a_refusal_only_when_asked_for() {
    let bench = Bench::new().await;
    let key = format!("-----BEGIN {}-----\nMIIEowIBAAKCAQEA7bq9\n", "RSA PRIVATE KEY");
    let folder = bench.folder(&[
        ("m.pkl", EVIL),
        ("conf/key.pem", key.as_bytes()),
        ("src/func_main.py", b"import sklearn\n\ndef infer(x):\n    return x\n"),
    ]);
    let ran = bench.build(&folder, &["--output", "json", "--allow", "imports"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let warnings: Vec<&str> = document["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap()).collect();
    let has = |begin: &str| warnings.iter().any(|warning| warning.starts_with(begin));
    assert!(has("`m.pkl` at byte 0 imports `os.system`, which is run when it is loaded"), "{warnings:?}");
    assert!(has("`conf/key.pem` line 1 has a private key") && !warnings.iter().any(|warning| warning.contains("sklearn")), "{warnings:?}");
    assert_eq!(document["findings"].as_array().unwrap().len(), 2);
    assert!(!ran.stdout.contains("MIIE") && !ran.stderr.contains("MIIE"));
    let ran = bench.build(&folder, &["--explain", "--dry-run"]);
    assert!(ran.stdout.contains("found: `src/func_main.py` line 1 imports `sklearn`, which the runtime does not have"), "{ran:#?}");

    let said =
        ["the model is refused by `--strict`: \n", "`m.pkl` at byte 0 imports `os.system`", "`conf/key.pem` line 1 has a private key"];
    bench.refused(&folder, &["--strict"], 5, &said);
    let accepted = ["--strict", "--allow", "pickle:m.pkl", "--allow", "secrets", "--allow", "imports"];
    assert_eq!(bench.build(&folder, &accepted).code, 0);
    bench.refused(&folder, &["--allow", "pickles"], 2, &["`pickles` allows nothing: expected CHECK or CHECK:FILE"]);
    // The same in the settings.
    let text = fs::read_to_string(&bench.config).unwrap() + "fit: {strict: true, allow: ['pickle:m.pkl', imports]}\n";
    fs::write(&bench.config, text).unwrap();
    bench.refused(&folder, &[], 5, &["`conf/key.pem` line 1"]);
    assert_eq!(bench.build(&folder, &["--allow", "secrets:conf/key.pem"]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_are_held_against_the_packages_that_are_installed() {
    let bench = Bench::new().await;
    let code = b"import demo_pkg\nimport yaml\n\ndef infer(x):\n    return x\n";
    let wheels = bench.home.path().join("wheels");
    fs::create_dir_all(&wheels).unwrap();
    let wheel = packages::made_wheel("demo_pkg", &[("demo_pkg.py", "x = 1\n")]);
    fs::write(wheels.join("demo_pkg-1.0-py3-none-any.whl"), &wheel).unwrap();
    let lock = format!("demo-pkg==1.0 --hash={}\n", lamina::oci::digest::Digest::of(&wheel));
    let folder = bench.folder(&[("src/func_main.py", code), ("requirements.txt", b"demo-pkg\n"), ("requirements.lock", lock.as_bytes())]);
    let words = ["--wheels", wheels.to_str().unwrap()];
    let ran = bench.build(&folder, &words);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let said = "`src/func_main.py` line 2 imports `yaml`, which neither `requirements.txt` nor the runtime has: add `pyyaml` [imports]";
    assert!(ran.stderr.contains(said) && !ran.stderr.contains("imports `demo_pkg`"), "{ran:#?}");
    bench.refused(
        &folder,
        &[&words[..], &["--strict"]].concat(),
        5,
        &["imports `yaml`, which neither `requirements.txt` nor the runtime has"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_another_time_mean_our_runtimes() {
    let bench = Bench::new().await;
    let yaml = |runtime: &str| format!("kind: Model\nname: m\nruntime: {runtime}\ncontract: contract.prototxt\npayload: [src/]\n");
    let base = |runtime: &str| {
        let folder = bench.folder(&[("serving.yaml", yaml(runtime).as_bytes())]);
        bench.build(&folder, &["--output", "json", "--dry-run"])
    };
    let ran = base("acme/old-runtime:2.1");
    assert!(ran.code == 0 && ran.stderr.contains("`py:1` is the runtime in the place of `acme/old-runtime:2.1`"), "{ran:#?}");
    let ran = base("'acme/exact:1'");
    assert!(ran.code == 0 && ran.stderr.contains("runtime_aliases"), "{ran:#?}");
    // Ours is not to be had on this machine, and that is said; Docker Hub is not asked.
    let ran = base("hydrosphere/serving-runtime-python-3.7:3.0.3");
    let said = [
        "`serving-runtime-python-numpy:3.11` is the runtime in the place of",
        "release 3.0.3 gave functions NumPy arrays",
        "Python 3.11 is not 3.7",
        "is neither imported here",
    ];
    assert!(ran.code == 4 && said.iter().all(|said| ran.stderr.contains(said)), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keras_model_without_code_is_told_the_two_ways() {
    let bench = Bench::new().await;
    let folder = bench.home.path().join("keras_model");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(project("tests/models/keras/keras_2_2_sequential_h5/model.h5"), folder.join("model.h5")).unwrap();
    let ran = bench.build(&folder, &[]);
    for said in ["`model.h5` is a Keras model (keras:", "1. export it as a SavedModel", "2. load it in `src/func_main.py`", "def infer("] {
        assert!(ran.code == 0 && ran.stderr.contains(said), "{said}: {ran:#?}");
    }
    // With its code it is the Python runtime's.
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("src/func_main.py"), "def infer(x):\n    return x\n").unwrap();
    fs::write(folder.join("contract.prototxt"), models::CONTRACT).unwrap();
    let ran = bench.build(&folder, &["--output", "json", "--model-type", "keras:2.2.0"]);
    assert!(ran.code == 0 && !ran.stderr.contains("two ways"), "{ran:#?}");
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(document["base"]["name"].as_str().unwrap().ends_with("/base:1"), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_refuses_before_the_upload_has_a_number() {
    let bench = Bench::new().await;
    let mut serve = Serve::start(&bench.home, &["--config", bench.config.to_str().unwrap()]);
    let folder = bench.folder(&[("m.pkl", EVIL)]);
    let before = (listing(&bench.home.data()), catalog_rows(&bench.home.data()).await);
    let upload = |serve: &Serve, words: &[&str]| {
        let url = serve.url();
        // This client knows of no setting of the service's.
        bench.home.hs([&["upload", folder.to_str().unwrap(), "--name", "m", "--runtime", "scratch", "--server", &url], words].concat())
    };
    let ran = upload(&serve, &["--strict"]);
    assert!(ran.code == 5 && ran.stderr.contains("`m.pkl` at byte 0 imports `os.system`"), "{ran:#?}");
    assert_eq!((listing(&bench.home.data()), catalog_rows(&bench.home.data()).await), before);

    // A client that does not look, and a service that does.
    let (status, body) = raw_upload(&serve.url(), &folder, &serde_json::json!({"name": "m", "runtime": "scratch", "strict": true})).await;
    assert!(status == 403 && body.contains("imports `os.system`"), "{status} {body}");
    let (status, body) = raw_upload(&serve.url(), &folder, &serde_json::json!({"name": "m", "allow": ["nothing"]})).await;
    assert!(status == 400 && body.contains("`nothing` allows nothing"), "{status} {body}");
    let ran = upload(&serve, &["--strict", "--allow", "pickle"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    ended(&serve.url(), "m").await;

    // Where the operator is strict, an upload accepts nothing for himself.
    serve.kill();
    let text = fs::read_to_string(&bench.config).unwrap() + "fit: {strict: true}\n";
    fs::write(&bench.config, text).unwrap();
    let serve = Serve::start(&bench.home, &["--config", bench.config.to_str().unwrap()]);
    let ran = upload(&serve, &["--allow", "pickle"]);
    assert!(ran.code == 5 && ran.stderr.contains("imports `os.system`"), "{ran:#?}");
    assert_eq!(crate::support::outside::versions(&serve.url(), "m").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_refuses_a_model_that_cannot_work_on_the_runtime_that_was_asked_for() {
    let bench = Bench::new().await;
    let serve = Serve::start(&bench.home, &["--config", bench.config.to_str().unwrap()]);
    let folder = bench.folder(&[("src/func_main.py", b"import imp, urllib2\n\ndef infer(x):\n    return x\n")]);
    let (status, body) = raw_upload(&serve.url(), &folder, &serde_json::json!({"name": "m", "runtime": "py"})).await;
    assert!(status == 400 && body.contains("the model cannot work") && body.contains("urllib2"), "{status} {body}");
    // A runtime that nobody asked for is certain when it has been found: the version has a number, and fails in one sentence.
    let (status, body) = raw_upload(&serve.url(), &folder, &serde_json::json!({"name": "m", "model_type": "python:3.11"})).await;
    assert_eq!(status, 200, "{body}");
    let version = newest(&serve.url()).await;
    assert_eq!((&version["status"], &version["error"]["stage"]), (&"Failed".into(), &"fit".into()), "{version}");
    assert!(version["error"]["cause"].as_str().unwrap().contains("imports `urllib2`"), "{version}");
    let (status, body) =
        raw_upload(&serve.url(), &folder, &serde_json::json!({"name": "m", "model_type": "python:3.11", "allow": ["imports"]})).await;
    assert_eq!(status, 200, "{body}");
    let version = newest(&serve.url()).await;
    assert_eq!(version["status"], "Finished", "{version}");
}

/// The newest version of the model, when its build has ended.
async fn newest(url: &str) -> serde_json::Value {
    ended(url, "m").await.into_iter().max_by_key(|version| version["version"].as_u64()).unwrap()
}

/// An upload as the ancestor's clients make it.
async fn raw_upload(url: &str, folder: &Path, metadata: &serde_json::Value) -> (u16, String) {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all("", folder).unwrap();
    let payload = reqwest::multipart::Part::bytes(tar.into_inner().unwrap()).file_name("model.tar");
    let form = reqwest::multipart::Form::new().part("payload", payload).text("metadata", metadata.to_string());
    let answer = crate::support::outside::client().post(format!("{url}/api/v2/model/upload")).multipart(form).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}
