//! `hs base …`: runtime bases on this machine.
//!
//! `import` makes an image of root file system tars, or takes one from a layout, an archive or a registry, and puts it into the data folder's store (or
//! wherever `--to` says) under the runtime's name. Locks and the list are in `base_lock.rs`; making the tars is the recipes' work (`base-images/`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{BaseCommand, BaseImportArguments};
use super::base_lock;
use super::open;
use super::say::{Voice, size};
use super::settings::Settings;
use crate::build::base::Places;
use crate::disk::destination::{self, Destination};
use crate::disk::seal::{self, SealError};
use crate::disk::store_repositories::{self, ManifestKey};
use crate::fault::{Failure, Fault};
use crate::oci::base_image;
use crate::oci::config::{CONFIG_BYTES_MAX, ConfigError};
use crate::oci::image::{ImageSet, Purpose, SealedLayer};
use crate::oci::location::Location;
use crate::progress::Event;
use crate::registry::copy::{self, Target};
use crate::registry::source::{Source, load};

/// Why a base command cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum BaseCommandError {
    /// No `name:version`.
    #[error("`{0}` names no base: expected `name:version`, as in `serving-runtime-python:3.11`")]
    Name(String),
    /// Tars without a config.
    #[error("root file system tars need an image config that says what runs in them")]
    NoConfig,
    /// Several images.
    #[error("`{0}` is an image; one image is imported at a time, and not together with tars")]
    Mixed(String),
    /// A file cannot be read.
    #[error("reading `{}`", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image config is none.
    #[error("`{}` is not an image config", .path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// A tar cannot become a layer.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No place for the layers.
    #[error("making a temporary folder")]
    Scratch(#[source] io::Error),
    /// Work in the background died.
    #[error("making the layers stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl Failure for BaseCommandError {
    fn fault(&self) -> Fault {
        match self {
            BaseCommandError::Name(_) | BaseCommandError::NoConfig | BaseCommandError::Mixed(_) | BaseCommandError::Read { .. } => {
                Fault::Usage
            }
            BaseCommandError::Config { .. } => Fault::Invalid,
            BaseCommandError::Seal(error) => error.fault(),
            BaseCommandError::Scratch(_) | BaseCommandError::Stopped(_) => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        matches!(self, BaseCommandError::NoConfig).then(|| "give it with `--image-config FILE`".to_owned())
    }
}

/// Runs `hs base …`.
pub async fn run(command: &BaseCommand, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    match command {
        BaseCommand::Import(arguments) => import(arguments, settings, voice).await,
        BaseCommand::Lock(arguments) => base_lock::lock(arguments, settings, voice).await,
        BaseCommand::List => base_lock::list(settings, voice).await,
    }
}

async fn import(arguments: &BaseImportArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let unnamed = || BaseCommandError::Name(arguments.name.clone());
    let (name, version) = arguments.name.split_once(':').ok_or_else(unnamed)?;
    if !store_repositories::is_repository(name) || !matches!(ManifestKey::parse(version), Ok(ManifestKey::Tag(_))) {
        return Err(unnamed().into());
    }
    let targets: Vec<Location> = arguments.to.iter().map(|text| open::location(text)).collect::<Result<_, _>>()?;
    for location in &targets {
        destination::check(location)?;
    }
    let places = settings.places()?;
    let scratch = tempfile::Builder::new().prefix("hs-base-").tempdir().map_err(BaseCommandError::Scratch)?;
    let (images, source) = images(arguments, settings, &places, scratch.path(), voice).await?;
    let mut put = Vec::new();
    // A service that collects what nothing needs may work in the same data folder.
    let held = if targets.is_empty() { Some(settings.store()?.staging()?) } else { None };
    let opened: Vec<(String, Target)> = if targets.is_empty() {
        let destination =
            Destination::Store { store: settings.store()?, repository: name.to_owned(), tag: Some(version.to_owned()), keep: false };
        vec![(arguments.name.clone(), Target::Local(destination))]
    } else {
        let open = |location: &Location| Ok((location.to_string(), Target::open(location, &places.registries)?));
        targets.iter().map(open).collect::<Result<_, copy::CopyError>>()?
    };
    for (text, target) in opened {
        copy::copy(&images, &source, target, &voice.listener()).await?;
        put.push(text);
    }
    drop(held);
    let bytes: u64 = images.images.iter().flat_map(|image| &image.layers).map(|layer| layer.descriptor.size_bytes).sum();
    let document = json!({"name": arguments.name, "digest": images.top().digest, "references": put, "size_bytes": bytes});
    let text = format!("{}\n{}\n{} in {}", arguments.name, images.top().digest, size(bytes), put.join(", "));
    voice.result(&document, &text)?;
    Ok(())
}

async fn images(
    arguments: &BaseImportArguments,
    settings: &Settings,
    places: &Places,
    scratch: &Path,
    voice: &Voice,
) -> Result<(ImageSet, Source), Box<dyn Failure>> {
    let tars: Vec<PathBuf> = arguments.sources.iter().map(PathBuf::from).filter(|path| path.is_file()).collect();
    if tars.len() == arguments.sources.len() {
        return Ok((of_tars(arguments, tars, settings, scratch, voice).await?, Source::Nowhere));
    }
    let [text] = arguments.sources.as_slice() else {
        let image = arguments.sources.iter().find(|text| !Path::new(text).is_file()).unwrap_or(&arguments.sources[0]);
        return Err(BaseCommandError::Mixed(image.clone()).into());
    };
    let location = open::location(text)?;
    let (source, key) = Source::open(&location, &places.registries).await?;
    let images = load(&source, &key, None).await?;
    Ok((images, source))
}

async fn of_tars(
    arguments: &BaseImportArguments,
    tars: Vec<PathBuf>,
    settings: &Settings,
    scratch: &Path,
    voice: &Voice,
) -> Result<ImageSet, Box<dyn Failure>> {
    let path = arguments.image_config.clone().ok_or(BaseCommandError::NoConfig)?;
    let start = open::read_small_file(&path, CONFIG_BYTES_MAX).map_err(|source| BaseCommandError::Read { path: path.clone(), source })?;
    // Before the minute that the layers take: what is wrong here is wrong at once.
    base_image::assemble(&start, &[], "1970-01-01T00:00:00Z").map_err(|source| BaseCommandError::Config { path, source })?;
    let (listener, scratch) = (voice.listener(), scratch.to_owned());
    listener(Event::Stage("Making layers of the root file systems".to_owned()));
    let seal_all = move || -> Result<Vec<SealedLayer>, SealError> {
        let total = tars.iter().filter_map(|tar| fs::metadata(tar).ok()).map(|metadata| metadata.len()).sum();
        listener(Event::Expect { bytes: total });
        let advance = |bytes| listener(Event::Advance { bytes });
        tars.iter().map(|tar| seal::seal_tar(tar, Purpose::Base, &scratch, &advance)).collect()
    };
    let layers = tokio::task::spawn_blocking(seal_all).await.map_err(BaseCommandError::Stopped)?.map_err(BaseCommandError::Seal)?;
    let seconds = i64::try_from(settings.epoch_s).unwrap_or_default();
    let created = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string();
    Ok(ImageSet { index: None, images: vec![base_image::assemble(&start, &layers, &created)?] })
}
