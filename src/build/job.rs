//! One build of the service: from a claimed row to an image in its registry.
//!
//! The row says which files (a tree document in the store), which contract and which model; [`Workshop::run`] makes a [`Model`] of that again (`row.rs`), runs the
//! recipe and copies the image to where this service keeps its images. The queue, the lease and the record of the end are `worker.rs`.
//!
//! What must stay true: a second run of the same row makes the same image; what is compressed on the way lies in the store's staging and goes with the run.

use std::fs::File;
use std::io::{self, Cursor};
use std::path::Path;
use std::sync::Arc;

use super::base::Places;
use super::recipe::{self, BuildError};
use super::request::{BuildSettings, Request};
use super::row::{self, RowError};
use super::worker::{BuildFailure, BuildOutcome, LogSink};
use crate::catalog::catalog::{Catalog, CatalogError};
use crate::catalog::record::Claim;
use crate::disk::destination::Destination;
use crate::disk::seal_cache::SealCache;
use crate::disk::store::{Store, StoreError};
use crate::fault::{Failure, Fault};
use crate::model::fit_scan::{self, Facts};
use crate::model::framework::ReadSeek;
use crate::model::intake::Model;
use crate::oci::digest::Digest;
use crate::oci::layer::Content;
use crate::oci::reference::Reference;
use crate::progress::{Event, Listener, Moved};
use crate::registry::client::Access;
use crate::registry::copy::{self, CopyError, Target};
use crate::registry::error::RegistryError;

/// Where the service's images go.
#[derive(Clone, Debug)]
pub enum Shelf {
    /// Into the store, which the service's own `/v2/` serves; `host` is how it is called from outside.
    Embedded {
        /// `host[:port]`.
        host: String,
    },
    /// To another registry: `host/prefix`, the model's name is added.
    Registry {
        /// The registry.
        registry: String,
        /// What stands before the model's name; may be empty.
        prefix: String,
    },
}

/// Everything that the builds of a service share.
#[derive(Clone)]
pub struct Workshop {
    /// The store.
    pub store: Arc<Store>,
    /// Where bases are looked for.
    pub places: Places,
    /// What is the same for every image.
    pub settings: BuildSettings,
    /// Where images go.
    pub shelf: Shelf,
    /// Where the locks of earlier versions are.
    pub catalog: Catalog,
}

/// Why a build made no image.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("making room for the build")]
    Store(#[source] StoreError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("reading in the background stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl JobError {
    fn stage(&self) -> &'static str {
        match self {
            JobError::Build(error) => error.stage(),
            JobError::Registry(_) | JobError::Copy(_) => "send",
            _ => "read",
        }
    }
}

impl Failure for JobError {
    fn fault(&self) -> Fault {
        match self {
            JobError::Stopped(_) => Fault::Ours,
            JobError::Row(error) => error.fault(),
            JobError::Store(error) => error.fault(),
            JobError::Build(error) => error.fault(),
            JobError::Registry(error) => error.fault(),
            JobError::Copy(error) => error.fault(),
            JobError::Catalog(error) => error.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            JobError::Stopped(_) | JobError::Store(_) | JobError::Catalog(_) => None,
            JobError::Row(error) => error.remedy(),
            JobError::Build(error) => error.remedy(),
            JobError::Registry(error) => error.remedy(),
            JobError::Copy(error) => error.remedy(),
        }
    }
}

impl Workshop {
    /// Runs one build.
    pub async fn run(&self, claim: Claim, log: LogSink) -> Result<BuildOutcome, BuildFailure> {
        self.run_job(&claim, &log).await.map_err(|error| self.without_paths(BuildFailure::new(error.stage(), &error)))
    }

    /// A failure as the service's clients may read it: where things lie on this machine is for its own log.
    fn without_paths(&self, failure: BuildFailure) -> BuildFailure {
        let mut folders = vec![(self.store.root().to_owned(), "data folder")];
        if let Some(installer) = &self.settings.installer {
            folders.extend(installer.resolvers.wheels.iter().map(|folder| (folder.clone(), "folder of wheels")));
            let programs = installer.resolvers.uv.iter().chain(&installer.resolvers.pip).filter_map(|program| program.words.first());
            folders.extend(programs.filter_map(|program| Some((Path::new(program).parent()?.to_owned(), "folder of programs"))));
        }
        folders.retain(|(folder, _)| folder.parent().is_some());
        let hide = |text: &str| {
            folders.iter().fold(text.to_owned(), |text, (folder, name)| {
                let path = folder.display().to_string();
                text.replace(&format!("{path}/"), "").replace(&path, name)
            })
        };
        let (text, remedy) = (hide(&failure.text), failure.remedy.as_deref().map(hide));
        if text != failure.text {
            tracing::warn!(error = failure.text, "a build fails");
        }
        BuildFailure { text, remedy, ..failure }
    }

    async fn run_job(&self, claim: &Claim, log: &LogSink) -> Result<BuildOutcome, JobError> {
        // From here on nothing that the build finds in the store is collected before it has ended.
        let store = self.store.clone();
        let staging = tokio::task::spawn_blocking(move || store.staging()).await.map_err(JobError::Stopped)?.map_err(JobError::Store)?;
        let model = self.model(claim).await?;
        let facts = self.facts(&model).await?;
        // What the service remembers of layers lies with its data.
        let settings = BuildSettings { cache: Some(SealCache::new(self.store.root().join("layers"))), ..self.settings.clone() };
        let request = Request {
            version: Some(claim.number.to_string()),
            policy: row::policy(claim),
            earlier_lock: self.earlier_lock(&model).await?,
            ..Request::new(settings, facts, staging.path())
        };
        let listener = listener(log.clone());
        let (target, reference) = self.target(claim)?;
        let built = recipe::build(&model, &request, &self.places, target.repository(), &listener).await?;
        let transfer = copy::copy_rest(&built.image.images, &built.image.source, target, &built.image.sent, &listener).await?;
        Ok(BuildOutcome { reference, digest: built.report.digest, report: Some(built.report.kept(transfer)) })
    }

    /// The model that the row stands for, as it was taken in.
    async fn model(&self, claim: &Claim) -> Result<Model, JobError> {
        let (store, claim) = (self.store.clone(), claim.clone());
        let read = tokio::task::spawn_blocking(move || row::model(&claim, &store)).await.map_err(JobError::Stopped)?;
        Ok(read?)
    }

    /// What the model's files say of its fit: looked at again, since which base there is is only known now.
    async fn facts(&self, model: &Model) -> Result<Facts, JobError> {
        let python =
            self.settings.runtimes.expected(model.runtime.as_deref(), model.served_type()).and_then(|(runtime, _)| runtime.python());
        let payload = model.payload.clone();
        tokio::task::spawn_blocking(move || fit_scan::scan(&payload, python, &open)).await.map_err(JobError::Stopped)
    }

    /// The lock of the model's last version with the same requirements.
    async fn earlier_lock(&self, model: &Model) -> Result<Option<Vec<u8>>, JobError> {
        let Some(required) = &model.required else { return Ok(None) };
        let lock = self.catalog.last_lock(model.name.as_str(), &Digest::of(&required.bytes)).await?;
        Ok(lock.map(String::into_bytes))
    }

    fn target(&self, claim: &Claim) -> Result<(Target, String), JobError> {
        let (name, tag) = (claim.model.clone(), claim.number.to_string());
        Ok(match &self.shelf {
            Shelf::Embedded { host } => {
                let reference = Reference::repository(host, &name).with_tag(&tag).to_string();
                let destination = Destination::Store { store: self.store.clone(), repository: name, tag: Some(tag), keep: true };
                (Target::Local(destination), reference)
            }
            Shelf::Registry { registry, prefix } => {
                let repository = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                let reference = Reference::repository(registry, &repository).with_tag(&tag);
                let repository = self.places.registries.repository(&reference, Access::Push)?;
                (Target::Repository { repository, tag: Some(tag) }, reference.to_string())
            }
        })
    }
}

/// Opens a file of the store.
fn open(content: &Content) -> io::Result<Box<dyn ReadSeek>> {
    Ok(match content {
        Content::Inline(bytes) => Box::new(Cursor::new(bytes.clone())),
        Content::Local(file) => Box::new(File::open(&file.path)?),
    })
}

/// What happens, as lines of the build's log.
fn listener(log: LogSink) -> Listener {
    Arc::new(move |event| match event {
        Event::Stage(text) | Event::Note(text) => log.info(text),
        Event::Warning(text) => log.warning(text),
        Event::Blob { digest, size_bytes, how } => {
            let how = match how {
                Moved::Sent => "written",
                Moved::Mounted => "mounted",
                Moved::Skipped => "there already",
            };
            log.info(format!("{} of {size_bytes} bytes: {how}", digest.short()));
        }
        Event::Expect { .. } | Event::Advance { .. } => {}
    })
}
