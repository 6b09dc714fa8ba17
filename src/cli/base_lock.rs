//! `hs base lock` and `hs base list`: which base a name stands for today, and whether that has changed.
//!
//! A lock is the digest that a runtime had when it was locked, kept in the data folder (`disk/base_lock.rs`); a build on another digest is refused. The list asks
//! the registries that runtimes come from. A registry that cannot be asked is said, and is no failure: the list is for machines with no network, too.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::BaseLockArguments;
use super::say::Voice;
use super::settings::Settings;
use crate::build::base::{self, Places};
use crate::disk::base_list;
use crate::disk::base_lock::{self, BaseLockError};
use crate::disk::store::Store;
use crate::fault::{Failure, Fault};
use crate::model::runtime::Runtime;
use crate::oci::digest::Digest;
use crate::registry::source::{Source, load};

/// Why a runtime cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The list does not have it.
    #[error("runtime `{asked}` is not known; the runtimes are: {known}")]
    Unknown {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
    },
    /// The list has a digest of its own.
    #[error("runtime `{runtime}` is locked to {digest} by the list that names it")]
    Listed {
        /// Its full name.
        runtime: String,
        /// The digest.
        digest: Digest,
    },
    /// It had no lock.
    #[error("runtime `{0}` is not locked")]
    NotLocked(String),
    /// The lock file.
    #[error(transparent)]
    File(#[from] BaseLockError),
}

impl Failure for LockError {
    fn fault(&self) -> Fault {
        match self {
            LockError::File(error) => error.fault(),
            _ => Fault::Usage,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            LockError::Listed { .. } => Some("change its `digest` in the config file".to_owned()),
            LockError::File(error) => error.remedy(),
            LockError::Unknown { .. } | LockError::NotLocked(_) => None,
        }
    }
}

/// Runs `hs base lock`. All or none: the file is written when every runtime has been found.
pub async fn lock(arguments: &BaseLockArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let mut locks = base_lock::read(&settings.data_folder).map_err(LockError::File)?;
    let places = settings.places()?;
    let (mut rows, mut text) = (Vec::new(), String::new());
    for asked in &arguments.runtimes {
        let known = || LockError::Unknown { asked: asked.clone(), known: settings.runtimes.names() };
        let runtime = settings.runtimes.find(asked).ok_or_else(known)?;
        let name = runtime.full_name();
        if arguments.remove {
            let digest = locks.remove(&name).ok_or_else(|| LockError::NotLocked(name.clone()))?;
            let _ = writeln!(text, "{name} is not locked any more (it was to {digest})");
            rows.push(json!({"name": name, "digest": Value::Null, "was": digest}));
            continue;
        }
        // What is not of the lock file would win over it.
        if let Some(digest) = runtime.digest.filter(|digest| locks.get(&name) != Some(digest)) {
            return Err(LockError::Listed { runtime: name, digest }.into());
        }
        let (found, digest) = base::locate(runtime, &places).await?;
        let was = locks.insert(name.clone(), digest);
        let before = was.filter(|was| *was != digest).map(|was| format!(" (it was {was})")).unwrap_or_default();
        let _ = writeln!(text, "{name} {digest}{before}, as found in {found}");
        rows.push(json!({"name": name, "digest": digest, "was": was, "found": found}));
    }
    let path = base_lock::write(&settings.data_folder, &locks).map_err(LockError::File)?;
    let _ = write!(text, "in {}", path.display());
    voice.result(&json!({"file": path.display().to_string(), "locked": rows}), &text)?;
    Ok(())
}

/// Runs `hs base list`.
pub async fn list(settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let places = settings.places()?;
    let (mut rows, mut text) = (Vec::new(), String::new());
    for runtime in &settings.runtimes.runtimes {
        let state = State::of(runtime, &places).await;
        let imported = state.imported.map_or("not imported".to_owned(), |digest| digest.to_string());
        let _ = writeln!(text, "{:32} {:12} {imported:71} {}", runtime.full_name(), runtime.model_types.join(","), state.words());
        rows.push(state.row(runtime));
    }
    voice.result(&json!({"runtimes": rows}), text.trim_end())?;
    Ok(())
}

/// What is known of a runtime's digests.
struct State {
    imported: Option<Digest>,
    /// What the imported one is for; none where it is damaged, which a build says.
    platforms: Vec<String>,
    locked: Option<Digest>,
    /// Where a registry has it, with its digest, or why that cannot be said; `None`: there is no registry to ask.
    registry: Option<Result<(String, Digest), String>>,
}

impl State {
    async fn of(runtime: &Runtime, places: &Places) -> State {
        let store = places.store.as_ref();
        let (imported, platforms) = (imported(store, &runtime.name, &runtime.version), imported_platforms(store, runtime).await);
        let registry = if base::has_registry(runtime, places) { Some(base::published(runtime, places).await) } else { None };
        State { imported, platforms, locked: runtime.digest, registry }
    }

    /// Whether what is here, or what is locked, is not what the registry has by now; `None`: nobody can say.
    fn is_stale(&self) -> Option<bool> {
        match (self.imported.or(self.locked), &self.registry) {
            (Some(ours), Some(Ok((_, theirs)))) => Some(ours != *theirs),
            _ => None,
        }
    }

    fn words(&self) -> String {
        let mut words = Vec::new();
        if !self.platforms.is_empty() {
            words.push(format!("for {}", self.platforms.join(", ")));
        }
        match (self.imported, self.locked) {
            (Some(imported), Some(locked)) if imported != locked => words.push(format!("locked to another, {locked}")),
            (_, Some(_)) => words.push("locked".to_owned()),
            (_, None) => {}
        }
        match &self.registry {
            Some(Ok((reference, digest))) if self.is_stale() == Some(true) => words.push(format!("stale: {reference} is {digest} now")),
            Some(Ok((reference, _))) if self.is_stale() == Some(false) => words.push(format!("current: as {reference}")),
            Some(Ok((reference, _))) => words.push(format!("to be had from {reference}")),
            // Begins with the separator of the sentence that it ends elsewhere.
            Some(Err(tried)) => words.push(format!("not compared, no registry answered{tried}")),
            None => {}
        }
        words.join("; ")
    }

    fn row(&self, runtime: &Runtime) -> Value {
        let (reference, digest, problem) = match &self.registry {
            Some(Ok((reference, digest))) => (Some(reference), Some(digest), None),
            Some(Err(tried)) => (None, None, Some(tried.trim_start_matches("; "))),
            None => (None, None, None),
        };
        json!({"name": runtime.full_name(), "reference": runtime.reference, "model_types": runtime.model_types,
               "platforms": runtime.platforms, "contract_dialect": runtime.contract_dialect.to_string(), "imported": self.imported,
               "imported_platforms": self.platforms, "locked": self.locked, "registry": {"reference": reference, "digest": digest, "problem": problem}, "stale": self.is_stale()})
    }
}

async fn imported_platforms(store: Option<&Arc<Store>>, runtime: &Runtime) -> Vec<String> {
    let Some(store) = store else { return Vec::new() };
    let source = Source::Store { store: store.clone(), repository: runtime.name.clone() };
    let images = load(&source, &runtime.version, None).await.map(|images| images.images).unwrap_or_default();
    images.iter().map(|image| image.platform.to_string()).collect()
}

fn imported(store: Option<&Arc<Store>>, name: &str, version: &str) -> Option<Digest> {
    let store = store?;
    let digest = base_list::digest_of(store.root(), &format!("{name}:{version}")).ok()??;
    Some(store.manifest(name, &digest.to_string()).ok()??.digest)
}
