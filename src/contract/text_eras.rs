//! The words that a `contract.prototxt` had before 0.1.0 (March 2018), read as today's.
//!
//! Then a field was `field_name: "x" info { dtype: DT_DOUBLE tensor_shape { … } }`. A text may mix them with today's words, but a field says
//! each thing once. Limits and places are `text.rs`'s, which comes here only where it met one of these words.
//!
//! What must stay true: what is read here is what the same text in today's words is.

use super::contract::{place_of_field, shown};
use super::message::MessageError;
use crate::proto::hydrosphere::contract::model_field::{Subfield, TypeOrSubfields};
use crate::proto::hydrosphere::contract::{ModelContract, ModelField, ModelSignature};
use crate::proto::lamina::contract::any_field::{NameOfAnyEra, TypeOrSubfields as AnyKind};
use crate::proto::lamina::contract::{AnyContract, AnyField};

/// The message whose text has the words of every era.
pub(super) const MESSAGE: &str = "lamina.contract.AnyContract";

/// Whether a text that has this word where no contract of today has it may be of that time.
pub(super) fn is_old_word(word: &str) -> bool {
    matches!(word, "field_name" | "info")
}

/// What a text with these words is told, after the place of the first.
pub(super) const WARNING: &str = "`field_name` and `info { dtype tensor_shape }` are from before 0.1.0 (March 2018); they are read, and are \
                                  written today as `name`, and `dtype` and `shape` in the field itself";

/// Today's message for one in the words of any era.
pub(super) fn today(contract: AnyContract) -> Result<ModelContract, MessageError> {
    let mut signatures = Vec::with_capacity(contract.signatures.len());
    for signature in contract.signatures {
        let place = shown(&signature.signature_name);
        signatures.push(ModelSignature {
            inputs: fields(signature.inputs, &format!("{place}.inputs"))?,
            outputs: fields(signature.outputs, &format!("{place}.outputs"))?,
            signature_name: signature.signature_name,
        });
    }
    Ok(ModelContract { model_name: contract.model_name, signatures })
}

// The depth of the recursion is that of the message, which its reader has limited.
fn fields(old: Vec<AnyField>, above: &str) -> Result<Vec<ModelField>, MessageError> {
    let mut fields_of_today = Vec::with_capacity(old.len());
    for (index, field) in old.into_iter().enumerate() {
        let name = match field.name_of_any_era {
            Some(NameOfAnyEra::Name(name) | NameOfAnyEra::FieldName(name)) => name,
            None => String::new(),
        };
        let place = place_of_field(above, index, &name);
        let mut shape = field.shape;
        let kind = match field.type_or_subfields {
            None => None,
            Some(AnyKind::Dtype(dtype)) => Some(TypeOrSubfields::Dtype(dtype)),
            Some(AnyKind::Subfields(subfields)) => Some(TypeOrSubfields::Subfields(Subfield { data: fields(subfields.data, &place)? })),
            Some(AnyKind::Info(info)) => {
                if shape.is_some() && info.tensor_shape.is_some() {
                    return Err(MessageError::ShapeTwice { place });
                }
                shape = shape.or(info.tensor_shape);
                Some(TypeOrSubfields::Dtype(info.dtype))
            }
        };
        fields_of_today.push(ModelField { name, shape, profile: field.profile, type_or_subfields: kind });
    }
    Ok(fields_of_today)
}

#[cfg(test)]
mod tests {
    use super::super::text::{TextError, parse, parse_with_warnings};

    const OLD: &str = "signatures {
      signature_name: 'infer'
      inputs { field_name: 'x' info { dtype: DT_DOUBLE tensor_shape { dim { size: -1 } dim { size: 2 } } } }
      inputs { field_name: 'm' subfields { data { field_name: 'a' info { dtype: DT_BOOL } } } }
      outputs { name: 'y' shape { } dtype: DT_DOUBLE }
    }";
    const TODAY: &str = "signatures {
      signature_name: 'infer'
      inputs { name: 'x' shape { dim { size: -1 } dim { size: 2 } } dtype: DT_DOUBLE }
      inputs { name: 'm' subfields { data { name: 'a' dtype: DT_BOOL } } }
      outputs { name: 'y' shape { } dtype: DT_DOUBLE }
    }";

    #[test]
    fn words_from_before_2018_are_read_with_a_warning() {
        let (contract, warnings) = parse_with_warnings(OLD.as_bytes(), "contract.prototxt").unwrap();
        assert_eq!(contract, parse(TODAY.as_bytes(), "contract.prototxt").unwrap());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("contract.prototxt:3:16: `field_name` and `info { dtype tensor_shape }`"), "{warnings:?}");
        assert_eq!(parse_with_warnings(TODAY.as_bytes(), "c").unwrap().1, Vec::<String>::new());
        let (_, warnings) = parse_with_warnings(b"signatures { outputs { name: 'y' info { dtype: DT_BOOL } } }", "c").unwrap();
        assert!(warnings[0].starts_with("c:1:34: "), "{warnings:?}");
    }

    #[test]
    fn a_field_says_each_thing_once() {
        let refused =
            |field: &str| parse(format!("signatures {{ signature_name: 'f'\n inputs {{ {field} }} }}").as_bytes(), "c").unwrap_err();
        for (field, place) in [
            ("field_name: 'x' name: 'x'", "c:2:33: "),
            ("field_name: 'x' info { dtype: DT_BOOL } dtype: DT_BOOL", "c:2:58: "),
            ("field_name: 'x' nam: 'y'", "c:2:27: "),
            ("field_name: 'x' info { dtype: DT_BOL }", "c:2:41: "),
        ] {
            let error = refused(field);
            assert!(matches!(error, TextError::Syntax { .. }) && error.to_string().starts_with(place), "{error}");
        }
        let error = refused("field_name: 'x' shape { } info { dtype: DT_BOOL tensor_shape { } }");
        assert!(crate::fault::one_line(&error).ends_with("the contract's field f.inputs.x has its shape twice"), "{error}");
    }
}
