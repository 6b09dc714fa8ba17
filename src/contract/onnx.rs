//! ONNX models → Contract.
//!
//! A model is one protobuf message, its graph inside, the weights inside the graph or in files beside. Read are the graph's inputs and
//! outputs, the names of its weights and who made the file; nodes, functions, training graphs and all values are stepped over. Numbers
//! of fields are those of `onnx.proto`. The text and JSON forms are not read here, nor is ONNX Runtime's own `.ort`.
//!
//! What must stay true: the signature is what ONNX Runtime's `get_inputs()` and `get_outputs()` report, in the file's order. An input
//! that has an initializer is a weight and no input: up to IR version 3 every weight is listed so, and from 4 on it is an input with
//! a default, which a caller may leave out.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

use super::contract::{Contract, ContractError, Field, Shape, Signature, place_of_field, shown};
use super::dtype::Profile;
use super::file_kind::{self, FileKind};
use super::onnx_type::{TypeError, ValueType, read_type};
use super::reading::Reading;
use super::walker::{Span, WalkError, Walker};
use crate::fault::{Failure, Fault};

/// The name of the one signature that an ONNX model has, as the ancestor called it.
const SIGNATURE: &str = "infer";

/// The first IR version in which a model has to name its operator sets.
const OPSETS_SINCE_IR_VERSION: i64 = 3;

/// Why no contract can be read from an ONNX model.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// Not what its name says.
    #[error("the file is {kind}, not an ONNX model")]
    OtherFile {
        /// What it is.
        kind: FileKind,
    },
    /// Cut, damaged, or a kind of file that nobody knows.
    #[error("the file is not a readable ONNX model (a protobuf ModelProto)")]
    Unreadable(#[from] WalkError),
    /// Protobuf, perhaps, but no model.
    #[error("the file holds no graph, so it is not an ONNX model")]
    NoGraph,
    /// Operator sets come after the graph in a file.
    #[error("the file names no operator set after its graph, though its IR version is {ir_version}: it was cut, or never whole")]
    NoOperatorSet {
        /// The version of the format.
        ir_version: i64,
    },
    /// A type that no contract has.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// Read, but not what a model can be built with.
    #[error("the contract in the ONNX model is not valid")]
    Invalid(#[from] ContractError),
}

impl Failure for OnnxError {
    fn fault(&self) -> Fault {
        match self {
            OnnxError::Unreadable(WalkError::Io { .. }) => Fault::Ours,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        let again = "save the model again, or copy it again in full";
        let remedy = match self {
            OnnxError::OtherFile { kind } => kind.remedy().unwrap_or(again),
            OnnxError::Unreadable(WalkError::Io { .. }) => return None,
            OnnxError::Unreadable(WalkError::TooManyFields { .. } | WalkError::TooMuchText { .. }) => "add a contract.prototxt",
            OnnxError::Unreadable(_) | OnnxError::NoGraph | OnnxError::NoOperatorSet { .. } => again,
            OnnxError::Type(TypeError::Untyped { .. }) => {
                "save the model again with the types that `onnx.shape_inference.infer_shapes` finds, or add a contract.prototxt"
            }
            OnnxError::Type(TypeError::NotHeld { .. }) | OnnxError::Invalid(_) => "add a contract.prototxt",
        };
        Some(remedy.to_owned())
    }
}

/// The contract in the ONNX model that `source` holds in its first `size_bytes`.
pub fn read<R: Read + Seek>(source: R, size_bytes: u64) -> Result<Reading, OnnxError> {
    let model = read_file(source, size_bytes)?;
    let mut warnings = Vec::new();
    let name = version_part("name", &model.producer_name, &mut warnings);
    let version = version_part("version", &model.producer_version, &mut warnings);
    let inputs = model.inputs.iter().filter(|value| !model.weights.contains(&value.name));
    let inputs = fields(inputs, &format!("{SIGNATURE}.inputs"), &mut warnings)?;
    let outputs = fields(model.outputs.iter(), &format!("{SIGNATURE}.outputs"), &mut warnings)?;
    let signature = Signature { name: SIGNATURE.to_owned(), inputs, outputs };
    let contract = Contract { model_name: String::new(), signatures: vec![signature] };
    contract.validate()?;
    Ok(Reading { contract, model_type: format!("onnx:{name}:{version}"), warnings })
}

/// The files beside the model that hold weights of its graph, as it names them: paths relative to its folder, with slashes.
///
/// Nothing of them is opened, and nothing is said of what the paths are worth: they are a stranger's. Constants inside nodes, which
/// the `onnx` package moves out only when told to (`convert_attribute`), are not looked into.
pub fn external_files<R: Read + Seek>(source: R, size_bytes: u64) -> Result<BTreeSet<String>, OnnxError> {
    Ok(read_file(source, size_bytes)?.external_files)
}

/// ModelProto and its graph, as far as we read them.
#[derive(Default)]
struct Model {
    ir_version: i64,
    producer_name: String,
    producer_version: String,
    has_graph: bool,
    has_operator_sets: bool,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    /// The names of the initializers.
    weights: BTreeSet<String>,
    external_files: BTreeSet<String>,
}

/// ValueInfoProto.
#[derive(Default)]
struct Value {
    name: String,
    value_type: ValueType,
}

fn read_file<R: Read + Seek>(mut source: R, size_bytes: u64) -> Result<Model, OnnxError> {
    let error = match read_model(&mut source, size_bytes) {
        Ok(model) if !model.has_graph => OnnxError::NoGraph,
        Ok(model) if model.ir_version >= OPSETS_SINCE_IR_VERSION && !model.has_operator_sets => {
            return Err(OnnxError::NoOperatorSet { ir_version: model.ir_version });
        }
        Ok(model) => return Ok(model),
        Err(error @ WalkError::Io { .. }) => return Err(error.into()),
        Err(error) => error.into(),
    };
    Err(file_kind::tell(&mut source, size_bytes).map_or(error, |kind| OnnxError::OtherFile { kind }))
}

fn read_model<R: Read + Seek>(source: R, size_bytes: u64) -> Result<Model, WalkError> {
    let mut walker = Walker::new(source, size_bytes)?;
    let mut model = Model::default();
    let mut whole = walker.whole();
    while let Some(found) = walker.next(&mut whole)? {
        match found.number {
            1 => model.ir_version = found.number()? as i64,
            2 => model.producer_name = walker.text(found.bytes()?)?,
            3 => model.producer_version = walker.text(found.bytes()?)?,
            7 => {
                model.has_graph = true;
                read_graph(&mut walker, found.bytes()?, &mut model)?;
            }
            8 => model.has_operator_sets = true,
            _ => {}
        }
    }
    Ok(model)
}

fn read_graph<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, model: &mut Model) -> Result<(), WalkError> {
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            5 => read_weight(walker, found.bytes()?, model)?,
            11 => model.inputs.push(read_value(walker, found.bytes()?)?),
            12 => model.outputs.push(read_value(walker, found.bytes()?)?),
            // A sparse weight has the name of its values; they and its indices are tensors.
            15 => {
                let mut sparse = found.bytes()?;
                while let Some(found) = walker.next(&mut sparse)? {
                    if matches!(found.number, 1 | 2) {
                        read_weight(walker, found.bytes()?, model)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// TensorProto: its name, and the file that has its values.
fn read_weight<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span, model: &mut Model) -> Result<(), WalkError> {
    let (mut location, mut is_external) = (None, false);
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            8 => {
                let name = walker.text(found.bytes()?)?;
                // What has no name has no input either, and an input without a name is an error of its own.
                if !name.is_empty() {
                    model.weights.insert(name);
                }
            }
            13 => location = read_location(walker, found.bytes()?)?.or(location),
            14 => is_external = found.number()? == 1,
            _ => {}
        }
    }
    model.external_files.extend(location.filter(|_| is_external));
    Ok(())
}

/// The value of an entry with the key `location`.
fn read_location<R: Read + Seek>(walker: &mut Walker<R>, mut entry: Span) -> Result<Option<String>, WalkError> {
    let (mut is_location, mut value) = (false, None);
    while let Some(found) = walker.next(&mut entry)? {
        match found.number {
            1 => is_location = walker.text(found.bytes()?)? == "location",
            2 => value = Some(found.bytes()?),
            _ => {}
        }
    }
    value.filter(|_| is_location).map(|value| walker.text(value)).transpose()
}

fn read_value<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span) -> Result<Value, WalkError> {
    let mut value = Value::default();
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 => value.name = walker.text(found.bytes()?)?,
            2 => value.value_type = read_type(walker, found.bytes()?)?,
            _ => {}
        }
    }
    Ok(value)
}

fn fields<'a>(values: impl Iterator<Item = &'a Value>, above: &str, warnings: &mut Vec<String>) -> Result<Vec<Field>, OnnxError> {
    let mut fields = Vec::new();
    for (index, value) in values.enumerate() {
        let place = place_of_field(above, index, &value.name);
        let said = value.value_type.said(&place)?;
        warnings.extend(said.warning);
        // Some exporters of 2018 wrote 0 for an open dimension. ONNX Runtime takes it by its word, and so do we.
        if let Shape::Dimensions(dimensions) = &said.shape
            && dimensions.iter().any(|dimension| dimension.size == 0)
        {
            warnings.push(format!("{place} has a dimension of length 0, so that it can hold no values"));
        }
        fields.push(Field { name: value.name.clone(), kind: said.kind, shape: said.shape, profile: Profile::None });
    }
    Ok(fields)
}

/// A part of the producer as a model type can carry it: `1.9.3 1190aa`, as tf2onnx writes its version, is `1.9.3-1190aa`.
///
/// Letters and digits of ASCII and `.`, `_`, `+` stay, what is between becomes one `-`. A colon would end the part.
fn version_part(what: &str, text: &str, warnings: &mut Vec<String>) -> String {
    const PART_BYTES_MAX: usize = 64;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+".contains(c);
    let words: Vec<&str> = text.split(|c| !plain(c)).filter(|word| !word.is_empty()).collect();
    let part = words.join("-");
    if (1..=PART_BYTES_MAX).contains(&part.len()) {
        return part;
    }
    if !text.trim().is_empty() {
        warnings.push(format!("the model names a producer {what} that is none: `{}`", shown(text)));
    }
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_becomes_part_of_a_model_type() {
        let mut warnings = Vec::new();
        for (text, part) in [
            ("pytorch", "pytorch"),
            ("onnx-caffe2", "onnx-caffe2"),
            ("1.9.3 1190aa", "1.9.3-1190aa"),
            ("2.0.0+cu118", "2.0.0+cu118"),
            ("ACME: export", "ACME-export"),
            ("größe/2", "gr-e-2"),
            ("", "unknown"),
            (" \n", "unknown"),
        ] {
            assert_eq!(version_part("version", text, &mut warnings), part, "{text}");
        }
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(version_part("name", "日本", &mut warnings), "unknown");
        assert_eq!(version_part("version", &"1".repeat(65), &mut warnings), "unknown");
        let expected = ["the model names a producer name that is none: `日本`".to_owned()];
        assert_eq!(warnings[..1], expected);
        assert!(warnings[1].starts_with("the model names a producer version that is none: `111"));
    }
}
