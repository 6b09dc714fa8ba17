//! `hs build [DIR]`: the image of a model folder, with no service.
//!
//! Read the folder, build, copy to each destination, print. The work is `build::recipe` and `registry::copy`; here is only what the command line adds: parsing
//! destinations, `--dry-run`, `--explain`, the report.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::args::BuildArguments;
use super::say::{Voice, size};
use super::settings::Settings;
use super::{contract_judge, fit, open};
use crate::build::base::Places;
use crate::build::recipe::{self, Built, Request};
use crate::build::requirements::LockOrigin;
use crate::contract::wire::Dialect;
use crate::disk::atomic;
use crate::fault::{Failure, Fault};
use crate::model::intake::Model;
use crate::model::packing::Choice;
use crate::model::plan::Layout;
use crate::model::requirements_lock;
use crate::oci::digest::Digest;
use crate::oci::image::{LayerSource, Purpose};
use crate::oci::layer::Recipe;
use crate::oci::location::Location;
use crate::oci::path::TreePath;
use crate::oci::platform::Platform;
use crate::oci::report;
use crate::progress::Transfer;
use crate::registry::client::Repository;
use crate::registry::copy::{self, Target};

/// How many files of a layer are named before the rest is counted.
const FILES_SHOWN_MAX: usize = 8;

/// Why the command cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum BuildCommandError {
    /// No place for compressed layers.
    #[error("making a temporary folder")]
    Scratch(#[source] std::io::Error),
    /// A word that names no layout.
    #[error("`{0}` is no layout: `hydro` or `modelcar`")]
    Layout(String),
    /// Zstd where nothing can read it.
    #[error("a `docker-archive:` has no word for layers that are compressed with zstd")]
    ArchiveZstd,
}

impl Failure for BuildCommandError {
    fn fault(&self) -> Fault {
        match self {
            BuildCommandError::Layout(_) | BuildCommandError::ArchiveZstd => Fault::Usage,
            BuildCommandError::Scratch(_) => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        matches!(self, BuildCommandError::ArchiveZstd).then(|| "use `--compression gzip`, or write an `oci-archive:`".to_owned())
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
    pub scratch: tempfile::TempDir,
}

/// Runs `hs build`.
pub async fn run(arguments: &BuildArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let started = Instant::now();
    settings.packages.check_wheels(&arguments.wheels)?;
    let locations: Vec<Location> = arguments.to.iter().map(|text| open::location(text)).collect::<Result<_, _>>()?;
    let places = settings.places()?;
    // A registry is opened without a trace, so its layers may go while others are hashed. A local form makes its files: after the build, then.
    let in_registries = !arguments.dry_run && locations.iter().all(|location| matches!(location, Location::Registry(_)));
    let open_all = || locations.iter().map(|location| Target::open(location, &places.registries)).collect::<Result<Vec<Target>, _>>();
    let mut targets = if in_registries { open_all()? } else { Vec::new() };
    let outcome = build(arguments, settings, &places, targets.first().and_then(Target::repository), voice).await?;
    let mut transfer = Transfer::default();
    let mut references = Vec::new();
    if !arguments.dry_run {
        // All are opened before anything goes anywhere: a slip in the last leaves nothing in the first.
        if !in_registries {
            targets = open_all()?;
        }
        let mut sent = Some(&outcome.built.sent);
        for (location, target) in locations.iter().zip(targets) {
            let sent = sent.take().cloned().unwrap_or_default();
            let moved = copy::copy_rest(&outcome.built.images, &outcome.built.source, target, &sent, &voice.listener()).await?;
            transfer.merge(moved);
            references.push(location.to_string());
        }
    }
    let document = document(&outcome, arguments, &references, transfer, started.elapsed().as_millis());
    voice.result(&document, &text(&outcome, arguments, &references, transfer))?;
    Ok(())
}

/// Builds the image of a folder. Nothing is sent but layers that had to be read, to a registry, where one is named; and nothing before the gate was passed.
pub async fn build(
    arguments: &BuildArguments,
    settings: &Settings,
    places: &Places,
    to: Option<&Repository>,
    voice: &Voice,
) -> Result<Outcome, Box<dyn Failure>> {
    let platforms: Vec<Platform> = arguments.platform.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let platforms = unique(platforms);
    let dialect: Option<Dialect> = arguments.dialect.as_deref().map(str::parse).transpose()?;
    let policy = fit::policy(&arguments.fit, settings)?;
    let compression = arguments.compression.as_deref().map(str::parse).transpose()?.unwrap_or(settings.compression);
    check_archives(arguments, compression)?;
    let layout = Layout::from_word(&arguments.layout).ok_or_else(|| BuildCommandError::Layout(arguments.layout.clone()))?;
    let (folder, words, mut of_machine) = (arguments.folder.clone(), arguments.model.clone(), settings.clone());
    of_machine.type_cache = of_machine.type_cache.filter(|_| !arguments.no_cache);
    let no_requirements = arguments.no_requirements;
    let read = tokio::task::spawn_blocking(move || open::folder(&folder, &words, no_requirements, &of_machine)).await;
    let open::ReadFolder { model, left_out, .. } = read.map_err(recipe::BuildError::Stopped)??;
    let cached = if arguments.no_cache { None } else { settings.fit_cache.clone() };
    let facts = fit::facts(&model, &arguments.folder, settings, cached).await.map_err(recipe::BuildError::Stopped)?;
    for path in &left_out {
        voice.note(&format!("  left out: {path}"));
    }
    if let Some(reference) = &arguments.against {
        contract_judge::against(&model, reference, &arguments.gate, settings, voice).await?;
    }
    let scratch = tempfile::Builder::new().prefix("hs-build-").tempdir().map_err(BuildCommandError::Scratch)?;
    let request = Request {
        facts,
        policy,
        version: arguments.version.clone(),
        runtimes: settings.runtimes.clone(),
        platforms,
        layout,
        dialect,
        compression,
        compression_is_asked: arguments.compression.is_some(),
        epoch_s: settings.epoch_s,
        scratch: scratch.path().to_owned(),
        cache: settings.layer_cache.clone().filter(|_| !arguments.no_cache),
        // A client of its own, with the authorities of this machine: not for a model that needs none.
        installer: (!arguments.no_requirements && model.required.is_some())
            .then(|| settings.packages.installer(&arguments.wheels, &settings.registries, true))
            .transpose()?,
        earlier_lock: None,
    };
    let built = recipe::build(&model, &request, places, to, &voice.listener()).await?;
    let lock = if arguments.dry_run { None } else { keep_lock(&arguments.folder, &built, voice) };
    Ok(Outcome { model, built, left_out, lock, scratch })
}

/// A Docker archive says nothing of how its layers are compressed; who loads it knows gzip by its first bytes, and zstd not everywhere.
fn check_archives(arguments: &BuildArguments, compression: Choice) -> Result<(), BuildCommandError> {
    let is_archive = |text: &String| text.starts_with("docker-archive:");
    if compression == Choice::Zstd && arguments.to.iter().any(is_archive) { Err(BuildCommandError::ArchiveZstd) } else { Ok(()) }
}

/// Keeps what a resolver chose beside the requirements, so that the next build chooses the same. The file is not shipped, so the image does not change by it.
fn keep_lock(folder: &Path, built: &Built, voice: &Voice) -> Option<PathBuf> {
    let installed = built.installed.as_ref().filter(|installed| installed.origin == LockOrigin::Resolved)?;
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

fn document(outcome: &Outcome, arguments: &BuildArguments, references: &[String], transfer: Transfer, duration_ms: u128) -> Value {
    let (model, built) = (&outcome.model, &outcome.built);
    let base = built.base.as_ref().map(|(name, digest)| json!({"name": name, "digest": digest}));
    let contract = model.contract.as_ref().zip(built.contract.as_ref()).map(
        |(found, written)| json!({"source": found.source, "digest": Digest::of(&written.bytes), "dialect": written.dialect.to_string()}),
    );
    let requirements = built.installed.as_ref().map(|installed| {
        let origin = match installed.origin {
            LockOrigin::Folder => "folder",
            LockOrigin::Earlier => "earlier version",
            LockOrigin::Resolved => "resolved",
        };
        json!({"lock": outcome.lock, "origin": origin, "packages": installed.packages})
    });
    json!({
        "name": model.name,
        "version": arguments.version,
        "digest": built.images.top().digest,
        "references": references,
        "base": base,
        "model_type": model.model_type,
        "contract": contract,
        "requirements": requirements,
        "images": built.images.images.iter().map(report::image).collect::<Vec<_>>(),
        "transfer": transfer,
        "left_out": outcome.left_out,
        "findings": built.findings,
        "warnings": built.warnings,
        "duration_ms": u64::try_from(duration_ms).unwrap_or(u64::MAX),
    })
}

fn text(outcome: &Outcome, arguments: &BuildArguments, references: &[String], transfer: Transfer) -> String {
    let mut out = String::new();
    let built = &outcome.built;
    let version = arguments.version.as_ref().map(|version| format!(" version {version}")).unwrap_or_default();
    let _ = writeln!(out, "{}{version}", outcome.model.name);
    let _ = writeln!(out, "{}", built.images.top().digest);
    if arguments.explain {
        explain(outcome, &mut out);
    }
    for reference in references {
        let _ = writeln!(out, "{reference}");
    }
    if !references.is_empty() {
        let Transfer { sent_bytes, mounted_bytes, skipped_bytes } = transfer;
        let _ = writeln!(out, "sent {}, mounted {}, there already {}", size(sent_bytes), size(mounted_bytes), size(skipped_bytes));
    } else if arguments.dry_run && !arguments.to.is_empty() {
        let _ = writeln!(out, "dry run: nothing was sent to {}", arguments.to.join(", "));
    }
    out
}

/// Which file is in which layer; the rule itself stands in `model/plan.rs`.
fn explain(outcome: &Outcome, out: &mut String) {
    for finding in &outcome.built.findings {
        let _ = writeln!(out, "  found: {finding}");
    }
    let Some(image) = outcome.built.images.images.first() else { return };
    let mut recipes = outcome.built.recipes.iter().zip(&outcome.built.samples);
    for layer in &image.layers {
        let recipe = if matches!(layer.purpose, Purpose::Base | Purpose::Requirements) { None } else { recipes.next() };
        let why = match (recipe.and_then(|(_, sample)| sample.as_ref()), layer.purpose) {
            (_, Purpose::Base) => "of the base, as it is".to_owned(),
            (_, Purpose::Contract) => "the contract, alone so that it can be read and replaced by itself".to_owned(),
            (_, Purpose::Requirements) => "the packages of requirements.txt, as their wheels have them".to_owned(),
            (Some(sample), _) if sample.shrinks() => {
                format!("large, compressed: by a sample, to {:.0} % of its size", sample.ratio() * 100.0)
            }
            (Some(sample), _) => format!("large, as it is: by a sample, compressing would leave {:.0} % of it", sample.ratio() * 100.0),
            (None, _) if matches!(layer.source, LayerSource::Recipe(_)) => "as it is: nothing was to be compressed".to_owned(),
            (None, _) => "small files, chosen by a hash of their path, compressed".to_owned(),
        };
        let (digest, bytes) = (layer.descriptor.digest.short(), size(layer.descriptor.size_bytes));
        let _ = writeln!(out, "  {digest} {bytes:>12}  {}: {why}", layer.purpose.word());
        match (recipe, &outcome.built.installed) {
            (Some((recipe, _)), _) => explain_files(recipe, out),
            (None, Some(installed)) if layer.purpose == Purpose::Requirements => {
                let _ = writeln!(out, "      {}", installed.packages.join(", "));
            }
            _ => {}
        }
    }
}

fn explain_files(recipe: &Recipe, out: &mut String) {
    // A folder is in a layer for what is below it; only an empty one says something by itself.
    let entries = recipe.entries();
    let is_parent = |at: usize| entries.get(at + 1).is_some_and(|next| next.path.strip(&entries[at].path).is_some());
    let told: Vec<_> = entries.iter().enumerate().filter(|(at, _)| !is_parent(*at)).map(|(_, entry)| &entry.path).collect();
    for path in told.iter().take(FILES_SHOWN_MAX) {
        let _ = writeln!(out, "      /{path}");
    }
    if told.len() > FILES_SHOWN_MAX {
        let _ = writeln!(out, "      … and {} more", told.len() - FILES_SHOWN_MAX);
    }
}
