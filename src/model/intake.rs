//! From the files of a model, and what was said about them, to a model that can be built.
//!
//! The one place where a folder and an upload become the same thing: the definition is read, the name checked, the payload chosen, the contract found
//! or read out of the model, and everything that is wrong is refused here, before anything is numbered or built. Reads the small files that
//! it has to know through the opener that it is given, and no others.
//!
//! What must stay true: what is in `payload` is shipped and nothing else is; a contract that is given wins over one that can be read.

use std::io::{self, Read};

use super::contract_choice;
use super::contract_file::ContractFileError;
use super::definition::{self, Definition, DefinitionError, PayloadEntry};
use super::framework::{FrameworkError, Open};
use super::keras_ways;
use super::name::{ModelName, NameError};
use super::python_code::{CodeError, FUNC_MAIN};
use super::required::{Required, RequiredError};
use super::requirements;
use super::requirements_lock;
use super::requirements_text;
use super::tree::Tree;
use crate::contract::contract::Contract;
use crate::fault::{Failure, Fault};
use crate::oci::layer::Content;
use crate::oci::path::TreePath;

/// What was said beside the files: by flags, by an upload's form. It wins over the definition.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The model's name.
    pub name: Option<String>,
    /// The name where nobody gave one: the folder's.
    pub fallback_name: Option<String>,
    /// The type tag.
    pub model_type: Option<String>,
    /// The runtime.
    pub runtime: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// A contract: what it is called in messages, and its bytes; text where the name ends in `.prototxt`.
    pub contract: Option<(String, Vec<u8>)>,
    /// Build without a contract where none is found.
    pub no_contract: bool,
    /// The tags of the meta graph that a SavedModel's contract is read from.
    pub tags: Vec<String>,
    /// The file of requirements that an install command names.
    pub requirements: Option<TreePath>,
    /// They are not installed, so that it does not matter what they say.
    pub no_requirements: bool,
}

/// A model that can be built.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name.
    pub name: ModelName,
    /// Its type tag; `unknown:unknown` where nobody knows, as the ancestor wrote it.
    pub model_type: String,
    /// The runtime that was asked for.
    pub runtime: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// What is shipped.
    pub payload: Tree,
    /// The packages that it needs.
    pub required: Option<Required>,
    /// What goes in and what comes out, with the model's name set.
    pub contract: Option<FoundContract>,
    /// What had to be said.
    pub warnings: Vec<String>,
}

/// A contract and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundContract {
    /// The contract.
    pub contract: Contract,
    /// The file that it was read from, or what gave it.
    pub source: String,
}

/// Why files are not a model.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The definition is not valid.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Nobody named the model.
    #[error("the model has no name")]
    NoName,
    /// `payload` names what is not there.
    #[error("`{entry}` in `payload` is not in the model folder")]
    MissingPayload {
        /// The entry.
        entry: String,
    },
    /// A pattern that cannot be read.
    #[error("`{entry}` in `payload` is not a pattern")]
    Pattern {
        /// The entry.
        entry: String,
        /// Why.
        #[source]
        source: globset::Error,
    },
    /// There is nothing to ship.
    #[error("the model has no files")]
    Empty,
    /// The definition names a contract that is not there.
    #[error("the contract `{path}` is not in the model folder")]
    MissingContract {
        /// Where it should be.
        path: TreePath,
    },
    /// A file that has to be read cannot be.
    #[error("reading `{path}`")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A small file that is large.
    #[error("`{path}` is {size_bytes} bytes long; at most {limit_bytes} are read")]
    TooLarge {
        /// Which file.
        path: String,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// A contract that was given is not valid.
    #[error(transparent)]
    ContractFile(#[from] ContractFileError),
    /// Two contracts of one model.
    #[error("the contracts in `{first}` and `{second}` do not agree: {difference}")]
    Disagree {
        /// The place of the one that would be taken.
        first: String,
        /// The place of the other.
        second: String,
        /// One thing that they say differently.
        difference: String,
    },
    /// The model's own files do not give a contract.
    #[error(transparent)]
    Framework(#[from] FrameworkError),
    /// The code of a Python model does not keep its contract.
    #[error("the model's code does not keep its contract")]
    Code(#[from] CodeError),
    /// The requirements, or their lock, are not taken.
    #[error(transparent)]
    Required(#[from] RequiredError),
    /// `install-command` names a file that is not there.
    #[error("`{file}` in `install-command` is not among the model's files")]
    MissingRequirements {
        /// Which.
        file: String,
    },
    /// There is no contract.
    #[error("no contract was found")]
    NoContract {
        /// What the files tell.
        hint: String,
    },
}

impl Model {
    /// The type that picks the runtime: a Keras model that its own code loads is served by Python.
    pub fn served_type(&self) -> &str {
        let is_code = self.model_type.split(':').next() == Some("keras") && self.payload.file(FUNC_MAIN).is_some();
        if is_code { "python" } else { &self.model_type }
    }
}

impl Failure for IntakeError {
    fn fault(&self) -> Fault {
        match self {
            IntakeError::Read { .. } => Fault::Ours,
            IntakeError::Framework(error) => error.fault(),
            IntakeError::Definition(error) => error.fault(),
            IntakeError::ContractFile(error) => error.fault(),
            IntakeError::Required(error) => error.fault(),
            _ => Fault::Invalid,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            IntakeError::Definition(error) => error.remedy(),
            IntakeError::Name(error) => error.remedy(),
            IntakeError::Framework(error) => error.remedy(),
            IntakeError::Code(error) => error.remedy(),
            IntakeError::Required(error) => error.remedy(),
            IntakeError::NoName => Some("name it with `--name`, or with `name` in serving.yaml".to_owned()),
            IntakeError::MissingPayload { .. } => Some("correct the entry in serving.yaml; names are relative to its folder".to_owned()),
            IntakeError::Empty => Some("run the command in the model's folder".to_owned()),
            IntakeError::ContractFile(error) => error.remedy(),
            IntakeError::Disagree { .. } => Some("correct one of the two, or remove it".to_owned()),
            IntakeError::NoContract { hint } => {
                let add =
                    "add a `contract.prototxt` that says what goes in and what comes out; `hs build --no-contract` builds without one";
                Some(format!("{hint} {add}").trim().to_owned())
            }
            _ => None,
        }
    }
}

/// Reads and checks everything that is said about the model in `tree`.
pub fn intake(tree: &Tree, given: &Given, open: Open<'_>) -> Result<Model, IntakeError> {
    let definition = find_definition(tree, open)?;
    let name = [&given.name, &definition.name, &given.fallback_name].into_iter().flatten().next().ok_or(IntakeError::NoName)?;
    let name = ModelName::new(name)?;
    let mut warnings = definition.warnings.clone();
    let payload = choose_payload(tree, definition.payload.as_deref())?.without(requirements_lock::FILE_NAME);
    if payload.is_empty() {
        return Err(IntakeError::Empty);
    }
    let said_type = given.model_type.as_deref().or(definition.model_type.as_deref());
    let is_python = contract_choice::is_python(said_type, &payload);
    let (contract, detected) = contract_choice::choose(tree, &payload, &definition, given, is_python, open, &mut warnings)?;
    if let Some(found) = contract.as_ref().filter(|_| is_python) {
        // Which Python will run it, and what that lacks, is known when the runtime is (`fit_judge.rs`).
        warnings.extend(contract_choice::check_code(&payload, &found.contract, None, open)?);
    }
    let contract = contract.map(|found| named(found, &name));
    if let Some(found) = contract.as_ref().filter(|_| !is_python && given.runtime.is_none() && definition.runtime.is_none()) {
        warnings.extend(keras_without_code(&payload, said_type.or(detected.as_deref()), found));
    }
    let model_type = said_type.map(str::to_owned).or(detected);
    let required = required(tree, &payload, given.requirements.as_ref().or(definition.requirements.as_ref()), open)?;
    if let Some(required) = required.as_ref().filter(|_| is_python && !given.no_requirements) {
        // What is refused is refused before anything is sent or numbered.
        required.check()?;
    }
    Ok(Model {
        name,
        model_type: model_type.unwrap_or_else(|| "unknown:unknown".to_owned()),
        runtime: given.runtime.clone().or(definition.runtime),
        description: given.description.clone().or(definition.description),
        payload,
        required,
        contract,
        warnings,
    })
}

/// What is said of a Keras model that no code loads.
fn keras_without_code(payload: &Tree, model_type: Option<&str>, found: &FoundContract) -> Option<String> {
    let model_type = model_type.filter(|model_type| model_type.split(':').next() == Some("keras"))?;
    let is_keras = |path: &TreePath| [".h5", ".hdf5", ".keras"].iter().any(|end| path.as_str().ends_with(end));
    let file = payload.files().map(|(path, _)| path).find(|path| is_keras(path))?;
    Some(keras_ways::ways(file.as_str(), model_type, &found.contract))
}

/// The requirements among what is shipped, and their lock, which is not.
fn required(tree: &Tree, payload: &Tree, named: Option<&TreePath>, open: Open<'_>) -> Result<Option<Required>, IntakeError> {
    let file = named.map_or(requirements::FILE_NAME, TreePath::as_str);
    let Some((size_bytes, content)) = payload.file(file) else {
        let missing = || IntakeError::MissingRequirements { file: file.to_owned() };
        return if named.is_some() { Err(missing()) } else { Ok(None) };
    };
    let bytes = read_small(file, size_bytes, content, requirements::REQUIREMENTS_BYTES_MAX, open)?;
    let mut lock = None;
    for name in [requirements_lock::FILE_NAME, "pylock.toml"] {
        if let Some((size_bytes, content)) = tree.file(name).filter(|_| lock.is_none()) {
            let bytes = read_small(name, size_bytes, content, requirements_lock::LOCK_BYTES_MAX, open)?;
            // Kept as UTF-8, whatever wrote it; what is no text is refused when it is read.
            lock = Some((name.to_owned(), requirements_text::decode(&bytes).map_or(bytes, String::into_bytes)));
        }
    }
    Ok(Some(Required { file: file.to_owned(), bytes, lock }))
}

/// The definition in the root of the folder; an empty one where there is none.
pub(super) fn find_definition(tree: &Tree, open: Open<'_>) -> Result<Definition, IntakeError> {
    for name in definition::FILE_NAMES {
        if let Some((size_bytes, content)) = tree.file(name) {
            let bytes = read_small(name, size_bytes, content, super::yaml::YAML_BYTES_MAX as u64, open)?;
            return Ok(definition::read(name, &bytes)?);
        }
    }
    Ok(Definition::default())
}

/// What of a folder is shipped.
pub(super) fn choose_payload(tree: &Tree, entries: Option<&[PayloadEntry]>) -> Result<Tree, IntakeError> {
    let Some(entries) = entries else { return Ok(tree.clone()) };
    let mut keep = Vec::new();
    for entry in entries {
        match entry {
            PayloadEntry::Everything => return Ok(tree.clone()),
            PayloadEntry::Path(path) if tree.get(path).is_some() => keep.push(path.clone()),
            PayloadEntry::Path(path) => return Err(IntakeError::MissingPayload { entry: path.to_string() }),
            PayloadEntry::Pattern(pattern) => {
                let glob = globset::GlobBuilder::new(pattern).literal_separator(true).build();
                let glob = glob.map_err(|source| IntakeError::Pattern { entry: pattern.clone(), source })?.compile_matcher();
                let before = keep.len();
                keep.extend(tree.nodes().map(|(path, _)| path).filter(|path| glob.is_match(path.as_str())).cloned());
                if keep.len() == before {
                    return Err(IntakeError::MissingPayload { entry: pattern.clone() });
                }
            }
        }
    }
    Ok(tree.only(&keep))
}

/// The image's contract carries the model's name (the ancestor's server set it too).
fn named(mut found: FoundContract, name: &ModelName) -> FoundContract {
    name.as_str().clone_into(&mut found.contract.model_name);
    found
}

/// Reads a small file whole.
pub(super) fn read_small(path: &str, size_bytes: u64, content: &Content, limit_bytes: u64, open: Open<'_>) -> Result<Vec<u8>, IntakeError> {
    if size_bytes > limit_bytes {
        return Err(IntakeError::TooLarge { path: path.to_owned(), size_bytes, limit_bytes });
    }
    let mut bytes = Vec::new();
    let read = open(content).and_then(|reader| reader.take(limit_bytes + 1).read_to_end(&mut bytes));
    read.map_err(|source| IntakeError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}
