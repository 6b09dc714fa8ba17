//! Contracts read from Keras models, judged by Keras: `tests/models/keras/` has files and configs that Keras 1.2, 2.2, 2.15 and 3.15 wrote,
//! and what each says of its own.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use lamina::contract::contract::{Field, FieldKind, Shape};
use lamina::contract::dtype::DataType;
use lamina::contract::keras::{KerasError, read_archive, read_h5, read_json};
use lamina::contract::reading::Reading;
use lamina::contract::wire::{Dialect, decode, encode};
use lamina::fault::Failure;
use serde_json::{Value, json};

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/keras")
}

/// The name of each model, its file's bytes, and whether it is an archive.
pub fn files() -> Vec<(String, Vec<u8>, bool)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().join("expected.json").is_file()) {
        let name = entry.file_name().to_str().unwrap().to_owned();
        let archive = name.ends_with("_keras");
        let file = entry.path().join(if archive { "model.keras" } else { "model.h5" });
        files.push((name, fs::read(file).unwrap(), archive));
    }
    files.sort();
    assert!(files.len() >= 15, "{} models", files.len());
    files
}

pub fn read(bytes: &[u8], archive: bool) -> Result<Reading, KerasError> {
    let source = Cursor::new(bytes.to_vec());
    if archive { read_archive(source) } else { read_h5(source, bytes.len() as u64) }
}

/// Keras repeats the names of a layer's outputs in versions 1 and 3, where version 2 numbers them as we do.
fn numbered(mut fields: Value) -> Value {
    let mut taken: Vec<String> = Vec::new();
    for field in fields.as_array_mut().unwrap() {
        let name = field["name"].as_str().unwrap().to_owned();
        let count = taken.iter().filter(|known| **known == name).count();
        field["name"] = if count == 0 { json!(name) } else { json!(format!("{name}_{count}")) };
        field["profile"] = json!("NONE");
        taken.push(name);
    }
    fields
}

#[track_caller]
fn is_expected(reading: &Reading, expected: &Value, name: &str) {
    let signatures = serde_json::to_value(&reading.contract.signatures).unwrap();
    let (inputs, outputs) = (numbered(expected["inputs"].clone()), numbered(expected["outputs"].clone()));
    assert_eq!(signatures, json!([{"name": "infer", "inputs": inputs, "outputs": outputs}]), "{name}");
    let encoded = encode(&reading.contract, Dialect::V1).unwrap();
    assert_eq!(decode(&encoded.bytes, None).unwrap(), (reading.contract.clone(), Dialect::V1), "{name}");
}

#[test]
fn every_file_has_the_contract_that_keras_says() {
    for (name, bytes, archive) in files() {
        let expected: Value = serde_json::from_slice(&fs::read(folder().join(&name).join("expected.json")).unwrap()).unwrap();
        let reading = read(&bytes, archive).unwrap();
        assert_eq!(reading.model_type, format!("keras:{}", expected["keras_version"].as_str().unwrap()), "{name}");
        if !name.contains("custom") {
            is_expected(&reading, &expected, &name);
            assert_eq!(reading.warnings, [""; 0], "{name}");
        }
    }
}

/// What Keras 3 reports and does not give: the scores of an attention whose value is longer than its query.
const MISREPORTED: [(&str, usize, [i64; 4]); 1] = [("multi_head_attention_scores", 1, [-1, 2, 5, 6])];

#[test]
fn every_layer_has_the_shape_and_dtype_that_keras_says() {
    let mut seen = 0;
    for era in ["1", "2_2", "2", "3"] {
        let lines = fs::read_to_string(folder().join(format!("zoo_keras_{era}.jsonl"))).unwrap();
        for line in lines.lines() {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let name = format!("{era}: {}", line["name"].as_str().unwrap());
            for (misreported, output, dims) in MISREPORTED {
                if name == format!("3: {misreported}") {
                    line["expected"]["outputs"][output]["shape"]["dims"] = json!(dims);
                }
            }
            seen += 1;
            let reading = read_json(line["config"].to_string().as_bytes()).unwrap();
            is_expected(&reading, &line["expected"], &name);
            assert_eq!(reading.warnings, [""; 0], "{name}");
        }
    }
    assert!(seen > 400, "{seen} models");
}

#[test]
fn what_only_code_knows_is_any_shape_with_a_warning() {
    let any = |output: &str, dtype: &str, layer: &str| {
        format!("infer.outputs.{output} has any shape and {dtype}: what the layer {layer} gives is not in the model's config")
    };
    let unknown = |output: &str, layer: &str| any(output, "the dtype in which its layer computes", layer);
    let untyped = |output: &str, layer: &str| any(output, "Keras' default dtype, float32", layer);
    let warnings = |name: &str| {
        let (_, bytes, archive) = files().into_iter().find(|(file, ..)| file == name).unwrap();
        let reading = read(&bytes, archive).unwrap();
        let outputs = &reading.contract.signatures[0].outputs;
        assert!(outputs.iter().all(|output| output.kind == FieldKind::Dtype(DataType::Float)), "{name}");
        let any = outputs.iter().filter(|output| output.shape == Shape::Any).count();
        assert_eq!(any, reading.warnings.len(), "{name}");
        (reading.warnings, outputs[2].shape.clone())
    };
    let doubled = || unknown("doubled", "`doubled` (Lambda)");
    // Keras 3 states the shape of a tensor where it is used: what follows a custom layer is known.
    assert_eq!(warnings("keras_3_custom_keras"), (vec![doubled(), unknown("alone", "`alone` (Custom)")], Shape::of(&[-1, 2])));
    assert_eq!(warnings("keras_2_custom_h5"), (vec![doubled()], Shape::of(&[-1, 2])));
    // The mean has a shape, as another operation states it; nothing states what argmax gives.
    let operations = vec![untyped("argmax", "`argmax` (Argmax)")];
    for file in ["keras_3_custom_operations_h5", "keras_3_custom_operations_keras"] {
        assert_eq!(warnings(file), (operations.clone(), Shape::of(&[-1, 2, 1])), "{file}");
    }
}

fn other(name: &str) -> Vec<u8> {
    fs::read(folder().join("other").join(name)).unwrap()
}

#[test]
fn every_form_of_the_attributes_is_read() {
    let mut forms: Vec<String> = ["dense.h5", "behind_a_user_block.h5"].map(str::to_owned).to_vec();
    for version in ["earliest", "v108", "v110", "latest"] {
        forms.extend(["text", "bytes", "opaque"].map(|form| format!("{version}_{form}.h5")));
    }
    for form in forms {
        let reading = read(&other(&form), false).unwrap();
        assert_eq!(reading.model_type, "keras:2.9.0", "{form}");
        assert_eq!(reading.contract.signatures[0].inputs[0], Field::new("d_input", DataType::Float, Shape::of(&[-1, 4])), "{form}");
        assert_eq!(reading.contract.signatures[0].outputs[0], Field::new("d", DataType::Float, Shape::of(&[-1, 2])), "{form}");
    }
    // Real ones past the 64 KiB of an object header's message.
    for (name, bytes, _) in files().into_iter().filter(|(name, ..)| name.contains("deep")) {
        assert!(bytes.len() > 100_000 && read(&bytes, false).is_ok(), "{name}");
    }
}

#[test]
fn other_files_are_told_what_they_are() {
    for weights in ["weights_keras_2_2.h5", "weights_keras_2.weights.h5", "weights_keras_3.weights.h5"] {
        let error = read(&fs::read(folder().join(weights)).unwrap(), false).unwrap_err();
        let text = "the HDF5 file has the weights of a Keras model, and not the model: it has no attribute `model_config`";
        assert_eq!(error.to_string(), text, "{weights}");
        assert_eq!(error.remedy().unwrap(), "save the whole model with `model.save(…)`, or add a contract.prototxt");
    }
    let text = |bytes: &[u8], archive| read(bytes, archive).unwrap_err().to_string();
    assert_eq!(text(&other("pytables.h5"), false), "the HDF5 file is a PyTables (pandas) file: it has no attribute `model_config`");
    assert_eq!(text(&other("netcdf.h5"), false), "the HDF5 file is a netCDF file: it has no attribute `model_config`");
    assert_eq!(text(&other("plain.h5"), false), "the HDF5 file is no Keras model: it has no attribute `model_config`");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    assert_eq!(text(pointer, false), "the Keras model is not an HDF5 file");
    assert_eq!(text(b"", false), "the Keras model is not an HDF5 file");
    assert_eq!(text(pointer, true), "the Keras model is not a readable zip archive");
    assert_eq!(text(b"", true), "the Keras model is not a readable zip archive");
}
