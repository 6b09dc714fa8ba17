//! From a model to a finished image: every stage, in order, in one function.
//!
//! [`build`] finds the base, plans the layers, seals them (one read of the model, `layers.rs`) and puts the image together. What is sent where is
//! `registry::copy`, after it: the digest is known before. One thing is sent here, and only where the caller says to which registry: blobs of layers that
//! had to be read, while others are still being hashed. The service's worker and `hs build` run the same function; neither catalog nor server is known here.
//!
//! What must stay true: equal models, names, versions and base digests give equal images, whatever machine this is. What can be refused without
//! reading the model is refused before it is read, and so before anything is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::base::{self, BaseError, Bases, Places};
use super::built::{BaseOfImage, Built, BuiltImage, ContractInImage, Explanation, Report};
use super::bytecode::Compiler;
use super::install_error::InstallError;
use super::layers::{self, ToSeal};
use super::python_target::{self, PythonTargetError};
use super::request::Request;
use super::requirements::{Installation, Installed};
use crate::contract::wire::{self, Dialect, WireError};
use crate::disk::seal::SealError;
use crate::fault::{Failure, Fault};
use crate::model::fit::{Finding, FitError};
use crate::model::fit_judge::{self, Ground, Packages};
use crate::model::intake::Model;
use crate::model::packing::{Choice, Sample};
use crate::model::plan::{self, PlanError};
use crate::model::requirements_lock::Lock;
use crate::model::runtime::RuntimeError;
use crate::model::wheel_target::Target;
use crate::oci::config::ConfigEdits;
use crate::oci::digest::Digest;
use crate::oci::image::{self, Base, Image, ImageError, ImageSet, Purpose, SealedLayer, Statement};
use crate::oci::layer::Recipe;
use crate::progress::{Event, Listener};
use crate::registry::client::Repository;
use crate::registry::error::RegistryError;

/// The first Python, as major and minor, whose bytecode follows from the source alone (measured: 3.9 and 3.10 write sets in an order of the moment).
const BYTECODE_PYTHON_MIN: (u32, u32) = (3, 11);

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No base can be chosen.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The base cannot be had.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The model does not fit its runtime, or has what is not wanted.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The contract cannot be written in the dialect.
    #[error("writing the contract for the runtime")]
    Contract(#[source] WireError),
    /// The files cannot be laid out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The base does not say what packages have to be made for.
    #[error(transparent)]
    PythonTarget(#[from] PythonTargetError),
    /// The model's requirements cannot be installed.
    #[error("installing the model's requirements")]
    Install(#[source] InstallError),
    /// A layer cannot be made.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A layer that was sealed cannot be sent.
    #[error(transparent)]
    Send(RegistryError),
    /// The image cannot be put together.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The time stamp is past what can be written.
    #[error("SOURCE_DATE_EPOCH={0} is no time")]
    Epoch(u64),
    /// Work in the background died.
    #[error("sealing the layers stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl BuildError {
    fn inner(&self) -> Option<&dyn Failure> {
        match self {
            BuildError::Runtime(error) => Some(error),
            BuildError::Base(error) => Some(error),
            BuildError::Fit(error) => Some(error),
            BuildError::Contract(error) => Some(error),
            BuildError::Plan(error) => Some(error),
            BuildError::PythonTarget(error) => Some(error),
            BuildError::Install(error) => Some(error),
            BuildError::Seal(error) => Some(error),
            BuildError::Send(error) => Some(error),
            BuildError::Image(error) => Some(error),
            BuildError::Epoch(_) | BuildError::Stopped(_) => None,
        }
    }

    /// The stage in which it failed, in a word.
    pub fn stage(&self) -> &'static str {
        match self {
            BuildError::Runtime(_) | BuildError::Base(_) => "base",
            BuildError::Fit(_) => "fit",
            BuildError::Contract(_) => "contract",
            BuildError::Plan(_) => "plan",
            BuildError::PythonTarget(_) | BuildError::Install(_) => "requirements",
            BuildError::Seal(_) | BuildError::Stopped(_) => "seal",
            BuildError::Send(_) => "send",
            BuildError::Image(_) | BuildError::Epoch(_) => "image",
        }
    }
}

impl Failure for BuildError {
    fn fault(&self) -> Fault {
        match self {
            BuildError::Epoch(_) => Fault::Usage,
            other => other.inner().map_or(Fault::Ours, Failure::fault),
        }
    }

    fn remedy(&self) -> Option<String> {
        self.inner().and_then(Failure::remedy)
    }
}

/// Builds the image of a model. Of the layers that are sealed on the way, those that had to be read are sent `to` a registry, where one is named; all
/// else is `registry::copy`'s.
pub async fn build(
    model: &Model,
    request: &Request,
    places: &Places,
    to: Option<&Repository>,
    listener: &Listener,
) -> Result<Built, BuildError> {
    let stage = |text: &str| listener(Event::Stage(text.to_owned()));
    let mut warnings = model.warnings.clone();

    stage("Finding the base");
    let (choice, warning) = request.settings.runtimes.choose(model.runtime.as_deref(), model.served_type())?;
    let found = base::find(choice, &request.platforms, places, listener).await;
    // A base that is not there may be another than the one whose name was written.
    let bases = found.inspect_err(|_| warning.iter().for_each(|warning| listener(Event::Warning(warning.clone()))))?;
    warnings.extend(warning);
    warnings.extend(bases.notice.clone());
    let compression = compression_on(&bases, request, &mut warnings)?;
    // What the base is, is certain now: before any layer is made, and before anything is sent.
    let findings = fit(model, request, &bases, None)?;
    if let Some(unseen) = fit_judge::unseen(&request.facts) {
        listener(Event::Note(unseen));
    }

    let installed = install(model, request, &bases, &mut warnings, listener).await?;
    let findings = match &installed {
        Some((installed, _)) => fit(model, request, &bases, Some(&installed.lock))?,
        None => findings,
    };
    warnings.extend(findings.iter().map(Finding::to_string));

    stage("Planning the layers");
    let contract = contract_in_image(model, request, &bases, &mut warnings)?;
    let contract_bytes = contract.as_ref().map(|contract| contract.bytes.as_slice());
    let ours = installed.as_ref().and_then(|(_, of_bases)| of_bases.iter().map(Vec::len).max()).unwrap_or_default();
    let planned =
        plan::plan(&model.payload, contract_bytes, request.layout, compression, bases.layers_max() + ours, request.settings.epoch_s)?;
    let statement = statement(model, request, contract.as_ref())?;
    for base in &bases.bases {
        image::check_base(base, planned.len() + ours)?;
    }

    stage(if to.is_some() { "Sealing and sending the layers" } else { "Sealing the layers" });
    let planned: Vec<ToSeal> = planned.into_iter().map(ToSeal::from).collect();
    let recipes: Vec<Arc<Recipe>> = planned.iter().map(|layer| layer.recipe.clone()).collect();
    let (sealed, sent) = layers::seal(planned, request, to, listener).await?;
    let (layers, samples): (Vec<SealedLayer>, Vec<Option<Sample>>) = sealed.into_iter().map(|sealed| (sealed.layer, sealed.sample)).unzip();

    stage("Putting the image together");
    let (installed, of_platforms) = installed.unzip();
    let (images, said) = put_together(&bases, &layers, of_platforms.as_deref(), &statement)?;
    warnings.extend(said);
    warnings.sort();
    warnings.dedup();
    for warning in &warnings {
        listener(Event::Warning(warning.clone()));
    }
    listener(Event::Note(format!("image {}", images.top().digest)));
    let base = bases.bases.first().map(|base| BaseOfImage { name: base.name.clone(), digest: base.digest });
    let explanation = Explanation::of(&images, recipes.into_iter().zip(samples).collect(), installed.as_ref());
    let report = Report { digest: images.top().digest, images: Report::images(&images), base, contract, installed, findings, warnings };
    Ok(Built { image: BuiltImage { images, source: bases.source, sent }, report, explanation })
}

/// What is to be said of the model's fit, or why it is not built. `lock`: which packages are installed, once that is known.
fn fit(model: &Model, request: &Request, bases: &Bases, lock: Option<&Lock>) -> Result<Vec<Finding>, FitError> {
    let packages = match (&model.required, lock) {
        (Some(required), Some(lock)) => {
            let names = lock.packages.iter().map(|package| package.project.clone()).collect();
            Packages::Exactly { file: required.file.clone(), names }
        }
        (Some(_), None) if request.settings.installer.is_some() => Packages::Unknown,
        _ => Packages::Nothing,
    };
    let ground = Ground { runtime: bases.runtime.as_ref(), certain: true, packages };
    request.policy.pass(fit_judge::judge(&request.facts, &model.payload, &ground))
}

fn contract_in_image(
    model: &Model,
    request: &Request,
    bases: &Bases,
    warnings: &mut Vec<String>,
) -> Result<Option<ContractInImage>, BuildError> {
    let Some(found) = &model.contract else { return Ok(None) };
    let dialect = request.dialect.or(bases.runtime.as_ref().map(|runtime| runtime.contract_dialect)).unwrap_or(Dialect::V1);
    let encoded = wire::encode(&found.contract, dialect).map_err(BuildError::Contract)?;
    warnings.extend(encoded.warnings);
    Ok(Some(ContractInImage { bytes: encoded.bytes, dialect }))
}

fn statement(model: &Model, request: &Request, contract: Option<&ContractInImage>) -> Result<Statement, BuildError> {
    let seconds = i64::try_from(request.settings.epoch_s).map_err(|_| BuildError::Epoch(request.settings.epoch_s))?;
    let created = jiff::Timestamp::from_second(seconds).map_err(|_| BuildError::Epoch(request.settings.epoch_s))?.to_string();
    let root = format!("/{}", request.layout.payload_root());
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    labels.insert("MODEL_NAME".to_owned(), model.name.to_string());
    labels.insert("MODEL_TYPE".to_owned(), model.model_type.clone());
    labels.extend(request.version.clone().map(|version| ("MODEL_VERSION".to_owned(), version)));
    let mut annotations: BTreeMap<String, String> = BTreeMap::new();
    annotations.insert("title".to_owned(), model.name.to_string());
    annotations.extend(request.version.clone().map(|version| ("version".to_owned(), version)));
    annotations.extend(model.description.clone().map(|description| ("description".to_owned(), description)));
    Ok(Statement {
        edits: ConfigEdits {
            environment: [("MODEL_DIR".to_owned(), "/model".to_owned())].into(),
            labels,
            working_directory: Some(root.clone()),
            written_paths: vec![root, format!("/{}", plan::contract_path()), "/model/lib".to_owned()],
        },
        annotations,
        layout: request.layout.word().to_owned(),
        dialect: contract.map(|contract| contract.dialect.to_string()),
        contract: contract.map(|contract| Digest::of(&contract.bytes)),
        created,
    })
}

/// How the layers are compressed on these bases: as was asked; a mere setting that their family has no word for gives way to gzip.
fn compression_on(bases: &Bases, request: &Request, warnings: &mut Vec<String>) -> Result<Choice, ImageError> {
    let choice = request.compression.unwrap_or(request.settings.compression);
    let checked = bases.bases.iter().try_for_each(|base| image::check_compression(base, choice.of_small().compressor()));
    match checked {
        Err(_) if request.compression.is_none() => {
            warnings.push(format!(
                "the layers are compressed with gzip, not with {choice} as the settings say: the base is an image of Docker's family"
            ));
            Ok(Choice::Gzip)
        }
        other => other.map(|()| choice),
    }
}

/// Installs what the model requires on every platform of the base: the installation, and the layers of each base in their order.
async fn install(
    model: &Model,
    request: &Request,
    bases: &Bases,
    warnings: &mut Vec<String>,
    listener: &Listener,
) -> Result<Option<(Installed, Vec<Vec<SealedLayer>>)>, BuildError> {
    let Some(required) = model.required.as_ref().filter(|required| !required.is_empty()) else { return Ok(None) };
    let Some(installer) = &request.settings.installer else {
        warnings.push(format!("the packages of `{}` are not installed, as was asked: the runtime must have them", required.file));
        return Ok(None);
    };
    let not_python = format!("the packages of `{}` are not installed: the image is not built on a Python runtime", required.file);
    let (mut targets, mut compilers, mut of_bases): (Vec<Target>, Vec<Option<Compiler>>, Vec<usize>) = Default::default();
    for base in &bases.bases {
        let name = base.name.clone().unwrap_or_else(|| base.digest.to_string());
        let Some((target, said)) = python_target::target_of(base, &name, bases.runtime.as_ref(), &required.file)? else {
            warnings.push(not_python);
            return Ok(None);
        };
        warnings.extend(said);
        of_bases.push(targets.iter().position(|known| *known == target).unwrap_or_else(|| {
            compilers.push(installer.bytecode.as_ref().and_then(|_| compiler(base, bases, &target, warnings)));
            targets.push(target);
            targets.len() - 1
        }));
    }
    if targets.is_empty() {
        warnings.push(not_python);
        return Ok(None);
    }
    listener(Event::Stage("Installing the requirements".to_owned()));
    let installation = Installation {
        required,
        earlier: request.earlier_lock.as_deref(),
        targets: &targets,
        compilers: &compilers,
        installer,
        scratch: &request.scratch,
        seals: request.settings.cache.as_ref(),
        epoch_s: request.settings.epoch_s,
        listener,
    };
    let (installed, said) = installation.run().await.map_err(BuildError::Install)?;
    warnings.extend(said);
    Ok(installed.map(|installed| {
        let layers = of_bases.iter().map(|at| installed.layers[*at].clone()).collect();
        (installed, layers)
    }))
}

/// What makes the bytecode for a base: its own Python, where the list says where that is and the owner of this machine vouches for the base.
fn compiler(base: &Base, bases: &Bases, target: &Target, warnings: &mut Vec<String>) -> Option<Compiler> {
    let interpreter = bases.runtime.as_ref()?.bytecode_interpreter.clone()?;
    let why = if !bases.is_vouched_for {
        "the base is not one that was imported here, is locked, or lies where the settings say, and is not run"
    } else if (target.python.major, target.python.minor) < BYTECODE_PYTHON_MIN {
        "before Python 3.11 the bytecode of one source is not the same each time"
    } else {
        let siblings = bases.bases.iter().filter(|other| *other != base).cloned().collect();
        return Some(Compiler { interpreter, base: base.clone(), siblings, source: bases.source.clone() });
    };
    warnings.push(format!("the packages are not compiled: {why}; a container compiles what it imports at each start"));
    None
}

/// The model's layers on every base; `of_platforms` are the packages on each, which lie above the contract and below the files.
fn put_together(
    bases: &Bases,
    layers: &[SealedLayer],
    of_platforms: Option<&[Vec<SealedLayer>]>,
    statement: &Statement,
) -> Result<(ImageSet, Vec<String>), BuildError> {
    let mut warnings = Vec::new();
    let mut images: Vec<Image> = Vec::new();
    if bases.bases.is_empty() {
        for platform in &bases.scratch_platforms {
            let (image, said) = image::append(None, platform, layers, statement)?;
            images.push(image);
            warnings.extend(said);
        }
    }
    let contracts = layers.iter().take_while(|layer| layer.purpose == Purpose::Contract).count();
    for (at, base) in bases.bases.iter().enumerate() {
        let mut layers = layers.to_vec();
        layers.splice(contracts..contracts, of_platforms.map(|of_platforms| of_platforms[at].clone()).unwrap_or_default());
        let (image, said) = image::append(Some(base), &base.config.platform(), &layers, statement)?;
        images.push(image);
        warnings.extend(said);
    }
    if bases.is_index || images.len() > 1 {
        return Ok((image::index(images, &image::annotations(bases.bases.first(), statement)), warnings));
    }
    Ok((ImageSet { index: None, images }, warnings))
}
