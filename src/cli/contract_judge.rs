//! `hs contract check` and `hs contract diff`: contracts compared.
//!
//! `check` asks whether a model folder keeps the contract that is given: against what the model's own file says, and against the code of a Python model. `diff` asks
//! what a new contract does to those who use the old one. The judging is `contract/compare.rs`, `contract/change.rs` and `model/python_code.rs`.

use std::path::Path;

use serde_json::{Value, json};

use super::args::ModelArguments;
use super::contract_source::{self, ContractSourceError};
use super::say::Voice;
use super::settings::Settings;
use crate::contract::change::{self, Change};
use crate::contract::compare::Difference;
use crate::contract::gate::{self, Gate, GateError};
use crate::fault::{Failure, Fault};
use crate::model::intake::Model;

/// A model does not keep its contract.
#[derive(Debug, thiserror::Error)]
#[error("the model does not keep the contract in `{contract}`:{}", listed(.differences))]
pub struct CheckError {
    /// Where the contract is.
    contract: String,
    /// What differs.
    differences: Vec<Difference>,
}

impl Failure for CheckError {
    fn fault(&self) -> Fault {
        Fault::Invalid
    }

    fn remedy(&self) -> Option<String> {
        Some("correct the contract, or save the model again; `hs contract infer` writes what the model says".to_owned())
    }
}

/// A contract has changes that the gate does not let through.
#[derive(Debug, thiserror::Error)]
#[error("{refused}")]
pub struct DiffError {
    /// What the old contract is called.
    old: String,
    /// What the new one is called.
    new: String,
    /// The changes.
    refused: GateError,
}

impl Failure for DiffError {
    fn fault(&self) -> Fault {
        self.refused.fault()
    }

    fn remedy(&self) -> Option<String> {
        self.refused.remedy()
    }

    fn document(&self) -> Option<Value> {
        self.refused.document_of(&self.old, Some(&self.new))
    }
}

/// A model's contract has such changes.
#[derive(Debug, thiserror::Error)]
#[error("the model is refused: against `{reference}`")]
pub struct AgainstError {
    /// Whose contract is in use.
    reference: String,
    /// What that contract is called.
    old: String,
    /// What the model's is called, where it has one.
    new: Option<String>,
    /// The changes.
    #[source]
    source: GateError,
}

impl Failure for AgainstError {
    fn fault(&self) -> Fault {
        self.source.fault()
    }

    fn remedy(&self) -> Option<String> {
        self.source.remedy()
    }

    fn document(&self) -> Option<Value> {
        self.source.document_of(&self.old, self.new.as_deref())
    }
}

fn listed(differences: &[Difference]) -> String {
    let mut text = String::new();
    for difference in differences {
        text.push_str(&format!("\n  {difference}"));
    }
    text
}

/// Runs `hs contract check`: fails where the model differs from the contract that is given, or its code does not keep it.
pub async fn check(folder: &Path, words: &ModelArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let (folder, words, of_machine) = (folder.to_owned(), words.clone(), settings.clone());
    let checked = tokio::task::spawn_blocking(move || contract_source::check(&folder, &words, &of_machine)).await;
    let checked = checked.map_err(ContractSourceError::Stopped)??;
    for warning in &checked.warnings {
        voice.warn(warning);
    }
    let (contract, differences) = (checked.given.source, checked.differences);
    if !differences.is_empty() {
        return Err(CheckError { contract, differences }.into());
    }
    let text = if !checked.is_given {
        format!("no contract is given: the one that `{contract}` says is used")
    } else if checked.against.is_empty() {
        format!("{contract}: valid; there is nothing in the folder to compare it with")
    } else {
        format!("{contract}: kept by {}", checked.against.join(" and "))
    };
    voice.result(&json!({"contract": contract, "given": checked.is_given, "against": checked.against, "differences": [], "warnings": checked.warnings}), &text)?;
    Ok(())
}

/// Compares a model's contract with the one that `reference` names: fails where the gate refuses a change, and tells the others.
pub async fn against(model: &Model, reference: &str, gate: &str, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let gate: Gate = gate.parse()?;
    let old = contract_source::find(reference, &ModelArguments::default(), settings).await?;
    let new = model.contract.as_ref().map(|found| found.contract.clone()).unwrap_or_default();
    let named = || model.contract.as_ref().map(|found| found.source.clone());
    let changes = gate::gate(&old.contract, &new, gate).map_err(|source| AgainstError {
        reference: reference.to_owned(),
        old: old.source.clone(),
        new: named(),
        source,
    })?;
    for change in changes {
        voice.note(&format!("  against {reference}: {} {}", change.path, change.sentence));
    }
    Ok(())
}

/// Runs `hs contract diff`.
pub async fn diff(old: &str, new: &str, gate: Option<&str>, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let gate: Gate = gate.map(str::parse).transpose()?.unwrap_or_default();
    let words = ModelArguments::default();
    let old = contract_source::find(old, &words, settings).await?;
    let new = contract_source::find(new, &words, settings).await?;
    for warning in old.warnings.iter().chain(&new.warnings) {
        voice.warn(warning);
    }
    let changes = gate::gate(&old.contract, &new.contract, gate);
    let changes = changes.map_err(|refused| DiffError { old: old.source.clone(), new: new.source.clone(), refused })?;
    let document = json!({"old": old.source, "new": new.source, "worst": change::worst(&changes), "changes": changes});
    voice.result(&document, &text(&changes))?;
    Ok(())
}

/// The changes for people, an empty line between two.
pub fn text(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing changed\n".to_owned();
    }
    let listed: Vec<String> = changes.iter().map(|change| format!("{change}\n")).collect();
    listed.join("\n")
}
