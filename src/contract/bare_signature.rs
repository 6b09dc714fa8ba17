//! A signature ↔ the third dialect's message: a bare `ModelSignature` of the 3.x releases.
//!
//! Shapes are lists of sizes there: no names of dimensions, no unknown rank. What is lost in that, and whether it may be, is
//! `wire.rs`'s to say; this file only turns one into the other.

use super::contract::{Field, FieldKind, Shape, Signature, place_of_field, place_of_signature};
use super::message::{MessageError, dtype_from, profile_from};
use crate::proto::hydrosphere::serving::contract::model_field::{Subfield, TypeOrSubfields};
use crate::proto::hydrosphere::serving::contract::{ModelField, ModelSignature, TensorShape};

/// The signature that a message holds.
pub(super) fn from_message(message: ModelSignature) -> Result<Signature, MessageError> {
    let mut read = Signature { name: message.signature_name, ..Signature::default() };
    let place = place_of_signature(0, &read);
    read.inputs = fields_from(message.inputs, &format!("{place}.inputs"))?;
    read.outputs = fields_from(message.outputs, &format!("{place}.outputs"))?;
    Ok(read)
}

fn fields_from(messages: Vec<ModelField>, above: &str) -> Result<Vec<Field>, MessageError> {
    let mut fields = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        let place = place_of_field(above, index, &message.name);
        let kind = match message.type_or_subfields {
            None => FieldKind::Missing,
            Some(TypeOrSubfields::Dtype(number)) => FieldKind::Dtype(dtype_from(number, &place)?),
            Some(TypeOrSubfields::Subfields(subfields)) => FieldKind::Subfields(fields_from(subfields.data, &place)?),
        };
        let shape = message.shape.map_or(Shape::Any, |shape| Shape::of(&shape.dims));
        fields.push(Field { kind, shape, profile: profile_from(message.profile, &place)?, name: message.name });
    }
    Ok(fields)
}

/// The message that holds a signature; an unknown rank becomes any shape, and dimensions lose their names.
pub(super) fn to_message(signature: &Signature) -> ModelSignature {
    ModelSignature {
        signature_name: signature.name.clone(),
        inputs: signature.inputs.iter().map(field_to).collect(),
        outputs: signature.outputs.iter().map(field_to).collect(),
    }
}

fn field_to(field: &Field) -> ModelField {
    let type_or_subfields = match &field.kind {
        FieldKind::Missing => None,
        FieldKind::Dtype(dtype) => Some(TypeOrSubfields::Dtype(dtype.number())),
        FieldKind::Subfields(subfields) => Some(TypeOrSubfields::Subfields(Subfield { data: subfields.iter().map(field_to).collect() })),
    };
    let shape = match &field.shape {
        Shape::Any | Shape::UnknownRank => None,
        Shape::Dimensions(dimensions) => Some(TensorShape { dims: dimensions.iter().map(|dimension| dimension.size).collect() }),
    };
    ModelField { name: field.name.clone(), shape, profile: field.profile.number(), type_or_subfields }
}
