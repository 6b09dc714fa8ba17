//! Contract ↔ the seed era's messages of `proto/`.
//!
//! The one place where a number of a message becomes a [`DataType`] or a [`Profile`]; text and both of the first two dialects go
//! through it. It reads no bytes and checks nothing that the contract's own `validate` does.
//!
//! What must stay true: lossless both ways, for what this file accepts.

use super::contract::{Contract, Dimension, Field, FieldKind, Shape, Signature, place_of_field, place_of_signature};
use super::dtype::{DataType, Profile};
use crate::fault::{Failure, Fault};
use crate::proto::hydrosphere::contract::model_field::{Subfield, TypeOrSubfields};
use crate::proto::hydrosphere::contract::{ModelContract, ModelField, ModelSignature};
use crate::proto::hydrosphere::tensorflow::TensorShapeProto;
use crate::proto::hydrosphere::tensorflow::tensor_shape_proto::Dim;

/// Why a message is no contract, though it is a well-formed message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// An element type that we have no name for.
    #[error("the contract's field {place} has the unknown dtype {number}")]
    UnknownDtype {
        /// Where.
        place: String,
        /// The number.
        number: i32,
    },
    /// A profile that we have no name for.
    #[error("the contract's field {place} has the unknown profile {number}")]
    UnknownProfile {
        /// Where.
        place: String,
        /// The number.
        number: i32,
    },
    /// A shape that says two things.
    #[error("the shape of the contract's field {place} has both dimensions and an unknown rank")]
    RankAndDimensions {
        /// Where.
        place: String,
    },
    /// A shape in today's word and in that from before 0.1.0.
    #[error("the contract's field {place} has its shape twice")]
    ShapeTwice {
        /// Where.
        place: String,
    },
}

impl Failure for MessageError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }
}

/// The contract that a message holds.
pub fn from_message(message: ModelContract) -> Result<Contract, MessageError> {
    let mut signatures = Vec::with_capacity(message.signatures.len());
    for (index, signature) in message.signatures.into_iter().enumerate() {
        let mut read = Signature { name: signature.signature_name, ..Signature::default() };
        let place = place_of_signature(index, &read);
        read.inputs = fields_from(signature.inputs, &format!("{place}.inputs"))?;
        read.outputs = fields_from(signature.outputs, &format!("{place}.outputs"))?;
        signatures.push(read);
    }
    Ok(Contract { model_name: message.model_name, signatures })
}

/// The element type with this number.
pub(super) fn dtype_from(number: i32, place: &str) -> Result<DataType, MessageError> {
    DataType::from_number(number).ok_or_else(|| MessageError::UnknownDtype { place: place.to_owned(), number })
}

/// The profile with this number.
pub(super) fn profile_from(number: i32, place: &str) -> Result<Profile, MessageError> {
    Profile::from_number(number).ok_or_else(|| MessageError::UnknownProfile { place: place.to_owned(), number })
}

// The depth of the recursion is that of the message, which its reader has limited.
fn fields_from(messages: Vec<ModelField>, above: &str) -> Result<Vec<Field>, MessageError> {
    let mut fields = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        let place = place_of_field(above, index, &message.name);
        let kind = match message.type_or_subfields {
            None => FieldKind::Missing,
            Some(TypeOrSubfields::Dtype(number)) => FieldKind::Dtype(dtype_from(number, &place)?),
            Some(TypeOrSubfields::Subfields(subfields)) => FieldKind::Subfields(fields_from(subfields.data, &place)?),
        };
        let shape = match message.shape {
            None => Shape::Any,
            Some(shape) if shape.unknown_rank && !shape.dim.is_empty() => return Err(MessageError::RankAndDimensions { place }),
            Some(shape) if shape.unknown_rank => Shape::UnknownRank,
            Some(shape) => Shape::Dimensions(shape.dim.into_iter().map(|dim| Dimension { size: dim.size, name: dim.name }).collect()),
        };
        fields.push(Field { kind, shape, profile: profile_from(message.profile, &place)?, name: message.name });
    }
    Ok(fields)
}

/// The message that holds a contract, with the profiles.
pub fn to_message(contract: &Contract) -> ModelContract {
    let signatures = contract.signatures.iter().map(|signature| ModelSignature {
        signature_name: signature.name.clone(),
        inputs: signature.inputs.iter().map(field_to).collect(),
        outputs: signature.outputs.iter().map(field_to).collect(),
    });
    ModelContract { model_name: contract.model_name.clone(), signatures: signatures.collect() }
}

fn field_to(field: &Field) -> ModelField {
    let type_or_subfields = match &field.kind {
        FieldKind::Missing => None,
        FieldKind::Dtype(dtype) => Some(TypeOrSubfields::Dtype(dtype.number())),
        FieldKind::Subfields(subfields) => Some(TypeOrSubfields::Subfields(Subfield { data: subfields.iter().map(field_to).collect() })),
    };
    let shape = match &field.shape {
        Shape::Any => None,
        Shape::UnknownRank => Some(TensorShapeProto { dim: Vec::new(), unknown_rank: true }),
        Shape::Dimensions(dimensions) => {
            let dim = dimensions.iter().map(|dimension| Dim { size: dimension.size, name: dimension.name.clone() }).collect();
            Some(TensorShapeProto { dim, unknown_rank: false })
        }
    };
    ModelField { name: field.name.clone(), shape, profile: field.profile.number(), type_or_subfields }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(field: ModelField) -> ModelContract {
        let signature = ModelSignature { signature_name: "infer".to_owned(), inputs: vec![field], outputs: Vec::new() };
        ModelContract { model_name: "m".to_owned(), signatures: vec![signature] }
    }

    #[test]
    fn what_has_no_name_is_refused_with_its_place() {
        let field = ModelField { name: "x".to_owned(), type_or_subfields: Some(TypeOrSubfields::Dtype(26)), ..ModelField::default() };
        assert_eq!(
            from_message(message(field.clone())).unwrap_err().to_string(),
            "the contract's field infer.inputs.x has the unknown dtype 26"
        );
        let field = ModelField { type_or_subfields: None, profile: 7, ..field };
        assert_eq!(
            from_message(message(field.clone())).unwrap_err().to_string(),
            "the contract's field infer.inputs.x has the unknown profile 7"
        );
        let shape = TensorShapeProto { dim: vec![Dim::default()], unknown_rank: true };
        let field = ModelField { profile: 0, shape: Some(shape), ..field };
        assert!(matches!(from_message(message(field)), Err(MessageError::RankAndDimensions { place }) if place == "infer.inputs.x"));
    }
}
