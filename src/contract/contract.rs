//! What a model promises: its signatures, and of each what goes in and what comes out.
//!
//! A [`Contract`] is one value for every source (text, three binary dialects, a framework's own file) and says nothing of any of
//! them. Three shapes look alike in protobuf and are three values here: not stated, unknown rank, and a list of dimensions, whose
//! empty one is a scalar.
//!
//! What must stay true: a contract read from the seed era's message and written back is the same bytes, dimension names
//! included; so a contract can hold what is not valid, and [`Contract::validate`] is asked before one is used for a build.

use std::collections::BTreeSet;

use super::dtype::{DataType, Profile};
use crate::fault::{Failure, Fault};

/// How deep fields may nest in fields. Text and wire are read to 100 levels of messages (protobuf's own limit, which every
/// official reader has); a field takes two of them, the signature, the contract and the shape with its dimensions the rest.
pub const FIELD_DEPTH_MAX: usize = 48;

/// What a model promises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// The model's name; empty until an image is built.
    pub model_name: String,
    /// What the model can be asked, in the author's order.
    pub signatures: Vec<Signature>,
}

/// One thing that a model can be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// The name of the function.
    pub name: String,
    /// What goes in, in the author's order.
    pub inputs: Vec<Field>,
    /// What comes out, in the author's order.
    pub outputs: Vec<Field>,
}

/// A named input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name: what the request's or the answer's tensor is found by.
    pub name: String,
    /// Its element type, or the fields that it is made of.
    pub kind: FieldKind,
    /// Its shape.
    pub shape: Shape,
    /// What its values are to a statistician.
    pub profile: Profile,
}

/// What a field is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Elements of one type.
    Dtype(DataType),
    /// Named fields (a map).
    Subfields(Vec<Field>),
    /// The source says neither; no valid field is so.
    Missing,
}

/// The shape of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Not stated: any shape.
    #[default]
    Any,
    /// Stated that even the number of dimensions is open.
    UnknownRank,
    /// These dimensions, outermost first; none of them is a scalar.
    Dimensions(Vec<Dimension>),
}

/// One dimension of a shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dimension {
    /// Its length; -1 is any length.
    pub size: i64,
    /// Its name; mostly empty.
    pub name: String,
}

impl Field {
    /// A field of one element type, without a profile.
    pub fn new(name: &str, dtype: DataType, shape: Shape) -> Field {
        Field { name: name.to_owned(), kind: FieldKind::Dtype(dtype), shape, profile: Profile::None }
    }
}

impl Shape {
    /// Dimensions of these sizes, without names.
    pub fn of(sizes: &[i64]) -> Shape {
        Shape::Dimensions(sizes.iter().map(|size| Dimension { size: *size, name: String::new() }).collect())
    }

    /// A scalar.
    pub fn scalar() -> Shape {
        Shape::Dimensions(Vec::new())
    }
}

/// Why a contract is not valid. A place is the path of names from the signature to the field: `infer.inputs.x`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// It promises nothing.
    #[error("the contract has no signature")]
    NoSignature,
    /// A signature or a field has an empty name.
    #[error("the contract has no name at {place}")]
    Unnamed {
        /// Where.
        place: String,
    },
    /// Two signatures, or two fields side by side, have one name.
    #[error("the contract has {place} twice")]
    Twice {
        /// Where.
        place: String,
    },
    /// A name that no file, log or terminal can show.
    #[error("the contract has a name with a control character in it: {place}")]
    ControlCharacter {
        /// Where.
        place: String,
    },
    /// A signature with no field at all.
    #[error("the contract's signature {place} has neither inputs nor outputs")]
    EmptySignature {
        /// Where.
        place: String,
    },
    /// A field of nothing.
    #[error("the contract's field {place} has neither a dtype nor subfields")]
    NoType {
        /// Where.
        place: String,
    },
    /// A field of the type that means "no type".
    #[error("the contract's field {place} has the dtype DT_INVALID")]
    InvalidDtype {
        /// Where.
        place: String,
    },
    /// A dimension that is neither a length nor open.
    #[error("the contract's field {place} has a dimension of size {size}")]
    NegativeDimension {
        /// Where.
        place: String,
        /// The size.
        size: i64,
    },
    /// More fields in fields than any reader takes.
    #[error("the contract's field {place} is nested deeper than {FIELD_DEPTH_MAX} fields")]
    TooDeep {
        /// Where.
        place: String,
    },
}

impl Failure for ContractError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        let remedy = match self {
            ContractError::NoSignature => "add a `signatures { … }` with a `signature_name`, `inputs` and `outputs`",
            ContractError::Unnamed { .. } => "give it a name: `signature_name` of a signature, `name` of a field",
            ContractError::Twice { .. } => "rename one of the two, or remove it",
            ContractError::EmptySignature { .. } => "add the `inputs` and `outputs` of the function, or remove the signature",
            ContractError::NoType { .. } | ContractError::InvalidDtype { .. } => "give it a dtype, such as `dtype: DT_DOUBLE`",
            ContractError::NegativeDimension { .. } => "write the dimension's length, or -1 for any length",
            ContractError::ControlCharacter { .. } | ContractError::TooDeep { .. } => return None,
        };
        Some(remedy.to_owned())
    }
}

impl Contract {
    /// Whether a model can be built with this contract; the first thing that is wrong with it.
    ///
    /// A signature may have no inputs (TensorFlow saves functions of no arguments) or no outputs (a training step); one with
    /// neither promises nothing and is refused. An empty `model_name` is no error: clients send contracts without it.
    pub fn validate(&self) -> Result<(), ContractError> {
        if self.signatures.is_empty() {
            return Err(ContractError::NoSignature);
        }
        if self.model_name.chars().any(char::is_control) {
            return Err(ContractError::ControlCharacter { place: format!("model_name `{}`", shown(&self.model_name)) });
        }
        let mut names = BTreeSet::new();
        for (index, signature) in self.signatures.iter().enumerate() {
            let place = place_of_signature(index, signature);
            check_name(&signature.name, &place)?;
            if !names.insert(signature.name.as_str()) {
                return Err(ContractError::Twice { place });
            }
            if signature.inputs.is_empty() && signature.outputs.is_empty() {
                return Err(ContractError::EmptySignature { place });
            }
            check_fields(&signature.inputs, &format!("{place}.inputs"), 1)?;
            check_fields(&signature.outputs, &format!("{place}.outputs"), 1)?;
        }
        Ok(())
    }
}

/// What a signature is called in an error: its name, or its number where it has none.
pub(super) fn place_of_signature(index: usize, signature: &Signature) -> String {
    if signature.name.is_empty() { format!("signatures[{index}]") } else { shown(&signature.name) }
}

/// What a field is called in an error, below the place that holds it.
pub(super) fn place_of_field(above: &str, index: usize, name: &str) -> String {
    if name.is_empty() { format!("{above}[{index}]") } else { format!("{above}.{}", shown(name)) }
}

/// A name as an error shows it: control characters escaped, and not longer than a line.
pub(crate) fn shown(name: &str) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 100;
    let mut shown: String =
        name.chars().take(SHOWN_CHARACTERS_MAX).flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    if name.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn check_name(name: &str, place: &str) -> Result<(), ContractError> {
    if name.is_empty() {
        return Err(ContractError::Unnamed { place: place.to_owned() });
    }
    if name.chars().any(char::is_control) {
        return Err(ContractError::ControlCharacter { place: place.to_owned() });
    }
    Ok(())
}

fn check_fields(fields: &[Field], above: &str, depth: usize) -> Result<(), ContractError> {
    let mut names = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let place = place_of_field(above, index, &field.name);
        if depth > FIELD_DEPTH_MAX {
            return Err(ContractError::TooDeep { place: above.to_owned() });
        }
        check_name(&field.name, &place)?;
        if !names.insert(field.name.as_str()) {
            return Err(ContractError::Twice { place });
        }
        if let Shape::Dimensions(dimensions) = &field.shape {
            if let Some(dimension) = dimensions.iter().find(|dimension| dimension.size < -1) {
                return Err(ContractError::NegativeDimension { place, size: dimension.size });
            }
            if let Some(dimension) = dimensions.iter().find(|dimension| dimension.name.chars().any(char::is_control)) {
                return Err(ContractError::ControlCharacter { place: format!("{place}, dimension {}", shown(&dimension.name)) });
            }
        }
        match &field.kind {
            FieldKind::Dtype(DataType::Invalid) => return Err(ContractError::InvalidDtype { place }),
            FieldKind::Dtype(_) => {}
            FieldKind::Missing => return Err(ContractError::NoType { place }),
            FieldKind::Subfields(subfields) if subfields.is_empty() => return Err(ContractError::NoType { place }),
            FieldKind::Subfields(subfields) => check_fields(subfields, &place, depth + 1)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(input: Field) -> Contract {
        let output = Field::new("y", DataType::Float, Shape::Any);
        let signature = Signature { name: "infer".to_owned(), inputs: vec![input], outputs: vec![output] };
        Contract { model_name: String::new(), signatures: vec![signature] }
    }

    fn nested(name: &str, fields: Vec<Field>) -> Field {
        Field { kind: FieldKind::Subfields(fields), ..Field::new(name, DataType::Map, Shape::scalar()) }
    }

    #[track_caller]
    fn refused(contract: &Contract, text: &str) {
        assert_eq!(contract.validate().unwrap_err().to_string(), text);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let x = || Field::new("x", DataType::Float, Shape::of(&[-1, 2]));
        assert_eq!(one(x()).validate(), Ok(()));
        refused(&Contract::default(), "the contract has no signature");
        let mut contract = one(x());
        contract.signatures[0].name.clear();
        refused(&contract, "the contract has no name at signatures[0]");
        contract = one(x());
        contract.signatures.push(contract.signatures[0].clone());
        refused(&contract, "the contract has infer twice");
        contract = one(x());
        contract.signatures[0].outputs.push(Field::new("y", DataType::String, Shape::Any));
        refused(&contract, "the contract has infer.outputs.y twice");
        contract = one(nested("a", vec![nested("b", vec![x(), x()])]));
        refused(&contract, "the contract has infer.inputs.a.b.x twice");
        refused(&one(Field { name: String::new(), ..x() }), "the contract has no name at infer.inputs[0]");
        refused(&one(nested("a", vec![])), "the contract's field infer.inputs.a has neither a dtype nor subfields");
        refused(&one(Field { kind: FieldKind::Missing, ..x() }), "the contract's field infer.inputs.x has neither a dtype nor subfields");
        refused(
            &one(Field { kind: FieldKind::Dtype(DataType::Invalid), ..x() }),
            "the contract's field infer.inputs.x has the dtype DT_INVALID",
        );
        refused(&one(Field { shape: Shape::of(&[-2]), ..x() }), "the contract's field infer.inputs.x has a dimension of size -2");
        refused(
            &one(Field { name: "a\0b".to_owned(), ..x() }),
            "the contract has a name with a control character in it: infer.inputs.a\\u{0}b",
        );
    }

    #[test]
    fn a_signature_may_lack_inputs_or_outputs_but_not_both() {
        let mut contract = one(Field::new("x", DataType::Float, Shape::Any));
        contract.signatures[0].inputs.clear();
        assert_eq!(contract.validate(), Ok(()));
        contract.signatures[0].outputs.clear();
        refused(&contract, "the contract's signature infer has neither inputs nor outputs");
    }

    #[test]
    fn nesting_has_a_limit() {
        let deep = |levels: usize| (1..levels).fold(Field::new("x", DataType::Float, Shape::of(&[1])), |field, _| nested("n", vec![field]));
        assert_eq!(one(deep(FIELD_DEPTH_MAX)).validate(), Ok(()));
        assert!(matches!(one(deep(FIELD_DEPTH_MAX + 1)).validate(), Err(ContractError::TooDeep { .. })));
    }
}
