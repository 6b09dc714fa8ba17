//! A contract as JSON, as `hs contract show --output json` prints it.
//!
//! A shape is `{"dims": [-1, 2]}`, `{"unknown_rank": true}` or `null` (any shape); where dimensions have names, `names` is beside
//! `dims` with as many members. A field with `subfields` has those in place of `dtype`. JSON is written and never read: contracts
//! travel as protobuf.
//!
//! What must stay true: members keep their names (interface §2); signatures and fields keep their order.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::contract::{Contract, Dimension, Field, FieldKind, Shape, Signature};
use super::dtype::{DataType, Profile};

impl Serialize for DataType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Profile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Shape::Any => serializer.serialize_none(),
            Shape::UnknownRank => {
                let mut shape = serializer.serialize_struct("Shape", 1)?;
                shape.serialize_field("unknown_rank", &true)?;
                shape.end()
            }
            Shape::Dimensions(dimensions) => {
                let named = dimensions.iter().any(|dimension| !dimension.name.is_empty());
                let mut shape = serializer.serialize_struct("Shape", 1 + usize::from(named))?;
                shape.serialize_field("dims", &dimensions.iter().map(|dimension| dimension.size).collect::<Vec<i64>>())?;
                if named {
                    let name = |dimension: &Dimension| dimension.name.clone();
                    shape.serialize_field("names", &dimensions.iter().map(name).collect::<Vec<String>>())?;
                }
                shape.end()
            }
        }
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut field = serializer.serialize_struct("Field", 4)?;
        field.serialize_field("name", &self.name)?;
        match &self.kind {
            FieldKind::Dtype(dtype) => field.serialize_field("dtype", dtype)?,
            FieldKind::Subfields(subfields) => field.serialize_field("subfields", subfields)?,
            FieldKind::Missing => field.serialize_field("dtype", &None::<DataType>)?,
        }
        field.serialize_field("shape", &self.shape)?;
        field.serialize_field("profile", &self.profile)?;
        field.end()
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut signature = serializer.serialize_struct("Signature", 3)?;
        signature.serialize_field("name", &self.name)?;
        signature.serialize_field("inputs", &self.inputs)?;
        signature.serialize_field("outputs", &self.outputs)?;
        signature.end()
    }
}

impl Serialize for Contract {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut contract = serializer.serialize_struct("Contract", 2)?;
        contract.serialize_field("model_name", &self.model_name)?;
        contract.serialize_field("signatures", &self.signatures)?;
        contract.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_of_field_has_its_form() {
        let named = Shape::Dimensions(vec![Dimension { size: -1, name: "batch".to_owned() }, Dimension { size: 2, name: String::new() }]);
        let inner = Field::new("age", DataType::Int64, Shape::Any);
        let inputs = vec![
            Field { profile: Profile::Numerical, ..Field::new("x", DataType::Float, named) },
            Field { kind: FieldKind::Subfields(vec![inner]), ..Field::new("client", DataType::Map, Shape::UnknownRank) },
        ];
        let signature = Signature { name: "infer".to_owned(), inputs, outputs: vec![Field::new("y", DataType::Double, Shape::scalar())] };
        let expected = json!({"name": "infer",
            "inputs": [
                {"name": "x", "dtype": "DT_FLOAT", "shape": {"dims": [-1, 2], "names": ["batch", ""]}, "profile": "NUMERICAL"},
                {"name": "client", "subfields": [{"name": "age", "dtype": "DT_INT64", "shape": null, "profile": "NONE"}],
                 "shape": {"unknown_rank": true}, "profile": "NONE"}],
            "outputs": [{"name": "y", "dtype": "DT_DOUBLE", "shape": {"dims": []}, "profile": "NONE"}]});
        assert_eq!(serde_json::to_value(&signature).unwrap(), expected);
    }
}
