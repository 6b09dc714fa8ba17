//! The types of ONNX, and what a contract says of each.
//!
//! A value of a graph is a tensor, or tensors in sequences, maps and optionals; its `TypeProto` is a chain, since each of those holds
//! one type. A contract knows tensors and maps with names. What it cannot say is left open and told in a sentence; a type of which it
//! could say nothing true is an error.
//!
//! What must stay true: an element type is taken by its meaning. ONNX numbers its types otherwise than TensorFlow, whose numbers a
//! contract has (the ancestor's reader made FLOAT16 a DT_FLOAT). Types are shown as ONNX Runtime writes them:
//! `seq(map(int64,tensor(float)))`.

use std::fmt;
use std::io::{Read, Seek};

use super::contract::{Dimension, FieldKind, Shape, shown};
use super::dtype::DataType;
use super::walker::{Span, WalkError, Walker};

/// How many types may hold one another; those of real models are three deep.
const DEPTH_MAX: usize = 16;

/// `TensorProto.DataType`, by number: the name in lower case, as ONNX Runtime writes it, and what a contract has for it.
const ELEMENT_TYPES: [(&str, Option<DataType>); 29] = [
    ("undefined", None),
    ("float", Some(DataType::Float)),
    ("uint8", Some(DataType::Uint8)),
    ("int8", Some(DataType::Int8)),
    ("uint16", Some(DataType::Uint16)),
    ("int16", Some(DataType::Int16)),
    ("int32", Some(DataType::Int32)),
    ("int64", Some(DataType::Int64)),
    ("string", Some(DataType::String)),
    ("bool", Some(DataType::Bool)),
    ("float16", Some(DataType::Half)),
    ("double", Some(DataType::Double)),
    ("uint32", Some(DataType::Uint32)),
    ("uint64", Some(DataType::Uint64)),
    ("complex64", Some(DataType::Complex64)),
    ("complex128", Some(DataType::Complex128)),
    ("bfloat16", Some(DataType::Bfloat16)),
    // Types of after 2018: no dialect of a contract has them, and one of another width would be a lie.
    ("float8e4m3fn", None),
    ("float8e4m3fnuz", None),
    ("float8e5m2", None),
    ("float8e5m2fnuz", None),
    ("uint4", None),
    ("int4", None),
    ("float4e2m1", None),
    ("float8e8m0", None),
    ("uint2", None),
    ("int2", None),
    ("float6e2m3", None),
    ("float6e3m2", None),
];

/// Why a contract has no field for a value. A place is the path of names: `infer.inputs.x`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// The file says nothing of it but its name.
    #[error("the field {place} has no type")]
    Untyped {
        /// Where.
        place: String,
    },
    /// Nothing in a contract could stand for it.
    #[error("the field {place} has the type {onnx_type}, which a contract cannot hold")]
    NotHeld {
        /// Where.
        place: String,
        /// The type.
        onnx_type: String,
    },
}

/// The type of a value: containers, outermost first, and what is in the innermost.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ValueType {
    containers: Vec<Container>,
    core: Core,
}

#[derive(Debug, PartialEq)]
enum Container {
    Sequence,
    Optional,
    /// With the element type of its keys.
    Map(i32),
}

#[derive(Debug, Default, PartialEq)]
enum Core {
    /// No type is given.
    #[default]
    Untyped,
    Tensor(Tensor),
    SparseTensor(Tensor),
    Opaque {
        domain: String,
        name: String,
    },
    /// A type of a later ONNX, by its field in `TypeProto`.
    Later(u64),
}

#[derive(Debug, Default, PartialEq)]
struct Tensor {
    element_type: i32,
    shape: Shape,
}

/// What a contract says of a value.
#[derive(Debug, PartialEq)]
pub(super) struct Said {
    /// What it is made of.
    pub kind: FieldKind,
    /// Its shape.
    pub shape: Shape,
    /// What of its type the contract has and what not, where that is not all: for the end of "… is a sequence; the contract has".
    pub warning: Option<String>,
}

/// The type in a `TypeProto`. No recursion: a type holds at most one other.
pub(super) fn read_type<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span) -> Result<ValueType, WalkError> {
    let mut containers = Vec::new();
    loop {
        // The fields but 6, the denotation, are alternatives: the last one counts.
        let mut found = None;
        while let Some(field) = walker.next(&mut span)? {
            if field.number != 6 {
                found = Some(field);
            }
        }
        let Some(found) = found else { return Ok(ValueType { containers, core: Core::Untyped }) };
        let (number, offset) = (found.number, found.offset);
        let (container, number_of_inner) = match number {
            1 => return Ok(ValueType { containers, core: Core::Tensor(read_tensor(walker, found.bytes()?)?) }),
            8 => return Ok(ValueType { containers, core: Core::SparseTensor(read_tensor(walker, found.bytes()?)?) }),
            7 => return Ok(ValueType { containers, core: read_opaque(walker, found.bytes()?)? }),
            4 => (Container::Sequence, 1),
            9 => (Container::Optional, 1),
            5 => (Container::Map(0), 2),
            _ => return Ok(ValueType { containers, core: Core::Later(number) }),
        };
        if containers.len() == DEPTH_MAX {
            return Err(WalkError::Malformed { offset, problem: "types are nested too deep" });
        }
        containers.push(container);
        let (mut message, mut inner) = (found.bytes()?, None);
        while let Some(field) = walker.next(&mut message)? {
            match (containers.last_mut(), field.number) {
                (Some(Container::Map(key)), 1) => *key = field.number()? as i32,
                (_, number) if number == number_of_inner => inner = Some(field.bytes()?),
                _ => {}
            }
        }
        let Some(inner) = inner else { return Ok(ValueType { containers, core: Core::Untyped }) };
        span = inner;
    }
}

fn read_tensor<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span) -> Result<Tensor, WalkError> {
    let mut tensor = Tensor::default();
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 => tensor.element_type = found.number()? as i32,
            2 => tensor.shape = read_shape(walker, found.bytes()?)?,
            _ => {}
        }
    }
    Ok(tensor)
}

fn read_opaque<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span) -> Result<Core, WalkError> {
    let (mut domain, mut name) = (String::new(), String::new());
    while let Some(found) = walker.next(&mut span)? {
        match found.number {
            1 => domain = walker.text(found.bytes()?)?,
            2 => name = walker.text(found.bytes()?)?,
            _ => {}
        }
    }
    Ok(Core::Opaque { domain, name })
}

/// The dimensions of a shape that is there; an absent one stays [`Shape::Any`].
///
/// `Any` and not `UnknownRank`: the IR requires that inputs and outputs of a model have a shape, so that its absence states nothing
/// (docs/IR.md, "Static tensor shapes": "the corresponding runtime value may have any shape"). A dimension with a name, with neither
/// number nor name, or with a negative number, which some exporters write, is open, as it is to ONNX Runtime.
fn read_shape<R: Read + Seek>(walker: &mut Walker<R>, mut span: Span) -> Result<Shape, WalkError> {
    let mut dimensions = Vec::new();
    while let Some(found) = walker.next(&mut span)? {
        if found.number != 1 {
            continue;
        }
        let mut dimension = Dimension { size: -1, name: String::new() };
        let mut span = found.bytes()?;
        while let Some(found) = walker.next(&mut span)? {
            match found.number {
                1 => dimension = Dimension { size: (found.number()? as i64).max(-1), name: String::new() },
                2 => dimension = Dimension { size: -1, name: walker.text(found.bytes()?)? },
                _ => {}
            }
        }
        dimensions.push(dimension);
    }
    Ok(Shape::Dimensions(dimensions))
}

impl ValueType {
    /// What a contract says of a value of this type.
    ///
    /// Tensors in a sequence may differ in number and shape: their dtype is known, a shape is not. A map is an element of DT_MAP with
    /// names that only the data have, a sequence of maps a list of such elements: what the probabilities of a scikit-learn classifier
    /// are (`ZipMap`). An optional value is what it is when it is there. A sparse tensor is the dense one that it stands for.
    pub(super) fn said(&self, place: &str) -> Result<Said, TypeError> {
        // What is inside of a map, only the data tell.
        let map = self.containers.iter().position(|container| matches!(container, Container::Map(_)));
        let (outer, inner) = self.containers.split_at(map.unwrap_or(self.containers.len()));
        let sequences = outer.iter().filter(|container| **container == Container::Sequence).count();
        let (dtype, shape, mut has) = match inner.first() {
            Some(Container::Map(key)) => map_in_sequences(*key, sequences),
            _ => self.tensors(sequences > 0, place)?,
        };
        if outer.contains(&Container::Optional) {
            let has = has.get_or_insert_with(|| "what is in it".to_owned());
            has.push_str(", and cannot say that it may be left out");
        }
        let warning = has.map(|has| format!("{place} is {self}; the contract has {has}"));
        Ok(Said { kind: FieldKind::Dtype(dtype), shape, warning })
    }

    /// Dtype and shape of the tensors that it is or holds, and the words for what a contract has of them.
    fn tensors(&self, in_sequence: bool, place: &str) -> Result<(DataType, Shape, Option<String>), TypeError> {
        let (tensor, sparse) = match &self.core {
            Core::Tensor(tensor) => (tensor, false),
            Core::SparseTensor(tensor) => (tensor, true),
            Core::Untyped if self.containers.is_empty() => return Err(TypeError::Untyped { place: place.to_owned() }),
            Core::Untyped | Core::Opaque { .. } | Core::Later(_) => return Err(self.not_held(place)),
        };
        let (_, dtype) = element_type(tensor.element_type).ok_or_else(|| self.not_held(place))?;
        let dtype = dtype.ok_or_else(|| self.not_held(place))?;
        Ok(match (in_sequence, sparse) {
            (true, _) => (dtype, Shape::Any, Some("the dtype of its tensors, and any shape".to_owned())),
            (false, true) => (dtype, tensor.shape.clone(), Some("the dtype and shape of the dense tensor that it stands for".to_owned())),
            (false, false) => (dtype, tensor.shape.clone(), None),
        })
    }

    fn not_held(&self, place: &str) -> TypeError {
        TypeError::NotHeld { place: place.to_owned(), onnx_type: self.to_string() }
    }
}

/// The same for a map with these keys in so many sequences.
fn map_in_sequences(key: i32, sequences: usize) -> (DataType, Shape, Option<String>) {
    let shape = match sequences {
        0 => Shape::scalar(),
        1 => Shape::of(&[-1]),
        _ => Shape::Any,
    };
    let is_text = element_type(key).is_some_and(|(_, dtype)| dtype == Some(DataType::String));
    let numbers = if is_text { "" } else { " (numbers there, text in DT_MAP)" };
    (DataType::Map, shape, Some(format!("DT_MAP without the keys, which only the data have{numbers}")))
}

fn element_type(number: i32) -> Option<(&'static str, Option<DataType>)> {
    ELEMENT_TYPES.get(usize::try_from(number).ok()?).copied()
}

/// The name of an element type; its number where it has none that is known here.
fn element_name(number: i32) -> String {
    element_type(number).map_or_else(|| format!("element type {number}"), |(name, _)| name.to_owned())
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for container in &self.containers {
            match container {
                Container::Sequence => f.write_str("seq(")?,
                Container::Optional => f.write_str("optional(")?,
                Container::Map(key) => write!(f, "map({},", element_name(*key))?,
            }
        }
        match &self.core {
            Core::Untyped => f.write_str("no type")?,
            Core::Tensor(tensor) => write!(f, "tensor({})", element_name(tensor.element_type))?,
            Core::SparseTensor(tensor) => write!(f, "sparse_tensor({})", element_name(tensor.element_type))?,
            Core::Opaque { domain, name } => write!(f, "opaque({},{})", shown(domain), shown(name))?,
            Core::Later(number) => write!(f, "TypeProto field {number} of a later ONNX")?,
        }
        f.write_str(&")".repeat(self.containers.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(element_type: i32, shape: Shape) -> Core {
        Core::Tensor(Tensor { element_type, shape })
    }

    #[track_caller]
    fn check(containers: Vec<Container>, core: Core, kind: DataType, shape: Shape, warning: Option<&str>) {
        let said = ValueType { containers, core }.said("f.x").unwrap();
        assert_eq!((said.kind, said.shape, said.warning.as_deref()), (FieldKind::Dtype(kind), shape, warning));
    }

    #[track_caller]
    fn refused(containers: Vec<Container>, core: Core, text: &str) {
        assert_eq!(ValueType { containers, core }.said("f.x").unwrap_err().to_string(), text);
    }

    #[test]
    fn an_element_type_is_taken_by_its_meaning() {
        // ONNX's 10 and 16 are TensorFlow's BOOL and QUINT16.
        check(vec![], tensor(10, Shape::Any), DataType::Half, Shape::Any, None);
        check(vec![], tensor(16, Shape::of(&[-1])), DataType::Bfloat16, Shape::of(&[-1]), None);
        let held = ELEMENT_TYPES.iter().filter(|(_, dtype)| dtype.is_some()).count();
        assert_eq!(held, 16);
        for (number, (name, dtype)) in ELEMENT_TYPES.iter().enumerate().filter(|(_, (name, _))| *name != "undefined") {
            assert_eq!(element_name(number as i32), *name);
            assert!(dtype.is_some() == (number <= 16), "{name}");
        }
        refused(vec![], tensor(17, Shape::Any), "the field f.x has the type tensor(float8e4m3fn), which a contract cannot hold");
        refused(vec![], tensor(0, Shape::Any), "the field f.x has the type tensor(undefined), which a contract cannot hold");
        refused(vec![], tensor(99, Shape::Any), "the field f.x has the type tensor(element type 99), which a contract cannot hold");
        refused(vec![], tensor(-1, Shape::Any), "the field f.x has the type tensor(element type -1), which a contract cannot hold");
    }

    #[test]
    fn what_a_contract_cannot_say_is_open_and_told() {
        use Container::Map;
        use Container::Optional;
        use Container::Sequence;
        let float = || tensor(1, Shape::of(&[2]));
        let text = "f.x is seq(tensor(float)); the contract has the dtype of its tensors, and any shape";
        check(vec![Sequence], float(), DataType::Float, Shape::Any, Some(text));
        let text = "f.x is optional(tensor(float)); the contract has what is in it, and cannot say that it may be left out";
        check(vec![Optional], float(), DataType::Float, Shape::of(&[2]), Some(text));
        let sparse = Core::SparseTensor(Tensor { element_type: 11, shape: Shape::of(&[3, 4]) });
        let text = "f.x is sparse_tensor(double); the contract has the dtype and shape of the dense tensor that it stands for";
        check(vec![], sparse, DataType::Double, Shape::of(&[3, 4]), Some(text));
        let text = "f.x is map(string,tensor(float)); the contract has DT_MAP without the keys, which only the data have";
        check(vec![Map(8)], float(), DataType::Map, Shape::scalar(), Some(text));
        let text = "f.x is seq(map(int64,tensor(float))); the contract has DT_MAP without the keys, which only the data have (numbers there, \
                    text in DT_MAP)";
        check(vec![Sequence, Map(7)], float(), DataType::Map, Shape::of(&[-1]), Some(text));
        let text = "f.x is seq(seq(optional(map(string,no type)))); the contract has DT_MAP without the keys, which only the data have, and \
                    cannot say that it may be left out";
        check(vec![Sequence, Sequence, Optional, Map(8)], Core::Untyped, DataType::Map, Shape::Any, Some(text));
        let text = "f.x is map(string,optional(tensor(float))); the contract has DT_MAP without the keys, which only the data have";
        check(vec![Map(8), Optional], float(), DataType::Map, Shape::scalar(), Some(text));
    }

    #[test]
    fn a_type_of_which_nothing_true_can_be_said_is_refused() {
        refused(vec![], Core::Untyped, "the field f.x has no type");
        refused(vec![Container::Sequence], Core::Untyped, "the field f.x has the type seq(no type), which a contract cannot hold");
        let opaque = Core::Opaque { domain: "com.example".to_owned(), name: "a\0".to_owned() };
        refused(vec![], opaque, "the field f.x has the type opaque(com.example,a\\u{0}), which a contract cannot hold");
        let text = "the field f.x has the type TypeProto field 12 of a later ONNX, which a contract cannot hold";
        refused(vec![], Core::Later(12), text);
    }
}
