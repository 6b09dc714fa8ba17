//! The ancestor's JSON of a signature -> our value.
//!
//! Releases differ in the shape: 3.x writes `{"dims": [-1, 2]}`, 2.x protobuf's own JSON, `{"dim": [{"size": "-1"}], "unknownRank": true}`.
//! Both are read. What is valid as a contract is not asked here.

use serde_json::Value;

use super::refusal::RequestError;
use crate::contract::contract::{Dimension, Field, FieldKind, Shape, Signature};
use crate::contract::dtype::{DataType, Profile};

/// Reads a signature.
pub fn read(value: &Value) -> Result<Signature, RequestError> {
    let name = value.get("signatureName").or_else(|| value.get("signature_name")).and_then(Value::as_str);
    Ok(Signature {
        name: name.ok_or_else(|| refuse("`signatureName`", &Value::Null, "a text"))?.to_owned(),
        inputs: fields(&value["inputs"])?,
        outputs: fields(&value["outputs"])?,
    })
}

/// Reads the contract of 2.x (`predict`) or of 0.1.x (`signatures`).
pub fn read_contract(value: &Value) -> Result<Vec<Signature>, RequestError> {
    if let Some(predict) = value.get("predict").filter(|predict| !predict.is_null()) {
        return Ok(vec![read(predict)?]);
    }
    let signatures = value["signatures"].as_array().ok_or_else(|| refuse("`contract`", value, "an object with `predict`"))?;
    signatures.iter().map(read).collect()
}

fn refuse(name: &'static str, value: &Value, expected: &'static str) -> RequestError {
    RequestError::Parameter { name, value: value.to_string().chars().take(200).collect(), expected }
}

fn fields(value: &Value) -> Result<Vec<Field>, RequestError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(fields) => fields.iter().map(field).collect(),
        other => Err(refuse("a list of fields", other, "an array")),
    }
}

fn field(value: &Value) -> Result<Field, RequestError> {
    let name = value["name"].as_str().ok_or_else(|| refuse("a field's `name`", &value["name"], "a text"))?;
    let kind = match (&value["dtype"], &value["subfields"]) {
        (Value::String(dtype), _) => {
            let dtype = DataType::from_name(dtype).ok_or_else(|| refuse("`dtype`", &value["dtype"], "a name such as DT_FLOAT"))?;
            FieldKind::Dtype(dtype)
        }
        // 2.x wraps the list once more, as the message does.
        (_, Value::Object(subfields)) => FieldKind::Subfields(fields(subfields.get("data").unwrap_or(&Value::Null))?),
        (_, subfields @ Value::Array(_)) => FieldKind::Subfields(fields(subfields)?),
        _ => FieldKind::Missing,
    };
    let profile = match &value["profile"] {
        Value::Null => Profile::None,
        Value::String(name) => {
            Profile::from_name(name).ok_or_else(|| refuse("`profile`", &value["profile"], "a name such as NUMERICAL"))?
        }
        other => return Err(refuse("`profile`", other, "a name such as NUMERICAL")),
    };
    Ok(Field { name: name.to_owned(), kind, shape: shape(&value["shape"])?, profile })
}

fn shape(value: &Value) -> Result<Shape, RequestError> {
    if value.is_null() {
        return Ok(Shape::Any);
    }
    if ["unknownRank", "unknown_rank"].iter().any(|name| value[name] == true) {
        return Ok(Shape::UnknownRank);
    }
    let list = match (&value["dims"], &value["dim"]) {
        (Value::Array(list), _) | (_, Value::Array(list)) => list.as_slice(),
        // Protobuf's JSON leaves out what is empty: a scalar.
        _ if value.is_object() => &[],
        _ => return Err(refuse("`shape`", value, "an object with `dims`")),
    };
    list.iter().map(dimension).collect::<Result<_, _>>().map(Shape::Dimensions)
}

fn dimension(value: &Value) -> Result<Dimension, RequestError> {
    let size = if value.is_object() { &value["size"] } else { value };
    // 64-bit numbers are texts in protobuf's JSON, and 0 is left out.
    let size = match size {
        Value::Null if value.is_object() => Some(0),
        Value::String(text) => text.parse().ok(),
        number => number.as_i64(),
    };
    let name = value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Dimension { size: size.ok_or_else(|| refuse("a dimension", value, "a number"))?, name })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_forms_of_2_and_3_read_the_same() {
        let third = json!({"signatureName": "infer", "outputs": [],
            "inputs": [{"name": "x", "dtype": "DT_DOUBLE", "shape": {"dims": [-1, 2]}, "profile": "NUMERICAL"},
                       {"name": "s", "dtype": "DT_INT64", "shape": {"dims": []}}, {"name": "a", "dtype": "DT_STRING", "shape": null},
                       {"name": "m", "subfields": [{"name": "n", "dtype": "DT_BOOL"}]}]});
        let second = json!({"signature_name": "infer",
            "inputs": [{"name": "x", "dtype": "DT_DOUBLE", "shape": {"dim": [{"size": "-1"}, {"size": 2}]}, "profile": "NUMERICAL"},
                       {"name": "s", "dtype": "DT_INT64", "shape": {}}, {"name": "a", "dtype": "DT_STRING"},
                       {"name": "m", "subfields": {"data": [{"name": "n", "dtype": "DT_BOOL"}]}}]});
        let read_third = read(&third).unwrap();
        assert_eq!(read_third, read(&second).unwrap());
        assert_eq!(read_contract(&json!({"modelName": "model", "predict": second})).unwrap(), std::slice::from_ref(&read_third));
        assert_eq!(read_third.inputs[0].shape, Shape::of(&[-1, 2]));
        assert_eq!((&read_third.inputs[1].shape, &read_third.inputs[2].shape), (&Shape::scalar(), &Shape::Any));
    }

    #[test]
    fn what_is_no_signature_is_refused_by_name() {
        let field = |field: Value| json!({"signatureName": "s", "inputs": [field]});
        let cases = [
            (json!({}), "`signatureName`"),
            (json!({"signatureName": "s", "inputs": 3}), "a list of fields"),
            (field(json!({"dtype": "DT_FLOAT"})), "`name`"),
            (field(json!({"name": "x", "dtype": "float"})), "`dtype`"),
            (field(json!({"name": "x", "dtype": "DT_FLOAT", "shape": 3})), "`shape`"),
            (field(json!({"name": "x", "dtype": "DT_FLOAT", "shape": {"dims": ["a"]}})), "a dimension"),
            (field(json!({"name": "x", "dtype": "DT_FLOAT", "profile": "NICE"})), "`profile`"),
        ];
        for (value, word) in cases {
            let error = read(&value).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
