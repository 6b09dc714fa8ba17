//! A contract's file, whatever its form, read and checked; and whether two contracts of one model agree.
//!
//! Which file it is, and what follows from a disagreement, is `intake.rs`'s.
//!
//! What must stay true: what comes back is valid; an error names the file and the place in it.

use crate::contract::compare;
use crate::contract::contract::{Contract, ContractError, FieldKind};
use crate::contract::text::{self, TextError};
use crate::contract::text_names;
use crate::contract::text_place::TextPlace;
use crate::contract::wire::{self, WireError};
use crate::fault::{Failure, Fault};

/// The largest contract file: thousands of fields fit.
pub const CONTRACT_BYTES_MAX: u64 = 1 << 20;

/// Why a file is not a valid contract.
#[derive(Debug, thiserror::Error)]
pub enum ContractFileError {
    /// The text is not valid.
    #[error("the contract `{file}` is not valid")]
    Text {
        /// Which file.
        file: String,
        /// Where and why.
        #[source]
        source: TextError,
    },
    /// The bytes are not valid.
    #[error("the contract `{file}` is not valid")]
    Wire {
        /// Which file.
        file: String,
        /// Why.
        #[source]
        source: WireError,
    },
    /// The contract says something that cannot be.
    #[error("the contract `{file}` is not valid")]
    Contract {
        /// Which file.
        file: String,
        /// What.
        #[source]
        source: ContractError,
    },
    /// A name in the text is there twice.
    #[error("{}", .at.with("this name is here for the second time"))]
    Twice {
        /// Where the second one is.
        at: TextPlace,
        /// The name's path.
        #[source]
        source: ContractError,
    },
    /// Bytes in which every field seems to be made of nothing.
    #[error("the contract `{file}` seems to be in the binary layout from before 0.1.0 (March 2018), which is not read")]
    OldLayout {
        /// Which file.
        file: String,
    },
}

impl Failure for ContractFileError {
    fn fault(&self) -> Fault {
        match self {
            ContractFileError::Text { source, .. } => source.fault(),
            ContractFileError::Wire { source, .. } => source.fault(),
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            ContractFileError::Text { source, .. } => source.remedy(),
            ContractFileError::Wire { source, .. } => source.remedy(),
            ContractFileError::Contract { source, .. } | ContractFileError::Twice { source, .. } => source.remedy(),
            ContractFileError::OldLayout { .. } => {
                Some("write it as contract.prototxt (its text of that time is read), or compile that again".to_owned())
            }
        }
    }
}

/// Reads and checks a contract's file: binary by its extension, text by any other, as the ancestor's client told them apart.
///
/// With the contract comes what had to be said, a sentence each.
pub fn read(file: &str, bytes: &[u8]) -> Result<(Contract, Vec<String>), ContractFileError> {
    if file.ends_with(".protobin") || file.ends_with(".pb") {
        let (contract, _) = wire::decode(bytes, None).map_err(|source| ContractFileError::Wire { file: file.to_owned(), source })?;
        return match contract.validate() {
            Ok(()) => Ok((contract, Vec::new())),
            Err(ContractError::NoType { .. }) if looks_old(&contract) => Err(ContractFileError::OldLayout { file: file.to_owned() }),
            Err(source) => Err(ContractFileError::Contract { file: file.to_owned(), source }),
        };
    }
    let (contract, warnings) =
        text::parse_with_warnings(bytes, file).map_err(|source| ContractFileError::Text { file: file.to_owned(), source })?;
    match contract.validate() {
        Ok(()) => Ok((contract, warnings)),
        Err(source @ ContractError::Twice { .. }) => Err(match text_names::doubled(bytes, file) {
            // A name is hard to find by its path alone.
            Some(at) => ContractFileError::Twice { at, source },
            None => ContractFileError::Contract { file: file.to_owned(), source },
        }),
        Err(source) => Err(ContractFileError::Contract { file: file.to_owned(), source }),
    }
}

/// Whether no field has a type and one is made of no fields: then, the type stood where subfields stand today (reference, §4.1).
fn looks_old(contract: &Contract) -> bool {
    let mut fields = contract.signatures.iter().flat_map(|signature| signature.inputs.iter().chain(&signature.outputs));
    let typeless = |kind: &FieldKind| !matches!(kind, FieldKind::Dtype(_));
    fields.clone().all(|field| typeless(&field.kind))
        && fields.any(|field| matches!(&field.kind, FieldKind::Subfields(none) if none.is_empty()))
}

/// The first thing that two contracts of one model, each with its place, say differently; profiles, names of dimensions and orders may
/// differ, because not every form of a contract has them.
pub fn disagreement(one: (&str, &Contract), other: (&str, &Contract)) -> Option<String> {
    // What one leaves open is no difference to the comparison; here neither was read from the model, and both have to say it.
    let there = compare::differences(one.1, other.1).into_iter().map(|difference| (difference, one.0, other.0));
    let back = compare::differences(other.1, one.1).into_iter().map(|difference| (difference, other.0, one.0));
    there.chain(back).next().map(|(difference, given, read)| {
        // The comparison's own words for its two sides.
        let sentence = difference.sentence.replace("the contract", &format!("`{given}`")).replace("the model", &format!("`{read}`"));
        format!("{}: {sentence}", difference.path)
    })
}
