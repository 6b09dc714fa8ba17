//! The models that are read: protobuf by hand, whose weights are zeros that the disk does not hold.
//!
//! What must stay true: the frameworks' own loaders take them. A sparse file is read like any other: its zeros cost a reader memory and
//! time as weights do, and only the disk is left out of the measure.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// One weight: a matrix of 2048 × 2048 floats.
const WEIGHT_BYTES: u64 = 16 << 20;
const WEIGHT_SIDE: u64 = 2048;

/// A part of a message: what is written, and what is stepped over in writing.
enum Part {
    Bytes(Vec<u8>),
    Zeros(u64),
}

/// A `saved_model.pb` whose graph holds its weights as constants, as a frozen one does; its one signature stands behind them.
pub fn saved_model(file: &Path, weights_bytes: u64) -> io::Result<()> {
    let nodes = (0..weights_bytes / WEIGHT_BYTES).flat_map(|index| {
        let dimension = || message(2, number(1, WEIGHT_SIDE));
        let shape = message(2, [dimension(), dimension()].into_iter().flatten());
        let tensor = [number(1, 1), shape, message(4, [Part::Zeros(WEIGHT_BYTES)])];
        let attribute = |name: &str, value: Vec<Part>| message(5, text(1, name).into_iter().chain(message(2, value)));
        let value = attribute("value", message(8, tensor.into_iter().flatten()));
        let node = [text(1, &format!("weights_{index}")), text(2, "Const"), attribute("dtype", number(6, 1)), value];
        message(1, node.into_iter().flatten())
    });
    let info = message(1, [text(4, "serve"), text(5, "2.21.0")].into_iter().flatten());
    let side = |side: u64, name: &str| {
        let shape = message(3, message(2, number(1, u64::MAX)));
        let info = [text(1, &format!("{name}:0")), number(2, 1), shape];
        message(side, text(1, name).into_iter().chain(message(2, info.into_iter().flatten())))
    };
    let signature = message(2, [side(1, "x"), side(2, "y"), text(3, "tensorflow/serving/predict")].into_iter().flatten());
    let signature = message(5, text(1, "serving_default").into_iter().chain(signature));
    let graph = [info, message(2, nodes.collect::<Vec<_>>()), signature];
    write(file, [number(1, 1), message(2, graph.into_iter().flatten())].into_iter().flatten())
}

/// The same in text, most of it one string; a zero is four bytes of it.
pub fn saved_model_text(file: &Path, text_bytes: u64) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(file)?);
    file.write_all(b"saved_model_schema_version: 1\nmeta_graphs {\n")?;
    file.write_all(b"  meta_info_def {\n    tags: \"serve\"\n    tensorflow_version: \"2.21.0\"\n  }\n  graph_def {\n    node {\n")?;
    file.write_all(b"      attr { key: \"value\" value { tensor { dtype: DT_FLOAT tensor_content: \"")?;
    let zeros = b"\\000".repeat(1 << 14);
    for _ in 0..text_bytes / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.write_all(b"\" } } }\n    }\n  }\n  signature_def {\n    key: \"serving_default\"\n    value {\n")?;
    for (side, name) in [("inputs", "x"), ("outputs", "y")] {
        writeln!(file, "      {side} {{ key: \"{name}\" value {{ dtype: DT_FLOAT tensor_shape {{ dim {{ size: -1 }} }} }} }}")?;
    }
    file.write_all(b"    }\n  }\n}\n")?;
    file.flush()
}

/// An ONNX model with its weights inside, before the inputs and outputs, as exporters write it.
pub fn onnx(file: &Path, weights_bytes: u64) -> io::Result<()> {
    let weights = (0..weights_bytes / WEIGHT_BYTES).flat_map(|index| {
        let side = || number(1, WEIGHT_SIDE);
        let tensor = [side(), side(), number(2, 1), text(8, &format!("weights_{index}")), message(9, [Part::Zeros(WEIGHT_BYTES)])];
        message(5, tensor.into_iter().flatten())
    });
    let value = |place: u64, name: &str| {
        let shape = message(2, message(1, text(2, "batch")));
        let kind = message(2, message(1, number(1, 1).into_iter().chain(shape)));
        message(place, text(1, name).into_iter().chain(kind))
    };
    let node = message(1, [text(1, "x"), text(2, "y"), text(4, "Identity")].into_iter().flatten());
    let graph = [node, text(2, "bench"), weights.collect(), value(11, "x"), value(12, "y")];
    let model = [number(1, 8), text(2, "pytorch"), text(3, "2.9.0"), message(7, graph.into_iter().flatten()), message(8, number(2, 17))];
    write(file, model.into_iter().flatten())
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<Part> {
    vec![Part::Bytes([varint(field << 3), varint(value)].concat())]
}

fn text(field: u64, text: &str) -> Vec<Part> {
    message(field, [Part::Bytes(text.as_bytes().to_vec())])
}

/// A field that holds a message or bytes: its length stands before it.
fn message(field: u64, content: impl IntoIterator<Item = Part>) -> Vec<Part> {
    let mut parts = vec![Part::Bytes(Vec::new())];
    parts.extend(content);
    let size_bytes = parts.iter().map(|part| match part {
        Part::Bytes(bytes) => bytes.len() as u64,
        Part::Zeros(size_bytes) => *size_bytes,
    });
    parts[0] = Part::Bytes([varint(field << 3 | 2), varint(size_bytes.sum())].concat());
    parts
}

fn write(file: &Path, parts: impl IntoIterator<Item = Part>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(file)?);
    for part in parts {
        match part {
            Part::Bytes(bytes) => file.write_all(&bytes)?,
            Part::Zeros(size_bytes) => drop(file.seek(SeekFrom::Current(size_bytes as i64))?),
        }
    }
    // A hole at the very end is no part of a file until its length says so.
    let end = file.stream_position()?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.set_len(end)
}
