//! `hs contract …` as users type it: read out of real models, shown in every form, checked, compared, sampled; and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::golden_bytes::GOLDEN;
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, project, tool};
use crate::support::models::{self, CONTRACT};
use crate::support::outside::write_model;
use crate::support::wire_tap::WireTap;

/// A copy of a committed model in a user's home.
fn copy(home: &Home, from: &str, to: &str) -> PathBuf {
    let folder = home.path().join(to);
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    tool("cp", &["-r", project(from).to_str().unwrap(), folder.to_str().unwrap()]);
    folder
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_contract_is_read_out_of_a_model_of_every_framework() {
    let home = Home::new();
    let saved_model = project("tests/models/saved_model/half_plus_two/saved_model");
    let text_model = project("tests/models/saved_model/tf1_text/saved_model");
    let onnx = first_file_below(&project("tests/models/onnx"), "onnx");
    let keras = first_file_below(&project("tests/models/keras"), "h5");
    let archive = first_file_below(&project("tests/models/keras"), "keras");
    for (what, kind, signature) in [
        (&saved_model, "tensorflow:", None),
        (&text_model, "tensorflow:", None),
        (&onnx, "onnx:", Some("infer")),
        (&keras, "keras:", Some("infer")),
        (&archive, "keras:", Some("infer")),
    ] {
        let document = home.json(["contract", "infer", text(what)]);
        assert!(document["model_type"].as_str().unwrap().starts_with(kind), "{}: {document}", what.display());
        assert!(!document["signatures"].as_array().unwrap().is_empty());
        if let Some(signature) = signature {
            assert_eq!(document["signatures"][0]["name"], signature);
        }
        // The folder with nothing but the model in it says the same.
        if what.is_file() {
            let folder = home.path().join(kind.trim_end_matches(':'));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(what, folder.join(what.file_name().unwrap())).unwrap();
            assert_eq!(home.json(["contract", "infer", text(&folder)])["signatures"], document["signatures"]);
            assert_eq!(home.json(["contract", "show", text(&folder)])["signatures"], document["signatures"]);
        }
    }
}

fn first_file_below(folder: &Path, extension: &str) -> PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|found| found == extension) {
                found.push(entry);
            }
        }
    }
    found.sort();
    found.remove(0)
}

#[test]
fn what_is_compiled_are_the_ancestors_bytes() {
    let home = Home::new();
    let (file, out) = (home.path().join("contract.prototxt"), home.path().join("contract.protobin"));
    let compile = |words: &[&str]| {
        let ran = home.hs([&["contract", "compile", text(&file), "-o", text(&out)], words].concat());
        assert_eq!(ran.code, 0, "{ran:#?}");
        hex(&fs::read(&out).unwrap())
    };
    for (name, source, sent) in GOLDEN {
        fs::write(&file, source).unwrap();
        // As the client sent it, and as the server wrote it into the image: with the model's name before it.
        assert_eq!(compile(&[]), sent, "{name}");
        let named = hex(name.as_bytes());
        assert_eq!(compile(&["--name", name]), format!("0a{:02x}{named}{sent}", name.len()), "{name}");
    }
}

#[test]
fn every_form_is_read_back_to_the_same_contract() {
    let home = Home::new();
    let model = home.path().join("model");
    models::small(&model);
    let shown = home.json(["contract", "show", text(&model)]);
    for (file, form) in [("c.prototxt", "prototxt"), ("serving.yaml", "yaml")] {
        let ran = home.hs(["contract", "show", text(&model), "--form", form]);
        let path = home.path().join(file);
        fs::write(&path, &ran.stdout).unwrap();
        assert_eq!(home.json(["contract", "show", text(&path)])["signatures"], shown["signatures"], "{form}: {}", ran.stdout);
    }
    let table = home.hs(["contract", "show", text(&model)]).stdout;
    assert_eq!(table, "contract.prototxt (python)\ninfer\n  inputs\n    x  DT_DOUBLE  [-1, 2]\n  outputs\n    y  DT_DOUBLE  [-1]\n");
    let plain: Value = serde_json::from_str(&home.hs(["contract", "show", text(&model), "--form", "json"]).stdout).unwrap();
    assert_eq!(plain["signatures"], shown["signatures"]);
    // What is inferred becomes a file of the form that its name says.
    let saved_model = project("tests/models/saved_model/half_plus_two/saved_model");
    let inferred = home.json(["contract", "infer", text(&saved_model)]);
    for name in ["contract.prototxt", "contract.protobin", "serving.yml"] {
        let out = home.path().join(name);
        assert_eq!(home.hs(["contract", "infer", text(&saved_model), "-o", text(&out)]).code, 0);
        assert_eq!(home.json(["contract", "show", text(&out)])["signatures"], inferred["signatures"], "{name}");
    }
}

#[test]
fn two_models_in_one_folder_are_refused_with_both_names() {
    let home = Home::new();
    let onnx = first_file_below(&project("tests/models/onnx"), "onnx");
    let folder = home.path().join("two");
    fs::create_dir_all(&folder).unwrap();
    for name in ["a.onnx", "b.onnx"] {
        fs::copy(&onnx, folder.join(name)).unwrap();
    }
    let ran = home.hs(["build", text(&folder), "--dry-run"]);
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(ran.stderr.contains("`a.onnx` and `b.onnx` are two models in one folder"), "{ran:#?}");
    // A contract that is given decides, and the two files are just files.
    fs::write(folder.join("contract.prototxt"), CONTRACT).unwrap();
    assert_eq!(home.hs(["build", text(&folder), "--dry-run", "--runtime", "scratch"]).code, 0);

    let server = home.path().join("served");
    copy(&home, "tests/models/saved_model/half_plus_two/saved_model", "served/1");
    let ran = home.hs(["contract", "infer", text(&server)]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("the model lies in the version folder `1`"), "{ran:#?}");
    copy(&home, "tests/models/saved_model/half_plus_two/saved_model", "served/2");
    let ran = home.hs(["contract", "infer", text(&server)]);
    assert!(ran.stderr.contains("`1` and `2` are two models in one folder"), "{ran:#?}");
}

#[test]
fn several_meta_graphs_ask_for_a_tag_and_take_it() {
    let home = Home::new();
    let model = project("tests/models/saved_model/tf1_many_graphs/saved_model");
    let served = home.json(["contract", "infer", text(&model)]);
    let train = home.json(["contract", "infer", text(&model), "--tag", "train"]);
    assert_ne!(served["signatures"], train["signatures"]);
    let both = home.json(["contract", "infer", text(&model), "--tag", "serve,gpu"]);
    assert_ne!(served["signatures"], both["signatures"]);
    let ran = home.hs(["contract", "infer", text(&model), "--tag", "tpu"]);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("tpu") && ran.stderr.contains("serve"), "{ran:#?}");
    // The tag is a word of `hs build`, too.
    let built = |words: &[&str]| home.json([&["build", text(&model), "--name", "m", "--dry-run", "--runtime", "scratch"], words].concat());
    assert_ne!(built(&[])["contract"]["digest"], built(&["--tag", "train"])["contract"]["digest"]);
}

#[test]
fn what_stands_in_for_a_model_is_told() {
    let home = Home::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    for (name, bytes, said) in [
        ("model.onnx", pointer.as_bytes(), "Git LFS pointer"),
        ("model.h5", pointer.as_bytes(), "Git LFS pointer"),
        ("saved_model.pb", b"<!DOCTYPE html><html></html>", "a web page"),
        ("model.keras", b"", "empty"),
    ] {
        let folder = home.path().join(name.replace('.', "-"));
        write_model(&folder, "m", &[(name, bytes)]);
        let ran = home.hs(["contract", "infer", text(&folder)]);
        assert_eq!(ran.code, 3, "{ran:#?}");
        assert!(ran.stderr.contains(&format!("`{name}` is no model")) && ran.stderr.contains(said), "{ran:#?}");
    }
    let pickle = home.path().join("pickled");
    let model = first_file_below(&project("tests/models/foreign"), "pkl");
    write_model(&pickle, "m", &[("model.pkl", &fs::read(model).unwrap())]);
    let ran = home.hs(["contract", "infer", text(&pickle)]);
    assert!(ran.code == 3 && ran.stderr.contains("pickles are never loaded here"), "{ran:#?}");
}

#[test]
fn a_check_names_the_field_that_differs_and_the_line_of_the_code() {
    let home = Home::new();
    let folder = copy(&home, "tests/models/saved_model/half_plus_two/saved_model", "half");
    assert_eq!(home.hs(["contract", "infer", text(&folder), "-o", text(&folder.join("contract.prototxt"))]).code, 0);
    let ran = home.hs(["contract", "check", text(&folder)]);
    assert_eq!((ran.code, ran.stdout.contains("contract.prototxt: kept by `saved_model.pb`")), (0, true), "{ran:#?}");
    let right = fs::read_to_string(folder.join("contract.prototxt")).unwrap();
    fs::write(folder.join("contract.prototxt"), right.replacen("DT_FLOAT", "DT_DOUBLE", 1)).unwrap();
    let ran = home.hs(["contract", "check", text(&folder)]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:#?}");
    assert!(ran.stderr.contains("the contract says DT_DOUBLE, the model DT_FLOAT"), "{ran:#?}");

    let python = home.path().join("python");
    models::small(&python);
    let ran = home.hs(["contract", "check", text(&python)]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "contract.prototxt: kept by `src/func_main.py`\n"), "{ran:#?}");
    for (code, said) in [
        ("def infer(y):\n    return y\n", ["src/func_main.py:1:", "`x`"]),
        ("def inference(x):\n    return x\n", ["infer", "inference"]),
        ("def infer(x)\n    return x\n", ["src/func_main.py:1:", "^"]),
    ] {
        fs::write(python.join("src/func_main.py"), code).unwrap();
        for command in [&["contract", "check"][..], &["build", "--dry-run", "--runtime", "scratch"]] {
            let ran = home.hs([command, &[text(&python)]].concat());
            assert_eq!(ran.code, 3, "{ran:#?}");
            assert!(said.iter().all(|said| ran.stderr.contains(said)), "{said:?}: {ran:#?}");
        }
    }
    fs::remove_file(python.join("src/func_main.py")).unwrap();
    fs::write(python.join("serving.yaml"), "model:\n  name: m\n  type: \"python:3.11\"\n").unwrap();
    let ran = home.hs(["build", text(&python), "--dry-run", "--runtime", "scratch"]);
    assert!(ran.code == 3 && ran.stderr.contains("the model has no `src/func_main.py`"), "{ran:#?}");
}

#[test]
fn a_sample_is_a_request_that_protoc_reads() {
    let home = Home::new();
    let model = home.path().join("model");
    models::small(&model);
    let json: Value = serde_json::from_str(&home.hs(["contract", "sample", text(&model)]).stdout).unwrap();
    assert_eq!(json, json!({"x": [[1.0, 1.0]]}));
    let proto = project("proto");
    for (form, message, file) in [
        ("protobuf", "hydrosphere.tensorflow.serving.PredictRequest", "hydro_serving_grpc/tf/api/predict.proto"),
        ("protobuf-v3", "hydrosphere.serving.runtime.PredictRequest", "hydro_serving_grpc/serving/runtime/api.proto"),
    ] {
        let out = home.path().join(form);
        assert_eq!(home.hs(["contract", "sample", text(&model), "--form", form, "-o", text(&out)]).code, 0);
        let script = format!("protoc -I {} --decode {message} {file} < {}", proto.display(), out.display());
        let read = tool("sh", &["-c", &script]);
        assert!(read.contains("key: \"x\"") && read.contains("dtype: DT_DOUBLE"), "{read}");
        assert_eq!(read.contains("signature_name: \"infer\""), form == "protobuf", "{read}");
    }
    let ran = home.hs(["contract", "sample", text(&model), "--signature", "predict"]);
    assert!(ran.code == 2 && ran.stderr.contains("`predict`") && ran.stderr.contains("infer"), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pushed_images_are_compared_for_a_few_kilobytes() {
    let (home, registry) = (Home::new(), DockerRegistry::start());
    let tap = WireTap::before(registry.address()).await;
    let model = home.path().join("model");
    models::small(&model);
    fs::write(model.join("weights.bin"), crate::support::client::noise(9 << 20)).unwrap();
    let image = |version: &str| format!("{}/model:{version}", tap.address());
    let build = |words: &[&str]| home.hs([&["build", text(&model), "--name", "model", "--runtime", "scratch"], words].concat());
    assert_eq!(build(&["--to", &image("1")]).code, 0);
    let old = fs::read_to_string(model.join("contract.prototxt")).unwrap();
    let new = old.replace("outputs {", "inputs { name: \"age\" dtype: DT_INT32 }\n  outputs {");
    fs::write(model.join("contract.prototxt"), &new).unwrap();
    fs::write(model.join("src/func_main.py"), "def infer(x, age):\n    return x\n").unwrap();
    assert_eq!(build(&["--to", &image("2")]).code, 0);

    tap.forget();
    let ran = home.hs(["contract", "diff", &image("1"), &image("2")]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.stdout.starts_with("infer.inputs.age is new\n  breaking for callers: "), "{}", ran.stdout);
    let moved_bytes = tap.down_bytes() + tap.body_bytes();
    assert!(moved_bytes > 0 && moved_bytes < 100_000, "{moved_bytes} bytes");

    let document = home.json(["contract", "diff", &image("1"), text(&model)]);
    assert_eq!(document["worst"], json!({"callers": "breaking", "callees": "breaking"}));
    assert_eq!(document["changes"][0]["change"], "field_added");
    let ran = home.hs(["contract", "diff", &image("1"), text(&model), "--gate", "breaking"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:#?}");
    // A program reads what is refused in the form in which it reads what is not.
    let refused = |words: &[&str]| {
        let ran = home.hs([&["--output", "json"], words].concat());
        assert!(ran.code == 5 && ran.stderr.contains("infer.inputs.age is new: callers do not send it"), "{ran:#?}");
        serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()
    };
    assert_eq!(refused(&["contract", "diff", &image("1"), text(&model), "--gate", "breaking"]), document);
    let of_build = refused(&["build", text(&model), "--runtime", "scratch", "--against", &image("1")]);
    assert_eq!((&of_build["old"], &of_build["new"]), (&document["old"], &json!("contract.prototxt")));
    assert_eq!((&of_build["worst"], &of_build["changes"]), (&document["worst"], &document["changes"]));
    // A build is held against what is in use, and nothing of it is sent.
    tap.forget();
    let ran = build(&["--against", &image("1"), "--to", &image("3")]);
    assert_eq!(ran.code, 5, "{ran:#?}");
    assert!(ran.stderr.contains("infer.inputs.age is new: callers do not send it"), "{ran:#?}");
    assert_eq!((tap.count("PUT"), tap.count("POST"), tap.count("PATCH")), (0, 0, 0));
    // What is asked for is the other image's contract: no layer of this model.
    assert!(tap.seen().iter().all(|seen| seen.method == "GET" || !seen.target.contains("/blobs/")), "{:#?}", tap.seen());
    assert_eq!(build(&["--against", &image("2"), "--to", &image("3")]).code, 0);
}
