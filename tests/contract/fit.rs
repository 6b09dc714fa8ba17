//! What a model needs, held against what a runtime has: real models, and folders that a test makes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use lamina::contract::{keras_code, onnx_operators, saved_model_operations, saved_model_operations_text};
use lamina::model::fit::{Finding, Severity};
use lamina::model::fit_judge::{self, Ground, Packages};
use lamina::model::fit_scan::{self, Facts};
use lamina::model::framework::ReadSeek;
use lamina::model::runtime::{Runtime, RuntimeList};
use lamina::model::tensorflow_operations;
use lamina::model::tree::Tree;
use lamina::oci::layer::{Content, EntryKind};
use lamina::oci::path::TreePath;

use crate::arbitrary::numbers_below;

fn tree(files: &[(&str, &[u8])]) -> Tree {
    let mut tree = Tree::new();
    for (path, bytes) in files {
        let content = Content::Inline((*bytes).into());
        tree.insert(TreePath::new(path).unwrap(), EntryKind::File { size_bytes: bytes.len() as u64, executable: false, content });
    }
    tree
}

fn scan(tree: &Tree, runtime: &Runtime) -> Facts {
    fit_scan::scan(tree, runtime.python(), &|content| match content {
        Content::Inline(bytes) => Ok(Box::new(Cursor::new(bytes.to_vec())) as Box<dyn ReadSeek>),
        Content::Local(_) => unreachable!("the tree is in memory"),
    })
}

fn judged(files: &[(&str, &[u8])], runtime: &Runtime) -> Vec<Finding> {
    with_packages(files, runtime, Packages::Nothing)
}

fn with_packages(files: &[(&str, &[u8])], runtime: &Runtime, packages: Packages) -> Vec<Finding> {
    let tree = tree(files);
    fit_judge::judge(&scan(&tree, runtime), &tree, &Ground { runtime: Some(runtime), certain: true, packages })
}

fn said(files: &[(&str, &[u8])], runtime: &Runtime) -> Vec<String> {
    judged(files, runtime).iter().map(Finding::problem).collect()
}

fn runtime(words: &str) -> Runtime {
    let text = format!("runtimes:\n  - {{name: r, version: '1', reference: r, model_types: [x], contract_dialect: v1, {words}}}\n");
    RuntimeList::read("runtimes.yaml", text.as_bytes()).unwrap().runtimes.remove(0)
}

fn python(version: &str) -> Runtime {
    runtime(&format!("python_version: '{version}', python_modules: [numpy]"))
}

/// Files below a folder of real models with this ending, sorted.
fn real(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_operation_of_the_real_saved_models_is_found_and_known() {
    let registry = tensorflow_operations::of("2.21").unwrap();
    let (mut versions, mut models) = (Vec::new(), 0);
    for file in real("saved_model", "saved_model.pb") {
        let bytes = fs::read(&file).unwrap();
        let found = saved_model_operations::read(Cursor::new(&bytes), bytes.len() as u64).unwrap();
        let unknown: Vec<&String> = found.names.iter().filter(|name| !registry.names.contains(name.as_str())).collect();
        assert_eq!(unknown, Vec::<&String>::new(), "{}", file.display());
        assert!(!found.names.is_empty() && found.consumer_min <= registry.graph_def_version, "{}: {found:?}", file.display());
        versions.push(found.tensorflow_version);
        models += 1;
    }
    for file in real("saved_model", "saved_model.pbtxt") {
        let bytes = fs::read(&file).unwrap();
        let found = saved_model_operations_text::read(Cursor::new(&bytes), bytes.len() as u64).unwrap();
        assert!(!found.names.is_empty() && found.names.iter().all(|name| registry.names.contains(name.as_str())), "{found:?}");
        // The same model in the other form, where there is one.
        if let Ok(binary) = fs::read(file.with_extension("pb")) {
            let binary = saved_model_operations::read(Cursor::new(&binary), binary.len() as u64).unwrap();
            assert_eq!(found, binary, "{}", file.display());
        }
        models += 1;
    }
    versions.sort();
    versions.dedup();
    assert!(models > 20 && versions.iter().any(|version| version.starts_with("1.4")), "{models} {versions:?}");
}

#[test]
fn operations_that_the_runtime_lacks_are_named() {
    let model =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/saved_model/half_plus_two/saved_model/saved_model.pb")).unwrap();
    let tensorflow = runtime("tensorflow_version: '2.21'");
    assert_eq!(said(&[("saved_model.pb", &model)], &tensorflow), Vec::<String>::new());
    let other = replaced(&model, b"Identity", b"Idontity");
    let found = judged(&[("saved_model.pb", &other)], &tensorflow);
    assert_eq!(found[0].problem(), "`saved_model.pb` needs the operation `Idontity`, which is not in TensorFlow 2.21 (runtime `r:1`)");
    assert_eq!((found.len(), found[0].severity), (1, Severity::Impossible));
    // Of a TensorFlow without a list nothing is known but that it is older.
    let older = said(&[("saved_model.pb", &other)], &runtime("tensorflow_version: '1.3'"));
    assert!(older.len() == 1 && older[0].contains("the runtime `r:1` has 1.3: it may use what is newer"), "{older:?}");
    // The Python of a runtime for SavedModels runs no code of the model's.
    let tensorflow = runtime("tensorflow_version: '2.21', python_version: '3.11', python_modules: [numpy]");
    assert_eq!(said(&[("saved_model.pb", &model), ("src/func_main.py", b"import sklearn\n")], &tensorflow), Vec::<String>::new());
    // What lies below the root is served by code, not by the runtime.
    assert_eq!(said(&[("src/m/saved_model.pb", &other)], &tensorflow), Vec::<String>::new());
    // A runtime that may yet be another one makes no impossibility.
    let tree = tree(&[("saved_model.pb", &other)]);
    let ground = Ground { runtime: Some(&tensorflow), certain: false, packages: Packages::Nothing };
    assert_eq!(fit_judge::judge(&scan(&tree, &tensorflow), &tree, &ground)[0].severity, Severity::Warning);
    assert_eq!(fit_judge::judge(&scan(&tree, &tensorflow), &tree, &Ground { runtime: None, ..ground }), []);
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

#[test]
fn the_operators_of_real_onnx_models_are_held_against_the_runtime() {
    let mut newest = 0;
    let mut domains: BTreeMap<String, String> = BTreeMap::new();
    for file in real("onnx", ".onnx") {
        let bytes = fs::read(&file).unwrap();
        let found = onnx_operators::read(Cursor::new(&bytes), bytes.len() as u64).unwrap();
        newest = newest.max(found.sets.get("").copied().unwrap_or_default());
        domains.extend(found.domains.clone());
        let at_least_one = !found.sets.is_empty() || found.ir_version < 3;
        assert!(at_least_one, "{}: {found:?}", file.display());
    }
    assert!(newest > 15, "{newest}");
    assert!(domains.contains_key("ai.onnx.ml"), "{domains:?}");
    let model = fs::read(real("onnx", ".onnx").into_iter().find(|path| path.to_str().unwrap().contains("opset_13")).unwrap()).unwrap();
    let old = runtime("onnx_opset_max: 12, onnxruntime_version: '1.4.0'");
    let expected = "`m.onnx` needs operator set 13, and ONNX Runtime 1.4.0 (runtime `r:1`) has those up to 12";
    assert_eq!(said(&[("m.onnx", &model)], &old), [expected]);
    assert_eq!(said(&[("m.onnx", &model)], &runtime("onnx_opset_max: 13")), Vec::<String>::new());
}

#[test]
fn only_layers_with_a_function_in_the_file_are_code() {
    let code = |file: &Path| {
        let (reader, size_bytes) = (fs::File::open(file).unwrap(), fs::metadata(file).unwrap().len());
        // Files that hold no model are among them.
        keras_code::read(reader, size_bytes).map(|code| code.layers).unwrap_or_default()
    };
    let with_code = |file: &PathBuf| !code(file).is_empty();
    let folder = |file: &PathBuf| file.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let files = [real("keras", ".h5"), real("keras", ".keras")].concat();
    let found: Vec<String> = files.iter().filter(|file| with_code(file)).map(folder).collect();
    assert_eq!(found, ["keras_2_custom_h5"]);
    for (name, layers) in [("lambda.keras", vec!["doubled"]), ("lambda.h5", vec!["doubled"]), ("named.keras", vec![]), ("named.h5", vec![])]
    {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/keras_code").join(name);
        assert_eq!(code(&file), layers, "{name}");
        let expected = "`model.h5` holds the layer `doubled` as Python bytecode, which is run when the model is loaded, and only by the Python version that wrote it";
        let said = said(&[("model.h5", &fs::read(&file).unwrap())], &python("3.11"));
        assert_eq!(said, layers.iter().map(|_| expected.to_owned()).collect::<Vec<_>>());
    }
}

#[test]
fn no_real_model_is_suspicious() {
    for file in real("foreign", "") {
        let bytes = fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_eq!(said(&[(name, &bytes)], &python("3.11")), Vec::<String>::new(), "{}", file.display());
    }
}

#[test]
fn what_lies_behind_the_arrays_of_joblib_is_found_and_what_frameworks_pickle_is_not() {
    let mut evil = 0;
    for file in real("pickles", ".joblib") {
        let name = file.file_name().unwrap().to_str().unwrap();
        let found = said(&[(name, &fs::read(&file).unwrap())], &python("3.11"));
        if name.starts_with("evil") {
            evil += 1;
            // `os.system` is pickled by the name of the module that it really is in.
            assert!(found.len() == 1 && found[0].contains("imports `posix.system`, which is run when it is loaded"), "{name}: {found:?}");
        } else {
            assert_eq!(found, Vec::<String>::new(), "{name}");
        }
    }
    assert_eq!(evil, 11);
}

#[test]
fn imports_are_looked_for_where_python_would_find_them() {
    let main = b"import json\nimport numpy\nimport sklearn\nimport cv2\nfrom helper import x\nimport vendored\n\ndef infer(x):\n    import pandas\n";
    let files: Vec<(&str, &[u8])> = vec![
        ("src/func_main.py", main),
        ("src/helper.py", b"import yaml\n"),
        ("src/train.py", b"import mlflow\n"),
        ("third_party/vendored/__init__.py", b""),
    ];
    let found = said(&files, &python("3.11"));
    let expected = [
        "`src/func_main.py` line 3 imports `sklearn`, which the runtime does not have",
        "`src/func_main.py` line 4 imports `cv2`, which the runtime does not have",
        "`src/func_main.py` line 9 imports `pandas`, which the runtime does not have",
        "`src/helper.py` line 1 imports `yaml`, which the runtime does not have",
    ];
    assert_eq!(found, expected);
    let names = ["scikit-learn", "opencv-python", "pandas"].map(str::to_owned).into();
    let left = with_packages(&files, &python("3.11"), Packages::Exactly { file: "requirements.txt".to_owned(), names });
    assert_eq!(left[0].problem(), "`src/helper.py` line 1 imports `yaml`, which neither `requirements.txt` nor the runtime has");
    assert_eq!((left.len(), left[0].remedy.as_str()), (1, "add `pyyaml`"));
    // A base whose own packages are not known lacks nothing for certain, and packages that have still to be resolved may bring anything.
    assert_eq!(said(&files, &runtime("python_version: '3.11'")), Vec::<String>::new());
    assert_eq!(with_packages(&files, &python("3.11"), Packages::Unknown), []);
}

#[test]
fn what_another_python_had_is_told_with_its_version() {
    let main = b"import imp\nimport urllib2\n\ndef infer(x):\n    match x:\n        case _:\n            return x\n";
    let found = judged(&[("src/func_main.py", main)], &python("3.13"));
    let problems: Vec<String> = found.iter().map(Finding::problem).collect();
    let expected = [
        "`src/func_main.py` line 1 imports `imp`, which Python 3.13 no longer has (it was there until 3.11)",
        "`src/func_main.py` line 2 imports `urllib2`, which Python 3.13 no longer has (it was there until 2.7)",
    ];
    assert_eq!(problems, expected);
    assert!(found.iter().all(|finding| finding.severity == Severity::Impossible));
    let older = judged(&[("src/func_main.py", main)], &python("3.9"));
    let lack = older.iter().find(|finding| finding.check.word() == "python").unwrap();
    let expected = "`src/func_main.py` line 5 does not fit Python 3.9 (runtime `r:1`): Cannot use `match` statement on Python 3.9 (syntax was added in Python 3.10)";
    assert_eq!((lack.problem().as_str(), lack.severity), (expected, Severity::Impossible));
    let refused = said(&[("src/func_main.py", b"import helper\nreturn 1\n"), ("src/helper.py", b"print 'x'\n")], &python("3.11"));
    assert_eq!(refused[0], "`src/func_main.py` line 2 has what no Python 3 takes: a `return` outside of a function");
    assert!(refused[1].starts_with("`src/helper.py` line 1 has what no Python 3 takes: this is no Python 3"), "{refused:?}");
}

#[test]
fn no_bytes_make_a_panic() {
    let mut below = numbers_below();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/fit");
    let names = ["saved_model.pb", "m.onnx", "m.h5", "m.keras", "m.pkl", "src/func_main.py", "notes.txt"];
    for file in fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()) {
        let bytes = fs::read(&file).unwrap();
        for round in 0..200 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 4 {
                let at = below(damaged.len());
                damaged[at] ^= 1 << below(8);
            }
            damaged.truncate(below(damaged.len()) + 1);
            let name = names[below(names.len())];
            let _ = judged(&[(name, &damaged), ("src/main.py", b"import m\n")], &python("3.13"));
        }
    }
}
