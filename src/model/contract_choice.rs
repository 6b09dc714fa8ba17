//! Which contract a model has: the one that was given, the one that its own file says, or none, and why.
//!
//! Part of the intake (`intake.rs`), which asks for it once. What is given wins; what the model's file says is compared with it. A Python model is its code: what
//! goes in and out of it is what `src/func_main.py` takes and gives, whatever lies beside it, so its contract has to be given, and the code is held against it.
//!
//! What must stay true: of two contracts that are given, none is taken silently; no code is run.

use super::contract_file::{self, CONTRACT_BYTES_MAX};
use super::definition::{DefinedContract, Definition};
use super::framework::{self, FrameworkError, Implied, Open};
use super::intake::{FoundContract, Given, IntakeError, choose_payload, find_definition, read_small};
use super::python_code::{self, CodeError, FUNC_MAIN};
use super::python_source::PYTHON_BYTES_MAX;
use super::tree::Tree;
use crate::contract::compare::{self, Difference};
use crate::contract::contract::Contract;
use crate::contract::saved_model_meta::Tags;

/// The contract's names in a folder that does not say where it is.
const CONTRACT_NAMES: [&str; 3] = ["contract.prototxt", "contract.protobin", "contract.pb"];

/// The model type of code that says no version of Python.
const PYTHON: &str = "python";

/// Whether what is served is the code of a Python model: the type says so, or no type is said, or Keras', and the code is there.
pub fn is_python(said_type: Option<&str>, payload: &Tree) -> bool {
    match said_type {
        Some(said_type) if said_type.split(':').next() != Some("keras") => python_code::is_python(said_type),
        _ => payload.file(FUNC_MAIN).is_some(),
    }
}

/// The contract of the model in `tree`, and the type that its files tell. What is not in `payload` is not shipped, and says nothing of the model.
pub fn choose(
    tree: &Tree,
    payload: &Tree,
    definition: &Definition,
    given: &Given,
    is_python: bool,
    open: Open<'_>,
    warnings: &mut Vec<String>,
) -> Result<(Option<FoundContract>, Option<String>), IntakeError> {
    let found = find_contract(tree, definition, given, open, warnings)?;
    if is_python {
        let none = || format!("what goes in and out of a Python model is what the functions in `{FUNC_MAIN}` take and give:");
        let (contract, _) = settle(found, Ok(None), given, none, warnings)?;
        return Ok((contract, Some(PYTHON.to_owned())));
    }
    let implied = framework::implied(payload, &tags(given), open);
    let nothing_is_read = matches!(implied, Ok(None));
    let (contract, detected) = settle(found, implied, given, || framework::why_none(payload, open), warnings)?;
    if !nothing_is_read {
        return Ok((contract, detected));
    }
    // Files are opened for this: not where the type is said.
    let is_said = given.model_type.is_some() || definition.model_type.is_some();
    let foreign = if is_said { None } else { framework::recognised(payload, open) };
    Ok((contract, foreign.map(|(_, foreign)| foreign.model_type())))
}

fn tags(given: &Given) -> Tags {
    Tags::new(given.tags.iter().map(String::as_str))
}

/// Holds the code of a Python model against its contract; what cannot be told comes back, a sentence each. `said_type` may name the Python that will run it.
pub fn check_code(payload: &Tree, contract: &Contract, said_type: Option<&str>, open: Open<'_>) -> Result<Vec<String>, IntakeError> {
    let (size_bytes, content) = payload.file(FUNC_MAIN).ok_or_else(|| CodeError::NoFile { file: FUNC_MAIN.to_owned() })?;
    let source = read_small(FUNC_MAIN, size_bytes, content, PYTHON_BYTES_MAX as u64, open)?;
    let python = said_type.and_then(|said_type| python_code::python_version(said_type.split_once(':')?.1));
    Ok(python_code::check(&source, FUNC_MAIN, contract, python)?)
}

/// Whether the files by themselves say what the contract is.
pub fn has_own(tree: &Tree, open: Open<'_>) -> bool {
    let given = Given::default();
    let is_given =
        |definition: &Definition| find_contract(tree, definition, &given, open, &mut Vec::new()).is_ok_and(|found| found.is_some());
    find_definition(tree, open).is_ok_and(|definition| {
        is_given(&definition)
            || !is_python(definition.model_type.as_deref(), tree)
                && framework::implied(tree, &Tags::default(), open).is_ok_and(|implied| implied.is_some())
    })
}

/// A contract that was given, held against the model.
pub struct Checked {
    /// What was given; where nothing was, what the model says.
    pub given: FoundContract,
    /// Whether it was given.
    pub is_given: bool,
    /// What it was held against, each in a few words.
    pub against: Vec<String>,
    /// What differs between it and the model's own file.
    pub differences: Vec<Difference>,
    /// What had to be said.
    pub warnings: Vec<String>,
}

/// Holds the contract that is given for the model in `tree` against what the model's own file says, or against the code of a Python model. What cannot
/// be read is an error here; without a given contract the model's own is what is built with, and there is nothing to compare.
pub fn check(tree: &Tree, given: &Given, open: Open<'_>) -> Result<Checked, IntakeError> {
    let definition = find_definition(tree, open)?;
    let payload = choose_payload(tree, definition.payload.as_deref())?;
    let mut warnings = definition.warnings.clone();
    let found = find_contract(tree, &definition, given, open, &mut warnings)?;
    let said_type = given.model_type.as_deref().or(definition.model_type.as_deref());
    let is_python = is_python(said_type, &payload);
    let read = if is_python { None } else { framework::implied(&payload, &tags(given), open)? };
    let mut checked = match (found, &read) {
        (Some(found), _) => Checked { given: found, is_given: true, against: Vec::new(), differences: Vec::new(), warnings },
        (None, Some(read)) => {
            let found = FoundContract { contract: read.contract.clone(), source: read.source.clone() };
            warnings.extend(read.warnings.clone());
            return Ok(Checked { given: found, is_given: false, against: Vec::new(), differences: Vec::new(), warnings });
        }
        (None, None) => return Err(IntakeError::NoContract { hint: framework::why_none(&payload, open) }),
    };
    if is_python {
        let told = check_code(&payload, &checked.given.contract, said_type, open)?;
        let limit = if told.is_empty() { "" } else { ", as far as its text tells" };
        checked.against.push(format!("`{FUNC_MAIN}`{limit}"));
        checked.warnings.extend(told);
    } else if let Some(read) = read {
        checked.differences = compare::differences(&checked.given.contract, &read.contract);
        checked.warnings.extend(read.warnings);
        checked.against.push(format!("`{}` ({})", read.source, read.model_type));
    }
    Ok(checked)
}

/// The contract of the model in a folder, with its type and what had to be said, for those who ask for nothing else of the folder.
pub fn of_folder(tree: &Tree, given: &Given, open: Open<'_>) -> Result<(FoundContract, Option<String>, Vec<String>), IntakeError> {
    let definition = find_definition(tree, open)?;
    let payload = choose_payload(tree, definition.payload.as_deref())?;
    let mut warnings = definition.warnings.clone();
    let said_type = given.model_type.as_deref().or(definition.model_type.as_deref());
    let (found, detected) = choose(tree, &payload, &definition, given, is_python(said_type, &payload), open, &mut warnings)?;
    let found = found.ok_or_else(|| IntakeError::NoContract { hint: framework::why_none(&payload, open) })?;
    Ok((found, said_type.map(str::to_owned).or(detected), warnings))
}

/// The contract that is given: by the command line or the upload, in the definition, or in a file of the folder's root.
fn find_contract(
    tree: &Tree,
    definition: &Definition,
    given: &Given,
    open: Open<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<FoundContract>, IntakeError> {
    if let Some((source, bytes)) = &given.contract {
        let (contract, told) = contract_file::read(source, bytes)?;
        warnings.extend(told);
        return Ok(Some(FoundContract { contract, source: source.clone() }));
    }
    // What the definition says comes first; its place is what a message calls it.
    let mut candidates: Vec<(String, FoundContract)> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    match &definition.contract {
        Some(DefinedContract::Inline(inline)) => {
            let found = FoundContract { contract: inline.contract.clone(), source: inline.at.file.clone() };
            candidates.push((inline.at.to_string(), found));
        }
        Some(DefinedContract::File(path)) if tree.file(path.as_str()).is_none() => {
            return Err(IntakeError::MissingContract { path: path.clone() });
        }
        Some(DefinedContract::File(path)) => names.push(path.as_str()),
        None => {}
    }
    let named = names.first().copied();
    names.extend(CONTRACT_NAMES.into_iter().filter(|name| Some(*name) != named));
    for name in names {
        if let Some((size_bytes, content)) = tree.file(name) {
            let (contract, told) = contract_file::read(name, &read_small(name, size_bytes, content, CONTRACT_BYTES_MAX, open)?)?;
            warnings.extend(told);
            candidates.push((name.to_owned(), FoundContract { contract, source: name.to_owned() }));
        }
    }
    let mut candidates = candidates.into_iter();
    let Some((first_place, first)) = candidates.next() else { return Ok(None) };
    for (place, other) in candidates {
        if let Some(difference) = contract_file::disagreement((&first_place, &first.contract), (&place, &other.contract)) {
            return Err(IntakeError::Disagree { first: first_place, second: place, difference });
        }
    }
    Ok(Some(first))
}

/// Decides between the contract that was given and the one that the model implies; also tells the detected type.
fn settle(
    found: Option<FoundContract>,
    implied: Result<Option<Implied>, FrameworkError>,
    given: &Given,
    none: impl FnOnce() -> String,
    warnings: &mut Vec<String>,
) -> Result<(Option<FoundContract>, Option<String>), IntakeError> {
    match (found, implied) {
        (Some(found), Ok(Some(implied))) => {
            for difference in compare::differences(&found.contract, &implied.contract) {
                warnings.push(format!("`{}` and `{}` differ: {difference}", found.source, implied.source));
            }
            Ok((Some(found), Some(implied.model_type)))
        }
        // A model that cannot be read does not stop a build whose contract is given; the ancestor's did (reference, §5.1).
        (Some(found), Err(error)) => {
            warnings.push(format!("the given contract could not be compared: {}", crate::fault::one_line(&error)));
            Ok((Some(found), None))
        }
        (Some(found), Ok(None)) => Ok((Some(found), None)),
        (None, Ok(Some(implied))) => {
            warnings.extend(implied.warnings);
            Ok((Some(FoundContract { contract: implied.contract, source: implied.source }), Some(implied.model_type)))
        }
        (None, Ok(None)) if given.no_contract => Ok((None, None)),
        (None, Err(error)) if given.no_contract => {
            warnings.push(crate::fault::one_line(&error));
            Ok((None, None))
        }
        (None, Err(error)) => Err(error.into()),
        (None, Ok(None)) => Err(IntakeError::NoContract { hint: none() }),
    }
}
