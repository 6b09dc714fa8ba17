//! Keras models from strangers: damaged, cut, made to be large, deep, round or slow. Each has an end, an error in words, and no panic.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lamina::contract::contract::{Field, Shape};
use lamina::contract::dtype::DataType;
use lamina::contract::keras::{KerasError, read_archive, read_h5, read_json};
use lamina::fault::{Failure, Fault, one_line};
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::keras_models::{files, folder, read};

/// A file with a hole of zeros between two parts, and a count of the bytes that were read.
struct Sparse {
    head: Vec<u8>,
    tail: Vec<u8>,
    size_bytes: u64,
    position: u64,
    read_bytes: Arc<AtomicU64>,
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let tail_at = self.size_bytes - self.tail.len() as u64;
        let count = buffer.len().min((self.size_bytes - self.position.min(self.size_bytes)) as usize);
        for (at, byte) in (self.position..).zip(&mut buffer[..count]) {
            *byte = match at.checked_sub(tail_at) {
                Some(at) => self.tail[at as usize],
                None => self.head.get(at as usize).copied().unwrap_or(0),
            };
        }
        self.position += count as u64;
        self.read_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.size_bytes.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

fn counted(head: Vec<u8>, tail: Vec<u8>, size_bytes: u64) -> (Sparse, Arc<AtomicU64>) {
    let read_bytes = Arc::new(AtomicU64::new(0));
    (Sparse { head, tail, size_bytes, position: 0, read_bytes: read_bytes.clone() }, read_bytes)
}

#[test]
fn weights_of_six_gib_are_not_read() {
    let part = |name: &str| std::fs::read(folder().join("other").join(name)).unwrap();
    let size_bytes = serde_json::from_slice::<Value>(&part("large.json")).unwrap()["size_bytes"].as_u64().unwrap();
    assert!(size_bytes > 6 << 30);
    let (source, read_bytes) = counted(part("large.head"), part("large.tail"), size_bytes);
    let reading = read_h5(source, size_bytes).unwrap();
    assert_eq!(reading.contract.signatures[0].outputs, [Field::new("d", DataType::Float, Shape::of(&[-1, 2]))]);
    let read_bytes = read_bytes.load(Ordering::Relaxed);
    assert!(read_bytes < 64 << 10, "{read_bytes} bytes");
}

#[test]
fn real_files_cost_their_description() {
    for (name, bytes, archive) in files() {
        let size_bytes = bytes.len() as u64;
        let (source, read_bytes) = counted(bytes, Vec::new(), size_bytes);
        let reading = if archive { read_archive(source) } else { read_h5(source, size_bytes) };
        reading.unwrap();
        let read_bytes = read_bytes.load(Ordering::Relaxed);
        let config_bytes = if name.contains("deep") { 200 << 10 } else { 24 << 10 };
        assert!(read_bytes < config_bytes, "{name}: {read_bytes} of {size_bytes} bytes");
    }
}

/// Marsaglia's xorshift: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn a_cut_or_damaged_model_is_never_a_panic() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for (name, bytes, archive) in files() {
        let rounds = if bytes.len() > 100_000 { 60 } else { 200 };
        for round in 0..rounds {
            let mut damaged = bytes.clone();
            if round % 4 == 0 {
                damaged.truncate(numbers.below(bytes.len()));
            }
            for _ in 0..round % 4 {
                // Structures are at the start of an HDF5 file, and at the end of an archive.
                let near = numbers.below(damaged.len().min(4000));
                let at = match (numbers.below(3), archive) {
                    (0, _) => numbers.below(damaged.len()),
                    (_, false) => near,
                    (_, true) => damaged.len() - 1 - near,
                };
                damaged[at] ^= 1 << numbers.below(8);
            }
            match read(&damaged, archive) {
                Ok(reading) => reading.contract.validate().unwrap(),
                Err(error) => {
                    assert_eq!(error.fault(), Fault::Invalid, "{name}: {}", one_line(&error));
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
}

#[test]
fn a_damaged_config_is_never_a_panic() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let lines = std::fs::read_to_string(folder().join("zoo_keras_3.jsonl")).unwrap();
    let values = ["null", "-1", "0", "1e300", "9223372036854775807", "[]", "{}", "\"x\"", "[[null]]", "true", "NaN"];
    for line in lines.lines() {
        let config = serde_json::from_str::<Value>(line).unwrap()["config"].to_string();
        let starts: Vec<usize> = config.match_indices(':').map(|(at, _)| at + 1).collect();
        for _ in 0..40 {
            // A scalar in the place of whatever stands behind a colon.
            let at = starts[numbers.below(starts.len())];
            let end = at + config[at..].find([',', '}']).unwrap();
            let damaged = format!("{}{}{}", &config[..at], values[numbers.below(values.len())], &config[end..]);
            match read_json(damaged.as_bytes()) {
                Ok(reading) => reading.contract.validate().unwrap(),
                Err(error) => assert_eq!(error.fault(), Fault::Invalid, "{error}"),
            }
        }
    }
}

fn text(config: &Value) -> String {
    one_line(&read_json(config.to_string().as_bytes()).unwrap_err())
}

fn input(name: &str) -> Value {
    json!({"class_name": "InputLayer", "name": name, "config": {"name": name, "batch_input_shape": [null, 4], "dtype": "float32"}, "inbound_nodes": []})
}

fn dense(name: &str, calls: Value) -> Value {
    json!({"class_name": "Dense", "name": name, "config": {"name": name, "units": 4}, "inbound_nodes": calls})
}

fn functional(layers: Vec<Value>, output: &str) -> Value {
    json!({"class_name": "Model", "config": {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [[output, 0, 0]]}})
}

#[test]
fn a_graph_that_is_none_is_refused_with_the_place() {
    let circle = functional(vec![input("x"), dense("a", json!([[["b", 0, 0, {}]]])), dense("b", json!([[["a", 0, 0, {}]]]))], "b");
    assert_eq!(text(&circle), "the layers of the Keras model go in a circle at `b`");
    let own = functional(vec![input("x"), dense("a", json!([[["a", 0, 0, {}]]]))], "a");
    assert_eq!(text(&own), "the layers of the Keras model go in a circle at `a`");
    let missing = functional(vec![input("x"), dense("a", json!([[["x", 1, 0, {}]]]))], "a");
    assert_eq!(text(&missing), "the config of the Keras model is damaged: `a` uses call 1 of the layer `x`, which is not there");
    let twice = functional(vec![input("x"), input("x")], "x");
    assert_eq!(text(&twice), "the config of the Keras model has two layers named `x`");
    let index = functional(vec![input("x"), dense("a", json!([[["x", 0, "y", {}]]]))], "a");
    assert_eq!(text(&index), "the config of the Keras model is damaged at a: it is called on a tensor whose index is not a number");
    let custom = json!({"class_name": "MyModel", "config": {"hidden": 3}});
    let unknown =
        "the Keras model is a `MyModel`, which is neither Sequential nor functional: only its own code knows what it takes and gives";
    assert_eq!(text(&custom), unknown);
    assert_eq!(text(&json!({"class_name": "Sequential", "config": {"name": "s", "layers": []}})), "the Keras model `s` has no layers");
    assert_eq!(text(&json!([])), "the config of the Keras model is damaged at the config: it has no class_name");
    assert!(text(&json!({"class_name": "Sequential", "config": 7})).starts_with("the Keras model is a `Sequential`"));
    let mut float8 = input("x");
    float8["config"]["dtype"] = json!("float8_e5m2");
    assert_eq!(text(&functional(vec![float8], "x")), "the Keras model's input `x` has the dtype float8_e5m2, which a contract cannot hold");
    assert!(matches!(read_json(b"{\"class_name\":"), Err(KerasError::Json(_))));
    assert!(matches!(read_json("[".repeat(200_000).as_bytes()), Err(KerasError::Json(_))));
    assert!(matches!(read_json(&vec![b' '; (8 << 20) + 1]), Err(KerasError::ConfigTooLarge)));
}

#[test]
fn models_that_call_each_other_without_end_have_one() {
    // Each model calls the one inside it twice: 2^20 calls of the innermost layer. Calls of a model are counted from 1.
    let mut layer = dense("a", json!([[["x", 0, 0, {}]], [["a", 0, 0, {}]]]));
    let mut last = 1;
    for _ in 0..20 {
        layer = functional(vec![input("x"), layer], "a");
        layer["config"]["output_layers"] = json!([["a", last, 0]]);
        layer["name"] = json!("a");
        layer["inbound_nodes"] = json!([[["x", 0, 0, {}]], [["a", 1, 0, {}]]]);
        last = 2;
    }
    assert_eq!(text(&layer), "the Keras model has more calls of layers than can be followed");
    let chain = |length: usize| {
        let mut layers = vec![input("x"), dense("0", json!([[["x", 0, 0, {}]]]))];
        layers.extend((1..length).map(|index| dense(&index.to_string(), json!([[[(index - 1).to_string(), 0, 0, {}]]]))));
        functional(layers, &(length - 1).to_string())
    };
    // A real depth many times over, and past what is followed.
    assert!(read_json(chain(20_000).to_string().as_bytes()).is_ok());
    assert_eq!(text(&chain(60_000)), "the config of the Keras model has more than 250000 lists and objects");
    let nested = |class: &str| {
        let wrap = |inner: Value, _| json!({"class_name": class, "name": "w", "config": {"name": "w", "layer": inner}, "inbound_nodes": [[["x", 0, 0, {}]]]});
        functional(vec![input("x"), (0..55).fold(dense("d", json!([])), wrap)], "w")
    };
    assert_eq!(text(&nested("Bidirectional")), "the Keras model has more calls of layers than can be followed");
    assert!(read_json(nested("TimeDistributed").to_string().as_bytes()).is_ok());
    let wide: Vec<Value> = vec![json!(1); 300];
    let reshape = json!({"class_name": "Reshape", "name": "r", "config": {"target_shape": wide}, "inbound_nodes": [[["x", 0, 0, {}]]]});
    let reading = read_json(functional(vec![input("x"), reshape], "r").to_string().as_bytes()).unwrap();
    assert_eq!(reading.contract.signatures[0].outputs[0].shape, Shape::Any);
}

#[test]
fn layers_that_take_no_scalar_say_nothing_of_one() {
    let mut scalar = input("x");
    scalar["config"]["batch_input_shape"] = json!([]);
    for (class, config) in [("Reshape", json!({"target_shape": [1]})), ("ConvLSTM2D", json!({"filters": 1, "kernel_size": 1}))] {
        let layer = json!({"class_name": class, "name": "l", "config": config, "inbound_nodes": [[["x", 0, 0, {}]]]});
        let reading = read_json(functional(vec![scalar.clone(), layer], "l").to_string().as_bytes()).unwrap();
        assert_eq!(reading.contract.signatures[0].outputs[0].shape, Shape::Any, "{class}");
    }
}

#[test]
fn what_every_call_looks_at_is_small() {
    const CALLS: usize = 30_000;
    let called_often = |layer: Value| {
        let mut layer = layer;
        layer["name"] = json!("l");
        // Each call takes what the one before it gives.
        layer["inbound_nodes"] =
            (0..CALLS).map(|call| if call == 0 { json!([["x", 0, 0]]) } else { json!([["l", call - 1, 0]]) }).collect();
        let mut model = functional(vec![input("x"), layer], "l");
        model["config"]["output_layers"] = json!([["l", CALLS - 1, 0]]);
        model
    };
    let long = "x".repeat(2 << 20);
    let too_long = "the config of the Keras model is damaged at l: its name, class or module is longer than 1000 bytes";
    assert_eq!(text(&called_often(json!({"class_name": long, "config": {}}))), too_long);
    assert_eq!(text(&called_often(json!({"class_name": "Dense", "module": long, "config": {"units": 1}}))), too_long);
    let unknown = |layer: Value| {
        let reading = read_json(called_often(layer).to_string().as_bytes()).unwrap();
        assert_eq!(reading.contract.signatures[0].outputs[0].shape, Shape::Any);
    };
    unknown(json!({"class_name": "EinsumDense", "config": {"equation": long, "output_shape": 1}}));
    unknown(json!({"class_name": "TFOpLambda", "config": {"function": long, "dtype": long}}));
    let cells = vec![json!({"class_name": "GRUCell", "config": {"units": 1}}); 60_000];
    let stacked = json!({"class_name": "StackedRNNCells", "config": {"cells": cells}});
    let too_many = "the Keras model has more calls of layers than can be followed";
    assert_eq!(text(&called_often(json!({"class_name": "RNN", "config": {"cell": stacked}}))), too_many);
}

#[test]
fn a_model_of_too_many_tensors_is_refused() {
    let too_many = "the Keras model takes and gives more than 20000 tensors";
    let mut wide = functional(vec![input("x")], "x");
    wide["config"]["output_layers"] = vec![json!(["x", 0, 0]); 60_000].into();
    assert_eq!(text(&wide), too_many);
    // All of them are named for the model that gives them.
    wide["name"] = json!("n".repeat(1000));
    assert_eq!(text(&json!({"class_name": "Sequential", "config": {"name": "s", "layers": [wide]}})), too_many);
    // A model of many inputs that is called again and again.
    let mut inner = functional(vec![input("x")], "x");
    inner["config"]["input_layers"] = vec![json!(["x", 0, 0]); 100_000].into();
    inner["name"] = json!("l");
    inner["inbound_nodes"] = vec![json!([["x", 0, 0]]); 30_000].into();
    let mut outer = functional(vec![input("x"), inner], "x");
    outer["config"]["output_layers"] = (0..30_000).map(|call| json!(["l", call, 0])).collect();
    assert_eq!(text(&outer), "the Keras model has more calls of layers than can be followed");
    let branch = json!({"class_name": "Sequential", "config": [{"class_name": "Dense", "config": {"input_dim": 1, "output_dim": 1}}]});
    let merge = json!({"class_name": "Merge", "config": {"mode": "sum", "layers": vec![branch; 60_000]}});
    assert_eq!(text(&json!({"class_name": "Sequential", "config": [merge]})), too_many);
}

#[test]
fn numbers_that_json_does_not_have_are_stepped_over() {
    let masking = json!({"class_name": "Masking", "name": "NaN \\\" Infinity", "config": {"mask_value": "HERE"}, "inbound_nodes": [[["x", 0, 0, {}]]]});
    let config = functional(vec![input("x"), masking], "NaN \\\" Infinity").to_string();
    for number in ["NaN", "Infinity", "-Infinity"] {
        let reading = read_json(config.replace("\"HERE\"", number).as_bytes()).unwrap();
        assert_eq!(reading.contract.signatures[0].outputs, [Field::new("NaN \\\" Infinity", DataType::Float, Shape::of(&[-1, 4]))]);
    }
}

/// An archive of these members.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        writer.start_file(*name, SimpleFileOptions::default().large_file(true)).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn an_archive_is_read_to_its_limits() {
    let config = json!({"class_name": "Sequential", "config": {"name": "s", "layers": [dense("d", json!([]))]}}).to_string();
    let reading =
        read(&archive(&[("config.json", config.as_bytes()), ("metadata.json", b"{\"keras_version\": \"3.9.0\"}")]), true).unwrap();
    assert_eq!(reading.model_type, "keras:3.9.0");
    assert_eq!(reading.warnings[0], "infer.inputs.d_input has any shape: the model was saved before it was built for one");
    let reading = read(&archive(&[("config.json", config.as_bytes()), ("metadata.json", b"{")]), true).unwrap();
    assert_eq!(reading.model_type, "keras:unknown");
    let refused = |members: &[(&str, &[u8])]| one_line(&read(&archive(members), true).unwrap_err());
    assert_eq!(refused(&[("model.weights.h5", b"")]), "the Keras archive has no `config.json`");
    // 64 MiB of blanks, deflated to some sixty KiB.
    let bomb = vec![b' '; 64 << 20];
    assert_eq!(refused(&[("config.json", &bomb)]), "the config of the Keras model is larger than 8388608 bytes");
    assert_eq!(
        refused(&[("config.json", config.as_bytes()), ("metadata.json", &bomb)]),
        "the config of the Keras model is larger than 8388608 bytes"
    );
    let mut twins = archive(&[("config.json", config.as_bytes()), ("config.jsom", b"{}")]);
    while let Some(at) = twins.windows(11).position(|window| window == b"config.jsom") {
        twins[at + 10] = b'n';
    }
    assert_eq!(one_line(&read(&twins, true).unwrap_err()), "the Keras archive has two members of one name");
}
