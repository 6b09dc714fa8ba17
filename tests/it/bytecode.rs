//! The bytecode of a model's packages, compiled by the base's own Python: a real one, this machine's, put into a base.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, Serve};
use crate::support::images::{self, Copied};
use crate::support::outside::ended;
use crate::support::python_base;
use crate::support::python_packages::{self as packages, SMALL};

/// A package with what packages have: a module, a source for another Python, a source that no parser takes, a test suite, and a script.
const FILES: [(&str, &str); 7] = [
    ("odd/__init__.py", "ANSWER = 42\n"),
    ("odd/old.py", "print 'Python 2'\n"),
    ("odd/template.py", "{{ a }} = {% b %}\n"),
    ("odd/tests/test_odd.py", "assert True\n"),
    // Data in the place where the bytecode of a module would lie: a folder, which a file would hide.
    ("odd/m.py", "A = 1\n"),
    ("odd/__pycache__/m.cpython-311.pyc/data.txt", "data\n"),
    ("odd-1.0.data/scripts/odd.py", "#!python\nprint('odd')\n"),
];
const REQUIREMENTS: &str = "odd\nsix==1.17.0\ntabulate==0.9.0\njmespath==1.0.1\n";

/// A model with these requirements in the user's home, and a folder with their wheels.
pub fn model(home: &Home) -> (PathBuf, PathBuf) {
    let (folder, wheels) = (home.path().join("model"), home.path().join("wheels"));
    packages::model(&folder, REQUIREMENTS);
    fs::create_dir(&wheels).unwrap();
    for wheel in fs::read_dir(packages::wheels(&SMALL, false)).unwrap().map(Result::unwrap) {
        fs::copy(wheel.path(), wheels.join(wheel.file_name())).unwrap();
    }
    fs::write(wheels.join("odd-1.0-py3-none-any.whl"), packages::made_wheel("odd", &FILES)).unwrap();
    (folder, wheels)
}

pub fn words(home: &Home, model: &Path, wheels: &Path) -> [String; 8] {
    let to = format!("oci:{}:m", home.path().join("layout").display());
    let words = ["build", model.to_str().unwrap(), "--wheels", wheels.to_str().unwrap(), "--runtime", python_base::NAME, "--to", &to];
    words.map(str::to_owned)
}

/// The digests of the image's layers for a purpose.
pub fn layers(document: &Value, purpose: &str) -> Vec<String> {
    let layers = document["images"][0]["layers"].as_array().unwrap().iter();
    layers.filter(|layer| layer["purpose"] == purpose).map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

/// Files below a folder of the user's cache.
pub fn cached(home: &Home, name: &str) -> BTreeSet<String> {
    let folder = home.path().join(".cache/lamina").join(name);
    if folder.exists() { images::listing(&folder).into_keys().collect() } else { BTreeSet::new() }
}

/// Runs a script with packages in its path, which must succeed; what it printed, and what Python told of its imports.
fn python(lib: &Path, script: &str) -> (String, String) {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-v", "-S", "-B", "-c", script]).env_clear().env("PYTHONPATH", lib);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn every_module_comes_with_bytecode_that_python_takes_until_its_source_changes() {
    let home = python_base::user();
    python_base::import(&home, false, None);
    let (model, wheels) = model(&home);
    let words = words(&home, &model, &wheels);
    let document = home.json(&words);
    assert_eq!(document["warnings"], json!([]), "{document:#}");
    let purposes: Vec<&Value> = document["images"][0]["layers"].as_array().unwrap().iter().map(|layer| &layer["purpose"]).collect();
    assert_eq!(purposes, ["base", "contract", "requirements", "bytecode", "files"]);
    let unpacked = Copied::from(&words[7]).unpack();
    let lib = unpacked.join("model/lib");
    let paths: BTreeSet<String> = images::listing(&lib).into_keys().collect();
    let tag = format!("cpython-{}", python_base::version().replace('.', ""));
    let bytecode_of = |source: &String| {
        let (folder, name) = source.rsplit_once('/').unwrap_or(("", source));
        let cached = format!("__pycache__/{}.{tag}.pyc", name.strip_suffix(".py").unwrap());
        if folder.is_empty() { cached } else { format!("{folder}/{cached}") }
    };
    let left_out = ["odd/old.py", "odd/template.py", "odd/tests/test_odd.py", "odd/m.py"];
    assert_eq!(fs::read(lib.join("odd/__pycache__/m.cpython-311.pyc/data.txt")).unwrap(), b"data\n");
    let sources = paths.iter().filter(|path| path.ends_with(".py") && !path.starts_with("bin/") && !left_out.contains(&path.as_str()));
    let expected: BTreeSet<String> = sources.map(bytecode_of).collect();
    let compiled = paths.iter().filter(|path| path.ends_with(".pyc") && !path.ends_with("/m.cpython-311.pyc"));
    assert_eq!(compiled.cloned().collect::<BTreeSet<_>>(), expected);
    assert!(expected.len() > 10, "{expected:?}");

    let (said, told) = python(&lib, "import six, tabulate, jmespath, odd\nprint(odd.ANSWER)");
    assert_eq!(said, "42\n");
    for module in [format!("__pycache__/six.{tag}.pyc"), format!("odd/__pycache__/__init__.{tag}.pyc")] {
        assert!(told.contains(&format!("# code object from '{}/{module}'", lib.display())), "{module}: {told}");
    }
    // Python writes a line for each source that it had to compile.
    assert!(!told.contains(&format!("# code object from {}", lib.display())), "{told}");
    fs::write(lib.join("odd/__init__.py"), "ANSWER = 43\n").unwrap();
    assert_eq!(python(&lib, "import odd\nprint(odd.ANSWER)").0, "43\n");
}

#[test]
fn the_bytecode_is_the_same_on_every_machine_and_a_rebuild_starts_no_interpreter() {
    let plain = python_base::user();
    python_base::import(&plain, false, None);
    let (folder, wheels) = model(&plain);
    let first = plain.json(words(&plain, &folder, &wheels));
    assert_eq!(layers(&first, "bytecode").len(), 1);

    // Another machine: other places, another locale, and variables that change what Python does.
    let other = python_base::user().with("LC_ALL", "C").with("PYTHONHASHSEED", "77").with("PYTHONOPTIMIZE", "2").with("PYTHONPATH", "/usr");
    let other = other.with("PYTHONDONTWRITEBYTECODE", "1").with("SOURCE_DATE_EPOCH", "0").with("LD_PRELOAD", "");
    python_base::import(&other, false, None);
    let (of_other, wheels_of_other) = model(&other);
    fs::copy(folder.join("requirements.lock"), of_other.join("requirements.lock")).unwrap();
    assert_eq!(other.json(words(&other, &of_other, &wheels_of_other))["digest"], first["digest"]);

    let archives = cached(&plain, "bytecode");
    assert_eq!(archives.iter().filter(|path| path.ends_with(".zip")).count(), 4, "one for each wheel, and nothing beside: {archives:?}");
    let cache = plain.path().join(".cache/lamina");
    fs::remove_dir_all(cache.join("interpreters")).unwrap();
    for forgotten in [None, Some("layers")] {
        if let Some(name) = forgotten {
            fs::remove_dir_all(cache.join(name)).unwrap();
        }
        let again = plain.json(words(&plain, &folder, &wheels));
        assert_eq!((&again["digest"], &again["transfer"]["sent_bytes"]), (&first["digest"], &json!(0)));
        assert!(!cache.join("interpreters").exists(), "{forgotten:?}: nothing was compiled");
    }
    // With the archives gone too, all of it is made again, the same.
    fs::remove_dir_all(cache.join("bytecode")).unwrap();
    assert_eq!(plain.json(words(&plain, &folder, &wheels))["digest"], first["digest"]);
    assert_eq!(cached(&plain, "bytecode"), archives);
}

#[test]
fn without_bytecode_nothing_of_the_base_is_run_and_the_other_layers_are_the_same() {
    let home = python_base::user();
    python_base::import(&home, false, None);
    let (model, wheels) = model(&home);
    let words = words(&home, &model, &wheels).to_vec();
    let without = home.json([&words[..], &["--no-bytecode".to_owned()]].concat());
    assert_eq!((layers(&without, "bytecode"), without["warnings"].clone()), (vec![], json!([])));
    assert_eq!((cached(&home, "interpreters"), cached(&home, "bytecode")), (BTreeSet::new(), BTreeSet::new()));
    let with = home.json(&words);
    for purpose in ["base", "contract", "requirements", "files"] {
        assert_eq!(layers(&with, purpose), layers(&without, purpose), "{purpose}");
    }
    assert_eq!(layers(&with, "bytecode").len(), 1);
}

#[test]
fn a_python_that_cannot_be_run_here_is_refused_and_one_that_is_not_there_is_said() {
    let home = python_base::user();
    python_base::import(&home, true, None);
    let (model, wheels) = model(&home);
    let words = words(&home, &model, &wheels).to_vec();
    let ran = home.hs(&words);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:#?}");
    assert!(
        ran.stderr.contains("the Python of the base cannot be run on this machine") && ran.stderr.contains("--no-bytecode"),
        "{ran:#?}"
    );
    assert!(!home.path().join("layout").exists());
    assert_eq!(cached(&home, "bytecode"), BTreeSet::new(), "nothing half-made stays");
    home.json([&words[..], &["--no-bytecode".to_owned()]].concat());

    // A base of the right name with no Python in it: no error, since it serves all the same.
    let small = packages::user("uv");
    let at = |text: &str| if text == python_base::NAME { "serving-runtime-python:3.11".to_owned() } else { text.to_owned() };
    let words: Vec<String> = words.iter().map(|text| at(text)).collect();
    for _ in 0..2 {
        let document = small.json(&words);
        assert_eq!(layers(&document, "bytecode"), Vec::<String>::new());
        let said = "the packages are not compiled: the base has no whole Python at `/usr/bin/python3.11`, so a container compiles what it imports at each start";
        assert_eq!(document["warnings"], json!([said]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_compiles_as_a_build_does_but_runs_no_base_that_a_stranger_names_the_place_of() {
    let home = python_base::user();
    python_base::import(&home, false, None);
    let (model, wheels) = model(&home);
    let built = home.json(words(&home, &model, &wheels));
    let registry = DockerRegistry::start();
    let strange = format!("{}/{}", registry.address(), python_base::NAME);
    python_base::import(&home, true, Some(&strange));
    let service = Serve::start(&home, &["--wheels", wheels.to_str().unwrap()]);
    let upload = |runtime: &str| {
        let words = ["upload", model.to_str().unwrap(), "--server", &service.url(), "--runtime", runtime];
        assert_eq!(home.json(words)["status"], "Finished");
    };
    upload(&strange);
    let versions = ended(&service.url(), "m").await;
    assert_eq!(layers(&versions[0]["report"], "requirements").len(), 1, "{versions:#?}");
    assert_eq!(layers(&versions[0]["report"], "bytecode"), Vec::<String>::new());
    assert!(!home.data().join("interpreters").exists(), "nothing of it was even unpacked");
    upload(python_base::NAME);
    let versions = ended(&service.url(), "m").await;
    let compiled: Vec<&Value> = versions.iter().filter(|version| !layers(&version["report"], "bytecode").is_empty()).collect();
    assert_eq!(compiled.len(), 1, "{versions:#?}");
    for purpose in ["requirements", "bytecode"] {
        assert_eq!(layers(&compiled[0]["report"], purpose), layers(&built, purpose), "{purpose}");
    }
    // What was compiled is content of the store: others get it whole.
    let unpacked = Copied::from(&format!("docker://{}/m:2", service.address)).unpack();
    assert!(unpacked.join("model/lib/odd/__pycache__").is_dir());
}
