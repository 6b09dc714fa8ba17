//! Contracts as users name them: a file, a model folder, an image anywhere.
//!
//! Shared by the commands that show, compare and sample contracts. Of an image only its small documents and the contract's own layer are read (a few KiB),
//! whatever the model weighs.

use std::fs::File;
use std::io::{self, Read as _};
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
use crate::model::python_code::FUNC_MAIN;

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
    /// The definition only says where it is.
    #[error("the contract of `{definition}` is in the file `{file}` beside it")]
    ElsewhereInDefinition {
        /// The definition.
        definition: String,
        /// Where the contract is.
        file: String,
    },
    /// The folder gives none.
    #[error("there is no contract to be had of `{}`", .path.display())]
    Folder {
        /// Which folder, or which model's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: IntakeError,
    },
    /// Reading in the background died.
    #[error("reading the folder stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl Failure for ContractSourceError {
    fn fault(&self) -> Fault {
        match self {
            ContractSourceError::Read { .. } => Fault::Usage,
            ContractSourceError::NoneInImage(_)
            | ContractSourceError::NoneInDefinition(_)
            | ContractSourceError::ElsewhereInDefinition { .. } => Fault::Invalid,
            ContractSourceError::Folder { source, .. } => source.fault(),
            ContractSourceError::Stopped(_) => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            ContractSourceError::NoneInImage(_) => {
                Some("it was built without one, or by another tool; name the contract's file or the model's folder".to_owned())
            }
            ContractSourceError::NoneInDefinition(_) => {
                Some("write it below the key `contract`, or name the contract's own file, or the model's folder".to_owned())
            }
            ContractSourceError::ElsewhereInDefinition { file, .. } => Some(format!("name `{file}` itself")),
            ContractSourceError::Folder { source, .. } => source.remedy(),
            _ => None,
        }
    }
}

/// The contract that `what` names. What is here as a file or a folder is that; anything else is an image.
pub async fn find(what: &str, words: &ModelArguments, settings: &Settings) -> Result<NamedContract, Box<dyn Failure>> {
    let path = Path::new(what);
    let (here, words, of_machine) = (path.to_owned(), words.clone(), settings.clone());
    if path.is_dir() {
        let reading = tokio::task::spawn_blocking(move || of_folder(&here, &words, &of_machine)).await;
        return reading.map_err(ContractSourceError::Stopped)?;
    }
    if is_model_file(path) && path.is_file() {
        let reading = tokio::task::spawn_blocking(move || of_the_model(&here, &words.tag, &of_machine)).await;
        return reading.map_err(ContractSourceError::Stopped)?;
    }
    // A pipe is a file, too: `<(git show HEAD:contract.prototxt)`.
    if path.exists() {
        return of_file(path);
    }
    of_image(what, settings).await
}

/// Whether a file's name is one of a model whose contract is read.
fn is_model_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    matches!(extension, "onnx" | "h5" | "hdf5" | "keras") || matches!(name, "saved_model.pb" | "saved_model.pbtxt")
}

/// The contract of the model in a folder; what else may be wrong with the folder is not asked.
fn of_folder(path: &Path, words: &ModelArguments, settings: &Settings) -> Result<NamedContract, Box<dyn Failure>> {
    let options = FolderOptions { follow_links: words.follow_links, limits: settings.limits };
    let tree = folder::read_folder(path, &options)?.tree;
    let settled = contract_choice::of_folder(&tree, &open::given(path, words)?, &open::open_content);
    let settled = settled.map_err(|source| ContractSourceError::Folder { path: path.to_owned(), source })?;
    let (found, model_type, warnings) = settled;
    Ok(NamedContract { contract: found.contract, source: found.source, model_type, warnings })
}

/// A contract file: a `serving.yaml` or a binary by its extension, text by any other.
pub fn of_file(file: &Path) -> Result<NamedContract, Box<dyn Failure>> {
    let name = file.to_string_lossy().into_owned();
    let read = |source| ContractSourceError::Read { path: file.to_owned(), source };
    let bytes = if file.is_file() { open::read_small_file(file, CONTRACT_BYTES_MAX) } else { read_pipe(file) };
    let bytes = bytes.map_err(read)?;
    let is_yaml = file.extension().is_some_and(|extension| matches!(extension.to_str(), Some("yaml" | "yml")));
    let (contract, warnings) = if is_yaml { of_definition(&name, &bytes)? } else { contract_file::read(&name, &bytes)? };
    Ok(NamedContract { contract, source: name, model_type: None, warnings })
}

/// Reads what comes through a pipe, up to one byte more than a contract may have: whoever parses it says that it is too large.
fn read_pipe(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(CONTRACT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn of_definition(name: &str, bytes: &[u8]) -> Result<(Contract, Vec<String>), Box<dyn Failure>> {
    let definition = definition::read(name, bytes)?;
    match definition.contract {
        Some(DefinedContract::Inline(inline)) => Ok((inline.contract, definition.warnings)),
        Some(DefinedContract::File(path)) => {
            Err(ContractSourceError::ElsewhereInDefinition { definition: name.to_owned(), file: path.to_string() }.into())
        }
        None => Err(ContractSourceError::NoneInDefinition(name.to_owned()).into()),
    }
}

/// The contract that the model itself says, whatever is given beside it; `what` is a model folder or a model's file.
pub fn of_the_model(what: &Path, tags: &[String], settings: &Settings) -> Result<NamedContract, Box<dyn Failure>> {
    if let Err(source) = std::fs::metadata(what) {
        return Err(ContractSourceError::Read { path: what.to_owned(), source }.into());
    }
    let tree = if what.is_dir() {
        let options = FolderOptions { follow_links: false, limits: settings.limits };
        folder::read_folder(what, &options)?.tree
    } else {
        folder::one_file(what)?
    };
    let failed = |source| ContractSourceError::Folder { path: what.to_owned(), source };
    let tags = Tags::new(tags.iter().map(String::as_str));
    let none = || failed(IntakeError::NoContract { hint: framework::why_none(&tree, &open::open_content) });
    let read = framework::implied(&tree, &tags, &open::open_content).map_err(|error| failed(error.into()))?.ok_or_else(none)?;
    let mut warnings = read.warnings;
    if contract_choice::is_python(None, &tree) {
        warnings.push(format!("`{FUNC_MAIN}` makes this a Python model, whose contract is that of its functions and has to be given"));
    }
    Ok(NamedContract { contract: read.contract, source: read.source, model_type: Some(read.model_type), warnings })
}

/// Holds the contract that is given in a folder against the model.
pub fn check(path: &Path, words: &ModelArguments, settings: &Settings) -> Result<Checked, Box<dyn Failure>> {
    let options = FolderOptions { follow_links: words.follow_links, limits: settings.limits };
    let tree = folder::read_folder(path, &options)?.tree;
    let checked = contract_choice::check(&tree, &open::given(path, words)?, &open::open_content);
    Ok(checked.map_err(|source| ContractSourceError::Folder { path: path.to_owned(), source })?)
}

async fn of_image(what: &str, settings: &Settings) -> Result<NamedContract, Box<dyn Failure>> {
    let contract = inspect::contract_of(&open::image(what, None, settings).await?).await?;
    let contract = contract.ok_or_else(|| ContractSourceError::NoneInImage(what.to_owned()))?;
    Ok(NamedContract { contract, source: what.to_owned(), model_type: None, warnings: Vec::new() })
}
