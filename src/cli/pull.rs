//! `hs pull REF DIR`: the way back, from an image to the model folder that it was built of.
//!
//! Every layer that is the model's is fetched, verified (the blob against the manifest, the tar against the config's diff ID) and unpacked; the base's layers are
//! not moved. The folder is made beside its final place and renamed: it appears whole or not at all.

use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::args::PullArguments;
use super::open::{self, Opened};
use super::say::{Voice, size};
use super::settings::Settings;
use crate::disk::folder::{self, FolderOptions};
use crate::disk::unpack_layer::{self, UnpackError};
use crate::fault::{Failure, Fault};
use crate::model::contract_choice;
use crate::model::plan::{self, Layout};
use crate::oci::config::ImageConfig;
use crate::oci::image::{IMAGE_LABEL, Image, ImageLayer, Purpose};

/// Why an image gives no model.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The folder is there already.
    #[error("`{}` is there already", .0.display())]
    Exists(PathBuf),
    /// The folder cannot be made.
    #[error("making `{}`", .path.display())]
    Write {
        /// Which folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image is not one of ours.
    #[error("`{0}` was not built by hs: it has no `{IMAGE_LABEL}` label, so its model's layers are not known")]
    NotOurs(String),
    /// Several platforms.
    #[error("`{image}` has images for several platforms: {platforms}")]
    SeveralPlatforms {
        /// The image.
        image: String,
        /// Which.
        platforms: String,
    },
    /// A layer does not unpack.
    #[error("unpacking the layers")]
    Unpack(#[source] UnpackError),
    /// Work in the background died.
    #[error("unpacking the layers stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl Failure for PullError {
    fn fault(&self) -> Fault {
        match self {
            PullError::Exists(_) | PullError::SeveralPlatforms { .. } => Fault::Usage,
            PullError::Write { .. } | PullError::Stopped(_) => Fault::Ours,
            PullError::NotOurs(_) => Fault::Invalid,
            PullError::Unpack(error) => error.fault(),
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            PullError::Exists(_) => Some("name a folder that is not there yet".to_owned()),
            PullError::SeveralPlatforms { .. } => Some("choose one with `--platform`".to_owned()),
            PullError::Unpack(UnpackError::TooLarge { .. }) => {
                Some("raise `limits.unpacked_bytes_max` in the config file if the model is that large".to_owned())
            }
            _ => None,
        }
    }
}

/// Runs `hs pull`.
pub async fn run(arguments: &PullArguments, settings: &Settings, voice: &Voice) -> Result<(), Box<dyn Failure>> {
    let target = arguments.folder.clone();
    if fs::symlink_metadata(&target).is_ok() {
        return Err(PullError::Exists(target).into());
    }
    let opened = open::image(&arguments.image, arguments.platform.as_deref(), settings).await?;
    let image = choose(&opened, &arguments.image)?;
    let layout = layout(image).ok_or_else(|| PullError::NotOurs(arguments.image.clone()))?;
    let beside = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = |source| PullError::Write { path: target.clone(), source };
    fs::create_dir_all(beside).map_err(write)?;
    let staging = tempfile::Builder::new().prefix(".hs-pull-").tempdir_in(beside).map_err(write)?;
    let mut files = 0;
    let mut bytes = 0;
    for layer in of_model(image) {
        let blob = opened.source.blob(&layer.descriptor).await?;
        let mut reader = SyncIoBridge::new(StreamReader::new(blob));
        let (layer, folder) = (layer.clone(), staging.path().to_owned());
        let bytes_max = settings.limits.unpacked_bytes_max.saturating_sub(bytes);
        let unpacked = tokio::task::spawn_blocking(move || unpack_layer::unpack(&mut reader, &layer, &folder, bytes_max)).await;
        let counted = unpacked.map_err(PullError::Stopped)?.map_err(PullError::Unpack)?;
        files += counted.files;
        bytes += counted.size_bytes;
    }
    let contract = place(staging.path(), layout, &target)?;
    let document = json!({"image": arguments.image, "digest": image.manifest.digest, "folder": target, "files": files,
                          "size_bytes": bytes, "contract": contract});
    let text = format!("{} files, {}, from {}\n{}", files, size(bytes), image.manifest.digest, target.display());
    voice.result(&document, &text)?;
    Ok(())
}

fn choose<'a>(opened: &'a Opened, image: &str) -> Result<&'a Image, PullError> {
    match opened.images.images.as_slice() {
        [one] => Ok(one),
        // Platforms share the model's layers; where they do, any serves.
        several => {
            let model = |image: &Image| of_model(image).map(|layer| layer.descriptor.digest).collect::<Vec<_>>();
            if several.iter().all(|other| model(other) == model(&several[0])) {
                return Ok(&several[0]);
            }
            let platforms = several.iter().map(|image| image.platform.to_string()).collect::<Vec<_>>().join(", ");
            Err(PullError::SeveralPlatforms { image: image.to_owned(), platforms })
        }
    }
}

/// The layers that the model's folder comes back from; the packages that were installed for it are not of it.
fn of_model(image: &Image) -> impl Iterator<Item = &ImageLayer> {
    image.layers.iter().filter(|layer| matches!(layer.purpose, Purpose::Contract | Purpose::Files))
}

fn layout(image: &Image) -> Option<Layout> {
    let label = ImageConfig::parse(&image.config.bytes).ok()?.labels().remove(IMAGE_LABEL)?;
    let label: serde_json::Value = serde_json::from_str(&label).ok()?;
    Layout::from_word(label.get("layout")?.as_str()?)
}

fn has_own_contract(payload: &Path) -> bool {
    let options = FolderOptions::default();
    folder::read_folder(payload, &options).is_ok_and(|selected| contract_choice::has_own(&selected.tree, &open::open_content))
}

/// Moves the payload to its place, the contract's bytes beside its files where no file has that name; tells whether it did.
fn place(staging: &Path, layout: Layout, target: &Path) -> Result<bool, PullError> {
    let write = |source| PullError::Write { path: target.to_owned(), source };
    let payload = layout.payload_root().below(staging);
    fs::create_dir_all(&payload).map_err(write)?;
    let contract = plan::contract_path().below(staging);
    let beside = payload.join("contract.protobin");
    let mut placed = false;
    // A folder whose contract is in its files, or is read out of them, comes back as it was; another would be no whole model without it.
    if contract.is_file() && !has_own_contract(&payload) {
        let mut bytes = Vec::new();
        fs::File::open(&contract).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(write)?;
        fs::File::create(&beside).and_then(|mut file| file.write_all(&bytes)).map_err(write)?;
        placed = true;
    }
    fs::rename(&payload, target).map_err(write)?;
    Ok(placed)
}
