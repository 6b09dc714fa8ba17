//! Contracts read from SavedModels, judged by TensorFlow: `tests/models/saved_model/` has models that it wrote and what its own reader says.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use lamina::contract::contract::{Contract, Field, Shape};
use lamina::contract::dtype::DataType;
use lamina::contract::reading::Reading;
use lamina::contract::saved_model;
use lamina::contract::saved_model_meta::{SavedModelError, Tags};
use lamina::contract::saved_model_text;
use lamina::contract::wire::{Dialect, decode, encode};
use lamina::fault::{Failure, one_line};
use serde_json::{Value, json};

use super::made_up::Numbers;

/// Every model folder, sorted.
fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/saved_model");
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    models.sort();
    models
}

fn name(model: &Path) -> &str {
    model.file_name().unwrap().to_str().unwrap()
}

/// A model's file, in the form that it has.
enum Form {
    Binary(Vec<u8>),
    Text(Vec<u8>),
}

impl Form {
    fn of(model: &Path) -> Form {
        let folder = model.join("saved_model");
        match fs::read(folder.join("saved_model.pb")) {
            Ok(bytes) => Form::Binary(bytes),
            Err(_) => Form::Text(fs::read(folder.join("saved_model.pbtxt")).unwrap()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Form::Binary(bytes) | Form::Text(bytes) => bytes,
        }
    }

    /// The same file with other bytes.
    fn with(&self, bytes: Vec<u8>) -> Form {
        match self {
            Form::Binary(_) => Form::Binary(bytes),
            Form::Text(_) => Form::Text(bytes),
        }
    }

    fn read(&self, tags: &Tags) -> Result<Reading, SavedModelError> {
        match self {
            Form::Binary(bytes) => saved_model::read(Cursor::new(bytes), bytes.len() as u64, tags),
            Form::Text(bytes) => saved_model_text::read(Cursor::new(bytes), bytes.len() as u64, tags),
        }
    }
}

fn read_model(name: &str) -> Result<Reading, SavedModelError> {
    let models = models();
    let model = models.iter().find(|model| model.ends_with(name)).unwrap();
    Form::of(model).read(&Tags::default())
}

/// TensorFlow's word for a field, in the form of ours: a reference is what it refers to, a composite tensor its parts.
fn expected_field(field: &Value) -> Value {
    let mut expected = json!({"name": field["name"], "shape": field["shape"], "profile": "NONE"});
    match field["components"].as_array() {
        Some(parts) => expected["subfields"] = parts.iter().map(expected_field).collect(),
        None => expected["dtype"] = json!(field["dtype"].as_str().unwrap().trim_end_matches("_REF")),
    }
    expected
}

fn expected_signatures(graph: &Value) -> Vec<Value> {
    let fields = |signature: &Value, side: &str| signature[side].as_array().unwrap().iter().map(expected_field).collect::<Vec<Value>>();
    let signatures = graph["signatures"].as_array().unwrap().iter().filter(|signature| signature["name"] != "__saved_model_init_op");
    signatures.map(|s| json!({"name": s["name"], "inputs": fields(s, "inputs"), "outputs": fields(s, "outputs")})).collect()
}

/// Our fields as JSON, without the names of dimensions, which TensorFlow's answers leave out.
fn unnamed(mut contract: Contract) -> Contract {
    for signature in &mut contract.signatures {
        for field in signature.inputs.iter_mut().chain(&mut signature.outputs) {
            if let Shape::Dimensions(dimensions) = &mut field.shape {
                for dimension in dimensions {
                    dimension.name.clear();
                }
            }
        }
    }
    contract
}

/// How many fields of a meta graph are more than one tensor.
fn unusual_fields(graph: &Value) -> usize {
    let signatures = graph["signatures"].as_array().unwrap().iter();
    let sides = signatures.flat_map(|signature| [&signature["inputs"], &signature["outputs"]]);
    sides.flat_map(|fields| fields.as_array().unwrap()).filter(|field| field["kind"] != "dense").count()
}

/// What our reader gives for a model and TensorFlow's meta graph, compared.
fn compare(name: &str, reading: Result<Reading, SavedModelError>, graphs: &[Value], chosen: &Value) {
    let reading = match (name, reading) {
        ("dtypes_after_2018", Err(error)) => {
            let first = &chosen["signatures"][1]["inputs"][0];
            let (field, dtype) = (first["name"].as_str().unwrap(), first["dtype"].as_str().unwrap());
            let text = error.to_string();
            assert!(text.starts_with(&format!("the SavedModel's field serving_default.inputs.{field} has the dtype {dtype} (")), "{text}");
            return;
        }
        ("no_signatures", Err(error)) => {
            assert_eq!(error.to_string(), "the SavedModel holds no signature in its meta graphs tagged {serve}");
            return;
        }
        (_, reading) => reading.unwrap(),
    };
    let version = chosen["tensorflow_version"].as_str().unwrap();
    assert_eq!(reading.model_type, format!("tensorflow:{version}"), "{name}");
    let read = serde_json::to_value(unnamed(reading.contract.clone()).signatures).unwrap();
    assert_eq!(read, json!(expected_signatures(chosen)), "{name}");
    let told = unusual_fields(chosen) + usize::from(graphs.len() > 1);
    assert_eq!(reading.warnings.len(), told, "{name}: {:?}", reading.warnings);
    let encoded = encode(&reading.contract, Dialect::V1).unwrap();
    assert_eq!(decode(&encoded.bytes, None).unwrap(), (reading.contract, Dialect::V1), "{name}");
}

#[test]
fn every_contract_is_what_tensorflow_says() {
    let (mut texts, mut versions) = (0, BTreeSet::new());
    for model in models() {
        let name = name(&model);
        let form = Form::of(&model);
        texts += usize::from(matches!(form, Form::Text(_)));
        let expected: Value = serde_json::from_slice(&fs::read(model.join("expected.json")).unwrap()).unwrap();
        let graphs = expected["meta_graphs"].as_array().unwrap();
        // Where there are several, the one that TensorFlow Serving takes.
        let served = graphs.iter().position(|graph| graph["tags"] == json!(["serve"])).unwrap_or(0);
        compare(name, form.read(&Tags::default()), graphs, &graphs[served]);
        for graph in graphs {
            let tags = Tags::new(graph["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()));
            compare(name, form.read(&tags), graphs, graph);
            versions.insert(graph["tensorflow_version"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(texts, 5);
    assert_eq!(versions.into_iter().collect::<Vec<_>>(), ["1.15.5", "1.4.1", "2.0.4", "2.21.0", "2.4.4"]);
}

#[test]
fn names_of_dimensions_are_kept_and_unusual_tensors_are_told() {
    let signature = |name: &str| {
        let signatures = read_model(name).unwrap().contract.signatures.into_iter();
        signatures.into_iter().find(|signature| signature.name == "serving_default").unwrap()
    };
    let names = |field: &Field| match &field.shape {
        Shape::Dimensions(dimensions) => dimensions.iter().map(|dimension| dimension.name.clone()).collect(),
        shape => vec![format!("{shape:?}")],
    };
    let serving = signature("tf1_tensor_infos");
    assert_eq!(names(&serving.inputs[0]), ["batch"]);
    assert_eq!(serving.inputs[1], Field::new("shapeless", DataType::Float, Shape::Any));
    let serving = signature("tf1_text_by_hand");
    assert_eq!(names(&serving.inputs[0]), ["UnknownRank"]);
    assert_eq!(names(&serving.inputs[1]), ["batch", "'"]);
    let sparse = "is a sparse tensor; the contract has the dtype and shape of the dense one that it stands for";
    let expected = [
        "serving_default.inputs.ragged is a composite tensor (RaggedTensorSpec); the contract has its parts as subfields, by position"
            .to_owned(),
        format!("serving_default.inputs.sparse {sparse}"),
        format!("serving_default.outputs.sparse_too {sparse}"),
    ];
    let binary = read_model("tf1_composite").unwrap();
    assert_eq!(binary.warnings, expected);
    assert_eq!(binary, read_model("tf1_text_composite").unwrap());
}

#[test]
fn a_cut_model_is_an_error_and_a_damaged_one_never_a_panic() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for model in models() {
        let name = name(&model);
        let form = Form::of(&model);
        let bytes = form.bytes();
        // Between two meta graphs, and after the last brace of a text, nothing tells that there was more.
        let whole_bytes = if matches!(form, Form::Text(_)) { bytes.trim_ascii_end().len() } else { bytes.len() };
        let several = name == "tf1_many_graphs" || name.ends_with("every_kind");
        for _ in 0..150 {
            let cut = form.with(bytes[..numbers.below(whole_bytes)].to_vec());
            let answer = cut.read(&Tags::default());
            if !several || answer.is_err() {
                let text = one_line(&answer.unwrap_err());
                let placed = text.contains("at byte ") || text.contains(": saved_model.pbtxt:");
                let nothing = text.contains("holds no meta graph") || text.starts_with("the file is ");
                assert!(placed || nothing, "{name}, cut to {}: {text}", cut.bytes().len());
            }
        }
        // Most of a file is the graph; its first and last parts are what is read.
        for round in 0..450 {
            let mut damaged = bytes.to_vec();
            for _ in 0..=round % 4 {
                let near_an_end = numbers.below(1500.min(bytes.len()));
                let at = if numbers.below(3) == 0 { near_an_end } else { bytes.len() - 1 - near_an_end };
                damaged[at] ^= 1 << numbers.below(8);
            }
            match form.with(damaged).read(&Tags::default()) {
                Ok(reading) => reading.contract.validate().unwrap(),
                Err(error) => {
                    let text = one_line(&error);
                    assert!(text.starts_with("the SavedModel") || text.starts_with("the file is "), "{text}");
                }
            }
        }
    }
}

#[test]
fn another_kind_of_file_is_told_with_its_place() {
    let read = |bytes: &[u8]| {
        let binary = Form::Binary(bytes.to_vec()).read(&Tags::default()).unwrap_err();
        let text = Form::Text(bytes.to_vec()).read(&Tags::default()).unwrap_err();
        [binary, text].map(|error| one_line(&error).lines().next().unwrap().to_owned())
    };
    assert_eq!(read(b""), ["the file is empty, not a SavedModel"; 2]);
    assert_eq!(read(b"<!DOCTYPE html>\n<html>"), ["the file is a web page (HTML), not a SavedModel"; 2]);
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1021309\n";
    assert_eq!(read(pointer), ["the file is a Git LFS pointer to a file of 1021309 bytes, not a SavedModel"; 2]);
    let error = Form::Binary(pointer.to_vec()).read(&Tags::default()).unwrap_err();
    assert_eq!(error.remedy().unwrap(), "fetch the file itself with `git lfs pull`");
    assert_eq!(
        read(b"404: Not Found"),
        [
            "the file is text that begins with `404: Not Found`, not a SavedModel",
            "the file is not the text of a SavedModel: saved_model.pbtxt:1:1: expected a field's name, and found `4`"
        ]
    );
    assert_eq!(read(&[0; 64])[0], "the file is not a readable SavedModel: at byte 0: a field with the number 0");
    assert_eq!(read(b"node { name: 'x' }")[1], "the SavedModel holds no meta graph");
    let error = Form::Text(b"meta_graphs {\n  signature_def {\n    key: predict".to_vec()).read(&Tags::default()).unwrap_err();
    assert_eq!(
        one_line(&error),
        "the file is not the text of a SavedModel: saved_model.pbtxt:3:10: expected a string in quotes, and found `p`\n  \
         |\n3 |     key: predict\n  |          ^"
    );
    let text = b"meta_graphs { signature_def { value { inputs { value { dtype: DT_FLAOT".to_vec();
    let error = one_line(&Form::Text(text).read(&Tags::default()).unwrap_err());
    assert!(error.contains("saved_model.pbtxt:1:63: `DT_FLAOT` is no dtype of TensorFlow"), "{error}");
}
