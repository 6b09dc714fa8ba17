//! An example request that fits a signature.
//!
//! The values are those of the ancestor's generator: 1, 1.0, "foo", true; an open dimension is 1 long, and where the shape is open
//! there is a scalar. A request is a protobuf message for the runtime, or JSON by field name for people and HTTP; the JSON is the
//! message's, so that the two cannot differ.
//!
//! What must stay true: the request has every input and nothing else, each of the dtype and a shape that the contract allows.

use serde_json::{Map, Value};

use super::contract::{Field, FieldKind, Shape, Signature, shown};
use super::dtype::DataType;
use super::tensor::{self, TensorError, take_elements};
use crate::fault::{Failure, Fault};
use crate::proto::hydrosphere::tensorflow::serving::{ModelSpec, PredictRequest};
use crate::proto::hydrosphere::tensorflow::tensor_shape_proto::Dim;
use crate::proto::hydrosphere::tensorflow::{MapTensorData, TensorProto, TensorShapeProto};

/// The most elements of a request, with the lists around them: enough for a picture of 1024 by 1024 in three colours. JSON, which
/// needs more memory for each, has `tensor::ELEMENTS_MAX`.
pub const ELEMENTS_MAX: usize = 5_000_000;

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
    #[error("an example of {place} would have more than {ELEMENTS_MAX} elements")]
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
    /// Not to be had for a request that this file made.
    #[error("the example cannot be written as JSON")]
    Json(#[from] TensorError),
}

impl Failure for SampleError {
    fn fault(&self) -> Fault {
        Fault::Invalid
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
        DataType::Invalid | DataType::Resource | DataType::Variant | DataType::Any | DataType::Map => {
            return Err(SampleError::Dtype { place: place.to_owned(), dtype });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
                DataType::Float | DataType::Double | DataType::Half | DataType::Bfloat16 => json!(1.0),
                DataType::Complex64 | DataType::Complex128 => json!([1.0, 0.0]),
                DataType::String => json!("foo"),
                DataType::Bool => json!(true),
                DataType::Invalid | DataType::Resource | DataType::Variant | DataType::Any | DataType::Map => {
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
    fn an_example_past_the_limit_is_refused() {
        let fixed = |size: i64| signature(&format!("inputs {{ name: 'x' shape {{ dim {{ size: {size} }} }} dtype: DT_BOOL }}"));
        assert!(request("m", &fixed(1 << 20)).is_ok());
        assert!(matches!(request("m", &fixed(1 << 33)), Err(SampleError::TooLarge { .. })));
        assert!(matches!(request("m", &fixed(-2)), Err(SampleError::Invalid { .. })));
    }
}
