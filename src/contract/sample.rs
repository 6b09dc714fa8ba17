//! An example request that fits a signature.
//!
//! The values are those of the ancestor's generator: 1, 1.0, "foo", true; an open dimension is 1 long, and where the shape is open
//! there is a scalar. Where the dtype is open the example is a DT_DOUBLE, and a map of which nothing is said is empty. A request is a
//! protobuf message for the runtime, in the form of its dialect, or JSON by field name for people and HTTP; all are made of one message, so
//! that they cannot differ.
//!
//! What must stay true: the request has every input and nothing else, each of the dtype and a shape that the contract allows.

use prost::Message;
use serde_json::{Map, Value};

use super::bare_tensor;
use super::contract::{Contract, Field, FieldKind, Shape, Signature, shown};
use super::dtype::DataType;
use super::tensor::{self, TensorError, take_elements};
use super::wire::Dialect;
use crate::fault::{Failure, Fault};
use crate::proto::hydrosphere::serving::runtime::PredictRequest as BareRequest;
use crate::proto::hydrosphere::tensorflow::serving::{ModelSpec, PredictRequest};
use crate::proto::hydrosphere::tensorflow::tensor_shape_proto::Dim;
use crate::proto::hydrosphere::tensorflow::{MapTensorData, TensorProto, TensorShapeProto};

/// The most elements of a request, with the lists around them: enough for a picture of 1024 by 1024 in three colours. JSON, which
/// needs more memory for each, has `tensor::ELEMENTS_MAX`.
pub const ELEMENTS_MAX: usize = 5_000_000;

/// For how many elements an element of a map counts: what it is kept in takes kilobytes, however little is in it.
const MAP_ELEMENTS: usize = 1000;

/// Why there is no example.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// A type of which nobody can write a value.
    #[error("there is no example of {place}, whose dtype is {dtype}")]
    Dtype {
        /// The field.
        place: String,
        /// Its type.
        dtype: DataType,
    },
    /// A fixed shape past the limit.
    #[error(
        "an example of {place} would be too large: the limit is {ELEMENTS_MAX} elements, and one with subfields counts for {MAP_ELEMENTS}"
    )]
    TooLarge {
        /// The field.
        place: String,
    },
    /// A field of nothing, or a dimension below -1.
    #[error("there is no example of {place}, which is not valid")]
    Invalid {
        /// The field.
        place: String,
    },
    /// A type that the third dialect lacks.
    #[error("dialect v3 has no {dtype}, which the example of {place} has")]
    Dialect {
        /// The input.
        place: String,
        /// Its type, or that of one of its subfields.
        dtype: DataType,
    },
    /// The signature that was asked for is not there.
    #[error("the contract has no signature `{asked}`")]
    NoSignature {
        /// Its name.
        asked: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no signature at all.
    #[error("the contract has no signature, so there is nothing to ask")]
    NoSignatures,
    /// Past the limit for JSON.
    #[error("the example cannot be written as JSON")]
    Json(#[from] TensorError),
}

impl Failure for SampleError {
    fn fault(&self) -> Fault {
        match self {
            SampleError::NoSignature { .. } => Fault::Usage,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            SampleError::NoSignature { known, .. } => Some(format!("ask for one that it has: {}", known.join(", "))),
            SampleError::Dialect { .. } => Some("ask for the example in dialect v1".to_owned()),
            _ => None,
        }
    }
}

/// The signature with this name; the first one where none is asked for.
pub fn signature<'a>(contract: &'a Contract, asked: Option<&str>) -> Result<&'a Signature, SampleError> {
    /// More signatures than a remedy can list.
    const KNOWN_MAX: usize = 20;
    match asked {
        _ if contract.signatures.is_empty() => Err(SampleError::NoSignatures),
        None => Ok(&contract.signatures[0]),
        Some(asked) => contract.signatures.iter().find(|signature| signature.name == asked).ok_or_else(|| SampleError::NoSignature {
            asked: shown(asked),
            known: contract.signatures.iter().take(KNOWN_MAX).map(|signature| shown(&signature.name)).collect(),
        }),
    }
}

/// A request to `model` for this signature.
pub fn request(model: &str, signature: &Signature) -> Result<PredictRequest, SampleError> {
    let mut elements_left = ELEMENTS_MAX;
    let mut inputs = std::collections::BTreeMap::new();
    for field in &signature.inputs {
        let place = format!("{}.inputs.{}", shown(&signature.name), shown(&field.name));
        inputs.insert(field.name.clone(), tensor(field, &place, &mut elements_left)?);
    }
    let model_spec = ModelSpec { name: model.to_owned(), version: None, signature_name: signature.name.clone() };
    Ok(PredictRequest { model_spec: Some(model_spec), inputs })
}

/// The same request in the form of the third dialect, which names no model and no signature.
pub fn bare_request(signature: &Signature) -> Result<BareRequest, SampleError> {
    let mut inputs = std::collections::BTreeMap::new();
    for (name, tensor) in request("", signature)?.inputs {
        let place = || format!("{}.inputs.{}", shown(&signature.name), shown(&name));
        let bare = bare_tensor::to_bare(tensor).map_err(|dtype| SampleError::Dialect { place: place(), dtype })?;
        inputs.insert(name, bare);
    }
    Ok(BareRequest { inputs })
}

/// The same request as the bytes of the message that runtimes of this dialect take.
pub fn encoded(model: &str, signature: &Signature, dialect: Dialect) -> Result<Vec<u8>, SampleError> {
    Ok(match dialect {
        Dialect::V1 | Dialect::V2 => request(model, signature)?.encode_to_vec(),
        Dialect::V3 => bare_request(signature)?.encode_to_vec(),
    })
}

/// The inputs of the same request as JSON: values by field name. Each of them has at most `tensor::ELEMENTS_MAX` elements.
pub fn json(signature: &Signature) -> Result<Value, SampleError> {
    let mut members = Map::new();
    for (name, tensor) in &request("", signature)?.inputs {
        members.insert(name.clone(), tensor::to_json(tensor)?);
    }
    Ok(Value::Object(members))
}

fn tensor(field: &Field, place: &str, elements_left: &mut usize) -> Result<TensorProto, SampleError> {
    let sizes: Vec<i64> = match &field.shape {
        Shape::Any | Shape::UnknownRank => Vec::new(),
        Shape::Dimensions(dimensions) => dimensions.iter().map(|dimension| if dimension.size == -1 { 1 } else { dimension.size }).collect(),
    };
    let lengths: Result<Vec<usize>, _> = sizes.iter().map(|size| usize::try_from(*size)).collect();
    let lengths = lengths.map_err(|_| SampleError::Invalid { place: place.to_owned() })?;
    let elements = take_elements(&lengths, elements_left).ok_or_else(|| SampleError::TooLarge { place: place.to_owned() })?;
    let dim = sizes.into_iter().map(|size| Dim { size, name: String::new() }).collect();
    let mut tensor = TensorProto { tensor_shape: Some(TensorShapeProto { dim, unknown_rank: false }), ..TensorProto::default() };
    match &field.kind {
        FieldKind::Dtype(dtype) => fill(&mut tensor, *dtype, elements, place)?,
        FieldKind::Subfields(subfields) if !subfields.is_empty() => {
            tensor.dtype = DataType::Map.number();
            let cost = elements.saturating_mul(subfields.len()).saturating_mul(MAP_ELEMENTS);
            *elements_left = elements_left.checked_sub(cost).ok_or_else(|| SampleError::TooLarge { place: place.to_owned() })?;
            for _ in 0..elements {
                let mut element = MapTensorData::default();
                for subfield in subfields {
                    let place = format!("{place}.{}", shown(&subfield.name));
                    element.subtensors.insert(subfield.name.clone(), self::tensor(subfield, &place, elements_left)?);
                }
                tensor.map_val.push(element);
            }
        }
        FieldKind::Subfields(_) | FieldKind::Missing => return Err(SampleError::Invalid { place: place.to_owned() }),
    }
    Ok(tensor)
}

/// Puts `elements` values of a type into a tensor, in the list of the type's family.
fn fill(tensor: &mut TensorProto, dtype: DataType, elements: usize, place: &str) -> Result<(), SampleError> {
    /// 1.0 in binary16 and in bfloat16.
    const HALF_ONE: i32 = 0x3c00;
    const BFLOAT16_ONE: i32 = 0x3f80;
    tensor.dtype = dtype.number();
    match dtype {
        DataType::Float => tensor.float_val = vec![1.0; elements],
        DataType::Double => tensor.double_val = vec![1.0; elements],
        DataType::Half => tensor.half_val = vec![HALF_ONE; elements],
        DataType::Bfloat16 => tensor.half_val = vec![BFLOAT16_ONE; elements],
        DataType::Complex64 => tensor.scomplex_val = [1.0, 0.0].repeat(elements),
        DataType::Complex128 => tensor.dcomplex_val = [1.0, 0.0].repeat(elements),
        DataType::String => tensor.string_val = vec![b"foo".to_vec(); elements],
        DataType::Bool => tensor.bool_val = vec![true; elements],
        DataType::Int64 => tensor.int64_val = vec![1; elements],
        DataType::Uint32 => tensor.uint32_val = vec![1; elements],
        DataType::Uint64 => tensor.uint64_val = vec![1; elements],
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Uint8 | DataType::Uint16 => tensor.int_val = vec![1; elements],
        DataType::Qint8 | DataType::Quint8 | DataType::Qint16 | DataType::Quint16 | DataType::Qint32 => tensor.int_val = vec![1; elements],
        DataType::Map => tensor.map_val = vec![MapTensorData::default(); elements],
        // A tensor has a type of its own.
        DataType::Any => return fill(tensor, DataType::Double, elements, place),
        DataType::Invalid | DataType::Resource | DataType::Variant => {
            return Err(SampleError::Dtype { place: place.to_owned(), dtype });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::contract::FIELD_DEPTH_MAX;
    use super::super::text::parse;
    use super::*;
    use serde_json::json;

    fn signature(inputs: &str) -> Signature {
        let text = format!("signatures {{ signature_name: 'infer' {inputs} }}");
        parse(text.as_bytes(), "c").unwrap().signatures.remove(0)
    }

    #[test]
    fn every_dtype_has_its_example() {
        for dtype in DataType::ALL {
            let example = json(&signature(&format!(
                "inputs {{ name: 'x' shape {{ dim {{ size: -1 }} dim {{ size: 2 }} }} dtype: {} }}",
                dtype.number()
            )));
            let value = match dtype {
                DataType::Float | DataType::Double | DataType::Half | DataType::Bfloat16 | DataType::Any => json!(1.0),
                DataType::Map => json!({}),
                DataType::Complex64 | DataType::Complex128 => json!([1.0, 0.0]),
                DataType::String => json!("foo"),
                DataType::Bool => json!(true),
                DataType::Invalid | DataType::Resource | DataType::Variant => {
                    assert!(matches!(example, Err(SampleError::Dtype { place, .. }) if place == "infer.inputs.x"));
                    continue;
                }
                _ => json!(1),
            };
            assert_eq!(example.unwrap(), json!({"x": [[value, value]]}), "{dtype}");
        }
    }

    #[test]
    fn a_request_names_model_and_signature_and_has_every_input() {
        let signature = signature(
            "inputs { name: 'age' dtype: DT_INT32 } inputs { name: 'tags' shape { unknown_rank: true } dtype: DT_STRING }
             inputs { name: 'client' shape { dim { size: 2 } } subfields { data { name: 'id' shape { } dtype: DT_INT64 } } }
             outputs { name: 'y' dtype: DT_RESOURCE }",
        );
        let request = request("adult", &signature).unwrap();
        let spec = request.model_spec.unwrap();
        assert_eq!((spec.name.as_str(), spec.signature_name.as_str(), spec.version), ("adult", "infer", None));
        assert_eq!(request.inputs.keys().collect::<Vec<_>>(), ["age", "client", "tags"]);
        assert_eq!(request.inputs["client"].dtype, 27);
        assert_eq!(json(&signature).unwrap(), json!({"age": 1, "tags": "foo", "client": [{"id": 1}, {"id": 1}]}));
    }

    #[test]
    fn a_signature_is_chosen_by_name() {
        let text = "signatures { signature_name: 'a' } signatures { signature_name: 'b' }";
        let contract = parse(text.as_bytes(), "c").unwrap();
        assert_eq!(super::signature(&contract, None).unwrap().name, "a");
        assert_eq!(super::signature(&contract, Some("b")).unwrap().name, "b");
        let error = super::signature(&contract, Some("c")).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.fault()), ("the contract has no signature `c`", Fault::Usage));
        assert_eq!(error.remedy().unwrap(), "ask for one that it has: a, b");
        assert!(matches!(super::signature(&Contract::default(), None), Err(SampleError::NoSignatures)));
    }

    #[test]
    fn the_third_dialect_has_the_same_request_in_its_own_message() {
        let fitting = signature("inputs { name: 'x' shape { dim { size: -1 } dim { size: 2 } } dtype: DT_INT64 }");
        // What the ancestor's own Python messages of 3.0.3 give for
        // inputs { key: "x" value { dtype: DT_INT64 tensor_shape { dims: [1, 2] } int64_val: [1, 1] } }
        let expected = b"\x0a\x11\x0a\x01x\x12\x0c\x08\x09\x12\x04\x0a\x02\x01\x02\x52\x02\x01\x01";
        assert_eq!(encoded("m", &fitting, Dialect::V3).unwrap(), expected);
        assert_eq!(encoded("m", &fitting, Dialect::V2).unwrap(), request("m", &fitting).unwrap().encode_to_vec());
        let lost = signature("inputs { name: 'x' subfields { data { name: 'a' dtype: DT_BFLOAT16 } } }");
        let error = encoded("m", &lost, Dialect::V3).unwrap_err();
        assert_eq!(error.to_string(), "dialect v3 has no DT_BFLOAT16, which the example of infer.inputs.x has");
    }

    #[test]
    fn an_example_past_the_limit_is_refused() {
        let fixed = |size: i64| signature(&format!("inputs {{ name: 'x' shape {{ dim {{ size: {size} }} }} dtype: DT_BOOL }}"));
        assert!(request("m", &fixed(1 << 20)).is_ok());
        assert!(matches!(request("m", &fixed(1 << 33)), Err(SampleError::TooLarge { .. })));
        assert!(matches!(request("m", &fixed(-2)), Err(SampleError::Invalid { .. })));
        let map = |size: i64| {
            signature(&format!(
                "inputs {{ name: 'x' shape {{ dim {{ size: {size} }} }} subfields {{ data {{ name: 'a' dtype: DT_BOOL }} }} }}"
            ))
        };
        assert!(request("m", &map(1000)).is_ok());
        assert!(matches!(request("m", &map(1 << 20)), Err(SampleError::TooLarge { .. })));
    }

    #[test]
    fn an_example_as_deep_as_a_contract_goes_needs_no_large_stack() {
        let wide = || Shape::of(&[1; 254]);
        let leaf = Field::new("x", DataType::Float, wide());
        let deepest = (1..FIELD_DEPTH_MAX)
            .fold(leaf, |field, _| Field { kind: FieldKind::Subfields(vec![field]), ..Field::new("m", DataType::Map, wide()) });
        let signature = Signature { name: "infer".to_owned(), inputs: vec![deepest], outputs: Vec::new() };
        assert_eq!(json(&signature).unwrap().to_string().matches('[').count(), 254 * FIELD_DEPTH_MAX);
    }
}
