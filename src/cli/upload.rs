//! `hs upload [DIR]`: a model folder to a service, and the image back.
//!
//! The folder is read and checked here first, so that most of what is wrong is said at once and without a wire. What is in it is shown and named by its
//! digests, which are remembered; the service is sent what it does not have (`send.rs`), or, where it is too old to be asked, all of it as one stream (a
//! tar that is rendered while it is sent: no copy is written, no memory grows with the model). The build's log is followed to its end. The service checks
//! all of it again.

use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::args::UploadArguments;
use super::fit;
use super::open::{self, ReadFolder};
use super::say::{Voice, size};
use super::send::{self, Changed, SendError, Sending};
use super::service::{Service, ServiceError};
use super::settings::{ServiceVariables, Settings};
use crate::contract::gate::Gate;
use crate::contract::wire::{self, Dialect};
use crate::disk::digest_cache;
use crate::disk::ignore_rules::IGNORE_FILE;
use crate::disk::render::RenderError;
use crate::fault::{Failure, Fault};
use crate::model::definition;
use crate::model::tree::Tree;
use crate::oci::layer::{Content, Entry, EntryKind, Recipe};
use crate::oci::path::TreePath;
use crate::progress::{Event, Listener, Transfer};

/// The port of a service that names none.
const PORT: u16 = 8080;
/// How often a broken log is taken up again before the version's own state has to do.
const LOG_TRIES: u32 = 20;
/// The pause before that.
const LOG_PAUSE: Duration = Duration::from_millis(500);
/// How many files are named before the rest is counted.
const FILES_SHOWN_MAX: usize = 12;

/// Why an upload made no image.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// A file is not what it was when the folder was read.
    #[error(transparent)]
    Read(#[from] RenderError),
    /// The service has it, and could not build it.
    #[error("version {version} of `{model}` could not be built: {cause}")]
    Failed {
        /// The model.
        model: String,
        /// The version.
        version: u64,
        /// What the service said.
        cause: String,
        /// Whose failure it is, as the service said or as its stage lets guess.
        fault: Fault,
        /// The way out, where it named one.
        remedy: Option<String>,
    },
    /// The log broke off again and again, and the build has not ended.
    #[error("version {version} of `{model}` is still being built, and the service at {url} no longer tells how")]
    Unfinished {
        /// The model.
        model: String,
        /// The version.
        version: u64,
        /// The service.
        url: String,
    },
    /// Work in the background died.
    #[error("reading the folder stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl Failure for UploadError {
    fn fault(&self) -> Fault {
        match self {
            UploadError::Read(error) => error.fault(),
            UploadError::Failed { fault, .. } => *fault,
            UploadError::Unfinished { .. } => Fault::Remote,
            UploadError::Stopped(_) => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            UploadError::Failed { remedy, .. } => remedy.clone(),
            UploadError::Read(error) => error.remedy(),
            UploadError::Unfinished { model, url, .. } => {
                Some(format!("look at {url}/models/{model}: the model is there and its build goes on"))
            }
            UploadError::Stopped(_) => None,
        }
    }
}

/// Runs `hs upload`.
pub async fn run(arguments: &UploadArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let version = upload(arguments, settings, voice).await?;
    let word = |name: &str| version[name].as_str().unwrap_or("-").to_owned();
    let text = format!("{} version {}: {}\n{}\n{}", word("model"), version["version"], word("status"), word("digest"), word("image"));
    voice.result(&version, &text)?;
    Ok(())
}

/// Uploads a folder, waits unless told not to, and returns the version (interface, `hs upload --output json`).
pub async fn upload(arguments: &UploadArguments, settings: &Settings, voice: &Voice) -> Result<Value, Box<dyn Failure>> {
    // A slip in the word is told here, and not after the model has been sent.
    arguments.gate.as_deref().map(str::parse::<Gate>).transpose()?;
    let policy = fit::policy(&arguments.fit, settings)?;
    let (folder, words, of_machine) = (arguments.folder.clone(), arguments.model.clone(), settings.clone());
    let read = tokio::task::spawn_blocking(move || open::folder(&folder, &words, false, &of_machine)).await;
    let mut read = read.map_err(UploadError::Stopped)??;
    let tree = what_goes(&read);
    let found = fit::judge(&read.model, &arguments.folder, &policy, settings).await.map_err(UploadError::Stopped)??;
    read.model.warnings.extend(found);
    show(&read, &tree, voice);
    let service = Service::new(&url(arguments, &settings.service), &settings.registries)?;
    // Before gigabytes are read for nobody.
    service.reach().await?;
    let listener = voice.listener();
    let tree = hash(tree, arguments, settings, &listener).await?;
    listener(Event::Stage(format!("Uploading to {}", service.url())));
    let sending = Sending { service: &service, settings, model: read.model.name.as_str(), tree: &tree, listener: &listener };
    let (mut version, transfer) = match sending.run(&|| form(arguments, &read)).await? {
        Some(uploaded) => uploaded,
        None => send_all(&service, form(arguments, &read), &tree, &listener).await?,
    };
    drop(listener);
    let number = version["version"].as_u64().unwrap_or_default();
    let model = read.model.name.as_str();
    voice.note(&format!("sent {}, there already {}", size(transfer.sent_bytes), size(transfer.skipped_bytes)));
    voice.note(&format!("{model} version {number}"));
    if !arguments.no_wait {
        version = wait(&service, model, &version, voice).await?;
        if version["status"] != "Finished" && version["status"] != "Failed" {
            return Err(UploadError::Unfinished { model: model.to_owned(), version: number, url: service.url().to_owned() }.into());
        }
    }
    version["transfer"] = json!(transfer);
    failed(&version).map_or(Ok(version), |error| Err(error.into()))
}

/// The files with their digests; those that have not changed since an earlier upload are not opened.
async fn hash(tree: Tree, arguments: &UploadArguments, settings: &Settings, listener: &Listener) -> Result<Tree, UploadError> {
    let (folder, cache, listener) = (arguments.folder.clone(), settings.digest_cache.clone(), listener.clone());
    listener(Event::Stage("Reading the model".to_owned()));
    let hashing = tokio::task::spawn_blocking(move || digest_cache::hash(&tree, &folder, cache.as_ref(), &listener));
    Ok(hashing.await.map_err(UploadError::Stopped)??)
}

/// Flags beat variables: a host or a port that was typed beats `HS_SERVER`.
fn url(arguments: &UploadArguments, variables: &ServiceVariables) -> String {
    let typed = arguments.host.is_some() || arguments.port.is_some();
    match (&arguments.server, &variables.server) {
        (Some(server), _) => server.clone(),
        (None, Some(server)) if !typed => server.clone(),
        _ => {
            let host = arguments.host.as_ref().or(variables.host.as_ref()).map_or("localhost", String::as_str);
            let port = arguments.port.map(|port| port.to_string()).or(variables.port.clone()).unwrap_or_else(|| PORT.to_string());
            format!("http://{host}:{port}")
        }
    }
}

/// The payload, and what says that it is the payload: the definition and the contract.
fn what_goes(read: &ReadFolder) -> Tree {
    let mut keep: Vec<TreePath> = read.model.payload.nodes().map(|(path, _)| path.clone()).collect();
    let definition = definition::FILE_NAMES.into_iter().find(|name| read.tree.file(name).is_some());
    let source = read.model.contract.as_ref().map(|found| found.source.as_str());
    let lock = read.model.required.as_ref().and_then(|required| Some(required.lock.as_ref()?.0.as_str()));
    keep.extend(
        definition
            .into_iter()
            .chain(source)
            .chain(lock)
            .filter(|name| read.tree.file(name).is_some())
            .filter_map(|name| TreePath::new(name).ok()),
    );
    let mut tree = Tree::new();
    // The service reads the same rules, or it would leave out what they take in again.
    if let (Some(rules), Ok(path)) = (&read.ignore_rules, TreePath::new(IGNORE_FILE)) {
        let content = Content::Inline(rules.as_slice().into());
        tree.insert(path, EntryKind::File { size_bytes: rules.len() as u64, executable: false, content });
    }
    for path in keep {
        if let Some(node) = read.tree.get(&path) {
            tree.insert(path, node.clone());
        }
    }
    tree
}

fn show(read: &ReadFolder, tree: &Tree, voice: &Voice) {
    let files = tree.files().count();
    voice.note(&format!("{} ({}): {files} files, {}", read.model.name, read.model.model_type, size(tree.size_bytes())));
    for (path, size_bytes) in tree.files().take(FILES_SHOWN_MAX) {
        voice.note(&format!("  {path}  {}", size(size_bytes)));
    }
    if files > FILES_SHOWN_MAX {
        voice.note(&format!("  … and {} more", files - FILES_SHOWN_MAX));
    }
    for path in &read.left_out {
        voice.note(&format!("  left out: {path}"));
    }
    for warning in &read.model.warnings {
        voice.warn(warning);
    }
}

/// The parts of a form that are no files.
fn form(arguments: &UploadArguments, read: &ReadFolder) -> Form {
    let words = &arguments.model;
    let metadata = json!({
        "name": read.model.name, "model_type": read.model.model_type, "description": words.description, "runtime": read.model.runtime,
        "no_contract": words.no_contract, "tags": words.tag, "gate": arguments.gate,
        "strict": arguments.fit.strict, "allow": arguments.fit.allow,
    });
    let mut form = Form::new().part("metadata", Part::text(metadata.to_string()));
    // So that what the gate refuses is refused before anything is sent. What no dialect says whole is judged when the files are there.
    let gated = read.model.contract.as_ref().filter(|_| arguments.gate.as_deref().is_some_and(|gate| gate != Gate::None.to_string()));
    if let Some(encoded) =
        gated.and_then(|found| wire::encode(&found.contract, Dialect::V1).ok()).filter(|encoded| encoded.warnings.is_empty())
    {
        form = form.part("read_contract", Part::bytes(encoded.bytes));
    }
    if let Some((name, bytes)) = &read.given_contract {
        let name = Path::new(name).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        form = form.part("contract", Part::bytes(bytes.clone()).file_name(name));
    }
    form
}

/// Sends everything, as services of before have and want take it.
async fn send_all(service: &Service, form: Form, tree: &Tree, listener: &Listener) -> Result<(Value, Transfer), Box<dyn Failure>> {
    let entries = tree.nodes().map(|(path, node)| Entry { path: path.clone(), kind: node.clone() }).collect();
    let recipe = Recipe::new(entries, 0).map_err(SendError::Pack)?;
    let (size_bytes, changed) = (recipe.size_bytes(), Changed::default());
    listener(Event::Expect { bytes: size_bytes });
    let payload = Part::stream_with_length(send::archive(recipe, listener, &changed), size_bytes).file_name("model.tar");
    let uploaded = service.upload(form.part("payload", payload)).await;
    if let Some(error) = changed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(SendError::Changed(error).into());
    }
    Ok((uploaded?, Transfer { sent_bytes: size_bytes, ..Transfer::default() }))
}

/// Follows the log until the build has ended; a broken line is taken up where it broke.
async fn wait(service: &Service, model: &str, version: &Value, voice: &Voice) -> Result<Value, ServiceError> {
    let (id, number) = (version["id"].as_u64().unwrap_or_default(), version["version"].as_u64().unwrap_or_default());
    let mut next = 0;
    let mut print = |line: &Value| {
        let text = line["text"].as_str().unwrap_or_default();
        match line["level"].as_str() {
            Some("warning") => voice.warn(text),
            Some("error") => voice.note(&format!("  error: {text}")),
            _ => voice.note(&format!("  {text}")),
        }
    };
    let mut tries = 0;
    while tries < LOG_TRIES {
        let before = next;
        if let Err(error @ ServiceError::Refused { .. }) = service.follow_log(id, &mut next, &mut print).await {
            return Err(error);
        }
        // Only what brings nothing counts: a line that breaks often is still a line.
        tries = if next > before { 0 } else { tries + 1 };
        // The service may be starting again: its answer is asked for as patiently as its log.
        if let Ok(now) = service.version(model, number).await
            && matches!(now["status"].as_str(), Some("Finished" | "Failed"))
        {
            return Ok(now);
        }
        tokio::time::sleep(LOG_PAUSE).await;
    }
    service.version(model, number).await
}

fn failed(version: &Value) -> Option<UploadError> {
    if version["status"] != "Failed" {
        return None;
    }
    let error = &version["error"];
    let word = |name: &str| error[name].as_str().map(str::to_owned);
    // A class that this release does not know is as good as none.
    let told = error["fault"].as_str().and_then(Fault::from_word);
    Some(UploadError::Failed {
        model: version["model"].as_str().unwrap_or_default().to_owned(),
        version: version["version"].as_u64().unwrap_or_default(),
        cause: word("cause").unwrap_or_default(),
        fault: told.unwrap_or_else(|| likely(error["stage"].as_str().unwrap_or_default())),
        remedy: word("remedy"),
    })
}

/// Whose a failure is by its stage: of a version that a service of an earlier release has built.
fn likely(stage: &str) -> Fault {
    match stage {
        "base" | "send" => Fault::Remote,
        "contract" | "plan" | "fit" | "requirements" => Fault::Invalid,
        _ => Fault::Ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_service_and_guessed_where_it_says_none() {
        for (error, code) in [
            (json!({"stage": "fit", "fault": "policy"}), 5),
            (json!({"stage": "requirements", "fault": "remote-transient"}), 4),
            (json!({"stage": "send", "fault": "internal"}), 1),
            (json!({"stage": "fit", "fault": null}), 3),
            (json!({"stage": "base"}), 4),
            (json!({"stage": "plan", "fault": "of a later release"}), 3),
            (json!({"stage": "queue"}), 1),
        ] {
            let version = json!({"model": "m", "version": 1, "status": "Failed", "error": error});
            assert_eq!(failed(&version).unwrap().fault().exit_code(), code, "{version}");
        }
        assert!(failed(&json!({"status": "Finished", "error": null})).is_none());
    }
}
