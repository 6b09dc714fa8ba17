//! Files of frameworks that are recognised and not read, judged by the frameworks: `tests/models/foreign/` has what they wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lamina::model::foreign::Foreign;
use lamina::model::foreign::HEAD_BYTES;
use lamina::model::foreign::recognise;
use lamina::model::pickle;
use lamina::model::pickle::End;
use serde_json::Value;

use crate::arbitrary::numbers_below;

fn folder(below: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(below)
}

/// The files by name.
fn files() -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder("foreign/files")).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

fn told(name: &str, bytes: &[u8]) -> Option<Foreign> {
    recognise(name, &bytes[..bytes.len().min(HEAD_BYTES)], bytes.len() as u64)
}

#[test]
fn every_file_is_what_its_framework_says() {
    let expected: BTreeMap<String, Value> = serde_json::from_slice(&fs::read(folder("foreign/expected.json")).unwrap()).unwrap();
    let files = files();
    assert!(expected.keys().eq(files.keys()));
    for (name, bytes) in &files {
        let foreign = told(name, bytes).unwrap_or_else(|| panic!("{name} is not recognised"));
        let expected = &expected[name];
        assert_eq!(foreign.framework.word(), expected["framework"], "{name}");
        assert_eq!(foreign.version.as_deref(), expected["version"].as_str(), "{name}");
        assert_eq!(foreign.what == "a compressed pickle", expected["compressed"] == true, "{name}");
        let pickle = name.ends_with(".pkl") || name.ends_with(".pickle") || name.ends_with(".joblib");
        assert_eq!(foreign.pickled, pickle, "{name}");
    }
}

#[test]
fn a_user_hears_what_it_is_and_what_to_do() {
    let files = files();
    let say = |name: &str| {
        let foreign = told(name, &files[name]).unwrap();
        (foreign.model_type(), format!("{}: {}", foreign.sentence(name), foreign.remedy()))
    };
    let (model_type, text) = say("pipeline_4.pkl");
    assert!(model_type.starts_with("scikit-learn:1."), "{model_type}");
    assert_eq!(
        text,
        "`pipeline_4.pkl` is a pickled scikit-learn model (pickles are never loaded here): say what goes in and what comes out in a \
         contract.prototxt, or convert the model to ONNX (skl2onnx)"
    );
    assert_eq!(
        say("logistic.pmml"),
        (
            "pmml:4.4".to_owned(),
            "`logistic.pmml` is a PMML document (no contract is read from it): say what goes in and what comes out in a contract.prototxt"
                .to_owned()
        )
    );
}

#[test]
fn what_is_read_elsewhere_or_is_no_model_is_none_of_these() {
    let saved_model = fs::read(folder("saved_model/half_plus_two/saved_model/saved_model.pb")).unwrap();
    assert_eq!(told("saved_model.pb", &saved_model), None);
    for (name, bytes) in [
        ("README.md", &b"# A model"[..]),
        ("config.json", b"{\"version\": 1}"),
        ("page.xml", b"<?xml version='1.0'?><!-- PMML --><html/>"),
        ("model.pkl", b""),
        ("model.pkl", b"version https://git-lfs.github.com/spec/v1\noid sha256:00"),
        ("data.zip", b"PK\x03\x04"),
        ("model.onnx", b"\x08\x08\x12\x07pytorch"),
        ("book.index", b"abc"),
        ("code.py", b"import os"),
        ("model.h5", b"\x89HDF\r\n\x1a\n"),
    ] {
        assert_eq!(told(name, bytes), None, "{name}");
    }
}

#[test]
fn other_forms_are_told_by_their_first_bytes() {
    let variables = folder("saved_model/half_plus_two/saved_model/variables");
    let index = fs::read(variables.join("variables.index")).unwrap();
    let graph = b"\x0a\x11\x0a\x01x\x12\x0bPlaceholder";
    let torch = [b"PK\x03\x04".as_slice(), &[0; 22], b"\x10\0\0\0archive/data.pkl"].concat();
    let script = [torch.as_slice(), b"..PK\x03\x04", &[0; 22], b"\x15\0\0\0archive/constants.pkl"].concat();
    let mojo = [b"PK\x03\x04".as_slice(), &[0; 22], b"\x09\0\0\0model.ini"].concat();
    for (name, bytes, word) in [
        ("variables.index", index.as_slice(), "tensorflow"),
        ("model.ckpt.data-00000-of-00001", b"", "tensorflow"),
        ("checkpoint", b"model_checkpoint_path: \"model.ckpt\"", "tensorflow"),
        ("frozen.pb", graph, "tensorflow"),
        ("model.tflite", b"\x1c\0\0\0TFL3\0\0", "tflite"),
        ("model.pt", &torch, "pytorch"),
        ("model.pt", &script, "torchscript"),
        ("old.pth", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M", "pytorch"),
        ("gbm_mojo.zip", &mojo, "h2o"),
        ("net-symbol.json", b"{\"nodes\": []}", "mxnet"),
        ("net-0000.params", &[0x12, 1, 0, 0, 0, 0, 0, 0, 0], "mxnet"),
        ("net.mlmodel", b"\x08\x04\x12\x00", "coreml"),
        ("model.RDS", b"\x1f\x8b\x08", "r"),
        ("model.rda", b"RDX3\nX\n", "r"),
        ("model.gguf", b"GGUF\x03\0\0\0", "gguf"),
        ("old.model", b"binf\0\0", "xgboost"),
        ("model.xml", b"\xef\xbb\xbf<?xml?>\n<!-- a -->\n<!DOCTYPE PMML>\n<p:PMML Version='1' version = '4.3'>", "pmml"),
    ] {
        assert_eq!(told(name, bytes).unwrap_or_else(|| panic!("{name} is not recognised")).framework.word(), word, "{name}");
    }
}

#[test]
fn every_protocol_of_a_pickle_imports_the_same_names() {
    let files = files();
    let names = |name: &str| {
        let scan = pickle::globals(&files[name]);
        assert_eq!((scan.end, scan.unresolved), (End::Stop, 0), "{name}");
        scan.globals.into_iter().map(|global| format!("{}.{}", global.module, global.name)).collect::<Vec<String>>()
    };
    let newest = names("pipeline_5.pkl");
    assert_eq!(newest[0], "sklearn.pipeline.Pipeline");
    for protocol in 0..5 {
        let names = names(&format!("pipeline_{protocol}.pkl"));
        assert!(newest.iter().filter(|name| name.starts_with("sklearn.")).all(|name| names.contains(name)), "{protocol}: {names:?}");
    }
    // The arrays between the opcodes are stepped over.
    let joblib = names("pipeline.joblib");
    assert!(newest.iter().filter(|name| name.starts_with("sklearn.")).all(|name| joblib.contains(name)), "{joblib:?}");
    assert!(names("dictionary.pkl").is_empty());
}

#[test]
fn no_bytes_make_a_panic() {
    let mut below = numbers_below();
    for (name, bytes) in files() {
        for round in 0..300 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 4 {
                let at = below(damaged.len());
                damaged[at] ^= 1 << below(8);
            }
            damaged.truncate(below(damaged.len()) + 1);
            let scan = pickle::globals(&damaged);
            assert!(scan.end_offset <= damaged.len());
            let _ = told(&name, &damaged);
        }
    }
}
