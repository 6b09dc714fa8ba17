//! Contracts read from SavedModels, judged by TensorFlow: `tests/models/saved_model/` has models that it wrote and what its own reader says.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use lamina::contract::contract::{Contract, Field, Shape};
use lamina::contract::dtype::DataType;
use lamina::contract::reading::Reading;
use lamina::contract::saved_model::read;
use lamina::contract::saved_model_meta::{SavedModelError, Tags};
use lamina::contract::wire::{Dialect, decode, encode};
use lamina::fault::one_line;
use serde_json::{Value, json};

use super::made_up::{HugeFile, Numbers, Part, message, varint};

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

fn read_bytes(bytes: &[u8]) -> Result<Reading, SavedModelError> {
    read(Cursor::new(bytes), bytes.len() as u64, &Tags::default())
}

/// The binary models with their names; the text form is another reader's.
fn binaries() -> Vec<(String, Vec<u8>)> {
    let mut binaries = Vec::new();
    for model in models() {
        match fs::read(model.join("saved_model/saved_model.pb")) {
            Ok(bytes) => binaries.push((name(&model).to_owned(), bytes)),
            Err(_) => assert!(model.join("saved_model/saved_model.pbtxt").is_file(), "{} holds no model", model.display()),
        }
    }
    assert!(!binaries.is_empty());
    binaries
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
                dimensions.iter_mut().for_each(|dimension| dimension.name.clear());
            }
        }
    }
    contract
}

#[test]
fn every_contract_is_what_tensorflow_says() {
    for model in models() {
        let name = name(&model);
        let Ok(bytes) = fs::read(model.join("saved_model/saved_model.pb")) else {
            continue;
        };
        let expected: Value = serde_json::from_slice(&fs::read(model.join("expected.json")).unwrap()).unwrap();
        let graphs = expected["meta_graphs"].as_array().unwrap();
        // Where there are several, the one that TensorFlow Serving takes.
        let served = graphs.iter().position(|graph| graph["tags"] == json!(["serve"])).unwrap_or(0);
        let reading = match (name, read_bytes(&bytes)) {
            ("dtypes_after_2018", Err(error)) => {
                let first = &graphs[served]["signatures"][1]["inputs"][0];
                let (field, dtype) = (first["name"].as_str().unwrap(), first["dtype"].as_str().unwrap());
                let text = error.to_string();
                assert!(
                    text.starts_with(&format!("saved_model.pb: the field serving_default.inputs.{field} has the dtype {dtype} (")),
                    "{text}"
                );
                continue;
            }
            ("no_signatures", Err(error)) => {
                assert_eq!(error.to_string(), "saved_model.pb holds no signature (its meta graphs are tagged {serve})");
                continue;
            }
            (_, reading) => reading.unwrap(),
        };
        let version = graphs[0]["tensorflow_version"].as_str().unwrap();
        assert_eq!(reading.model_type, format!("tensorflow:{version}"), "{name}");
        let read = serde_json::to_value(unnamed(reading.contract.clone()).signatures).unwrap();
        assert_eq!(read, json!(expected_signatures(&graphs[served])), "{name}");
        assert_eq!(reading.warnings.is_empty(), name != "tf1_composite", "{name}: {:?}", reading.warnings);
        let encoded = encode(&reading.contract, Dialect::V1).unwrap();
        assert_eq!(decode(&encoded.bytes, None).unwrap(), (reading.contract, Dialect::V1), "{name}");
    }
}

#[test]
fn names_of_dimensions_are_kept_and_unusual_tensors_are_told() {
    let models = binaries();
    let reading = |name: &str| read_bytes(&models.iter().find(|model| model.0 == name).unwrap().1).unwrap();
    let infos = reading("tf1_tensor_infos").contract;
    let serving = infos.signatures.iter().find(|signature| signature.name == "serving_default").unwrap();
    assert!(matches!(&serving.inputs[0].shape, Shape::Dimensions(dimensions) if dimensions[0].name == "batch"));
    assert_eq!(serving.inputs[1], Field::new("shapeless", DataType::Float, Shape::Any));
    let sparse = "is a sparse tensor; the contract has the dtype and shape of the dense one that it stands for";
    let expected = [
        "serving_default.inputs.ragged is a composite tensor (RaggedTensorSpec); the contract has its parts as subfields, by position"
            .to_owned(),
        format!("serving_default.inputs.sparse {sparse}"),
        format!("serving_default.outputs.sparse_too {sparse}"),
    ];
    assert_eq!(reading("tf1_composite").warnings, expected);
}

#[test]
fn a_cut_model_is_an_error_and_a_damaged_one_never_a_panic() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for (name, bytes) in binaries() {
        for _ in 0..150 {
            let cut = &bytes[..numbers.below(bytes.len())];
            let answer = read_bytes(cut);
            // Between two meta graphs nothing tells that there was a third.
            if name != "tf1_many_graphs" || answer.is_err() {
                let text = one_line(&answer.unwrap_err());
                assert!(text.contains("at byte ") || text.contains("holds no meta graph"), "{name}, cut to {}: {text}", cut.len());
            }
        }
        // Most of a file is the graph; its first and last parts are what is read.
        for round in 0..450 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 4 {
                let near_an_end = numbers.below(1500.min(bytes.len()));
                let at = if numbers.below(3) == 0 { near_an_end } else { bytes.len() - 1 - near_an_end };
                damaged[at] ^= 1 << numbers.below(8);
            }
            match read_bytes(&damaged) {
                Ok(reading) => reading.contract.validate().unwrap(),
                Err(error) => {
                    assert!(one_line(&error).starts_with("saved_model.pb") || one_line(&error).starts_with("the contract in"), "{error}")
                }
            }
        }
    }
}

/// A meta graph with these tags, and one signature with one output of a type.
fn meta_graph(tags: &[&str], signature: &str, dtype: u8) -> Vec<u8> {
    let tags: Vec<u8> = tags.iter().flat_map(|tag| message(4, tag.as_bytes())).collect();
    let output = [message(1, b"y"), message(2, &[&[0x10, dtype][..], &message(3, b"")].concat())].concat();
    let entry = [message(1, signature.as_bytes()), message(2, &message(2, &output))].concat();
    [message(1, &tags), message(5, &entry)].concat()
}

#[test]
fn a_graph_of_eight_gib_is_stepped_over() {
    let after = meta_graph(&["serve"], "predict", 1);
    let hole_bytes = 8_u64 << 30;
    let graph = [&[0x12][..], &varint(hole_bytes)].concat();
    let head = [&[0x12][..], &varint(graph.len() as u64 + hole_bytes + after.len() as u64), &graph].concat();
    let mut file = HugeFile::new(vec![Part::Bytes(head), Part::Hole(hole_bytes), Part::Bytes(after)]);
    let size_bytes = file.size_bytes();
    let reading = read(&mut file, size_bytes, &Tags::default()).unwrap();
    assert_eq!(reading.contract.signatures[0].outputs, [Field::new("y", DataType::Float, Shape::scalar())]);
    assert_eq!(reading.model_type, "tensorflow:unknown");
    assert!(file.read_bytes < 64 << 10, "{} bytes", file.read_bytes);
}

#[test]
fn among_meta_graphs_the_one_that_is_served_is_read() {
    let signatures = |graphs: &[Vec<u8>]| {
        let file: Vec<u8> = graphs.iter().flat_map(|graph| message(2, graph)).collect();
        let signatures = read_bytes(&file)?.contract.signatures.into_iter();
        Ok::<Vec<_>, SavedModelError>(signatures.map(|signature| (signature.name, signature.outputs[0].kind.clone())).collect())
    };
    let is = |name: &str, dtype| (name.to_owned(), lamina::contract::contract::FieldKind::Dtype(dtype));
    let train = meta_graph(&["train"], "f", 2);
    let serve = meta_graph(&["serve"], "f", 1);
    let gpu = meta_graph(&["serve", "gpu"], "f", 9);
    assert_eq!(signatures(&[train.clone(), gpu.clone(), serve.clone()]).unwrap(), [is("f", DataType::Float)]);
    assert_eq!(signatures(&[train.clone(), gpu.clone()]).unwrap(), [is("f", DataType::Int64)]);
    // A type that no contract has matters only where it is served.
    assert_eq!(signatures(&[meta_graph(&["train"], "f", 24), serve]).unwrap(), [is("f", DataType::Float)]);
    let other = meta_graph(&["other"], "g", 3);
    assert_eq!(signatures(&[train.clone(), other, train.clone()]).unwrap(), [is("f", DataType::Double), is("g", DataType::Int32)]);
    let error = signatures(&[train, meta_graph(&["b", "a"], "f", 1)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "saved_model.pb holds different signatures `f` in meta graphs tagged {train}, {a, b}, and none tagged `serve` alone"
    );
    assert!(matches!(signatures(&[]), Err(SavedModelError::NoMetaGraph)));
    assert!(matches!(signatures(&[meta_graph(&["serve"], "", 1)]), Err(SavedModelError::Invalid(_))));
    assert!(matches!(signatures(&[meta_graph(&["serve"], "f", 0)]), Err(SavedModelError::Dtype { .. })));
}

#[test]
fn a_model_that_only_grows_in_memory_is_refused() {
    let names: Vec<u8> = (0..20_u32).flat_map(|_| message(4, &vec![b'x'; 1 << 20])).collect();
    let text = one_line(&read_bytes(&message(2, &message(1, &names))).unwrap_err());
    assert!(text.contains("more than 16777216 bytes of names"), "{text}");
    let composite = (0..100).fold(vec![0x10, 1], |inner, _| message(5, &message(2, &inner)));
    let entry = [message(1, b"x"), message(2, &composite)].concat();
    let signature = [message(1, b"f"), message(2, &message(1, &entry))].concat();
    let text = one_line(&read_bytes(&message(2, &message(5, &signature))).unwrap_err());
    assert!(text.contains("composite tensors are nested too deep"), "{text}");
}
