//! Contracts read from ONNX models, judged by ONNX and ONNX Runtime: `tests/models/onnx/` has models that exporters wrote and what the
//! two say of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use lamina::contract::contract::{Contract, Dimension, Field, FieldKind, Shape};
use lamina::contract::dtype::DataType;
use lamina::contract::onnx::{OnnxError, external_files, read};
use lamina::contract::reading::Reading;
use lamina::contract::wire::{Dialect, decode, encode};
use lamina::fault::{Failure, Fault, one_line};
use serde_json::Value;

use super::made_up::{HugeFile, Numbers, Part, message, varint};

/// A model that an exporter wrote, and what was said of it.
struct Model {
    name: String,
    bytes: Vec<u8>,
    expected: Value,
}

fn models() -> Vec<Model> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/onnx");
    let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut models: Vec<Model> = folders
        .map(|folder| Model {
            name: folder.file_name().unwrap().to_str().unwrap().to_owned(),
            bytes: fs::read(folder.join("model.onnx")).unwrap(),
            expected: serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap(),
        })
        .collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(models.len() > 25);
    models
}

fn read_bytes(bytes: &[u8]) -> Result<Reading, OnnxError> {
    read(Cursor::new(bytes), bytes.len() as u64)
}

fn reading(name: &str) -> Reading {
    read_bytes(&models().iter().find(|model| model.name == name).unwrap().bytes).unwrap()
}

/// ONNX's words for element types, and ours.
const DTYPES: [(&str, DataType); 16] = [
    ("FLOAT", DataType::Float),
    ("DOUBLE", DataType::Double),
    ("FLOAT16", DataType::Half),
    ("BFLOAT16", DataType::Bfloat16),
    ("INT8", DataType::Int8),
    ("INT16", DataType::Int16),
    ("INT32", DataType::Int32),
    ("INT64", DataType::Int64),
    ("UINT8", DataType::Uint8),
    ("UINT16", DataType::Uint16),
    ("UINT32", DataType::Uint32),
    ("UINT64", DataType::Uint64),
    ("BOOL", DataType::Bool),
    ("STRING", DataType::String),
    ("COMPLEX64", DataType::Complex64),
    ("COMPLEX128", DataType::Complex128),
];

/// What a contract has for the types that are no tensor.
fn container(onnx_type: &str) -> (DataType, Shape) {
    match onnx_type {
        "sequence(tensor(INT64))" | "optional(sequence(tensor(INT64)))" => (DataType::Int64, Shape::Any),
        "sequence(optional(tensor(FLOAT)))" => (DataType::Float, Shape::Any),
        "sequence(sequence(tensor(STRING)))" => (DataType::String, Shape::Any),
        "map(STRING,tensor(FLOAT))" | "map(INT64,sequence(tensor(FLOAT)))" => (DataType::Map, Shape::scalar()),
        "sequence(map(INT64,tensor(FLOAT)))" | "sequence(map(STRING,tensor(FLOAT)))" | "optional(sequence(map(STRING,tensor(FLOAT))))" => {
            (DataType::Map, Shape::of(&[-1]))
        }
        "sequence(sequence(map(STRING,tensor(FLOAT))))" => (DataType::Map, Shape::Any),
        other => panic!("nothing is expected of {other}"),
    }
}

/// A shape as ONNX and ONNX Runtime have it: numbers, names, and null for what has neither.
fn shape(said: &Value) -> Shape {
    let Some(sizes) = said.as_array() else { return Shape::Any };
    let dimension =
        |size: &Value| Dimension { size: size.as_i64().unwrap_or(-1).max(-1), name: size.as_str().unwrap_or_default().to_owned() };
    Shape::Dimensions(sizes.iter().map(dimension).collect())
}

fn expected_field(field: &Value) -> Field {
    let (name, onnx_type) = (field["name"].as_str().unwrap(), field["type"].as_str().unwrap());
    let plain = onnx_type.trim_start_matches("optional(").trim_start_matches("sparse_").trim_end_matches(')').strip_prefix("tensor(");
    let (dtype, shape) = match plain {
        Some(element) => (DTYPES.iter().find(|(onnx, _)| *onnx == element).unwrap().1, shape(&field["shape"])),
        None => container(onnx_type),
    };
    Field::new(name, dtype, shape)
}

/// The error that is expected of a model; `None` where it has a contract.
fn expected_error(name: &str) -> Option<&'static str> {
    Some(match name {
        "dtypes_no_contract_has" => "the field infer.inputs.float8e4m3fn has the type tensor(float8e4m3fn), which a contract cannot hold",
        "opaque" => "the field infer.inputs.x has the type opaque(com.example,handle), which a contract cannot hold",
        "untyped_output" => "the field infer.outputs.x_out has no type",
        _ => return None,
    })
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

#[test]
fn every_contract_is_what_onnx_says() {
    for Model { name, bytes, expected } in models() {
        let reading = match (expected_error(&name), read_bytes(&bytes)) {
            (Some(text), error) => {
                assert_eq!(error.unwrap_err().to_string(), text);
                continue;
            }
            (None, reading) => reading.unwrap(),
        };
        let weights = array(&expected["initializers"]);
        let inputs = array(&expected["inputs"]).iter().filter(|input| !weights.contains(&input["name"]));
        let [signature] = reading.contract.signatures.as_slice() else { panic!("{name} has more than one signature") };
        assert_eq!(signature.name, "infer");
        assert_eq!(signature.inputs, inputs.map(expected_field).collect::<Vec<_>>(), "{name}");
        assert_eq!(signature.outputs, array(&expected["outputs"]).iter().map(expected_field).collect::<Vec<_>>(), "{name}");
        let encoded = encode(&reading.contract, Dialect::V1).unwrap();
        assert_eq!(decode(&encoded.bytes, None).unwrap(), (reading.contract, Dialect::V1), "{name}");
    }
}

#[test]
fn every_contract_is_what_onnx_runtime_serves() {
    let mut refused = Vec::new();
    for Model { name, bytes, expected } in models() {
        let runtime = &expected["onnxruntime"];
        if runtime["refused"].is_string() {
            refused.push(name);
            continue;
        }
        if expected_error(&name).is_some() {
            // ONNX Runtime infers types; a reader that executes nothing cannot.
            assert_eq!(name, "untyped_output");
            continue;
        }
        let reading = read_bytes(&bytes).unwrap();
        let signature = &reading.contract.signatures[0];
        for (side, fields) in [("inputs", &signature.inputs), ("outputs", &signature.outputs)] {
            let names = |field: &Value| field["name"].as_str().unwrap().to_owned();
            let served: Vec<String> = array(&runtime[side]).iter().map(names).collect();
            assert_eq!(fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>(), served, "{name}");
            for (field, served) in fields.iter().zip(array(&runtime[side])) {
                let served_type = served["type"].as_str().unwrap();
                let place = format!("infer.{side}.{}", field.name);
                let Some(element) = served_type.strip_prefix("tensor(") else {
                    let sentence = format!("{place} is {served_type}; ");
                    assert!(reading.warnings.iter().any(|warning| warning.starts_with(&sentence)), "{name}: {:?}", reading.warnings);
                    continue;
                };
                let dtype = DTYPES.iter().find(|(onnx, _)| onnx.to_lowercase() == element.trim_end_matches(')')).unwrap().1;
                assert_eq!(field.kind, FieldKind::Dtype(dtype), "{name}: {place}");
                // It says the same of a scalar and of a tensor without a shape.
                let known = if field.shape == Shape::Any { Shape::scalar() } else { field.shape.clone() };
                assert_eq!(known, shape(&served["shape"]), "{name}: {place}");
            }
        }
    }
    assert_eq!(refused, ["containers_in_containers", "dtypes_complex", "dtypes_no_contract_has", "opaque"]);
}

#[test]
fn the_model_type_names_the_producer() {
    for Model { name, bytes, expected } in models().into_iter().filter(|model| expected_error(&model.name).is_none()) {
        let said = |part: &str| Some(expected[part].as_str().unwrap()).filter(|part| !part.is_empty()).unwrap_or("unknown");
        let expected = match name.as_str() {
            "producer_with_blank" => "onnx:tf2onnx:1.9.3-1190aa".to_owned(),
            "producer_with_colon" => "onnx:ACME-export:gr-e-2".to_owned(),
            "producer_unknown" => "onnx:unknown:unknown".to_owned(),
            "from_2018_caffe2" => "onnx:onnx-caffe2:unknown".to_owned(),
            _ => format!("onnx:{}:{}", said("producer_name"), said("producer_version")),
        };
        assert_eq!(read_bytes(&bytes).unwrap().model_type, expected, "{name}");
    }
}

#[test]
fn the_files_beside_a_model_are_told() {
    for Model { name, bytes, expected } in models() {
        let files = external_files(Cursor::new(&bytes), bytes.len() as u64).unwrap();
        let expected: BTreeSet<String> = array(&expected["external_files"]).iter().map(|file| file.as_str().unwrap().to_owned()).collect();
        assert_eq!(files, expected, "{name}");
        assert_eq!(files.is_empty(), name != "external_data", "{name}");
    }
    // A tensor that was moved back inside may still say where it lay.
    let lay = message(13, &[message(2, b"w.bin"), message(1, b"location")].concat());
    let files = |tensor: &[u8]| {
        let model = message(7, &message(5, tensor));
        external_files(Cursor::new(&model), model.len() as u64).unwrap()
    };
    assert_eq!(files(&lay), BTreeSet::new());
    assert_eq!(files(&[lay, vec![14 << 3, 1]].concat()), BTreeSet::from(["w.bin".to_owned()]));
}

#[test]
fn what_a_contract_leaves_open_is_told() {
    let maps = "infer.outputs.output_probability is seq(map(int64,tensor(float))); the contract has DT_MAP without the keys, which only \
                the data have (numbers there, text in DT_MAP)";
    assert_eq!(reading("sklearn_zipmap_numbers").warnings, [maps]);
    let maps = "infer.outputs.output_probability is seq(map(string,tensor(float))); the contract has DT_MAP without the keys, which only \
                the data have";
    assert_eq!(reading("sklearn_zipmap_text").warnings, [maps]);
    let none = "has a dimension of length 0, so that it can hold no values";
    assert_eq!(reading("shapes").warnings, [format!("infer.inputs.zero {none}"), format!("infer.outputs.zero_out {none}")]);
    for name in ["sklearn_no_zipmap", "dtypes", "names", "opset_newest", "from_2018_pytorch", "producer_with_colon"] {
        assert_eq!(reading(name).warnings, Vec::<String>::new(), "{name}");
    }
}

/// A value of the graph with a tensor of one type and no dimensions.
fn value(name: &str, element_type: u8) -> Vec<u8> {
    let tensor = [&[0x08, element_type][..], &message(2, b"")].concat();
    [message(1, name.as_bytes()), message(2, &message(1, &tensor))].concat()
}

#[test]
fn every_type_that_no_contract_has_is_named() {
    let models = models();
    let later = models.iter().find(|model| model.name == "dtypes_no_contract_has").unwrap();
    for (number, input) in (17..).zip(array(&later.expected["inputs"])) {
        let error = read_bytes(&message(7, &message(12, &value("y", number)))).unwrap_err();
        let onnx_type = input["type"].as_str().unwrap().to_lowercase();
        assert_eq!(error.to_string(), format!("the field infer.outputs.y has the type {onnx_type}, which a contract cannot hold"));
    }
    let error = read_bytes(&message(7, &message(12, &value("y", 100)))).unwrap_err();
    assert!(error.to_string().contains("tensor(element type 100)"), "{error}");
}

#[test]
fn what_is_no_valid_contract_is_refused_with_its_place() {
    let graph = |fields: &[Vec<u8>]| one_line(&read_bytes(&message(7, &fields.concat())).unwrap_err());
    let invalid = "the contract in the ONNX model is not valid: the contract";
    assert_eq!(graph(&[]), format!("{invalid}'s signature infer has neither inputs nor outputs"));
    assert_eq!(graph(&[message(12, &value("", 1))]), format!("{invalid} has no name at infer.outputs[0]"));
    // A weight without a name does not make an input without one a weight.
    assert_eq!(graph(&[message(5, &message(8, b"")), message(11, &value("", 1))]), format!("{invalid} has no name at infer.inputs[0]"));
    assert_eq!(graph(&[message(12, &value("y", 1)), message(12, &value("y", 7))]), format!("{invalid} has infer.outputs.y twice"));
    assert!(graph(&[message(11, &value("a\nb", 1))]).starts_with(&format!("{invalid} has a name with a control character in it")));
    let weights_only = [message(5, &message(8, b"w")), message(11, &value("w", 1))];
    assert_eq!(graph(&weights_only), format!("{invalid}'s signature infer has neither inputs nor outputs"));
}

#[test]
fn another_kind_of_file_is_called_what_it_is() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 102130968\n";
    for (bytes, text, remedy) in [
        (&b""[..], "the file is empty, not an ONNX model", "save the model again, or download the file itself"),
        (
            pointer,
            "the file is a Git LFS pointer to a file of 102130968 bytes, not an ONNX model",
            "fetch the file itself with `git lfs pull`",
        ),
        (b"<!DOCTYPE html><html>", "the file is a web page (HTML), not an ONNX model", "save the model again, or download the file itself"),
        (b"PK\x03\x04\x14\0\0\0\x08\0", "the file is a zip archive, not an ONNX model", "unpack it, and give what is in it"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "the file is an HDF5 file, not an ONNX model", "save the model again, or copy it again in full"),
        (
            b"ir_version: 7\ngraph {\n}\n",
            "the file is text that begins with `ir_version: 7`, not an ONNX model",
            "save the model again, or download the file itself",
        ),
        (
            &[0; 100],
            "the file is not a readable ONNX model (a protobuf ModelProto): at byte 0: a field with the number 0",
            "save the model again, or copy it again in full",
        ),
        (b"\x08\x07", "the file holds no graph, so it is not an ONNX model", "save the model again, or copy it again in full"),
    ] {
        let error = read_bytes(bytes).unwrap_err();
        assert_eq!(one_line(&error), text);
        assert_eq!((error.fault(), error.remedy().as_deref()), (Fault::Invalid, Some(remedy)));
    }
}

#[test]
fn a_model_that_was_cut_anywhere_is_an_error_or_whole_in_what_is_read() {
    for Model { name, bytes, .. } in models().into_iter().filter(|model| expected_error(&model.name).is_none()) {
        let whole = read_bytes(&bytes).unwrap();
        for size_bytes in 0..bytes.len() {
            match read_bytes(&bytes[..size_bytes]) {
                // Metadata, functions and training come after all that is read.
                Ok(reading) => assert_eq!(reading, whole, "{name}, cut to {size_bytes}"),
                Err(error) => {
                    let text = one_line(&error);
                    let expected = ["at byte ", "holds no graph", "names no operator set", "is empty"];
                    assert!(expected.iter().any(|part| text.contains(part)), "{name}, cut to {size_bytes}: {text}");
                }
            }
        }
        assert!(read_bytes(&bytes[..bytes.len() - 1]).is_err(), "{name}");
    }
}

#[test]
fn a_damaged_model_is_never_a_panic() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for Model { name, bytes, .. } in models() {
        for round in 0..600 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 4 {
                damaged[numbers.below(bytes.len())] ^= 1 << numbers.below(8);
            }
            match read_bytes(&damaged) {
                Ok(reading) => reading.contract.validate().unwrap(),
                Err(error) => assert!(one_line(&error).starts_with("the "), "{name}: {error}"),
            }
        }
    }
}

/// The parts of a model of IR version 3 with these weights, each of them also an input, and one input and output beside them.
fn model_of_weights(names: &[String], weight_bytes: u64) -> HugeFile {
    let mut graph = Vec::new();
    for (index, name) in names.iter().enumerate() {
        // Its name before the values, as official writers have it, and of every second one behind.
        let name_first = index % 2 == 0;
        let name = message(8, name.as_bytes());
        let values = [&[9 << 3 | 2], varint(weight_bytes).as_slice()].concat();
        let size_bytes = (name.len() + values.len()) as u64 + weight_bytes;
        let before = if name_first { name.clone() } else { Vec::new() };
        let head = [vec![5 << 3 | 2], varint(size_bytes), before, values].concat();
        graph.extend([Part::Bytes(head), Part::Hole(weight_bytes)]);
        graph.extend((!name_first).then_some(Part::Bytes(name)));
    }
    let inputs = names.iter().map(|name| message(11, &value(name, 1)));
    let tail = inputs.chain([message(11, &value("x", 1)), message(12, &value("y", 11))]);
    graph.push(Part::Bytes(tail.collect::<Vec<_>>().concat()));
    let size_bytes: u64 = graph.iter().map(Part::size_bytes).sum();
    let head = [&[0x08, 3, 7 << 3 | 2], varint(size_bytes).as_slice()].concat();
    let operator_sets = message(8, &[0x10, 7]);
    HugeFile::new([vec![Part::Bytes(head)], graph, vec![Part::Bytes(operator_sets)]].into_iter().flatten().collect())
}

#[track_caller]
fn reads_x_and_y(file: &mut HugeFile, read_bytes_max: u64) {
    let size_bytes = file.size_bytes();
    let signature = read(&mut *file, size_bytes).unwrap().contract.signatures.remove(0);
    assert_eq!(signature.inputs, [Field::new("x", DataType::Float, Shape::scalar())]);
    assert_eq!(signature.outputs, [Field::new("y", DataType::Double, Shape::scalar())]);
    assert!(file.read_bytes <= read_bytes_max, "{} bytes were read", file.read_bytes);
}

#[test]
fn weights_are_stepped_over_whatever_their_size() {
    reads_x_and_y(&mut model_of_weights(&["w".to_owned()], 3 << 30), 4 << 10);
    let names: Vec<String> = (0..1000).map(|number| format!("encoder.layer.{number}.attention.weight")).collect();
    // 3 GB; half a KiB for a jump, and the list of inputs.
    reads_x_and_y(&mut model_of_weights(&names, 3 << 20), 1000 * 512 + (128 << 10));
}

#[test]
fn a_graph_of_a_hundred_thousand_nodes_is_read() {
    let node = message(1, &[message(1, &[b'a'; 30]), message(2, &[b'b'; 30]), message(4, b"Identity")].concat());
    let graph = [node.repeat(100_000), message(12, &value("y", 1))].concat();
    let reading = read_bytes(&message(7, &graph)).unwrap();
    assert_eq!(reading.contract.signatures[0].outputs, [Field::new("y", DataType::Float, Shape::scalar())]);
    let text = one_line(&read_bytes(&message(7, &message(11, b"").repeat(1 << 20))).unwrap_err());
    assert!(text.ends_with(": more than 1048576 protobuf fields"), "{text}");
}

#[test]
fn types_in_types_have_a_limit() {
    let deep = |levels: usize| {
        let element = message(1, &[0x08, 1]);
        let nested = (0..levels).fold(element, |inner, _| message(4, &message(1, &inner)));
        read_bytes(&message(7, &message(12, &[message(1, b"y"), message(2, &nested)].concat())))
    };
    let contract: Contract = deep(16).unwrap().contract;
    assert_eq!(contract.signatures[0].outputs, [Field::new("y", DataType::Float, Shape::Any)]);
    let text = one_line(&deep(17).unwrap_err());
    assert!(text.ends_with(": types are nested too deep"), "{text}");
    assert!(deep(20_000).is_err());
}
