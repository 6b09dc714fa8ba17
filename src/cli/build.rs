//! `hs build [DIR]`: the image of a model folder, with no service.
//!
//! Read the folder, build, copy to each destination, print. The work is `build::recipe` and `registry::copy`; here is only what the command line adds: the words become a
//! request, the destinations are looked at before and written after (`destinations.rs`), and what came of it is told (`build_report.rs`).

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::args::BuildArguments;
use super::build_report;
use super::destinations::{Destinations, Written};
use super::say::Voice;
use super::settings::Settings;
use super::{contract_judge, fit, open};
use crate::build::base::Places;
use crate::build::built::{Built, Report};
use crate::build::recipe::{self, BuildError};
use crate::build::request::{BuildSettings, Request};
use crate::build::requirements::LockOrigin;
use crate::contract::wire::Dialect;
use crate::disk::atomic;
use crate::disk::scratch::Scratch;
use crate::fault::{Failure, Fault};
use crate::model::intake::Model;
use crate::model::packing::Choice;
use crate::model::plan::Layout;
use crate::model::requirements_lock;
use crate::oci::path::TreePath;
use crate::oci::platform::Platform;

/// The begin of the name of a folder for compressed layers.
const SCRATCH: &str = "hs-build-";

/// Why the command cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum BuildCommandError {
    /// No place for compressed layers.
    #[error("making a temporary folder")]
    Scratch(#[source] std::io::Error),
    /// A word that names no layout.
    #[error("`{0}` is no layout: `hydro` or `modelcar`")]
    Layout(String),
}

impl Failure for BuildCommandError {
    fn fault(&self) -> Fault {
        match self {
            BuildCommandError::Layout(_) => Fault::Usage,
            BuildCommandError::Scratch(_) => Fault::Ours,
        }
    }
}

/// A model folder and the image that was built of it.
pub struct Outcome {
    /// The model.
    pub model: Model,
    /// The image.
    pub built: Built,
    /// What the rules left out of the folder.
    pub left_out: Vec<TreePath>,
    /// The lock that was written.
    pub lock: Option<PathBuf>,
    /// Where the compressed layers are until the value is dropped.
    pub scratch: Scratch,
}

/// Runs `hs build`.
pub async fn run(arguments: &BuildArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let started = Instant::now();
    settings.packages.check_wheels(&arguments.wheels)?;
    let places = settings.places()?;
    let mut destinations = Destinations::of(&arguments.to, &places.registries)?;
    let outcome = build(arguments, settings, &places, &mut destinations, voice).await?;
    let written = if arguments.dry_run {
        Written::default()
    } else {
        destinations.put(&outcome.built.image, &places.registries, &voice.listener()).await?
    };
    let document = build_report::document(&outcome, arguments, &written, started.elapsed().as_millis());
    voice.result(&document, &build_report::text(&outcome, arguments, &written))?;
    Ok(())
}

/// What the flags ask of the image, read before any file is.
struct Asked {
    platforms: Vec<Platform>,
    dialect: Option<Dialect>,
    compression: Option<Choice>,
    layout: Layout,
}

impl Asked {
    fn read(arguments: &BuildArguments) -> Result<Asked, Box<dyn Failure>> {
        let platforms: Vec<Platform> = arguments.platform.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Asked {
            platforms: unique(platforms),
            dialect: arguments.dialect.as_deref().map(str::parse).transpose()?,
            compression: arguments.compression.as_deref().map(str::parse).transpose()?,
            layout: Layout::from_word(&arguments.layout).ok_or_else(|| BuildCommandError::Layout(arguments.layout.clone()))?,
        })
    }
}

/// Builds the image of a folder. Nothing is sent but layers that had to be read, to a registry, where the destinations name one; and nothing before the gate was passed.
pub async fn build(
    arguments: &BuildArguments,
    settings: &Settings,
    places: &Places,
    destinations: &mut Destinations,
    voice: &Voice,
) -> Result<Outcome, Box<dyn Failure>> {
    let Asked { platforms, dialect, compression, layout } = Asked::read(arguments)?;
    let policy = fit::policy(&arguments.fit, settings)?;
    destinations.take(compression.unwrap_or(settings.compression))?;
    let (folder, words, mut of_machine) = (arguments.folder.clone(), arguments.model.clone(), settings.clone());
    of_machine.type_cache = of_machine.type_cache.filter(|_| !arguments.no_cache);
    let no_requirements = arguments.no_requirements;
    let read = tokio::task::spawn_blocking(move || open::folder(&folder, &words, no_requirements, &of_machine)).await;
    let open::ReadFolder { model, left_out, .. } = read.map_err(BuildError::Stopped)??;
    if !arguments.dry_run {
        destinations.ask().await?;
    }
    let cached = if arguments.no_cache { None } else { settings.fit_cache.clone() };
    let facts = fit::facts(&model, &arguments.folder, settings, cached).await.map_err(BuildError::Stopped)?;
    for path in &left_out {
        voice.note(&format!("  left out: {path}"));
    }
    if let Some(reference) = &arguments.against {
        contract_judge::against(&model, reference, &arguments.gate, settings, voice).await?;
    }
    let scratch = Scratch::new(SCRATCH).map_err(BuildCommandError::Scratch)?;
    let request = Request {
        version: arguments.version.clone(),
        platforms,
        layout,
        dialect,
        compression,
        policy,
        ..Request::new(of_builds(arguments, settings, &model)?, facts, scratch.path())
    };
    let to = destinations.repository().filter(|_| !arguments.dry_run);
    let built = recipe::build(&model, &request, places, to, &voice.listener()).await?;
    let lock = if arguments.dry_run { None } else { keep_lock(&arguments.folder, &built.report, voice) };
    Ok(Outcome { model, built, left_out, lock, scratch })
}

/// What is the same for every image, but for what this command is told not to do.
fn of_builds(arguments: &BuildArguments, settings: &Settings, model: &Model) -> Result<BuildSettings, Box<dyn Failure>> {
    let mut of_builds = settings.of_builds();
    of_builds.cache = of_builds.cache.filter(|_| !arguments.no_cache);
    // A client of its own, with the authorities of this machine: not for a model that needs none.
    if !arguments.no_requirements && model.required.is_some() {
        of_builds.installer = Some(settings.packages.installer(&arguments.wheels, &settings.registries, true, !arguments.no_bytecode)?);
    }
    Ok(of_builds)
}

/// Keeps what a resolver chose beside the requirements, so that the next build chooses the same. The file is not shipped, so the image does not change by it.
fn keep_lock(folder: &Path, report: &Report, voice: &Voice) -> Option<PathBuf> {
    let installed = report.installed.as_ref().filter(|installed| installed.origin == LockOrigin::Resolved)?;
    let path = folder.join(requirements_lock::FILE_NAME);
    match atomic::write(&path, installed.lock.to_text().as_bytes()) {
        Ok(()) => {
            voice.note(&format!("the chosen packages are written down in {}: keep it, and every build has the same", path.display()));
            Some(path)
        }
        Err(error) => {
            voice.warn(&format!("`{}` cannot be written, so the next build may choose other packages: {error}", path.display()));
            None
        }
    }
}

/// Each platform once, in the order in which they were named.
fn unique(platforms: Vec<Platform>) -> Vec<Platform> {
    let mut unique: Vec<Platform> = Vec::new();
    for platform in platforms {
        if !unique.contains(&platform) {
            unique.push(platform);
        }
    }
    unique
}
