//! What wrote these files, and the contract that they imply.
//!
//! A framework is told by the files at the top of the model folder; its contract is read from the model's own bytes by the reader in
//! `contract/`. Keras, ONNX and Spark are recognised so that the refusal can say what to do; their readers come with the formats' own issue.
//! A pickle is never loaded, here or anywhere.

use std::io::{self, Read, Seek};

use super::tree::Tree;
use crate::contract::contract::Contract;
use crate::contract::saved_model::{self, SavedModelError};
use crate::fault::{Failure, Fault};
use crate::oci::layer::Content;
use crate::oci::path::TreePath;

/// The file that makes a folder a TensorFlow SavedModel.
pub const SAVED_MODEL: &str = "saved_model.pb";

/// Opens a file's content for reading: memory, a local file, an object of the store.
pub type Open<'a> = &'a dyn Fn(&Content) -> io::Result<Box<dyn ReadSeek>>;

/// What a contract reader needs of a file.
pub trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// A contract that was read out of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Implied {
    /// The contract.
    pub contract: Contract,
    /// `tensorflow:2.16.1`.
    pub model_type: String,
    /// The file that it was read from.
    pub source: String,
    /// What the reader could not know.
    pub warnings: Vec<String>,
}

/// Why no contract can be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameworkError {
    /// The file cannot be opened.
    #[error("opening `{path}`")]
    Open {
        /// Which file.
        path: TreePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what its name says.
    #[error("reading the contract out of `{path}`")]
    SavedModel {
        /// Which file.
        path: TreePath,
        /// What is wrong with it.
        #[source]
        source: SavedModelError,
    },
}

impl Failure for FrameworkError {
    fn fault(&self) -> Fault {
        match self {
            FrameworkError::Open { .. } => Fault::Ours,
            FrameworkError::SavedModel { source, .. } => source.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            FrameworkError::Open { .. } => None,
            FrameworkError::SavedModel { source, .. } => source.remedy(),
        }
    }
}

/// Reads the contract that the model's own files imply; `None` where they imply none.
pub fn implied(tree: &Tree, open: Open<'_>) -> Result<Option<Implied>, FrameworkError> {
    let Some((size_bytes, content)) = tree.file(SAVED_MODEL) else { return Ok(None) };
    let path = || TreePath::new(SAVED_MODEL).expect("a plain name");
    let mut reader = open(content).map_err(|source| FrameworkError::Open { path: path(), source })?;
    let reading = saved_model::read(&mut reader, size_bytes).map_err(|source| FrameworkError::SavedModel { path: path(), source })?;
    Ok(Some(Implied {
        contract: reading.contract,
        model_type: reading.model_type,
        source: SAVED_MODEL.to_owned(),
        warnings: reading.warnings,
    }))
}

/// Why there is no contract, as far as the files tell: for the end of the sentence "no contract was found".
pub fn why_none(tree: &Tree) -> String {
    let below = tree.files().find(|(path, _)| path.file_name() == SAVED_MODEL && path.parent().is_some());
    if let Some(folder) = below.and_then(|(path, _)| path.parent()) {
        return format!("a SavedModel lies in `{folder}`: run the command in that folder, or");
    }
    let kinds = [
        ("keras", "a Keras model"),
        ("h5", "a Keras model"),
        ("onnx", "an ONNX model"),
        ("pmml", "a PMML model"),
        ("pkl", "a pickled model"),
        ("joblib", "a pickled model"),
        ("pt", "a PyTorch model"),
        ("xgb", "an XGBoost model"),
    ];
    let found = tree.files().find_map(|(path, _)| {
        let extension = path.file_name().rsplit_once('.')?.1.to_ascii_lowercase();
        let (_, kind) = kinds.iter().find(|(known, _)| *known == extension)?;
        Some(format!("`{path}` is {kind}, from which no contract is read:"))
    });
    found.unwrap_or_default()
}
