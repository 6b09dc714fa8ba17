//! Samples of `contract/sample.rs`, held against the contracts that they were made for.
//!
//! What fits is said here once more and by itself: every input and nothing else, each of its field's dtype and shape, with as many values as the
//! shape has elements. The bytes of each dialect are decoded again, and the JSON is looked at by its lists.

use std::collections::BTreeMap;

use lamina::contract::bare_tensor;
use lamina::contract::contract::{Contract, Field, FieldKind, Shape, Signature};
use lamina::contract::dtype::DataType;
use lamina::contract::sample::{encoded, json, request};
use lamina::contract::wire::Dialect;
use lamina::proto::hydrosphere::serving::runtime::PredictRequest as BareRequest;
use lamina::proto::hydrosphere::tensorflow::TensorProto;
use lamina::proto::hydrosphere::tensorflow::serving::PredictRequest;
use proptest::prelude::*;
use prost::Message;
use serde_json::Value;

/// The list of a dtype's values, by the messages' own comments: its length, and how many of it an element has.
fn values(tensor: &TensorProto) -> (usize, usize) {
    let name = DataType::from_number(tensor.dtype).unwrap().name();
    match name {
        "DT_FLOAT" => (tensor.float_val.len(), 1),
        "DT_DOUBLE" => (tensor.double_val.len(), 1),
        "DT_HALF" | "DT_BFLOAT16" => (tensor.half_val.len(), 1),
        "DT_COMPLEX64" => (tensor.scomplex_val.len(), 2),
        "DT_COMPLEX128" => (tensor.dcomplex_val.len(), 2),
        "DT_STRING" => (tensor.string_val.len(), 1),
        "DT_BOOL" => (tensor.bool_val.len(), 1),
        "DT_INT64" => (tensor.int64_val.len(), 1),
        "DT_UINT32" => (tensor.uint32_val.len(), 1),
        "DT_UINT64" => (tensor.uint64_val.len(), 1),
        "DT_MAP" => (tensor.map_val.len(), 1),
        _ => (tensor.int_val.len(), 1),
    }
}

fn all_fit(tensors: &BTreeMap<String, TensorProto>, fields: &[Field]) -> bool {
    tensors.len() == fields.len() && fields.iter().all(|field| tensors.get(&field.name).is_some_and(|tensor| fits(tensor, field)))
}

fn fits(tensor: &TensorProto, field: &Field) -> bool {
    let Some(shape) = tensor.tensor_shape.as_ref().filter(|shape| !shape.unknown_rank) else { return false };
    let sizes: Vec<i64> = shape.dim.iter().map(|dim| dim.size).collect();
    let shaped = match &field.shape {
        Shape::Any | Shape::UnknownRank => true,
        Shape::Dimensions(wanted) => {
            wanted.len() == sizes.len()
                && wanted.iter().zip(&sizes).all(|(wanted, size)| wanted.size == *size || (wanted.size == -1 && *size >= 0))
        }
    };
    let typed = match &field.kind {
        FieldKind::Dtype(DataType::Any) => tensor.dtype != DataType::Invalid.number() && tensor.dtype != DataType::Any.number(),
        FieldKind::Dtype(dtype) => tensor.dtype == dtype.number(),
        FieldKind::Subfields(subfields) => {
            tensor.dtype == DataType::Map.number() && tensor.map_val.iter().all(|element| all_fit(&element.subtensors, subfields))
        }
        FieldKind::Missing => false,
    };
    let (count, each) = values(tensor);
    shaped && typed && tensor.tensor_content.is_empty() && count as i64 == sizes.iter().product::<i64>() * each as i64
}

/// Whether JSON has the lists of a fixed shape, and in the innermost the members of the subfields.
fn json_fits(value: &Value, field: &Field, sizes: &[i64]) -> bool {
    if let Some((size, inner)) = sizes.split_first() {
        let length = if *size == -1 { 1 } else { *size };
        return value.as_array().is_some_and(|list| list.len() as i64 == length && list.iter().all(|value| json_fits(value, field, inner)));
    }
    match &field.kind {
        FieldKind::Subfields(subfields) => value.as_object().is_some_and(|members| {
            members.len() == subfields.len() && subfields.iter().all(|field| json_fits(&members[&field.name], field, &stated(field)))
        }),
        FieldKind::Dtype(DataType::String) => value.is_string(),
        FieldKind::Dtype(DataType::Bool) => value.is_boolean(),
        FieldKind::Dtype(DataType::Map) => value.is_object(),
        FieldKind::Dtype(DataType::Complex64 | DataType::Complex128) => value.as_array().is_some_and(|pair| pair.len() == 2),
        FieldKind::Dtype(_) => value.is_number(),
        FieldKind::Missing => false,
    }
}

/// The sizes that a field states; a scalar's where it states none.
fn stated(field: &Field) -> Vec<i64> {
    match &field.shape {
        Shape::Any | Shape::UnknownRank => Vec::new(),
        Shape::Dimensions(dimensions) => dimensions.iter().map(|dimension| dimension.size).collect(),
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let sizes = prop::collection::vec(-1..4_i64, 0..4).prop_map(|sizes| Shape::of(&sizes));
    prop_oneof![1 => Just(Shape::Any), 1 => Just(Shape::UnknownRank), 5 => sizes]
}

fn fields(dtypes: Vec<DataType>) -> impl Strategy<Value = Vec<Field>> {
    let leaf = ("[a-d]", prop::sample::select(dtypes), shape()).prop_map(|(name, dtype, shape)| Field::new(&name, dtype, shape));
    let field = leaf.prop_recursive(3, 8, 3, |inner| {
        ("[a-d]", prop::collection::vec(inner, 1..4), shape()).prop_map(|(name, subfields, shape)| Field {
            kind: FieldKind::Subfields(distinct(subfields)),
            ..Field::new(&name, DataType::Map, shape)
        })
    });
    prop::collection::vec(field, 0..4).prop_map(distinct)
}

fn distinct(fields: Vec<Field>) -> Vec<Field> {
    let by_name: BTreeMap<String, Field> = fields.into_iter().map(|field| (field.name.clone(), field)).collect();
    by_name.into_values().collect()
}

/// Every type of which there is an example, in every dialect.
fn dtypes() -> Vec<DataType> {
    let never = [DataType::Invalid, DataType::Resource, DataType::Variant, DataType::Bfloat16];
    DataType::ALL.into_iter().filter(|dtype| !never.contains(dtype)).collect()
}

proptest! {
    #[test]
    fn a_sample_fits_its_contract_in_every_form(inputs in fields(dtypes())) {
        let output = Field::new("y", DataType::Float, Shape::Any);
        let signature = Signature { name: "infer".to_owned(), inputs, outputs: vec![output] };
        let contract = Contract { model_name: String::new(), signatures: vec![signature.clone()] };
        prop_assert!(contract.validate().is_ok());

        // Three levels of three dimensions of three are past what is made.
        let Ok(made) = request("adult", &signature) else { return Ok(()) };
        prop_assert!(all_fit(&made.inputs, &signature.inputs), "{:?}", made);
        for dialect in [Dialect::V1, Dialect::V2] {
            let bytes = encoded("adult", &signature, dialect).unwrap();
            prop_assert_eq!(&PredictRequest::decode(bytes.as_slice()).unwrap(), &made);
        }
        let bare = BareRequest::decode(encoded("adult", &signature, Dialect::V3).unwrap().as_slice()).unwrap();
        let bare: BTreeMap<String, TensorProto> = bare.inputs.into_iter().map(|(name, tensor)| (name, bare_tensor::from_bare(tensor))).collect();
        prop_assert_eq!(&bare, &made.inputs);

        let json = json(&signature).unwrap();
        prop_assert_eq!(json.as_object().unwrap().len(), signature.inputs.len());
        prop_assert!(signature.inputs.iter().all(|field| json_fits(&json[&field.name], field, &stated(field))), "{}", json);
    }
}
