//! Contract ↔ protobin: the binary `contract.protobin`, in three dialects.
//!
//! `v1` is the seed era's `ModelContract`, with many signatures; `v2` the same message with one (its `predict` has the number of
//! `signatures`) and with profiles; `v3` a bare `ModelSignature` with other shapes. What a dialect cannot say is a warning where the
//! promise to callers stays as it is, else an error.
//!
//! What must stay true: v1 is byte for byte what the official encoder gives for the message, and decoding gives back what was
//! encoded, but for what a warning said. Decoding does not validate: an old image may hold what we would not build.

use std::fmt;
use std::str::FromStr;

use prost::Message;

use super::bare_signature;
use super::contract::{Contract, Field, FieldKind, Shape, place_of_field, place_of_signature};
use super::dtype::{DataType, Profile};
use super::message::{self, MessageError};
use crate::fault::{Failure, Fault};
use crate::proto::hydrosphere::contract::ModelContract;
use crate::proto::hydrosphere::serving::contract::ModelSignature;

/// The largest contract that is read or written: real ones are below a KiB, and a message in memory is some fifty times its bytes.
pub const CONTRACT_BYTES_MAX: usize = 1 << 20;

/// The form of a binary contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// The seed era's and 0.1.x: `ModelContract`, many signatures.
    #[default]
    V1,
    /// 2.x: one signature, profiles.
    V2,
    /// 3.x: a bare `ModelSignature`.
    V3,
}

/// A binary contract, and what its dialect left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The content of a `contract.protobin`.
    pub bytes: Vec<u8>,
    /// What the dialect cannot say, a sentence each.
    pub warnings: Vec<String>,
}

/// Why a text names no dialect.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a contract dialect")]
pub struct DialectError {
    text: String,
}

/// Why a contract is not to be had in a dialect, or from bytes.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Past the limit.
    #[error("the binary contract is {size_bytes} bytes long; at most {CONTRACT_BYTES_MAX} are taken")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
    },
    /// No message of this dialect.
    #[error("the bytes are no contract of dialect {dialect}")]
    Malformed {
        /// The dialect that they were read in.
        dialect: Dialect,
        /// What the decoder found.
        #[source]
        source: prost::DecodeError,
    },
    /// A message with something in it that no contract has.
    #[error("the binary contract of dialect {dialect} cannot be read")]
    Message {
        /// The dialect that it was read in.
        dialect: Dialect,
        /// What it has.
        #[source]
        source: MessageError,
    },
    /// The dialect has room for exactly one.
    #[error("dialect {dialect} holds one signature, the contract has {count}")]
    SignatureCount {
        /// The dialect.
        dialect: Dialect,
        /// How many there are.
        count: usize,
    },
    /// The dialect lacks a type.
    #[error("dialect {dialect} has no {dtype}, which the contract's field {place} has")]
    Dtype {
        /// The dialect.
        dialect: Dialect,
        /// Where.
        place: String,
        /// The type.
        dtype: DataType,
    },
    /// Nothing would tell the bytes from a contract of another dialect.
    #[error("dialect v3 has no form for the signature {place}, which has no outputs")]
    NoOutputs {
        /// Where.
        place: String,
    },
}

impl Failure for DialectError {
    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn remedy(&self) -> Option<String> {
        Some("write `v1`, `v2` or `v3`".to_owned())
    }
}

impl Failure for WireError {
    fn fault(&self) -> Fault {
        match self {
            WireError::TooLarge { .. } => Fault::TooLarge,
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            WireError::SignatureCount { .. } | WireError::Dtype { .. } | WireError::NoOutputs { .. } => {
                Some("choose a runtime that reads another dialect (`--dialect`), or change the contract".to_owned())
            }
            WireError::Malformed { .. } => {
                Some("name the dialect it was written in (`--dialect`), or compile it again from its contract.prototxt".to_owned())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialect::V1 => "v1",
            Dialect::V2 => "v2",
            Dialect::V3 => "v3",
        })
    }
}

impl FromStr for Dialect {
    type Err = DialectError;

    fn from_str(text: &str) -> Result<Dialect, DialectError> {
        let known = [Dialect::V1, Dialect::V2, Dialect::V3].into_iter().find(|dialect| dialect.to_string() == text);
        known.ok_or_else(|| DialectError { text: text.chars().take(100).collect() })
    }
}

/// The contract in a dialect.
///
/// v3 has no place for `model_name`; that is no warning, because no reader of v3 looks for it there.
pub fn encode(contract: &Contract, dialect: Dialect) -> Result<Encoded, WireError> {
    let losses = losses(contract, dialect)?;
    let bytes = match (dialect, contract.signatures.as_slice()) {
        (Dialect::V1, _) => {
            let mut plain = contract.clone();
            plain.signatures.iter_mut().for_each(|signature| {
                drop_profiles(&mut signature.inputs);
                drop_profiles(&mut signature.outputs);
            });
            message::to_message(&plain).encode_to_vec()
        }
        (Dialect::V2, [_]) => message::to_message(contract).encode_to_vec(),
        (Dialect::V3, [signature]) if signature.outputs.is_empty() => {
            return Err(WireError::NoOutputs { place: place_of_signature(0, signature) });
        }
        (Dialect::V3, [signature]) => bare_signature::to_message(signature).encode_to_vec(),
        (Dialect::V2 | Dialect::V3, signatures) => return Err(WireError::SignatureCount { dialect, count: signatures.len() }),
    };
    if bytes.len() > CONTRACT_BYTES_MAX {
        return Err(WireError::TooLarge { size_bytes: bytes.len() });
    }
    Ok(Encoded { bytes, warnings: losses.warnings(dialect) })
}

/// The contract in `bytes`, and the dialect that they are in: the given one, else the one that their content tells.
///
/// Told by content: v3 has outputs (field 3) at its top level. One signature with a profile is v2. All else reads as v1, several
/// signatures with profiles too: no release wrote that, but `protoc` does, and a v1 reader skips the profiles.
pub fn decode(bytes: &[u8], dialect: Option<Dialect>) -> Result<(Contract, Dialect), WireError> {
    if bytes.len() > CONTRACT_BYTES_MAX {
        return Err(WireError::TooLarge { size_bytes: bytes.len() });
    }
    let top_level = TopLevel::decode(bytes).unwrap_or_default();
    let (contract, dialect) = match dialect {
        None if !top_level.outputs.is_empty() => (decode_bare(bytes)?, Dialect::V3),
        Some(Dialect::V3) => (decode_bare(bytes)?, Dialect::V3),
        Some(dialect) => (decode_contract(bytes, dialect)?, dialect),
        None => {
            let contract = decode_contract(bytes, Dialect::V1)?;
            let has_profiles = !losses(&contract, Dialect::V1)?.profiles.is_empty();
            let dialect = if has_profiles && contract.signatures.len() == 1 { Dialect::V2 } else { Dialect::V1 };
            (contract, dialect)
        }
    };
    if dialect == Dialect::V2 && contract.signatures.len() > 1 {
        return Err(WireError::SignatureCount { dialect, count: contract.signatures.len() });
    }
    losses(&contract, dialect)?;
    Ok((contract, dialect))
}

/// What tells a bare signature from a contract.
#[derive(Clone, PartialEq, prost::Message)]
struct TopLevel {
    #[prost(bytes = "vec", repeated, tag = "3")]
    outputs: Vec<Vec<u8>>,
}

fn decode_contract(bytes: &[u8], dialect: Dialect) -> Result<Contract, WireError> {
    let message = ModelContract::decode(bytes).map_err(|source| WireError::Malformed { dialect, source })?;
    message::from_message(message).map_err(|source| WireError::Message { dialect, source })
}

fn decode_bare(bytes: &[u8]) -> Result<Contract, WireError> {
    let dialect = Dialect::V3;
    let message = ModelSignature::decode(bytes).map_err(|source| WireError::Malformed { dialect, source })?;
    let signature = bare_signature::from_message(message).map_err(|source| WireError::Message { dialect, source })?;
    Ok(Contract { model_name: String::new(), signatures: vec![signature] })
}

fn drop_profiles(fields: &mut [Field]) {
    for field in fields {
        field.profile = Profile::None;
        if let FieldKind::Subfields(subfields) = &mut field.kind {
            drop_profiles(subfields);
        }
    }
}

/// The fields with something that a dialect leaves out, by what it is.
#[derive(Default)]
struct Losses {
    profiles: Vec<String>,
    unknown_ranks: Vec<String>,
    dimension_names: Vec<String>,
}

impl Losses {
    fn warnings(&self, dialect: Dialect) -> Vec<String> {
        let mut warnings = Vec::new();
        for (places, lacks) in [
            (&self.profiles, "profiles; left out are those of"),
            (&self.unknown_ranks, "unknown rank; any shape is written for"),
            (&self.dimension_names, "names of dimensions; left out are those of"),
        ] {
            if !places.is_empty() {
                warnings.push(format!("contract dialect {dialect} has no {lacks} {}", shown_places(places)));
            }
        }
        warnings
    }
}

/// The first of these places, and how many there are beyond.
pub(super) fn shown_places(places: &[String]) -> String {
    const SHOWN_PLACES_MAX: usize = 5;
    let mut shown = places.iter().take(SHOWN_PLACES_MAX).cloned().collect::<Vec<String>>().join(", ");
    if places.len() > SHOWN_PLACES_MAX {
        shown.push_str(&format!(" and {} more", places.len() - SHOWN_PLACES_MAX));
    }
    shown
}

/// What the dialect leaves out of a contract; an error for a type that it lacks.
fn losses(contract: &Contract, dialect: Dialect) -> Result<Losses, WireError> {
    let mut losses = Losses::default();
    for (index, signature) in contract.signatures.iter().enumerate() {
        let place = place_of_signature(index, signature);
        look_at(&signature.inputs, &format!("{place}.inputs"), dialect, &mut losses)?;
        look_at(&signature.outputs, &format!("{place}.outputs"), dialect, &mut losses)?;
    }
    Ok(losses)
}

fn look_at(fields: &[Field], above: &str, dialect: Dialect, losses: &mut Losses) -> Result<(), WireError> {
    for (index, field) in fields.iter().enumerate() {
        let place = place_of_field(above, index, &field.name);
        match &field.kind {
            FieldKind::Dtype(dtype) if !has_dtype(dialect, *dtype) => return Err(WireError::Dtype { dialect, place, dtype: *dtype }),
            FieldKind::Dtype(_) | FieldKind::Missing => {}
            FieldKind::Subfields(subfields) => look_at(subfields, &place, dialect, losses)?,
        }
        if dialect == Dialect::V1 && field.profile != Profile::None {
            losses.profiles.push(place.clone());
        }
        if dialect == Dialect::V3 {
            match &field.shape {
                Shape::UnknownRank => losses.unknown_ranks.push(place),
                Shape::Dimensions(dimensions) if dimensions.iter().any(|dimension| !dimension.name.is_empty()) => {
                    losses.dimension_names.push(place);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn has_dtype(dialect: Dialect, dtype: DataType) -> bool {
    match dialect {
        Dialect::V1 | Dialect::V2 => dtype != DataType::Any,
        Dialect::V3 => !matches!(dtype, DataType::Bfloat16 | DataType::Resource | DataType::Variant),
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::Signature;
    use super::super::text::parse;
    use super::*;

    fn contract(text: &str) -> Contract {
        parse(text.as_bytes(), "contract.prototxt").unwrap()
    }

    fn v1(contract: &Contract) -> Vec<u8> {
        let encoded = encode(contract, Dialect::V1).unwrap();
        assert_eq!(encoded.warnings, Vec::<String>::new());
        encoded.bytes
    }

    #[test]
    fn a_profile_tells_v2_and_top_level_outputs_tell_v3() {
        let plain =
            contract("signatures { signature_name: 'add' inputs { name: 'a' dtype: DT_INT64 } outputs { name: 'sum' dtype: DT_INT64 } }");
        let mut profiled = plain.clone();
        profiled.signatures[0].inputs[0].profile = Profile::Numerical;
        for (contract, dialect, read_as) in [
            (&plain, Dialect::V1, Dialect::V1),
            (&plain, Dialect::V2, Dialect::V1),
            (&plain, Dialect::V3, Dialect::V3),
            (&profiled, Dialect::V2, Dialect::V2),
            (&profiled, Dialect::V3, Dialect::V3),
        ] {
            let encoded = encode(contract, dialect).unwrap();
            assert_eq!(encoded.warnings, Vec::<String>::new());
            assert_eq!(decode(&encoded.bytes, None).unwrap(), (contract.clone(), read_as));
            assert_eq!(decode(&encoded.bytes, Some(dialect)).unwrap(), (contract.clone(), dialect));
        }
        assert_eq!(encode(&plain, Dialect::V1).unwrap(), encode(&plain, Dialect::V2).unwrap());
        let encoded = encode(&profiled, Dialect::V1).unwrap();
        assert_eq!(encoded.bytes, v1(&plain));
        assert_eq!(encoded.warnings, ["contract dialect v1 has no profiles; left out are those of add.inputs.a"]);
    }

    #[test]
    fn what_a_dialect_cannot_say_is_a_warning_or_an_error() {
        let open = contract(
            "signatures { signature_name: 'f' inputs { name: 'x' shape { unknown_rank: true } dtype: DT_FLOAT }
             inputs { name: 'z' shape { dim { size: 2 name: 'side' } } dtype: DT_FLOAT }
             inputs { name: 'w' shape { unknown_rank: true } dtype: DT_FLOAT } outputs { name: 'y' shape { } dtype: DT_FLOAT } }",
        );
        let encoded = encode(&open, Dialect::V3).unwrap();
        assert_eq!(
            encoded.warnings,
            [
                "contract dialect v3 has no unknown rank; any shape is written for f.inputs.x, f.inputs.w",
                "contract dialect v3 has no names of dimensions; left out are those of f.inputs.z"
            ]
        );
        let (read, _) = decode(&encoded.bytes, None).unwrap();
        assert_eq!(read.signatures[0].inputs[0].shape, Shape::Any);
        assert_eq!(read.signatures[0].inputs[1].shape, Shape::of(&[2]));
        assert_eq!(read.signatures[0].outputs[0].shape, Shape::scalar());

        let mut two = open.clone();
        two.signatures.push(Signature { name: "g".to_owned(), ..open.signatures[0].clone() });
        for dialect in [Dialect::V2, Dialect::V3] {
            assert!(matches!(encode(&two, dialect), Err(WireError::SignatureCount { count: 2, .. })));
        }
        assert!(matches!(decode(&v1(&two), Some(Dialect::V2)), Err(WireError::SignatureCount { count: 2, .. })));
        for (dtype, dialect) in [(DataType::Any, Dialect::V1), (DataType::Any, Dialect::V2), (DataType::Bfloat16, Dialect::V3)] {
            let mut typed = open.clone();
            typed.signatures[0].inputs[0].kind = FieldKind::Dtype(dtype);
            assert!(matches!(encode(&typed, dialect), Err(WireError::Dtype { place, .. }) if place == "f.inputs.x"));
        }
        let mut silent = open;
        silent.signatures[0].outputs.clear();
        assert!(matches!(encode(&silent, Dialect::V3), Err(WireError::NoOutputs { .. })));
    }
}
