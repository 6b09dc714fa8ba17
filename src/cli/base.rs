//! `hs base …`: runtime bases on this machine.
//!
//! `import` makes an image of root file system tars, or takes one from a layout, an archive or a registry, and puts it into the data folder's store (or
//! wherever `--to` says) under the runtime's name; one that no list has becomes a runtime by that (`disk/base_list.rs`). Locks and the list are in
//! `base_lock.rs`; making the tars is the recipes' work (`base-images/`).
//!
//! What must stay true: an image of a model is no base, and is refused before anything is put.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{BaseCommand, BaseImportArguments};
use super::base_lock;
use super::base_platforms;
use super::open;
use super::say::{Voice, size};
use super::settings::Settings;
use crate::build::base::Places;
use crate::disk::base_list::{self, BaseListError, Imported};
use crate::disk::destination::{self, Destination};
use crate::disk::docker_archive_read::{self, DockerArchiveReadError};
use crate::disk::seal::{self, SealError};
use crate::disk::store_repositories::{self, ManifestKey};
use crate::fault::{Failure, Fault};
use crate::oci::base_image;
use crate::oci::config::{CONFIG_BYTES_MAX, ConfigError, ImageConfig};
use crate::oci::image::{Compression, IMAGE_LABEL, ImageSet, LayerSource, Purpose, SealedLayer};
use crate::oci::location::Location;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::progress::Event;
use crate::registry::copy::{self, Target};
use crate::registry::source::{Source, load};

/// Why a base command cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum BaseCommandError {
    /// No `name:version`.
    #[error("`{0}` names no base: expected `name:version`, as in `serving-runtime-python:3.11`")]
    Name(String),
    /// A model has the name.
    #[error("`{0}` is a version of a model here, which nothing replaces")]
    Taken(String),
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
    /// An image of a model.
    #[error(
        "`{source_name}` is the image of a model (`{model}`), and not the base of one: its model's files would stay below those of others"
    )]
    Model {
        /// What was to be imported.
        source_name: String,
        /// The model in it.
        model: String,
    },
    /// The Docker archive.
    #[error(transparent)]
    DockerArchive(#[from] DockerArchiveReadError),
    /// What was imported cannot be noted.
    #[error(transparent)]
    List(#[from] BaseListError),
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
            BaseCommandError::Taken(_) => Fault::Conflict,
            BaseCommandError::Config { .. } | BaseCommandError::Model { .. } => Fault::Invalid,
            BaseCommandError::DockerArchive(error) => error.fault(),
            BaseCommandError::List(error) => error.fault(),
            BaseCommandError::Seal(error) => error.fault(),
            BaseCommandError::Scratch(_) | BaseCommandError::Stopped(_) => Fault::Ours,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            BaseCommandError::Taken(_) => Some("import the base under another name".to_owned()),
            BaseCommandError::NoConfig => Some(
                "give it with `--image-config FILE`; what `docker save` or `podman save` has written is `docker-archive:FILE`, a layout in a tar `oci-archive:FILE`"
                    .to_owned(),
            ),
            BaseCommandError::Model { .. } => {
                Some("import the runtime that this model was built on: `hs inspect` says which it is, where the image does".to_owned())
            }
            BaseCommandError::DockerArchive(error) => error.remedy(),
            BaseCommandError::List(error) => error.remedy(),
            _ => None,
        }
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
    // A service that collects what nothing needs may work in the same data folder.
    let held = if targets.is_empty() { Some(settings.store()?.staging()?) } else { None };
    let config = refuse_models(&arguments.sources.join(", "), &images)?;
    let images = if arguments.add_platform {
        let joined = base_platforms::with_present(images, (name, version), &targets, settings, &places).await?;
        refuse_models(&arguments.name, &joined)?;
        joined
    } else {
        images
    };
    let platforms: Vec<String> = images.images.iter().map(|image| image.platform.to_string()).collect();
    let mut put = Vec::new();
    let opened: Vec<(String, Target)> = if targets.is_empty() {
        free_tag(settings, name, version).await?;
        let destination =
            Destination::Store { store: settings.store()?, repository: name.to_owned(), tag: Some(version.to_owned()), keep: true };
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
    if targets.is_empty() {
        let imported = Imported { digest: Some(images.top().digest), platforms: platforms.clone(), ..Imported::of(name, version, &config) };
        base_list::add(&settings.data_folder, imported).map_err(BaseCommandError::List)?;
    }
    let bytes: u64 = images.images.iter().flat_map(|image| &image.layers).map(|layer| layer.descriptor.size_bytes).sum();
    let document = json!({
        "name": arguments.name, "digest": images.top().digest, "platforms": platforms, "references": put, "size_bytes": bytes,
    });
    let text = format!("{}\n{}\n{} for {} in {}", arguments.name, images.top().digest, size(bytes), platforms.join(", "), put.join(", "));
    voice.result(&document, &text)?;
    Ok(())
}

/// Lets an import replace what an earlier one has kept under the name, also one that was killed before it was noted; the version of a model is never replaced.
async fn free_tag(settings: &Settings, name: &str, version: &str) -> Result<(), Box<dyn Failure>> {
    let (store, full_name) = (settings.store()?, format!("{name}:{version}"));
    if store.kept_tag(name, version)?.is_none() {
        return Ok(());
    }
    let present = load(&Source::Store { store: store.clone(), repository: name.to_owned() }, version, None).await?;
    match refuse_models(&full_name, &present) {
        Err(BaseCommandError::Model { .. }) => Err(BaseCommandError::Taken(full_name).into()),
        judged => {
            judged?;
            Ok(store.free_tag(name, version)?)
        }
    }
}

/// The config of the image called `name`, on its first platform; an error where it is a model's on any.
fn refuse_models(name: &str, images: &ImageSet) -> Result<ImageConfig, BaseCommandError> {
    let mut first = None;
    for image in &images.images {
        let config = ImageConfig::parse(&image.config.bytes);
        let config = config.map_err(|source| BaseCommandError::Config { path: PathBuf::from(name), source })?;
        let labels = config.labels();
        if labels.contains_key(IMAGE_LABEL) || labels.contains_key("MODEL_NAME") {
            let model = labels.get("MODEL_NAME").cloned().unwrap_or_else(|| "without a name".to_owned());
            return Err(BaseCommandError::Model { source_name: name.to_owned(), model });
        }
        first.get_or_insert(config);
    }
    // An image set has at least one image.
    Ok(first.unwrap_or_else(|| ImageConfig::scratch(&Platform::linux_amd64())))
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
    if let Location::DockerArchive { file, reference } = location {
        return Ok((of_docker(file, reference, scratch, voice).await?, Source::Nowhere));
    }
    let (source, key) = Source::open(&location, &places.registries).await?;
    let images = load(&source, &key, None).await?;
    Ok((images, source))
}

/// The image of a Docker archive: its config as it is, and its layers packed as those of tars are.
async fn of_docker(file: PathBuf, name: Option<Reference>, scratch: &Path, voice: &Voice) -> Result<ImageSet, Box<dyn Failure>> {
    let (listener, scratch) = (voice.listener(), scratch.to_owned());
    listener(Event::Stage("Making layers of the archive".to_owned()));
    let work = move || -> Result<ImageSet, BaseCommandError> {
        let image = docker_archive_read::unpack(&file, name.as_ref(), &scratch)?;
        listener(Event::Expect { bytes: image.layers.iter().map(|layer| layer.size_bytes).sum() });
        let advance = |bytes| listener(Event::Advance { bytes });
        let layers = image.layers.into_iter().map(|layer| pack(layer, &scratch, &advance)).collect::<Result<Vec<_>, SealError>>()?;
        let image = base_image::of_docker(image.config, &layers).map_err(|source| BaseCommandError::Config { path: file, source })?;
        Ok(ImageSet { index: None, images: vec![image] })
    };
    Ok(tokio::task::spawn_blocking(work).await.map_err(BaseCommandError::Stopped)??)
}

/// A layer that is a plain tar is packed; one that is empty, or packed already, stays.
fn pack(layer: SealedLayer, scratch: &Path, advance: &dyn Fn(u64)) -> Result<SealedLayer, SealError> {
    // An archive without members is two blocks of nothing, or a record of them.
    const EMPTY_BYTES_MAX: u64 = 10 << 10;
    match &layer.source {
        LayerSource::File(tar) if layer.compression == Compression::None && layer.size_bytes > EMPTY_BYTES_MAX => {
            seal::seal_tar(tar, Purpose::Base, scratch, advance)
        }
        _ => Ok(layer),
    }
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
