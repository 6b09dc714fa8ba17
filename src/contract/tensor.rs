//! A tensor's values as JSON, to show an answer.
//!
//! Both ways in which TensorFlow's clients and servers write a tensor are read: `tensor_content`, the raw little-endian elements, and
//! the list of the dtype's family, which may stop early (its last element then stands for all that follow). Values are nested lists
//! by shape; a scalar is a bare value. Numbers that JSON lacks are the strings that protobuf's own JSON has for them (`NaN`,
//! `Infinity`), complex numbers are pairs, and bytes that are no text are `{"b64": …}`, as in TensorFlow Serving's REST API.
//!
//! What must stay true: a tensor comes from a stranger. Its shape may promise any number of elements, and any number of lists
//! around none at all; [`ELEMENTS_MAX`] bounds both together, over everything inside it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::dtype::DataType;
use crate::fault::{Failure, Fault};
use crate::proto::hydrosphere::tensorflow::TensorProto;

/// The most elements and lists together, of one tensor with all that is in it. As JSON each takes some hundred bytes of memory.
pub const ELEMENTS_MAX: usize = 2_000_000;

/// TensorFlow's own bound on dimensions.
const RANK_MAX: usize = 254;

/// Why a tensor cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// A type without values, or one that we have no name for.
    #[error("a tensor of dtype {dtype} has no values to show")]
    Dtype {
        /// Its name, or its number.
        dtype: String,
    },
    /// A shape that no tensor has.
    #[error("a tensor has the shape {sizes:?}")]
    Shape {
        /// The sizes; the first of them.
        sizes: Vec<i64>,
    },
    /// Past the limit.
    #[error("a tensor has more than {ELEMENTS_MAX} elements")]
    TooLarge,
    /// Values and shape do not agree.
    #[error("a tensor of {elements} elements holds {values}")]
    Count {
        /// By its shape.
        elements: usize,
        /// By its values.
        values: usize,
    },
    /// Raw bytes that are no whole elements.
    #[error("a tensor of {dtype} has {size_bytes} bytes of content, which are not the elements of its shape")]
    Content {
        /// Its type.
        dtype: DataType,
        /// What there is.
        size_bytes: usize,
    },
}

impl Failure for TensorError {
    fn fault(&self) -> Fault {
        Fault::Remote
    }
}

/// The values of a tensor as nested lists; its dtype goes by the kind of the values only.
pub fn to_json(tensor: &TensorProto) -> Result<Value, TensorError> {
    let mut elements_left = ELEMENTS_MAX;
    tensor_to_json(tensor, &mut elements_left)
}

// The recursion, through the parts of a DT_MAP, is as deep as the message, which its decoder has limited.
fn tensor_to_json(tensor: &TensorProto, elements_left: &mut usize) -> Result<Value, TensorError> {
    let dtype = DataType::from_number(tensor.dtype).ok_or_else(|| TensorError::Dtype { dtype: tensor.dtype.to_string() })?;
    if message_elements(tensor) > *elements_left {
        return Err(TensorError::TooLarge);
    }
    let mut values = if tensor.tensor_content.is_empty() { listed(tensor, dtype, elements_left)? } else { content(tensor, dtype)? };
    let sizes = match &tensor.tensor_shape {
        Some(shape) if !shape.unknown_rank => sizes(shape.dim.iter().map(|dim| dim.size).collect())?,
        // No shape is a scalar to TensorFlow; who sends several values without one means a list.
        _ if values.len() <= 1 => Vec::new(),
        _ => vec![values.len()],
    };
    let elements = take_elements(&sizes, elements_left).ok_or(TensorError::TooLarge)?;
    if values.len() > elements {
        return Err(TensorError::Count { elements, values: values.len() });
    }
    if !tensor.tensor_content.is_empty() && values.len() < elements {
        return Err(TensorError::Content { dtype, size_bytes: tensor.tensor_content.len() });
    }
    if values.len() < elements {
        let last = match values.last() {
            Some(last) => last.clone(),
            None => zero(dtype)?,
        };
        // Repeated values are small, but for strings and maps.
        if !(last.is_number() || last.is_boolean()) && elements > 1 && last.to_string().len().saturating_mul(elements) > ELEMENTS_MAX {
            return Err(TensorError::TooLarge);
        }
        values.resize(elements, last);
    }
    Ok(nested(&sizes, &mut values.into_iter()))
}

/// How many elements a shape has, when they and the lists around them are still to be had; both are taken.
pub(super) fn take_elements(sizes: &[usize], elements_left: &mut usize) -> Option<usize> {
    // Every prefix of the shape is a number of lists: many dimensions of size 1, or a last one of size 0, are lists and few elements.
    let mut elements = 1_usize;
    for size in sizes {
        *elements_left = elements_left.checked_sub(elements)?;
        elements = elements.checked_mul(*size)?;
    }
    *elements_left = elements_left.checked_sub(elements)?;
    Some(elements)
}

fn sizes(sizes: Vec<i64>) -> Result<Vec<usize>, TensorError> {
    let valid: Option<Vec<usize>> = sizes.iter().map(|size| usize::try_from(*size).ok()).collect();
    valid.filter(|sizes| sizes.len() <= RANK_MAX).ok_or_else(|| TensorError::Shape { sizes: sizes.into_iter().take(10).collect() })
}

/// The most elements that the message itself can hold, whatever its dtype: JSON needs many times their bytes.
fn message_elements(tensor: &TensorProto) -> usize {
    let numbers = [tensor.float_val.len(), tensor.double_val.len(), tensor.int_val.len(), tensor.int64_val.len(), tensor.half_val.len()];
    let others = [tensor.uint32_val.len(), tensor.uint64_val.len(), tensor.bool_val.len(), tensor.string_val.len(), tensor.map_val.len()];
    let pairs = [tensor.scomplex_val.len() / 2, tensor.dcomplex_val.len() / 2];
    let narrowest_bytes = match DataType::from_number(tensor.dtype) {
        Some(DataType::Double | DataType::Int64 | DataType::Uint64 | DataType::Complex64) => 8,
        Some(DataType::Float | DataType::Int32 | DataType::Uint32 | DataType::Qint32) => 4,
        Some(DataType::Half | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16) => 2,
        _ => 1,
    };
    let listed = numbers.into_iter().chain(others).chain(pairs).max().unwrap_or(0);
    listed.max(tensor.tensor_content.len() / narrowest_bytes)
}

fn nested(sizes: &[usize], values: &mut impl Iterator<Item = Value>) -> Value {
    match sizes.split_first() {
        None => values.next().unwrap_or(Value::Null),
        Some((size, inner)) => Value::Array((0..*size).map(|_| nested(inner, values)).collect()),
    }
}

/// The element that TensorFlow takes where a list is empty.
fn zero(dtype: DataType) -> Result<Value, TensorError> {
    Ok(match dtype {
        DataType::Half | DataType::Bfloat16 | DataType::Float | DataType::Double => json!(0.0),
        DataType::Complex64 | DataType::Complex128 => json!([0.0, 0.0]),
        DataType::String => json!(""),
        DataType::Bool => json!(false),
        DataType::Map => json!({}),
        DataType::Invalid | DataType::Resource | DataType::Variant | DataType::Any => return Err(no_values(dtype)),
        _ => json!(0),
    })
}

fn no_values(dtype: DataType) -> TensorError {
    TensorError::Dtype { dtype: dtype.name().to_owned() }
}

/// The elements in the list of the dtype's family.
fn listed(tensor: &TensorProto, dtype: DataType, elements_left: &mut usize) -> Result<Vec<Value>, TensorError> {
    Ok(match dtype {
        DataType::Float => tensor.float_val.iter().map(|value| single(*value)).collect(),
        DataType::Double => tensor.double_val.iter().map(|value| double(*value)).collect(),
        DataType::Half => tensor.half_val.iter().map(|bits| half(*bits as u16)).collect(),
        DataType::Bfloat16 => tensor.half_val.iter().map(|bits| bfloat16(*bits as u16)).collect(),
        DataType::Complex64 => {
            tensor.scomplex_val.chunks(2).map(|pair| json!([single(pair[0]), single(*pair.get(1).unwrap_or(&0.0))])).collect()
        }
        DataType::Complex128 => {
            tensor.dcomplex_val.chunks(2).map(|pair| json!([double(pair[0]), double(*pair.get(1).unwrap_or(&0.0))])).collect()
        }
        DataType::Int64 => tensor.int64_val.iter().map(|value| json!(value)).collect(),
        DataType::Uint32 => tensor.uint32_val.iter().map(|value| json!(value)).collect(),
        DataType::Uint64 => tensor.uint64_val.iter().map(|value| json!(value)).collect(),
        DataType::Bool => tensor.bool_val.iter().map(|value| json!(value)).collect(),
        DataType::String => tensor.string_val.iter().map(|value| text(value)).collect(),
        DataType::Map => {
            let mut values = Vec::new();
            for element in &tensor.map_val {
                let mut members = serde_json::Map::new();
                for (name, part) in &element.subtensors {
                    members.insert(name.clone(), tensor_to_json(part, elements_left)?);
                }
                values.push(Value::Object(members));
            }
            values
        }
        DataType::Invalid | DataType::Resource | DataType::Variant | DataType::Any => return Err(no_values(dtype)),
        // All integers of up to 32 bits but UINT32, quantized ones too.
        _ => tensor.int_val.iter().map(|value| json!(value)).collect(),
    })
}

/// The elements in the raw bytes.
fn content(tensor: &TensorProto, dtype: DataType) -> Result<Vec<Value>, TensorError> {
    fn read<const WIDTH: usize>(bytes: &[u8], element: impl Fn([u8; WIDTH]) -> Value) -> Option<Vec<Value>> {
        let (elements, rest) = bytes.as_chunks::<WIDTH>();
        rest.is_empty().then(|| elements.iter().map(|bytes| element(*bytes)).collect())
    }
    let bytes = tensor.tensor_content.as_slice();
    let values = match dtype {
        DataType::Float => read(bytes, |b| single(f32::from_le_bytes(b))),
        DataType::Double => read(bytes, |b| double(f64::from_le_bytes(b))),
        DataType::Half => read(bytes, |b| half(u16::from_le_bytes(b))),
        DataType::Bfloat16 => read(bytes, |b| bfloat16(u16::from_le_bytes(b))),
        DataType::Complex64 => read(bytes, |b: [u8; 8]| {
            let parts = b.as_chunks::<4>().0;
            json!([single(f32::from_le_bytes(parts[0])), single(f32::from_le_bytes(parts[1]))])
        }),
        DataType::Complex128 => read(bytes, |b: [u8; 16]| {
            let parts = b.as_chunks::<8>().0;
            json!([double(f64::from_le_bytes(parts[0])), double(f64::from_le_bytes(parts[1]))])
        }),
        DataType::Int64 => read(bytes, |b| json!(i64::from_le_bytes(b))),
        DataType::Uint64 => read(bytes, |b| json!(u64::from_le_bytes(b))),
        DataType::Int32 | DataType::Qint32 => read(bytes, |b| json!(i32::from_le_bytes(b))),
        DataType::Uint32 => read(bytes, |b| json!(u32::from_le_bytes(b))),
        DataType::Int16 | DataType::Qint16 => read(bytes, |b| json!(i16::from_le_bytes(b))),
        DataType::Uint16 | DataType::Quint16 => read(bytes, |b| json!(u16::from_le_bytes(b))),
        DataType::Int8 | DataType::Qint8 => read(bytes, |b| json!(i8::from_le_bytes(b))),
        DataType::Uint8 | DataType::Quint8 => read(bytes, |b| json!(u8::from_le_bytes(b))),
        DataType::Bool => read(bytes, |b: [u8; 1]| json!(b[0] != 0)),
        // TensorFlow never puts strings here for others to read.
        _ => return Err(no_values(dtype)),
    };
    values.ok_or(TensorError::Content { dtype, size_bytes: bytes.len() })
}

fn double(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => json!("NaN"),
        None => json!(if value > 0.0 { "Infinity" } else { "-Infinity" }),
    }
}

/// A float with the digits that it has as a float: 0.1, not 0.10000000149011612.
fn single(value: f32) -> Value {
    double(value.to_string().parse().unwrap_or(f64::from(value)))
}

fn bfloat16(bits: u16) -> Value {
    single(f32::from_bits(u32::from(bits) << 16))
}

/// IEEE 754 binary16: a sign, 5 bits of exponent with bias 15, 10 bits of fraction.
fn half(bits: u16) -> Value {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    double(match exponent {
        0 => sign * fraction * 2_f64.powi(-24),
        0x1f if fraction == 0.0 => sign * f64::INFINITY,
        0x1f => f64::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    })
}

fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"b64": STANDARD.encode(bytes)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::hydrosphere::tensorflow::tensor_shape_proto::Dim;
    use crate::proto::hydrosphere::tensorflow::{MapTensorData, TensorShapeProto};

    fn tensor(dtype: DataType, sizes: &[i64]) -> TensorProto {
        let dim = sizes.iter().map(|size| Dim { size: *size, name: String::new() }).collect();
        TensorProto { dtype: dtype.number(), tensor_shape: Some(TensorShapeProto { dim, unknown_rank: false }), ..TensorProto::default() }
    }

    #[test]
    fn both_forms_of_a_tensor_are_one_json() {
        for (dtype, listed, content, expected) in [
            (
                DataType::Float,
                TensorProto { float_val: vec![0.1, -2.0], ..Default::default() },
                &b"\xcd\xcc\xcc\x3d\0\0\0\xc0"[..],
                json!([0.1, -2.0]),
            ),
            (
                DataType::Double,
                TensorProto { double_val: vec![1.0, f64::NAN], ..Default::default() },
                b"\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\xf8\x7f",
                json!([1.0, "NaN"]),
            ),
            (
                DataType::Half,
                TensorProto { half_val: vec![0x3c00, 0xfc00], ..Default::default() },
                b"\0\x3c\0\xfc",
                json!([1.0, "-Infinity"]),
            ),
            (
                DataType::Half,
                TensorProto { half_val: vec![0xc100, 0x0001], ..Default::default() },
                b"\0\xc1\x01\0",
                json!([-2.5, 2_f64.powi(-24)]),
            ),
            (
                DataType::Bfloat16,
                TensorProto { half_val: vec![0x3f80, 0xc000], ..Default::default() },
                b"\x80\x3f\0\xc0",
                json!([1.0, -2.0]),
            ),
            (
                DataType::Complex64,
                TensorProto { scomplex_val: vec![1.0, 2.0, 0.0, -1.0], ..Default::default() },
                b"\0\0\x80\x3f\0\0\0\x40\0\0\0\0\0\0\x80\xbf",
                json!([[1.0, 2.0], [0.0, -1.0]]),
            ),
            (DataType::Int8, TensorProto { int_val: vec![-1, 127], ..Default::default() }, b"\xff\x7f", json!([-1, 127])),
            (DataType::Quint8, TensorProto { int_val: vec![255, 0], ..Default::default() }, b"\xff\0", json!([255, 0])),
            (DataType::Uint16, TensorProto { int_val: vec![65535, 1], ..Default::default() }, b"\xff\xff\x01\0", json!([65535, 1])),
            (DataType::Int32, TensorProto { int_val: vec![-1, 1], ..Default::default() }, b"\xff\xff\xff\xff\x01\0\0\0", json!([-1, 1])),
            (
                DataType::Uint32,
                TensorProto { uint32_val: vec![u32::MAX, 1], ..Default::default() },
                b"\xff\xff\xff\xff\x01\0\0\0",
                json!([u32::MAX, 1]),
            ),
            (
                DataType::Int64,
                TensorProto { int64_val: vec![-1, 1], ..Default::default() },
                b"\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0\0\0\0\0\0",
                json!([-1, 1]),
            ),
            (
                DataType::Uint64,
                TensorProto { uint64_val: vec![u64::MAX, 1], ..Default::default() },
                b"\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0\0\0\0\0\0",
                json!([u64::MAX, 1]),
            ),
            (DataType::Bool, TensorProto { bool_val: vec![true, false], ..Default::default() }, b"\x01\0", json!([true, false])),
        ] {
            let shaped = tensor(dtype, &[2]);
            let listed = TensorProto { dtype: shaped.dtype, tensor_shape: shaped.tensor_shape.clone(), ..listed };
            assert_eq!(to_json(&listed).unwrap(), expected, "{dtype}");
            assert_eq!(to_json(&TensorProto { tensor_content: content.to_vec(), ..shaped }).unwrap(), expected, "{dtype}");
        }
    }

    #[test]
    fn values_are_nested_by_shape() {
        let shaped = |sizes: &[i64], values: &[i64]| to_json(&TensorProto { int64_val: values.to_vec(), ..tensor(DataType::Int64, sizes) });
        assert_eq!(shaped(&[], &[7]).unwrap(), json!(7));
        assert_eq!(shaped(&[2, 2], &[1, 2, 3, 4]).unwrap(), json!([[1, 2], [3, 4]]));
        assert_eq!(shaped(&[2, 0], &[]).unwrap(), json!([[], []]));
        assert_eq!(shaped(&[1, 3], &[1, 2]).unwrap(), json!([[1, 2, 2]]), "the last one stands for the rest");
        assert_eq!(shaped(&[2], &[]).unwrap(), json!([0, 0]));
        assert_eq!(shaped(&[1], &[1, 2]), Err(TensorError::Count { elements: 1, values: 2 }));
        let unshaped = |values: &[i64]| TensorProto { int64_val: values.to_vec(), tensor_shape: None, ..tensor(DataType::Int64, &[]) };
        assert_eq!(to_json(&unshaped(&[1, 2])).unwrap(), json!([1, 2]));
        assert_eq!(to_json(&unshaped(&[1])).unwrap(), json!(1));
        let strings = TensorProto { string_val: vec!["ü".into(), b"\xff".to_vec()], ..tensor(DataType::String, &[2]) };
        assert_eq!(to_json(&strings).unwrap(), json!(["ü", {"b64": "/w=="}]));
        let part = TensorProto { bool_val: vec![true], ..tensor(DataType::Bool, &[1]) };
        let map = MapTensorData { subtensors: [("a".to_owned(), part)].into() };
        assert_eq!(to_json(&TensorProto { map_val: vec![map], ..tensor(DataType::Map, &[]) }).unwrap(), json!({"a": [true]}));
    }

    #[test]
    fn what_promises_too_much_or_fits_nothing_is_refused() {
        for sizes in [&[1 << 40][..], &[i64::MAX, i64::MAX], &[1_000_000, 1, 1], &[1 << 40, 0]] {
            assert_eq!(
                to_json(&TensorProto { int64_val: vec![1], ..tensor(DataType::Int64, sizes) }),
                Err(TensorError::TooLarge),
                "{sizes:?}"
            );
        }
        assert_eq!(to_json(&tensor(DataType::Int64, &[2, -1])), Err(TensorError::Shape { sizes: vec![2, -1] }));
        assert!(matches!(to_json(&tensor(DataType::Int64, &[1; 255])), Err(TensorError::Shape { .. })));
        let repeated = TensorProto { string_val: vec![vec![b'x'; 1000]], ..tensor(DataType::String, &[100_000]) };
        assert_eq!(to_json(&repeated), Err(TensorError::TooLarge));
        for content in [&b"\0\0\0"[..], b"\0\0\0\0"] {
            let raw = TensorProto { tensor_content: content.to_vec(), ..tensor(DataType::Float, &[2]) };
            assert!(matches!(to_json(&raw), Err(TensorError::Content { .. })));
        }
        for dtype in [DataType::Resource, DataType::Variant, DataType::Invalid] {
            assert!(matches!(to_json(&tensor(dtype, &[])), Err(TensorError::Dtype { .. })));
        }
        assert_eq!(to_json(&TensorProto { dtype: 99, ..Default::default() }), Err(TensorError::Dtype { dtype: "99".to_owned() }));
    }
}
