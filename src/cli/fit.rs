//! What the command line says of a model's fit, and what its files say.
//!
//! Shared by `hs build`, which judges when the base has been found, and `hs upload`, which judges before anything is sent; the service judges again. Files
//! that have not changed since they were looked at are not opened.

use std::path::Path;

use tokio::task::JoinError;

use super::args::FitArguments;
use super::open::open_content;
use super::settings::Settings;
use crate::disk::fit_cache::{self, FitCache};
use crate::model::fit::{self, AllowanceError, Finding, FitError, Policy};
use crate::model::fit_judge::{self, Ground, Packages};
use crate::model::fit_scan::Facts;
use crate::model::intake::Model;
use crate::model::runtime::Runtime;

/// The flags and the settings together: whoever builds is the operator too.
pub fn policy(arguments: &FitArguments, settings: &Settings) -> Result<Policy, AllowanceError> {
    let mut policy = settings.fit.clone();
    policy.strict |= arguments.strict;
    policy.allow.extend(fit::allowances(arguments.allow.iter().map(String::as_str))?);
    Ok(policy)
}

/// The runtime that is to be expected, and whether it was asked for.
fn expected(model: &Model, settings: &Settings) -> Option<(Runtime, bool)> {
    settings.runtimes.expected(model.runtime.as_deref(), model.served_type())
}

/// What the files of the model in `folder` say.
pub async fn facts(model: &Model, folder: &Path, settings: &Settings, cache: Option<FitCache>) -> Result<Facts, JoinError> {
    let python = expected(model, settings).and_then(|(runtime, _)| runtime.python());
    let (payload, folder) = (model.payload.clone(), folder.to_owned());
    tokio::task::spawn_blocking(move || fit_cache::scan(&payload, &folder, python, cache.as_ref(), &open_content)).await
}

/// What is to be said of the model in `folder` before it is sent, or why it is not. Only a runtime that was asked for is certain here.
pub async fn judge(model: &Model, folder: &Path, policy: &Policy, settings: &Settings) -> Result<Result<Vec<String>, FitError>, JoinError> {
    let facts = facts(model, folder, settings, settings.fit_cache.clone()).await?;
    let (runtime, certain) = expected(model, settings).map_or((None, false), |(runtime, asked)| (Some(runtime), asked));
    let ground = Ground { runtime: runtime.as_ref(), certain, packages: Packages::of(model) };
    let findings = fit_judge::judge(&facts, &model.payload, &ground);
    Ok(policy.pass(findings).map(|left| left.iter().map(Finding::to_string).chain(fit_judge::unseen(&facts)).collect()))
}
