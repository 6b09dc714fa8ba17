//! What becomes of an upload that has been read: checked, kept, numbered.
//!
//! The last step of every upload, whatever way its files came: the model is read out of them, the contract is compared with that of the version before where
//! the upload asks for it, the files become content of the store, and the catalog makes the version. What is refused is refused before anything is
//! kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Cursor};

use serde_json::Value;

use super::app::Service;
use super::refusal::Refusal;
use super::upload::{Form, Payload, UploadError};
use crate::build::base;
use crate::build::row;
use crate::catalog::record::{NewLine, Version};
use crate::catalog::versions::UPLOAD_KEY;
use crate::contract::contract::Contract;
use crate::contract::gate::{self, Gate, GateError};
use crate::disk::ignore_rules::Selected;
use crate::fault::{Failure, Fault};
use crate::model::fit::{Finding, Policy};
use crate::model::fit_judge::{self, Ground, Packages};
use crate::model::fit_scan;
use crate::model::framework::ReadSeek;
use crate::model::intake::{self, Given, Model};
use crate::model::runtime::{Runtime, RuntimeList};
use crate::oci::layer::Content;

/// What an upload says beside the model.
pub struct Accepted {
    /// The user's own keys and values.
    pub metadata: BTreeMap<String, String>,
    /// For the build's log.
    pub notes: Vec<NewLine>,
    /// Which changes of the contract are refused.
    pub gate: Gate,
    /// Which findings of the model's fit are let through, where the service is not stricter.
    pub fit: Policy,
    /// By which the upload is known where it is repeated.
    pub upload_key: Option<String>,
}

/// The contract has changes that the uploader asked not to let through.
#[derive(Debug, thiserror::Error)]
#[error("the model is refused: against version {version} of `{model}`")]
pub struct GateRefusal {
    /// The model.
    model: String,
    /// The version that its callers use.
    version: i64,
    /// The changes.
    #[source]
    source: GateError,
}

impl Failure for GateRefusal {
    fn fault(&self) -> Fault {
        self.source.fault()
    }

    fn remedy(&self) -> Option<String> {
        self.source.remedy()
    }

    fn document(&self) -> Option<Value> {
        self.source.document_of(&format!("{}:{}", self.model, self.version), Some(&self.model))
    }
}

/// Checks the model of a form, moves its files into the store and makes its version.
pub async fn accept(service: &Service, form: Form, given: Given, accepted: Accepted) -> Result<Version, Refusal> {
    let Form { payload: Payload { selected, staging }, permit: _permit, .. } = form;
    let left_out = selected.left_out.clone();
    let policy = service.settings.fit.with(&accepted.fit);
    let model = match check(service, selected, given, accepted.gate, &policy).await {
        Ok(model) => model,
        Err(refusal) => {
            // What is refused is gone before the answer; removing many files is no work for a thread that others wait for.
            tokio::task::spawn_blocking(move || drop(staging)).await.map_err(UploadError::Stopped)?;
            return Err(refusal);
        }
    };
    let store = service.store.clone();
    let keeping = tokio::task::spawn_blocking(move || -> Result<_, Refusal> {
        let payload = store.adopt(&model.payload)?;
        let tree_digest = store.put_tree(&payload)?;
        let count = payload.files().count();
        let noun = if count == 1 { "file" } else { "files" };
        let mut log = vec![NewLine::info(format!("uploaded: {count} {noun}, {} bytes", payload.size_bytes()))];
        if !left_out.is_empty() {
            log.push(NewLine::info(format!("left out by rule: {}", shown(&left_out))));
        }
        log.extend(accepted.notes);
        let mut new = row::new_version(&model, tree_digest, accepted.metadata, &policy, log)?;
        if let Some(key) = accepted.upload_key {
            new.request[UPLOAD_KEY] = Value::from(key);
        }
        Ok((new, staging))
    });
    // While the staging folder is there nothing that the upload put into the store, or found there, is collected.
    let (new, staging) = keeping.await.map_err(UploadError::Stopped)??;
    let created = service.catalog.create_version(new).await;
    tokio::task::spawn_blocking(move || drop(staging)).await.map_err(UploadError::Stopped)?;
    let version = created?;
    tracing::info!(model = version.model, version = version.number.0, build.id = version.build.0, "uploaded");
    Ok(version)
}

/// Reads the model and refuses what is not valid, not allowed or not let through.
async fn check(service: &Service, selected: Selected, given: Given, gate: Gate, policy: &Policy) -> Result<Model, Refusal> {
    let reading = tokio::task::spawn_blocking(move || intake::intake(&selected.tree, &given, &open));
    let mut model = reading.await.map_err(UploadError::Stopped)??;
    check_runtime(model.runtime.as_deref())?;
    let expected = service.settings.runtimes.expected(model.runtime.as_deref(), model.served_type());
    if let Some(required) = model.required.as_ref().filter(|_| expected.is_some_and(|(runtime, _)| runtime.python().is_some())) {
        // They will be installed, whatever the model itself is.
        required.check()?;
    }
    model.warnings.extend(check_fit(service, &model, policy).await?);
    let contract = model.contract.as_ref().map(|found| found.contract.clone()).unwrap_or_default();
    pass(service, model.name.as_str(), &contract, gate).await?;
    Ok(model)
}

/// What is to be said of the model's fit. A runtime that nobody asked for is certain where it is imported here; where it may yet come from a mirror, or from
/// nowhere, what it lacks is a warning, and the build decides.
async fn check_fit(service: &Service, model: &Model, policy: &Policy) -> Result<Vec<String>, Refusal> {
    let (runtime, certain) = match service.settings.runtimes.expected(model.runtime.as_deref(), model.served_type()) {
        Some((runtime, asked)) => {
            let certain = asked || base::is_imported(&runtime, &service.store);
            (Some(runtime), certain)
        }
        None => (None, false),
    };
    let (payload, packages) = (model.payload.clone(), Packages::of(model));
    let looking = tokio::task::spawn_blocking(move || {
        let facts = fit_scan::scan(&payload, runtime.as_ref().and_then(Runtime::python), &open);
        let ground = Ground { runtime: runtime.as_ref(), certain, packages };
        (fit_judge::judge(&facts, &payload, &ground), fit_judge::unseen(&facts))
    });
    let (findings, unseen) = looking.await.map_err(UploadError::Stopped)?;
    Ok(policy.pass(findings)?.iter().map(Finding::to_string).chain(unseen).collect())
}

/// An upload reads no file of the service's own machine.
pub fn check_runtime(runtime: Option<&str>) -> Result<(), UploadError> {
    match runtime.filter(|runtime| !RuntimeList::compiled_in().is_remote(runtime)) {
        Some(runtime) => Err(UploadError::LocalRuntime(runtime.to_owned())),
        None => Ok(()),
    }
}

/// Compares a contract with that of the model's last finished version, where the upload asks for it. The first version of a model has nothing
/// to be compared with; a version without a contract promised nothing.
pub async fn pass(service: &Service, model: &str, new: &Contract, gate: Gate) -> Result<(), Refusal> {
    if gate == Gate::None {
        return Ok(());
    }
    let Some(last) = service.catalog.last_finished(model).await? else { return Ok(()) };
    let Some(old) = row::contract_of(&last)? else { return Ok(()) };
    gate::gate(&old, new, gate).map_err(|source| GateRefusal { model: last.model.clone(), version: last.number.0, source })?;
    Ok(())
}

fn open(content: &Content) -> io::Result<Box<dyn ReadSeek>> {
    Ok(match content {
        Content::Inline(bytes) => Box::new(Cursor::new(bytes.clone())),
        Content::Local(file) => Box::new(File::open(&file.path)?),
    })
}

/// The first few of many names.
fn shown(names: &[crate::oci::path::TreePath]) -> String {
    const SHOWN: usize = 10;
    let mut text = names.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}
