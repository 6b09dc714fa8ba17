//! Contracts as users name them: a file, a model folder, an image anywhere.
//!
//! Shared by the commands that show, compare and sample contracts. Of an image only its small documents and the contract's own layer are read (a few KiB),
//! whatever the model weighs.

use std::io;
use std::path::{Path, PathBuf};

use super::args::ModelArguments;
use super::inspect;
use super::open;
use super::settings::Settings;
use crate::contract::contract::Contract;
use crate::contract::saved_model_meta::Tags;
use crate::disk::folder::{self, FolderOptions};
use crate::fault::{Failure, Fault};
use crate::model::contract_choice::{self, Checked};
use crate::model::contract_file::{self, CONTRACT_BYTES_MAX};
use crate::model::definition::{self, DefinedContract};
use crate::model::framework;
use crate::model::intake::IntakeError;

/// A contract, and what is known of it.
#[derive(Clone, Debug)]
pub struct NamedContract {
    /// The contract; valid.
    pub contract: Contract,
    /// Where it was read from.
    pub source: String,
    /// The model's type, where a model says it.
    pub model_type: Option<String>,
    /// What had to be said while reading.
    pub warnings: Vec<String>,
}

/// Why there is no contract where one was named.
#[derive(Debug, thiserror::Error)]
pub enum ContractSourceError {
    /// A file cannot be read.
    #[error("reading `{}`", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image has none.
    #[error("the image `{0}` carries no contract")]
    NoneInImage(String),
    /// The definition has none in it.
    #[error("`{0}` has no contract in it")]
    NoneInDefinition(String),
    /// Reading in the background died.
    #[error("reading the folder stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl Failure for ContractSourceError {
    fn fault(&self) -> Fault {
        match self {
            ContractSourceError::Read { .. } => Fault::Usage,
            ContractSourceError::NoneInImage(_) | ContractSourceError::NoneInDefinition(_) => Fault::Invalid,
            ContractSourceError::Stopped(_) => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            ContractSourceError::NoneInImage(_) => {
                Some("it was built without one, or by another tool; name the contract's file or the model's folder".to_owned())
            }
            ContractSourceError::NoneInDefinition(_) => {
                Some("name the model's folder, or the contract's own file; here a contract is below the key `contract`".to_owned())
            }
            _ => None,
        }
    }
}

/// The contract that `what` names. What is here as a file or a folder is that; anything else is an image.
pub async fn find(what: &str, words: &ModelArguments, settings: &Settings) -> Result<NamedContract, Box<dyn Failure>> {
    let path = Path::new(what);
    if path.is_dir() {
        return of_folder(path.to_owned(), words.clone(), settings.clone()).await;
    }
    if path.is_file() {
        return of_file(path);
    }
    of_image(what, settings).await
}

/// The contract with which the folder would be built.
async fn of_folder(path: PathBuf, words: ModelArguments, settings: Settings) -> Result<NamedContract, Box<dyn Failure>> {
    let read = tokio::task::spawn_blocking(move || open::folder(&path, &words, &settings)).await;
    let model = read.map_err(ContractSourceError::Stopped)??.model;
    let found = model.contract.ok_or_else(|| IntakeError::NoContract { hint: String::new() })?;
    Ok(NamedContract { contract: found.contract, source: found.source, model_type: Some(model.model_type), warnings: model.warnings })
}

/// A contract file: a `serving.yaml` or a binary by its extension, text by any other.
pub fn of_file(file: &Path) -> Result<NamedContract, Box<dyn Failure>> {
    let name = file.to_string_lossy().into_owned();
    let read = |source| ContractSourceError::Read { path: file.to_owned(), source };
    let bytes = open::read_small_file(file, CONTRACT_BYTES_MAX).map_err(read)?;
    let is_yaml = file.extension().is_some_and(|extension| matches!(extension.to_str(), Some("yaml" | "yml")));
    let (contract, warnings) = if is_yaml { of_definition(&name, &bytes)? } else { contract_file::read(&name, &bytes)? };
    Ok(NamedContract { contract, source: name, model_type: None, warnings })
}

fn of_definition(name: &str, bytes: &[u8]) -> Result<(Contract, Vec<String>), Box<dyn Failure>> {
    let definition = definition::read(name, bytes)?;
    match definition.contract {
        Some(DefinedContract::Inline(inline)) => Ok((inline.contract, definition.warnings)),
        _ => Err(ContractSourceError::NoneInDefinition(name.to_owned()).into()),
    }
}

/// The contract that the model itself says, whatever is given beside it; `what` is a model folder or a model's file.
pub fn of_the_model(what: &Path, tags: &[String], settings: &Settings) -> Result<NamedContract, Box<dyn Failure>> {
    let tree = if what.is_dir() {
        let options = FolderOptions { follow_links: false, limits: settings.limits };
        folder::read_folder(what, &options)?.tree
    } else {
        folder::one_file(what)?
    };
    let tags = Tags::new(tags.iter().map(String::as_str));
    let none = || IntakeError::NoContract { hint: framework::why_none(&tree, &open::open_content) };
    let read = framework::implied(&tree, &tags, &open::open_content)?.ok_or_else(none)?;
    Ok(NamedContract { contract: read.contract, source: read.source, model_type: Some(read.model_type), warnings: read.warnings })
}

/// Holds the contract that is given in a folder against the model.
pub fn check(path: &Path, words: &ModelArguments, settings: &Settings) -> Result<Checked, Box<dyn Failure>> {
    let options = FolderOptions { follow_links: words.follow_links, limits: settings.limits };
    let tree = folder::read_folder(path, &options)?.tree;
    Ok(contract_choice::check(&tree, &open::given(path, words)?, &open::open_content)?)
}

async fn of_image(what: &str, settings: &Settings) -> Result<NamedContract, Box<dyn Failure>> {
    let contract = inspect::contract_of(&open::image(what, None, settings).await?).await?;
    let contract = contract.ok_or_else(|| ContractSourceError::NoneInImage(what.to_owned()))?;
    Ok(NamedContract { contract, source: what.to_owned(), model_type: None, warnings: Vec::new() })
}
