//! A checked model -> a row of the queue, and back.
//!
//! An upload is read and checked once, by the door; the build happens later, perhaps in another process. What is in between: the files
//! as a tree document in the store, the contract as the bytes of a dialect that loses nothing of it, and a few words as JSON.
//!
//! What must stay true: a model that goes through here and back is the same model, but for its warnings, which are in the log. A row
//! that an earlier release wrote can be read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};

use serde::{Deserialize, Serialize};

use crate::catalog::record::{Claim, KeptContract, NewLine, NewVersion, Version};
use crate::contract::contract::Contract;
use crate::contract::wire::{self, Dialect, WireError};
use crate::disk::store::{Store, StoreError};
use crate::fault::{Failure, Fault};
use crate::model::fit::Policy;
use crate::model::intake::{FoundContract, Model};
use crate::model::name::{ModelName, NameError};
use crate::model::required::Required;
use crate::model::requirements::REQUIREMENTS_BYTES_MAX;
use crate::model::tree::Tree;
use crate::oci::digest::Digest;
use crate::oci::layer::Content;

/// What stands in the row's `request`: of what was asked for, that which the model does not say.
#[derive(Serialize, Deserialize)]
struct KeptRequest {
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    contract_source: Option<String>,
    /// The file of the requirements, and the name and the text of the lock that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requirements: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requirements_lock: Option<(String, String)>,
    /// What of the model's fit is accepted.
    #[serde(default)]
    allow: Vec<String>,
    /// Whether everything else refuses it.
    #[serde(default)]
    strict: bool,
}

/// Why a model cannot be kept for a build, or a kept one cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// No dialect can say the contract.
    #[error("cannot keep the contract")]
    Encode(#[source] WireError),
    /// The contract in the catalog is not one.
    #[error("cannot read the contract of build {build} in the catalog")]
    Decode {
        /// Which build.
        build: i64,
        /// Why.
        #[source]
        source: WireError,
    },
    /// The words in the catalog are not ours.
    #[error("cannot read the request of build {build} in the catalog")]
    Request {
        /// Which build.
        build: i64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The requirements in the store cannot be read.
    #[error("cannot read the requirements of build {build}")]
    Requirements {
        /// Which build.
        build: i64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The name in the catalog is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The files are not in the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure for RowError {
    fn fault(&self) -> Fault {
        match self {
            RowError::Encode(error) => error.fault(),
            RowError::Store(error) => error.fault(),
            RowError::Decode { .. } | RowError::Request { .. } | RowError::Requirements { .. } | RowError::Name(_) => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            RowError::Encode(error) => error.remedy(),
            RowError::Store(error) => error.remedy(),
            _ => None,
        }
    }
}

/// What the catalog keeps of a checked model whose files are in the store as `tree_digest`. `log` is what the door has to say of the
/// upload; the model's own warnings follow it.
pub fn new_version(
    model: &Model,
    tree_digest: Digest,
    metadata: BTreeMap<String, String>,
    policy: &Policy,
    mut log: Vec<NewLine>,
) -> Result<NewVersion, RowError> {
    let lock = model.required.as_ref().and_then(|required| required.lock.as_ref());
    let request = KeptRequest {
        description: model.description.clone(),
        contract_source: model.contract.as_ref().map(|found| found.source.clone()),
        requirements: model.required.as_ref().map(|required| required.file.clone()),
        requirements_lock: lock.map(|(name, bytes)| (name.clone(), String::from_utf8_lossy(bytes).into_owned())),
        allow: policy.allow.iter().map(ToString::to_string).collect(),
        strict: policy.strict,
    };
    log.extend(model.warnings.iter().map(NewLine::warning));
    Ok(NewVersion {
        model: model.name.to_string(),
        model_type: Some(model.model_type.clone()),
        description: model.description.clone(),
        metadata,
        contract: model.contract.as_ref().map(|found| keep(&found.contract)).transpose()?,
        runtime: model.runtime.clone(),
        tree_digest,
        request: serde_json::json!(request),
        log,
    })
}

/// The contract of a version, as it was uploaded; `None` where it has none.
pub fn contract_of(version: &Version) -> Result<Option<Contract>, RowError> {
    let Some(kept) = &version.contract else { return Ok(None) };
    let decoded = wire::decode(&kept.protobin, kept.dialect.parse().ok());
    decoded.map(|(contract, _)| Some(contract)).map_err(|source| RowError::Decode { build: version.build.0, source })
}

/// Which findings of the model's fit the upload was let through with: what is only found when the packages are known is judged by the same. A word that this
/// release does not know accepts nothing.
pub fn policy(claim: &Claim) -> Policy {
    let Ok(request) = serde_json::from_value::<KeptRequest>(claim.request.clone()) else { return Policy::default() };
    Policy { strict: request.strict, allow: request.allow.iter().filter_map(|word| word.parse().ok()).collect() }
}

/// The model of a claimed build, its files in the store.
pub fn model(claim: &Claim, store: &Store) -> Result<Model, RowError> {
    let build = claim.build.0;
    let request: KeptRequest = serde_json::from_value(claim.request.clone()).map_err(|source| RowError::Request { build, source })?;
    let contract = match &claim.contract {
        None => None,
        Some(kept) => {
            let (mut contract, _) =
                wire::decode(&kept.protobin, kept.dialect.parse().ok()).map_err(|source| RowError::Decode { build, source })?;
            // v3 has no place for it.
            claim.model.clone_into(&mut contract.model_name);
            Some(FoundContract { contract, source: request.contract_source.unwrap_or_else(|| "the catalog".to_owned()) })
        }
    };
    let payload = store.tree(&claim.tree_digest)?;
    let required = request.requirements.map(|file| read_required(&payload, file, request.requirements_lock)).transpose();
    Ok(Model {
        name: ModelName::new(&claim.model)?,
        model_type: claim.model_type.clone().unwrap_or_else(|| "unknown:unknown".to_owned()),
        runtime: claim.runtime.clone(),
        description: request.description,
        required: required.map_err(|source| RowError::Requirements { build, source })?,
        payload,
        contract,
        // They were said in the log when the model was taken in.
        warnings: Vec::new(),
    })
}

/// The requirements as they lie in the store.
fn read_required(payload: &Tree, file: String, lock: Option<(String, String)>) -> io::Result<Required> {
    let mut bytes = Vec::new();
    match payload.file(&file) {
        Some((_, Content::Local(local))) => {
            File::open(&local.path)?.take(REQUIREMENTS_BYTES_MAX).read_to_end(&mut bytes)?;
        }
        Some((_, Content::Inline(inline))) => bytes.extend_from_slice(inline),
        None => return Err(io::Error::new(io::ErrorKind::NotFound, format!("`{file}` is not among its files"))),
    }
    Ok(Required { file, bytes, lock: lock.map(|(name, text)| (name, text.into_bytes())) })
}

/// The contract in the first dialect that says all of it, or, where none does, in the first that can say it at all: what is lost then
/// (profiles of several signatures) no image can hold either.
fn keep(contract: &Contract) -> Result<KeptContract, RowError> {
    let mut lossy = None;
    let mut refused = None;
    for dialect in [Dialect::V1, Dialect::V2, Dialect::V3] {
        let encoded = match wire::encode(contract, dialect) {
            Ok(encoded) => encoded,
            Err(error) => {
                refused.get_or_insert(error);
                continue;
            }
        };
        let lossless = encoded.warnings.is_empty();
        let kept = KeptContract { json: serde_json::json!(contract), protobin: encoded.bytes, dialect: dialect.to_string() };
        if lossless {
            return Ok(kept);
        }
        lossy.get_or_insert(kept);
    }
    match (lossy, refused) {
        (Some(kept), _) => Ok(kept),
        (None, Some(error)) => Err(RowError::Encode(error)),
        (None, None) => unreachable!("every dialect has been tried"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::catalog::Catalog;
    use crate::contract::contract::{Field, Shape, Signature};
    use crate::contract::dtype::{DataType, Profile};
    use crate::oci::layer::EntryKind;
    use crate::oci::path::TreePath;

    fn contract(signatures: usize, profile: Profile, dtype: DataType) -> Contract {
        let signature = |i: usize| Signature {
            name: format!("s{i}"),
            inputs: vec![Field { profile, ..Field::new("x", dtype, Shape::of(&[-1, 2])) }],
            outputs: vec![Field::new("y", DataType::Double, Shape::UnknownRank)],
        };
        Contract { model_name: "m".to_owned(), signatures: (0..signatures).map(signature).collect() }
    }

    #[test]
    fn a_contract_is_kept_in_the_dialect_that_says_all_of_it() {
        let cases = [
            (contract(2, Profile::None, DataType::Float), "v1", true),
            (contract(1, Profile::Image, DataType::Float), "v2", true),
            (contract(2, Profile::Image, DataType::Float), "v1", false),
        ];
        for (contract, dialect, lossless) in cases {
            let kept = keep(&contract).unwrap();
            assert_eq!(kept.dialect, dialect);
            let (back, _) = wire::decode(&kept.protobin, Some(kept.dialect.parse().unwrap())).unwrap();
            assert_eq!(back == contract, lossless, "{dialect}");
        }
    }

    #[tokio::test]
    async fn a_model_goes_through_the_catalog_and_comes_back() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        let catalog = Catalog::open(&data.path().join("catalog.db")).await.unwrap();
        let mut payload = Tree::new();
        payload.insert(TreePath::new("src").unwrap(), EntryKind::Folder);
        let tree_digest = store.put_tree(&payload).unwrap();
        let model_ = Model {
            name: ModelName::new("m").unwrap(),
            model_type: "python:3.11".to_owned(),
            runtime: Some("serving-runtime-python:3.11".to_owned()),
            description: Some("words".to_owned()),
            payload: payload.clone(),
            required: None,
            contract: Some(FoundContract {
                contract: contract(1, Profile::Text, DataType::String),
                source: "contract.prototxt".to_owned(),
            }),
            warnings: vec!["mind the gap".to_owned()],
        };
        let accepted = Policy { strict: true, allow: vec!["pickle:w.pkl".parse().unwrap()] };
        let new = new_version(&model_, tree_digest, BTreeMap::new(), &accepted, vec![NewLine::info("uploaded")]).unwrap();
        let version = catalog.create_version(new).await.unwrap();
        let claim = catalog.claim(60).await.unwrap().unwrap();
        let back = model(&claim, &store).unwrap();
        assert_eq!(policy(&claim), accepted);
        assert_eq!((back.name, back.model_type, back.runtime), (model_.name, model_.model_type, model_.runtime));
        assert_eq!((back.description, back.payload, back.contract), (model_.description, payload, model_.contract));
        assert_eq!(back.warnings, Vec::<String>::new());
        let log: Vec<_> = catalog.logs_from(version.build, 0).await.unwrap().into_iter().map(|line| line.text).collect();
        assert_eq!(log, ["uploaded", "mind the gap"]);
    }
}
