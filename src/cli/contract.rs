//! `hs contract …`: contracts by themselves.
//!
//! `compile` and `show`; the work is `contract/`. Comparing, checking and inferring come with the gate.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::{ContractCommand, ModelArguments};
use super::open;
use super::say::Voice;
use super::settings::Settings;
use crate::contract::contract::Contract;
use crate::contract::print;
use crate::contract::wire::{self, Dialect};
use crate::disk::atomic;
use crate::fault::{Failure, Fault};
use crate::model::contract_file::{self, CONTRACT_BYTES_MAX};
use crate::model::intake::IntakeError;

/// Why a contract command cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum ContractCommandError {
    /// A file cannot be read.
    #[error("reading `{}`", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("writing `{}`", .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Failure for ContractCommandError {
    fn fault(&self) -> Fault {
        match self {
            ContractCommandError::Read { .. } => Fault::Usage,
            ContractCommandError::Write { .. } => Fault::Ours,
        }
    }
}

/// Runs `hs contract …`.
pub fn run(command: &ContractCommand, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    match command {
        ContractCommand::Compile { file, out, dialect, name } => compile(file, out, dialect, name.as_deref(), voice),
        ContractCommand::Show { what } => show(what, settings, voice),
    }
}

fn compile(file: &Path, out: &Path, dialect: &str, name: Option<&str>, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let dialect: Dialect = dialect.parse()?;
    let (mut contract, _, mut warnings) = read_file(file)?;
    if let Some(name) = name {
        name.clone_into(&mut contract.model_name);
    }
    let encoded = wire::encode(&contract, dialect)?;
    warnings.extend(encoded.warnings);
    for warning in &warnings {
        voice.warn(warning);
    }
    let write = |source| ContractCommandError::Write { path: out.to_owned(), source };
    atomic::write(out, &encoded.bytes).map_err(write)?;
    let document = document(&contract, &file.to_string_lossy(), None, &warnings);
    let text = format!("{}: {} bytes, dialect {dialect}", out.display(), encoded.bytes.len());
    voice.result(&document, &text)?;
    Ok(())
}

fn show(what: &Path, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let (contract, source, model_type, warnings) = if what.is_dir() {
        let words = ModelArguments::default();
        let model = open::folder(what, &words, settings)?.model;
        let found = model.contract.ok_or_else(|| IntakeError::NoContract { hint: String::new() })?;
        (found.contract, found.source, Some(model.model_type), model.warnings)
    } else {
        let (contract, source, warnings) = read_file(what)?;
        (contract, source, None, warnings)
    };
    for warning in &warnings {
        voice.warn(warning);
    }
    let document = document(&contract, &source, model_type.as_deref(), &warnings);
    voice.result(&document, &print::print(&contract))?;
    Ok(())
}

/// Reads and checks a contract file; binary by its extension.
fn read_file(file: &Path) -> Result<(Contract, String, Vec<String>), Box<dyn Failure>> {
    let name = file.to_string_lossy().into_owned();
    let read = |source| ContractCommandError::Read { path: file.to_owned(), source };
    let bytes = open::read_small_file(file, CONTRACT_BYTES_MAX).map_err(read)?;
    let (contract, warnings) = contract_file::read(&name, &bytes)?;
    Ok((contract, name, warnings))
}

/// The JSON of the interface (section 2).
fn document(contract: &Contract, source: &str, model_type: Option<&str>, warnings: &[String]) -> Value {
    let mut document = json!(contract);
    document["source"] = json!(source);
    document["model_type"] = json!(model_type);
    document["warnings"] = json!(warnings);
    document
}
